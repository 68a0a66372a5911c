/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution, in groups: filter o sees the channels c of its group alone. y[o][p][q] =
 * act(b[o] + sum W[o][c][i][j] x[c][p s + i - pad][q s + j - pad]).
 */
#include "trainer/ref.h"

#include "base/alloc.h"

#include <stdlib.h>

/* Calls `visit` for every product in the sum, with the indices of y, x and W. */
typedef void (*conv_visit)(void *ctx, size_t y, size_t x, size_t w);

static void conv_each(const struct layer *l, size_t row, conv_visit visit, void *ctx)
{
    const int k = l->kernel;
    const int channels = l->in.c / l->groups; /* that feed one filter */
    for (int o = 0; o < l->out.c; o++) {
        int group = o / (l->filters / l->groups);
        for (int p = 0; p < l->out.h * l->out.w; p++) {
            int top = p / l->out.w * l->stride - l->pad;
            int left = p % l->out.w * l->stride - l->pad;
            for (int t = 0; t < channels * k * k; t++) {
                int c = group * channels + t / (k * k);
                int h = top + t / k % k;
                int w = left + t % k;
                if (h >= 0 && h < l->in.h && w >= 0 && w < l->in.w) {
                    visit(ctx,
                          (row * (size_t)l->out.c + (size_t)o) * (size_t)(l->out.h * l->out.w) +
                              (size_t)p,
                          row * (size_t)shape_size(&l->in) +
                              (size_t)((c * l->in.h + h) * l->in.w + w),
                          (size_t)o * (size_t)(channels * k * k) + (size_t)t);
                }
            }
        }
    }
}

struct conv_sums {
    const struct ref_op *r;
    double *y, *dx, *dw;
    const float *x, *w, *dy;
};

static void visit_forward(void *ctx, size_t y, size_t x, size_t w)
{
    struct conv_sums *s = ctx;
    s->y[y] += ref_factor(s->r, s->x[x]) * ref_factor(s->r, s->w[w]);
}

static void visit_backward(void *ctx, size_t y, size_t x, size_t w)
{
    struct conv_sums *s = ctx;
    s->dw[w] += (double)s->dy[y] * ref_factor(s->r, s->x[x]);
    s->dx[x] += (double)s->dy[y] * ref_factor(s->r, s->w[w]);
}

static void conv_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    const struct layer *l = &r->op.layer;
    size_t size = ref_size(&r->op) * (size_t)n;
    size_t area = (size_t)(l->out.h * l->out.w);
    struct conv_sums s = {.r = r,
                          .y = xcalloc(size, sizeof(double)),
                          .x = ref_in(r, 0, lane),
                          .w = ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE)};
    for (int i = 0; i < n; i++) {
        conv_each(l, (size_t)i, visit_forward, &s);
    }
    for (size_t i = 0; i < size; i++) {
        ref_out(r, lane)[i] = (float)(s.y[i] + ref_bias(r, lane, i / area % (size_t)l->out.c));
    }
    ref_act_forward(r, lane, n);
    free(s.y);
}

static void to_float(double *from, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)from[i];
    }
    free(from);
}

static void conv_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    const struct layer *l = &r->op.layer;
    size_t nw = (size_t)op_param_floats(l, OP_WEIGHTS);
    size_t nx = (size_t)shape_size(&l->in) * (size_t)n;
    size_t area = (size_t)(l->out.h * l->out.w);
    struct conv_sums s = {.r = r,
                          .dx = xcalloc(nx, sizeof(double)),
                          .dw = xcalloc(nw, sizeof(double)),
                          .x = ref_in(r, 0, lane),
                          .w = ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE),
                          .dy = ref_grad(r, lane)};
    double *db = xcalloc((size_t)l->filters, sizeof(double));
    ref_act_backward(r, lane, n);
    ref_round_grad(r, lane, n);
    for (int i = 0; i < n; i++) {
        conv_each(l, (size_t)i, visit_backward, &s);
    }
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        db[i / area % (size_t)l->out.c] += (double)s.dy[i];
    }
    to_float(s.dw, ref_param(r, lane, OP_WEIGHTS, SLOT_GRAD), nw);
    to_float(s.dx, dx[0], nx);
    if (l->no_bias) {
        free(db);
    } else {
        to_float(db, ref_param(r, lane, OP_BIAS, SLOT_GRAD), (size_t)l->filters);
    }
}

const struct ref_kind ref_conv = {.forward = conv_forward, .backward = conv_backward};
