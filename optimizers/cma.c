/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/cma.h"

#include "base/alloc.h"
#include "optimizers/eigen.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOL_X 1e-13        /* standard deviations below this part of the first ones: the end */
#define TOL_UP 1e4         /* and above this many times */
#define CONDITION_MAX 1e14 /* of C */
#define AXIS_MIN 1e-20     /* smallest eigenvalue of C */

/* Learning-rate adaptation: moving averages of the parameters' steps, in the coordinates of the
 * distribution before each step. */
struct cma_rates {
    double eta_mean, eta_cov;
    double *e_mean, *e_cov; /* n, n * n */
    double v_mean, v_cov;
    double *old_mean, *old_cov; /* before the update; old_cov = sigma^2 C */
};

static size_t matrix_size(const struct cma *c)
{
    size_t n = (size_t)c->is.n;
    return c->is.separable ? n : n * n;
}

void cma_init(struct cma *c, const struct cma_setup *setup)
{
    *c = (struct cma){.is = *setup};
    size_t n = (size_t)setup->n;
    c->weights = NULL;
    c->mean = xcalloc(n + 1, sizeof(double));
    c->scale = xcalloc(n + 1, sizeof(double));
    c->c = xcalloc(matrix_size(c) + 1, sizeof(double));
    c->basis = xcalloc(matrix_size(c) + 1, sizeof(double));
    c->axes = xcalloc(n + 1, sizeof(double));
    c->p_sigma = xcalloc(n + 1, sizeof(double));
    c->p_c = xcalloc(n + 1, sizeof(double));
    c->work = xcalloc(4 * n + matrix_size(c) + 1, sizeof(double));
    if (setup->adapt) {
        struct cma_rates *r = c->rates = xcalloc(1, sizeof(*c->rates));
        r->e_mean = xcalloc(n + 1, sizeof(double));
        r->e_cov = xcalloc(n * n + 1, sizeof(double));
        r->old_mean = xcalloc(n + 1, sizeof(double));
        r->old_cov = xcalloc(n * n + 1, sizeof(double));
    }
}

void cma_fini(struct cma *c)
{
    free(c->weights);
    free(c->mean);
    free(c->scale);
    free(c->c);
    free(c->basis);
    free(c->axes);
    free(c->p_sigma);
    free(c->p_c);
    free(c->work);
    if (c->rates != NULL) {
        free(c->rates->e_mean);
        free(c->rates->e_cov);
        free(c->rates->old_mean);
        free(c->rates->old_cov);
        free(c->rates);
    }
}

/* The tutorial's table 1: weights and learning rates from n and lambda. */
static void set_strategy(struct cma *c)
{
    int lambda = c->is.lambda;
    double n = c->is.n;
    double sum[2] = {0}; /* of positive and of negative weights */
    double squares[2] = {0};
    c->weights = xreallocarray(c->weights, (size_t)lambda, sizeof(*c->weights));
    c->mu = lambda / 2;
    for (int i = 0; i < lambda; i++) {
        double w = log((lambda + 1) / 2.0) - log(i + 1);
        int sign = i < c->mu ? 0 : 1;
        c->weights[i] = w;
        sum[sign] += fabs(w);
        squares[sign] += w * w;
    }
    c->mu_eff = sum[0] * sum[0] / squares[0];
    double mu_eff_minus = sum[1] * sum[1] / squares[1];
    c->c_sigma = (c->mu_eff + 2) / (n + c->mu_eff + 5);
    c->d_sigma = 1 + 2 * fmax(0, sqrt((c->mu_eff - 1) / (n + 1)) - 1) + c->c_sigma;
    c->c_c = (4 + c->mu_eff / n) / (n + 4 + 2 * c->mu_eff / n);
    c->c1 = 2 / ((n + 1.3) * (n + 1.3) + c->mu_eff);
    c->c_mu = 2 * (0.25 + c->mu_eff + 1 / c->mu_eff - 2) / ((n + 2) * (n + 2) + c->mu_eff);
    if (c->is.separable) { /* n numbers are learnt, not n (n + 1) / 2 */
        c->c1 = fmin(0.5, c->c1 * (n + 2) / 3);
        c->c_mu = c->c_mu * (n + 2) / 3;
    }
    c->c_mu = fmin(1 - c->c1, c->c_mu);
    double alpha = fmin(1 + c->c1 / c->c_mu, 1 + 2 * mu_eff_minus / (c->mu_eff + 2));
    alpha = fmin(alpha, (1 - c->c1 - c->c_mu) / (n * c->c_mu));
    for (int i = 0; i < lambda; i++) {
        c->weights[i] *= c->weights[i] > 0 ? 1 / sum[0] : alpha / sum[1];
    }
    c->chi = sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
}

