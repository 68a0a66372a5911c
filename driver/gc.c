/* SPDX-License-Identifier: Apache-2.0
 *
 * One run: names of experiments (thread); for each one what it keeps (loop) and the names of its
 * trials (thread); for each batch of these what the study says (loop), durable before it is used;
 * then the sweep of the batch (thread). Between two of these steps nobody is waited for.
 */
#include "driver/gc.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "driver/driver_internal.h"
#include "driver/gc_sweep.h"
#include "driver/quota.h"
#include "driver/reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 256         /* trials asked about at once */
#define SOON_MS 200       /* after a delete, or when storage is full */
#define TOLD_MAX 1000     /* checkpoints in one event; what is left out is told the next time */
#define PATIENCE_MS 30000 /* a storage that does not answer ends the run */

enum phase { LIST_ALL, LIST_TRIALS, SWEEP, REMOVE };

struct ids {
    int64_t *list;
    int64_t n, at;
};

struct gc {
    struct driver *d;
    struct reader *thread;
    struct storage *storage; /* the thread's */
    struct event *timer;
    int64_t every_ms, due_ns; /* the next collection of all */
    int64_t *deleted;         /* experiments to be looked at first */
    int n_deleted;
    struct ids pressed; /* experiments over their limit */
    bool pressed_all;

    /* the run */
    bool running;
    bool by_record; /* looks where the record counts more than the newest, instead of everywhere */
    enum phase phase;
    struct reader_job job;
    struct deferred df;
    struct ids experiments, trials;
    struct gc_trial batch[BATCH];
    int n_batch;
    struct gc_rules rules;
    struct study_pin *claims;
    struct gc_count count;
    struct mag_err err;
    int64_t since_ns;
    gc_done_fn done;
    void *done_arg;
};

static void step(struct gc *g);

/* ---- on the thread ---- */

static void add_id(struct ids *l, int64_t id)
{
    l->list = xreallocarray(l->list, (size_t)l->n + 1, sizeof(*l->list));
    l->list[l->n++] = id;
}

static bool on_id(void *arg, const char *name)
{
    struct ids *l = arg;
    char *end = NULL;
    int64_t id = strtoll(name, &end, 10);
    if (end != name && strcmp(end, "/") == 0 && id > 0) {
        add_id(l, id);
    }
    return true;
}

