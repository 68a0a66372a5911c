/* SPDX-License-Identifier: Apache-2.0
 *
 * CMA-ES for trials that come and go in any order. A run begins with a quasi-random design; its
 * best point becomes the mean. Then generation by generation: a pool of lambda points is drawn,
 * askers get them in the order of the model's guess, and beyond them further draws of the same
 * distribution. When the model ranks points as the results do, or lambda results are there, the
 * distribution is updated from the ranked generation and the next pool is drawn; nobody waits. A
 * result of a trial that was drawn earlier, or that came from elsewhere, counts in the generation
 * in which it arrives, as an injected point: with a step no longer than this distribution takes. A
 * failed trial ranks last, a cancelled one does not count.
 */
#include "base/alloc.h"
#include "optimizers/cma_axes.h"
#include "optimizers/cma_model.h"
#include "optimizers/cma_restart.h"
#include "optimizers/eigen.h"
#include "optimizers/idtab.h"
#include "optimizers/quasi.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"
#include "space/constraint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAPER "Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772 (2016)"

#define RESAMPLE 4     /* draws for one point before what lies outside is moved to the wall */
#define FULL_MAX 100   /* variant auto: coordinates with a full C */
#define START_BEST 3   /* points of the design that make the first mean */
#define TAU_ENOUGH 0.7 /* rank correlation at which the model may stand in */
#define TAU_VALUES 15  /* over so many values at least */
#define SEEK 16        /* draws among which a recorded point is looked for */

enum {
    OPT_POPULATION,
    OPT_SIGMA,
    OPT_INITIAL,
    OPT_VARIANT,
    OPT_RESTARTS,
    OPT_MODEL,
    OPT_LEARNING_RATE,
};

static const char *const variants[] = {"auto", "full", "separable", NULL};
static const char *const restarts[] = {"none", "ipop", "bipop", NULL};
static const char *const models[] = {"quadratic", "none", NULL};
static const char *const learning_rates[] = {"fixed", "adaptive", NULL};

static const struct opt_option cmaes_options[] = {
    {"population", OPT_T_INT, 4, CMA_POPULATION_MAX, NAN, NULL,
     "trials of a generation; default: 4 + 3 ln n"},
    {"sigma", OPT_T_REAL, 1e-6, 10, 0.2, NULL,
     "first standard deviation, as a part of each parameter's range"},
    {"initial", OPT_T_INT, 1, 1e6, NAN, NULL,
     "quasi-random trials before the first generation; default: the population"},
    {"variant", OPT_T_ENUM, 0, 0, 0, variants,
     "a full covariance matrix, or its diagonal alone; auto: full up to 100 parameters"},
    {"restarts", OPT_T_ENUM, 0, 0, 2, restarts,
     "what follows a run that has converged: none, larger populations, or larger and smaller"},
    {"model", OPT_T_ENUM, 0, 0, 0, models,
     "a model of the values that spares trials; only where all parameters are numbers without "
     "conditions"},
    {"learning_rate", OPT_T_ENUM, 0, 0, 0, learning_rates,
     "adaptive: slower the noisier the values are, for long searches"},
    {0},
};

/* One draw. */
struct draw {
    double *x;    /* n coordinates */
    uint32_t *v;  /* value indices of the lists */
    bool foreign; /* not of this distribution: repaired, the model's, or from elsewhere */
};

/* A place of the pool. */
struct place {
    struct draw d;
    bool given; /* to a trial */
    bool told;  /* its result is among `results` */
};

struct cmaes_trial {
    struct draw d;
    int64_t generation; /* that it was drawn in; 0: the design, or from elsewhere */
    int place;          /* in the pool, -1 = beyond it */
    bool has_value;
    double value, violation;
};

IDTAB(cmaes_trials, struct cmaes_trial)

struct result {
    struct draw d;
    int64_t trial;
    bool failed;
    double value, violation;
};

/* A trial of an earlier experiment. */
struct other {
    struct draw d;
    double value, violation;
};

