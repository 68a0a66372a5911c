/* SPDX-License-Identifier: Apache-2.0
 *
 * Differential evolution as an algorithm: the population is the sampler's (de_sampler.c); here is
 * when trials are given. "steady-state" (asynchronous): slots in turn, nobody waits.
 * "generational": asking past a generation's end waits for its stragglers. A trial without a value
 * (failed, cancelled) is infinitely bad, so it ends its place in the generation like any other.
 */
#include "optimizers/de.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"

#include <math.h>
#include <stdio.h>

static const char *const modes[] = {"steady-state", "generational", NULL};
static const char *const strategies[] = {"rand/1", "current-to-best/1", "shade", "lshade", NULL};

const struct opt_option de_options[] = {
    {"population", OPT_T_INT, 4, 10000, NAN, NULL,
     "members; three others make a mutant, so at least 4; default: 10, lshade 20"},
    {"generations", OPT_T_INT, 1, 1e9, NAN, NULL,
     "times population trials, the random first generation included; default: until the limit of "
     "trials"},
    {"strategy", OPT_T_ENUM, 0, 0, 0, strategies,
     "how mutants are made; shade and lshade learn mutation and crossover from what succeeds"},
    {"mutation", OPT_T_REAL, 0, 2, 0.5, NULL,
     "F: weight of the difference of two members; not for shade, lshade"},
    {"crossover", OPT_T_REAL, 0, 1, 0.7, NULL,
     "CR: probability that a coordinate comes from the mutant; not for shade, lshade"},
    {"mode", OPT_T_ENUM, 0, 0, 0, modes,
     "steady-state replaces at once; generational waits for each generation's end"},
    {0},
};

int64_t de_population(const struct opt_config *cfg)
{
    if (!isnan(cfg->values[DE_POPULATION])) {
        return (int64_t)cfg->values[DE_POPULATION];
    }
    return cfg->values[DE_STRATEGY] == DE_LSHADE ? 20 : 10;
}

struct de_search {
    struct search base;
    int64_t size;
    int64_t max_trials; /* 0 = no end */
    bool generational;
    int64_t given, open; /* trials adopted, and those that have not ended */
};

static enum mag_status de_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                               struct mag_err *err)
{
    struct de_search *d = self;
    double generations = cfg->values[DE_GENERATIONS];
    d->size = de_population(cfg);
    d->generational = cfg->values[DE_MODE] == 1;
    d->max_trials = isnan(generations) ? 0 : (int64_t)generations * d->size;
    if (d->generational && cfg->values[DE_STRATEGY] == DE_LSHADE) {
        *ret_pointer = "/mode";
        return mag_fail(err, MAG_INVALID,
                        "\"lshade\" shrinks its population, so it has no generations of one size: "
                        "leave \"mode\" at \"steady-state\"");
    }
    return search_init(&d->base, &de_sampler, cfg, ret_pointer, err);
}

static void none(struct opt_suggestion *out, enum opt_answer answer, const char *code,
                 const char *why)
{
    out->answer = answer;
    out->why_code = code;
    (void)snprintf(out->why, sizeof(out->why), "%s", why);
}

static void de_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct de_search *d = self;
    if (ask->may_create && d->max_trials > 0 && d->given >= d->max_trials) {
        none(out, OPT_DONE, "generations-done", "all generations have been run");
        return;
    }
    bool waits = d->generational && d->open > 0 && d->given > 0 && d->given % d->size == 0;
    if (ask->may_create && waits) {
        none(out, OPT_WAIT, "generation-not-finished", "");
        (void)snprintf(out->why, sizeof(out->why),
                       "%lld trials of generation %lld are still running", (long long)d->open,
                       (long long)(d->given / d->size));
        return;
    }
    search_suggest(&d->base, ask, out);
}

static void de_adopt(void *self, const struct opt_suggestion *s)
{
    struct de_search *d = self;
    if (s->answer == OPT_TRIAL) {
        d->given++;
        d->open++;
    }
    search_adopt(&d->base, s);
}

static void de_finish(void *self, int64_t trial, enum opt_outcome outcome,
                      const struct opt_result *r)
{
    struct de_search *d = self;
    d->open--;
    search_finish(&d->base, trial, outcome, r);
}

static json_t *de_save(const void *self)
{
    const struct de_search *d = self;
    json_t *o = search_save(&d->base);
    (void)json_object_set_new(o, "given", json_integer(d->given));
    (void)json_object_set_new(o, "open", json_integer(d->open));
    return o;
}

static enum mag_status de_load(void *self, const json_t *state, struct mag_err *err)
{
    struct de_search *d = self;
    d->given = json_integer_value(json_object_get(state, "given"));
    d->open = json_integer_value(json_object_get(state, "open"));
    if (d->given < 0 || d->open < 0 || d->open > d->given) {
        return mag_fail(err, MAG_CORRUPT, "the state counts %lld trials, %lld of them open",
                        (long long)d->given, (long long)d->open);
    }
    return search_load(&d->base, state, err);
}

static void de_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct de_search *d = self;
    int64_t n =
        d->max_trials > 0 && (trials == 0 || d->max_trials < trials) ? d->max_trials : trials;
    if (n > 0) {
        (void)json_array_append_new(rows, json_pack("{s:i, s:i, s:I, s:I, s:I}", "bracket", 0,
                                                    "rung", 0, "budget", (json_int_t)d->base.budget,
                                                    "trials", (json_int_t)n, "epochs",
                                                    (json_int_t)(n * d->base.budget)));
    }
}

const struct optimizer_ops de_ops = {
    .name = "de",
    .summary = "differential evolution: members cross with differences of others",
    .paper = "Storn and Price, Differential Evolution, Journal of Global Optimization 11 (1997)",
    .caps = OPT_CAP_OUTCOME,
    .options = de_options,
    .version = 2,
    .state_size = sizeof(struct de_search),
    .init = de_init,
    .fini = search_fini, /* base is the first member */
    .suggest = de_suggest,
    .adopt = de_adopt,
    .observe = search_observe,
    .report = search_report,
    .finish = de_finish,
    .save = de_save,
    .load = de_load,
    .plan = de_plan,
};
