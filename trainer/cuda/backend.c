/* SPDX-License-Identifier: Apache-2.0
 *
 * The backend "cuda": its handle, its ops, and arrays on their way in and out. Their memory is in
 * nets.c, what they queue in ops.c, losses and optimizer steps in step.c, data sets in resident.c.
 */
#include "trainer/cuda/cuda.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the handle ---- */

static enum mag_status cuda_open(const struct backend_options *o, struct backend **ret,
                                 struct mag_err *err)
{
    struct backend *b = xcalloc(1, sizeof(*b));
    b->precision = o->precision;
    enum mag_status st = device_open(o->device, o->precision == PRECISION_TF32, &b->device, err);
    if (st != MAG_OK) {
        free(b);
        return st;
    }
    static const char *const names[] = {"float32", "bf16", "tf32"};
    const char *graphs = getenv("MAGPIE_CUDA_GRAPHS");
    const char *profiles = getenv("MAGPIE_CUDA_PROFILE");
    b->profiles = profiles != NULL && strcmp(profiles, "1") == 0;
    b->graphs = (graphs == NULL || strcmp(graphs, "0") != 0) && !b->profiles;
    (void)snprintf(b->text, sizeof(b->text), "%s, %s", device_describe(b->device),
                   names[b->precision]);
    *ret = b;
    return MAG_OK;
}

static void cuda_close(struct backend *b)
{
    if (b == NULL) {
        return;
    }
    resident_close(b);
    device_close(b->device);
    free(b);
}

static const char *cuda_describe(const struct backend *b)
{
    return b->text;
}

static enum mag_status cuda_check(struct backend *b, struct mag_err *err)
{
    for (struct cuda_net *net = b->nets; net != NULL; net = net->next) {
        cuda_net_settle(net);
    }
    return device_check(b->device, err);
}

static bool cuda_lost(const struct backend *b)
{
    return device_is_lost(b->device);
}

/* ---- ops ---- */

static void cuda_op_destroy(struct op *op)
{
    if (op == NULL) {
        return;
    }
    struct cuda_op *c = cuda_of(op);
    device_conv_destroy(c->conv);
    if (c->net != NULL && c == c->net->input) {
        cuda_net_close(c->net);
    } else if (c->net != NULL) {
        cuda_net_leave(c->net, c);
    }
    free(c);
}

/* Inputs of an op have as many lanes as it, or one. */
static void set_types(struct cuda_op *c)
{
    const int bf16 = c->net->backend->precision == PRECISION_BF16;
    const bool flattens = c->op.index >= 0 && plan_flattens(&c->op.layer);
    const int in_lanes = flattens ? c->op.inputs[0]->lanes : c->op.lanes;
    c->out = c->grad = (struct tensor){NULL, bf16, c->op.lanes};
    c->input = c->input_grad = (struct tensor){NULL, bf16, in_lanes};
}

static enum mag_status cuda_input_create(struct backend *b, const struct shape *shape, int rows,
                                         int lanes, struct op **ret, struct mag_err *err)
{
    (void)err;
    struct cuda_op *c = xcalloc(1, sizeof(*c));
    op_init_input(&c->op, b, shape, rows, lanes);
    c->net = cuda_net_open(b, c);
    set_types(c);
    *ret = &c->op;
    return MAG_OK;
}

static enum mag_status cuda_op_create(struct backend *b, const struct op_spec *spec,
                                      struct op **ret, struct mag_err *err)
{
    const struct layer *l = spec->layer;
    const struct cuda_kind *kind = cuda_kind_of(l->kind);
    if (kind == NULL) {
        return mag_fail(err, MAG_UNSUPPORTED, "layer %d: the cuda backend has no %s",
                        spec->index + 1, layer_kind_name(l->kind));
    }
    struct cuda_op *c = xcalloc(1, sizeof(*c));
    op_init(&c->op, b, spec);
    c->op.flows = c->op.flows && spec->learns;
    c->kind = kind;
    c->net = cuda_of(spec->inputs[0])->net;
    set_types(c);
    cuda_net_join(c->net, c);
    for (int a = 0; a < OP_PARAMS; a++) {
        if (op_has_slot(spec, (enum op_param)a, SLOT_GRAD)) {
            c->n_gradients += op_param_floats(l, (enum op_param)a) * spec->lanes;
        }
    }
    const enum mag_status st = kind->init != NULL ? kind->init(c, err) : MAG_OK;
    if (st != MAG_OK) {
        cuda_op_destroy(&c->op);
        return st;
    }
    *ret = &c->op;
    return MAG_OK;
}

