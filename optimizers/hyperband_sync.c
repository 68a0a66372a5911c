/* SPDX-License-Identifier: Apache-2.0
 *
 * Hyperband's synchronous rungs: the best go on when every trial of the rung has reported or ended.
 * Whoever asks meanwhile starts the next bracket, so nobody waits while trials may be created.
 *
 * A trial that fails, stops or is cancelled before its rung's budget counts as the worst of the
 * rung: it never holds the others up and is never promoted; fewer survivors than places all go on.
 * When the limit of trials cuts a bracket's first rung short, the rung closes with what it has, on
 * the first promotion out of it.
 */
#include "optimizers/hyperband.h"

#include "base/alloc.h"
#include "base/heap.h"
#include "base/list.h"
#include "optimizers/idtab.h"
#include "optimizers/rungs.h"
#include "optimizers/sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One trial's value in the rung that its bracket is filling. */
struct arrival {
    int64_t trial;
    double value;
};

struct bracket {
    struct list_node node;  /* in hyperband->brackets until its last rung has ended */
    struct heap_node ready; /* in hyperband->ready while it has trials to promote */
    int64_t index;          /* 0, 1, … over all rounds */
    int s;
    int rung;           /* the one being filled, 0 .. s */
    int64_t n0;         /* trials of its first rung, which set the places of all later ones */
    int64_t size;       /* trials that this rung gets */
    int64_t started;    /* of them, given out */
    int64_t ended;      /* of them, reported or ended without a report */
    struct arrival *in; /* reported at this rung, in the order they came */
    int64_t n_in;
    struct arrival *next; /* promoted into this rung and not yet given out, best first */
    int64_t n_next, at_next;
};

enum trial_phase { NOT_OURS = 0, RUNNING = 1, PAUSED = 2, ENDED = 3 };

struct sync_trial {
    struct bracket *bracket; /* NULL: outside all brackets, or its bracket is over */
    uint8_t phase;
};

IDTAB(sync_trials, struct sync_trial)

struct hyperband_sync {
    struct sampler *sampler;
    struct hyperband_table table;
    int64_t max_brackets;      /* 0 = no end */
    struct list_node brackets; /* that are not over, by index */
    struct heap ready;
    struct bracket *open; /* takes new trials, or NULL */
    int64_t n_brackets;   /* begun so far */
    int64_t running;      /* trials below the last rung of their bracket */
    struct sync_trials trials;
};

static int s_of(const struct hyperband_sync *h, int64_t index)
{
    return h->table.n_levels - 1 - (int)(index % h->table.n_levels);
}

/* The budget of a bracket's i-th rung. */
static int64_t budget_of(const struct hyperband_sync *h, int s, int rung)
{
    return h->table.levels[h->table.n_levels - 1 - s + rung];
}

struct hyperband_sync *hyperband_sync_create(const struct hyperband_table *table,
                                             struct sampler *sampler_take)
{
    struct hyperband_sync *h = xcalloc(1, sizeof(*h));
    h->table = *table;
    h->sampler = sampler_take;
    h->max_brackets = table->iterations * table->n_levels;
    list_init(&h->brackets);
    return h;
}

/* ---- brackets ---- */

static void bracket_destroy(struct bracket *b)
{
    free(b->in);
    free(b->next);
    free(b);
}

void hyperband_sync_destroy(struct hyperband_sync *h)
{
    struct list_node *pos = NULL;
    struct list_node *tmp = NULL;
    if (h == NULL) {
        return;
    }
    list_foreach(pos, tmp, &h->brackets)
    {
        bracket_destroy(container_of(pos, struct bracket, node));
    }
    heap_fini(&h->ready);
    sampler_destroy(h->sampler);
    free(h->trials.at);
    free(h);
}

static struct bracket *bracket_begin(struct hyperband_sync *h)
{
    struct bracket *b = xcalloc(1, sizeof(*b));
    b->index = h->n_brackets++;
    b->s = s_of(h, b->index);
    b->n0 = hyperband_size(&h->table, b->s);
    b->size = b->n0;
    b->in = xcalloc((size_t)b->size, sizeof(*b->in));
    list_append(&h->brackets, &b->node);
    h->open = b;
    return b;
}

