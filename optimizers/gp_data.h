/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Gaussian process is fitted to: which of the observations, and which numbers for them.
 *
 * Numbers: values are warped and standardised. The better half keeps its shape; above the median m
 * a value becomes m + s log(1 + (y - m) / s), s = m - best: smooth, monotone, and deaf to how bad a
 * bad trial was. As trials gather round the optimum the median falls, and the model with it looks
 * ever closer.
 *
 * Observations: all, up to a bound; beyond it the best half, the newest quarter, and an even sample
 * over the ranks of the rest.
 */
#ifndef MAG_OPTIMIZERS_GP_DATA_H
#define MAG_OPTIMIZERS_GP_DATA_H

#include <stdint.h>

/* Picks at most `cap` of the n values; their indices, rising, into pick; how many. */
int gp_data_pick(const double *y, int n, int cap, int *pick);
/* Warps and standardises n values into z; s above is `reach` times m - best. Returns minus the log
 * of the warp's Jacobian: likelihoods of different reaches compare once it is subtracted. */
double gp_data_targets(const double *y, int n, double reach, double *z);
/* The weighted augmented Chebyshev sum of one result's objectives, each scaled to [0, 1] by the
 * least and greatest seen (Knowles, ParEGO, IEEE Trans. Evolutionary Computation 10, 2006). */
double gp_data_chebyshev(const double *values, const double *lo, const double *hi,
                         const double *weights, int n);
/* Weights of one trial, uniform on the simplex, from the stream (seed, purpose, trial). */
void gp_data_weights(uint64_t seed, const char *purpose, uint64_t trial, int n, double *weights);

#endif
