/* SPDX-License-Identifier: Apache-2.0
 *
 * The products of Winograd's convolutions: small matrices whose panels stay in the innermost cache,
 * summed in registers, up to twelve vectors at once.
 */
#include "trainer/cpu_winograd.h"

#if defined(__x86_64__) && defined(__GNUC__)

#define LANES WINOGRAD_LANES
#define TILES 6 /* of one call of the kernel of winograd_multiply */
#define ROWS 4  /* channels of one call of that of winograd_accumulate */

typedef winograd_vec vec;

#define LOAD(p) (*(const winograd_loose *)(const void *)(p))
#define STORE(p) (*(winograd_loose *)(void *)(p))

/* `rows` tiles by `planes` planes: 1 or 2. */
WINOGRAD_INLINE void multiply(const float *a, size_t a_plane, const float *w, size_t w_plane,
                              int depth, float *to, size_t to_plane, const int rows,
                              const int planes)
{
    vec sum[TILES][2] = {{{0}}};
    for (int d = 0; d < depth; d += LANES, a += a_plane, w += LANES * LANES) {
#pragma GCC unroll 1 /* more, and the compiler runs out of registers */
        for (int j = 0; j < LANES; j++) {
            const vec w0 = LOAD(w + j * LANES);
            const vec w1 = LOAD(w + (planes > 1 ? w_plane : 0) + j * LANES);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                sum[r][0] += a[r * LANES + j] * w0;
                if (planes > 1) {
                    sum[r][1] += a[r * LANES + j] * w1;
                }
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        STORE(to + r * LANES) = sum[r][0];
        if (planes > 1) {
            STORE(to + to_plane + r * LANES) = sum[r][1];
        }
    }
}

/* The last tiles, fewer than six. */
WINOGRAD_INLINE void multiply_rest(const float *a, size_t a_plane, const float *w, size_t w_plane,
                                   int depth, float *to, size_t to_plane, int rows,
                                   const int planes)
{
    switch (rows) {
    case 5:
        multiply(a, a_plane, w, w_plane, depth, to, to_plane, 5, planes);
        break;
    case 4:
        multiply(a, a_plane, w, w_plane, depth, to, to_plane, 4, planes);
        break;
    case 3:
        multiply(a, a_plane, w, w_plane, depth, to, to_plane, 3, planes);
        break;
    case 2:
        multiply(a, a_plane, w, w_plane, depth, to, to_plane, 2, planes);
        break;
    case 1:
        multiply(a, a_plane, w, w_plane, depth, to, to_plane, 1, planes);
        break;
    default:
        break;
    }
}

WINOGRAD_INLINE void multiply_planes(const float *a, size_t a_plane, const float *w, size_t w_plane,
                                     int depth, float *to, int tiles, const int planes)
{
    int t = 0;
    for (; t + TILES <= tiles; t += TILES) {
        multiply(a + t * LANES, a_plane, w, w_plane, depth, to + t * LANES, a_plane, TILES, planes);
    }
    multiply_rest(a + t * LANES, a_plane, w, w_plane, depth, to + t * LANES, a_plane, tiles - t,
                  planes);
}

WINOGRAD_AVX2 void winograd_multiply(const float *a, const float *w, int tiles, int depth,
                                     int planes, float *to)
{
    const size_t a_plane = (size_t)tiles * LANES;
    const size_t w_plane = (size_t)depth * LANES;
    int p = 0;
    for (; p + 2 <= planes; p += 2) {
        multiply_planes(a, a_plane, w + (size_t)p * w_plane, w_plane, depth,
                        to + (size_t)p * a_plane, tiles, 2);
    }
    if (p < planes) {
        multiply_planes(a, a_plane, w + (size_t)p * w_plane, w_plane, depth,
                        to + (size_t)p * a_plane, tiles, 1);
    }
}

/* Four channels by up to three planes. */
WINOGRAD_INLINE void accumulate(const float *x, const float *d, size_t d_plane, int tiles,
                                float *sum, size_t sum_plane, const int planes)
{
    vec s[ROWS][3];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 3
        for (int p = 0; p < planes; p++) {
            s[r][p] = LOAD(sum + (size_t)p * sum_plane + r * LANES);
        }
    }
    for (int t = 0; t < tiles; t++, x += LANES, d += LANES) {
        const vec d0 = LOAD(d);
        const vec d1 = LOAD(d + (planes > 1 ? d_plane : 0));
        const vec d2 = LOAD(d + (planes > 2 ? 2 * d_plane : 0));
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            s[r][0] += x[r] * d0;
            if (planes > 1) {
                s[r][1] += x[r] * d1;
            }
            if (planes > 2) {
                s[r][2] += x[r] * d2;
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 3
        for (int p = 0; p < planes; p++) {
            STORE(sum + (size_t)p * sum_plane + r * LANES) = s[r][p];
        }
    }
}

/* Planes go in threes, but the last four in twos. */
static int group(int planes)
{
    return planes == 4 ? 2 : planes > 3 ? 3 : planes;
}

WINOGRAD_AVX2 void winograd_accumulate(const float *x, const float *d, int tiles, int channels,
                                       int planes, float *sum)
{
    const size_t d_plane = (size_t)tiles * LANES;
    const size_t sum_plane = (size_t)channels * LANES;
    for (int p = 0; p < planes;) {
        const int some = group(planes - p);
        const float *dp = d + (size_t)p * d_plane;
        float *sp = sum + (size_t)p * sum_plane;
        for (int c = 0; c < channels; c += ROWS, sp += ROWS * LANES) {
            const float *xc = x + (size_t)(c / LANES) * d_plane + c % LANES;
            if (some == 3) {
                accumulate(xc, dp, d_plane, tiles, sp, sum_plane, 3);
            } else if (some == 2) {
                accumulate(xc, dp, d_plane, tiles, sp, sum_plane, 2);
            } else {
                accumulate(xc, dp, d_plane, tiles, sp, sum_plane, 1);
            }
        }
        p += some;
    }
}

#endif
