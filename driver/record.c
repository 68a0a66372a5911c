/* SPDX-License-Identifier: Apache-2.0
 *
 * Experiments coming in (submit), going (delete) and coming back from the store (replay at the
 * start, rebuild after a failed commit). An experiment whose record cannot be replayed is kept as
 * `broken` with the place and the reason; it never stops the driver.
 */
#include "driver/driver_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "driver/gc.h"
#include "driver/quota.h"
#include "driver/rest.h"
#include "driver/sse.h"
#include "driver/think.h"
#include "driver/warm_start.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- looking up ---- */

struct experiment *record_by_id(struct driver *d, int64_t id)
{
    return id >= 1 && id < d->by_id_cap ? d->by_id[id] : NULL;
}

struct experiment *record_next(struct driver *d, const struct experiment *prev)
{
    struct list_node *n = prev == NULL ? d->experiments.next : prev->node.next;
    return n == &d->experiments ? NULL : container_of(n, struct experiment, node);
}

struct experiment *driver_experiment(struct driver *d, int64_t id)
{
    MAG_ON_LOOP(d);
    struct experiment *x = record_by_id(d, id);
    return x != NULL && x->broken == NULL ? x : NULL;
}

struct experiment *driver_next(struct driver *d, const struct experiment *prev)
{
    MAG_ON_LOOP(d);
    struct experiment *x = record_next(d, prev);
    while (x != NULL && x->broken != NULL) {
        x = record_next(d, x);
    }
    return x;
}

struct experiment *record_find(struct driver *d, const char *key)
{
    char *end = NULL;
    errno = 0;
    long long id = strtoll(key, &end, 10);
    if (errno == 0 && end != key && *end == '\0') {
        return record_by_id(d, id);
    }
    struct experiment *found = NULL;
    for (struct experiment *x = record_next(d, NULL); x != NULL; x = record_next(d, x)) {
        const struct spec *spec = x->study != NULL ? study_spec(x->study) : NULL;
        if (spec != NULL && spec->name != NULL && strcmp(spec->name, key) == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = x;
        }
    }
    return found;
}

enum study_state record_state(const struct experiment *x)
{
    return x->broken != NULL ? STUDY_FAILED : study_state(x->study);
}

/* ---- the list ---- */

static void put(struct driver *d, struct experiment *x)
{
    if (x->id >= d->by_id_cap) {
        int64_t cap = d->by_id_cap > 0 ? d->by_id_cap : 64;
        while (cap <= x->id) {
            cap *= 2;
        }
        d->by_id = xreallocarray(d->by_id, (size_t)cap, sizeof(struct experiment *));
        memset(d->by_id + d->by_id_cap, 0,
               (size_t)(cap - d->by_id_cap) * sizeof(struct experiment *));
        d->by_id_cap = cap;
    }
    d->by_id[x->id] = x;
    /* Ids rise, so the end is nearly always the place. */
    struct list_node *at = d->experiments.prev;
    while (at != &d->experiments && container_of(at, struct experiment, node)->id > x->id) {
        at = at->prev;
    }
    list_append(at->next, &x->node);
    d->n_experiments++;
    if (x->id > d->last_experiment) {
        d->last_experiment = x->id;
    }
}

static char *request_key(const struct experiment *x)
{
    const char *hash = strrchr(x->request, '\n');
    return xstrndup(x->request, hash != NULL ? (size_t)(hash - x->request) : strlen(x->request));
}

static void remember_request(struct driver *d, struct experiment *x)
{
    if (x->request != NULL) {
        char *key = request_key(x);
        (void)strmap_set(&d->requests, key, x);
        free(key);
    }
}

static void release(struct driver *d, struct experiment *x)
{
    if (x->request != NULL) {
        char *key = request_key(x);
        if (strmap_get(&d->requests, key) == x) {
            (void)strmap_remove(&d->requests, key);
        }
        free(key);
    }
    x->deleted = true;
    quota_forget(d, x);
    think_forget(d->think, x);
    rest_drop_waiters(d, x);
    list_remove(&x->dirty);
    heap_remove(&d->deadlines, &x->deadline);
    if (d->by_id[x->id] == x) {
        d->by_id[x->id] = NULL;
        list_remove(&x->node);
        d->n_experiments--;
    }
    study_destroy(x->study);
    free(x->spec_text);
    free(x->request);
    free(x->broken);
    free(x);
}

