/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_model.h"

#include "base/alloc.h"
#include "optimizers/gp_algebra.h"
#include "optimizers/gp_min.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CONSTANT_VARIANCE 1.0
#define NUGGET 1e-10 /* of s2: the least that keeps some hundred points apart */
#define VAR_LEAST 1e-14

/* Normal priors in log space, and bounds. */
struct prior {
    double mean, sd, lo, hi;
};

static const struct prior prior_length = {-1.586, 1.2, -6.0, 5.0}; /* + log(d) / 2 */
static const struct prior prior_signal = {0.0, 1.5, -5.0, 8.0};
static const struct prior prior_noise = {-10.0, 3.0, -19.0, 0.0};

static double prior_mean(const struct prior *p, int d)
{
    return p == &prior_length ? p->mean + 0.5 * log(d) : p->mean;
}

static const struct prior *prior_of(int d, int i)
{
    return i < d ? &prior_length : i == d ? &prior_signal : &prior_noise;
}

struct gp *gp_create(int d, const uint8_t *kind, int cap, int draws)
{
    struct gp *gp = xcalloc(1, sizeof(*gp));
    gp->d = d;
    gp->kind = kind;
    gp->cap = cap;
    gp->draws = draws;
    gp->ld = ((size_t)cap + 8) / 8 * 8;
    gp->x = xcalloc((size_t)d, gp->ld * sizeof(double));
    gp->y = xcalloc(gp->ld, sizeof(double));
    gp->theta = xcalloc((size_t)d + 2, sizeof(double));
    gp->weight = xcalloc((size_t)d, sizeof(double));
    gp->l = xcalloc((size_t)cap, gp->ld * sizeof(double));
    gp->beta = xcalloc((size_t)draws, gp->ld * sizeof(double));
    gp->alpha = xcalloc((size_t)draws, gp->ld * sizeof(double));
    return gp;
}

void gp_destroy(struct gp *gp)
{
    if (gp == NULL) {
        return;
    }
    free(gp->x);
    free(gp->y);
    free(gp->theta);
    free(gp->weight);
    free(gp->l);
    free(gp->beta);
    free(gp->alpha);
    free(gp->work);
    free(gp);
}

static void set_point(struct gp *gp, int i, const double *x)
{
    for (int j = 0; j < gp->d; j++) {
        gp->x[(size_t)j * gp->ld + (size_t)i] = x[j];
    }
}

void gp_add(struct gp *gp, const double *x, double y)
{
    set_point(gp, gp->n, x);
    gp->y[gp->n++] = y;
}

static void set_theta(struct gp *gp, const double *theta)
{
    memmove(gp->theta, theta, ((size_t)gp->d + 2) * sizeof(*theta));
    for (int j = 0; j < gp->d; j++) {
        gp->weight[j] = exp(-2 * theta[j]);
    }
    gp->s2 = exp(theta[gp->d]);
    gp->n2 = exp(theta[gp->d + 1]);
    gp->nugget = NUGGET * gp->s2;
}

/* Row i of the Matern matrix against points [0, m), and its derivative by the squared distance. */
static void matern_row(const struct gp *gp, const double *x, size_t stride, int m, double *k,
                       double *dk)
{
    memset(k, 0, (size_t)m * sizeof(*k));
    for (int j = 0; j < gp->d; j++) {
        gp_kernel_distance((enum gp_kind)gp->kind[j], gp->x + (size_t)j * gp->ld,
                           x[(size_t)j * stride], gp->weight[j], m, k);
    }
    gp_kernel_matern(k, m, k, dk);
}

/* K into `k`; the derivatives of M by the squared distance into `dk` unless NULL. */
static void build(const struct gp *gp, double *k, double *dk)
{
    for (int i = 0; i < gp->n; i++) {
        double *row = k + (size_t)i * gp->ld;
        matern_row(gp, gp->x + i, gp->ld, i, row, dk != NULL ? dk + (size_t)i * gp->ld : NULL);
        for (int c = 0; c < i; c++) {
            row[c] = CONSTANT_VARIANCE + gp->s2 * row[c];
        }
        row[i] = CONSTANT_VARIANCE + gp->s2 + gp->n2 + gp->nugget;
    }
}

void gp_theta_default(int d, double *theta)
{
    for (int i = 0; i < d + 2; i++) {
        theta[i] = prior_mean(prior_of(d, i), d);
    }
}

