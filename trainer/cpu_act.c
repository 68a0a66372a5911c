/* SPDX-License-Identifier: Apache-2.0
 *
 * Activations: as the last part of another layer, in place, and as layers of their own.
 */
#include "trainer/cpu.h"

#include <math.h>
#include <string.h>

/* ---- values ---- */

FOR_CPUS static void relu(float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = y[i] > 0 ? y[i] : 0;
    }
}

static float gelu(float z)
{
    return 0.5f * z * (1 + erff(z * (float)M_SQRT1_2));
}

static float sigmoid(float z)
{
    return 1.0f / (1.0f + expf(-z));
}

void cpu_act_forward(float *y, float *pre, size_t n, enum activation act)
{
    if (pre != NULL) {
        memcpy(pre, y, n * sizeof(float));
    }
    switch (act) {
    case ACT_RELU:
        relu(y, n);
        break;
    case ACT_TANH:
        for (size_t i = 0; i < n; i++) {
            y[i] = tanhf(y[i]);
        }
        break;
    case ACT_SIGMOID:
        for (size_t i = 0; i < n; i++) {
            y[i] = sigmoid(y[i]);
        }
        break;
    case ACT_GELU:
        for (size_t i = 0; i < n; i++) {
            y[i] = gelu(y[i]);
        }
        break;
    case ACT_SILU:
        for (size_t i = 0; i < n; i++) {
            y[i] *= sigmoid(y[i]);
        }
        break;
    case ACT_NONE:
    default:
        break;
    }
}

/* ---- slopes ---- */

FOR_CPUS static void relu_backward(float *g, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g[i] = y[i] > 0 ? g[i] : 0;
    }
}

FOR_CPUS static void slope_backward(float *g, const float *y, size_t n, bool tanh_)
{
    for (size_t i = 0; i < n; i++) {
        g[i] *= tanh_ ? 1 - y[i] * y[i] : y[i] * (1 - y[i]);
    }
}

/* P(X <= z) + z p(z) */
static void gelu_backward(float *g, const float *z, size_t n)
{
    const float norm = (float)(0.5 * M_SQRT1_2 * M_2_SQRTPI);
    for (size_t i = 0; i < n; i++) {
        float below = 0.5f * (1 + erff(z[i] * (float)M_SQRT1_2));
        g[i] *= below + z[i] * norm * expf(-0.5f * z[i] * z[i]);
    }
}

static void silu_backward(float *g, const float *z, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s = sigmoid(z[i]);
        g[i] *= s * (1 + z[i] * (1 - s));
    }
}

void cpu_act_backward(float *g, const float *y, const float *pre, size_t n, enum activation act)
{
    switch (act) {
    case ACT_RELU:
        relu_backward(g, y, n);
        break;
    case ACT_TANH:
    case ACT_SIGMOID:
        slope_backward(g, y, n, act == ACT_TANH);
        break;
    case ACT_GELU:
        gelu_backward(g, pre, n);
        break;
    case ACT_SILU:
        silu_backward(g, pre, n);
        break;
    case ACT_NONE:
    default:
        break;
    }
}

/* ---- with a bias, the end of a dense layer ---- */

FOR_CPUS static void bias_rows(float *y, const float *bias, int rows, size_t width)
{
    for (int i = 0; i < rows; i++, y += width) {
        for (size_t k = 0; k < width; k++) {
            y[k] += bias[k];
        }
    }
}

FOR_CPUS static void bias_relu_rows(float *y, const float *bias, int rows, size_t width)
{
    for (int i = 0; i < rows; i++, y += width) {
        for (size_t k = 0; k < width; k++) {
            float v = y[k] + bias[k];
            y[k] = v > 0 ? v : 0;
        }
    }
}

void cpu_bias_act(float *y, float *pre, const float *bias, int rows, int width, enum activation act)
{
    if (act == ACT_RELU && bias != NULL) {
        bias_relu_rows(y, bias, rows, (size_t)width);
        return;
    }
    if (bias != NULL) {
        bias_rows(y, bias, rows, (size_t)width);
    }
    cpu_act_forward(y, pre, (size_t)rows * (size_t)width, act);
}

/* ---- a layer of its own: its input is what its slope is made from ---- */

static enum mag_status act_init(struct cpu_op *c, struct mag_err *err)
{
    (void)err;
    cpu_act_like(c, cpu_in(c, 0));
    return MAG_OK;
}

static void act_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)n;
    (void)pass;
    memcpy(c->act.out, cpu_in(c, 0)->out, cpu_act_size(c) * sizeof(float));
    cpu_act_forward(c->act.out, NULL, cpu_act_size(c), c->op.layer.act);
}

static void act_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    (void)n;
    (void)pass;
    if (dx[0] != NULL) {
        cpu_act_backward(c->act.grad, c->act.out, cpu_in(c, 0)->out, cpu_act_size(c),
                         c->op.layer.act);
        memcpy(dx[0], c->act.grad, cpu_act_size(c) * sizeof(float));
    }
}

const struct cpu_kind cpu_activation = {
    .init = act_init, .forward = act_forward, .backward = act_backward};
