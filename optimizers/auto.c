/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of "auto", first match first. The reasons are bench/quality's: each rule takes what was
 * best, or not measurably worse than the best, on the tuning instances of its kind of problem.
 */
#include "optimizers/auto.h"

#include "base/alloc.h"
#include "optimizers/rungs.h"

#include <math.h>
#include <stdio.h>

/* What the rules look at. Nothing here can tell one problem from another of the same shape. */
struct facts {
    double size;         /* points of the space, INFINITY when continuous */
    bool exact;          /* size counts every constraint */
    bool rungs;          /* a resource with room for successive halving */
    int64_t least, most; /* of the resource */
    int64_t trials;      /* 0 = no limit */
    int objectives, params, numeric;
};

static struct facts facts_of(const struct opt_setup *setup)
{
    const struct opt_resource *r = &setup->resource;
    struct facts f = {.size = space_size(setup->space),
                      .exact = space_size_is_exact(setup->space),
                      .rungs = r->present && r->max > r->min && setup->folds <= 1,
                      .least = r->min,
                      .most = r->max,
                      .trials = setup->trials,
                      .objectives = setup->objectives > 0 ? setup->objectives : 1,
                      .params = setup->space->n};
    for (int i = 0; i < setup->space->n; i++) {
        enum param_type type = setup->space->params[i].type;
        f.numeric += type == PARAM_DOUBLE || type == PARAM_INTEGER;
    }
    return f;
}

static bool several_and_few(const struct facts *f)
{
    return f->objectives > 1 && f->trials > 0 && f->trials <= AUTO_FRONT_TRIALS &&
           f->params <= AUTO_GP_PARAMS;
}

static bool several(const struct facts *f)
{
    return f->objectives > 1;
}

static bool has_rungs(const struct facts *f)
{
    return f->rungs;
}

static bool has_rungs_and_many_params(const struct facts *f)
{
    return f->rungs && f->params > AUTO_TPE_PARAMS;
}

/* Few trials, and enough for Hyperband's first bracket: 3^K of them with K rungs below the top. */
static bool has_rungs_and_few_trials(const struct facts *f)
{
    int64_t levels[RUNGS_MAX];
    int k = f->rungs ? rungs_levels(f->least, f->most, 3, levels) - 1 : 0;
    return f->rungs && f->trials > 0 && f->trials <= AUTO_GP_TRIALS &&
           pow(3, k) <= (double)f->trials;
}

static bool has_rungs_few_trials_and_many_params(const struct facts *f)
{
    return has_rungs_and_few_trials(f) && has_rungs_and_many_params(f);
}

static bool can_be_tried_whole(const struct facts *f)
{
    return f->exact && f->size <= (f->trials > 0 ? (double)f->trials : AUTO_GRID_MAX);
}

static bool few_trials(const struct facts *f)
{
    return f->trials > 0 && f->trials <= AUTO_GP_TRIALS && f->params <= AUTO_GP_PARAMS;
}

static bool few_and_numeric(const struct facts *f)
{
    return few_trials(f) && f->numeric == f->params;
}

static bool numeric(const struct facts *f)
{
    return f->numeric == f->params;
}

static bool always(const struct facts *f)
{
    return true;
}

static char *why_several_and_few(const struct facts *f)
{
    return xasprintf("gp, because there are %d objectives and only %lld trials: a model of each "
                     "weighted sum spreads them along the front",
                     f->objectives, (long long)f->trials);
}

static char *why_several(const struct facts *f)
{
    return xasprintf("nsga2, because there are %d objectives: its population becomes their front",
                     f->objectives);
}

static char *why_rungs_few(const struct facts *f)
{
    return xasprintf("hyperband, because the experiment has a resource (%lld to %lld) and %lld "
                     "trials are few: its brackets spread them over all budgets; tpe proposes them",
                     (long long)f->least, (long long)f->most, (long long)f->trials);
}

static char *why_rungs_few_and_wide(const struct facts *f)
{
    return xasprintf("hyperband, because the experiment has a resource (%lld to %lld) and %lld "
                     "trials are few: its brackets spread them over all budgets; de proposes them, "
                     "which holds out with %d parameters",
                     (long long)f->least, (long long)f->most, (long long)f->trials, f->params);
}

