/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/parzen.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOG_SQRT_2PI 0.91893853320467274178
#define FAR 6.0
#define MEMO_BITS 6
#define BLOCK 8 /* kernels at a time; arrays are padded to a multiple */

enum axis_kind parzen_axis(const struct param *p)
{
    if (p->type == PARAM_CATEGORICAL && !p->ordered) {
        return AXIS_CHOICE;
    }
    return p->type == PARAM_DOUBLE && p->step <= 0 ? AXIS_REAL : AXIS_CELLS;
}

static struct parzen_spot locate_cell(const struct param *p, double value)
{
    struct parzen_spot s = {.u = param_to_unit(p, value)};
    double n = param_cells(p);
    double k = param_cell_of(p, value);
    if (p->log) {
        s.lo = k <= 0 ? 0 : param_to_unit(p, value - p->step / 2);
        s.hi = k >= n - 1 ? 1 : param_to_unit(p, value + p->step / 2);
    } else {
        s.lo = k / n;
        s.hi = (k + 1) / n;
    }
    return s;
}

void parzen_locate(const struct space *s, const double *point, struct parzen_spot *spots)
{
    for (int j = 0; j < s->n; j++) {
        const struct param *p = &s->params[j];
        double v = point[j];
        if (isnan(v)) {
            spots[j] = (struct parzen_spot){NAN, NAN, NAN};
        } else if (parzen_axis(p) == AXIS_CHOICE) {
            spots[j] = (struct parzen_spot){v, v, v};
        } else if (parzen_axis(p) == AXIS_REAL) {
            double u = param_to_unit(p, v);
            spots[j] = (struct parzen_spot){u, u, u};
        } else {
            spots[j] = locate_cell(p, v);
        }
    }
}

void parzen_init(struct parzen *p, const struct space *s, double prior)
{
    *p = (struct parzen){.space = s, .prior = prior, .total = prior};
    p->turned = xcalloc((size_t)s->n, sizeof(*p->turned));
    for (int j = 0; j < s->n; j++) {
        if (parzen_axis(&s->params[j]) == AXIS_REAL && s->params[j].parent < 0) {
            p->turned[p->n_turned++] = j;
        }
    }
}

void parzen_fini(struct parzen *p)
{
    free(p->mu);
    free(p->inv);
    free(p->norm);
    free(p->weight);
    free(p->base);
    free(p->turned);
    free(p->l);
}

void parzen_clear(struct parzen *p)
{
    p->n = 0;
    p->total = p->prior;
    free(p->l);
    p->l = NULL;
    for (int k = 0; k < p->cap; k++) {
        p->base[k] = -INFINITY;
    }
}

int parzen_turned(const struct parzen *p, const int **ret)
{
    *ret = p->turned;
    return p->n_turned;
}

/* The width of turned dimension i by itself. */
static double marginal(const struct parzen *p, int i)
{
    double q = 0;
    for (int c = 0; c <= i; c++) {
        q += p->l[i * p->n_turned + c] * p->l[i * p->n_turned + c];
    }
    return sqrt(q);
}

void parzen_turn(struct parzen *p, const double *l)
{
    size_t n = (size_t)p->n_turned;
    p->l = xcalloc(n * n + 1, sizeof(*p->l));
    memcpy(p->l, l, n * n * sizeof(*l));
    p->volume = 0;
    for (int i = 0; i < p->n_turned; i++) { /* the marginals' densities are in `norm` */
        p->volume += log(marginal(p, i)) - log(l[i * p->n_turned + i]);
    }
}

/* The rows of `old` in wider rows, the rest zero. */
static void widen(double **rows, int n_rows, int old, int cap)
{
    double *wide = xcalloc((size_t)n_rows * (size_t)cap + 1, sizeof(*wide));
    for (int j = 0; j < n_rows && old > 0; j++) {
        memcpy(wide + (size_t)j * (size_t)cap, *rows + (size_t)j * (size_t)old,
               (size_t)old * sizeof(*wide));
    }
    free(*rows);
    *rows = wide;
}

static void grow(struct parzen *p)
{
    int cap = p->cap > 0 ? 2 * p->cap : 4 * BLOCK;
    widen(&p->mu, p->space->n, p->cap, cap);
    widen(&p->inv, p->space->n, p->cap, cap);
    widen(&p->norm, p->space->n, p->cap, cap);
    widen(&p->weight, 1, p->cap, cap);
    widen(&p->base, 1, p->cap, cap);
    for (int k = p->cap; k < cap; k++) {
        p->base[k] = -INFINITY;
    }
    p->cap = cap;
}

size_t parzen_room(const struct parzen *p)
{
    return (size_t)p->cap + 1;
}

