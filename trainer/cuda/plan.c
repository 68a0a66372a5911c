/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/cuda/plan.h"

#include "base/alloc.h"
#include "trainer/cuda/device.h"
#include "trainer/net.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define WORK_LEAST ((int64_t)32 << 20)

static int64_t aligned(int64_t bytes)
{
    return (bytes + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
}

/* A place of its own for `bytes` behind *end; PLAN_NONE for nothing. */
static int64_t place(int64_t *end, int64_t bytes)
{
    if (bytes <= 0) {
        return PLAN_NONE;
    }
    int64_t at = *end;
    *end += aligned(bytes);
    return at;
}

/* ---- what layers need ---- */

bool plan_flattens(const struct layer *l)
{
    return l->kind == LAYER_DENSE && l->in.h * l->in.w > 1;
}

bool plan_spreads(const struct layer *l, int x_lanes, int lanes)
{
    if (x_lanes == lanes) {
        return false;
    }
    /* A dense layer and a convolution of one group take shared values as they are; so do those
     * that look each value up by its lane. */
    return (l->kind == LAYER_CONV && l->groups > 1) || l->kind == LAYER_BATCHNORM ||
           l->kind == LAYER_LAYERNORM;
}

int64_t plan_work_bytes(int64_t x, int64_t y, int64_t weights)
{
    return aligned(WORK_LEAST + x + y + weights);
}

static const struct op *op_at(const struct net *net, int i)
{
    return i == 0 ? net->input : net->layers[i - 1];
}

static bool has_slot(const struct net *net, const struct op *op, int p, int slot)
{
    const struct op_spec spec = {
        .layer = &op->layer, .average = net->average, .learns = net->learns};
    return op_has_slot(&spec, (enum op_param)p, (enum op_slot)slot);
}

/* Bytes of an array of all lanes. */
static int64_t param_bytes(const struct op *op, enum op_param p)
{
    return op_param_floats(&op->layer, p) * op->lanes * (int64_t)sizeof(float);
}

static bool has_product(const struct op *op)
{
    return op->index >= 0 && (op->layer.kind == LAYER_DENSE || op->layer.kind == LAYER_CONV);
}

/* The norms compute their activation's slope anew from their input. */
static bool is_norm(const struct layer *l)
{
    return l->kind == LAYER_BATCHNORM || l->kind == LAYER_LAYERNORM;
}

/* Does backward read the first input's values (where there is no copy of its own)? */
static bool needs_input(const struct op *op)
{
    const struct layer *l = &op->layer;
    return has_product(op) || is_norm(l) || l->kind == LAYER_EMBEDDING ||
           (l->kind == LAYER_ACTIVATION && !act_by_output(l->act));
}

/* Does backward read its own output? */
static bool needs_output(const struct op *op)
{
    const struct layer *l = &op->layer;
    return op->index >= 0 && l->act != ACT_NONE && act_by_output(l->act) && !is_norm(l);
}

static int64_t kept_bytes(const struct op *op, int64_t values, int64_t size)
{
    const struct layer *l = &op->layer;
    switch (l->kind) {
    case LAYER_MAXPOOL:
        return values * (int64_t)sizeof(uint16_t);
    case LAYER_GLOBALPOOL:
        return l->max ? values * (int64_t)sizeof(int32_t) : 0;
    case LAYER_DROPOUT:
        return values;
    case LAYER_DENSE:
    case LAYER_CONV:
    case LAYER_ADD:
    case LAYER_IDENTITY:
        return act_by_output(l->act) ? 0 : values * size;
    case LAYER_ACTIVATION: /* its input is there */
    case LAYER_FLATTEN:
    case LAYER_AVGPOOL:
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
    case LAYER_EMBEDDING:
    case LAYER_CONCAT:
    default:
        return 0;
    }
}

/* Mean and 1 / deviation of this pass. */
static int64_t saved_bytes(const struct op *op)
{
    const int64_t each = op->layer.kind == LAYER_BATCHNORM   ? op->layer.in.c
                         : op->layer.kind == LAYER_LAYERNORM ? op->rows
                                                             : 0;
    return 2 * each * op->lanes * (int64_t)sizeof(float);
}

/* ---- what stays ---- */

static void place_gradients(const struct net *net, struct plan *p, int64_t *end)
{
    for (int i = 1; i < p->n; i++) {
        const struct op *op = op_at(net, i);
        int64_t bytes = 0;
        for (int a = 0; a < OP_PARAMS; a++) {
            if (has_slot(net, op, a, SLOT_GRAD)) {
                p->ops[i].params[a][SLOT_GRAD] = *end + bytes;
                bytes += param_bytes(op, (enum op_param)a);
            }
        }
        (void)place(end, bytes); /* those of an op in a row, so that their sum is one call */
    }
    p->gradients = *end;
}

static void place_params(const struct net *net, enum precision precision, struct plan *p, int i,
                         int64_t *end)
{
    const struct op *op = op_at(net, i);
    struct plan_op *o = &p->ops[i];
    int64_t *const counts[OP_SLOTS] = {[SLOT_VALUE] = &p->weights,
                                       [SLOT_FIRST] = &p->optimizer,
                                       [SLOT_SECOND] = &p->optimizer,
                                       [SLOT_AVERAGE] = &p->average};
    for (int a = 0; a < OP_PARAMS; a++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            if (s != SLOT_GRAD && has_slot(net, op, a, s)) {
                const int64_t before = *end;
                o->params[a][s] = place(end, param_bytes(op, (enum op_param)a));
                *counts[s] += *end - before;
            }
        }
    }
    const int64_t before = *end;
    if (precision == PRECISION_BF16 && has_product(op)) {
        o->half = place(end, param_bytes(op, OP_WEIGHTS) / 2);
    }
    o->saved = place(end, saved_bytes(op));
    p->weights += *end - before;
}

