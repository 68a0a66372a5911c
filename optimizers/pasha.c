/* SPDX-License-Identifier: Apache-2.0
 *
 * PASHA (Bohdal et al., ICLR 2023): ASHA that begins with its two lowest rungs and adds the next
 * one only when the ranking of the trials in the two highest of them is not the same, up to the
 * noise (pasha_rank.h). Asked after each report in the top rung; the resource's max is the end of
 * it.
 *
 * Trials pause at the top rung too, so that they can go on when it rises.
 */
#include "optimizers/pasha_rank.h"
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "optimizers/halving.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPT_ETA, OPT_TOLERANCE, OPT_PERCENTILE, OPT_SAMPLER };

static const struct opt_option pasha_options[] = {
    {"reduction_factor", OPT_T_INT, 2, 1000, 3, NULL,
     "one in this many trials of a rung is promoted"},
    {"tolerance", OPT_T_REAL, 0, 1e300, NAN, NULL,
     "values closer than this rank alike; default: estimated from crossing learning curves"},
    {"percentile", OPT_T_REAL, 0, 100, 90, NULL,
     "of the distances between crossing curves, taken as the tolerance"},
    {"sampler", OPT_T_ENUM, 0, 0, 0, sampler_names, "where the points of new trials come from"},
    {0},
};

IDTAB(pasha_curves, struct pasha_curve *)

struct pasha {
    struct halving h;
    struct pasha_curves curves; /* while the top can rise */
    struct pasha_rank *rank;
};

static bool can_rise(const struct pasha *p)
{
    return p->h.top < p->h.n_levels - 1;
}

static enum mag_status pasha_init(void *self, const struct opt_config *cfg,
                                  const char **ret_pointer, struct mag_err *err)
{
    struct pasha *p = self;
    struct halving_setup setup = {.sampler = sampler_registry()[(int)cfg->values[OPT_SAMPLER]],
                                  .purpose = "pasha",
                                  .eta = (int64_t)cfg->values[OPT_ETA]};
    p->rank = xcalloc(1, sizeof(*p->rank));
    p->rank->percentile = cfg->values[OPT_PERCENTILE] / 100;
    p->rank->fixed = !isnan(cfg->values[OPT_TOLERANCE]);
    p->rank->epsilon = p->rank->fixed ? cfg->values[OPT_TOLERANCE] : 0;
    enum mag_status st = halving_init(&p->h, &setup, cfg, ret_pointer, err);
    p->h.top = 1;
    return st;
}

static void forget_curve(struct pasha *p, int64_t trial)
{
    if (trial < p->curves.n && p->curves.at[trial] != NULL) {
        curve_fini(p->curves.at[trial]);
        free(p->curves.at[trial]);
        p->curves.at[trial] = NULL;
    }
}

static void forget_all(struct pasha *p)
{
    for (int64_t id = 0; id < p->curves.n; id++) {
        forget_curve(p, id);
    }
    free(p->curves.at);
    p->curves = (struct pasha_curves){0};
    rank_reset(p->rank);
}

static void pasha_fini(void *self)
{
    struct pasha *p = self;
    if (p->rank != NULL) {
        forget_all(p);
    }
    free(p->rank);
    halving_fini(&p->h);
}

/* ---- decisions ---- */

static void none(const struct pasha *p, struct opt_suggestion *out, const char *code,
                 const char *why)
{
    char text[OPT_WHY_MAX];
    (void)snprintf(text, sizeof(text), "%s, the ranking at budget %lld is %s", why,
                   (long long)p->h.levels[p->h.top], can_rise(p) ? "stable," : "the last,");
    halving_none(&p->h, out, code, text);
}

static void pasha_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct pasha *p = self;
    if (halving_promote(&p->h, 0, out)) {
        return;
    }
    if (!ask->may_create) {
        none(p, out, "trials-limit", "the limit of trials is reached");
    } else if (!halving_create(&p->h, 0, ask, out)) {
        none(p, out, "space-exhausted", "every point of the space has been tried");
    }
}

/* ---- history ---- */

static void pasha_adopt(void *self, const struct opt_suggestion *s)
{
    struct pasha *p = self;
    halving_adopt(&p->h, s, 0);
}

