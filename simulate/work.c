/* SPDX-License-Identifier: Apache-2.0
 *
 * What workers do: ask, run a job step by step, report, lose it, go and come back.
 */
#include "simulate/sim_impl.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <string.h>

static void ask(struct sim *m, struct sim_worker *w);

/* ---- when is something due ---- */

static void schedule(struct sim *m, struct sim_worker *w)
{
    int64_t at = w->death_ns;
    if (w->away) {
        at = w->back_ns;
    } else if (!w->busy || w->told_off) {
        at = w->free_ns < at ? w->free_ns : at;
    } else {
        at = w->step_ns < at ? w->step_ns : at;
        at = w->drop_ns < at ? w->drop_ns : at;
        at = w->n_unsaid > 0 && w->heard_ns < at ? w->heard_ns : at;
    }
    queue_put(&m->due, &w->node, at);
}

/* ---- a job begins ---- */

static bool is_last(const struct sim_worker *w, int64_t step)
{
    return step >= w->job.budget;
}

/* A checkpoint is told with the step's report. */
static bool is_reported(const struct sim *m, const struct sim_worker *w, int64_t step)
{
    bool saved = m->checkpoint_every > 0 && step % m->checkpoint_every == 0;
    return is_last(w, step) || saved || step % m->setup->report_every == 0;
}

/* Draws how long the next step takes, and measures it. */
static void begin_step(struct sim *m, struct sim_worker *w, int64_t from_ns)
{
    int64_t step = w->job.to + 1;
    double ns = w->unit_ns;
    if (m->setup->duration.per_step) {
        ns *= sim_duration_draw(&m->setup->duration, &w->pace);
    }
    if (is_reported(m, w, step)) {
        double seconds = -1;
        struct objective_ask q = {.trial = w->job.trial,
                                  .point = study_trial(m->study, w->job.trial)->point,
                                  .step = w->job.budget > 0 ? step : 0,
                                  .budget = w->job.budget > 0 ? m->spec->resource.max : 0};
        m->st = objective_value(m->objective, &q, w->values, &seconds, m->err);
        ns = seconds >= 0 ? seconds * 1e9 : ns;
    }
    int64_t whole = ns < 1 ? 1 : ns > 9e17 ? INT64_C(900000000000000000) : (int64_t)ns;
    w->step_ns = from_ns < SIM_NEVER - whole ? from_ns + whole : SIM_NEVER - 1;
}

static void draw_job(struct sim *m, struct sim_worker *w)
{
    const struct sim_duration *d = &m->setup->duration;
    double step_ns = (double)m->setup->step_ms * 1e6;
    /* Each copy of an attempt has draws of its own. */
    uint64_t copy = w->job.copy ? (uint64_t)sim_trial_of(m, w->job.trial)->copies & 0xff : 0;
    uint64_t id = (uint64_t)w->job.trial << 24 ^ (uint64_t)w->job.attempt << 8 ^ copy;
    pcg_stream(&w->pace, m->draws, "simulate:job", id);
    w->unit_ns = step_ns;
    if (d->n_by > 0) {
        w->unit_ns *= sim_duration_of_point(d, m->spec->space,
                                            study_trial(m->study, w->job.trial)->point);
    }
    w->drop_ns = SIM_NEVER;
    if (m->setup->drop > 0) {
        double units = log(1 - pcg64_double(&w->pace)) / log(1 - m->setup->drop);
        double ns = units * step_ns;
        w->drop_ns = ns < 1e18 ? m->now_ns + (int64_t)ns : SIM_NEVER;
    }
    if (!d->per_step) {
        w->unit_ns *= sim_duration_draw(d, &w->pace);
    }
}

static void begin_job(struct sim *m, struct sim_worker *w, const struct sim_job *job)
{
    w->job = *job;
    w->job.worker = w->number;
    w->job.start_ns = m->now_ns;
    w->job.to = job->from;
    w->job.value = NAN;
    w->busy = true;
    w->told_off = false;
    w->free_ns = SIM_NEVER;
    w->saved_step = job->from;
    w->job.saved_ns = m->now_ns;
    w->reached_ns = m->now_ns;
    w->n_unsaid = 0;
    draw_job(m, w);
    begin_step(m, w, m->now_ns + m->setup->start_ms * MAG_NS_PER_MS);
    schedule(m, w);
}