static void place_step(const struct net *net, struct plan *p, int64_t *end)
{
    const int64_t rows = net->input->rows;
    const int64_t lanes = p->lanes;
    int64_t step = 0;
    (void)place(&step, lanes * (int64_t)sizeof(struct cell_update));
    p->rows = place(&step, lanes * rows * (int64_t)sizeof(uint32_t));
    p->changes = place(&step, lanes * rows * (int64_t)sizeof(struct cell_change));
    p->streams = step;
    for (int i = 1; i < p->n; i++) {
        if (op_at(net, i)->layer.kind == LAYER_DROPOUT) {
            p->ops[i].streams = step;
            step += op_at(net, i)->lanes * (int64_t)sizeof(struct cell_stream);
        }
    }
    p->step_bytes = step;
    p->step = place(end, step);
    for (int i = 1; i < p->n; i++) {
        p->ops[i].streams += p->ops[i].streams != PLAN_NONE ? p->step : 0;
    }
    p->scores = place(end, lanes * (int64_t)sizeof(struct cell_score));
    p->row_loss = place(end, lanes * rows * (int64_t)sizeof(double));
    p->row_said = place(end, lanes * rows * (int64_t)sizeof(int32_t));
}

static void place_table(const struct net *net, struct plan *p, int64_t *end)
{
    for (int i = 1; i < p->n; i++) {
        const struct op *op = op_at(net, i);
        struct plan_op *o = &p->ops[i];
        o->first_array = p->n_arrays;
        o->first_chunk = p->n_chunks;
        for (int a = 0; a < OP_PARAMS; a++) {
            const int64_t floats = op_param_floats(&op->layer, (enum op_param)a);
            if (o->params[a][SLOT_GRAD] != PLAN_NONE || o->params[a][SLOT_AVERAGE] != PLAN_NONE) {
                p->n_arrays += op->lanes;
                p->n_chunks += op->lanes * (int)((floats + CELL_CHUNK - 1) / CELL_CHUNK);
            }
        }
        o->n_arrays = p->n_arrays - o->first_array;
        o->n_chunks = p->n_chunks - o->first_chunk;
    }
    p->arrays = place(end, (p->n_arrays + 1) * (int64_t)sizeof(struct cell_array));
    p->chunks = place(end, (p->n_chunks + 1) * (int64_t)sizeof(struct cell_chunk));
    p->chunks_of = place(end, (p->n_arrays + 1) * (int64_t)sizeof(int));
    p->partial = place(end, 2 * (p->n_chunks + 1) * (int64_t)sizeof(double));
    p->ratios = place(end, (p->n_arrays + 1) * (int64_t)sizeof(double));
    p->squares = place(end, p->lanes * (int64_t)sizeof(double));
}