/* Trials of a finished rung leave their bracket behind: it will be freed before them. */
static void let_go(struct hyperband_sync *h, const struct arrival *list, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        sync_trials_of(&h->trials, list[i].trial)->bracket = NULL;
    }
}

static int by_value(const void *a, const void *b)
{
    const struct arrival *x = a;
    const struct arrival *y = b;
    return x->value != y->value ? (x->value < y->value ? -1 : 1)
                                : (x->trial > y->trial) - (x->trial < y->trial);
}

static void bracket_over(struct hyperband_sync *h, struct bracket *b)
{
    heap_remove(&h->ready, &b->ready);
    list_remove(&b->node);
    let_go(h, b->in, b->n_in);
    if (h->open == b) {
        h->open = NULL;
    }
    bracket_destroy(b);
}

/* Every trial of the rung has reported or ended: the best floor(n0 / eta^(rung + 1)) go on. Returns
 * the bracket, or NULL when it is over. */
static struct bracket *next_rung(struct hyperband_sync *h, struct bracket *b)
{
    int64_t places = b->n0 / hyperband_power(h->table.eta, b->rung + 1);
    int64_t n = b->n_in < places ? b->n_in : places;
    if (b->rung == b->s || n == 0) {
        bracket_over(h, b);
        return NULL;
    }
    qsort(b->in, (size_t)b->n_in, sizeof(*b->in), by_value);
    let_go(h, b->in + n, b->n_in - n);
    free(b->next);
    b->next = b->in;
    b->n_next = n;
    b->at_next = 0;
    b->in = xcalloc((size_t)n, sizeof(*b->in));
    b->n_in = 0;
    b->rung++;
    b->size = n;
    b->started = 0;
    b->ended = 0;
    if (h->open == b) {
        h->open = NULL;
    }
    heap_put(&h->ready, &b->ready, b->index);
    return b;
}

static void one_ended(struct hyperband_sync *h, struct bracket *b)
{
    b->ended++;
    if (b->ended == b->size) {
        (void)next_rung(h, b);
    }
}

/* ---- decisions ---- */

/* The open bracket when it would promote if no more trials came: all of its first rung has ended.
 */
static bool can_close(const struct hyperband_sync *h)
{
    const struct bracket *b = h->open;
    return b != NULL && b->started > 0 && b->ended == b->started && b->s > 0 && b->n_in > 0 &&
           b->started / h->table.eta > 0;
}

static const struct arrival *best_in(const struct bracket *b)
{
    const struct arrival *best = &b->in[0];
    for (int64_t i = 1; i < b->n_in; i++) {
        best = by_value(&b->in[i], best) < 0 ? &b->in[i] : best;
    }
    return best;
}

static void suggest_resume(const struct hyperband_sync *h, const struct bracket *b, int rung,
                           int64_t trial, struct opt_suggestion *out)
{
    out->answer = OPT_RESUME;
    out->trial = trial;
    out->bracket = b->s;
    out->rung = rung;
    out->budget = budget_of(h, b->s, rung);
}

static void suggest_none(const struct hyperband_sync *h, bool may_create, bool exhausted,
                         struct opt_suggestion *out)
{
    if (h->running > 0) {
        out->answer = OPT_WAIT;
        out->why_code = "rung-not-full";
        (void)snprintf(out->why, sizeof(out->why),
                       "%lld running trials must report before their rungs can promote the best",
                       (long long)h->running);
        return;
    }
    out->answer = OPT_DONE;
    out->why_code = exhausted ? "space-exhausted" : may_create ? "schedule-done" : "trials-limit";
    (void)snprintf(out->why, sizeof(out->why), "%s",
                   exhausted    ? "every point of the space has been tried"
                   : may_create ? "all brackets have been run"
                                : "the limit of trials is reached and no trial can be promoted "
                                  "any more");
}

