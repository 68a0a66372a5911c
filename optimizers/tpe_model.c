/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/tpe_model.h"

#include "optimizers/shape.h"

#include <math.h>

#define PRIOR 1.0 /* weight of the uniform prior; kernels weigh 1 on average */
#define STEP_FIRST 0.1
#define STEP_MIN 0.001
#define STEP_MAX 0.3
#define SUCCESS 0.3   /* share of results that should be among the very best */
#define RATE 0.2      /* how fast the log of the step moves */
#define DELAY 0.1     /* how much slower for each pending trial */
#define TURNED_MAX 32 /* parameters; with more there are never enough points for a shape */

void model_init(struct tpe_model *m, const struct sampler_config *cfg, bool liar)
{
    const struct space *s = cfg->opt.space;
    *m = (struct tpe_model){.cfg = cfg, .liar = liar, .step = STEP_FIRST};
    parzen_init(&m->close, s, PRIOR);
    parzen_init(&m->wide, s, PRIOR);
    parzen_init(&m->poor, s, PRIOR);
    m->widths = xcalloc((size_t)s->n, sizeof(*m->widths));
}

void model_fini(struct tpe_model *m)
{
    parzen_fini(&m->close);
    parzen_fini(&m->wide);
    parzen_fini(&m->poor);
    free(m->widths);
    free(m->of);
}

/* One width for every parameter; n kernels. No narrower than half of what a value owns, or the
 * other values would be out of sight. A CATEGORICAL has smoothed frequencies: each of its values
 * starts with a share of one. */
static void set_widths(struct tpe_model *m, int n, double width)
{
    const struct space *s = m->cfg->opt.space;
    for (int j = 0; j < s->n; j++) {
        const struct param *p = &s->params[j];
        double cells = param_cells(p);
        m->widths[j] = parzen_axis(p) == AXIS_CHOICE ? cells / (cells + n + 1)
                                                     : fmin(1, fmax(width, 0.5 / cells));
    }
}

/* ---- the poor ---- */

static void poor_put(struct tpe_model *m, struct tpe_point *s)
{
    if (s->slot > 0) {
        return;
    }
    if (m->poor.n == m->cap_of) {
        m->cap_of = 2 * m->cap_of + 64;
        m->of = xreallocarray(m->of, (size_t)m->cap_of, sizeof(struct tpe_point *));
    }
    m->of[m->poor.n] = s;
    parzen_put(&m->poor, m->poor.n, s->u, m->widths, 1);
    s->slot = m->poor.n;
}

void model_forget(struct tpe_model *m, struct tpe_point *s)
{
    if (s == NULL || s->slot == 0) {
        return;
    }
    int k = s->slot - 1;
    parzen_drop(&m->poor, k);
    m->of[k] = m->of[m->poor.n];
    m->of[k]->slot = k + 1;
    s->slot = 0;
}

static void poor_clear(struct tpe_model *m)
{
    for (int k = 0; k < m->poor.n; k++) {
        m->of[k]->slot = 0;
    }
    parzen_clear(&m->poor);
}

/* Narrow kernels, narrower the more there are: a poor result speaks of its surroundings only. From
 * some 150 on the width stays, and a new result is one new kernel. */
static double poor_width(int n)
{
    return fmin(1, fmax(1.5 / (n + 2), 0.01));
}

static void follow_poor(struct tpe_model *m, const struct tpe_history *h)
{
    const struct tpe_level *l = m->level;
    int n_pending = m->liar ? h->n_pending : 0;
    int n = l->n_top - m->n_good + l->rest.n + h->failed.n + n_pending;
    double width = poor_width(n);
    if (width != m->poor_width) {
        poor_clear(m);
        m->poor_width = width;
    }
    set_widths(m, n, width);
    for (int k = m->n_good; k < l->n_top; k++) {
        poor_put(m, l->top[k]);
    }
    for (int k = 0; k < l->rest.n; k++) {
        poor_put(m, l->rest.at[k]);
    }
    for (int k = 0; k < h->failed.n; k++) {
        poor_put(m, h->failed.at[k]);
    }
    for (int k = 0; k < n_pending; k++) {
        poor_put(m, h->pending[k]);
    }
}

/* ---- the good ---- */

