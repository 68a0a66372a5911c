/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers: three matrix products. Weights are [out][in]; behind a blocked image the columns
 * follow the image's layout (cpu_op.column), so that the activations need no reordering. Backward
 * leaves the weights' gradient to update, which makes it and takes the step in one pass.
 *
 * The lanes of one row of outputs lie side by side: where all lanes share an input, their weights
 * are one matrix [lanes * out][in], and so the forward pass is one product.
 */
#include "trainer/cpu.h"

#include <string.h>

static enum mag_status dense_init(struct cpu_op *c, struct mag_err *err)
{
    const int out = c->op.layer.filters;
    c->act.row = (size_t)out * (size_t)c->op.lanes;
    c->act.lane = (size_t)out;
    c->scratch =
        cpu_alloc(cpu_fused_room(c->op.rows, out, (int)shape_size(&c->op.layer.in), c->op.lanes));
    return c->scratch != NULL && cpu_make_columns(c)
               ? MAG_OK
               : mag_fail(err, MAG_NOMEM, "no memory for a dense layer's tables");
}

/* Outputs of n rows before the bias: `out` of them by the weights at `w`. */
static void multiply(struct cpu_op *c, int n, const float *x, int x_row, const float *w, int out,
                     float *y)
{
    const int in = (int)shape_size(&c->op.layer.in);
    if (n == 1 && !c->op.backend->bf16) {
        cpu_matvec(w, out, in, x, y);
        return;
    }
    cpu_matmul(c->op.backend, false, true, n, out, in, x, x_row, w, in, 0, y, (int)c->act.row);
}

static void dense_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const int row = (int)c->act.row;
    const bool shared = x->lanes == 1;
    const int out = shared ? row : c->op.layer.filters;
    for (int lane = 0; lane < (shared ? 1 : c->op.lanes); lane++) {
        if (!shared && cpu_idle(c, lane, pass)) {
            continue;
        }
        multiply(c, n, x->out + cpu_lane(x, lane), (int)x->row,
                 cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE), out,
                 c->act.out + cpu_lane(&c->act, lane));
    }
    cpu_bias_act(c->act.out, c->pre, c->params[OP_BIAS][SLOT_VALUE], n, row, c->op.layer.act);
}

static void dense_dx(struct cpu_op *c, int lane, int n, float *dx)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const int in = (int)shape_size(&c->op.layer.in);
    dx += cpu_lane(x, lane);
    cpu_matmul(c->op.backend, false, false, n, in, c->op.layer.filters,
               c->act.grad + cpu_lane(&c->act, lane), (int)c->act.row,
               cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE), in, 0, dx, (int)x->row);
    for (int i = n; i < c->op.rows; i++) {
        memset(dx + (size_t)i * x->row, 0, (size_t)in * sizeof(float));
    }
}

static void dense_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    const int row = (int)c->act.row;
    float *dy = c->act.grad;
    cpu_act_backward(dy, c->act.out, c->pre, (size_t)n * (size_t)row, c->op.layer.act);
    cpu_round_grad(c->op.backend, dy, (size_t)n * (size_t)row);
    if (c->params[OP_BIAS][SLOT_GRAD] != NULL) {
        cpu_sum_rows(dy, n, row, c->params[OP_BIAS][SLOT_GRAD]);
    }
    c->pending = n;
    for (int lane = 0; lane < c->op.lanes && dx[0] != NULL; lane++) {
        if (!cpu_idle(c, lane, pass)) {
            dense_dx(c, lane, n, dx[0]);
        }
    }
}

static void dense_finish_grads(struct cpu_op *c)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const int in = (int)shape_size(&c->op.layer.in);
    for (int lane = 0; lane < c->op.lanes && c->pending > 0; lane++) {
        cpu_matmul(c->op.backend, true, false, c->op.layer.filters, in, c->pending,
                   c->act.grad + cpu_lane(&c->act, lane), (int)c->act.row,
                   x->out + cpu_lane(x, lane), (int)x->row, 0,
                   cpu_param(c, lane, OP_WEIGHTS, SLOT_GRAD), in);
    }
    c->pending = 0;
}

/* Gradient and step in one pass: all lanes at once where they share the input. */
static bool fused_update(struct cpu_op *c, const struct update *lanes)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const int step = x->lanes == 1 ? c->op.lanes : 1;
    const size_t weights = (size_t)op_param_floats(&c->op.layer, OP_WEIGHTS);
    /* The last layers are small: there two passes are as fast. */
    if (c->pending == 0 || c->op.backend->threads > 1 || c->op.backend->bf16 ||
        c->op.layer.filters < 32 || !cpu_can_fuse(lanes, c->op.lanes)) {
        return false;
    }
    for (int lane = 0; lane < c->op.lanes; lane += step) {
        float *slots[OP_SLOTS] = {NULL};
        for (int s = 0; s <= SLOT_SECOND; s++) {
            slots[s] = c->params[OP_WEIGHTS][s] + (size_t)lane * weights;
        }
        const struct cpu_fused f = {.dy = c->act.grad + cpu_lane(&c->act, lane),
                                    .x = x->out + cpu_lane(x, lane),
                                    .dy_row = c->act.row,
                                    .dy_lane = c->act.lane,
                                    .x_row = x->row,
                                    .n = c->pending,
                                    .out = c->op.layer.filters,
                                    .in = (int)shape_size(&c->op.layer.in),
                                    .lanes = step,
                                    .slots = slots,
                                    .u = lanes + lane,
                                    .room = c->scratch};
        cpu_fused_update(&f);
    }
    return true;
}

static void dense_update(struct cpu_op *c, const struct update *lanes)
{
    bool fused = fused_update(c, lanes);
    if (!fused) {
        dense_finish_grads(c);
    }
    c->pending = 0;
    cpu_update_lanes(c, lanes, !fused);
}

const struct cpu_kind cpu_dense = {.init = dense_init,
                                   .forward = dense_forward,
                                   .backward = dense_backward,
                                   .update = dense_update,
                                   .finish_grads = dense_finish_grads};
