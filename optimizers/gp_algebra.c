/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocked algorithms over one kernel, C -= A B in tiles of 4 x 8. Every element of C
 * sees the same operations in the same order, whichever way the tiles fall.
 */
#include "optimizers/gp_algebra.h"

#include "base/alloc.h"
#include "optimizers/gp_vec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 32  /* columns of a Cholesky panel, rows of a block solve */
#define CHUNK 256 /* right-hand sides solved together: they and L stay in the second cache */

/* One tile of `rows` x 8, rows a constant after inlining. */
INLINE void tile(double *c, size_t ldc, const double *a, size_t lda, const double *b, size_t ldb,
                 int rows, int k)
{
    vec acc[4][2];
    for (int r = 0; r < rows; r++) {
        acc[r][0] = *(const vec *)(c + (size_t)r * ldc);
        acc[r][1] = *(const vec *)(c + (size_t)r * ldc + 4);
    }
    for (int p = 0; p < k; p++) {
        vec b0 = *(const vec *)(b + (size_t)p * ldb);
        vec b1 = *(const vec *)(b + (size_t)p * ldb + 4);
        for (int r = 0; r < rows; r++) {
            double s = a[(size_t)r * lda + (size_t)p];
            vec v = {s, s, s, s};
            acc[r][0] -= v * b0;
            acc[r][1] -= v * b1;
        }
    }
    for (int r = 0; r < rows; r++) {
        *(vec *)(c + (size_t)r * ldc) = acc[r][0];
        *(vec *)(c + (size_t)r * ldc + 4) = acc[r][1];
    }
}

/* The columns that fill no tile. */
INLINE void edge(double *c, size_t ldc, const double *a, size_t lda, const double *b, size_t ldb,
                 int m, int n, int k)
{
    for (int i = 0; i < m; i++) {
        for (int p = 0; p < k; p++) {
            double s = a[(size_t)i * lda + (size_t)p];
            for (int j = 0; j < n; j++) {
                c[(size_t)i * ldc + (size_t)j] -= s * b[(size_t)p * ldb + (size_t)j];
            }
        }
    }
}

INLINE void subtract_body(double *c, size_t ldc, const double *a, size_t lda, const double *b,
                          size_t ldb, int m, int n, int k)
{
    int j = 0;
    for (; j + 8 <= n; j += 8) {
        int i = 0;
        for (; i + 4 <= m; i += 4) {
            tile(c + (size_t)i * ldc + j, ldc, a + (size_t)i * lda, lda, b + j, ldb, 4, k);
        }
        for (; i < m; i++) {
            tile(c + (size_t)i * ldc + j, ldc, a + (size_t)i * lda, lda, b + j, ldb, 1, k);
        }
    }
    edge(c + j, ldc, a, lda, b + j, ldb, m, n - j, k);
}
TWICE(subtract,
      (double *c, size_t ldc, const double *a, size_t lda, const double *b, size_t ldb, int m,
       int n, int k),
      (c, ldc, a, lda, b, ldb, m, n, k))

void alg_subtract_product(double *c, size_t ldc, const double *a, size_t lda, const double *b,
                          size_t ldb, int m, int n, int k)
{
    subtract(c, ldc, a, lda, b, ldb, m, n, k);
}

/* y -= s x over n elements. */
INLINE void axpy(double *y, double s, const double *x, int n)
{
    vec v = {s, s, s, s};
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        *(vec *)(y + i) -= v * *(const vec *)(x + i);
    }
    for (; i < n; i++) {
        y[i] -= s * x[i];
    }
}

/* Rows [from, n) of a panel of w columns times the inverse of its factored head, transposed. `t`
 * holds the head's columns as rows. */
INLINE void panel_body(double *a, size_t ld, int from, int n, int w, const double *t)
{
    for (int i = from; i < n; i++) {
        double *row = a + (size_t)i * ld;
        for (int k = 0; k < w; k++) {
            row[k] /= t[k * BLOCK + k];
            axpy(row + k + 1, row[k], t + k * BLOCK + k + 1, w - k - 1);
        }
    }
}
TWICE(panel, (double *a, size_t ld, int from, int n, int w, const double *t),
      (a, ld, from, n, w, t))

/* Factors the w x w head; its columns go to the rows of t. */
static bool factor_head(double *a, size_t ld, int w, double *t)
{
    for (int k = 0; k < w; k++) {
        double d = a[(size_t)k * ld + (size_t)k];
        for (int p = 0; p < k; p++) {
            d -= a[(size_t)k * ld + (size_t)p] * a[(size_t)k * ld + (size_t)p];
        }
        if (!(d > 0) || !isfinite(d)) {
            return false;
        }
        d = sqrt(d);
        a[(size_t)k * ld + (size_t)k] = d;
        t[k * BLOCK + k] = d;
        for (int i = k + 1; i < w; i++) {
            double s = a[(size_t)i * ld + (size_t)k];
            for (int p = 0; p < k; p++) {
                s -= a[(size_t)i * ld + (size_t)p] * a[(size_t)k * ld + (size_t)p];
            }
            a[(size_t)i * ld + (size_t)k] = s / d;
            t[k * BLOCK + i] = s / d;
        }
    }
    return true;
}