struct cmaes {
    const struct space *space;
    uint64_t seed;
    const char *purpose;
    struct cma_axes axes;
    struct cma dist;
    struct cma_restart restart;
    struct cma_model model;
    bool with_model;
    struct quasi *quasi;
    int64_t design;     /* results before the first generation */
    uint64_t designed;  /* points of the design given out */
    int64_t generation; /* 0: the design; over all runs */
    struct place *pool;
    int n_pool, room;
    int *order;      /* of the pool: best guess first */
    uint32_t beyond; /* draws beyond the pool given out */
    struct result *results;
    int n_results, results_room;
    int check;   /* results at which the model is judged next */
    double best; /* feasible value */
    struct cmaes_trials trials;
    struct other *others; /* best first */
    int64_t n_others, others_room;
    int64_t others_budget;
};

/* ---- memory ---- */

static struct draw new_draw(const struct cmaes *s)
{
    return (struct draw){
        .x = xcalloc((size_t)s->axes.n + 1, sizeof(double)),
        .v = xcalloc((size_t)s->axes.n_lists + 1, sizeof(uint32_t)),
    };
}

static void copy_draw(const struct cmaes *s, struct draw *to, const struct draw *from)
{
    memcpy(to->x, from->x, (size_t)s->axes.n * sizeof(double));
    memcpy(to->v, from->v, (size_t)s->axes.n_lists * sizeof(uint32_t));
    to->foreign = from->foreign;
}

static void free_draw(struct draw *d)
{
    free(d->x);
    free(d->v);
    *d = (struct draw){0};
}

static int default_population(int n)
{
    return 4 + (int)(3 * log(n > 1 ? n : 1));
}

static enum mag_status cmaes_start(void *self, const struct sampler_config *cfg,
                                   const char **ret_pointer, struct mag_err *err)
{
    struct cmaes *s = self;
    const double *o = cfg->opt.values;
    *s = (struct cmaes){
        .space = cfg->opt.space, .seed = cfg->opt.seed, .purpose = cfg->purpose, .best = INFINITY};
    cma_axes_init(&s->axes, s->space);
    int all = s->axes.n + s->axes.n_lists;
    int lambda = isnan(o[OPT_POPULATION]) ? default_population(all) : (int)o[OPT_POPULATION];
    bool separable = o[OPT_VARIANT] == 2 || (o[OPT_VARIANT] == 0 && s->axes.n > FULL_MAX);
    s->quasi = quasi_create(QUASI_SOBOL, s->space, s->seed, s->purpose, 0);
    cma_restart_init(&s->restart, (enum cma_restarts)o[OPT_RESTARTS], lambda, o[OPT_SIGMA],
                     s->seed);
    cma_init(&s->dist, &(struct cma_setup){.n = s->axes.n,
                                           .lambda = lambda,
                                           .separable = separable,
                                           .adapt = o[OPT_LEARNING_RATE] == 1});
    s->with_model = o[OPT_MODEL] == 0 && s->axes.plain && s->axes.n > 0 &&
                    s->axes.n <= CMA_MODEL_DIMENSIONS_MAX;
    if (s->with_model) {
        cma_model_init(&s->model, s->axes.n, lambda);
    }
    s->design = isnan(o[OPT_INITIAL]) ? lambda : (int64_t)o[OPT_INITIAL];
    if (separable && s->dist.is.adapt) {
        *ret_pointer = "/learning_rate";
        return mag_fail(err, MAG_INVALID,
                        "\"adaptive\" learning rates need a full covariance matrix: leave "
                        "\"variant\" out, or \"learning_rate\"");
    }
    return MAG_OK;
}

static void cmaes_fini(void *self)
{
    struct cmaes *s = self;
    for (int i = 0; i < s->room; i++) {
        free_draw(&s->pool[i].d);
    }
    for (int i = 0; i < s->n_results; i++) {
        free_draw(&s->results[i].d);
    }
    for (int64_t i = 0; i < s->trials.n; i++) {
        free_draw(&s->trials.at[i].d);
    }
    for (int64_t i = 0; i < s->n_others; i++) {
        free_draw(&s->others[i].d);
    }
    free(s->others);
    free(s->pool);
    free(s->order);
    free(s->results);
    free(s->trials.at);
    quasi_destroy(s->quasi);
    if (s->with_model) {
        cma_model_fini(&s->model);
    }
    cma_restart_fini(&s->restart);
    cma_fini(&s->dist);
    cma_axes_fini(&s->axes);
}

