/* SPDX-License-Identifier: Apache-2.0
 *
 * One attempt: its folder, its program, what the program says. States only move forward (app.h);
 * the end is decided in outcome.c, storage is publish.c's.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/program.h"
#include "worker/argv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define METRICS_MAX 64       /* named values of one step */
#define METRIC_NAME_MAX 128  /* bytes of a metric's name */
#define METRICS_BUFFER 65536 /* bytes of metrics.jsonl kept in memory */

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

static enum mag_status prepare(struct run *r, struct mag_err *err)
{
    const struct wire_grant *g = &r->grant;
    r->dir = xasprintf("%s/%" PRId64 "-%" PRId64 "-%" PRId64, r->app->scratch, g->experiment,
                       g->trial, g->attempt);
    r->trial_dir = xasprintf("%s/trial", r->dir);
    r->checkpoint_dir = xasprintf("%s/checkpoints", r->dir);
    r->log_path = xasprintf("%s/output.log", r->dir);
    r->metrics_path = xasprintf("%s/metrics.jsonl", r->dir);
    r->params_path = xasprintf("%s/params.json", r->dir);
    enum mag_status st = folder_take(&r->app->folders, r->dir, err);
    if (st == MAG_OK && json_object_get(g->program, "command") != NULL) {
        st = write_params(r, err);
    }
    outlog_open(&r->log, r->log_path);
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

static void hold_again(struct run *r)
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
        hold_again(r);
        return;
    }
    run_release_held(r);
    session_wake(r->app->session, true);
}

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
    MAG_ASSERT(r->time_limit != NULL && r->budget_hold != NULL, "evtimer_new");
    list_append(&a->runs, &r->node);
    r->state = RUN_WAITING;
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
    child_destroy(r->child);
    lines_destroy(r->lines);
    outlog_close(&r->log);
    buf_fini(&r->metrics);
    event_free(r->time_limit);
    event_free(r->budget_hold);
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
    free(r->log_path);
    free(r->metrics_path);
    free(r->params_path);
    free(r->resume_path);
    free(r->checkpoint_uri);
    free(r->failure);
    free(r->bad_line);
    list_remove(&r->node);
    free(r);
}

/* ---- starting ---- */

static char **variables(const struct run *r)
{
    const struct wire_grant *g = &r->grant;
    char **v = xcalloc(16, sizeof(char *));
    size_t n = 0;
    v[n++] = xasprintf("MAGPIE_FD=%d", CHILD_FD);
    v[n++] = xasprintf("MAGPIE_EXPERIMENT=%" PRId64, g->experiment);
    v[n++] = xasprintf("MAGPIE_TRIAL=%" PRId64, g->trial);
    v[n++] = xasprintf("MAGPIE_ATTEMPT=%" PRId64, g->attempt);
    v[n++] = xasprintf("MAGPIE_SEED=%" PRId64, g->seed);
    v[n++] = xasprintf("MAGPIE_PARAMS=%s", r->params_path);
    v[n++] = xasprintf("MAGPIE_TRIAL_DIR=%s", r->trial_dir);
    v[n++] = xasprintf("MAGPIE_CHECKPOINT_DIR=%s", r->checkpoint_dir);
    if (r->resume_path != NULL) {
        v[n++] = xasprintf("MAGPIE_RESUME_FROM=%s", r->resume_path);
        v[n++] = xasprintf("MAGPIE_RESUME_STEP=%" PRId64, r->resume_step);
    }
    if (g->budget > 0) {
        v[n++] = xasprintf("MAGPIE_BUDGET=%" PRId64, g->budget);
    }
    return v;
}

static void on_child_line(void *arg, const char *text, size_t len);
static void on_child_ended(void *arg, int status);

static void on_child_output(void *arg, const char *bytes, size_t n)
{
    struct run *r = arg;
    run_output(r, bytes, n);
    if (r->lines != NULL) {
        lines_add(r->lines, bytes, n);
    }
}

static void add_report(struct run *r, int64_t step, const json_t *metrics);

static void on_lines_metrics(void *arg, int64_t step, const json_t *metrics)
{
    add_report(arg, step, metrics);
}

static void on_lines_checkpoint(void *arg, int64_t step)
{
    struct run *r = arg;
    char *path = xasprintf("%s/%" PRId64, r->checkpoint_dir, step);
    publish_checkpoint(r, step, path);
    free(path);
}

