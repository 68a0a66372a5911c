/* SPDX-License-Identifier: Apache-2.0
 *
 * The look elsewhere of gp (gp_basin.h) over its history: has the search settled, and which results
 * a model is made of that finds nothing to gain where it has.
 */
#ifndef MAG_OPTIMIZERS_GP_ELSEWHERE_H
#define MAG_OPTIMIZERS_GP_ELSEWHERE_H

#include "optimizers/gp_basin.h"
#include "optimizers/gp_training.h"

/* May it look elsewhere at all, by its results? */
bool gp_elsewhere_may(const struct gp_history *h);
/* Has it settled at its best result? Of at most `cap` results. */
bool gp_elsewhere_settled(const struct gp_history *h, int cap);
/* Fits theta[d + 2] to the first `count` results, at most `cap`, of which no two are close. */
void gp_elsewhere_fit(const struct gp_history *h, int count, int cap, int evals, double *theta);
/* Of at most `cap` results those of which no two are close, what the basins hide as good as the
 * best outside. Initialises both. */
void gp_elsewhere_training(const struct gp_history *h, int cap, const double *theta,
                           struct gp_training *t, struct gp_basins *basins);

#endif
