/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the CPU backend's Winograd convolutions (cpu_winograd*.c): 3x3 and 5x5 kernels of
 * stride 1 with fewer multiplications.
 *
 * The algorithm is minimal filtering (Winograd 1980) as Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks" (CVPR 2016, arXiv 1509.09308), bring it to layers. With
 * n = 4 + kernel - 1 points, a tile of n x n inputs d and a kernel g give 4 x 4 outputs
 *
 *     y = A' [ (G g G') * (B' d B) ] A
 *
 * where * multiplies point by point, so that summing over channels makes n n products of matrices,
 * one for each point. A 3x3 kernel takes the 6 points 0, 1, -1, 2, -2, infinity (4 times fewer
 * multiplications than direct sums), a 5x5 kernel those and 1/2, -1/2 (6.25 times fewer).
 *
 * Backward is the adjoint of forward, map by map: with D = A dy A'
 *
 *     dg = G' [ sum of (B' d B) * D ] G          dd = B [ (G g G') * D ] B', tiles overlap and add
 *
 * so that both gradients share one transform of dy, and nothing but B', A' and G is ever needed.
 *
 * Values lie in vectors of 8 channels, a "plane" each. What is transformed lies as
 * [point][plane][tile][8], weights as [point][plane of outputs][input channel][8], the points
 * `stride` floats apart: an odd number of cache lines, since one tile's values for all points, that
 * many apart, would otherwise fall into few sets of the cache.
 *
 * Everything here needs AVX2 and FMA, which winograd_create asks for.
 */
#ifndef MAG_TRAINER_CPU_WINOGRAD_H
#define MAG_TRAINER_CPU_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

#define WINOGRAD_OUT 4    /* outputs of a tile in each direction */
#define WINOGRAD_POINTS 8 /* the most of them in each direction */
#define WINOGRAD_LANES 8  /* channels of a plane */

typedef float winograd_vec __attribute__((vector_size(32)));
typedef float winograd_loose __attribute__((vector_size(32), aligned(4), may_alias));

#define WINOGRAD_AVX2 __attribute__((target("avx2,fma")))
#define WINOGRAD_INLINE static inline __attribute__((target("avx2,fma"), always_inline))

/* Images whose tiles are transformed: of a layer's input or of its output. */
struct winograd_images {
    int channels, h, w;
    int block; /* channels in a block of the layout: 8 or 16 */
};

/* One tile: which image, and where its first output lies there. */
struct winograd_tile {
    int image, row, column;
};

struct winograd_tiles {
    struct winograd_images input, output;
    int pad;
    int points;                     /* in each direction */
    const struct winograd_tile *at; /* n of them */
    int n;
};

/* One layer's weights, [filters][channels][kernel][kernel]. */
struct winograd_kernels {
    int filters, channels, kernel, points;
};

/* Floats of one point's values, and the distance to the next point's. */
static inline size_t winograd_stride(size_t floats)
{
    size_t lines = (floats + 15) / 16;
    return (lines | 1) * 16;
}

/* ---- transforms of tiles (cpu_winograd_tile.c): plane by plane, [point][plane][tile][8] ---- */

/* B' d B of the inputs at x. */
void winograd_spread_input(const struct winograd_tiles *t, const float *x, float *to,
                           size_t stride);
/* A dy A' of the outputs' gradients; adds their sums to bias[filters] unless that is NULL. */
void winograd_spread_grad(const struct winograd_tiles *t, const float *dy, float *to, size_t stride,
                          float *bias);
/* y = A' m A + bias, or the largest of that and 0 with relu, of `planes` planes from `first`. */
void winograd_gather_output(const struct winograd_tiles *t, const float *m, size_t stride,
                            int first, int planes, const float *bias, bool relu, float *y);
/* dx += B s B' */
void winograd_gather_grad(const struct winograd_tiles *t, const float *s, size_t stride, float *dx);

/* ---- transforms of weights (cpu_winograd_weight.c) ---- */

/* G g G' as [point][plane of filters][channel][8]; with `adjoint` [point][plane of
 * channels][filter][8]. */
void winograd_spread_weights(const struct winograd_kernels *k, const float *w, bool adjoint,
                             float *to, size_t stride);
/* dw = G' m G, from [point][plane of filters][channel][8]. */
void winograd_gather_weights(const struct winograd_kernels *k, const float *m, size_t stride,
                             float *dw);

/* ---- products of one point (cpu_winograd_product.c) ---- */

/* to[plane][tile][8] = a[depth / 8][tile][8] times w[plane][depth][8] */
void winograd_multiply(const float *a, const float *w, int tiles, int depth, int planes, float *to);
/* sum[plane][channel][8] += x[channels / 8][tile][8]' times d[plane][tile][8] */
void winograd_accumulate(const float *x, const float *d, int tiles, int channels, int planes,
                         float *sum);

#endif
