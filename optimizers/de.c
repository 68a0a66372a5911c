/* SPDX-License-Identifier: Apache-2.0
 *
 * Differential evolution, DE/rand/1/bin (Storn and Price, J. Global Optimization 11, 1997): the
 * trial for a slot crosses the slot's member with a + F (b - c) of three other members, at least
 * one coordinate always coming from the mutant, and replaces the member when it is not worse. Every
 * type of parameter goes through the unit cube; a coordinate that leaves it is reflected at the
 * wall.
 *
 * "steady-state" (asynchronous): slots in turn, a result replaces its member at once, nobody waits.
 * "generational": all trials of a generation are made from the one before; asking past its end
 * waits for stragglers. A trial without a value (failed, cancelled) is infinitely bad, so it ends
 * its place in the generation like any other. A slot without a member gets random points.
 *
 * Parents inside the cube: an inactive parameter has a coordinate too, drawn once for its trial, so
 * that crossover can wake it. A coordinate of a recorded point is taken from the point alone.
 */
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "optimizers/idtab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PURPOSE_MAX (SPACE_NAME_MAX + 16)

enum { OPT_POPULATION, OPT_GENERATIONS, OPT_MUTATION, OPT_CROSSOVER, OPT_MODE };

static const char *const modes[] = {"steady-state", "generational", NULL};

static const struct opt_option de_options[] = {
    {"population", OPT_T_INT, 4, 10000, 10, NULL,
     "members; three others make a mutant, so at least 4"},
    {"generations", OPT_T_INT, 1, 1e9, NAN, NULL,
     "times population trials, the random first generation included; default: until the limit of "
     "trials"},
    {"mutation", OPT_T_REAL, 0, 2, 0.5, NULL, "F: weight of the difference of two members"},
    {"crossover", OPT_T_REAL, 0, 1, 0.7, NULL,
     "CR: probability that a coordinate comes from the mutant"},
    {"mode", OPT_T_ENUM, 0, 0, 0, modes,
     "steady-state replaces at once; generational waits for each generation's end"},
    {0},
};

/* A point of the unit cube and its value. */
struct member {
    double *u; /* NULL: none yet */
    double value;
};

struct de_trial {
    double *u; /* while it is open */
    int64_t place;
};

IDTAB(de_trials, struct de_trial)

struct de {
    const struct space *space;
    uint64_t seed;
    int64_t budget;
    int64_t size;       /* of the population */
    int64_t max_trials; /* 0 = no end */
    double mutation, crossover;
    bool generational;
    int64_t given;          /* trials adopted: the next one's place; slot = place % size */
    int64_t open;           /* adopted and not ended */
    struct member *members; /* by slot */
    struct member *next;    /* generational: of the generation that runs */
    struct de_trials trials;
};

static enum mag_status de_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                               struct mag_err *err)
{
    struct de *d = self;
    *d = (struct de){
        .space = cfg->space, .seed = cfg->seed, .size = (int64_t)cfg->values[OPT_POPULATION]};
    d->budget = cfg->resource.present ? cfg->resource.max : 0;
    d->mutation = cfg->values[OPT_MUTATION];
    d->crossover = cfg->values[OPT_CROSSOVER];
    d->generational = cfg->values[OPT_MODE] == 1;
    d->max_trials =
        isnan(cfg->values[OPT_GENERATIONS]) ? 0 : (int64_t)cfg->values[OPT_GENERATIONS] * d->size;
    d->members = xcalloc((size_t)d->size, sizeof(*d->members));
    d->next = xcalloc((size_t)d->size, sizeof(*d->next));
    return MAG_OK;
}

static void de_fini(void *self)
{
    struct de *d = self;
    for (int64_t i = 0; i < d->size && d->members != NULL; i++) {
        free(d->members[i].u);
        free(d->next[i].u);
    }
    for (int64_t i = 0; i < d->trials.n; i++) {
        free(d->trials.at[i].u);
    }
    free(d->members);
    free(d->next);
    free(d->trials.at);
}

/* ---- a new trial ---- */

/* Bounces v off the walls of [0, 1]. */
static double reflect(double v)
{
    v = fabs(fmod(v, 2));
    return v > 1 ? 2 - v : v;
}

/* Three different members other than `slot`'s; false when there are not so many. */
static bool pick_three(const struct de *d, struct pcg64 *g, int64_t slot, const double *ret[3])
{
    uint32_t *able = xcalloc((size_t)d->size, sizeof(*able));
    uint32_t n = 0;
    for (int64_t i = 0; i < d->size; i++) {
        if (i != slot && d->members[i].u != NULL) {
            able[n++] = (uint32_t)i;
        }
    }
    for (uint32_t k = 0; k < 3 && n >= 3; k++) {
        uint32_t j = k + (uint32_t)pcg64_below(g, n - k);
        uint32_t t = able[k];
        able[k] = able[j];
        able[j] = t;
        ret[k] = d->members[able[k]].u;
    }
    free(able);
    return n >= 3;
}

