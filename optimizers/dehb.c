/* SPDX-License-Identifier: Apache-2.0
 *
 * DEHB (Awad, Mallik, Hutter, IJCAI 2021): Hyperband's brackets whose trials come from differential
 * evolution, with one population for each budget. Rand/1/bin; mutants for a budget are made of the
 * best of the next lower budget's population, so that what is learnt cheaply leads; the challenger
 * takes the slot of its own budget's population whose turn it is when it is not worse.
 *
 * During the first round of brackets a later rung takes over the best of the rung below as they
 * are: those trials go on from their checkpoints. After it every trial is a new point.
 *
 * Asynchronous: a bracket's next rung waits for the one before, and whoever asks meanwhile starts
 * the next bracket. A trial that fails ends its place in the rung and leaves its slot as it was.
 */
#include "optimizers/hyperband.h"
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "base/list.h"
#include "optimizers/evolve.h"
#include "optimizers/idtab.h"
#include "optimizers/journal.h"
#include "optimizers/seen.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_ETA, OPT_ITERATIONS, OPT_MUTATION, OPT_CROSSOVER };

static const struct opt_option dehb_options[] = {
    {"reduction_factor", OPT_T_INT, 2, 1000, 3, NULL,
     "a rung has one in this many of the trials of the rung below"},
    {"iterations", OPT_T_INT, 1, 1000000, NAN, NULL,
     "how often to run all brackets; default: until a limit of the experiment, once without any"},
    {"mutation", OPT_T_REAL, 0, 2, 0.5, NULL, "F: weight of the difference of two members"},
    {"crossover", OPT_T_REAL, 0, 1, 0.5, NULL,
     "CR: probability that a coordinate comes from the mutant"},
    {0},
};

/* A slot of a budget's population. */
struct member {
    double *u; /* NULL: not evaluated yet */
    double value, violation;
    int64_t trial;
};

struct population {
    struct member *members;
    int64_t size;
    int64_t cursor; /* slots given so far: the next is cursor % size */
};

struct bracket {
    struct list_node node; /* in dehb->brackets until its last rung has ended */
    int64_t index;
    int s, rung;
    int64_t size, started, ended; /* of the rung */
};

enum trial_phase { NOT_OURS = 0, RUNNING = 1, PAUSED = 2, ENDED = 3 };

struct dehb_trial {
    struct bracket *bracket; /* NULL: outside all brackets */
    double *u;
    int64_t slot;
    uint8_t phase;
    uint8_t level; /* that it runs up to, or stands at */
};

IDTAB(dehb_trials, struct dehb_trial)

struct dehb {
    const struct space *space;
    uint64_t seed;
    double mutation, crossover;
    struct hyperband_table table;
    int64_t max_brackets; /* 0 = no end */
    int64_t n_brackets;   /* begun */
    int64_t running;      /* trials in brackets */
    struct list_node brackets;
    struct population populations[RUNGS_MAX];
    struct dehb_trials trials;
    struct seen seen;
    struct journal journal;
};

/* ---- arithmetic ---- */

static int s_of(const struct dehb *d, int64_t index)
{
    return d->table.n_levels - 1 - (int)(index % d->table.n_levels);
}

static int level_of(const struct dehb *d, int s, int rung)
{
    return d->table.n_levels - 1 - s + rung;
}

/* floor((K + 1) / (s + 1)) * eta^s, as DEHB has it: less than Hyperband starts, so that there are
 * more generations. */
static int64_t bracket_size(const struct dehb *d, int s)
{
    return d->table.n_levels / (s + 1) * hyperband_power(d->table.eta, s);
}

static int64_t rung_size(const struct dehb *d, int s, int rung)
{
    return bracket_size(d, s) / hyperband_power(d->table.eta, rung);
}

/* The largest rung at this budget over all brackets. */
static int64_t population_size(const struct dehb *d, int level)
{
    int64_t size = 1;
    for (int s = d->table.n_levels - 1 - level; s < d->table.n_levels; s++) {
        int64_t n = rung_size(d, s, level - (d->table.n_levels - 1 - s));
        size = n > size ? n : size;
    }
    return size;
}

