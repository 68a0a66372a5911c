/* SPDX-License-Identifier: Apache-2.0
 *
 * Gaussian-process Bayesian optimization (Jones, Schonlau and Welch, 1998; Snoek, Larochelle and
 * Adams, 2012). State is the list of what was told; everything else follows from it: what a
 * proposal computes (hyperparameters above all) is kept in a memo, a pure function of the list, so
 * that a proposal after a replay is equal to one in the live run.
 */
#include "base/alloc.h"
#include "optimizers/gp_acq.h"
#include "optimizers/gp_basin.h"
#include "optimizers/gp_data.h"
#include "optimizers/gp_domain.h"
#include "optimizers/gp_model.h"
#include "optimizers/gp_propose.h"
#include "optimizers/gp_region.h"
#include "optimizers/idtab.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAPER                                                                                      \
    "Snoek, Larochelle and Adams, Practical Bayesian Optimization of Machine Learning "            \
    "Algorithms, NIPS 2012; log EI: Ament et al., NeurIPS 2023"

#define FIT_CAP 200     /* observations that hyperparameters are fitted to */
#define FIT_EVALS 60    /* evaluations of a fit from nothing */
#define PENDING_CAP 128 /* pending trials in the model: the newest */
#define ELITE 5
#define REGION_PARAMS 10 /* a trust region pays from so many parameters on */
#define LOCAL_EVALS 40   /* evaluations of the fit of a local model */
#define CROWD 4 /* so many trials running leave some to look elsewhere before the search settles   \
                 */
#define FEASIBLE_MARGIN (-0.05) /* greatest number of a feasible point, in mean violations */

enum acquisition { ACQ_LOGEI = 0, ACQ_THOMPSON = 1, ACQ_BOUND = 2 };

enum gp_option {
    OPTION_STARTUP,
    OPTION_ACQUISITION,
    OPTION_REGION,
    OPTION_HISTORY,
    OPTION_FANTASIES,
};

static const char *const acquisition_names[] = {"logei", "thompson", "ucb", NULL};

enum region { REGION_AUTO = 0, REGION_ON = 1, REGION_OFF = 2 };

static const char *const region_names[] = {"auto", "on", "off", NULL};

static const struct opt_option gp_options[] = {
    [OPTION_STARTUP] = {.name = "startup",
                        .type = OPT_T_INT,
                        .lo = 2,
                        .hi = 10000,
                        .def = NAN,
                        .help = "trials of a Latin hypercube before the model takes over; by "
                                "default 6 to 20, rising with the parameters"},
    [OPTION_ACQUISITION] = {.name = "acquisition",
                            .type = OPT_T_ENUM,
                            .names = acquisition_names,
                            .help = "what a new point maximises: the logarithm of expected "
                                    "improvement, a posterior draw, or a confidence bound"},
    [OPTION_REGION] = {.name = "trust_region",
                       .type = OPT_T_ENUM,
                       .names = region_names,
                       .help = "every second trial comes from a box around the best and a model of "
                               "its neighbourhood; auto: from 10 parameters on"},
    [OPTION_HISTORY] = {.name = "history",
                        .type = OPT_T_INT,
                        .lo = 32,
                        .hi = 1000,
                        .def = 300,
                        .help = "results in the model at most: the best, the newest and an even "
                                "sample of the others"},
    [OPTION_FANTASIES] = {.name = "fantasies",
                          .type = OPT_T_INT,
                          .lo = 1,
                          .hi = GP_DRAWS_MAX,
                          .def = 8,
                          .help = "draws of the values of pending trials that logei averages over"},
    {0},
};

/* One result at one budget; `at` is the trial's or other's coordinates. */
struct observation {
    const double *at;
    int64_t trial;  /* 0 = none of ours */
    double budget;  /* coordinate */
    double *values; /* objectives, and the violation behind them */
};

struct gp_trial {
    double *x; /* NULL = not ours */
    bool pending, observed;
};

IDTAB(trials, struct gp_trial)

/* Hyperparameters fitted to the first `count` observations. */
struct memo {
    int count;
    double *theta;
    double reach; /* of the warp of values */
};

