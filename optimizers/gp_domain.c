/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_domain.h"

#include "base/alloc.h"
#include "space/constraint.h"

#include <math.h>
#include <stdlib.h>

#define SMOOTH_CELLS 24 /* from so many values on, gradients lead and rounding follows */

void gp_domain_init(struct gp_domain *g, const struct space *space,
                    const struct opt_resource *resource)
{
    g->space = space;
    g->n = space->n;
    g->resource = *resource;
    g->d = space->n + (resource->present && resource->max > resource->min);
    g->kind = xcalloc((size_t)g->d + 1, sizeof(*g->kind));
    g->smooth = xcalloc((size_t)g->n + 1, sizeof(*g->smooth));
    g->cells = xcalloc((size_t)g->n + 1, sizeof(*g->cells));
    g->finite = true;
    for (int j = 0; j < g->n; j++) {
        const struct param *p = &space->params[j];
        bool choice = p->type == PARAM_CATEGORICAL && !p->ordered;
        g->kind[j] = choice ? GP_CHOICE : p->parent >= 0 ? GP_CONDITIONAL : GP_NUMBER;
        g->cells[j] = param_cells(p);
        g->finite = g->finite && isfinite(g->cells[j]);
        g->smooth[j] = !choice && g->cells[j] >= SMOOTH_CELLS;
    }
}

void gp_domain_fini(struct gp_domain *g)
{
    free(g->kind);
    free(g->smooth);
    free(g->cells);
}

double gp_domain_budget(const struct gp_domain *g, int64_t budget)
{
    const struct opt_resource *r = &g->resource;
    if (budget <= 0 || budget >= r->max) {
        return 1;
    }
    return budget <= r->min
               ? 0
               : log((double)budget / (double)r->min) / log((double)r->max / (double)r->min);
}

void gp_domain_encode(const struct gp_domain *g, const double *point, double *x)
{
    for (int j = 0; j < g->n; j++) {
        x[j] = isnan(point[j])           ? GP_INACTIVE
               : g->kind[j] == GP_CHOICE ? point[j]
                                         : param_to_unit(&g->space->params[j], point[j]);
    }
    if (g->d > g->n) {
        x[g->n] = 1;
    }
}

static double index_of(const struct gp_domain *g, int j, double u)
{
    return fmin(floor(u * g->cells[j]), g->cells[j] - 1);
}

static double snap(const struct gp_domain *g, int j, double u, bool relaxed)
{
    const struct param *p = &g->space->params[j];
    if (g->kind[j] == GP_CHOICE) {
        return index_of(g, j, u);
    }
    if (isinf(g->cells[j]) || (relaxed && g->smooth[j])) {
        return u;
    }
    return p->log ? param_to_unit(p, param_from_unit(p, u))
                  : (index_of(g, j, u) + 0.5) / g->cells[j];
}

void gp_domain_snap(const struct gp_domain *g, const double *raw, bool relaxed, double *x)
{
    for (int k = 0; k < g->n; k++) {
        int j = g->space->order[k];
        const struct param *p = &g->space->params[j];
        bool active = p->parent < 0 || (x[p->parent] != GP_INACTIVE &&
                                        p->when[(int)index_of(g, p->parent, raw[p->parent])]);
        x[j] = active ? snap(g, j, raw[j], relaxed) : GP_INACTIVE;
    }
    if (g->d > g->n) {
        x[g->n] = 1;
    }
}

void gp_domain_raw(const struct gp_domain *g, const double *x, double *raw)
{
    for (int j = 0; j < g->n; j++) {
        raw[j] = x[j] == GP_INACTIVE       ? 0.5
                 : g->kind[j] == GP_CHOICE ? (x[j] + 0.5) / g->cells[j]
                                           : x[j];
    }
}

void gp_domain_meet(const struct gp_domain *g, uint64_t seed, uint64_t id, double *raw)
{
    if (g->space->constraints == NULL) {
        return;
    }
    double *point = xcalloc(2 * (size_t)g->n + 1, sizeof(*point));
    double *u = point + g->n;
    space_from_unit(g->space, raw, point);
    if (!space_is_feasible(g->space, point)) {
        space_repair(g->space, seed, "gp:meet", id, point);
        space_to_unit(g->space, point, u);
        for (int j = 0; j < g->n; j++) {
            raw[j] = isnan(u[j]) ? raw[j] : u[j];
        }
    }
    free(point);
}
