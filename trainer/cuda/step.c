/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses and optimizer steps, and the training step as a whole: what differs from step to step
 * (rates, row numbers, random streams) goes to the device in one copy, everything else is queued
 * once, recorded as a graph and repeated. Losses stay on the device until they are asked for.
 */
#include "trainer/cuda/cuda.h"

#include "base/alloc.h"
#include "trainer/net.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- losses ---- */

void cuda_net_settle(struct cuda_net *net)
{
    struct score *add = net->pending;
    if (add == NULL) {
        return;
    }
    struct cell_score got[BACKEND_LANES_MAX];
    const size_t bytes = (size_t)net->lanes * sizeof(*got);
    device_get(net->backend->device, got, net->scores, bytes);
    device_zero(net->backend->device, net->scores, bytes);
    for (int lane = 0; lane < net->lanes; lane++) {
        if (!net->idle[lane]) {
            add[lane].loss += got[lane].loss;
            add[lane].correct += got[lane].correct;
            add[lane].rows += got[lane].rows;
        }
    }
    net->pending = NULL;
}

uint32_t *cuda_net_rows(struct cuda_net *net, int lane)
{
    uint32_t *rows = cuda_net_at(net, net->plan.step + net->plan.rows);
    return rows + (int64_t)lane * net->input->op.rows;
}

struct cell_change *cuda_net_changes(struct cuda_net *net, int lane)
{
    struct cell_change *changes = cuda_net_at(net, net->plan.step + net->plan.changes);
    return changes + (int64_t)lane * net->input->op.rows;
}

/* The lanes of `left` whose batches are of the same data set as the first of them. */
static uint64_t same_data(uint64_t left, const struct batch *batches)
{
    const struct dataset *d = batches[__builtin_ctzll(left)].d;
    uint64_t same = 0;
    for (int lane = 0; lane < BACKEND_LANES_MAX; lane++) {
        same |= left & (uint64_t)1 << lane && batches[lane].d == d ? (uint64_t)1 << lane : 0;
    }
    return same;
}

_Static_assert(HEAD_LANES_MAX == BACKEND_LANES_MAX, "the kernels know every lane");

/* Queues the comparison of the lanes' outputs with the labels; sums go to net->scores. */
static void queue_heads(struct cuda_op *c, uint64_t mask, const struct batch *batches,
                        const struct pass *pass, struct loss loss, bool want_grad)
{
    struct cuda_net *net = c->net;
    for (uint64_t left = mask, same = 0; left != 0; left &= ~same) {
        const struct batch *first = &batches[__builtin_ctzll(left)];
        const struct resident *r = cuda_resident(net->backend, first->d, false);
        same = same_data(left, batches);
        struct head h = {.out = c->out,
                         .grad = want_grad ? c->grad : (struct tensor){0},
                         .labels = r->labels,
                         .targets = r->targets,
                         .rows = cuda_net_rows(net, 0),
                         .stride = net->input->op.rows,
                         .n = first->n,
                         .whole = net->staged && net->ranks != NULL ? net->whole : first->n,
                         .width = (int)shape_size(&c->op.layer.out),
                         .lanes = c->op.lanes,
                         .kind = (int)loss.kind,
                         .mask = same,
                         .row_loss = cuda_net_at(net, net->plan.row_loss),
                         .row_said = cuda_net_at(net, net->plan.row_said),
                         .add = net->scores};
        for (int lane = 0; lane < c->op.lanes; lane++) {
            h.smoothing[lane] = pass_loss(pass, lane, loss).smoothing;
        }
        k_head(&h, cuda_stream(c));
    }
}

/* Counts on the host, for what the device does not count. */
static void score_on_host(struct cuda_op *c, int lane, const struct batch *batch, struct loss loss,
                          struct score *add)
{
    const size_t width = (size_t)shape_size(&c->op.layer.out);
    float *out = xmalloc((size_t)batch->n * width * sizeof(*out));
    backend_cuda.read(&c->op, lane, false, batch->n, out);
    backend_score(out, NULL, (int)width, width, batch, loss, add);
    free(out);
}

