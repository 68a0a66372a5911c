/* SPDX-License-Identifier: Apache-2.0
 *
 * One trial's states. The table below is all there is: what is not in it cannot happen, and
 * trial_move is the only function that changes a state.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* allowed[from][to]. COMPLETED, STOPPED, FAILED and CANCELLED are final: the optimizer has heard of
 * the end, once. */
static const bool allowed[TRIAL_STATES][TRIAL_STATES] = {
    [TRIAL_WAITING] = {[TRIAL_RUNNING] = true, [TRIAL_STOPPED] = true, [TRIAL_CANCELLED] = true},
    [TRIAL_RUNNING] = {[TRIAL_WAITING] = true,
                       [TRIAL_PAUSED] = true,
                       [TRIAL_COMPLETED] = true,
                       [TRIAL_STOPPED] = true,
                       [TRIAL_FAILED] = true,
                       [TRIAL_CANCELLED] = true},
    [TRIAL_PAUSED] = {[TRIAL_WAITING] = true, [TRIAL_RUNNING] = true, [TRIAL_CANCELLED] = true},
};

bool trial_may_move(enum trial_state from, enum trial_state to)
{
    return from < TRIAL_STATES && to < TRIAL_STATES && allowed[from][to];
}

bool trial_move(struct study *s, struct trial *t, enum trial_state to)
{
    if (!trial_may_move(t->state, to)) {
        return false;
    }
    list_remove(&t->link);
    if (t->reserved) {
        t->reserved = false;
        s->n_reserved--;
    }
    s->counts[t->state]--;
    s->counts[to]++;
    t->state = to;
    t->lost = false;
    if (to == TRIAL_WAITING) {
        list_append(&s->queue, &t->link);
    } else if (to == TRIAL_RUNNING) {
        list_append(&s->open, &t->link);
    }
    if (to != TRIAL_RUNNING) {
        lease_end(s, t);
    }
    study_touch(s, t);
    return true;
}

struct trial *trial_at(const struct study *s, int64_t id)
{
    if (id < 1 || id > s->n_trials) {
        return NULL;
    }
    return &s->chunks[(id - 1) / TRIAL_CHUNK]->trials[(id - 1) % TRIAL_CHUNK];
}

/* Adds a chunk when the last one is full; the array of chunks doubles at powers of two. */
static void make_room(struct study *s)
{
    if (s->n_trials % TRIAL_CHUNK != 0) {
        return;
    }
    size_t n = (size_t)(s->n_trials / TRIAL_CHUNK);
    if ((n & (n - 1)) == 0) {
        s->chunks = xreallocarray(s->chunks, n == 0 ? 1 : n * 2, sizeof(struct trial_chunk *));
    }
    size_t numbers = (size_t)(s->spec->space->n + s->spec->n_measures - 1);
    size_t points = (size_t)TRIAL_CHUNK * numbers * sizeof(double);
    s->chunks[n] = xcalloc(1, sizeof(struct trial_chunk) + points);
}

struct trial *trial_create(struct study *s, const double *point)
{
    make_room(s);
    size_t dims = (size_t)s->spec->space->n;
    size_t extras = (size_t)s->spec->n_measures - 1;
    struct trial_chunk *chunk = s->chunks[s->n_trials / TRIAL_CHUNK];
    size_t at = (size_t)(s->n_trials % TRIAL_CHUNK);
    struct trial *t = &chunk->trials[at];
    *t = (struct trial){.id = ++s->n_trials,
                        .state = TRIAL_WAITING,
                        .point = &chunk->points[at * (dims + extras)],
                        .extras = &chunk->points[at * (dims + extras) + dims],
                        .step = -1,
                        .value = NAN,
                        .attempt_value = NAN,
                        .attempt_step = -1,
                        .seen_step = -1,
                        .value_step = -1,
                        .checkpoint_step = -1,
                        .created_ms = s->wall_ms};
    t->point_of = t->id;
    memcpy(t->point, point, dims * sizeof(double));
    for (size_t i = 0; i < extras; i++) {
        t->extras[i] = NAN;
    }
    s->counts[TRIAL_WAITING]++;
    list_append(&s->queue, &t->link);
    study_touch(s, t);
    return t;
}

/* ---- attempts ---- */

