/* SPDX-License-Identifier: Apache-2.0
 *
 * Lanes: models trained side by side are those that each would have become alone, whatever differs
 * between them; and gradients can be taken out and put back for sums over processes.
 */
#include "support.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LANES 3
#define ROWS 16
#define STEPS 5
#define END "{\"type\":\"dense\",\"units\":3}]"

static const char *const models[] = {
    "[{\"type\":\"dense\",\"units\":40,\"activation\":\"relu\"},{\"type\":\"dropout\",\"rate\":0.3}"
    ","
    "{\"type\":\"dense\",\"units\":33,\"activation\":\"tanh\"}," END,
    "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"activation\":\"relu\"},{\"type\":\"maxpool\"}"
    ","
    "{\"type\":\"conv\",\"filters\":5,\"kernel\":3,\"activation\":\"tanh\"},{\"type\":\"dropout\","
    "\"rate\":0.2},{\"type\":\"dense\",\"units\":32,\"activation\":\"relu\"}," END,
    "[{\"type\":\"maxpool\"},{\"type\":\"flatten\"},{\"type\":\"dense\",\"units\":20,"
    "\"activation\":\"sigmoid\"}," END,
    "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"bias\":false},{\"type\":\"batchnorm\","
    "\"activation\":\"relu\"},{\"type\":\"residual\",\"activation\":\"relu\",\"layers\":[{\"type\":"
    "\"conv\",\"filters\":16,\"kernel\":3,\"stride\":2},{\"type\":\"batchnorm\"}]},{\"type\":"
    "\"concat\",\"branches\":[[{\"type\":\"globalpool\"}],[{\"type\":\"avgpool\"},{\"type\":"
    "\"flatten\"}]]},{\"type\":\"dense\",\"units\":9},{\"type\":\"batchnorm\",\"activation\":"
    "\"silu\"},{\"type\":\"residual\",\"layers\":[{\"type\":\"dense\",\"units\":9,\"activation\":"
    "\"gelu\"},{\"type\":\"dropout\",\"rate\":0.2}]},{\"type\":\"layernorm\"}," END,
};
#define N_MODELS (sizeof(models) / sizeof(models[0]))

/* What differs between the lanes. */
static const struct update updates[LANES] = {
    {.kind = OPTIMIZER_SGD, .lr = 0.05f, .momentum = 0.9f, .clip = 0.5f},
    {.kind = OPTIMIZER_ADAM, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-8f},
    {.kind = OPTIMIZER_SGD, .lr = 0.1f, .weight_decay = 0.01f},
};

struct bed {
    struct backend *backend;
    struct net *net;
    struct dataset *d;
    float rates[LANES][MODEL_LAYERS_MAX];
};

