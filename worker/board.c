/* SPDX-License-Identifier: Apache-2.0
 *
 * A run's metrics as TensorBoard's event files in shared storage. Objects are immutable there, so
 * what came since the last time becomes another file of the same TensorBoard run:
 * trials/<n>/tensorboard/events.out.tfevents.<attempt>.<number>[.last]. Readers take files in the order of their
 * names. What a checkpoint covers and no file has yet goes into the checkpoint's manifest: an attempt
 * that goes on from there writes it, so nothing is missing when a worker died.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "worker/tfevent.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PUBLISH_MIN_MS 5000   /* to the first file, */
#define PUBLISH_SHARE 16      /* then each time a trial is this part older, */
#define PUBLISH_MAX_MS 600000 /* but at least so often */
#define POINTS_MAX 2000       /* points that wait for a file */
#define FILE_STEM "events.out.tfevents."
#define FILE_LAST ".last" /* nothing of this attempt follows */
#define MANIFEST_KEY "untold"

struct board_point {
    int64_t step, wall_ms;
    json_t *metrics;
};

struct board {
    struct board_point *points; /* in no file yet */
    size_t n_points;
    struct buf kept;     /* records that could not be stored */
    json_t *last;        /* newest metrics */
    int64_t last_step;   /* what comes at or below it is a repetition */
    struct event *timer;
    int64_t files; /* made so far */
};

static double seconds(int64_t wall_ms)
{
    return (double)wall_ms / 1000;
}

/* ---- to storage ---- */

struct file_task {
    struct task task;
    struct app *app;
    struct wire_ref ref;
    char *key;
    struct buf bytes;
    size_t head; /* bytes of the version record */
    struct mag_err err;
    enum mag_status status;
};

static void file_work(struct task *t)
{
    struct file_task *f = container_of(t, struct file_task, task);
    f->status = storage_put(f->app->storage, f->key, f->bytes.data, f->bytes.len, false, &f->err);
}

static void file_done(struct task *t)
{
    struct file_task *f = container_of(t, struct file_task, task);
    const struct run *r = run_find(f->app, f->ref.experiment, f->ref.trial, f->ref.attempt);
    if (f->status != MAG_OK) {
        log_warn("worker", "event-file-failed", "error=%s", log_quote(f->err.text));
        if (r != NULL && r->board != NULL) {
            buf_add(&r->board->kept, f->bytes.data + f->head, f->bytes.len - f->head);
        }
    }
    free(f->key);
    buf_fini(&f->bytes);
    free(f);
}

static void submit(struct app *a, const struct wire_ref *ref, char *key_take, struct buf *bytes_take,
                   size_t head)
{
    struct file_task *f = xcalloc(1, sizeof(*f));
    f->task = (struct task){.work = file_work, .done = file_done};
    f->app = a;
    f->ref = *ref;
    f->key = key_take;
    f->bytes = *bytes_take;
    f->head = head;
    *bytes_take = (struct buf){0};
    background_submit(a->background, &f->task);
}

/* ---- the experiment's own file ---- */

/* One object, the same whoever writes it: the first run of the experiment on each worker does. */
static void tell_experiment(struct run *r)
{
    struct app *a = r->app;
    const json_t *about = r->grant.board;
    for (int i = 0; i < BOARDS_TOLD_MAX; i++) {
        if (a->boards_told[i] == r->grant.experiment) {
            return;
        }
    }
    a->boards_told[a->boards_next++ % BOARDS_TOLD_MAX] = r->grant.experiment;
    struct buf b = {0};
    const char *name = json_string_value(json_object_get(about, "name"));
    double wall = seconds(clock_wall_ms());
    tfevent_version(&b, wall);
    tfevent_experiment(&b, wall, name != NULL ? name : "", json_object_get(about, "space"),
                       json_object_get(about, "metrics"));
    submit(a, &(struct wire_ref){0},
           xasprintf("experiments/%" PRId64 "/tensorboard/" FILE_STEM "0.experiment",
                     r->grant.experiment),
           &b, b.len);
}

/* ---- points into records ---- */

static void drop_points(struct board *b)
{
    for (size_t i = 0; i < b->n_points; i++) {
        json_decref(b->points[i].metrics);
    }
    free(b->points);
    b->points = NULL;
    b->n_points = 0;
}

/* An older attempt may have told steps that come again now. */
static void add_restart(const struct run *r, struct buf *out, double wall)
{
    const struct board *b = r->board;
    if (r->grant.attempt > 1 && b->files == 0) {
        int64_t first = b->n_points > 0 ? b->points[0].step : b->last_step + 1;
        tfevent_restart(out, wall, first > 0 ? first : 0);
    }
}

