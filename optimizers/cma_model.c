/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/cma_model.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEEP 0.75     /* the part of the window, the better one, that is fitted */
#define MARGIN 1.1    /* fitted values for each term */
#define WEIGHT_MAX 20 /* of the best value; the worst has 1 */
#define RIDGE 1e-9
#define DESCENTS 20

static int full_terms(int n)
{
    return n <= CMA_MODEL_FULL_MAX ? (n + 1) * (n + 2) / 2 : 2 * n + 1;
}

void cma_model_init(struct cma_model *m, int n, int lambda)
{
    int most = full_terms(n);
    *m = (struct cma_model){.n = n};
    m->window = 2 * most > lambda ? 2 * most : lambda;
    m->x = xcalloc((size_t)m->window * (size_t)n + 1, sizeof(double));
    m->f = xcalloc((size_t)m->window + 1, sizeof(double));
    m->mean = xcalloc((size_t)n + 1, sizeof(double));
    m->to_z = xcalloc((size_t)(n * n) + 1, sizeof(double));
    m->beta = xcalloc((size_t)most, sizeof(double));
    m->work = xcalloc((size_t)most * ((size_t)most + 2), sizeof(double));
}

void cma_model_fini(struct cma_model *m)
{
    free(m->x);
    free(m->f);
    free(m->mean);
    free(m->to_z);
    free(m->beta);
    free(m->work);
}

void cma_model_add(struct cma_model *m, const double *x, double f)
{
    memcpy(m->x + m->next * m->n, x, (size_t)m->n * sizeof(double));
    m->f[m->next] = f;
    m->next = (m->next + 1) % m->window;
    m->count += m->count < m->window;
}

static void set_frame(struct cma_model *m, const struct cma *c)
{
    int n = m->n;
    memcpy(m->mean, c->mean, (size_t)n * sizeof(double));
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < n; i++) {
            double b = c->is.separable ? i == k : c->basis[i * n + k];
            m->to_z[k * n + i] = b / (c->axes[k] * c->sigma * c->scale[i]);
        }
    }
}

static void frame(const struct cma_model *m, const double *x, double *z)
{
    for (int k = 0; k < m->n; k++) {
        double sum = 0;
        for (int i = 0; i < m->n; i++) {
            sum += m->to_z[k * m->n + i] * (x[i] - m->mean[i]);
        }
        z[k] = sum;
    }
}

/* 1, z, z^2, products: as many as the model has. */
static void expand(const struct cma_model *m, const double *x, double *t)
{
    int n = m->n;
    double z[CMA_MODEL_DIMENSIONS_MAX];
    int at = n + 1;
    frame(m, x, z);
    t[0] = 1;
    for (int i = 0; i < n; i++) {
        t[i + 1] = z[i];
    }
    for (int i = 0; i < n && m->terms > n + 1; i++) {
        t[at++] = z[i] * z[i];
    }
    for (int i = 0; i < n && m->terms > 2 * n + 1; i++) {
        for (int j = 0; j < i; j++) {
            t[at++] = z[i] * z[j];
        }
    }
}

/* Solves a beta = b by Cholesky, in place; false when a is not positive definite. */
static bool solve(int n, double *a, double *b)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (int k = 0; k < j; k++) {
                sum -= a[i * n + k] * a[j * n + k];
            }
            if (i == j && !(sum > 0)) {
                return false;
            }
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    }
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) {
            b[i] -= a[i * n + k] * b[k];
        }
        b[i] /= a[i * n + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) {
            b[i] -= a[k * n + i] * b[k];
        }
        b[i] /= a[i * n + i];
    }
    return true;
}