enum { OF_OBJECTIVE = 0, OF_VIOLATION = 1, OF_THINNED = 2, MEMOS = 3 };

struct gp_sampler {
    struct gp_domain domain;
    uint64_t seed;
    char *purpose;
    int objectives, startup, history, fantasies;
    enum acquisition acquisition;
    bool region;
    struct trials trials;
    struct observation *obs;
    int n_obs, cap_obs;
    double **others; /* coordinates of earlier experiments' trials */
    int n_others, cap_others;
    bool infeasible_seen;
    struct memo *memo; /* MEMOS of them */
};

static enum mag_status sampler_init(void *self, const struct sampler_config *cfg,
                                    const char **ret_pointer, struct mag_err *err)
{
    struct gp_sampler *s = self;
    const double *v = cfg->opt.values;
    gp_domain_init(&s->domain, cfg->opt.space, &cfg->opt.resource);
    s->seed = cfg->opt.seed;
    s->purpose = xasprintf("%s:gp", cfg->purpose);
    s->objectives = cfg->opt.objectives;
    s->startup =
        isnan(v[OPTION_STARTUP]) ? (int)fmin(fmax(s->domain.n + 4, 6), 20) : (int)v[OPTION_STARTUP];
    s->acquisition = (enum acquisition)v[OPTION_ACQUISITION];
    s->region = v[OPTION_REGION] == REGION_ON ||
                (v[OPTION_REGION] == REGION_AUTO && s->domain.n >= REGION_PARAMS);
    s->history = (int)v[OPTION_HISTORY];
    s->fantasies = (int)v[OPTION_FANTASIES];
    s->memo = xcalloc(MEMOS, sizeof(*s->memo));
    for (int i = 0; i < MEMOS; i++) {
        s->memo[i].theta = xcalloc((size_t)s->domain.d + 2, sizeof(double));
    }
    return MAG_OK;
}

static void sampler_fini(void *self)
{
    struct gp_sampler *s = self;
    for (int64_t i = 0; i < s->trials.n; i++) {
        free(s->trials.at[i].x);
    }
    for (int i = 0; i < s->n_obs; i++) {
        free(s->obs[i].values);
    }
    for (int i = 0; i < s->n_others; i++) {
        free(s->others[i]);
    }
    for (int i = 0; s->memo != NULL && i < MEMOS; i++) {
        free(s->memo[i].theta);
    }
    free(s->trials.at);
    free(s->obs);
    free(s->others);
    free(s->memo);
    free(s->purpose);
    gp_domain_fini(&s->domain);
}

/* ---- what is told ---- */

static double *coordinates(const struct gp_sampler *s, const double *point)
{
    double *x = xcalloc((size_t)s->domain.d + 1, sizeof(*x));
    gp_domain_encode(&s->domain, point, x);
    return x;
}

static void pending(void *self, int64_t trial, const double *point)
{
    struct gp_sampler *s = self;
    struct gp_trial *t = trials_of(&s->trials, trial);
    free(t->x);
    *t = (struct gp_trial){.x = coordinates(s, point), .pending = true};
}

static void add(struct gp_sampler *s, const double *at, int64_t trial, int64_t budget,
                const struct opt_result *r)
{
    if (s->n_obs == s->cap_obs) {
        s->cap_obs = s->cap_obs > 0 ? 2 * s->cap_obs : 64;
        s->obs = xreallocarray(s->obs, (size_t)s->cap_obs, sizeof(*s->obs));
    }
    struct observation *o = &s->obs[s->n_obs++];
    *o = (struct observation){
        .at = at, .trial = trial, .budget = gp_domain_budget(&s->domain, budget)};
    o->values = xcalloc((size_t)s->objectives + 1, sizeof(double));
    memcpy(o->values, r->values, (size_t)s->objectives * sizeof(double));
    o->values[s->objectives] = r->violation;
    s->infeasible_seen = s->infeasible_seen || r->violation > 0;
}

