/* SPDX-License-Identifier: Apache-2.0
 *
 * Events: life cycle and the writing half of the codec. Keys are written in alphabetical order and
 * only where they differ from their default, so equal events are equal bytes.
 */
#include "driver/event.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static const char *const kind_names[] = {
    [EV_ASK] = "ask",
    [EV_RESERVE] = "reserve",
    [EV_STARTED] = "started",
    [EV_REPORT] = "report",
    [EV_TELL] = "tell",
    [EV_EXPIRE] = "expire",
    [EV_RELEASE] = "release",
    [EV_PAUSE] = "pause",
    [EV_RESUME] = "resume",
    [EV_CANCEL] = "cancel",
    [EV_EXTEND] = "extend",
    [EV_ENQUEUE] = "enqueue",
    [EV_TIME_UP] = "time-up",
    [EV_NOTE] = "note",
    [EV_COLLECTED] = "collected",
    [EV_NOTIFIED] = "notified",
    [EV_TRIAL_CANCEL] = "trial-cancel",
    [EV_TRIAL_RETRY] = "trial-retry",
};
static const char *const trial_names[TRIAL_STATES] = {"waiting", "running", "paused",   "completed",
                                                      "stopped", "failed",  "cancelled"};
static const char *const study_names[] = {"running", "paused", "completed", "cancelled", "failed"};
static const char *const cause_names[] = {
    "none",          "program",   "signal",    "timeout", "out-of-memory",
    "configuration", "objective", "no-metric", "lost",    "client"};
static const char *const action_names[] = {"continue", "pause", "stop"};

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

static const char *name_at(const char *const *names, int n, int i)
{
    return i >= 0 && i < n && names[i] != NULL ? names[i] : "unknown";
}

const char *event_kind_name(enum event_kind kind)
{
    return name_at(kind_names, COUNT(kind_names), (int)kind);
}

const char *trial_state_name(enum trial_state s)
{
    return name_at(trial_names, TRIAL_STATES, (int)s);
}

const char *study_state_name(enum study_state s)
{
    return name_at(study_names, COUNT(study_names), (int)s);
}

const char *fail_cause_name(enum fail_cause c)
{
    return name_at(cause_names, COUNT(cause_names), (int)c);
}

const char *report_action_name(enum report_action a)
{
    return name_at(action_names, COUNT(action_names), (int)a);
}

bool trial_state_from_name(const char *name, enum trial_state *ret)
{
    for (int i = 0; i < TRIAL_STATES; i++) {
        if (strcmp(trial_names[i], name) == 0) {
            *ret = (enum trial_state)i;
            return true;
        }
    }
    return false;
}

bool fail_cause_from_name(const char *name, enum fail_cause *ret)
{
    for (int i = 0; i < COUNT(cause_names); i++) {
        if (strcmp(cause_names[i], name) == 0) {
            *ret = (enum fail_cause)i;
            return true;
        }
    }
    return false;
}

bool trial_state_is_final(enum trial_state s)
{
    return s >= TRIAL_COMPLETED;
}

bool study_state_is_final(enum study_state s)
{
    return s >= STUDY_COMPLETED;
}

/* ---- life cycle ---- */

void event_init(struct event *ev, enum event_kind kind)
{
    *ev = (struct event){.kind = kind, .checkpoint_step = -1, .action_step = -1};
}

static void free_points(struct event *ev)
{
    for (int i = 0; i < ev->n_points; i++) {
        for (int k = 0; k < ev->points[i].n_values; k++) {
            free(ev->points[i].values[k].name);
        }
        free(ev->points[i].values);
    }
    free(ev->points);
    for (int k = 0; k < ev->n_values; k++) {
        free(ev->values[k].name);
    }
    free(ev->values);
}

void event_clear_decision(struct event *ev)
{
    for (int i = 0; i < ev->n_grants; i++) {
        free(ev->grants[i].point);
        free(ev->grants[i].resume_uri);
    }
    free(ev->grants);
    free(ev->why_code);
    free(ev->why);
    free(ev->moves);
    free(ev->study_why_code);
    free(ev->study_why);
    free(ev->maker);
    ev->seq = 0;
    ev->up_ms = 0;
    ev->decided = false;
    ev->grants = NULL;
    ev->n_grants = 0;
    ev->waiting = ev->done = false;
    ev->why_code = ev->why = NULL;
    ev->action = ACT_CONTINUE;
    ev->action_step = -1;
    ev->late = ev->changed = false;
    ev->state = TRIAL_WAITING;
    ev->state_attempt = 0;
    ev->created_trial = 0;
    ev->refit = 0;
    ev->moves = NULL;
    ev->n_moves = 0;
    ev->study = STUDY_RUNNING;
    ev->study_why_code = ev->study_why = NULL;
    ev->maker = NULL;
}

