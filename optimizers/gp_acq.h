/* SPDX-License-Identifier: Apache-2.0
 *
 * Acquisition functions over a Gaussian process, to be maximised, with their gradients.
 *
 * Expected improvement is taken as its logarithm (Ament et al., Unexpected Improvements to Expected
 * Improvement for Bayesian Optimization, NeurIPS 2023), which keeps a gradient where EI underflows,
 * and as the mean over the fantasies of pending points. The lower confidence bound (Srinivas et
 * al., ICML 2010) explores with pending points hallucinated at their mean (Desautels et al., JMLR
 * 15, 2014).
 */
#ifndef MAG_OPTIMIZERS_GP_ACQ_H
#define MAG_OPTIMIZERS_GP_ACQ_H

#include "optimizers/gp_model.h"

enum gp_acq_kind { GP_LOGEI = 0, GP_BOUND = 1 };

struct gp_acq {
    const struct gp *gp;
    enum gp_acq_kind kind;
    double kappa;              /* BOUND: deviations below the mean */
    double best[GP_DRAWS_MAX]; /* LOGEI: the value to improve on, in each draw */
    /* A process over outcome violations: the chance that it is at most `limit` counts as a factor
     * of EI. NULL = no constraints. */
    const struct gp *violation;
    double limit;
    bool feasibility_only; /* nothing feasible is known: that chance alone */
    double *work;          /* 4 * ld, of either process the larger */
};

/* log(phi(z) + z Phi(z)) and its derivative, finite for every finite z. */
double gp_log_h(double z, double *slope);
/* log Phi(z) and its derivative. */
double gp_log_cdf(double z, double *slope);

/* Allocates `work`; and frees it. */
void gp_acq_open(struct gp_acq *a);
void gp_acq_close(struct gp_acq *a);
/* The value at x; its gradient by the numbers among the coordinates in grad[d] unless NULL. */
double gp_acq_at(const struct gp_acq *a, const double *x, double *grad);
/* The values at m points, x[j * ldx + i]. */
void gp_acq_many(const struct gp_acq *a, const double *x, size_t ldx, int m, double *value);

#endif
