/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_elsewhere.h"

#include "base/alloc.h"
#include "optimizers/gp_data.h"

#include <math.h>
#include <stdlib.h>

/* At most `cap` of the first `count` results, and which they are. */
struct subset {
    struct gp_results r;
    const double **x;
    double *y;
    int *pick;
};

static void subset_init(const struct gp_history *h, struct subset *u, int count, int cap)
{
    u->pick = xcalloc((size_t)count + 1, sizeof(*u->pick));
    u->y = xcalloc((size_t)count + 1, sizeof(*u->y));
    u->x = xcalloc((size_t)count + 1, sizeof(*u->x));
    gp_history_numbers(h, 0, count, u->y);
    int n = gp_data_pick(u->y, count, cap, u->pick);
    for (int i = 0; i < n; i++) {
        u->x[i] = h->obs[u->pick[i]].at;
        u->y[i] = u->y[u->pick[i]];
    }
    u->r = (struct gp_results){.domain = h->domain, .x = u->x, .y = u->y, .n = n};
}

static void subset_fini(struct subset *u)
{
    free(u->pick);
    free(u->y);
    free(u->x);
}

bool gp_elsewhere_may(const struct gp_history *h)
{
    return gp_history_is_plain(h) && h->n_obs >= 2 * (h->domain->n + 2);
}

bool gp_elsewhere_settled(const struct gp_history *h, int cap)
{
    struct subset u;
    int best = 0;
    subset_init(h, &u, h->n_obs, cap);
    for (int i = 0; i < u.r.n; i++) {
        best = u.y[i] < u.y[best] ? i : best;
    }
    bool settled = gp_basin_settled(&u.r, best);
    subset_fini(&u);
    return settled;
}

/* Results of which no two are close to each other; picks are places in the subset. */
static void thin(struct gp_training *t, const struct subset *u)
{
    gp_training_init(t, u->r.n);
    t->m = gp_basin_thin(&u->r, t->pick);
    for (int i = 0; i < t->m; i++) {
        t->y[i] = u->y[t->pick[i]];
    }
    t->slopes = gp_data_targets(t->y, t->m, 1, t->z);
}

void gp_elsewhere_fit(const struct gp_history *h, int count, int cap, int evals, double *theta)
{
    struct gp_training t;
    struct subset u;
    subset_init(h, &u, count, cap);
    thin(&t, &u);
    struct gp *gp = gp_create(h->domain->d, h->domain->kind, t.m, 1);
    for (int i = 0; i < t.m; i++) {
        gp_add(gp, u.x[t.pick[i]], t.z[i]);
    }
    gp_theta_default(h->domain->d, theta);
    (void)gp_fit(gp, theta, evals);
    gp_destroy(gp);
    gp_training_fini(&t);
    subset_fini(&u);
}

void gp_elsewhere_training(const struct gp_history *h, int cap, const double *theta,
                           struct gp_training *t, struct gp_basins *basins)
{
    struct subset u;
    subset_init(h, &u, h->n_obs, cap);
    thin(t, &u);
    gp_basins_init(basins, &u.r, t->pick, t->m, t->z, theta);
    t->level = basins->level;
    for (int i = 0; i < t->m; i++) {
        t->y[i] = fmax(t->y[i], t->level);
        t->pick[i] = u.pick[t->pick[i]];
    }
    t->slopes = gp_data_targets(t->y, t->m, 1, t->z);
    subset_fini(&u);
}
