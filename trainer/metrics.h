/* SPDX-License-Identifier: Apache-2.0
 *
 * The named values that a trial reports for an epoch, from what was counted over a part of the
 * data.
 */
#ifndef MAG_TRAINER_METRICS_H
#define MAG_TRAINER_METRICS_H

#include "base/buf.h"
#include "trainer/backend.h"

#define TRIAL_METRICS_MAX 16

struct metric {
    const char *name;
    double value;
};

struct metrics {
    struct metric items[TRIAL_METRICS_MAX];
    int n;
};

enum { PART_TRAIN = 0, PART_VALIDATION = 1, PART_TEST = 2 };

/* Adds the measures of a part. */
void metrics_add_part(struct metrics *m, int part, int n_classes, const struct score *s);
double metrics_get(const struct metrics *m, const char *name); /* NaN when absent */
/* {"name": number, …} with null for what is not finite. */
void metrics_json(const struct metrics *m, struct buf *out);

#endif