void event_fini(struct event *ev)
{
    if (ev == NULL) {
        return;
    }
    event_clear_decision(ev);
    free_points(ev);
    free(ev->holder);
    free(ev->request);
    free(ev->body_hash);
    json_decref(ev->where);
    free(ev->checkpoint_uri);
    free(ev->checkpoint_meta);
    free(ev->reason);
    json_decref(ev->detail);
    event_init(ev, ev->kind);
}

/* Room for one more element after `n`, doubling at powers of two so that no capacity is kept. */
static void *grown(void *items, int n, size_t size)
{
    bool full = (n & (n - 1)) == 0;
    return full ? xreallocarray(items, n == 0 ? 1 : (size_t)n * 2, size) : items;
}

struct event_point *event_add_point(struct event *ev, int64_t step, int n)
{
    ev->points = grown(ev->points, ev->n_points, sizeof(*ev->points));
    struct event_point *p = &ev->points[ev->n_points++];
    *p = (struct event_point){.step = step, .n_values = n};
    p->values = n > 0 ? xcalloc((size_t)n, sizeof(*p->values)) : NULL;
    return p;
}

void event_add_value(struct event *ev, const char *name, double value)
{
    ev->values = grown(ev->values, ev->n_values, sizeof(*ev->values));
    ev->values[ev->n_values++] = (struct event_value){.name = xstrdup(name), .value = value};
}

void event_add_move(struct event *ev, int64_t trial, enum trial_state to)
{
    ev->moves = grown(ev->moves, ev->n_moves, sizeof(*ev->moves));
    ev->moves[ev->n_moves++] = (struct event_move){.trial = trial, .to = to};
}

struct event_grant *event_add_grant(struct event *ev)
{
    ev->grants = grown(ev->grants, ev->n_grants, sizeof(*ev->grants));
    struct event_grant *g = &ev->grants[ev->n_grants++];
    *g = (struct event_grant){.resume_step = -1};
    return g;
}

/* ---- encoding ---- */

/* A comma where one is due, and the key. */
static void key(struct buf *b, const char *name)
{
    char last = b->data[b->len - 1];
    if (last != '{' && last != '[') {
        buf_addc(b, ',');
    }
    buf_addc(b, '"');
    buf_adds(b, name);
    buf_adds(b, "\":");
}

static void put_int(struct buf *b, const char *name, int64_t v, int64_t usual)
{
    if (v != usual) {
        key(b, name);
        buf_add_int(b, v);
    }
}

static void put_flag(struct buf *b, const char *name, bool v)
{
    if (v) {
        key(b, name);
        buf_adds(b, "true");
    }
}

static void put_text(struct buf *b, const char *name, const char *v)
{
    if (v != NULL) {
        key(b, name);
        buf_add_json_string(b, v);
    }
}

static int add_bytes(const char *bytes, size_t n, void *arg)
{
    buf_add(arg, bytes, n);
    return 0;
}

static void put_json(struct buf *b, const char *name, const json_t *v)
{
    if (v != NULL) {
        key(b, name);
        json_dump_callback(v, add_bytes, b, MJSON_CANON);
    }
}

/* Coordinates of points are mostly 53-bit draws: their 17 digits at once, not by trial. */
static void add_coordinate(struct buf *b, double v)
{
    if (!isfinite(v)) {
        buf_adds(b, "null");
    } else if (v == floor(v) && fabs(v) < 1e15) {
        buf_add_int(b, (int64_t)v);
    } else {
        char text[40];
        buf_add(b, text, (size_t)snprintf(text, sizeof(text), "%.17g", v));
    }
}

static void put_grant(struct buf *b, const struct event_grant *g, int dims)
{
    if (b->data[b->len - 1] != '[') {
        buf_addc(b, ',');
    }
    buf_addc(b, '{');
    put_int(b, "attempt", g->attempt, 0);
    put_int(b, "bracket", g->bracket, 0);
    put_int(b, "budget", g->budget, 0);
    put_int(b, "parent", g->parent, 0);
    put_int(b, "parent_step", g->parent_step, 0);
    if (g->created && g->point != NULL) {
        key(b, "point");
        buf_addc(b, '[');
        for (int i = 0; i < dims; i++) {
            if (i > 0) {
                buf_addc(b, ',');
            }
            add_coordinate(b, g->point[i]);
        }
        buf_addc(b, ']');
    }
    put_int(b, "resume_step", g->resume_step, -1);
    put_text(b, "resume_uri", g->resume_uri);
    put_int(b, "rung", g->rung, 0);
    put_int(b, "trial", g->trial, 0);
    buf_addc(b, '}');
}

