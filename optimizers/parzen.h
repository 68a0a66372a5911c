/* SPDX-License-Identifier: Apache-2.0
 *
 * Parzen estimators over a search space: mixtures of product kernels, one for each observed point,
 * and the uniform prior. Densities are relative to the prior, the uniform distribution over the
 * unit cube's image of the space: 1 everywhere for the prior alone, whatever the types.
 *
 *   DOUBLE                 Gaussian in the unit interval, truncated to it
 *   INTEGER, steps, lists  that Gaussian's mass in the value's piece of the unit interval
 *   CATEGORICAL            1 - mix on the kernel's own value, mix spread over all
 *
 * Kernels may be turned: the DOUBLE coordinates that are always active then have one common lower
 * triangle L, x = mu + L z, for all kernels (parzen_turn). A turned kernel is truncated to the cube
 * by drawing again; its mass inside is taken as the product of its marginals', which is exact
 * where L is diagonal.
 *
 * A coordinate that is inactive in a kernel is uniform there; one that is inactive in the point
 * counts for nothing. So the mixture is one density over a conditional space, and a child's
 * coordinate is judged by the points alone in which it is active.
 */
#ifndef MAG_OPTIMIZERS_PARZEN_H
#define MAG_OPTIMIZERS_PARZEN_H

#include "base/pcg.h"
#include "space/space.h"

#include <stddef.h>

enum axis_kind { AXIS_REAL = 0, AXIS_CELLS = 1, AXIS_CHOICE = 2 };

/* One coordinate of a point: its place in the unit interval and the piece that its value owns
 * (lo = hi = u for REAL). CHOICE: u is the index. u is NaN when inactive. */
struct parzen_spot {
    double u, lo, hi;
};

enum axis_kind parzen_axis(const struct param *p);
/* The n spots of a point. */
void parzen_locate(const struct space *s, const double *point, struct parzen_spot *spots);

/* Private but for reading `n`. Arrays over kernels, those with a dimension `cap` items each. */
struct parzen {
    const struct space *space;
    int n, cap;
    double *mu;     /* by dimension: place of the kernel, or index; NaN = inactive */
    double *inv;    /* by dimension: 1 / sigma; CHOICE: mix */
    double *norm;   /* by dimension: log of the normaliser */
    double *weight; /* > 0 */
    double *base;   /* log weight and the normalisers of the dimensions that are always active */
    double prior;   /* weight of the prior, > 0 */
    double total;   /* of all weights */
    int *turned;    /* the dimensions that parzen_turn is about */
    int n_turned;
    double *l;     /* n_turned x n_turned; NULL = not turned */
    double volume; /* what L adds to `base` */
};

void parzen_init(struct parzen *p, const struct space *s, double prior);
void parzen_fini(struct parzen *p);
void parzen_clear(struct parzen *p);
/* The DOUBLE dimensions that are always active, rising; returns their number. */
int parzen_turned(const struct parzen *p, const int **ret);
/* For the kernels put from now on, until parzen_clear: `l` lower triangular, over the turned
 * dimensions; their widths are taken from it. */
void parzen_turn(struct parzen *p, const double *l);
/* Kernel k, 0 <= k <= n (n: a new one): `u` as in the spots of its point; `width` its sigma in
 * every dimension, for a CHOICE its mix, both in (0, 1]. */
void parzen_put(struct parzen *p, int k, const double *u, const double *width, double weight);
/* Removes kernel k; the last one takes its number. */
void parzen_drop(struct parzen *p, int k);
/* Log of the density at a point; `scratch` has parzen_room(p) doubles. */
double parzen_log_density(const struct parzen *p, const struct parzen_spot *at, double *scratch);
/* The same of the dimensions in `only` (a flag for each) alone: their marginal density. No turned
 * ones. */
double parzen_log_margin(const struct parzen *p, const struct parzen_spot *at, const bool *only,
                         double *scratch);
size_t parzen_room(const struct parzen *p);
/* Draws a point. `held` (NULL = none): the coordinates that stand in `point` already, NaN where
 * inactive; the others are drawn from the density given those. */
void parzen_sample(const struct parzen *p, struct pcg64 *g, const bool *held, double *point);

#endif
