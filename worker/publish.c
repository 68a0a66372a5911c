/* SPDX-License-Identifier: Apache-2.0
 *
 * Between runs and shared storage, on the background thread: checkpoints out and in, the record of
 * an ended attempt, removal of old checkpoints. A task owns copies of all it needs and finds its
 * run again by (experiment, trial, attempt) when it is done.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "storage/logs.h"
#include "worker/logship.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_FILE_MAX (16 << 20)

static char *trial_key(const struct wire_grant *g)
{
    return xasprintf("experiments/%" PRId64 "/trials/%" PRId64, g->experiment, g->trial);
}

static struct run *find(struct app *a, const struct wire_ref *ref)
{
    return run_find(a, ref->experiment, ref->trial, ref->attempt);
}

static struct wire_ref ref_of(const struct run *r)
{
    return (struct wire_ref){
        .experiment = r->grant.experiment, .trial = r->grant.trial, .attempt = r->grant.attempt};
}

/* ---- a checkpoint to storage ---- */

struct put_task {
    struct task task;
    struct app *app;
    struct storage *storage;
    struct wire_ref ref;
    int64_t step;
    char *path, *key;
    json_t *meta;
    struct storage_folder folder;
    enum mag_status status;
    struct mag_err err;
};

static void put_work(struct task *t)
{
    struct put_task *p = container_of(t, struct put_task, task);
    if (fault_hit("worker.publish")) {
        p->status = mag_fail(&p->err, MAG_IO, "fault point worker.publish");
        return;
    }
    p->status = storage_put_folder(p->storage, p->key, p->path, p->meta, &p->folder, &p->err);
    (void)fault_hit("worker.published");
    storage_remove_local(p->path);
}

static void put_done(struct task *t)
{
    struct put_task *p = container_of(t, struct put_task, task);
    struct run *r = find(p->app, &p->ref);
    if (p->status != MAG_OK) {
        log_warn("worker", "checkpoint-failed",
                 "experiment=%" PRId64 " trial=%" PRId64 " step=%" PRId64 " error=%s",
                 p->ref.experiment, p->ref.trial, p->step, log_quote(p->err.text));
    }
    if (r != NULL) {
        r->publishing--;
        if (p->status != MAG_OK) {
            outlog_note(&r->log, "checkpoint %" PRId64 " was not stored: %s", p->step, p->err.text);
        } else if (!r->late) {
            free(r->checkpoint_uri);
            json_decref(r->checkpoint_meta);
            r->checkpoint_step = p->step;
            r->checkpoint_uri = storage_uri(p->storage, p->key);
            r->checkpoint_meta =
                json_pack("{s:I, s:I, s:s}", "files", (json_int_t)p->folder.files, "bytes",
                          (json_int_t)p->folder.bytes, "sha256", p->folder.sha256);
            session_wake(p->app->session, true);
        }
        publish_settle(r);
    }
    json_decref(p->meta);
    free(p->path);
    free(p->key);
    free(p);
}

void publish_checkpoint(struct run *r, int64_t step, const char *path)
{
    size_t n = strlen(r->checkpoint_dir);
    bool inside = strncmp(path, r->checkpoint_dir, n) == 0 && path[n] == '/' &&
                  storage_key_is_sound(path + n + 1);
    if (!inside) {
        outlog_note(&r->log, "checkpoint %" PRId64 " was not stored: %s is not below %s", step,
                    path, r->checkpoint_dir);
        return;
    }
    if (r->late || r->ordered == ORDER_STOP) {
        return;
    }
    struct put_task *p = xcalloc(1, sizeof(*p));
    char *base = trial_key(&r->grant);
    p->task = (struct task){.work = put_work, .done = put_done};
    p->app = r->app;
    p->storage = r->app->storage;
    p->ref = ref_of(r);
    p->step = step;
    p->path = xstrdup(path);
    p->key = xasprintf("%s/checkpoints/%" PRId64 "-%" PRId64, base, step, r->grant.attempt);
    p->meta = json_pack("{s:I, s:I, s:I, s:I, s:o*}", "experiment", (json_int_t)r->grant.experiment,
                        "trial", (json_int_t)r->grant.trial, "attempt",
                        (json_int_t)r->grant.attempt, "step", (json_int_t)step, "untold",
                        board_untold(r));
    double value = 0;
    if (collect_score(r, step, &value)) {
        (void)json_object_set_new(p->meta, "value", json_real(value));
    }
    free(base);
    r->publishing++;
    background_submit(r->app->background, &p->task);
}

