/* SPDX-License-Identifier: Apache-2.0
 *
 * One attempt from its grant to its acknowledgement: its folder, and being ended from outside.
 * States only move forward (app.h). Its start is launch.c's, what its program says news.c's, how it
 * ended outcome.c's, storage publish.c's.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct run *run_find(struct app *a, int64_t experiment, int64_t trial, int64_t attempt)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        struct run *r = container_of(n, struct run, node);
        if (r->grant.trial == trial && r->grant.attempt == attempt &&
            r->grant.experiment == experiment) {
            return r;
        }
    }
    return NULL;
}

/* ---- its folder ---- */

static enum mag_status write_file(const char *path, const char *text, struct mag_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t len = strlen(text);
    bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
    int failed = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return ok ? MAG_OK : mag_fail(err, MAG_IO, "%s: %s", path, strerror(failed));
}

/* For MAGPIE_PARAMS; an executor gets them in `start`. */
static enum mag_status write_params(const struct run *r, struct mag_err *err)
{
    char *params = mjson_dump(r->grant.params);
    enum mag_status st = write_file(r->params_path, params, err);
    free(params);
    return st;
}

const struct masks *run_masks(const struct run *r)
{
    return r->masks != NULL ? r->masks : r->app->masks;
}

static enum mag_status make_masks(struct run *r, const json_t *patterns, struct mag_err *err)
{
    const char *list[MASK_PATTERNS_MAX] = {0};
    int n = 0;
    for (size_t i = 0; i < json_array_size(patterns) && n < MASK_PATTERNS_MAX; i++) {
        const char *p = json_string_value(json_array_get(patterns, i));
        if (p != NULL) {
            list[n++] = p;
        }
    }
    return n > 0 ? masks_create(&r->masks, r->app->masks, list, n, NULL, err) : MAG_OK;
}

static enum mag_status prepare(struct run *r, struct mag_err *err)
{
    const struct wire_grant *g = &r->grant;
    r->dir = xasprintf("%s/%" PRId64 "-%" PRId64 "-%" PRId64, r->app->scratch, g->experiment,
                       g->trial, g->attempt);
    r->trial_dir = xasprintf("%s/trial", r->dir);
    r->checkpoint_dir = xasprintf("%s/checkpoints", r->dir);
    r->log_dir = xasprintf("%s/log", r->dir);
    r->metrics_path = xasprintf("%s/metrics.jsonl", r->dir);
    r->params_path = xasprintf("%s/params.json", r->dir);
    enum mag_status st = folder_take(&r->app->folders, r->dir, err);
    if (st == MAG_OK && json_object_get(g->program, "command") != NULL) {
        st = write_params(r, err);
    }
    if (st == MAG_OK) {
        st = make_masks(r, json_object_get(g->logs, "mask"), err);
    }
    outlog_open(&r->log, r->log_dir, run_masks(r),
                json_integer_value(json_object_get(g->logs, "limit")));
    return st;
}

void run_flush_metrics(struct run *r)
{
    if (r->metrics.len == 0) {
        return;
    }
    int fd = open(r->metrics_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, r->metrics.data, r->metrics.len) != (ssize_t)r->metrics.len) {
        log_warn("worker", "metrics-file", "trial=%" PRId64 " error=%s", r->grant.trial,
                 strerror(errno));
    }
    if (fd >= 0) {
        (void)close(fd);
        r->metrics_written = true;
        r->metrics_bytes += (int64_t)r->metrics.len;
    }
    buf_reset(&r->metrics);
}

/* ---- life ---- */

static void on_time_limit(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    run_fail(r, "timeout", "it ran longer than limits.trial_time (%.3g s)",
             (double)r->grant.trial_time_ms / 1000);
}

void run_release_held(struct run *r)
{
    for (size_t i = 0; i < r->n_held; i++) {
        *wire_point_add(&r->points, &r->n_points) = r->held[i];
    }
    free(r->held);
    r->held = NULL;
    r->n_held = 0;
    (void)event_del(r->budget_hold);
}

void run_hold_again(struct run *r)
{
    const struct timeval tv = {.tv_sec = RUN_BUDGET_HOLD_MS / 1000,
                               .tv_usec = RUN_BUDGET_HOLD_MS % 1000 * 1000};
    (void)event_add(r->budget_hold, &tv);
}

static void on_budget_hold(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    if (r->publishing > 0) {
        run_hold_again(r);
        return;
    }
    run_release_held(r);
    session_wake(r->app->session, true);
}

static void on_verdict(evutil_socket_t fd, short what, void *arg);

void run_accept(struct app *a, struct wire_grant *g_take)
{
    if (run_find(a, g_take->experiment, g_take->trial, g_take->attempt) != NULL) {
        wire_grant_fini(g_take); /* given again: we have it */
        return;
    }
    struct run *r = xcalloc(1, sizeof(*r));
    struct mag_err err = {0};
    r->app = a;
    r->grant = *g_take;
    *g_take = (struct wire_grant){0};
    r->reserved = r->grant.reserved;
    r->last_step = -1;
    r->time_limit = evtimer_new(a->base, on_time_limit, r);
    r->budget_hold = evtimer_new(a->base, on_budget_hold, r);
    r->verdict = evtimer_new(a->base, on_verdict, r);
    MAG_ASSERT(r->time_limit != NULL && r->budget_hold != NULL && r->verdict != NULL,
               "evtimer_new");
    list_append(&a->runs, &r->node);
    r->state = RUN_WAITING;
    group_join(r);
    if (a->drain != DRAIN_NONE) {
        run_give_back(r, true);
    } else if (prepare(r, &err) != MAG_OK) {
        run_fail(r, "program", "%s", err.text);
    } else if (r->grant.resume_uri != NULL) {
        r->state = RUN_FETCHING;
        publish_fetch(r);
    }
}

