/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense: y = act(W x + b).
 */
#include "trainer/ref.h"

static void dense_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    size_t in = (size_t)shape_size(&r->op.layer.in);
    size_t out = ref_size(&r->op);
    const float *x = ref_in(r, 0, lane);
    const float *w = ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE);
    float *y = ref_out(r, lane);
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t o = 0; o < out; o++) {
            double sum = ref_bias(r, lane, o);
            for (size_t k = 0; k < in; k++) {
                sum += ref_factor(r, w[o * in + k]) * ref_factor(r, x[i * in + k]);
            }
            y[i * out + o] = (float)sum;
        }
    }
    ref_act_forward(r, lane, n);
}

static void dense_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    size_t in = (size_t)shape_size(&r->op.layer.in);
    size_t out = ref_size(&r->op);
    const float *x = ref_in(r, 0, lane);
    const float *w = ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE);
    const float *dy = ref_grad(r, lane);
    float *dw = ref_param(r, lane, OP_WEIGHTS, SLOT_GRAD);
    ref_act_backward(r, lane, n);
    ref_round_grad(r, lane, n);
    for (size_t o = 0; o < out; o++) {
        double db = 0;
        for (size_t i = 0; i < (size_t)n; i++) {
            db += (double)dy[i * out + o];
        }
        if (!r->op.layer.no_bias) {
            ref_param(r, lane, OP_BIAS, SLOT_GRAD)[o] = (float)db;
        }
        for (size_t k = 0; k < in; k++) {
            double sum = 0;
            for (size_t i = 0; i < (size_t)n; i++) {
                sum += (double)dy[i * out + o] * ref_factor(r, x[i * in + k]);
            }
            dw[o * in + k] = (float)sum;
        }
    }
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t k = 0; k < in; k++) {
            double sum = 0;
            for (size_t o = 0; o < out; o++) {
                sum += (double)dy[i * out + o] * ref_factor(r, w[o * in + k]);
            }
            dx[0][i * in + k] = (float)sum;
        }
    }
}

const struct ref_kind ref_dense = {.forward = dense_forward, .backward = dense_backward};
