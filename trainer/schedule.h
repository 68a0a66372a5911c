/* SPDX-License-Identifier: Apache-2.0
 *
 * Learning-rate schedules: the rate of an epoch as a function of the epoch, or of how the epochs
 * before it went, never of the budget, so that a trial that is promoted later goes on as if it had
 * never paused. Each gives what PyTorch's scheduler of that name gives, one step an epoch.
 */
#ifndef MAG_TRAINER_SCHEDULE_H
#define MAG_TRAINER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum schedule_kind {
    SCHEDULE_CONSTANT = 0,
    SCHEDULE_STEP = 1,        /* times `factor` every `every` epochs */
    SCHEDULE_EXPONENTIAL = 2, /* times `factor` every epoch */
    SCHEDULE_COSINE = 3,      /* half a cosine down to `floor` over `epochs`, then flat */
    SCHEDULE_LINEAR = 4,      /* a line down to `floor` over `epochs`, then flat */
    SCHEDULE_ONE_CYCLE = 5,   /* Smith and Topin 2018: a cosine up from 1/25 over `rise` of the epochs,
                                 then one down to a 10000th of that */
    SCHEDULE_PLATEAU = 6,     /* times `factor` after `patience` epochs without a better measure */
};

struct schedule {
    enum schedule_kind kind;
    int every;     /* step */
    double factor; /* step, exponential, plateau */
    int epochs;    /* cosine, linear, one cycle */
    double floor;  /* cosine, linear: part of the base rate that stays */
    double rise;   /* one cycle */
    int warmup;    /* epochs of a linear rise before all of them; 0 = none */
    /* plateau: */
    int patience;       /* epochs that may pass without a better measure */
    int cooldown;       /* epochs after a drop that do not count */
    double threshold;   /* better is by this part of the best */
    double least;       /* the lowest rate */
    const char *metric; /* the measure; static */
    bool larger;        /* larger is better */
};

/* Where a plateau schedule stands; saved with a checkpoint. */
struct plateau {
    bool begun;
    double best; /* measure, once begun */
    int bad;     /* epochs in a row without a better one */
    int cooling; /* epochs that are left of the cooldown */
    double rate; /* what the base rate is multiplied with; 0 is read as 1 */
};

/* The learning rate of `epoch` (from 1). `p` is read where the schedule is a plateau's. */
double schedule_rate(const struct schedule *s, const struct plateau *p, double base, int64_t epoch);
/* Takes the measure of an epoch that is done. NaN is no better one. */
void plateau_step(const struct schedule *s, double base, double measure, struct plateau *p);
/* What the base rate is multiplied with in `epoch` by the schedules that need no measure. */
double schedule_factor(const struct schedule *s, int64_t epoch);

#endif
