/* SPDX-License-Identifier: Apache-2.0
 *
 * Starting a run's program: its arguments and environment, the executor of its slot or a process of
 * its own, and the `start` message.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/program.h"
#include "worker/argv.h"
#include "worker/said.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Which part of the data this trial is for. */
static void fold_variables(const struct wire_grant *g, char **v)
{
    size_t n = 0;
    const json_t *ratio = json_object_get(g->split, "train_ratio");
    const json_t *column = json_object_get(g->split, "fold_column");
    if (g->folds == 0) {
        return;
    }
    v[n++] = xasprintf("MAGPIE_FOLD=%" PRId64, g->fold);
    v[n++] = xasprintf("MAGPIE_FOLDS=%" PRId64, g->folds);
    v[n++] = xasprintf("MAGPIE_FOLD_SEED=%" JSON_INTEGER_FORMAT,
                       json_integer_value(json_object_get(g->split, "seed")));
    v[n++] = xasprintf("MAGPIE_FOLD_STRATIFIED=%d",
                       json_is_true(json_object_get(g->split, "stratified")));
    if (json_is_number(ratio)) {
        v[n++] = xasprintf("MAGPIE_TRAIN_RATIO=%.17g", json_number_value(ratio));
    }
    if (json_is_string(column)) {
        v[n] = xasprintf("MAGPIE_FOLD_COLUMN=%s", json_string_value(column));
    }
}

static int64_t limit_of(const struct run *r, const char *key)
{
    return json_integer_value(json_object_get(r->grant.limits, key));
}

/* What the program of `group` runs must know; an executor gets the trial's part in `start`. */
static char **variables(const struct run *r, bool command, int group)
{
    const struct wire_grant *g = &r->grant;
    char **v = xcalloc(24, sizeof(char *));
    size_t n = 0;
    v[n++] = xasprintf("MAGPIE_FD=%d", CHILD_FD);
    if (limit_of(r, "memory_mb") > 0) {
        v[n++] = xasprintf("MAGPIE_MEMORY_MB=%" PRId64, limit_of(r, "memory_mb") * group);
    }
    if (!command) {
        return v;
    }
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
    fold_variables(g, v + n);
    return v;
}

/* ---- a command's own process ---- */

static void on_child_output(void *arg, const char *bytes, size_t n)
{
    struct run *r = arg;
    run_output(r, bytes, n);
    if (r->lines != NULL) {
        lines_add(r->lines, bytes, n);
    }
}

