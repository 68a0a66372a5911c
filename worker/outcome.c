/* SPDX-License-Identifier: Apache-2.0
 *
 * How a run ended: from what was ordered, what the program said and how its process ended to one
 * result. The end of the process is authoritative; a missing objective is a failure with a reason.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

static void set(struct run *r, const char *status, const char *cause, char *reason_take)
{
    struct wire_result *res = &r->result;
    res->status = xstrdup(status);
    res->cause = cause != NULL ? xstrdup(cause) : NULL;
    res->reason = masks_text(run_masks(r), reason_take);
    free(reason_take);
}

void run_note_child(struct run *r)
{
    const struct child *c = run_child(r);
    if (c != NULL) {
        r->peak_mb = child_peak_mb(c) / (r->lanes > 1 ? r->lanes : 1);
        r->was_killed = child_was_killed(c);
        r->left_nothing = child_left_nothing(c);
        r->saw_oom = child_saw_oom(c);
    }
}

/* ---- for lack of memory? ---- */

/* How programs of many languages say so, in lower case. */
static bool names_memory(const char *line)
{
    static const char *const words[] = {
        "memoryerror",           /* Python, NumPy */
        "out of memory",         /* CUDA, Go, Rust, V8, PostgreSQL, … */
        "outofmemory",           /* Java, .NET, PyTorch */
        "std::bad_alloc",        /* C++ */
        "cannot allocate",       /* errno, R ("cannot allocate vector"), perl */
        "memory allocation of",  /* Rust */
        "memory exhausted",      /* awk, GNU programs */
        "not enough memory",     /* PyTorch on the CPU, Lua */
        "resource_exhausted",    /* TensorFlow, JAX */
        "unable to allocate",    /* NumPy, Java */
    };
    char low[512];
    size_t n = 0;
    for (; line[n] != '\0' && n + 1 < sizeof(low); n++) {
        low[n] = (char)tolower((unsigned char)line[n]);
    }
    low[n] = '\0';
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strstr(low, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static bool lacked_memory(const struct run *r, int status, const char *line)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !r->was_killed) {
        return r->saw_oom;
    }
    return line != NULL && names_memory(line);
}

/* ---- in words ---- */

/* The last line, as a terminal would show it. */
static char *last_line(const struct run *r)
{
    char *line = outlog_last_line(&r->log);
    if (line == NULL) {
        return NULL;
    }
    lines_clean(line);
    if (line[0] == '\0') {
        free(line);
        return NULL;
    }
    return line;
}

static void add_sizes(const struct run *r, struct buf *b)
{
    int64_t limit = json_integer_value(json_object_get(r->grant.limits, "memory_mb"));
    if (r->peak_mb > 0) {
        buf_addf(b, "; it used up to %" PRId64 " MB", r->peak_mb);
    }
    if (limit > 0) {
        buf_addf(b, "; limits.memory allows %" PRId64 " MB", limit);
    } else {
        buf_addf(b, "; this worker's machine has %" PRId64 " MB", r->app->machine.memory_mb);
    }
}

/* "exit status 3; last line: …" */
static char *end_text(const struct run *r, int status, const char *line, bool memory)
{
    struct buf b = {0};
    if (WIFSIGNALED(status)) {
        int sig = WTERMSIG(status);
        bool kernel = sig == SIGKILL && memory;
        bool somebody = sig == SIGKILL && !r->was_killed && !memory;
        buf_addf(&b, "killed by signal %d (%s%s)", sig, strsignal(sig),
                 kernel     ? ", by the kernel for lack of memory"
                 : somebody ? ", not by magpie"
                            : "");
    } else {
        buf_addf(&b, "exit status %d", WEXITSTATUS(status));
    }
    if (memory) {
        add_sizes(r, &b);
    }
    if (line != NULL) {
        buf_addf(&b, "; last line: %s", line);
    }
    return buf_take(&b);
}

/* A program that died by itself. Two exit statuses of sysexits.h say more than "no". */
static void decide_died(struct run *r, int status)
{
    char *line = last_line(r);
    bool memory = lacked_memory(r, status, line);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    /* The guard's words: the program's interpreter is not there, say. */
    bool unstarted = code == 127 && line != NULL && strncmp(line, "magpie: cannot ", 15) == 0;
    const char *cause = memory                ? "out-of-memory"
                        : code == EX_CONFIG || unstarted ? "configuration"
                        : WIFSIGNALED(status) ? "signal"
                                              : "program";
    set(r, "failed", cause, end_text(r, status, line, memory));
    r->result.retry = code == EX_TEMPFAIL;
    free(line);
}

static char *no_metric_text(const struct run *r)
{
    return xasprintf("it ended well, but never reported \"%s\"%s%s", r->grant.metric,
                     r->bad_line != NULL ? "; a line of it could not be used: " : "",
                     r->bad_line != NULL ? r->bad_line : "");
}

