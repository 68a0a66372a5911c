/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/halving.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATE_VERSION 2

enum mag_status halving_init(struct halving *h, const struct halving_setup *setup,
                             const struct opt_config *cfg, const char **ret_pointer,
                             struct mag_err *err)
{
    *h = (struct halving){.eta = setup->eta, .stops = setup->stops};
    h->n_levels = rungs_levels(cfg->resource.min, cfg->resource.max, h->eta, h->levels);
    h->top = h->n_levels - 1;
    if (h->n_levels < 2) {
        return mag_fail(
            err, MAG_INVALID,
            "no rung fits between the resource's min %lld and max %lld: raise max, or use "
            "\"random\"",
            (long long)cfg->resource.min, (long long)cfg->resource.max);
    }
    h->n_ladders = setup->apart ? h->n_levels : 1;
    h->ladders = xcalloc((size_t)h->n_ladders, sizeof(*h->ladders));
    for (int i = 0; i < h->n_ladders; i++) {
        for (int k = 0; k < h->n_levels; k++) {
            rung_init(&h->ladders[i].rungs[k], h->eta);
        }
    }
    return sampler_create(setup->sampler, cfg, setup->sampler_values, setup->purpose, ret_pointer,
                          &h->sampler, err);
}

void halving_fini(struct halving *h)
{
    for (int i = 0; i < h->n_ladders; i++) {
        for (int k = 0; k < h->n_levels; k++) {
            rung_fini(&h->ladders[i].rungs[k]);
        }
    }
    free(h->ladders);
    sampler_destroy(h->sampler);
    free(h->trials.at);
}

/* ---- decisions ---- */

struct ladder *halving_ladder(const struct halving *h, int start)
{
    return &h->ladders[h->n_ladders > 1 ? start : 0];
}

int halving_rung(const struct halving *h, int64_t budget)
{
    int k = 0;
    while (k < h->n_levels - 1 && h->levels[k] < budget) {
        k++;
    }
    return k;
}

int64_t halving_budget(const struct halving *h, int start)
{
    return h->levels[h->stops ? h->n_levels - 1 : start];
}

bool halving_promote(const struct halving *h, int start, struct opt_suggestion *out)
{
    const struct ladder *l = halving_ladder(h, start);
    for (int k = h->top - 1; k >= 0; k--) {
        const struct rung_entry *e = rung_candidate(&l->rungs[k]);
        if (e != NULL) {
            out->answer = OPT_RESUME;
            out->trial = e->trial;
            out->rung = k + 1;
            out->budget = h->levels[k + 1];
            return true;
        }
    }
    return false;
}

bool halving_create(const struct halving *h, int start, const struct opt_ask *ask,
                    struct opt_suggestion *out)
{
    if (out->point != NULL && !sampler_propose(h->sampler, ask->next_trial, out->point)) {
        return false;
    }
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    out->rung = h->stops ? h->n_levels - 1 : start;
    out->budget = halving_budget(h, start);
    return true;
}

void halving_none(const struct halving *h, struct opt_suggestion *out, const char *code,
                  const char *why)
{
    /* A report at the top rung promotes nobody, except that PASHA may raise the top by it. */
    int highest = h->top < h->n_levels - 1 ? h->top : h->n_levels - 2;
    for (int k = h->stops ? -1 : highest; k >= 0; k--) {
        int64_t running = 0;
        uint32_t n = 0;
        uint32_t spent = 0;
        for (int i = 0; i < h->n_ladders; i++) {
            running += h->ladders[i].running[k];
            n += h->ladders[i].rungs[k].n;
            spent += h->ladders[i].rungs[k].n_spent;
        }
        if (running > 0) {
            out->answer = OPT_WAIT;
            out->why_code = "rung-not-full";
            (void)snprintf(out->why, sizeof(out->why),
                           "rung %d (budget %lld) has %u reports and %u promotions; %lld running "
                           "trials may bring the next",
                           k, (long long)h->levels[k], n, spent, (long long)running);
            return;
        }
    }
    out->answer = OPT_DONE;
    out->why_code = code;
    (void)snprintf(out->why, sizeof(out->why), "%s%s", why,
                   h->stops ? "" : " and no trial can be promoted any more");
}

