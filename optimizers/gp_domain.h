/* SPDX-License-Identifier: Apache-2.0
 *
 * Between points of a space and the coordinates of the Gaussian process.
 *
 * `raw` is a point of the unit cube, a number for every parameter whether active or not (the way
 * candidates are bred); `x` is what the kernel sees: numbers rounded to their cells, choices as
 * indices, GP_INACTIVE where a condition does not hold, and, where the experiment has a resource,
 * one more number, the logarithm of the budget from 0 (min) to 1 (max).
 */
#ifndef MAG_OPTIMIZERS_GP_DOMAIN_H
#define MAG_OPTIMIZERS_GP_DOMAIN_H

#include "optimizers/gp_kernel.h"
#include "optimizers/optimizer.h"

struct gp_domain {
    const struct space *space;
    int n;         /* parameters */
    int d;         /* coordinates: n, or n + 1 with a budget */
    uint8_t *kind; /* d of enum gp_kind */
    bool *smooth;  /* n: treated as continuous by gradients */
    double *cells; /* n: param_cells */
    bool finite;   /* no coordinate is continuous */
    struct opt_resource resource;
};

void gp_domain_init(struct gp_domain *g, const struct space *space,
                    const struct opt_resource *resource);
void gp_domain_fini(struct gp_domain *g);
/* The budget's coordinate; 0 (an end) and unknown budgets are the maximum. */
double gp_domain_budget(const struct gp_domain *g, int64_t budget);
/* A point's coordinates; the budget's is left as the maximum. */
void gp_domain_encode(const struct gp_domain *g, const double *point, double *x);
/* The coordinates of raw. With `relaxed` smooth ones are not rounded. */
void gp_domain_snap(const struct gp_domain *g, const double *raw, bool relaxed, double *x);
/* Moves raw to a near point that meets the space's constraints, where it has any. What that draws
 * comes from (seed, id). */
void gp_domain_meet(const struct gp_domain *g, uint64_t seed, uint64_t id, double *raw);
/* Coordinates to raw numbers; inactive ones become 1/2. */
void gp_domain_raw(const struct gp_domain *g, const double *x, double *raw);

#endif
