/* SPDX-License-Identifier: Apache-2.0
 *
 * Hyperband (Li et al., JMLR 2018): brackets of successive halving from s = K (many short trials)
 * to s = 0 (few whole ones), K + 1 being the number of rungs; bracket s starts
 * ceil((K + 1) / (s + 1) * eta^s) trials in rung K - s.
 *
 * Two modes. Synchronous, as in the paper, with brackets that overlap: hyperband_sync.c, which
 * keeps floor(n / eta^i) in a bracket's i-th rung. Asynchronous: each bracket is an ASHA of its own
 * (halving.h), and a new trial goes to the bracket that has started the smallest part of its table,
 * so that their trials always stand in the paper's proportions. Promotions go before new trials,
 * those to larger budgets first.
 */
#include "optimizers/hyperband.h"
#include "optimizers/registry.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *const hyperband_modes[] = {"synchronous", "asynchronous", NULL};

static const struct opt_option hyperband_options[] = {
    HYPERBAND_OPTION_ROWS,
    {"sampler", OPT_T_ENUM, 0, 0, 0, sampler_names, "where the points of new trials come from"},
    {0},
};

/* ---- arithmetic ---- */

int64_t hyperband_power(int64_t eta, int s)
{
    int64_t p = 1;
    for (; s > 0 && p <= INT64_C(64) * HYPERBAND_SIZE_MAX; s--) {
        p *= eta;
    }
    return p <= INT64_C(64) * HYPERBAND_SIZE_MAX ? p : -1;
}

int64_t hyperband_size(const struct hyperband_table *t, int s)
{
    int64_t p = hyperband_power(t->eta, s);
    return p < 0 ? -1 : (t->n_levels * p + s) / (s + 1);
}

/* The bracket whose trials start in this rung, and back. */
static int flip(const struct hyperband *h, int s_or_start)
{
    return h->table.n_levels - 1 - s_or_start;
}

/* ---- creation ---- */

static enum mag_status init_table(struct hyperband_table *t, const struct hyperband_setup *setup,
                                  const struct opt_config *cfg, struct mag_err *err)
{
    *t = (struct hyperband_table){.eta = setup->eta};
    t->n_levels = rungs_levels(cfg->resource.min, cfg->resource.max, t->eta, t->levels);
    t->iterations = !isnan(setup->iterations) ? (int64_t)setup->iterations
                    : cfg->bounded            ? 0
                                              : 1;
    int64_t first = hyperband_size(t, t->n_levels - 1);
    if (first < 0 || first > HYPERBAND_SIZE_MAX) {
        return mag_fail(
            err, MAG_INVALID,
            "the first bracket of %lld to %lld by %lld starts more than %d trials: raise the "
            "resource's min or the reduction factor",
            (long long)cfg->resource.min, (long long)cfg->resource.max, (long long)t->eta,
            HYPERBAND_SIZE_MAX);
    }
    return MAG_OK;
}

enum mag_status hyperband_init(struct hyperband *h, const struct hyperband_setup *setup,
                               const struct opt_config *cfg, const char **ret_pointer,
                               struct mag_err *err)
{
    struct halving_setup halving = {.sampler = setup->sampler,
                                    .sampler_values = setup->sampler_values,
                                    .purpose = setup->name,
                                    .eta = setup->eta,
                                    .apart = true};
    enum mag_status st = init_table(&h->table, setup, cfg, err);
    if (st == MAG_OK) {
        st = halving_init(&h->async, &halving, cfg, ret_pointer, err);
    }
    if (st == MAG_OK && !setup->asynchronous) {
        h->sync = hyperband_sync_create(&h->table, h->async.sampler);
        h->async.sampler = NULL;
    }
    return st;
}

void hyperband_fini(void *self)
{
    struct hyperband *h = self;
    hyperband_sync_destroy(h->sync);
    halving_fini(&h->async);
}

/* ---- asynchronous decisions ---- */

static int64_t limit_of(const struct hyperband *h, int start)
{
    return h->table.iterations > 0 ? h->table.iterations * hyperband_size(&h->table, flip(h, start))
                                   : INT64_MAX;
}

/* The start rung that lags behind most, the lowest of equal ones; -1 when all have started all. */
static int next_start(const struct hyperband *h)
{
    int best = -1;
    for (int i = 0; i < h->table.n_levels; i++) {
        int64_t n = halving_ladder(&h->async, i)->started;
        int64_t size = hyperband_size(&h->table, flip(h, i));
        if (n < limit_of(h, i) &&
            (best < 0 || n * hyperband_size(&h->table, flip(h, best)) <
                             halving_ladder(&h->async, best)->started * size)) {
            best = i;
        }
    }
    return best;
}

/* The promotion to the largest budget; of equal ones that of the lowest start rung. */
static bool promote(const struct hyperband *h, struct opt_suggestion *out)
{
    struct opt_suggestion best = {0};
    for (int i = 0; i < h->table.n_levels - 1; i++) {
        struct opt_suggestion s = {0};
        if (halving_promote(&h->async, i, &s) && s.budget > best.budget) {
            s.bracket = flip(h, i);
            best = s;
        }
    }
    if (best.budget > 0) {
        double *point = out->point;
        *out = best;
        out->point = point;
        out->rung -= flip(h, out->bracket);
    }
    return best.budget > 0;
}

