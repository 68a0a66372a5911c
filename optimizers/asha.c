/* SPDX-License-Identifier: Apache-2.0
 *
 * ASHA (Li et al., MLSys 2020). The promotion variant is Algorithm 2 of the paper: a trial pauses
 * at each rung; whoever asks resumes the best trial of the top 1/eta of the highest rung that has
 * one, else starts a new trial in the base rung. A resumed trial goes on from its checkpoint. In
 * the stopping variant (the one of schedulers that cannot pause) a trial runs on from rung to rung
 * while it is among the best max(1, floor(n / eta)) of the n that have reached the rung so far,
 * itself included, and stops else.
 *
 * Nothing ends the search early: when no trial may be created it goes on promoting until no running
 * trial could cause another promotion.
 *
 * With several brackets a new trial's first rung is drawn, as often as Hyperband starts trials
 * there: (K + 1) / (K + 1 - s) / budget of rung s. All trials compete in the same rungs; one that
 * starts higher is spared the rungs below.
 */
#include "optimizers/registry.h"

#include "base/pcg.h"
#include "optimizers/halving.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPT_ETA, OPT_TYPE, OPT_BRACKET, OPT_BRACKETS, OPT_SAMPLER };

static const char *const types[] = {"promotion", "stopping", NULL};

static const struct opt_option asha_options[] = {
    {"reduction_factor", OPT_T_INT, 2, 1000, 3, NULL,
     "one in this many trials of a rung is promoted"},
    {"type", OPT_T_ENUM, 0, 0, 0, types,
     "trials pause at a rung until they are promoted, or run on unless they are stopped there"},
    {"bracket", OPT_T_INT, 0, RUNGS_MAX, 0, NULL,
     "rung in which new trials start; higher spares promising late starters"},
    {"brackets", OPT_T_INT, 1, RUNGS_MAX, 1, NULL,
     "from how many rungs, that one and those above it, each trial's first one is drawn"},
    {"sampler", OPT_T_ENUM, 0, 0, 0, sampler_names, "where the points of new trials come from"},
    {0},
};

struct asha {
    struct halving h; /* first: the callbacks of halving.h take it */
    uint64_t seed;
    int base, brackets;
};

static enum mag_status asha_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                                 struct mag_err *err)
{
    struct asha *a = self;
    struct halving_setup setup = {.sampler = sampler_registry()[(int)cfg->values[OPT_SAMPLER]],
                                  .purpose = "asha",
                                  .eta = (int64_t)cfg->values[OPT_ETA],
                                  .stops = cfg->values[OPT_TYPE] != 0};
    a->seed = cfg->seed;
    a->base = (int)cfg->values[OPT_BRACKET];
    a->brackets = (int)cfg->values[OPT_BRACKETS];
    enum mag_status st = halving_init(&a->h, &setup, cfg, ret_pointer, err);
    if (st == MAG_OK && a->base + a->brackets > a->h.n_levels) {
        *ret_pointer = a->base >= a->h.n_levels ? "/bracket" : "/brackets";
        return mag_fail(err, MAG_INVALID,
                        "no rung fits: %lld to %lld by %lld has the rungs 0 to %d",
                        (long long)cfg->resource.min, (long long)cfg->resource.max,
                        (long long)a->h.eta, a->h.n_levels - 1);
    }
    return st;
}

static void asha_fini(void *self)
{
    struct asha *a = self;
    halving_fini(&a->h);
}

static double bracket_weight(const struct asha *a, int s)
{
    return (double)a->h.n_levels / (double)(a->h.n_levels - s) / (double)a->h.levels[s];
}

/* The rung in which this trial starts. */
static int start_of(const struct asha *a, int64_t trial)
{
    struct pcg64 g;
    double sum = 0;
    if (a->brackets == 1) {
        return a->base;
    }
    for (int s = a->base; s < a->base + a->brackets; s++) {
        sum += bracket_weight(a, s);
    }
    pcg_stream(&g, a->seed, "asha/bracket", (uint64_t)trial);
    double u = pcg64_double(&g) * sum;
    int s = a->base;
    for (; s < a->base + a->brackets - 1 && u >= bracket_weight(a, s); s++) {
        u -= bracket_weight(a, s);
    }
    return s;
}

static void asha_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct asha *a = self;
    if (halving_promote(&a->h, 0, out)) {
        out->bracket = a->h.trials.at[out->trial].start;
        return;
    }
    if (!ask->may_create) {
        halving_none(&a->h, out, "trials-limit", "the limit of trials is reached");
        return;
    }
    int start = start_of(a, ask->next_trial);
    if (!halving_create(&a->h, start, ask, out)) {
        halving_none(&a->h, out, "space-exhausted", "every point of the space has been tried");
        return;
    }
    out->bracket = start;
}

static void asha_adopt(void *self, const struct opt_suggestion *s)
{
    struct asha *a = self;
    /* A point that we did not suggest has its budget from first_budget, which knows no trial. */
    halving_adopt(&a->h, s, a->h.stops ? start_of(a, s->trial) : halving_rung(&a->h, s->budget));
}

static enum opt_action asha_report(void *self, int64_t trial, int64_t step,
                                   const struct opt_result *r)
{
    struct asha *a = self;
    return halving_report(&a->h, trial, step, r);
}

static void asha_finish(void *self, int64_t trial, enum opt_outcome outcome,
                        const struct opt_result *r)
{
    struct asha *a = self;
    halving_finish(&a->h, trial, outcome);
}

static void asha_observe(void *self, const double *point, int64_t budget,
                         const struct opt_result *r)
{
    struct asha *a = self;
    sampler_others(a->h.sampler, point, budget, r);
}

static int64_t asha_first_budget(const void *self)
{
    const struct asha *a = self;
    return halving_budget(&a->h, a->base);
}

static json_t *asha_save(const void *self)
{
    const struct asha *a = self;
    return halving_save(&a->h);
}

static enum mag_status asha_load(void *self, const json_t *state, struct mag_err *err)
{
    struct asha *a = self;
    return halving_load(&a->h, state, err);
}

/* What a large search tends to; early promotions are judged on few reports, so a rung may get more.
 */
static void asha_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct asha *a = self;
    double sum = 0;
    double before = 0;
    int64_t given = 0;
    for (int s = a->base; s < a->base + a->brackets; s++) {
        sum += bracket_weight(a, s);
    }
    for (int s = a->base; s < a->base + a->brackets; s++) {
        before += bracket_weight(a, s);
        int64_t until =
            s < a->base + a->brackets - 1 ? llround((double)trials * (before / sum)) : trials;
        if (trials == 0 || until > given) {
            halving_rows(&a->h, s, s, a->h.top, until - given, rows);
        }
        given = until;
    }
}

const struct optimizer_ops asha_ops = {
    .name = "asha",
    .summary = "asynchronous successive halving: promotes the best trials to larger budgets",
    .paper = "Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020",
    .caps = OPT_CAP_RESOURCE | OPT_CAP_PAUSES | OPT_CAP_ESTIMATE,
    .options = asha_options,
    .version = 1,
    .state_size = sizeof(struct asha),
    .init = asha_init,
    .fini = asha_fini,
    .suggest = asha_suggest,
    .adopt = asha_adopt,
    .observe = asha_observe,
    .report = asha_report,
    .finish = asha_finish,
    .first_budget = asha_first_budget,
    .save = asha_save,
    .load = asha_load,
    .plan = asha_plan,
};
