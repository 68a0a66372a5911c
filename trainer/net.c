/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/net.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- building ---- */

/* What computes the same for every lane of a shared input is computed once. */
static int lanes_of(const struct net *net, const struct layer *l, struct op *const *inputs)
{
    if (layer_learns(l) || l->kind == LAYER_DROPOUT) {
        return net->lanes;
    }
    int most = 1;
    for (int i = 0; i < l->n_inputs; i++) {
        most = inputs[i]->lanes > most ? inputs[i]->lanes : most;
    }
    return most;
}

/* Of the next layer; its inputs into `inputs`. */
static struct op_spec spec_of(const struct net *net, const struct layer *l,
                              struct op *inputs[MODEL_INPUTS_MAX])
{
    for (int i = 0; i < l->n_inputs; i++) {
        MAG_ASSERT(l->inputs[i] < net->n, "layer %d is fed by layer %d", net->n, l->inputs[i]);
        inputs[i] = l->inputs[i] == MODEL_INPUT ? net->input : net->layers[l->inputs[i]];
    }
    return (struct op_spec){.layer = l,
                            .index = net->n,
                            .inputs = inputs,
                            .lanes = lanes_of(net, l, inputs),
                            .average = net->average,
                            .learns = net->learns};
}

static struct net *net_empty(const struct net_options *options)
{
    struct net *net = xcalloc(1, sizeof(*net));
    net->rows = options->rows;
    net->lanes = options->lanes > 0 ? options->lanes : 1;
    net->average = options->average;
    net->learns = options->learns;
    MAG_ASSERT(net->lanes <= BACKEND_LANES_MAX, "%d lanes", net->lanes);
    return net;
}

enum mag_status net_create(const struct backend_ops *ops, struct backend *backend,
                           const struct model *model, const struct net_options *options,
                           struct net **ret, struct mag_err *err)
{
    struct net *net = net_empty(options);
    net->ops = ops;
    net->backend = backend;
    enum mag_status st = ops->input_create(backend, &model->input, net->rows,
                                           options->shared ? 1 : net->lanes, &net->input, err);
    for (int i = 0; i < model->n && st == MAG_OK; i++) {
        struct op *inputs[MODEL_INPUTS_MAX];
        const struct op_spec spec = spec_of(net, &model->layers[i], inputs);
        st = ops->op_create(backend, &spec, &net->layers[i], err);
        net->n += st == MAG_OK;
    }
    if (st != MAG_OK) {
        net_destroy(net);
        return st;
    }
    *ret = net;
    return MAG_OK;
}

struct net *net_outline(const struct model *model, const struct net_options *options)
{
    struct net *net = net_empty(options);
    net->input = xcalloc((size_t)model->n + 1, sizeof(*net->input));
    op_init_input(net->input, NULL, &model->input, net->rows, options->shared ? 1 : net->lanes);
    for (int i = 0; i < model->n; i++) {
        struct op *inputs[MODEL_INPUTS_MAX];
        const struct op_spec spec = spec_of(net, &model->layers[i], inputs);
        net->layers[i] = net->input + 1 + i;
        op_init(net->layers[i], NULL, &spec);
        net->n++;
    }
    return net;
}

void net_outline_destroy(struct net *outline)
{
    if (outline != NULL) {
        free(outline->input); /* all heads lie there */
    }
    free(outline);
}

void net_destroy(struct net *net)
{
    if (net == NULL) {
        return;
    }
    for (int i = net->n; i > 0; i--) {
        net->ops->op_destroy(net->layers[i - 1]);
    }
    net->ops->op_destroy(net->input);
    free(net);
}

/* ---- arrays ---- */