static char *why_rungs_wide(const struct facts *f)
{
    return xasprintf("asha, because the experiment has a resource (%lld to %lld): poor trials end "
                     "early and the time goes to the promising ones; de proposes them, which "
                     "holds out with %d parameters",
                     (long long)f->least, (long long)f->most, f->params);
}

static char *why_rungs(const struct facts *f)
{
    return xasprintf("asha, because the experiment has a resource (%lld to %lld): poor trials end "
                     "early and the time goes to the promising ones, which tpe proposes",
                     (long long)f->least, (long long)f->most);
}

static char *why_grid(const struct facts *f)
{
    return xasprintf("grid, because all %.0f points of the space can be tried", f->size);
}

static char *why_few(const struct facts *f)
{
    return xasprintf("gp, because %lld trials of %d parameters are few enough for a Gaussian "
                     "process, which needs the fewest trials to come near the optimum",
                     (long long)f->trials, f->params);
}

static char *why_few_and_numeric(const struct facts *f)
{
    return xasprintf("portfolio, because all %d parameters are numbers and %lld trials are few "
                     "enough for a Gaussian process, which takes turns with CMA-ES",
                     f->params, (long long)f->trials);
}

static char *why_numeric(const struct facts *f)
{
    if (f->trials == 0) {
        return xasprintf("cmaes, because all %d parameters are numbers and limits.trials is not "
                         "given: the longer it runs, the closer it comes",
                         f->params);
    }
    return xasprintf("cmaes, because all %d parameters are numbers and %lld trials are many: the "
                     "longer it runs, the closer it comes",
                     f->params, (long long)f->trials);
}

static char *why_many(const struct facts *f)
{
    if (f->trials == 0) {
        return xasprintf("tpe, because limits.trials is not given: it is quick whatever the number "
                         "of trials and takes every kind of parameter");
    }
    return xasprintf("tpe, because %lld trials of %d parameters are many: it stays quick and takes "
                     "every kind of parameter",
                     (long long)f->trials, f->params);
}

struct rule {
    bool (*applies)(const struct facts *f);
    const char *optimizer; /* JSON */
    char *(*why)(const struct facts *f);
};

static const struct rule rules[] = {
    /* Before the resource: successive halving ranks by one objective. */
    {several_and_few, "{\"algorithm\": \"gp\"}", why_several_and_few},
    {several, "{\"algorithm\": \"nsga2\"}", why_several},
    /* 300 evaluations of DEHB's own problems: nearer than asha on all three, with de on 100
     * parameters too. */
    {has_rungs_few_trials_and_many_params, "{\"algorithm\": \"hyperband\", \"sampler\": \"de\"}",
     why_rungs_few_and_wide},
    {has_rungs_and_few_trials, "{\"algorithm\": \"hyperband\", \"sampler\": \"tpe\"}",
     why_rungs_few},
    {has_rungs_and_many_params, "{\"algorithm\": \"asha\", \"sampler\": \"de\"}", why_rungs_wide},
    {has_rungs, "{\"algorithm\": \"asha\", \"sampler\": \"tpe\"}", why_rungs},
    {can_be_tried_whole, "{\"algorithm\": \"grid\"}", why_grid},
    /* 200 trials of BBOB's 24 functions in 5 dimensions: better than gp on 14 and worse on 8,
     * better than tpe on 19 and worse on 3. */
    {few_and_numeric, "{\"algorithm\": \"portfolio\"}", why_few_and_numeric},
    {few_trials, "{\"algorithm\": \"gp\"}", why_few},
    /* 2,000 trials of the same: better than tpe on 17, to ten digits on 13. */
    {numeric, "{\"algorithm\": \"cmaes\"}", why_numeric},
    {always, "{\"algorithm\": \"tpe\"}", why_many},
};

json_t *auto_pick(const struct opt_setup *setup, char **ret_why)
{
    struct facts f = facts_of(setup);
    const struct rule *r = rules;
    while (!r->applies(&f)) {
        r++;
    }
    *ret_why = r->why(&f);
    return json_loads(r->optimizer, 0, NULL);
}