/* log(Phi(b) - Phi(a)) for a < b, without cancellation in the tails. */
static double log_mass(double a, double b)
{
    if (a > 0) {
        double t = a;
        a = -b;
        b = -t;
    }
    if (b - a < 0.05) {
        double z = (a + b) / 2;
        double w = b - a;
        return log(w * (1 + (z * z - 1) * w * w / 24)) - z * z / 2 - LOG_SQRT_2PI;
    }
    if (a < -30 && b < -30) { /* erfc is zero: the leading term at the nearer end */
        return -b * b / 2 - LOG_SQRT_2PI - log(-b);
    }
    double d = (erfc(-b * M_SQRT1_2) - erfc(-a * M_SQRT1_2)) / 2;
    return d > 0 ? log(d) : -b * b / 2 - LOG_SQRT_2PI - log(fmax(-b, 1));
}

static double normaliser(enum axis_kind kind, double mu, double inv)
{
    if (isnan(mu) || kind == AXIS_CHOICE) {
        return 0;
    }
    double a = -mu * inv;
    double b = (1 - mu) * inv;
    double z = a < -8 && b > 8 ? 0 : log_mass(a, b);
    return kind == AXIS_REAL ? log(inv) - LOG_SQRT_2PI - z : -z;
}

static bool is_turned(const struct parzen *p, int j)
{
    const struct param *q = &p->space->params[j];
    return p->l != NULL && q->parent < 0 && parzen_axis(q) == AXIS_REAL;
}

void parzen_put(struct parzen *p, int k, const double *u, const double *width, double weight)
{
    const struct space *s = p->space;
    if (k == p->n) {
        if (p->n == p->cap) {
            grow(p);
        }
        p->weight[k] = 0;
        p->n++;
    }
    p->total += weight - p->weight[k];
    p->weight[k] = weight;
    p->base[k] = log(weight) + (p->l != NULL ? p->volume : 0);
    for (int j = 0, turned = 0; j < s->n; j++) {
        enum axis_kind kind = parzen_axis(&s->params[j]);
        size_t at = (size_t)j * (size_t)p->cap + (size_t)k;
        double w = is_turned(p, j) ? marginal(p, turned++) : width[j];
        p->mu[at] = u[j];
        p->inv[at] = kind == AXIS_CHOICE ? w : 1 / w;
        p->norm[at] = normaliser(kind, u[j], p->inv[at]);
        p->base[k] += s->params[j].parent < 0 ? p->norm[at] : 0;
    }
}

void parzen_drop(struct parzen *p, int k)
{
    int last = --p->n;
    p->total -= p->weight[k];
    p->weight[k] = p->weight[last];
    p->base[k] = p->base[last];
    p->base[last] = -INFINITY;
    for (int j = 0; j < p->space->n; j++) {
        size_t at = (size_t)j * (size_t)p->cap;
        p->mu[at + (size_t)k] = p->mu[at + (size_t)last];
        p->inv[at + (size_t)k] = p->inv[at + (size_t)last];
        p->norm[at + (size_t)k] = p->norm[at + (size_t)last];
    }
}

/* ---- density ---- */

static int padded(const struct parzen *p)
{
    return (p->n + BLOCK - 1) / BLOCK * BLOCK;
}

static void add_real(double *restrict acc, const double *restrict mu, const double *restrict inv,
                     int n, double x)
{
    for (int k = 0; k < n; k += BLOCK) {
        for (int i = 0; i < BLOCK; i++) {
            double z = (x - mu[k + i]) * inv[k + i];
            acc[k + i] -= 0.5 * z * z;
        }
    }
}

static void add_real_conditional(double *acc, const double *mu, const double *inv,
                                 const double *norm, int n, double x)
{
    for (int k = 0; k < n; k++) {
        double z = (x - mu[k]) * inv[k];
        acc[k] += isnan(mu[k]) ? 0 : norm[k] - 0.5 * z * z;
    }
}

/* The log of a kernel's mass in a piece. Beyond FAR sigmas a bound does: nothing depends on it. */
static double cell_mass(double mu, double inv, const struct parzen_spot *x)
{
    double a = (x->lo - mu) * inv;
    double b = (x->hi - mu) * inv;
    if (a > FAR || b < -FAR) {
        double z = a > 0 ? a : b;
        return -z * z / 2 - LOG_SQRT_2PI - log(FAR);
    }
    return log_mass(a, b);
}

/* Kernels repeat: there are few distinct values. */
struct memo {
    double mu, inv, mass;
};