/* Counts a trial in the row of its rung, once. */
static void enter_rung(struct sim *m, struct sim_trial *t, const struct event_grant *g)
{
    bool larger = g->budget > t->budget;
    if (!g->created && t->rung >= 0 && !larger) {
        return; /* another attempt at the same budget */
    }
    if (t->rung >= 0 && larger) {
        m->r->rungs[t->rung].promoted++;
    }
    t->rung = tally_rung(m, g->bracket, g->rung, g->budget);
    m->r->rungs[t->rung].started++;
    t->budget = g->budget;
}

static void take_grant(struct sim *m, struct sim_worker *w, const struct event_grant *g)
{
    struct sim_trial *t = sim_trial_of(m, g->trial);
    enter_rung(m, t, g);
    t->attempt = (int32_t)g->attempt;
    t->holder = w->number;
    t->copy = -1;
    t->copies = 0;
    t->quiet_ns = SIM_NEVER;
    struct sim_job job = {.trial = g->trial,
                          .attempt = (int32_t)g->attempt,
                          .from = g->resume_step > 0 ? g->resume_step : 0,
                          .budget = g->budget,
                          .bracket = g->bracket,
                          .rung = g->rung};
    begin_job(m, w, &job);
}

static void begin_copy(struct sim *m, struct sim_worker *w, const struct sim_worker *slow)
{
    const struct trial *t = study_trial(m->study, slow->job.trial);
    struct sim_job job = slow->job;
    job.from = t->checkpoint_step > 0 ? t->checkpoint_step : 0;
    job.copy = true;
    sim_trial_of(m, job.trial)->copy = w->number;
    sim_trial_of(m, job.trial)->copies++;
    w->second = true;
    m->n_copies++;
    m->r->copies++;
    begin_job(m, w, &job);
}

/* ---- a job ends ---- */

static void not_second(struct sim *m, struct sim_worker *w)
{
    m->n_copies -= w->second;
    w->second = false;
}

/* One of two copies runs no more for the trial: the other is all there is. Its place is free. */
static void forget(struct sim *m, struct sim_worker *w)
{
    struct sim_trial *t = sim_trial_of(m, w->job.trial);
    not_second(m, w);
    if (t->attempt != w->job.attempt || (t->holder != w->number && t->copy != w->number)) {
        return;
    }
    if (t->holder == w->number) {
        t->holder = t->copy;
    }
    t->copy = -1;
    if (t->holder >= 0) {
        not_second(m, &m->workers[t->holder]);
    }
}

/* One of two copies is of no use any more; it hears of it with its next heartbeat. */
static void tell_off(struct sim *m, struct sim_worker *w)
{
    forget(m, w);
    w->told_off = true;
    w->free_ns = m->now_ns + m->setup->heartbeat_ms * MAG_NS_PER_MS;
    schedule(m, w);
}

static void leave(struct sim *m, struct sim_worker *w, enum sim_end end)
{
    const struct sim_trial *t = sim_trial_of(m, w->job.trial);
    bool mine = t->attempt == w->job.attempt && (t->holder == w->number || t->copy == w->number);
    forget(m, w);
    if (mine && end <= SIM_FAILED) {
        m->r->copies_won += w->job.copy;
        if (t->holder >= 0) {
            tell_off(m, &m->workers[t->holder]);
        }
    }
    tally_job(m, w, end);
    w->busy = false;
    w->told_off = false;
    w->free_ns = m->now_ns;
}

/* ---- reports ---- */

static void fill_values(const struct sim *m, struct event_value *values, const double *from)
{
    for (int i = 0; i < m->spec->n_measures; i++) {
        values[i] = (struct event_value){.value = from[i]};
        values[i].name = i > 0 ? xstrdup(m->spec->measures[i].name) : NULL;
    }
}