void cuda_score(struct op *last, const struct batch *batches, const struct pass *pass,
                struct loss loss, bool want_grad, struct score *add)
{
    struct cuda_op *c = cuda_of(last);
    struct cuda_net *net = c->net;
    uint64_t mask = 0; /* lanes that the device looks at */
    if (!net->staged) {
        cuda_net_settle(net);
    }
    for (int lane = 0; lane < last->lanes; lane++) {
        const bool idle = pass->lanes[lane].idle;
        net->idle[lane] = idle || (add[lane].tally != NULL && !net->staged);
        if (idle || (net->idle[lane] && !want_grad)) {
            continue;
        }
        mask |= (uint64_t)1 << lane;
        if (!net->staged) {
            device_put(net->backend->device, cuda_net_rows(net, lane), batches[lane].rows,
                       (size_t)batches[lane].n * sizeof(uint32_t));
        }
    }
    queue_heads(c, mask, batches, pass, loss, want_grad);
    for (int lane = 0; lane < last->lanes; lane++) {
        if (net->idle[lane] && !pass->lanes[lane].idle) {
            score_on_host(c, lane, &batches[lane], loss, &add[lane]);
        }
    }
    last->grad_set = last->grad_set || want_grad;
    if (!net->staged && mask != 0) {
        net->pending = add;
        cuda_net_settle(net);
    }
}

/* ---- steps ---- */

static struct cell_update cell_update_of(const struct update *u)
{
    return (struct cell_update){
        .kind = (int)u->kind,
        .nesterov = u->nesterov,
        .idle = u->idle,
        .lr = u->lr,
        .momentum = u->momentum,
        .decay = u->weight_decay,
        .beta1 = u->beta1,
        .beta2 = u->beta2,
        .epsilon = u->epsilon,
        .scale = u->scale,
        .correct1 = (float)(1 - pow((double)u->beta1, (double)u->count)),
        .correct2 = (float)(1 - pow((double)u->beta2, (double)u->count)),
        .clip = u->clip,
        .average_keep = u->average_keep,
    };
}

static struct cell_update *step_updates(struct cuda_net *net)
{
    return (struct cell_update *)(void *)net->step_host;
}

static bool any_ratio(const struct cuda_net *net, const struct update *lanes)
{
    bool any = false;
    for (int lane = 0; lane < net->lanes; lane++) {
        any = any || (!lanes[lane].idle && lanes[lane].kind == OPTIMIZER_LAMB);
    }
    return any;
}

static struct cell_update *updates_there(const struct cuda_net *net)
{
    return cuda_net_at(net, net->plan.step);
}

/* The part of the table that is an op's. */
static struct cell_model model_of(const struct cuda_op *c)
{
    struct cell_model m = c->net->model;
    m.first_array = c->first_array;
    m.n_arrays = c->n_arrays;
    m.first_chunk = c->first_chunk;
    m.n_chunks = c->n_chunks;
    return m;
}

void cuda_update(struct op *op, const struct update *lanes)
{
    struct cuda_op *c = cuda_of(op);
    struct cuda_net *net = c->net;
    if (c->n_arrays == 0) {
        return;
    }
    struct cell_update now[BACKEND_LANES_MAX];
    memset(now, 0, sizeof(now));
    for (int lane = 0; lane < net->lanes; lane++) {
        now[lane] = cell_update_of(&lanes[lane]);
    }
    const size_t bytes = (size_t)net->lanes * sizeof(*now);
    if (memcmp(now, step_updates(net), bytes) != 0) { /* not the same as for the op before */
        memcpy(step_updates(net), now, bytes);
        device_put(net->backend->device, updates_there(net), now, bytes);
    }
    const struct cell_model m = model_of(c);
    k_update(&m, updates_there(net), 0, any_ratio(net, lanes), cuda_stream(c));
}

void cuda_grad_square(struct op *op, double *lanes)
{
    struct cuda_op *c = cuda_of(op);
    memset(lanes, 0, (size_t)op->lanes * sizeof(*lanes));
    if (c->n_arrays == 0) {
        return;
    }
    const struct cell_model m = model_of(c);
    k_grad_squares(&m, cuda_stream(c));
    device_get(cuda_device(c), lanes, m.squares, (size_t)op->lanes * sizeof(*lanes));
}

/* ---- the whole step ---- */

_Static_assert(sizeof(struct cell_change) == sizeof(struct augment_row) &&
                   offsetof(struct cell_change, flip) == offsetof(struct augment_row, flip) &&
                   offsetof(struct cell_change, cut_x1) == offsetof(struct augment_row, cut_x1),
               "a change of an image is copied as it is");