static double add_priors(const struct gp *gp, const double *theta, double *grad)
{
    double sum = 0;
    for (int i = 0; i < gp->d + 2; i++) {
        const struct prior *p = prior_of(gp->d, i);
        double z = (theta[i] - prior_mean(p, gp->d)) / p->sd;
        sum += 0.5 * z * z;
        grad[i] += z / p->sd;
    }
    return sum;
}

/* Half the trace of G dK/dtheta for every theta, with G = K^-1 - a a' in `g` (lower triangle) and
 * the kernel's derivatives in `dk`; both are spoilt. Each element below the diagonal counts twice.
 */
static void trace_gradient(const struct gp *gp, double *g, double *dk, const double *k,
                           double *grad)
{
    int d = gp->d;
    double diagonal = 0;
    double signal = 0;
    for (int i = 0; i < gp->n; i++) {
        const double *gi = g + (size_t)i * gp->ld;
        const double *ki = k + (size_t)i * gp->ld;
        double *hi = dk + (size_t)i * gp->ld;
        for (int c = 0; c < i; c++) {
            signal += gi[c] * (ki[c] - CONSTANT_VARIANCE);
            hi[c] *= gi[c];
        }
        diagonal += gi[i];
    }
    grad[d] = signal + 0.5 * diagonal * (gp->s2 + gp->nugget);
    grad[d + 1] = 0.5 * diagonal * gp->n2;
    for (int j = 0; j < d; j++) {
        const double *x = gp->x + (size_t)j * gp->ld;
        double sum = 0;
        for (int i = 1; i < gp->n; i++) {
            memset(g, 0, (size_t)i * sizeof(*g)); /* the first row is read no more */
            gp_kernel_distance((enum gp_kind)gp->kind[j], x, x[i], 1, i, g);
            sum += alg_dot(dk + (size_t)i * gp->ld, g, i);
        }
        grad[j] = -2 * gp->weight[j] * gp->s2 * sum;
    }
}

static double *workspace(struct gp *gp)
{
    if (gp->work == NULL) {
        gp->work = xcalloc(4 * (size_t)gp->cap + 4, gp->ld * sizeof(double));
    }
    return gp->work;
}

double gp_nll(struct gp *gp, const double *theta, double *grad)
{
    size_t size = (size_t)gp->cap * gp->ld;
    double *k = workspace(gp);
    double *dk = k + size;
    double *scratch = dk + size; /* 2 * size */
    double *g = gp->l;           /* the factor, then K^-1 - a a' */
    set_theta(gp, theta);
    memset(grad, 0, ((size_t)gp->d + 2) * sizeof(*grad));
    build(gp, k, dk);
    memcpy(g, k, (size_t)gp->n * gp->ld * sizeof(*k));
    if (!alg_cholesky(g, gp->ld, gp->n)) {
        return INFINITY;
    }
    double value = 0;
    double *a = gp->alpha;
    memcpy(a, gp->y, (size_t)gp->n * sizeof(*a));
    alg_forward(g, gp->ld, gp->n, a);
    value += 0.5 * alg_dot(a, a, gp->n);
    alg_backward(g, gp->ld, gp->n, a);
    for (int i = 0; i < gp->n; i++) {
        value += log(g[(size_t)i * gp->ld + (size_t)i]);
    }
    alg_inverse(g, gp->ld, gp->n, g, scratch);
    for (int i = 0; i < gp->n; i++) {
        for (int c = 0; c <= i; c++) {
            g[(size_t)i * gp->ld + (size_t)c] -= a[i] * a[c];
        }
    }
    trace_gradient(gp, g, dk, k, grad);
    return value + add_priors(gp, theta, grad);
}

static double nll_fn(void *arg, const double *theta, double *grad)
{
    return gp_nll(arg, theta, grad);
}

double gp_fit(struct gp *gp, double *theta, int evals)
{
    int n = gp->d + 2;
    double *lo = xcalloc(2 * (size_t)n, sizeof(*lo));
    double *hi = lo + n;
    for (int i = 0; i < n; i++) {
        const struct prior *p = prior_of(gp->d, i);
        lo[i] = p->lo;
        hi[i] = p->hi;
    }
    struct min_box box = {.n = n, .lo = lo, .hi = hi, .evals = evals, .gtol = 1e-3, .ftol = 1e-6};
    double value = min_in_box(&box, nll_fn, gp, theta);
    free(lo);
    return value;
}