static void on_lines_result(void *arg, const json_t *metrics)
{
    struct run *r = arg;
    json_decref(r->final_metrics);
    r->final_metrics = json_deep_copy(metrics);
}

static void on_lines_bad(void *arg, const char *why)
{
    struct run *r = arg;
    if (r->bad_line == NULL) {
        r->bad_line = xstrdup(why);
        outlog_note(&r->log, "a ::magpie line cannot be used: %s", why);
    }
}

static enum mag_status start_command(struct run *r, char *const *argv, struct mag_err *err)
{
    const struct lines_handler lh = {.arg = r,
                                     .metrics = on_lines_metrics,
                                     .checkpoint = on_lines_checkpoint,
                                     .result = on_lines_result,
                                     .bad = on_lines_bad};
    int64_t first = r->resume_path != NULL ? r->resume_step + 1 : 1;
    enum mag_status st =
        lines_create(&r->lines, r->grant.patterns, r->grant.metric, first, &lh, err);
    if (st != MAG_OK) {
        return st;
    }
    const struct child_handler handler = {
        .arg = r, .line = on_child_line, .output = on_child_output, .ended = on_child_ended};
    char **own = variables(r);
    char **env = slots_env(r, own);
    st = child_start(&r->child, r->app->children, argv, env, &handler, err);
    argv_free(env);
    argv_free(own);
    return st;
}

/* The built-in trainer: beside this program, or where MAGPIE_TRAINER says. */
static char **builtin_argv(struct mag_err *err)
{
    const char *own = getenv("MAGPIE_TRAINER");
    char *path = own != NULL ? xstrdup(own) : program_find("magpie-trainer");
    if (path == NULL) {
        (void)mag_fail(err, MAG_INVALID,
                       "the built-in trainer (magpie-trainer) is not installed beside this "
                       "worker's magpie; install "
                       "it, or set MAGPIE_TRAINER to its path");
        return NULL;
    }
    char **argv = xcalloc(2, sizeof(char *));
    argv[0] = path;
    return argv;
}

static void start_limits(struct run *r)
{
    r->state = RUN_RUNNING;
    if (r->grant.trial_time_ms > 0) {
        const struct timeval tv = {.tv_sec = r->grant.trial_time_ms / 1000,
                                   .tv_usec = r->grant.trial_time_ms % 1000 * 1000};
        (void)event_add(r->time_limit, &tv);
    }
}

void run_start(struct run *r)
{
    struct mag_err err = {0};
    const json_t *program = r->grant.program;
    const json_t *command = json_object_get(program, "command");
    const json_t *executor = json_object_get(program, "executor");
    char **argv = NULL;
    enum mag_status st = MAG_OK;
    r->state = RUN_STARTING;
    r->started_ns = clock_mono_ns();
    r->started_ms = clock_wall_ms();
    if (r->reserved) {
        r->reserved = false;
        r->started_untold = true;
        session_wake(r->app->session, true);
    }
    if (command != NULL || executor != NULL) {
        st = argv_build(command != NULL ? command : executor, r->grant.params, &argv, &err);
    } else {
        argv = builtin_argv(&err);
        st = argv != NULL ? MAG_OK : MAG_INVALID;
    }
    if (st == MAG_OK && command == NULL) {
        executor_run(r, argv);
        return;
    }
    if (st == MAG_OK) {
        st = start_command(r, argv, &err);
    }
    argv_free(argv);
    if (st != MAG_OK) {
        run_fail(r, st == MAG_INVALID ? "configuration" : "program", "%s", err.text);
        return;
    }
    start_limits(r);
}

