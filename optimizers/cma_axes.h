/* SPDX-License-Identifier: Apache-2.0
 *
 * A search space as CMA-ES sees it: one coordinate in [0, 1] for each parameter whose values have
 * an order (those of INTEGER, DISCRETE, stepped and ordinal ones own cells of it), and a
 * distribution over its values for each other CATEGORICAL one. Also the two updates that C alone
 * does not make: the margin that keeps every value of a cell within reach (Hamano, Saito, Nomura
 * and Shirakawa, CMA-ES with Margin, GECCO 2022), and the natural gradient of the categorical
 * distributions (the same, CatCMA, GECCO 2024).
 */
#ifndef MAG_OPTIMIZERS_CMA_AXES_H
#define MAG_OPTIMIZERS_CMA_AXES_H

#include "optimizers/cma.h"
#include "space/space.h"

#define CMA_NO_VALUE UINT32_MAX /* of a category: inactive in a point that came from elsewhere */

struct cma_axis {
    int index;    /* of the parameter */
    double cells; /* INFINITY: continuous */
};

struct cma_list {
    int index; /* of the parameter */
    uint32_t k;
    double *q;   /* probability of each value */
    double *add; /* work, k */
};

struct cma_axes {
    const struct space *space;
    struct cma_axis *axes;
    int n;
    struct cma_list *lists; /* CATEGORICAL */
    int n_lists;
    bool plain; /* numbers only, always active: a model of the values can be fitted */
    /* ASNG (Akimoto et al., ICML 2019): the trust region of the categorical step. */
    double delta, gamma;
    double *signal; /* sum of k - 1 */
    int n_signal;
};

void cma_axes_init(struct cma_axes *a, const struct space *space);
void cma_axes_fini(struct cma_axes *a);
/* Every list uniform again. */
void cma_axes_reset(struct cma_axes *a);
/* The point of coordinates `x` (any numbers: ends own what lies beyond) and value indices `v`. */
void cma_axes_point(const struct cma_axes *a, const double *x, const uint32_t *v, double *point);
/* And back: an inactive coordinate is taken from `mean`, an inactive index is CMA_NO_VALUE. */
void cma_axes_encode(const struct cma_axes *a, const double *point, const double *mean, double *x,
                     uint32_t *v);
/* One value index of each list. */
void cma_axes_sample(const struct cma_axes *a, struct pcg64 *g, uint32_t *v);

/* Adds the values of one of `of` promising points to uniform distributions, as if each had been
 * seen once before: called for every one of them. */
void cma_axes_count(struct cma_axes *a, const uint32_t *v, int64_t of);

/* Moves mean and scale of coordinates with cells after an update, so that the values beside that of
 * the mean keep a probability of `margin` together. */
void cma_axes_margin(const struct cma_axes *a, struct cma *c, double margin);
/* The step of the distributions from the best `mu` of a population; `v` holds n_lists indices for
 * each, best first. */
void cma_axes_update(struct cma_axes *a, const uint32_t *const *v, const double *weights, int mu);
/* Below `u` in probability lies this part of the standard normal distribution; its inverse. */
double cma_normal_cdf(double u);
double cma_normal_quantile(double p);

#endif
