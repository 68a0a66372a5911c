/* SPDX-License-Identifier: Apache-2.0
 *
 * Points of other spaces: parameters are matched by name, values must fit.
 */
#include "space/constraint.h"

#include <math.h>

/* The value of one parameter here, NaN when it does not fit. */
static double fit_value(const struct param *p, const json_t *v)
{
    if (p->n_values > 0) {
        int k = param_value_index(p, v);
        return k >= 0 ? k : NAN;
    }
    double x = json_is_number(v) ? json_number_value(v) + 0.0 : NAN;
    if (!(x >= p->lo && x <= p->hi)) {
        return NAN;
    }
    if (isinf(param_cells(p))) {
        return x;
    }
    double k = param_cell_of(p, x);
    return k >= 0 ? param_cell_value(p, k) : NAN;
}

bool space_value_fit(const struct param *p, const json_t *v, double *ret)
{
    double x = fit_value(p, v);
    if (isnan(x)) {
        return false;
    }
    *ret = x;
    return true;
}

enum space_fit space_point_fit(const struct space *s, const json_t *params, const json_t *defaults,
                               double *point)
{
    enum space_fit fit = SPACE_FITS;
    for (int i = 0; i < s->n && fit == SPACE_FITS; i++) {
        int j = s->order[i];
        const struct param *p = &s->params[j];
        const json_t *v = json_object_get(params, p->name);
        v = v != NULL ? v : json_object_get(defaults, p->name);
        point[j] = NAN;
        if (!space_is_active(s, point, j)) {
            continue;
        }
        if (v == NULL && param_cells(p) > 1) {
            fit = SPACE_FIT_MISSING;
        } else {
            point[j] = v == NULL ? param_cell_value(p, 0) : fit_value(p, v);
            fit = isnan(point[j]) ? SPACE_FIT_OUTSIDE : SPACE_FITS;
        }
    }
    return fit == SPACE_FITS && !space_is_feasible(s, point) ? SPACE_FIT_BROKEN : fit;
}