void publish_settle(struct run *r)
{
    if (r->state != RUN_PUBLISHING || r->publishing > 0) {
        return;
    }
    r->state = RUN_ENDED;
    if (r->late) {
        r->n_points = 0;
    }
    run_release_held(r);
    session_wake(r->app->session, true);
}

/* ---- a checkpoint from storage ---- */

struct get_task {
    struct task task;
    struct app *app;
    struct storage *storage;
    struct wire_ref ref;
    char *uri, *trial_key, *scratch;
    int64_t step;
    char *path;         /* NULL = start afresh */
    json_t *untold;     /* points that no event file has */
    struct mag_err err; /* of the checkpoint that was asked for */
    bool fell_back;
    bool cut_off; /* the storage cannot be reached, so nobody knows what lies there */
};

struct newest {
    int64_t below; /* steps from here on do not count */
    int64_t step, attempt;
    char name[64];
};

static bool visit_older(void *arg, const char *name)
{
    struct newest *best = arg;
    int64_t step = 0;
    int64_t attempt = 0;
    if (sscanf(name, "%" SCNd64 "-%" SCNd64 "/", &step, &attempt) == 2 && step < best->below &&
        (step > best->step || (step == best->step && attempt > best->attempt))) {
        best->step = step;
        best->attempt = attempt;
        (void)snprintf(best->name, sizeof(best->name), "%" PRId64 "-%" PRId64, step, attempt);
    }
    return true;
}

/* Is this what the storage says of a checkpoint, not that it says nothing? */
static bool is_answer(enum mag_status st)
{
    return st == MAG_OK || st == MAG_NOTFOUND || st == MAG_CORRUPT;
}

/* The checkpoint asked for is damaged: the newest older one beside it that is whole, if any. It may
 * be another trial's, which this one is a copy of. */
static void get_older(struct get_task *g, const char *damaged)
{
    const char *slash = strrchr(damaged, '/');
    char *dir = slash != NULL ? xstrndup(damaged, (size_t)(slash - damaged)) : xstrdup(damaged);
    int64_t below = g->step;
    while (g->path == NULL && !g->cut_off) {
        struct newest best = {.below = below, .step = -1};
        g->cut_off = storage_list(g->storage, dir, visit_older, &best, NULL) != MAG_OK;
        if (g->cut_off || best.step < 0) {
            break;
        }
        char *key = xasprintf("%s/%s", dir, best.name);
        enum mag_status st = storage_get_folder(g->storage, key, g->scratch, &g->path, NULL);
        if (st == MAG_OK) {
            g->step = best.step;
            g->untold = board_untold_in(g->storage, g->trial_key, key, g->ref.trial);
        }
        g->cut_off = !is_answer(st);
        free(key);
        below = best.step;
    }
    free(dir);
}

static void get_work(struct task *t)
{
    struct get_task *g = container_of(t, struct get_task, task);
    char *key = storage_key_of(g->storage, g->uri);
    enum mag_status st =
        key != NULL ? storage_get_folder(g->storage, key, g->scratch, &g->path, &g->err)
                    : mag_fail(&g->err, MAG_INVALID, "%s is not in the driver's storage", g->uri);
    g->cut_off = key != NULL && !is_answer(st);
    if (st == MAG_OK) {
        g->untold = board_untold_in(g->storage, g->trial_key, key, g->ref.trial);
    } else if (!g->cut_off) {
        g->fell_back = true;
    }
    if (g->fell_back && key != NULL) {
        get_older(g, key);
    }
    free(key);
}

/* Nothing is lost but this attempt: another worker, or this one later, goes on from there. */
static void give_up(struct run *r, const struct get_task *g)
{
    log_warn("worker", "storage-unreachable", "experiment=%" PRId64 " trial=%" PRId64 " error=%s",
             g->ref.experiment, g->ref.trial, log_quote(g->err.text));
    r->cut_off = true;
    run_fail(r, "lost", "its checkpoint cannot be fetched: %s", g->err.text);
}