/* ---- draws ---- */

/* True when every continuous coordinate lies in the cube; cells have room beyond it. */
static bool is_inside(const struct cmaes *s, const double *x)
{
    for (int i = 0; i < s->axes.n; i++) {
        if (isinf(s->axes.axes[i].cells) && !(x[i] >= 0 && x[i] <= 1)) {
            return false;
        }
    }
    return true;
}

static void to_walls(const struct cmaes *s, double *x)
{
    for (int i = 0; i < s->axes.n; i++) {
        if (isinf(s->axes.axes[i].cells)) {
            x[i] = fmin(fmax(x[i], 0), 1);
        }
    }
}

static bool is_feasible(const struct cmaes *s, const struct draw *d, double *point)
{
    cma_axes_point(&s->axes, d->x, d->v, point);
    return space_is_feasible(s->space, point);
}

/* Draw number k of this generation. What lies outside is tried at the wall, and the distribution
 * learns from the draw itself: its spread does not shrink at a wall. What breaks a constraint is
 * drawn again too, then repaired. */
static void draw(const struct cmaes *s, uint32_t k, struct draw *d)
{
    double point[SPACE_PARAMS_MAX];
    uint64_t id = (uint64_t)s->generation << 24 | k;
    struct pcg64 g;
    pcg_stream(&g, s->seed, s->purpose, id);
    d->foreign = false;
    for (int i = 0; i < RESAMPLE; i++) {
        cma_axes_sample(&s->axes, &g, d->v);
        cma_sample(&s->dist, &g, d->x);
        if (is_inside(s, d->x) && is_feasible(s, d, point)) {
            return;
        }
    }
    if (!is_feasible(s, d, point)) {
        space_repair(s->space, s->seed, s->purpose, id, point);
        cma_axes_encode(&s->axes, point, s->dist.mean, d->x, d->v);
        d->foreign = true;
    }
}

/* What the asker after `skip` others gets; returns its place in the pool, -1 beyond it. */
static int next_draw(const struct cmaes *s, uint32_t skip, struct draw *d)
{
    for (int i = 0; i < s->n_pool; i++) {
        const struct place *p = &s->pool[s->order[i]];
        if (!p->given && skip-- == 0) {
            copy_draw(s, d, &p->d);
            return s->order[i];
        }
    }
    draw(s, (uint32_t)s->n_pool + s->beyond + skip, d);
    return -1;
}

static void propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct cmaes *s = self;
    if (s->generation == 0) {
        quasi_point(s->quasi, s->designed + attempt, point);
        return;
    }
    struct draw d = new_draw(s);
    (void)next_draw(s, attempt, &d);
    cma_axes_point(&s->axes, d.x, d.v, point);
    free_draw(&d);
}

/* ---- a trial begins ---- */

/* Finds the draw that the point came from; false when it came from elsewhere. */
static bool find_draw(struct cmaes *s, const double *point, struct cmaes_trial *t)
{
    double *p = xcalloc((size_t)s->space->n, sizeof(*p));
    bool found = false;
    for (uint32_t k = 0; k < SEEK && !found; k++) {
        int place = next_draw(s, k, &t->d);
        cma_axes_point(&s->axes, t->d.x, t->d.v, p);
        found = space_point_equal(s->space, p, point);
        if (found && place >= 0) {
            s->pool[place].given = true;
            t->place = place;
        } else if (found) {
            uint32_t left = 0;
            for (int i = 0; i < s->n_pool; i++) {
                left += !s->pool[i].given;
            }
            s->beyond += k - left + 1;
        }
    }
    free(p);
    return found;
}

