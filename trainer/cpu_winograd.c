/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolutions by Winograd's minimal filtering: which layers take it, and how a batch goes through
 * it. Tiles go block by block, so that what a block's transforms make stays in the outer cache of a
 * core until the products have used it. Blocks are the same in every run, and with them the sums.
 */
#include "trainer/cpu_winograd.h"

#include "base/alloc.h"
#include "trainer/cpu.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)

#define FORWARD_TILES 48  /* of a block: sizes at which most shapes come near their best */
#define BACKWARD_TILES 36 /* it holds more of each */
#define PLANES 4          /* of outputs between two transforms */
#define TILES_MIN 8       /* of a batch: with fewer the weights' transforms cost too much */
#define THREADS_MAX 2     /* direct sums use more of them better: all this runs in one */
#define WEIGHTS_MAX ((int64_t)1 << 24) /* transformed */

struct winograd {
    struct backend *b;
    struct winograd_tiles tiles; /* `at` and `n` of the block at hand */
    struct winograd_kernels kernels;
    int rows;         /* images of a whole batch */
    int across, down; /* tiles of an image */
    int planes;       /* of outputs between two transforms */
    struct winograd_tile at[FORWARD_TILES > BACKWARD_TILES ? FORWARD_TILES : BACKWARD_TILES];
};

static int points_of(const struct winograd *g)
{
    return g->tiles.points * g->tiles.points;
}

/* The distance of points of transformed tiles. */
static size_t tiles_stride(int tiles, int planes)
{
    return winograd_stride((size_t)tiles * (size_t)planes * WINOGRAD_LANES);
}

static size_t weights_stride(const struct winograd *g)
{
    return winograd_stride((size_t)g->kernels.filters * (size_t)g->kernels.channels);
}

static int planes_in(const struct winograd *g)
{
    return g->kernels.channels / WINOGRAD_LANES;
}

static int planes_out(const struct winograd *g)
{
    return g->kernels.filters / WINOGRAD_LANES;
}

static size_t forward_room(const struct winograd *g)
{
    return (size_t)points_of(g) * (weights_stride(g) + tiles_stride(FORWARD_TILES, planes_in(g)) +
                                   tiles_stride(FORWARD_TILES, g->planes));
}

static size_t backward_room(const struct winograd *g)
{
    return (size_t)points_of(g) *
           (2 * weights_stride(g) + tiles_stride(BACKWARD_TILES, planes_in(g)) +
            tiles_stride(BACKWARD_TILES, planes_out(g)));
}

/* ---- life ---- */

static int tiles_along(int side)
{
    return (side + WINOGRAD_OUT - 1) / WINOGRAD_OUT;
}

/* Does it take many fewer multiplications than direct sums? Transforms cost about as much as a half
 * of what is left; a kernel of AVX-512 does twice as many at once as ours. */
static bool saves(const struct layer *l, int block)
{
    const int64_t points = WINOGRAD_OUT + l->kernel - 1;
    const int64_t direct = (int64_t)l->out.h * l->out.w * l->kernel * l->kernel;
    const int64_t here = points * points * tiles_along(l->out.h) * tiles_along(l->out.w);
    return 2 * direct >= (block == 8 ? 4 : 9) * here;
}

/* Layers that it can do and does well. Every weight must meet some value of an image: the gradient
 * of one that does not is zero, here only up to rounding, which Adam would make a step of. */