static void get_done(struct task *t)
{
    struct get_task *g = container_of(t, struct get_task, task);
    struct run *r = find(g->app, &g->ref);
    if (r != NULL && r->state == RUN_FETCHING && g->cut_off) {
        give_up(r, g);
    } else if (r != NULL && r->state == RUN_FETCHING) {
        if (g->fell_back) {
            char *from =
                g->path != NULL ? xasprintf("step %" PRId64, g->step) : xstrdup("the start");
            log_warn("worker", "checkpoint-damaged",
                     "experiment=%" PRId64 " trial=%" PRId64 " goes on from %s: %s",
                     g->ref.experiment, g->ref.trial, from, log_quote(g->err.text));
            outlog_note(&r->log, "the checkpoint cannot be used (%s); going on from %s",
                        g->err.text, from);
            free(from);
        }
        r->resume_path = g->path;
        r->resume_step = g->step;
        r->untold = g->untold;
        g->untold = NULL;
        g->path = NULL;
        r->state = RUN_WAITING;
        slots_fill(g->app);
    }
    json_decref(g->untold);
    free(g->path);
    free(g->uri);
    free(g->trial_key);
    free(g->scratch);
    free(g);
}

void publish_fetch(struct run *r)
{
    struct get_task *g = xcalloc(1, sizeof(*g));
    g->task = (struct task){.work = get_work, .done = get_done};
    g->app = r->app;
    g->storage = r->app->storage;
    g->ref = ref_of(r);
    g->uri = xstrdup(r->grant.resume_uri);
    g->trial_key = trial_key(&r->grant);
    g->scratch = xstrdup(r->dir);
    g->step = r->grant.resume_step;
    background_submit(r->app->background, &g->task);
}

/* ---- the record of an attempt ---- */

struct record_task {
    struct task task;
    struct storage *storage;
    char *base, *params, *trial, *dir, *metrics_path;
    struct logship *log; /* what storage lacks of it */
    char *board_key; /* of its last event file; NULL = none */
    struct buf board;
    struct buf metrics; /* all of them, where none were written to the file */
    int64_t attempt;
    bool has_metrics;
    bool reuse;              /* the folder may serve another run */
    struct folders *folders; /* loop only */
    char *spare;
};

static void put_bytes(struct record_task *k, const char *key, const void *bytes, size_t len)
{
    struct mag_err err = {0};
    if (storage_put(k->storage, key, bytes, len, false, &err) != MAG_OK) {
        log_warn("worker", "record-failed", "error=%s", log_quote(err.text));
    }
}

static void put_text(struct record_task *k, const char *name, const char *text)
{
    char *key = xasprintf("%s/%s", k->base, name);
    put_bytes(k, key, text, strlen(text));
    free(key);
}

static void put_file(struct record_task *k, const char *name, const char *path)
{
    struct mag_err err = {0};
    char *bytes = NULL;
    size_t len = 0;
    char *key = xasprintf("%s/attempts/%" PRId64 "/%s", k->base, k->attempt, name);
    enum mag_status st = mjson_read_file(path, RECORD_FILE_MAX, &bytes, &len, &err);
    if (st == MAG_OK) {
        st = storage_put(k->storage, key, bytes, len, false, &err);
    }
    if (st != MAG_OK && st != MAG_NOTFOUND) {
        log_warn("worker", "record-failed", "error=%s", log_quote(err.text));
    }
    free(bytes);
    free(key);
}

static void record_work(struct task *t)
{
    struct record_task *k = container_of(t, struct record_task, task);
    struct mag_err err = {0};
    if (logship_work(k->log, k->storage, &err) != MAG_OK) {
        log_warn("worker", "record-failed", "error=%s", log_quote(err.text));
    }
    if (k->has_metrics) {
        put_file(k, "metrics.jsonl", k->metrics_path);
    } else if (k->metrics.len > 0) {
        char *key = xasprintf("%s/attempts/%" PRId64 "/metrics.jsonl", k->base, k->attempt);
        put_bytes(k, key, k->metrics.data, k->metrics.len);
        free(key);
    }
    if (k->board_key != NULL) {
        put_bytes(k, k->board_key, k->board.data, k->board.len);
    }
    put_text(k, "params.json", k->params);
    put_text(k, "trial.json", k->trial);
    /* Checkpoints of this attempt were submitted before this task, so they are stored by now. */
    if (k->reuse) {
        k->spare = folder_empty(k->dir);
    } else {
        storage_remove_local(k->dir);
    }
}