static void bed_open(struct bed *b, const struct backend_ops *ops, const char *layers, int n_lanes,
                     bool shared)
{
    const struct backend_options o = {.threads = 1};
    struct mag_err err = {0};
    b->d = toy_dataset((struct shape){1, 8, 8, false}, 3, 90);
    struct model m = model_of(layers, b->d->shape);
    const struct net_options options = {
        .rows = ROWS, .lanes = n_lanes, .shared = shared, .learns = true, .average = true};
    cr_assert_eq(ops->open(&o, &b->backend, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(net_create(ops, b->backend, &m, &options, &b->net, &err), MAG_OK, "%s", err.text);
}

static void bed_close(struct bed *b)
{
    const struct backend_ops *ops = b->net->ops;
    struct mag_err err = {0};
    cr_assert_eq(ops->check(b->backend, &err), MAG_OK, "%s", err.text);
    net_destroy(b->net);
    ops->close(b->backend);
    dataset_destroy(b->d);
}

/* Trains the net's lanes, which stand for the trials from `first` on. Lane 1 ends early. */
static void train(struct bed *b, int first, bool shared, struct score *scores)
{
    int n_lanes = b->net->lanes;
    for (int lane = 0; lane < n_lanes; lane++) {
        net_init_weights(b->net, lane, 1, (uint64_t)(first + lane));
    }
    for (int step = 0; step < STEPS; step++) {
        struct pass_lane lanes[LANES];
        struct batch batches[LANES];
        struct update u[LANES];
        int n = step == 2 ? ROWS - 3 : ROWS;
        for (int lane = 0; lane < n_lanes; lane++) {
            int trial = first + lane;
            bool idle = trial == 1 && step >= 3;
            for (int i = 0; i < MODEL_LAYERS_MAX; i++) {
                b->rates[lane][i] = 0.1f * (float)(1 + trial);
            }
            lanes[lane] = (struct pass_lane){
                .seed = 7, .trial = trial, .batch = step, .rates = b->rates[lane], .idle = idle};
            batches[lane] = (struct batch){
                .d = b->d, .rows = b->d->train + (shared ? step : step + 2 * trial), .n = n};
            u[lane] = updates[trial];
            u[lane].count = step + 1;
            u[lane].idle = idle;
            u[lane].average_keep = 0.5f;
        }
        const struct pass pass = {.training = true, .lanes = lanes};
        net_train(b->net, batches, (struct loss){LOSS_CROSS_ENTROPY, 0}, &pass, u, scores);
    }
    cr_assert_eq(b->net->ops->check(b->backend, NULL), MAG_OK); /* scores are complete */
}

struct kept {
    float *values;
    size_t n;
    bool trained; /* only what a gradient moves */
};

static enum mag_status keep_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct kept *k = ctx;
    if (k->trained && !op_param_trained(a->p)) {
        return MAG_OK;
    }
    k->values = xreallocarray(k->values, k->n + a->n, sizeof(float));
    net->ops->get(a->op, a->lane, a->p, a->slot, k->values + k->n);
    k->n += a->n;
    return MAG_OK;
}

/* Weights, optimizer state and averages of a lane. */
static struct kept everything(struct net *net, int lane)
{
    struct kept k = {0};
    unsigned all = SLOT_BIT(SLOT_VALUE) | SLOT_BIT(SLOT_FIRST) | SLOT_BIT(SLOT_SECOND) |
                   SLOT_BIT(SLOT_AVERAGE);
    cr_assert_eq(net_each_array(net, lane, all, keep_array, &k), MAG_OK);
    return k;
}

static void check_lanes(const struct backend_ops *ops, const char *layers, bool shared,
                        double tolerance)
{
    struct bed fused = {0};
    struct score together[LANES] = {{0}};
    bed_open(&fused, ops, layers, LANES, shared);
    train(&fused, 0, shared, together);
    for (int lane = 0; lane < LANES; lane++) {
        struct bed single = {0};
        struct score alone = {0};
        bed_open(&single, ops, layers, 1, false);
        train(&single, lane, shared, &alone);
        struct kept a = everything(single.net, 0);
        struct kept b = everything(fused.net, lane);
        cr_assert_eq(a.n, b.n);
        double most = 0;
        for (size_t i = 0; i < a.n; i++) {
            most = fmax(most, fabs((double)a.values[i] - (double)b.values[i]));
        }
        cr_expect_leq(most, tolerance, "%s, lane %d: off by %g", ops->name, lane, most);
        cr_expect_eq(alone.rows, together[lane].rows);
        cr_expect_float_eq(alone.loss, together[lane].loss, tolerance * 100 + 1e-12);
        free(a.values);
        free(b.values);
        bed_close(&single);
    }
    bed_close(&fused);
}

Test(lanes, each_is_what_it_would_be_alone)
{
    for (size_t i = 0; i < N_MODELS; i++) {
        for (int shared = 0; shared < 2; shared++) {
            check_lanes(&backend_ref, models[i], shared, 0);
            check_lanes(&backend_cpu, models[i], shared, 2e-5);
        }
    }
}

/* ---- gradients for sums over processes ---- */

struct done {
    const struct backend_ops *ops;
    int calls;
    int last; /* index of the op last called with */
    float factor;
};

/* Multiplies the gradients of every lane, as a sum over equal processes would. */
static void scale_grads(void *ctx, struct op *op)
{
    struct done *d = ctx;
    cr_expect_lt(op->index, d->last, "the last layer comes first");
    d->last = op->index;
    d->calls++;
    for (int lane = 0; lane < op->lanes; lane++) {
        int64_t n = d->ops->grad_pack(op, lane, NULL);
        float *g = xcalloc((size_t)n, sizeof(float));
        cr_expect_eq(n, op_param_floats(&op->layer, OP_WEIGHTS) +
                            op_param_floats(&op->layer, OP_BIAS));
        cr_expect_eq(d->ops->grad_pack(op, lane, g), n);
        for (int64_t i = 0; i < n; i++) {
            g[i] *= d->factor;
        }
        cr_expect_eq(d->ops->grad_unpack(op, lane, g), n);
        free(g);
    }
}

/* One plain step with gradients times `factor`; how far the weights moved. */
static struct kept moved(struct bed *b, float factor)
{
    const struct backend_ops *ops = b->net->ops;
    const struct pass_lane lanes[LANES] = {{.trial = 1}, {.trial = 2}, {.trial = 3}};
    const struct update u[LANES] = {{.lr = 1}, {.lr = 1}, {.lr = 1}};
    const struct pass pass = {.training = true, .lanes = lanes};
    const struct batch batch = {.d = b->d, .rows = b->d->train, .n = ROWS};
    const struct batch batches[LANES] = {batch, batch, batch};
    struct score add[LANES] = {{0}};
    struct done d = {.ops = ops, .last = b->net->n, .factor = factor};
    for (int lane = 0; lane < LANES; lane++) {
        net_init_weights(b->net, lane, 1, (uint64_t)lane);
    }
    struct kept before = {.trained = true};
    struct kept after = {.trained = true};
    cr_assert_eq(net_each_array(b->net, 1, SLOT_BIT(SLOT_VALUE), keep_array, &before), MAG_OK);
    net_forward(b->net, batches, &pass);
    ops->score(b->net->layers[b->net->n - 1], batches, &pass, (struct loss){0}, true, add);
    net_backward(b->net, ROWS, &pass, factor > 0 ? scale_grads : NULL, &d);
    net_update(b->net, u);
    cr_assert_eq(net_each_array(b->net, 1, SLOT_BIT(SLOT_VALUE), keep_array, &after), MAG_OK);
    for (size_t i = 0; i < after.n; i++) {
        after.values[i] -= before.values[i];
    }
    free(before.values);
    return after;
}

Test(lanes, gradients_taken_out_and_put_back_are_those_of_the_step)
{
    const struct backend_ops *const backends[] = {&backend_ref, &backend_cpu};
    for (size_t k = 0; k < 2 * N_MODELS; k++) {
        struct bed b = {0};
        bed_open(&b, backends[k % 2], models[k / 2], LANES, true);
        struct kept plain = moved(&b, 0);
        struct kept doubled = moved(&b, 2);
        cr_assert_eq(plain.n, doubled.n);
        for (size_t i = 0; i < plain.n; i++) {
            cr_assert_float_eq((double)doubled.values[i], 2 * (double)plain.values[i], 1e-5,
                               "model %zu, value %zu: %g, %g", k / 2, i, (double)doubled.values[i],
                               (double)plain.values[i]);
        }
        free(plain.values);
        free(doubled.values);
        bed_close(&b);
    }
}

/* ---- the average of the weights ---- */

Test(lanes, averages_follow_the_weights_and_take_their_place_for_a_while)
{
    const struct backend_ops *const backends[] = {&backend_ref, &backend_cpu};
    for (int k = 0; k < 2; k++) {
        struct bed b = {0};
        struct score scores[LANES] = {{0}};
        bed_open(&b, backends[k], models[0], LANES, true);
        train(&b, 0, true, scores);
        struct op *op = b.net->layers[0];
        size_t n = (size_t)op_param_floats(&op->layer, OP_WEIGHTS);
        float *value = xcalloc(n, sizeof(float));
        float *average = xcalloc(n, sizeof(float));
        float *now = xcalloc(n, sizeof(float));
        backends[k]->get(op, 2, OP_WEIGHTS, SLOT_VALUE, value);
        backends[k]->get(op, 2, OP_WEIGHTS, SLOT_AVERAGE, average);
        cr_expect(memcmp(value, average, n * sizeof(float)) != 0);
        net_swap_average(b.net);
        backends[k]->get(op, 2, OP_WEIGHTS, SLOT_VALUE, now);
        cr_expect_arr_eq(now, average, n * sizeof(float));
        net_swap_average(b.net);
        backends[k]->get(op, 2, OP_WEIGHTS, SLOT_VALUE, now);
        cr_expect_arr_eq(now, value, n * sizeof(float));
        free(value);
        free(average);
        free(now);
        bed_close(&b);
    }
}
