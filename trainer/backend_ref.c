/* SPDX-License-Identifier: Apache-2.0
 *
 * The reference backend: every op as plain loops straight from its definition, canonical layouts,
 * sums in double. It is the oracle that the fast backends are compared with, so nothing here is
 * clever. Its own gradients are checked by finite differences. Here are memory, dispatch and
 * transfer; what the ops compute lies in ref_*.c.
 */
#include "trainer/ref.h"

#include "base/alloc.h"
#include "trainer/net.h"

#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

static enum mag_status ref_open(const struct backend_options *o, struct backend **ret,
                                struct mag_err *err)
{
    if (o->precision == PRECISION_TF32) {
        return mag_fail(err, MAG_UNSUPPORTED, "the reference backend has no tf32");
    }
    *ret = xcalloc(1, sizeof(struct backend));
    (*ret)->precision = o->precision;
    return MAG_OK;
}

static void ref_close(struct backend *b)
{
    free(b);
}

static const char *ref_describe(const struct backend *b)
{
    (void)b;
    return "plain loops";
}

static enum mag_status ref_check(struct backend *b, struct mag_err *err)
{
    (void)b;
    (void)err;
    return MAG_OK;
}

static void ref_op_destroy(struct op *op)
{
    if (op == NULL) {
        return;
    }
    struct ref_op *r = ref_of(op);
    free(r->out);
    free(r->grad);
    free(r->kept);
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            free(r->params[p][s]);
        }
    }
    free(r);
}

static bool alloc_values(struct ref_op *r)
{
    size_t n = ref_size(&r->op) * (size_t)r->op.rows * (size_t)r->op.lanes;
    r->out = mag_try_alloc(n, sizeof(float));
    r->grad = mag_try_alloc(n, sizeof(float));
    r->kept = mag_try_alloc(n, sizeof(float));
    return r->out != NULL && r->grad != NULL && r->kept != NULL;
}

static bool alloc_params(struct ref_op *r, const struct op_spec *spec)
{
    bool good = true;
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            if (op_has_slot(spec, (enum op_param)p, (enum op_slot)s)) {
                size_t n = (size_t)op_param_floats(spec->layer, (enum op_param)p);
                r->params[p][s] = mag_try_alloc(n * (size_t)spec->lanes, sizeof(float));
                good = good && r->params[p][s] != NULL;
            }
        }
    }
    return good;
}

static enum mag_status ref_input_create(struct backend *b, const struct shape *shape, int rows,
                                        int lanes, struct op **ret, struct mag_err *err)
{
    struct ref_op *r = xcalloc(1, sizeof(*r));
    op_init_input(&r->op, b, shape, rows, lanes);
    if (!alloc_values(r)) {
        ref_op_destroy(&r->op);
        return mag_fail(err, MAG_NOMEM, "no memory for %d examples", rows);
    }
    *ret = &r->op;
    return MAG_OK;
}

static const struct ref_kind *const kinds[LAYER_KINDS] = {
    [LAYER_DENSE] = &ref_dense,           [LAYER_CONV] = &ref_conv,
    [LAYER_MAXPOOL] = &ref_maxpool,       [LAYER_FLATTEN] = &ref_flatten,
    [LAYER_DROPOUT] = &ref_dropout,       [LAYER_AVGPOOL] = &ref_avgpool,
    [LAYER_GLOBALPOOL] = &ref_globalpool, [LAYER_BATCHNORM] = &ref_batchnorm,
    [LAYER_LAYERNORM] = &ref_layernorm,   [LAYER_EMBEDDING] = &ref_embedding,
    [LAYER_ACTIVATION] = &ref_activation, [LAYER_ADD] = &ref_add,
    [LAYER_CONCAT] = &ref_concat,         [LAYER_IDENTITY] = &ref_flatten,
};

static enum mag_status ref_op_create(struct backend *b, const struct op_spec *spec, struct op **ret,
                                     struct mag_err *err)
{
    struct ref_op *r = xcalloc(1, sizeof(*r));
    op_init(&r->op, b, spec);
    r->kind = kinds[spec->layer->kind];
    if (!alloc_values(r) || !alloc_params(r, spec)) {
        ref_op_destroy(&r->op);
        return mag_fail(err, MAG_NOMEM, "no memory for layer %d (%s)", spec->index + 1,
                        layer_kind_name(spec->layer->kind));
    }
    *ret = &r->op;
    return MAG_OK;
}

