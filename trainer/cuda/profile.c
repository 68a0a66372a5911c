/* SPDX-License-Identifier: Apache-2.0
 *
 * What takes how long on the device: time between marks that a step leaves behind every op, summed
 * over the steps of a net, with the arithmetic and the least traffic of each, so that what bounds
 * it can be read off. For MAGPIE_CUDA_PROFILE=1; steps are then neither recorded nor overlapped.
 */
#include "trainer/cuda/cuda.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>

#define WARM_STEPS 3 /* libraries choose and load their kernels */

struct span {
    enum profile_part part;
    int layer; /* -1 = the input */
};

struct sum {
    double ms;
    double flop, bytes; /* of all steps that were counted */
};

struct profile {
    struct cuda_net *net;
    struct span spans[DEVICE_MARKS_MAX];
    int n_spans;
    struct sum *sums; /* [parts][n_ops + 1] */
    int64_t steps;    /* all, and those that were counted */
    int64_t counted;
};

#define PARTS (PROFILE_UPDATE + 1)

struct profile *profile_create(struct cuda_net *net)
{
    struct profile *p = xcalloc(1, sizeof(*p));
    p->net = net;
    p->sums = xcalloc((size_t)(net->n_ops + 1) * PARTS, sizeof(*p->sums));
    return p;
}

static struct sum *sum_of(struct profile *p, enum profile_part part, int layer)
{
    return &p->sums[(int)part * (p->net->n_ops + 1) + layer + 1];
}

/* ---- what an op has to do ---- */

/* Multiplications and additions of its products, for n rows. */
static double product_flop(const struct op *op, int n)
{
    const struct layer *l = &op->layer;
    const double out = (double)shape_size(&l->out) * n * op->lanes;
    if (op->index < 0) {
        return 0;
    }
    return l->kind == LAYER_CONV    ? 2.0 * out * l->kernel * l->kernel * l->in.c / l->groups
           : l->kind == LAYER_DENSE ? 2.0 * out * (double)shape_size(&l->in)
                                    : 0;
}

static double value_bytes(const struct op *op, int n)
{
    const double size = cuda_of((struct op *)(uintptr_t)op)->out.bf16 ? 2 : 4;
    return (double)shape_size(&op->layer.out) * n * op->lanes * size;
}

static double input_bytes(const struct op *op, int n, bool that_learn)
{
    double all = 0;
    for (int i = 0; i < op->layer.n_inputs; i++) {
        all += !that_learn || op->inputs[i]->flows ? value_bytes(op->inputs[i], n) : 0;
    }
    return all;
}

static double weight_bytes(const struct op *op)
{
    return op->index < 0 ? 0
                         : 4.0 * op->lanes *
                               (double)(op_param_floats(&op->layer, OP_WEIGHTS) +
                                        op_param_floats(&op->layer, OP_BIAS));
}

/* Adds what the part of an op cannot do without: its products, and each array read or written once.
 */
static void add_work(struct sum *s, enum profile_part part, const struct op *op, int n)
{
    const double products = product_flop(op, n);
    switch (part) {
    case PROFILE_LOAD:
        s->bytes += 2 * value_bytes(op, n);
        break;
    case PROFILE_FORWARD:
        s->flop += products;
        s->bytes += input_bytes(op, n, false) + value_bytes(op, n) + weight_bytes(op);
        break;
    case PROFILE_LOSS:
        s->bytes += 2 * value_bytes(op, n);
        break;
    case PROFILE_BACKWARD:
        s->flop += products * (op->inputs[0]->flows ? 2 : 1);
        s->bytes += input_bytes(op, n, false) + value_bytes(op, n) + input_bytes(op, n, true) +
                    2 * weight_bytes(op);
        break;
    case PROFILE_UPDATE:
    default:
        break;
    }
}

/* ---- measuring ---- */

void profile_mark(struct profile *p, enum profile_part part, const struct op *op)
{
    if (p != NULL && device_mark(p->net->backend->device, p->n_spans)) {
        p->spans[p->n_spans++] = (struct span){part, op->index};
    }
}

