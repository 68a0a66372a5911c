/* SPDX-License-Identifier: Apache-2.0
 *
 * What a TPE sampler was told: the points of running trials, the results at each budget with the
 * best of them in order, failures. Memory and the cost of every call are bounded: of the results
 * that are not among the best, and of failures, a fair sample is kept (a reservoir, drawn by the
 * seed). Points are kept as places in the unit interval (parzen.h).
 */
#ifndef MAG_OPTIMIZERS_TPE_HISTORY_H
#define MAG_OPTIMIZERS_TPE_HISTORY_H

#include "base/pcg.h"
#include "optimizers/idtab.h"
#include "optimizers/sampler.h"

#define TPE_TOP_MAX 128   /* results kept in order, at each budget */
#define TPE_GOOD_MAX 25   /* of them in the density of the good, with one objective */
#define TPE_POOL_MAX 1000 /* of the others at each budget, and of failures */

/* One point. Lower values and less violation are better; feasible ones come first. With several
 * objectives the order is by fronts (pareto.h), and in the front that the good ones end in by
 * greedy hypervolume subset selection with two or three objectives, as in Ozaki et al., JAIR 73
 * (2022), by crowding distance with more. */
struct tpe_point {
    int64_t order; /* ties: the earlier first */
    double value, violation;
    int slot;   /* its kernel among the poor + 1, 0 = it has none */
    double u[]; /* a place for each parameter, then the objectives */
};

/* A bounded fair sample. */
struct tpe_pool {
    struct tpe_point *at[TPE_POOL_MAX];
    int n;
    int64_t told;
};

/* All results at one budget. */
struct tpe_level {
    int64_t budget, n;
    int n_top;
    struct tpe_point *top[TPE_TOP_MAX + 1]; /* best first */
    struct tpe_pool rest;
};

IDTAB(tpe_tab, struct tpe_point *)

struct tpe_history {
    const struct sampler_config *cfg;
    struct tpe_tab live;        /* trials that run or are paused */
    struct tpe_point **pending; /* those without any result, in their order */
    int n_pending, cap_pending;
    struct tpe_level **levels; /* rising budgets */
    int n_levels;
    struct tpe_pool failed;
    int64_t n_others;
    int64_t n; /* results at all budgets */
};

void history_init(struct tpe_history *h, const struct sampler_config *cfg);
void history_fini(struct tpe_history *h);

/* A trial runs. */
void history_start(struct tpe_history *h, int64_t trial, const double *point);
/* NULL = there is no such trial. */
struct tpe_point *history_live(struct tpe_history *h, int64_t trial);
/* It runs, but is not pending any more. */
void history_settle(struct tpe_history *h, int64_t trial);
/* It ended: the caller owns its point now. */
struct tpe_point *history_end(struct tpe_history *h, int64_t trial);

/* A new point, with its result. */
struct tpe_point *history_place(const struct tpe_history *h, const double *point);
struct tpe_point *history_copy(const struct tpe_history *h, const struct tpe_point *s);
void history_value(const struct tpe_history *h, struct tpe_point *s, int64_t order,
                   const struct opt_result *r);
/* Keeps `s`; returns who falls out of the sample for it (may be `s`), for the caller to free, or
 * NULL. */
struct tpe_point *history_add(struct tpe_history *h, int64_t budget, struct tpe_point *s);
struct tpe_point *history_fail(struct tpe_history *h, struct tpe_point *s);
/* How many of a level's results are the good ones: a tenth. */
int history_good(const struct tpe_history *h, const struct tpe_level *l);

/* A stream of draws of this sampler. */
void history_stream(const struct tpe_history *h, const char *what, uint64_t id, struct pcg64 *g);

#endif
