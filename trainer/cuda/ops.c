/* SPDX-License-Identifier: Apache-2.0
 *
 * What each kind of layer queues on the device.
 */
#include "trainer/cuda/cuda.h"

#include "base/pcg.h"

#include <stdio.h>

/* ---- inputs and gradients ---- */

static struct tensor out_of(struct op *op)
{
    return cuda_of(op)->out;
}

/* The extent of the first input, in as many lanes as `lanes`. */
static struct extent in_extent(const struct cuda_op *c, int n, int lanes)
{
    return (struct extent){n, shape_area(&c->op.layer.in), lanes, c->op.layer.in.c};
}

/* The first input as the op wants it; made anew with `make`. */
static struct tensor input_of(struct cuda_op *c, int n, bool make)
{
    struct tensor x = out_of(c->op.inputs[0]);
    if (c->input.data == NULL) {
        return x;
    }
    if (make && plan_flattens(&c->op.layer)) {
        k_flatten(x, c->input, in_extent(c, n, x.lanes), cuda_stream(c));
    } else if (make) {
        k_spread(x, c->input, in_extent(c, n, c->op.lanes), cuda_stream(c));
    }
    return c->input;
}

/* Whether the gradient of an input is wanted. */
static bool wants(const struct cuda_op *c, int input)
{
    return c->op.inputs[input]->flows;
}

/* Where a gradient of the first input is to be put, and whether it is to be added. */
static struct tensor input_grad_of(struct cuda_op *c, int *ret_add)
{
    struct op *x = c->op.inputs[0];
    *ret_add = c->input_grad.data == NULL && x->grad_set;
    return c->input_grad.data != NULL ? c->input_grad : cuda_of(x)->grad;
}

/* After input_grad_of was filled. */
static void give_input_grad(struct cuda_op *c, int n)
{
    struct op *x = c->op.inputs[0];
    if (c->input_grad.data != NULL) {
        k_flatten_back(c->input_grad, cuda_of(x)->grad, in_extent(c, n, x->lanes), x->grad_set,
                       cuda_stream(c));
    }
    x->grad_set = true;
}

struct tensor cuda_weights(const struct cuda_op *c)
{
    return c->half != NULL ? (struct tensor){c->half, 1, c->op.lanes}
                           : (struct tensor){c->params[OP_WEIGHTS][SLOT_VALUE], 0, c->op.lanes};
}

static struct tensor kept_of(const struct cuda_op *c)
{
    return (struct tensor){c->kept, c->out.bf16, c->out.lanes};
}

_Static_assert((int)CELL_RELU == (int)ACT_RELU && (int)CELL_TANH == (int)ACT_TANH &&
                   (int)CELL_SIGMOID == (int)ACT_SIGMOID && (int)CELL_GELU == (int)ACT_GELU &&
                   (int)CELL_SILU == (int)ACT_SILU && ACTIVATIONS == 6,
               "the kernels know every activation");

/* dL/dy -> dL/dz of the layer's own activation, in place, and the gradient of the bias. */
static void act_backward(struct cuda_op *c, int n)
{
    const int act = (int)c->op.layer.act;
    k_bias_back(c->grad, cell_keeps_input(act) ? kept_of(c) : c->out, act,
                c->params[OP_BIAS][SLOT_GRAD], c->scratch, cuda_extent(c, n), cuda_stream(c));
}

/* ---- dense: rows [n][lanes][in] times weights [lanes][out][in] ---- */

/* Lanes with one shared input are one layer of all their outputs. */
static void dense_sizes(const struct cuda_op *c, struct tensor x, int *ret_batches, int *ret_out)
{
    *ret_batches = x.lanes == c->op.lanes ? c->op.lanes : 1;
    *ret_out = c->op.layer.out.c * (x.lanes == c->op.lanes ? 1 : c->op.lanes);
}

static void dense_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    const int act = (int)c->op.layer.act;
    const struct tensor x = input_of(c, n, true);
    const int in = (int)shape_size(&c->op.layer.in);
    int batches = 0;
    int out = 0;
    dense_sizes(c, x, &batches, &out);
    const struct product p = {.a = x,
                              .b = cuda_weights(c),
                              .d = cell_keeps_input(act) ? kept_of(c) : c->out,
                              .bias = c->params[OP_BIAS][SLOT_VALUE],
                              .m = n,
                              .n = out,
                              .k = in,
                              .batches = batches,
                              .a_row = (int64_t)batches * in,
                              .a_col = 1,
                              .a_batch = in,
                              .b_row = 1,
                              .b_col = in,
                              .b_batch = (int64_t)out * in,
                              .d_row = (int64_t)batches * out,
                              .d_batch = out,
                              .relu = act == CELL_RELU};
    device_product(cuda_device(c), &p);
    if (act != CELL_NONE && act != CELL_RELU) {
        k_bias_act(p.d, c->out, NULL, NULL, act, cuda_extent(c, n), cuda_stream(c));
    }
}