void profile_end(struct profile *p, int rows)
{
    if (p == NULL) {
        return;
    }
    struct device *d = p->net->backend->device;
    const int n = p->n_spans;
    p->n_spans = 0;
    if (++p->steps <= WARM_STEPS || !device_mark(d, n)) {
        return;
    }
    device_wait(d);
    for (int i = 0; i < n; i++) {
        const struct span *span = &p->spans[i];
        struct cuda_op *c = span->layer < 0 ? p->net->input : p->net->ops[span->layer];
        struct sum *s = sum_of(p, span->part, span->layer);
        s->ms += (double)device_mark_ms(d, i);
        add_work(s, span->part, &c->op, rows);
    }
    const struct plan *plan = &p->net->plan;
    struct sum *update = sum_of(p, PROFILE_UPDATE, p->net->n_ops - 1);
    update->bytes +=
        2.0 * (double)(plan->weights + plan->optimizer + plan->average) + (double)plan->gradients;
    p->counted++;
}

/* ---- printing ---- */

static void print_sum(const char *part, const char *name, const char *shape, const struct sum *s,
                      int64_t steps, double all)
{
    const double ms = s->ms / (double)steps;
    fprintf(stderr, "%-8s %-24s %-16s %9.4f ms %5.1f%% %8.2f TFLOP/s %8.1f GB/s\n", part, name,
            shape, ms, all > 0 ? 100 * s->ms / all : 0, s->ms > 0 ? s->flop / s->ms * 1e-9 : 0,
            s->ms > 0 ? s->bytes / s->ms * 1e-6 : 0);
}

static void print_profile(struct profile *p)
{
    static const char *const parts[] = {"load", "forward", "loss", "backward", "update"};
    struct sum kinds[PARTS][LAYER_KINDS] = {{{0}}};
    struct sum total = {0};
    for (int i = 0; i < PARTS * (p->net->n_ops + 1); i++) {
        total.ms += p->sums[i].ms;
        total.flop += p->sums[i].flop;
        total.bytes += p->sums[i].bytes;
    }
    fprintf(stderr, "profile of %lld steps, a step in each line; bytes are the least possible\n",
            (long long)p->counted);
    for (int part = 0; part < PARTS; part++) {
        for (int layer = -1; layer < p->net->n_ops; layer++) {
            const struct sum *s = sum_of(p, (enum profile_part)part, layer);
            const struct op *op = layer < 0 ? &p->net->input->op : &p->net->ops[layer]->op;
            const bool of_layer = part == PROFILE_FORWARD || part == PROFILE_BACKWARD;
            char name[64];
            char shape[48];
            if (s->ms <= 0) {
                continue;
            }
            shape_text(&op->layer.out, shape);
            (void)snprintf(name, sizeof(name), "%d %s", layer + 1,
                           of_layer ? layer_kind_name(op->layer.kind) : "");
            print_sum(parts[part], of_layer ? name : "", of_layer ? shape : "", s, p->counted,
                      total.ms);
            struct sum *kind = &kinds[part][of_layer ? (int)op->layer.kind : 0];
            kind->ms += of_layer ? s->ms : 0;
            kind->flop += of_layer ? s->flop : 0;
            kind->bytes += of_layer ? s->bytes : 0;
        }
    }
    for (int part = 0; part < PARTS; part++) {
        for (int k = 0; k < LAYER_KINDS; k++) {
            if (kinds[part][k].ms > 0) {
                print_sum(parts[part], layer_kind_name((enum layer_kind)k), "all", &kinds[part][k],
                          p->counted, total.ms);
            }
        }
    }
    print_sum("all", "", "", &total, p->counted, total.ms);
}

void profile_fini(struct profile *p)
{
    if (p != NULL) {
        if (p->counted > 0) {
            print_profile(p);
        }
        free(p->sums);
        free(p);
    }
}