static void pending(void *self, int64_t trial, const double *point)
{
    struct cmaes *s = self;
    struct cmaes_trial *t = cmaes_trials_of(&s->trials, trial);
    *t = (struct cmaes_trial){.d = new_draw(s), .place = -1};
    if (s->generation > 0 && find_draw(s, point, t)) {
        t->generation = s->generation;
        return;
    }
    if (s->generation == 0) {
        s->designed++;
    }
    double *middle = xcalloc((size_t)s->axes.n + 1, sizeof(*middle));
    for (int i = 0; i < s->axes.n; i++) {
        middle[i] = s->generation > 0 ? s->dist.mean[i] : 0.5;
    }
    cma_axes_encode(&s->axes, point, middle, t->d.x, t->d.v);
    t->d.foreign = true;
    free(middle);
}

/* ---- generations ---- */

static void clear_results(struct cmaes *s)
{
    for (int i = 0; i < s->n_results; i++) {
        free_draw(&s->results[i].d);
    }
    s->n_results = 0;
}

static struct result *add_result(struct cmaes *s)
{
    if (s->n_results == s->results_room) {
        s->results_room = 2 * s->results_room + 16;
        s->results = xreallocarray(s->results, (size_t)s->results_room, sizeof(*s->results));
    }
    struct result *r = &s->results[s->n_results++];
    *r = (struct result){.d = new_draw(s)};
    return r;
}

/* The model knows the points that were tried: those inside. */
static double guess_of(const struct cmaes *s, const double *x)
{
    double inside[CMA_MODEL_DIMENSIONS_MAX];
    memcpy(inside, x, (size_t)s->axes.n * sizeof(*inside));
    to_walls(s, inside);
    return cma_model_value(&s->model, inside);
}

/* Feasible before infeasible before failed; ties by trial, what has none last. */
static int compare(const struct result *a, const struct result *b)
{
    if (a->failed != b->failed) {
        return a->failed ? 1 : -1;
    }
    if (a->violation != b->violation) {
        return a->violation > b->violation ? 1 : -1;
    }
    if (a->value != b->value) {
        return a->value > b->value ? 1 : -1;
    }
    return (a->trial > b->trial) - (a->trial < b->trial);
}

static int by_rank(const void *a, const void *b)
{
    return compare(a, b);
}

/* Orders the pool by the model's guess; in the order of drawing without one. */
static void order_pool(struct cmaes *s)
{
    bool fitted = s->with_model && s->model.terms > 0;
    double *guess = xcalloc((size_t)s->n_pool + 1, sizeof(*guess));
    for (int i = 0; i < s->n_pool; i++) {
        guess[i] = fitted ? guess_of(s, s->pool[i].d.x) : 0;
        int at = i;
        for (; at > 0 && guess[s->order[at - 1]] > guess[i]; at--) {
            s->order[at] = s->order[at - 1];
        }
        s->order[at] = i;
    }
    free(guess);
}

static void new_pool(struct cmaes *s)
{
    int lambda = s->dist.is.lambda;
    s->generation++;
    if (lambda > s->room) {
        s->pool = xreallocarray(s->pool, (size_t)lambda, sizeof(*s->pool));
        s->order = xreallocarray(s->order, (size_t)lambda, sizeof(*s->order));
        for (; s->room < lambda; s->room++) {
            s->pool[s->room] = (struct place){.d = new_draw(s)};
        }
    }
    s->n_pool = lambda;
    s->beyond = 0;
    s->check = 1;
    for (int i = 0; i < lambda; i++) {
        struct place *p = &s->pool[i];
        p->given = p->told = false;
        draw(s, (uint32_t)i, &p->d);
    }
    if (s->with_model && cma_model_fit(&s->model, &s->dist)) {
        struct place *p = &s->pool[lambda - 1];
        double radius = sqrt(s->axes.n) + 2;
        if (cma_model_best(&s->model, &s->dist, radius, p->d.x)) {
            p->d.foreign = true;
            if (!is_inside(s, p->d.x)) {
                to_walls(s, p->d.x);
                cma_model_descend(&s->model, &s->dist, radius, p->d.x);
            }
        } else {
            draw(s, (uint32_t)lambda - 1, &p->d);
        }
    }
    order_pool(s);
}