/* ---- what takes turns: layer i runs at moment i, and backward at 2 n - i ---- */

struct buffer {
    int64_t bytes;
    int64_t *at; /* counted from the first activation */
    int from, to;
};

struct buffers {
    struct buffer *list;
    int n;
};

static void want(struct buffers *b, int64_t *at, int64_t bytes, int from, int to)
{
    if (bytes > 0) {
        b->list[b->n++] = (struct buffer){aligned(bytes), at, from, to};
    }
}

/* The moments of each output and gradient. */
struct span {
    int out_to;    /* the last that reads the output */
    int grad_from; /* the first that writes its gradient */
};

static void find_spans(const struct net *net, int n, struct span *spans)
{
    for (int i = 0; i < n; i++) {
        const int back = 2 * n - i;
        const bool learns = net->learns && op_at(net, i)->flows;
        spans[i] = (struct span){.out_to = learns && needs_output(op_at(net, i)) ? back : i,
                                 .grad_from = back};
    }
    spans[n - 1] = (struct span){.out_to = 2 * n, .grad_from = n}; /* the loss, and who reads it */
    for (int i = 1; i < n; i++) {
        const struct op *op = op_at(net, i);
        const int back = 2 * n - i;
        for (int k = 0; k < op->layer.n_inputs; k++) {
            struct span *s = &spans[op->inputs[k]->index + 1];
            const bool again = net->learns && op->flows && k == 0 && needs_input(op) &&
                               !plan_flattens(&op->layer) &&
                               !plan_spreads(&op->layer, op->inputs[0]->lanes, op->lanes);
            const int reads = again ? back : i;
            s->out_to = reads > s->out_to ? reads : s->out_to;
            s->grad_from = back < s->grad_from ? back : s->grad_from;
        }
    }
}

/* Numbers for an embedding stay exact, whatever else is bfloat16. */
static bool feeds_embedding(const struct net *net)
{
    bool any = false;
    for (int i = 0; i < net->n; i++) {
        any = any || (net->layers[i]->layer.kind == LAYER_EMBEDDING &&
                      net->layers[i]->inputs[0] == net->input);
    }
    return any;
}

static void want_parts(const struct net *net, const struct span *s, int i, int64_t size,
                       struct plan_op *o, struct buffers *b)
{
    const struct op *op = op_at(net, i);
    const int back = 2 * (net->n + 1) - i;
    const int64_t values = shape_size(&op->layer.out) * op->rows * op->lanes;
    const bool learns = net->learns && op->flows;
    want(b, &o->parts[PLAN_OUT], values * size, i, s->out_to);
    if (i == 0) {
        return;
    }
    want(b, &o->parts[PLAN_GRAD], learns ? values * size : 0, s->grad_from, back);
    want(b, &o->parts[PLAN_KEPT], kept_bytes(op, values, size), i, learns ? back : i);
    const struct op *x = op->inputs[0];
    const bool flattens = plan_flattens(&op->layer);
    if (flattens || plan_spreads(&op->layer, x->lanes, op->lanes)) {
        const int lanes = flattens ? x->lanes : op->lanes;
        const int64_t in = shape_size(&op->layer.in) * op->rows * lanes * size;
        want(b, &o->parts[PLAN_INPUT], in, i, learns ? back : i);
        want(b, &o->parts[PLAN_INPUT_GRAD], learns && x->flows ? in : 0, back, back);
    }
}

/* Larger ones first, then in the order of the layers. */
static int by_size(const void *a, const void *b)
{
    const struct buffer *x = a;
    const struct buffer *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return x->from != y->from ? (x->from > y->from) - (x->from < y->from)
                              : (x->to > y->to) - (x->to < y->to);
}

/* The lowest place beside those that were placed before and are needed at the same time. */
static int64_t lowest(const struct buffers *b, int k)
{
    const struct buffer *me = &b->list[k];
    int64_t at = 0;
    bool moved = true;
    while (moved) {
        moved = false;
        for (int i = 0; i < k; i++) {
            const struct buffer *other = &b->list[i];
            const bool meets = other->from <= me->to && me->from <= other->to;
            if (meets && *other->at < at + me->bytes && at < *other->at + other->bytes) {
                at = *other->at + other->bytes;
                moved = true;
            }
        }
    }
    return at;
}