enum mag_status net_each_array(struct net *net, int lane, unsigned slots, net_visit visit,
                               void *ctx)
{
    static const enum op_slot order[] = {SLOT_VALUE, SLOT_FIRST, SLOT_SECOND, SLOT_AVERAGE};
    for (int i = 0; i < net->n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            struct net_array a = {.op = net->layers[i], .lane = lane, .p = (enum op_param)p};
            a.n = (size_t)op_param_floats(&a.op->layer, a.p);
            for (int s = 0; s < 4 && a.n > 0; s++) {
                a.slot = order[s];
                bool moment = a.slot == SLOT_FIRST || a.slot == SLOT_SECOND;
                if ((slots & SLOT_BIT(a.slot)) == 0 || (moment && !op_param_trained(a.p))) {
                    continue;
                }
                enum mag_status st = visit(ctx, net, &a);
                if (st != MAG_OK) {
                    return st;
                }
            }
        }
    }
    return MAG_OK;
}

static enum mag_status count_array(void *ctx, struct net *net, const struct net_array *a)
{
    (void)net;
    *(size_t *)ctx += a->n;
    return MAG_OK;
}

size_t net_array_floats(const struct net *net, unsigned slots)
{
    size_t n = 0;
    enum mag_status st = net_each_array((struct net *)(uintptr_t)net, 0, slots, count_array, &n);
    MAG_ASSERT(st == MAG_OK, "counting cannot fail");
    return n;
}

/* Two floats in [-bound, bound) from each draw. */
static void fill_uniform(struct pcg64 *g, float bound, float *to, size_t n)
{
    for (size_t i = 0; i < n; i += 2) {
        uint64_t bits = pcg64_next(g);
        to[i] = ((float)(uint32_t)(bits >> 8 & 0xffffff) * 0x1p-23f - 1) * bound;
        if (i + 1 < n) {
            to[i + 1] = ((float)(uint32_t)(bits >> 40) * 0x1p-23f - 1) * bound;
        }
    }
}

/* Normal, of deviation 1: Box and Muller's pairs. */
static void fill_normal(struct pcg64 *g, float *to, size_t n)
{
    for (size_t i = 0; i < n; i += 2) {
        double r = sqrt(-2 * log(1 - pcg64_double(g)));
        double angle = 2 * M_PI * pcg64_double(g);
        to[i] = (float)(r * cos(angle));
        if (i + 1 < n) {
            to[i + 1] = (float)(r * sin(angle));
        }
    }
}

static void fill(float *to, size_t n, float v)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = v;
    }
}

static void fill_values(struct pcg64 *g, const struct layer *l, enum op_param p, float *to,
                        size_t n)
{
    if (l->kind == LAYER_EMBEDDING) {
        fill_normal(g, to, n);
    } else if (l->kind == LAYER_BATCHNORM || l->kind == LAYER_LAYERNORM) {
        fill(to, n, p == OP_WEIGHTS || p == OP_VAR ? 1 : 0);
    } else {
        fill_uniform(g, 1.0f / sqrtf((float)layer_fan_in(l)), to, n);
    }
}

struct init_ctx {
    struct pcg64 g;
    float *room; /* of the values last made, which the average copies */
};

static enum mag_status init_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct init_ctx *c = ctx;
    if (a->slot == SLOT_VALUE) {
        fill_values(&c->g, &a->op->layer, a->p, c->room, a->n);
    }
    if (a->slot == SLOT_VALUE || a->slot == SLOT_AVERAGE) {
        net->ops->set(a->op, a->lane, a->p, a->slot, c->room);
        return MAG_OK;
    }
    float *zeros = xcalloc(a->n, sizeof(float));
    net->ops->set(a->op, a->lane, a->p, a->slot, zeros);
    free(zeros);
    return MAG_OK;
}

void net_init_weights(struct net *net, int lane, uint64_t seed, uint64_t trial)
{
    size_t most = net_array_floats(net, SLOT_BIT(SLOT_VALUE)) + 1;
    struct init_ctx c = {.room = xmalloc(most * sizeof(float))};
    pcg_stream(&c.g, seed, "init", trial);
    unsigned slots = SLOT_BIT(SLOT_VALUE) | (net->average ? SLOT_BIT(SLOT_AVERAGE) : 0) |
                     (net->learns ? SLOT_BIT(SLOT_FIRST) | SLOT_BIT(SLOT_SECOND) : 0);
    enum mag_status st = net_each_array(net, lane, slots, init_array, &c);
    MAG_ASSERT(st == MAG_OK, "init_array cannot fail");
    free(c.room);
}

