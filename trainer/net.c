/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/net.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdlib.h>

enum mag_status net_create(const struct backend_ops *ops, struct backend *backend,
                           const struct model *model, int rows, struct net **ret,
                           struct mag_err *err)
{
    struct net *net = xcalloc(1, sizeof(*net));
    *net = (struct net){.ops = ops, .backend = backend, .rows = rows};
    enum mag_status st = ops->input_create(backend, &model->input, rows, &net->input, err);
    struct op *at = net->input;
    for (int i = 0; i < model->n && st == MAG_OK; i++) {
        st = ops->op_create(backend, &model->layers[i], i, at, &net->layers[i], err);
        at = net->layers[i];
        net->n += st == MAG_OK;
    }
    if (st != MAG_OK) {
        net_destroy(net);
        return st;
    }
    *ret = net;
    return MAG_OK;
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

static size_t array_size(const struct op *op, enum op_param p)
{
    return (size_t)(p == OP_WEIGHTS ? layer_weights(&op->layer) : layer_biases(&op->layer));
}

enum mag_status net_each_array(struct net *net, int slots, net_visit visit, void *ctx)
{
    static const enum op_slot order[] = {SLOT_VALUE, SLOT_FIRST, SLOT_SECOND};
    for (int i = 0; i < net->n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            size_t n = array_size(net->layers[i], (enum op_param)p);
            for (int s = 0; s < slots && n > 0; s++) {
                enum mag_status st = visit(ctx, net, net->layers[i], (enum op_param)p, order[s], n);
                if (st != MAG_OK) {
                    return st;
                }
            }
        }
    }
    return MAG_OK;
}

size_t net_array_floats(const struct net *net, int slots)
{
    size_t n = 0;
    for (int i = 0; i < net->n; i++) {
        n += array_size(net->layers[i], OP_WEIGHTS) + array_size(net->layers[i], OP_BIAS);
    }
    return n * (size_t)slots;
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

struct init_ctx {
    struct pcg64 g;
    float *room;
};

static enum mag_status init_array(void *ctx, struct net *net, struct op *op, enum op_param p,
                                  enum op_slot slot, size_t n)
{
    struct init_ctx *c = ctx;
    if (slot == SLOT_VALUE) {
        fill_uniform(&c->g, 1.0f / sqrtf((float)layer_fan_in(&op->layer)), c->room, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            c->room[i] = 0;
        }
    }
    net->ops->set(op, p, slot, c->room);
    return MAG_OK;
}

void net_init_weights(struct net *net, uint64_t seed, uint64_t trial)
{
    struct init_ctx c = {.room = xmalloc((net_array_floats(net, 1) + 1) * sizeof(float))};
    pcg_stream(&c.g, seed, "init", trial);
    enum mag_status st = net_each_array(net, 3, init_array, &c);
    MAG_ASSERT(st == MAG_OK, "init_array cannot fail");
    free(c.room);
}

/* Of all parameters together. */
static double grad_norm(struct net *net)
{
    double sum = 0;
    for (int i = 0; i < net->n; i++) {
        sum += net->ops->grad_square(net->layers[i]);
    }
    return sqrt(sum);
}

void net_train(struct net *net, const struct dataset *d, const uint32_t *rows, int n,
               struct loss loss, const struct pass *pass, const struct update *u, struct score *add)
{
    const struct backend_ops *o = net->ops;
    o->load(net->input, d, rows, n);
    for (int i = 0; i < net->n; i++) {
        o->forward(net->layers[i], n, pass);
    }
    o->score(net->layers[net->n - 1], d, rows, n, loss, true, add);
    for (int i = net->n - 1; i >= 0; i--) {
        o->backward(net->layers[i], n, pass);
    }
    struct update own = *u;
    if (u->clip > 0) {
        double norm = grad_norm(net);
        own.scale = norm > (double)u->clip ? (float)((double)u->clip / norm) : 1;
    }
    for (int i = 0; i < net->n; i++) {
        o->update(net->layers[i], &own);
    }
}

void net_score(struct net *net, const struct dataset *d, const uint32_t *rows, int n,
               struct loss loss, struct score *add)
{
    const struct pass pass = {.training = false};
    net->ops->load(net->input, d, rows, n);
    for (int i = 0; i < net->n; i++) {
        net->ops->forward(net->layers[i], n, &pass);
    }
    net->ops->score(net->layers[net->n - 1], d, rows, n, loss, false, add);
}