static enum mag_status check(const struct dehb *d, const struct opt_config *cfg,
                             struct mag_err *err)
{
    const struct opt_resource *r = &cfg->resource;
    if (d->table.n_levels < 2) {
        return mag_fail(err, MAG_INVALID,
                        "no rung fits between the resource's min %lld and max %lld: raise max, or "
                        "use \"de\"",
                        (long long)r->min, (long long)r->max);
    }
    int64_t first = bracket_size(d, d->table.n_levels - 1);
    if (first < 0 || first > HYPERBAND_SIZE_MAX) {
        return mag_fail(err, MAG_INVALID,
                        "the first bracket of %lld to %lld by %lld starts more than %d trials: "
                        "raise the resource's min or the reduction factor",
                        (long long)r->min, (long long)r->max, (long long)d->table.eta,
                        HYPERBAND_SIZE_MAX);
    }
    return MAG_OK;
}

static enum mag_status dehb_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                                 struct mag_err *err)
{
    struct dehb *d = self;
    double iterations = cfg->values[OPT_ITERATIONS];
    d->space = cfg->space;
    d->seed = cfg->seed;
    d->mutation = cfg->values[OPT_MUTATION];
    d->crossover = cfg->values[OPT_CROSSOVER];
    d->table.eta = (int64_t)cfg->values[OPT_ETA];
    d->table.n_levels =
        rungs_levels(cfg->resource.min, cfg->resource.max, d->table.eta, d->table.levels);
    d->max_brackets = !isnan(iterations) ? (int64_t)iterations * d->table.n_levels
                      : cfg->bounded     ? 0
                                         : d->table.n_levels;
    list_init(&d->brackets);
    seen_init(&d->seen, cfg->space);
    d->journal = (struct journal){.space = cfg->space, .objectives = cfg->objectives};
    enum mag_status st = check(d, cfg, err);
    for (int level = 0; st == MAG_OK && level < d->table.n_levels; level++) {
        struct population *p = &d->populations[level];
        p->size = population_size(d, level);
        p->members = xcalloc((size_t)p->size, sizeof(*p->members));
    }
    return st;
}

static void dehb_fini(void *self)
{
    struct dehb *d = self;
    struct list_node *pos = NULL;
    struct list_node *tmp = NULL;
    if (d->brackets.next != NULL) {
        list_foreach(pos, tmp, &d->brackets)
        {
            free(container_of(pos, struct bracket, node));
        }
    }
    for (int level = 0; level < RUNGS_MAX; level++) {
        for (int64_t i = 0; i < d->populations[level].size; i++) {
            free(d->populations[level].members[i].u);
        }
        free(d->populations[level].members);
    }
    for (int64_t i = 0; i < d->trials.n; i++) {
        free(d->trials.at[i].u);
    }
    free(d->trials.at);
    seen_fini(&d->seen);
    journal_fini(&d->journal);
}

/* ---- members ---- */

static bool is_better(const struct member *a, const struct member *b)
{
    if (a->violation != b->violation) {
        return a->violation < b->violation;
    }
    return a->value != b->value ? a->value < b->value : a->trial < b->trial;
}

static int by_merit(const void *x, const void *y)
{
    const struct member *a = *(const struct member *const *)x;
    const struct member *b = *(const struct member *const *)y;
    return is_better(a, b) ? -1 : is_better(b, a) ? 1 : 0;
}

/* The evaluated members of a level, best first, at most `max`; malloc'ed list. */
static const struct member **best_of(const struct population *p, int64_t max, int *ret_n)
{
    const struct member **list = xcalloc((size_t)p->size + 3, sizeof(struct member *));
    int n = 0;
    for (int64_t i = 0; i < p->size; i++) {
        if (p->members[i].u != NULL) {
            list[n++] = &p->members[i];
        }
    }
    qsort(list, (size_t)n, sizeof(struct member *), by_merit);
    *ret_n = n < max ? n : (int)max;
    return list;
}

/* ---- a new point ---- */

/* The k-th evaluated member over all levels; NULL when there are not so many. */
static const struct member *global_member(const struct dehb *d, uint64_t k)
{
    for (int level = 0; level < d->table.n_levels; level++) {
        for (int64_t i = 0; i < d->populations[level].size; i++) {
            const struct member *m = &d->populations[level].members[i];
            if (m->u != NULL && k-- == 0) {
                return m;
            }
        }
    }
    return NULL;
}

