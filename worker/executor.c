/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/executor.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "worker/argv.h"
#include "worker/said.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define LAST_GRACE_MS 2000   /* for idle executors when the worker leaves */
#define CLOSED_GRACE_MS 5000 /* between the end of its channel and its own */
#define EXIT_LINE "{\"type\":\"exit\"}\n"

static void attach(struct executor *x);

char *executor_key(const struct run *r, const struct spawn_program *p)
{
    struct buf b = {0};
    for (size_t i = 0; p->argv[i] != NULL; i++) {
        buf_addf(&b, "%s\n", p->argv[i]);
    }
    buf_addf(&b, "slots=%" PRId64 " cwd=%s memory=%" PRId64 " files=%" PRId64 " processes=%" PRId64,
             r->grant.slots, p->cwd != NULL ? p->cwd : "", p->limits.memory_mb, p->limits.files,
             p->limits.processes);
    for (size_t i = 0; p->env[i] != NULL; i++) {
        buf_addf(&b, "\n%s", p->env[i]);
    }
    return buf_take(&b);
}

bool executor_suits(const struct executor *x, const struct run *r)
{
    if (x->n_runs > 0) {
        return false;
    }
    const json_t *list = json_object_get(r->grant.program, "executor");
    const char *first = json_string_value(json_array_get(list, 0));
    size_t n = first != NULL ? strlen(first) : 0;
    bool builtin = json_object_get(r->grant.program, "program") != NULL;
    /* A hint for the choice of a slot; executor_run compares the whole key. */
    return builtin ? strstr(x->key, "magpie-trainer") != NULL
                   : n > 0 && strncmp(x->key, first, n) == 0;
}

/* ---- what it says ---- */

static void on_ready(struct executor *x, const struct said *said)
{
    x->ready = true;
    x->lanes = said->lanes;
    x->admits = said->admits;
    (void)event_del(x->start_limit);
    if (json_is_object(said->versions)) {
        json_decref(x->versions);
        x->versions = json_incref(said->versions);
    }
    if (x->n_runs > 0 && !x->begun) {
        attach(x);
    }
}

/* What it runs, however the handlers of these change it. */
static int copy_runs(const struct executor *x, struct run *out[WIRE_LANES_MAX])
{
    memcpy(out, x->runs, (size_t)x->n_runs * sizeof(struct run *));
    return x->n_runs;
}

/* A line that breaks the protocol is the end of every trial in it. Between trials it is nobody's. */
static bool hear(struct executor *x, const char *text, size_t len, struct said *ret)
{
    struct run *all[WIRE_LANES_MAX];
    int n = copy_runs(x, all);
    if (n == 0) {
        return text != NULL && said_parse(text, len, ret, NULL) == MAG_OK;
    }
    for (int i = 0; i < n; i++) {
        if (run_hear(all[i], text, len, ret)) {
            return true;
        }
    }
    return false;
}

static struct run *find_trial(const struct executor *x, int64_t trial)
{
    for (int i = 0; i < x->n_runs; i++) {
        if (x->runs[i]->grant.trial == trial || (trial == 0 && x->n_runs == 1)) {
            return x->runs[i];
        }
    }
    return NULL;
}

/* What it says between trials is nobody's, unless it is ready. */
static void on_line(void *arg, const char *text, size_t len)
{
    struct executor *x = arg;
    struct said said;
    if (!hear(x, text, len, &said)) {
        return;
    }
    struct run *r = x->begun ? find_trial(x, said.trial) : NULL;
    if (said.kind == SAID_READY) {
        on_ready(x, &said);
    } else if (r != NULL) {
        if (said.kind == SAID_RESULT || said.kind == SAID_ERROR) {
            child_read_output(x->child); /* what it printed before is of this trial */
        }
        run_said(r, &said);
    }
    said_fini(&said);
}

static void on_output(void *arg, const char *bytes, size_t n)
{
    struct executor *x = arg;
    struct run *all[WIRE_LANES_MAX];
    int runs = copy_runs(x, all);
    for (int i = 0; i < runs; i++) {
        run_output(all[i], bytes, n);
    }
}

static void executor_free(struct executor *x)
{
    if (x->slot != NULL) {
        x->slot->executor = NULL;
    }
    for (int i = 0; i < x->n_runs; i++) {
        x->runs[i]->executor = NULL;
    }
    list_remove(&x->node);
    child_destroy(x->child);
    event_free(x->start_limit);
    json_decref(x->versions);
    free(x->key);
    free(x);
}

