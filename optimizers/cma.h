/* SPDX-License-Identifier: Apache-2.0
 *
 * The search distribution of CMA-ES, N(mean, sigma^2 C), and its update from a ranked population:
 * Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772 (2023), with the negative
 * weights of section 3.2.3; the separable variant of Ros and Hansen, PPSN 2008; learning rates
 * adapted to the signal as in Nomura, Akimoto and Ono, GECCO 2023. Nothing here knows trials or
 * spaces.
 */
#ifndef MAG_OPTIMIZERS_CMA_H
#define MAG_OPTIMIZERS_CMA_H

#include "base/pcg.h"

#include <stdbool.h>
#include <stdint.h>

#define CMA_DIMENSIONS_MAX 512
#define CMA_POPULATION_MAX 10000

struct cma_setup {
    int n;          /* coordinates, 0 .. CMA_DIMENSIONS_MAX; without any all calls do nothing */
    int lambda;     /* population, at least 3 */
    bool separable; /* diagonal C */
    bool adapt;     /* learning rates; not with separable */
};

/* Read-only outside cma.c, but for `scale` and `mean`, which the margin of cma_margin.h moves. */
struct cma {
    struct cma_setup is;
    int mu;          /* members with positive weights */
    double *weights; /* by rank, the positive ones sum to 1 */
    double mu_eff, c1, c_mu, c_c, c_sigma, d_sigma, chi;
    double sigma;
    double *mean;
    double *scale; /* A: the point is mean + sigma A y, y from N(0, C); 1 but for the margin */
    double *c;     /* n * n, or the diagonal alone */
    double *basis; /* B: C = B D^2 B', a column for each axis; unused when separable */
    double *axes;  /* D, rising; by coordinate when separable */
    double *p_sigma, *p_c;
    int64_t updates;                /* since the start */
    int64_t decomposed;             /* `updates` when B and D were computed */
    double sigma_start, axis_start; /* what divergence is measured against */
    struct cma_rates *rates;        /* adapt */
    double *work;                   /* 4 n + n * n */
};

/* Memory is made here once; `lambda` may change with every start. */
void cma_init(struct cma *c, const struct cma_setup *setup);
void cma_fini(struct cma *c);
/* Begins a run. `cov` (n * n, symmetric, positive definite) NULL = the identity. */
void cma_start(struct cma *c, int lambda, const double *mean, double sigma, const double *cov);
/* Draws one point. */
void cma_sample(const struct cma *c, struct pcg64 *g, double *x);
/* Length of x - mean in standard deviations of the distribution. */
double cma_distance(const struct cma *c, const double *x);
/* The population, best first: lambda points. `foreign` ones were drawn elsewhere or from an earlier
 * distribution: their steps are shortened to what this one could have drawn (Hansen, Injecting
 * External Solutions Into CMA-ES, arXiv 1110.4181). */
void cma_update(struct cma *c, const double *const *x, const bool *foreign);
/* Variance of one coordinate, without sigma and scale. */
double cma_variance(const struct cma *c, int i);
/* A constant name of why this run cannot get on by its distribution alone (auger and hansen 2005;
 * "tolx", "condition", "diverged", "no-effect"), or NULL. */
const char *cma_stuck(const struct cma *c);

#endif
