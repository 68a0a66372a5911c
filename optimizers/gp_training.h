/* SPDX-License-Identifier: Apache-2.0
 *
 * Results as a process is fitted to them: which of a history, and the numbers for them.
 */
#ifndef MAG_OPTIMIZERS_GP_TRAINING_H
#define MAG_OPTIMIZERS_GP_TRAINING_H

#include "optimizers/gp_history.h"

struct gp_training {
    int *pick;     /* which results */
    double *y, *z; /* of them: raw, and as the process sees them */
    double slopes; /* of the warp: gp_data_targets */
    double level;  /* values below it are not seen */
    int m;
};

/* Room for `count` results, none in it. */
void gp_training_init(struct gp_training *t, int count);
void gp_training_fini(struct gp_training *t);

/* These initialise `t`. At most `cap` of the first `count` results, as gp_history_numbers weighs
 * them for `trial`, warped with that reach. */
void gp_training_values(struct gp_training *t, const struct gp_history *h, int64_t trial, int count,
                        int cap, double reach);
/* The same results' violations, feasible ones below 0. */
void gp_training_violations(struct gp_training *t, const struct gp_history *h, int64_t trial,
                            int count, int cap);
/* The `want` results nearest to the best. */
void gp_training_near(struct gp_training *t, const struct gp_history *h, int want);

/* A new process of them, not factored, with room for `room` more points. */
struct gp *gp_training_process(const struct gp_training *t, const struct gp_history *h, int room,
                               int draws);

#endif