static bool suits(const struct layer *l, int rows, int block)
{
    const int64_t points = WINOGRAD_OUT + l->kernel - 1;
    const bool kernel = (l->kernel == 3 || l->kernel == 5) && l->stride == 1 && l->groups == 1;
    const bool image = l->in.h >= l->kernel && l->in.w >= l->kernel && l->pad < l->kernel;
    const bool channels = l->in.c % block == 0 && l->filters % block == 0 &&
                          points * points * l->in.c * l->filters <= WEIGHTS_MAX;
    return kernel && image && channels && saves(l, block) &&
           (int64_t)rows * tiles_along(l->out.h) * tiles_along(l->out.w) >= TILES_MIN &&
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static void plan(struct winograd *g, const struct layer *l, int rows, int block)
{
    const int points = WINOGRAD_OUT + l->kernel - 1;
    *g = (struct winograd){.tiles = {.input = {l->in.c, l->in.h, l->in.w, block},
                                     .output = {l->out.c, l->out.h, l->out.w, block},
                                     .pad = l->pad,
                                     .points = points},
                           .kernels = {l->filters, l->in.c, l->kernel, points},
                           .rows = rows,
                           .across = tiles_along(l->out.w),
                           .down = tiles_along(l->out.h)};
    g->planes = planes_out(g) < PLANES ? planes_out(g) : PLANES;
}

static size_t room_of(const struct winograd *g, bool learns)
{
    const size_t forward = forward_room(g);
    const size_t backward = learns ? backward_room(g) : 0;
    return forward > backward ? forward : backward;
}

size_t winograd_room(const struct layer *l, int rows, bool learns)
{
    struct winograd g;
    if (!suits(l, rows, WINOGRAD_LANES)) {
        return 0;
    }
    plan(&g, l, rows, WINOGRAD_LANES);
    return room_of(&g, learns);
}

static bool need_room(struct backend *b, size_t n)
{
    if (n <= b->tiles_size) {
        return true;
    }
    free(b->tiles);
    b->tiles = cpu_alloc(n);
    b->tiles_size = b->tiles != NULL ? n : 0;
    return b->tiles != NULL;
}

enum mag_status winograd_create(struct backend *b, const struct layer *l, int rows, int block,
                                bool learns, struct winograd **ret, struct mag_err *err)
{
    *ret = NULL;
    if (!b->winograd || b->threads > THREADS_MAX || block == 1 || !suits(l, rows, block)) {
        return MAG_OK;
    }
    struct winograd *g = xcalloc(1, sizeof(*g));
    plan(g, l, rows, block);
    g->b = b;
    g->tiles.at = g->at;
    if (!need_room(b, room_of(g, learns))) {
        winograd_destroy(g);
        return mag_fail(err, MAG_NOMEM, "no memory for a convolution's tiles");
    }
    *ret = g;
    return MAG_OK;
}

void winograd_destroy(struct winograd *g)
{
    free(g);
}

/* ---- passes ---- */

/* Makes the block of tiles from `first` on, at most `most`, of n images; false: there is none. */
static bool next_block(struct winograd *g, int first, int most, int n)
{
    const int image = g->across * g->down;
    const int left = image * n - first;
    g->tiles.n = left < most ? left : most;
    for (int i = 0; i < g->tiles.n; i++) {
        const int place = (first + i) % image;
        g->at[i] = (struct winograd_tile){.image = (first + i) / image,
                                          .row = place / g->across * WINOGRAD_OUT,
                                          .column = place % g->across * WINOGRAD_OUT};
    }
    return g->tiles.n > 0;
}

void winograd_forward(struct winograd *g, const float *x, const float *w, const float *bias,
                      bool relu, int n, float *y)
{
    const int points = points_of(g);
    const size_t w_stride = weights_stride(g);
    const size_t x_stride = tiles_stride(FORWARD_TILES, planes_in(g));
    const size_t m_stride = tiles_stride(FORWARD_TILES, g->planes);
    float *weights = g->b->tiles;
    float *inputs = weights + (size_t)points * w_stride;
    float *products = inputs + (size_t)points * x_stride;
    winograd_spread_weights(&g->kernels, w, false, weights, w_stride);
    for (int at = 0; next_block(g, at, FORWARD_TILES, n); at += g->tiles.n) {
        winograd_spread_input(&g->tiles, x, inputs, x_stride);
        for (int first = 0; first < planes_out(g); first += g->planes) {
            const int left = planes_out(g) - first;
            const int planes = left < g->planes ? left : g->planes;
            const size_t from = (size_t)first * (size_t)g->kernels.channels * WINOGRAD_LANES;
            for (int p = 0; p < points; p++) {
                winograd_multiply(inputs + (size_t)p * x_stride,
                                  weights + (size_t)p * w_stride + from, g->tiles.n,
                                  g->kernels.channels, planes, products + (size_t)p * m_stride);
            }
            winograd_gather_output(&g->tiles, products, m_stride, first, planes, bias, relu, y);
        }
    }
}

void winograd_backward(struct winograd *g, const float *x, const float *dy, const float *w, int n,
                       float *dw, float *db, float *dx)
{
    const int points = points_of(g);
    const size_t w_stride = weights_stride(g);
    const size_t x_stride = tiles_stride(BACKWARD_TILES, planes_in(g));
    const size_t d_stride = tiles_stride(BACKWARD_TILES, planes_out(g));
    const size_t image =
        (size_t)g->kernels.channels * (size_t)g->tiles.input.h * (size_t)g->tiles.input.w;
    float *weights = g->b->tiles;
    float *sums = weights + (size_t)points * w_stride;
    float *inputs = sums + (size_t)points * w_stride;
    float *grads = inputs + (size_t)points * x_stride;
    memset(sums, 0, (size_t)points * w_stride * sizeof(float));
    if (db != NULL) {
        memset(db, 0, (size_t)g->kernels.filters * sizeof(float));
    }
    if (dx != NULL) {
        winograd_spread_weights(&g->kernels, w, true, weights, w_stride);
        memset(dx, 0, image * (size_t)g->rows * sizeof(float));
    }
    for (int at = 0; next_block(g, at, BACKWARD_TILES, n); at += g->tiles.n) {
        winograd_spread_input(&g->tiles, x, inputs, x_stride);
        winograd_spread_grad(&g->tiles, dy, grads, d_stride, db);
        for (int p = 0; p < points; p++) {
            float *in = inputs + (size_t)p * x_stride;
            const float *grad = grads + (size_t)p * d_stride;
            winograd_accumulate(in, grad, g->tiles.n, g->kernels.channels, planes_out(g),
                                sums + (size_t)p * w_stride);
            if (dx != NULL) { /* in the inputs' place, which nobody needs any more */
                winograd_multiply(grad, weights + (size_t)p * w_stride, g->tiles.n,
                                  g->kernels.filters, planes_in(g), in);
            }
        }
        if (dx != NULL) {
            winograd_gather_grad(&g->tiles, inputs, x_stride, dx);
        }
    }
    winograd_gather_weights(&g->kernels, sums, w_stride, dw);
}

#else

size_t winograd_room(const struct layer *l, int rows, bool learns)
{
    (void)l;
    (void)rows;
    (void)learns;
    return 0;
}

enum mag_status winograd_create(struct backend *b, const struct layer *l, int rows, int block,
                                bool learns, struct winograd **ret, struct mag_err *err)
{
    (void)b;
    (void)l;
    (void)rows;
    (void)block;
    (void)learns;
    (void)err;
    *ret = NULL;
    return MAG_OK;
}

void winograd_destroy(struct winograd *g)
{
    (void)g;
}

void winograd_forward(struct winograd *g, const float *x, const float *w, const float *bias,
                      bool relu, int n, float *y)
{
    (void)g;
    (void)x;
    (void)w;
    (void)bias;
    (void)relu;
    (void)n;
    (void)y;
}

void winograd_backward(struct winograd *g, const float *x, const float *dy, const float *w, int n,
                       float *dw, float *db, float *dx)
{
    (void)g;
    (void)x;
    (void)dy;
    (void)w;
    (void)n;
    (void)dw;
    (void)db;
    (void)dx;
}

#endif
