/* SPDX-License-Identifier: Apache-2.0
 *
 * The maximum of an acquisition function over a search space: many candidates, random ones over the
 * whole space or region and mutations of the best trials; gradient ascent from the most promising;
 * and, for parameters with few values, hill climbing over the neighbours (one parameter changed).
 */
#ifndef MAG_OPTIMIZERS_GP_PROPOSE_H
#define MAG_OPTIMIZERS_GP_PROPOSE_H

#include "base/pcg.h"
#include "optimizers/gp_acq.h"
#include "optimizers/gp_basin.h"
#include "optimizers/gp_domain.h"

struct gp_search {
    const struct gp_domain *domain;
    const struct gp_acq *acq;
    struct pcg64 g;
    uint64_t seed;       /* of repairs, where the space has constraints */
    const double *elite; /* n_elite x n, the best trials' raw points, best first */
    int n_elite;
    const double *lo, *hi;          /* n: the region, within [0, 1] */
    const struct gp_basins *basins; /* no point of theirs is wanted; NULL: any is */
    double *value;                  /* out: the acquisition at the point found; may be NULL */
};

/* The raw point of the maximum. */
void gp_propose(struct gp_search *s, double *raw);
/* The minimiser of one draw of the posterior over the candidates (Thompson sampling; Kandasamy et
 * al., AISTATS 2018). */
void gp_propose_draw(struct gp_search *s, double *raw);

#endif
