/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/feed.h"

#include "base/alloc.h"
#include "base/log.h"
#include "trainer/team.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct feed {
    struct feed_options o;
    struct feed_lane lanes[BACKEND_LANES_MAX];
    struct augment_row *changes; /* of a batch of each lane; the thread's, where there is one */
    int n;                       /* lanes of the epoch */
    uint32_t n_rows, n_batches;
    size_t width;

    /* The ring: `slots` batches of [lanes][rows][width] floats; NULL = nothing is made ahead. What
     * follows is guarded by `lock`, but for a slot that one of the two has. */
    float *ring;
    uint32_t slots;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    bool dropped[BACKEND_LANES_MAX];
    bool busy, quit;
    uint32_t made;  /* batches of the epoch that were made ready */
    uint32_t taken; /* and that were handed out, the last of which is in use */
    uint32_t given; /* of which the ring may take the places again */
};

/* ---- a batch ---- */

/* Rows of the batch `number`, and which of them are this process's. */
static int rows_of(const struct feed *f, uint32_t number, uint32_t *first, uint32_t *own)
{
    uint32_t left = f->n_rows - number * (uint32_t)f->o.batch_size;
    uint32_t n = left < (uint32_t)f->o.batch_size ? left : (uint32_t)f->o.batch_size;
    team_share(f->o.team, n, first, own);
    return (int)n;
}

/* How the images of n rows of a batch are changed; NULL = not at all. */
static const struct augment_row *draw(const struct feed *f, int lane, uint32_t number,
                                      uint32_t first, uint32_t n)
{
    const struct feed_lane *l = &f->lanes[lane];
    if (!augment_any(l->augmentation)) {
        return NULL;
    }
    struct augment_row *rows = f->changes + (size_t)lane * (size_t)f->o.batch_size;
    struct augment_stream stream = l->stream;
    stream.batch += number;
    stream.first_row = (int)first;
    augment_draw(l->augmentation, &stream, &f->o.shape, rows, (int)n);
    return rows;
}

static float *slot_of(const struct feed *f, uint32_t number, int lane)
{
    size_t at = (number % f->slots) * (size_t)f->o.lanes + (size_t)lane;
    return f->ring + at * (size_t)f->o.batch_size * f->width;
}

static void gather(const struct feed *f, int lane, uint32_t number)
{
    uint32_t first = 0;
    uint32_t n = 0;
    (void)rows_of(f, number, &first, &n);
    const uint32_t *rows = f->lanes[lane].rows + (size_t)number * (size_t)f->o.batch_size + first;
    const struct augment_row *changes = draw(f, lane, number, first, n);
    float *to = slot_of(f, number, lane);
    dataset_gather(f->o.d, rows, (int)n, to);
    if (changes != NULL) {
        augment_images(changes, &f->o.shape, to, (int)n);
    }
}

/* ---- the thread ---- */

static bool has_work_locked(const struct feed *f)
{
    return f->made < f->n_batches && f->made - f->given < f->slots;
}

static void make_next_locked(struct feed *f)
{
    bool dropped[BACKEND_LANES_MAX];
    const uint32_t number = f->made;
    memcpy(dropped, f->dropped, sizeof(dropped));
    f->busy = true;
    (void)pthread_mutex_unlock(&f->lock);
    for (int lane = 0; lane < f->n; lane++) {
        if (!dropped[lane]) {
            gather(f, lane, number);
        }
    }
    (void)pthread_mutex_lock(&f->lock);
    f->busy = false;
    f->made++;
    (void)pthread_cond_signal(&f->ready);
}

