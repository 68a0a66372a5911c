/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/reader.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct reader {
    struct driver *d;
    struct event *wake_loop;
    int done_fd;
    pthread_t thread;

    /* under `lock`; it is never held while a job runs */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list_node waiting, finished; /* struct reader_job */
    int n_waiting;
    bool closing;
};

static struct reader_job *next_job(struct reader *r)
{
    (void)pthread_mutex_lock(&r->lock);
    while (list_is_empty(&r->waiting) && !r->closing) {
        (void)pthread_cond_wait(&r->wake, &r->lock);
    }
    struct reader_job *job = NULL;
    if (!r->closing) {
        job = container_of(list_first(&r->waiting), struct reader_job, node);
        list_remove(&job->node);
        r->n_waiting--;
    }
    (void)pthread_mutex_unlock(&r->lock);
    return job;
}

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    struct store_reader *store = NULL;
    struct reader_job *job = NULL;
    (void)pthread_setname_np(pthread_self(), "reader");
    while ((job = next_job(r)) != NULL) {
        struct mag_err err = {0};
        if (store == NULL && store_reader_open(driver_store(r->d), &store, &err) != MAG_OK) {
            store = NULL;
        }
        job->run(job, store, &err);
        (void)pthread_mutex_lock(&r->lock);
        list_append(&r->finished, &job->node);
        (void)pthread_mutex_unlock(&r->lock);
        uint64_t one = 1;
        while (write(r->done_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
        }
    }
    store_reader_close(store);
    return NULL;
}

static void finish(struct reader *r, struct list_node *list)
{
    for (;;) {
        (void)pthread_mutex_lock(&r->lock);
        struct list_node *n = list_first(list);
        if (n != NULL) {
            list_remove(n);
        }
        (void)pthread_mutex_unlock(&r->lock);
        if (n == NULL) {
            return;
        }
        struct reader_job *job = container_of(n, struct reader_job, node);
        job->done(job);
    }
}

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
    struct reader *r = arg;
    uint64_t n = 0;
    if (read(r->done_fd, &n, sizeof(n)) == (ssize_t)sizeof(n)) {
        finish(r, &r->finished);
    }
}

bool reader_push(struct reader *r, struct reader_job *job)
{
    (void)pthread_mutex_lock(&r->lock);
    bool room = r->n_waiting < READER_JOBS_MAX && !r->closing;
    if (room) {
        list_append(&r->waiting, &job->node);
        r->n_waiting++;
        (void)pthread_cond_signal(&r->wake);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return room;
}

enum mag_status reader_start(struct reader **ret, struct driver *d, struct mag_err *err)
{
    struct reader *r = xcalloc(1, sizeof(*r));
    r->d = d;
    list_init(&r->waiting);
    list_init(&r->finished);
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_cond_init(&r->wake, NULL);
    r->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->wake_loop = event_new(d->base, r->done_fd, EV_READ | EV_PERSIST, on_finished, r);
    if (r->done_fd < 0 || r->wake_loop == NULL || event_add(r->wake_loop, NULL) != 0 ||
        pthread_create(&r->thread, NULL, reader_main, r) != 0) {
        enum mag_status st = mag_fail(err, MAG_NOMEM, "no reader thread: %s", strerror(errno));
        if (r->wake_loop != NULL) {
            event_free(r->wake_loop);
        }
        free(r);
        return st;
    }
    *ret = r;
    return MAG_OK;
}

void reader_stop(struct reader *r)
{
    if (r == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&r->lock);
    r->closing = true;
    (void)pthread_cond_signal(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
    (void)pthread_join(r->thread, NULL);
    finish(r, &r->finished);
    finish(r, &r->waiting);
    event_free(r->wake_loop);
    (void)close(r->done_fd);
    (void)pthread_mutex_destroy(&r->lock);
    (void)pthread_cond_destroy(&r->wake);
    free(r);
}
