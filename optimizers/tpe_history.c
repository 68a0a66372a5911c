/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/tpe_history.h"

#include "optimizers/pareto.h"
#include "optimizers/parzen.h"

#include <math.h>
#include <stdio.h>

void history_init(struct tpe_history *h, const struct sampler_config *cfg)
{
    *h = (struct tpe_history){.cfg = cfg};
}

static void pool_fini(struct tpe_pool *p)
{
    for (int k = 0; k < p->n; k++) {
        free(p->at[k]);
    }
}

void history_fini(struct tpe_history *h)
{
    for (int i = 0; i < h->n_levels; i++) {
        for (int k = 0; k < h->levels[i]->n_top; k++) {
            free(h->levels[i]->top[k]);
        }
        pool_fini(&h->levels[i]->rest);
        free(h->levels[i]);
    }
    for (int64_t i = 0; i < h->live.n; i++) {
        free(h->live.at[i]);
    }
    pool_fini(&h->failed);
    free(h->live.at);
    free(h->pending);
    free(h->levels);
}

void history_stream(const struct tpe_history *h, const char *what, uint64_t id, struct pcg64 *g)
{
    char purpose[SPACE_NAME_MAX + 64];
    (void)snprintf(purpose, sizeof(purpose), "%s:tpe:%s", h->cfg->purpose, what);
    pcg_stream(g, h->cfg->opt.seed, purpose, id);
}

/* ---- points ---- */

static size_t point_size(const struct tpe_history *h)
{
    int n = h->cfg->opt.space->n + h->cfg->opt.objectives;
    return sizeof(struct tpe_point) + (size_t)n * sizeof(double);
}

struct tpe_point *history_place(const struct tpe_history *h, const double *point)
{
    const struct space *s = h->cfg->opt.space;
    struct tpe_point *new = xcalloc(1, point_size(h));
    struct parzen_spot *at = xcalloc((size_t)s->n, sizeof(*at));
    parzen_locate(s, point, at);
    for (int j = 0; j < s->n; j++) {
        new->u[j] = at[j].u;
    }
    free(at);
    return new;
}

struct tpe_point *history_copy(const struct tpe_history *h, const struct tpe_point *s)
{
    struct tpe_point *c = xcalloc(1, point_size(h));
    memcpy(c, s, point_size(h));
    c->slot = 0;
    return c;
}

void history_value(const struct tpe_history *h, struct tpe_point *s, int64_t order,
                   const struct opt_result *r)
{
    s->order = order;
    s->value = r->value;
    s->violation = r->violation;
    memcpy(s->u + h->cfg->opt.space->n, r->values, (size_t)h->cfg->opt.objectives * sizeof(double));
}

/* ---- trials ---- */

void history_start(struct tpe_history *h, int64_t trial, const double *point)
{
    if (history_live(h, trial) != NULL) {
        return;
    }
    *tpe_tab_of(&h->live, trial) = history_place(h, point);
    if (h->n_pending == h->cap_pending) {
        h->cap_pending = 2 * h->cap_pending + 16;
        h->pending = xreallocarray(h->pending, (size_t)h->cap_pending, sizeof(struct tpe_point *));
    }
    h->pending[h->n_pending++] = history_live(h, trial);
}

struct tpe_point *history_live(struct tpe_history *h, int64_t trial)
{
    return *tpe_tab_of(&h->live, trial);
}

void history_settle(struct tpe_history *h, int64_t trial)
{
    const struct tpe_point *s = history_live(h, trial);
    for (int k = 0; k < h->n_pending; k++) {
        if (h->pending[k] == s) {
            memmove(h->pending + k, h->pending + k + 1,
                    (size_t)(h->n_pending - k - 1) * sizeof(struct tpe_point *));
            h->n_pending--;
            return;
        }
    }
}

