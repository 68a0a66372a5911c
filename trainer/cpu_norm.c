/* SPDX-License-Identifier: Apache-2.0
 *
 * Batch norm and layer norm. Batch norm goes through planes: [pixels][B] of one image and one block
 * of B channels (plain: B = 1; flat values: one plane whose pixels are the rows). Mean and variance
 * of each plane are taken around its own mean while it lies in the cache, and joined after Chan et
 * al. 1979, so that memory is read once and nothing cancels. A relu behind it is taken along.
 */
#include "trainer/cpu.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define PARTS 8 /* sums that run side by side in a plain plane */

/* ---- how a lane's values lie ---- */

struct planes {
    int images, blocks; /* planes are images x blocks */
    int pixels, B;
    size_t image, block, pixel; /* floats from one to the next */
};

static struct planes planes_of(const struct cpu_op *c, const struct cpu_act *a, int n)
{
    const struct shape *s = &c->op.layer.in;
    if (s->flat) {
        return (struct planes){.images = 1, .blocks = 1, .pixels = n, .B = s->c, .pixel = a->row};
    }
    return (struct planes){.images = n,
                           .blocks = s->c / a->block,
                           .pixels = s->h * s->w,
                           .B = a->block,
                           .image = a->row,
                           .block = (size_t)(s->h * s->w) * (size_t)a->block,
                           .pixel = (size_t)a->block};
}

/* ---- statistics ---- */

/* Sums over the pixels of B channels: of x - shift[b], and of its square. */
INLINE void sums_blocked(const float *x, int pixels, size_t pixel, int B, const float *shift,
                         float *sum, float *square)
{
    for (int i = 0; i < pixels; i++, x += pixel) {
        for (int b = 0; b < B; b++) {
            float off = x[b] - shift[b];
            sum[b] += off;
            square[b] += off * off;
        }
    }
}

/* Eight channels at once, four pixels side by side so that sums do not wait for each other. */
typedef float eight __attribute__((vector_size(32), aligned(32), may_alias));
#define SIDE 4

INLINE const eight *eight_at(const float *x)
{
    return (const eight *)(const void *)x;
}

INLINE void fold(const eight v[SIDE], eight *to)
{
    *to = (v[0] + v[1]) + (v[2] + v[3]);
}

/* The sums of x over the pixels, and then of (x - mean)^2 around their mean. */
INLINE void moments_eight(const float *x, int pixels, float *mean, float *square)
{
    eight s[SIDE] = {{0}};
    eight q[SIDE] = {{0}};
    int i = 0;
    for (; i + SIDE <= pixels; i += SIDE) {
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++) {
            s[k] += *eight_at(x + 8 * (i + k));
        }
    }
    for (; i < pixels; i++) {
        s[0] += *eight_at(x + 8 * i);
    }
    eight m;
    fold(s, &m);
    m /= (float)pixels;
    for (i = 0; i + SIDE <= pixels; i += SIDE) {
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++) {
            eight off = *eight_at(x + 8 * (i + k)) - m;
            q[k] += off * off;
        }
    }
    for (; i < pixels; i++) {
        eight off = *eight_at(x + 8 * i) - m;
        q[0] += off * off;
    }
    eight all;
    fold(q, &all);
    memcpy(mean, &m, sizeof(m));
    memcpy(square, &all, sizeof(all));
}

/* The same of one plain channel. */
INLINE void sums_plain(const float *x, int pixels, float shift, float *sum, float *square)
{
    float s[PARTS] = {0};
    float q[PARTS] = {0};
    int i = 0;
    for (; i + PARTS <= pixels; i += PARTS) {
        for (int k = 0; k < PARTS; k++) {
            float off = x[i + k] - shift;
            s[k] += off;
            q[k] += off * off;
        }
    }
    for (; i < pixels; i++) {
        float off = x[i] - shift;
        s[0] += off;
        q[0] += off * off;
    }
    for (int k = 0; k < PARTS; k++) {
        *sum += s[k];
        *square += q[k];
    }
}

/* Mean and sum of squared differences of the B channels of a plane. */
FOR_CPUS static void plane_moments(const float *x, const struct planes *p, float *mean,
                                   float *square, float *room)
{
    const size_t bytes = (size_t)p->B * sizeof(float);
    if (p->B == 8 && p->pixel == 8) {
        moments_eight(x, p->pixels, mean, square);
        return;
    }
    memset(mean, 0, bytes);
    for (int pass = 0; pass < 2; pass++) {
        memset(room, 0, bytes);
        memset(square, 0, bytes);
        if (p->B == 1) {
            sums_plain(x, p->pixels, mean[0], room, square);
        } else {
            sums_blocked(x, p->pixels, p->pixel, p->B, mean, room, square);
        }
        for (int b = 0; b < p->B; b++) { /* the second time by what rounding left over */
            float rest = room[b] / (float)p->pixels;
            mean[b] += rest;
            square[b] -= pass == 1 ? rest * room[b] : 0;
        }
    }
}