static void add_points(const struct sim *m, struct event *ev, const struct sim_worker *w,
                       int64_t step)
{
    int n = m->spec->n_measures;
    for (int i = 0; i < w->n_unsaid; i++) {
        fill_values(m, event_add_point(ev, w->unsaid[i], n)->values, &w->unsaid_values[i * n]);
    }
    if (w->job.budget > 0 && step >= 0) {
        fill_values(m, event_add_point(ev, step, n)->values, w->values);
    }
}

/* The end of a trial that has no steps brings everything with it. */
static void add_told(const struct sim *m, struct event *ev, const struct sim_worker *w)
{
    ev->told = TRIAL_COMPLETED;
    if (w->job.budget > 0) {
        return;
    }
    ev->has_value = true;
    ev->value = w->values[0];
    ev->n_values = m->spec->n_measures - 1;
    ev->values = ev->n_values > 0 ? xcalloc((size_t)ev->n_values, sizeof(*ev->values)) : NULL;
    for (int i = 0; i < ev->n_values; i++) {
        ev->values[i] = (struct event_value){.name = xstrdup(m->spec->measures[i + 1].name),
                                             .value = w->values[i + 1]};
    }
}

static void add_checkpoint(const struct sim *m, struct sim_worker *w, struct event *ev,
                           int64_t step)
{
    int64_t every = m->checkpoint_every;
    bool saves = every > 0 && w->job.budget > 0 && (is_last(w, step) || step % every == 0);
    ev->checkpoint_step = saves ? step : -1;
    if (saves) {
        w->saved_step = step;
        w->job.saved_ns = m->now_ns;
    }
}

static void reach_rung(struct sim *m, const struct sim_worker *w)
{
    struct sim_trial *t = sim_trial_of(m, w->job.trial);
    m->r->rungs[t->rung].reached++;
    if (!t->full && (w->job.budget == 0 || w->job.budget == m->spec->resource.max)) {
        t->full = true;
        m->r->full++;
        m->r->first_full_ns = m->r->first_full_ns < 0 ? m->now_ns : m->r->first_full_ns;
    }
}

static enum sim_end end_of(enum trial_state s)
{
    switch (s) {
    case TRIAL_PAUSED:
    case TRIAL_WAITING:
        return SIM_PAUSED;
    case TRIAL_COMPLETED:
        return SIM_COMPLETED;
    case TRIAL_STOPPED:
    case TRIAL_CANCELLED:
        return SIM_STOPPED;
    case TRIAL_FAILED:
    case TRIAL_RUNNING:
    case TRIAL_STATES:
        break;
    }
    return SIM_FAILED;
}

/* The study's answer to a report or tell. True when the job goes on. */
static bool take_answer(struct sim *m, struct sim_worker *w, const struct event *ev, bool last)
{
    w->n_unsaid = 0;
    if (ev->late) {
        leave(m, w, SIM_LATE);
        return false;
    }
    bool ended = ev->kind == EV_TELL || ev->action != ACT_CONTINUE;
    if (!ended) {
        struct sim_trial *t = sim_trial_of(m, w->job.trial);
        if (t->attempt == w->job.attempt && t->holder < 0) {
            t->holder = w->number; /* taken back after an expiry */
            t->quiet_ns = SIM_NEVER;
        }
        return true;
    }
    enum sim_end end = end_of(ev->state);
    if (last && end != SIM_FAILED) {
        reach_rung(m, w);
    }
    leave(m, w, end);
    return false;
}

/* Stops the slower of two copies as soon as it shows. True when that is this one. */
static bool settle_copies(struct sim *m, struct sim_worker *w)
{
    struct sim_worker *loser = m->n_copies > 0 ? speculate_loser(m, w) : NULL;
    if (loser == w) {
        leave(m, w, SIM_OUTRUN); /* the answer to its report says so */
        return true;
    }
    if (loser != NULL) {
        tell_off(m, loser);
    }
    return false;
}

