/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers: three matrix products. Weights are [out][in]; behind a blocked image the columns
 * follow the image's layout (cpu_op.column), so that the activations need no reordering. Backward
 * leaves the weights' gradient to update, which makes it and takes the step in one pass.
 */
#include "trainer/cpu.h"

#include "base/alloc.h"

#include <string.h>

static enum mag_status dense_init(struct cpu_op *c, struct mag_err *err)
{
    const struct shape *in = &c->op.layer.in;
    c->scratch = cpu_alloc(cpu_fused_room(c->op.rows, c->op.layer.filters));
    if (c->scratch == NULL) {
        return mag_fail(err, MAG_NOMEM, "no memory for a dense layer's outputs");
    }
    int block = cpu_of(c->op.input)->act.block;
    if (block == 1) {
        return MAG_OK;
    }
    const struct shape *image = cpu_image(c->op.input);
    const int area = image->h * image->w;
    c->column = mag_try_alloc((size_t)shape_size(in), sizeof(*c->column));
    if (c->column == NULL) {
        return mag_fail(err, MAG_NOMEM, "no memory for a dense layer's column table");
    }
    for (int k = 0; k < (int)shape_size(in); k++) {
        int channel = k / area;
        c->column[k] = (uint32_t)((channel / block * area + k % area) * block + channel % block);
    }
    return MAG_OK;
}

static void dense_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)pass;
    const int in = (int)shape_size(&c->op.layer.in);
    const int out = c->op.layer.filters;
    cpu_matmul(c->op.backend, false, true, n, out, in, cpu_of(c->op.input)->act.out, in,
               c->params[OP_WEIGHTS][SLOT_VALUE], in, 0, c->act.out, out);
    cpu_bias_act(c->act.out, c->params[OP_BIAS][SLOT_VALUE], n, out, c->op.layer.act);
}

static void dense_backward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)pass;
    const int in = (int)shape_size(&c->op.layer.in);
    const int out = c->op.layer.filters;
    const struct cpu_act *x = &cpu_of(c->op.input)->act;
    float *dy = c->act.grad;
    cpu_act_backward(dy, c->act.out, (size_t)n * (size_t)out, c->op.layer.act);
    cpu_sum_rows(dy, n, out, c->params[OP_BIAS][SLOT_GRAD]);
    c->pending = n;
    if (c->want_dx) {
        cpu_matmul(c->op.backend, false, false, n, in, out, dy, out,
                   c->params[OP_WEIGHTS][SLOT_VALUE], in, 0, x->grad, in);
        memset(x->grad + (size_t)n * (size_t)in, 0,
               (size_t)(c->op.rows - n) * (size_t)in * sizeof(float));
    }
}

static void dense_finish_grads(struct cpu_op *c)
{
    const int in = (int)shape_size(&c->op.layer.in);
    const int out = c->op.layer.filters;
    if (c->pending > 0) {
        cpu_matmul(c->op.backend, true, false, out, in, c->pending, c->act.grad, out,
                   cpu_of(c->op.input)->act.out, in, 0, c->params[OP_WEIGHTS][SLOT_GRAD], in);
        c->pending = 0;
    }
}

/* The last layers are small: there a product and a step of their own are as fast. */
static void dense_update(struct cpu_op *c, const struct update *u)
{
    const int in = (int)shape_size(&c->op.layer.in);
    const int out = c->op.layer.filters;
    if (c->pending > 0 && c->op.backend->threads == 1 && out >= 32 &&
        cpu_fused_update(c->act.grad, cpu_of(c->op.input)->act.out, c->pending, out, in,
                         c->params[OP_WEIGHTS], u, c->scratch)) {
        c->pending = 0;
    } else {
        dense_finish_grads(c);
        cpu_update(c->params[OP_WEIGHTS], (size_t)in * (size_t)out, u, true);
    }
    cpu_update(c->params[OP_BIAS], (size_t)out, u, false);
}

const struct cpu_kind cpu_dense = {.init = dense_init,
                                   .forward = dense_forward,
                                   .backward = dense_backward,
                                   .update = dense_update,
                                   .finish_grads = dense_finish_grads};
