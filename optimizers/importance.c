/* SPDX-License-Identifier: Apache-2.0
 *
 * Each parameter's domain becomes a grid of at most 50 places; a Parzen estimator on it, with
 * Scott's bandwidth and one observation's worth of prior, stands for the distribution among the
 * best trials and among all.
 */
#include "optimizers/importance.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

#define PLACES_MAX 50
#define PRIOR 1.0              /* weight, in observations */
#define FLOOR 1e-12            /* added to each probability */
#define NARROWEST (0.5 / 1.64) /* 90 % of a kernel within its own place */
#define REGIME_MIN 2           /* trials in which a parameter is active, or nothing is said of it */

struct grid {
    int n;
    bool ordered;
    double lo, step; /* ordered numbers: place k is lo + k * step, in the parameter's own scale */
};

/* ---- places ---- */

static double scaled(const struct param *p, double v)
{
    return p->log ? log(v) : p->reverse_log ? -log1p(-v) : v;
}

static int by_step(double lo, double hi, double step)
{
    double n = floor((hi - lo) / step + 1e-9) + 1;
    return n < PLACES_MAX ? (int)n : PLACES_MAX;
}

static struct grid number_grid(const struct param *p)
{
    struct grid g = {.n = PLACES_MAX, .ordered = true};
    double hi = p->hi;
    if (p->type == PARAM_INTEGER && p->log) {
        int n = (int)ceil(log2(p->hi - p->lo + 1)) + 1;
        g.n = n < PLACES_MAX ? n : PLACES_MAX;
    } else if (p->step > 0 || p->type == PARAM_INTEGER) {
        double step = p->step > 0 ? p->step : 1;
        g.n = by_step(p->lo, p->hi, step);
        hi = p->log || p->reverse_log ? p->hi : p->lo + floor((p->hi - p->lo) / step + 1e-9) * step;
    }
    g.lo = scaled(p, p->lo);
    g.step = g.n > 1 ? (scaled(p, hi) - g.lo) / (g.n - 1) : 0;
    return g;
}

/* Values of a list lie in the order of the numbers; a long ordered one shares places. */
static struct grid list_grid(const struct param *p)
{
    struct grid g = {.n = (int)p->n_values, .ordered = param_is_ordered(p)};
    if (g.ordered) {
        g.n = g.n < PLACES_MAX ? g.n : PLACES_MAX;
        g.step = g.n > 1 ? (double)(p->n_values - 1) / (g.n - 1) : 0;
    }
    return g;
}

static bool is_list(const struct param *p)
{
    return p->type == PARAM_DISCRETE || p->type == PARAM_CATEGORICAL;
}

static struct grid make_grid(const struct param *p)
{
    if (is_list(p)) {
        return list_grid(p);
    }
    if (p->lo == p->hi) {
        return (struct grid){.n = 1};
    }
    return number_grid(p);
}

/* Ties between two places go to the lower one. */
static int place_of(const struct param *p, const struct grid *g, double v)
{
    if (is_list(p)) {
        double rank = p->rank != NULL ? p->rank[(uint32_t)v] : v;
        if (!g->ordered) {
            return (int)rank;
        }
        v = rank;
    } else {
        v = scaled(p, v);
    }
    double k = ceil((v - g->lo) / g->step - 0.5);
    return k < 0 ? 0 : k > g->n - 1 ? g->n - 1 : (int)k;
}

/* ---- densities ---- */

/* Mass of a standard normal between a and b, exact in both tails. */
static double mass(double a, double b)
{
    if (a > 0) {
        return 0.5 * (erfc(a * M_SQRT1_2) - erfc(b * M_SQRT1_2));
    }
    return 0.5 * (erfc(-b * M_SQRT1_2) - erfc(-a * M_SQRT1_2));
}

/* Scott's rule on grouped observations. */
static double bandwidth(const double *count, int n, double sum)
{
    double mean = 0;
    double square = 0;
    double cum = 0;
    int q1 = -1;
    int q3 = -1;
    int last = 0;
    for (int i = 0; i < n; i++) {
        mean += i * count[i] / sum;
    }
    for (int i = 0; i < n; i++) {
        if (count[i] == 0) {
            continue;
        }
        square += (i - mean) * (i - mean) * count[i];
        cum += count[i];
        q1 = q1 < 0 && cum >= floor(sum / 4) ? i : q1;
        q3 = q3 < 0 && cum > floor(sum * 3 / 4) ? i : q3;
        last = i;
    }
    double range = (q3 < 0 ? last : q3) - q1;
    double sigma = sqrt(square / (sum > 2 ? sum - 1 : 1));
    double width = 1.059 * fmin(range / 1.34, sigma) * pow(sum, -0.2);
    return width > NARROWEST ? width : NARROWEST;
}