static uint64_t count_members(const struct dehb *d)
{
    uint64_t n = 0;
    while (global_member(d, n) != NULL) {
        n++;
    }
    return n;
}

/* Drops the target from the n of the pool; how many are left. */
static int without(const struct member *target, const struct member **pool, int n)
{
    int left = 0;
    for (int i = 0; i < n; i++) {
        if (pool[i]->trial != target->trial) {
            pool[left++] = pool[i];
        }
    }
    return left;
}

/* Three parents: of the pool, filled up from all populations; false when there are too few. */
static bool pick_parents(const struct dehb *d, struct pcg64 *g, const struct member **pool, int n,
                         const double *ret[3])
{
    int pick[3];
    if (n < 3) {
        uint64_t all = count_members(d);
        if (all < 3) {
            return false;
        }
        while (n < 3) {
            pool[n++] = global_member(d, pcg64_below(g, all));
        }
    }
    bool ok = evolve_pick(g, n, -1, 3, pick);
    for (int i = 0; ok && i < 3; i++) {
        ret[i] = pool[pick[i]]->u;
    }
    return ok;
}

static bool evolve(const struct dehb *d, const struct bracket *b, uint64_t id, double *point)
{
    int n = d->space->n;
    int n_pool = 0;
    int level = level_of(d, b->s, b->rung);
    const struct population *p = &d->populations[level];
    const struct population *below = &d->populations[b->rung > 0 ? level - 1 : level];
    const struct member *target = &p->members[p->cursor % p->size];
    const struct member **pool = best_of(below, b->rung > 0 ? b->size : below->size, &n_pool);
    const double *parents[3];
    struct pcg64 g;
    pcg_stream(&g, d->seed, "dehb-pick", id);
    bool ok =
        target->u != NULL && pick_parents(d, &g, pool, without(target, pool, n_pool), parents);
    if (ok) {
        double *u = xcalloc(2 * (size_t)n, sizeof(*u));
        double *mutant = u + n;
        for (int i = 0; i < n; i++) {
            mutant[i] = parents[0][i] + d->mutation * (parents[1][i] - parents[2][i]);
        }
        struct evolve_cross c = {.target = target->u,
                                 .mutant = mutant,
                                 .rate = d->crossover,
                                 .forced = (int)pcg64_below(&g, (uint64_t)n)};
        evolve_cross(d->space, d->seed, "dehb-cross", id, &c, u);
        space_from_unit(d->space, u, point);
        free(u);
    }
    free(pool);
    return ok;
}

/* False when the space is exhausted. */
static bool new_point(const struct dehb *d, const struct bracket *b, int64_t trial, double *point)
{
    uint64_t id = (uint64_t)trial;
    if (!evolve(d, b, id, point)) {
        space_sample(d->space, d->seed, "dehb", id, point);
    }
    space_repair(d->space, d->seed, "dehb", id, point);
    return !seen_exhausted(&d->seen) && seen_fresh(&d->seen, d->seed, "dehb", id, point);
}

/* ---- what is next ---- */

/* The first bracket with places left in its rung, or a new one (in `fresh`); NULL = none. */
static const struct bracket *next_bracket(const struct dehb *d, bool may_begin,
                                          struct bracket *fresh)
{
    for (const struct list_node *n = d->brackets.next; n != &d->brackets; n = n->next) {
        const struct bracket *b =
            container_of((struct list_node *)(uintptr_t)n, struct bracket, node);
        if (b->started < b->size) {
            return b;
        }
    }
    if (!may_begin || (d->max_brackets > 0 && d->n_brackets >= d->max_brackets)) {
        return NULL;
    }
    int s = s_of(d, d->n_brackets);
    *fresh = (struct bracket){.index = d->n_brackets, .s = s, .size = bracket_size(d, s)};
    return fresh;
}

/* In the first round: the best trial that stands paused at the level below. */
static int64_t promotable(const struct dehb *d, const struct bracket *b)
{
    if (b->rung == 0 || b->index >= d->table.n_levels) {
        return 0;
    }
    int n = 0;
    int64_t found = 0;
    int level = level_of(d, b->s, b->rung) - 1;
    const struct member **list = best_of(&d->populations[level], b->size, &n);
    for (int i = 0; i < n && found == 0; i++) {
        int64_t id = list[i]->trial;
        const struct dehb_trial *t = id < d->trials.n ? &d->trials.at[id] : NULL;
        if (t != NULL && t->phase == PAUSED && t->level == level) {
            found = id;
        }
    }
    free(list);
    return found;
}

