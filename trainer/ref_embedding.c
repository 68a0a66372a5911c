/* SPDX-License-Identifier: Apache-2.0
 *
 * Embedding: the t-th number of an example chooses a row of the table, which becomes the values
 * [0 .. width) at place t.
 */
#include "trainer/ref.h"

#include <string.h>

static void embedding_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    const struct layer *l = &r->op.layer;
    const size_t width = (size_t)l->filters;
    const size_t places = (size_t)l->in.c;
    const float *table = ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE);
    for (size_t i = 0; i < (size_t)n * places; i++) {
        size_t row = (size_t)backend_index(ref_in(r, 0, lane)[i], l->vocabulary);
        for (size_t k = 0; k < width; k++) {
            ref_out(r, lane)[(i / places * width + k) * places + i % places] =
                table[row * width + k];
        }
    }
}

static void embedding_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    (void)dx; /* whole numbers have no gradient */
    const struct layer *l = &r->op.layer;
    const size_t width = (size_t)l->filters;
    const size_t places = (size_t)l->in.c;
    float *grad = ref_param(r, lane, OP_WEIGHTS, SLOT_GRAD);
    memset(grad, 0, (size_t)op_param_floats(l, OP_WEIGHTS) * sizeof(float));
    for (size_t i = 0; i < (size_t)n * places; i++) {
        size_t row = (size_t)backend_index(ref_in(r, 0, lane)[i], l->vocabulary);
        for (size_t k = 0; k < width; k++) {
            grad[row * width + k] +=
                ref_grad(r, lane)[(i / places * width + k) * places + i % places];
        }
    }
}

const struct ref_kind ref_embedding = {.forward = embedding_forward,
                                       .backward = embedding_backward};
