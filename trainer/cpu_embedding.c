/* SPDX-License-Identifier: Apache-2.0
 *
 * Embedding: rows of a table, [width][1][places] for each example. Its output is plain.
 */
#include "trainer/cpu.h"

#include <string.h>

/* The table's row for place `t` of an example. */
static size_t row_at(const struct cpu_op *c, int lane, int example, int t)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const float *numbers = x->out + cpu_lane(x, lane) + (size_t)example * x->row;
    return (size_t)backend_index(numbers[t], c->op.layer.vocabulary) * (size_t)c->op.layer.filters;
}

static void embedding_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    const int places = c->op.layer.in.c;
    const int width = c->op.layer.filters;
    for (int lane = 0; lane < c->op.lanes; lane++) {
        const float *table = cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE);
        float *to = c->act.out + cpu_lane(&c->act, lane);
        for (int i = 0; i < n && !cpu_idle(c, lane, pass); i++, to += c->act.row) {
            for (int t = 0; t < places; t++) {
                const float *from = table + row_at(c, lane, i, t);
                for (int k = 0; k < width; k++) {
                    to[k * places + t] = from[k];
                }
            }
        }
    }
}

static void embedding_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    (void)dx; /* whole numbers have no gradient */
    const int places = c->op.layer.in.c;
    const int width = c->op.layer.filters;
    const size_t size = (size_t)op_param_floats(&c->op.layer, OP_WEIGHTS);
    for (int lane = 0; lane < c->op.lanes; lane++) {
        float *grad = cpu_param(c, lane, OP_WEIGHTS, SLOT_GRAD);
        const float *dy = c->act.grad + cpu_lane(&c->act, lane);
        memset(grad, 0, size * sizeof(float));
        for (int i = 0; i < n && !cpu_idle(c, lane, pass); i++, dy += c->act.row) {
            for (int t = 0; t < places; t++) {
                float *to = grad + row_at(c, lane, i, t);
                for (int k = 0; k < width; k++) {
                    to[k] += dy[k * places + t];
                }
            }
        }
    }
}

const struct cpu_kind cpu_embedding = {.forward = embedding_forward,
                                       .backward = embedding_backward};
