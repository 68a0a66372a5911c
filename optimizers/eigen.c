/* SPDX-License-Identifier: Apache-2.0
 *
 * Householder's reduction to a tridiagonal matrix, then the implicit QL iteration with Wilkinson's
 * shift (Golub and Van Loan, Matrix Computations, 8.3): about 9 n^3 operations, no library, so that
 * the same build gives the same bits.
 */
#include "optimizers/eigen.h"

#include <float.h>
#include <math.h>

#define SWEEPS_MAX 60 /* of one eigenvalue; three are usual */

/* Row i below the tridiagonal is annihilated by I - u u'/h; u stays in row i of `a`, h in d[i]. */
static void reduce_row(int n, double *a, double *d, double *e, int i)
{
    double *u = a + i * n;
    double scale = 0;
    double h = 0;
    for (int k = 0; k < i; k++) {
        scale += fabs(u[k]);
    }
    d[i] = 0;
    e[i] = i > 0 ? u[i - 1] : 0;
    if (i < 2 || scale <= 0) {
        return;
    }
    for (int k = 0; k < i; k++) {
        u[k] /= scale;
        h += u[k] * u[k];
    }
    double f = u[i - 1];
    double g = f >= 0 ? -sqrt(h) : sqrt(h);
    e[i] = scale * g;
    h -= f * g;
    u[i - 1] = f - g;
    d[i] = h;
    /* p = A u / h in e[0 .. i-1]; then q = p - (u'p / 2h) u and A -= u q' + q u'. */
    double up = 0;
    for (int j = 0; j < i; j++) {
        double sum = 0;
        for (int k = 0; k <= j; k++) {
            sum += a[j * n + k] * u[k];
        }
        for (int k = j + 1; k < i; k++) {
            sum += a[k * n + j] * u[k];
        }
        e[j] = sum / h;
        up += e[j] * u[j];
    }
    double half = up / (2 * h);
    for (int j = 0; j < i; j++) {
        e[j] -= half * u[j];
        for (int k = 0; k <= j; k++) {
            a[j * n + k] -= u[j] * e[k] + e[j] * u[k];
        }
    }
}

/* Multiplies the reflections out: row i of `a` holds the i-th one, and becomes that of Q. */
static void build_basis(int n, double *a, double *d)
{
    for (int i = 0; i < n; i++) {
        double *u = a + i * n;
        if (d[i] > 0) {
            for (int j = 0; j < i; j++) {
                double g = 0;
                for (int k = 0; k < i; k++) {
                    g += u[k] * a[k * n + j];
                }
                g /= d[i];
                for (int k = 0; k < i; k++) {
                    a[k * n + j] -= g * u[k];
                }
            }
        }
        d[i] = u[i];
        u[i] = 1;
        for (int j = 0; j < i; j++) {
            u[j] = 0;
            a[j * n + i] = 0;
        }
    }
}

/* One implicit QL step on rows l .. m. */
static void ql_step(int n, double *a, double *d, double *e, int l, int m)
{
    double g = (d[l + 1] - d[l]) / (2 * e[l]);
    double r = hypot(g, 1);
    double s = 1;
    double c = 1;
    double p = 0;
    g = d[m] - d[l] + e[l] / (g + copysign(r, g));
    for (int i = m - 1; i >= l; i--) {
        double f = s * e[i];
        double b = c * e[i];
        r = hypot(f, g);
        e[i + 1] = r;
        if (r <= 0) { /* deflates in between */
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        for (int k = 0; k < n; k++) {
            double x = a[k * n + i + 1];
            double y = a[k * n + i];
            a[k * n + i + 1] = s * y + c * x;
            a[k * n + i] = c * y - s * x;
        }
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

static bool iterate(int n, double *a, double *d, double *e)
{
    for (int l = 0; l < n; l++) {
        for (int sweeps = 0;; sweeps++) {
            int m = l;
            while (m + 1 < n && !(fabs(e[m]) <= DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1])))) {
                m++;
            }
            if (m == l) {
                break;
            }
            if (sweeps == SWEEPS_MAX || !isfinite(d[l]) || !isfinite(e[l])) {
                return false;
            }
            ql_step(n, a, d, e, l, m);
        }
    }
    return true;
}

static void sort_columns(int n, double *a, double *d)
{
    for (int i = 0; i + 1 < n; i++) {
        int low = i;
        for (int j = i + 1; j < n; j++) {
            low = d[j] < d[low] ? j : low;
        }
        double t = d[low];
        d[low] = d[i];
        d[i] = t;
        for (int k = 0; k < n && low != i; k++) {
            t = a[k * n + low];
            a[k * n + low] = a[k * n + i];
            a[k * n + i] = t;
        }
    }
}

bool eigen_symmetric(int n, double *a, double *values, double *work)
{
    for (int i = n - 1; i >= 0; i--) {
        reduce_row(n, a, values, work, i);
    }
    build_basis(n, a, values);
    for (int i = 1; i < n; i++) {
        work[i - 1] = work[i];
    }
    work[n - 1] = 0;
    if (!iterate(n, a, values, work)) {
        return false;
    }
    sort_columns(n, a, values);
    return true;
}
