/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulation as an SVG picture: one lane a worker, a bar a job, coloured by rung (without rungs by
 * how it ended); losses marked; below, the best so far over time.
 */
#ifndef MAG_SIMULATE_PICTURE_H
#define MAG_SIMULATE_PICTURE_H

#include "base/buf.h"
#include "simulate/sim.h"

/* Words in the picture; borrowed. */
struct picture {
    const char *title, *algorithm, *metric;
    const char *unit; /* of the resource, "" = none */
    bool maximize;
};

/* Needs a result with its jobs (keep_jobs). Stays below about 30 bytes a job: neighbours that would
 * touch are one bar. */
void picture_svg(const struct sim_result *r, const struct picture *p, struct buf *out);

#endif