static void on_lines_metrics(void *arg, int64_t step, const json_t *metrics)
{
    run_point(arg, step, metrics);
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

/* As an executor's `error`; the program still has to end. */
static void on_lines_failed(void *arg, const char *reason, const char *cause, bool retry)
{
    struct said s = {.kind = SAID_ERROR,
                     .cause = cause != NULL ? cause : "program",
                     .retry = retry,
                     .reason =
                         xstrdup(reason[0] != '\0' ? reason : "the program says that it failed")};
    run_said(arg, &s);
    free(s.reason);
}

static void on_lines_bad(void *arg, const char *why)
{
    run_unusable(arg, "a ::magpie line", why);
}

static void send_start(struct run *r, bool ask);

/* A command may speak the executor's language for its one trial. */
static void on_child_ready(struct run *r)
{
    static const char leave[] = "{\"type\":\"exit\"}\n";
    r->speaks = true;
    if (r->final_status == NULL) {
        send_start(r, false);
    } else {
        child_send(r->child, leave, sizeof(leave) - 1);
    }
}

static void on_child_line(void *arg, const char *text, size_t len)
{
    struct run *r = arg;
    struct said said;
    if (!run_hear(r, text, len, &said)) {
        return;
    }
    if (said.kind == SAID_READY) {
        on_child_ready(r);
    } else {
        run_said(r, &said);
    }
    said_fini(&said);
}

void run_over(struct run *r, enum child_limit limit, const char *why)
{
    run_fail(r, limit == CHILD_MEMORY ? "out-of-memory" : "program", "%s", why);
}

static void on_child_over(void *arg, enum child_limit limit, const char *why)
{
    run_over(arg, limit, why);
}

static void on_child_ended(void *arg, int status)
{
    struct run *r = arg;
    if (r->lines != NULL) {
        lines_end(r->lines);
    }
    run_note_child(r);
    child_destroy(r->child);
    r->child = NULL;
    run_program_ended(r, status);
}

static enum mag_status start_command(struct run *r, const struct spawn_program *p,
                                     struct mag_err *err)
{
    const struct lines_handler lh = {.arg = r,
                                     .metrics = on_lines_metrics,
                                     .checkpoint = on_lines_checkpoint,
                                     .result = on_lines_result,
                                     .failed = on_lines_failed,
                                     .bad = on_lines_bad};
    int64_t first = r->resume_path != NULL ? r->resume_step + 1 : 1;
    enum mag_status st =
        lines_create(&r->lines, r->grant.patterns, r->grant.metric, first, &lh, err);
    if (st != MAG_OK) {
        return st;
    }
    const struct child_handler handler = {.arg = r,
                                          .line = on_child_line,
                                          .output = on_child_output,
                                          .over = on_child_over,
                                          .ended = on_child_ended};
    return child_start(&r->child, r->app->children, p, &handler, err);
}

/* ---- start ---- */

/* The built-in trainer: beside this program, or where MAGPIE_TRAINER says. On a worker with GPUs every
 * slot has one, so that the one for GPUs is taken where it is there. */
static char **builtin_argv(const struct run *r, struct mag_err *err)
{
    const char *own = getenv("MAGPIE_TRAINER");
    char *path = own != NULL ? xstrdup(own) : NULL;
    if (path == NULL && r->app->machine.n_gpus > 0) {
        path = program_find("magpie-trainer-cuda");
    }
    if (path == NULL) {
        path = program_find("magpie-trainer");
    }
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

void run_limit_time(struct run *r)
{
    if (r->grant.trial_time_ms > 0) {
        const struct timeval tv = {.tv_sec = r->grant.trial_time_ms / 1000,
                                   .tv_usec = r->grant.trial_time_ms % 1000 * 1000};
        (void)event_add(r->time_limit, &tv);
    }
}

static void start_limits(struct run *r)
{
    r->state = RUN_RUNNING;
    board_begin(r);
    follow_begin(r);
    run_limit_time(r);
}

int64_t run_grace_ms(const struct run *r)
{
    int64_t own = limit_of(r, "grace_ms");
    return own > 0 ? own : r->app->cfg.grace_ms;
}

/* For n runs together. argv and env are the caller's to free. */
static enum mag_status make_program(const struct run *r, int n, char ***ret_argv, char ***ret_env,
                                    struct spawn_program *ret, struct mag_err *err)
{
    const json_t *program = r->grant.program;
    const json_t *command = json_object_get(program, "command");
    const json_t *list = command != NULL ? command : json_object_get(program, "executor");
    char **own = NULL;
    enum mag_status st = MAG_OK;
    if (list != NULL) {
        st = argv_build(list, r->grant.params, ret_argv, err);
    } else {
        *ret_argv = builtin_argv(r, err);
        st = *ret_argv != NULL ? MAG_OK : MAG_INVALID;
    }
    if (st == MAG_OK) {
        st = argv_env(json_object_get(program, "env"), r->grant.params, &own, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    char **more = variables(r, command != NULL, n);
    *ret_env = slots_env(r, own, more);
    argv_free(own);
    argv_free(more);
    *ret = (struct spawn_program){.argv = *ret_argv,
                                  .env = *ret_env,
                                  .cwd = json_string_value(json_object_get(program, "cwd")),
                                  .limits = {.memory_mb = limit_of(r, "memory_mb") * n,
                                             .files = limit_of(r, "files"),
                                             .processes = limit_of(r, "processes")}};
    return MAG_OK;
}

static void say_started(struct run *r)
{
    r->state = RUN_STARTING;
    r->started_ns = clock_mono_ns();
    r->started_ms = clock_wall_ms();
    if (r->reserved) {
        r->reserved = false;
        r->started_untold = true;
        session_wake(r->app->session, true);
    }
}

void run_start(struct run *r)
{
    struct mag_err err = {0};
    struct spawn_program p = {0};
    char **argv = NULL;
    char **env = NULL;
    struct run *all[WIRE_LANES_MAX];
    int n = group_members(r, all);
    group_begin(r);
    for (int i = 0; i < n; i++) {
        say_started(all[i]);
    }
    enum mag_status st = make_program(r, n, &argv, &env, &p, &err);
    bool command = json_object_get(r->grant.program, "command") != NULL;
    if (st == MAG_OK && command) {
        st = start_command(r, &p, &err);
    }
    if (st != MAG_OK) {
        for (int i = 0; i < n; i++) {
            run_fail(all[i], st == MAG_INVALID ? "configuration" : "program", "%s", err.text);
        }
    } else if (command) {
        start_limits(r);
    } else {
        executor_run(r, &p);
    }
    argv_free(env);
    argv_free(argv);
}

static void add_start_fields(const struct run *r, struct buf *b)
{
    const struct wire_grant *g = &r->grant;
    char *params = mjson_dump(g->params);
    char *spec = mjson_dump(g->program);
    buf_addf(b,
             "\"experiment\":%" PRId64 ",\"trial\":%" PRId64
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
             "},\"spec\":%s",
             g->direction, g->checkpoint_every, g->checkpoint_keep, spec);
    if (g->folds > 0) {
        char *split = mjson_dump(g->split);
        buf_addf(b, ",\"fold\":%" PRId64 ",\"folds\":%" PRId64 ",\"split\":%s", g->fold, g->folds,
                 split);
        free(split);
    }
    if (g->distribution != NULL) {
        char *distribution = mjson_dump(g->distribution);
        buf_addf(b, ",\"distribution\":%s", distribution);
        free(distribution);
    }
    free(spec);
    free(params);
}

static void send_start(struct run *r, bool ask)
{
    struct buf b = {0};
    buf_adds(&b, ask ? "{\"type\":\"start\",\"admit\":true," : "{\"type\":\"start\",");
    add_start_fields(r, &b);
    buf_adds(&b, "}\n");
    child_send(run_child(r), b.data, b.len);
    buf_fini(&b);
}

static void send_start_all(struct run *const *runs, int n, bool ask)
{
    struct buf b = {0};
    buf_addf(&b, "{\"type\":\"start\",%s\"trials\":[", ask ? "\"admit\":true," : "");
    for (int i = 0; i < n; i++) {
        buf_adds(&b, i > 0 ? ",{" : "{");
        add_start_fields(runs[i], &b);
        buf_addc(&b, '}');
    }
    buf_adds(&b, "]}\n");
    child_send(run_child(runs[0]), b.data, b.len);
    buf_fini(&b);
}

/* Whoever reads its log finds what the whole group wrote. */
static void note_group(struct run *const *runs, int n, int at)
{
    struct buf b = {0};
    for (int i = 0; i < n; i++) {
        if (i != at) {
            buf_addf(&b, "%s%" PRId64, b.len > 0 ? ", " : "", runs[i]->grant.trial);
        }
    }
    outlog_note(&runs[at]->log, "trained in one program with %s %s, whose output is this log, too",
                n > 2 ? "trials" : "trial", b.data);
    buf_fini(&b);
}

void runs_begin(struct run *const *runs, int n, bool ask)
{
    if (n == 1) {
        send_start(runs[0], ask);
    } else {
        send_start_all(runs, n, ask);
    }
    for (int i = 0; i < n; i++) {
        runs[i]->lanes = n;
        if (n > 1) {
            note_group(runs, n, i);
        }
        start_limits(runs[i]);
    }
}
