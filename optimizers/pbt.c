/* SPDX-License-Identifier: Apache-2.0
 *
 * Population-based training (Jaderberg et al., arXiv 1711.09846): a population trains side by side;
 * after every `interval` of the resource a member whose latest value is among the worst `quantile`
 * stops, and its place goes to a new trial that starts from the checkpoint of one of the best
 * (exploit) with that one's parameters changed a little (explore). What comes out is a schedule of
 * parameters, not a point: a trial's line of parents is its history.
 *
 * Asynchronous as in the paper: each member is compared with the others' latest values when it is
 * ready itself. Members take turns on fewer workers than members: at each interval a trial pauses,
 * and the place that is least far goes on first. When no trial may be created any more, nobody is
 * stopped and every member trains to its end.
 */
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "optimizers/idtab.h"
#include "optimizers/journal.h"
#include "space/constraint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_POPULATION, OPT_INTERVAL, OPT_QUANTILE, OPT_RESAMPLE, OPT_FACTOR };

static const struct opt_option pbt_options[] = {
    {"population", OPT_T_INT, 2, 10000, NAN, NULL,
     "trials that train side by side; default: 10, or a third of a smaller limits.trials"},
    {"interval", OPT_T_INT, 1, 1e12, NAN, NULL,
     "units of the resource between two turns of a member; default: a twentieth of its max"},
    {"quantile", OPT_T_REAL, 0, 0.5, 0.25, NULL,
     "the worst part of the population, which is replaced, and the best part, which it copies"},
    {"resample", OPT_T_REAL, 0, 1, 0.25, NULL,
     "probability that a parameter of a copy is drawn anew"},
    {"factor", OPT_T_REAL, 1, 10, 1.2, NULL,
     "a copied number is multiplied or divided by this; ordered values move by one"},
    {0},
};

enum place_state {
    PLACE_FREE = 0,
    PLACE_RUNS = 1,
    PLACE_PAUSED = 2,
    PLACE_LOST = 3,
    PLACE_DONE = 4
};

/* One member of the population: whoever holds the place now. */
struct place {
    enum place_state state;
    bool scored;
    int64_t trial;
    int64_t step; /* of the last turn */
    double value, violation;
};

struct pbt_trial {
    double *point;
    int64_t budget;
    int32_t place; /* + 1; 0 = outside the population */
};

IDTAB(pbt_trials, struct pbt_trial)

struct pbt {
    const struct space *space;
    uint64_t seed;
    int64_t max, interval;
    int64_t limit; /* of trials, 0 = none */
    int64_t created;
    int size;
    double quantile, resample, factor;
    struct place *places;
    struct pbt_trials trials;
    struct journal journal;
};

/* By default most trials are left for copies. */
static int population_of(const struct opt_config *cfg)
{
    double given = cfg->values[OPT_POPULATION];
    if (!isnan(given)) {
        return (int)given;
    }
    int64_t third = cfg->trials / 3 > 2 ? cfg->trials / 3 : 2;
    return cfg->trials > 0 && third < 10 ? (int)third : 10;
}

static enum mag_status pbt_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                                struct mag_err *err)
{
    struct pbt *p = self;
    double interval = cfg->values[OPT_INTERVAL];
    *p = (struct pbt){.space = cfg->space,
                      .seed = cfg->seed,
                      .max = cfg->resource.max,
                      .limit = cfg->trials,
                      .size = population_of(cfg),
                      .quantile = cfg->values[OPT_QUANTILE],
                      .resample = cfg->values[OPT_RESAMPLE],
                      .factor = cfg->values[OPT_FACTOR],
                      .journal = {.space = cfg->space, .objectives = cfg->objectives}};
    p->interval = isnan(interval) ? (p->max + 19) / 20 : (int64_t)interval;
    p->places = xcalloc((size_t)p->size, sizeof(*p->places));
    if (p->interval >= p->max) {
        *ret_pointer = "/interval";
        return mag_fail(err, MAG_INVALID,
                        "an interval of %lld leaves a trial of %lld no turn: choose one below the "
                        "resource's max, or \"random\"",
                        (long long)p->interval, (long long)p->max);
    }
    if (cfg->trials > 0 && cfg->trials < p->size) {
        *ret_pointer = "/population";
        return mag_fail(err, MAG_INVALID,
                        "a population of %d needs as many trials and more for copies, and "
                        "limits.trials is %lld",
                        p->size, (long long)cfg->trials);
    }
    return MAG_OK;
}

