/* SPDX-License-Identifier: Apache-2.0
 *
 * ASHA (Li et al., MLSys 2020), the promotion variant of its Algorithm 2: a trial pauses at each
 * rung; whoever asks resumes the best trial of the top 1/eta of the highest rung that has one, else
 * starts a new trial in the base rung. A resumed trial goes on from its checkpoint.
 *
 * What counts: a rung's entries are the values reported there, one a trial. A trial that fails or
 * is cancelled before the rung's budget leaves no entry; one that ends after it keeps its entry (a
 * true value) but can no longer be promoted. Nothing ends the search early: when no trial may be
 * created it goes on promoting until no running trial could cause another promotion.
 */
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"
#include "optimizers/rungs.h"
#include "optimizers/sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_ETA, OPT_BRACKET, OPT_SAMPLER };

static const struct opt_option asha_options[] = {
    {"reduction_factor", OPT_T_INT, 2, 1000, 3, NULL,
     "one in this many trials of a rung is promoted"},
    {"bracket", OPT_T_INT, 0, RUNGS_MAX, 0, NULL,
     "rung in which new trials start; higher spares promising late starters"},
    {"sampler", OPT_T_ENUM, 0, 0, 0, sampler_names, "where the points of new trials come from"},
    {0},
};

enum trial_phase { NOT_OURS = 0, RUNNING = 1, PAUSED = 2, ENDED = 3 };

struct asha_trial {
    uint8_t phase;
    uint8_t rung;   /* RUNNING: runs up to this one; PAUSED: stands there */
    uint8_t passed; /* rungs in which it has an entry are below this one */
    uint32_t entry; /* PAUSED: its entry there */
};

IDTAB(asha_trials, struct asha_trial)

struct asha {
    struct sampler *sampler;
    int64_t eta;
    int n_levels;
    int base;
    int64_t levels[RUNGS_MAX];
    struct rung rungs[RUNGS_MAX];
    int64_t running[RUNGS_MAX]; /* trials that run up to this rung */
    struct asha_trials trials;
};

static enum mag_status asha_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                                 struct mag_err *err)
{
    struct asha *a = self;
    *a = (struct asha){.eta = (int64_t)cfg->values[OPT_ETA]};
    a->base = (int)cfg->values[OPT_BRACKET];
    a->n_levels = rungs_levels(cfg->resource.min, cfg->resource.max, a->eta, a->levels);
    for (int k = 0; k < a->n_levels; k++) {
        rung_init(&a->rungs[k], a->eta);
    }
    if (a->n_levels < 2) {
        return mag_fail(
            err, MAG_INVALID,
            "no rung fits between the resource's min %lld and max %lld: raise max, or use "
            "\"random\"",
            (long long)cfg->resource.min, (long long)cfg->resource.max);
    }
    if (a->base >= a->n_levels) {
        *ret_pointer = "/bracket";
        return mag_fail(err, MAG_INVALID,
                        "no rung fits: %lld to %lld by %lld has the rungs 0 to %d",
                        (long long)cfg->resource.min, (long long)cfg->resource.max,
                        (long long)a->eta, a->n_levels - 1);
    }
    return sampler_create(sampler_registry()[(int)cfg->values[OPT_SAMPLER]], cfg, NULL, "asha",
                          ret_pointer, &a->sampler, err);
}

static void asha_fini(void *self)
{
    struct asha *a = self;
    for (int k = 0; k < a->n_levels; k++) {
        rung_fini(&a->rungs[k]);
    }
    sampler_destroy(a->sampler);
    free(a->trials.at);
}

/* Waits for a report that could still promote somebody, or is done. */
static void wait_or_done(const struct asha *a, struct opt_suggestion *out, const char *code,
                         const char *why)
{
    for (int k = a->n_levels - 2; k >= a->base; k--) {
        if (a->running[k] > 0) {
            out->answer = OPT_WAIT;
            out->why_code = "rung-not-full";
            (void)snprintf(out->why, sizeof(out->why),
                           "rung %d (budget %lld) has %u reports and %u promotions; %lld running "
                           "trials may bring the next",
                           k, (long long)a->levels[k], a->rungs[k].n, a->rungs[k].n_spent,
                           (long long)a->running[k]);
            return;
        }
    }
    out->answer = OPT_DONE;
    out->why_code = code;
    (void)snprintf(out->why, sizeof(out->why), "%s and no trial can be promoted any more", why);
}

