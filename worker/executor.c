/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/executor.h"

#include "base/alloc.h"
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

static void attach(struct executor *x, struct run *r);

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
    if (x->run != NULL) {
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
    (void)event_del(x->start_limit);
    if (json_is_object(said->versions)) {
        json_decref(x->versions);
        x->versions = json_incref(said->versions);
    }
    if (x->run != NULL && !x->begun) {
        attach(x, x->run);
    }
}

/* What it says between trials is nobody's, unless it is ready. */
static void on_line(void *arg, const char *text, size_t len)
{
    struct executor *x = arg;
    struct said said;
    bool heard = x->run != NULL ? run_hear(x->run, text, len, &said)
                                : text != NULL && said_parse(text, len, &said, NULL) == MAG_OK;
    if (!heard) {
        return;
    }
    if (said.kind == SAID_READY) {
        on_ready(x, &said);
    } else if (x->run != NULL && x->begun) {
        if (said.kind == SAID_RESULT || said.kind == SAID_ERROR) {
            child_read_output(x->child); /* what it printed before is of this trial */
        }
        run_said(x->run, &said);
    }
    said_fini(&said);
}

static void on_output(void *arg, const char *bytes, size_t n)
{
    struct executor *x = arg;
    if (x->run != NULL) {
        run_output(x->run, bytes, n);
    }
}

static void executor_free(struct executor *x)
{
    if (x->slot != NULL) {
        x->slot->executor = NULL;
    }
    if (x->run != NULL) {
        x->run->executor = NULL;
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
    if (x->run != NULL) {
        run_over(x->run, limit, why);
    } else {
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

static void on_ended(void *arg, int status)
{
    struct executor *x = arg;
    struct run *r = x->run;
    bool never_began = r != NULL && !x->begun && x->trials > 0 && r->failure == NULL;
    if (r == NULL && x->slot != NULL) {
        log_warn("worker", "executor-ended", "slot=%d status=%d between trials", x->slot->index,
                 status);
    }
    x->run = NULL;
    if (r != NULL) {
        run_note_child(r);
        r->executor = NULL;
    }
    executor_free(x);
    if (never_began) {
        run_start(r); /* it died after the trial before: this one gets a fresh executor */
    } else if (r != NULL) {
        run_program_ended(r, status);
    }
}

/* ---- running a trial ---- */

static void on_start_limit(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct executor *x = arg;
    if (x->run != NULL && x->closed) {
        run_fail(x->run, "program", "it closed its channel (MAGPIE_FD) and did not exit");
    } else if (x->run != NULL) {
        run_fail(x->run, "timeout", "the executor did not say it is ready within %" PRId64 " s",
                 x->app->cfg.start_ms / 1000);
    } else {
        executor_retire(x);
    }
}

/* The executor is ready: it gets the trial. */
static void attach(struct executor *x, struct run *r)
{
    x->ready = false;
    x->begun = true;
    x->trials++;
    if (x->versions != NULL) {
        json_decref(r->where);
        r->where = json_pack("{s:O}", "versions", x->versions);
    }
    run_begin(r);
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
    if (x == NULL) {
        run_fail(r, err.code == MAG_INVALID ? "configuration" : "program", "%s", err.text);
        return;
    }
    x->run = r;
    x->begun = false;
    r->executor = x;
    if (x->ready) {
        attach(x, r);
    }
}

void executor_leave(struct run *r)
{
    struct executor *x = r->executor;
    if (x == NULL) {
        return;
    }
    x->run = NULL;
    x->begun = false;
    r->executor = NULL;
    child_unlimit(x->child);
    child_hold(x->child, false);
}

void executor_ask(struct run *r, const char *what)
{
    struct child *c = r->executor != NULL ? r->executor->child : r->child;
    char *line = xasprintf("{\"type\":\"%s\",\"trial\":%" PRId64 "}\n", what, r->grant.trial);
    child_hold(c, false);
    child_send(c, line, strlen(line));
    child_limit(c, run_grace_ms(r));
    free(line);
}

void executor_kill(struct run *r)
{
    struct child *c = r->executor != NULL ? r->executor->child : r->child;
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
        if (a->slots[i].executor != NULL && a->slots[i].executor->run == NULL) {
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
