/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/collective.h"

#include "base/alloc.h"

#include <stdlib.h>

static size_t size_of(enum collective_type t)
{
    return t == COLLECTIVE_FLOAT ? sizeof(float) : sizeof(double);
}

enum mag_status collective_open(const struct collective_ops *ops,
                                const struct collective_place *place, struct collective **ret,
                                struct mag_err *err)
{
    return ops->open(place, ret, err);
}

void collective_close(struct collective *c)
{
    if (c != NULL) {
        c->ops->close(c);
    }
}

static enum mag_status note(struct collective *c, enum mag_status st)
{
    c->broken = c->broken || st != MAG_OK;
    return st;
}

static enum mag_status check(struct collective *c, struct mag_err *err)
{
    return !c->broken ? MAG_OK : mag_fail(err, MAG_CLOSED, "the ranks have lost each other before");
}

enum mag_status collective_sum_start(struct collective *c, struct collective_sum *s,
                                     enum collective_type type, void *data, size_t n,
                                     struct mag_err *err)
{
    MAG_ASSERT(n * size_of(type) <= COLLECTIVE_BYTES_MAX, "%zu values in one sum", n);
    enum mag_status st = check(c, err);
    *s = (struct collective_sum){.data = data, .n = n, .type = type};
    return st == MAG_OK ? note(c, c->ops->sum_start(c, s, err)) : st;
}

enum mag_status collective_sum_wait(struct collective *c, struct collective_sum *s,
                                    struct mag_err *err)
{
    enum mag_status st = check(c, err);
    return st == MAG_OK ? note(c, c->ops->sum_wait(c, s, err)) : st;
}

void collective_poke(struct collective *c)
{
    struct mag_err why = {0}; /* is found again by the wait */
    if (!c->broken) {
        (void)c->ops->poke(c, &why);
    }
}

enum mag_status collective_sum(struct collective *c, enum collective_type type, void *data,
                               size_t n, struct mag_err *err)
{
    const size_t piece = COLLECTIVE_BYTES_MAX / size_of(type);
    enum mag_status st = MAG_OK;
    size_t at = 0;
    do {
        struct collective_sum s;
        size_t k = n - at < piece ? n - at : piece;
        st = collective_sum_start(c, &s, type, (char *)data + at * size_of(type), k, err);
        if (st == MAG_OK) {
            st = collective_sum_wait(c, &s, err);
        }
        at += k;
    } while (st == MAG_OK && at < n);
    return st;
}

enum mag_status collective_broadcast(struct collective *c, void *data, size_t bytes, int root,
                                     int64_t timeout_ms, struct mag_err *err)
{
    MAG_ASSERT(root >= 0 && root < c->size, "root %d of %d", root, c->size);
    enum mag_status st = check(c, err);
    for (size_t at = 0; st == MAG_OK && at < bytes;) {
        size_t k = bytes - at < COLLECTIVE_BYTES_MAX ? bytes - at : COLLECTIVE_BYTES_MAX;
        st = note(c, c->ops->broadcast(c, (char *)data + at, k, root, timeout_ms, err));
        at += k;
    }
    return st;
}

enum mag_status collective_barrier(struct collective *c, struct mag_err *err)
{
    float nothing = 0;
    return collective_sum(c, COLLECTIVE_FLOAT, &nothing, 0, err);
}

void collective_abort(struct collective *c, const char *why)
{
    c->broken = true;
    c->ops->abort(c, why);
}

enum mag_status collective_share(struct collective *c, size_t bytes, void **ret,
                                 struct mag_err *err)
{
    enum mag_status st = check(c, err);
    if (st != MAG_OK) {
        return st;
    }
    if (c->ops->share == NULL) {
        return mag_fail(err, MAG_UNSUPPORTED, "the ranks have no memory in common (transport %s)",
                        c->ops->name);
    }
    return note(c, c->ops->share(c, bytes, ret, err));
}

/* ---- device memory ---- */

enum mag_status collective_device_open(struct collective *c, struct mag_err *err)
{
    enum mag_status st = check(c, err);
    if (st == MAG_OK && c->ops->device_open == NULL) {
        return mag_fail(err, MAG_UNSUPPORTED, "the ranks' GPUs cannot sum by themselves (%s)",
                        c->ops->name);
    }
    st = st == MAG_OK ? c->ops->device_open(c, err) : st;
    return st == MAG_UNSUPPORTED ? st : note(c, st);
}

enum mag_status collective_device_sum(struct collective *c, const struct collective_span *spans,
                                      int n, void *stream, struct mag_err *err)
{
    MAG_ASSERT(n <= COLLECTIVE_SPANS_MAX, "%d spans in one sum", n);
    enum mag_status st = check(c, err);
    return st == MAG_OK ? note(c, c->ops->device_sum(c, spans, n, stream, err)) : st;
}

enum mag_status collective_device_join(struct collective *c, void *stream, struct mag_err *err)
{
    enum mag_status st = check(c, err);
    return st == MAG_OK ? note(c, c->ops->device_join(c, stream, err)) : st;
}

enum mag_status collective_device_check(struct collective *c, int64_t waited_ms,
                                        struct mag_err *err)
{
    return c->ops->device_check != NULL ? note(c, c->ops->device_check(c, waited_ms, err)) : MAG_OK;
}

/* ---- one rank ---- */

struct self {
    struct collective head;
    void *shared;
};

static enum mag_status self_open(const struct collective_place *place, struct collective **ret,
                                 struct mag_err *err)
{
    if (place->size != 1 || place->rank != 0) {
        return mag_fail(err, MAG_INVALID, "rank %d of %d alone: one rank is rank 0 of 1",
                        place->rank, place->size);
    }
    struct self *s = xcalloc(1, sizeof(*s));
    s->head =
        (struct collective){.ops = &collective_self, .size = 1, .timeout_ms = place->timeout_ms};
    *ret = &s->head;
    return MAG_OK;
}

static void self_close(struct collective *c)
{
    struct self *s = (struct self *)c;
    free(s->shared);
    free(s);
}

static enum mag_status self_sum(struct collective *c, struct collective_sum *s, struct mag_err *err)
{
    (void)c;
    (void)s;
    (void)err;
    return MAG_OK;
}

static enum mag_status self_poke(struct collective *c, struct mag_err *err)
{
    (void)c;
    (void)err;
    return MAG_OK;
}

static enum mag_status self_broadcast(struct collective *c, void *data, size_t bytes, int root,
                                      int64_t timeout_ms, struct mag_err *err)
{
    (void)c;
    (void)data;
    (void)bytes;
    (void)root;
    (void)timeout_ms;
    (void)err;
    return MAG_OK;
}

static void self_abort(struct collective *c, const char *why)
{
    (void)c;
    (void)why;
}

static enum mag_status self_share(struct collective *c, size_t bytes, void **ret,
                                  struct mag_err *err)
{
    struct self *s = (struct self *)c;
    free(s->shared);
    s->shared = mag_try_alloc(bytes, 1);
    if (s->shared == NULL) {
        return mag_fail(err, MAG_NOMEM, "no memory for %zu bytes", bytes);
    }
    *ret = s->shared;
    return MAG_OK;
}

const struct collective_ops collective_self = {
    .name = "self",
    .open = self_open,
    .close = self_close,
    .sum_start = self_sum,
    .sum_wait = self_sum,
    .poke = self_poke,
    .broadcast = self_broadcast,
    .abort = self_abort,
    .share = self_share,
};
