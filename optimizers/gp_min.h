/* SPDX-License-Identifier: Apache-2.0
 *
 * Minimum of a smooth function in a box: limited-memory BFGS (Nocedal and Wright, Numerical
 * Optimization, 2006, algorithm 7.4) on the coordinates that no bound holds, each step projected
 * into the box (Bertsekas, Projected Newton Methods, SIAM J. Control 20, 1982), with a backtracking
 * Armijo search. Deterministic; at most `evals` evaluations.
 */
#ifndef MAG_OPTIMIZERS_GP_MIN_H
#define MAG_OPTIMIZERS_GP_MIN_H

/* The value at x, its gradient in g; INFINITY where there is none. */
typedef double (*min_fn)(void *arg, const double *x, double *g);

struct min_box {
    int n;
    const double *lo, *hi; /* lo[i] == hi[i] holds coordinate i */
    int evals;
    double gtol; /* done when no free coordinate's |gradient| is above it */
    double ftol; /* done when a step gains less than ftol * (1 + |f|) */
};

/* Improves x, which it clamps into the box first; returns the value at the new x. */
double min_in_box(const struct min_box *box, min_fn f, void *arg, double *x);

#endif