struct trial_attempt *trial_attempt_at(struct trial *t, int64_t attempt)
{
    return attempt >= 1 && attempt <= t->n_attempts ? &t->attempts[attempt - 1] : NULL;
}

static void add_attempt(struct trial *t)
{
    int n = t->n_attempts;
    if (n == 0) {
        t->attempts = &t->first;
    } else if (n == 1) {
        t->attempts = xmalloc(2 * sizeof(*t->attempts));
        t->attempts[0] = t->first;
    } else if ((n & (n - 1)) == 0) {
        t->attempts = xreallocarray(t->attempts, (size_t)n * 2, sizeof(*t->attempts));
    }
    t->attempts[n] = (struct trial_attempt){.first_step = -1, .last_step = -1, .end_step = -1};
    t->n_attempts = n + 1;
    t->attempt = n + 1;
    t->attempt_value = NAN;
    t->attempt_step = -1;
}

static void clear_why(struct study *s, struct trial *t)
{
    study_text_set(s, &t->why_code, NULL);
    study_text_set(s, &t->why, NULL);
}

static void move(struct study *s, struct trial *t, enum trial_state to)
{
    enum trial_state from = t->state;
    bool ok = trial_move(s, t, to);
    MAG_ASSERT(ok, "trial %lld from %s to %s", (long long)t->id, trial_state_name(from),
               trial_state_name(to));
}

void trial_give(struct study *s, struct trial *t, const struct event *ev, bool reserve)
{
    add_attempt(t);
    study_text_set(s, &t->holder, ev->holder);
    clear_why(s, t);
    t->from_worker = ev->from_worker;
    t->lease_ms = ev->lease_ms;
    t->delivered = false;
    t->attempt_ns = t->report_ns = 0;
    if (ev->where != NULL) {
        json_decref(t->where);
        t->where = study_where(s, ev->where);
    }
    if (!reserve) {
        trial_start(s, t);
        return;
    }
    if (t->state == TRIAL_PAUSED) {
        move(s, t, TRIAL_WAITING);
    }
    list_remove(&t->link);
    list_append(&s->open, &t->link);
    t->lost = false;
    t->reserved = true;
    s->n_reserved++;
    study_touch(s, t);
    lease_arm(s, t, s->now_ns);
}

void trial_start(struct study *s, struct trial *t)
{
    move(s, t, TRIAL_RUNNING);
    clear_why(s, t);
    t->attempt_ns = s->now_ns;
    t->report_ns = 0;
    if (t->started_ms == 0) {
        t->started_ms = s->wall_ms;
    }
    if (s->started_ms == 0) {
        s->started_ms = s->wall_ms;
    }
    lease_arm(s, t, s->now_ns);
}

void trial_return(struct study *s, struct trial *t)
{
    if (t->state == TRIAL_RUNNING) {
        move(s, t, TRIAL_WAITING);
    } else {
        MAG_ASSERT(t->reserved, "trial %lld", (long long)t->id);
        t->reserved = false;
        s->n_reserved--;
        lease_end(s, t);
        study_touch(s, t);
    }
    list_remove(&t->link);
    list_append(s->queue.next, &t->link); /* before the first: it becomes the first */
    study_text_set(s, &t->why_code, "returned");
    study_text_set(s, &t->why, "given back before it began; it is the next to be given");
}

void trial_hold(struct study *s, struct trial *t, enum trial_state to, const char *code,
                const char *why)
{
    move(s, t, to);
    study_text_set(s, &t->why_code, code);
    study_text_set(s, &t->why, why);
}

/* ---- the end ---- */

void trial_set_reason(struct trial *t, const char *reason)
{
    char *copy = reason != NULL ? xstrdup(reason) : NULL;
    free(t->reason);
    t->reason = copy;
}

void trial_end(struct study *s, struct trial *t, enum trial_state to)
{
    move(s, t, to);
    clear_why(s, t);
    t->ended_ms = s->wall_ms;
    trial_judge_end(s, t, to);
}

void trial_fini(struct trial *t)
{
    if (t->attempts != &t->first) {
        free(t->attempts);
    }
    free(t->checkpoint_uri);
    free(t->kept);
    free(t->reason);
    free(t->notes);
    json_decref(t->where);
}
