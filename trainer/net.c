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

/* The most values of batches that are kept at the input for lanes that take turns: with what one
 * lane trains on they should fit the caches. */
#define AHEAD_VALUES 500000

static int steps_ahead(const struct model *model, const struct net_options *options)
{
    const int64_t most = AHEAD_VALUES / (shape_size(&model->input) * options->rows);
    if (!options->turns || options->lanes <= 1) {
        return 1;
    }
    return most > BACKEND_SLOTS_MAX ? BACKEND_SLOTS_MAX : most < 1 ? 1 : (int)most;
}

static struct net *net_empty(const struct model *model, const struct net_options *options)
{
    struct net *net = xcalloc(1, sizeof(*net));
    net->rows = options->rows;
    net->lanes = options->lanes > 0 ? options->lanes : 1;
    net->ahead = steps_ahead(model, options);
    net->average = options->average;
    net->learns = options->learns;
    net->keeps = options->keeps;
    MAG_ASSERT(net->lanes <= BACKEND_LANES_MAX, "%d lanes", net->lanes);
    return net;
}

static enum mag_status add_layers(struct net *net, const struct model *model, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    for (int i = 0; i < model->n && st == MAG_OK; i++) {
        struct op *inputs[MODEL_INPUTS_MAX];
        const struct op_spec spec = spec_of(net, &model->layers[i], inputs);
        st = net->ops->op_create(net->backend, &spec, &net->layers[i], err);
        net->n += st == MAG_OK;
    }
    return st == MAG_OK && net->ops->ready != NULL ? net->ops->ready(net, err) : st;
}

/* A net for each lane. */
static enum mag_status add_turns(struct net *net, const struct model *model,
                                 const struct net_options *options, struct mag_err *err)
{
    struct net_options one = *options;
    enum mag_status st = MAG_OK;
    one.lanes = 1;
    for (int lane = 0; lane < net->lanes && st == MAG_OK; lane++) {
        struct net *turn = net_empty(model, &one);
        turn->ops = net->ops;
        turn->backend = net->backend;
        turn->input = net->input;
        net->turns[lane] = turn;
        if (!options->shared) {
            st = net->ops->input_create(net->backend, &model->input, net->rows, 1, &turn->input,
                                        err);
        }
        if (st == MAG_OK) {
            st = add_layers(turn, model, err);
        }
    }
    return st;
}