static void dense_backward(struct cuda_op *c, int n)
{
    const struct tensor x = input_of(c, n, false);
    const int in = (int)shape_size(&c->op.layer.in);
    int batches = 0;
    int out = 0;
    dense_sizes(c, x, &batches, &out);
    act_backward(c, n);
    const struct product dw = {.a = c->grad,
                               .b = x,
                               .d = {c->params[OP_WEIGHTS][SLOT_GRAD], 0, 1},
                               .m = out,
                               .n = in,
                               .k = n,
                               .batches = batches,
                               .a_row = 1,
                               .a_col = (int64_t)batches * out,
                               .a_batch = out,
                               .b_row = (int64_t)batches * in,
                               .b_col = 1,
                               .b_batch = in,
                               .d_row = in,
                               .d_batch = (int64_t)out * in};
    device_product(cuda_device(c), &dw);
    if (!wants(c, 0)) {
        return;
    }
    int add = 0;
    const struct product dx = {.a = c->grad,
                               .b = cuda_weights(c),
                               .d = input_grad_of(c, &add),
                               .m = n,
                               .n = in,
                               .k = out,
                               .batches = batches,
                               .a_row = (int64_t)batches * out,
                               .a_col = 1,
                               .a_batch = out,
                               .b_row = in,
                               .b_col = 1,
                               .b_batch = (int64_t)out * in,
                               .d_row = (int64_t)batches * in,
                               .d_batch = in,
                               .add = add};
    device_product(cuda_device(c), &dx);
    give_input_grad(c, n);
}

static const struct cuda_kind dense = {.forward = dense_forward, .backward = dense_backward};

/* ---- convolution ---- */

static struct window window_of(const struct layer *l)
{
    return (struct window){.in_h = l->in.h,
                           .in_w = l->in.w,
                           .out_h = l->out.h,
                           .out_w = l->out.w,
                           .kernel = l->kernel,
                           .stride = l->stride,
                           .pad = l->kind == LAYER_CONV ? l->pad : 0};
}

static void conv_ready(struct cuda_op *c)
{
    const struct layer *l = &c->op.layer;
    const struct filter f = {.w = window_of(l), .c = l->in.c, .k = l->filters, .groups = l->groups};
    const int x_lanes = c->input.data != NULL ? c->input.lanes : c->op.inputs[0]->lanes;
    c->conv = device_conv_create(cuda_device(c), &f, c->op.lanes, x_lanes, c->out.bf16 != 0,
                                 c->work, c->work_bytes);
}

static void conv_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    const int act = (int)c->op.layer.act;
    device_conv_forward(c->conv, input_of(c, n, true), cuda_weights(c), c->out, n);
    if (act != CELL_NONE || c->params[OP_BIAS][SLOT_VALUE] != NULL) {
        k_bias_act(c->out, c->out, c->kept, c->params[OP_BIAS][SLOT_VALUE], act, cuda_extent(c, n),
                   cuda_stream(c));
    }
}

static void conv_backward(struct cuda_op *c, int n)
{
    act_backward(c, n);
    device_conv_dw(c->conv, input_of(c, n, false), c->grad, c->params[OP_WEIGHTS][SLOT_GRAD],
                   c->half_grad, n);
    if (wants(c, 0)) {
        int add = 0;
        struct tensor dx = input_grad_of(c, &add);
        device_conv_dx(c->conv, c->grad, cuda_weights(c), dx, n, add);
        give_input_grad(c, n);
    }
}

static const struct cuda_kind conv = {
    .ready = conv_ready, .forward = conv_forward, .backward = conv_backward};

/* ---- pooling ---- */

static void maxpool_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    k_maxpool(out_of(c->op.inputs[0]), c->out, c->kept, window_of(&c->op.layer), cuda_extent(c, n),
              cuda_stream(c));
}