/* Rows of the window by value, ties by age. */
static void ranked(const struct cma_model *m, int *order)
{
    int oldest = m->count < m->window ? 0 : m->next;
    for (int k = 0; k < m->count; k++) {
        int row = (oldest + k) % m->window;
        int at = k;
        for (; at > 0 && m->f[order[at - 1]] > m->f[row]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = row;
    }
}

static int choose_terms(const struct cma_model *m)
{
    double able = KEEP * m->count / MARGIN;
    int full = full_terms(m->n);
    return able >= full ? full : able >= 2 * m->n + 1 ? 2 * m->n + 1 : m->n + 1;
}

bool cma_model_fit(struct cma_model *m, const struct cma *c)
{
    m->terms = 0;
    if (m->count < 3) {
        return false;
    }
    int terms = choose_terms(m);
    int used = (int)(KEEP * (m->count + 1));
    int *order = xcalloc((size_t)m->count, sizeof(*order));
    double *t = m->work + terms * terms;
    used = used < terms + 2 ? terms + 2 : used;
    used = used > m->count ? m->count : used;
    ranked(m, order);
    set_frame(m, c);
    m->terms = terms;
    m->low = m->f[order[0]];
    m->range = m->f[order[used - 1]] - m->low;
    m->range = m->range > 0 ? m->range : 1;
    memset(m->work, 0, (size_t)(terms * terms) * sizeof(double));
    memset(m->beta, 0, (size_t)terms * sizeof(double));
    for (int r = 0; r < used; r++) {
        double w = WEIGHT_MAX - (WEIGHT_MAX - 1.0) * r / (used > 1 ? used - 1 : 1);
        double y = (m->f[order[r]] - m->low) / m->range;
        expand(m, m->x + order[r] * m->n, t);
        for (int i = 0; i < terms; i++) {
            double v = w * w * t[i];
            m->beta[i] += v * y;
            for (int j = 0; j <= i; j++) {
                m->work[i * terms + j] += v * t[j];
            }
        }
    }
    for (int i = 0; i < terms; i++) {
        m->work[i * terms + i] += RIDGE * (m->work[i * terms + i] + m->work[0]);
    }
    free(order);
    if (!solve(terms, m->work, m->beta)) {
        m->terms = 0;
    }
    return m->terms > 0;
}

double cma_model_value(const struct cma_model *m, const double *x)
{
    double
        t[(CMA_MODEL_FULL_MAX + 1) * (CMA_MODEL_FULL_MAX + 2) / 2 + 2 * CMA_MODEL_DIMENSIONS_MAX];
    double sum = 0;
    expand(m, x, t);
    for (int i = 0; i < m->terms; i++) {
        sum += m->beta[i] * t[i];
    }
    return m->low + m->range * sum;
}

static int sign(double v)
{
    return (v > 0) - (v < 0);
}

double cma_model_tau(const struct cma_model *m, int k)
{
    k = k < m->count ? k : m->count;
    if (k < 3 || m->terms == 0) {
        return 0;
    }
    double *guess = xcalloc((size_t)k, sizeof(*guess));
    double sum = 0;
    for (int i = 0; i < k; i++) {
        int a = (m->next - 1 - i + 2 * m->window) % m->window;
        guess[i] = cma_model_value(m, m->x + a * m->n);
        for (int j = 0; j < i; j++) {
            int b = (m->next - 1 - j + 2 * m->window) % m->window;
            int truth = sign(m->f[a] - m->f[b]);
            int told = sign(guess[i] - guess[j]);
            sum += truth == 0 && told == 0 ? 0.5 : truth * told;
        }
    }
    free(guess);
    return sum * 2 / (k * (k - 1.0));
}

/* The Hessian of the model in z. */
static void hessian(const struct cma_model *m, double *h)
{
    int n = m->n;
    int at = 2 * n + 1;
    for (int i = 0; i < n; i++) {
        h[i * n + i] = 2 * m->beta[n + 1 + i];
        for (int j = 0; j < i; j++) {
            h[i * n + j] = h[j * n + i] = m->terms > at ? m->beta[at] : 0;
            at += m->terms > at;
        }
    }
}

bool cma_model_best(const struct cma_model *m, const struct cma *c, double radius, double *x)
{
    int n = m->n;
    double z[CMA_MODEL_DIMENSIONS_MAX];
    double sum = 0;
    if (m->terms == 0) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        z[i] = -m->beta[i + 1];
    }
    if (m->terms > n + 1) {
        double *h = xcalloc((size_t)(n * n), sizeof(*h));
        hessian(m, h);
        bool ok = solve(n, h, z);
        free(h);
        if (!ok) {
            return false;
        }
    }
    for (int i = 0; i < n; i++) {
        sum += z[i] * z[i];
    }
    /* A slope alone points somewhere: one standard step that way. */
    double length = sqrt(sum);
    double want = m->terms == n + 1 ? sqrt(n) : fmin(length, radius);
    for (int i = 0; i < n; i++) {
        z[i] *= length > 0 ? want / length : 0;
    }
    for (int i = 0; i < n; i++) {
        double y = 0;
        for (int k = 0; k < n; k++) {
            double b = c->is.separable ? i == k : c->basis[i * n + k];
            y += b * c->axes[k] * z[k];
        }
        x[i] = c->mean[i] + c->sigma * c->scale[i] * y;
    }
    return true;
}

/* The least value of the model along one coordinate between lo and hi, by its parabola. */
static double best_along(const struct cma_model *m, double *x, int i, double lo, double hi)
{
    double h = (hi - lo) / 2;
    double middle = lo + h;
    double was = x[i];
    double f[3];
    for (int k = 0; k < 3; k++) {
        x[i] = middle + (k - 1) * h;
        f[k] = cma_model_value(m, x);
    }
    x[i] = was;
    double bend = f[0] - 2 * f[1] + f[2];
    double at = middle + h * (f[0] - f[2]) / 2 / bend;
    if (!(bend > 0) || !(at >= lo && at <= hi)) {
        at = f[0] < f[2] ? lo : hi;
    }
    return at;
}

void cma_model_descend(const struct cma_model *m, const struct cma *c, double radius, double *x)
{
    for (int round = 0; round < DESCENTS; round++) {
        double moved = 0;
        for (int i = 0; i < m->n; i++) {
            double reach = radius * c->sigma * c->scale[i] * sqrt(cma_variance(c, i));
            double lo = fmin(fmax(c->mean[i] - reach, 0), 1);
            double hi = fmin(fmax(c->mean[i] + reach, 0), 1);
            if (lo < hi) {
                double at = best_along(m, x, i, lo, hi);
                moved = fmax(moved, fabs(at - x[i]) / (hi - lo));
                x[i] = at;
            }
        }
        if (moved < 1e-6) {
            return;
        }
    }
}