/* The next run starts at a random point, the model forgets nothing. */
static void restart(struct cmaes *s)
{
    struct draw d = new_draw(s);
    struct pcg64 g;
    cma_restart_next(&s->restart);
    pcg_stream(&g, s->seed, "cmaes-restart", (uint64_t)s->restart.run);
    for (int i = 0; i < s->axes.n; i++) {
        d.x[i] = pcg64_double(&g);
    }
    cma_axes_reset(&s->axes);
    cma_start(&s->dist, s->restart.lambda, d.x, s->restart.sigma, NULL);
    free_draw(&d);
}

/* The ranked population becomes the next distribution. */
static void update(struct cmaes *s)
{
    int lambda = s->dist.is.lambda;
    const double **x = xcalloc((size_t)lambda, sizeof(*x));
    const uint32_t **v = xcalloc((size_t)lambda, sizeof(*v));
    bool *foreign = xcalloc((size_t)lambda, sizeof(*foreign));
    double *values = xcalloc((size_t)lambda, sizeof(*values));
    int finite = 0;
    qsort(s->results, (size_t)s->n_results, sizeof(*s->results), by_rank);
    for (int i = 0; i < lambda; i++) {
        const struct result *r = &s->results[i];
        x[i] = r->d.x;
        v[i] = r->d.v;
        foreign[i] = r->d.foreign;
        if (!r->failed && r->violation <= 0) {
            values[finite++] = r->value;
        }
    }
    cma_update(&s->dist, x, foreign);
    to_walls(s, s->dist.mean);
    cma_axes_update(&s->axes, v, s->dist.weights, s->dist.mu);
    if (s->axes.n > 0) {
        cma_axes_margin(&s->axes, &s->dist, 1.0 / (s->axes.n * lambda));
    }
    const char *why = cma_restart_judge(&s->restart, &s->dist, values, finite, s->n_results);
    clear_results(s);
    if (why != NULL) {
        restart(s);
    }
    free(x);
    free(v);
    free(foreign);
    free(values);
    new_pool(s);
}

/* The model stands in for what of the pool has no result. */
static void fill_by_model(struct cmaes *s)
{
    double low = INFINITY;
    double truth = INFINITY;
    for (int i = 0; i < s->n_pool && s->n_results < s->dist.is.lambda; i++) {
        const struct place *p = &s->pool[i];
        if (!p->told) {
            struct result *r = add_result(s);
            copy_draw(s, &r->d, &p->d);
            r->trial = INT64_MAX;
            r->value = INFINITY;
        }
    }
    for (int i = 0; i < s->n_results; i++) {
        struct result *r = &s->results[i];
        truth = fmin(truth, r->failed ? INFINITY : r->value);
        if (!r->failed && r->violation <= 0) {
            r->value = guess_of(s, r->d.x);
            low = fmin(low, r->value);
        }
    }
    for (int i = 0; i < s->n_results; i++) {
        s->results[i].value += isfinite(truth - low) ? truth - low : 0;
    }
}

/* After each result: the generation ends when lambda results are there, or when the model ranks the
 * newest values as they are. */
static void advance(struct cmaes *s)
{
    int lambda = s->dist.is.lambda;
    if (s->n_results < lambda && s->with_model && cma_model_fit(&s->model, &s->dist)) {
        if (s->n_results < s->check) {
            order_pool(s);
            return;
        }
        int values = (int)fmin(1.2 * s->n_results, 0.75 * lambda);
        if (cma_model_tau(&s->model, values > TAU_VALUES ? values : TAU_VALUES) < TAU_ENOUGH) {
            s->check += (s->check + 1) / 2;
            order_pool(s);
            return;
        }
        fill_by_model(s);
    }
    if (s->n_results >= lambda) {
        update(s);
    }
}

/* The best points of the design, weighted by rank, are the first mean: one alone is too often far
 * from the middle by chance. */
