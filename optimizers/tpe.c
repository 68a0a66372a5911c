/* SPDX-License-Identifier: Apache-2.0
 *
 * Tree-structured Parzen estimator.
 */
#include "optimizers/parzen.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"
#include "optimizers/tpe_history.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAPER "Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011"

enum tpe_option { OPT_STARTUP, OPT_CANDIDATES, OPT_LIAR, OPT_MIN_POINTS, OPT_RANDOM };

static const struct opt_option tpe_options[] = {
    {"startup", OPT_T_INT, 1, 100000, 10, NULL, "results before the model takes over"},
    {"candidates", OPT_T_INT, 1, 10000, 24, NULL, "points drawn and compared for each trial"},
    {"liar", OPT_T_BOOL, 0, 1, 1, NULL, "running trials count as poor, which spreads new ones"},
    {"min_points", OPT_T_INT, 1, 100000, NAN, NULL,
     "results that a budget needs to be modelled; default: parameters + 1"},
    {"random_fraction", OPT_T_REAL, 0, 1, 0, NULL, "share of trials drawn at random"},
    {0},
};

struct tpe {
    struct sampler_config cfg;
    int64_t startup;
    int candidates;
    bool liar;
    int64_t min_points;
    double random_fraction;
    struct tpe_history history;
    const struct level *level; /* that the model is of; NULL = there is none yet */
    struct parzen good, bad;
    double bad_width;
    double *widths;   /* room for one kernel */
    struct seen **of; /* the points of the kernels in `bad` */
    int cap_of;
    const struct seen **best; /* the points of the kernels in `good` */
    int n_best;
};

static enum mag_status tpe_init(void *self, const struct sampler_config *cfg,
                                const char **ret_pointer, struct mag_err *err)
{
    struct tpe *t = self;
    const double *v = cfg->opt.values;
    t->cfg = *cfg;
    t->startup = (int64_t)v[OPT_STARTUP];
    t->candidates = (int)v[OPT_CANDIDATES];
    t->liar = v[OPT_LIAR] != 0;
    t->min_points = isnan(v[OPT_MIN_POINTS]) ? cfg->opt.space->n + 1 : (int64_t)v[OPT_MIN_POINTS];
    t->random_fraction = v[OPT_RANDOM];
    history_init(&t->history, &t->cfg);
    t->widths = xcalloc((size_t)cfg->opt.space->n, sizeof(*t->widths));
    t->best = xcalloc(TPE_TOP_MAX, sizeof(*t->best));
    parzen_init(&t->good, cfg->opt.space, 1);
    parzen_init(&t->bad, cfg->opt.space, 1);
    return MAG_OK;
}

static void tpe_fini(void *self)
{
    struct tpe *t = self;
    history_fini(&t->history);
    parzen_fini(&t->good);
    parzen_fini(&t->bad);
    free(t->widths);
    free(t->of);
    free(t->best);
}

/* ---- the density of the poor ---- */

/* Smoothed frequencies: every value has a share of the prior. */
static double mix_of(const struct param *p, int n)
{
    double c = p->n_values;
    return c / (c + n + 1);
}

static void set_widths(struct tpe *t, int n, double width)
{
    const struct space *s = t->cfg.opt.space;
    for (int j = 0; j < s->n; j++) {
        const struct param *p = &s->params[j];
        t->widths[j] = parzen_axis(p) == AXIS_CHOICE ? mix_of(p, n) : width;
    }
}

static void poor_take(struct tpe *t, struct seen *s)
{
    if (s->slot > 0) {
        int k = s->slot - 1;
        parzen_drop(&t->bad, k);
        t->of[k] = t->of[t->bad.n];
        t->of[k]->slot = k + 1;
        s->slot = 0;
    }
}

static void poor_put(struct tpe *t, struct seen *s)
{
    if (s->slot > 0) {
        return;
    }
    if (t->bad.n == t->cap_of) {
        t->cap_of = 2 * t->cap_of + 64;
        t->of = xreallocarray(t->of, (size_t)t->cap_of, sizeof(*t->of));
    }
    t->of[t->bad.n] = s;
    parzen_put(&t->bad, t->bad.n, s->u, t->widths, 1);
    s->slot = t->bad.n;
}

static void poor_forget(struct tpe *t)
{
    for (int k = 0; k < t->bad.n; k++) {
        t->of[k]->slot = 0;
    }
    parzen_clear(&t->bad);
}