/* ---- the decomposition ---- */

/* B and D of C; a C that rounding made indefinite is lifted. */
static void decompose(struct cma *c)
{
    int n = c->is.n;
    c->decomposed = c->updates;
    if (c->is.separable) {
        for (int i = 0; i < n; i++) {
            c->c[i] = fmax(c->c[i], AXIS_MIN);
            c->axes[i] = sqrt(c->c[i]);
        }
        return;
    }
    double *a = c->work + 4 * n;
    memcpy(a, c->c, matrix_size(c) * sizeof(double));
    if (!eigen_symmetric(n, a, c->axes, c->work)) {
        return; /* the decomposition before stays: it is of a C that was whole */
    }
    bool lift = c->axes[0] < AXIS_MIN;
    memcpy(c->basis, a, matrix_size(c) * sizeof(double));
    for (int i = 0; i < n; i++) {
        c->axes[i] = sqrt(fmax(c->axes[i], AXIS_MIN));
    }
    for (int i = 0; i < n && lift; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = 0;
            for (int k = 0; k < n; k++) {
                sum += c->basis[i * n + k] * c->axes[k] * c->axes[k] * c->basis[j * n + k];
            }
            c->c[i * n + j] = c->c[j * n + i] = sum;
        }
    }
}

void cma_start(struct cma *c, int lambda, const double *mean, double sigma, const double *cov)
{
    int n = c->is.n;
    c->is.lambda = lambda;
    c->updates = 0;
    if (n == 0) { /* weights alone are of use */
        c->is.n = 1;
        set_strategy(c);
        c->is.n = 0;
        return;
    }
    set_strategy(c);
    c->sigma = sigma;
    memcpy(c->mean, mean, (size_t)n * sizeof(double));
    memset(c->p_sigma, 0, (size_t)n * sizeof(double));
    memset(c->p_c, 0, (size_t)n * sizeof(double));
    for (int i = 0; i < n; i++) {
        c->scale[i] = 1;
        for (int j = 0; j < (c->is.separable ? 1 : n); j++) {
            double identity = c->is.separable || i == j;
            int at = c->is.separable ? i : i * n + j;
            c->c[at] = cov != NULL ? cov[i * n + (c->is.separable ? i : j)] : identity;
        }
    }
    decompose(c);
    c->sigma_start = sigma;
    c->axis_start = c->axes[n - 1];
    if (c->rates != NULL) {
        struct cma_rates *r = c->rates;
        r->eta_mean = r->eta_cov = 1;
        r->v_mean = r->v_cov = 0;
        memset(r->e_mean, 0, (size_t)n * sizeof(double));
        memset(r->e_cov, 0, (size_t)(n * n) * sizeof(double));
    }
}

double cma_variance(const struct cma *c, int i)
{
    return c->c[c->is.separable ? i : i * c->is.n + i];
}

/* out = B z, out = B' z. */
static void rotate(const struct cma *c, const double *z, double *out)
{
    int n = c->is.n;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++) {
            sum += c->basis[i * n + k] * z[k];
        }
        out[i] = sum;
    }
}

static void rotate_back(const struct cma *c, const double *y, double *out)
{
    int n = c->is.n;
    memset(out, 0, (size_t)n * sizeof(double));
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < n; i++) {
            out[i] += c->basis[k * n + i] * y[k];
        }
    }
}