static void asha_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct asha *a = self;
    for (int k = a->n_levels - 2; k >= a->base; k--) {
        const struct rung_entry *e = rung_candidate(&a->rungs[k]);
        if (e != NULL) {
            out->answer = OPT_RESUME;
            out->trial = e->trial;
            out->rung = k + 1;
            out->bracket = a->base;
            out->budget = a->levels[k + 1];
            return;
        }
    }
    if (!ask->may_create) {
        wait_or_done(a, out, "trials-limit", "the limit of trials is reached");
        return;
    }
    if (out->point != NULL && !sampler_propose(a->sampler, ask->next_trial, out->point)) {
        wait_or_done(a, out, "space-exhausted", "every point of the space has been tried");
        return;
    }
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    out->rung = a->base;
    out->bracket = a->base;
    out->budget = a->levels[a->base];
}

/* The rung that a budget leads to: the first that is not below it. */
static int rung_of(const struct asha *a, int64_t budget)
{
    int k = 0;
    while (k < a->n_levels - 1 && a->levels[k] < budget) {
        k++;
    }
    return k;
}

static void asha_adopt(void *self, const struct opt_suggestion *s)
{
    struct asha *a = self;
    struct asha_trial *t = asha_trials_of(&a->trials, s->trial);
    if (s->answer == OPT_RESUME && t->phase == PAUSED) {
        rung_spend(&a->rungs[t->rung], t->entry);
    }
    if (s->answer == OPT_TRIAL) {
        sampler_pending(a->sampler, s->trial, s->point);
    }
    t->phase = RUNNING;
    t->rung = (uint8_t)rung_of(a, s->budget);
    a->running[t->rung]++;
}

static enum opt_action asha_report(void *self, int64_t trial, int64_t step,
                                   const struct opt_result *r)
{
    struct asha *a = self;
    struct asha_trial *t = asha_trials_of(&a->trials, trial);
    if (t->phase != RUNNING) {
        return OPT_CONTINUE;
    }
    /* A program may step over a rung's budget; its first report from there on is the entry. */
    for (; t->passed < a->n_levels && step >= a->levels[t->passed]; t->passed++) {
        sampler_observe(a->sampler, trial, a->levels[t->passed], r);
        bool stays = t->passed == t->rung && t->rung < a->n_levels - 1;
        uint32_t entry = rung_add(&a->rungs[t->passed], trial, r->value, !stays);
        if (stays) {
            a->running[t->rung]--;
            t->phase = PAUSED;
            t->entry = entry;
            t->passed++;
            return OPT_PAUSE;
        }
    }
    return OPT_CONTINUE;
}

static void asha_finish(void *self, int64_t trial, enum opt_outcome outcome,
                        const struct opt_result *r)
{
    struct asha *a = self;
    struct asha_trial *t = asha_trials_of(&a->trials, trial);
    if (t->phase == RUNNING) {
        a->running[t->rung]--;
    } else if (t->phase == PAUSED) {
        rung_spend(&a->rungs[t->rung], t->entry);
    }
    if (t->phase != NOT_OURS && t->phase != ENDED) {
        sampler_ended(a->sampler, trial, outcome);
    }
    t->phase = ENDED;
}

static void asha_observe(void *self, const double *point, int64_t budget,
                         const struct opt_result *r)
{
    struct asha *a = self;
    sampler_others(a->sampler, point, budget, r);
}

static int64_t asha_first_budget(const void *self)
{
    const struct asha *a = self;
    return a->levels[a->base];
}

