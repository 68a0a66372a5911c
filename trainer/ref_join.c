/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers with several inputs: their sum, and all of them one after the other.
 */
#include "trainer/ref.h"

#include <string.h>

static void add_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        double sum = 0;
        for (int k = 0; k < r->op.layer.n_inputs; k++) {
            sum += (double)ref_in(r, k, lane)[i];
        }
        ref_out(r, lane)[i] = (float)sum;
    }
    ref_act_forward(r, lane, n);
}

static void add_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    ref_act_backward(r, lane, n);
    for (int k = 0; k < r->op.layer.n_inputs; k++) {
        memcpy(dx[k], ref_grad(r, lane), ref_size(&r->op) * (size_t)n * sizeof(float));
    }
}

const struct ref_kind ref_add = {.forward = add_forward, .backward = add_backward};

static void concat_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    float *y = ref_out(r, lane);
    for (size_t i = 0; i < (size_t)n; i++) {
        for (int k = 0; k < r->op.layer.n_inputs; k++) {
            size_t some = ref_size(r->op.inputs[k]);
            memcpy(y, ref_in(r, k, lane) + i * some, some * sizeof(float));
            y += some;
        }
    }
}

static void concat_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    const float *dy = ref_grad(r, lane);
    for (size_t i = 0; i < (size_t)n; i++) {
        for (int k = 0; k < r->op.layer.n_inputs; k++) {
            size_t some = ref_size(r->op.inputs[k]);
            memcpy(dx[k] + i * some, dy, some * sizeof(float));
            dy += some;
        }
    }
}

const struct ref_kind ref_concat = {.forward = concat_forward, .backward = concat_backward};