void gp_factor(struct gp *gp, const double *theta)
{
    set_theta(gp, theta);
    build(gp, gp->l, NULL);
    while (!alg_cholesky(gp->l, gp->ld, gp->n)) {
        gp->nugget = gp->nugget * 10 + 1e-12;
        build(gp, gp->l, NULL);
    }
    for (int s = 0; s < gp->draws; s++) {
        double *beta = gp->beta + (size_t)s * gp->ld;
        memcpy(beta, gp->y, (size_t)gp->n * sizeof(*beta));
        if (s == 0) {
            alg_forward(gp->l, gp->ld, gp->n, beta);
        } else {
            memcpy(beta, gp->beta, (size_t)gp->n * sizeof(*beta));
        }
    }
}

void gp_cov(const struct gp *gp, const double *x, double *k, double *dk)
{
    matern_row(gp, x, 1, gp->n, k, dk);
    for (int i = 0; i < gp->n; i++) {
        k[i] = CONSTANT_VARIANCE + gp->s2 * k[i];
    }
}

bool gp_append(struct gp *gp, const double *x, const double *z)
{
    double *k = gp->alpha; /* free until gp_settle */
    gp_cov(gp, x, k, NULL);
    double own = CONSTANT_VARIANCE + gp->s2 + gp->n2 + gp->nugget;
    if (!alg_append(gp->l, gp->ld, gp->n, k, own, VAR_LEAST * own)) {
        return false;
    }
    for (int s = 0; s < gp->draws; s++) {
        gp->beta[(size_t)s * gp->ld + (size_t)gp->n] = z[s];
    }
    set_point(gp, gp->n, x);
    gp->n++;
    return true;
}

void gp_settle(struct gp *gp)
{
    for (int s = 0; s < gp->draws; s++) {
        double *alpha = gp->alpha + (size_t)s * gp->ld;
        memcpy(alpha, gp->beta + (size_t)s * gp->ld, (size_t)gp->n * sizeof(*alpha));
        alg_backward(gp->l, gp->ld, gp->n, alpha);
    }
}

void gp_at(const struct gp *gp, const double *x, double *mean, double *var, double *v, double *dk)
{
    gp_cov(gp, x, v, dk);
    for (int s = 0; s < gp->draws; s++) {
        mean[s] = alg_dot(gp->alpha + (size_t)s * gp->ld, v, gp->n);
    }
    alg_forward(gp->l, gp->ld, gp->n, v);
    *var = fmax(CONSTANT_VARIANCE + gp->s2 - alg_dot(v, v, gp->n), VAR_LEAST * gp->s2);
}

void gp_at_many(const struct gp *gp, const double *x, size_t ldx, int m, double *mean, double *var,
                double *work)
{
    for (int i = 0; i < gp->n; i++) {
        double *row = work + (size_t)i * ldx;
        memset(row, 0, (size_t)m * sizeof(*row));
        for (int j = 0; j < gp->d; j++) {
            gp_kernel_distance((enum gp_kind)gp->kind[j], x + (size_t)j * ldx,
                               gp->x[(size_t)j * gp->ld + (size_t)i], gp->weight[j], m, row);
        }
        gp_kernel_matern(row, m, row, NULL);
        for (int c = 0; c < m; c++) {
            row[c] = CONSTANT_VARIANCE + gp->s2 * row[c];
        }
    }
    for (int s = 0; s < gp->draws; s++) {
        memset(mean + (size_t)s * ldx, 0, (size_t)m * sizeof(*mean));
    }
    alg_subtract_product(mean, ldx, gp->alpha, gp->ld, work, ldx, gp->draws, m, gp->n);
    for (int s = 0; s < gp->draws; s++) {
        for (int c = 0; c < m; c++) {
            mean[(size_t)s * ldx + (size_t)c] = -mean[(size_t)s * ldx + (size_t)c];
        }
    }
    alg_forward_many(gp->l, gp->ld, gp->n, work, ldx, m);
    for (int c = 0; c < m; c++) {
        var[c] = 0;
    }
    for (int i = 0; i < gp->n; i++) {
        for (int c = 0; c < m; c++) {
            double t = work[(size_t)i * ldx + (size_t)c];
            var[c] += t * t;
        }
    }
    for (int c = 0; c < m; c++) {
        var[c] = fmax(CONSTANT_VARIANCE + gp->s2 - var[c], VAR_LEAST * gp->s2);
    }
}