void hyperband_sync_suggest(const struct hyperband_sync *h, const struct opt_ask *ask,
                            struct opt_suggestion *out)
{
    const struct heap_node *ready = heap_min(&h->ready);
    if (ready != NULL) {
        const struct bracket *b =
            container_of((struct heap_node *)(uintptr_t)ready, struct bracket, ready);
        suggest_resume(h, b, b->rung, b->next[b->at_next].trial, out);
        return;
    }
    bool new_bracket = h->open == NULL;
    bool more = !new_bracket || h->max_brackets == 0 || h->n_brackets < h->max_brackets;
    bool exhausted = ask->may_create && more && out->point != NULL &&
                     !sampler_propose(h->sampler, ask->next_trial, out->point);
    if (ask->may_create && more && !exhausted) {
        int s = new_bracket ? s_of(h, h->n_brackets) : h->open->s;
        out->answer = OPT_TRIAL;
        out->trial = ask->next_trial;
        out->bracket = s;
        out->budget = budget_of(h, s, 0);
    } else if ((!ask->may_create || exhausted) && can_close(h)) {
        suggest_resume(h, h->open, 1, best_in(h->open)->trial, out);
    } else {
        suggest_none(h, ask->may_create, exhausted, out);
    }
}

/* ---- history ---- */

struct sampler *hyperband_sync_sampler(struct hyperband_sync *h)
{
    return h->sampler;
}

int64_t hyperband_sync_first_budget(const struct hyperband_sync *h)
{
    if (h->open != NULL) {
        return budget_of(h, h->open->s, 0);
    }
    bool more = h->max_brackets == 0 || h->n_brackets < h->max_brackets;
    return more ? budget_of(h, s_of(h, h->n_brackets), 0) : h->table.levels[h->table.n_levels - 1];
}

static void adopt_new(struct hyperband_sync *h, const struct opt_suggestion *s)
{
    struct sync_trial *t = sync_trials_of(&h->trials, s->trial);
    bool more = h->open != NULL || h->max_brackets == 0 || h->n_brackets < h->max_brackets;
    t->phase = RUNNING;
    if (!more || s->budget != hyperband_sync_first_budget(h)) {
        return; /* a trial that somebody gave another budget runs beside the brackets */
    }
    struct bracket *b = h->open != NULL ? h->open : bracket_begin(h);
    t->bracket = b;
    h->running += b->s > 0;
    if (++b->started == b->size) {
        h->open = NULL;
    }
}

static void adopt_resume(struct hyperband_sync *h, const struct opt_suggestion *s)
{
    struct sync_trial *t = sync_trials_of(&h->trials, s->trial);
    struct bracket *b = t->bracket;
    if (b != NULL && b == h->open && !can_close(h)) {
        return; /* none of our doing: its rung still runs */
    }
    if (b != NULL && b == h->open) { /* the limit of trials closes the first rung */
        b->n0 = b->started;
        b->size = b->started;
        b = next_rung(h, b);
    }
    if (b == NULL || b->at_next == b->n_next) {
        return;
    }
    /* The trial that was suggested is the best one; another one (none of our doing) is as good. */
    int64_t i = b->at_next;
    while (i < b->n_next && b->next[i].trial != s->trial) {
        i++;
    }
    if (i == b->n_next) {
        return;
    }
    struct arrival a = b->next[i];
    memmove(&b->next[b->at_next + 1], &b->next[b->at_next], (size_t)(i - b->at_next) * sizeof(a));
    b->next[b->at_next++] = a;
    b->started++;
    t->phase = RUNNING;
    h->running += b->rung < b->s;
    if (b->at_next == b->n_next) {
        heap_remove(&h->ready, &b->ready);
    }
}

void hyperband_sync_adopt(struct hyperband_sync *h, const struct opt_suggestion *s)
{
    if (s->answer == OPT_RESUME) {
        adopt_resume(h, s);
    } else {
        sampler_pending(h->sampler, s->trial, s->point);
        adopt_new(h, s);
    }
}

