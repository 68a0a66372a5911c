/* SPDX-License-Identifier: Apache-2.0
 *
 * The population of differential evolution. A new trial challenges the member of the slot whose
 * turn it is, with a cross of that member and a mutant, and takes its slot when it is not worse:
 *
 *   rand/1              a + F (b - c)                       Storn and Price 1997
 *   current-to-best/1   x + F (best - x) + F (b - c)
 *   shade               x + F (pbest - x) + F (a - b'), b' from the population or the archive of
 *                       members that lost their slot; F and CR drawn around a memory of what
 *                       succeeded                           Tanabe and Fukunaga, CEC 2013
 *   lshade              the same, the population shrinking to 4 over the search
 *                                                           Tanabe and Fukunaga, CEC 2014
 *
 * "steady-state": a result takes its slot at once. "generational": results wait until all trials of
 * their generation have ended. The memory learns, and the population shrinks, after each `size`
 * ended trials in either mode.
 *
 * F and CR belong to the trial: they are drawn from its own streams and the memory as it stood when
 * the trial was decided, which is what `pending` sees too.
 */
#include "optimizers/de.h"
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "optimizers/evolve.h"
#include "optimizers/idtab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY 6        /* H of the papers */
#define PBEST 0.11      /* best part of the population that leads */
#define ARCHIVE 1.4     /* archive size by population size */
#define SIZE_MIN 4      /* of a population that shrinks */
#define LEARNT_MAX 1024 /* successes kept for one lesson */

/* A point of the unit cube and its value. */
struct member {
    double *u; /* NULL: none yet */
    double value, violation;
    int64_t trial;
};

/* F and CR of one trial. */
struct rates {
    double f, cr;
};

struct lesson {
    struct rates rates;
    double gain;
};

struct de_trial {
    double *u; /* while it is open and has no result */
    int64_t slot;
    struct rates rates;
    bool open;
    bool adapts; /* the rates made it: they were its mutant's */
};

IDTAB(de_trials, struct de_trial)

struct de {
    const struct space *space;
    uint64_t seed;
    const char *purpose;
    int strategy;
    bool generational;
    struct rates fixed;
    int64_t first_size, size; /* members now */
    int64_t horizon;          /* lshade: trials of the whole search */
    int64_t given, ended, open;
    int64_t batch; /* ended since the last lesson */
    struct member *members;
    struct member *next; /* generational: results of the generation that runs */
    double **archive;
    int64_t n_archive;
    uint64_t replaced; /* draws of the archive so far */
    struct rates memory[MEMORY];
    int cursor;
    struct lesson *lessons;
    int n_lessons;
    struct de_trials trials;
};

static bool adapts(const struct de *d)
{
    return d->strategy == DE_SHADE || d->strategy == DE_LSHADE;
}

static enum mag_status de_sampler_init(void *self, const struct sampler_config *cfg,
                                       const char **ret_pointer, struct mag_err *err)
{
    struct de *d = self;
    const double *v = cfg->opt.values;
    *d = (struct de){.space = cfg->opt.space,
                     .seed = cfg->opt.seed,
                     .purpose = cfg->purpose,
                     .strategy = (int)v[DE_STRATEGY],
                     .generational = v[DE_MODE] == 1,
                     .fixed = {.f = v[DE_MUTATION], .cr = v[DE_CROSSOVER]},
                     .first_size = de_population(&cfg->opt),
                     .horizon = cfg->opt.trials};
    d->size = d->first_size;
    if (!isnan(v[DE_GENERATIONS])) {
        int64_t all = (int64_t)v[DE_GENERATIONS] * d->size;
        d->horizon = d->horizon > 0 && d->horizon < all ? d->horizon : all;
    }
    if (d->strategy == DE_LSHADE && d->horizon == 0) {
        *ret_pointer = "/strategy";
        return mag_fail(err, MAG_INVALID,
                        "\"lshade\" shrinks its population over the whole search: give "
                        "limits.trials or \"generations\", or take \"shade\"");
    }
    for (int i = 0; i < MEMORY; i++) {
        d->memory[i] = (struct rates){.f = 0.5, .cr = 0.5};
    }
    d->members = xcalloc((size_t)d->size, sizeof(*d->members));
    d->next = xcalloc((size_t)d->size, sizeof(*d->next));
    d->archive = xcalloc((size_t)(ARCHIVE * (double)d->size) + 1, sizeof(*d->archive));
    d->lessons = xcalloc(LEARNT_MAX, sizeof(*d->lessons));
    return MAG_OK;
}