enum mag_status net_create(const struct backend_ops *ops, struct backend *backend,
                           const struct model *model, const struct net_options *options,
                           struct net **ret, struct mag_err *err)
{
    struct net *net = net_empty(model, options);
    const bool turns = options->turns && net->lanes > 1;
    enum mag_status st = MAG_OK;
    MAG_ASSERT(!turns || ops->stage != NULL, "backend %s has one slot", ops->name);
    net->ops = ops;
    net->backend = backend;
    if (!turns || options->shared) {
        st = ops->input_create(backend, &model->input, net->rows, options->shared ? 1 : net->lanes,
                               &net->input, err);
    }
    if (st == MAG_OK) {
        st = turns ? add_turns(net, model, options, err) : add_layers(net, model, err);
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
    struct net *net = net_empty(model, options);
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
    for (int lane = 0; lane < net->lanes && net->turns[lane] != NULL; lane++) {
        if (net->turns[lane]->input == net->input) {
            net->turns[lane]->input = NULL;
        }
        net_destroy(net->turns[lane]);
    }
    for (int i = net->n; i > 0; i--) {
        net->ops->op_destroy(net->layers[i - 1]);
    }
    net->ops->op_destroy(net->input);
    free(net);
}

/* ---- arrays ---- */

struct op *net_op(const struct net *net, int layer, int *lane)
{
    if (net->turns[0] == NULL) {
        return net->layers[layer];
    }
    const struct net *turn = net->turns[*lane];
    *lane = 0;
    return turn->layers[layer];
}

enum mag_status net_each_array(struct net *net, int lane, unsigned slots, net_visit visit,
                               void *ctx)
{
    static const enum op_slot order[] = {SLOT_VALUE, SLOT_FIRST, SLOT_SECOND, SLOT_AVERAGE};
    const int n = net->turns[0] != NULL ? net->turns[0]->n : net->n;
    for (int i = 0; i < n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            struct net_array a = {.lane = lane, .p = (enum op_param)p};
            a.op = net_op(net, i, &a.lane);
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

static void forward_layers(struct net *net, int n, const struct pass *pass)
{
    for (int i = 0; i < net->n; i++) {
        net->ops->forward(net->layers[i], n, pass);
    }
}

void net_forward(struct net *net, const struct batch *batches, const struct pass *pass)
{
    MAG_ASSERT(net->turns[0] == NULL, "%d lanes in turn", net->lanes);
    for (int lane = 0; lane < net->input->lanes; lane++) {
        if (net->input->lanes == 1 || !pass->lanes[lane].idle) {
            net->ops->load(net->input, lane, &batches[lane]);
        }
    }
    forward_layers(net, batches[0].n, pass);
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

/* From the loss to the step. */
static void learn(struct net *net, const struct batch *batches, struct loss loss,
                  const struct pass *pass, const struct update *lanes, struct score *add)
{
    net->ops->score(net->layers[net->n - 1], batches, pass, loss, true, add);
    net_backward(net, batches[0].n, pass, NULL, NULL);
    net_update(net, lanes);
}

/* Lanes side by side: one step, or what it would measure. */
static void step_all(struct net *net, const struct net_step *s, struct loss loss, struct score *add)
{
    if (s->updates != NULL && net->ops->train != NULL) {
        net->ops->train(net, s->batches, loss, s->pass, s->updates, add);
        return;
    }
    net_forward(net, s->batches, s->pass);
    if (s->updates != NULL) {
        learn(net, s->batches, loss, s->pass, s->updates, add);
    } else {
        net->ops->score(net->layers[net->n - 1], s->batches, s->pass, loss, false, add);
    }
}

/* Step k of one lane in its turn. */
static void step_lane(struct net *turn, int lane, const struct net_step *s, int k, struct loss loss,
                      struct score *add)
{
    const struct batch *batch = &s->batches[lane];
    const struct pass pass = {.training = s->pass->training, .lanes = s->pass->lanes + lane};
    turn->ops->stage(turn->input, k);
    forward_layers(turn, batch->n, &pass);
    if (s->updates != NULL) {
        learn(turn, batch, loss, &pass, s->updates + lane, add);
    } else {
        turn->ops->score(turn->layers[turn->n - 1], batch, &pass, loss, false, add);
    }
}

void net_load(struct net *net, int k, const struct net_step *s)
{
    const int inputs = net->input != NULL ? 1 : net->lanes;
    for (int lane = 0; lane < inputs && net->turns[0] != NULL; lane++) {
        if (net->input != NULL || !s->pass->lanes[lane].idle) {
            net->ops->stage(net->turns[lane]->input, k);
            net->ops->load(net->turns[lane]->input, 0, &s->batches[lane]);
        }
    }
}

void net_steps(struct net *net, const struct net_step *steps, int n, struct loss loss,
               struct score *add, int *taken)
{
    MAG_ASSERT(n >= 1 && n <= net->ahead, "%d steps of %d", n, net->ahead);
    if (net->turns[0] == NULL) {
        step_all(net, &steps[0], loss, add);
    }
    for (int lane = 0; lane < net->lanes; lane++) {
        taken[lane] = net->turns[0] == NULL ? 1 : 0;
        bool good = !steps[0].pass->lanes[lane].idle;
        for (; taken[lane] < n && good; taken[lane]++) {
            step_lane(net->turns[lane], lane, &steps[taken[lane]], taken[lane], loss, &add[lane]);
            good = isfinite(add[lane].loss) != 0;
        }
    }
}

/* One step: learned from, or measured. */
static void take(struct net *net, const struct net_step *s, struct loss loss, struct score *add)
{
    int taken[BACKEND_LANES_MAX];
    net_load(net, 0, s);
    net_steps(net, s, 1, loss, add, taken);
}

void net_train(struct net *net, const struct batch *batches, struct loss loss,
               const struct pass *pass, const struct update *lanes, struct score *add)
{
    const struct net_step step = {.batches = batches, .pass = pass, .updates = lanes};
    take(net, &step, loss, add);
}

void net_score(struct net *net, const struct batch *batches, const struct pass_lane *lanes,
               struct loss loss, struct score *add)
{
    static const struct pass_lane none[BACKEND_LANES_MAX];
    const struct pass pass = {.training = false, .lanes = lanes != NULL ? lanes : none};
    const struct net_step step = {.batches = batches, .pass = &pass};
    take(net, &step, loss, add);
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
    for (int lane = 0; lane < net->lanes && net->turns[lane] != NULL; lane++) {
        net_swap_average(net->turns[lane]);
    }
    for (int i = 0; i < net->n && net->average; i++) {
        net->ops->swap_average(net->layers[i]);
    }
}