static void add_cells(double *acc, const double *mu, const double *inv, const double *norm, int n,
                      const struct parzen_spot *x, bool always)
{
    struct memo memo[1 << MEMO_BITS] = {{0}};
    double log_width = log(x->hi - x->lo);
    for (int k = 0; k < n; k++) {
        if (isnan(mu[k])) {
            continue;
        }
        uint64_t bits = 0;
        memcpy(&bits, &mu[k], sizeof(bits));
        struct memo *m = &memo[bits * 0x9e3779b97f4a7c15u >> (64 - MEMO_BITS)];
        if (m->mu != mu[k] || m->inv != inv[k]) {
            *m = (struct memo){mu[k], inv[k], cell_mass(mu[k], inv[k], x)};
        }
        acc[k] += m->mass - log_width + (always ? 0 : norm[k]);
    }
}

static void add_choice(double *acc, const double *mu, const double *mix, int n, double x,
                       double cells)
{
    double last = -1;
    double own = 0;
    double other = 0;
    for (int k = 0; k < n; k++) {
        if (mix[k] != last) {
            last = mix[k];
            own = log(mix[k] + cells * (1 - mix[k]));
            other = log(mix[k]);
        }
        acc[k] += isnan(mu[k]) ? 0 : mu[k] == x ? own : other;
    }
}

static double log_sum(const double *acc, int n, double first)
{
    double top = first;
    double sum = 0;
    for (int k = 0; k < n; k++) {
        top = acc[k] > top ? acc[k] : top;
    }
    for (int k = 0; k < n; k++) {
        double d = acc[k] - top;
        sum += d > -40 ? exp(d) : 0;
    }
    return top + log(sum + exp(first - top));
}

/* The turned dimensions together: |L^-1 (x - mu)|^2, by forward substitution. */
static void add_turned(const struct parzen *p, const struct parzen_spot *at, double *acc)
{
    int d = p->n_turned;
    double *y = xcalloc((size_t)d, sizeof(*y));
    for (int k = 0; k < p->n; k++) {
        double sum = 0;
        for (int i = 0; i < d; i++) {
            int j = p->turned[i];
            double v = at[j].u - p->mu[(size_t)j * (size_t)p->cap + (size_t)k];
            for (int c = 0; c < i; c++) {
                v -= p->l[i * d + c] * y[c];
            }
            y[i] = v / p->l[i * d + i];
            sum += y[i] * y[i];
        }
        acc[k] -= sum / 2;
    }
    free(y);
}

/* `always`: the normalisers are in `acc` already. */
static void add_dimension(const struct parzen *p, int j, const struct parzen_spot *at, bool always,
                          double *acc)
{
    const struct param *q = &p->space->params[j];
    size_t from = (size_t)j * (size_t)p->cap;
    const double *mu = p->mu + from;
    const double *inv = p->inv + from;
    const double *norm = p->norm + from;
    switch (parzen_axis(q)) {
    case AXIS_REAL:
        if (always) {
            add_real(acc, mu, inv, padded(p), at->u);
        } else {
            add_real_conditional(acc, mu, inv, norm, p->n, at->u);
        }
        break;
    case AXIS_CELLS:
        add_cells(acc, mu, inv, norm, p->n, at, always);
        break;
    case AXIS_CHOICE:
        add_choice(acc, mu, inv, p->n, at->u, q->n_values);
        break;
    }
}

double parzen_log_density(const struct parzen *p, const struct parzen_spot *at, double *scratch)
{
    if (p->n > 0) {
        memcpy(scratch, p->base, (size_t)padded(p) * sizeof(*scratch));
        for (int j = 0; j < p->space->n; j++) {
            if (!isnan(at[j].u) && !is_turned(p, j)) {
                add_dimension(p, j, &at[j], p->space->params[j].parent < 0, scratch);
            }
        }
        if (p->l != NULL) {
            add_turned(p, at, scratch);
        }
    }
    return log_sum(scratch, p->n, log(p->prior)) - log(p->total);
}

/* Log weights times densities in the dimensions of `only`. */
static void add_only(const struct parzen *p, const struct parzen_spot *at, const bool *only,
                     double *acc)
{
    for (int k = 0; k < padded(p); k++) {
        acc[k] = k < p->n ? log(p->weight[k]) : -INFINITY;
    }
    for (int j = 0; j < p->space->n; j++) {
        if (only[j] && !isnan(at[j].u)) {
            add_dimension(p, j, &at[j], false, acc);
        }
    }
}

double parzen_log_margin(const struct parzen *p, const struct parzen_spot *at, const bool *only,
                         double *scratch)
{
    add_only(p, at, only, scratch);
    return log_sum(scratch, p->n, log(p->prior)) - log(p->total);
}