static void record_done(struct task *t)
{
    struct record_task *k = container_of(t, struct record_task, task);
    folder_give_take(k->folders, k->spare);
    free(k->base);
    free(k->board_key);
    buf_fini(&k->board);
    buf_fini(&k->metrics);
    free(k->params);
    free(k->trial);
    free(k->dir);
    logship_free(k->log);
    free(k->metrics_path);
    free(k);
}

static void set_time(json_t *o, const char *key, int64_t wall_ms)
{
    char text[32];
    clock_rfc3339(wall_ms, text);
    (void)json_object_set_new(o, key, json_string(text));
}

static json_t *trial_json(const struct run *r)
{
    const struct wire_grant *g = &r->grant;
    const struct wire_result *res = &r->result;
    json_t *o = json_pack("{s:I, s:I, s:I, s:O, s:s, s:s, s:s}", "experiment",
                          (json_int_t)g->experiment, "trial", (json_int_t)g->trial, "attempt",
                          (json_int_t)g->attempt, "params", g->params, "status", res->status,
                          "host", r->app->machine.host, "worker", r->app->id);
    (void)json_object_set_new(o, "budget", g->budget > 0 ? json_integer(g->budget) : json_null());
    (void)json_object_set_new(o, "step",
                              r->last_step >= 0 ? json_integer(r->last_step) : json_null());
    if (res->metrics != NULL) {
        (void)json_object_set(o, "metrics", res->metrics);
    }
    if (res->cause != NULL) {
        (void)json_object_set_new(o, "cause", json_string(res->cause));
    }
    json_t *reason = res->reason != NULL ? json_string(res->reason) : NULL;
    if (reason != NULL) {
        (void)json_object_set_new(o, "reason", reason);
    }
    if (r->resume_path != NULL) {
        (void)json_object_set_new(o, "resumed_from", json_integer(r->resume_step));
    }
    (void)json_object_set_new(o, "log",
                              json_pack("{s:I, s:I}", "bytes", (json_int_t)r->log.total, "left_out",
                                        (json_int_t)r->log.lost));
    set_time(o, "started", r->started_ms);
    set_time(o, "ended", r->ended_ms);
    return o;
}

void publish_record(struct run *r)
{
    struct record_task *k = xcalloc(1, sizeof(*k));
    json_t *doc = trial_json(r);
    if (r->metrics_written) {
        run_flush_metrics(r);
    } else {
        k->metrics = r->metrics;
        r->metrics = (struct buf){0};
    }
    k->log = logship_gather(&r->log, publish_log_key(r));
    r->tail_untold = false; /* the driver reads them in storage from now on */
    outlog_close(&r->log);
    k->task = (struct task){.work = record_work, .done = record_done};
    k->storage = r->app->storage;
    k->base = trial_key(&r->grant);
    k->board_key = board_end(r, &k->board);
    k->params = mjson_dump(r->grant.params);
    k->trial = mjson_dump(doc);
    k->dir = xstrdup(r->dir);
    k->metrics_path = xstrdup(r->metrics_path);
    k->attempt = r->grant.attempt;
    k->has_metrics = r->metrics_written;
    k->folders = &r->app->folders;
    /* What a command left behind may still write there for a moment. */
    k->reuse = r->left_nothing || json_object_get(r->grant.program, "command") == NULL;
    json_decref(doc);
    background_submit(r->app->background, &k->task);
}

char *publish_log_key(const struct run *r)
{
    char *base = trial_key(&r->grant);
    char *key = storage_log_key(base, r->grant.attempt);
    free(base);
    return key;
}

char *publish_log_uri(const struct run *r)
{
    char *key = publish_log_key(r);
    char *uri = storage_uri(r->app->storage, key);
    free(key);
    return uri;
}