static void add_start_fields(const struct run *r, struct buf *b)
{
    const struct wire_grant *g = &r->grant;
    char *params = mjson_dump(g->params);
    char *spec = mjson_dump(g->program);
    buf_addf(b,
             "{\"type\":\"start\",\"experiment\":%" PRId64 ",\"trial\":%" PRId64
             ",\"attempt\":%" PRId64 ",\"params\":%s,\"budget\":",
             g->experiment, g->trial, g->attempt, params);
    if (g->budget > 0) {
        buf_add_int(b, g->budget);
    } else {
        buf_adds(b, "null");
    }
    buf_adds(b, ",\"resume_from\":");
    if (r->resume_path != NULL) {
        buf_addf(b, "{\"step\":%" PRId64 ",\"path\":", r->resume_step);
        buf_add_json_string(b, r->resume_path);
        buf_addc(b, '}');
    } else {
        buf_adds(b, "null");
    }
    buf_adds(b, ",\"trial_dir\":");
    buf_add_json_string(b, r->trial_dir);
    buf_adds(b, ",\"checkpoint_dir\":");
    buf_add_json_string(b, r->checkpoint_dir);
    buf_addf(b, ",\"seed\":%" PRId64 ",\"metric\":", g->seed);
    buf_add_json_string(b, g->metric);
    buf_addf(b,
             ",\"direction\":\"%s\",\"checkpoint\":{\"every\":%" PRId64 ",\"keep\":%" PRId64
             "},\"spec\":%s}\n",
             g->direction, g->checkpoint_every, g->checkpoint_keep, spec);
    free(spec);
    free(params);
}

static struct child *child_of(const struct run *r);

void run_begin(struct run *r)
{
    struct buf b = {0};
    add_start_fields(r, &b);
    child_send(child_of(r), b.data, b.len);
    buf_fini(&b);
    start_limits(r);
}

/* ---- what the program says ---- */

/* At most METRICS_MAX values with names of sound length; the objective is never left out. */
static json_t *sound_metrics(const struct run *r, const json_t *given)
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

static void add_report(struct run *r, int64_t step, const json_t *given)
{
    if (r->ordered != ORDER_NONE || r->late || step < 0 || step > WIRE_STEP_MAX) {
        return;
    }
    json_t *metrics = sound_metrics(r, given);
    r->objective_seen = r->objective_seen || json_object_get(metrics, r->grant.metric) != NULL;
    r->last_step = step > r->last_step ? step : r->last_step;
    note_metrics(r, step, metrics);
    bool at_budget = r->grant.budget > 0 && step >= r->grant.budget;
    struct wire_point *p =
        at_budget ? wire_point_add(&r->held, &r->n_held) : wire_point_add(&r->points, &r->n_points);
    *p = (struct wire_point){.step = step, .metrics = metrics};
    if (at_budget && r->n_held == 1) {
        hold_again(r);
    } else if (!at_budget) {
        session_wake(r->app->session, false);
    }
    if (r->n_held > WIRE_POINTS_MAX) {
        run_release_held(r);
    }
    if (r->n_points > RUN_POINTS_HOLD && child_of(r) != NULL) {
        child_hold(child_of(r), true);
    }
}

void run_points_sent(struct run *r)
{
    if (r->n_points < RUN_POINTS_HOLD / 2 && child_of(r) != NULL) {
        child_hold(child_of(r), false);
    }
}

static void use_report(struct run *r, const json_t *doc)
{
    const json_t *step = json_object_get(doc, "step");
    const json_t *metrics = json_object_get(doc, "metrics");
    if (!json_is_integer(step) || json_integer_value(step) < 0 || !json_is_object(metrics)) {
        on_lines_bad(r, "a report needs \"step\" (a whole number) and \"metrics\" (an object)");
        return;
    }
    add_report(r, json_integer_value(step), metrics);
}

static void use_checkpoint(struct run *r, const json_t *doc)
{
    const json_t *step = json_object_get(doc, "step");
    const char *path = json_string_value(json_object_get(doc, "path"));
    if (!json_is_integer(step) || json_integer_value(step) < 0 || path == NULL) {
        on_lines_bad(r, "a checkpoint needs \"step\" and \"path\"");
        return;
    }
    char *full = path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", r->checkpoint_dir, path);
    publish_checkpoint(r, json_integer_value(step), full);
    free(full);
}

static void use_result(struct run *r, const json_t *doc)
{
    static const char *const known[] = {"completed", "stopped", "paused"};
    const char *status = json_string_value(json_object_get(doc, "status"));
    const json_t *metrics = json_object_get(doc, "metrics");
    for (size_t i = 0; i < 3; i++) {
        if (status != NULL && strcmp(status, known[i]) == 0) {
            r->final_status = known[i];
        }
    }
    if (r->final_status == NULL) {
        run_fail(r, "program",
                 "it broke the protocol: a result needs \"status\" completed, stopped or paused");
        return;
    }
    if (json_is_object(metrics)) {
        json_decref(r->final_metrics);
        r->final_metrics = sound_metrics(r, metrics);
    }
    if (r->executor != NULL) {
        run_finish(r, -1);
    }
}