void record_free_all(struct driver *d)
{
    for (struct experiment *x; (x = record_next(d, NULL)) != NULL;) {
        release(d, x);
    }
    strmap_fini(&d->requests);
    free(d->by_id);
    d->by_id = NULL;
}

/* ---- replay ---- */

struct replay {
    struct driver *d;
    struct experiment *x;
    struct store_reader *reader;
    struct experiment *found;
    struct mag_err err;
    int64_t bad_seq;
    uint64_t events;
};

static bool replay_event(void *arg, const struct store_event *row)
{
    struct replay *r = arg;
    struct event ev;
    r->bad_seq = row->seq;
    enum mag_status st = event_decode((enum event_kind)row->kind, row->text, (size_t)row->text_len,
                                      r->x->dims, &ev, &r->err);
    if (st != MAG_OK) {
        return false;
    }
    ev.seq = row->seq;
    ev.wall_ms = row->wall_ms;
    ev.up_ms = row->up_ms;
    st = study_apply(r->x->study, &ev, clock_mono_ns(), &r->err);
    event_fini(&ev);
    r->x->shown_seq = row->commit_seq;
    r->events++;
    if (r->err.code == MAG_OK && st != MAG_OK) {
        r->err.code = st;
    }
    return r->err.code == MAG_OK;
}

static void mark_broken(struct experiment *x, const char *where, int64_t seq, const char *why)
{
    x->broken = seq > 0 ? xasprintf("event %lld: %s", (long long)seq, why)
                        : xasprintf("%s: %s", where, why);
    log_error("driver", "not-replayed", "experiment=%lld reason=%s", (long long)x->id,
              log_quote(x->broken));
}

static struct study *open_study(struct spec *spec_take)
{
    struct study *s = study_create(spec_take);
    if (fault_hit("driver.slow")) {
        study_pretend_slow(s);
    }
    return s;
}

/* The study as the resolved experiment file describes it, NULL (and x->broken set) when it does
 * not. */
static struct study *study_from_text(struct experiment *x, const char *resolved)
{
    json_t *doc = NULL;
    struct mag_err err = {0};
    if (mjson_parse(resolved, strlen(resolved), &doc, &err) != MAG_OK) {
        mark_broken(x, "stored experiment", 0, err.text);
        return NULL;
    }
    struct mjson_issues is = {0};
    struct spec *spec = spec_parse(doc, 0, &is);
    if (spec != NULL && json_object_get(json_object_get(doc, "notify"), "retry") == NULL) {
        spec->notify_recorded = false; /* stored before deliveries were */
    }
    json_decref(doc);
    if (spec == NULL) {
        struct buf text = {0};
        mjson_issues_print(&is, NULL, &text);
        mark_broken(x, "stored experiment", 0, text.data != NULL ? text.data : "");
        buf_fini(&text);
    }
    mjson_issues_fini(&is);
    if (spec == NULL) {
        return NULL;
    }
    x->dims = spec->space->n;
    return open_study(spec);
}

static void replay_events(struct replay *r)
{
    struct experiment *x = r->x;
    struct mag_err err = {0};
    enum mag_status st = store_read_events(r->reader, x->id, 0, replay_event, r, &err);
    if (r->err.code != MAG_OK) {
        mark_broken(x, "", r->bad_seq, r->err.text);
    } else if (st != MAG_OK) {
        mark_broken(x, "its events", 0, err.text);
    } else {
        study_rearm(x->study, clock_mono_ns());
    }
}

static struct experiment *make(int64_t id)
{
    struct experiment *x = xcalloc(1, sizeof(*x));
    x->id = id;
    list_init(&x->waiters);
    list_init(&x->parked);
    return x;
}