static void observe(void *self, int64_t trial, int64_t budget, const struct opt_result *r)
{
    struct gp_sampler *s = self;
    struct gp_trial *t = trials_of(&s->trials, trial);
    if (t->x != NULL) {
        t->observed = true;
        add(s, t->x, trial, budget, r);
    }
}

static void ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct gp_sampler *s = self;
    trials_of(&s->trials, trial)->pending = false;
}

static void others(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct gp_sampler *s = self;
    if (s->n_others == s->cap_others) {
        s->cap_others = s->cap_others > 0 ? 2 * s->cap_others : 64;
        s->others = xreallocarray(s->others, (size_t)s->cap_others, sizeof(*s->others));
    }
    s->others[s->n_others++] = coordinates(s, point);
    add(s, s->others[s->n_others - 1], 0, budget, r);
}

/* ---- the first trials ---- */

/* Latin hypercubes of `startup` rows one after another (McKay, Beckman and Conover, 1979). The
 * second trial of all stands in the middle. */
static void start(const struct gp_sampler *s, int64_t trial, uint32_t attempt, double *point)
{
    const struct gp_domain *dom = &s->domain;
    if (attempt > 0) {
        space_sample(dom->space, s->seed, s->purpose, sampler_stream(trial, attempt), point);
        return;
    }
    int rows = s->startup;
    uint64_t cube = (uint64_t)((trial - 1) / rows);
    int row = (int)((trial - 1) % rows);
    double *raw = xcalloc((size_t)dom->n + 1, sizeof(*raw));
    uint32_t *order = xcalloc((size_t)rows, sizeof(*order));
    for (int j = 0; j < dom->n; j++) {
        struct pcg64 g;
        char *purpose = xasprintf("%s:start:%s", s->purpose, dom->space->params[j].name);
        pcg_stream(&g, s->seed, purpose, cube);
        free(purpose);
        for (int i = 0; i < rows; i++) {
            order[i] = (uint32_t)i;
        }
        pcg64_shuffle(&g, order, (uint32_t)rows);
        double u = 0;
        for (int i = 0; i <= row; i++) {
            u = pcg64_double(&g);
        }
        raw[j] = trial == 2 ? 0.5 : (order[row] + u) / rows;
    }
    space_from_unit(dom->space, raw, point);
    free(order);
    free(raw);
}

/* ---- the model ---- */

static double violation_of(const struct gp_sampler *s, const struct observation *o)
{
    return o->values[s->objectives];
}

/* The number to minimise of the first `count` observations; of several objectives their sum under
 * the weights of `trial`. */
static void numbers(const struct gp_sampler *s, int64_t trial, int count, double *y)
{
    double lo[OPT_OBJECTIVES_MAX];
    double hi[OPT_OBJECTIVES_MAX];
    double weights[OPT_OBJECTIVES_MAX];
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < s->objectives; k++) {
            double v = s->obs[i].values[k];
            lo[k] = i == 0 ? v : fmin(lo[k], v);
            hi[k] = i == 0 ? v : fmax(hi[k], v);
        }
        y[i] = s->obs[i].values[0];
    }
    if (s->objectives > 1) {
        gp_data_weights(s->seed, s->purpose, (uint64_t)trial, s->objectives, weights);
        for (int i = 0; i < count; i++) {
            y[i] = gp_data_chebyshev(s->obs[i].values, lo, hi, weights, s->objectives);
        }
    }
}

static void coordinates_of(const struct gp_sampler *s, const struct observation *o, double *x)
{
    memcpy(x, o->at, (size_t)s->domain.d * sizeof(*x));
    if (s->domain.d > s->domain.n) {
        x[s->domain.n] = o->budget;
    }
}

/* Puts picked observations into a new process. */
static struct gp *model_of(const struct gp_sampler *s, const int *pick, int m, const double *z,
                           int room, int draws)
{
    struct gp *gp = gp_create(s->domain.d, s->domain.kind, m + room, draws);
    double *x = xcalloc((size_t)s->domain.d + 1, sizeof(*x));
    for (int i = 0; i < m; i++) {
        coordinates_of(s, &s->obs[pick[i]], x);
        gp_add(gp, x, z[i]);
    }
    free(x);
    return gp;
}