bool alg_cholesky(double *a, size_t ld, int n)
{
    double head[BLOCK * BLOCK];
    double *t = xmalloc(((size_t)n + 1) * BLOCK * sizeof(*t));
    bool ok = true;
    for (int j = 0; ok && j < n; j += BLOCK) {
        int w = n - j < BLOCK ? n - j : BLOCK;
        double *col = a + (size_t)j * ld + j;
        for (int p = 0; p < j; p++) {
            for (int c = 0; c < w; c++) {
                t[p * BLOCK + c] = a[(size_t)(j + c) * ld + (size_t)p];
            }
        }
        subtract(col, ld, a + (size_t)j * ld, ld, t, BLOCK, n - j, w, j);
        ok = factor_head(col, ld, w, head);
        if (ok) {
            panel(col, ld, w, n - j, w, head);
        }
    }
    free(t);
    return ok;
}

INLINE void solve_body(const double *l, size_t ld, int n, double *b, size_t ldb, int m)
{
    for (int i = 0; i < n; i++) {
        double *row = b + (size_t)i * ldb;
        for (int k = 0; k < i; k++) {
            axpy(row, l[(size_t)i * ld + (size_t)k], b + (size_t)k * ldb, m);
        }
        double d = 1 / l[(size_t)i * ld + (size_t)i];
        for (int j = 0; j < m; j++) {
            row[j] *= d;
        }
    }
}
TWICE(solve, (const double *l, size_t ld, int n, double *b, size_t ldb, int m),
      (l, ld, n, b, ldb, m))

/* Rows [from, n) of L^-1 B where B's rows above `from` are zero. */
static void forward_from(const double *l, size_t ld, int from, int n, double *b, size_t ldb, int m)
{
    for (int i = from; i < n; i += BLOCK) {
        int w = n - i < BLOCK ? n - i : BLOCK;
        subtract(b + (size_t)i * ldb, ldb, l + (size_t)i * ld + from, ld, b + (size_t)from * ldb,
                 ldb, w, m, i - from);
        solve(l + (size_t)i * ld + i, ld, w, b + (size_t)i * ldb, ldb, m);
    }
}

void alg_forward_many(const double *l, size_t ld, int n, double *b, size_t ldb, int m)
{
    for (int j = 0; j < m; j += CHUNK) {
        forward_from(l, ld, 0, n, b + j, ldb, m - j < CHUNK ? m - j : CHUNK);
    }
}

INLINE void dot_body(double *sum, const double *a, const double *b, int n)
{
    vec s0 = {0};
    vec s1 = {0};
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        s0 += *(const vec *)(a + i) * *(const vec *)(b + i);
        s1 += *(const vec *)(a + i + 4) * *(const vec *)(b + i + 4);
    }
    s0 += s1;
    double s = (s0[0] + s0[1]) + (s0[2] + s0[3]);
    for (; i < n; i++) {
        s += a[i] * b[i];
    }
    *sum = s;
}
TWICE(dot, (double *sum, const double *a, const double *b, int n), (sum, a, b, n))

double alg_dot(const double *a, const double *b, int n)
{
    double s = 0;
    dot(&s, a, b, n);
    return s;
}

void alg_forward(const double *l, size_t ld, int n, double *b)
{
    for (int i = 0; i < n; i++) {
        b[i] = (b[i] - alg_dot(l + (size_t)i * ld, b, i)) / l[(size_t)i * ld + (size_t)i];
    }
}

INLINE void backward_body(const double *l, size_t ld, int n, double *b)
{
    for (int i = n - 1; i >= 0; i--) {
        b[i] /= l[(size_t)i * ld + (size_t)i];
        axpy(b, b[i], l + (size_t)i * ld, i);
    }
}
TWICE(backward, (const double *l, size_t ld, int n, double *b), (l, ld, n, b))

void alg_backward(const double *l, size_t ld, int n, double *b)
{
    backward(l, ld, n, b);
}

void alg_inverse(const double *l, size_t ld, int n, double *inverse, double *work)
{
    double *inv = work; /* L^-1, and `t` its transpose */
    double *t = work + (size_t)n * ld;
    memset(inv, 0, (size_t)n * ld * sizeof(*inv));
    for (int i = 0; i < n; i++) {
        inv[(size_t)i * ld + (size_t)i] = 1;
    }
    for (int j = 0; j < n; j += BLOCK) {
        forward_from(l, ld, j, n, inv + j, ld, n - j < BLOCK ? n - j : BLOCK);
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) {
            t[(size_t)i * ld + (size_t)k] = k >= i ? inv[(size_t)k * ld + (size_t)i] : 0;
        }
    }
    memset(inverse, 0, (size_t)n * ld * sizeof(*inverse));
    for (int i = 0; i < n; i += BLOCK) {
        int w = n - i < BLOCK ? n - i : BLOCK;
        subtract(inverse + (size_t)i * ld, ld, t + (size_t)i * ld + i, ld, inv + (size_t)i * ld, ld,
                 w, i + w, n - i);
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            inverse[(size_t)i * ld + (size_t)j] = -inverse[(size_t)i * ld + (size_t)j];
        }
    }
}

bool alg_append(double *l, size_t ld, int n, double *k, double kk, double least)
{
    alg_forward(l, ld, n, k);
    double d = kk - alg_dot(k, k, n);
    if (!(d > least)) {
        return false;
    }
    memcpy(l + (size_t)n * ld, k, (size_t)n * sizeof(*k));
    l[(size_t)n * ld + (size_t)n] = sqrt(d);
    return true;
}