/* The coordinate of one parameter: the mutant's or the member's. One stream a parameter, so that
 * the order of parameters changes nothing. */
static double coordinate(const struct de *d, int64_t trial, int i, const double *member,
                         const double *three[3], bool forced)
{
    char purpose[PURPOSE_MAX];
    struct pcg64 g;
    (void)snprintf(purpose, sizeof(purpose), "de-cross:%s", d->space->params[i].name);
    pcg_stream(&g, d->seed, purpose, (uint64_t)trial);
    bool cross = pcg64_double(&g) < d->crossover || forced;
    return cross ? reflect(three[0][i] + d->mutation * (three[1][i] - three[2][i])) : member[i];
}

/* False when no mutant can be made, or when it would repeat the member. */
static bool make_trial(const struct de *d, int64_t trial, double *point)
{
    int64_t slot = d->given % d->size;
    const double *member = d->members[slot].u;
    const double *three[3] = {NULL};
    struct pcg64 g;
    pcg_stream(&g, d->seed, "de-pick", (uint64_t)trial);
    if (member == NULL || !pick_three(d, &g, slot, three)) {
        return false;
    }
    int n = d->space->n;
    int forced = (int)pcg64_below(&g, (uint64_t)n);
    double *u = xcalloc(2 * (size_t)n, sizeof(*u));
    double *old = u + n;
    for (int i = 0; i < n; i++) {
        u[i] = coordinate(d, trial, i, member, three, i == forced);
    }
    space_from_unit(d->space, u, point);
    space_from_unit(d->space, member, old);
    bool new_ = !space_point_equal(d->space, point, old);
    free(u);
    return new_;
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
    const struct de *d = self;
    if (!ask->may_create) {
        none(out, OPT_DONE, "trials-limit", "the limit of trials is reached");
        return;
    }
    if (d->max_trials > 0 && d->given >= d->max_trials) {
        none(out, OPT_DONE, "generations-done", "all generations have been run");
        return;
    }
    if (d->generational && d->open > 0 && d->given > 0 && d->given % d->size == 0) {
        none(out, OPT_WAIT, "generation-not-finished", "");
        (void)snprintf(out->why, sizeof(out->why),
                       "%lld trials of generation %lld are still running", (long long)d->open,
                       (long long)(d->given / d->size));
        return;
    }
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    out->budget = d->budget;
    if (out->point != NULL && !make_trial(d, ask->next_trial, out->point)) {
        space_sample(d->space, d->seed, "de", (uint64_t)ask->next_trial, out->point);
    }
}

/* ---- history ---- */

/* The cube's coordinates of a recorded point; inactive ones are drawn for its trial. */
static double *coordinates(const struct de *d, int64_t trial, const double *point)
{
    double *u = xcalloc((size_t)d->space->n, sizeof(*u));
    space_to_unit(d->space, point, u);
    for (int i = 0; i < d->space->n; i++) {
        if (isnan(u[i])) {
            char purpose[PURPOSE_MAX];
            struct pcg64 g;
            (void)snprintf(purpose, sizeof(purpose), "de-fill:%s", d->space->params[i].name);
            pcg_stream(&g, d->seed, purpose, (uint64_t)trial);
            u[i] = pcg64_double(&g);
        }
    }
    return u;
}

static void de_adopt(void *self, const struct opt_suggestion *s)
{
    struct de *d = self;
    if (s->answer != OPT_TRIAL) {
        return;
    }
    struct de_trial *t = de_trials_of(&d->trials, s->trial);
    t->u = coordinates(d, s->trial, s->point);
    t->place = d->given++;
    d->open++;
}

static enum opt_action de_report(void *self, int64_t trial, int64_t step,
                                 const struct opt_result *r)
{
    return OPT_CONTINUE;
}

/* Puts a result into its slot when that is empty or not better; takes u. */
static void compete(struct member *m, double *u, double value)
{
    if (m->u == NULL || value <= m->value) {
        free(m->u);
        *m = (struct member){.u = u, .value = value};
    } else {
        free(u);
    }
}

/* The generation has ended: its results meet their members. */
static void turn_generation(struct de *d)
{
    for (int64_t i = 0; i < d->size; i++) {
        if (d->next[i].u != NULL) {
            compete(&d->members[i], d->next[i].u, d->next[i].value);
            d->next[i].u = NULL;
        }
    }
}

static void de_finish(void *self, int64_t trial, enum opt_outcome outcome,
                      const struct opt_result *r)
{
    struct de *d = self;
    struct de_trial *t = de_trials_of(&d->trials, trial);
    if (t->u == NULL) {
        return;
    }
    bool usable = r != NULL && (outcome == OPT_COMPLETED || outcome == OPT_STOPPED);
    int64_t slot = t->place % d->size;
    if (usable) {
        compete(d->generational ? &d->next[slot] : &d->members[slot], t->u, r->value);
    } else {
        free(t->u);
    }
    t->u = NULL;
    d->open--;
    if (d->generational && d->open == 0 && d->given % d->size == 0) {
        turn_generation(d);
    }
}

