/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Gaussian-process search was told: its trials, which of them run, and the results of its
 * own and of earlier experiments, in the order they came. Everything else of gp follows from it.
 */
#ifndef MAG_OPTIMIZERS_GP_HISTORY_H
#define MAG_OPTIMIZERS_GP_HISTORY_H

#include "optimizers/gp_domain.h"
#include "optimizers/gp_model.h"
#include "optimizers/idtab.h"

/* One result at one budget; `at` is the trial's or other's coordinates. */
struct gp_observation {
    const double *at;
    int64_t trial;  /* 0 = none of ours */
    double budget;  /* coordinate */
    double *values; /* objectives, and the violation behind them */
};

struct gp_trial {
    double *x; /* NULL = not ours */
    bool pending, observed;
};

IDTAB(gp_trials, struct gp_trial)

struct gp_history {
    const struct gp_domain *domain; /* borrowed, as is the purpose */
    const char *purpose;
    uint64_t seed;
    int objectives;
    struct gp_trials trials;
    struct gp_observation *obs;
    int n_obs, cap_obs;
    double **others; /* coordinates of earlier experiments' trials */
    int n_others, cap_others;
    bool infeasible_seen;
};

/* Zeroed but for the borrowed parts is an empty one. */
void gp_history_fini(struct gp_history *h);

void gp_history_pending(struct gp_history *h, int64_t trial, const double *point);
void gp_history_observe(struct gp_history *h, int64_t trial, int64_t budget,
                        const struct opt_result *r);
void gp_history_ended(struct gp_history *h, int64_t trial);
void gp_history_others(struct gp_history *h, const double *point, int64_t budget,
                       const struct opt_result *r);

/* One objective and no budgets: results are numbers at points, and compare. */
bool gp_history_is_plain(const struct gp_history *h);
double gp_history_violation(const struct gp_history *h, int i);
/* The coordinates of result i, its budget among them. */
void gp_history_coordinates(const struct gp_history *h, int i, double *x);
/* The number to minimise of the first `count` results; of several objectives their sum under the
 * weights of `trial`. */
void gp_history_numbers(const struct gp_history *h, int64_t trial, int count, double *y);
/* Pending trials without any result, the newest GP_PENDING_MAX of them: how many. */
#define GP_PENDING_MAX 128
int gp_history_n_pending(const struct gp_history *h);
/* Appends them to the process and settles it; `drawn`: with fantasies of their values. */
void gp_history_append_pending(const struct gp_history *h, struct gp *gp, bool drawn);

#endif