/* The violations of the picked observations as numbers, feasible ones below 0. A violation tells
 * how far an infeasible point is from its border, nothing tells it of a feasible one: its number is
 * what a process over the infeasible ones alone says, which goes on smoothly across the border. */
static void violations(const struct gp_sampler *s, const int *pick, int m, double *z)
{
    double sum = 0;
    int *bad = xcalloc((size_t)m + 1, sizeof(*bad));
    double *row = xcalloc(2 * (size_t)(m + s->domain.d) + 2, sizeof(*row));
    double *x = row + m;
    double *theta = x + s->domain.d;
    int n = 0;
    for (int i = 0; i < m; i++) {
        double v = violation_of(s, &s->obs[pick[i]]);
        sum += v;
        bad[n] = pick[i];
        n += v > 0;
    }
    for (int i = 0; i < n; i++) {
        z[i] = log1p(violation_of(s, &s->obs[bad[i]]) * n / sum);
    }
    struct gp *gp = model_of(s, bad, n, z, 0, 1);
    gp_theta_default(s->domain.d, theta);
    gp_factor(gp, theta);
    gp_settle(gp);
    for (int i = 0; i < m; i++) {
        const struct observation *o = &s->obs[pick[i]];
        double v = violation_of(s, o);
        double mean = 0;
        double var = 0;
        coordinates_of(s, o, x);
        gp_at(gp, x, &mean, &var, row, NULL);
        z[i] = v > 0 ? log1p(v * n / sum) : fmax(fmin(mean, FEASIBLE_MARGIN), -2);
    }
    gp_destroy(gp);
    free(bad);
    free(row);
}

/* Targets of at most `cap` of the first `count` observations. */
struct training {
    int *pick;
    double *y, *z; /* raw, and as the process sees them */
    double slopes; /* of the warp: gp_data_targets */
    double level;  /* values below it are not seen */
    int m;
};

static void training_room(struct training *t, int count)
{
    t->pick = xcalloc((size_t)count + 1, sizeof(*t->pick));
    t->y = xcalloc((size_t)count + 1, sizeof(*t->y));
    t->z = xcalloc((size_t)count + 1, sizeof(*t->z));
    t->level = -INFINITY;
}

static void training_init(const struct gp_sampler *s, struct training *t, int64_t trial, int count,
                          int cap, bool of_violation, double reach)
{
    double *y = xcalloc((size_t)count + 1, sizeof(*y));
    training_room(t, count);
    numbers(s, trial, count, y);
    t->m = gp_data_pick(y, count, cap, t->pick);
    for (int i = 0; i < t->m; i++) {
        t->y[i] = y[t->pick[i]];
    }
    if (of_violation) {
        violations(s, t->pick, t->m, t->z);
    } else {
        t->slopes = gp_data_targets(t->y, t->m, reach, t->z);
    }
    free(y);
}

static void training_fini(struct training *t)
{
    free(t->pick);
    free(t->y);
    free(t->z);
}

/* The counts at which hyperparameters are fitted anew: each a tenth above the one before. */
static int fitted_count(int n)
{
    int at = 2;
    for (int next = at; next <= n; next += next < 20 ? 2 : next / 10) {
        at = next;
    }
    return at < n ? at : n;
}

static double fit(const struct gp_sampler *s, int64_t trial, int count, bool of_violation,
                  double reach, double *theta)
{
    struct training t;
    training_init(s, &t, trial, count, FIT_CAP, of_violation, reach);
    struct gp *gp = model_of(s, t.pick, t.m, t.z, 0, 1);
    gp_theta_default(s->domain.d, theta);
    double value = gp_fit(gp, theta, FIT_EVALS) + t.slopes;
    gp_destroy(gp);
    training_fini(&t);
    return value;
}

