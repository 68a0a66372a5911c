/* SPDX-License-Identifier: Apache-2.0
 *
 * The turn: everything that came in is applied, the rows of the turn become one batch, the batch
 * one commit, and only then do its replies leave. While the store commits batch n, the loop
 * collects batch n + 1; there are never more than these two. No reply is sent for what is not
 * durable.
 */
#include "driver/driver_internal.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "driver/notify.h"
#include "driver/quota.h"
#include "driver/rest.h"
#include "driver/sse.h"
#include "driver/think.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void arm_turn(struct driver *d)
{
    event_active(d->turn, EV_TIMEOUT, 0);
}

int64_t loop_next_seq(struct driver *d)
{
    return ++d->commit_seq;
}

void loop_mark_dirty(struct driver *d, struct experiment *x)
{
    if (!list_is_linked(&x->dirty)) {
        list_append(&d->dirty, &x->dirty);
        arm_turn(d);
    }
}

void loop_collected(struct driver *d, struct experiment *x)
{
    if (store_batch_rows(d->batch) == 1) {
        d->batch_since_ns = clock_mono_ns();
        arm_turn(d);
    }
    if (x != NULL) {
        x->unsaved = d->commit + 1;
    }
}

/* ---- commits ---- */

/* On the store's thread. */
static void on_done(void *arg, uint64_t commit, enum mag_status st, const char *text)
{
    struct driver *d = arg;
    d->done_status = st;
    (void)snprintf(d->done_text, sizeof(d->done_text), "%s", text != NULL ? text : "");
    uint64_t one = 1;
    while (write(d->done_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

static void splice(struct list_node *to, struct list_node *from)
{
    for (struct list_node *n; (n = list_first(from)) != NULL;) {
        list_remove(n);
        list_append(to, n);
    }
}

static void fly(struct driver *d)
{
    d->flying = true;
    d->flying_seq = d->commit_seq;
    d->flying_since_ns = clock_mono_ns();
    splice(&d->flying_replies, &d->next_replies);
    struct store_batch *b = d->batch;
    d->batch = store_batch_create();
    store_commit_take(d->store, b, ++d->commit, on_done, d);
}

static void hand_over(struct driver *d)
{
    if (!d->flying && !d->read_only && !store_batch_is_empty(d->batch)) {
        fly(d);
    }
}

static void run_replies(struct list_node *replies, bool ok)
{
    for (struct list_node *n; (n = list_first(replies)) != NULL;) {
        list_remove(n);
        struct deferred *df = container_of(n, struct deferred, node);
        df->fn(df, ok);
    }
}

static void enter_read_only(struct driver *d)
{
    d->read_only = true;
    (void)snprintf(d->read_only_why, sizeof(d->read_only_why), "%s", d->done_text);
    log_error("driver", "read-only", "commit=%llu reason=%s", (unsigned long long)d->commit,
              log_quote(d->read_only_why));
    store_batch_destroy(d->batch);
    d->batch = store_batch_create();
    struct list_node failed;
    list_init(&failed);
    splice(&failed, &d->flying_replies);
    splice(&failed, &d->next_replies);
    run_replies(&failed, false);
    record_rebuild(d);
    sse_reset(d->sse);
    (void)event_add(d->probe, &(struct timeval){.tv_sec = DRIVER_PROBE_MS / 1000});
}

static void leave_read_only(struct driver *d)
{
    d->read_only = false;
    log_info("driver", "writable", "after=%s", log_quote(d->read_only_why));
    for (struct experiment *x = record_next(d, NULL); x != NULL; x = record_next(d, x)) {
        loop_mark_dirty(d, x);
    }
}

/* While the store cannot be written: an empty batch tries it. */
static void on_probe(evutil_socket_t fd, short what, void *arg)
{
    struct driver *d = arg;
    if (!d->flying) {
        d->probing = true;
        fly(d);
    }
}

static void probe_ended(struct driver *d, bool ok)
{
    d->probing = false;
    if (ok) {
        leave_read_only(d);
    } else {
        (void)event_add(d->probe, &(struct timeval){.tv_sec = DRIVER_PROBE_MS / 1000});
    }
}

static void commit_ended(struct driver *d)
{
    d->flying = false;
    bool ok = d->done_status == MAG_OK;
    d->stats.commit_ns += (uint64_t)(clock_mono_ns() - d->flying_since_ns);
    d->stats.commits += ok;
    d->stats.commit_failures += !ok;
    if (d->probing) {
        probe_ended(d, ok);
        return;
    }
    if (!ok) {
        enter_read_only(d);
        return;
    }
    d->durable_seq = d->flying_seq;
    if (store_batch_is_empty(d->batch)) {
        d->n_deleted = 0;
    }
    (void)fault_hit("driver.reply");
    /* These replies first into a list of their own: the store goes on with the next batch while
     * they are written. */
    struct list_node ready;
    list_init(&ready);
    splice(&ready, &d->flying_replies);
    hand_over(d);
    run_replies(&ready, true);
}

static void on_committed(evutil_socket_t fd, short what, void *arg)
{
    struct driver *d = arg;
    uint64_t n = 0;
    if (read(d->done_fd, &n, sizeof(n)) == (ssize_t)sizeof(n)) {
        commit_ended(d);
    }
}

void driver_after_commit(struct driver *d, struct deferred *df)
{
    MAG_ON_LOOP(d);
    if (!store_batch_is_empty(d->batch)) {
        list_append(&d->next_replies, &df->node);
    } else if (d->flying && !d->probing) {
        list_append(&d->flying_replies, &df->node);
    } else {
        df->fn(df, true);
    }
}

void driver_forget(struct driver *d, struct deferred *df)
{
    MAG_ON_LOOP(d);
    list_remove(&df->node);
}

/* ---- applying ---- */

enum mag_status driver_apply(struct driver *d, struct experiment *x, struct event *ev,
                             struct mag_err *err)
{
    MAG_ON_LOOP(d);
    if (d->read_only) {
        return mag_fail(err, MAG_UNSUPPORTED,
                        "the driver serves reads only, its store cannot be written: %s",
                        d->read_only_why);
    }
    if (x->broken != NULL) {
        return mag_fail(err, MAG_CONFLICT, "the experiment's record cannot be replayed: %s",
                        x->broken);
    }
    if (x->thinking) {
        think_wait(d->think, x);
    }
    ev->wall_ms = clock_wall_ms();
    enum mag_status st = study_apply(x->study, ev, clock_mono_ns(), err);
    if (st != MAG_OK || ev->seq == 0) {
        return st;
    }
    static struct buf text; /* loop thread only; kept for its memory */
    buf_reset(&text);
    event_encode(ev, x->dims, &text);
    struct store_event row = {
        .experiment = x->id,
        .seq = ev->seq,
        .commit_seq = loop_next_seq(d),
        .kind = ev->kind,
        .trial = ev->trial,
        .wall_ms = ev->wall_ms,
        .up_ms = ev->up_ms,
        .text = text.data,
        .text_len = (int)text.len,
    };
    store_batch_event(d->batch, &row);
    d->stats.events++;
    loop_collected(d, x);
    loop_mark_dirty(d, x);
    sse_note(d->sse, x, ev, row.commit_seq);
    quota_note(d, x);
    return MAG_OK;
}

/* ---- the turn's end ---- */

static void look_at(struct driver *d, struct experiment *x)
{
    if (x->broken != NULL) {
        return;
    }
    rest_serve_waiters(d, x);
    notify_look(d, x);
    int64_t due = study_deadline(x->study);
    if (due == INT64_MAX) {
        heap_remove(&d->deadlines, &x->deadline);
    } else if (!heap_has(&x->deadline) || x->deadline.key != due) {
        heap_put(&d->deadlines, &x->deadline, due);
    }
}

static void arm_tick(struct driver *d)
{
    int64_t now = clock_mono_ns();
    int64_t due = now + DRIVER_TICK_MS * MAG_NS_PER_MS;
    struct heap_node *first = heap_min(&d->deadlines);
    if (first != NULL && first->key < due) {
        due = first->key > now ? first->key : now;
    }
    d->tick_due_ns = due;
    int64_t us = (due - now + 999) / 1000;
    (void)event_add(d->tick, &(struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000});
}

static void turn_end(evutil_socket_t fd, short what, void *arg)
{
    struct driver *d = arg;
    if (!list_is_empty(&d->dirty)) {
        for (int i = 0; i < d->n_turn_fns; i++) {
            d->turn_fn[i](d->turn_arg[i]);
        }
    }
    int64_t due = heap_min(&d->deadlines) != NULL ? heap_min(&d->deadlines)->key : INT64_MAX;
    for (struct list_node *n; (n = list_first(&d->dirty)) != NULL;) {
        struct experiment *x = container_of(n, struct experiment, dirty);
        /* Out of the list first: serving a held ask may change it again, then it is looked at
         * again. */
        list_remove(n);
        look_at(d, x);
    }
    hand_over(d);
    struct heap_node *first = heap_min(&d->deadlines);
    if (first != NULL && first->key < due && first->key < d->tick_due_ns) {
        arm_tick(d);
    }
}

void loop_between(struct driver *d)
{
    if (!d->flying && !store_batch_is_empty(d->batch) &&
        (store_batch_rows(d->batch) >= DRIVER_BATCH_EVENTS ||
         clock_mono_ns() - d->batch_since_ns > DRIVER_BATCH_NS)) {
        hand_over(d);
    }
}

/* ---- deadlines ---- */

static void expire(struct driver *d, struct experiment *x, int64_t now)
{
    struct event ev;
    while (study_tick(x->study, now, &ev)) {
        struct mag_err err = {0};
        enum mag_status st = driver_apply(d, x, &ev, &err);
        enum event_kind kind = ev.kind;
        int64_t trial = ev.trial;
        event_fini(&ev);
        if (st != MAG_OK) {
            log_error("driver", "tick-refused", "experiment=%lld event=%s trial=%lld reason=%s",
                      (long long)x->id, event_kind_name(kind), (long long)trial,
                      log_quote(err.text));
            return;
        }
    }
}

/* Answers of idempotent requests are kept for a day. */
static void forget_requests(struct driver *d, int64_t now)
{
    if (now - d->forgot_ns < DRIVER_FORGET_NS) {
        return;
    }
    d->forgot_ns = now;
    for (struct experiment *x = driver_next(d, NULL); x != NULL; x = driver_next(d, x)) {
        study_forget_requests(x->study, clock_wall_ms());
    }
}

/* Runs when all pending I/O was applied: a message that waits in a socket keeps its lease alive. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct driver *d = arg;
    int64_t now = clock_mono_ns();
    int64_t late = now - d->tick_due_ns;
    if (late > DRIVER_LATE_NS) {
        /* We stood still, and so perhaps did the messages that renew leases. */
        log_warn("driver", "late", "ms=%lld", (long long)(late / MAG_NS_PER_MS));
        d->stats.turns_late++;
        for (struct experiment *x = driver_next(d, NULL); x != NULL; x = driver_next(d, x)) {
            study_delay(x->study, late);
            loop_mark_dirty(d, x);
        }
    } else if (!d->read_only) {
        struct heap_node *n;
        for (int i = 0; i < 1000 && (n = heap_min(&d->deadlines)) != NULL && n->key <= now; i++) {
            struct experiment *x = container_of(n, struct experiment, deadline);
            heap_remove(&d->deadlines, n);
            if (x->thinking) {
                continue; /* what would keep its leases alive may be parked: looked at afterwards */
            }
            expire(d, x, now);
            loop_mark_dirty(d, x);
        }
    }
    forget_requests(d, now);
    arm_tick(d);
}

void driver_on_turn_end(struct driver *d, driver_turn_fn fn, void *arg)
{
    size_t room = sizeof(d->turn_fn) / sizeof(d->turn_fn[0]);
    MAG_ASSERT((size_t)d->n_turn_fns < room, "too many turn functions");
    d->turn_fn[d->n_turn_fns] = fn;
    d->turn_arg[d->n_turn_fns++] = arg;
}

/* ---- start and end ---- */

static struct event *make_event(struct driver *d, int fd, short what, event_callback_fn fn,
                                int priority)
{
    struct event *ev = event_new(d->base, fd, what, fn, d);
    MAG_ASSERT(ev != NULL && event_priority_set(ev, priority) == 0, "no event");
    return ev;
}

enum mag_status loop_start(struct driver *d, struct mag_err *err)
{
    d->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->done_fd < 0) {
        return mag_fail(err, MAG_IO, "eventfd: %s", strerror(errno));
    }
    d->turn = make_event(d, -1, 0, turn_end, PRIORITY_TURN);
    d->tick = make_event(d, -1, 0, on_tick, PRIORITY_TICK);
    d->probe = make_event(d, -1, 0, on_probe, PRIORITY_IO);
    d->committed = make_event(d, d->done_fd, EV_READ | EV_PERSIST, on_committed, PRIORITY_COMMIT);
    (void)event_add(d->committed, NULL);
    d->batch = store_batch_create();
    arm_tick(d);
    return MAG_OK;
}

void loop_drain(struct driver *d)
{
    while (d->flying || (!d->read_only && !store_batch_is_empty(d->batch))) {
        if (!d->flying) {
            fly(d);
        }
        (void)event_base_loop(d->base, EVLOOP_ONCE);
    }
}

void loop_stop(struct driver *d)
{
    struct event **all[] = {&d->turn, &d->tick, &d->probe, &d->committed};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (*all[i] != NULL) {
            event_free(*all[i]);
            *all[i] = NULL;
        }
    }
    store_batch_destroy(d->batch);
    d->batch = NULL;
    if (d->done_fd > 0) {
        (void)close(d->done_fd);
        d->done_fd = -1;
    }
    heap_fini(&d->deadlines);
}