static void de_sampler_fini(void *self)
{
    struct de *d = self;
    for (int64_t i = 0; i < d->first_size && d->members != NULL; i++) {
        free(d->members[i].u);
        free(d->next[i].u);
    }
    for (int64_t i = 0; i < d->trials.n; i++) {
        free(d->trials.at[i].u);
    }
    for (int64_t i = 0; i < d->n_archive; i++) {
        free(d->archive[i]);
    }
    free(d->members);
    free(d->next);
    free(d->archive);
    free(d->lessons);
    free(d->trials.at);
}

/* ---- members ---- */

static bool is_better(const struct member *a, const struct member *b)
{
    if (a->violation != b->violation) {
        return a->violation < b->violation;
    }
    return a->value != b->value ? a->value < b->value : a->trial < b->trial;
}

/* Indices of the slots that have a member; their number. */
static int list_members(const struct de *d, int *at)
{
    int n = 0;
    for (int64_t i = 0; i < d->size; i++) {
        if (d->members[i].u != NULL) {
            at[n++] = (int)i;
        }
    }
    return n;
}

/* One of the best PBEST of the n members listed, at least two. */
static const double *leader(const struct de *d, struct pcg64 *g, const int *at, int n)
{
    int best = (int)ceil(PBEST * n);
    best = best < 2 ? 2 : best;
    int rank = d->strategy == DE_CURRENT_TO_BEST ? 0 : (int)pcg64_below(g, (uint64_t)best);
    for (int i = 0; i < n; i++) {
        int before = 0;
        for (int j = 0; j < n; j++) {
            before += is_better(&d->members[at[j]], &d->members[at[i]]);
        }
        if (before == rank) {
            return d->members[at[i]].u;
        }
    }
    return d->members[at[0]].u;
}

/* ---- rates ---- */

/* F from Cauchy(M_F, 0.1), drawn again below 0 and cut at 1; CR from N(M_CR, 0.1) cut to [0, 1]; a
 * memory of CR that died (NaN) gives 0. */
static struct rates draw_rates(const struct de *d, uint64_t id)
{
    if (!adapts(d)) {
        return d->fixed;
    }
    struct pcg64 g;
    pcg_stream(&g, d->seed, "de-rates", id);
    const struct rates *m = &d->memory[pcg64_below(&g, MEMORY)];
    struct rates r = {0};
    double cr = m->cr + 0.1 * pcg64_normal(&g);
    r.cr = isnan(cr) ? 0 : fmin(fmax(cr, 0), 1);
    for (int i = 0; i < 100 && r.f <= 0; i++) {
        r.f = m->f + 0.1 * tan(M_PI * (pcg64_double(&g) - 0.5));
    }
    r.f = r.f <= 0 ? 0.1 : fmin(r.f, 1);
    return r;
}

/* The papers' weighted Lehmer means of what succeeded; the memory's places in turn. */
static void learn(struct de *d)
{
    double gain = 0, f = 0, ff = 0, cr = 0, crcr = 0;
    for (int i = 0; i < d->n_lessons; i++) {
        gain += d->lessons[i].gain;
    }
    for (int i = 0; i < d->n_lessons; i++) {
        const struct lesson *l = &d->lessons[i];
        double w = gain > 0 ? l->gain / gain : 1.0 / d->n_lessons;
        f += w * l->rates.f;
        ff += w * l->rates.f * l->rates.f;
        cr += w * l->rates.cr;
        crcr += w * l->rates.cr * l->rates.cr;
    }
    if (d->n_lessons > 0) {
        struct rates *m = &d->memory[d->cursor];
        m->cr = isnan(m->cr) || cr == 0 ? (double)NAN : crcr / cr;
        m->f = ff / f;
        d->cursor = (d->cursor + 1) % MEMORY;
    }
    d->n_lessons = 0;
}

/* ---- a new trial ---- */

