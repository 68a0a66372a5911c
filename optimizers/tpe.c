/* SPDX-License-Identifier: Apache-2.0
 *
 * Tree-structured Parzen estimator: what it is told goes to a history, two densities follow the
 * history (tpe_model.h), and a trial gets, of `candidates` points drawn from the density l of the
 * good ones, that with the greatest l / g, where g is the density of the poor ones. After Watanabe,
 * arXiv 2304.11127 (2023), kernels are multivariate; the constant liar counts pending points as
 * poor. The budget that is modelled is BOHB's (Falkner et al., ICML 2018).
 */
#include "optimizers/quasi.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"
#include "optimizers/tpe_model.h"
#include "space/constraint.h"

#include <math.h>
#include <string.h>

#define PAPER "Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011"
#define WIDE 0.2 /* share of the trials that look further away */
#define MIN_POINTS                                                                                 \
    30          /* fewest results that a budget's model is made of, however few parameters         \
                 */
#define DRAWS 8 /* times candidates: draws to find as many that meet the constraints */

enum tpe_option { OPT_STARTUP, OPT_CANDIDATES, OPT_LIAR, OPT_MIN_POINTS, OPT_RANDOM };

static const struct opt_option tpe_options[] = {
    {"startup", OPT_T_INT, 1, 100000, 10, NULL, "results before the model takes over"},
    {"candidates", OPT_T_INT, 1, 10000, 24, NULL, "points drawn and compared for each trial"},
    {"liar", OPT_T_BOOL, 0, 1, 1, NULL, "running trials count as poor, which spreads new ones"},
    {"min_points", OPT_T_INT, 1, 100000, NAN, NULL,
     "results that a budget needs to be modelled; default: parameters + 1, at least 30"},
    {"random_fraction", OPT_T_REAL, 0, 1, 0, NULL, "share of trials drawn at random"},
    {0},
};

struct tpe {
    struct sampler_config cfg;
    int64_t startup, min_points;
    int candidates;
    double random_fraction;
    struct quasi *design;
    bool *parents; /* which parameters others depend on; NULL = none */
    struct tpe_history history;
    struct tpe_model model;
};

static bool *parents_of(const struct space *s)
{
    bool *parents = NULL;
    for (int j = 0; j < s->n; j++) {
        if (s->params[j].parent >= 0) {
            parents = parents != NULL ? parents : xcalloc((size_t)s->n, sizeof(*parents));
            parents[s->params[j].parent] = true;
        }
    }
    return parents;
}

static enum mag_status tpe_init(void *self, const struct sampler_config *cfg,
                                const char **ret_pointer, struct mag_err *err)
{
    struct tpe *t = self;
    const double *v = cfg->opt.values;
    t->cfg = *cfg;
    t->startup = (int64_t)v[OPT_STARTUP];
    t->candidates = (int)v[OPT_CANDIDATES];
    t->min_points = (int64_t)(isnan(v[OPT_MIN_POINTS]) ? fmax(cfg->opt.space->n + 1, MIN_POINTS)
                                                       : v[OPT_MIN_POINTS]);
    t->random_fraction = v[OPT_RANDOM];
    t->design =
        quasi_create(QUASI_LHS, cfg->opt.space, cfg->opt.seed, cfg->purpose, (uint64_t)t->startup);
    t->parents = parents_of(cfg->opt.space);
    history_init(&t->history, &t->cfg);
    model_init(&t->model, &t->cfg, v[OPT_LIAR] != 0);
    return MAG_OK;
}

static void tpe_fini(void *self)
{
    struct tpe *t = self;
    quasi_destroy(t->design);
    free(t->parents);
    model_fini(&t->model);
    history_fini(&t->history);
}

/* ---- being told ---- */

/* The highest budget that has enough results; else the one with most of them. */
static const struct tpe_level *level_of_model(const struct tpe *t)
{
    const struct tpe_history *h = &t->history;
    const struct tpe_level *most = NULL;
    if (h->n < t->startup) {
        return NULL;
    }
    for (int i = h->n_levels; i-- > 0;) {
        if (h->levels[i]->n >= t->min_points) {
            return h->levels[i];
        }
        most = most == NULL || h->levels[i]->n > most->n ? h->levels[i] : most;
    }
    return most;
}

static void follow(struct tpe *t)
{
    model_follow(&t->model, &t->history, level_of_model(t));
}

static void drop(struct tpe *t, struct tpe_point *s)
{
    model_forget(&t->model, s);
    free(s);
}

static void add(struct tpe *t, int64_t budget, struct tpe_point *s)
{
    struct tpe_point *out = history_add(&t->history, budget, s);
    if (t->model.level != NULL && t->model.level->budget == budget) {
        model_learn(&t->model, &t->history, s);
    }
    drop(t, out);
    follow(t);
}

static void tpe_pending(void *self, int64_t trial, const double *point)
{
    struct tpe *t = self;
    history_start(&t->history, trial, point);
    follow(t);
}

static void tpe_observe(void *self, int64_t trial, int64_t budget, const struct opt_result *r)
{
    struct tpe *t = self;
    struct tpe_point *s = history_live(&t->history, trial);
    if (s == NULL) {
        return;
    }
    history_settle(&t->history, trial);
    model_forget(&t->model, s);
    struct tpe_point *c = history_copy(&t->history, s);
    history_value(&t->history, c, trial, r);
    add(t, budget, c);
}

/* A failed point is a poor one: what crashes or diverges is to be avoided. A cancelled one says
 * nothing. */
static void tpe_ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct tpe *t = self;
    struct tpe_point *s = history_end(&t->history, trial);
    if (s == NULL) {
        return;
    }
    model_forget(&t->model, s);
    drop(t, outcome == OPT_FAILED ? history_fail(&t->history, s) : s);
    follow(t);
}

