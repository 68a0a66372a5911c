/* SPDX-License-Identifier: Apache-2.0
 *
 * Successive-halving arithmetic, in integers: the rungs' budgets, and one asynchronous rung that
 * always knows its best entry that may be promoted. Order is (value, trial id), smallest best.
 */
#ifndef MAG_OPTIMIZERS_RUNGS_H
#define MAG_OPTIMIZERS_RUNGS_H

#include <stdbool.h>
#include <stdint.h>

#define RUNGS_MAX 64 /* min * 2^63 is beyond every budget */

/* Budgets min * eta^k below max, and max itself: 1..243 by 3 gives 1 3 9 27 81 243, 1..20 by 3
 * gives 1 3 9 20. Returns their number (1 when min == max). 1 <= min <= max, eta >= 2. */
int rungs_levels(int64_t min, int64_t max, int64_t eta, int64_t levels[RUNGS_MAX]);

/* One value in a rung; there may be millions. */
struct rung_entry {
    double value;
    uint32_t trial : 31; /* ids end at INT32_MAX */
    uint32_t spent : 1;  /* promoted, or never to be: counts, but is no candidate */
    uint32_t at : 31;    /* place in `top` or `rest` */
    uint32_t in_top : 1; /* among the best floor(n / eta) */
    uint32_t waiting;    /* place + 1 in `ready`, 0 = not there */
};

/* Indices of entries, smallest or greatest first; private. */
struct rung_heap {
    uint32_t *items;
    uint32_t n, cap;
};

struct rung {
    int64_t eta;
    struct rung_entry *entries; /* in the order they came */
    uint32_t n, cap;
    uint32_t n_spent;
    struct rung_heap top;   /* the best floor(n / eta), worst of them first */
    struct rung_heap rest;  /* the others, best first */
    struct rung_heap ready; /* of top: not spent, best first */
};

void rung_init(struct rung *r, int64_t eta);
void rung_fini(struct rung *r);
/* Adds a value; returns the entry's index. O(log n). `spent`: it counts but is no candidate. */
uint32_t rung_add(struct rung *r, int64_t trial, double value, bool spent);
/* The entry is promoted, or its trial has ended: no candidate any more. */
void rung_spend(struct rung *r, uint32_t entry);
/* The best entry of the top floor(n / eta) that is not spent, or NULL. O(1). */
const struct rung_entry *rung_candidate(const struct rung *r);
/* Is the entry among the best max(1, floor(n / eta)), as the stopping variants ask? O(1). */
bool rung_keeps(const struct rung *r, uint32_t entry);

#endif