static void put_grants(struct buf *b, const struct event *ev, int dims)
{
    if (ev->n_grants == 0) {
        return;
    }
    key(b, "grants");
    buf_addc(b, '[');
    for (int i = 0; i < ev->n_grants; i++) {
        put_grant(b, &ev->grants[i], dims);
    }
    buf_addc(b, ']');
}

static void put_moves(struct buf *b, const struct event *ev)
{
    if (ev->n_moves == 0) {
        return;
    }
    key(b, "moves");
    buf_addc(b, '[');
    for (int i = 0; i < ev->n_moves; i++) {
        buf_adds(b, i > 0 ? ",[" : "[");
        buf_add_int(b, ev->moves[i].trial);
        buf_addc(b, ',');
        buf_add_int(b, (int64_t)ev->moves[i].to);
        buf_addc(b, ']');
    }
    buf_addc(b, ']');
}

/* [name, value, name, value, …] */
static void put_values(struct buf *b, const struct event *ev)
{
    if (ev->n_values == 0) {
        return;
    }
    key(b, "values");
    for (int k = 0; k < ev->n_values; k++) {
        buf_addc(b, k > 0 ? ',' : '[');
        buf_add_json_string(b, ev->values[k].name);
        buf_addc(b, ',');
        buf_add_json_number(b, ev->values[k].value);
    }
    buf_addc(b, ']');
}

/* [[step, name or null, value, name or null, value, …], …] */
static void put_points(struct buf *b, const struct event *ev)
{
    if (ev->n_points == 0) {
        return;
    }
    key(b, "points");
    buf_addc(b, '[');
    for (int i = 0; i < ev->n_points; i++) {
        const struct event_point *p = &ev->points[i];
        buf_adds(b, i > 0 ? ",[" : "[");
        buf_add_int(b, p->step);
        for (int k = 0; k < p->n_values; k++) {
            buf_addc(b, ',');
            if (p->values[k].name == NULL) {
                buf_adds(b, "null");
            } else {
                buf_add_json_string(b, p->values[k].name);
            }
            buf_addc(b, ',');
            buf_add_json_number(b, p->values[k].value);
        }
        buf_addc(b, ']');
    }
    buf_addc(b, ']');
}

static void put_checkpoint(struct buf *b, const struct event *ev)
{
    if (ev->checkpoint_step < 0) {
        return;
    }
    key(b, "checkpoint");
    buf_addc(b, '{');
    put_text(b, "meta", ev->checkpoint_meta);
    put_int(b, "step", ev->checkpoint_step, -1);
    put_text(b, "uri", ev->checkpoint_uri);
    buf_addc(b, '}');
}

void event_encode(const struct event *ev, int dims, struct buf *out)
{
    buf_addc(out, '{');
    put_int(out, "action", (int64_t)ev->action, ACT_CONTINUE);
    put_int(out, "action_step", ev->action_step, -1);
    put_int(out, "attempt", ev->attempt, 0);
    put_text(out, "body", ev->body_hash);
    put_int(out, "cause", (int64_t)ev->cause, FAIL_NONE);
    put_flag(out, "changed", ev->changed);
    put_checkpoint(out, ev);
    put_int(out, "count", ev->count, 0);
    put_int(out, "created", ev->created_trial, 0);
    put_json(out, "detail", ev->detail);
    put_flag(out, "done", ev->done);
    put_flag(out, "final", ev->final);
    put_grants(out, ev, dims);
    put_text(out, "holder", ev->holder);
    put_flag(out, "late", ev->late);
    put_int(out, "lease", ev->lease_ms, 0);
    put_text(out, "maker", ev->maker);
    put_moves(out, ev);
    put_points(out, ev);
    put_text(out, "reason", ev->reason);
    put_int(out, "refit", ev->refit, 0);
    put_text(out, "request", ev->request);
    put_flag(out, "retry", ev->retry);
    put_int(out, "state", (int64_t)ev->state, TRIAL_WAITING);
    put_int(out, "state_attempt", ev->state_attempt, 0);
    put_int(out, "study", (int64_t)ev->study, STUDY_RUNNING);
    put_text(out, "study_why", ev->study_why);
    put_text(out, "study_why_code", ev->study_why_code);
    put_int(out, "told", (int64_t)ev->told, TRIAL_WAITING);
    put_int(out, "trial", ev->trial, 0);
    put_flag(out, "uncounted", ev->uncounted);
    if (ev->has_value) {
        key(out, "value");
        buf_add_json_number(out, ev->value);
    }
    put_values(out, ev);
    put_flag(out, "waiting", ev->waiting);
    put_json(out, "where", ev->where);
    put_text(out, "why", ev->why);
    put_text(out, "why_code", ev->why_code);
    put_flag(out, "worker", ev->from_worker);
    buf_addc(out, '}');
}