static void cuda_forward(struct op *op, int n, const struct pass *pass)
{
    cuda_of(op)->kind->forward(cuda_of(op), n, pass);
}

static void cuda_backward(struct op *op, int n, const struct pass *pass)
{
    struct cuda_op *c = cuda_of(op);
    (void)pass;
    if (op->flows && op->grad_set) { /* without, nothing that the loss is made of came from it */
        profile_mark(c->net->staged ? c->net->profile : NULL, PROFILE_BACKWARD, op);
        c->kind->backward(c, n);
    }
}

/* ---- arrays in and out ---- */

static int64_t lane_floats(const struct cuda_op *c, enum op_param p)
{
    return op_param_floats(&c->op.layer, p);
}

/* Weights of a convolution: [filters][channels][kernel][kernel] <->
 * [filters][kernel][kernel][channels]. */
static void reorder(const struct layer *l, const float *from, float *to, bool out)
{
    const int64_t area = (int64_t)l->kernel * l->kernel;
    const int64_t channels = op_param_floats(l, OP_WEIGHTS) / (area * l->filters);
    for (int64_t k = 0; k < l->filters; k++) {
        for (int64_t c = 0; c < channels; c++) {
            for (int64_t t = 0; t < area; t++) {
                const int64_t canonical = (k * channels + c) * area + t;
                const int64_t here = (k * area + t) * channels + c;
                to[out ? canonical : here] = from[out ? here : canonical];
            }
        }
    }
}

static bool is_reordered(const struct cuda_op *c, enum op_param p)
{
    return c->op.layer.kind == LAYER_CONV && p == OP_WEIGHTS && c->op.layer.kernel > 1;
}

static void cuda_get(struct op *op, int lane, enum op_param p, enum op_slot slot, float *out)
{
    struct cuda_op *c = cuda_of(op);
    const int64_t n = lane_floats(c, p);
    float *room = is_reordered(c, p) ? xmalloc((size_t)n * sizeof(float)) : out;
    device_get(cuda_device(c), room, c->params[p][slot] + lane * n, (size_t)n * sizeof(float));
    if (room != out) {
        reorder(&op->layer, room, out, true);
        free(room);
    }
}

static void cuda_set(struct op *op, int lane, enum op_param p, enum op_slot slot, const float *in)
{
    struct cuda_op *c = cuda_of(op);
    const int64_t n = lane_floats(c, p);
    float *room = NULL;
    if (is_reordered(c, p)) {
        room = xmalloc((size_t)n * sizeof(float));
        reorder(&op->layer, in, room, false);
    }
    device_put(cuda_device(c), c->params[p][slot] + lane * n, room != NULL ? room : in,
               (size_t)n * sizeof(float));
    free(room);
    if (p == OP_WEIGHTS && slot == SLOT_VALUE && c->half != NULL) {
        k_to_bf16(c->params[p][slot] + lane * n, c->half + lane * n, n, cuda_stream(c));
    }
}

/* Values of one lane in canonical order, from or to a tensor's memory on the host. */
static void cross(const struct cuda_op *c, struct tensor t, int lane, int n, float *values,
                  bool out)
{
    const struct shape *s = &c->op.layer.out;
    const int area = shape_area(s);
    for (int64_t row = 0; row < n; row++) {
        for (int k = 0; k < s->c; k++) {
            for (int p = 0; p < area; p++) {
                const int64_t here = tensor_index(t, row, area, p, lane, s->c, k);
                float *value = &values[(row * s->c + k) * area + p];
                if (out) {
                    *value = tensor_at(t, here);
                } else {
                    tensor_put(t, here, *value);
                }
            }
        }
    }
}