/* ---- state ---- */

static json_t *vector_json(const struct de *d, const double *u)
{
    json_t *a = json_array();
    for (int i = 0; u != NULL && i < d->space->n; i++) {
        (void)json_array_append_new(a, json_real(u[i]));
    }
    return a;
}

static json_t *members_json(const struct de *d, const struct member *m)
{
    json_t *a = json_array();
    for (int64_t i = 0; i < d->size; i++) {
        (void)json_array_append_new(a, m[i].u != NULL
                                           ? json_pack("[f,o]", m[i].value, vector_json(d, m[i].u))
                                           : json_null());
    }
    return a;
}

static json_t *de_save(const void *self)
{
    const struct de *d = self;
    json_t *open = json_array();
    for (int64_t id = 0; id < d->trials.n; id++) {
        const struct de_trial *t = &d->trials.at[id];
        if (t->u != NULL) {
            (void)json_array_append_new(
                open,
                json_pack("[I,I,o]", (json_int_t)id, (json_int_t)t->place, vector_json(d, t->u)));
        }
    }
    return json_pack("{s:i, s:I, s:o, s:o, s:o}", "version", 1, "given", (json_int_t)d->given,
                     "members", members_json(d, d->members), "next", members_json(d, d->next),
                     "open", open);
}

/* NULL when the vector does not fit. */
static double *load_vector(const struct de *d, const json_t *a)
{
    if (json_array_size(a) != (size_t)d->space->n) {
        return NULL;
    }
    double *u = xcalloc((size_t)d->space->n, sizeof(*u));
    for (int i = 0; i < d->space->n; i++) {
        u[i] = json_number_value(json_array_get(a, (size_t)i));
    }
    return u;
}

static bool load_members(const struct de *d, const json_t *a, struct member *m)
{
    if (json_array_size(a) != (size_t)d->size) {
        return false;
    }
    for (int64_t i = 0; i < d->size; i++) {
        const json_t *row = json_array_get(a, (size_t)i);
        if (json_is_null(row)) {
            continue;
        }
        m[i].value = json_number_value(json_array_get(row, 0));
        m[i].u = load_vector(d, json_array_get(row, 1));
        if (m[i].u == NULL) {
            return false;
        }
    }
    return true;
}

static bool load_open(struct de *d, const json_t *row)
{
    json_int_t id = json_integer_value(json_array_get(row, 0));
    json_int_t place = json_integer_value(json_array_get(row, 1));
    double *u = load_vector(d, json_array_get(row, 2));
    if (u == NULL || id <= 0 || id > IDTAB_ID_MAX || place < 0 || place >= d->given ||
        de_trials_of(&d->trials, id)->u != NULL) {
        free(u);
        return false;
    }
    *de_trials_of(&d->trials, id) = (struct de_trial){.u = u, .place = place};
    d->open++;
    return true;
}

static enum mag_status de_load(void *self, const json_t *state, struct mag_err *err)
{
    struct de *d = self;
    size_t i = 0;
    json_t *row = NULL;
    if (json_integer_value(json_object_get(state, "version")) != 1) {
        return mag_fail(err, MAG_UNSUPPORTED, "state of another version");
    }
    d->given = json_integer_value(json_object_get(state, "given"));
    bool ok = d->given >= 0 && load_members(d, json_object_get(state, "members"), d->members) &&
              load_members(d, json_object_get(state, "next"), d->next);
    json_array_foreach(json_object_get(state, "open"), i, row)
    {
        ok = ok && load_open(d, row);
    }
    return ok ? MAG_OK
              : mag_fail(err, MAG_CORRUPT, "the state does not fit the space or the population");
}

static void de_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct de *d = self;
    int64_t n =
        d->max_trials > 0 && (trials == 0 || d->max_trials < trials) ? d->max_trials : trials;
    if (n > 0) {
        (void)json_array_append_new(rows, json_pack("{s:i, s:i, s:I, s:I, s:I}", "bracket", 0,
                                                    "rung", 0, "budget", (json_int_t)d->budget,
                                                    "trials", (json_int_t)n, "epochs",
                                                    (json_int_t)(n * d->budget)));
    }
}

const struct optimizer_ops de_ops = {
    .name = "de",
    .summary = "differential evolution: members cross with differences of others",
    .paper = "Storn and Price, Differential Evolution, Journal of Global Optimization 11 (1997)",
    .options = de_options,
    .version = 1,
    .state_size = sizeof(struct de),
    .init = de_init,
    .fini = de_fini,
    .suggest = de_suggest,
    .adopt = de_adopt,
    .report = de_report,
    .finish = de_finish,
    .save = de_save,
    .load = de_load,
    .plan = de_plan,
};