static enum opt_action pasha_report(void *self, int64_t trial, int64_t step,
                                    const struct opt_result *r)
{
    struct pasha *p = self;
    struct halving_trial *t = halving_trials_of(&p->h.trials, trial);
    bool counts = can_rise(p) && t->phase == HALVING_RUNNING;
    int before = t->passed;
    enum opt_action action = halving_report(&p->h, trial, step, r);
    if (!counts) {
        return action;
    }
    struct pasha_curve **c = pasha_curves_of(&p->curves, trial);
    if (*c == NULL) {
        *c = xcalloc(1, sizeof(**c));
    }
    curve_add(*c, step, r->value);
    for (int k = before; k < p->h.trials.at[trial].passed; k++) {
        (*c)->before = k == 0 ? r->value : (*c)->now;
        (*c)->now = r->value;
        if (k == p->h.top) {
            rank_add(p->rank, trial, *c);
        }
    }
    if (!rank_is_stable(p->rank)) {
        p->h.top++;
        rank_reset(p->rank);
        if (!can_rise(p)) {
            forget_all(p);
        }
    }
    return action;
}

static void pasha_finish(void *self, int64_t trial, enum opt_outcome outcome,
                         const struct opt_result *r)
{
    struct pasha *p = self;
    halving_finish(&p->h, trial, outcome);
    forget_curve(p, trial);
}

static void pasha_observe(void *self, const double *point, int64_t budget,
                          const struct opt_result *r)
{
    struct pasha *p = self;
    sampler_others(p->h.sampler, point, budget, r);
}

static int64_t pasha_first_budget(const void *self)
{
    const struct pasha *p = self;
    return halving_budget(&p->h, 0);
}

/* ---- state ---- */

static json_t *pasha_save(const void *self)
{
    const struct pasha *p = self;
    json_t *state = halving_save(&p->h);
    json_t *curves = json_array();
    for (int64_t id = 0; id < p->curves.n; id++) {
        if (p->curves.at[id] != NULL) {
            (void)json_array_append_new(
                curves, json_pack("[I,o]", (json_int_t)id, curve_save(p->curves.at[id])));
        }
    }
    (void)json_object_set_new(state, "top", json_integer(p->h.top));
    (void)json_object_set_new(state, "rank", rank_save(p->rank));
    (void)json_object_set_new(state, "curves", curves);
    return state;
}

static enum mag_status pasha_load(void *self, const json_t *state, struct mag_err *err)
{
    struct pasha *p = self;
    size_t i = 0;
    json_t *row = NULL;
    json_int_t top = json_integer_value(json_object_get(state, "top"));
    enum mag_status st = halving_load(&p->h, state, err);
    if (st != MAG_OK) {
        return st;
    }
    if (top < 1 || top >= p->h.n_levels || !rank_load(p->rank, json_object_get(state, "rank"))) {
        return mag_fail(err, MAG_CORRUPT, "the state's ranking is wrong");
    }
    p->h.top = (int)top;
    json_array_foreach(json_object_get(state, "curves"), i, row)
    {
        json_int_t id = json_integer_value(json_array_get(row, 0));
        struct pasha_curve c;
        if (id <= 0 || id > IDTAB_ID_MAX || !curve_load(&c, json_array_get(row, 1))) {
            return mag_fail(err, MAG_CORRUPT, "the state's curve in row %zu is wrong", i);
        }
        forget_curve(p, id);
        struct pasha_curve *copy = xcalloc(1, sizeof(*copy));
        *copy = c;
        *pasha_curves_of(&p->curves, id) = copy;
    }
    return MAG_OK;
}

/* As far as it can go: a stable ranking ends it in a lower rung. */
static void pasha_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct pasha *p = self;
    halving_rows(&p->h, 0, 0, p->h.n_levels - 1, trials, rows);
}

const struct optimizer_ops pasha_ops = {
    .name = "pasha",
    .summary = "ASHA whose largest budget grows only while rankings still change",
    .paper = "Bohdal et al., PASHA: Efficient HPO and NAS with Progressive Resource Allocation, "
             "ICLR 2023",
    .caps = OPT_CAP_RESOURCE | OPT_CAP_PAUSES | OPT_CAP_ESTIMATE,
    .options = pasha_options,
    .version = 1,
    .state_size = sizeof(struct pasha),
    .init = pasha_init,
    .fini = pasha_fini,
    .suggest = pasha_suggest,
    .adopt = pasha_adopt,
    .observe = pasha_observe,
    .report = pasha_report,
    .finish = pasha_finish,
    .first_budget = pasha_first_budget,
    .save = pasha_save,
    .load = pasha_load,
    .plan = pasha_plan,
};
