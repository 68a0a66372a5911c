/* SPDX-License-Identifier: Apache-2.0
 *
 * What a run's program says, by its channel or its output: points, checkpoints, how its trial
 * ended. Whatever else knows of metrics gives them to run_point.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "worker/said.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX 64       /* named values of one step */
#define METRIC_NAME_MAX 128  /* bytes of a metric's name */
#define METRICS_BUFFER 65536 /* bytes of metrics.jsonl kept in memory */
#define SHOWN_MAX 60         /* bytes of a line that broke the protocol, in its error */

struct child *run_child(const struct run *r)
{
    return r->executor != NULL ? executor_child(r->executor) : r->child;
}

void run_unusable(struct run *r, const char *what, const char *why)
{
    if (r->bad_line == NULL) {
        r->bad_line = xstrdup(why);
        outlog_note(&r->log, "%s cannot be used: %s", what, why);
    }
}

/* ---- points ---- */

/* An objective that is there and is no number would be missed without a word. */
static void check_objective(struct run *r, const json_t *given, const json_t *taken)
{
    const json_t *v = json_object_get(given, r->grant.metric);
    if (v != NULL && json_object_get(taken, r->grant.metric) == NULL) {
        char *why =
            xasprintf("\"%.128s\" must be a number, not %s", r->grant.metric, mjson_kind(v));
        run_unusable(r, "a report", why);
        free(why);
    }
}

/* At most METRICS_MAX values with names of sound length; the objective is never left out. */
static json_t *sound_metrics(struct run *r, const json_t *given)
{
    json_t *all = lines_metrics(given);
    json_t *out = json_object();
    json_t *objective = json_object_get(all, r->grant.metric);
    const char *name = NULL;
    json_t *v = NULL;
    if (objective != NULL) {
        (void)json_object_set(out, r->grant.metric, objective);
    }
    json_object_foreach(all, name, v)
    {
        if (json_object_size(out) < METRICS_MAX && strlen(name) <= METRIC_NAME_MAX &&
            name[0] != '\0') {
            (void)json_object_set(out, name, v);
        }
    }
    check_objective(r, given, all);
    json_decref(all);
    return out;
}

static void note_metrics(struct run *r, int64_t step, const json_t *metrics)
{
    char *text = mjson_dump(metrics);
    buf_addf(&r->metrics, "{\"step\":%" PRId64 ",\"time_ms\":%" PRId64 ",\"metrics\":%s}\n", step,
             clock_wall_ms(), text);
    free(text);
    if (r->metrics.len > METRICS_BUFFER) {
        run_flush_metrics(r);
    }
}

static void keep_point(struct run *r, const struct wire_point *p)
{
    bool at_budget = r->grant.budget > 0 && p->step >= r->grant.budget;
    if (at_budget) {
        *wire_point_add(&r->held, &r->n_held) = *p;
        if (r->n_held == 1) {
            run_hold_again(r);
        }
    } else {
        *wire_point_add(&r->points, &r->n_points) = *p;
        session_wake(r->app->session, false);
    }
    if (r->n_held > WIRE_POINTS_MAX) {
        run_release_held(r);
    }
    if (r->n_points > RUN_POINTS_HOLD && run_child(r) != NULL) {
        child_hold(run_child(r), true);
    }
}

void run_point(struct run *r, int64_t step, const json_t *given)
{
    if (r->ordered != ORDER_NONE || r->late || step < 0 || step > WIRE_STEP_MAX) {
        return;
    }
    json_t *metrics = sound_metrics(r, given);
    r->objective_seen = r->objective_seen || json_object_get(metrics, r->grant.metric) != NULL;
    r->last_step = step > r->last_step ? step : r->last_step;
    note_metrics(r, step, metrics);
    board_point(r, step, metrics);
    const json_t *value = json_object_get(metrics, r->grant.metric);
    if (json_is_number(value)) {
        collect_note_score(r, step, json_number_value(value));
    }
    keep_point(r, &(struct wire_point){.step = step, .metrics = metrics});
}

void run_points_sent(struct run *r)
{
    if (r->n_points < RUN_POINTS_HOLD / 2 && run_child(r) != NULL) {
        child_hold(run_child(r), false);
    }
}

/* ---- messages ---- */

