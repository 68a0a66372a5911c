/* SPDX-License-Identifier: Apache-2.0
 *
 * How much each parameter mattered: PED-ANOVA (Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently
 * Quantifying Hyperparameter Importance in Arbitrary Subspaces", IJCAI 2023), with conditional
 * parameters as in its sequel. Pure and deterministic: O(n log n + n * parameters). Any thread.
 */
#ifndef MAG_OPTIMIZERS_IMPORTANCE_H
#define MAG_OPTIMIZERS_IMPORTANCE_H

#include "space/space.h"

#define IMPORTANCE_QUANTILE 0.1 /* the part of the trials that counts as good */

struct importance_data {
    const struct space *space;
    int64_t n;
    const double *points; /* n * space->n, NaN = inactive */
    const double *losses; /* n, finite; smaller is better */
};

/* For each parameter how far the distribution of its values among the best `quantile` of the trials
 * is from that among all of them (a Pearson divergence, 0 = not at all, weighted for the trials
 * where it is active); `ret` has space->n places. Returns how many trials were among the best: 0
 * when there are less than 2, and then every value is 0. */
int64_t importance_compute(const struct importance_data *d, double quantile, double *ret);

#endif