/* Folds of a point are sessions of one group. */
static char *group_name(const struct run *r)
{
    if (r->grant.folds == 0) {
        return xasprintf("trial %" PRId64, r->grant.trial);
    }
    char sha[STORAGE_SHA256_HEX];
    char *params = mjson_dump(r->grant.params);
    storage_sha256(params, strlen(params), sha);
    free(params);
    return xasprintf("point %.12s", sha);
}

/* What is in no file yet, as one; *ret_head is the length of its first record. */
static void take_file(struct run *r, struct buf *out, size_t *ret_head)
{
    struct board *b = r->board;
    double wall = seconds(clock_wall_ms());
    tfevent_version(out, wall);
    *ret_head = out->len;
    buf_add(out, b->kept.data != NULL ? b->kept.data : "", b->kept.len);
    buf_fini(&b->kept);
    if (b->files == 0) {
        char *group = group_name(r);
        add_restart(r, out, wall);
        tfevent_session_start(out, seconds(r->started_ms), r->grant.params, group);
        free(group);
    }
    for (size_t i = 0; i < b->n_points; i++) {
        const struct board_point *p = &b->points[i];
        tfevent_scalars(out, seconds(p->wall_ms), p->step, p->metrics);
    }
    drop_points(b);
}

static char *next_key(struct run *r, const char *suffix)
{
    const struct wire_grant *g = &r->grant;
    return xasprintf("experiments/%" PRId64 "/trials/%" PRId64 "/tensorboard/" FILE_STEM
                     "%06" PRId64 ".%06" PRId64 "%s",
                     g->experiment, g->trial, g->attempt, r->board->files++, suffix);
}

static void publish(struct run *r)
{
    struct buf out = {0};
    size_t head = 0;
    const struct wire_ref ref = {.experiment = r->grant.experiment,
                                 .trial = r->grant.trial,
                                 .attempt = r->grant.attempt};
    take_file(r, &out, &head);
    submit(r->app, &ref, next_key(r, ""), &out, head);
}

static void schedule(const struct run *r)
{
    int64_t ms = (clock_wall_ms() - r->started_ms) / PUBLISH_SHARE;
    ms = ms < PUBLISH_MIN_MS ? PUBLISH_MIN_MS : ms > PUBLISH_MAX_MS ? PUBLISH_MAX_MS : ms;
    const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    (void)event_add(r->board->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    if (r->board->n_points > 0 || r->board->files == 0 || r->board->kept.len > 0) {
        publish(r);
    }
    schedule(r);
}

/* ---- from the run ---- */

static void add_point(struct board *b, int64_t step, int64_t wall_ms, json_t *metrics_take)
{
    b->points = xreallocarray(b->points, b->n_points + 1, sizeof(*b->points));
    b->points[b->n_points++] =
        (struct board_point){.step = step, .wall_ms = wall_ms, .metrics = metrics_take};
    b->last_step = step > b->last_step ? step : b->last_step;
}

/* What an older attempt left in the checkpoint. */
static void take_untold(struct run *r, const json_t *untold)
{
    size_t i = 0;
    const json_t *p = NULL;
    json_array_foreach(untold, i, p)
    {
        const json_t *metrics = json_array_get(p, 2);
        int64_t step = json_integer_value(json_array_get(p, 0));
        if (i < POINTS_MAX && json_is_object(metrics) && step >= 0 && step <= r->resume_step) {
            add_point(r->board, step, json_integer_value(json_array_get(p, 1)),
                      json_deep_copy(metrics));
        }
    }
}

void board_begin(struct run *r)
{
    if (r->grant.board == NULL || r->board != NULL) {
        return;
    }
    struct board *b = xcalloc(1, sizeof(*b));
    r->board = b;
    b->last_step = -1;
    b->timer = evtimer_new(r->app->base, on_timer, r);
    MAG_ASSERT(b->timer != NULL, "evtimer_new");
    take_untold(r, r->untold);
    if (r->resume_path != NULL) {
        b->last_step = r->resume_step;
    }
    tell_experiment(r);
    schedule(r);
}

void board_point(struct run *r, int64_t step, json_t *metrics)
{
    struct board *b = r->board;
    if (b == NULL || step <= b->last_step || json_object_size(metrics) == 0) {
        return;
    }
    add_point(b, step, clock_wall_ms(), json_incref(metrics));
    json_decref(b->last);
    b->last = json_incref(metrics);
    if (b->n_points >= POINTS_MAX) {
        publish(r);
    }
}

json_t *board_untold(const struct run *r)
{
    const struct board *b = r->board;
    if (b == NULL || b->n_points == 0) {
        return NULL;
    }
    json_t *all = json_array();
    for (size_t i = 0; i < b->n_points; i++) {
        const struct board_point *p = &b->points[i];
        (void)json_array_append_new(all, json_pack("[I, I, o]", (json_int_t)p->step,
                                                   (json_int_t)p->wall_ms,
                                                   json_deep_copy(p->metrics)));
    }
    return all;
}

/* Final values that no step has shown stand one step behind the last. */
static void add_final(struct run *r)
{
    struct board *b = r->board;
    const char *name = NULL;
    json_t *v = NULL;
    json_t *new = json_object();
    json_object_foreach(r->result.metrics, name, v)
    {
        if (!json_equal(v, json_object_get(b->last, name))) {
            (void)json_object_set(new, name, v);
        }
    }
    if (json_object_size(new) > 0) {
        int64_t step = b->last_step >= 0 ? b->last_step + 1 : r->grant.budget;
        add_point(b, step > 0 ? step : 1, clock_wall_ms(), json_incref(new));
        json_decref(b->last);
        b->last = json_incref(new);
    }
    json_decref(new);
}

static bool may_pass(const struct run *r)
{
    static const char *const passing[] = {"signal", "timeout", "out-of-memory"};
    bool passes = r->result.retry;
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        passes = passes || (r->result.cause != NULL && strcmp(r->result.cause, passing[i]) == 0);
    }
    return passes && json_integer_value(json_object_get(r->grant.limits, "retries")) > 0;
}