static void decide_completed(struct run *r)
{
    bool final = json_object_get(r->final_metrics, r->grant.metric) != NULL;
    bool refit = r->grant.folds > 0 && r->grant.fold == 0; /* on all data: nothing to measure by */
    if (!r->objective_seen && !final && !refit) {
        set(r, "failed", "no-metric", no_metric_text(r));
        return;
    }
    set(r, "completed", NULL, NULL);
    if (r->final_metrics != NULL) {
        r->result.metrics = json_incref(r->final_metrics);
    }
}

/* An attempt that was told to end ends as told, however its program took it. */
static bool decide_ordered(struct run *r)
{
    bool completed = r->final_status != NULL && strcmp(r->final_status, "completed") == 0;
    if (r->ordered == ORDER_STOP || (r->ordered == ORDER_PAUSE && !completed)) {
        set(r, r->ordered == ORDER_PAUSE ? "paused" : "stopped", NULL, NULL);
    } else if (r->give_back && !completed) {
        set(r, "lost", NULL,
            xstrdup(r->crowded    ? "the memory of its GPU was taken by others"
                    : r->declined ? "its program had no room for it beside the others of its group"
                                  : "its worker was drained"));
        r->result.uncounted = true;
    } else {
        return false;
    }
    return true;
}

static void decide(struct run *r, int status)
{
    if (r->cut_off && r->ordered == ORDER_NONE && !r->give_back) {
        set(r, "lost", NULL, xstrdup(r->failure));
    } else if (r->failure != NULL && r->ordered == ORDER_NONE && !r->give_back) {
        set(r, "failed", r->failure_cause, xstrdup(r->failure));
        r->result.retry = r->failure_retry;
        r->result.final = r->failure_final;
    } else if (decide_ordered(r)) {
        return;
    } else if (r->bystander) {
        set(r, "lost", NULL, xstrdup("its program was killed because of another trial in it"));
        r->result.uncounted = true;
    } else if (r->final_status != NULL && strcmp(r->final_status, "completed") != 0) {
        /* It stopped by itself: the trial goes back and may go on elsewhere. */
        set(r, "lost", NULL,
            xasprintf("the program ended its trial as %s without being asked", r->final_status));
    } else if (r->final_status != NULL || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        decide_completed(r);
    } else {
        decide_died(r, status);
    }
}

static void fill_detail(struct run *r, int status)
{
    json_t *d = json_object();
    if (status >= 0 && WIFEXITED(status)) {
        (void)json_object_set_new(d, "exit", json_integer(WEXITSTATUS(status)));
    } else if (status >= 0 && WIFSIGNALED(status)) {
        (void)json_object_set_new(d, "signal", json_integer(WTERMSIG(status)));
    }
    if (r->peak_mb > 0) {
        (void)json_object_set_new(d, "peak_mb", json_integer(r->peak_mb));
    }
    if (r->need_mb > 0) {
        (void)json_object_set_new(d, "need_mb", json_integer(r->need_mb));
    }
    int64_t stored = r->log.total - r->log.lost + r->metrics_bytes + (int64_t)r->metrics.len;
    if (stored > 0) {
        (void)json_object_set_new(d, "stored", json_integer(stored)); /* before compression */
    }
    char *last = last_line(r);
    if (last != NULL) {
        json_t *text = json_string(last);
        if (text != NULL) {
            (void)json_object_set_new(d, "last_line", text);
        }
    }
    free(last);
    if (r->log.total > 0) {
        char *uri = publish_log_uri(r);
        (void)json_object_set_new(d, "log", json_string(uri));
        free(uri);
    }
    if (json_object_size(d) > 0) {
        r->result.detail = d;
    } else {
        json_decref(d);
    }
}

static void say(const struct run *r)
{
    double s =
        r->started_ns > 0 ? (double)(clock_mono_ns() - r->started_ns) / (double)MAG_NS_PER_S : 0;
    bool failed = strcmp(r->result.status, "failed") == 0;
    log_write(failed ? LOG_WARN : LOG_DEBUG, "worker", "trial-ended",
              "experiment=%" PRId64 " trial=%" PRId64 " attempt=%" PRId64
              " status=%s seconds=%.3f reason=%s",
              r->grant.experiment, r->grant.trial, r->grant.attempt, r->result.status, s,
              log_quote(r->result.reason != NULL ? r->result.reason : ""));
}

void run_finish(struct run *r, int status)
{
    if (r->state >= RUN_PUBLISHING) {
        return;
    }
    struct app *a = r->app;
    follow_end(r);
    bool began = r->state != RUN_FETCHING && r->state != RUN_WAITING;
    r->state = RUN_PUBLISHING;
    (void)event_del(r->time_limit);
    (void)event_del(r->verdict);
    outlog_flush(&r->log);
    r->ended_ms = clock_wall_ms();
    run_note_child(r);
    executor_leave(r);
    slots_release(r);
    group_leave(r);
    slots_fill(a); /* the next one starts before this one is written down */
    r->result = (struct wire_result){
        .experiment = r->grant.experiment, .trial = r->grant.trial, .attempt = r->grant.attempt};
    decide(r, status);
    fill_detail(r, status);
    say(r);
    if (began) {
        publish_record(r);
    }
    publish_settle(r);
}