/* Mean and sum of squared differences of every channel of a lane. `room`: 3 B floats. */
static void lane_moments(const float *x, const struct planes *p, double *mean, double *m2,
                         float *room)
{
    const double some = (double)p->pixels;
    for (int image = 0; image < p->images; image++) {
        const double before = some * image;
        for (int block = 0; block < p->blocks; block++) {
            float *own = room;
            float *square = room + p->B;
            plane_moments(x + (size_t)image * p->image + (size_t)block * p->block, p, own, square,
                          room + 2 * p->B);
            for (int b = 0; b < p->B; b++) {
                int c = block * p->B + b;
                double off = (double)own[b] - mean[c];
                mean[c] += off * some / (before + some);
                m2[c] += (double)square[b] + off * off * before * some / (before + some);
            }
        }
    }
}

/* ---- batch norm ---- */

/* Of each channel and lane: mean and 1 / sqrt(var + epsilon) of the last batch, [lanes][2][C]; then
 * room for one lane's numbers. */
static size_t kept_floats(const struct cpu_op *c)
{
    return (size_t)c->op.lanes * 2 * (size_t)c->op.layer.in.c;
}

static float *kept_of(const struct cpu_op *c, int lane)
{
    return c->scratch + (size_t)lane * 2 * (size_t)c->op.layer.in.c;
}

static enum mag_status batchnorm_init(struct cpu_op *c, struct mag_err *err)
{
    cpu_act_like(c, cpu_in(c, 0));
    c->scratch = cpu_alloc(kept_floats(c) + 6 * (size_t)c->op.layer.in.c);
    c->sums = mag_try_alloc(2 * (size_t)c->op.layer.in.c, sizeof(double));
    bool tables = !c->op.layer.in.flat || cpu_make_columns(c);
    return c->scratch != NULL && c->sums != NULL && tables
               ? MAG_OK
               : mag_fail(err, MAG_NOMEM, "no memory for a batch norm");
}

/* Moves the running statistics and leaves those of the batch in `kept`. */
static void take_batch(struct cpu_op *c, int lane, int n)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const struct planes p = planes_of(c, x, n);
    const int channels = c->op.layer.in.c;
    const double all = (double)p.images * (double)p.pixels;
    const double m = (double)c->op.layer.momentum;
    double *mean = c->sums;
    double *m2 = c->sums + channels;
    float *kept = kept_of(c, lane);
    float *means = cpu_param(c, lane, OP_MEAN, SLOT_VALUE);
    float *vars = cpu_param(c, lane, OP_VAR, SLOT_VALUE);
    memset(c->sums, 0, 2 * (size_t)channels * sizeof(double));
    lane_moments(x->out + cpu_lane(x, lane), &p, mean, m2, c->scratch + kept_floats(c));
    for (int k = 0; k < channels; k++) {
        double var = m2[k] / all;
        kept[k] = (float)mean[k];
        kept[channels + k] = (float)(1 / sqrt(var + (double)c->op.layer.epsilon));
        means[k] = (float)((1 - m) * (double)means[k] + m * mean[k]);
        vars[k] = (float)((1 - m) * (double)vars[k] + m * (all > 1 ? m2[k] / (all - 1) : var));
    }
}

static void take_running(struct cpu_op *c, int lane)
{
    const int channels = c->op.layer.in.c;
    const float *means = cpu_param(c, lane, OP_MEAN, SLOT_VALUE);
    const float *vars = cpu_param(c, lane, OP_VAR, SLOT_VALUE);
    float *kept = kept_of(c, lane);
    for (int k = 0; k < channels; k++) {
        kept[k] = means[k];
        kept[channels + k] = (float)(1 / sqrt((double)vars[k] + (double)c->op.layer.epsilon));
    }
}

/* y = x scale + shift, with relu the largest of that and 0. */
INLINE void scale_blocked(const float *x, float *y, int pixels, size_t xp, size_t yp, int B,
                          const float *scale, const float *shift, bool relu)
{
    for (int i = 0; i < pixels; i++, x += xp, y += yp) {
        for (int b = 0; b < B; b++) {
            float v = x[b] * scale[b] + shift[b];
            y[b] = relu && !(v > 0) ? 0 : v;
        }
    }
}