static void points_free(struct wire_point **points, size_t *n)
{
    for (size_t i = 0; i < *n; i++) {
        wire_point_fini(&(*points)[i]);
    }
    free(*points);
    *points = NULL;
    *n = 0;
}

void run_free(struct run *r)
{
    if (r->executor != NULL) {
        executor_leave(r);
    }
    slots_release(r);
    group_leave(r);
    child_destroy(r->child);
    lines_destroy(r->lines);
    board_free(r);
    follow_free(r);
    json_decref(r->untold);
    outlog_close(&r->log);
    masks_destroy(r->masks);
    buf_fini(&r->metrics);
    event_free(r->time_limit);
    event_free(r->budget_hold);
    event_free(r->verdict);
    points_free(&r->points, &r->n_points);
    points_free(&r->held, &r->n_held);
    json_decref(r->where);
    json_decref(r->checkpoint_meta);
    json_decref(r->final_metrics);
    wire_grant_fini(&r->grant);
    wire_result_fini(&r->result);
    free(r->dir);
    free(r->trial_dir);
    free(r->checkpoint_dir);
    free(r->log_dir);
    free(r->metrics_path);
    free(r->params_path);
    free(r->resume_path);
    free(r->checkpoint_uri);
    free(r->failure);
    free(r->bad_line);
    free(r->waits);
    list_remove(&r->node);
    free(r);
}

/* Ended by a signal that we did not send: a batch system that takes the machine away sends it to
 * the programs and to us, in any order. Shells exit with 128 + the signal's number. */
static bool ended_from_outside(const struct run *r, int status)
{
    int sig = WIFSIGNALED(status)                              ? WTERMSIG(status)
              : WIFEXITED(status) && WEXITSTATUS(status) > 128 ? WEXITSTATUS(status) - 128
                                                               : 0;
    bool ours = r->ordered != ORDER_NONE || r->give_back || r->failure != NULL || r->was_killed;
    return !ours && r->final_status == NULL && (sig == SIGTERM || sig == SIGUSR1 || sig == SIGINT);
}

void run_program_ended(struct run *r, int status)
{
    if (r->state >= RUN_PUBLISHING) {
        return;
    }
    if (!ended_from_outside(r, status)) {
        run_finish(r, status);
    } else if (r->app->drain != DRAIN_NONE) {
        r->give_back = true;
        run_finish(r, status);
    } else {
        const struct timeval tv = {.tv_sec = VERDICT_MS / 1000,
                                   .tv_usec = VERDICT_MS % 1000 * 1000};
        r->outside_status = status;
        (void)event_add(r->verdict, &tv);
    }
}

static void on_verdict(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    run_finish(r, r->outside_status);
}

bool run_awaits_verdict(const struct run *r)
{
    return evtimer_pending(r->verdict, NULL);
}

/* ---- being ended ---- */

static void end_program(struct run *r, const char *ask)
{
    if (r->state == RUN_STARTING && r->executor != NULL) {
        executor_leave(r); /* it has not heard of this trial */
        run_finish(r, -1);
    } else if (run_child(r) == NULL) {
        run_finish(r, -1);
    } else if ((r->executor != NULL || r->speaks) && ask != NULL) {
        executor_ask(r, ask);
    } else {
        executor_kill(r);
    }
}

void run_fail(struct run *r, const char *cause, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (r->state >= RUN_PUBLISHING) {
        return;
    }
    if (r->failure != NULL) {
        if (r->executor == NULL && run_child(r) != NULL) {
            executor_kill(r); /* a command gave its reason and does not end */
        }
        return;
    }
    r->failure = xstrdup(text);
    r->failure_cause = cause;
    if (run_child(r) != NULL) {
        executor_kill(r);
    } else {
        run_finish(r, -1);
    }
}

void run_obey(struct run *r, enum run_order order, bool late)
{
    r->late = r->late || late;
    if (r->state >= RUN_PUBLISHING || r->ordered >= order) {
        return;
    }
    r->ordered = order;
    log_info("worker", "trial-ordered", "experiment=%" PRId64 " trial=%" PRId64 " order=%s late=%d",
             r->grant.experiment, r->grant.trial, order == ORDER_PAUSE ? "pause" : "stop", late);
    end_program(r, order == ORDER_PAUSE ? "pause" : "stop");
}

void run_decline(struct run *r, int lanes)
{
    if (r->state >= RUN_PUBLISHING) {
        return;
    }
    room_note(r->app, r->grant.experiment, lanes);
    r->give_back = true;
    r->declined = true;
    run_finish(r, -1);
}

void run_give_back(struct run *r, bool now)
{
    if (r->state >= RUN_PUBLISHING) {
        return;
    }
    r->give_back = true;
    if (now && run_child(r) != NULL && r->state == RUN_RUNNING) {
        child_stop(run_child(r), 0);
        return;
    }
    end_program(r, "pause");
}
