/* SPDX-License-Identifier: Apache-2.0
 *
 * A training step over several ranks, each with a GPU: gradients are summed where they lie, in
 * buckets begun as soon as backward has completed them, on NCCL's stream beside the backend's.
 */
#include "trainer/cuda/cuda.h"

#include "trainer/net.h"

#ifndef BUCKET_FLOATS
#define BUCKET_FLOATS ((size_t)1 << 20) /* 4 MiB: enough to fill NVLink, and begun early */
#endif

static void note(struct cuda_net *net, enum mag_status st, const struct mag_err *err)
{
    if (st != MAG_OK) {
        device_fail(net->backend->device, st, "%s", err->text);
    }
}

/* ---- buckets ---- */

static void send_bucket(struct cuda_net *net)
{
    struct cuda_bucket *b = &net->bucket;
    struct mag_err err = {0};
    if (b->n > 0) {
        note(net,
             collective_device_sum(net->ranks, b->spans, b->n, device_stream(net->backend->device),
                                   &err),
             &err);
    }
    b->n = 0;
    b->floats = 0;
}

/* An op's gradients are complete. Spans are not joined where they touch: memory lies otherwise on
 * other ranks, and NCCL wants the same calls of all. */
static void add_gradients(struct cuda_net *net, struct op *op)
{
    struct cuda_bucket *b = &net->bucket;
    int64_t n = 0;
    float *data = backend_cuda.grad_device(op, &n);
    if (data == NULL || n == 0) {
        return;
    }
    b->spans[b->n++] = (struct collective_span){.data = data, .n = (size_t)n};
    b->floats += (size_t)n;
    if (b->floats >= BUCKET_FLOATS || b->n == COLLECTIVE_SPANS_MAX) {
        send_bucket(net);
    }
}

void cuda_sums_add(void *ctx, struct op *op)
{
    add_gradients(ctx, op);
}

void cuda_sums_end(struct cuda_net *net)
{
    struct mag_err err = {0};
    send_bucket(net);
    note(net, collective_device_join(net->ranks, device_stream(net->backend->device), &err), &err);
}

void cuda_sums_nothing(struct cuda_net *net, struct net *n)
{
    for (int i = n->n - 1; i >= 0; i--) {
        int64_t floats = 0;
        float *data = backend_cuda.grad_device(n->layers[i], &floats);
        if (data != NULL && floats > 0) {
            device_zero(net->backend->device, data, (size_t)floats * sizeof(float));
            add_gradients(net, n->layers[i]);
        }
    }
}

/* ---- what the ranks must agree on ---- */

bool cuda_sums_agree(struct cuda_net *net, bool yes)
{
    struct mag_err err = {0};
    double no = yes ? 0 : 1;
    enum mag_status st = collective_sum(net->ranks, COLLECTIVE_DOUBLE, &no, 1, &err);
    note(net, st, &err);
    return st == MAG_OK && no == 0;
}

static bool watch(void *ctx, int64_t waited_ms)
{
    struct mag_err err = {0};
    return collective_device_check(ctx, waited_ms, &err) == MAG_OK;
}

void cuda_sums_begin(struct cuda_net *net, struct collective *ranks)
{
    net->ranks = ranks;
    device_watch(net->backend->device, ranks != NULL ? watch : NULL, ranks);
}