static void maxpool_backward(struct cuda_op *c, int n)
{
    if (wants(c, 0)) {
        struct op *x = c->op.inputs[0];
        k_maxpool_back(c->grad, c->kept, cuda_of(x)->grad, window_of(&c->op.layer),
                       cuda_extent(c, n), x->grad_set, cuda_stream(c));
        x->grad_set = true;
    }
}

static const struct cuda_kind maxpool = {.forward = maxpool_forward, .backward = maxpool_backward};

static void avgpool_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    k_avgpool(out_of(c->op.inputs[0]), c->out, window_of(&c->op.layer), cuda_extent(c, n),
              cuda_stream(c));
}

static void avgpool_backward(struct cuda_op *c, int n)
{
    if (wants(c, 0)) {
        struct op *x = c->op.inputs[0];
        k_avgpool_back(c->grad, cuda_of(x)->grad, window_of(&c->op.layer), cuda_extent(c, n),
                       x->grad_set, cuda_stream(c));
        x->grad_set = true;
    }
}

static const struct cuda_kind avgpool = {.forward = avgpool_forward, .backward = avgpool_backward};

static void globalpool_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    k_globalpool(out_of(c->op.inputs[0]), c->out, c->kept, in_extent(c, n, c->op.lanes),
                 cuda_stream(c));
}

static void globalpool_backward(struct cuda_op *c, int n)
{
    if (wants(c, 0)) {
        struct op *x = c->op.inputs[0];
        k_globalpool_back(c->grad, c->kept, cuda_of(x)->grad, in_extent(c, n, c->op.lanes),
                          x->grad_set, cuda_stream(c));
        x->grad_set = true;
    }
}

static const struct cuda_kind globalpool = {.forward = globalpool_forward,
                                            .backward = globalpool_backward};

/* ---- norms ---- */

static struct batchnorm batchnorm_of(const struct cuda_op *c)
{
    return (struct batchnorm){.gamma = c->params[OP_WEIGHTS][SLOT_VALUE],
                              .beta = c->params[OP_BIAS][SLOT_VALUE],
                              .mean = c->params[OP_MEAN][SLOT_VALUE],
                              .var = c->params[OP_VAR][SLOT_VALUE],
                              .saved = c->saved,
                              .partial = c->scratch,
                              .momentum = c->op.layer.momentum,
                              .epsilon = c->op.layer.epsilon,
                              .c = c->op.layer.in.c,
                              .act = (int)c->op.layer.act};
}

static void batchnorm_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    struct batchnorm b = batchnorm_of(c);
    for (int lane = 0; lane < c->op.lanes; lane++) {
        b.idle |= (uint64_t)pass->lanes[lane].idle << lane;
    }
    k_batchnorm(input_of(c, n, true), c->out, b, cuda_extent(c, n), pass->training, cuda_stream(c));
}

static void batchnorm_backward(struct cuda_op *c, int n)
{
    int add = 0;
    const struct tensor dx = wants(c, 0) ? input_grad_of(c, &add) : (struct tensor){0};
    k_batchnorm_back(input_of(c, n, false), c->grad, dx, batchnorm_of(c),
                     c->params[OP_WEIGHTS][SLOT_GRAD], c->params[OP_BIAS][SLOT_GRAD],
                     cuda_extent(c, n), add, cuda_stream(c));
    if (dx.data != NULL) {
        give_input_grad(c, n);
    }
}

static const struct cuda_kind batchnorm = {.forward = batchnorm_forward,
                                           .backward = batchnorm_backward};

static struct layernorm layernorm_of(const struct cuda_op *c)
{
    return (struct layernorm){.gamma = c->params[OP_WEIGHTS][SLOT_VALUE],
                              .beta = c->params[OP_BIAS][SLOT_VALUE],
                              .saved = c->saved,
                              .epsilon = c->op.layer.epsilon,
                              .act = (int)c->op.layer.act};
}

static void layernorm_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    k_layernorm(input_of(c, n, true), c->out, layernorm_of(c), cuda_extent(c, n), cuda_stream(c));
}

static void layernorm_backward(struct cuda_op *c, int n)
{
    int add = 0;
    const struct tensor dx = wants(c, 0) ? input_grad_of(c, &add) : (struct tensor){0};
    k_layernorm_back(input_of(c, n, false), c->grad, dx, layernorm_of(c),
                     c->params[OP_WEIGHTS][SLOT_GRAD], c->params[OP_BIAS][SLOT_GRAD],
                     cuda_extent(c, n), add, cuda_stream(c));
    if (dx.data != NULL) {
        give_input_grad(c, n);
    }
}