/* Names come in the order of text: "10" before "9". */
static int by_number(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static enum mag_status open_storage(struct gc *g, struct mag_err *err)
{
    struct storage *opened = g->storage;
    if (opened != NULL) {
        return MAG_OK;
    }
    char *root = xasprintf("%s/%s", g->d->storage_url, store_uuid(g->d->store));
    enum mag_status st = storage_open(root, &opened, err);
    if (st == MAG_OK) {
        storage_set_patience(opened, PATIENCE_MS);
        __atomic_store_n(&g->storage, opened, __ATOMIC_RELEASE);
    }
    free(root);
    return st;
}

static enum mag_status sweep_batch(struct gc *g, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    int64_t x = g->experiments.list[g->experiments.at];
    for (int i = 0; st == MAG_OK && i < g->n_batch; i++) {
        st = gc_sweep_trial(g->storage, x, &g->batch[i], &g->rules, &g->count, err);
    }
    return st;
}

static void run_job(struct reader_job *job, struct store_reader *store, const struct mag_err *why)
{
    struct gc *g = container_of(job, struct gc, job);
    (void)store;
    (void)why;
    struct mag_err err = {0};
    enum mag_status st = open_storage(g, &err);
    if (st == MAG_OK && g->phase == LIST_ALL) {
        st = storage_list(g->storage, "experiments", on_id, &g->experiments, &err);
    } else if (st == MAG_OK && g->phase == LIST_TRIALS) {
        char *key =
            xasprintf("experiments/%" PRId64 "/trials", g->experiments.list[g->experiments.at]);
        st = storage_list(g->storage, key, on_id, &g->trials, &err);
        free(key);
        qsort(g->trials.list, (size_t)g->trials.n, sizeof(*g->trials.list), by_number);
    } else if (st == MAG_OK && g->phase == SWEEP) {
        st = sweep_batch(g, &err);
    } else if (st == MAG_OK) {
        st = gc_sweep_experiment(g->storage, g->experiments.list[g->experiments.at], &g->count,
                                 &err);
    }
    if (st != MAG_OK) {
        g->err = err;
    }
}

/* ---- on the loop ---- */

static void clear_batch(struct gc *g)
{
    for (int i = 0; i < g->n_batch; i++) {
        free(g->batch[i].known);
    }
    free(g->claims);
    g->claims = NULL;
    g->n_batch = 0;
}

static void finish(struct gc *g)
{
    json_t *report = json_pack(
        "{s:b, s:I, s:I, s:I, s:I, s:f, s:O}", "dry_run", g->count.dry, "experiments",
        (json_int_t)g->count.experiments, "checkpoints", (json_int_t)g->count.checkpoints,
        "objects", (json_int_t)g->count.objects, "bytes", (json_int_t)g->count.bytes, "seconds",
        (double)(clock_mono_ns() - g->since_ns) / 1e9, "removed", g->count.removed);
    if (g->err.code != MAG_OK) {
        (void)json_object_set_new(report, "error", json_string(g->err.text));
        log_warn("driver", "gc-failed", "error=%s", log_quote(g->err.text));
    }
    if (!g->count.dry && g->count.experiments + g->count.checkpoints > 0) {
        log_info("driver", "gc", "experiments=%" PRId64 " checkpoints=%" PRId64 " bytes=%" PRId64,
                 g->count.experiments, g->count.checkpoints, g->count.bytes);
    }
    gc_done_fn done = g->done;
    g->done = NULL;
    g->running = false;
    clear_batch(g);
    free(g->experiments.list);
    free(g->trials.list);
    g->experiments = g->trials = (struct ids){0};
    json_decref(g->count.removed);
    g->count = (struct gc_count){0};
    if (done != NULL) {
        done(g->done_arg, report);
    }
    json_decref(report);
}

static void push(struct gc *g, enum phase phase)
{
    g->phase = phase;
    if (!reader_push(g->thread, &g->job)) {
        (void)mag_fail(&g->err, MAG_CLOSED, "the driver ends");
        finish(g);
    }
}

static void on_durable(struct deferred *df, bool ok)
{
    struct gc *g = container_of(df, struct gc, df);
    if (!ok) {
        (void)mag_fail(&g->err, MAG_IO, "the store cannot be written now");
        finish(g);
        return;
    }
    push(g, g->phase);
}

/* What the studies say now counts once it is durable: a commit that fails takes them back. */
static void push_durable(struct gc *g, enum phase phase)
{
    g->phase = phase;
    g->df.fn = on_durable;
    driver_after_commit(g->d, &g->df);
}

static void ask_trial(struct gc *g, const struct experiment *x, int64_t id)
{
    const struct trial *t = study_trial(x->study, id);
    struct gc_trial *to = &g->batch[g->n_batch++];
    *to = (struct gc_trial){.id = id, .attempt = t->attempt};
    to->open = t->state == TRIAL_WAITING || t->state == TRIAL_RUNNING || t->state == TRIAL_PAUSED;
    bool ours = study_checkpoint_name(t->checkpoint_uri, &to->last);
    to->committed = ours && to->last.trial == id;
    to->foreign = t->checkpoint_uri != NULL && !ours;
    to->known = xcalloc((size_t)t->n_kept + 1, sizeof(*to->known));
    to->n_known = t->n_kept;
    for (int i = 0; i < t->n_kept; i++) {
        to->known[i] = (struct gc_known){.step = t->kept[i].step, .attempt = t->kept[i].attempt};
    }
}

/* The next trials that the study knows; those that came after the listing are not in it. */
static bool fill_batch(struct gc *g, const struct experiment *x)
{
    clear_batch(g);
    while (g->trials.at < g->trials.n && g->n_batch < BATCH) {
        int64_t id = g->trials.list[g->trials.at++];
        if (study_trial(x->study, id) != NULL) {
            ask_trial(g, x, id);
        }
    }
    if (g->n_batch > 0) {
        g->rules.n_claims =
            study_claims(x->study, g->batch[0].id, g->batch[g->n_batch - 1].id, &g->claims);
        g->rules.claims = g->claims;
    }
    return g->n_batch > 0;
}

static void skip_experiment(struct gc *g)
{
    g->experiments.at++;
    free(g->trials.list);
    g->trials = (struct ids){0};
}

static void next_experiment(struct gc *g)
{
    skip_experiment(g);
    step(g);
}

/* False when the experiment has no trials left to look at. */
static bool begin_batch(struct gc *g, const struct experiment *x)
{
    bool more = x != NULL && x->broken == NULL && fill_batch(g, x) && !g->d->stopping;
    if (more) {
        push_durable(g, SWEEP);
    }
    return more;
}

/* Trials that the record counts more than one checkpoint of. */
static void list_recorded(struct gc *g, const struct experiment *x)
{
    for (int64_t id = 1; id <= study_trials(x->study); id++) {
        if (study_trial(x->study, id)->n_kept > 1) {
            add_id(&g->trials, id);
        }
    }
}

/* What the record counts and storage does not have any more. */
static void tell_gone(struct gc *g)
{
    int64_t id = g->experiments.list[g->experiments.at];
    struct experiment *x = driver_experiment(g->d, id);
    json_t *gone = json_array();
    for (int i = 0; i < g->n_batch; i++) {
        const struct gc_trial *t = &g->batch[i];
        for (int k = 0; k < t->n_known && t->swept && json_array_size(gone) < TOLD_MAX; k++) {
            if (!t->known[k].there) {
                (void)json_array_append_new(gone, json_pack("[I, I, I]", (json_int_t)t->id,
                                                            (json_int_t)t->known[k].step,
                                                            (json_int_t)t->known[k].attempt));
            }
        }
    }
    if (x != NULL && json_array_size(gone) > 0) {
        struct event ev;
        struct mag_err err = {0};
        event_init(&ev, EV_COLLECTED);
        ev.detail = json_pack("{s:O}", "gone", gone);
        if (driver_apply(g->d, x, &ev, &err) != MAG_OK) {
            log_warn("driver", "gc-not-recorded", "experiment=%" PRId64 " error=%s", id,
                     log_quote(err.text));
        }
        event_fini(&ev);
    }
    json_decref(gone);
}

/* A new experiment may have a folder that a listing shows before we look: only ids that were given
 * and are gone count as deleted. False when there is nothing to do. */
static bool begin_experiment(struct gc *g)
{
    int64_t id = g->experiments.list[g->experiments.at];
    const struct experiment *x = record_by_id(g->d, id);
    if (x == NULL && id <= g->d->last_experiment) {
        push_durable(g, REMOVE);
    } else if (x == NULL || x->broken != NULL) {
        return false;
    } else {
        const struct spec *spec = study_spec(x->study);
        bool tight = quota_is_over(g->d, x);
        g->rules = (struct gc_rules){.keep = tight ? 1 : spec->checkpoint_keep,
                                     .tight = tight,
                                     .best = spec->checkpoint_best,
                                     .maximize = spec->maximize};
        if (g->by_record) {
            list_recorded(g, x);
            return begin_batch(g, x);
        }
        push(g, LIST_TRIALS);
    }
    return true;
}

static void step(struct gc *g)
{
    while (g->experiments.at < g->experiments.n && !g->d->stopping) {
        if (begin_experiment(g)) {
            return;
        }
        skip_experiment(g);
    }
    finish(g);
}

static void done_job(struct reader_job *job)
{
    struct gc *g = container_of(job, struct gc, job);
    if (g->phase == SWEEP && !g->count.dry) {
        tell_gone(g);
    }
    if (g->err.code != MAG_OK) {
        finish(g);
    } else if (g->phase == LIST_ALL) {
        step(g);
    } else if (g->phase == REMOVE ||
               !begin_batch(g, record_by_id(g->d, g->experiments.list[g->experiments.at]))) {
        next_experiment(g);
    }
}

static void begin(struct gc *g, bool dry)
{
    g->running = true;
    g->by_record = false;
    g->since_ns = clock_mono_ns();
    g->err = (struct mag_err){0};
    g->count = (struct gc_count){.dry = dry, .removed = json_array()};
    g->job = (struct reader_job){.run = run_job, .done = done_job};
}

enum mag_status gc_run(struct gc *g, bool dry, gc_done_fn done, void *arg, struct mag_err *err)
{
    if (g->running) {
        return mag_fail(err, MAG_CONFLICT, "garbage is being collected already; try again");
    }
    begin(g, dry);
    g->done = done;
    g->done_arg = arg;
    push(g, LIST_ALL);
    return MAG_OK;
}

void gc_forget(struct gc *g, const void *arg)
{
    if (g != NULL && g->done_arg == arg) {
        g->done = NULL;
    }
}

/* ---- by itself ---- */

static void again(struct gc *g, int64_t ms)
{
    const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    (void)event_add(g->timer, &tv);
}

/* The run is about experiments over a limit: what may go of them is known from the record. */
static void take_pressed(struct gc *g)
{
    g->by_record = true;
    if (!g->pressed_all) {
        g->experiments = g->pressed;
    } else {
        free(g->pressed.list);
        for (struct experiment *x = driver_next(g->d, NULL); x != NULL; x = driver_next(g->d, x)) {
            add_id(&g->experiments, x->id);
        }
    }
    g->pressed = (struct ids){0};
    g->pressed_all = false;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct gc *g = arg;
    if (g->running) {
        again(g, SOON_MS);
        return;
    }
    begin(g, false);
    int64_t now = clock_mono_ns();
    bool all = g->every_ms > 0 && now >= g->due_ns;
    if (all) {
        g->due_ns = now + g->every_ms * MAG_NS_PER_MS;
        g->n_deleted = 0; /* the listing shows them too */
        push(g, LIST_ALL);
    } else if (g->n_deleted > 0) {
        g->experiments = (struct ids){.list = g->deleted, .n = g->n_deleted};
        g->deleted = NULL;
        g->n_deleted = 0;
        step(g);
    } else {
        take_pressed(g);
        step(g);
    }
    if (g->pressed_all || g->pressed.n > 0) {
        again(g, SOON_MS);
    } else if (g->every_ms > 0) {
        again(g, (g->due_ns - now) / MAG_NS_PER_MS + 1);
    }
}

void gc_press(struct gc *g, int64_t experiment)
{
    if (g == NULL || g->d->stopping) {
        return;
    }
    bool waits = g->pressed_all || g->pressed.n > 0;
    bool known = false;
    for (int64_t i = 0; i < g->pressed.n; i++) {
        known = known || g->pressed.list[i] == experiment;
    }
    if (experiment == 0) {
        g->pressed_all = true;
    } else if (!known) {
        add_id(&g->pressed, experiment);
    }
    if (!waits) {
        again(g, SOON_MS);
    }
}

void gc_deleted(struct gc *g, int64_t experiment)
{
    if (g != NULL) {
        g->deleted = xreallocarray(g->deleted, (size_t)g->n_deleted + 1, sizeof(*g->deleted));
        g->deleted[g->n_deleted++] = experiment;
        again(g, SOON_MS);
    }
}

enum mag_status gc_start(struct gc **ret, struct driver *d, int64_t every_ms, struct mag_err *err)
{
    struct gc *g = xcalloc(1, sizeof(*g));
    g->d = d;
    g->every_ms = every_ms;
    g->timer = evtimer_new(d->base, on_timer, g);
    MAG_ASSERT(g->timer != NULL, "evtimer_new");
    enum mag_status st = reader_start(&g->thread, d, err);
    if (st != MAG_OK) {
        event_free(g->timer);
        free(g);
        return st;
    }
    list_init(&g->df.node);
    if (every_ms > 0) {
        g->due_ns = clock_mono_ns() + every_ms * MAG_NS_PER_MS;
        again(g, every_ms);
    }
    *ret = g;
    return MAG_OK;
}

void gc_stop(struct gc *g)
{
    if (g == NULL) {
        return;
    }
    driver_forget(g->d, &g->df);
    storage_cancel(__atomic_load_n(&g->storage, __ATOMIC_ACQUIRE));
    reader_stop(g->thread);
    g->done = NULL;
    if (g->running) {
        finish(g);
    }
    storage_close(g->storage);
    event_free(g->timer);
    free(g->deleted);
    free(g->pressed.list);
    free(g);
}
