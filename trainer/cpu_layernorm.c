/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer norm: every example to mean 0 and deviation 1 over all its values, then scale and shift.
 * Behind a blocked image gamma and beta lie in its order (cpu_op.column).
 */
#include "trainer/cpu.h"

#include <math.h>
#include <string.h>

#define PARTS 8 /* sums that run side by side */

static enum mag_status layernorm_init(struct cpu_op *c, struct mag_err *err)
{
    cpu_act_like(c, cpu_in(c, 0));
    c->scratch = cpu_alloc(2 * (size_t)c->op.rows * (size_t)c->op.lanes);
    return c->scratch != NULL && cpu_make_columns(c)
               ? MAG_OK
               : mag_fail(err, MAG_NOMEM, "no memory for a layer norm");
}

/* Mean and 1 / sqrt(var + epsilon) of a row, as left by forward. */
static float *kept_of(struct cpu_op *c, int lane, int row)
{
    return c->scratch + 2 * ((size_t)lane * (size_t)c->op.rows + (size_t)row);
}

/* Sums of (v - shift) and of its square. */
FOR_CPUS static void row_sums(const float *v, size_t n, float shift, double *sum, double *square)
{
    float s[PARTS] = {0};
    float q[PARTS] = {0};
    size_t i = 0;
    for (; i + PARTS <= n; i += PARTS) {
        for (size_t k = 0; k < PARTS; k++) {
            float off = v[i + k] - shift;
            s[k] += off;
            q[k] += off * off;
        }
    }
    for (; i < n; i++) {
        s[0] += v[i] - shift;
        q[0] += (v[i] - shift) * (v[i] - shift);
    }
    *sum = *square = 0;
    for (size_t k = 0; k < PARTS; k++) {
        *sum += (double)s[k];
        *square += (double)q[k];
    }
}

FOR_CPUS static void scale_row(const float *x, float *y, size_t n, float mean, float inv,
                               const float *gamma, const float *beta)
{
    for (size_t k = 0; k < n; k++) {
        y[k] = (x[k] - mean) * inv * gamma[k] + beta[k];
    }
}

static void layernorm_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const size_t size = cpu_out_size(c);
    for (int lane = 0; lane < c->op.lanes; lane++) {
        for (int row = 0; row < n && !cpu_idle(c, lane, pass); row++) {
            const float *from = x->out + cpu_lane(x, lane) + (size_t)row * x->row;
            float *kept = kept_of(c, lane, row);
            double sum = 0;
            double square = 0;
            row_sums(from, size, 0, &sum, &square);
            const double mean = sum / (double)size;
            row_sums(from, size, (float)mean, &sum, &square);
            kept[0] = (float)mean;
            kept[1] = (float)(1 / sqrt(square / (double)size + (double)c->op.layer.epsilon));
            scale_row(from, c->act.out + cpu_lane(&c->act, lane) + (size_t)row * c->act.row, size,
                      kept[0], kept[1], cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE),
                      cpu_param(c, lane, OP_BIAS, SLOT_VALUE));
        }
    }
    cpu_act_forward(c->act.out, c->pre, cpu_act_size(c), c->op.layer.act);
}

/* Adds a row to the parameters' gradients; sums of g = gamma dy and of g xh. */
FOR_CPUS static void row_grads(const float *dy, const float *x, size_t n, const float *kept,
                               const float *gamma, float *dgamma, float *dbeta, float sums[2])
{
    float s[PARTS] = {0};
    float q[PARTS] = {0};
    for (size_t k = 0; k < n; k++) {
        float xh = (x[k] - kept[0]) * kept[1];
        float g = dy[k] * gamma[k];
        dbeta[k] += dy[k];
        dgamma[k] += dy[k] * xh;
        s[k % PARTS] += g;
        q[k % PARTS] += g * xh;
    }
    sums[0] = sums[1] = 0;
    for (size_t k = 0; k < PARTS; k++) {
        sums[0] += s[k];
        sums[1] += q[k];
    }
}

/* dx = (g - mean(g) - xh mean(g xh)) inv */
FOR_CPUS static void row_back(const float *dy, const float *x, size_t n, const float *kept,
                              const float *gamma, const float sums[2], float *dx)
{
    const float mean = sums[0] / (float)n;
    const float along = sums[1] / (float)n;
    for (size_t k = 0; k < n; k++) {
        float xh = (x[k] - kept[0]) * kept[1];
        dx[k] = (dy[k] * gamma[k] - mean - xh * along) * kept[1];
    }
}

static void layernorm_lane_back(struct cpu_op *c, int lane, int n, float *dx)
{
    const struct cpu_act *x = cpu_in(c, 0);
    const size_t size = cpu_out_size(c);
    const float *gamma = cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE);
    float *dgamma = cpu_param(c, lane, OP_WEIGHTS, SLOT_GRAD);
    float *dbeta = cpu_param(c, lane, OP_BIAS, SLOT_GRAD);
    memset(dgamma, 0, size * sizeof(float));
    memset(dbeta, 0, size * sizeof(float));
    for (int row = 0; row < c->op.rows; row++) {
        const float *dy = c->act.grad + cpu_lane(&c->act, lane) + (size_t)row * c->act.row;
        size_t at = cpu_lane(x, lane) + (size_t)row * x->row;
        float sums[2];
        if (row < n) {
            row_grads(dy, x->out + at, size, kept_of(c, lane, row), gamma, dgamma, dbeta, sums);
        }
        if (row < n && dx != NULL) {
            row_back(dy, x->out + at, size, kept_of(c, lane, row), gamma, sums, dx + at);
        } else if (dx != NULL) {
            memset(dx + at, 0, size * sizeof(float));
        }
    }
}

static void layernorm_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    cpu_act_backward(c->act.grad, c->act.out, c->pre, cpu_act_size(c), c->op.layer.act);
    for (int lane = 0; lane < c->op.lanes; lane++) {
        if (!cpu_idle(c, lane, pass)) {
            layernorm_lane_back(c, lane, n, dx[0]);
        }
    }
}

const struct cpu_kind cpu_layernorm = {
    .init = layernorm_init, .forward = layernorm_forward, .backward = layernorm_backward};