/* A normal on the grid, cut at its ends. */
static void add_kernel(const struct grid *g, double mu, double sigma, double weight, double *pdf)
{
    double whole = mass((-0.5 - mu) / sigma, (g->n - 0.5 - mu) / sigma);
    for (int i = 0; i < g->n; i++) {
        pdf[i] += weight * mass((i - 0.5 - mu) / sigma, (i + 0.5 - mu) / sigma) / whole;
    }
}

static void density_of_numbers(const struct grid *g, const double *count, double sum, double *pdf)
{
    double width = bandwidth(count, g->n, sum);
    for (int i = 0; i < g->n; i++) {
        if (count[i] > 0) {
            add_kernel(g, i, width, count[i] / (sum + PRIOR), pdf);
        }
    }
    add_kernel(g, (g->n - 1) / 2.0, g->n, PRIOR / (sum + PRIOR), pdf);
}

/* Each observed value's kernel gives the others a share that falls with the number of kernels. */
static void density_of_labels(const struct grid *g, const double *count, double sum, double *pdf)
{
    int kernels = 1;
    for (int i = 0; i < g->n; i++) {
        kernels += count[i] > 0;
    }
    double share = PRIOR / kernels;
    double row = 1 + share * g->n;
    for (int i = 0; i < g->n; i++) {
        double own = count[i] / (sum + PRIOR) / row;
        double others = sum / (sum + PRIOR) * share / row;
        pdf[i] = own + others + PRIOR / (sum + PRIOR) / g->n;
    }
}

static void density(const struct grid *g, const double *count, double sum, double *pdf)
{
    for (int i = 0; i < g->n; i++) {
        pdf[i] = 0;
    }
    if (g->ordered) {
        density_of_numbers(g, count, sum, pdf);
    } else {
        density_of_labels(g, count, sum, pdf);
    }
    for (int i = 0; i < g->n; i++) {
        pdf[i] += FLOOR;
    }
}

/* ---- one parameter ---- */

struct tallies {
    double *best, *all;         /* by place */
    double *pdf_best, *pdf_all; /* likewise */
    double n_best, n_all;       /* trials in which it is active */
};

static double divergence(const struct grid *g, struct tallies *t)
{
    double sum = 0;
    density(g, t->best, t->n_best, t->pdf_best);
    density(g, t->all, t->n_all, t->pdf_all);
    for (int i = 0; i < g->n; i++) {
        double r = t->pdf_best[i] / t->pdf_all[i] - 1;
        sum += t->pdf_all[i] * r * r;
    }
    return sum;
}

static void count(const struct importance_data *d, int k, double cutoff, const struct grid *g,
                  struct tallies *t)
{
    for (int64_t i = 0; i < d->n; i++) {
        double v = d->points[i * d->space->n + k];
        if (isnan(v)) {
            continue;
        }
        int at = place_of(&d->space->params[k], g, v);
        bool best = d->losses[i] <= cutoff;
        t->all[at]++;
        t->n_all++;
        t->best[at] += best;
        t->n_best += best;
    }
}

static double importance_of(const struct importance_data *d, int k, double cutoff, int64_t n_best)
{
    struct grid g = make_grid(&d->space->params[k]);
    if (g.n < 2) {
        return 0;
    }
    struct tallies t = {.best = xcalloc((size_t)g.n * 4, sizeof(double))};
    t.all = t.best + g.n;
    t.pdf_best = t.all + g.n;
    t.pdf_all = t.pdf_best + g.n;
    double value = 0;
    count(d, k, cutoff, &g, &t);
    if (t.n_all >= REGIME_MIN && t.n_best > 0) {
        double quantile = (double)n_best / (double)d->n;
        double alpha = t.n_best / (double)n_best;
        double beta = t.n_all / (double)d->n;
        value = alpha * alpha / beta * divergence(&g, &t) * quantile * quantile;
    }
    free(t.best);
    return value;
}

/* ---- all of them ---- */

static int by_value(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

static double cutoff_of(const struct importance_data *d, double quantile)
{
    double *sorted = xcalloc((size_t)d->n, sizeof(*sorted));
    for (int64_t i = 0; i < d->n; i++) {
        sorted[i] = d->losses[i];
    }
    qsort(sorted, (size_t)d->n, sizeof(*sorted), by_value);
    double at = ceil(quantile * (double)d->n) - 1;
    double cutoff = sorted[at < 0 ? 0 : (int64_t)at];
    free(sorted);
    return cutoff;
}

int64_t importance_compute(const struct importance_data *d, double quantile, double *ret)
{
    int64_t n_best = 0;
    for (int k = 0; k < d->space->n; k++) {
        ret[k] = 0;
    }
    if (d->n < 2) {
        return 0;
    }
    double cutoff = cutoff_of(d, quantile);
    for (int64_t i = 0; i < d->n; i++) {
        n_best += d->losses[i] <= cutoff;
    }
    for (int k = 0; k < d->space->n; k++) {
        ret[k] = importance_of(d, k, cutoff, n_best);
    }
    return n_best;
}