/* The mutant for a slot's member; false when there are too few members. */
static bool make_mutant(const struct de *d, uint64_t id, const struct rates *r, double *v)
{
    int64_t slot = d->given % d->size;
    const double *x = d->members[slot].u;
    struct pcg64 g;
    int *at = xcalloc((size_t)d->size + 1, sizeof(*at));
    int n = list_members(d, at);
    int pick[3];
    int own = -1;
    for (int i = 0; i < n; i++) {
        own = at[i] == slot ? i : own;
    }
    pcg_stream(&g, d->seed, "de-pick", id);
    bool ok = x != NULL && evolve_pick(&g, n, own, 3, pick);
    if (ok) {
        const double *a = d->members[at[pick[0]]].u;
        const double *b = d->members[at[pick[1]]].u;
        const double *c = d->members[at[pick[2]]].u;
        const double *lead = d->strategy != DE_RAND_1 ? leader(d, &g, at, n) : NULL;
        uint64_t other = pcg64_below(&g, (uint64_t)(n + d->n_archive));
        if (adapts(d) && other >= (uint64_t)n) {
            c = d->archive[other - (uint64_t)n];
        }
        for (int i = 0; i < d->space->n; i++) {
            v[i] = lead == NULL ? a[i] + r->f * (b[i] - c[i])
                                : x[i] + r->f * (lead[i] - x[i]) + r->f * (b[i] - c[i]);
        }
    }
    free(at);
    return ok;
}

/* False when there are too few members, or when it would repeat the member. */
static bool make_trial(const struct de *d, uint64_t id, double *point)
{
    int n = d->space->n;
    double *u = xcalloc(3 * (size_t)n, sizeof(*u));
    double *mutant = u + n;
    double *old = mutant + n;
    struct rates r = draw_rates(d, id);
    bool made = make_mutant(d, id, &r, mutant);
    if (made) {
        struct pcg64 g;
        pcg_stream(&g, d->seed, "de-forced", id);
        struct evolve_cross c = {.target = d->members[d->given % d->size].u,
                                 .mutant = mutant,
                                 .rate = r.cr,
                                 .forced = (int)pcg64_below(&g, (uint64_t)n)};
        evolve_cross(d->space, d->seed, "de-cross", id, &c, u);
        space_from_unit(d->space, u, point);
        space_from_unit(d->space, c.target, old);
        made = !space_point_equal(d->space, point, old);
    }
    free(u);
    return made;
}

static void de_propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct de *d = self;
    uint64_t id = sampler_stream(trial, attempt);
    if (!make_trial(d, id, point)) {
        space_sample(d->space, d->seed, d->purpose, id, point);
    }
}

/* ---- history ---- */

static void de_pending(void *self, int64_t trial, const double *point)
{
    struct de *d = self;
    struct de_trial *t = de_trials_of(&d->trials, trial);
    free(t->u);
    t->u = evolve_coordinates(d->space, d->seed, "de-fill", (uint64_t)trial, point);
    t->slot = d->given++ % d->size;
    t->adapts = d->members[t->slot].u != NULL;
    t->rates = draw_rates(d, (uint64_t)trial);
    t->open = true;
    d->open++;
}

/* A member that lost its slot; when the archive is full it takes another's place. */
static void to_archive(struct de *d, double *u_take)
{
    int64_t cap = (int64_t)(ARCHIVE * (double)d->size);
    if (!adapts(d) || cap == 0) {
        free(u_take);
        return;
    }
    if (d->n_archive < cap) {
        d->archive[d->n_archive++] = u_take;
        return;
    }
    struct pcg64 g;
    pcg_stream(&g, d->seed, "de-archive", d->replaced++);
    double **at = &d->archive[pcg64_below(&g, (uint64_t)d->n_archive)];
    free(*at);
    *at = u_take;
}

static void succeed(struct de *d, const struct de_trial *t, double gain)
{
    if (t->adapts && gain > 0 && d->n_lessons < LEARNT_MAX) {
        d->lessons[d->n_lessons++] = (struct lesson){.rates = t->rates, .gain = gain};
    }
}

