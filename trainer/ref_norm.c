/* SPDX-License-Identifier: Apache-2.0
 *
 * Batch norm (Ioffe and Szegedy 2015) and layer norm (Ba et al. 2016): y = gamma xh + beta with
 * xh = (x - mean) / sqrt(var + epsilon), over a channel of the whole batch, or over an example.
 */
#include "trainer/ref.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

/* A set of values that share one mean: `outer` runs of `inner` values, `stride` apart. */
struct run {
    size_t start, outer, stride, inner;
};

static struct run channel_run(const struct layer *l, int c, int n)
{
    size_t area = (size_t)(l->in.h * l->in.w);
    return (struct run){.start = (size_t)c * area,
                        .outer = (size_t)n,
                        .stride = (size_t)shape_size(&l->in),
                        .inner = area};
}

static struct run example_run(const struct layer *l, int row)
{
    size_t size = (size_t)shape_size(&l->in);
    return (struct run){.start = (size_t)row * size, .outer = 1, .inner = size};
}

static void moments(const float *x, const struct run *u, double *mean, double *var)
{
    double sum = 0;
    double square = 0;
    double n = (double)(u->outer * u->inner);
    for (size_t i = 0; i < u->outer; i++) {
        for (size_t k = 0; k < u->inner; k++) {
            sum += (double)x[u->start + i * u->stride + k];
        }
    }
    *mean = sum / n;
    for (size_t i = 0; i < u->outer; i++) {
        for (size_t k = 0; k < u->inner; k++) {
            double off = (double)x[u->start + i * u->stride + k] - *mean;
            square += off * off;
        }
    }
    *var = square / n;
}

/* The gradient through mean and variance: with g = gamma dy,
 * dx = (g - mean(g) - xh mean(g xh)) / sqrt(var + epsilon). */
static void spread_back(const float *x, const double *g, const struct run *u, double mean,
                        double inv, float *dx)
{
    double sum = 0;
    double along = 0;
    double n = (double)(u->outer * u->inner);
    for (size_t i = 0; i < u->outer * u->inner; i++) {
        size_t at = u->start + i / u->inner * u->stride + i % u->inner;
        sum += g[i];
        along += g[i] * ((double)x[at] - mean) * inv;
    }
    for (size_t i = 0; i < u->outer * u->inner; i++) {
        size_t at = u->start + i / u->inner * u->stride + i % u->inner;
        double xh = ((double)x[at] - mean) * inv;
        dx[at] = (float)((g[i] - sum / n - xh * along / n) * inv);
    }
}

/* ---- batch norm ---- */

/* Running statistics move by `momentum` to those of the batch; the variance's is unbiased. */
static void move_running(struct ref_op *r, int lane, int c, double mean, double var, double n)
{
    float *means = ref_param(r, lane, OP_MEAN, SLOT_VALUE);
    float *vars = ref_param(r, lane, OP_VAR, SLOT_VALUE);
    double m = (double)r->op.layer.momentum;
    double unbiased = n > 1 ? var * n / (n - 1) : var;
    means[c] = (float)((1 - m) * (double)means[c] + m * mean);
    vars[c] = (float)((1 - m) * (double)vars[c] + m * unbiased);
}

static void batchnorm_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    const struct layer *l = &r->op.layer;
    const float *x = ref_in(r, 0, lane);
    for (int c = 0; c < l->in.c; c++) {
        struct run u = channel_run(l, c, n);
        double mean = (double)ref_param(r, lane, OP_MEAN, SLOT_VALUE)[c];
        double var = (double)ref_param(r, lane, OP_VAR, SLOT_VALUE)[c];
        if (pass->training) {
            moments(x, &u, &mean, &var);
            if (!pass->lanes[lane].idle) {
                move_running(r, lane, c, mean, var, (double)(u.outer * u.inner));
            }
        }
        double scale =
            (double)ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE)[c] / sqrt(var + (double)l->epsilon);
        double shift = (double)ref_param(r, lane, OP_BIAS, SLOT_VALUE)[c];
        for (size_t i = 0; i < u.outer * u.inner; i++) {
            size_t at = u.start + i / u.inner * u.stride + i % u.inner;
            ref_out(r, lane)[at] = (float)(((double)x[at] - mean) * scale + shift);
        }
    }
    ref_act_forward(r, lane, n);
}