static void on_over(void *arg, enum child_limit limit, const char *why)
{
    struct executor *x = arg;
    struct run *all[WIRE_LANES_MAX];
    int n = copy_runs(x, all);
    for (int i = 0; i < n; i++) {
        run_over(all[i], limit, why);
    }
    if (n == 0) {
        log_warn("worker", "executor-over-limit", "between trials: %s", why);
    }
}

/* A program that exits closes its channel a moment before; one that does not is of no more use. */
static void on_closed(void *arg)
{
    struct executor *x = arg;
    const struct timeval tv = {.tv_sec = CLOSED_GRACE_MS / 1000};
    x->closed = true;
    (void)event_add(x->start_limit, &tv);
}

/* Its process is gone, and so is what one of its trials knew of it. Killed by us, it was for the
 * sake of those that failed or did not answer: the others are not to blame. */
static void detach(struct run *r, bool shared)
{
    run_note_child(r);
    r->executor = NULL;
    r->bystander = shared && r->was_killed && r->failure == NULL && r->ask_limit_ns == 0;
}

static void on_ended(void *arg, int status)
{
    struct executor *x = arg;
    struct run *all[WIRE_LANES_MAX];
    int n = copy_runs(x, all);
    bool again = !x->begun && x->trials > 0;
    if (n == 0 && x->slot != NULL) {
        log_warn("worker", "executor-ended", "slot=%d status=%d between trials", x->slot->index,
                 status);
    }
    for (int i = 0; i < n; i++) {
        detach(all[i], n > 1);
    }
    x->n_runs = 0;
    executor_free(x);
    struct run *unbegun = NULL;
    for (int i = 0; i < n; i++) {
        if (again && all[i]->failure == NULL) {
            unbegun = unbegun != NULL ? unbegun : all[i];
        } else {
            run_program_ended(all[i], status);
        }
    }
    if (unbegun != NULL) {
        run_start(unbegun); /* it died after the trial before: this one gets a fresh executor */
    }
}

/* ---- running a trial ---- */

static void on_start_limit(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct executor *x = arg;
    struct run *all[WIRE_LANES_MAX];
    int n = copy_runs(x, all);
    for (int i = 0; i < n; i++) {
        if (x->closed) {
            run_fail(all[i], "program", "it closed its channel (MAGPIE_FD) and did not exit");
        } else {
            run_fail(all[i], "timeout", "the executor did not say it is ready within %" PRId64 " s",
                     x->app->cfg.start_ms / 1000);
        }
    }
    if (n == 0) {
        executor_retire(x);
    }
}

/* More than it takes at once: the last ones go back. */
static void decline_surplus(struct executor *x)
{
    struct run *all[WIRE_LANES_MAX];
    int n = copy_runs(x, all);
    for (int i = x->lanes; i < n; i++) {
        run_decline(all[i], x->lanes);
    }
}

/* The executor is ready: it gets its trial, or trials. */
static void attach(struct executor *x)
{
    decline_surplus(x);
    x->ready = false;
    x->begun = true;
    x->trials++;
    x->admission = x->admits && gpu_shared(x) && x->runs[0]->grant.distribution == NULL
                       ? ADMIT_ASKED
                       : ADMIT_NONE;
    for (int i = 0; i < x->n_runs && x->versions != NULL; i++) {
        json_decref(x->runs[i]->where);
        x->runs[i]->where = json_pack("{s:O}", "versions", x->versions);
    }
    runs_begin(x->runs, x->n_runs, x->admission == ADMIT_ASKED);
}

static struct executor *spawn(struct run *r, const struct spawn_program *p, char *key_take,
                              struct mag_err *err)
{
    struct app *a = r->app;
    struct executor *x = xcalloc(1, sizeof(*x));
    const struct child_handler handler = {.arg = x,
                                          .line = on_line,
                                          .output = on_output,
                                          .closed = on_closed,
                                          .over = on_over,
                                          .ended = on_ended};
    enum mag_status st = child_start(&x->child, a->children, p, &handler, err);
    if (st != MAG_OK) {
        free(key_take);
        free(x);
        return NULL;
    }
    x->app = a;
    x->lanes = 1;
    x->key = key_take;
    x->slot = r->slot;
    x->slot->executor = x;
    x->start_limit = evtimer_new(a->base, on_start_limit, x);
    MAG_ASSERT(x->start_limit != NULL, "evtimer_new");
    const struct timeval tv = {.tv_sec = a->cfg.start_ms / 1000,
                               .tv_usec = a->cfg.start_ms % 1000 * 1000};
    (void)event_add(x->start_limit, &tv);
    log_info("worker", "executor-started", "slot=%d pid=%d program=%s", r->slot->index,
             (int)child_pid(x->child), log_quote(p->argv[0]));
    return x;
}