/* Fits under each warp of the values that is tried, and keeps the likeliest. */
static void refit(const struct gp_sampler *s, int64_t trial, int count, bool of_violation,
                  struct memo *memo)
{
    static const double reaches[] = {1, 4};
    size_t n = (size_t)s->domain.d + 2;
    double *theta = xcalloc(n, sizeof(*theta));
    double least = INFINITY;
    for (int k = 0; k < (of_violation || s->objectives > 1 ? 1 : 2); k++) {
        double value = fit(s, trial, count, of_violation, reaches[k], theta);
        if (value < least || k == 0) {
            least = value;
            memo->reach = reaches[k];
            memcpy(memo->theta, theta, n * sizeof(*theta));
        }
    }
    memo->count = count;
    free(theta);
}

/* Hyperparameters for the observations so far, from the memo where it has them. */
static const double *theta_for(const struct gp_sampler *s, int64_t trial, bool of_violation)
{
    struct memo *memo = &s->memo[of_violation ? OF_VIOLATION : OF_OBJECTIVE];
    int count = fitted_count(s->n_obs);
    if (memo->count != count || (s->objectives > 1 && !of_violation)) {
        refit(s, trial, count, of_violation, memo);
    }
    return memo->theta;
}

/* Pending trials without any result, the newest PENDING_CAP. */
static int64_t first_pending(const struct gp_sampler *s)
{
    int left = PENDING_CAP;
    int64_t id = s->trials.n;
    while (id > 1 && left > 0) {
        id--;
        left -= s->trials.at[id].pending && !s->trials.at[id].observed;
    }
    return id;
}

