/* SPDX-License-Identifier: Apache-2.0
 *
 * Replaying a record that may hold anything: it is followed or refused, and nothing breaks.
 */
#ifndef MAG_TESTS_STUDY_DAMAGE_H
#define MAG_TESTS_STUDY_DAMAGE_H

#include "driver/spec.h"

#include <stddef.h>

/* Lines "KIND TEXT\n". How many were followed before one was refused. */
int damage_replay(struct spec *spec_take, const char *lines, size_t len);

#endif
