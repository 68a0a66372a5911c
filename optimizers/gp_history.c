/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_history.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "optimizers/gp_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void gp_history_fini(struct gp_history *h)
{
    for (int64_t i = 0; i < h->trials.n; i++) {
        free(h->trials.at[i].x);
    }
    for (int i = 0; i < h->n_obs; i++) {
        free(h->obs[i].values);
    }
    for (int i = 0; i < h->n_others; i++) {
        free(h->others[i]);
    }
    free(h->trials.at);
    free(h->obs);
    free(h->others);
}

bool gp_history_is_plain(const struct gp_history *h)
{
    return h->objectives == 1 && !h->infeasible_seen && h->domain->d == h->domain->n;
}

/* ---- what is told ---- */

static double *coordinates(const struct gp_history *h, const double *point)
{
    double *x = xcalloc((size_t)h->domain->d + 1, sizeof(*x));
    gp_domain_encode(h->domain, point, x);
    return x;
}

void gp_history_pending(struct gp_history *h, int64_t trial, const double *point)
{
    struct gp_trial *t = gp_trials_of(&h->trials, trial);
    free(t->x);
    *t = (struct gp_trial){.x = coordinates(h, point), .pending = true};
}

static void add(struct gp_history *h, const double *at, int64_t trial, int64_t budget,
                const struct opt_result *r)
{
    if (h->n_obs == h->cap_obs) {
        h->cap_obs = h->cap_obs > 0 ? 2 * h->cap_obs : 64;
        h->obs = xreallocarray(h->obs, (size_t)h->cap_obs, sizeof(*h->obs));
    }
    struct gp_observation *o = &h->obs[h->n_obs++];
    *o = (struct gp_observation){
        .at = at, .trial = trial, .budget = gp_domain_budget(h->domain, budget)};
    o->values = xcalloc((size_t)h->objectives + 1, sizeof(double));
    memcpy(o->values, r->values, (size_t)h->objectives * sizeof(double));
    o->values[h->objectives] = r->violation;
    h->infeasible_seen = h->infeasible_seen || r->violation > 0;
}

void gp_history_observe(struct gp_history *h, int64_t trial, int64_t budget,
                        const struct opt_result *r)
{
    struct gp_trial *t = gp_trials_of(&h->trials, trial);
    if (t->x != NULL) {
        t->observed = true;
        add(h, t->x, trial, budget, r);
    }
}

void gp_history_ended(struct gp_history *h, int64_t trial)
{
    gp_trials_of(&h->trials, trial)->pending = false;
}

void gp_history_others(struct gp_history *h, const double *point, int64_t budget,
                       const struct opt_result *r)
{
    if (h->n_others == h->cap_others) {
        h->cap_others = h->cap_others > 0 ? 2 * h->cap_others : 64;
        h->others = xreallocarray(h->others, (size_t)h->cap_others, sizeof(*h->others));
    }
    h->others[h->n_others++] = coordinates(h, point);
    add(h, h->others[h->n_others - 1], 0, budget, r);
}

/* ---- results as numbers ---- */

double gp_history_violation(const struct gp_history *h, int i)
{
    return h->obs[i].values[h->objectives];
}

void gp_history_numbers(const struct gp_history *h, int64_t trial, int count, double *y)
{
    double lo[OPT_OBJECTIVES_MAX];
    double hi[OPT_OBJECTIVES_MAX];
    double weights[OPT_OBJECTIVES_MAX];
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < h->objectives; k++) {
            double v = h->obs[i].values[k];
            lo[k] = i == 0 ? v : fmin(lo[k], v);
            hi[k] = i == 0 ? v : fmax(hi[k], v);
        }
        y[i] = h->obs[i].values[0];
    }
    if (h->objectives > 1) {
        gp_data_weights(h->seed, h->purpose, (uint64_t)trial, h->objectives, weights);
        for (int i = 0; i < count; i++) {
            y[i] = gp_data_chebyshev(h->obs[i].values, lo, hi, weights, h->objectives);
        }
    }
}

void gp_history_coordinates(const struct gp_history *h, int i, double *x)
{
    const struct gp_observation *o = &h->obs[i];
    memcpy(x, o->at, (size_t)h->domain->d * sizeof(*x));
    if (h->domain->d > h->domain->n) {
        x[h->domain->n] = o->budget;
    }
}

/* ---- what runs ---- */

/* Pending trials without any result, the newest GP_PENDING_MAX. */
static int64_t first_pending(const struct gp_history *h)
{
    int left = GP_PENDING_MAX;
    int64_t id = h->trials.n;
    while (id > 1 && left > 0) {
        id--;
        left -= h->trials.at[id].pending && !h->trials.at[id].observed;
    }
    return id;
}

void gp_history_append_pending(const struct gp_history *h, struct gp *gp, bool drawn)
{
    double z[GP_DRAWS_MAX] = {0};
    for (int64_t id = first_pending(h); id < h->trials.n; id++) {
        const struct gp_trial *t = &h->trials.at[id];
        if (!t->pending || t->observed) {
            continue;
        }
        struct pcg64 g;
        char *purpose = xasprintf("%s:fantasy", h->purpose);
        pcg_stream(&g, h->seed, purpose, (uint64_t)id);
        free(purpose);
        for (int k = 0; k + 1 < gp->draws && drawn; k += 2) {
            z[k] = pcg64_normal(&g);
            z[k + 1] = -z[k];
        }
        if (gp->n < gp->cap) {
            (void)gp_append(gp, t->x, z);
        }
    }
    gp_settle(gp);
}

int gp_history_n_pending(const struct gp_history *h)
{
    int n = 0;
    for (int64_t id = first_pending(h); id < h->trials.n; id++) {
        n += h->trials.at[id].pending && !h->trials.at[id].observed;
    }
    return n;
}
