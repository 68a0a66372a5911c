/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_training.h"

#include "base/alloc.h"
#include "optimizers/gp_data.h"
#include "optimizers/gp_region.h"

#include <math.h>
#include <stdlib.h>

#define FEASIBLE_MARGIN (-0.05) /* greatest number of a feasible point, in mean violations */

void gp_training_init(struct gp_training *t, int count)
{
    *t = (struct gp_training){.pick = xcalloc((size_t)count + 1, sizeof(*t->pick)),
                              .y = xcalloc((size_t)count + 1, sizeof(*t->y)),
                              .z = xcalloc((size_t)count + 1, sizeof(*t->z)),
                              .level = -INFINITY};
}

void gp_training_fini(struct gp_training *t)
{
    free(t->pick);
    free(t->y);
    free(t->z);
}

static struct gp *process_of(const struct gp_history *h, const int *pick, int m, const double *z,
                             int room, int draws)
{
    struct gp *gp = gp_create(h->domain->d, h->domain->kind, m + room, draws);
    double *x = xcalloc((size_t)h->domain->d + 1, sizeof(*x));
    for (int i = 0; i < m; i++) {
        gp_history_coordinates(h, pick[i], x);
        gp_add(gp, x, z[i]);
    }
    free(x);
    return gp;
}

struct gp *gp_training_process(const struct gp_training *t, const struct gp_history *h, int room,
                               int draws)
{
    return process_of(h, t->pick, t->m, t->z, room, draws);
}

static void pick(struct gp_training *t, const struct gp_history *h, int64_t trial, int count,
                 int cap)
{
    double *y = xcalloc((size_t)count + 1, sizeof(*y));
    gp_training_init(t, count);
    gp_history_numbers(h, trial, count, y);
    t->m = gp_data_pick(y, count, cap, t->pick);
    for (int i = 0; i < t->m; i++) {
        t->y[i] = y[t->pick[i]];
    }
    free(y);
}

void gp_training_values(struct gp_training *t, const struct gp_history *h, int64_t trial, int count,
                        int cap, double reach)
{
    pick(t, h, trial, count, cap);
    t->slopes = gp_data_targets(t->y, t->m, reach, t->z);
}

/* The infeasible ones of the picked results, and the sum of their violations. */
static int infeasible_of(const struct gp_training *t, const struct gp_history *h, int *bad,
                         double *ret_sum)
{
    int n = 0;
    *ret_sum = 0;
    for (int i = 0; i < t->m; i++) {
        double v = gp_history_violation(h, t->pick[i]);
        *ret_sum += v;
        bad[n] = t->pick[i];
        n += v > 0;
    }
    return n;
}

/* A violation tells how far an infeasible point is from its border, nothing tells it of a feasible
 * one: its number is what a process over the infeasible ones alone says, which goes on smoothly
 * across the border. */
void gp_training_violations(struct gp_training *t, const struct gp_history *h, int64_t trial,
                            int count, int cap)
{
    pick(t, h, trial, count, cap);
    double sum = 0;
    int *bad = xcalloc((size_t)t->m + 1, sizeof(*bad));
    double *row = xcalloc(2 * (size_t)(t->m + h->domain->d) + 2, sizeof(*row));
    double *x = row + t->m;
    double *theta = x + h->domain->d;
    int n = infeasible_of(t, h, bad, &sum);
    for (int i = 0; i < n; i++) {
        t->z[i] = log1p(gp_history_violation(h, bad[i]) * n / sum);
    }
    struct gp *gp = process_of(h, bad, n, t->z, 0, 1);
    gp_theta_default(h->domain->d, theta);
    gp_factor(gp, theta);
    gp_settle(gp);
    for (int i = 0; i < t->m; i++) {
        double v = gp_history_violation(h, t->pick[i]);
        double mean = 0;
        double var = 0;
        gp_history_coordinates(h, t->pick[i], x);
        gp_at(gp, x, &mean, &var, row, NULL);
        t->z[i] = v > 0 ? log1p(v * n / sum) : fmax(fmin(mean, FEASIBLE_MARGIN), -2);
    }
    gp_destroy(gp);
    free(bad);
    free(row);
}

void gp_training_near(struct gp_training *t, const struct gp_history *h, int want)
{
    const double **x = xcalloc((size_t)h->n_obs + 1, sizeof(*x));
    int best = 0;
    for (int i = 0; i < h->n_obs; i++) {
        x[i] = h->obs[i].at;
        best = h->obs[i].values[0] < h->obs[best].values[0] ? i : best;
    }
    gp_training_init(t, h->n_obs);
    t->m = gp_region_nearest(h->domain, x, h->n_obs, best, want, t->pick);
    for (int i = 0; i < t->m; i++) {
        t->y[i] = h->obs[t->pick[i]].values[0];
    }
    t->slopes = gp_data_targets(t->y, t->m, 1, t->z);
    free(x);
}
