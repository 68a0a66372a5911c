/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_fits.h"

#include "base/alloc.h"
#include "optimizers/gp_elsewhere.h"
#include "optimizers/gp_training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EVALS 60 /* evaluations of a fit from nothing */

void gp_fits_init(struct gp_fits *f, int d)
{
    *f = (struct gp_fits){0};
    for (int i = 0; i < GP_FITS; i++) {
        f->of[i].theta = xcalloc((size_t)d + 2, sizeof(double));
    }
}

void gp_fits_fini(struct gp_fits *f)
{
    for (int i = 0; i < GP_FITS; i++) {
        free(f->of[i].theta);
    }
}

/* The counts at which hyperparameters are fitted anew: each a tenth above the one before. */
static int fitted_count(int n)
{
    int at = 2;
    for (int next = at; next <= n; next += next < 20 ? 2 : next / 10) {
        at = next;
    }
    return at < n ? at : n;
}

static double fit_training(const struct gp_history *h, struct gp_training *t_take, double *theta)
{
    struct gp *gp = gp_training_process(t_take, h, 0, 1);
    gp_theta_default(h->domain->d, theta);
    double value = gp_fit(gp, theta, EVALS) + t_take->slopes;
    gp_destroy(gp);
    gp_training_fini(t_take);
    return value;
}

/* Fits under each warp of the values that is tried, and keeps the likeliest. */
static void fit_values(const struct gp_history *h, int64_t trial, int count, struct gp_fit *fit)
{
    static const double reaches[] = {1, 4};
    size_t n = (size_t)h->domain->d + 2;
    double *theta = xcalloc(n, sizeof(*theta));
    double least = INFINITY;
    for (int k = 0; k < (h->objectives > 1 ? 1 : 2); k++) {
        struct gp_training t;
        gp_training_values(&t, h, trial, count, GP_FIT_CAP, reaches[k]);
        double value = fit_training(h, &t, theta);
        if (value < least || k == 0) {
            least = value;
            fit->reach = reaches[k];
            memcpy(fit->theta, theta, n * sizeof(*theta));
        }
    }
    free(theta);
}

const struct gp_fit *gp_fits_for(struct gp_fits *f, enum gp_fit_of of, const struct gp_history *h,
                                 int64_t trial)
{
    struct gp_fit *fit = &f->of[of];
    int count = fitted_count(h->n_obs);
    bool weighted = of == GP_FIT_VALUES && h->objectives > 1;
    if (fit->count == count && !weighted) {
        return fit;
    }
    fit->count = count;
    if (of == GP_FIT_VALUES) {
        fit_values(h, trial, count, fit);
    } else if (of == GP_FIT_THINNED) {
        gp_elsewhere_fit(h, count, GP_FIT_CAP, EVALS, fit->theta);
    } else {
        struct gp_training t;
        gp_training_violations(&t, h, trial, count, GP_FIT_CAP);
        (void)fit_training(h, &t, fit->theta);
    }
    return fit;
}
