/* SPDX-License-Identifier: Apache-2.0
 *
 * Three queues under one mutex: `todo` and `low` (loop pushes, thread takes, `todo` first) and
 * `finished` (the other way).
 */
#include "worker/background.h"

#include "base/alloc.h"
#include "base/err.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct background {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list_node todo;
    struct list_node low;
    struct list_node finished;
    bool stop;
    int pending; /* loop thread */
    struct event *event;
};

static void *run(void *arg)
{
    struct background *b = arg;
    (void)pthread_mutex_lock(&b->lock);
    for (;;) {
        while (list_is_empty(&b->todo) && list_is_empty(&b->low) && !b->stop) {
            (void)pthread_cond_wait(&b->wake, &b->lock);
        }
        struct list_node *n = list_first(list_is_empty(&b->todo) ? &b->low : &b->todo);
        if (n == NULL) {
            break;
        }
        list_remove(n);
        (void)pthread_mutex_unlock(&b->lock);
        struct task *t = container_of(n, struct task, node);
        t->work(t);
        (void)pthread_mutex_lock(&b->lock);
        list_append(&b->finished, n);
        event_active(b->event, EV_READ, 0);
    }
    (void)pthread_mutex_unlock(&b->lock);
    return NULL;
}

static void take_finished(struct background *b)
{
    for (;;) {
        (void)pthread_mutex_lock(&b->lock);
        struct list_node *n = list_first(&b->finished);
        if (n != NULL) {
            list_remove(n);
        }
        (void)pthread_mutex_unlock(&b->lock);
        if (n == NULL) {
            return;
        }
        b->pending--;
        struct task *t = container_of(n, struct task, node);
        t->done(t);
    }
}

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    take_finished(arg);
}

struct background *background_start(struct event_base *base)
{
    struct background *b = xcalloc(1, sizeof(*b));
    list_init(&b->todo);
    list_init(&b->low);
    list_init(&b->finished);
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->wake, NULL);
    b->event = event_new(base, -1, EV_PERSIST, on_finished, b);
    MAG_ASSERT(b->event != NULL, "event_new");
    /* Signals are the loop thread's. */
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int rv = pthread_create(&b->thread, NULL, run, b);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    MAG_ASSERT(rv == 0, "pthread_create: %d", rv);
    return b;
}

static void push(struct background *b, struct list_node *queue, struct task *t)
{
    b->pending++;
    (void)pthread_mutex_lock(&b->lock);
    list_append(queue, &t->node);
    (void)pthread_cond_signal(&b->wake);
    (void)pthread_mutex_unlock(&b->lock);
}

void background_submit(struct background *b, struct task *t)
{
    push(b, &b->todo, t);
}

void background_submit_low(struct background *b, struct task *t)
{
    push(b, &b->low, t);
}

int background_pending(const struct background *b)
{
    return b->pending;
}

void background_stop(struct background *b)
{
    if (b == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&b->lock);
    b->stop = true;
    (void)pthread_cond_signal(&b->wake);
    (void)pthread_mutex_unlock(&b->lock);
    (void)pthread_join(b->thread, NULL);
    take_finished(b);
    event_free(b->event);
    (void)pthread_cond_destroy(&b->wake);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}