/* "the line is a string, not a JSON object; it wrote: \"hello\"" */
static void fail_protocol(struct run *r, const char *why, const char *text, size_t len)
{
    char shown[SHOWN_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < len && n < SHOWN_MAX; i++) {
        shown[n++] = (unsigned char)text[i] < ' ' ? ' ' : text[i];
    }
    shown[n] = '\0';
    run_fail(r, "program", "it broke the protocol on MAGPIE_FD: %s; it wrote: %s%s", why, shown,
             n < len ? "…" : "");
}

bool run_hear(struct run *r, const char *text, size_t len, struct said *ret)
{
    struct mag_err err = {0};
    if (text == NULL) {
        run_fail(r, "program", "it broke the protocol on MAGPIE_FD: a line of more than %d MiB",
                 CHILD_LINE_MAX >> 20);
        return false;
    }
    if (said_parse(text, len, ret, &err) != MAG_OK) {
        fail_protocol(r, err.text, text, len);
        return false;
    }
    return true;
}

static void use_checkpoint(struct run *r, const struct said *s)
{
    char *full =
        s->path[0] == '/' ? xstrdup(s->path) : xasprintf("%s/%s", r->checkpoint_dir, s->path);
    publish_checkpoint(r, s->step, full);
    free(full);
}

static void use_result(struct run *r, const struct said *s)
{
    r->final_status = s->status;
    if (s->metrics != NULL) {
        json_decref(r->final_metrics);
        r->final_metrics = sound_metrics(r, s->metrics);
    }
    if (r->executor != NULL) {
        run_finish(r, -1);
    }
}

/* Out of a GPU's memory because of others there: it goes back, and has room when they have ended.
 */
static bool is_crowded(struct run *r, const struct said *s)
{
    return !s->final && strcmp(s->cause, "out-of-memory") == 0 && s->need_mb == 0 && gpu_crowded(r);
}

static void use_error(struct run *r, const struct said *s)
{
    if (is_crowded(r, s)) {
        outlog_note(&r->log, "%s", s->reason);
        r->give_back = r->crowded = true;
        run_finish(r, -1);
        return;
    }
    free(r->failure);
    r->failure = xstrdup(s->reason);
    r->failure_cause = s->cause;
    r->failure_retry = s->retry;
    r->failure_final = s->final;
    r->need_mb = s->need_mb;
    if (r->executor != NULL) {
        run_finish(r, -1); /* the executor goes on with `ready` */
    }
}

void run_said(struct run *r, const struct said *s)
{
    bool other = s->trial > 0 && s->trial != r->grant.trial;
    if (!other && r->state == RUN_RUNNING && r->lane_stop &&
        (s->kind == SAID_RESULT || s->kind == SAID_ERROR)) {
        run_finish(r, -1); /* as it failed; the others of its group go on */
        return;
    }
    /* Of a trial that was before this one; or its end is decided and the process on its way out: it
     * must not be taken for one that goes on to the next trial. */
    if (other || r->state != RUN_RUNNING || r->failure != NULL) {
        return;
    }
    switch (s->kind) {
    case SAID_REPORT:
        run_point(r, s->step, s->metrics);
        break;
    case SAID_CHECKPOINT:
        use_checkpoint(r, s);
        break;
    case SAID_RESULT:
        use_result(r, s);
        break;
    case SAID_ERROR:
        use_error(r, s);
        break;
    case SAID_UNUSABLE:
        run_unusable(r, "a message", s->reason);
        break;
    case SAID_NEEDS:
        gpu_needs(r, s);
        break;
    case SAID_MEMORY:
        gpu_measured(r, s);
        break;
    case SAID_DECLINED:
        run_decline(r, s->lanes);
        break;
    case SAID_READY:
    default:
        break;
    }
}

/* The log keeps the first and the last of it, so this bounds time, not space. */
static int64_t output_max(const struct run *r)
{
    int64_t mb = json_integer_value(json_object_get(r->grant.limits, "output_mb"));
    return mb > 0 ? mb << 20 : INT64_MAX;
}

void run_output(struct run *r, const char *bytes, size_t n)
{
    outlog_add(&r->log, bytes, n);
    r->tail_untold = true;
    if (r->log.raw > output_max(r) && r->failure == NULL) {
        run_fail(r, "program", "it wrote more than %" PRId64 " MiB of output (limits.output)",
                 output_max(r) >> 20);
    }
}