static void suggest_async(const struct hyperband *h, const struct opt_ask *ask,
                          struct opt_suggestion *out)
{
    int start = next_start(h);
    if (promote(h, out)) {
        return;
    }
    if (start < 0) {
        halving_none(&h->async, out, "schedule-done", "all brackets have been run");
    } else if (!ask->may_create) {
        halving_none(&h->async, out, "trials-limit", "the limit of trials is reached");
    } else if (!halving_create(&h->async, start, ask, out)) {
        halving_none(&h->async, out, "space-exhausted", "every point of the space has been tried");
    } else {
        out->bracket = flip(h, start);
        out->rung = 0;
    }
}

/* ---- both modes ---- */

void hyperband_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct hyperband *h = self;
    if (h->sync != NULL) {
        hyperband_sync_suggest(h->sync, ask, out);
    } else {
        suggest_async(h, ask, out);
    }
}

void hyperband_adopt(void *self, const struct opt_suggestion *s)
{
    struct hyperband *h = self;
    if (h->sync != NULL) {
        hyperband_sync_adopt(h->sync, s);
    } else {
        halving_adopt(&h->async, s, halving_rung(&h->async, s->budget));
    }
}

void hyperband_observe(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct hyperband *h = self;
    sampler_others(h->sync != NULL ? hyperband_sync_sampler(h->sync) : h->async.sampler, point,
                   budget, r);
}

enum opt_action hyperband_report(void *self, int64_t trial, int64_t step,
                                 const struct opt_result *r)
{
    struct hyperband *h = self;
    return h->sync != NULL ? hyperband_sync_report(h->sync, trial, step, r)
                           : halving_report(&h->async, trial, step, r);
}

void hyperband_finish(void *self, int64_t trial, enum opt_outcome outcome,
                      const struct opt_result *r)
{
    struct hyperband *h = self;
    if (h->sync != NULL) {
        hyperband_sync_finish(h->sync, trial, outcome, r);
    } else {
        halving_finish(&h->async, trial, outcome);
    }
}

int64_t hyperband_first_budget(const void *self)
{
    const struct hyperband *h = self;
    if (h->sync != NULL) {
        return hyperband_sync_first_budget(h->sync);
    }
    int start = next_start(h);
    return halving_budget(&h->async, start >= 0 ? start : h->table.n_levels - 1);
}

json_t *hyperband_save(const void *self)
{
    const struct hyperband *h = self;
    return h->sync != NULL ? hyperband_sync_save(h->sync) : halving_save(&h->async);
}

enum mag_status hyperband_load(void *self, const json_t *state, struct mag_err *err)
{
    struct hyperband *h = self;
    return h->sync != NULL ? hyperband_sync_load(h->sync, state, err)
                           : halving_load(&h->async, state, err);
}

/* ---- plan ---- */

static void bracket_rows(const struct hyperband *h, int s, int64_t n, int64_t rounds, json_t *rows)
{
    int64_t from = 0;
    for (int i = 0; i <= s && n > 0; i++) {
        int64_t budget = h->table.levels[flip(h, s) + i];
        json_t *row = json_pack("{s:i, s:i, s:I, s:I, s:I, s:I}", "bracket", s, "rung", i, "budget",
                                (json_int_t)budget, "trials", (json_int_t)n, "epochs",
                                (json_int_t)(n * (budget - from)), "rounds", (json_int_t)rounds);
        (void)json_array_append_new(rows, row);
        from = budget;
        n /= h->table.eta;
    }
}

/* Of `left` trials of another round, how many go to bracket s; the brackets come from K down. The
 * synchronous mode fills one after the other, the asynchronous one keeps them in proportion. */
static int64_t share(const struct hyperband *h, int s, int64_t round, int64_t all, int64_t *left)
{
    int64_t size = hyperband_size(&h->table, s);
    int64_t n = h->sync != NULL ? size : s == 0 ? *left : (all * size + round / 2) / round;
    n = n < *left ? n : *left;
    *left -= n;
    return n;
}

/* The whole rounds of all brackets as one, then what the limit of trials leaves of another. */
void hyperband_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct hyperband *h = self;
    int64_t round = 0;
    for (int s = 0; s < h->table.n_levels; s++) {
        round += hyperband_size(&h->table, s);
    }
    MAG_ASSERT(round > 0, "init refuses such schedules");
    int64_t rounds = h->table.iterations;
    int64_t left = 0;
    if (trials > 0 && (rounds == 0 || trials < rounds * round)) {
        rounds = trials / round;
        left = trials % round;
    }
    for (int s = h->table.n_levels - 1; s >= 0 && rounds > 0; s--) {
        bracket_rows(h, s, hyperband_size(&h->table, s), rounds, rows);
    }
    int64_t all = left;
    for (int s = h->table.n_levels - 1; s >= 0 && left > 0; s--) {
        bracket_rows(h, s, share(h, s, round, all, &left), 1, rows);
    }
}

static enum mag_status init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                            struct mag_err *err)
{
    struct hyperband_setup setup = {.name = "hyperband",
                                    .sampler =
                                        sampler_registry()[(int)cfg->values[HYPERBAND_OPTIONS]],
                                    .eta = (int64_t)cfg->values[HYPERBAND_ETA],
                                    .iterations = cfg->values[HYPERBAND_ITERATIONS],
                                    .asynchronous = cfg->values[HYPERBAND_MODE] != 0};
    return hyperband_init(self, &setup, cfg, ret_pointer, err);
}

const struct optimizer_ops hyperband_ops = {
    .name = "hyperband",
    .summary = "brackets of successive halving, from many short trials to few whole ones",
    .paper = "Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization, "
             "JMLR 18 (2018)",
    .caps = OPT_CAP_RESOURCE | OPT_CAP_PAUSES,
    .options = hyperband_options,
    .version = 2,
    .init = init,
    HYPERBAND_OPS,
};