/* ---- running ---- */

static void gather(const struct batch *batch, size_t width, float *to)
{
    const struct dataset *d = batch->d;
    if (d->sparse != NULL) {
        dataset_gather(d, batch->rows, batch->n, to);
        return;
    }
    for (size_t i = 0; i < (size_t)batch->n; i++) {
        for (size_t k = 0; k < width; k++) {
            size_t at = batch->rows[i] * width + k;
            to[i * width + k] = d->bytes != NULL ? (float)d->bytes[at] * d->scale : d->values[at];
        }
    }
}

static void ref_load(struct op *input, int lane, const struct batch *batch)
{
    float *to = ref_out(ref_of(input), lane);
    if (batch->values != NULL) {
        memcpy(to, batch->values, ref_size(input) * (size_t)batch->n * sizeof(float));
        return;
    }
    gather(batch, ref_size(input), to);
    if (batch->augment != NULL) {
        augment_images(batch->augment, &input->layer.out, to, batch->n);
    }
}

/* Where all lanes are one, the lane of the net that they stand for is the first. */
static bool is_idle(const struct op *op, int lane, const struct pass *pass)
{
    return op->lanes > 1 && pass->lanes[lane].idle;
}

static void ref_forward(struct op *op, int n, const struct pass *pass)
{
    for (int lane = 0; lane < op->lanes; lane++) {
        if (!is_idle(op, lane, pass)) {
            ref_of(op)->kind->forward(ref_of(op), lane, n, pass);
        }
    }
}

static void ref_score(struct op *last, const struct batch *batches, const struct pass *pass,
                      struct loss loss, bool want_grad, struct score *add)
{
    struct ref_op *r = ref_of(last);
    for (int lane = 0; lane < last->lanes; lane++) {
        if (!pass->lanes[lane].idle) {
            backend_score(ref_out(r, lane), want_grad ? ref_grad(r, lane) : NULL,
                          last->layer.filters, ref_size(last), &batches[lane],
                          pass_loss(pass, lane, loss), &add[lane]);
        }
    }
    last->grad_set = want_grad;
}

/* Where this pass's gradient begins: all lanes, since one may be shared. */
static void begin_grad(struct op *op)
{
    if (!op->grad_set) {
        memset(ref_of(op)->grad, 0,
               ref_size(op) * (size_t)op->rows * (size_t)op->lanes * sizeof(float));
        op->grad_set = true;
    }
}

static void backward_lane(struct op *op, int lane, int n)
{
    float *dx[MODEL_INPUTS_MAX];
    for (int i = 0; i < op->layer.n_inputs; i++) {
        dx[i] = xcalloc(ref_size(op->inputs[i]) * (size_t)n, sizeof(float));
    }
    ref_of(op)->kind->backward(ref_of(op), lane, n, dx);
    for (int i = 0; i < op->layer.n_inputs; i++) {
        float *to = ref_grad(ref_of(op->inputs[i]), lane);
        for (size_t k = 0; k < ref_size(op->inputs[i]) * (size_t)n; k++) {
            to[k] += dx[i][k];
        }
        free(dx[i]);
    }
}

static void ref_backward(struct op *op, int n, const struct pass *pass)
{
    for (int i = 0; i < op->layer.n_inputs; i++) {
        begin_grad(op->inputs[i]);
    }
    for (int lane = 0; lane < op->lanes; lane++) {
        if (!is_idle(op, lane, pass)) {
            backward_lane(op, lane, n);
        }
    }
}

static void ref_grad_square(struct op *op, double *lanes)
{
    for (int lane = 0; lane < op->lanes; lane++) {
        lanes[lane] = 0;
        for (int p = OP_WEIGHTS; p <= OP_BIAS; p++) {
            int64_t n = op_param_floats(&op->layer, (enum op_param)p);
            const float *g =
                n > 0 ? ref_param(ref_of(op), lane, (enum op_param)p, SLOT_GRAD) : NULL;
            for (int64_t i = 0; i < n; i++) {
                lanes[lane] += (double)g[i] * (double)g[i];
            }
        }
    }
}

