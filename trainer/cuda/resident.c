/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets in device memory. One is copied there whole when it is first used and stays for the
 * trials to come; where it does not fit, or is stored sparsely, the host gathers each batch.
 */
#include "trainer/cuda/cuda.h"

#include "base/alloc.h"

#include <stdlib.h>

#define RESIDENT_SPARE ((int64_t)1 << 30) /* bytes that a data set leaves free */

static void drop(struct backend *b, struct resident *r)
{
    device_free(b->device, r->bytes);
    device_free(b->device, r->values);
    device_free(b->device, r->labels);
    device_free(b->device, r->targets);
    *r = (struct resident){0};
    cuda_forget_graphs(b); /* they may read it */
}

bool resident_release(struct backend *b)
{
    bool any = b->row_values != NULL;
    for (int i = 0; i < RESIDENT_MAX; i++) {
        any = any || b->sets[i].labels != NULL || b->sets[i].targets != NULL ||
              b->sets[i].bytes != NULL || b->sets[i].values != NULL;
        drop(b, &b->sets[i]);
    }
    device_free(b->device, b->row_values);
    b->row_values = NULL;
    b->row_room = 0;
    return any;
}

void resident_close(struct backend *b)
{
    (void)resident_release(b);
}

/* A copy of n values of `size` bytes; NULL when there is none to copy or no room, which is noted
 * unless the copy may be done without. */
static void *copy(struct backend *b, const void *from, int64_t n, int64_t size, bool spare)
{
    void *to = NULL;
    struct mag_err err = {0};
    int64_t total = 0;
    if (from == NULL || n == 0 ||
        (spare && device_memory_free(b->device, &total) < n * size + RESIDENT_SPARE)) {
        return NULL;
    }
    if (device_alloc(b->device, n * size, "a data set", &to, &err) != MAG_OK) {
        if (!spare) {
            device_fail(b->device, err.code, "%s", err.text);
        }
        return NULL;
    }
    device_put(b->device, to, from, (size_t)(n * size));
    return to;
}

/* The place of the one that was not used for longest. */
static struct resident *oldest(struct backend *b)
{
    struct resident *r = &b->sets[0];
    for (int i = 1; i < RESIDENT_MAX; i++) {
        if (b->sets[i].used < r->used) {
            r = &b->sets[i];
        }
    }
    return r;
}

const struct resident *cuda_resident(struct backend *b, const struct dataset *d, bool touch)
{
    for (int i = 0; i < RESIDENT_MAX; i++) {
        if (d->serial != 0 && b->sets[i].serial == d->serial) {
            b->sets[i].used = touch ? ++b->clock : b->sets[i].used;
            return &b->sets[i];
        }
    }
    struct resident *r = oldest(b);
    drop(b, r);
    *r = (struct resident){.serial = d->serial, .used = ++b->clock};
    const int64_t n = (int64_t)d->n_rows * shape_size(&d->shape);
    r->labels = copy(b, d->labels, d->n_rows, sizeof(*d->labels), false);
    r->targets = copy(b, d->targets, d->n_rows, sizeof(*d->targets), false);
    r->bytes = copy(b, d->bytes, n, sizeof(*d->bytes), true);
    r->values = copy(b, d->values, n, sizeof(*d->values), true);
    return r;
}

/* The batch's values, gathered here and copied; NULL when there is no room, which is noted. */
static const float *gather_here(struct backend *b, const struct shape *shape,
                                const struct batch *batch)
{
    const int64_t width = shape_size(shape);
    const int64_t n = width * batch->n;
    struct mag_err err = {0};
    if (b->row_room < n) {
        void *room = NULL;
        device_free(b->device, b->row_values);
        b->row_values = NULL;
        b->row_room = 0;
        if (device_alloc(b->device, n * (int64_t)sizeof(float), "a batch from the host", &room,
                         &err) != MAG_OK) {
            device_fail(b->device, err.code, "%s", err.text);
            return NULL;
        }
        b->row_values = room;
        b->row_room = n;
    }
    if (batch->values != NULL) {
        device_put(b->device, b->row_values, batch->values, (size_t)n * sizeof(float));
        return b->row_values;
    }
    float *values = xmalloc((size_t)n * sizeof(*values));
    dataset_gather(batch->d, batch->rows, batch->n, values);
    if (batch->augment != NULL) {
        augment_images(batch->augment, shape, values, batch->n);
    }
    device_put(b->device, b->row_values, values, (size_t)n * sizeof(*values));
    free(values);
    return b->row_values;
}

/* Whether the host has a part in the loading of the batch. */
static bool from_host(const struct resident *r, const struct batch *batch)
{
    return batch->values != NULL || (r->bytes == NULL && r->values == NULL);
}

bool cuda_waits(struct backend *b, const struct dataset *d, bool augmented)
{
    (void)augmented; /* on the device */
    const struct resident *r = cuda_resident(b, d, true);
    return r->bytes == NULL && r->values == NULL;
}

/* What all gathers have in common. */
static struct gather gather_of(const struct cuda_net *net, const struct batch *batch)
{
    const struct cuda_op *c = net->input;
    return (struct gather){.scale = batch->d->scale,
                           .stride = c->op.rows,
                           .h = c->op.layer.out.h,
                           .w = c->op.layer.out.w,
                           .out = c->out,
                           .e = cuda_extent(c, batch->n)};
}

/* Examples that do not lie on the device: gathered and changed here, in the order of the batch. */
static void load_here(struct cuda_net *net, int lane, const struct batch *batch)
{
    struct gather g = gather_of(net, batch);
    g.mask = (uint64_t)1 << lane;
    g.values = gather_here(net->backend, &net->input->op.layer.out, batch);
    if (g.values != NULL) {
        k_gather(&g, cuda_stream(net->input));
    }
}

void cuda_load_staged(struct cuda_net *net, uint64_t mask, const struct batch *batches,
                      bool changes)
{
    const struct batch *first = &batches[__builtin_ctzll(mask)];
    const struct resident *r = cuda_resident(net->backend, first->d, true);
    struct gather g = gather_of(net, first);
    if (from_host(r, first)) {
        for (uint64_t left = mask; left != 0; left &= left - 1) {
            const int lane = __builtin_ctzll(left);
            load_here(net, lane, &batches[lane]);
        }
        return;
    }
    g.mask = mask;
    g.bytes = r->bytes;
    g.values = r->values;
    g.rows = cuda_net_rows(net, 0);
    g.changes = changes ? cuda_net_changes(net, 0) : NULL;
    k_gather(&g, cuda_stream(net->input));
}

void cuda_load(struct op *input, int lane, const struct batch *batch)
{
    struct cuda_net *net = cuda_of(input)->net;
    struct device *d = net->backend->device;
    const size_t n = (size_t)batch->n;
    struct batch batches[BACKEND_LANES_MAX];
    batches[lane] = *batch;
    device_put(d, cuda_net_rows(net, lane), batch->rows, n * sizeof(uint32_t));
    if (batch->augment != NULL && batch->values == NULL) {
        device_put(d, cuda_net_changes(net, lane), batch->augment, n * sizeof(*batch->augment));
    }
    cuda_load_staged(net, (uint64_t)1 << lane, batches, batch->augment != NULL);
}
