/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_basin.h"

#include "base/alloc.h"
#include "optimizers/gp_algebra.h"
#include "optimizers/gp_rank.h"

#include <math.h>
#include <stdlib.h>

#define CLOSE 4e-4 /* squared distance a parameter: 0.02 of each range */
#define APART 1e-4 /* the same, of results that a thinned set keeps */
#define EQUAL 1e-4 /* of the distance to the better quarter of the others */
#define STATIONS 8 /* parts of a line on which a hill is looked for */
#define HILL 0.02  /* deviations of the values: a lower one is none */
#define RISE 0.25  /* of the way from the level to the median: a hill around a basin */

static double distance(const struct gp_results *r, int i, int k)
{
    double sum = 0;
    for (int j = 0; j < r->domain->n; j++) {
        sum += gp_kernel_share((enum gp_kind)r->domain->kind[j], r->x[i][j], r->x[k][j]);
    }
    return sum;
}

static int by_number(const void *a, const void *b)
{
    const double *p = a;
    const double *q = b;
    return (*p > *q) - (*p < *q);
}

bool gp_basin_settled(const struct gp_results *r, int i)
{
    int want = r->domain->n + 2;
    int n_far = 0;
    int n_equal = 0;
    double *far = xcalloc((size_t)r->n + 1, sizeof(*far));
    for (int k = 0; k < r->n; k++) {
        if (distance(r, i, k) > CLOSE * r->domain->n) {
            far[n_far++] = r->y[k];
        }
    }
    qsort(far, (size_t)n_far, sizeof(*far), by_number);
    double equal = n_far >= want ? EQUAL * (far[n_far / 4] - r->y[i]) : 0;
    free(far);
    for (int k = 0; k < r->n && n_far >= want; k++) {
        n_equal += r->y[k] - r->y[i] <= equal && distance(r, i, k) <= CLOSE * r->domain->n;
    }
    return n_far >= want && n_equal >= want;
}

int gp_basin_thin(const struct gp_results *r, int *pick)
{
    struct gp_rank *order = gp_rank(r->y, NULL, r->n);
    int m = 0;
    for (int k = 0; k < r->n; k++) {
        bool apart = true;
        for (int p = 0; p < m && apart; p++) {
            apart = distance(r, order[k].i, pick[p]) > APART * r->domain->n;
        }
        if (apart) {
            pick[m++] = order[k].i;
        }
    }
    free(order);
    gp_rank_indices(pick, m);
    return m;
}

/* Does the model stay below `top` between point a of its own and x? */
static bool is_one_valley(const struct gp *gp, int a, const double *x, double top)
{
    double *k = xcalloc((size_t)(gp->d + gp->n) + 1, sizeof(*k));
    double *at = k + gp->n;
    bool valley = true;
    for (int s = 1; s < STATIONS && valley; s++) {
        double t = (double)s / STATIONS;
        for (int j = 0; j < gp->d; j++) {
            double u = gp->x[(size_t)j * gp->ld + (size_t)a];
            bool number = gp->kind[j] != GP_CHOICE && u != GP_INACTIVE && x[j] != GP_INACTIVE;
            at[j] = number ? u + t * (x[j] - u) : s < STATIONS / 2 ? u : x[j];
        }
        gp_cov(gp, at, k, NULL);
        valley = alg_dot(gp->alpha, k, gp->n) <= top;
    }
    free(k);
    return valley;
}

static bool is_inside(const struct gp_basins *b, const double *z, int i)
{
    bool inside = false;
    double *x = xcalloc((size_t)b->gp->d + 1, sizeof(*x));
    for (int j = 0; j < b->gp->d; j++) {
        x[j] = b->gp->x[(size_t)j * b->gp->ld + (size_t)i];
    }
    for (int k = 0; k < b->n && !inside; k++) {
        inside = is_one_valley(b->gp, b->best[k], x, fmax(z[i], z[b->best[k]]) + HILL);
    }
    free(x);
    return inside;
}

static struct gp *model_of(const struct gp_results *r, const int *pick, int m, const double *z,
                           const double *theta)
{
    struct gp *gp = gp_create(r->domain->d, r->domain->kind, m, 1);
    for (int i = 0; i < m; i++) {
        gp_add(gp, r->x[pick[i]], z[i]);
    }
    gp_factor(gp, theta);
    gp_settle(gp);
    return gp;
}

void gp_basins_init(struct gp_basins *b, const struct gp_results *r, const int *pick, int m,
                    const double *z, const double *theta)
{
    struct gp_rank *order = gp_rank(r->y, pick, m);
    *b = (struct gp_basins){.gp = model_of(r, pick, m, z, theta), .level = INFINITY};
    for (int k = 0; k < m && b->level == INFINITY; k++) {
        int i = order[k].i;
        bool inside = is_inside(b, z, i);
        bool found = k == 0 || (b->n < GP_BASINS_MAX && gp_basin_settled(r, pick[i]));
        if (!inside && found) {
            b->best[b->n++] = i;
        } else if (!inside) {
            b->level = r->y[pick[i]];
            b->top = z[i] + RISE * (z[order[m / 2].i] - z[i]);
        }
    }
    if (b->level == INFINITY && m > 0) {
        b->level = r->y[pick[order[m / 2].i]];
        b->top = z[order[m / 2].i];
    }
    free(order);
}

void gp_basins_fini(struct gp_basins *b)
{
    gp_destroy(b->gp);
}

bool gp_basins_have(const struct gp_basins *b, const double *x)
{
    bool inside = false;
    for (int k = 0; k < b->n && !inside; k++) {
        inside = is_one_valley(b->gp, b->best[k], x, b->top);
    }
    return inside;
}