void executor_run(struct run *r, const struct spawn_program *p)
{
    struct mag_err err = {0};
    char *key = executor_key(r, p);
    struct executor *x = r->slot->executor;
    if (x != NULL && strcmp(x->key, key) != 0) {
        executor_retire(x);
        x = NULL;
    }
    if (x == NULL) {
        x = spawn(r, p, key, &err);
    } else {
        free(key);
    }
    struct run *all[WIRE_LANES_MAX];
    int n = group_members(r, all);
    if (x == NULL) {
        for (int i = 0; i < n; i++) {
            run_fail(all[i], err.code == MAG_INVALID ? "configuration" : "program", "%s", err.text);
        }
        return;
    }
    memcpy(x->runs, all, (size_t)n * sizeof(struct run *));
    x->n_runs = n;
    x->begun = false;
    for (int i = 0; i < n; i++) {
        all[i]->executor = x;
    }
    if (x->ready) {
        attach(x);
    }
}

/* SIGKILL when the first of those that were told to end has had its time. */
static void limit_again(struct executor *x)
{
    if (x->dying) {
        return;
    }
    child_unlimit(x->child);
    for (int i = 0; i < x->n_runs; i++) {
        int64_t left = x->runs[i]->ask_limit_ns - clock_mono_ns();
        if (x->runs[i]->ask_limit_ns != 0) {
            child_limit(x->child, left > 0 ? left / MAG_NS_PER_MS : 0);
        }
    }
}

void executor_leave(struct run *r)
{
    struct executor *x = r->executor;
    if (x == NULL) {
        return;
    }
    int at = 0;
    while (at < x->n_runs && x->runs[at] != r) {
        at++;
    }
    memmove(&x->runs[at], &x->runs[at + 1], (size_t)(x->n_runs - at - 1) * sizeof(struct run *));
    x->n_runs--;
    x->begun = x->begun && x->n_runs > 0;
    r->executor = NULL;
    limit_again(x);
    child_hold(x->child, false);
}

void executor_ask(struct run *r, const char *what)
{
    struct child *c = r->executor != NULL ? r->executor->child : r->child;
    char *line = xasprintf("{\"type\":\"%s\",\"trial\":%" PRId64 "}\n", what, r->grant.trial);
    int64_t until = clock_mono_ns() + run_grace_ms(r) * MAG_NS_PER_MS;
    r->ask_limit_ns = r->ask_limit_ns != 0 && r->ask_limit_ns < until ? r->ask_limit_ns : until;
    child_hold(c, false);
    child_send(c, line, strlen(line));
    child_limit(c, run_grace_ms(r));
    free(line);
}

/* Others that go on in the same program. */
static bool has_company(const struct run *r)
{
    const struct executor *x = r->executor;
    for (int i = 0; x != NULL && x->begun && i < x->n_runs; i++) {
        if (x->runs[i] != r && x->runs[i]->failure == NULL) {
            return true;
        }
    }
    return false;
}

void executor_kill(struct run *r)
{
    struct child *c = r->executor != NULL ? r->executor->child : r->child;
    if (has_company(r)) {
        r->lane_stop = true;
        executor_ask(r, "stop");
        return;
    }
    if (r->executor != NULL) {
        r->executor->dying = true;
    }
    child_hold(c, false);
    child_stop(c, run_grace_ms(r));
}

struct child *executor_child(const struct executor *x)
{
    return x->child;
}

/* ---- leaving ---- */

static void retire(struct executor *x, int64_t grace_ms)
{
    if (x->slot != NULL) {
        x->slot->executor = NULL;
        x->slot = NULL;
        list_append(&x->app->leaving, &x->node);
    }
    (void)event_del(x->start_limit);
    child_send(x->child, EXIT_LINE, strlen(EXIT_LINE));
    child_limit(x->child, grace_ms);
}

void executor_retire(struct executor *x)
{
    retire(x, x->app->cfg.grace_ms);
}

void executors_retire_all(struct app *a)
{
    for (int i = 0; i < a->n_slots; i++) {
        if (a->slots[i].executor != NULL && a->slots[i].executor->n_runs == 0) {
            retire(a->slots[i].executor, LAST_GRACE_MS);
        }
    }
}

void executors_close(struct app *a)
{
    for (int i = 0; i < a->n_slots; i++) {
        if (a->slots[i].executor != NULL) {
            executor_free(a->slots[i].executor);
        }
    }
    while (!list_is_empty(&a->leaving)) {
        executor_free(container_of(list_first(&a->leaving), struct executor, node));
    }
}