static const struct cuda_kind layernorm = {.forward = layernorm_forward,
                                           .backward = layernorm_backward};

/* ---- embedding: the numbers stay float32, whatever else is bfloat16 ---- */

static enum mag_status embedding_init(struct cuda_op *c, struct mag_err *err)
{
    struct cuda_op *x = cuda_of(c->op.inputs[0]);
    if (x->op.index < 0) {
        x->out.bf16 = 0;
    } else if (x->out.bf16 && c->op.layer.vocabulary > 256) {
        return mag_fail(
            err, MAG_UNSUPPORTED,
            "layer %d: with \"precision\": \"bf16\" numbers up to %d reach an embedding "
            "exactly only straight from the data set; use float32",
            c->op.index + 1, c->op.layer.vocabulary - 1);
    }
    return MAG_OK;
}

static void embedding_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    k_embed(out_of(c->op.inputs[0]), c->params[OP_WEIGHTS][SLOT_VALUE], c->op.layer.vocabulary,
            c->out, cuda_extent(c, n), cuda_stream(c));
}

static void embedding_backward(struct cuda_op *c, int n)
{
    k_embed_back(out_of(c->op.inputs[0]), c->grad, c->op.layer.vocabulary,
                 c->params[OP_WEIGHTS][SLOT_GRAD], c->scratch, cuda_extent(c, n), cuda_stream(c));
}

static const struct cuda_kind embedding = {
    .init = embedding_init, .forward = embedding_forward, .backward = embedding_backward};

/* ---- activation ---- */

static void activation_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    k_bias_act(out_of(c->op.inputs[0]), c->out, NULL, NULL, (int)c->op.layer.act, cuda_extent(c, n),
               cuda_stream(c));
}

static void activation_backward(struct cuda_op *c, int n)
{
    struct op *x = c->op.inputs[0];
    const int act = (int)c->op.layer.act;
    if (wants(c, 0)) {
        k_act_back(c->grad, cell_keeps_input(act) ? out_of(x) : c->out, cuda_of(x)->grad, act,
                   cuda_extent(c, n), x->grad_set, cuda_stream(c));
        x->grad_set = true;
    }
}

static const struct cuda_kind activation = {.forward = activation_forward,
                                            .backward = activation_backward};

/* ---- sums, and one after the other ---- */

static void add_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    struct tensor inputs[MODEL_INPUTS_MAX];
    (void)pass;
    for (int k = 0; k < c->op.layer.n_inputs; k++) {
        inputs[k] = out_of(c->op.inputs[k]);
    }
    k_add(inputs, c->op.layer.n_inputs, c->out, c->kept, (int)c->op.layer.act, cuda_extent(c, n),
          cuda_stream(c));
}

static void add_backward(struct cuda_op *c, int n)
{
    const int act = (int)c->op.layer.act;
    struct tensor dx[MODEL_INPUTS_MAX] = {{0}};
    int add[MODEL_INPUTS_MAX];
    for (int k = 0; k < c->op.layer.n_inputs; k++) {
        struct op *x = c->op.inputs[k];
        add[k] = x->grad_set;
        if (wants(c, k)) {
            dx[k] = cuda_of(x)->grad;
            x->grad_set = true;
        }
    }
    k_add_back(c->grad, cell_keeps_input(act) ? kept_of(c) : c->out, act, dx, add,
               c->op.layer.n_inputs, cuda_extent(c, n), cuda_stream(c));
}

_Static_assert(SUM_MAX >= MODEL_INPUTS_MAX, "a sum of all inputs that a layer may have");

/* With one input: a layer that changes nothing. */
static const struct cuda_kind add = {.forward = add_forward, .backward = add_backward};

/* The part of the output that an input is. */
static struct extent part_of(const struct cuda_op *c, int input, int n)
{
    struct extent e = cuda_extent(c, n);
    e.c = c->op.inputs[input]->layer.out.c;
    return e;
}

static void concat_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    for (int k = 0, from = 0; k < c->op.layer.n_inputs; k++) {
        const struct extent part = part_of(c, k, n);
        k_slice(out_of(c->op.inputs[k]), c->out, part, from, c->op.layer.out.c, cuda_stream(c));
        from += part.c;
    }
}

