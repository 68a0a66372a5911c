/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/shape.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Half of a covariance's d (d + 1) / 2 numbers: this many points' worth of trust in a ball. */
#define BALL(d) (0.25 * (d) * ((d) + 1))
#define TINY 1e-12

/* Lower triangle of the covariance in `c`; returns how many points the weights are worth. */
static double covariance(const double *points, const double *weights, int n, int d, double *c)
{
    double *mean = xcalloc((size_t)d, sizeof(*mean));
    double sum = 0;
    double squares = 0;
    for (int k = 0; k < n; k++) {
        sum += weights[k];
        squares += weights[k] * weights[k];
        for (int i = 0; i < d; i++) {
            mean[i] += weights[k] * points[k * d + i];
        }
    }
    memset(c, 0, (size_t)d * (size_t)d * sizeof(*c));
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < d; i++) {
            double off = weights[k] / sum * (points[k * d + i] - mean[i] / sum);
            for (int j = 0; j <= i; j++) {
                c[i * d + j] += off * (points[k * d + j] - mean[j] / sum);
            }
        }
    }
    free(mean);
    return sum * sum / squares;
}

/* In place, row by row; the log of the triangle's determinant. */
static double cholesky(double *c, int d)
{
    double log_det = 0;
    for (int i = 0; i < d; i++) {
        for (int j = 0; j <= i; j++) {
            double v = c[i * d + j];
            for (int k = 0; k < j; k++) {
                v -= c[i * d + k] * c[j * d + k];
            }
            c[i * d + j] = i == j ? sqrt(fmax(v, TINY)) : v / c[j * d + j];
        }
        log_det += log(c[i * d + i]);
    }
    return log_det;
}

void shape_of(const double *points, const double *weights, int n, int d, double *l)
{
    double worth = covariance(points, weights, n, d, l);
    double ball = BALL(d) / (BALL(d) + worth);
    double variance = 0;
    for (int i = 0; i < d; i++) {
        variance += l[i * d + i] / d;
    }
    for (int i = 0; i < d; i++) {
        for (int j = 0; j <= i; j++) {
            l[i * d + j] *= 1 - ball;
        }
        l[i * d + i] += ball * variance + TINY;
    }
    double scale = exp(-cholesky(l, d) / d);
    for (int i = 0; i < d * d; i++) {
        l[i] *= scale;
    }
}