/* Takes an experiment in, or an existing one back to its start; its events are replayed after. */
static bool load_row(void *arg, const struct store_experiment *row)
{
    struct replay *r = arg;
    struct experiment *x = record_by_id(r->d, row->id);
    bool known = x != NULL;
    if (!known) {
        x = make(row->id);
        x->created_ms = row->created_ms;
        x->spec_text = xstrndup(row->spec_text, (size_t)row->spec_len);
        x->spec_len = (size_t)row->spec_len;
        x->request = row->request != NULL ? xstrdup(row->request) : NULL;
        x->shown_seq = row->commit_seq;
        put(r->d, x);
        remember_request(r->d, x);
    }
    free(x->broken);
    x->broken = NULL;
    study_destroy(x->study);
    x->study = study_from_text(x, row->resolved);
    x->unsaved = 0;
    r->found = x;
    return true;
}

static void bring_back(struct replay *r, struct experiment *x)
{
    if (x->broken == NULL) {
        r->x = x;
        r->err = (struct mag_err){0};
        r->bad_seq = 0;
        replay_events(r);
    }
    x->notified = 0; /* what is owed is sent, twice rather than never */
    quota_note(r->d, x);
    rest_fail_begun(r->d, x);
    loop_mark_dirty(r->d, x);
}

enum mag_status record_load(struct driver *d, struct mag_err *err)
{
    struct replay r = {.d = d};
    int64_t started = clock_mono_ns();
    enum mag_status st = store_reader_open(d->store, &r.reader, err);
    if (st == MAG_OK) {
        st = store_read_experiments(r.reader, 0, load_row, &r, err);
    }
    for (struct experiment *x = record_next(d, NULL); x != NULL && st == MAG_OK;
         x = record_next(d, x)) {
        bring_back(&r, x);
    }
    store_reader_close(r.reader);
    int64_t last = store_last_experiment(d->store);
    d->last_experiment = last > d->last_experiment ? last : d->last_experiment;
    d->stats.replay_events = r.events;
    d->stats.replay_ms = (clock_mono_ns() - started) / MAG_NS_PER_MS;
    return st;
}

/* Brings one experiment back to what the store holds; false when it holds no such experiment. */
static void rebuild_one(struct replay *r, int64_t id)
{
    struct experiment *x = record_by_id(r->d, id);
    r->found = NULL;
    struct mag_err err = {0};
    if (store_read_experiments(r->reader, id, load_row, r, &err) != MAG_OK) {
        log_error("driver", "rebuild-failed", "experiment=%lld reason=%s", (long long)id,
                  log_quote(err.text));
        if (x != NULL && x->broken == NULL) {
            mark_broken(x, "reading it again after a failed commit", 0, err.text);
        }
    } else if (r->found != NULL) {
        bring_back(r, r->found);
    } else if (x != NULL) {
        release(r->d, x); /* its creation was in the failed commit */
    }
}

void record_rebuild(struct driver *d)
{
    struct replay r = {.d = d};
    struct mag_err err = {0};
    if (store_reader_open(d->store, &r.reader, &err) != MAG_OK) {
        log_error("driver", "rebuild-failed", "reason=%s", log_quote(err.text));
        return;
    }
    think_wait_any(d->think);
    struct experiment *next = NULL;
    for (struct experiment *x = record_next(d, NULL); x != NULL; x = next) {
        next = record_next(d, x);
        if (x->unsaved >= d->commit) {
            rebuild_one(&r, x->id);
        }
    }
    for (size_t i = 0; i < d->n_deleted; i++) {
        rebuild_one(&r, d->deleted[i]);
    }
    d->n_deleted = 0;
    store_reader_close(r.reader);
}

/* ---- submit and delete ---- */

static uint64_t draw_seed(void)
{
    uint64_t seed = 0;
    while (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
    }
    /* Whole numbers up to 2^53 survive every JSON reader. */
    return seed >> 11;
}

