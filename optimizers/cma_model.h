/* SPDX-License-Identifier: Apache-2.0
 *
 * A linear or quadratic model of the newest values, which spares CMA-ES most evaluations while it
 * ranks points as the objective does: Hansen, A Global Surrogate Assisted CMA-ES, GECCO 2019
 * (lq-CMA-ES). Fitted by weighted least squares in the coordinates of the distribution.
 */
#ifndef MAG_OPTIMIZERS_CMA_MODEL_H
#define MAG_OPTIMIZERS_CMA_MODEL_H

#include "optimizers/cma.h"

#define CMA_MODEL_FULL_MAX 16       /* coordinates up to which products enter: the fit costs n^6 */
#define CMA_MODEL_DIMENSIONS_MAX 64 /* and up to which there is a model at all */

struct cma_model {
    int n;
    int window; /* values that count, the newest */
    int count;
    int next;  /* place of the next one */
    double *x; /* window rows of n */
    double *f;
    /* The fit: z = D^-1 B' (x - mean) / sigma A; value = low + range * beta . terms(z). */
    int terms; /* 0: none yet */
    double low, range;
    double *mean, *to_z; /* n, n * n */
    double *beta;
    double *work;
};

/* `lambda`: the population; the window holds it at least. */
void cma_model_init(struct cma_model *m, int n, int lambda);
void cma_model_fini(struct cma_model *m);
void cma_model_add(struct cma_model *m, const double *x, double f);
/* False while there are too few values. */
bool cma_model_fit(struct cma_model *m, const struct cma *c);
double cma_model_value(const struct cma_model *m, const double *x);
/* Kendall's rank correlation of model and truth over the newest k values. */
double cma_model_tau(const struct cma_model *m, int k);
/* The point where the model is best, at most `radius` standard deviations from the mean. False when
 * the fit is none or has no least value there. */
bool cma_model_best(const struct cma_model *m, const struct cma *c, double radius, double *x);
/* Moves `x` to where the model is least in the cube, one coordinate after the other, at most
 * `radius` standard deviations of each from the mean: for an optimum at a wall. */
void cma_model_descend(const struct cma_model *m, const struct cma *c, double radius, double *x);

#endif