enum opt_action hyperband_sync_report(struct hyperband_sync *h, int64_t trial, int64_t step,
                                      const struct opt_result *r)
{
    struct sync_trial *t = sync_trials_of(&h->trials, trial);
    struct bracket *b = t->bracket;
    if (t->phase != RUNNING || b == NULL || b->rung == b->s || step < budget_of(h, b->s, b->rung)) {
        return OPT_CONTINUE;
    }
    sampler_observe(h->sampler, trial, budget_of(h, b->s, b->rung), r);
    t->phase = PAUSED;
    h->running--;
    b->in[b->n_in++] = (struct arrival){.trial = trial, .value = r->value};
    one_ended(h, b);
    return OPT_PAUSE;
}

/* Takes a paused trial out of the arrivals or out of the promoted ones. */
static void drop_paused(struct hyperband_sync *h, struct bracket *b, int64_t trial)
{
    for (int64_t i = 0; i < b->n_in; i++) {
        if (b->in[i].trial == trial) { /* its rung still fills: it has ended already there */
            memmove(&b->in[i], &b->in[i + 1], (size_t)(--b->n_in - i) * sizeof(*b->in));
            return;
        }
    }
    for (int64_t i = b->at_next; i < b->n_next; i++) {
        if (b->next[i].trial == trial) {
            memmove(&b->next[i], &b->next[i + 1], (size_t)(--b->n_next - i) * sizeof(*b->next));
            if (b->at_next == b->n_next) {
                heap_remove(&h->ready, &b->ready);
            }
            one_ended(h, b);
            return;
        }
    }
}

void hyperband_sync_finish(struct hyperband_sync *h, int64_t trial, enum opt_outcome outcome,
                           const struct opt_result *r)
{
    struct sync_trial *t = sync_trials_of(&h->trials, trial);
    struct bracket *b = t->bracket;
    uint8_t phase = t->phase;
    if (phase == RUNNING && outcome == OPT_COMPLETED && r != NULL && b != NULL && b->rung == b->s) {
        sampler_observe(h->sampler, trial, budget_of(h, b->s, b->rung), r);
    }
    if (phase == RUNNING || phase == PAUSED) {
        sampler_ended(h->sampler, trial, outcome);
    }
    t->phase = ENDED;
    t->bracket = NULL;
    if (b == NULL) {
        return;
    }
    if (phase == RUNNING) {
        h->running -= b->rung < b->s;
        one_ended(h, b);
    } else if (phase == PAUSED) {
        drop_paused(h, b, trial);
    }
}

/* ---- state ---- */

static json_t *arrivals_json(const struct arrival *list, int64_t n)
{
    json_t *a = json_array();
    for (int64_t i = 0; i < n; i++) {
        (void)json_array_append_new(a,
                                    json_pack("[I,f]", (json_int_t)list[i].trial, list[i].value));
    }
    return a;
}

json_t *hyperband_sync_save(const struct hyperband_sync *h)
{
    json_t *brackets = json_array();
    json_t *trials = json_array();
    struct list_node *pos = NULL;
    struct list_node *tmp = NULL;
    list_foreach(pos, tmp, &h->brackets)
    {
        const struct bracket *b = container_of(pos, struct bracket, node);
        json_t *o = json_pack("{s:I, s:i, s:I, s:I, s:I, s:I}", "index", (json_int_t)b->index,
                              "rung", b->rung, "n0", (json_int_t)b->n0, "size", (json_int_t)b->size,
                              "started", (json_int_t)b->started, "ended", (json_int_t)b->ended);
        (void)json_object_set_new(o, "in", arrivals_json(b->in, b->n_in));
        (void)json_object_set_new(o, "next",
                                  arrivals_json(b->next + b->at_next, b->n_next - b->at_next));
        (void)json_array_append_new(brackets, o);
    }
    for (int64_t id = 0; id < h->trials.n; id++) {
        const struct sync_trial *t = &h->trials.at[id];
        if (t->phase != NOT_OURS) {
            json_int_t index = t->bracket != NULL ? t->bracket->index : -1;
            (void)json_array_append_new(trials,
                                        json_pack("[I,i,I]", (json_int_t)id, t->phase, index));
        }
    }
    return json_pack("{s:i, s:I, s:I, s:o, s:o, s:o}", "version", 1, "begun",
                     (json_int_t)h->n_brackets, "open",
                     h->open != NULL ? (json_int_t)h->open->index : (json_int_t)-1, "brackets",
                     brackets, "trials", trials, "told", sampler_save(h->sampler));
}