INLINE void scale_plain(const float *x, float *y, int pixels, float scale, float shift, bool relu)
{
    for (int i = 0; i < pixels; i++) {
        float v = x[i] * scale + shift;
        y[i] = relu && !(v > 0) ? 0 : v;
    }
}

INLINE void scale_eight(const float *x, float *y, int pixels, const float *scale,
                        const float *shift, bool relu)
{
    typedef int32_t mask __attribute__((vector_size(32)));
    eight sv;
    eight tv;
    memcpy(&sv, scale, sizeof(sv));
    memcpy(&tv, shift, sizeof(tv));
    for (int i = 0; i < pixels; i++) {
        eight v = *eight_at(x + 8 * i) * sv + tv;
        *(eight *)(void *)(y + 8 * i) = relu ? (eight)((mask)v & (mask)(v > 0)) : v;
    }
}

FOR_CPUS static void scale_plane(const float *x, float *y, const struct planes *px,
                                 const struct planes *py, const float *scale, const float *shift,
                                 bool relu)
{
    if (px->B == 1) {
        scale_plain(x, y, px->pixels, scale[0], shift[0], relu);
    } else if (px->B == 8 && px->pixel == 8 && relu) {
        scale_eight(x, y, px->pixels, scale, shift, true);
    } else if (px->B == 8 && px->pixel == 8) {
        scale_eight(x, y, px->pixels, scale, shift, false);
    } else {
        scale_blocked(x, y, px->pixels, px->pixel, py->pixel, px->B, scale, shift, relu);
    }
}

static void scale_lane(const float *x, float *y, const struct planes *px, const struct planes *py,
                       const float *scale, const float *shift, bool relu)
{
    for (int image = 0; image < px->images; image++) {
        for (int block = 0; block < px->blocks; block++) {
            scale_plane(x + (size_t)image * px->image + (size_t)block * px->block,
                        y + (size_t)image * py->image + (size_t)block * py->block, px, py,
                        scale + block * px->B, shift + block * px->B, relu);
        }
    }
}

static void norm_lane(struct cpu_op *c, int lane, int n)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const struct planes px = planes_of(c, x, n);
    const struct planes py = planes_of(c, &c->act, n);
    const int channels = c->op.layer.in.c;
    const float *gamma = cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE);
    const float *beta = cpu_param(c, lane, OP_BIAS, SLOT_VALUE);
    const float *kept = kept_of(c, lane);
    float *scale = c->scratch + kept_floats(c);
    float *shift = scale + channels;
    for (int k = 0; k < channels; k++) {
        scale[k] = gamma[k] * kept[channels + k];
        shift[k] = beta[k] - kept[k] * scale[k];
    }
    scale_lane(x->out + cpu_lane(x, lane), c->act.out + cpu_lane(&c->act, lane), &px, &py, scale,
               shift, c->op.layer.act == ACT_RELU);
}

/* Other activations than relu, over all lanes: idle ones and rows past n come along. */
static void finish(struct cpu_op *c)
{
    if (c->op.layer.act != ACT_RELU) {
        cpu_act_forward(c->act.out, c->pre, cpu_act_size(c), c->op.layer.act);
    }
}

static void batchnorm_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        if (pass->lanes[lane].idle) {
            continue;
        }
        if (pass->training) {
            take_batch(c, lane, n);
        } else {
            take_running(c, lane);
        }
        norm_lane(c, lane, n);
    }
    finish(c);
}

/* ---- its gradients ---- */

/* Where relu stood, its slope is that of y; with y NULL there was none. Sums over the pixels: of
 * the gradients, and of gradient times (x - mean). */
INLINE void grads_blocked(const float *dy, const float *y, const float *x, int pixels, size_t dp,
                          size_t xp, int B, const float *mean, float *sum, float *along)
{
    for (int i = 0; i < pixels; i++, dy += dp, x += xp) {
        for (int b = 0; b < B; b++) {
            float g = y == NULL || y[b] > 0 ? dy[b] : 0;
            sum[b] += g;
            along[b] += g * (x[b] - mean[b]);
        }
        y = y != NULL ? y + dp : NULL;
    }
}

INLINE void grads_plain(const float *dy, const float *y, const float *x, int pixels, float mean,
                        float *sum, float *along)
{
    float s[PARTS] = {0};
    float q[PARTS] = {0};
    int i = 0;
    for (; i + PARTS <= pixels; i += PARTS) {
        for (int k = 0; k < PARTS; k++) {
            float g = y == NULL || y[i + k] > 0 ? dy[i + k] : 0;
            s[k] += g;
            q[k] += g * (x[i + k] - mean);
        }
    }
    for (; i < pixels; i++) {
        float g = y == NULL || y[i] > 0 ? dy[i] : 0;
        s[0] += g;
        q[0] += g * (x[i] - mean);
    }
    for (int k = 0; k < PARTS; k++) {
        *sum += s[k];
        *along += q[k];
    }
}

