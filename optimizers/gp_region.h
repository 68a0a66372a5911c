/* SPDX-License-Identifier: Apache-2.0
 *
 * A trust region (Eriksson et al., Scalable Global Optimization via Local Bayesian Optimization,
 * NeurIPS 2019): a box around the best point whose side grows after successes and shrinks after
 * failures, and which starts anew when it has become tiny. Every second trial is a local one: it
 * is searched for in the box, with a model of its own of the points nearest to the best. The
 * others stay global.
 */
#ifndef MAG_OPTIMIZERS_GP_REGION_H
#define MAG_OPTIMIZERS_GP_REGION_H

#include "optimizers/gp_domain.h"

/* One finished trial, in the order of the ends. */
struct gp_step {
    double value;
    bool local;
};

/* The box's side, in the unit cube, after n steps of a search of d parameters. */
double gp_region_side(const struct gp_step *steps, int n, int d);
/* The box around raw point `at`: `side` times the length scales' ratio to their geometric mean,
 * within [1/4, 4]; lo and hi get dom->n numbers within [0, 1]. */
void gp_region_box(const struct gp_domain *dom, const double *at, double side, const double *theta,
                   double *lo, double *hi);
/* The indices, rising, of the `want` points nearest to point `centre`; ties by index. x[i] are
 * coordinates. How many: n when there are fewer. */
int gp_region_nearest(const struct gp_domain *dom, const double *const *x, int n, int centre,
                      int want, int *pick);

#endif
