/* SPDX-License-Identifier: Apache-2.0
 *
 * Warm starts: what finished trials of earlier experiments of this driver tell a new one.
 */
#ifndef MAG_DRIVER_WARM_START_H
#define MAG_DRIVER_WARM_START_H

#include "driver/driver.h"
#include "driver/spec.h"

/* Reads the experiments that the spec names and records in it what fits (spec_warm_record). Loop
 * thread. Faults (no such experiment) go to `is`. */
void warm_start_read(struct driver *d, struct spec *spec, struct mjson_issues *is);

#endif