/* Kernels are narrow, and narrower the more there are: a poor result speaks of its own surroundings
 * only. */
static double poor_width(int n)
{
    return fmin(1, fmax(1.5 / (n + 2), 0.01));
}

static void fit_poor(struct tpe *t, int n_good)
{
    const struct level *l = t->level;
    const struct tpe_history *h = &t->history;
    int n = l->n_top - n_good + l->rest.n + h->failed.n + (t->liar ? h->n_pending : 0);
    double width = poor_width(n);
    if (width != t->bad_width) {
        poor_forget(t);
        t->bad_width = width;
    }
    set_widths(t, n, width);
    for (int k = n_good; k < l->n_top; k++) {
        poor_put(t, l->top[k]);
    }
    for (int k = 0; k < l->rest.n; k++) {
        poor_put(t, l->rest.at[k]);
    }
    for (int k = 0; k < h->failed.n; k++) {
        poor_put(t, h->failed.at[k]);
    }
    for (int k = 0; t->liar && k < h->n_pending; k++) {
        poor_put(t, h->pending[k]);
    }
}

/* ---- the density of the good ---- */

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The larger of the distances to the neighbours among n sorted places. */
static double gap(const double *sorted, int n, double u)
{
    int i = 0;
    while (i < n - 1 && sorted[i] < u) {
        i++;
    }
    double left = i > 0 ? sorted[i] - sorted[i - 1] : 0;
    double right = i < n - 1 ? sorted[i + 1] - sorted[i] : 0;
    return n > 1 ? fmax(left, right) : fmax(u, 1 - u);
}

static void fit_good(struct tpe *t, int n)
{
    const struct space *s = t->cfg.opt.space;
    double lo = .25 / fmin(100, 2.0 + n);
    double *sorted = xcalloc((size_t)n * (size_t)s->n, sizeof(*sorted));
    int *count = xcalloc((size_t)s->n, sizeof(*count));
    for (int j = 0; j < s->n; j++) {
        for (int k = 0; k < n; k++) {
            double u = t->best[k]->u[j];
            if (!isnan(u)) {
                sorted[j * n + count[j]++] = u;
            }
        }
        qsort(sorted + (size_t)j * (size_t)n, (size_t)count[j], sizeof(*sorted), by_double);
    }
    parzen_clear(&t->good);
    for (int k = 0; k < n; k++) {
        set_widths(t, n, 1);
        for (int j = 0; j < s->n; j++) {
            double u = t->best[k]->u[j];
            if (parzen_axis(&s->params[j]) != AXIS_CHOICE && !isnan(u)) {
                t->widths[j] = fmin(1, fmax(lo, gap(sorted + (size_t)j * (size_t)n, count[j], u)));
            }
        }
        parzen_put(&t->good, k, t->best[k]->u, t->widths, 1);
    }
    free(sorted);
    free(count);
}

/* ---- the model ---- */

static const struct level *level_of_model(const struct tpe *t)
{
    const struct tpe_history *h = &t->history;
    int64_t need = h->n_levels == 1 ? t->startup : t->min_points;
    for (int i = h->n_levels; i-- > 0;) {
        if (h->levels[i]->n >= need) {
            return h->levels[i];
        }
    }
    return NULL;
}

static int good_count(int64_t n)
{
    return (int)fmin(25, ceil(0.1 * (double)n));
}

/* Makes the model what the history says. */
static void refresh(struct tpe *t)
{
    const struct level *l = level_of_model(t);
    if (l != t->level) {
        poor_forget(t);
        t->level = l;
        t->n_best = 0;
    }
    if (l == NULL) {
        return;
    }
    int n = good_count(l->n);
    bool same = n == t->n_best;
    for (int k = 0; k < n; k++) {
        poor_take(t, l->top[k]);
        same = same && t->best[k] == l->top[k];
        t->best[k] = l->top[k];
    }
    t->n_best = n;
    if (!same) {
        fit_good(t, n);
    }
    fit_poor(t, n);
}

/* ---- being told ---- */

static void drop(struct tpe *t, struct seen *s)
{
    if (s != NULL) {
        poor_take(t, s);
        free(s);
    }
}

static void tpe_pending(void *self, int64_t trial, const double *point)
{
    struct tpe *t = self;
    history_start(&t->history, trial, point);
    refresh(t);
}