/* How the trial ended; UNKNOWN when it may go on. Readers keep the first answer. */
static enum tfevent_status status_of(const struct run *r)
{
    const char *s = r->result.status;
    if (r->late) {
        return TFEVENT_UNKNOWN;
    }
    if (strcmp(s, "failed") == 0) {
        return may_pass(r) ? TFEVENT_UNKNOWN : TFEVENT_FAILURE;
    }
    if (strcmp(s, "completed") == 0) {
        const json_t *v = json_object_get(r->board->last, r->grant.metric);
        return json_is_null(v) ? TFEVENT_FAILURE : TFEVENT_SUCCESS;
    }
    return strcmp(s, "stopped") == 0 ? TFEVENT_SUCCESS : TFEVENT_UNKNOWN;
}

char *board_end(struct run *r, struct buf *out)
{
    size_t head = 0;
    if (r->board == NULL) {
        return NULL;
    }
    add_final(r);
    enum tfevent_status status = status_of(r);
    take_file(r, out, &head);
    if (status != TFEVENT_UNKNOWN) {
        tfevent_session_end(out, seconds(r->ended_ms), status);
    }
    char *key = next_key(r, FILE_LAST);
    board_free(r);
    return key;
}

void board_free(struct run *r)
{
    struct board *b = r->board;
    if (b == NULL) {
        return;
    }
    event_free(b->timer);
    drop_points(b);
    buf_fini(&b->kept);
    json_decref(b->last);
    free(b);
    r->board = NULL;
}

/* ---- what an older attempt left ---- */

struct last_file {
    int64_t attempt;
    bool found;
};

static bool visit_file(void *arg, const char *name)
{
    struct last_file *l = arg;
    int64_t attempt = 0;
    size_t n = strlen(name);
    bool is_last = n > strlen(FILE_LAST) && strcmp(name + n - strlen(FILE_LAST), FILE_LAST) == 0;
    if (is_last && sscanf(name, FILE_STEM "%" SCNd64 ".", &attempt) == 1) {
        l->found = l->found || attempt == l->attempt;
    }
    return true;
}

/* Has that attempt said everything in its files? */
static bool has_last_file(struct storage *s, const char *trial_key, int64_t attempt)
{
    struct last_file l = {.attempt = attempt};
    char *dir = xasprintf("%s/tensorboard", trial_key);
    bool listed = storage_list(s, dir, visit_file, &l, NULL) == MAG_OK;
    free(dir);
    return listed && l.found;
}

json_t *board_untold_in(struct storage *s, const char *trial_key, const char *checkpoint_key,
                        int64_t trial)
{
    char *key = xasprintf("%s/manifest.json", checkpoint_key);
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    json_t *untold = NULL;
    if (storage_get(s, key, STORAGE_OBJECT_MAX, &text, &len, NULL) == MAG_OK &&
        mjson_parse(text, len, &doc, NULL) == MAG_OK &&
        json_integer_value(json_object_get(doc, "trial")) == trial) {
        untold = json_incref(json_object_get(doc, MANIFEST_KEY));
    }
    if (json_array_size(untold) > 0 &&
        has_last_file(s, trial_key, json_integer_value(json_object_get(doc, "attempt")))) {
        json_decref(untold);
        untold = NULL;
    }
    json_decref(doc);
    free(text);
    free(key);
    return untold;
}