static void ref_swap_average(struct op *op)
{
    for (int p = 0; p < OP_PARAMS; p++) {
        float **slots = ref_of(op)->params[p];
        if (slots[SLOT_AVERAGE] != NULL) {
            float *value = slots[SLOT_VALUE];
            slots[SLOT_VALUE] = slots[SLOT_AVERAGE];
            slots[SLOT_AVERAGE] = value;
        }
    }
}

/* ---- transfer ---- */

static void ref_get(struct op *op, int lane, enum op_param p, enum op_slot slot, float *out)
{
    memcpy(out, ref_param(ref_of(op), lane, p, slot),
           (size_t)op_param_floats(&op->layer, p) * sizeof(float));
}

static void ref_set(struct op *op, int lane, enum op_param p, enum op_slot slot, const float *in)
{
    memcpy(ref_param(ref_of(op), lane, p, slot), in,
           (size_t)op_param_floats(&op->layer, p) * sizeof(float));
}

static int64_t ref_grad_pack(struct op *op, int lane, float *out)
{
    int64_t n = 0;
    for (int p = OP_WEIGHTS; p <= OP_BIAS; p++) {
        int64_t some = op_param_floats(&op->layer, (enum op_param)p);
        if (out != NULL && some > 0) {
            ref_get(op, lane, (enum op_param)p, SLOT_GRAD, out + n);
        }
        n += some;
    }
    return n;
}

static int64_t ref_grad_unpack(struct op *op, int lane, const float *in)
{
    int64_t n = 0;
    for (int p = OP_WEIGHTS; p <= OP_BIAS; p++) {
        int64_t some = op_param_floats(&op->layer, (enum op_param)p);
        if (some > 0) {
            ref_set(op, lane, (enum op_param)p, SLOT_GRAD, in + n);
        }
        n += some;
    }
    return n;
}

static void ref_read(struct op *op, int lane, bool grad, int n, float *out)
{
    struct ref_op *r = ref_of(op);
    memcpy(out, grad ? ref_grad(r, lane) : ref_out(r, lane),
           ref_size(op) * (size_t)n * sizeof(float));
}

static void ref_put(struct op *op, int lane, bool grad, int n, const float *in)
{
    struct ref_op *r = ref_of(op);
    memcpy(grad ? ref_grad(r, lane) : ref_out(r, lane), in,
           ref_size(op) * (size_t)n * sizeof(float));
    op->grad_set = op->grad_set || grad;
}

/* Gradients of convolutions and of what feeds several ops are summed as doubles. */
static void ref_room(const struct net *outline, enum precision precision, struct room *add)
{
    (void)precision;
    int64_t most = 0;
    const struct op *input = outline->input;
    add->values += 12 * shape_size(&input->layer.out) * input->rows * input->lanes;
    for (int i = 0; i < outline->n; i++) {
        const struct op *op = outline->layers[i];
        const int64_t n = shape_size(&op->layer.out) * op->rows;
        const int64_t sums = 8 * (n + shape_size(&op->layer.in) * op->rows +
                                  op_param_floats(&op->layer, OP_WEIGHTS));
        op_room(op, outline->average, outline->learns, add);
        add->values += 12 * n * op->lanes;
        most = op->layer.kind == LAYER_CONV && sums > most ? sums : most;
    }
    add->workspace += most;
}

const struct backend_ops backend_ref = {
    .version = BACKEND_VERSION,
    .name = "ref",
    .summary = "plain loops, slow: the oracle of the tests",
    .precisions = 1u << PRECISION_FLOAT32 | 1u << PRECISION_BF16,
    .open = ref_open,
    .close = ref_close,
    .describe = ref_describe,
    .check = ref_check,
    .input_create = ref_input_create,
    .op_create = ref_op_create,
    .op_destroy = ref_op_destroy,
    .load = ref_load,
    .forward = ref_forward,
    .score = ref_score,
    .backward = ref_backward,
    .update = ref_update,
    .grad_square = ref_grad_square,
    .swap_average = ref_swap_average,
    .grad_pack = ref_grad_pack,
    .grad_unpack = ref_grad_unpack,
    .get = ref_get,
    .set = ref_set,
    .read = ref_read,
    .put = ref_put,
    .room = ref_room,
};
