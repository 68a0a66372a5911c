/* SPDX-License-Identifier: Apache-2.0
 *
 * The covariance function of the Gaussian process: Matern 5/2 over a weighted squared distance that
 * is a sum over coordinates, one length scale each (ARD).
 *
 * A coordinate is a number in [0, 1], or one of several choices, or GP_INACTIVE. Its share of the
 * squared distance is (u - v)^2 between numbers, 1 between different choices, and between a number
 * u and GP_INACTIVE 1/4 + (u - 1/2)^2: an inactive coordinate stands at the middle of the interval
 * and half a unit beside it. All are squared distances of points in a Euclidean space, which keeps
 * the kernel positive definite.
 */
#ifndef MAG_OPTIMIZERS_GP_KERNEL_H
#define MAG_OPTIMIZERS_GP_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GP_INACTIVE (-1.0)

enum gp_kind {
    GP_NUMBER = 0,      /* never inactive */
    GP_CONDITIONAL = 1, /* a number or GP_INACTIVE */
    GP_CHOICE = 2,      /* an index of a value or GP_INACTIVE */
};

/* d2[i] += w * share of (x[i], v), 0 <= i < n. */
void gp_kernel_distance(enum gp_kind kind, const double *x, double v, double w, int n, double *d2);
/* The share itself, and half its derivative by v. */
double gp_kernel_share(enum gp_kind kind, double x, double v);
double gp_kernel_slope(enum gp_kind kind, double x, double v);
/* k[i] = M(d2[i]) = (1 + r + r^2/3) exp(-r), r = sqrt(5 d2); dk[i] (NULL = not wanted) = dM/dd2 =
 * -5/6 (1 + r) exp(-r). k may be d2. */
void gp_kernel_matern(const double *d2, int n, double *k, double *dk);

#endif
