/* SPDX-License-Identifier: Apache-2.0
 *
 * Between loop and thread there is one slot, `job`: the loop puts a thought in and takes it out
 * when `done` is set; the thread reads the thought and, through it, the optimizer of a study to
 * which nobody applies anything. Everything else here is the loop's.
 */
#include "driver/think.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "driver/driver_internal.h"
#include "driver/rest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct think {
    struct driver *d;
    struct event *start; /* begins the next thought at the turn's end: its events come first */
    struct event *wake;
    int done_fd;
    struct list_node wanting;   /* struct experiment, in the order of asking */
    struct list_node left;      /* struct parked, whose suggestion was waited for */
    struct experiment *current; /* whose study the thread reads, NULL = none */
    int64_t since_ns;
    bool draining;
    struct think_stats stats;

    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t given, finished;
    struct thought *job; /* under `lock`, as the next two */
    bool done;           /* `job` is computed */
    bool closing;
};

/* ---- the thread ---- */

static struct thought *next_job(struct think *t)
{
    (void)pthread_mutex_lock(&t->lock);
    while ((t->job == NULL || t->done) && !t->closing) {
        (void)pthread_cond_wait(&t->given, &t->lock);
    }
    struct thought *job = t->closing ? NULL : t->job;
    (void)pthread_mutex_unlock(&t->lock);
    return job;
}