static void concat_backward(struct cuda_op *c, int n)
{
    for (int k = 0, from = 0; k < c->op.layer.n_inputs; k++) {
        struct op *x = c->op.inputs[k];
        const struct extent part = part_of(c, k, n);
        if (wants(c, k)) {
            k_slice_back(c->grad, cuda_of(x)->grad, part, from, c->op.layer.out.c, x->grad_set,
                         cuda_stream(c));
            x->grad_set = true;
        }
        from += part.c;
    }
}

static const struct cuda_kind concat = {.forward = concat_forward, .backward = concat_backward};

/* ---- flatten ---- */

static void flatten_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    (void)pass;
    k_flatten(out_of(c->op.inputs[0]), c->out, in_extent(c, n, c->op.lanes), cuda_stream(c));
}

static void flatten_backward(struct cuda_op *c, int n)
{
    if (wants(c, 0)) {
        struct op *x = c->op.inputs[0];
        k_flatten_back(c->grad, cuda_of(x)->grad, in_extent(c, n, c->op.lanes), x->grad_set,
                       cuda_stream(c));
        x->grad_set = true;
    }
}

static const struct cuda_kind flatten = {.forward = flatten_forward, .backward = flatten_backward};

/* ---- dropout ---- */

void cuda_streams(const struct cuda_op *c, const struct pass *pass, struct cell_stream *to)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        const struct pass_lane *l = &pass->lanes[lane];
        const float rate = pass_rate(pass, lane, &c->op);
        char purpose[96];
        struct pcg64 g;
        (void)snprintf(purpose, sizeof(purpose), "dropout:%lld:%lld:%d", (long long)l->trial,
                       (long long)l->epoch, c->op.index);
        const uint64_t before = (uint64_t)l->first_row * (uint64_t)shape_size(&c->op.layer.out);
        pcg_stream(&g, l->seed, purpose, (uint64_t)l->batch);
        pcg64_skip(&g, before / 2);
        to[lane] = (struct cell_stream){.state_hi = (uint64_t)(g.state >> 64),
                                        .state_lo = (uint64_t)g.state,
                                        .inc_hi = (uint64_t)(g.inc >> 64),
                                        .inc_lo = (uint64_t)g.inc,
                                        .drop = (uint32_t)((double)rate * 4294967296.0),
                                        .keep = 1.0f / (1.0f - rate),
                                        .odd = (int)(before % 2)};
    }
}

static void dropout_forward(struct cuda_op *c, int n, const struct pass *pass)
{
    const struct tensor x = out_of(c->op.inputs[0]);
    if (!pass->training) {
        k_add(&x, 1, c->out, NULL, CELL_NONE, cuda_extent(c, n), cuda_stream(c));
        return;
    }
    if (!c->net->staged) {
        struct cell_stream streams[BACKEND_LANES_MAX];
        cuda_streams(c, pass, streams);
        device_put(cuda_device(c), c->streams, streams, (size_t)c->op.lanes * sizeof(*streams));
    }
    k_dropout(x, c->out, c->kept, c->streams, cuda_extent(c, n), cuda_stream(c));
}

static void dropout_backward(struct cuda_op *c, int n)
{
    if (wants(c, 0)) {
        struct op *x = c->op.inputs[0];
        k_dropout_back(c->grad, cuda_of(x)->grad, c->kept, c->streams, cuda_extent(c, n),
                       x->grad_set, cuda_stream(c));
        x->grad_set = true;
    }
}

static const struct cuda_kind dropout = {.forward = dropout_forward, .backward = dropout_backward};

/* ---- */

const struct cuda_kind *cuda_kind_of(enum layer_kind k)
{
    static const struct cuda_kind *const kinds[LAYER_KINDS] = {
        [LAYER_DENSE] = &dense,           [LAYER_CONV] = &conv,
        [LAYER_MAXPOOL] = &maxpool,       [LAYER_FLATTEN] = &flatten,
        [LAYER_DROPOUT] = &dropout,       [LAYER_AVGPOOL] = &avgpool,
        [LAYER_GLOBALPOOL] = &globalpool, [LAYER_BATCHNORM] = &batchnorm,
        [LAYER_LAYERNORM] = &layernorm,   [LAYER_EMBEDDING] = &embedding,
        [LAYER_ACTIVATION] = &activation, [LAYER_ADD] = &add,
        [LAYER_CONCAT] = &concat,         [LAYER_IDENTITY] = &add,
    };
    return (int)k < LAYER_KINDS ? kinds[k] : NULL;
}