static void *run(void *arg)
{
    struct feed *f = arg;
    (void)pthread_mutex_lock(&f->lock);
    while (!f->quit) {
        if (has_work_locked(f)) {
            make_next_locked(f);
        } else {
            (void)pthread_cond_wait(&f->work, &f->lock);
        }
    }
    (void)pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* Signals are for the other threads. */
static bool start_thread(struct feed *f)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_cond_init(&f->work, NULL);
    (void)pthread_cond_init(&f->ready, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = pthread_create(&f->thread, NULL, run, f) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (good) {
        (void)pthread_setname_np(f->thread, "magpie-feed");
    } else {
        (void)pthread_cond_destroy(&f->ready);
        (void)pthread_cond_destroy(&f->work);
        (void)pthread_mutex_destroy(&f->lock);
    }
    return good;
}

/* ---- life ---- */

struct feed *feed_create(const struct feed_options *o)
{
    struct feed *f = xcalloc(1, sizeof(*f));
    *f = (struct feed){.o = *o, .width = (size_t)shape_size(&o->shape)};
    f->changes = xcalloc((size_t)o->lanes * (size_t)o->batch_size, sizeof(*f->changes));
    if (o->ahead == 0) {
        return f;
    }
    f->slots = (uint32_t)o->ahead + 1; /* one is being trained on */
    f->ring = mag_try_alloc((size_t)f->slots * (size_t)o->lanes * (size_t)o->batch_size,
                            f->width * sizeof(*f->ring));
    if (f->ring != NULL && !start_thread(f)) {
        free(f->ring);
        f->ring = NULL;
    }
    if (f->ring == NULL) {
        log_warn("trainer", "no-prefetch", "reason=\"no memory or no thread for it\"");
    }
    return f;
}

void feed_destroy(struct feed *f)
{
    if (f == NULL) {
        return;
    }
    if (f->ring != NULL) {
        (void)pthread_mutex_lock(&f->lock);
        f->quit = true;
        (void)pthread_cond_signal(&f->work);
        (void)pthread_mutex_unlock(&f->lock);
        (void)pthread_join(f->thread, NULL);
        (void)pthread_cond_destroy(&f->ready);
        (void)pthread_cond_destroy(&f->work);
        (void)pthread_mutex_destroy(&f->lock);
        free(f->ring);
    }
    free(f->changes);
    free(f);
}

/* ---- epochs ---- */

static void set_epoch(struct feed *f, const struct feed_lane *lanes, int n, uint32_t n_rows)
{
    MAG_ASSERT(n <= f->o.lanes, "%d lanes of %d", n, f->o.lanes);
    memcpy(f->lanes, lanes, (size_t)n * sizeof(*lanes));
    memset(f->dropped, 0, sizeof(f->dropped));
    f->n = n;
    f->n_rows = n_rows;
    f->n_batches = (n_rows + (uint32_t)f->o.batch_size - 1) / (uint32_t)f->o.batch_size;
    f->made = f->taken = f->given = 0;
}

void feed_begin(struct feed *f, const struct feed_lane *lanes, int n, uint32_t n_rows)
{
    if (f->ring == NULL) {
        set_epoch(f, lanes, n, n_rows);
        return;
    }
    (void)pthread_mutex_lock(&f->lock);
    f->n_batches = f->made; /* of an epoch that was left half-way no more is made */
    while (f->busy) {
        (void)pthread_cond_wait(&f->ready, &f->lock);
    }
    set_epoch(f, lanes, n, n_rows);
    (void)pthread_cond_signal(&f->work);
    (void)pthread_mutex_unlock(&f->lock);
}

/* Gives the last batch's place back and waits for the next one. */
static void await_next(struct feed *f)
{
    (void)pthread_mutex_lock(&f->lock);
    f->given = f->taken;
    (void)pthread_cond_signal(&f->work);
    while (f->made == f->taken) {
        (void)pthread_cond_wait(&f->ready, &f->lock);
    }
    (void)pthread_mutex_unlock(&f->lock);
}

int feed_next(struct feed *f, struct batch *lanes, int *first)
{
    uint32_t from = 0;
    uint32_t own = 0;
    const uint32_t number = f->taken;
    if (number == f->n_batches) {
        return 0;
    }
    if (f->ring != NULL) {
        await_next(f);
    }
    const int n = rows_of(f, number, &from, &own);
    for (int lane = 0; lane < f->n; lane++) {
        const uint32_t *rows = f->lanes[lane].rows + (size_t)number * (size_t)f->o.batch_size;
        lanes[lane] = (struct batch){.d = f->o.d, .rows = rows + from, .n = (int)own};
        if (f->ring != NULL) {
            lanes[lane].values = slot_of(f, number, lane);
        } else if (!f->dropped[lane]) {
            lanes[lane].augment = draw(f, lane, number, from, own);
        }
    }
    f->taken++; /* the thread never reads it */
    *first = (int)from;
    return n;
}

void feed_drop(struct feed *f, int lane)
{
    if (f->ring == NULL) {
        f->dropped[lane] = true;
        return;
    }
    (void)pthread_mutex_lock(&f->lock);
    f->dropped[lane] = true;
    (void)pthread_mutex_unlock(&f->lock);
}