/* Says what there is to say of the job at `step` (-1: only what was held back). True: it goes on. */
static bool say(struct sim *m, struct sim_worker *w, int64_t step)
{
    struct event ev;
    bool last = step >= 0 && is_last(w, step);
    event_init(&ev, last ? EV_TELL : EV_REPORT);
    ev.trial = w->job.trial;
    ev.attempt = w->job.attempt;
    add_points(m, &ev, w, step);
    ev.checkpoint_step = -1;
    if (step >= 0) {
        add_checkpoint(m, w, &ev, step);
    }
    if (last) {
        add_told(m, &ev, w);
    }
    bool on = sim_apply(m, &ev) && take_answer(m, w, &ev, last);
    event_fini(&ev);
    return on && !settle_copies(m, w);
}

static void hold_back(const struct sim *m, struct sim_worker *w, int64_t step)
{
    size_t n = (size_t)m->spec->n_measures;
    if (w->n_unsaid == w->cap_unsaid) {
        w->cap_unsaid = w->cap_unsaid > 0 ? w->cap_unsaid * 2 : 8;
        w->unsaid = xreallocarray(w->unsaid, (size_t)w->cap_unsaid, sizeof(*w->unsaid));
        w->unsaid_values = xreallocarray(w->unsaid_values, (size_t)w->cap_unsaid * n,
                                         sizeof(*w->unsaid_values));
    }
    memcpy(&w->unsaid_values[(size_t)w->n_unsaid * n], w->values, n * sizeof(*w->values));
    w->unsaid[w->n_unsaid++] = step;
}

/* What the driver sees of a step's time, by each job's first report: fast jobs, of which there are
 * more reports, would make a fresh one look faster than it is. */
static void see_pace(struct sim *m, const struct sim_worker *w)
{
    int64_t steps = w->job.to - w->job.from;
    if (m->setup->speculate <= 0 || steps < 1 || !isnan(w->job.value)) {
        return;
    }
    double started = (double)(w->job.start_ns + m->setup->start_ms * MAG_NS_PER_MS);
    double ns = ((double)m->now_ns - started) / (double)steps;
    m->n_jobs_seen++;
    m->step_seen_ns += (ns - m->step_seen_ns) / (double)m->n_jobs_seen;
}

/* A step is done. True: the job goes on. */
static bool end_step(struct sim *m, struct sim_worker *w)
{
    int64_t step = ++w->job.to;
    m->r->steps++;
    w->reached_ns = m->now_ns;
    if (!is_reported(m, w, step)) {
        return true;
    }
    see_pace(m, w);
    w->job.value = w->values[0];
    if (!sim_is_silent(m, w)) {
        return say(m, w, step);
    }
    if (is_last(w, step)) {
        w->job.to--; /* it is said when the worker is heard again */
        m->r->steps--;
        w->step_ns = w->heard_ns;
    } else if (w->n_unsaid < EVENT_POINTS_MAX - 1) {
        hold_back(m, w, step);
    }
    return true;
}

/* ---- asking ---- */

static bool try_copy(struct sim *m, struct sim_worker *w, bool idle)
{
    struct sim_worker *slow = m->setup->speculate > 0 ? speculate_pick(m, idle) : NULL;
    if (slow == NULL) {
        return false;
    }
    begin_copy(m, w, slow);
    return true;
}

static void go_idle(struct sim *m, struct sim_worker *w)
{
    queue_remove(&m->due, &w->node);
    tally_idle(m, w, true);
    w->free_ns = SIM_NEVER;
    queue_put(&m->idle, &w->node, m->now_ns);
}

static void ask(struct sim *m, struct sim_worker *w)
{
    struct event ev;
    bool copies = m->setup->speculate > 0;
    if (copies && study_next_is_new(m->study) && try_copy(m, w, false)) {
        return;
    }
    event_init(&ev, EV_ASK);
    ev.count = 1;
    ev.holder = xstrdup(w->name);
    ev.from_worker = true;
    ev.lease_ms = m->setup->lease_ms;
    if (sim_apply(m, &ev)) {
        if (ev.n_grants > 0) {
            take_grant(m, w, &ev.grants[0]);
        } else if (!try_copy(m, w, true)) {
            go_idle(m, w);
        }
    }
    event_fini(&ev);
}

