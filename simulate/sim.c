/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock and the study. Each turn takes the earliest thing that is due: a worker, or a lease or
 * limit of the study. Heartbeats are not played one by one: a lease that is about to run out is
 * renewed if somebody would have beaten for it, else it ends when the last beat says.
 */
#include "simulate/sim_impl.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The study's clock is ahead by one: its zero means "unknown". */
#define STUDY_ZERO_NS 1
#define WALL_ZERO_MS INT64_C(946684800000) /* 2000-01-01, for the record's dates */

/* ---- the study ---- */

bool sim_apply(struct sim *m, struct event *ev)
{
    ev->wall_ms = WALL_ZERO_MS + m->now_ns / MAG_NS_PER_MS;
    m->r->applies++;
    struct mag_err err = {0};
    enum mag_status st = study_apply(m->study, ev, m->now_ns + STUDY_ZERO_NS, &err);
    if (st != MAG_OK) {
        m->st = mag_fail(m->err, MAG_BUG, "the study refused an event of the simulator: %s",
                         err.text);
        return false;
    }
    if (ev->seq > 0 && m->options->on_event != NULL) {
        m->options->on_event(m->options->arg, ev, m->spec->space->n);
    }
    m->r->late += ev->late;
    return true;
}

struct sim_trial *sim_trial_of(struct sim *m, int64_t id)
{
    if (id >= m->cap_trials) {
        int64_t cap = id * 2 + 64;
        m->trials = xreallocarray(m->trials, (size_t)cap, sizeof(*m->trials));
        for (int64_t i = m->cap_trials; i < cap; i++) {
            m->trials[i] =
                (struct sim_trial){.quiet_ns = SIM_NEVER, .holder = -1, .copy = -1, .rung = -1};
        }
        m->cap_trials = cap;
    }
    return &m->trials[id];
}

static void expire(struct sim *m, int64_t trial, int64_t attempt, const char *why)
{
    struct event ev;
    event_init(&ev, EV_EXPIRE);
    ev.trial = trial;
    ev.attempt = attempt;
    ev.reason = xstrdup(why);
    if (sim_apply(m, &ev)) {
        m->r->expiries++;
    }
    event_fini(&ev);
}

void sim_lose(struct sim *m, const struct sim_worker *w)
{
    struct sim_trial *t = sim_trial_of(m, w->job.trial);
    if (t->attempt != w->job.attempt || t->holder >= 0 || t->copy >= 0) {
        return; /* given to another, or a copy of it goes on */
    }
    t->quiet_ns = m->now_ns;
    if (m->setup->lease_ms == 0) {
        expire(m, w->job.trial, w->job.attempt, "its worker is known to be gone");
    }
}

/* ---- silence and leases ---- */

int64_t sim_wait_ns(struct pcg64 *g, int64_t mean_ms)
{
    double ns = -log(1 - pcg64_double(g)) * (double)mean_ms * 1e6;
    return ns < 9e17 ? (int64_t)ns + 1 : SIM_NEVER / 4;
}

bool sim_is_silent(struct sim *m, struct sim_worker *w)
{
    if (m->setup->silent_every_ms <= 0) {
        return false;
    }
    while (m->now_ns >= w->heard_ns) {
        w->silent_ns = w->heard_ns + sim_wait_ns(&w->fate, m->setup->silent_every_ms);
        w->heard_ns = w->silent_ns + m->setup->silent_ms * MAG_NS_PER_MS;
    }
    return m->now_ns >= w->silent_ns;
}

/* Since when nobody was heard of this trial's current attempt; SIM_NEVER: somebody is. */
static int64_t quiet_since(struct sim *m, const struct sim_trial *t)
{
    int64_t quiet = t->quiet_ns;
    for (int i = 0; i < 2; i++) {
        int32_t k = i == 0 ? t->holder : t->copy;
        if (k < 0) {
            continue;
        }
        struct sim_worker *w = &m->workers[k];
        if (!sim_is_silent(m, w)) {
            return SIM_NEVER;
        }
        quiet = quiet == SIM_NEVER || w->silent_ns > quiet ? w->silent_ns : quiet;
    }
    return quiet;
}

/* A lease is due at now. */
static void lease_due(struct sim *m, const struct event *due)
{
    struct sim_trial *t = sim_trial_of(m, due->trial);
    int64_t quiet = quiet_since(m, t);
    int64_t beat = m->now_ns;
    if (quiet != SIM_NEVER) {
        int64_t every = m->setup->heartbeat_ms * MAG_NS_PER_MS;
        beat = every > 0 ? quiet - quiet % every : quiet;
    }
    if (beat + m->setup->lease_ms * MAG_NS_PER_MS > m->now_ns) {
        bool held = study_renew(m->study, due->trial, due->attempt, beat + STUDY_ZERO_NS);
        MAG_ASSERT(held, "trial %lld has a lease and no holder", (long long)due->trial);
        return;
    }
    expire(m, due->trial, due->attempt, due->reason);
}

static void study_due(struct sim *m)
{
    struct event ev;
    if (!study_tick(m->study, m->now_ns + STUDY_ZERO_NS, &ev)) {
        return;
    }
    if (ev.kind == EV_EXPIRE) {
        lease_due(m, &ev);
    } else {
        (void)sim_apply(m, &ev);
    }
    event_fini(&ev);
}

/* ---- the clock ---- */