static void batchnorm_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    const struct layer *l = &r->op.layer;
    const float *x = ref_in(r, 0, lane);
    const float *gamma = ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE);
    double *g = xcalloc((size_t)n * (size_t)(l->in.h * l->in.w), sizeof(double));
    ref_act_backward(r, lane, n);
    for (int c = 0; c < l->in.c; c++) {
        struct run u = channel_run(l, c, n);
        double mean = 0;
        double var = 0;
        double dgamma = 0;
        double dbeta = 0;
        moments(x, &u, &mean, &var);
        double inv = 1 / sqrt(var + (double)l->epsilon);
        for (size_t i = 0; i < u.outer * u.inner; i++) {
            size_t at = u.start + i / u.inner * u.stride + i % u.inner;
            double dy = (double)ref_grad(r, lane)[at];
            dbeta += dy;
            dgamma += dy * ((double)x[at] - mean) * inv;
            g[i] = dy * (double)gamma[c];
        }
        ref_param(r, lane, OP_WEIGHTS, SLOT_GRAD)[c] = (float)dgamma;
        ref_param(r, lane, OP_BIAS, SLOT_GRAD)[c] = (float)dbeta;
        spread_back(x, g, &u, mean, inv, dx[0]);
    }
    free(g);
}

const struct ref_kind ref_batchnorm = {.forward = batchnorm_forward,
                                       .backward = batchnorm_backward};

/* ---- layer norm ---- */

static void layernorm_forward(struct ref_op *r, int lane, int n, const struct pass *pass)
{
    (void)pass;
    const struct layer *l = &r->op.layer;
    const float *x = ref_in(r, 0, lane);
    for (int row = 0; row < n; row++) {
        struct run u = example_run(l, row);
        double mean = 0;
        double var = 0;
        moments(x, &u, &mean, &var);
        double inv = 1 / sqrt(var + (double)l->epsilon);
        for (size_t k = 0; k < u.inner; k++) {
            ref_out(r, lane)[u.start + k] =
                (float)(((double)x[u.start + k] - mean) * inv *
                            (double)ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE)[k] +
                        (double)ref_param(r, lane, OP_BIAS, SLOT_VALUE)[k]);
        }
    }
    ref_act_forward(r, lane, n);
}

static void layernorm_backward(struct ref_op *r, int lane, int n, float *const *dx)
{
    const struct layer *l = &r->op.layer;
    const float *x = ref_in(r, 0, lane);
    const size_t size = (size_t)shape_size(&l->in);
    double *g = xcalloc(3 * size, sizeof(double));
    double *dgamma = g + size;
    double *dbeta = g + 2 * size;
    ref_act_backward(r, lane, n);
    for (int row = 0; row < n; row++) {
        struct run u = example_run(l, row);
        double mean = 0;
        double var = 0;
        moments(x, &u, &mean, &var);
        double inv = 1 / sqrt(var + (double)l->epsilon);
        for (size_t k = 0; k < size; k++) {
            double dy = (double)ref_grad(r, lane)[u.start + k];
            dbeta[k] += dy;
            dgamma[k] += dy * ((double)x[u.start + k] - mean) * inv;
            g[k] = dy * (double)ref_param(r, lane, OP_WEIGHTS, SLOT_VALUE)[k];
        }
        spread_back(x, g, &u, mean, inv, dx[0]);
    }
    for (size_t k = 0; k < size; k++) {
        ref_param(r, lane, OP_WEIGHTS, SLOT_GRAD)[k] = (float)dgamma[k];
        ref_param(r, lane, OP_BIAS, SLOT_GRAD)[k] = (float)dbeta[k];
    }
    free(g);
}

const struct ref_kind ref_layernorm = {.forward = layernorm_forward,
                                       .backward = layernorm_backward};
