/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_data.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "optimizers/gp_rank.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int gp_data_pick(const double *y, int n, int cap, int *pick)
{
    bool *in = xcalloc((size_t)n + 1, sizeof(*in));
    int left = n <= cap ? 0 : cap - cap / 2 - cap / 4;
    if (n <= cap) {
        memset(in, true, (size_t)n * sizeof(*in));
    } else {
        struct gp_rank *r = gp_rank(y, NULL, n);
        for (int k = 0; k < cap / 2; k++) {
            in[r[k].i] = true;
        }
        for (int i = n - 1, k = cap / 4; i >= 0 && k > 0; i--) {
            k -= !in[i];
            in[i] = true;
        }
        int rest = n - (cap - left);
        for (int k = 0, seen = 0, taken = 0; k < n && taken < left; k++) {
            if (!in[r[k].i]) {
                /* Every (rest / left)-th of the rest. */
                if ((int64_t)seen * left >= (int64_t)taken * rest) {
                    in[r[k].i] = true;
                    taken++;
                }
                seen++;
            }
        }
        free(r);
    }
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (in[i]) {
            pick[m++] = i;
        }
    }
    free(in);
    return m;
}

static double quantile(const struct gp_rank *r, int n, double q)
{
    double at = q * (n - 1);
    int i = (int)at;
    return i + 1 < n ? r[i].y + (at - i) * (r[i + 1].y - r[i].y) : r[i].y;
}

double gp_data_targets(const double *y, int n, double reach, double *z)
{
    struct gp_rank *r = gp_rank(y, NULL, n);
    double median = n > 0 ? quantile(r, n, 0.5) : 0;
    double scale = n > 0 ? reach * (median - r[0].y) : 0;
    double mean = 0;
    double var = 0;
    double slopes = 0;
    for (int i = 0; i < n; i++) {
        /* Relative to the median: no digits lost where values are large and differences small. */
        double over = y[i] - median;
        bool warped = over > 0 && scale > 0;
        z[i] = warped ? scale * log1p(over / scale) : over;
        slopes += warped ? log1p(over / scale) : 0;
        mean += z[i] / n;
    }
    for (int i = 0; i < n; i++) {
        var += (z[i] - mean) * (z[i] - mean) / n;
    }
    double sd = sqrt(var);
    bool varied = sd > 0 && isfinite(sd);
    for (int i = 0; i < n; i++) {
        z[i] = varied ? (z[i] - mean) / sd : 0;
    }
    free(r);
    return varied ? slopes + n * log(sd) : 0;
}

void gp_data_weights(uint64_t seed, const char *purpose, uint64_t trial, int n, double *weights)
{
    struct pcg64 g;
    double sum = 0;
    pcg_stream(&g, seed, purpose, trial);
    for (int k = 0; k < n; k++) {
        weights[k] = -log(1 - pcg64_double(&g));
        sum += weights[k];
    }
    for (int k = 0; k < n; k++) {
        weights[k] /= sum;
    }
}

double gp_data_chebyshev(const double *values, const double *lo, const double *hi,
                         const double *weights, int n)
{
    double most = 0;
    double sum = 0;
    for (int k = 0; k < n; k++) {
        double t = hi[k] > lo[k] ? weights[k] * ((values[k] - lo[k]) / (hi[k] - lo[k])) : 0;
        most = fmax(most, t);
        sum += t;
    }
    return most + 0.05 * sum;
}
