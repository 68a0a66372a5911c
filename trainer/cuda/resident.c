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

void resident_close(struct backend *b)
{
    for (int i = 0; i < RESIDENT_MAX; i++) {
        drop(b, &b->sets[i]);
    }
    device_free(b->device, b->row_values);
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
    return batch->augment != NULL || batch->values != NULL ||
           (r->bytes == NULL && r->values == NULL);
}

bool cuda_waits(struct backend *b, const struct dataset *d, bool augmented)
{
    const struct resident *r = cuda_resident(b, d, true);
    return augmented || (r->bytes == NULL && r->values == NULL);
}

void cuda_load(struct op *input, int lane, const struct batch *batch)
{
    struct cuda_op *c = cuda_of(input);
    struct backend *b = input->backend;
    const struct resident *r = cuda_resident(b, batch->d, true);
    struct gather g = {.bytes = r->bytes,
                       .values = r->values,
                       .scale = batch->d->scale,
                       .out = c->out,
                       .e = cuda_extent(c, batch->n),
                       .lane = lane};
    if (from_host(r, batch)) {
        g.bytes = NULL;
        g.values = gather_here(b, &input->layer.out, batch); /* in the batch's order: rows NULL */
    } else {
        g.rows = cuda_net_rows(c->net, lane);
        if (g.rows != NULL && !c->net->staged) {
            device_put(b->device, cuda_net_rows(c->net, lane), batch->rows,
                       (size_t)batch->n * sizeof(uint32_t));
        }
    }
    if (g.bytes != NULL || g.values != NULL) {
        k_gather(&g, cuda_stream(c));
    }
}