/* Puts a result into its slot when that is empty or not better; takes its u. */
static void compete(struct de *d, int64_t slot, struct member *take, const struct de_trial *t)
{
    struct member *m = &d->members[slot];
    bool equal = m->u != NULL && take->violation == m->violation && take->value == m->value;
    if (m->u == NULL) {
        *m = *take;
    } else if (equal || is_better(take, m)) {
        if (t != NULL) {
            succeed(d, t,
                    equal                            ? 0
                    : take->violation < m->violation ? m->violation - take->violation
                                                     : m->value - take->value);
        }
        to_archive(d, m->u);
        *m = *take;
    } else {
        free(take->u);
    }
}

/* The slot that a result competes for: its own, or the worst one's when the population has shrunk
 * below it. */
static int64_t slot_of(const struct de *d, int64_t slot)
{
    if (slot < d->size) {
        return slot;
    }
    int64_t worst = 0;
    for (int64_t i = 1; i < d->size; i++) {
        const struct member *w = &d->members[worst];
        bool empty = d->members[i].u == NULL;
        worst = w->u != NULL && (empty || is_better(w, &d->members[i])) ? i : worst;
    }
    return worst;
}

/* The worst members leave until `size` are left; the others close up. */
static void shrink_to(struct de *d, int64_t size)
{
    while (d->size > size) {
        int64_t worst = slot_of(d, d->size);
        free(d->members[worst].u);
        d->size--;
        memmove(&d->members[worst], &d->members[worst + 1],
                (size_t)(d->size - worst) * sizeof(*d->members));
        d->members[d->size].u = NULL;
    }
    while (d->n_archive > (int64_t)(ARCHIVE * (double)d->size)) {
        free(d->archive[--d->n_archive]);
    }
}

static void end_batch(struct de *d)
{
    for (int64_t i = 0; d->generational && i < d->first_size; i++) {
        if (d->next[i].u != NULL) {
            const struct de_trial *t =
                d->next[i].trial > 0 ? de_trials_of(&d->trials, d->next[i].trial) : NULL;
            compete(d, slot_of(d, i), &d->next[i], t);
            d->next[i].u = NULL;
        }
    }
    if (adapts(d)) {
        learn(d);
    }
    if (d->strategy == DE_LSHADE) {
        double done = fmin(1, (double)d->ended / (double)d->horizon);
        double size = (double)d->first_size + (SIZE_MIN - (double)d->first_size) * done;
        shrink_to(d, (int64_t)fmax(SIZE_MIN, round(size)));
    }
    d->batch = 0;
}

/* The first result of a trial counts: in rungs all members are compared at the rung in which they
 * began. */
static void de_observe(void *self, int64_t trial, int64_t budget, const struct opt_result *r)
{
    struct de *d = self;
    struct de_trial *t = de_trials_of(&d->trials, trial);
    if (t->u == NULL) {
        return;
    }
    struct member m = {.u = t->u, .value = r->value, .violation = r->violation, .trial = trial};
    t->u = NULL;
    if (d->generational && d->next[t->slot].u == NULL) {
        d->next[t->slot] = m;
    } else {
        compete(d, slot_of(d, t->slot), &m, t);
    }
}

static void de_ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct de *d = self;
    struct de_trial *t = de_trials_of(&d->trials, trial);
    if (!t->open) {
        return;
    }
    free(t->u);
    t->u = NULL;
    t->open = false;
    d->open--;
    d->ended++;
    d->batch++;
    bool whole = d->given % d->size == 0 && d->open == 0;
    if (d->generational ? whole : d->batch >= d->size) {
        end_batch(d);
    }
}

/* The worst member, or an empty slot, is challenged by what others found. */
static void de_others(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct de *d = self;
    struct member m = {.u = evolve_coordinates(d->space, d->seed, "de-fill", 0, point),
                       .value = r->value,
                       .violation = r->violation};
    compete(d, slot_of(d, d->size), &m, NULL);
}

const struct sampler_ops de_sampler = {
    .name = "de",
    .summary = "members of a population cross with differences of others",
    .paper = "Storn and Price, Differential Evolution, Journal of Global Optimization 11 (1997)",
    .caps = OPT_CAP_OUTCOME,
    .options = de_options,
    .version = 1,
    .state_size = sizeof(struct de),
    .init = de_sampler_init,
    .fini = de_sampler_fini,
    .propose = de_propose,
    .pending = de_pending,
    .observe = de_observe,
    .ended = de_ended,
    .others = de_others,
};