static enum mag_status parse_spec(struct driver *d, const char *text, size_t len, struct spec **ret,
                                  struct mjson_issues *is, struct mag_err *err)
{
    if (len > SPEC_BYTES_MAX) {
        return mag_fail(err, MAG_LIMIT, "the experiment file has %zu bytes, %d are allowed", len,
                        SPEC_BYTES_MAX);
    }
    json_t *doc = NULL;
    enum mag_status st = mjson_parse(text, len, &doc, err);
    if (st != MAG_OK) {
        return st;
    }
    /* The idempotency key travels in the same object and is no part of the experiment. */
    (void)json_object_del(doc, "request");
    (void)json_object_del(doc, "client");
    *ret = spec_parse(doc, draw_seed(), is);
    json_decref(doc);
    if (*ret != NULL) {
        warm_start_read(d, *ret, is);
    }
    if (is->total > 0) {
        spec_destroy(*ret);
        *ret = NULL;
        mjson_issues_place(is, text, len);
        return mag_fail(err, MAG_INVALID, "the experiment file has %d fault%s", is->total,
                        is->total == 1 ? "" : "s");
    }
    return MAG_OK;
}

enum mag_status driver_submit(struct driver *d, const char *text, size_t len, const char *request,
                              struct experiment **ret, struct mjson_issues *is, struct mag_err *err)
{
    MAG_ON_LOOP(d);
    if (d->read_only) {
        return mag_fail(err, MAG_UNSUPPORTED,
                        "the driver serves reads only, its store cannot be written: %s",
                        d->read_only_why);
    }
    if (d->n_experiments >= DRIVER_EXPERIMENTS_MAX || d->last_experiment >= STORE_EXPERIMENT_MAX) {
        return mag_fail(err, MAG_LIMIT, "this driver holds %lld experiments already; delete some",
                        (long long)d->n_experiments);
    }
    struct spec *spec = NULL;
    enum mag_status st = parse_spec(d, text, len, &spec, is, err);
    if (st != MAG_OK) {
        return st;
    }
    struct experiment *x = make(d->last_experiment + 1);
    x->created_ms = clock_wall_ms();
    x->spec_text = xstrndup(text, len);
    x->spec_len = len;
    x->dims = spec->space->n;
    x->request = request != NULL ? xstrdup(request) : NULL;
    char *resolved = mjson_dump(spec->resolved);
    x->study = open_study(spec);
    study_rearm(x->study, clock_mono_ns());
    put(d, x);
    remember_request(d, x);
    x->shown_seq = loop_next_seq(d);
    store_batch_experiment(d->batch, &(struct store_experiment){.id = x->id,
                                                                .created_ms = x->created_ms,
                                                                .spec_text = x->spec_text,
                                                                .spec_len = (int)len,
                                                                .resolved = resolved,
                                                                .request = x->request,
                                                                .commit_seq = x->shown_seq});
    free(resolved);
    loop_collected(d, x);
    loop_mark_dirty(d, x);
    sse_note(d->sse, x, NULL, x->shown_seq);
    *ret = x;
    return MAG_OK;
}

enum mag_status driver_delete(struct driver *d, struct experiment *x, struct mag_err *err)
{
    MAG_ON_LOOP(d);
    if (d->read_only) {
        return mag_fail(err, MAG_UNSUPPORTED,
                        "the driver serves reads only, its store cannot be written: %s",
                        d->read_only_why);
    }
    if (!study_state_is_final(record_state(x))) {
        return mag_fail(err, MAG_CONFLICT, "experiment %lld is %s; cancel it first",
                        (long long)x->id, study_state_name(record_state(x)));
    }
    int64_t seq = loop_next_seq(d);
    store_batch_delete(d->batch, x->id, seq);
    loop_collected(d, NULL);
    sse_note_deleted(d->sse, x->id, seq);
    d->deleted = xreallocarray(d->deleted, d->n_deleted + 1, sizeof(*d->deleted));
    d->deleted[d->n_deleted++] = x->id;
    gc_deleted(d->gc, x->id);
    release(d, x);
    return MAG_OK;
}
