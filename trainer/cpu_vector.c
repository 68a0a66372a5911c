/* SPDX-License-Identifier: Apache-2.0
 *
 * A dense layer applied to one example: a matrix times a vector. Every weight is read once and used
 * once, so nothing is gained by packing it as a product of matrices does; what counts is that the
 * weights stream in and the sums do not wait for one another.
 */
#include "trainer/cpu.h"

#if defined(__GNUC__)

typedef float vec __attribute__((vector_size(32)));
typedef float vec_loose __attribute__((vector_size(32), aligned(4), may_alias));

#define ROWS 4 /* rows at once: each value of x is loaded for so many */

#define LOAD(p) (*(const vec_loose *)(const void *)(p))

static inline __attribute__((always_inline)) float total(const vec *v)
{
    return (((*v)[0] + (*v)[4]) + ((*v)[2] + (*v)[6])) +
           (((*v)[1] + (*v)[5]) + ((*v)[3] + (*v)[7]));
}

/* y[r] = w[r] . x for `rows` rows; 16 columns a turn in two sums, then what is left. */
static inline __attribute__((always_inline)) void dots(const float *w, size_t in, int rows,
                                                       const float *x, float *y)
{
    vec even[ROWS] = {{0}};
    vec odd[ROWS] = {{0}};
    size_t j = 0;
    for (; j + 16 <= in; j += 16) {
        const vec x0 = LOAD(x + j);
        const vec x1 = LOAD(x + j + 8);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            even[r] += LOAD(w + (size_t)r * in + j) * x0;
            odd[r] += LOAD(w + (size_t)r * in + j + 8) * x1;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        even[r] += odd[r];
        y[r] = total(&even[r]);
        for (size_t k = j; k < in; k++) {
            y[r] += w[(size_t)r * in + k] * x[k];
        }
    }
}

FOR_CPUS void cpu_matvec(const float *w, int out, int in, const float *x, float *y)
{
    int r = 0;
    for (; r + ROWS <= out; r += ROWS) {
        dots(w + (size_t)r * (size_t)in, (size_t)in, ROWS, x, y + r);
    }
    for (; r < out; r++) {
        dots(w + (size_t)r * (size_t)in, (size_t)in, 1, x, y + r);
    }
}

#else

void cpu_matvec(const float *w, int out, int in, const float *x, float *y)
{
    for (int r = 0; r < out; r++, w += in) {
        y[r] = 0;
        for (int k = 0; k < in; k++) {
            y[r] += w[k] * x[k];
        }
    }
}

#endif