static void none(const struct dehb *d, struct opt_suggestion *out, const char *code,
                 const char *why)
{
    if (d->running > 0) {
        out->answer = OPT_WAIT;
        out->why_code = "rung-not-full";
        (void)snprintf(out->why, sizeof(out->why),
                       "%lld running trials must end before their rungs go on",
                       (long long)d->running);
        return;
    }
    out->answer = OPT_DONE;
    out->why_code = code;
    (void)snprintf(out->why, sizeof(out->why), "%s", why);
}

static void dehb_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct dehb *d = self;
    struct bracket fresh;
    const struct bracket *b = next_bracket(d, ask->may_create, &fresh);
    if (b == NULL) {
        none(d, out, ask->may_create ? "schedule-done" : "trials-limit",
             ask->may_create ? "all brackets have been run" : "the limit of trials is reached");
        return;
    }
    out->bracket = b->s;
    out->rung = b->rung;
    out->budget = d->table.levels[level_of(d, b->s, b->rung)];
    out->trial = promotable(d, b);
    out->answer = OPT_RESUME;
    if (out->trial > 0) {
        return;
    }
    if (!ask->may_create) {
        none(d, out, "trials-limit", "the limit of trials is reached");
        return;
    }
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    if (out->point != NULL && !new_point(d, b, ask->next_trial, out->point)) {
        none(d, out, "space-exhausted", "every point of the space has been tried");
    }
}

/* ---- history ---- */

static int64_t dehb_first_budget(const void *self)
{
    const struct dehb *d = self;
    struct bracket fresh;
    const struct bracket *b = next_bracket(d, true, &fresh);
    return b != NULL ? d->table.levels[level_of(d, b->s, b->rung)]
                     : d->table.levels[d->table.n_levels - 1];
}

static struct bracket *begin(struct dehb *d, const struct bracket *fresh)
{
    struct bracket *b = xcalloc(1, sizeof(*b));
    *b = *fresh;
    list_append(&d->brackets, &b->node);
    d->n_brackets++;
    return b;
}

/* The trial takes the next place of the bracket that is next, when that is for its budget. */
static void dehb_adopt(void *self, const struct opt_suggestion *s)
{
    struct dehb *d = self;
    struct dehb_trial *t = dehb_trials_of(&d->trials, s->trial);
    struct bracket fresh;
    journal_adopt(&d->journal, s);
    if (s->answer == OPT_TRIAL) {
        seen_add(&d->seen, s->point);
        t->u = evolve_coordinates(d->space, d->seed, "dehb-fill", (uint64_t)s->trial, s->point);
    }
    t->phase = RUNNING;
    t->bracket = NULL;
    const struct bracket *next = next_bracket(d, true, &fresh);
    if (next == NULL || s->budget != d->table.levels[level_of(d, next->s, next->rung)]) {
        return;
    }
    struct bracket *b = next == &fresh ? begin(d, &fresh) : (struct bracket *)(uintptr_t)next;
    t->bracket = b;
    t->level = (uint8_t)level_of(d, b->s, b->rung);
    struct population *p = &d->populations[t->level];
    t->slot = p->cursor++ % p->size;
    b->started++;
    d->running++;
}

/* One trial of the bracket's rung has ended there. */
static void one_ended(struct dehb *d, struct bracket *b)
{
    d->running--;
    if (++b->ended < b->size) {
        return;
    }
    b->rung++;
    b->started = b->ended = 0;
    b->size = b->rung <= b->s ? rung_size(d, b->s, b->rung) : 0;
    if (b->size == 0) {
        list_remove(&b->node);
        free(b);
    }
}

static void compete(struct dehb *d, const struct dehb_trial *t, int64_t trial,
                    const struct opt_result *r)
{
    struct member *m = &d->populations[t->level].members[t->slot];
    struct member new_ = {.value = r->value, .violation = r->violation, .trial = trial};
    bool equal = m->u != NULL && m->value == r->value && m->violation == r->violation;
    if (m->u == NULL || equal || is_better(&new_, m)) {
        size_t bytes = (size_t)d->space->n * sizeof(double);
        new_.u = m->u != NULL ? m->u : xmalloc(bytes);
        memcpy(new_.u, t->u, bytes);
        *m = new_;
    }
}

