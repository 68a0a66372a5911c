/* SPDX-License-Identifier: Apache-2.0
 *
 * Learning-rate schedules: the rate of an epoch as a function of the epoch alone, never of the
 * budget, so that a trial that is promoted later goes on as if it had never paused.
 */
#ifndef MAG_TRAINER_SCHEDULE_H
#define MAG_TRAINER_SCHEDULE_H

#include <stdint.h>

enum schedule_kind {
    SCHEDULE_CONSTANT = 0,
    SCHEDULE_STEP = 1,        /* times `factor` every `every` epochs */
    SCHEDULE_EXPONENTIAL = 2, /* times `factor` every epoch */
    SCHEDULE_COSINE = 3,      /* half a cosine down to `floor` over `epochs`, then flat */
    SCHEDULE_LINEAR = 4,      /* a line down to `floor` over `epochs`, then flat */
    SCHEDULE_ONE_CYCLE = 5,   /* Smith and Topin 2018: a cosine up from 1/25 over `rise` of the epochs,
                                 then one down to 1e-4 */
};

struct schedule {
    enum schedule_kind kind;
    int every;     /* step */
    double factor; /* step, exponential */
    int epochs;    /* cosine, linear, one cycle */
    double floor;  /* cosine, linear: part of the base rate that stays */
    double rise;   /* one cycle */
    int warmup;    /* epochs of a linear rise before all of them; 0 = none */
};

/* What the base rate is multiplied with in `epoch` (from 1). */
double schedule_factor(const struct schedule *s, int64_t epoch);

#endif
