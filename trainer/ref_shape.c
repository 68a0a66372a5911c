/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers that hand values on: flatten, and dropout, which leaves some out.
 */
#include "trainer/ref.h"

#include <string.h>

static void flatten_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    memcpy(ref_out(r, lane), ref_in(r, 0, lane), ref_size(&r->op) * (size_t)n * sizeof(float));
}

static void flatten_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    memcpy(dx[0], ref_grad(r, lane), ref_size(&r->op) * (size_t)n * sizeof(float));
}

const struct ref_kind ref_flatten = {.forward = flatten_forward, .backward = flatten_backward};

static void dropout_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    size_t size = ref_size(&r->op) * (size_t)n;
    float *mask = ref_kept(r, lane);
    flatten_forward(r, lane, n, pass);
    if (!pass->training) {
        return;
    }
    backend_dropout_mask(&pass->lanes[lane], r->op.index, pass_rate(pass, lane, &r->op),
                         (int64_t)ref_size(&r->op), mask, (int64_t)size);
    for (size_t i = 0; i < size; i++) {
        ref_out(r, lane)[i] *= mask[i];
    }
}

static void dropout_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        dx[0][i] = ref_grad(r, lane)[i] * ref_kept(r, lane)[i];
    }
}

const struct ref_kind ref_dropout = {.forward = dropout_forward, .backward = dropout_backward};
