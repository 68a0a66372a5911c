/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_acq.h"

#include "base/alloc.h"
#include "optimizers/gp_algebra.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOG_SQRT_2PI 0.91893853320467274178
#define FAR                                                                                        \
    20 /* deviations from which the tail's asymptotic series is exact to the last digits           \
        */

/* Phi(-t) / phi(t), t >= 0, Mills' ratio. */
static double mills(double t)
{
    return 0.5 * erfc(t * M_SQRT1_2) * exp(0.5 * t * t + LOG_SQRT_2PI);
}

/* 1 - t mills(t) for t >= FAR: sum of (-1)^(k+1) (2k-1)!! / t^(2k). */
static double tail(double t)
{
    double q = 1 / (t * t);
    double term = q;
    double sum = 0;
    for (int k = 1; k <= 8; k++) {
        sum += term;
        term *= -(2 * k + 1) * q;
    }
    return sum;
}

double gp_log_h(double z, double *slope)
{
    if (z > -1) {
        double h = exp(-0.5 * z * z - LOG_SQRT_2PI) + z * 0.5 * erfc(-z * M_SQRT1_2);
        *slope = 0.5 * erfc(-z * M_SQRT1_2) / h;
        return log(h);
    }
    double t = -z;
    double rest = t < FAR ? 1 - t * mills(t) : tail(t);
    *slope = (1 - rest) / (t * rest);
    return -0.5 * z * z - LOG_SQRT_2PI + log(rest);
}

double gp_log_cdf(double z, double *slope)
{
    if (z > -1) {
        double c = 0.5 * erfc(-z * M_SQRT1_2);
        *slope = exp(-0.5 * z * z - LOG_SQRT_2PI) / c;
        return log(c);
    }
    double t = -z;
    double ratio = t < FAR ? mills(t) : (1 - tail(t)) / t;
    *slope = 1 / ratio;
    return -0.5 * z * z - LOG_SQRT_2PI + log(ratio);
}

static size_t row_of(const struct gp_acq *a)
{
    size_t ld = a->gp->ld;
    return a->violation != NULL && a->violation->ld > ld ? a->violation->ld : ld;
}

void gp_acq_open(struct gp_acq *a)
{
    a->work = xcalloc(4, row_of(a) * sizeof(*a->work));
}

void gp_acq_close(struct gp_acq *a)
{
    free(a->work);
}

/* The value from the draws' means (`stride` apart) and the deviation, and its derivatives by each
 * mean and by the deviation. */
static double value_of(const struct gp_acq *a, const double *mean, size_t stride, double sd,
                       double *by_mean, double *by_sd)
{
    int draws = a->gp->draws;
    double lg[GP_DRAWS_MAX];
    double sum = 0;
    double most = -INFINITY;
    *by_sd = 0;
    if (a->kind == GP_BOUND) {
        for (int s = 0; s < draws; s++) {
            sum += mean[(size_t)s * stride];
            by_mean[s] = -1.0 / draws;
        }
        *by_sd = a->kappa;
        return a->kappa * sd - sum / draws;
    }
    for (int s = 0; s < draws; s++) {
        double slope = 0;
        double z = (a->best[s] - mean[(size_t)s * stride]) / sd;
        lg[s] = gp_log_h(z, &slope);
        by_mean[s] = -slope / sd;
        most = fmax(most, lg[s]);
    }
    for (int s = 0; s < draws; s++) {
        sum += exp(lg[s] - most);
    }
    for (int s = 0; s < draws; s++) {
        double share = exp(lg[s] - most) / sum;
        double z = (a->best[s] - mean[(size_t)s * stride]) / sd;
        by_mean[s] *= share;
        *by_sd += by_mean[s] * z;
    }
    *by_sd += 1 / sd;
    return most + log(sum / draws) + log(sd);
}

/* Adds sum over the data of c[i] dk_i/dx_j to grad, where k_i = const + s2 M(d2_i). */
static void add_gradient(const struct gp *gp, const double *x, const double *c, const double *dk,
                         double *grad)
{
    for (int j = 0; j < gp->d; j++) {
        double sum = 0;
        const double *xj = gp->x + (size_t)j * gp->ld;
        for (int i = 0; i < gp->n; i++) {
            sum += c[i] * dk[i] * gp_kernel_slope((enum gp_kind)gp->kind[j], xj[i], x[j]);
        }
        grad[j] += 2 * gp->s2 * gp->weight[j] * sum;
    }
}