static void begin_run(struct cmaes *s)
{
    double *mean = xcalloc((size_t)s->axes.n + 1, sizeof(*mean));
    int best = s->n_results / 2 < START_BEST ? s->n_results / 2 : START_BEST;
    double sum = 0;
    best = best > 0 ? best : 1;
    qsort(s->results, (size_t)s->n_results, sizeof(*s->results), by_rank);
    for (int k = 0; k < best; k++) {
        sum += log(best + 1) - log(k + 1);
    }
    for (int k = 0; k < best; k++) {
        for (int i = 0; i < s->axes.n; i++) {
            mean[i] += (log(best + 1) - log(k + 1)) / sum * s->results[k].d.x[i];
        }
    }
    cma_start(&s->dist, s->restart.lambda, mean, s->restart.sigma, NULL);
    clear_results(s);
    new_pool(s);
    free(mean);
}

/* ---- earlier experiments ---- */

#define OTHERS_TOP 0.1    /* gamma: the part of them that counts as promising */
#define OTHERS_SPREAD 0.1 /* alpha: standard deviation around each of those */

/* The promising distribution of the best `top` others (Nomura et al., Warm Starting CMA-ES, AAAI
 * 2021) becomes the first one: the mean and the covariance of a normal around each. */
static void warm_start(struct cmaes *s, int64_t top)
{
    int n = s->axes.n;
    size_t size = (size_t)n;
    double *mean = xcalloc(size + 1, sizeof(*mean));
    double *cov = xcalloc(size * size + 1, sizeof(*cov));
    double *vectors = xcalloc(size * size + 1, sizeof(*vectors));
    double *values = xcalloc(2 * size + 2, sizeof(*values));
    double logs = 0;
    for (int64_t k = 0; k < top; k++) {
        for (int i = 0; i < n; i++) {
            mean[i] += s->others[k].d.x[i] / (double)top;
        }
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = i == j ? OTHERS_SPREAD * OTHERS_SPREAD : 0;
            for (int64_t k = 0; k < top; k++) {
                const double *x = s->others[k].d.x;
                sum += (x[i] - mean[i]) * (x[j] - mean[j]) / (double)top;
            }
            cov[i * n + j] = cov[j * n + i] = sum;
        }
    }
    memcpy(vectors, cov, size * size * sizeof(*cov));
    bool ok = n == 0 || eigen_symmetric(n, vectors, values, values + n);
    for (int i = 0; i < n; i++) { /* sigma^2n is the determinant */
        logs += log(values[i]) / n;
    }
    for (int i = 0; i < n * n; i++) {
        cov[i] /= exp(logs);
    }
    cma_start(&s->dist, s->restart.lambda, mean, ok ? exp(logs / 2) : OTHERS_SPREAD,
              ok ? cov : NULL);
    cma_axes_reset(&s->axes);
    for (int64_t k = 0; k < top; k++) {
        cma_axes_count(&s->axes, s->others[k].d.v, top);
    }
    free(mean);
    free(cov);
    free(vectors);
    free(values);
    s->generation = 0;
    new_pool(s);
}

/* Trials of the largest budget alone count; 0 is the whole. */
static bool is_comparable(struct cmaes *s, int64_t budget)
{
    int64_t b = budget > 0 ? budget : INT64_MAX;
    if (b > s->others_budget) {
        for (int64_t i = 0; i < s->n_others; i++) {
            free_draw(&s->others[i].d);
        }
        s->n_others = 0;
        s->others_budget = b;
    }
    return b == s->others_budget;
}