void cma_sample(const struct cma *c, struct pcg64 *g, double *x)
{
    int n = c->is.n;
    double z[CMA_DIMENSIONS_MAX] = {0};
    for (int i = 0; i < n; i++) {
        z[i] = pcg64_normal(g) * c->axes[i];
    }
    if (c->is.separable) {
        memcpy(x, z, (size_t)n * sizeof(double));
    } else {
        rotate(c, z, x);
    }
    for (int i = 0; i < n; i++) {
        x[i] = c->mean[i] + c->sigma * c->scale[i] * x[i];
    }
}

/* z = D^-1 B' y: y in units of the distribution; returns the squared length. */
static double whiten(const struct cma *c, const double *y, double *z)
{
    int n = c->is.n;
    double sum = 0;
    if (c->is.separable) {
        memcpy(z, y, (size_t)n * sizeof(double));
    } else {
        rotate_back(c, y, z);
    }
    for (int i = 0; i < n; i++) {
        z[i] /= c->axes[i];
        sum += z[i] * z[i];
    }
    return sum;
}

/* y = (x - mean) / (sigma A). */
static void step_of(const struct cma *c, const double *x, double *y)
{
    for (int i = 0; i < c->is.n; i++) {
        y[i] = (x[i] - c->mean[i]) / (c->sigma * c->scale[i]);
    }
}

double cma_distance(const struct cma *c, const double *x)
{
    double y[CMA_DIMENSIONS_MAX];
    double z[CMA_DIMENSIONS_MAX];
    step_of(c, x, y);
    return sqrt(whiten(c, y, z));
}

/* ---- the update ---- */

/* Adds w * y y' to C. */
static void add_outer(struct cma *c, double w, const double *y)
{
    int n = c->is.n;
    for (int i = 0; i < n; i++) {
        if (c->is.separable) {
            c->c[i] += w * y[i] * y[i];
            continue;
        }
        for (int j = 0; j <= i; j++) {
            double v = c->c[i * n + j] + w * y[i] * y[j];
            c->c[i * n + j] = c->c[j * n + i] = v;
        }
    }
}

/* C^-1/2 y_w lengthens the path; sigma grows when it is longer than by chance. */
static void adapt_sigma(struct cma *c, const double *y_w, double *work)
{
    int n = c->is.n;
    double *z = work;
    double *v = work + n;
    (void)whiten(c, y_w, z);
    if (c->is.separable) {
        memcpy(v, z, (size_t)n * sizeof(double));
    } else {
        rotate(c, z, v);
    }
    double keep = 1 - c->c_sigma;
    double add = sqrt(c->c_sigma * (2 - c->c_sigma) * c->mu_eff);
    double length = 0;
    for (int i = 0; i < n; i++) {
        c->p_sigma[i] = keep * c->p_sigma[i] + add * v[i];
        length += c->p_sigma[i] * c->p_sigma[i];
    }
    /* At most by e a step: a handful of injected points must not blow it up. */
    c->sigma *= exp(fmin(1, c->c_sigma / c->d_sigma * (sqrt(length) / c->chi - 1)));
}

static double path_length(const struct cma *c)
{
    double sum = 0;
    for (int i = 0; i < c->is.n; i++) {
        sum += c->p_sigma[i] * c->p_sigma[i];
    }
    return sqrt(sum);
}