static int64_t load_arrivals(const json_t *list, struct arrival *out)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(list, i, row)
    {
        out[i] = (struct arrival){.trial = json_integer_value(json_array_get(row, 0)),
                                  .value = json_number_value(json_array_get(row, 1))};
    }
    return (int64_t)json_array_size(list);
}

static bool load_bracket(struct hyperband_sync *h, const json_t *o)
{
    int64_t index = json_integer_value(json_object_get(o, "index"));
    int64_t size = json_integer_value(json_object_get(o, "size"));
    const json_t *in = json_object_get(o, "in");
    const json_t *next = json_object_get(o, "next");
    if (index < 0 || index >= h->n_brackets || size < 1 || size > HYPERBAND_SIZE_MAX ||
        (int64_t)json_array_size(in) > size || (int64_t)json_array_size(next) > size) {
        return false;
    }
    struct bracket *b = xcalloc(1, sizeof(*b));
    b->index = index;
    b->s = s_of(h, index);
    b->rung = (int)json_integer_value(json_object_get(o, "rung"));
    b->n0 = json_integer_value(json_object_get(o, "n0"));
    b->size = size;
    b->started = json_integer_value(json_object_get(o, "started"));
    b->ended = json_integer_value(json_object_get(o, "ended"));
    b->in = xcalloc((size_t)size, sizeof(*b->in));
    b->next = xcalloc((size_t)size, sizeof(*b->next));
    b->n_in = load_arrivals(in, b->in);
    b->n_next = load_arrivals(next, b->next);
    list_append(&h->brackets, &b->node);
    if (b->n_next > 0) {
        heap_put(&h->ready, &b->ready, index);
    }
    return b->rung >= 0 && b->rung <= b->s && b->started <= size && b->ended <= size;
}

static struct bracket *bracket_find(struct hyperband_sync *h, int64_t index)
{
    struct list_node *pos = NULL;
    struct list_node *tmp = NULL;
    list_foreach(pos, tmp, &h->brackets)
    {
        struct bracket *b = container_of(pos, struct bracket, node);
        if (b->index == index) {
            return b;
        }
    }
    return NULL;
}

static bool load_trial(struct hyperband_sync *h, const json_t *row)
{
    json_int_t id = json_integer_value(json_array_get(row, 0));
    json_int_t phase = json_integer_value(json_array_get(row, 1));
    json_int_t index = json_integer_value(json_array_get(row, 2));
    if (id <= 0 || id > IDTAB_ID_MAX || phase < RUNNING || phase > ENDED) {
        return false;
    }
    struct bracket *b = index >= 0 ? bracket_find(h, index) : NULL;
    *sync_trials_of(&h->trials, id) = (struct sync_trial){.bracket = b, .phase = (uint8_t)phase};
    h->running += phase == RUNNING && b != NULL && b->rung < b->s;
    return index < 0 || b != NULL;
}

enum mag_status hyperband_sync_load(struct hyperband_sync *h, const json_t *state,
                                    struct mag_err *err)
{
    size_t i = 0;
    json_t *row = NULL;
    if (json_integer_value(json_object_get(state, "version")) != 1) {
        return mag_fail(err, MAG_UNSUPPORTED, "state of another version");
    }
    h->n_brackets = json_integer_value(json_object_get(state, "begun"));
    json_array_foreach(json_object_get(state, "brackets"), i, row)
    {
        if (!load_bracket(h, row)) {
            return mag_fail(err, MAG_CORRUPT, "the state's bracket in row %zu is wrong", i);
        }
    }
    json_array_foreach(json_object_get(state, "trials"), i, row)
    {
        if (!load_trial(h, row)) {
            return mag_fail(err, MAG_CORRUPT, "the state's trial in row %zu is wrong", i);
        }
    }
    h->open = bracket_find(h, json_integer_value(json_object_get(state, "open")));
    return sampler_load(h->sampler, json_object_get(state, "told"), err);
}