static void pbt_fini(void *self)
{
    struct pbt *p = self;
    for (int64_t i = 0; i < p->trials.n; i++) {
        free(p->trials.at[i].point);
    }
    free(p->trials.at);
    free(p->places);
    journal_fini(&p->journal);
}

/* ---- the population ---- */

static bool is_better(const struct place *a, const struct place *b)
{
    if (a->violation != b->violation) {
        return a->violation < b->violation;
    }
    return a->value != b->value ? a->value < b->value : a->trial < b->trial;
}

/* How many scored places are better than this one, and how many there are. */
static int rank_of(const struct pbt *p, const struct place *m, int *ret_scored)
{
    int rank = 0;
    int scored = 0;
    for (int i = 0; i < p->size; i++) {
        const struct place *other = &p->places[i];
        if (other->scored) {
            scored++;
            rank += other != m && is_better(other, m);
        }
    }
    *ret_scored = scored;
    return rank;
}

static int cut(const struct pbt *p, int scored)
{
    return (int)ceil(p->quantile * scored);
}

/* Among the worst while there are enough others to tell. */
static bool is_poor(const struct pbt *p, const struct place *m)
{
    int scored = 0;
    int rank = rank_of(p, m, &scored);
    return scored >= 4 && rank >= scored - cut(p, scored);
}

/* One of the best places whose trial has a checkpoint to copy; NULL = none. */
static const struct place *donor(const struct pbt *p, int64_t trial, const struct place *not_this)
{
    const struct place *found = NULL;
    uint64_t n = 0;
    struct pcg64 g;
    pcg_stream(&g, p->seed, "pbt-donor", (uint64_t)trial);
    for (int i = 0; i < p->size; i++) {
        const struct place *m = &p->places[i];
        int scored = 0;
        bool fit = m->scored && m != not_this && m->step < p->max && m->state != PLACE_LOST;
        if (fit && rank_of(p, m, &scored) < cut(p, scored) && pcg64_below(&g, ++n) == 0) {
            found = m;
        }
    }
    return found;
}

/* ---- a copy ---- */

static double perturb(const struct pbt *p, const struct param *q, double value, bool up)
{
    double cells = param_cells(q);
    if (q->type == PARAM_CATEGORICAL && !q->ordered) {
        return value;
    }
    if (q->type == PARAM_DOUBLE || q->type == PARAM_INTEGER) {
        double v = value < 0 ? value / (up ? p->factor : 1 / p->factor)
                             : value * (up ? p->factor : 1 / p->factor);
        v = v < q->lo ? q->lo : v > q->hi ? q->hi : v;
        v = param_from_unit(q, param_to_unit(q, v));
        if (v != value || isinf(cells)) {
            return v;
        }
    }
    double k = param_cell_of(q, value) + (up ? 1 : -1);
    return k < 0 || k >= cells ? value : param_cell_value(q, k);
}

static void explore(const struct pbt *p, int64_t trial, const double *from, double *point)
{
    struct pcg64 g;
    pcg_stream(&g, p->seed, "pbt-explore", (uint64_t)trial);
    space_sample(p->space, p->seed, "pbt", (uint64_t)trial, point);
    for (int i = 0; i < p->space->n; i++) {
        bool again = pcg64_double(&g) < p->resample;
        bool up = pcg64_double(&g) < 0.5;
        if (!again && !isnan(from[i])) {
            point[i] = perturb(p, &p->space->params[i], from[i], up);
        }
    }
    (void)space_normalize(p->space, point);
    space_repair(p->space, p->seed, "pbt", (uint64_t)trial, point);
}

