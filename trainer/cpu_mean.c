/* SPDX-License-Identifier: Apache-2.0
 *
 * Pooling by means, and of whole images by mean or maximum, in plain and blocked layouts. A plane
 * is one channel, or one block of them, of one image: [h][w][B].
 */
#include "trainer/cpu.h"

#include "base/alloc.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* ---- windows ---- */

static enum mag_status avgpool_init(struct cpu_op *c, struct mag_err *err)
{
    (void)err;
    c->act.block = cpu_in(c, 0)->block;
    return MAG_OK;
}

/* y[p][q][B] = mean of a window */
INLINE void mean_plane(const struct layer *l, const float *x, float *y, int B)
{
    const float part = 1.0f / (float)(l->kernel * l->kernel);
    for (int p = 0; p < l->out.h; p++) {
        for (int q = 0; q < l->out.w; q++, y += B) {
            const float *corner = x + ((p * l->in.w) + q) * l->stride * B;
            float sum[16] = {0};
            for (int i = 0; i < l->kernel; i++) {
                for (int j = 0; j < l->kernel; j++) {
                    for (int b = 0; b < B; b++) {
                        sum[b] += corner[(i * l->in.w + j) * B + b];
                    }
                }
            }
            for (int b = 0; b < B; b++) {
                y[b] = sum[b] * part;
            }
        }
    }
}

INLINE void spread_plane(const struct layer *l, const float *dy, float *dx, int B)
{
    const float part = 1.0f / (float)(l->kernel * l->kernel);
    for (int p = 0; p < l->out.h; p++) {
        for (int q = 0; q < l->out.w; q++, dy += B) {
            float *corner = dx + ((p * l->in.w) + q) * l->stride * B;
            for (int i = 0; i < l->kernel; i++) {
                for (int j = 0; j < l->kernel; j++) {
                    for (int b = 0; b < B; b++) {
                        corner[(i * l->in.w + j) * B + b] += dy[b] * part;
                    }
                }
            }
        }
    }
}

FOR_CPUS static void mean_planes(const struct layer *l, const float *x, float *y, size_t planes,
                                 int block)
{
    size_t in = (size_t)(l->in.h * l->in.w * block);
    size_t out = (size_t)(l->out.h * l->out.w * block);
    for (size_t i = 0; i < planes; i++, x += in, y += out) {
        if (block == 8) {
            mean_plane(l, x, y, 8);
        } else if (block == 16) {
            mean_plane(l, x, y, 16);
        } else {
            mean_plane(l, x, y, 1);
        }
    }
}

FOR_CPUS static void spread_planes(const struct layer *l, const float *dy, float *dx, size_t planes,
                                   int block)
{
    size_t in = (size_t)(l->in.h * l->in.w * block);
    size_t out = (size_t)(l->out.h * l->out.w * block);
    memset(dx, 0, planes * in * sizeof(float));
    for (size_t i = 0; i < planes; i++, dy += out, dx += in) {
        if (block == 8) {
            spread_plane(l, dy, dx, 8);
        } else if (block == 16) {
            spread_plane(l, dy, dx, 16);
        } else {
            spread_plane(l, dy, dx, 1);
        }
    }
}

/* Of all images of all lanes. */
static size_t planes_of(const struct cpu_op *c)
{
    return (size_t)c->op.lanes * (size_t)c->op.rows *
           (size_t)(c->op.layer.in.c / cpu_in(c, 0)->block);
}

static void avgpool_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)n;
    (void)pass;
    mean_planes(&c->op.layer, cpu_in(c, 0)->out, c->act.out, planes_of(c), c->act.block);
}

static void avgpool_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    (void)n;
    (void)pass;
    if (dx[0] != NULL) {
        spread_planes(&c->op.layer, c->act.grad, dx[0], planes_of(c), c->act.block);
    }
}

const struct cpu_kind cpu_avgpool = {
    .init = avgpool_init, .forward = avgpool_forward, .backward = avgpool_backward};

/* ---- whole images; the output is a plain row of channels ---- */

static enum mag_status globalpool_init(struct cpu_op *c, struct mag_err *err)
{
    if (!c->op.layer.max) {
        return MAG_OK;
    }
    c->place = mag_try_alloc(cpu_act_size(c), sizeof(*c->place));
    return c->place != NULL ? MAG_OK : mag_fail(err, MAG_NOMEM, "no memory for a pooling layer");
}

/* Each of B channels: the mean over the area, or the largest value and its place. */
INLINE void pool_whole(const float *x, int area, int B, float *y, int32_t *place)
{
    for (int b = 0; b < B; b++) {
        y[b] = x[b];
        if (place != NULL) {
            place[b] = 0;
        }
    }
    for (int i = 1; i < area; i++) {
        for (int b = 0; b < B; b++) {
            float v = x[i * B + b];
            if (place == NULL) {
                y[b] += v;
            } else if (v > y[b]) {
                y[b] = v;
                place[b] = i;
            }
        }
    }
    for (int b = 0; b < B && place == NULL; b++) {
        y[b] /= (float)area;
    }
}

INLINE void unpool_whole(const float *dy, const int32_t *place, int area, int B, float *dx)
{
    for (int i = 0; i < area; i++) {
        for (int b = 0; b < B; b++) {
            dx[i * B + b] = place == NULL ? dy[b] / (float)area : place[b] == i ? dy[b] : 0;
        }
    }
}

static void globalpool_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)n;
    (void)pass;
    const struct cpu_act *x = cpu_in(c, 0);
    const int area = c->op.layer.in.h * c->op.layer.in.w;
    for (size_t i = 0; i < planes_of(c); i++) {
        size_t at = i * (size_t)x->block;
        pool_whole(x->out + at * (size_t)area, area, x->block, c->act.out + at,
                   c->place != NULL ? c->place + at : NULL);
    }
}

static void globalpool_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    (void)n;
    (void)pass;
    const int block = cpu_in(c, 0)->block;
    const int area = c->op.layer.in.h * c->op.layer.in.w;
    for (size_t i = 0; i < planes_of(c) && dx[0] != NULL; i++) {
        size_t at = i * (size_t)block;
        unpool_whole(c->act.grad + at, c->place != NULL ? c->place + at : NULL, area, block,
                     dx[0] + at * (size_t)area);
    }
}

const struct cpu_kind cpu_globalpool = {
    .init = globalpool_init, .forward = globalpool_forward, .backward = globalpool_backward};