static void transfer(struct op *op, int lane, bool grad, int n, float *values, bool out)
{
    struct cuda_op *c = cuda_of(op);
    const struct tensor there = grad ? c->grad : c->out;
    if (there.data == NULL) { /* a gradient that nothing needs */
        for (int64_t i = 0; out && i < shape_size(&op->layer.out) * n; i++) {
            values[i] = 0;
        }
        return;
    }
    const size_t bytes = (size_t)extent_size(cuda_extent(c, n)) * (there.bf16 ? 2 : 4);
    struct tensor here = there;
    here.data = xmalloc(bytes);
    device_get(cuda_device(c), here.data, there.data, bytes);
    cross(c, here, lane, n, values, out);
    if (!out) {
        device_put(cuda_device(c), there.data, here.data, bytes);
    }
    free(here.data);
}

static void cuda_read(struct op *op, int lane, bool grad, int n, float *out)
{
    transfer(op, lane, grad, n, out, true);
}

static void cuda_put(struct op *op, int lane, bool grad, int n, const float *in)
{
    transfer(op, lane, grad, n, (float *)(uintptr_t)in, false);
    op->grad_set = op->grad_set || grad;
}

/* ---- gradients for sums over processes ---- */

static int64_t pack(struct op *op, int lane, float *out, const float *in)
{
    struct cuda_op *c = cuda_of(op);
    int64_t at_float = 0;
    for (int a = 0; a < OP_PARAMS; a++) {
        float *g = c->params[a][SLOT_GRAD];
        const int64_t n = g != NULL ? lane_floats(c, (enum op_param)a) : 0;
        if (out != NULL && n > 0) {
            device_get(cuda_device(c), out + at_float, g + lane * n, (size_t)n * sizeof(float));
        } else if (in != NULL && n > 0) {
            device_put(cuda_device(c), g + lane * n, in + at_float, (size_t)n * sizeof(float));
        }
        at_float += n;
    }
    return at_float;
}

static int64_t cuda_grad_pack(struct op *op, int lane, float *out)
{
    return pack(op, lane, out, NULL);
}

static int64_t cuda_grad_unpack(struct op *op, int lane, const float *in)
{
    return pack(op, lane, NULL, in);
}

static float *cuda_grad_device(struct op *op, int64_t *n)
{
    struct cuda_op *c = cuda_of(op);
    *n = c->n_gradients;
    for (int a = 0; a < OP_PARAMS; a++) {
        if (c->params[a][SLOT_GRAD] != NULL) {
            return c->params[a][SLOT_GRAD];
        }
    }
    return NULL;
}

static void cuda_swap_average(struct op *op)
{
    struct cuda_op *c = cuda_of(op);
    for (int a = 0; a < OP_PARAMS; a++) {
        if (c->params[a][SLOT_AVERAGE] != NULL) {
            k_swap(c->params[a][SLOT_VALUE], c->params[a][SLOT_AVERAGE],
                   lane_floats(c, (enum op_param)a) * op->lanes, cuda_stream(c));
        }
    }
    if (c->half != NULL) {
        k_to_bf16(c->params[OP_WEIGHTS][SLOT_VALUE], c->half,
                  lane_floats(c, OP_WEIGHTS) * op->lanes, cuda_stream(c));
    }
}

static int64_t cuda_memory(struct backend *b, int64_t *ret_total)
{
    return device_memory_free(b->device, ret_total);
}

const struct backend_ops backend_cuda = {
    .version = BACKEND_VERSION,
    .name = "cuda",
    .summary = "NVIDIA GPUs: cuBLASLt, cuDNN and own kernels",
    .precisions = 1u << PRECISION_FLOAT32 | 1u << PRECISION_BF16 | 1u << PRECISION_TF32,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .check = cuda_check,
    .lost = cuda_lost,
    .input_create = cuda_input_create,
    .op_create = cuda_op_create,
    .op_destroy = cuda_op_destroy,
    .ready = cuda_ready,
    .waits = cuda_waits,
    .load = cuda_load,
    .forward = cuda_forward,
    .score = cuda_score,
    .backward = cuda_backward,
    .update = cuda_update,
    .grad_square = cuda_grad_square,
    .swap_average = cuda_swap_average,
    .train = cuda_train,
    .grad_pack = cuda_grad_pack,
    .grad_unpack = cuda_grad_unpack,
    .grad_device = cuda_grad_device,
    .get = cuda_get,
    .set = cuda_set,
    .read = cuda_read,
    .put = cuda_put,
    .room = cuda_room,
    .memory = cuda_memory,
};
