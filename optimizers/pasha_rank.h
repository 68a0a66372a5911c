/* SPDX-License-Identifier: Apache-2.0
 *
 * PASHA's question: do the trials of the top rung rank as they did in the rung below, up to the
 * noise? Soft ranking: the trial on place i of the top rung must have been within epsilon of the
 * one on place i of the rung below. Epsilon is a percentile of the distances between trials whose
 * learning curves cross back and forth: what changes its mind twice was no difference.
 *
 * Bounded: the best RANK_MAX trials of the top rung are ranked, the first NOISE_MAX tell the noise,
 * and a curve holds CURVE_MAX points, of which every second goes when it is full.
 */
#ifndef MAG_OPTIMIZERS_PASHA_RANK_H
#define MAG_OPTIMIZERS_PASHA_RANK_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define RANK_MAX 512
#define NOISE_MAX 64
#define CURVE_MAX 64

struct curve_point {
    int64_t step;
    double value;
};

/* One trial's reports, thinned, and its values in the last two rungs that it entered. */
struct pasha_curve {
    struct curve_point *points;
    uint8_t n, cap;
    uint32_t stride; /* one in so many reports is kept */
    uint32_t seen;   /* reports */
    double before, now;
};

struct ranked {
    int64_t trial;
    double before, now; /* values in the rung below and in the top rung */
};

struct pasha_rank {
    double percentile; /* of the distances, 0 to 1 */
    double epsilon;
    bool fixed; /* epsilon is given, not estimated */
    struct ranked by_now[RANK_MAX], by_before[RANK_MAX];
    int n;
    struct pasha_curve noise[NOISE_MAX]; /* copies */
    int n_noise;
    double distances[NOISE_MAX * (NOISE_MAX - 1) / 2]; /* rising */
    int n_distances;
};

void curve_add(struct pasha_curve *c, int64_t step, double value);
void curve_fini(struct pasha_curve *c);
/* Do they cross, and cross back, before the value `now` of both? */
bool curves_cross_twice(const struct pasha_curve *a, const struct pasha_curve *b);

/* A trial has entered the top rung. */
void rank_add(struct pasha_rank *r, int64_t trial, const struct pasha_curve *c);
bool rank_is_stable(const struct pasha_rank *r);
/* Another rung is the top now; epsilon stays until the noise says otherwise. */
void rank_reset(struct pasha_rank *r);

json_t *curve_save(const struct pasha_curve *c);
bool curve_load(struct pasha_curve *c, const json_t *state) MAG_MUSTCHECK;
json_t *rank_save(const struct pasha_rank *r);
bool rank_load(struct pasha_rank *r, const json_t *state) MAG_MUSTCHECK;

#endif
