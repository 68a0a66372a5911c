/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling in plain and blocked layouts. Of equal values in a window the first in row order
 * wins, as in the reference.
 */
#include "trainer/cpu.h"

#include "base/alloc.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

static enum mag_status pool_init(struct cpu_op *c, struct mag_err *err)
{
    c->act.block = cpu_in(c, 0)->block;
    c->where = mag_try_alloc(cpu_act_size(c), 1);
    MAG_ASSERT(c->op.layer.kernel <= MODEL_POOL_MAX, "a place in a window must fit a byte");
    return c->where != NULL ? MAG_OK : mag_fail(err, MAG_NOMEM, "no memory for a pooling layer");
}

/* ---- plain: one value at a time ---- */

static void pool_plain(const struct layer *l, const float *x, float *y, uint8_t *where)
{
    const int k = l->kernel;
    for (int p = 0; p < l->out.h; p++) {
        for (int q = 0; q < l->out.w; q++, y++, where++) {
            const float *corner = x + p * l->stride * l->in.w + q * l->stride;
            float best = corner[0];
            int at = 0;
            for (int i = 0; i < k; i++) {
                for (int j = 0; j < k; j++) {
                    float v = corner[i * l->in.w + j];
                    at = v > best ? i * k + j : at;
                    best = v > best ? v : best;
                }
            }
            *y = best;
            *where = (uint8_t)at;
        }
    }
}

/* Adds every gradient to the input that won its window. */
static void unpool_plain(const struct layer *l, const float *dy, const uint8_t *where, float *dx)
{
    for (int p = 0; p < l->out.h; p++) {
        for (int q = 0; q < l->out.w; q++, dy++, where++) {
            int row = p * l->stride + *where / l->kernel;
            dx[row * l->in.w + q * l->stride + *where % l->kernel] += *dy;
        }
    }
}

/* ---- blocked: eight channels at a time ---- */

typedef float lanes __attribute__((vector_size(32), aligned(32), may_alias));
typedef int32_t lanes_int __attribute__((vector_size(32)));
typedef uint8_t lanes_byte __attribute__((vector_size(8), aligned(1), may_alias));

/* One window of eight channels; `line` floats lie between two rows of the image, B between two
 * pixels. */
INLINE void pool_window(const float *corner, int k, int line, int B, float *y, uint8_t *where)
{
    lanes_int best = (lanes_int)(*(const lanes *)(const void *)corner);
    lanes_int at = {0};
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < k; j++) {
            lanes v = *(const lanes *)(const void *)(corner + i * line + j * B);
            lanes_int wins = v > (lanes)best;
            best = (wins & (lanes_int)v) | (~wins & best);
            at = (wins & (i * k + j)) | (~wins & at);
        }
    }
    *(lanes *)(void *)y = (lanes)best;
    *(lanes_byte *)(void *)where = __builtin_convertvector(at, lanes_byte);
}

/* Where the windows do not overlap every input is written once; elsewhere gradients add up. */
INLINE void unpool_window(const float *dy, const uint8_t *where, int k, int line, int B, bool add,
                          float *corner)
{
    lanes_int g = (lanes_int)(*(const lanes *)(const void *)dy);
    lanes_int at = __builtin_convertvector(*(const lanes_byte *)(const void *)where, lanes_int);
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < k; j++) {
            lanes *to = (lanes *)(void *)(corner + i * line + j * B);
            lanes mine = (lanes)(g & (at == i * k + j));
            if (add) {
                mine += *to;
            }
            *to = mine;
        }
    }
}

INLINE void pool_plane(const struct layer *l, const float *x, float *y, uint8_t *where, int k,
                       int B)
{
    const int line = l->in.w * B;
    for (int p = 0; p < l->out.h; p++) {
        for (int q = 0; q < l->out.w; q++, y += B, where += B) {
            const float *corner = x + p * l->stride * line + q * l->stride * B;
            for (int h = 0; h < B; h += 8) {
                pool_window(corner + h, k, line, B, y + h, where + h);
            }
        }
    }
}

INLINE void unpool_plane(const struct layer *l, const float *dy, const uint8_t *where, float *dx,
                         int k, int B, bool add)
{
    const int line = l->in.w * B;
    for (int p = 0; p < l->out.h; p++) {
        for (int q = 0; q < l->out.w; q++, dy += B, where += B) {
            float *corner = dx + p * l->stride * line + q * l->stride * B;
            for (int h = 0; h < B; h += 8) {
                unpool_window(dy + h, where + h, k, line, B, add, corner + h);
            }
        }
    }
}

/* The calls with constants become code without loops over windows and lanes. */
FOR_CPUS static void pool_planes(const struct layer *l, const float *x, float *y, uint8_t *where,
                                 size_t planes, int block)
{
    size_t in = (size_t)(l->in.h * l->in.w * block);
    size_t out = (size_t)(l->out.h * l->out.w * block);
    for (size_t i = 0; i < planes; i++, x += in, y += out, where += out) {
        if (block == 8 && l->kernel == 2) {
            pool_plane(l, x, y, where, 2, 8);
        } else if (block == 16 && l->kernel == 2) {
            pool_plane(l, x, y, where, 2, 16);
        } else if (block > 1) {
            pool_plane(l, x, y, where, l->kernel, block);
        } else {
            pool_plain(l, x, y, where);
        }
    }
}

FOR_CPUS static void unpool_planes(const struct layer *l, const float *dy, const uint8_t *where,
                                   float *dx, size_t planes, int block)
{
    size_t in = (size_t)(l->in.h * l->in.w * block);
    size_t out = (size_t)(l->out.h * l->out.w * block);
    bool tiles =
        block > 1 && l->stride == l->kernel && l->in.h % l->kernel == 0 && l->in.w % l->kernel == 0;
    if (!tiles) {
        memset(dx, 0, planes * in * sizeof(float));
    }
    for (size_t i = 0; i < planes; i++, dy += out, where += out, dx += in) {
        if (tiles && block == 8 && l->kernel == 2) {
            unpool_plane(l, dy, where, dx, 2, 8, false);
        } else if (tiles && block == 16 && l->kernel == 2) {
            unpool_plane(l, dy, where, dx, 2, 16, false);
        } else if (block > 1) {
            unpool_plane(l, dy, where, dx, l->kernel, block, !tiles);
        } else {
            unpool_plain(l, dy, where, dx);
        }
    }
}

static void pool_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)n;
    (void)pass;
    const struct layer *l = &c->op.layer;
    size_t planes = (size_t)c->op.lanes * (size_t)c->op.rows * (size_t)(l->in.c / c->act.block);
    pool_planes(l, cpu_in(c, 0)->out, c->act.out, c->where, planes, c->act.block);
}

static void pool_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    (void)n;
    (void)pass;
    const struct layer *l = &c->op.layer;
    size_t planes = (size_t)c->op.lanes * (size_t)c->op.rows * (size_t)(l->in.c / c->act.block);
    if (dx[0] != NULL) {
        unpool_planes(l, c->act.grad, c->where, dx[0], planes, c->act.block);
    }
}

const struct cpu_kind cpu_maxpool = {
    .init = pool_init, .forward = pool_forward, .backward = pool_backward};