static void tpe_observe(void *self, int64_t trial, int64_t budget, const struct opt_result *r)
{
    struct tpe *t = self;
    struct seen *s = history_live(&t->history, trial);
    if (s != NULL) {
        history_settle(&t->history, trial);
        poor_take(t, s);
        drop(t, history_add(&t->history, budget, history_copy(&t->history, s, trial, r)));
        refresh(t);
    }
}

static void tpe_ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct tpe *t = self;
    struct seen *s = history_end(&t->history, trial);
    if (s == NULL) {
        return;
    }
    poor_take(t, s);
    drop(t, outcome == OPT_FAILED ? history_fail(&t->history, s) : s);
    refresh(t);
}

static void tpe_others(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct tpe *t = self;
    struct seen *s = history_place(&t->history, point);
    s->order = INT64_MIN + t->history.n_others++;
    s->value = r->value;
    s->violation = r->violation;
    drop(t, history_add(&t->history, budget, s));
    refresh(t);
}

/* ---- proposing ---- */

/* Latin hypercube: in each round of `startup` trials every coordinate visits each of its equal
 * pieces once. */
static void propose_startup(const struct tpe *t, int64_t trial, uint32_t attempt, double *point)
{
    const struct space *s = t->cfg.opt.space;
    struct pcg64 g;
    if (attempt > 0) {
        space_sample(s, t->cfg.opt.seed, t->cfg.purpose, sampler_stream(trial, attempt), point);
        return;
    }
    uint32_t n = (uint32_t)fmin((double)t->startup, 1000);
    uint32_t round = (uint32_t)((uint64_t)(trial - 1) / n);
    uint32_t at = (uint32_t)((uint64_t)(trial - 1) % n);
    uint32_t *perm = xcalloc(n, sizeof(*perm));
    history_stream(&t->history, "startup", round, &g);
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        for (uint32_t k = 0; k < n; k++) {
            perm[k] = k;
        }
        pcg64_shuffle(&g, perm, n);
        struct pcg64 own;
        history_stream(&t->history, s->params[j].name, (uint64_t)trial, &own);
        double u = (perm[at] + pcg64_double(&own)) / n;
        point[j] = space_is_active(s, point, j) ? param_from_unit(&s->params[j], u) : NAN;
    }
    free(perm);
}

static void propose_model(const struct tpe *t, struct pcg64 *g, double *point)
{
    const struct space *s = t->cfg.opt.space;
    double *scratch = xcalloc(parzen_room(&t->bad) + parzen_room(&t->good), sizeof(*scratch));
    double *x = xcalloc((size_t)s->n, sizeof(*x));
    struct parzen_spot *at = xcalloc((size_t)s->n, sizeof(*at));
    double best = -INFINITY;
    int n = t->candidates;
    for (int k = 0; k < n; k++) {
        parzen_sample(&t->good, g, x);
        parzen_locate(s, x, at);
        double a =
            parzen_log_density(&t->good, at, scratch) - parzen_log_density(&t->bad, at, scratch);
        if (k == 0 || a > best) {
            best = a;
            memcpy(point, x, (size_t)s->n * sizeof(*x));
        }
    }
    free(scratch);
    free(x);
    free(at);
}

static void tpe_propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct tpe *t = self;
    struct pcg64 g;
    history_stream(&t->history, "propose", sampler_stream(trial, attempt), &g);
    if (t->level == NULL || pcg64_double(&g) < t->random_fraction) {
        propose_startup(t, trial, attempt, point);
        return;
    }
    propose_model(t, &g, point);
}

const struct sampler_ops tpe_sampler = {
    .name = "tpe",
    .summary = "tree-structured Parzen estimator",
    .paper = PAPER,
    .caps = OPT_CAP_OUTCOME,
    .options = tpe_options,
    .version = 1,
    .state_size = sizeof(struct tpe),
    .init = tpe_init,
    .fini = tpe_fini,
    .propose = tpe_propose,
    .pending = tpe_pending,
    .observe = tpe_observe,
    .ended = tpe_ended,
    .others = tpe_others,
};

static enum mag_status search_of_tpe(void *self, const struct opt_config *cfg,
                                     const char **ret_pointer, struct mag_err *err)
{
    return search_init(self, &tpe_sampler, cfg, ret_pointer, err);
}

const struct optimizer_ops tpe_ops = {
    .name = "tpe",
    .summary = "tree-structured Parzen estimator",
    .paper = PAPER,
    .caps = OPT_CAP_OUTCOME,
    .options = tpe_options,
    .version = 1,
    .init = search_of_tpe,
    SEARCH_OPS,
};