static json_t *asha_save(const void *self)
{
    const struct asha *a = self;
    json_t *trials = json_array();
    json_t *rungs = json_array();
    for (int64_t id = 0; id < a->trials.n; id++) {
        const struct asha_trial *t = &a->trials.at[id];
        if (t->phase != NOT_OURS) {
            (void)json_array_append_new(trials,
                                        json_pack("[I,i,i,i,I]", (json_int_t)id, t->phase, t->rung,
                                                  t->passed, (json_int_t)t->entry));
        }
    }
    for (int k = 0; k < a->n_levels; k++) {
        json_t *entries = json_array();
        for (uint32_t i = 0; i < a->rungs[k].n; i++) {
            const struct rung_entry *e = &a->rungs[k].entries[i];
            (void)json_array_append_new(
                entries, json_pack("[I,f,b]", (json_int_t)e->trial, e->value, e->spent));
        }
        (void)json_array_append_new(rungs, entries);
    }
    return json_pack("{s:i, s:o, s:o, s:o}", "version", 1, "trials", trials, "rungs", rungs, "told",
                     sampler_save(a->sampler));
}

static bool load_trial(struct asha *a, const json_t *row)
{
    json_int_t id = json_integer_value(json_array_get(row, 0));
    json_int_t phase = json_integer_value(json_array_get(row, 1));
    json_int_t rung = json_integer_value(json_array_get(row, 2));
    json_int_t passed = json_integer_value(json_array_get(row, 3));
    json_int_t entry = json_integer_value(json_array_get(row, 4));
    if (id <= 0 || id > IDTAB_ID_MAX || phase < RUNNING || phase > ENDED || rung < 0 ||
        rung >= a->n_levels || passed < 0 || passed > a->n_levels || entry < 0 ||
        (phase == PAUSED && entry >= (json_int_t)a->rungs[rung].n)) {
        return false;
    }
    *asha_trials_of(&a->trials, id) = (struct asha_trial){.phase = (uint8_t)phase,
                                                          .rung = (uint8_t)rung,
                                                          .passed = (uint8_t)passed,
                                                          .entry = (uint32_t)entry};
    a->running[rung] += phase == RUNNING;
    return true;
}

static enum mag_status asha_load(void *self, const json_t *state, struct mag_err *err)
{
    struct asha *a = self;
    const json_t *rungs = json_object_get(state, "rungs");
    size_t i = 0;
    json_t *row = NULL;
    if (json_integer_value(json_object_get(state, "version")) != 1) {
        return mag_fail(err, MAG_UNSUPPORTED, "state of another version");
    }
    if (json_array_size(rungs) != (size_t)a->n_levels) {
        return mag_fail(err, MAG_CORRUPT, "the state has %zu rungs, not %d", json_array_size(rungs),
                        a->n_levels);
    }
    for (int k = 0; k < a->n_levels; k++) {
        json_array_foreach(json_array_get(rungs, (size_t)k), i, row)
        {
            (void)rung_add(&a->rungs[k], json_integer_value(json_array_get(row, 0)),
                           json_number_value(json_array_get(row, 1)),
                           json_is_true(json_array_get(row, 2)));
        }
    }
    json_array_foreach(json_object_get(state, "trials"), i, row)
    {
        if (!load_trial(a, row)) {
            return mag_fail(err, MAG_CORRUPT, "the state's trial in row %zu is wrong", i);
        }
    }
    return sampler_load(a->sampler, json_object_get(state, "told"), err);
}

/* What a large search tends to; early promotions are judged on few reports, so a rung may get more.
 */
static void asha_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct asha *a = self;
    int64_t n = trials;
    int64_t from = 0;
    for (int k = a->base; k < a->n_levels; k++) {
        json_t *row = json_pack("{s:i, s:i, s:I}", "bracket", a->base, "rung", k, "budget",
                                (json_int_t)a->levels[k]);
        (void)json_object_set_new(row, "trials", trials > 0 ? json_integer(n) : json_null());
        (void)json_object_set_new(
            row, "epochs", trials > 0 ? json_integer(n * (a->levels[k] - from)) : json_null());
        (void)json_array_append_new(rows, row);
        from = a->levels[k];
        n /= a->eta;
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