static void append_pending(const struct gp_sampler *s, struct gp *gp, bool drawn)
{
    double z[GP_DRAWS_MAX] = {0};
    for (int64_t id = first_pending(s); id < s->trials.n; id++) {
        const struct gp_trial *t = &s->trials.at[id];
        if (!t->pending || t->observed) {
            continue;
        }
        struct pcg64 g;
        char *purpose = xasprintf("%s:fantasy", s->purpose);
        pcg_stream(&g, s->seed, purpose, (uint64_t)id);
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

static int count_pending(const struct gp_sampler *s)
{
    int n = 0;
    for (int64_t id = first_pending(s); id < s->trials.n; id++) {
        n += s->trials.at[id].pending && !s->trials.at[id].observed;
    }
    return n;
}

/* ---- the trust region ---- */

/* Local trials are every second one; the rule knows the id alone, and so does a replay. */
static bool is_local(const struct gp_sampler *s, int64_t trial)
{
    return s->region && trial % 2 != 0 && trial >= 2 * s->startup && s->n_obs >= 2 * s->startup &&
           s->objectives == 1 && !s->infeasible_seen && s->domain.d == s->domain.n;
}

static double side_of(const struct gp_sampler *s)
{
    struct gp_step *steps = xcalloc((size_t)s->n_obs + 1, sizeof(*steps));
    for (int i = 0; i < s->n_obs; i++) {
        int64_t id = s->obs[i].trial;
        steps[i] = (struct gp_step){s->obs[i].values[0], id % 2 != 0 && id >= 2 * s->startup};
    }
    double side = gp_region_side(steps, s->n_obs, s->domain.n);
    free(steps);
    return side;
}

/* The points nearest to the best, and hyperparameters for them alone. */
static void local_training(const struct gp_sampler *s, struct training *t, double *theta)
{
    const double **x = xcalloc((size_t)s->n_obs + 1, sizeof(*x));
    int best = 0;
    for (int i = 0; i < s->n_obs; i++) {
        x[i] = s->obs[i].at;
        best = s->obs[i].values[0] < s->obs[best].values[0] ? i : best;
    }
    int want = 6 * s->domain.n + 10;
    training_room(t, s->n_obs);
    t->m =
        gp_region_nearest(&s->domain, x, s->n_obs, best, want < FIT_CAP ? want : FIT_CAP, t->pick);
    for (int i = 0; i < t->m; i++) {
        t->y[i] = s->obs[t->pick[i]].values[0];
    }
    (void)gp_data_targets(t->y, t->m, 1, t->z);
    struct gp *gp = model_of(s, t->pick, t->m, t->z, 0, 1);
    gp_theta_default(s->domain.d, theta);
    (void)gp_fit(gp, theta, LOCAL_EVALS);
    gp_destroy(gp);
    free(x);
}

/* ---- a look elsewhere ---- */

/* At most `cap` of the first `count` results, and which they are. */
struct subset {
    struct gp_results r;
    const double **x;
    double *y;
    int *pick;
};

static void subset_init(const struct gp_sampler *s, struct subset *u, int count, int cap)
{
    u->pick = xcalloc((size_t)count + 1, sizeof(*u->pick));
    u->y = xcalloc((size_t)count + 1, sizeof(*u->y));
    u->x = xcalloc((size_t)count + 1, sizeof(*u->x));
    numbers(s, 0, count, u->y);
    int n = gp_data_pick(u->y, count, cap, u->pick);
    for (int i = 0; i < n; i++) {
        u->x[i] = s->obs[u->pick[i]].at;
        u->y[i] = u->y[u->pick[i]];
    }
    u->r = (struct gp_results){.domain = &s->domain, .x = u->x, .y = u->y, .n = n};
}

static void subset_fini(struct subset *u)
{
    free(u->pick);
    free(u->y);
    free(u->x);
}

static bool may_look_elsewhere(const struct gp_sampler *s)
{
    return s->objectives == 1 && !s->infeasible_seen && s->domain.d == s->domain.n &&
           s->acquisition == ACQ_LOGEI && s->n_obs >= 2 * (s->domain.n + 2);
}

bool gp_sampler_settled(const void *self)
{
    const struct gp_sampler *s = self;
    if (!may_look_elsewhere(s)) {
        return false;
    }
    struct subset u;
    int best = 0;
    subset_init(s, &u, s->n_obs, s->history);
    for (int i = 0; i < u.r.n; i++) {
        best = u.y[i] < u.y[best] ? i : best;
    }
    bool settled = gp_basin_settled(&u.r, best);
    subset_fini(&u);
    return settled;
}

/* Three trials of four once the search has settled; one of four before, while many run. */
static bool is_elsewhere(const struct gp_sampler *s, int64_t trial, int n_pending)
{
    if (trial % 4 == 0 || !may_look_elsewhere(s)) {
        return false;
    }
    return (n_pending >= CROWD && trial % 4 == 1) || gp_sampler_settled(s);
}

/* Results of which no two are close to each other; picks are places in the subset. */
static void thin(struct training *t, const struct subset *u)
{
    training_room(t, u->r.n);
    t->m = gp_basin_thin(&u->r, t->pick);
    for (int i = 0; i < t->m; i++) {
        t->y[i] = u->y[t->pick[i]];
    }
    (void)gp_data_targets(t->y, t->m, 1, t->z);
}

/* Hyperparameters of thinned results, from the memo where it has them. */
static const double *thinned_theta(const struct gp_sampler *s)
{
    struct memo *memo = &s->memo[OF_THINNED];
    int count = fitted_count(s->n_obs);
    if (memo->count != count) {
        struct training t;
        struct subset u;
        subset_init(s, &u, count, FIT_CAP);
        thin(&t, &u);
        struct gp *gp = gp_create(s->domain.d, s->domain.kind, t.m, 1);
        for (int i = 0; i < t.m; i++) {
            gp_add(gp, u.x[t.pick[i]], t.z[i]);
        }
        gp_theta_default(s->domain.d, memo->theta);
        (void)gp_fit(gp, memo->theta, FIT_EVALS);
        memo->count = count;
        gp_destroy(gp);
        training_fini(&t);
        subset_fini(&u);
    }
    return memo->theta;
}

/* Thinned results in which what the basins hide is as good as the best outside. */
static void elsewhere_training(const struct gp_sampler *s, struct training *t, double *theta,
                               struct gp_basins *basins)
{
    struct subset u;
    subset_init(s, &u, s->n_obs, s->history);
    thin(t, &u);
    memcpy(theta, thinned_theta(s), ((size_t)s->domain.d + 2) * sizeof(*theta));
    gp_basins_init(basins, &u.r, t->pick, t->m, t->z, theta);
    t->level = basins->level;
    for (int i = 0; i < t->m; i++) {
        t->y[i] = fmax(t->y[i], t->level);
        t->pick[i] = u.pick[t->pick[i]];
    }
    (void)gp_data_targets(t->y, t->m, 1, t->z);
    subset_fini(&u);
}

/* ---- a proposal ---- */

/* The least posterior mean at the top budget over the training points (feasible ones where there
 * are any) and, in each draw, over the pending ones. */
static void incumbents(const struct gp_sampler *s, const struct training *t, const struct gp *gp,
                       struct gp_acq *acq)
{
    size_t ld = ((size_t)gp->n + 7) / 8 * 8;
    double *x = xcalloc((size_t)(gp->d + gp->n + gp->draws + 1), ld * sizeof(*x));
    double *mean = x + (size_t)gp->d * ld;
    double *var = mean + (size_t)gp->draws * ld;
    for (int j = 0; j < gp->d; j++) {
        memcpy(x + (size_t)j * ld, gp->x + (size_t)j * gp->ld, (size_t)gp->n * sizeof(*x));
    }
    for (int i = 0; i < gp->n && s->domain.d > s->domain.n; i++) {
        x[(size_t)s->domain.n * ld + (size_t)i] = 1;
    }
    gp_at_many(gp, x, ld, gp->n, mean, var, var + ld);
    for (int k = 0; k < gp->draws; k++) {
        acq->best[k] = INFINITY;
        for (int i = 0; i < gp->n; i++) {
            bool usable =
                i >= t->m || acq->feasibility_only || violation_of(s, &s->obs[t->pick[i]]) <= 0;
            if (usable) {
                acq->best[k] = fmin(acq->best[k], mean[(size_t)k * ld + (size_t)i]);
            }
        }
    }
    free(x);
}

struct ranked {
    double violation, z;
    int i;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *p = a;
    const struct ranked *q = b;
    if (p->violation != q->violation) {
        return p->violation < q->violation ? -1 : 1;
    }
    if (p->z != q->z) {
        return p->z < q->z ? -1 : 1;
    }
    return p->i < q->i ? -1 : p->i > q->i;
}

/* Raw points of the best training trials, feasible before infeasible. */
static int elite_of(const struct gp_sampler *s, const struct training *t, double *elite)
{
    struct ranked *r = xcalloc((size_t)t->m + 1, sizeof(*r));
    int n = 0;
    int m = 0;
    for (int i = 0; i < t->m; i++) {
        if (!(s->obs[t->pick[i]].values[0] < t->level)) {
            r[m++] = (struct ranked){violation_of(s, &s->obs[t->pick[i]]), t->z[i], i};
        }
    }
    qsort(r, (size_t)m, sizeof(*r), by_rank);
    for (int i = 0; i < m && n < ELITE; i++) {
        gp_domain_raw(&s->domain, s->obs[t->pick[r[i].i]].at,
                      elite + (size_t)n * (size_t)s->domain.n);
        n++;
    }
    free(r);
    return n;
}

/* Where the point of `trial` is searched: everywhere, or in the trust region around the best. */
static void search(const struct gp_sampler *s, int64_t trial, const struct training *t,
                   const struct gp_acq *acq, const struct gp_basins *basins, double *raw)
{
    size_t n = (size_t)s->domain.n;
    double *work = xcalloc((ELITE + 2) * n + 1, sizeof(*work));
    double *lo = work + ELITE * n;
    double *hi = lo + n;
    int n_elite = elite_of(s, t, work);
    for (size_t j = 0; j < n; j++) {
        hi[j] = 1;
    }
    if (basins->n == 0 && is_local(s, trial)) {
        gp_region_box(&s->domain, work, side_of(s), acq->gp->theta, lo, hi);
    }
    struct gp_search q = {.domain = &s->domain,
                          .seed = s->seed ^ (uint64_t)trial,
                          .acq = acq,
                          .elite = work,
                          .n_elite = n_elite,
                          .lo = lo,
                          .hi = hi,
                          .basins = basins->n > 0 ? basins : NULL};
    pcg_stream(&q.g, s->seed, s->purpose, sampler_stream(trial, 0));
    if (s->acquisition == ACQ_THOMPSON && !acq->feasibility_only) {
        gp_propose_draw(&q, raw);
    } else {
        gp_propose(&q, raw);
    }
    free(work);
}

static struct gp *violation_model(const struct gp_sampler *s, int64_t trial)
{
    struct training t;
    training_init(s, &t, trial, s->n_obs, s->history, true, 1);
    struct gp *gp = model_of(s, t.pick, t.m, t.z, 0, 1);
    gp_factor(gp, theta_for(s, trial, true));
    gp_settle(gp);
    training_fini(&t);
    return gp;
}

static void model(const struct gp_sampler *s, int64_t trial, double *point)
{
    struct training t;
    struct gp *violation = NULL;
    struct gp_basins basins = {0};
    struct gp_acq acq = {.kind = s->acquisition == ACQ_BOUND ? GP_BOUND : GP_LOGEI, .kappa = 1.8};
    int n_pending = count_pending(s);
    bool drawn = n_pending > 0 && s->acquisition == ACQ_LOGEI && s->fantasies > 1;
    double *theta = xcalloc((size_t)s->domain.d + 2, sizeof(*theta));
    if (is_elsewhere(s, trial, n_pending)) {
        elsewhere_training(s, &t, theta, &basins);
    } else if (is_local(s, trial)) {
        local_training(s, &t, theta);
    } else {
        memcpy(theta, theta_for(s, trial, false), ((size_t)s->domain.d + 2) * sizeof(*theta));
        training_init(s, &t, trial, s->n_obs, s->history, false, s->memo[OF_OBJECTIVE].reach);
    }
    struct gp *gp = model_of(s, t.pick, t.m, t.z, n_pending, drawn ? s->fantasies : 1);
    gp_factor(gp, theta);
    free(theta);
    append_pending(s, gp, drawn);
    acq.gp = gp;
    if (s->infeasible_seen) {
        violation = violation_model(s, trial);
        acq.violation = violation;
        acq.feasibility_only = true;
        for (int i = 0; i < t.m; i++) {
            acq.feasibility_only = acq.feasibility_only && violation_of(s, &s->obs[t.pick[i]]) > 0;
        }
    }
    incumbents(s, &t, gp, &acq);
    gp_acq_open(&acq);
    double *raw = xcalloc((size_t)s->domain.n + 1, sizeof(*raw));
    search(s, trial, &t, &acq, &basins, raw);
    space_from_unit(s->domain.space, raw, point);
    free(raw);
    gp_acq_close(&acq);
    gp_destroy(gp);
    gp_destroy(violation);
    gp_basins_fini(&basins);
    training_fini(&t);
}

static void propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct gp_sampler *s = self;
    bool started = trial > s->startup || s->n_others > 0;
    if (attempt > 0 || !started || s->n_obs < 3 || s->domain.n == 0) {
        start(s, trial, attempt, point);
    } else {
        model(s, trial, point);
    }
}

const struct sampler_ops gp_sampler = {
    .name = "gp",
    .summary = "Gaussian-process Bayesian optimization",
    .paper = PAPER,
    .caps = OPT_CAP_SLOW | OPT_CAP_MULTI | OPT_CAP_OUTCOME,
    .options = gp_options,
    .version = 2,
    .state_size = sizeof(struct gp_sampler),
    .init = sampler_init,
    .fini = sampler_fini,
    .propose = propose,
    .pending = pending,
    .observe = observe,
    .ended = ended,
    .others = others,
};

static enum mag_status gp_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                               struct mag_err *err)
{
    return search_init(self, &gp_sampler, cfg, ret_pointer, err);
}

const struct optimizer_ops gp_ops = {
    .name = "gp",
    .summary = "Gaussian-process Bayesian optimization",
    .paper = PAPER,
    .caps = OPT_CAP_SLOW | OPT_CAP_MULTI | OPT_CAP_OUTCOME,
    .options = gp_options,
    .version = 2,
    .init = gp_init,
    SEARCH_OPS,
};
