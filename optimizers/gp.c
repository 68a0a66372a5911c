/* SPDX-License-Identifier: Apache-2.0
 *
 * Gaussian-process Bayesian optimization (Jones, Schonlau and Welch, 1998; Snoek, Larochelle and
 * Adams, 2012). State is the list of what was told; everything else follows from it: what a
 * proposal computes (hyperparameters above all) is kept in a memo, a pure function of the list, so
 * that a proposal after a replay is equal to one in the live run.
 */
#include "base/alloc.h"
#include "optimizers/gp_acq.h"
#include "optimizers/gp_elsewhere.h"
#include "optimizers/gp_fits.h"
#include "optimizers/gp_propose.h"
#include "optimizers/gp_region.h"
#include "optimizers/gp_training.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAPER                                                                                      \
    "Snoek, Larochelle and Adams, Practical Bayesian Optimization of Machine Learning "            \
    "Algorithms, NIPS 2012; log EI: Ament et al., NeurIPS 2023"

#define ELITE 5
#define REGION_PARAMS 10 /* a trust region pays from so many parameters on */
#define LOCAL_EVALS 40   /* evaluations of the fit of a local model */
#define CROWD                                                                                      \
    4 /* so many trials running leave some to look elsewhere before the search settles             \
       */

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

struct gp_sampler {
    struct gp_domain domain;
    uint64_t seed;
    char *purpose;
    int startup, cap, fantasies;
    enum acquisition acquisition;
    bool region;
    struct gp_history history;
    struct gp_fits *fits;
};

static enum mag_status sampler_init(void *self, const struct sampler_config *cfg,
                                    const char **ret_pointer, struct mag_err *err)
{
    struct gp_sampler *s = self;
    const double *v = cfg->opt.values;
    gp_domain_init(&s->domain, cfg->opt.space, &cfg->opt.resource);
    s->seed = cfg->opt.seed;
    s->purpose = xasprintf("%s:gp", cfg->purpose);
    s->startup =
        isnan(v[OPTION_STARTUP]) ? (int)fmin(fmax(s->domain.n + 4, 6), 20) : (int)v[OPTION_STARTUP];
    s->acquisition = (enum acquisition)v[OPTION_ACQUISITION];
    s->region = v[OPTION_REGION] == REGION_ON ||
                (v[OPTION_REGION] == REGION_AUTO && s->domain.n >= REGION_PARAMS);
    s->cap = (int)v[OPTION_HISTORY];
    s->fantasies = (int)v[OPTION_FANTASIES];
    s->history = (struct gp_history){.domain = &s->domain,
                                     .purpose = s->purpose,
                                     .seed = s->seed,
                                     .objectives = cfg->opt.objectives};
    s->fits = xcalloc(1, sizeof(*s->fits));
    gp_fits_init(s->fits, s->domain.d);
    return MAG_OK;
}

static void sampler_fini(void *self)
{
    struct gp_sampler *s = self;
    gp_history_fini(&s->history);
    if (s->fits != NULL) {
        gp_fits_fini(s->fits);
    }
    free(s->fits);
    free(s->purpose);
    gp_domain_fini(&s->domain);
}

/* ---- what is told ---- */

static void pending(void *self, int64_t trial, const double *point)
{
    struct gp_sampler *s = self;
    gp_history_pending(&s->history, trial, point);
}

static void observe(void *self, int64_t trial, int64_t budget, const struct opt_result *r)
{
    struct gp_sampler *s = self;
    gp_history_observe(&s->history, trial, budget, r);
}

static void ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct gp_sampler *s = self;
    gp_history_ended(&s->history, trial);
}

