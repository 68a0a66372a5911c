/* SPDX-License-Identifier: Apache-2.0
 *
 * The nets of a backend: what belongs together, and the one block of memory that all of it lies in
 * (plan.h), with the table of parameters by which one launch updates them all.
 */
#include "trainer/cuda/cuda.h"

#include "base/alloc.h"
#include "trainer/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

struct cuda_net *cuda_net_open(struct backend *b, struct cuda_op *input)
{
    struct cuda_net *net = xcalloc(1, sizeof(*net));
    *net =
        (struct cuda_net){.backend = b, .input = input, .lanes = input->op.lanes, .next = b->nets};
    b->nets = net;
    return net;
}

void cuda_net_join(struct cuda_net *net, struct cuda_op *op)
{
    net->ops = xreallocarray(net->ops, (size_t)net->n_ops + 1, sizeof(struct cuda_op *));
    net->ops[net->n_ops++] = op;
    net->lanes = op->op.lanes > net->lanes ? op->op.lanes : net->lanes;
}

static void drop_graphs(struct cuda_net *net)
{
    for (int i = 0; i < GRAPHS_MAX; i++) {
        device_graph_destroy(net->graphs[i].graph);
        net->graphs[i] = (struct cuda_graph){0};
    }
}

void cuda_forget_graphs(struct backend *b)
{
    for (struct cuda_net *net = b->nets; net != NULL; net = net->next) {
        drop_graphs(net);
    }
}

void cuda_net_leave(struct cuda_net *net, struct cuda_op *op)
{
    int kept = 0;
    for (int i = 0; i < net->n_ops; i++) {
        if (net->ops[i] != op) {
            net->ops[kept++] = net->ops[i];
        }
    }
    net->n_ops = kept;
    drop_graphs(net);
}

void cuda_net_close(struct cuda_net *net)
{
    struct backend *b = net->backend;
    struct cuda_net **at = &b->nets;
    while (*at != net) {
        at = &(*at)->next;
    }
    *at = net->next;
    drop_graphs(net);
    device_free(b->device, net->memory);
    cuda_sums_begin(net, NULL);
    profile_fini(net->profile);
    plan_fini(&net->plan);
    free(net->step_host);
    free(net->ops);
    free(net);
}

/* ---- memory ---- */

void *cuda_net_at(const struct cuda_net *net, int64_t offset)
{
    return offset == PLAN_NONE ? NULL : net->memory + offset;
}

/* Points an op to its places. */
static void place_op(struct cuda_op *c, const struct plan_op *p)
{
    const struct cuda_net *net = c->net;
    c->out.data = cuda_net_at(net, p->parts[PLAN_OUT]);
    c->grad.data = cuda_net_at(net, p->parts[PLAN_GRAD]);
    c->kept = cuda_net_at(net, p->parts[PLAN_KEPT]);
    c->input.data = cuda_net_at(net, p->parts[PLAN_INPUT]);
    c->input_grad.data = cuda_net_at(net, p->parts[PLAN_INPUT_GRAD]);
    for (int a = 0; a < OP_PARAMS; a++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            c->params[a][s] = cuda_net_at(net, p->params[a][s]);
        }
    }
    c->half = cuda_net_at(net, p->half);
    c->half_grad = cuda_net_at(net, p->half_grad);
    c->saved = cuda_net_at(net, p->saved);
    c->scratch = cuda_net_at(net, p->scratch);
    c->streams = cuda_net_at(net, p->streams);
    c->work = cuda_net_at(net, p->work);
    c->work_bytes = p->work_bytes;
    c->first_array = p->first_array;
    c->n_arrays = p->n_arrays;
    c->first_chunk = p->first_chunk;
    c->n_chunks = p->n_chunks;
}

/* The rows of the table for every array of every lane of an op. */
static void fill_arrays(const struct cuda_op *c, struct cell_array *to)
{
    int n = 0;
    for (int a = 0; a < OP_PARAMS; a++) {
        const int64_t floats = op_param_floats(&c->op.layer, (enum op_param)a);
        const bool moves = c->params[a][SLOT_GRAD] != NULL || c->params[a][SLOT_AVERAGE] != NULL;
        for (int lane = 0; lane < c->op.lanes && moves; lane++, n++) {
            float *slots[OP_SLOTS];
            for (int s = 0; s < OP_SLOTS; s++) {
                slots[s] = c->params[a][s] != NULL ? c->params[a][s] + lane * floats : NULL;
            }
            to[n] = (struct cell_array){
                .value = slots[SLOT_VALUE],
                .grad = slots[SLOT_GRAD],
                .first = slots[SLOT_FIRST],
                .second = slots[SLOT_SECOND],
                .average = slots[SLOT_AVERAGE],
                .half = a == OP_WEIGHTS && c->half != NULL ? c->half + lane * floats : NULL,
                .n = floats,
                .lane = lane,
                .decays = op_param_decays(&c->op.layer, (enum op_param)a)};
        }
    }
    MAG_ASSERT(n == c->n_arrays, "%d arrays, not %d", n, c->n_arrays);
}