/* The derivative of the value by each k_i, given by_mean and by_sd: the means depend on k as
 * alpha'k, the variance as const - k'K^-1 k. v holds L^-1 k and becomes the result. */
static void by_covariance(const struct gp *gp, double *v, double sd, const double *by_mean,
                          double by_sd)
{
    alg_backward(gp->l, gp->ld, gp->n, v);
    for (int i = 0; i < gp->n; i++) {
        v[i] *= -by_sd / sd;
    }
    for (int s = 0; s < gp->draws; s++) {
        const double *alpha = gp->alpha + (size_t)s * gp->ld;
        for (int i = 0; i < gp->n; i++) {
            v[i] += by_mean[s] * alpha[i];
        }
    }
}

static double feasibility(const struct gp_acq *a, const double *x, double *grad)
{
    double mean = 0;
    double var = 0;
    double slope = 0;
    double *v = a->work;
    double *dk = v + row_of(a);
    gp_at(a->violation, x, &mean, &var, v, grad != NULL ? dk : NULL);
    double sd = sqrt(var);
    double z = (a->limit - mean) / sd;
    double value = gp_log_cdf(z, &slope);
    if (grad != NULL) {
        double by_mean = -slope / sd;
        by_covariance(a->violation, v, sd, &by_mean, by_mean * z);
        add_gradient(a->violation, x, v, dk, grad);
    }
    return value;
}

double gp_acq_at(const struct gp_acq *a, const double *x, double *grad)
{
    double mean[GP_DRAWS_MAX];
    double by_mean[GP_DRAWS_MAX];
    double by_sd = 0;
    double var = 0;
    double *v = a->work;
    double *dk = v + row_of(a);
    double value = 0;
    if (grad != NULL) {
        memset(grad, 0, (size_t)a->gp->d * sizeof(*grad));
    }
    if (a->violation != NULL) {
        value = feasibility(a, x, grad);
    }
    if (a->feasibility_only) {
        return value;
    }
    gp_at(a->gp, x, mean, &var, v, grad != NULL ? dk : NULL);
    double sd = sqrt(var);
    value += value_of(a, mean, 1, sd, by_mean, &by_sd);
    if (grad != NULL) {
        by_covariance(a->gp, v, sd, by_mean, by_sd);
        add_gradient(a->gp, x, v, dk, grad);
    }
    return value;
}

static void add_feasibility(const struct gp_acq *a, const double *x, size_t ldx, int m,
                            double *value)
{
    double *work = xcalloc((size_t)a->violation->n + 2, ldx * sizeof(*work));
    double *mean = work + (size_t)a->violation->n * ldx;
    double *var = mean + ldx;
    gp_at_many(a->violation, x, ldx, m, mean, var, work);
    for (int i = 0; i < m; i++) {
        double slope = 0;
        value[i] += gp_log_cdf((a->limit - mean[i]) / sqrt(var[i]), &slope);
    }
    free(work);
}

void gp_acq_many(const struct gp_acq *a, const double *x, size_t ldx, int m, double *value)
{
    const struct gp *gp = a->gp;
    memset(value, 0, (size_t)m * sizeof(*value));
    if (a->violation != NULL) {
        add_feasibility(a, x, ldx, m, value);
    }
    if (a->feasibility_only) {
        return;
    }
    double *work = xcalloc((size_t)(gp->n + gp->draws) + 1, ldx * sizeof(*work));
    double *mean = work + (size_t)gp->n * ldx;
    double *var = mean + (size_t)gp->draws * ldx;
    gp_at_many(gp, x, ldx, m, mean, var, work);
    for (int i = 0; i < m; i++) {
        double by_mean[GP_DRAWS_MAX];
        double by_sd = 0;
        value[i] += value_of(a, mean + i, ldx, sqrt(var[i]), by_mean, &by_sd);
    }
    free(work);
}
