/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's transforms of weights: once a batch, so a plain loop over the matrix G will do.
 */
#include "trainer/cpu_winograd.h"

#if defined(__x86_64__) && defined(__GNUC__)

#define LANES WINOGRAD_LANES
#define POINTS WINOGRAD_POINTS
#define KERNEL_MAX 5

typedef winograd_vec vec;

/* p^k over the product of p's distances to the other points; infinity takes the last weight. The
 * zero's sign is turned, as in B'. */
static const float g6[6][3] = {
    {1.0f / 4, 0, 0},
    {-1.0f / 6, -1.0f / 6, -1.0f / 6},
    {-1.0f / 6, 1.0f / 6, -1.0f / 6},
    {1.0f / 24, 1.0f / 12, 1.0f / 6},
    {1.0f / 24, -1.0f / 12, 1.0f / 6},
    {0, 0, 1},
};
static const float g8[8][5] = {
    {1, 0, 0, 0, 0},
    {-2.0f / 9, -2.0f / 9, -2.0f / 9, -2.0f / 9, -2.0f / 9},
    {-2.0f / 9, 2.0f / 9, -2.0f / 9, 2.0f / 9, -2.0f / 9},
    {1.0f / 90, 1.0f / 45, 2.0f / 45, 4.0f / 45, 8.0f / 45},
    {1.0f / 90, -1.0f / 45, 2.0f / 45, -4.0f / 45, 8.0f / 45},
    {32.0f / 45, 16.0f / 45, 8.0f / 45, 4.0f / 45, 2.0f / 45},
    {32.0f / 45, -16.0f / 45, 8.0f / 45, -4.0f / 45, 2.0f / 45},
    {0, 0, 0, 0, 1},
};

WINOGRAD_INLINE float weight_of(int points, int p, int k)
{
    return points == 8 ? g8[p][k] : g6[p][k];
}

/* Eight kernels, `apart` floats from one to the next, become G g G', the points `stride` apart. */
WINOGRAD_INLINE void spread(const float *w, size_t apart, float *to, size_t stride,
                            const int points, const int kernel)
{
    vec g[KERNEL_MAX * KERNEL_MAX];
    vec half[POINTS * KERNEL_MAX];
    for (int i = 0; i < kernel * kernel; i++) {
        for (int lane = 0; lane < LANES; lane++) {
            g[i][lane] = w[(size_t)lane * apart + (size_t)i];
        }
    }
    for (int p = 0; p < points; p++) {
        for (int j = 0; j < kernel; j++) {
            vec sum = weight_of(points, p, 0) * g[j];
            for (int k = 1; k < kernel; k++) {
                sum += weight_of(points, p, k) * g[k * kernel + j];
            }
            half[p * kernel + j] = sum;
        }
    }
    for (int p = 0; p < points; p++) {
        for (int q = 0; q < points; q++, to += stride) {
            vec sum = weight_of(points, q, 0) * half[p * kernel];
            for (int k = 1; k < kernel; k++) {
                sum += weight_of(points, q, k) * half[p * kernel + k];
            }
            *(winograd_loose *)(void *)to = sum;
        }
    }
}

/* The adjoint: eight kernels' gradients. */
WINOGRAD_INLINE void gather(const float *m, size_t stride, float *dw, size_t apart,
                            const int points, const int kernel)
{
    vec half[POINTS * KERNEL_MAX];
    for (int p = 0; p < points; p++) {
        for (int j = 0; j < kernel; j++) {
            vec sum = {0};
            for (int q = 0; q < points; q++) {
                sum +=
                    weight_of(points, q, j) *
                    *(const winograd_loose *)(const void *)(m + (size_t)(p * points + q) * stride);
            }
            half[p * kernel + j] = sum;
        }
    }
    for (int i = 0; i < kernel; i++) {
        for (int j = 0; j < kernel; j++) {
            vec sum = {0};
            for (int p = 0; p < points; p++) {
                sum += weight_of(points, p, i) * half[p * kernel + j];
            }
            for (int lane = 0; lane < LANES; lane++) {
                dw[(size_t)lane * apart + (size_t)(i * kernel + j)] = sum[lane];
            }
        }
    }
}

WINOGRAD_AVX2 void winograd_spread_weights(const struct winograd_kernels *k, const float *w,
                                           bool adjoint, float *to, size_t stride)
{
    const size_t one = (size_t)(k->kernel * k->kernel);
    const size_t filter = one * (size_t)k->channels;
    const int lanes = adjoint ? k->channels : k->filters; /* what lies side by side in vectors */
    const int others = adjoint ? k->filters : k->channels;
    const size_t apart = adjoint ? one : filter;
    const size_t next = adjoint ? filter : one;
    for (int i = 0; i < lanes; i += LANES) {
        for (int j = 0; j < others; j++, to += LANES) {
            const float *from = w + (size_t)i * apart + (size_t)j * next;
            if (k->points == 8) {
                spread(from, apart, to, stride, 8, 5);
            } else {
                spread(from, apart, to, stride, 6, 3);
            }
        }
    }
}

WINOGRAD_AVX2 void winograd_gather_weights(const struct winograd_kernels *k, const float *m,
                                           size_t stride, float *dw)
{
    const size_t one = (size_t)(k->kernel * k->kernel);
    const size_t filter = one * (size_t)k->channels;
    for (int f = 0; f < k->filters; f += LANES) {
        for (int c = 0; c < k->channels; c++, m += LANES) {
            float *to = dw + (size_t)f * filter + (size_t)c * one;
            if (k->points == 8) {
                gather(m, stride, to, filter, 8, 5);
            } else {
                gather(m, stride, to, filter, 6, 3);
            }
        }
    }
}

#endif