/* ---- sampling ---- */

static double draw_truncated(struct pcg64 *g, double mu, double sigma)
{
    for (int i = 0; i < 64; i++) {
        double x = mu + sigma * pcg64_normal(g);
        if (x >= 0 && x <= 1) {
            return x;
        }
    }
    return pcg64_double(g);
}

static int draw_among(const double *weights, int n, double total, struct pcg64 *g)
{
    double r = pcg64_double(g) * total;
    for (int k = 0; k < n; k++) {
        r -= weights[k];
        if (r < 0) {
            return k;
        }
    }
    return -1; /* the prior */
}

static int draw_kernel(const struct parzen *p, struct pcg64 *g)
{
    return draw_among(p->weight, p->n, p->total, g);
}

/* A kernel for a point some of whose coordinates are given. */
static int draw_given(const struct parzen *p, struct pcg64 *g, const bool *held,
                      const double *point)
{
    struct parzen_spot *at = xcalloc((size_t)p->space->n, sizeof(*at));
    double *w = xcalloc(parzen_room(p), sizeof(*w));
    double total = p->prior;
    parzen_locate(p->space, point, at);
    add_only(p, at, held, w);
    for (int k = 0; k < p->n; k++) {
        w[k] = exp(w[k]);
        total += w[k];
    }
    int k = draw_among(w, p->n, total, g);
    free(at);
    free(w);
    return k;
}

static bool knows(const struct parzen *p, int k, int j)
{
    return k >= 0 && !isnan(p->mu[(size_t)j * (size_t)p->cap + (size_t)k]);
}

static double draw_one(const struct parzen *p, struct pcg64 *g, int j, int k)
{
    const struct param *q = &p->space->params[j];
    if (!knows(p, k, j)) {
        return param_from_unit(q, pcg64_double(g));
    }
    size_t at = (size_t)j * (size_t)p->cap + (size_t)k;
    if (parzen_axis(q) == AXIS_CHOICE) {
        return pcg64_double(g) < p->inv[at] ? (double)pcg64_below(g, q->n_values) : p->mu[at];
    }
    return param_from_unit(q, draw_truncated(g, p->mu[at], 1 / p->inv[at]));
}

/* The turned dimensions of kernel k, drawn again while they leave the cube; `u` by dimension. */
static void draw_turned(const struct parzen *p, struct pcg64 *g, int k, double *u)
{
    int d = p->n_turned;
    double *z = xcalloc((size_t)d, sizeof(*z));
    bool inside = false;
    for (int tries = 0; !inside && tries < 50; tries++) {
        inside = true;
        for (int i = 0; i < d; i++) {
            int j = p->turned[i];
            z[i] = pcg64_normal(g);
            u[j] = p->mu[(size_t)j * (size_t)p->cap + (size_t)k];
            for (int c = 0; c <= i; c++) {
                u[j] += p->l[i * d + c] * z[c];
            }
            inside = inside && u[j] >= 0 && u[j] <= 1;
        }
    }
    for (int i = 0; !inside && i < d; i++) { /* a corner of many dimensions: reflected */
        int j = p->turned[i];
        double v = u[j] < 0 ? -u[j] : u[j] > 1 ? 2 - u[j] : u[j];
        u[j] = v >= 0 && v <= 1 ? v : pcg64_double(g);
    }
    free(z);
}

/* Some kernel in which j is active, for a point whose own kernel has it not. */
static int stand_in(const struct parzen *p, struct pcg64 *g, int j)
{
    for (int tries = 0; tries < 16; tries++) {
        int k = draw_kernel(p, g);
        if (knows(p, k, j)) {
            return k;
        }
    }
    return -1;
}

void parzen_sample(const struct parzen *p, struct pcg64 *g, const bool *held, double *point)
{
    const struct space *s = p->space;
    int k = held != NULL ? draw_given(p, g, held, point) : draw_kernel(p, g);
    int other = -1;
    double *u = xcalloc((size_t)s->n, sizeof(*u));
    bool turned = k >= 0 && p->l != NULL;
    if (turned) {
        draw_turned(p, g, k, u);
    }
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        if (held != NULL && held[j]) {
            continue;
        }
        if (!space_is_active(s, point, j)) {
            point[j] = NAN;
        } else if (turned && is_turned(p, j)) {
            point[j] = param_from_unit(&s->params[j], u[j]);
        } else {
            if (k >= 0 && !knows(p, k, j) && !knows(p, other, j)) {
                other = stand_in(p, g, j);
            }
            point[j] = draw_one(p, g, j, k >= 0 && !knows(p, k, j) ? other : k);
        }
    }
    free(u);
}