static void *think_main(void *arg)
{
    struct think *t = arg;
    struct thought *job = NULL;
    (void)pthread_setname_np(pthread_self(), "optimizer");
    while ((job = next_job(t)) != NULL) {
        (void)fault_hit("driver.think");
        study_thought_run(job);
        (void)pthread_mutex_lock(&t->lock);
        t->done = true;
        (void)pthread_cond_signal(&t->finished);
        (void)pthread_mutex_unlock(&t->lock);
        uint64_t one = 1;
        while (write(t->done_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
        }
    }
    return NULL;
}

/* ---- the loop's side ---- */

static void begin(struct think *t, struct experiment *x)
{
    t->current = x;
    x->thinking = true;
    t->since_ns = clock_mono_ns();
    struct thought *job = study_thought(x->study);
    (void)pthread_mutex_lock(&t->lock);
    t->job = job;
    t->done = false;
    (void)pthread_cond_signal(&t->given);
    (void)pthread_mutex_unlock(&t->lock);
}

static bool is_done(struct think *t)
{
    (void)pthread_mutex_lock(&t->lock);
    bool done = t->job != NULL && t->done;
    (void)pthread_mutex_unlock(&t->lock);
    return done;
}

/* The study gets its suggestion; waits for it where need be. */
static struct experiment *take(struct think *t)
{
    struct experiment *x = t->current;
    (void)pthread_mutex_lock(&t->lock);
    while (!t->done) {
        (void)pthread_cond_wait(&t->finished, &t->lock);
    }
    struct thought *job = t->job;
    t->job = NULL;
    (void)pthread_mutex_unlock(&t->lock);
    study_thought_take(x->study, job);
    x->thinking = false;
    t->current = NULL;
    t->stats.thoughts++;
    t->stats.think_ns += (uint64_t)(clock_mono_ns() - t->since_ns);
    return x;
}

static void splice(struct list_node *to, struct list_node *from)
{
    for (struct list_node *n; (n = list_first(from)) != NULL;) {
        list_remove(n);
        list_append(to, n);
    }
}

static void let_go(struct think *t, struct list_node *parked, bool ok)
{
    struct list_node all;
    list_init(&all);
    splice(&all, parked); /* what goes on may delete the experiment */
    for (struct list_node *n; (n = list_first(&all)) != NULL;) {
        list_remove(n);
        struct parked *p = container_of(n, struct parked, node);
        p->fn(p, ok);
        loop_between(t->d);
    }
}

static void on_start(evutil_socket_t fd, short what, void *arg)
{
    struct think *t = arg;
    let_go(t, &t->left, true);
    for (struct list_node *n; t->current == NULL && (n = list_first(&t->wanting)) != NULL;) {
        struct experiment *x = container_of(n, struct experiment, wanting);
        list_remove(n);
        if (!t->draining && x->broken == NULL && study_must_think(x->study)) {
            begin(t, x);
        } else {
            loop_mark_dirty(t->d, x); /* nothing to wait for: held asks look again */
        }
    }
}

/* The asks come first, for whom the suggestion was made; then what waited behind it. */
static void on_done(evutil_socket_t fd, short what, void *arg)
{
    struct think *t = arg;
    struct driver *d = t->d;
    uint64_t n = 0;
    if (read(t->done_fd, &n, sizeof(n)) != (ssize_t)sizeof(n) || t->current == NULL ||
        !is_done(t)) {
        return; /* it was waited for */
    }
    struct experiment *x = take(t);
    loop_mark_dirty(d, x);
    rest_serve_waiters(d, x);
    if (d->pool != NULL) {
        pool_serve(d->pool);
    }
    let_go(t, &x->parked, true);
    event_active(t->start, EV_TIMEOUT, 0);
}

void driver_think(struct driver *d, struct experiment *x)
{
    MAG_ON_LOOP(d);
    if (!x->thinking && !list_is_linked(&x->wanting) && !d->think->draining) {
        list_append(&d->think->wanting, &x->wanting);
        event_active(d->think->start, EV_TIMEOUT, 0);
    }
}

bool driver_is_thinking(const struct experiment *x)
{
    return x->thinking;
}

bool driver_awaits_thought(const struct experiment *x)
{
    return x->thinking || list_is_linked(&x->wanting);
}

void driver_park(struct driver *d, struct experiment *x, struct parked *p)
{
    MAG_ON_LOOP(d);
    MAG_ASSERT(x->thinking, "experiment %lld", (long long)x->id);
    list_append(&x->parked, &p->node);
    d->think->stats.parked++;
}

void think_wait(struct think *t, struct experiment *x)
{
    if (!x->thinking) {
        return;
    }
    (void)take(t);
    t->stats.waits++;
    loop_mark_dirty(t->d, x);
    splice(&t->left, &x->parked);
    event_active(t->start, EV_TIMEOUT, 0);
}

void think_wait_any(struct think *t)
{
    if (t->current != NULL) {
        think_wait(t, t->current);
    }
}

void think_forget(struct think *t, struct experiment *x)
{
    if (t == NULL) {
        return;
    }
    think_wait(t, x);
    list_remove(&x->wanting);
}

const struct think_stats *think_stats(const struct think *t)
{
    return &t->stats;
}

/* ---- start and end ---- */

enum mag_status think_start(struct think **ret, struct driver *d, struct mag_err *err)
{
    struct think *t = xcalloc(1, sizeof(*t));
    t->d = d;
    list_init(&t->wanting);
    list_init(&t->left);
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_cond_init(&t->given, NULL);
    (void)pthread_cond_init(&t->finished, NULL);
    t->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t->start = event_new(d->base, -1, 0, on_start, t);
    t->wake = event_new(d->base, t->done_fd, EV_READ | EV_PERSIST, on_done, t);
    MAG_ASSERT(t->start != NULL && t->wake != NULL, "event_new");
    (void)event_priority_set(t->start, PRIORITY_TURN);
    bool ok = t->done_fd >= 0 && event_add(t->wake, NULL) == 0;
    t->has_thread = ok && pthread_create(&t->thread, NULL, think_main, t) == 0;
    if (!t->has_thread) {
        enum mag_status st = mag_fail(err, MAG_NOMEM, "no optimizer thread: %s", strerror(errno));
        think_stop(t);
        return st;
    }
    *ret = t;
    return MAG_OK;
}

void think_drain(struct think *t)
{
    t->draining = true;
    think_wait_any(t);
    let_go(t, &t->left, true);
}

void think_stop(struct think *t)
{
    if (t == NULL) {
        return;
    }
    if (t->has_thread) {
        think_wait_any(t);
        let_go(t, &t->left, false);
        (void)pthread_mutex_lock(&t->lock);
        t->closing = true;
        (void)pthread_cond_signal(&t->given);
        (void)pthread_mutex_unlock(&t->lock);
        (void)pthread_join(t->thread, NULL);
    }
    for (struct list_node *n; (n = list_first(&t->wanting)) != NULL;) {
        list_remove(n);
    }
    event_free(t->start);
    event_free(t->wake);
    if (t->done_fd >= 0) {
        (void)close(t->done_fd);
    }
    (void)pthread_mutex_destroy(&t->lock);
    (void)pthread_cond_destroy(&t->given);
    (void)pthread_cond_destroy(&t->finished);
    free(t);
}