static void place_activations(const struct net *net, enum precision precision, struct plan *p)
{
    const int64_t size = precision == PRECISION_BF16 ? 2 : 4;
    struct buffers b = {.list = xcalloc((size_t)p->n * PLAN_PARTS, sizeof(*b.list))};
    struct span *spans = xcalloc((size_t)p->n, sizeof(*spans));
    find_spans(net, p->n, spans);
    for (int i = 0; i < p->n; i++) {
        const bool exact = i == 0 && feeds_embedding(net);
        want_parts(net, &spans[i], i, exact ? 4 : size, &p->ops[i], &b);
    }
    for (int i = 0; net->keeps && i < b.n; i++) {
        b.list[i].from = 0;
        b.list[i].to = 2 * p->n;
    }
    qsort(b.list, (size_t)b.n, sizeof(*b.list), by_size);
    for (int i = 0; i < b.n; i++) {
        const int64_t at = lowest(&b, i);
        const int64_t end = at + b.list[i].bytes;
        *b.list[i].at = at;
        p->activations = end > p->activations ? end : p->activations;
    }
    for (int i = 0; i < b.n; i++) {
        *b.list[i].at += p->state;
    }
    free(spans);
    free(b.list);
}

/* ---- room for the op that runs ---- */

static int64_t scratch_bytes(const struct op *op)
{
    const struct extent e = {op->rows, op->layer.out.h * op->layer.out.w, op->lanes,
                             op->layer.out.c};
    if (op->layer.kind == LAYER_EMBEDDING) {
        return embed_room(e);
    }
    return op->index >= 0 && layer_learns(&op->layer) ? columns_room(e) * (int64_t)sizeof(double)
                                                      : 0;
}

static void place_scratch(const struct net *net, enum precision precision, struct plan *p)
{
    const int64_t begin = p->state + p->activations;
    const int64_t size = precision == PRECISION_BF16 ? 2 : 4;
    for (int i = 1; i < p->n; i++) {
        const struct op *op = op_at(net, i);
        struct plan_op *o = &p->ops[i];
        int64_t end = 0;
        o->scratch = place(&end, scratch_bytes(op));
        if (op->layer.kind == LAYER_CONV) { /* sums are done with before it begins */
            const int64_t floats = param_bytes(op, OP_WEIGHTS) / 4;
            const int x_lanes = op->inputs[0]->lanes;
            const int lanes = plan_spreads(&op->layer, x_lanes, op->lanes) ? op->lanes : x_lanes;
            const int64_t in = shape_size(&op->layer.in) * op->rows * lanes;
            const int64_t out = shape_size(&op->layer.out) * op->rows * op->lanes;
            int64_t own = 0;
            o->half_grad = place(&own, net->learns && size == 2 ? floats * size : 0);
            o->work_bytes = plan_work_bytes(in * size, out * size, floats * size);
            o->work = place(&own, o->work_bytes) + begin;
            o->half_grad += o->half_grad != PLAN_NONE ? begin : 0;
            end = own > end ? own : end;
        }
        o->scratch += o->scratch != PLAN_NONE ? begin : 0;
        p->scratch = end > p->scratch ? end : p->scratch;
    }
}

/* ---- */

void plan_net(const struct net *net, enum precision precision, struct plan *ret)
{
    struct plan p = {.n = net->n + 1, .ops = xcalloc((size_t)net->n + 1, sizeof(*p.ops))};
    for (int i = 0; i < p.n; i++) {
        const int lanes = op_at(net, i)->lanes;
        p.lanes = lanes > p.lanes ? lanes : p.lanes;
        memset(&p.ops[i], 0xff, offsetof(struct plan_op, work_bytes)); /* PLAN_NONE */
    }
    int64_t end = 0;
    place_gradients(net, &p, &end);
    for (int i = 1; i < p.n; i++) {
        place_params(net, precision, &p, i, &end);
    }
    place_step(net, &p, &end);
    place_table(net, &p, &end);
    p.state = end;
    place_activations(net, precision, &p);
    place_scratch(net, precision, &p);
    p.bytes = p.state + p.activations + p.scratch;
    *ret = p;
}

void plan_fini(struct plan *p)
{
    free(p->ops);
    *p = (struct plan){0};
}
