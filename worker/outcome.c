/* SPDX-License-Identifier: Apache-2.0
 *
 * How a run ended: from what was ordered, what the program said and how its process ended to one
 * result. The end of the process is authoritative; a missing objective is a failure with a reason.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static void set(struct run *r, const char *status, const char *cause, char *reason_take)
{
    struct wire_result *res = &r->result;
    res->status = xstrdup(status);
    res->cause = cause != NULL ? xstrdup(cause) : NULL;
    res->reason = reason_take;
}

/* "exit status 3; last line: …" */
static char *end_text(const struct run *r, int status)
{
    char *last = outlog_last_line(&r->log);
    const char *sep = last != NULL ? "; last line: " : "";
    const char *line = last != NULL ? last : "";
    char *text = NULL;
    if (WIFSIGNALED(status)) {
        int sig = WTERMSIG(status);
        const char *hint = sig == 9 ? ", perhaps for lack of memory" : "";
        text = xasprintf("killed by signal %d (%s%s)%s%s", sig, strsignal(sig), hint, sep, line);
    } else {
        text = xasprintf("exit status %d%s%s", WEXITSTATUS(status), sep, line);
    }
    free(last);
    return text;
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
    if (!r->objective_seen && !final) {
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
        set(r, "lost", NULL, xstrdup("its worker was drained"));
        r->result.uncounted = true;
    } else {
        return false;
    }
    return true;
}

static void decide(struct run *r, int status)
{
    if (r->failure != NULL && r->ordered == ORDER_NONE && !r->give_back) {
        set(r, "failed", r->failure_cause, xstrdup(r->failure));
    } else if (decide_ordered(r)) {
        return;
    } else if (r->final_status != NULL && strcmp(r->final_status, "completed") != 0) {
        /* It stopped by itself: the trial goes back and may go on elsewhere. */
        set(r, "lost", NULL,
            xasprintf("the program ended its trial as %s without being asked", r->final_status));
    } else if (r->final_status != NULL || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        decide_completed(r);
    } else {
        set(r, "failed", WIFSIGNALED(status) ? "signal" : "program", end_text(r, status));
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
    char *last = outlog_last_line(&r->log);
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
    bool began = r->state != RUN_FETCHING && r->state != RUN_WAITING;
    r->state = RUN_PUBLISHING;
    (void)event_del(r->time_limit);
    r->ended_ms = clock_wall_ms();
    executor_leave(r);
    slots_release(r);
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