/* Of the k-th best of n, by rank as in CMA-ES, 1 on average. Fronts have no order: 1 each. */
static double weight_of(const struct tpe_model *m, int k, int n)
{
    if (m->cfg->opt.objectives > 1) {
        return 1;
    }
    return (log(n + 1) - log(k + 1)) / (log(n + 1) - lgamma(n + 1) / n);
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The larger of the distances to the neighbours among n sorted places. */
static double gap(const double *sorted, int n, double u)
{
    int i = 0;
    while (i < n - 1 && sorted[i] < u) {
        i++;
    }
    double left = i > 0 ? sorted[i] - sorted[i - 1] : 0;
    double right = i < n - 1 ? sorted[i + 1] - sorted[i] : 0;
    return n > 1 ? fmax(left, right) : fmax(u, 1 - u);
}

/* The good points' places in every parameter, n for each, sorted; how many are active in counts. */
static double *sorted_places(const struct tpe_model *m, int *counts)
{
    int n = m->n_good;
    int dims = m->cfg->opt.space->n;
    double *sorted = xcalloc((size_t)dims * (size_t)n, sizeof(*sorted));
    for (int j = 0; j < dims; j++) {
        double *row = sorted + (size_t)j * (size_t)n;
        for (int k = 0; k < n; k++) {
            if (!isnan(m->good[k]->u[j])) {
                row[counts[j]++] = m->good[k]->u[j];
            }
        }
        qsort(row, (size_t)counts[j], sizeof(*row), by_double);
    }
    return sorted;
}

static void fit_wide(struct tpe_model *m)
{
    const struct space *s = m->cfg->opt.space;
    int n = m->n_good;
    int *counts = xcalloc((size_t)s->n, sizeof(*counts));
    double *sorted = sorted_places(m, counts);
    parzen_clear(&m->wide);
    for (int k = 0; k < n; k++) {
        set_widths(m, n, 0.25 / (n + 2));
        for (int j = 0; j < s->n; j++) {
            double u = m->good[k]->u[j];
            if (parzen_axis(&s->params[j]) != AXIS_CHOICE && !isnan(u)) {
                double g = gap(sorted + (size_t)j * (size_t)n, counts[j], u);
                m->widths[j] = fmin(1, fmax(m->widths[j], g));
            }
        }
        parzen_put(&m->wide, k, m->good[k]->u, m->widths, weight_of(m, k, n));
    }
    free(sorted);
    free(counts);
}

/* The better quarter's shape, as wide as the step. */
static void turn_close(struct tpe_model *m)
{
    const int *dims = NULL;
    int d = parzen_turned(&m->close, &dims);
    if (d < 2 || d > TURNED_MAX) {
        return;
    }
    const struct tpe_level *level = m->level;
    int n = (int)fmin(level->n_top, ceil((double)level->n / 4));
    double *points = xcalloc((size_t)n * (size_t)d, sizeof(*points));
    double *weights = xcalloc((size_t)n, sizeof(*weights));
    double *l = xcalloc((size_t)d * (size_t)d, sizeof(*l));
    for (int k = 0; k < n; k++) {
        weights[k] = weight_of(m, k, n);
        for (int i = 0; i < d; i++) {
            points[k * d + i] = level->top[k]->u[dims[i]];
        }
    }
    shape_of(points, weights, n, d, l);
    for (int i = 0; i < d * d; i++) {
        l[i] *= m->step;
    }
    parzen_turn(&m->close, l);
    free(points);
    free(weights);
    free(l);
}

static void fit_close(struct tpe_model *m)
{
    parzen_clear(&m->close);
    turn_close(m);
    set_widths(m, m->n_good, m->step);
    for (int k = 0; k < m->n_good; k++) {
        parzen_put(&m->close, k, m->good[k]->u, m->widths, weight_of(m, k, m->n_good));
    }
}

/* ---- both ---- */

void model_follow(struct tpe_model *m, const struct tpe_history *h, const struct tpe_level *level)
{
    if (level != m->level) {
        poor_clear(m);
        m->level = level;
        m->n_good = 0;
        m->n_seen = 0;
        m->step = fmax(m->step, STEP_FIRST);
    }
    if (level == NULL) {
        return;
    }
    int n = history_good(h, level);
    bool same = n == m->n_good;
    for (int k = 0; k < n; k++) {
        model_forget(m, level->top[k]);
        same = same && m->good[k] == level->top[k];
        m->good[k] = level->top[k];
    }
    m->n_good = n;
    if (!same) {
        fit_wide(m);
    }
    if (level->n != m->n_seen) { /* whoever came moved the step and the shape */
        m->n_seen = level->n;
        fit_close(m);
    }
    follow_poor(m, h);
}

void model_learn(struct tpe_model *m, const struct tpe_history *h, const struct tpe_point *s)
{
    double best = fmax(1, history_good(h, m->level) / 4.0);
    int rank = 0;
    while (rank < best && rank < m->level->n_top && m->level->top[rank] != s) {
        rank++;
    }
    double rate = RATE / (1 + DELAY * h->n_pending);
    m->step *= exp(rate * (rank < best ? 1 - SUCCESS : -SUCCESS));
    m->step = fmin(fmax(m->step, STEP_MIN), STEP_MAX);
}