static void tpe_others(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct tpe *t = self;
    struct tpe_point *s = history_place(&t->history, point);
    history_value(&t->history, s, INT64_MIN + t->history.n_others++, r);
    add(t, budget, s);
}

/* ---- proposing ---- */

/* Where l is drawn from and compared: close by, or wide. Fronts have no one centre: wide alone. */
static const struct parzen *density(const struct tpe *t, struct pcg64 *g)
{
    bool wide = pcg64_double(g) < WIDE || t->cfg.opt.objectives > 1;
    return wide ? &t->model.wide : &t->model.close;
}

/* One candidate that meets the constraints, if `left` draws find one. */
static void draw(const struct tpe *t, const struct parzen *l, struct pcg64 *g, int *left, double *x)
{
    do {
        parzen_sample(l, g, t->parents, x);
    } while (--*left > 0 && !space_is_feasible(t->cfg.opt.space, x));
}

/* Is there a candidate before the k-th with the same point? */
static bool repeats(const struct space *s, const double *xs, int k)
{
    for (int i = 0; i < k; i++) {
        if (space_point_equal(s, xs + (ptrdiff_t)i * s->n, xs + (ptrdiff_t)k * s->n)) {
            return true;
        }
    }
    return false;
}

/* The candidate with the greatest ratio; `skip` of the best were refused as repetitions. */
static int pick(double *ratio, int n, uint32_t skip)
{
    int best = 0;
    for (uint32_t round = 0; round <= skip; round++) {
        best = 0;
        for (int k = 1; k < n; k++) {
            best = ratio[k] > ratio[best] ? k : best;
        }
        if (round < skip) {
            ratio[best] = -INFINITY;
        }
    }
    return best;
}

/* Which branch of a conditional space to look into is a question of its own: the parameters that
 * others depend on are settled first, by their own ratio. In one ratio over everything, a branch
 * that holds a few good points would win against all that has not been looked at closely. */
static void settle_parents(const struct tpe *t, const struct parzen *l, struct pcg64 *g,
                           double *point)
{
    int n = t->cfg.opt.space->n;
    const struct parzen *poor = &t->model.poor;
    double *scratch = xcalloc(parzen_room(l) + parzen_room(poor), sizeof(*scratch));
    double *x = xcalloc((size_t)n, sizeof(*x));
    struct parzen_spot *at = xcalloc((size_t)n, sizeof(*at));
    double best = -INFINITY;
    for (int k = 0; k < t->candidates; k++) {
        parzen_sample(l, g, NULL, x);
        parzen_locate(t->cfg.opt.space, x, at);
        double ratio = parzen_log_margin(l, at, t->parents, scratch) -
                       parzen_log_margin(poor, at, t->parents, scratch);
        if (k == 0 || ratio > best) {
            best = ratio;
            memcpy(point, x, (size_t)n * sizeof(*x));
        }
    }
    free(scratch);
    free(x);
    free(at);
}

static void propose_model(const struct tpe *t, struct pcg64 *g, uint32_t skip, double *point)
{
    const struct space *s = t->cfg.opt.space;
    const struct parzen *l = density(t, g);
    const struct parzen *poor = &t->model.poor;
    size_t n = (size_t)t->candidates;
    double *scratch = xcalloc(parzen_room(l) + parzen_room(poor), sizeof(*scratch));
    double *xs = xcalloc(n * (size_t)s->n, sizeof(*xs));
    double *ratio = xcalloc(n, sizeof(*ratio));
    struct parzen_spot *at = xcalloc((size_t)s->n, sizeof(*at));
    int left = DRAWS * t->candidates;
    if (t->parents != NULL) {
        settle_parents(t, l, g, point);
    }
    for (int k = 0; k < t->candidates; k++) {
        double *x = xs + (ptrdiff_t)k * s->n;
        memcpy(x, point, (size_t)s->n * sizeof(*x));
        draw(t, l, g, &left, x);
        parzen_locate(s, x, at);
        ratio[k] = skip > 0 && repeats(s, xs, k)
                       ? -INFINITY
                       : parzen_log_density(l, at, scratch) - parzen_log_density(poor, at, scratch);
    }
    int best = pick(ratio, t->candidates, skip);
    memcpy(point, xs + (ptrdiff_t)best * s->n, (size_t)s->n * sizeof(*point));
    free(scratch);
    free(xs);
    free(ratio);
    free(at);
}

/* An attempt is the next best candidate of the same draw. */
static void tpe_propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct tpe *t = self;
    struct pcg64 g;
    history_stream(&t->history, "propose", (uint64_t)trial, &g);
    bool random = pcg64_double(&g) < t->random_fraction;
    if (t->model.level != NULL && !random) {
        propose_model(t, &g, attempt, point);
    } else if (random || attempt > 0) {
        space_sample(t->cfg.opt.space, t->cfg.opt.seed, t->cfg.purpose,
                     sampler_stream(trial, attempt), point);
    } else {
        quasi_point(t->design, (uint64_t)trial - 1, point);
    }
}

#define CAPS (OPT_CAP_OUTCOME | OPT_CAP_MULTI)

/* As a search of its own and as a sampler of others. */
#define IDENTITY                                                                                   \
    .name = "tpe", .summary = "tree-structured Parzen estimator", .paper = PAPER, .caps = CAPS,    \
    .options = tpe_options, .version = 2

const struct sampler_ops tpe_sampler = {
    IDENTITY,
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
    IDENTITY,
    .init = search_of_tpe,
    SEARCH_OPS,
};
