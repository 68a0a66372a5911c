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
#include <stdlib.h>
#include <string.h>

/* ---- nets ---- */

enum mag_status cuda_net_open(struct backend *b, struct cuda_op *input, struct cuda_net **ret,
                              struct mag_err *err)
{
    (void)err;
    struct cuda_net *net = xcalloc(1, sizeof(*net));
    *net =
        (struct cuda_net){.backend = b, .input = input, .lanes = input->op.lanes, .next = b->nets};
    b->nets = net;
    *ret = net;
    return MAG_OK;
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
    device_free(b->device, net->table);
    device_free(b->device, net->step);
    device_free(b->device, net->scores);
    cuda_sums_begin(net, NULL);
    free(net->step_host);
    free(net->ops);
    free(net);
}

/* ---- what lies beside the ops: the step's inputs, losses, the table of parameters ---- */

static int64_t aligned(int64_t bytes)
{
    return (bytes + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
}

static bool prepare_step(struct cuda_net *net, struct mag_err *err)
{
    const int64_t rows = net->input->op.rows;
    int64_t streams = 0;
    for (int i = 0; i < net->n_ops; i++) {
        streams += net->ops[i]->streams != NULL ? net->ops[i]->op.lanes : 0;
    }
    net->updates_at = 0;
    net->rows_at = aligned(net->lanes * (int64_t)sizeof(struct cell_update));
    net->streams_at = net->rows_at + aligned(net->lanes * rows * (int64_t)sizeof(uint32_t));
    net->step_bytes = net->streams_at + aligned(streams * (int64_t)sizeof(struct cell_stream));
    const int64_t scores = aligned(net->lanes * (int64_t)sizeof(struct cell_score));
    const int64_t losses = aligned(rows * (int64_t)sizeof(double));
    const int64_t room = scores + losses + aligned(rows * (int64_t)sizeof(int32_t));
    struct device *d = net->backend->device;
    void *block = NULL;
    if (device_alloc(d, room, "the losses of a batch", &block, err) != MAG_OK) {
        return false;
    }
    net->scores = block;
    net->row_loss = (double *)(void *)((char *)block + scores);
    net->row_said = (int32_t *)(void *)((char *)block + scores + losses);
    if (device_alloc(d, net->step_bytes, "the inputs of a step", &net->step, err) != MAG_OK) {
        return false;
    }
    net->step_host = xcalloc(1, (size_t)net->step_bytes);
    char *at = (char *)net->step + net->streams_at;
    net->input->rows = (uint32_t *)(void *)((char *)net->step + net->rows_at);
    for (int i = 0; i < net->n_ops; i++) {
        if (net->ops[i]->streams != NULL) {
            net->ops[i]->streams = (struct cell_stream *)(void *)at;
            at += net->ops[i]->op.lanes * (int64_t)sizeof(struct cell_stream);
        }
    }
    return true;
}

/* Calls for every array of every lane; op by op. */
static int each_array(const struct cuda_op *c, struct cell_array *to)
{
    int n = 0;
    for (int a = 0; a < OP_PARAMS; a++) {
        const int64_t floats = op_param_floats(&c->op.layer, (enum op_param)a);
        const bool moves = c->params[a][SLOT_GRAD] != NULL || c->params[a][SLOT_AVERAGE] != NULL;
        for (int lane = 0; lane < c->op.lanes && floats > 0 && moves; lane++, n++) {
            if (to == NULL) {
                continue;
            }
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
    return n;
}

static int chunks_of(int64_t n)
{
    return (int)((n + CELL_CHUNK - 1) / CELL_CHUNK);
}

/* Builds the table on the host, then copies it. */
static bool prepare_table(struct cuda_net *net, struct mag_err *err)
{
    int n = 0;
    int chunks = 0;
    for (int i = 0; i < net->n_ops; i++) {
        n += each_array(net->ops[i], NULL);
    }
    struct cell_array *arrays = xcalloc((size_t)n + 1, sizeof(*arrays));
    int *first = xcalloc((size_t)n + 1, sizeof(*first));
    for (int i = 0, at = 0; i < net->n_ops; i++) {
        net->ops[i]->first_array = at;
        at += each_array(net->ops[i], arrays + at);
        net->ops[i]->n_arrays = at - net->ops[i]->first_array;
    }
    for (int i = 0; i < n; i++) {
        first[i] = chunks;
        chunks += chunks_of(arrays[i].n);
    }
    first[n] = chunks;
    struct cell_chunk *parts = xcalloc((size_t)chunks + 1, sizeof(*parts));
    for (int i = 0, at = 0; i < n; i++) {
        for (int64_t from = 0; from < arrays[i].n; from += CELL_CHUNK, at++) {
            const int64_t left = arrays[i].n - from;
            parts[at] = (struct cell_chunk){
                .array = i, .begin = from, .n = (int)(left < CELL_CHUNK ? left : CELL_CHUNK)};
        }
    }
    for (int i = 0; i < net->n_ops; i++) {
        struct cuda_op *c = net->ops[i];
        c->first_chunk = first[c->first_array];
        c->n_chunks = first[c->first_array + c->n_arrays] - c->first_chunk;
    }
    const int64_t arrays_bytes = aligned((n + 1) * (int64_t)sizeof(*arrays));
    const int64_t parts_bytes = aligned((chunks + 1) * (int64_t)sizeof(*parts));
    const int64_t first_bytes = aligned((n + 1) * (int64_t)sizeof(*first));
    const int64_t partial = aligned(2 * (int64_t)(chunks + 1) * (int64_t)sizeof(double));
    const int64_t ratios = aligned((n + 1) * (int64_t)sizeof(double));
    const int64_t bytes = arrays_bytes + parts_bytes + first_bytes + partial + ratios +
                          aligned(net->lanes * (int64_t)sizeof(double));
    struct device *d = net->backend->device;
    bool good = device_alloc(d, bytes, "the table of parameters", &net->table, err) == MAG_OK;
    if (good) {
        char *at = net->table;
        device_put(d, at, arrays, ((size_t)n + 1) * sizeof(*arrays));
        device_put(d, at + arrays_bytes, parts, ((size_t)chunks + 1) * sizeof(*parts));
        device_put(d, at + arrays_bytes + parts_bytes, first, ((size_t)n + 1) * sizeof(*first));
        at += arrays_bytes + parts_bytes + first_bytes;
        net->model = (struct cell_model){
            .arrays = net->table,
            .chunks = (struct cell_chunk *)(void *)((char *)net->table + arrays_bytes),
            .chunks_of = (int *)(void *)((char *)net->table + arrays_bytes + parts_bytes),
            .n_arrays = n,
            .n_chunks = chunks,
            .all_chunks = chunks,
            .lanes = net->lanes,
            .partial = (double *)(void *)at,
            .ratios = (double *)(void *)(at + partial),
            .squares = (double *)(void *)(at + partial + ratios)};
    }
    free(arrays);
    free(first);
    free(parts);
    return good;
}

/* Once, when all ops of the net are there. False when it failed, which is noted. */
static bool prepare(struct cuda_net *net)
{
    struct mag_err err = {0};
    if (net->prepared) {
        return true;
    }
    if (net->step == NULL && !prepare_step(net, &err)) {
        device_fail(net->backend->device, err.code, "%s", err.text);
        return false;
    }
    if (net->table == NULL && !prepare_table(net, &err)) {
        device_fail(net->backend->device, err.code, "%s", err.text);
        return false;
    }
    net->prepared = true;
    return true;
}

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
    return prepare(net) ? (uint32_t *)(void *)((char *)net->step + net->rows_at) +
                              (int64_t)lane * net->input->op.rows
                        : NULL;
}

/* Queues the comparison of one lane's outputs with the labels; sums go to net->scores. */
static void queue_head(struct cuda_op *c, int lane, const struct batch *batch, struct loss loss,
                       bool want_grad)
{
    struct cuda_net *net = c->net;
    const struct resident *r = cuda_resident(net->backend, batch->d, false);
    uint32_t *rows = cuda_net_rows(net, lane);
    if (!net->staged) {
        device_put(net->backend->device, rows, batch->rows, (size_t)batch->n * sizeof(*rows));
    }
    const struct head h = {.out = c->out,
                           .grad = want_grad ? c->grad : (struct tensor){0},
                           .labels = r->labels,
                           .targets = r->targets,
                           .rows = rows,
                           .n = batch->n,
                           .whole = net->staged && net->ranks != NULL ? net->whole : batch->n,
                           .width = (int)shape_size(&c->op.layer.out),
                           .lanes = c->op.lanes,
                           .lane = lane,
                           .kind = (int)loss.kind,
                           .smoothing = loss.smoothing,
                           .row_loss = net->row_loss,
                           .row_said = net->row_said,
                           .add = net->scores + lane};
    k_head(&h, cuda_stream(c));
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
    if (!prepare(net)) {
        return;
    }
    if (!net->staged) {
        cuda_net_settle(net);
    }
    bool counts = false; /* on the device */
    for (int lane = 0; lane < last->lanes; lane++) {
        net->idle[lane] = pass->lanes[lane].idle || (add[lane].tally != NULL && !net->staged);
        if (pass->lanes[lane].idle) {
            continue;
        }
        if (want_grad || !net->idle[lane]) {
            queue_head(c, lane, &batches[lane], pass_loss(pass, lane, loss), want_grad);
            counts = true;
        }
        if (net->idle[lane]) {
            score_on_host(c, lane, &batches[lane], loss, &add[lane]);
        }
    }
    last->grad_set = last->grad_set || want_grad;
    if (!net->staged && counts) {
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
    return (struct cell_update *)(void *)(net->step_host + net->updates_at);
}

static bool any_ratio(const struct cuda_net *net, const struct update *lanes)
{
    bool any = false;
    for (int lane = 0; lane < net->lanes; lane++) {
        any = any || (!lanes[lane].idle && lanes[lane].kind == OPTIMIZER_LAMB);
    }
    return any;
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
    if (!prepare(net) || c->n_arrays == 0) {
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
        device_put(net->backend->device, (char *)net->step + net->updates_at, now, bytes);
    }
    const struct cell_model m = model_of(c);
    k_update(&m, (struct cell_update *)(void *)((char *)net->step + net->updates_at), 0,
             any_ratio(net, lanes), cuda_stream(c));
}

void cuda_grad_square(struct op *op, double *lanes)
{
    struct cuda_op *c = cuda_of(op);
    memset(lanes, 0, (size_t)op->lanes * sizeof(*lanes));
    if (!prepare(c->net) || c->n_arrays == 0) {
        return;
    }
    const struct cell_model m = model_of(c);
    k_grad_squares(&m, cuda_stream(c));
    device_get(cuda_device(c), lanes, m.squares, (size_t)op->lanes * sizeof(*lanes));
}

/* ---- the whole step ---- */

/* All that the step's kernels read from the host, in one copy. */
static void stage(struct cuda_net *net, const struct batch *batches, const struct pass *pass,
                  const struct update *lanes)
{
    uint32_t *rows = (uint32_t *)(void *)(net->step_host + net->rows_at);
    struct cell_stream *streams = (struct cell_stream *)(void *)(net->step_host + net->streams_at);
    for (int lane = 0; lane < net->lanes; lane++) {
        step_updates(net)[lane] = cell_update_of(&lanes[lane]);
        /* A shared input is gathered by lane 0's rows, though that lane may have ended. */
        if (!pass->lanes[lane].idle || (lane == 0 && net->input->op.lanes == 1)) {
            memcpy(rows + (int64_t)lane * net->input->op.rows, batches[lane].rows,
                   (size_t)batches[lane].n * sizeof(*rows));
        }
    }
    for (int i = 0; i < net->n_ops; i++) {
        if (net->ops[i]->streams != NULL) {
            cuda_streams(net->ops[i], pass, streams);
            streams += net->ops[i]->op.lanes;
        }
    }
    device_put(net->backend->device, net->step, net->step_host, (size_t)net->step_bytes);
}

/* Queues the step's work; everything that may differ is staged. */
static void queue_step(struct net *n, struct cuda_net *net, const struct batch *batches,
                       const struct pass *pass, const struct cuda_graph *g, struct score *add)
{
    struct op *last = n->layers[n->n - 1];
    net->staged = true;
    last->grad_set = false;
    if (batches[0].n > 0) {
        net_forward(n, batches, pass);
        cuda_score(last, batches, pass, g->loss, true, add);
        net_backward(n, batches[0].n, pass, net->ranks != NULL ? cuda_sums_add : NULL, net);
    } else {
        cuda_sums_nothing(net, n);
    }
    if (net->ranks != NULL) {
        cuda_sums_end(net);
    }
    if (g->clips) {
        k_grad_squares(&net->model, device_stream(net->backend->device));
    }
    k_update(&net->model, (struct cell_update *)(void *)((char *)net->step + net->updates_at),
             g->clips, g->ratios, device_stream(net->backend->device));
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
            all = all && batches[lane].augment == NULL && batches[lane].values == NULL &&
                  r->serial != 0 && (r->bytes != NULL || r->values != NULL);
            serial = batches[lane].d->serial;
            ret->smoothing[lane] = pass_loss(pass, lane, loss).smoothing;
            ret->clips = ret->clips || lanes[lane].clip > 0;
        }
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
            g->sets == wanted->sets && g->clips == wanted->clips && g->ratios == wanted->ratios) {
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
    if (!prepare(net)) {
        return;
    }
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
