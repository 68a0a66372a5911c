/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers: three matrix products. Where the processor has the kernels for it (cpu_panel.h),
 * one thread computes and nothing is rounded, weights lie in panels; else they are [out][in] and
 * the products are the library's. Behind a blocked image the inputs' order follows the image's
 * layout (cpu_op.column), so that the activations need no reordering. Backward leaves the weights'
 * gradient to update, which makes it and takes the step in one pass.
 */
#include "trainer/cpu.h"
#include "trainer/cpu_panel.h"

#include <string.h>

static int inputs_of(const struct cpu_op *c)
{
    return (int)shape_size(&c->op.layer.in);
}

static enum mag_status dense_init(struct cpu_op *c, struct mag_err *err)
{
    const struct backend *b = c->op.backend;
    c->panels = b->threads == 1 && !b->bf16 && cpu_panels_run();
    bool room =
        !c->panels ||
        cpu_need_room(c->op.backend, cpu_panel_room(c->op.rows, c->op.layer.filters, inputs_of(c)));
    return room && cpu_make_columns(c) ? MAG_OK
                                       : mag_fail(err, MAG_NOMEM, "no memory for a dense layer");
}

/* n rows of a lane's input; with what was found in them where several layers read them. */
static struct cpu_operand operand_of(struct cpu_op *c, int lane, int n, bool dw)
{
    const struct cpu_act *x = cpu_in(c, 0);
    return (struct cpu_operand){.x = x->out + cpu_lane(x, lane),
                                .row = x->row,
                                .n = n,
                                .in = inputs_of(c),
                                .sheet = cpu_sheet_of(c, dw)};
}

static void multiply(struct cpu_op *c, int lane, int n)
{
    const float *w = cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE);
    const int out = c->op.layer.filters;
    float *y = c->act.out + cpu_lane(&c->act, lane);
    const struct cpu_operand x = operand_of(c, lane, n, false);
    if (c->panels) {
        cpu_panel_forward(&x, w, out, y, c->act.row, c->op.backend->room);
    } else if (n == 1 && !c->op.backend->bf16) {
        cpu_matvec(w, out, x.in, x.x, y);
    } else {
        cpu_matmul(c->op.backend, false, true, n, out, x.in, x.x, (int)x.row, w, x.in, 0, y,
                   (int)c->act.row);
    }
}

static void dense_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        if (!cpu_idle(c, lane, pass)) {
            multiply(c, lane, n);
            cpu_bias_act(c->act.out + cpu_lane(&c->act, lane), cpu_pre(c, lane),
                         cpu_param(c, lane, OP_BIAS, SLOT_VALUE), n, c->op.layer.filters,
                         c->op.layer.act);
        }
    }
}

static void dense_dx(struct cpu_op *c, int lane, int n, float *dx)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const int in = inputs_of(c);
    const int out = c->op.layer.filters;
    const float *dy = c->act.grad + cpu_lane(&c->act, lane);
    const float *w = cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE);
    dx += cpu_lane(x, lane);
    if (c->panels) {
        cpu_panel_dx(dy, c->act.row, n, w, out, in, dx, x->row, c->op.backend->room);
    } else {
        cpu_matmul(c->op.backend, false, false, n, in, out, dy, (int)c->act.row, w, in, 0, dx,
                   (int)x->row);
    }
    for (int i = n; i < c->op.rows; i++) {
        memset(dx + (size_t)i * x->row, 0, (size_t)in * sizeof(float));
    }
}

static void dense_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    const int out = c->op.layer.filters;
    c->pending = n;
    for (int lane = 0; lane < c->op.lanes; lane++) {
        float *dy = c->act.grad + cpu_lane(&c->act, lane);
        if (cpu_idle(c, lane, pass)) {
            continue;
        }
        cpu_act_backward(dy, c->act.out + cpu_lane(&c->act, lane), cpu_pre(c, lane),
                         (size_t)n * (size_t)out, c->op.layer.act);
        cpu_round_grad(c->op.backend, dy, (size_t)n * (size_t)out);
        if (c->params[OP_BIAS][SLOT_GRAD] != NULL) {
            cpu_sum_rows(dy, n, out, cpu_param(c, lane, OP_BIAS, SLOT_GRAD));
        }
        if (dx[0] != NULL) {
            dense_dx(c, lane, n, dx[0]);
        }
    }
}

/* The gradient of a lane's weights; with `u` the step instead. */
static void dense_dw(struct cpu_op *c, int lane, const struct update *u)
{
    const struct cpu_operand x = operand_of(c, lane, c->pending, true);
    const int out = c->op.layer.filters;
    const float *dy = c->act.grad + cpu_lane(&c->act, lane);
    float *slots[OP_SLOTS];
    for (int s = 0; s < OP_SLOTS; s++) {
        slots[s] = cpu_param(c, lane, OP_WEIGHTS, (enum op_slot)s);
    }
    if (c->panels) {
        cpu_panel_dw(&x, &(struct cpu_step_of){.dy = dy,
                                               .dy_row = c->act.row,
                                               .out = out,
                                               .slots = slots,
                                               .u = u,
                                               .room = c->op.backend->room});
    } else {
        cpu_matmul(c->op.backend, true, false, out, x.in, x.n, dy, (int)c->act.row, x.x, (int)x.row,
                   0, slots[SLOT_GRAD], x.in);
    }
}

static void dense_finish_grads(struct cpu_op *c)
{
    for (int lane = 0; lane < c->op.lanes && c->pending > 0; lane++) {
        dense_dw(c, lane, NULL);
    }
    c->pending = 0;
}

/* The step of a lane's weights, with their gradient where it is still to be made. */
static void step_weights(struct cpu_op *c, int lane, const struct update *u)
{
    float *slots[OP_SLOTS];
    if (c->pending > 0 && c->panels && cpu_can_fuse(u)) {
        dense_dw(c, lane, u);
        return;
    }
    if (c->pending > 0) {
        dense_dw(c, lane, NULL);
    }
    for (int s = 0; s < OP_SLOTS; s++) {
        slots[s] = cpu_param(c, lane, OP_WEIGHTS, (enum op_slot)s);
    }
    cpu_update(slots, (size_t)op_param_floats(&c->op.layer, OP_WEIGHTS), u,
               op_param_decays(&c->op.layer, OP_WEIGHTS));
}

static void dense_update(struct cpu_op *c, const struct update *lanes)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        if (!lanes[lane].idle) {
            step_weights(c, lane, &lanes[lane]);
        }
    }
    c->pending = 0;
    cpu_update_lanes(c, lanes, false);
}

const struct cpu_kind cpu_dense = {.init = dense_init,
                                   .forward = dense_forward,
                                   .backward = dense_backward,
                                   .update = dense_update,
                                   .finish_grads = dense_finish_grads};