/* ---- suggestions ---- */

static int64_t boundary_after(const struct pbt *p, int64_t step)
{
    int64_t next = (step / p->interval + 1) * p->interval;
    return next < p->max ? next : p->max;
}

static int free_place(const struct pbt *p)
{
    for (int i = 0; i < p->size; i++) {
        if (p->places[i].state == PLACE_FREE) {
            return i;
        }
    }
    return -1;
}

/* The place that is least far among those that do not run; -1 = none. */
static int next_place(const struct pbt *p, bool may_create)
{
    int best = -1;
    for (int i = 0; i < p->size; i++) {
        const struct place *m = &p->places[i];
        bool waits = m->state == PLACE_PAUSED || (m->state == PLACE_LOST && may_create);
        if (waits && (best < 0 || m->step < p->places[best].step)) {
            best = i;
        }
    }
    return best;
}

static void none(const struct pbt *p, bool may_create, struct opt_suggestion *out)
{
    int running = 0;
    for (int i = 0; i < p->size; i++) {
        running += p->places[i].state == PLACE_RUNS;
    }
    out->answer = running > 0 ? OPT_WAIT : OPT_DONE;
    if (running > 0) {
        out->why_code = "population-runs";
        (void)snprintf(out->why, sizeof(out->why),
                       "all members that can go on are running: %d of %d", running, p->size);
    } else {
        out->why_code = may_create ? "population-done" : "trials-limit";
        (void)snprintf(out->why, sizeof(out->why), "%s",
                       may_create ? "every member has been trained to its end"
                                  : "the limit of trials is reached and no member can go on");
    }
}

static void create(const struct pbt *p, const struct opt_ask *ask, const struct place *parent,
                   struct opt_suggestion *out)
{
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    out->budget = boundary_after(p, parent != NULL ? parent->step : 0);
    if (parent != NULL) {
        out->parent = parent->trial;
        out->parent_step = parent->step;
    }
    if (out->point != NULL && parent != NULL) {
        explore(p, ask->next_trial, p->trials.at[parent->trial].point, out->point);
    } else if (out->point != NULL) {
        space_sample(p->space, p->seed, "pbt", (uint64_t)ask->next_trial, out->point);
    }
}

static void pbt_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct pbt *p = self;
    if (ask->may_create && free_place(p) >= 0) {
        create(p, ask, NULL, out);
        return;
    }
    int at = next_place(p, ask->may_create);
    if (at < 0) {
        none(p, ask->may_create, out);
    } else if (p->places[at].state == PLACE_LOST) {
        create(p, ask, donor(p, ask->next_trial, &p->places[at]), out);
    } else {
        out->answer = OPT_RESUME;
        out->trial = p->places[at].trial;
        out->budget = boundary_after(p, p->places[at].step);
    }
}

/* ---- history ---- */

static int64_t pbt_first_budget(const void *self)
{
    const struct pbt *p = self;
    return free_place(p) >= 0 ? boundary_after(p, 0) : p->max;
}

/* The place that a new trial takes: a lost one for a copy, else a free one; -1 = it trains beside
 * the population. */
static int place_for(const struct pbt *p, const struct opt_suggestion *s)
{
    int at = s->parent > 0 || free_place(p) < 0 ? next_place(p, true) : free_place(p);
    bool fits = at >= 0 && p->places[at].state != PLACE_PAUSED && s->budget < p->max;
    return fits || (at >= 0 && s->parent > 0 && p->places[at].state == PLACE_LOST) ? at : -1;
}

