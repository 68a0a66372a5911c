/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/ref.h"

#include <math.h>

float ref_act(enum activation a, float z)
{
    switch (a) {
    case ACT_RELU:
        return z > 0 ? z : 0;
    case ACT_TANH:
        return tanhf(z);
    case ACT_SIGMOID:
        return 1.0f / (1.0f + expf(-z));
    case ACT_NONE:
    default:
        return z;
    }
}

/* The derivative, from the output. */
static float act_slope(enum activation a, float y)
{
    switch (a) {
    case ACT_RELU:
        return y > 0 ? 1 : 0;
    case ACT_TANH:
        return 1 - y * y;
    case ACT_SIGMOID:
        return y * (1 - y);
    case ACT_NONE:
    default:
        return 1;
    }
}

void ref_act_backward(struct ref_op *r, int lane, int n)
{
    float *g = ref_grad(r, lane);
    const float *y = ref_out(r, lane);
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        g[i] *= act_slope(r->op.layer.act, y[i]);
    }
}