/* Row numbers of a lane, and what happens to their images. */
static void stage_batch(struct cuda_net *net, int lane, const struct batch *batch)
{
    const int64_t at = (int64_t)lane * net->input->op.rows;
    uint32_t *rows = (uint32_t *)(void *)(net->step_host + net->plan.rows);
    struct cell_change *changes =
        (struct cell_change *)(void *)(net->step_host + net->plan.changes);
    memcpy(rows + at, batch->rows, (size_t)batch->n * sizeof(*rows));
    if (batch->augment != NULL) {
        memcpy(changes + at, batch->augment, (size_t)batch->n * sizeof(*changes));
    } else {
        memset(changes + at, 0, (size_t)batch->n * sizeof(*changes)); /* none */
    }
}

/* All that the step's kernels read from the host, in one copy. */
static void stage(struct cuda_net *net, const struct batch *batches, const struct pass *pass,
                  const struct update *lanes)
{
    struct cell_stream *streams =
        (struct cell_stream *)(void *)(net->step_host + net->plan.streams);
    for (int lane = 0; lane < net->lanes; lane++) {
        step_updates(net)[lane] = cell_update_of(&lanes[lane]);
        /* A shared input is gathered by lane 0's rows, though that lane may have ended. */
        if (!pass->lanes[lane].idle || (lane == 0 && net->input->op.lanes == 1)) {
            stage_batch(net, lane, &batches[lane]);
        }
    }
    for (int i = 0; i < net->n_ops; i++) {
        if (net->ops[i]->streams != NULL) {
            cuda_streams(net->ops[i], pass, streams);
            streams += net->ops[i]->op.lanes;
        }
    }
    device_put(net->backend->device, updates_there(net), net->step_host,
               (size_t)net->plan.step_bytes);
}

/* Loads the staged batches and computes all outputs. */
static void queue_forward(struct net *n, struct cuda_net *net, const struct batch *batches,
                          const struct pass *pass, const struct cuda_graph *g)
{
    uint64_t mask = 0;
    for (int lane = 0; lane < n->input->lanes; lane++) {
        mask |= n->input->lanes == 1 || !pass->lanes[lane].idle ? (uint64_t)1 << lane : 0;
    }
    profile_mark(net->profile, PROFILE_LOAD, n->input);
    for (uint64_t left = mask, same = 0; left != 0; left &= ~same) {
        same = same_data(left, batches);
        cuda_load_staged(net, same, batches, g->changes);
    }
    for (int i = 0; i < n->n; i++) {
        profile_mark(net->profile, PROFILE_FORWARD, n->layers[i]);
        backend_cuda.forward(n->layers[i], batches[0].n, pass);
    }
}

/* Queues the step's work; everything that may differ is staged. */
static void queue_step(struct net *n, struct cuda_net *net, const struct batch *batches,
                       const struct pass *pass, const struct cuda_graph *g, struct score *add)
{
    struct op *last = n->layers[n->n - 1];
    net->staged = true;
    last->grad_set = false;
    if (batches[0].n > 0) {
        queue_forward(n, net, batches, pass, g);
        profile_mark(net->profile, PROFILE_LOSS, last);
        cuda_score(last, batches, pass, g->loss, true, add);
        net_backward(n, batches[0].n, pass, net->ranks != NULL ? cuda_sums_add : NULL, net);
    } else {
        cuda_sums_nothing(net, n);
    }
    if (net->ranks != NULL) {
        cuda_sums_end(net);
    }
    profile_mark(net->profile, PROFILE_UPDATE, last);
    if (g->clips) {
        k_grad_squares(&net->model, device_stream(net->backend->device));
    }
    k_update(&net->model, updates_there(net), g->clips, g->ratios,
             device_stream(net->backend->device));
    profile_end(net->profile, batches[0].n);
    net->staged = false;
}

/* What a recorded step depends on. False when a data set is not on the device, so that the host has
 * a part in the step. */
