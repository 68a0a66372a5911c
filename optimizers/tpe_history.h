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
#define TPE_POOL_MAX 1000 /* of the others at each budget, and of failures */

/* One point. */
struct seen {
    int64_t order; /* ties: the earlier first */
    double value, violation;
    int slot;   /* its kernel among the poor + 1, 0 = it has none */
    double u[]; /* a place for each parameter */
};

/* A bounded fair sample. */
struct pool {
    struct seen *at[TPE_POOL_MAX];
    int n;
    int64_t told;
};

/* All results at one budget. */
struct level {
    int64_t budget, n;
    int n_top;
    struct seen *top[TPE_TOP_MAX + 1]; /* best first */
    struct pool rest;
};

IDTAB(seen_tab, struct seen *)

struct tpe_history {
    const struct sampler_config *cfg;
    struct seen_tab live;  /* trials that run or are paused */
    struct seen **pending; /* those without any result, in their order */
    int n_pending, cap_pending;
    struct level **levels; /* rising budgets */
    int n_levels;
    struct pool failed;
    int64_t n_others;
};

void history_init(struct tpe_history *h, const struct sampler_config *cfg);
void history_fini(struct tpe_history *h);

/* A trial runs. */
void history_start(struct tpe_history *h, int64_t trial, const double *point);
/* NULL = there is no such trial. */
struct seen *history_live(struct tpe_history *h, int64_t trial);
/* It runs, but is not pending any more. */
void history_settle(struct tpe_history *h, int64_t trial);
/* It ended: the caller owns its point now. */
struct seen *history_end(struct tpe_history *h, int64_t trial);

/* A point of its own, with a result. */
struct seen *history_copy(const struct tpe_history *h, const struct seen *s, int64_t order,
                          const struct opt_result *r);
struct seen *history_place(const struct tpe_history *h, const double *point);
/* Keeps `s`; returns who falls out of the sample for it (may be `s`), for the caller to free, or
 * NULL. */
struct seen *history_add(struct tpe_history *h, int64_t budget, struct seen *s);
struct seen *history_fail(struct tpe_history *h, struct seen *s);

/* A stream of draws of this sampler. */
void history_stream(const struct tpe_history *h, const char *what, uint64_t id, struct pcg64 *g);

#endif
