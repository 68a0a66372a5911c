/* SPDX-License-Identifier: Apache-2.0
 *
 * Hyperparameters of gp's processes, fitted anew whenever the results are a tenth more. A memo: a
 * pure function of the history, so that after a replay it says the same.
 */
#ifndef MAG_OPTIMIZERS_GP_FITS_H
#define MAG_OPTIMIZERS_GP_FITS_H

#include "optimizers/gp_history.h"

/* What hyperparameters are fitted to. */
enum gp_fit_of { GP_FIT_VALUES, GP_FIT_VIOLATIONS, GP_FIT_THINNED, GP_FITS };

#define GP_FIT_CAP 200 /* results at most */

struct gp_fit {
    int count;     /* of the first so many results; 0 = not yet */
    double *theta; /* d + 2 */
    double reach;  /* VALUES: of the warp */
};

struct gp_fits {
    struct gp_fit of[GP_FITS];
};

void gp_fits_init(struct gp_fits *f, int d);
void gp_fits_fini(struct gp_fits *f);
/* Those for the results so far; with several objectives, under the weights of `trial`. */
const struct gp_fit *gp_fits_for(struct gp_fits *f, enum gp_fit_of of, const struct gp_history *h,
                                 int64_t trial);

#endif