/* `steps`: lambda rows of n, best first. */
static void adapt_covariance(struct cma *c, const double *steps, const double *y_w, double *work)
{
    int n = c->is.n;
    double sum = 0;
    double g = (double)c->updates + 1;
    double usual = sqrt(1 - pow(1 - c->c_sigma, 2 * g)) * (1.4 + 2 / (n + 1.0)) * c->chi;
    double h = path_length(c) < usual ? 1 : 0; /* stalls p_c while sigma still grows fast */
    double add = h * sqrt(c->c_c * (2 - c->c_c) * c->mu_eff);
    for (int i = 0; i < n; i++) {
        c->p_c[i] = (1 - c->c_c) * c->p_c[i] + add * y_w[i];
    }
    for (int k = 0; k < c->is.lambda; k++) {
        sum += c->weights[k];
    }
    double keep = 1 + c->c1 * (1 - h) * c->c_c * (2 - c->c_c) - c->c1 - c->c_mu * sum;
    for (size_t i = 0; i < matrix_size(c); i++) {
        c->c[i] *= keep;
    }
    add_outer(c, c->c1, c->p_c);
    for (int k = 0; k < c->is.lambda; k++) {
        const double *y = steps + (size_t)k * (size_t)n;
        double w = c->weights[k];
        if (w < 0) { /* what is taken away is never longer than what is usual */
            w *= n / (whiten(c, y, work) + 1e-300);
        }
        add_outer(c, c->c_mu * w, y);
    }
}

/* ---- learning-rate adaptation ---- */

#define RATE_ALPHA 1.4 /* the signal-to-noise ratio that is kept, beta_mean .1, beta_cov .03 */
#define RATE_BETA_MEAN 0.1
#define RATE_BETA_COV 0.03
#define RATE_GAMMA 0.1

static double next_rate(double eta, double beta, double e2, double v)
{
    double snr = (e2 - beta / (2 - beta) * v) / fmax(v - e2, DBL_MIN);
    double relative = fmin(fmax(snr / (RATE_ALPHA * eta) - 1, -1), 1);
    return fmin(1, eta * exp(fmin(RATE_GAMMA * eta, beta) * relative));
}

static void remember(struct cma *c)
{
    int n = c->is.n;
    memcpy(c->rates->old_mean, c->mean, (size_t)n * sizeof(double));
    for (int i = 0; i < n * n; i++) {
        c->rates->old_cov[i] = c->sigma * c->sigma * c->c[i];
    }
}

/* m = C^-1/2 a C^-1/2 / sigma^2 of the distribution before, in place; B and D are still its own. */
static void whiten_matrix(const struct cma *c, double old_sigma, double *a, double *work)
{
    int n = c->is.n;
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < n; i++) { /* each row, then each column */
            double row[CMA_DIMENSIONS_MAX];
            for (int k = 0; k < n; k++) {
                row[k] = a[side == 0 ? i * n + k : k * n + i] / old_sigma;
            }
            (void)whiten(c, row, work);
            rotate(c, work, row);
            for (int k = 0; k < n; k++) {
                a[side == 0 ? i * n + k : k * n + i] = row[k];
            }
        }
    }
}

/* Shortens the step just made, in mean and in covariance, to the learning rates, after these have
 * learnt from it. */
