/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling; of equal values the first in row order wins.
 */
#include "trainer/ref.h"

#include <math.h>

/* Where the value t of the window of output i lies in the inputs. */
static size_t window_at(const struct layer *l, size_t i, int t)
{
    size_t area = (size_t)(l->out.h * l->out.w);
    size_t plane = i / area * (size_t)(l->in.h * l->in.w);
    int p = (int)(i % area) / l->out.w;
    int q = (int)(i % area) % l->out.w;
    return plane +
           (size_t)((p * l->stride + t / l->kernel) * l->in.w + q * l->stride + t % l->kernel);
}

static void maxpool_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    const struct layer *l = &r->op.layer;
    const float *x = ref_in(r, 0, lane);
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        float best = -INFINITY;
        for (int t = 0; t < l->kernel * l->kernel; t++) {
            float v = x[window_at(l, i, t)];
            if (t == 0 || v > best) {
                best = v;
                ref_kept(r, lane)[i] = (float)t;
            }
        }
        ref_out(r, lane)[i] = best;
    }
}

static void maxpool_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        int t = (int)ref_kept(r, lane)[i];
        dx[0][window_at(&r->op.layer, i, t)] += ref_grad(r, lane)[i];
    }
}

const struct ref_kind ref_maxpool = {.forward = maxpool_forward, .backward = maxpool_backward};
