/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/cma_axes.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SIGNAL_ALPHA 1.5 /* the signal-to-noise ratio that ASNG keeps */
#define TAIL 1e-10       /* a probability is never closer to 0 or .5 */

/* ---- the map ---- */

void cma_axes_init(struct cma_axes *a, const struct space *space)
{
    *a = (struct cma_axes){.space = space, .plain = true};
    a->axes = xcalloc((size_t)space->n + 1, sizeof(*a->axes));
    a->lists = xcalloc((size_t)space->n + 1, sizeof(*a->lists));
    for (int i = 0; i < space->n; i++) {
        const struct param *p = &space->params[i];
        double cells = param_cells(p);
        if (cells < 2) {
            continue; /* a constant */
        }
        a->plain = a->plain && p->parent < 0 && param_is_ordered(p);
        if (!param_is_ordered(p)) {
            struct cma_list *l = &a->lists[a->n_lists++];
            *l = (struct cma_list){.index = i, .k = p->n_values};
            l->q = xcalloc(p->n_values, sizeof(*l->q));
            l->add = xcalloc(p->n_values, sizeof(*l->add));
            a->n_signal += (int)p->n_values - 1;
        } else {
            a->axes[a->n++] = (struct cma_axis){.index = i, .cells = cells};
        }
    }
    a->signal = xcalloc((size_t)a->n_signal + 1, sizeof(*a->signal));
    cma_axes_reset(a);
}

void cma_axes_fini(struct cma_axes *a)
{
    for (int i = 0; i < a->n_lists; i++) {
        free(a->lists[i].q);
        free(a->lists[i].add);
    }
    free(a->axes);
    free(a->lists);
    free(a->signal);
}

void cma_axes_reset(struct cma_axes *a)
{
    for (int i = 0; i < a->n_lists; i++) {
        for (uint32_t k = 0; k < a->lists[i].k; k++) {
            a->lists[i].q[k] = 1.0 / a->lists[i].k;
        }
    }
    memset(a->signal, 0, (size_t)a->n_signal * sizeof(*a->signal));
    a->delta = 1;
    a->gamma = 0;
}

static const struct param *param_of(const struct cma_axes *a, int index)
{
    return &a->space->params[index];
}

void cma_axes_point(const struct cma_axes *a, const double *x, const uint32_t *v, double *point)
{
    double u[SPACE_PARAMS_MAX] = {0};
    for (int i = 0; i < a->n; i++) {
        u[a->axes[i].index] = fmin(fmax(x[i], 0), 1);
    }
    for (int i = 0; i < a->n_lists; i++) {
        const struct cma_list *l = &a->lists[i];
        u[l->index] = param_to_unit(param_of(a, l->index), v[i] < l->k ? v[i] : 0);
    }
    space_from_unit(a->space, u, point);
}

void cma_axes_encode(const struct cma_axes *a, const double *point, const double *mean, double *x,
                     uint32_t *v)
{
    for (int i = 0; i < a->n; i++) {
        double value = point[a->axes[i].index];
        x[i] = isnan(value) ? mean[i] : param_to_unit(param_of(a, a->axes[i].index), value);
    }
    for (int i = 0; i < a->n_lists; i++) {
        double value = point[a->lists[i].index];
        v[i] = isnan(value) ? CMA_NO_VALUE : (uint32_t)value;
    }
}

void cma_axes_sample(const struct cma_axes *a, struct pcg64 *g, uint32_t *v)
{
    for (int i = 0; i < a->n_lists; i++) {
        const struct cma_list *l = &a->lists[i];
        double u = pcg64_double(g);
        v[i] = 0;
        while (v[i] + 1 < l->k && u >= l->q[v[i]]) {
            u -= l->q[v[i]++];
        }
    }
}

void cma_axes_count(struct cma_axes *a, const uint32_t *v, int64_t of)
{
    for (int i = 0; i < a->n_lists; i++) {
        struct cma_list *l = &a->lists[i];
        double all = (double)of + l->k; /* (seen + 1) / (of + k) in the end */
        for (uint32_t k = 0; k < l->k && v[i] != CMA_NO_VALUE; k++) {
            l->q[k] += ((v[i] == k) - 1.0 / l->k) / all;
        }
    }
}

/* ---- the normal distribution ---- */

double cma_normal_cdf(double u)
{
    return 0.5 * erfc(-u * M_SQRT1_2);
}

/* Newton's method on the distribution, from the middle: the tails that occur are short. */
double cma_normal_quantile(double p)
{
    double tail = fmin(p, 1 - p);
    double t = sqrt(-2 * log(fmax(tail, 1e-300)));
    double u = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) /
                       (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
    for (int k = 0; k < 4; k++) { /* cdf(-u) = tail; Abramowitz and Stegun 26.2.23 starts it */
        double density = exp(-0.5 * u * u) * 0.3989422804014327;
        u += (cma_normal_cdf(-u) - tail) / density;
    }
    return p < 0.5 ? -u : u;
}

/* ---- the margin ---- */

/* Where cell k ends in the coordinate, 0 <= k < cells - 1. */
static double edge_after(const struct cma_axes *a, const struct cma_axis *axis, double k)
{
    const struct param *p = param_of(a, axis->index);
    if (!p->log) {
        return (k + 1) / axis->cells;
    }
    return param_to_unit(p, (param_cell_value(p, k) + param_cell_value(p, k + 1)) / 2);
}

/* The cell of a coordinate. */
static double cell_at(const struct cma_axes *a, const struct cma_axis *axis, double x)
{
    const struct param *p = param_of(a, axis->index);
    double u = fmin(fmax(x, 0), 1);
    if (!p->log) {
        return fmin(floor(u * axis->cells), axis->cells - 1);
    }
    return param_cell_of(p, param_from_unit(p, u));
}