/* ---- history ---- */

/* A running or paused trial stops being that. */
static void leave(struct halving *h, const struct halving_trial *t)
{
    struct ladder *l = halving_ladder(h, t->start);
    if (t->phase == HALVING_RUNNING) {
        l->running[t->rung]--;
    } else if (t->phase == HALVING_PAUSED) {
        rung_spend(&l->rungs[t->rung], t->entry);
    }
}

void halving_adopt(struct halving *h, const struct opt_suggestion *s, int start)
{
    struct halving_trial *t = halving_trials_of(&h->trials, s->trial);
    if (s->answer == OPT_TRIAL) {
        sampler_pending(h->sampler, s->trial, s->point);
        t->start = (uint8_t)start;
        halving_ladder(h, start)->started++;
    } else {
        leave(h, t);
    }
    t->phase = HALVING_RUNNING;
    t->rung = (uint8_t)halving_rung(h, s->budget);
    halving_ladder(h, t->start)->running[t->rung]++;
}

/* The trial's value in rung k; true when it goes no further for now. */
static bool enter(struct halving *h, struct halving_trial *t, int64_t trial, int k, double value,
                  enum opt_action *ret_action)
{
    struct ladder *l = halving_ladder(h, t->start);
    bool last = k == h->n_levels - 1;
    bool pauses = !h->stops && k == t->rung && !last;
    if (k < t->start) {
        return false;
    }
    uint32_t entry = rung_add(&l->rungs[k], trial, value, !pauses);
    if (pauses) {
        l->running[k]--;
        t->phase = HALVING_PAUSED;
        t->entry = entry;
        *ret_action = OPT_PAUSE;
    } else if (h->stops && !last && !rung_keeps(&l->rungs[k], entry)) {
        *ret_action = OPT_STOP;
    }
    return *ret_action != OPT_CONTINUE;
}

enum opt_action halving_report(struct halving *h, int64_t trial, int64_t step,
                               const struct opt_result *r)
{
    struct halving_trial *t = halving_trials_of(&h->trials, trial);
    enum opt_action action = OPT_CONTINUE;
    bool over = t->phase != HALVING_RUNNING;
    while (!over && t->passed < h->n_levels && step >= h->levels[t->passed]) {
        int k = t->passed++;
        sampler_observe(h->sampler, trial, h->levels[k], r);
        over = enter(h, t, trial, k, r->value, &action);
    }
    return action;
}

void halving_finish(struct halving *h, int64_t trial, enum opt_outcome outcome)
{
    struct halving_trial *t = halving_trials_of(&h->trials, trial);
    leave(h, t);
    if (t->phase == HALVING_RUNNING || t->phase == HALVING_PAUSED) {
        sampler_ended(h->sampler, trial, outcome);
    }
    t->phase = HALVING_ENDED;
}

/* ---- state ---- */

static json_t *ladder_json(const struct halving *h, const struct ladder *l)
{
    json_t *rungs = json_array();
    for (int k = 0; k < h->n_levels; k++) {
        json_t *entries = json_array();
        for (uint32_t i = 0; i < l->rungs[k].n; i++) {
            const struct rung_entry *e = &l->rungs[k].entries[i];
            (void)json_array_append_new(
                entries, json_pack("[I,f,b]", (json_int_t)e->trial, e->value, (int)e->spent));
        }
        (void)json_array_append_new(rungs, entries);
    }
    return json_pack("{s:I, s:o}", "started", (json_int_t)l->started, "rungs", rungs);
}

json_t *halving_save(const struct halving *h)
{
    json_t *trials = json_array();
    json_t *ladders = json_array();
    for (int64_t id = 0; id < h->trials.n; id++) {
        const struct halving_trial *t = &h->trials.at[id];
        if (t->phase != HALVING_NOT_OURS) {
            (void)json_array_append_new(trials, json_pack("[I,i,i,i,i,I]", (json_int_t)id, t->phase,
                                                          t->rung, t->passed, t->start,
                                                          (json_int_t)t->entry));
        }
    }
    for (int i = 0; i < h->n_ladders; i++) {
        (void)json_array_append_new(ladders, ladder_json(h, &h->ladders[i]));
    }
    return json_pack("{s:i, s:o, s:o, s:o}", "version", STATE_VERSION, "trials", trials, "ladders",
                     ladders, "told", sampler_save(h->sampler));
}

