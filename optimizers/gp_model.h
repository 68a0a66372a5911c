/* SPDX-License-Identifier: Apache-2.0
 *
 * One Gaussian process: a constant of prior variance 1, plus s2 times a Matern 5/2 with a length
 * scale for each coordinate, plus noise n2 (Rasmussen and Williams, Gaussian Processes for Machine
 * Learning, 2006). Values are told standardised.
 *
 * Hyperparameters are theta[d + 2] = log length scales, log s2, log n2, fitted as the maximum of
 * the posterior under normal priors in log space; the mean of the length scales' grows with the
 * root of d (Hvarfner, Hellsten and Nardi, Vanilla Bayesian Optimization Performs Great in High
 * Dimensions, ICML 2024).
 *
 * Pending points may be appended with fantasies of their values (Snoek, Larochelle and Adams,
 * Practical Bayesian Optimization of Machine Learning Algorithms, NIPS 2012): one factor, several
 * vectors of values.
 */
#ifndef MAG_OPTIMIZERS_GP_MODEL_H
#define MAG_OPTIMIZERS_GP_MODEL_H

#include "base/err.h"
#include "optimizers/gp_kernel.h"

#define GP_DRAWS_MAX 64

struct gp {
    int d; /* coordinates */
    const uint8_t *kind;
    int n, cap, draws;
    size_t ld; /* doubles in a row of every matrix here, >= cap */
    double *x; /* d x ld: coordinate j of point i is x[j * ld + i] */
    double *y; /* n values, in the points' order */
    double *theta, *weight;
    double s2, n2, nugget;
    double *l;     /* factor of the covariance of the n points */
    double *beta;  /* draws x ld: L^-1 y of each draw */
    double *alpha; /* draws x ld: K^-1 y */
    double *work;  /* 2 * cap * ld + 4 * ld, of gp_nll */
};

/* Room for `cap` points; `kind` is borrowed. */
struct gp *gp_create(int d, const uint8_t *kind, int cap, int draws);
void gp_destroy(struct gp *gp);
/* Adds a point and its value to the data; before gp_factor. */
void gp_add(struct gp *gp, const double *x, double y);

/* ---- hyperparameters ---- */
void gp_theta_default(int d, double *theta);
/* Minus the log of the posterior of theta (up to a constant), gradient in grad[d + 2]; INFINITY
 * when the covariance cannot be factored. Leaves theta set, and no factor. */
double gp_nll(struct gp *gp, const double *theta, double *grad);
/* Improves theta by at most `evals` evaluations of gp_nll; the value reached. */
double gp_fit(struct gp *gp, double *theta, int evals);

/* ---- posterior ---- */
/* Factors the data under theta; raises the noise as far as it takes. */
void gp_factor(struct gp *gp, const double *theta);
/* Appends a pending point whose value in draw s is the posterior mean plus z[s] deviations. Points
 * that add nothing are left out. False: left out. */
bool gp_append(struct gp *gp, const double *x, const double *z);
/* After the last append: alpha of every draw. */
void gp_settle(struct gp *gp);

/* Posterior at one point: the means of all draws, and the variance of the function itself (without
 * noise). `v` takes L^-1 k, `dk` (NULL = not wanted) the kernel's derivatives; n each. */
void gp_at(const struct gp *gp, const double *x, double *mean, double *var, double *v, double *dk);
/* The same at m points, x[j * ldx + i]; mean is draws x ldx. `work` holds n x ldx. */
void gp_at_many(const struct gp *gp, const double *x, size_t ldx, int m, double *mean, double *var,
                double *work);
/* Covariances k (n) of point x with the data. */
void gp_cov(const struct gp *gp, const double *x, double *k, double *dk);

#endif