/* Trials of a bracket that has ended are outside: nothing of theirs points to it. */
static enum opt_action dehb_report(void *self, int64_t trial, int64_t step,
                                   const struct opt_result *r)
{
    struct dehb *d = self;
    struct dehb_trial *t = dehb_trials_of(&d->trials, trial);
    bool below = t->level < d->table.n_levels - 1;
    if (t->phase != RUNNING || t->bracket == NULL || !below || step < d->table.levels[t->level]) {
        return OPT_CONTINUE;
    }
    journal_report(&d->journal, trial, step, r);
    struct bracket *b = t->bracket;
    t->phase = PAUSED;
    t->bracket = NULL;
    compete(d, t, trial, r);
    one_ended(d, b);
    return OPT_PAUSE;
}

static void dehb_finish(void *self, int64_t trial, enum opt_outcome outcome,
                        const struct opt_result *r)
{
    struct dehb *d = self;
    struct dehb_trial *t = dehb_trials_of(&d->trials, trial);
    struct bracket *b = t->bracket;
    journal_finish(&d->journal, trial, outcome, r);
    if (b != NULL && t->phase == RUNNING) {
        if (outcome == OPT_COMPLETED && r != NULL) {
            compete(d, t, trial, r);
        }
        one_ended(d, b);
    }
    t->bracket = NULL;
    t->phase = ENDED;
    free(t->u);
    t->u = NULL;
}

static json_t *dehb_save(const void *self)
{
    return journal_save(&((const struct dehb *)self)->journal, 1);
}

static enum mag_status dehb_load(void *self, const json_t *state, struct mag_err *err)
{
    struct dehb *d = self;
    return journal_load(&d->journal, state, 1, &dehb_ops, d, err);
}

/* New trials: in the first round those of the first rungs, later every one. */
static int64_t bracket_rows(const struct dehb *d, int64_t index, int64_t left, json_t *rows)
{
    int s = s_of(d, index);
    int64_t from = 0;
    int64_t created = 0;
    bool first = index < d->table.n_levels;
    for (int rung = 0; rung <= s && (left > 0 || (first && rung > 0)); rung++) {
        int64_t n = rung_size(d, s, rung);
        bool promotes = first && rung > 0;
        n = !promotes && n > left ? left : n;
        int64_t budget = d->table.levels[level_of(d, s, rung)];
        int64_t epochs = n * (promotes ? budget - from : budget);
        json_t *row =
            json_pack("{s:i, s:i, s:I, s:I, s:I}", "bracket", s, "rung", rung, "budget",
                      (json_int_t)budget, "trials", (json_int_t)n, "epochs", (json_int_t)epochs);
        (void)json_array_append_new(rows, row);
        left -= promotes ? 0 : n;
        created += promotes ? 0 : n;
        from = budget;
    }
    return created;
}

#define PLAN_BRACKETS 64 /* rows of more brackets say nothing new */

static void dehb_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct dehb *d = self;
    int64_t left = trials > 0 ? trials : INT64_MAX;
    int64_t brackets = d->max_brackets > 0 ? d->max_brackets : PLAN_BRACKETS;
    for (int64_t i = 0; i < brackets && i < PLAN_BRACKETS && left > 0; i++) {
        left -= bracket_rows(d, i, left, rows);
    }
}

const struct optimizer_ops dehb_ops = {
    .name = "dehb",
    .summary = "Hyperband's brackets with differential evolution, a population for each budget",
    .paper = "Awad et al., DEHB: Evolutionary Hyperband for Scalable, Robust and Efficient "
             "Hyperparameter Optimization, IJCAI 2021",
    .caps = OPT_CAP_RESOURCE | OPT_CAP_PAUSES | OPT_CAP_ESTIMATE | OPT_CAP_OUTCOME,
    .options = dehb_options,
    .version = 3,
    .state_size = sizeof(struct dehb),
    .init = dehb_init,
    .fini = dehb_fini,
    .suggest = dehb_suggest,
    .adopt = dehb_adopt,
    .report = dehb_report,
    .finish = dehb_finish,
    .first_budget = dehb_first_budget,
    .save = dehb_save,
    .load = dehb_load,
    .plan = dehb_plan,
};