static bool load_trial(struct halving *h, const json_t *row)
{
    json_int_t v[6] = {0};
    for (size_t i = 0; i < 6; i++) {
        v[i] = json_integer_value(json_array_get(row, i));
    }
    if (v[0] <= 0 || v[0] > IDTAB_ID_MAX || v[1] < HALVING_RUNNING || v[1] > HALVING_ENDED ||
        v[2] < 0 || v[2] >= h->n_levels || v[3] < 0 || v[3] > h->n_levels || v[4] < 0 ||
        v[4] >= h->n_levels || v[5] < 0 || v[5] > UINT32_MAX) {
        return false;
    }
    struct ladder *l = halving_ladder(h, (int)v[4]);
    if (v[1] == HALVING_PAUSED && v[5] >= (json_int_t)l->rungs[v[2]].n) {
        return false;
    }
    *halving_trials_of(&h->trials, v[0]) = (struct halving_trial){.phase = (uint8_t)v[1],
                                                                  .rung = (uint8_t)v[2],
                                                                  .passed = (uint8_t)v[3],
                                                                  .start = (uint8_t)v[4],
                                                                  .entry = (uint32_t)v[5]};
    l->running[v[2]] += v[1] == HALVING_RUNNING;
    return true;
}

static bool load_ladder(struct halving *h, struct ladder *l, const json_t *o)
{
    const json_t *rungs = json_object_get(o, "rungs");
    l->started = json_integer_value(json_object_get(o, "started"));
    for (int k = 0; k < h->n_levels; k++) {
        size_t i = 0;
        json_t *row = NULL;
        json_array_foreach(json_array_get(rungs, (size_t)k), i, row)
        {
            json_int_t id = json_integer_value(json_array_get(row, 0));
            if (id <= 0 || id > IDTAB_ID_MAX) {
                return false;
            }
            (void)rung_add(&l->rungs[k], id, json_number_value(json_array_get(row, 1)),
                           json_is_true(json_array_get(row, 2)));
        }
    }
    return json_array_size(rungs) == (size_t)h->n_levels && l->started >= 0;
}

enum mag_status halving_load(struct halving *h, const json_t *state, struct mag_err *err)
{
    const json_t *ladders = json_object_get(state, "ladders");
    size_t i = 0;
    json_t *row = NULL;
    if (json_integer_value(json_object_get(state, "version")) != STATE_VERSION) {
        return mag_fail(err, MAG_UNSUPPORTED, "state of another version");
    }
    if (json_array_size(ladders) != (size_t)h->n_ladders) {
        return mag_fail(err, MAG_CORRUPT, "the state has %zu systems of rungs, not %d",
                        json_array_size(ladders), h->n_ladders);
    }
    for (int k = 0; k < h->n_ladders; k++) {
        if (!load_ladder(h, &h->ladders[k], json_array_get(ladders, (size_t)k))) {
            return mag_fail(err, MAG_CORRUPT, "the state's system of rungs %d is wrong", k);
        }
    }
    json_array_foreach(json_object_get(state, "trials"), i, row)
    {
        if (!load_trial(h, row)) {
            return mag_fail(err, MAG_CORRUPT, "the state's trial in row %zu is wrong", i);
        }
    }
    return sampler_load(h->sampler, json_object_get(state, "told"), err);
}

/* ---- plan ---- */

void halving_rows(const struct halving *h, int bracket, int start, int top, int64_t trials,
                  json_t *rows)
{
    int64_t n = trials;
    int64_t from = 0;
    for (int k = start; k <= top; k++) {
        json_t *row = json_pack("{s:i, s:i, s:I}", "bracket", bracket, "rung", k, "budget",
                                (json_int_t)h->levels[k]);
        (void)json_object_set_new(row, "trials", trials > 0 ? json_integer(n) : json_null());
        (void)json_object_set_new(
            row, "epochs", trials > 0 ? json_integer(n * (h->levels[k] - from)) : json_null());
        (void)json_array_append_new(rows, row);
        from = h->levels[k];
        n /= h->eta;
    }
}
