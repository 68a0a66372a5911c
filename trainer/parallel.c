/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

struct loop {
    parallel_fn fn;
    void *ctx;
    uint32_t n;
    pthread_mutex_t lock;
    uint32_t next;   /* guarded by `lock`, as what follows */
    uint32_t failed; /* the lowest that failed, n = none */
    enum mag_status status;
    struct mag_err err;
};

static uint32_t take(struct loop *l)
{
    (void)pthread_mutex_lock(&l->lock);
    uint32_t i = l->failed < l->n ? l->n : l->next;
    l->next += i < l->n;
    (void)pthread_mutex_unlock(&l->lock);
    return i;
}

static void fail(struct loop *l, uint32_t i, enum mag_status st, const struct mag_err *err)
{
    (void)pthread_mutex_lock(&l->lock);
    if (i < l->failed) {
        l->failed = i;
        l->status = st;
        l->err = *err;
    }
    (void)pthread_mutex_unlock(&l->lock);
}

static void *work(void *arg)
{
    struct loop *l = arg;
    for (uint32_t i = 0; (i = take(l)) < l->n;) {
        struct mag_err err = {0};
        enum mag_status st = l->fn(l->ctx, i, &err);
        if (st != MAG_OK) {
            fail(l, i, st, &err);
        }
    }
    return NULL;
}

int parallel_threads(void)
{
    const char *told = getenv("OMP_NUM_THREADS");
    cpu_set_t set;
    CPU_ZERO(&set);
    long n = told != NULL ? strtol(told, NULL, 10) : 0;
    if (n <= 0) {
        n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    return n < 1 ? 1 : n < PARALLEL_MAX ? (int)n : PARALLEL_MAX;
}

enum mag_status parallel_each(uint32_t n, int threads, parallel_fn fn, void *ctx,
                              struct mag_err *err)
{
    struct loop l = {.fn = fn, .ctx = ctx, .n = n, .failed = n};
    pthread_t others[PARALLEL_MAX];
    int started = 0;
    sigset_t all;
    sigset_t before;
    (void)pthread_mutex_init(&l.lock, NULL);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the other threads */
    for (int i = 1; i < threads && i < PARALLEL_MAX && (uint32_t)i < n; i++) {
        started += pthread_create(&others[started], NULL, work, &l) == 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)work(&l);
    for (int i = 0; i < started; i++) {
        (void)pthread_join(others[i], NULL);
    }
    (void)pthread_mutex_destroy(&l.lock);
    return l.failed == n ? MAG_OK : mag_fail(err, l.status, "%s", l.err.text);
}
