/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/tpe_history.h"

#include "optimizers/parzen.h"

#include <stdio.h>

void history_init(struct tpe_history *h, const struct sampler_config *cfg)
{
    *h = (struct tpe_history){.cfg = cfg};
}

static void pool_fini(struct pool *p)
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

static size_t seen_size(const struct tpe_history *h)
{
    return sizeof(struct seen) + (size_t)h->cfg->opt.space->n * sizeof(double);
}

struct seen *history_place(const struct tpe_history *h, const double *point)
{
    const struct space *s = h->cfg->opt.space;
    struct seen *seen = xcalloc(1, seen_size(h));
    struct parzen_spot *at = xcalloc((size_t)s->n, sizeof(*at));
    parzen_locate(s, point, at);
    for (int j = 0; j < s->n; j++) {
        seen->u[j] = at[j].u;
    }
    free(at);
    return seen;
}

struct seen *history_copy(const struct tpe_history *h, const struct seen *s, int64_t order,
                          const struct opt_result *r)
{
    struct seen *c = xcalloc(1, seen_size(h));
    memcpy(c, s, seen_size(h));
    c->order = order;
    c->value = r->value;
    c->violation = r->violation;
    c->slot = 0;
    return c;
}

/* ---- trials ---- */

void history_start(struct tpe_history *h, int64_t trial, const double *point)
{
    if (history_live(h, trial) != NULL) {
        return;
    }
    *seen_tab_of(&h->live, trial) = history_place(h, point);
    if (h->n_pending == h->cap_pending) {
        h->cap_pending = 2 * h->cap_pending + 16;
        h->pending = xreallocarray(h->pending, (size_t)h->cap_pending, sizeof(struct seen *));
    }
    h->pending[h->n_pending++] = history_live(h, trial);
}

struct seen *history_live(struct tpe_history *h, int64_t trial)
{
    return *seen_tab_of(&h->live, trial);
}

void history_settle(struct tpe_history *h, int64_t trial)
{
    const struct seen *s = history_live(h, trial);
    for (int k = 0; k < h->n_pending; k++) {
        if (h->pending[k] == s) {
            memmove(h->pending + k, h->pending + k + 1,
                    (size_t)(h->n_pending - k - 1) * sizeof(struct seen *));
            h->n_pending--;
            return;
        }
    }
}

struct seen *history_end(struct tpe_history *h, int64_t trial)
{
    struct seen *s = history_live(h, trial);
    history_settle(h, trial);
    *seen_tab_of(&h->live, trial) = NULL;
    return s;
}

/* ---- results ---- */

static struct seen *pool_add(const struct tpe_history *h, struct pool *p, struct seen *s,
                             const char *what, int64_t budget)
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
    struct seen *out = p->at[k];
    p->at[k] = s;
    return out;
}

struct seen *history_fail(struct tpe_history *h, struct seen *s)
{
    return pool_add(h, &h->failed, s, "failed", 0);
}

static struct level *level_at(struct tpe_history *h, int64_t budget)
{
    int i = 0;
    while (i < h->n_levels && h->levels[i]->budget < budget) {
        i++;
    }
    if (i == h->n_levels || h->levels[i]->budget != budget) {
        h->levels = xreallocarray(h->levels, (size_t)h->n_levels + 1, sizeof(struct level *));
        memmove(h->levels + i + 1, h->levels + i,
                (size_t)(h->n_levels - i) * sizeof(struct level *));
        h->n_levels++;
        h->levels[i] = xcalloc(1, sizeof(struct level));
        h->levels[i]->budget = budget;
    }
    return h->levels[i];
}

static bool better(const struct seen *a, const struct seen *b)
{
    if (a->violation != b->violation) {
        return a->violation < b->violation;
    }
    return a->value != b->value ? a->value < b->value : a->order < b->order;
}

struct seen *history_add(struct tpe_history *h, int64_t budget, struct seen *s)
{
    struct level *l = level_at(h, budget);
    int k = l->n_top;
    for (; k > 0 && better(s, l->top[k - 1]); k--) {
        l->top[k] = l->top[k - 1];
    }
    l->top[k] = s;
    l->n++;
    if (l->n_top < TPE_TOP_MAX) {
        l->n_top++;
        return NULL;
    }
    return pool_add(h, &l->rest, l->top[TPE_TOP_MAX], "rest", budget);
}