static void others(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct cmaes *s = self;
    double middle[SPACE_PARAMS_MAX];
    if (!is_comparable(s, budget)) {
        return;
    }
    if (s->n_others == s->others_room) {
        s->others_room = 2 * s->others_room + 64;
        s->others = xreallocarray(s->others, (size_t)s->others_room, sizeof(*s->others));
    }
    struct other o = {.d = new_draw(s), .value = r->value, .violation = r->violation};
    for (int i = 0; i < s->axes.n; i++) {
        middle[i] = 0.5;
    }
    cma_axes_encode(&s->axes, point, middle, o.d.x, o.d.v);
    int64_t at = s->n_others++;
    for (; at > 0; at--) {
        const struct other *p = &s->others[at - 1];
        if (p->violation < o.violation || (p->violation == o.violation && p->value <= o.value)) {
            break;
        }
        s->others[at] = *p;
    }
    s->others[at] = o;
    int64_t top = (int64_t)(OTHERS_TOP * (double)s->n_others);
    top = top > 0 ? top : 1;
    if (at < top || s->n_others % (int64_t)(1 / OTHERS_TOP) == 0) {
        warm_start(s, top);
    }
}

/* ---- results ---- */

static void observe(void *self, int64_t trial, int64_t budget, const struct opt_result *r)
{
    struct cmaes *s = self;
    struct cmaes_trial *t = cmaes_trials_of(&s->trials, trial);
    t->has_value = true;
    t->value = r->value;
    t->violation = r->violation;
}

static void learn(struct cmaes *s, const struct result *r)
{
    double inside[CMA_MODEL_DIMENSIONS_MAX];
    if (s->with_model && !r->failed && r->violation <= 0) {
        memcpy(inside, r->d.x, (size_t)s->axes.n * sizeof(*inside));
        to_walls(s, inside);
        cma_model_add(&s->model, inside, r->value);
    }
}

/* A point from elsewhere that this distribution would hardly draw tells it nothing but that it is
 * worse, unless it is better than all before. */
static bool is_of_interest(const struct cmaes *s, const struct result *r)
{
    double n = s->axes.n;
    if (s->generation == 0 || !r->d.foreign || s->axes.n == 0) {
        return true;
    }
    return (!r->failed && r->violation <= 0 && r->value < s->best) ||
           cma_distance(&s->dist, r->d.x) <= sqrt(n) + 2 * n / (n + 2);
}

static void ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct cmaes *s = self;
    struct cmaes_trial *t = cmaes_trials_of(&s->trials, trial);
    bool fresh = t->generation == s->generation && t->generation > 0;
    if (outcome != OPT_CANCELLED && t->d.x != NULL) {
        struct result *r = add_result(s);
        copy_draw(s, &r->d, &t->d);
        r->trial = trial;
        r->failed = outcome == OPT_FAILED || !t->has_value;
        r->value = r->failed ? 0 : t->value;
        r->violation = r->failed ? 0 : t->violation;
        r->d.foreign = r->d.foreign || !fresh;
        if (fresh && t->place >= 0) {
            s->pool[t->place].told = true;
        }
        learn(s, r);
        if (!is_of_interest(s, r)) {
            free_draw(&r->d);
            s->n_results--;
        } else if (!r->failed && r->violation <= 0) {
            s->best = fmin(s->best, r->value);
        }
    }
    free_draw(&t->d);
    if (s->generation > 0) {
        advance(s);
    } else if (s->n_results >= s->design) {
        begin_run(s);
    }
}

/* As a search of its own and as a sampler of others. */
#define IDENTITY                                                                                   \
    .name = "cmaes",                                                                               \
    .summary = "CMA-ES: a normal distribution that learns the shape of the objective",             \
    .paper = PAPER, .caps = OPT_CAP_OUTCOME, .options = cmaes_options, .version = 1

const struct sampler_ops cmaes_sampler = {
    IDENTITY,
    .state_size = sizeof(struct cmaes),
    .init = cmaes_start,
    .fini = cmaes_fini,
    .propose = propose,
    .pending = pending,
    .observe = observe,
    .ended = ended,
    .others = others,
};

static enum mag_status cmaes_init(void *self, const struct opt_config *cfg,
                                  const char **ret_pointer, struct mag_err *err)
{
    return search_init(self, &cmaes_sampler, cfg, ret_pointer, err);
}

const struct optimizer_ops cmaes_ops = {
    IDENTITY,
    .init = cmaes_init,
    SEARCH_OPS,
};