/* Builds the table on the host, then copies it. */
static void put_table(struct cuda_net *net)
{
    const struct plan *p = &net->plan;
    struct device *d = net->backend->device;
    const size_t n = (size_t)p->n_arrays;
    struct cell_array *arrays = xcalloc(n + 1, sizeof(*arrays));
    struct cell_chunk *chunks = xcalloc((size_t)p->n_chunks + 1, sizeof(*chunks));
    int *first = xcalloc(n + 1, sizeof(*first));
    int at = 0;
    for (int i = 0; i < net->n_ops; i++) {
        fill_arrays(net->ops[i], arrays + net->ops[i]->first_array);
    }
    for (size_t i = 0; i < n; i++) {
        first[i] = at;
        for (int64_t from = 0; from < arrays[i].n; from += CELL_CHUNK, at++) {
            const int64_t left = arrays[i].n - from;
            chunks[at] = (struct cell_chunk){
                .array = (int)i, .begin = from, .n = (int)(left < CELL_CHUNK ? left : CELL_CHUNK)};
        }
    }
    MAG_ASSERT(at == p->n_chunks, "%d chunks, not %d", at, p->n_chunks);
    first[n] = at;
    net->model = (struct cell_model){.arrays = cuda_net_at(net, p->arrays),
                                     .chunks = cuda_net_at(net, p->chunks),
                                     .chunks_of = cuda_net_at(net, p->chunks_of),
                                     .n_arrays = p->n_arrays,
                                     .n_chunks = p->n_chunks,
                                     .all_chunks = p->n_chunks,
                                     .lanes = net->lanes,
                                     .partial = cuda_net_at(net, p->partial),
                                     .ratios = cuda_net_at(net, p->ratios),
                                     .squares = cuda_net_at(net, p->squares)};
    device_put(d, cuda_net_at(net, p->arrays), arrays, (n + 1) * sizeof(*arrays));
    device_put(d, cuda_net_at(net, p->chunks), chunks, ((size_t)at + 1) * sizeof(*chunks));
    device_put(d, cuda_net_at(net, p->chunks_of), first, (n + 1) * sizeof(*first));
    free(arrays);
    free(chunks);
    free(first);
}

/* The block. Data sets that lie on the device for later make room for it. */
static enum mag_status take_memory(struct cuda_net *net, struct mag_err *err)
{
    const struct plan *p = &net->plan;
    struct backend *b = net->backend;
    const double mb = 1.0 / (1 << 20);
    char what[256];
    void *block = NULL;
    (void)snprintf(what, sizeof(what),
                   "%d layers in %d lane%s of %d rows (weights and optimizer %.1f MB, outputs and "
                   "gradients %.1f MB, workspace %.1f MB)",
                   net->n_ops, net->lanes, net->lanes == 1 ? "" : "s", net->input->op.rows,
                   (double)p->state * mb, (double)p->activations * mb, (double)p->scratch * mb);
    enum mag_status st = device_alloc(b->device, p->bytes, what, &block, err);
    if (st == MAG_NOMEM && resident_release(b)) {
        st = device_alloc(b->device, p->bytes, what, &block, err);
    }
    net->memory = block;
    return st;
}

enum mag_status cuda_ready(struct net *n, struct mag_err *err)
{
    struct cuda_net *net = cuda_of(n->input)->net;
    plan_net(n, net->backend->precision, &net->plan);
    enum mag_status st = take_memory(net, err);
    if (st != MAG_OK) {
        return st;
    }
    place_op(net->input, &net->plan.ops[0]);
    for (int i = 0; i < net->n_ops; i++) {
        struct cuda_op *c = net->ops[i];
        place_op(c, &net->plan.ops[i + 1]);
        if (c->kind->ready != NULL) {
            c->kind->ready(c);
        }
    }
    net->scores = cuda_net_at(net, net->plan.scores);
    net->step_host = xcalloc(1, (size_t)net->plan.step_bytes);
    put_table(net);
    net->profile = net->backend->profiles ? profile_create(net) : NULL;
    return MAG_OK;
}

/* ---- texts ---- */

enum mag_status device_no_room(const char *what, int64_t bytes, int64_t left, int64_t total,
                               struct mag_err *err)
{
    const double mb = 1.0 / (1 << 20);
    return mag_fail(
        err, MAG_NOMEM,
        "the GPU has no room for %s: %.1f MB are needed, %.1f MB of its %.0f MB are free; "
        "a smaller batch, fewer trials at once or a smaller model would fit",
        what, (double)bytes * mb, (double)left * mb, (double)total * mb);
}