static void others(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct gp_sampler *s = self;
    gp_history_others(&s->history, point, budget, r);
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

/* ---- which model ---- */

/* Local trials are every second one; the rule knows the id alone, and so does a replay. */
static bool is_local(const struct gp_sampler *s, int64_t trial)
{
    return s->region && trial % 2 != 0 && trial >= 2 * s->startup &&
           s->history.n_obs >= 2 * s->startup && gp_history_is_plain(&s->history);
}

static double side_of(const struct gp_sampler *s)
{
    const struct gp_history *h = &s->history;
    struct gp_step *steps = xcalloc((size_t)h->n_obs + 1, sizeof(*steps));
    for (int i = 0; i < h->n_obs; i++) {
        int64_t id = h->obs[i].trial;
        steps[i] = (struct gp_step){h->obs[i].values[0], id % 2 != 0 && id >= 2 * s->startup};
    }
    double side = gp_region_side(steps, h->n_obs, s->domain.n);
    free(steps);
    return side;
}

bool gp_sampler_settled(const void *self)
{
    const struct gp_sampler *s = self;
    return s->acquisition == ACQ_LOGEI && gp_elsewhere_may(&s->history) &&
           gp_elsewhere_settled(&s->history, s->cap);
}

/* Three trials of four once the search has settled; one of four before, while many run. */
static bool is_elsewhere(const struct gp_sampler *s, int64_t trial, int n_pending)
{
    if (trial % 4 == 0 || s->acquisition != ACQ_LOGEI || !gp_elsewhere_may(&s->history)) {
        return false;
    }
    return (n_pending >= CROWD && trial % 4 == 1) || gp_elsewhere_settled(&s->history, s->cap);
}

/* What the process of a trial is made of; theta[d + 2] are its hyperparameters. */
static void training_of(const struct gp_sampler *s, int64_t trial, int n_pending,
                        struct gp_training *t, struct gp_basins *basins, double *theta)
{
    const struct gp_history *h = &s->history;
    size_t bytes = ((size_t)s->domain.d + 2) * sizeof(*theta);
    if (is_elsewhere(s, trial, n_pending)) {
        memcpy(theta, gp_fits_for(s->fits, GP_FIT_THINNED, h, trial)->theta, bytes);
        gp_elsewhere_training(h, s->cap, theta, t, basins);
    } else if (is_local(s, trial)) {
        int want = 6 * s->domain.n + 10;
        gp_training_near(t, h, want < GP_FIT_CAP ? want : GP_FIT_CAP);
        struct gp *gp = gp_training_process(t, h, 0, 1);
        gp_theta_default(s->domain.d, theta);
        (void)gp_fit(gp, theta, LOCAL_EVALS);
        gp_destroy(gp);
    } else {
        const struct gp_fit *fit = gp_fits_for(s->fits, GP_FIT_VALUES, h, trial);
        memcpy(theta, fit->theta, bytes);
        gp_training_values(t, h, trial, h->n_obs, s->cap, fit->reach);
    }
}

/* ---- a proposal ---- */

/* The least posterior mean at the top budget over the training points (feasible ones where there
 * are any) and, in each draw, over the pending ones. */
static void incumbents(const struct gp_sampler *s, const struct gp_training *t, const struct gp *gp,
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
            bool usable = i >= t->m || acq->feasibility_only ||
                          gp_history_violation(&s->history, t->pick[i]) <= 0;
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
static int elite_of(const struct gp_sampler *s, const struct gp_training *t, double *elite)
{
    struct ranked *r = xcalloc((size_t)t->m + 1, sizeof(*r));
    int n = 0;
    int m = 0;
    for (int i = 0; i < t->m; i++) {
        if (!(s->history.obs[t->pick[i]].values[0] < t->level)) {
            r[m++] = (struct ranked){gp_history_violation(&s->history, t->pick[i]), t->z[i], i};
        }
    }
    qsort(r, (size_t)m, sizeof(*r), by_rank);
    for (int i = 0; i < m && n < ELITE; i++) {
        gp_domain_raw(&s->domain, s->history.obs[t->pick[r[i].i]].at,
                      elite + (size_t)n * (size_t)s->domain.n);
        n++;
    }
    free(r);
    return n;
}

/* Where the point of `trial` is searched: everywhere, or in the trust region around the best. */
static void search(const struct gp_sampler *s, int64_t trial, const struct gp_training *t,
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
    struct gp_training t;
    const struct gp_history *h = &s->history;
    gp_training_violations(&t, h, trial, h->n_obs, s->cap);
    struct gp *gp = gp_training_process(&t, h, 0, 1);
    gp_factor(gp, gp_fits_for(s->fits, GP_FIT_VIOLATIONS, h, trial)->theta);
    gp_settle(gp);
    gp_training_fini(&t);
    return gp;
}

static bool none_is_feasible(const struct gp_history *h, const struct gp_training *t)
{
    bool none = true;
    for (int i = 0; i < t->m; i++) {
        none = none && gp_history_violation(h, t->pick[i]) > 0;
    }
    return none;
}

static void model(const struct gp_sampler *s, int64_t trial, double *point)
{
    const struct gp_history *h = &s->history;
    struct gp_training t;
    struct gp *violation = NULL;
    struct gp_basins basins = {0};
    struct gp_acq acq = {.kind = s->acquisition == ACQ_BOUND ? GP_BOUND : GP_LOGEI, .kappa = 1.8};
    int n_pending = gp_history_n_pending(h);
    bool drawn = n_pending > 0 && s->acquisition == ACQ_LOGEI && s->fantasies > 1;
    double *theta = xcalloc((size_t)s->domain.d + 2, sizeof(*theta));
    training_of(s, trial, n_pending, &t, &basins, theta);
    struct gp *gp = gp_training_process(&t, h, n_pending, drawn ? s->fantasies : 1);
    gp_factor(gp, theta);
    free(theta);
    gp_history_append_pending(h, gp, drawn);
    acq.gp = gp;
    if (h->infeasible_seen) {
        violation = violation_model(s, trial);
        acq.violation = violation;
        acq.feasibility_only = none_is_feasible(h, &t);
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
    gp_training_fini(&t);
}

static void propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct gp_sampler *s = self;
    bool started = trial > s->startup || s->history.n_others > 0;
    if (attempt > 0 || !started || s->history.n_obs < 3 || s->domain.n == 0) {
        start(s, trial, attempt, point);
    } else {
        model(s, trial, point);
    }
}

/* As a search of its own and as a sampler of others. */
#define IDENTITY                                                                                   \
    .name = "gp", .summary = "Gaussian-process Bayesian optimization", .paper = PAPER,             \
    .caps = OPT_CAP_SLOW | OPT_CAP_MULTI | OPT_CAP_OUTCOME, .options = gp_options, .version = 3

const struct sampler_ops gp_sampler = {
    IDENTITY,
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
    IDENTITY,
    .init = gp_init,
    SEARCH_OPS,
};