static void use_error(struct run *r, const json_t *doc)
{
    static const char *const causes[] = {"configuration", "out-of-memory", "program"};
    const char *reason = json_string_value(json_object_get(doc, "reason"));
    const char *cause = json_string_value(json_object_get(doc, "cause"));
    r->failure_cause = "program";
    for (size_t i = 0; i < 3; i++) {
        if (cause != NULL && strcmp(cause, causes[i]) == 0) {
            r->failure_cause = causes[i];
        }
    }
    free(r->failure);
    r->failure =
        xstrdup(reason != NULL ? reason : "the program reported an error without a reason");
    if (r->executor != NULL) {
        run_finish(r, -1); /* the executor goes on with `ready` */
    }
}

void run_message(struct run *r, const json_t *doc)
{
    const char *type = json_string_value(json_object_get(doc, "type"));
    const json_t *trial = json_object_get(doc, "trial");
    bool other = json_is_integer(trial) && json_integer_value(trial) != r->grant.trial;
    if (type == NULL || other || r->state != RUN_RUNNING) {
        return; /* of a trial that was before this one */
    }
    if (strcmp(type, "report") == 0) {
        use_report(r, doc);
    } else if (strcmp(type, "checkpoint") == 0) {
        use_checkpoint(r, doc);
    } else if (strcmp(type, "result") == 0) {
        use_result(r, doc);
    } else if (strcmp(type, "error") == 0) {
        use_error(r, doc);
    } else {
        on_lines_bad(r, "a message of an unknown type");
    }
}

void run_output(struct run *r, const char *bytes, size_t n)
{
    outlog_add(&r->log, bytes, n);
    r->tail_untold = true;
    if (r->log.total > OUTLOG_FLOOD_MAX && r->failure == NULL) {
        run_fail(r, "program", "it wrote more than %d MiB of output", OUTLOG_FLOOD_MAX >> 20);
    }
}

/* ---- a command's own process ---- */

static struct child *child_of(const struct run *r)
{
    return r->executor != NULL ? executor_child(r->executor) : r->child;
}

static void on_child_line(void *arg, const char *text, size_t len)
{
    struct run *r = arg;
    json_t *doc = NULL;
    if (text == NULL || mjson_parse_nan(text, len, &doc, NULL) != MAG_OK || !json_is_object(doc)) {
        run_fail(r, "program", "it broke the protocol on MAGPIE_FD: %s",
                 text == NULL ? "a line of more than 1 MiB" : "no JSON object");
        json_decref(doc);
        return;
    }
    const char *type = json_string_value(json_object_get(doc, "type"));
    if (type != NULL && strcmp(type, "ready") == 0) {
        /* A command may speak the executor's language for its one trial. */
        struct buf b = {0};
        if (r->final_status == NULL) {
            add_start_fields(r, &b);
        } else {
            buf_adds(&b, "{\"type\":\"exit\"}\n");
        }
        child_send(r->child, b.data, b.len);
        buf_fini(&b);
    } else {
        run_message(r, doc);
    }
    json_decref(doc);
}

static void on_child_ended(void *arg, int status)
{
    struct run *r = arg;
    if (r->lines != NULL) {
        lines_end(r->lines);
    }
    child_destroy(r->child);
    r->child = NULL;
    run_program_ended(r, status);
}

void run_program_ended(struct run *r, int status)
{
    if (r->state < RUN_PUBLISHING) {
        run_finish(r, status);
    }
}

/* ---- being ended ---- */

static void end_program(struct run *r, const char *ask)
{
    if (r->state == RUN_STARTING && r->executor != NULL) {
        executor_leave(r); /* it has not heard of this trial */
        run_finish(r, -1);
    } else if (child_of(r) == NULL) {
        run_finish(r, -1);
    } else if (r->executor != NULL && ask != NULL) {
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
    if (r->failure != NULL || r->state >= RUN_PUBLISHING) {
        return;
    }
    r->failure = xstrdup(text);
    r->failure_cause = cause;
    if (child_of(r) != NULL) {
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

void run_give_back(struct run *r, bool now)
{
    if (r->state >= RUN_PUBLISHING) {
        return;
    }
    r->give_back = true;
    if (now && child_of(r) != NULL && r->state == RUN_RUNNING) {
        child_stop(child_of(r), 0);
        return;
    }
    end_program(r, "pause");
}