static bool describe_step(struct cuda_net *net, const struct batch *batches,
                          const struct pass *pass, struct loss loss, const struct update *lanes,
                          struct cuda_graph *ret)
{
    *ret = (struct cuda_graph){
        .n = batches[0].n, .whole = net->whole, .loss = loss, .ratios = any_ratio(net, lanes)};
    bool all = true;
    for (int lane = 0; lane < net->lanes; lane++) {
        uint64_t serial = 0;
        if (!pass->lanes[lane].idle) {
            const struct resident *r = cuda_resident(net->backend, batches[lane].d, true);
            all = all && batches[lane].values == NULL && r->serial != 0 &&
                  (r->bytes != NULL || r->values != NULL);
            serial = batches[lane].d->serial;
            ret->smoothing[lane] = pass_loss(pass, lane, loss).smoothing;
            ret->clips = ret->clips || lanes[lane].clip > 0;
        }
        ret->changes = ret->changes || (batches[lane].augment != NULL && !pass->lanes[lane].idle);
        ret->sets = ret->sets * 0x100000001b3ULL + serial;
    }
    return all;
}

/* The place of such a step among those that were recorded; a place that is free, or becomes it. */
static struct cuda_graph *find_graph(struct cuda_net *net, const struct cuda_graph *wanted)
{
    struct cuda_graph *place = NULL;
    for (int i = 0; i < GRAPHS_MAX; i++) {
        struct cuda_graph *g = &net->graphs[i];
        if (g->tried && g->n == wanted->n && g->whole == wanted->whole &&
            g->loss.kind == wanted->loss.kind &&
            memcmp(g->smoothing, wanted->smoothing, sizeof(g->smoothing)) == 0 &&
            g->sets == wanted->sets && g->clips == wanted->clips && g->ratios == wanted->ratios &&
            g->changes == wanted->changes) {
            return g;
        }
        if (place == NULL && !g->tried) {
            place = g;
        }
    }
    if (place == NULL) { /* the longest known is the likeliest to be of use: the last goes */
        place = &net->graphs[GRAPHS_MAX - 1];
        device_graph_destroy(place->graph);
    }
    *place = *wanted;
    return place;
}

/* The place of this step's graph, and whether it is recorded: the ranks do it together or not at
 * all. */
static struct cuda_graph *choose_graph(struct cuda_net *net, struct cuda_graph *wanted,
                                       bool resident, bool *records)
{
    *records = resident && net->backend->graphs;
    if (net->ranks == NULL) {
        return *records ? find_graph(net, wanted) : wanted;
    }
    struct cuda_graph *g = find_graph(net, wanted);
    if (!g->tried) {
        g->records = cuda_sums_agree(net, *records);
    }
    *records = g->records && net->backend->graphs;
    return g;
}

/* Records the step and runs it; false when that was not possible, and nothing was run. */
static bool record_step(struct net *n, struct cuda_net *net, const struct batch *batches,
                        const struct pass *pass, struct cuda_graph *g, struct score *add)
{
    struct device *d = net->backend->device;
    if (device_record(d)) {
        queue_step(n, net, batches, pass, g, add);
        g->graph = device_record_end(d);
    }
    if (net->ranks != NULL && !cuda_sums_agree(net, g->graph != NULL)) {
        device_graph_destroy(g->graph);
        g->graph = NULL;
    }
    net->backend->graphs = g->graph != NULL; /* it works without, and so it stays */
    if (g->graph != NULL) {
        device_repeat(d, g->graph);
    }
    return g->graph != NULL;
}

void cuda_train(struct net *n, const struct batch *batches, struct loss loss,
                const struct pass *pass, const struct update *lanes, struct score *add)
{
    struct cuda_net *net = cuda_of(n->input)->net;
    struct device *d = net->backend->device;
    struct cuda_graph wanted;
    bool records = false;
    if (net->ranks != n->ranks) {
        cuda_sums_begin(net, n->ranks);
    }
    net->whole = n->ranks != NULL ? n->whole : batches[0].n;
    bool changes = net->pending != add; /* who gets the losses, and of which lanes */
    for (int lane = 0; lane < net->lanes; lane++) {
        changes = changes || net->idle[lane] != pass->lanes[lane].idle;
    }
    if (changes) {
        cuda_net_settle(net);
    }
    for (int lane = 0; lane < net->lanes; lane++) {
        net->idle[lane] = pass->lanes[lane].idle;
    }
    const bool resident = describe_step(net, batches, pass, loss, lanes, &wanted);
    stage(net, batches, pass, lanes);
    struct cuda_graph *g = choose_graph(net, &wanted, resident, &records);
    if (g->graph != NULL) {
        device_repeat(d, g->graph);
    } else if (!records || !g->tried || !record_step(n, net, batches, pass, g, add)) {
        queue_step(n, net, batches, pass, g, add);
        g->tried = true;
    }
    net->pending = add;
}
