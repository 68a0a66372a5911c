/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_min.h"

#include "base/alloc.h"
#include "optimizers/gp_algebra.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY 10 /* pairs kept */
#define ARMIJO 1e-4
#define HALVINGS 20

struct state {
    const struct min_box *box;
    double *x, *g, *x1, *g1, *dir; /* n each */
    double *s, *y;                 /* MEMORY x n, a ring */
    double rho[MEMORY];
    int pairs, next;
    double f;
};

static void project(const struct min_box *box, double *x)
{
    for (int i = 0; i < box->n; i++) {
        x[i] = fmin(fmax(x[i], box->lo[i]), box->hi[i]);
    }
}

/* Held by a bound: the descent direction leaves the box. */
static bool is_held(const struct state *st, int i)
{
    const struct min_box *b = st->box;
    return (st->x[i] <= b->lo[i] && st->g[i] >= 0) || (st->x[i] >= b->hi[i] && st->g[i] <= 0);
}

/* dir = -H g by the two loops, over the free coordinates. */
static void direction(struct state *st)
{
    int n = st->box->n;
    double a[MEMORY] = {0};
    for (int i = 0; i < n; i++) {
        st->dir[i] = is_held(st, i) ? 0 : -st->g[i];
    }
    for (int k = 0; k < st->pairs; k++) {
        int p = (st->next - 1 - k + 2 * MEMORY) % MEMORY;
        a[p] = st->rho[p] * alg_dot(st->s + (size_t)p * (size_t)n, st->dir, n);
        for (int i = 0; i < n; i++) {
            st->dir[i] -= a[p] * st->y[(size_t)p * (size_t)n + (size_t)i];
        }
    }
    if (st->pairs > 0) {
        int p = (st->next - 1 + MEMORY) % MEMORY;
        const double *y = st->y + (size_t)p * (size_t)n;
        double scale = 1 / (st->rho[p] * alg_dot(y, y, n));
        for (int i = 0; i < n; i++) {
            st->dir[i] *= scale;
        }
    }
    for (int k = st->pairs - 1; k >= 0; k--) {
        int p = (st->next - 1 - k + 2 * MEMORY) % MEMORY;
        double b = st->rho[p] * alg_dot(st->y + (size_t)p * (size_t)n, st->dir, n);
        for (int i = 0; i < n; i++) {
            st->dir[i] += (a[p] - b) * st->s[(size_t)p * (size_t)n + (size_t)i];
        }
    }
    for (int i = 0; i < n; i++) {
        if (is_held(st, i)) {
            st->dir[i] = 0;
        }
    }
}

static void remember(struct state *st)
{
    int n = st->box->n;
    double *s = st->s + (size_t)st->next * (size_t)n;
    double *y = st->y + (size_t)st->next * (size_t)n;
    for (int i = 0; i < n; i++) {
        s[i] = st->x1[i] - st->x[i];
        y[i] = st->g1[i] - st->g[i];
    }
    double sy = alg_dot(s, y, n);
    if (sy > 1e-12 * alg_dot(y, y, n)) {
        st->rho[st->next] = 1 / sy;
        st->next = (st->next + 1) % MEMORY;
        st->pairs += st->pairs < MEMORY;
    }
}

/* The first step has no curvature to go by: a tenth of the box's widest free side at most. */
static double first_step(const struct state *st)
{
    double most = 0;
    double side = 0;
    for (int i = 0; i < st->box->n; i++) {
        most = fmax(most, fabs(st->dir[i]));
        side = st->dir[i] != 0 ? fmax(side, st->box->hi[i] - st->box->lo[i]) : side;
    }
    return most > 0 ? fmin(1, 0.1 * side / most) : 0;
}

/* Backtracks along the projected direction; false when nothing lower was found. */
static bool search_line(struct state *st, min_fn f, void *arg, int *evals, double *f1)
{
    int n = st->box->n;
    double t = st->pairs > 0 ? 1 : first_step(st);
    for (int k = 0; k<HALVINGS && * evals> 0 && t > 0; k++) {
        for (int i = 0; i < n; i++) {
            st->x1[i] = st->x[i] + t * st->dir[i];
        }
        project(st->box, st->x1);
        double gain = 0;
        for (int i = 0; i < n; i++) {
            gain += st->g[i] * (st->x1[i] - st->x[i]);
        }
        *f1 = f(arg, st->x1, st->g1);
        --*evals;
        if (isfinite(*f1) && gain < 0 && *f1 <= st->f + ARMIJO * gain) {
            return true;
        }
        /* The minimum of the parabola through both, kept within [0.1, 0.5] of the step. */
        double q = isfinite(*f1) ? -gain / (2 * (*f1 - st->f - gain)) : 0.1;
        t *= q > 0.1 ? fmin(q, 0.5) : 0.1;
    }
    return false;
}

static bool converged(const struct state *st)
{
    for (int i = 0; i < st->box->n; i++) {
        if (!is_held(st, i) && fabs(st->g[i]) > st->box->gtol) {
            return false;
        }
    }
    return true;
}

static void descend(struct state *st, min_fn f, void *arg)
{
    size_t size = (size_t)st->box->n * sizeof(double);
    int evals = st->box->evals - 1;
    st->f = f(arg, st->x, st->g);
    while (isfinite(st->f) && evals > 0 && !converged(st)) {
        double f1 = 0;
        direction(st);
        if (alg_dot(st->dir, st->g, st->box->n) >= 0) {
            st->pairs = 0;
            direction(st);
        }
        if (!search_line(st, f, arg, &evals, &f1)) {
            if (st->pairs == 0) {
                return;
            }
            st->pairs = 0;
            continue;
        }
        bool small = st->f - f1 < st->box->ftol * (1 + fabs(st->f));
        remember(st);
        memcpy(st->x, st->x1, size);
        memcpy(st->g, st->g1, size);
        st->f = f1;
        if (small) {
            return;
        }
    }
}

double min_in_box(const struct min_box *box, min_fn f, void *arg, double *x)
{
    size_t n = (size_t)box->n;
    double *work = xcalloc((4 + 2 * MEMORY) * n + 1, sizeof(*work));
    struct state st = {.box = box,
                       .x = x,
                       .g = work,
                       .x1 = work + n,
                       .g1 = work + 2 * n,
                       .dir = work + 3 * n,
                       .s = work + 4 * n,
                       .y = work + (4 + MEMORY) * n};
    project(box, x);
    descend(&st, f, arg);
    free(work);
    return st.f;
}
