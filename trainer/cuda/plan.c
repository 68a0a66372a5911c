/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/cuda/plan.h"

#include "trainer/cuda/device.h"

static int64_t place(struct plan *p, int64_t bytes)
{
    if (bytes <= 0) {
        return PLAN_NONE;
    }
    int64_t at = p->bytes;
    p->bytes += (bytes + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
    return at;
}

bool plan_flattens(const struct layer *l)
{
    return l->kind == LAYER_DENSE && l->in.h * l->in.w > 1;
}

bool plan_spreads(const struct layer *l, int x_lanes, int lanes)
{
    if (x_lanes == lanes) {
        return false;
    }
    /* A dense layer and a convolution of one group take shared values as they are; so do those
     * that look each value up by its lane. */
    return (l->kind == LAYER_CONV && l->groups > 1) || l->kind == LAYER_BATCHNORM ||
           l->kind == LAYER_LAYERNORM;
}

bool plan_flows(const struct op_spec *spec)
{
    bool flows = layer_learns(spec->layer);
    for (int i = 0; i < spec->layer->n_inputs; i++) {
        flows = flows || spec->inputs[i]->flows;
    }
    return flows && spec->learns;
}

/* A trained array's gradients come first and in a row, so that a sum over processes is one call. */
static void plan_params(struct plan *p, const struct op_spec *spec)
{
    for (int a = 0; a < OP_PARAMS; a++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            p->params[a][s] = PLAN_NONE;
        }
    }
    int64_t gradients = 0;
    for (int a = 0; a < OP_PARAMS; a++) {
        if (op_has_slot(spec, (enum op_param)a, SLOT_GRAD)) {
            p->params[a][SLOT_GRAD] = p->bytes + gradients;
            gradients += op_param_floats(spec->layer, (enum op_param)a) * spec->lanes *
                         (int64_t)sizeof(float);
        }
    }
    (void)place(p, gradients);
    for (int a = 0; a < OP_PARAMS; a++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            if (s != SLOT_GRAD && op_has_slot(spec, (enum op_param)a, (enum op_slot)s)) {
                p->params[a][s] = place(p, op_param_floats(spec->layer, (enum op_param)a) *
                                               spec->lanes * (int64_t)sizeof(float));
            }
        }
    }
}

/* What backward needs beside inputs and outputs, in bytes, and the layer's own statistics. */
static int64_t kept_bytes(const struct op_spec *spec, int64_t out, int64_t size)
{
    const struct layer *l = spec->layer;
    switch (l->kind) {
    case LAYER_MAXPOOL:
        return out * (int64_t)sizeof(uint16_t);
    case LAYER_GLOBALPOOL:
        return l->max ? out * (int64_t)sizeof(int32_t) : 0;
    case LAYER_DROPOUT:
        return out;
    case LAYER_ACTIVATION:
        return 0; /* its input is there */
    case LAYER_DENSE:
    case LAYER_CONV:
    case LAYER_FLATTEN:
    case LAYER_AVGPOOL:
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
    case LAYER_EMBEDDING:
    case LAYER_ADD:
    case LAYER_CONCAT:
    case LAYER_IDENTITY:
    default:
        return act_by_output(l->act) ? 0 : out * size;
    }
}

/* Mean and 1 / deviation of this pass. */
static int64_t saved_bytes(const struct op_spec *spec)
{
    const int64_t each = spec->layer->kind == LAYER_BATCHNORM   ? spec->layer->in.c
                         : spec->layer->kind == LAYER_LAYERNORM ? spec->inputs[0]->rows
                                                                : 0;
    return 2 * each * spec->lanes * (int64_t)sizeof(float);
}

void plan_op(const struct op_spec *spec, enum precision precision, struct plan *ret)
{
    const struct layer *l = spec->layer;
    const struct op *x = spec->inputs[0];
    const int64_t size = precision == PRECISION_BF16 ? 2 : 4;
    const int64_t out = shape_size(&l->out) * x->rows * spec->lanes;
    const bool flows = plan_flows(spec);
    const bool products = l->kind == LAYER_DENSE || l->kind == LAYER_CONV;
    *ret = (struct plan){.input = PLAN_NONE, .input_grad = PLAN_NONE, .rows = PLAN_NONE};
    plan_params(ret, spec);
    ret->out = place(ret, out * size);
    ret->grad = place(ret, flows ? out * size : 0);
    ret->kept = place(ret, kept_bytes(spec, out, size));
    if (plan_flattens(l) || plan_spreads(l, x->lanes, spec->lanes)) {
        const int lanes = plan_flattens(l) ? x->lanes : spec->lanes;
        const int64_t in = shape_size(&l->in) * x->rows * lanes * size;
        ret->input = place(ret, in);
        ret->input_grad = place(ret, flows && x->flows ? in : 0);
    }
    ret->saved = place(ret, saved_bytes(spec));
    const int64_t weights = op_param_floats(l, OP_WEIGHTS) * spec->lanes;
    const bool half = products && precision == PRECISION_BF16;
    ret->half = place(ret, half ? weights * 2 : 0);
    ret->half_grad = place(ret, half && flows && l->kind == LAYER_CONV ? weights * 2 : 0);
    const struct extent e = {x->rows, l->out.h * l->out.w, spec->lanes, l->out.c};
    ret->partial = place(ret, layer_learns(l) ? columns_room(e) * (int64_t)sizeof(double) : 0);
    ret->streams = place(
        ret, l->kind == LAYER_DROPOUT ? spec->lanes * (int64_t)sizeof(struct cell_stream) : 0);
}

void plan_input(const struct shape *shape, int rows, int lanes, struct plan *ret)
{
    *ret = (struct plan){.grad = PLAN_NONE,
                         .kept = PLAN_NONE,
                         .input = PLAN_NONE,
                         .input_grad = PLAN_NONE,
                         .half = PLAN_NONE,
                         .half_grad = PLAN_NONE,
                         .partial = PLAN_NONE,
                         .saved = PLAN_NONE,
                         .streams = PLAN_NONE};
    for (int a = 0; a < OP_PARAMS; a++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            ret->params[a][s] = PLAN_NONE;
        }
    }
    ret->out = place(ret, shape_size(shape) * rows * lanes * 4); /* also where it needs but 2 */
    ret->rows = place(ret, (int64_t)rows * lanes * (int64_t)sizeof(uint32_t));
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