struct tpe_point *history_end(struct tpe_history *h, int64_t trial)
{
    struct tpe_point *s = history_live(h, trial);
    history_settle(h, trial);
    *tpe_tab_of(&h->live, trial) = NULL;
    return s;
}

/* ---- results ---- */

static struct tpe_point *pool_add(const struct tpe_history *h, struct tpe_pool *p,
                                  struct tpe_point *s, const char *what, int64_t budget)
{
    int64_t n = p->told++;
    if (p->n < TPE_POOL_MAX) {
        p->at[p->n++] = s;
        return NULL;
    }
    char purpose[64];
    struct pcg64 g;
    (void)snprintf(purpose, sizeof(purpose), "%s:%lld", what, (long long)budget);
    history_stream(h, purpose, (uint64_t)n, &g);
    uint64_t k = pcg64_below(&g, (uint64_t)n + 1);
    if (k >= TPE_POOL_MAX) {
        return s;
    }
    struct tpe_point *out = p->at[k];
    p->at[k] = s;
    return out;
}

struct tpe_point *history_fail(struct tpe_history *h, struct tpe_point *s)
{
    return pool_add(h, &h->failed, s, "failed", 0);
}

static struct tpe_level *level_at(struct tpe_history *h, int64_t budget)
{
    int i = 0;
    while (i < h->n_levels && h->levels[i]->budget < budget) {
        i++;
    }
    if (i == h->n_levels || h->levels[i]->budget != budget) {
        h->levels = xreallocarray(h->levels, (size_t)h->n_levels + 1, sizeof(struct tpe_level *));
        memmove(h->levels + i + 1, h->levels + i,
                (size_t)(h->n_levels - i) * sizeof(struct tpe_level *));
        h->n_levels++;
        h->levels[i] = xcalloc(1, sizeof(struct tpe_level));
        h->levels[i]->budget = budget;
    }
    return h->levels[i];
}

static bool better(const struct tpe_point *a, const struct tpe_point *b)
{
    if (a->violation != b->violation) {
        return a->violation < b->violation;
    }
    return a->value != b->value ? a->value < b->value : a->order < b->order;
}

int history_good(const struct tpe_history *h, const struct tpe_level *l)
{
    double most = h->cfg->opt.objectives > 1 ? (double)TPE_TOP_MAX / 2 : TPE_GOOD_MAX;
    double n = (double)l->n;
    return (int)fmin(most, fmax(ceil(n / 10), fmin(3, ceil(n / 3))));
}

/* ---- several objectives ---- */

/* The rows of l->top as pareto.h wants them. */
struct rows {
    int n, m;
    double *values, *violations;
    int *ranks;
};

static struct rows rows_of(const struct tpe_history *h, const struct tpe_level *l)
{
    int m = h->cfg->opt.objectives;
    size_t n = (size_t)l->n_top;
    struct rows r = {.n = l->n_top,
                     .m = m,
                     .values = xcalloc(n * (size_t)m, sizeof(double)),
                     .violations = xcalloc(n, sizeof(double)),
                     .ranks = xcalloc(n, sizeof(int))};
    for (int k = 0; k < r.n; k++) {
        memcpy(r.values + k * m, l->top[k]->u + h->cfg->opt.space->n, (size_t)m * sizeof(double));
        r.violations[k] = l->top[k]->violation;
    }
    pareto_ranks(r.values, r.violations, r.n, m, r.ranks);
    return r;
}

static void rows_fini(struct rows *r)
{
    free(r->values);
    free(r->violations);
    free(r->ranks);
}

/* A little beyond the worst of the members in every objective. */
static void reference_of(const struct rows *r, const int *members, int n, double *reference)
{
    for (int i = 0; i < r->m; i++) {
        double lo = INFINITY;
        double hi = -INFINITY;
        for (int k = 0; k < n; k++) {
            lo = fmin(lo, r->values[members[k] * r->m + i]);
            hi = fmax(hi, r->values[members[k] * r->m + i]);
        }
        reference[i] = hi + 0.1 * (hi - lo) + 1e-12;
    }
}