/* ---- death and return ---- */

static void lose_job(struct sim *m, struct sim_worker *w, enum sim_end end)
{
    leave(m, w, end);
    sim_lose(m, w);
}

static void go_away(struct sim *m, struct sim_worker *w)
{
    m->r->deaths++;
    if (w->busy) {
        lose_job(m, w, w->told_off ? SIM_OUTRUN : SIM_DIED);
    }
    w->away = true;
    w->back_ns = w->death_ns + m->setup->away_ms * MAG_NS_PER_MS;
    m->r->away_ns += (double)(w->back_ns - m->now_ns);
    schedule(m, w);
}

static void come_back(struct sim *m, struct sim_worker *w)
{
    w->away = false;
    w->death_ns = m->now_ns + sim_wait_ns(&w->fate, m->setup->death_every_ms);
    ask(m, w);
}

/* ---- due ---- */

static void job_due(struct sim *m, struct sim_worker *w)
{
    bool on = true;
    if (w->drop_ns <= m->now_ns && w->drop_ns < w->step_ns) {
        m->r->drops++;
        lose_job(m, w, SIM_DROPPED);
        on = false;
    } else if (w->n_unsaid > 0 && w->heard_ns <= m->now_ns) {
        on = say(m, w, -1);
    }
    if (on && w->step_ns <= m->now_ns) {
        on = end_step(m, w);
        if (on && m->st == MAG_OK && w->step_ns <= m->now_ns) {
            begin_step(m, w, m->now_ns);
        }
    }
    if (m->st != MAG_OK) {
        return;
    }
    if (on) {
        schedule(m, w);
    } else {
        ask(m, w);
    }
}

void work_due(struct sim *m, struct sim_worker *w)
{
    if (w->away) {
        come_back(m, w);
    } else if (w->death_ns <= m->now_ns) {
        go_away(m, w);
    } else if (w->busy && !w->told_off) {
        job_due(m, w);
    } else {
        if (w->busy) {
            leave(m, w, SIM_OUTRUN);
        }
        ask(m, w);
    }
}

/* A worker that died while it had nothing to do: true when it is not here now. */
static bool missed_death(struct sim *m, struct sim_worker *w)
{
    while (w->death_ns <= m->now_ns) {
        m->r->deaths++;
        w->back_ns = w->death_ns + m->setup->away_ms * MAG_NS_PER_MS;
        if (w->back_ns > m->now_ns) {
            w->away = true;
            m->r->away_ns += (double)(w->back_ns - m->now_ns);
            schedule(m, w);
            return true;
        }
        w->death_ns = w->back_ns + sim_wait_ns(&w->fate, m->setup->death_every_ms);
    }
    return false;
}

void work_serve_idle(struct sim *m)
{
    while (m->st == MAG_OK && m->idle.n > 0) {
        bool work = study_has_work(m->study);
        if (!work && (m->setup->speculate <= 0 || speculate_pick(m, true) == NULL)) {
            return;
        }
        struct sim_worker *w = (struct sim_worker *)(uintptr_t)queue_first(&m->idle);
        queue_remove(&m->idle, &w->node);
        tally_idle(m, w, false);
        if (!missed_death(m, w)) {
            ask(m, w);
        }
    }
}

void work_cut(struct sim *m)
{
    for (int64_t i = 0; i < m->options->workers; i++) {
        struct sim_worker *w = &m->workers[i];
        if (w->busy) {
            tally_job(m, w, w->told_off ? SIM_OUTRUN : SIM_CUT);
        }
        if (w->away) {
            m->r->away_ns -= (double)(w->back_ns - m->now_ns);
        }
        if (w->node.place > 0 && m->idle.n > 0 && w->node.place <= m->idle.n &&
            m->idle.items[w->node.place - 1] == &w->node) {
            tally_idle(m, w, false);
        }
    }
}
