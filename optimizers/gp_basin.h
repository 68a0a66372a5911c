/* SPDX-License-Identifier: Apache-2.0
 *
 * A look elsewhere: where a search may still find what its best basin cannot give.
 *
 * A search has settled in a basin when as many results as a simplex has corners, and one more, lie
 * close to its best and are all but equal to it, measured by what separates it from the better of
 * the others: neither the objective's unit nor its zero counts. A result belongs to a basin when
 * the model sees no hill on the straight line to the basin's best (Ursem, Multinational
 * Evolutionary Algorithms, CEC 1999, with a model in place of evaluations). The best result that
 * belongs to none is the level: a model that takes every value below it for equal to it finds
 * nothing to gain where the search has been, and goes down elsewhere. Where all results belong to
 * the basins the level is their median.
 */
#ifndef MAG_OPTIMIZERS_GP_BASIN_H
#define MAG_OPTIMIZERS_GP_BASIN_H

#include "optimizers/gp_domain.h"
#include "optimizers/gp_model.h"

#define GP_BASINS_MAX 16

/* n results of a search: coordinates and values, borrowed. */
struct gp_results {
    const struct gp_domain *domain;
    const double *const *x;
    const double *y;
    int n;
};

/* Has the search settled at result i? */
bool gp_basin_settled(const struct gp_results *r, int i);
/* The indices, rising, of results of which no two are close to each other, the better of two; how
 * many. `pick` has room for all. */
int gp_basin_thin(const struct gp_results *r, int *pick);

/* The basins that the search has been in. */
struct gp_basins {
    struct gp *gp; /* of the thinned results */
    int best[GP_BASINS_MAX];
    int n;
    double level; /* the least value outside, or the median where there is no result outside */
    double top;   /* what the model must rise to between a basin and a point outside */
};

/* From warped values z[k] of the m results pick[k] and hyperparameters for them. The basin of the
 * best counts as settled whether it is or not. */
void gp_basins_init(struct gp_basins *b, const struct gp_results *r, const int *pick, int m,
                    const double *z, const double *theta);
void gp_basins_fini(struct gp_basins *b); /* also of a zeroed one */
/* Does x (coordinates) belong to one of them, by the model? */
bool gp_basins_have(const struct gp_basins *b, const double *x);

#endif
