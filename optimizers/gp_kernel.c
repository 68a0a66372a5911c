/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_kernel.h"

#include "optimizers/gp_vec.h"

#include <math.h>
#include <string.h>

typedef long long ivec __attribute__((vector_size(32), aligned(8), may_alias));

INLINE void squares_body(const double *x, double v, double w, int n, double *d2)
{
    vec vv = {v, v, v, v};
    vec vw = {w, w, w, w};
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        vec t = *(const vec *)(x + i) - vv;
        *(vec *)(d2 + i) += vw * (t * t);
    }
    for (; i < n; i++) {
        double t = x[i] - v;
        d2[i] += w * (t * t);
    }
}
TWICE(squares, (const double *x, double v, double w, int n, double *d2), (x, v, w, n, d2))

double gp_kernel_share(enum gp_kind kind, double x, double v)
{
    if (kind == GP_CHOICE) {
        return x != v;
    }
    if (kind == GP_CONDITIONAL && (x < 0 || v < 0)) {
        double u = (x < 0 ? v : x) - 0.5;
        return x < 0 && v < 0 ? 0 : 0.25 + u * u;
    }
    return (x - v) * (x - v);
}

double gp_kernel_slope(enum gp_kind kind, double x, double v)
{
    if (kind == GP_CHOICE || v < 0) {
        return 0;
    }
    return kind == GP_CONDITIONAL && x < 0 ? v - 0.5 : v - x;
}

void gp_kernel_distance(enum gp_kind kind, const double *x, double v, double w, int n, double *d2)
{
    if (kind == GP_NUMBER) {
        squares(x, v, w, n, d2);
        return;
    }
    for (int i = 0; i < n; i++) {
        d2[i] += w * gp_kernel_share(kind, x[i], v);
    }
}

/* exp(x) for -700 <= x <= 0: 2^n by the exponent's bits times the Taylor polynomial of degree 13 on
 * |f| <= ln(2)/2, whose error is below 1e-17. libm's may differ between processors. */
INLINE void exp_vec(const vec *px, vec *ret)
{
    vec x = *px;
    static const double inverse_factorial[] = {1.0 / 6227020800,
                                               1.0 / 479001600,
                                               1.0 / 39916800,
                                               1.0 / 3628800,
                                               1.0 / 362880,
                                               1.0 / 40320,
                                               1.0 / 5040,
                                               1.0 / 720,
                                               1.0 / 120,
                                               1.0 / 24,
                                               1.0 / 6,
                                               0.5,
                                               1.0,
                                               1.0};
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to a whole number */
    vec t = x * 1.4426950408889634074 + shift;
    ivec bits = (ivec)t;
    vec n = t - shift;
    vec f = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10;
    vec p = {0};
    for (int i = 0; i < 14; i++) {
        p = p * f + inverse_factorial[i];
    }
    *ret = (vec)((ivec)p + (bits << 52));
}

INLINE void matern_body(const double *d2, int n, double *k, double *dk)
{
    for (int i = 0; i < n; i += 4) {
        double r[4] = {0};
        int m = n - i < 4 ? n - i : 4;
        for (int c = 0; c < m; c++) {
            r[c] = fmin(sqrt(5 * d2[i + c]), 700);
        }
        vec vr = *(const vec *)r;
        vec minus = -vr;
        vec e;
        exp_vec(&minus, &e);
        vec value = (1 + vr + vr * vr / 3) * e;
        vec slope = (-5.0 / 6) * (1 + vr) * e;
        memcpy(k + i, &value, (size_t)m * sizeof(double));
        if (dk != NULL) {
            memcpy(dk + i, &slope, (size_t)m * sizeof(double));
        }
    }
}
TWICE(matern, (const double *d2, int n, double *k, double *dk), (d2, n, k, dk))

void gp_kernel_matern(const double *d2, int n, double *k, double *dk)
{
    matern(d2, n, k, dk);
}