static void adapt_rates(struct cma *c, double old_sigma)
{
    int n = c->is.n;
    struct cma_rates *r = c->rates;
    double *step = c->work;
    double *cov = c->work + 4 * n;
    double e2 = 0;
    double v2 = 0;
    for (int i = 0; i < n; i++) {
        step[i] = (c->mean[i] - r->old_mean[i]) / (old_sigma * c->scale[i]);
    }
    v2 = whiten(c, step, step + n);
    rotate(c, step + n, step);
    for (int i = 0; i < n; i++) {
        r->e_mean[i] += RATE_BETA_MEAN * (step[i] - r->e_mean[i]);
        e2 += r->e_mean[i] * r->e_mean[i];
    }
    r->v_mean += RATE_BETA_MEAN * (v2 - r->v_mean);
    double eta_before = r->eta_mean;
    r->eta_mean = next_rate(r->eta_mean, RATE_BETA_MEAN, e2, r->v_mean);
    for (int i = 0; i < n * n; i++) {
        cov[i] = c->sigma * c->sigma * c->c[i] - r->old_cov[i];
    }
    whiten_matrix(c, old_sigma, cov, step);
    v2 = e2 = 0;
    for (int i = 0; i < n * n; i++) {
        double d = cov[i] / sqrt(2);
        r->e_cov[i] += RATE_BETA_COV * (d - r->e_cov[i]);
        e2 += r->e_cov[i] * r->e_cov[i];
        v2 += d * d;
    }
    r->v_cov += RATE_BETA_COV * (v2 - r->v_cov);
    r->eta_cov = next_rate(r->eta_cov, RATE_BETA_COV, e2, r->v_cov);
    /* Sigma^2 C moves by its rate; its determinant becomes the new sigma. */
    for (int i = 0; i < n * n; i++) {
        double now = c->sigma * c->sigma * c->c[i];
        c->c[i] = r->old_cov[i] + r->eta_cov * (now - r->old_cov[i]);
        cov[i] = c->c[i];
    }
    double logs = 0;
    if (eigen_symmetric(n, cov, step, step + n)) {
        for (int i = 0; i < n; i++) {
            logs += log(fmax(step[i], DBL_MIN));
        }
        c->sigma = exp(logs / 2 / n);
    }
    for (int i = 0; i < n * n; i++) {
        c->c[i] /= c->sigma * c->sigma;
    }
    for (int i = 0; i < n; i++) {
        c->mean[i] = r->old_mean[i] + r->eta_mean * (c->mean[i] - r->old_mean[i]);
    }
    /* The step-size that is best for a slower mean is larger. */
    c->sigma *= eta_before / r->eta_mean;
}

void cma_update(struct cma *c, const double *const *x, const bool *foreign)
{
    int n = c->is.n;
    size_t size = (size_t)n;
    if (n == 0) {
        return;
    }
    double *steps = xcalloc((size_t)c->is.lambda * size, sizeof(double));
    double *y_w = c->work;
    double *rest = c->work + n;
    double longest = sqrt(n) + 2.0 * n / (n + 2.0);
    double old_sigma = c->sigma;
    memset(y_w, 0, size * sizeof(double));
    for (int k = 0; k < c->is.lambda; k++) {
        double *y = steps + (size_t)k * size;
        step_of(c, x[k], y);
        double length = foreign[k] ? sqrt(whiten(c, y, rest)) : 0;
        for (int i = 0; i < n; i++) {
            y[i] *= length > longest ? longest / length : 1;
            y_w[i] += k < c->mu ? c->weights[k] * y[i] : 0;
        }
    }
    if (c->rates != NULL) {
        remember(c);
    }
    for (int i = 0; i < n; i++) {
        c->mean[i] += c->sigma * c->scale[i] * y_w[i];
    }
    adapt_sigma(c, y_w, rest);
    adapt_covariance(c, steps, y_w, rest);
    free(steps);
    c->updates++;
    if (c->rates != NULL) {
        adapt_rates(c, old_sigma);
        decompose(c);
    } else if ((double)(c->updates - c->decomposed) >= 0.1 / ((c->c1 + c->c_mu) * n)) {
        decompose(c); /* C changes slowly: this costs O(n^2) a trial */
    }
}

const char *cma_stuck(const struct cma *c)
{
    int n = c->is.n;
    double largest = 0;
    for (int i = 0; i < n; i++) {
        double sd = c->sigma * c->scale[i] * sqrt(cma_variance(c, i));
        double move = c->sigma * c->scale[i] * fabs(c->p_c[i]);
        largest = fmax(largest, fmax(sd, move));
        if (c->mean[i] == c->mean[i] + 0.2 * sd) {
            return "no-effect";
        }
    }
    if (n == 0) {
        return NULL;
    }
    if (largest < TOL_X * c->sigma_start) {
        return "tolx";
    }
    double low = c->axes[0];
    double high = c->axes[0];
    for (int i = 0; i < n; i++) {
        low = fmin(low, c->axes[i]);
        high = fmax(high, c->axes[i]);
    }
    if (high * high > CONDITION_MAX * low * low) {
        return "condition";
    }
    return c->sigma * high > TOL_UP * c->sigma_start * c->axis_start ? "diverged" : NULL;
}