/* ---- running ---- */

void net_forward(struct net *net, const struct batch *batches, const struct pass *pass)
{
    for (int lane = 0; lane < net->input->lanes; lane++) {
        if (net->input->lanes == 1 || !pass->lanes[lane].idle) {
            net->ops->load(net->input, lane, &batches[lane]);
        }
    }
    for (int i = 0; i < net->n; i++) {
        net->ops->forward(net->layers[i], batches[0].n, pass);
    }
}

void net_backward(struct net *net, int n, const struct pass *pass,
                  void (*done)(void *ctx, struct op *op), void *ctx)
{
    net->input->grad_set = false;
    for (int i = 0; i + 1 < net->n; i++) {
        net->layers[i]->grad_set = false;
    }
    for (int i = net->n - 1; i >= 0; i--) {
        net->ops->backward(net->layers[i], n, pass);
        if (done != NULL && layer_learns(&net->layers[i]->layer)) {
            done(ctx, net->layers[i]);
        }
    }
}

/* The norm of all gradients together, of each lane. */
static void grad_norms(struct net *net, double *norms)
{
    double one[BACKEND_LANES_MAX];
    memset(norms, 0, (size_t)net->lanes * sizeof(*norms));
    for (int i = 0; i < net->n; i++) {
        if (!layer_learns(&net->layers[i]->layer)) {
            continue;
        }
        net->ops->grad_square(net->layers[i], one);
        for (int lane = 0; lane < net->lanes; lane++) {
            norms[lane] += one[lane];
        }
    }
    for (int lane = 0; lane < net->lanes; lane++) {
        norms[lane] = sqrt(norms[lane]);
    }
}

void net_update(struct net *net, const struct update *lanes)
{
    struct update own[BACKEND_LANES_MAX];
    double norms[BACKEND_LANES_MAX];
    bool clips = false;
    memcpy(own, lanes, (size_t)net->lanes * sizeof(*own));
    for (int lane = 0; lane < net->lanes; lane++) {
        clips = clips || own[lane].clip > 0;
    }
    if (clips) {
        grad_norms(net, norms);
    }
    for (int lane = 0; lane < net->lanes && clips; lane++) {
        double most = (double)own[lane].clip;
        if (most > 0) {
            own[lane].scale = norms[lane] > most ? (float)(most / norms[lane]) : 1;
        }
    }
    for (int i = 0; i < net->n; i++) {
        net->ops->update(net->layers[i], own);
    }
}

void net_train(struct net *net, const struct batch *batches, struct loss loss,
               const struct pass *pass, const struct update *lanes, struct score *add)
{
    if (net->ops->train != NULL) {
        net->ops->train(net, batches, loss, pass, lanes, add);
        return;
    }
    net_forward(net, batches, pass);
    net->ops->score(net->layers[net->n - 1], batches, pass, loss, true, add);
    net_backward(net, batches[0].n, pass, NULL, NULL);
    net_update(net, lanes);
}

void net_score(struct net *net, const struct batch *batches, const struct pass_lane *lanes,
               struct loss loss, struct score *add)
{
    static const struct pass_lane none[BACKEND_LANES_MAX];
    const struct pass pass = {.training = false, .lanes = lanes != NULL ? lanes : none};
    net_forward(net, batches, &pass);
    net->ops->score(net->layers[net->n - 1], batches, &pass, loss, false, add);
}

void net_apply(struct net *net, const struct batch *batch, float *out)
{
    static const struct pass_lane none;
    const struct pass pass = {.training = false, .lanes = &none};
    net_forward(net, batch, &pass);
    net->ops->read(net->layers[net->n - 1], 0, false, batch->n, out);
}

void net_swap_average(struct net *net)
{
    for (int i = 0; i < net->n && net->average; i++) {
        net->ops->swap_average(net->layers[i]);
    }
}
