/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/ref.h"

#include <math.h>
#include <string.h>

static double normal_below(double z)
{
    return 0.5 * (1 + erf(z * M_SQRT1_2));
}

static double normal_density(double z)
{
    return exp(-0.5 * z * z) * 0.5 * M_SQRT1_2 * M_2_SQRTPI;
}

static float value_of(enum activation a, float z)
{
    switch (a) {
    case ACT_RELU:
        return z > 0 ? z : 0;
    case ACT_TANH:
        return tanhf(z);
    case ACT_SIGMOID:
        return 1.0f / (1.0f + expf(-z));
    case ACT_GELU:
        return (float)((double)z * normal_below((double)z));
    case ACT_SILU:
        return (float)((double)z / (1 + exp(-(double)z)));
    case ACT_NONE:
    default:
        return z;
    }
}

/* The derivative, from the output y, or from z where y does not tell it. */
static float slope_of(enum activation a, float y, float z)
{
    double s = 0;
    switch (a) {
    case ACT_RELU:
        return y > 0 ? 1 : 0;
    case ACT_TANH:
        return 1 - y * y;
    case ACT_SIGMOID:
        return y * (1 - y);
    case ACT_GELU:
        return (float)(normal_below((double)z) + (double)z * normal_density((double)z));
    case ACT_SILU:
        s = 1 / (1 + exp(-(double)z));
        return (float)(s * (1 + (double)z * (1 - s)));
    case ACT_NONE:
    default:
        return 1;
    }
}

void ref_act_forward(struct ref_op *r, int lane, int n)
{
    float *y = ref_out(r, lane);
    size_t size = ref_size(&r->op) * (size_t)n;
    if (!act_by_output(r->op.layer.act)) {
        memcpy(ref_kept(r, lane), y, size * sizeof(float));
    }
    for (size_t i = 0; i < size; i++) {
        y[i] = value_of(r->op.layer.act, y[i]);
    }
}

void ref_act_backward(struct ref_op *r, int lane, int n)
{
    float *g = ref_grad(r, lane);
    const float *y = ref_out(r, lane);
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        g[i] *= slope_of(r->op.layer.act, y[i], ref_kept(r, lane)[i]);
    }
}

/* ---- as a layer of its own ---- */

static void act_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    memcpy(ref_out(r, lane), ref_in(r, 0, lane), ref_size(&r->op) * (size_t)n * sizeof(float));
    ref_act_forward(r, lane, n);
}

static void act_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    ref_act_backward(r, lane, n);
    memcpy(dx[0], ref_grad(r, lane), ref_size(&r->op) * (size_t)n * sizeof(float));
}

const struct ref_kind ref_activation = {.forward = act_forward, .backward = act_backward};