/* Moves the `want` members whose hypervolume together is largest to the front, greedily. What a
 * member adds only shrinks as others are taken, so a stale gain is an upper bound: it is computed
 * anew only for the one that leads. */
static void choose_by_volume(const struct rows *r, int *members, int n, int want)
{
    double reference[OPT_OBJECTIVES_MAX];
    double *taken = xcalloc((size_t)(want + 1) * (size_t)r->m, sizeof(*taken));
    double *gain = xcalloc((size_t)n, sizeof(*gain));
    double volume = 0;
    reference_of(r, members, n, reference);
    for (int k = 0; k < n; k++) {
        gain[k] = INFINITY;
    }
    for (int t = 0; t < want; t++) {
        for (bool fresh = false; !fresh;) {
            int lead = t;
            for (int k = t + 1; k < n; k++) {
                lead = gain[k] > gain[lead] ? k : lead;
            }
            memcpy(taken + t * r->m, r->values + members[lead] * r->m,
                   (size_t)r->m * sizeof(*taken));
            double now = pareto_hypervolume(taken, t + 1, r->m, reference) - volume;
            double next = -INFINITY;
            for (int k = t; k < n; k++) {
                next = k != lead ? fmax(next, gain[k]) : next;
            }
            fresh = now >= next;
            gain[lead] = now;
            if (fresh) {
                int chosen = members[lead];
                members[lead] = members[t];
                members[t] = chosen;
                gain[lead] = gain[t];
                volume += now;
            }
        }
    }
    free(taken);
    free(gain);
}

static void order_by_crowding(const struct rows *r, int *members, int n)
{
    double *distance = xcalloc((size_t)n, sizeof(*distance));
    pareto_crowding(r->values, r->m, members, n, distance);
    for (int k = 1; k < n; k++) {
        int who = members[k];
        double d = distance[k];
        int i = k;
        for (; i > 0 && distance[i - 1] < d; i--) {
            members[i] = members[i - 1];
            distance[i] = distance[i - 1];
        }
        members[i] = who;
        distance[i] = d;
    }
    free(distance);
}

/* Puts l->top in order: front by front, inside a front by crowding, or by volume where the good
 * ones end. */
static void order_fronts(const struct tpe_history *h, struct tpe_level *l)
{
    struct rows r = rows_of(h, l);
    int good = history_good(h, l);
    int *order = xcalloc((size_t)r.n, sizeof(*order));
    int done = 0;
    for (int front = 0; done < r.n; front++) {
        int n = 0;
        for (int k = 0; k < r.n; k++) {
            if (r.ranks[k] == front) {
                order[done + n++] = k;
            }
        }
        if (r.m <= 3 && done < good && done + n > good) {
            choose_by_volume(&r, order + done, n, good - done);
        } else {
            order_by_crowding(&r, order + done, n);
        }
        done += n;
    }
    struct tpe_point *top[TPE_TOP_MAX + 1];
    for (int k = 0; k < r.n; k++) {
        top[k] = l->top[order[k]];
    }
    memcpy(l->top, top, (size_t)r.n * sizeof(struct tpe_point *));
    free(order);
    rows_fini(&r);
}

struct tpe_point *history_add(struct tpe_history *h, int64_t budget, struct tpe_point *s)
{
    struct tpe_level *l = level_at(h, budget);
    int k = l->n_top++;
    bool several = h->cfg->opt.objectives > 1;
    for (; !several && k > 0 && better(s, l->top[k - 1]); k--) {
        l->top[k] = l->top[k - 1];
    }
    l->top[k] = s;
    l->n++;
    h->n++;
    if (several) {
        order_fronts(h, l);
    }
    if (l->n_top <= TPE_TOP_MAX) {
        return NULL;
    }
    return pool_add(h, &l->rest, l->top[--l->n_top], "rest", budget);
}