static void pbt_adopt(void *self, const struct opt_suggestion *s)
{
    struct pbt *p = self;
    struct pbt_trial *t = pbt_trials_of(&p->trials, s->trial);
    journal_adopt(&p->journal, s);
    if (s->answer == OPT_TRIAL) {
        size_t bytes = (size_t)p->space->n * sizeof(double);
        free(t->point);
        t->point = xmalloc(bytes + 1);
        memcpy(t->point, s->point, bytes);
        t->place = place_for(p, s) + 1;
        p->created++;
        if (t->place > 0) {
            p->places[t->place - 1] = (struct place){.trial = s->trial, .step = s->parent_step};
        }
    }
    t->budget = s->budget;
    if (t->place > 0) {
        p->places[t->place - 1].state = PLACE_RUNS;
    }
}

static enum opt_action pbt_report(void *self, int64_t trial, int64_t step,
                                  const struct opt_result *r)
{
    struct pbt *p = self;
    struct pbt_trial *t = pbt_trials_of(&p->trials, trial);
    struct place *m = t->place > 0 ? &p->places[t->place - 1] : NULL;
    if (m == NULL || m->state != PLACE_RUNS || step < t->budget) {
        return OPT_CONTINUE;
    }
    journal_report(&p->journal, trial, step, r);
    m->scored = true;
    m->value = r->value;
    m->violation = r->violation;
    m->step = t->budget;
    if (t->budget >= p->max) {
        return OPT_CONTINUE; /* its end comes by finish */
    }
    bool may_copy = p->limit == 0 || p->created < p->limit;
    if (may_copy && is_poor(p, m) && donor(p, trial, m) != NULL) {
        m->state = PLACE_LOST;
        return OPT_STOP;
    }
    m->state = PLACE_PAUSED;
    return OPT_PAUSE;
}

/* A member that failed loses its place to a copy; what it was worth is forgotten. */
static void pbt_finish(void *self, int64_t trial, enum opt_outcome outcome,
                       const struct opt_result *r)
{
    struct pbt *p = self;
    struct pbt_trial *t = pbt_trials_of(&p->trials, trial);
    struct place *m = t->place > 0 ? &p->places[t->place - 1] : NULL;
    journal_finish(&p->journal, trial, outcome, r);
    if (m == NULL || m->trial != trial || m->state == PLACE_LOST) {
        return;
    }
    if (outcome == OPT_COMPLETED && r != NULL) {
        m->scored = true;
        m->value = r->value;
        m->violation = r->violation;
        m->step = t->budget;
        m->state = PLACE_DONE;
    } else {
        m->scored = false;
        m->state = PLACE_LOST;
    }
}

static json_t *pbt_save(const void *self)
{
    return journal_save(&((const struct pbt *)self)->journal, 1);
}

static enum mag_status pbt_load(void *self, const json_t *state, struct mag_err *err)
{
    struct pbt *p = self;
    return journal_load(&p->journal, state, 1, &pbt_ops, p, err);
}

static void pbt_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct pbt *p = self;
    (void)json_array_append_new(rows, json_pack("{s:i, s:i, s:I, s:I, s:I}", "bracket", 0, "rung",
                                                0, "budget", (json_int_t)p->max, "trials",
                                                (json_int_t)p->size, "epochs",
                                                (json_int_t)(p->size * p->max)));
}

const struct optimizer_ops pbt_ops = {
    .name = "pbt",
    .summary = "population-based training: the worst copy the best and change its parameters",
    .paper = "Jaderberg et al., Population Based Training of Neural Networks, arXiv 1711.09846",
    .caps = OPT_CAP_RESOURCE | OPT_CAP_PAUSES | OPT_CAP_ESTIMATE | OPT_CAP_OUTCOME,
    .options = pbt_options,
    .version = 1,
    .state_size = sizeof(struct pbt),
    .init = pbt_init,
    .fini = pbt_fini,
    .suggest = pbt_suggest,
    .adopt = pbt_adopt,
    .report = pbt_report,
    .finish = pbt_finish,
    .first_budget = pbt_first_budget,
    .save = pbt_save,
    .load = pbt_load,
    .plan = pbt_plan,
};