/* The gradients at dy, zero where relu let nothing through. */
INLINE void through(const float *dy, const float *y, eight *g)
{
    typedef int32_t mask __attribute__((vector_size(32)));
    *g = *eight_at(dy);
    if (y != NULL) {
        *g = (eight)((mask)*g & (mask)(*eight_at(y) > 0));
    }
}

INLINE void grads_eight(const float *dy, const float *y, const float *x, int pixels,
                        const float *mean, float *sum, float *along)
{
    eight s[SIDE] = {{0}};
    eight q[SIDE] = {{0}};
    eight m;
    int i = 0;
    memcpy(&m, mean, sizeof(m));
    for (; i + SIDE <= pixels; i += SIDE) {
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++) {
            const int at = 8 * (i + k);
            eight g;
            through(dy + at, y != NULL ? y + at : NULL, &g);
            s[k] += g;
            q[k] += g * (*eight_at(x + at) - m);
        }
    }
    for (; i < pixels; i++) {
        eight g;
        through(dy + 8 * i, y != NULL ? y + 8 * i : NULL, &g);
        s[0] += g;
        q[0] += g * (*eight_at(x + 8 * i) - m);
    }
    fold(s, &m);
    memcpy(sum, &m, sizeof(m));
    fold(q, &m);
    memcpy(along, &m, sizeof(m));
}

FOR_CPUS static void plane_grads(const float *dy, const float *y, const float *x,
                                 const struct planes *pd, const struct planes *px,
                                 const float *mean, float *sum, float *along)
{
    if (px->B == 8 && px->pixel == 8 && y != NULL) {
        grads_eight(dy, y, x, px->pixels, mean, sum, along);
        return;
    }
    if (px->B == 8 && px->pixel == 8) {
        grads_eight(dy, NULL, x, px->pixels, mean, sum, along);
        return;
    }
    memset(sum, 0, (size_t)px->B * sizeof(float));
    memset(along, 0, (size_t)px->B * sizeof(float));
    if (px->B == 1) {
        grads_plain(dy, y, x, px->pixels, mean[0], sum, along);
    } else {
        grads_blocked(dy, y, x, px->pixels, pd->pixel, px->pixel, px->B, mean, sum, along);
    }
}

/* dx = g a + x b + d, channel by channel. */
INLINE void spread_blocked(const float *dy, const float *y, const float *x, float *dx, int pixels,
                           size_t dp, size_t xp, int B, const float *a, const float *b,
                           const float *d)
{
    for (int i = 0; i < pixels; i++, dy += dp, x += xp, dx += xp) {
        for (int k = 0; k < B; k++) {
            float g = y == NULL || y[k] > 0 ? dy[k] : 0;
            dx[k] = g * a[k] + x[k] * b[k] + d[k];
        }
        y = y != NULL ? y + dp : NULL;
    }
}

INLINE void spread_eight(const float *dy, const float *y, const float *x, float *dx, int pixels,
                         const float *a, const float *b, const float *d)
{
    eight av;
    eight bv;
    eight dv;
    memcpy(&av, a, sizeof(av));
    memcpy(&bv, b, sizeof(bv));
    memcpy(&dv, d, sizeof(dv));
    for (int i = 0; i < pixels; i++) {
        eight g;
        through(dy + 8 * i, y != NULL ? y + 8 * i : NULL, &g);
        *(eight *)(void *)(dx + 8 * i) = g * av + (*eight_at(x + 8 * i) * bv + dv);
    }
}

FOR_CPUS static void spread_plane(const float *dy, const float *y, const float *x, float *dx,
                                  const struct planes *pd, const struct planes *px, const float *a,
                                  const float *b, const float *d)
{
    if (px->B == 1) {
        for (int i = 0; i < px->pixels; i++) {
            float g = y == NULL || y[i] > 0 ? dy[i] : 0;
            dx[i] = g * a[0] + x[i] * b[0] + d[0];
        }
    } else if (px->B == 8 && px->pixel == 8 && y != NULL) {
        spread_eight(dy, y, x, dx, px->pixels, a, b, d);
    } else if (px->B == 8 && px->pixel == 8) {
        spread_eight(dy, NULL, x, dx, px->pixels, a, b, d);
    } else {
        spread_blocked(dy, y, x, dx, px->pixels, pd->pixel, px->pixel, px->B, a, b, d);
    }
}