static int64_t end_of_time(const struct sim *m)
{
    return m->setup->time_ms > 0 ? m->setup->time_ms * MAG_NS_PER_MS : SIM_TIME_MAX_MS * MAG_NS_PER_MS;
}

/* One turn; false when nothing is due any more. */
static bool turn(struct sim *m, int64_t end_ns)
{
    const struct queue_node *first = queue_first(&m->due);
    int64_t worker_ns = first != NULL ? first->at_ns : SIM_NEVER;
    int64_t study_ns = study_deadline(m->study);
    study_ns = study_ns == INT64_MAX ? SIM_NEVER : study_ns - STUDY_ZERO_NS;
    int64_t next = worker_ns <= study_ns ? worker_ns : study_ns;
    if (next > end_ns) {
        m->now_ns = next == SIM_NEVER ? m->now_ns : end_ns;
        return false;
    }
    m->now_ns = next > m->now_ns ? next : m->now_ns;
    if (worker_ns <= study_ns) {
        work_due(m, (struct sim_worker *)(uintptr_t)first);
    } else {
        study_due(m);
    }
    if (m->st == MAG_OK) {
        work_serve_idle(m);
        tally_best(m);
    }
    return m->st == MAG_OK;
}

/* ---- a run ---- */

static void create_workers(struct sim *m)
{
    int64_t n = m->options->workers;
    uint32_t *rank = xcalloc((size_t)n, sizeof(*rank));
    for (int64_t i = 0; i < n; i++) {
        rank[i] = (uint32_t)i;
    }
    if (m->setup->ties != 0) {
        struct pcg64 g;
        pcg_stream(&g, (uint64_t)m->setup->ties, "simulate:ties", 0);
        pcg64_shuffle(&g, rank, (uint32_t)n);
    }
    m->workers = xcalloc((size_t)n, sizeof(*m->workers));
    for (int64_t i = 0; i < n; i++) {
        struct sim_worker *w = &m->workers[i];
        w->number = (int32_t)i;
        w->values = xcalloc((size_t)m->spec->n_measures, sizeof(*w->values));
        w->node.rank = (int32_t)rank[i];
        (void)snprintf(w->name, sizeof(w->name), "w%lld", (long long)i + 1);
        pcg_stream(&w->fate, m->draws, "simulate:worker", (uint64_t)i);
        w->death_ns = m->setup->death_every_ms > 0
                          ? sim_wait_ns(&w->fate, m->setup->death_every_ms)
                          : SIM_NEVER;
        queue_put(&m->due, &w->node, 0);
    }
    free(rank);
}

static void list_measures(struct sim *m)
{
    const struct spec *s = m->spec;
    for (int i = 1; i < s->n_measures; i++) {
        m->more[i - 1] = (struct objective_more){.name = s->measures[i].name,
                                                 .maximize = s->measures[i].maximize,
                                                 .lo = -INFINITY,
                                                 .hi = INFINITY};
    }
    for (int i = 0; i < s->n_bounds; i++) {
        if (s->bounds[i].measure > 0) {
            m->more[s->bounds[i].measure - 1].lo = s->bounds[i].lo;
            m->more[s->bounds[i].measure - 1].hi = s->bounds[i].hi;
        }
    }
}

static enum mag_status create_objective(struct sim *m)
{
    const struct spec *s = m->spec;
    list_measures(m);
    struct objective_for what = {.space = s->space,
                                 .metric = s->metric,
                                 .maximize = s->maximize,
                                 .min = s->resource.present ? s->resource.min : 0,
                                 .max = s->resource.present ? s->resource.max : 0,
                                 .seed = m->setup->seed,
                                 .noise = m->draws,
                                 .more = m->more,
                                 .n_more = s->n_measures - 1};
    return objective_create(&m->setup->objective, &what, &m->objective, m->err);
}

static void end(struct sim *m)
{
    work_cut(m);
    tally_end(m);
}

static void destroy(struct sim *m)
{
    for (int64_t i = 0; m->workers != NULL && i < m->options->workers; i++) {
        free(m->workers[i].unsaid);
        free(m->workers[i].unsaid_values);
        free(m->workers[i].values);
    }
    free(m->workers);
    free(m->trials);
    queue_fini(&m->due);
    queue_fini(&m->idle);
    objective_destroy(m->objective);
    study_destroy(m->study);
}

enum mag_status sim_run(const struct sim_setup *setup, struct spec *spec_take,
                        const struct sim_options *options, struct sim_result *ret,
                        struct mag_err *err)
{
    struct pcg64 g;
    struct sim m = {.setup = setup, .options = options, .spec = spec_take, .err = err};
    *ret = (struct sim_result){
        .workers = options->workers, .seed = spec_take->seed, .first_full_ns = -1};
    m.r = ret;
    m.checkpoint_every =
        setup->checkpoint_every >= 0 ? setup->checkpoint_every : spec_take->checkpoint_every;
    pcg_stream(&g, setup->seed, "simulate", options->repetition);
    m.draws = pcg64_next(&g);
    m.study = study_create(spec_take);
    m.best_value = NAN;
    m.st = create_objective(&m);
    if (m.st == MAG_OK) {
        study_rearm(m.study, STUDY_ZERO_NS);
        create_workers(&m);
        int64_t end_ns = end_of_time(&m);
        while (!study_state_is_final(study_state(m.study)) && turn(&m, end_ns)) {
        }
    }
    if (m.st == MAG_OK) {
        end(&m);
    }
    destroy(&m);
    if (m.st != MAG_OK) {
        sim_result_fini(ret);
    }
    return m.st;
}
