/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/logship.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "storage/logs.h"
#include "worker/app.h"

#include <inttypes.h>
#include <stdlib.h>

#define SAY_EVERY_MS 60000 /* between two lines about a storage that takes no logs */

struct item {
    int64_t start, len; /* len -1: to be dropped */
    bool done;
};

struct logship {
    char *log; /* key */
    char *dir;
    struct item *items;
    int n;
};

struct logship *logship_gather(const struct outlog *o, char *log_take)
{
    struct logship *s = xcalloc(1, sizeof(*s));
    s->log = log_take;
    s->dir = o->dir != NULL ? xstrdup(o->dir) : NULL;
    s->items = xcalloc((size_t)o->n_segments + 1, sizeof(*s->items));
    for (int i = 0; i < o->n_segments; i++) {
        const struct outlog_segment *g = &o->segments[i];
        if (g->dropped || g->stored < g->len) {
            s->items[s->n++] = (struct item){.start = g->start, .len = g->dropped ? -1 : g->len};
        }
    }
    return s;
}

static enum mag_status put_one(const struct logship *s, struct storage *storage,
                               const struct item *it, struct mag_err *err)
{
    char *path = outlog_file(s->dir, it->start);
    char *bytes = NULL;
    size_t len = 0;
    enum mag_status st = mjson_read_file(path, OUTLOG_SEGMENT_MAX, &bytes, &len, err);
    if (st == MAG_OK) {
        len = len < (size_t)it->len ? len : (size_t)it->len;
        st = storage_log_put(storage, s->log, it->start, bytes, len, err);
    }
    free(bytes);
    free(path);
    /* Dropped since, or its run has ended and sent it. */
    return st == MAG_NOTFOUND ? MAG_OK : st;
}

enum mag_status logship_work(struct logship *s, struct storage *storage, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    for (int i = 0; st == MAG_OK && i < s->n; i++) {
        struct item *it = &s->items[i];
        st = it->len < 0 ? storage_log_drop(storage, s->log, it->start, err)
                         : put_one(s, storage, it, err);
        it->done = st == MAG_OK;
    }
    return st;
}

void logship_settle(const struct logship *s, struct outlog *o)
{
    for (int i = 0; i < s->n; i++) {
        if (s->items[i].done) {
            outlog_stored(o, s->items[i].start, s->items[i].len);
        }
    }
}

void logship_free(struct logship *s)
{
    if (s != NULL) {
        free(s->log);
        free(s->dir);
        free(s->items);
        free(s);
    }
}

/* ---- while a run lives ---- */

struct ship_task {
    struct task task;
    struct app *app;
    struct storage *storage;
    struct wire_ref ref;
    struct logship *ship;
    enum mag_status status;
    struct mag_err err;
};

static void ship_work(struct task *t)
{
    struct ship_task *k = container_of(t, struct ship_task, task);
    k->status = logship_work(k->ship, k->storage, &k->err);
}

static void ship_done(struct task *t)
{
    struct ship_task *k = container_of(t, struct ship_task, task);
    struct run *r = run_find(k->app, k->ref.experiment, k->ref.trial, k->ref.attempt);
    if (r != NULL) {
        r->shipping = false;
        logship_settle(k->ship, &r->log);
    }
    int64_t now = clock_mono_ns();
    if (k->status != MAG_OK && now - k->app->log_said_ns > SAY_EVERY_MS * MAG_NS_PER_MS) {
        k->app->log_said_ns = now;
        log_warn("worker", "log-not-stored",
                 "experiment=%" PRId64 " trial=%" PRId64 " error=%s it is tried again",
                 k->ref.experiment, k->ref.trial, log_quote(k->err.text));
    }
    logship_free(k->ship);
    free(k);
}

void logship_tick(struct app *a)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        struct run *r = container_of(n, struct run, node);
        if (r->shipping || r->state >= RUN_PUBLISHING || !outlog_has_news(&r->log)) {
            continue;
        }
        struct ship_task *k = xcalloc(1, sizeof(*k));
        k->task = (struct task){.work = ship_work, .done = ship_done};
        k->app = a;
        k->storage = a->storage;
        k->ref = (struct wire_ref){.experiment = r->grant.experiment,
                                   .trial = r->grant.trial,
                                   .attempt = r->grant.attempt};
        k->ship = logship_gather(&r->log, publish_log_key(r));
        r->shipping = true;
        background_submit_low(a->background, &k->task);
    }
}