/* One lane's arrays in backward. */
struct back {
    const float *dy, *y, *x;
    float *dx;
    struct planes pd, px;
};

/* Sums of g and of g (x - mean) of every channel, into c->sums. */
static void sum_grads(struct cpu_op *c, const struct back *v, const float *mean)
{
    const struct planes *p = &v->px;
    float *sum = c->scratch + kept_floats(c);
    float *along = sum + p->B;
    memset(c->sums, 0, 2 * (size_t)c->op.layer.in.c * sizeof(double));
    for (int image = 0; image < p->images; image++) {
        for (int block = 0; block < p->blocks; block++) {
            size_t at = (size_t)image * v->pd.image + (size_t)block * v->pd.block;
            size_t at_x = (size_t)image * p->image + (size_t)block * p->block;
            const int k = block * p->B;
            plane_grads(v->dy + at, v->y != NULL ? v->y + at : NULL, v->x + at_x, &v->pd, p,
                        mean + k, sum, along);
            for (int b = 0; b < p->B; b++) {
                c->sums[k + b] += (double)sum[b];
                c->sums[c->op.layer.in.c + k + b] += (double)along[b];
            }
        }
    }
}

/* With N values a channel, inv = 1 / sqrt(var + epsilon):
 * dx = gamma inv (g - sum(g) / N - (x - mean) inv^2 sum(g (x - mean)) / N). */
static void spread_grads(struct cpu_op *c, int lane, const struct back *v)
{
    const int channels = c->op.layer.in.c;
    const double all = (double)v->px.images * (double)v->px.pixels;
    const float *gamma = cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE);
    const float *mean = kept_of(c, lane);
    float *a = c->scratch + kept_floats(c);
    float *b = a + channels;
    float *d = b + channels;
    for (int k = 0; k < channels; k++) {
        double inv = (double)mean[channels + k];
        double first = (double)gamma[k] * inv;
        double second = -first * inv * inv * c->sums[channels + k] / all;
        a[k] = (float)first;
        b[k] = (float)second;
        d[k] = (float)(-first * c->sums[k] / all - second * (double)mean[k]);
    }
    for (int image = 0; image < v->px.images; image++) {
        for (int block = 0; block < v->px.blocks; block++) {
            size_t at = (size_t)image * v->pd.image + (size_t)block * v->pd.block;
            size_t at_x = (size_t)image * v->px.image + (size_t)block * v->px.block;
            const int k = block * v->px.B;
            spread_plane(v->dy + at, v->y != NULL ? v->y + at : NULL, v->x + at_x, v->dx + at_x,
                         &v->pd, &v->px, a + k, b + k, d + k);
        }
    }
}

static void clear_rest(const struct cpu_op *c, const struct cpu_act *x, float *dx, int n)
{
    for (int i = n; i < c->op.rows; i++) {
        memset(dx + (size_t)i * x->row, 0, cpu_out_size(c) * sizeof(float));
    }
}

static void batchnorm_lane_back(struct cpu_op *c, int lane, int n, float *dx)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const int channels = c->op.layer.in.c;
    const float *kept = kept_of(c, lane);
    const size_t at = cpu_lane(&c->act, lane);
    const struct back v = {.dy = c->act.grad + at,
                           .y = c->op.layer.act == ACT_RELU ? c->act.out + at : NULL,
                           .x = x->out + cpu_lane(x, lane),
                           .dx = dx != NULL ? dx + cpu_lane(x, lane) : NULL,
                           .pd = planes_of(c, &c->act, n),
                           .px = planes_of(c, x, n)};
    sum_grads(c, &v, kept);
    for (int k = 0; k < channels; k++) {
        cpu_param(c, lane, OP_BIAS, SLOT_GRAD)[k] = (float)c->sums[k];
        cpu_param(c, lane, OP_WEIGHTS, SLOT_GRAD)[k] =
            (float)(c->sums[channels + k] * (double)kept[channels + k]);
    }
    if (v.dx != NULL) {
        spread_grads(c, lane, &v);
        clear_rest(c, x, v.dx, n);
    }
}

static void batchnorm_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    if (c->op.layer.act != ACT_RELU) {
        cpu_act_backward(c->act.grad, c->act.out, c->pre, cpu_act_size(c), c->op.layer.act);
    }
    for (int lane = 0; lane < c->op.lanes; lane++) {
        if (!cpu_idle(c, lane, pass)) {
            batchnorm_lane_back(c, lane, n, dx[0]);
        }
    }
}

const struct cpu_kind cpu_batchnorm = {
    .init = batchnorm_init, .forward = batchnorm_forward, .backward = batchnorm_backward};