/* The mean in the first or last cell: the next one keeps a probability of `margin`. */
static void hold_end(struct cma *c, int i, double edge, double spread, double margin)
{
    double away = c->scale[i] * spread * cma_normal_quantile(1 - margin);
    if (c->mean[i] < edge - away) {
        c->mean[i] = edge - away;
    } else if (c->mean[i] > edge + away) {
        c->mean[i] = edge + away;
    }
}

static double within(double p)
{
    return fmin(fmax(p, TAIL), 0.5 - TAIL);
}

/* Between two edges: each side keeps half the margin. The probabilities are corrected, and mean and
 * scale follow from them (equations 13 to 19 of the paper). */
static void hold_between(struct cma *c, int i, double low, double up, double spread, double margin)
{
    double width = c->scale[i] * spread;
    double p_low = cma_normal_cdf((low - c->mean[i]) / width);
    double p_up = cma_normal_cdf((c->mean[i] - up) / width);
    double half = margin / 2;
    if (p_low >= half && p_up >= half) {
        return;
    }
    double p_mid = 1 - p_low - p_up;
    double new_low = fmax(p_low, half);
    double new_up = fmax(p_up, half);
    double over = 1 - new_low - new_up - p_mid;
    double room = new_low + p_mid + new_up - 3 * half;
    double q_low = cma_normal_quantile(1 - within(new_low + over * (new_low - half) / room));
    double q_up = cma_normal_quantile(1 - within(new_up + over * (new_up - half) / room));
    c->mean[i] = (low * q_up + up * q_low) / (q_low + q_up);
    c->scale[i] = (up - low) / ((q_low + q_up) * spread);
}

void cma_axes_margin(const struct cma_axes *a, struct cma *c, double margin)
{
    for (int i = 0; i < a->n; i++) {
        const struct cma_axis *axis = &a->axes[i];
        if (isinf(axis->cells)) {
            continue;
        }
        double spread = c->sigma * sqrt(cma_variance(c, i));
        double k = cell_at(a, axis, c->mean[i]);
        if (k <= 0) {
            hold_end(c, i, edge_after(a, axis, 0), spread, margin);
        } else if (k >= axis->cells - 1) {
            hold_end(c, i, edge_after(a, axis, k - 1), spread, margin);
        } else {
            hold_between(c, i, edge_after(a, axis, k - 1), edge_after(a, axis, k), spread, margin);
        }
    }
}

/* ---- categories ---- */

/* The natural gradient of one list into l->add, and its coordinates under the square root of the
 * Fisher matrix into `signal`; returns their squared length. */
static double gradient(struct cma_list *l, int at, const uint32_t *const *v, const double *weights,
                       int mu, double *signal)
{
    uint32_t last = l->k - 1;
    double all = 0;
    double squares = 0;
    memset(l->add, 0, l->k * sizeof(*l->add));
    for (int m = 0; m < mu; m++) {
        for (uint32_t k = 0; k < l->k && v[m][at] != CMA_NO_VALUE; k++) {
            l->add[k] += weights[m] * ((v[m][at] == k) - l->q[k]);
        }
    }
    for (uint32_t k = 0; k < last; k++) {
        all += l->add[k];
    }
    for (uint32_t k = 0; k < last; k++) {
        double root = sqrt(l->q[k]);
        signal[k] = l->add[k] / root + root * all / (l->q[last] + sqrt(l->q[last]));
        squares += signal[k] * signal[k];
    }
    return squares;
}

/* Every value keeps a probability of `least`; the rest shrinks in proportion. */
static void keep_least(struct cma_list *l, double least)
{
    double sum = 0;
    for (uint32_t k = 0; k < l->k; k++) {
        l->q[k] = fmax(l->q[k], least);
        sum += l->q[k];
    }
    double room = sum - least * l->k;
    for (uint32_t k = 0; k < l->k && room > 0; k++) {
        l->q[k] -= (sum - 1) * (l->q[k] - least) / room;
    }
}

void cma_axes_update(struct cma_axes *a, const uint32_t *const *v, const double *weights, int mu)
{
    if (a->n_lists == 0) {
        return;
    }
    double *signal = xcalloc((size_t)a->n_signal, sizeof(*signal));
    double squares = 0;
    int at = 0;
    for (int i = 0; i < a->n_lists; i++) {
        squares += gradient(&a->lists[i], i, v, weights, mu, signal + at);
        at += (int)a->lists[i].k - 1;
    }
    double length = sqrt(squares) + 1e-8;
    double beta = 1 / (a->delta * sqrt(a->n_signal));
    beta = fmin(beta, 1);
    double s2 = 0;
    for (int i = 0; i < a->n_lists; i++) {
        for (uint32_t k = 0; k < a->lists[i].k; k++) {
            a->lists[i].q[k] += a->lists[i].add[k] / (a->delta * length);
        }
        /* One wrong step in so many over all lists: .73 is the paper's. */
        keep_least(&a->lists[i], (1 - pow(0.73, 1.0 / a->n_lists)) / (a->lists[i].k - 1.0));
    }
    for (int i = 0; i < a->n_signal; i++) {
        a->signal[i] = (1 - beta) * a->signal[i] + sqrt(beta * (2 - beta)) * signal[i] / length;
        s2 += a->signal[i] * a->signal[i];
    }
    a->gamma = (1 - beta) * (1 - beta) * a->gamma + beta * (2 - beta);
    a->delta *= exp(beta * (a->gamma - s2 / SIGNAL_ALPHA));
    free(signal);
}
