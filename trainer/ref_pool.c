/* SPDX-License-Identifier: Apache-2.0
 *
 * Pooling. Of equal values the first in row order is the largest.
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

/* ---- means of windows ---- */

static void avgpool_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    const struct layer *l = &r->op.layer;
    const int window = l->kernel * l->kernel;
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        double sum = 0;
        for (int t = 0; t < window; t++) {
            sum += (double)ref_in(r, 0, lane)[window_at(l, i, t)];
        }
        ref_out(r, lane)[i] = (float)(sum / window);
    }
}

static void avgpool_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    const struct layer *l = &r->op.layer;
    const int window = l->kernel * l->kernel;
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        for (int t = 0; t < window; t++) {
            dx[0][window_at(l, i, t)] += ref_grad(r, lane)[i] / (float)window;
        }
    }
}

const struct ref_kind ref_avgpool = {.forward = avgpool_forward, .backward = avgpool_backward};

/* ---- one value a channel ---- */

static void globalpool_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    const struct layer *l = &r->op.layer;
    const size_t area = (size_t)(l->in.h * l->in.w);
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        const float *x = ref_in(r, 0, lane) + i * area;
        double sum = 0;
        size_t best = 0;
        for (size_t k = 0; k < area; k++) {
            sum += (double)x[k];
            best = x[k] > x[best] ? k : best;
        }
        ref_kept(r, lane)[i] = (float)best;
        ref_out(r, lane)[i] = l->max ? x[best] : (float)(sum / (double)area);
    }
}

static void globalpool_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    const struct layer *l = &r->op.layer;
    const size_t area = (size_t)(l->in.h * l->in.w);
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        float g = ref_grad(r, lane)[i];
        for (size_t k = 0; k < area && !l->max; k++) {
            dx[0][i * area + k] = g / (float)area;
        }
        if (l->max) {
            dx[0][i * area + (size_t)ref_kept(r, lane)[i]] = g;
        }
    }
}

const struct ref_kind ref_globalpool = {.forward = globalpool_forward,
                                        .backward = globalpool_backward};
