/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_propose.h"

#include "base/alloc.h"
#include "optimizers/gp_algebra.h"
#include "optimizers/gp_min.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SPREAD 512 /* candidates over the region */
#define MUTANTS 80 /* candidates around each elite */
#define STARTS 5   /* ascents */
#define ASCENT 60  /* evaluations of one */
#define ROUNDS 6   /* hill-climbing steps over few-valued parameters */
#define VALUES 10  /* alternatives of one parameter tried in each */
#define DRAW 400   /* candidates of a Thompson draw */

/* Candidates: raw[i * n + j], x[j * ld + i]. */
struct pool {
    int m, cap;
    size_t ld;
    double *raw, *x, *value;
};

static void pool_init(struct pool *p, const struct gp_domain *dom, int cap)
{
    p->m = 0;
    p->cap = cap;
    p->ld = ((size_t)cap + 7) / 8 * 8;
    p->raw = xcalloc((size_t)cap, (size_t)(dom->n + 1) * sizeof(double));
    p->x = xcalloc((size_t)dom->d, p->ld * sizeof(double));
    p->value = xcalloc(p->ld, sizeof(double));
}

static void pool_fini(struct pool *p)
{
    free(p->raw);
    free(p->x);
    free(p->value);
}

static double *pool_raw(const struct pool *p, const struct gp_domain *dom, int i)
{
    return p->raw + (size_t)i * (size_t)dom->n;
}

/* The raw point written at index m becomes a candidate, moved to meet the space's constraints. */
static void pool_push(struct pool *p, const struct gp_search *s, double *x)
{
    const struct gp_domain *dom = s->domain;
    gp_domain_meet(dom, s->seed, (uint64_t)p->m, pool_raw(p, dom, p->m));
    gp_domain_snap(dom, pool_raw(p, dom, p->m), false, x);
    for (int j = 0; j < dom->d; j++) {
        p->x[(size_t)j * p->ld + (size_t)p->m] = x[j];
    }
    p->m++;
}

/* In a finite space: is x a point of the data, told or pending? */
static bool is_known(const struct gp_search *s, const double *x, size_t stride)
{
    const struct gp *gp = s->acq->gp;
    for (int i = 0; s->domain->finite && i < gp->n; i++) {
        int j = 0;
        while (j < s->domain->n && gp->x[(size_t)j * gp->ld + (size_t)i] == x[(size_t)j * stride]) {
            j++;
        }
        if (j == s->domain->n) {
            return true;
        }
    }
    return false;
}

/* The acquisition of all candidates; points of the data come last. */
static void value_all(const struct gp_search *s, struct pool *p)
{
    gp_acq_many(s->acq, p->x, p->ld, p->m, p->value);
    for (int i = 0; i < p->m; i++) {
        if (is_known(s, p->x + i, p->ld)) {
            p->value[i] = -INFINITY;
        }
    }
}

static double in_region(const struct gp_search *s, int j, double u)
{
    return fmin(fmax(u, s->lo[j]), s->hi[j]);
}

static void spread(struct gp_search *s, struct pool *p, int count, double *x)
{
    for (int i = 0; i < count; i++) {
        double *raw = pool_raw(p, s->domain, p->m);
        for (int j = 0; j < s->domain->n; j++) {
            raw[j] = s->lo[j] + pcg64_double(&s->g) * (s->hi[j] - s->lo[j]);
        }
        pool_push(p, s, x);
    }
}

/* One to all parameters changed, numbers by a normal step whose size is drawn log-uniformly. */
static void mutate(struct gp_search *s, const double *from, double *raw)
{
    const struct gp_domain *dom = s->domain;
    double size = 0.5 * pow(10, -3 * pcg64_double(&s->g));
    double share = pcg64_double(&s->g);
    int sure = (int)pcg64_below(&s->g, (uint64_t)dom->n);
    for (int j = 0; j < dom->n; j++) {
        bool change = pcg64_double(&s->g) < share || j == sure;
        double u = pcg64_double(&s->g);
        double z = pcg64_normal(&s->g);
        raw[j] = from[j];
        if (change && dom->kind[j] == GP_CHOICE) {
            raw[j] = share < 0.5 || j == sure ? u : raw[j];
        } else if (change && !dom->smooth[j] && dom->cells[j] > 1) {
            double step = fmax(1, fabs(z) * size * dom->cells[j]) / dom->cells[j];
            raw[j] += z < 0 ? -step : step;
        } else if (change) {
            raw[j] += size * z;
        }
        raw[j] = in_region(s, j, raw[j]);
    }
}

static void breed(struct gp_search *s, struct pool *p, int each, double *x)
{
    for (int e = 0; e < s->n_elite; e++) {
        for (int i = 0; i < each; i++) {
            mutate(s, s->elite + (size_t)e * (size_t)s->domain->n, pool_raw(p, s->domain, p->m));
            pool_push(p, s, x);
        }
    }
}

/* ---- ascent ---- */

struct ascent {
    const struct gp_search *s;
    double *x;
    double *grad;
};

static double descend_fn(void *arg, const double *raw, double *g)
{
    struct ascent *a = arg;
    const struct gp_domain *dom = a->s->domain;
    gp_domain_snap(dom, raw, true, a->x);
    double value = gp_acq_at(a->s->acq, a->x, a->grad);
    for (int j = 0; j < dom->n; j++) {
        g[j] = dom->smooth[j] && a->x[j] != GP_INACTIVE ? -a->grad[j] : 0;
    }
    return -value;
}

static double value_at(const struct gp_search *s, const double *raw, double *x)
{
    gp_domain_snap(s->domain, raw, false, x);
    bool unwanted = is_known(s, x, 1) || (s->basins != NULL && gp_basins_have(s->basins, x));
    return unwanted ? -INFINITY : gp_acq_at(s->acq, x, NULL);
}

/* Moves raw along the gradient of its smooth coordinates; its value once rounded. The move is
 * taken back when rounding made it a loss. */
static double ascend(const struct gp_search *s, double *raw, double value)
{
    const struct gp_domain *dom = s->domain;
    size_t n = (size_t)dom->n;
    double *work = xcalloc(4 * n + 2 * (size_t)dom->d + 1, sizeof(*work));
    double *lo = work;
    double *hi = work + n;
    double *moved = work + 2 * n;
    struct ascent a = {.s = s, .x = work + 4 * n, .grad = work + 4 * n + (size_t)dom->d};
    bool any = false;
    for (int j = 0; j < dom->n; j++) {
        any = any || dom->smooth[j];
        lo[j] = dom->smooth[j] ? s->lo[j] : raw[j];
        hi[j] = dom->smooth[j] ? s->hi[j] : raw[j];
    }
    if (any) {
        memcpy(moved, raw, n * sizeof(*raw));
        struct min_box box = {
            .n = dom->n, .lo = lo, .hi = hi, .evals = ASCENT, .gtol = 1e-6, .ftol = 1e-9};
        (void)min_in_box(&box, descend_fn, &a, moved);
        gp_domain_meet(dom, s->seed, (uint64_t)SPREAD, moved);
        double now = value_at(s, moved, a.x);
        if (now > value) {
            memcpy(raw, moved, n * sizeof(*raw));
            value = now;
        }
    }
    free(work);
    return value;
}

/* ---- hill climbing ---- */

/* Adds raw with coordinate j changed, in every way or VALUES of them. */
static void add_changes(struct gp_search *s, struct pool *p, const double *raw, int j, double *x)
{
    const struct gp_domain *dom = s->domain;
    double cells = dom->cells[j];
    double at = fmin(floor(raw[j] * cells), cells - 1);
    bool all = cells <= VALUES + 1;
    for (int k = 0; k < VALUES && k < cells - 1; k++) {
        double to = 0;
        if (all) {
            to = k < at ? k : k + 1;
        } else if (dom->kind[j] != GP_CHOICE && k < 2) {
            to = at + (k == 0 ? -1 : 1);
        } else if (dom->smooth[j]) {
            break;
        } else {
            to = (double)pcg64_below(&s->g, (uint64_t)cells);
        }
        double u = (to + 0.5) / cells;
        if (to >= 0 && to < cells && u >= s->lo[j] && u <= s->hi[j]) {
            double *c = pool_raw(p, dom, p->m);
            memcpy(c, raw, (size_t)dom->n * sizeof(*raw));
            c[j] = u;
            pool_push(p, s, x);
        }
    }
}

static double climb(struct gp_search *s, double *raw, double value)
{
    const struct gp_domain *dom = s->domain;
    struct pool p;
    double *x = xcalloc((size_t)dom->d, sizeof(*x));
    pool_init(&p, dom, VALUES * dom->n + 1);
    for (int round = 0; round < ROUNDS; round++) {
        p.m = 0;
        for (int j = 0; j < dom->n; j++) {
            if (isfinite(dom->cells[j]) && dom->cells[j] > 1) {
                add_changes(s, &p, raw, j, x);
            }
        }
        if (p.m == 0) {
            break;
        }
        value_all(s, &p);
        int best = -1;
        for (int i = 0; i < p.m; i++) {
            if (p.value[i] > (best < 0 ? value : p.value[best])) {
                best = i;
            }
        }
        if (best < 0) {
            break;
        }
        memcpy(raw, pool_raw(&p, dom, best), (size_t)dom->n * sizeof(*raw));
        value = ascend(s, raw, p.value[best]);
    }
    pool_fini(&p);
    free(x);
    return value;
}

/* The best candidate in [from, to) that is none of the n_taken; -1 when there is none. */
static int best_of(const struct pool *p, int from, int to, const int *taken, int n_taken)
{
    int best = -1;
    for (int i = from; i < to; i++) {
        bool is_taken = false;
        for (int k = 0; k < n_taken; k++) {
            is_taken = is_taken || taken[k] == i;
        }
        if (!is_taken && (best < 0 || p->value[i] > p->value[best])) {
            best = i;
        }
    }
    return best;
}

static bool is_in_a_basin(const struct gp_search *s, const struct pool *p, int i, double *x)
{
    for (int j = 0; j < s->domain->d; j++) {
        x[j] = p->x[(size_t)j * p->ld + (size_t)i];
    }
    return gp_basins_have(s->basins, x);
}

/* The best candidate in [0, to) that is none of the n_taken and in no basin. */
static int best_outside(const struct gp_search *s, struct pool *p, int to, const int *taken,
                        int n_taken, double *x)
{
    int i = best_of(p, 0, to, taken, n_taken);
    while (s->basins != NULL && i >= 0 && isfinite(p->value[i]) && is_in_a_basin(s, p, i, x)) {
        p->value[i] = -INFINITY;
        i = best_of(p, 0, to, taken, n_taken);
    }
    return i;
}

static bool has_few_valued(const struct gp_domain *dom)
{
    bool any = false;
    for (int j = 0; j < dom->n; j++) {
        any = any || isfinite(dom->cells[j]);
    }
    return any;
}

void gp_propose(struct gp_search *s, double *raw)
{
    const struct gp_domain *dom = s->domain;
    struct pool p;
    int taken[STARTS];
    int n = 0;
    double top = -INFINITY;
    double *x = xcalloc((size_t)(dom->d + dom->n), sizeof(*x));
    double *at = x + dom->d;
    pool_init(&p, dom, SPREAD + MUTANTS * s->n_elite);
    spread(s, &p, SPREAD, x);
    breed(s, &p, MUTANTS, x);
    value_all(s, &p);
    while (n < STARTS) {
        /* By turns the best of all and of those over the region. */
        int i = best_outside(s, &p, n % 2 == 0 ? p.m : SPREAD, taken, n, x);
        if (i < 0) {
            break;
        }
        taken[n++] = i;
        memcpy(at, pool_raw(&p, dom, i), (size_t)dom->n * sizeof(*at));
        double value = ascend(s, at, p.value[i]);
        if (n <= 2 && has_few_valued(dom)) {
            value = climb(s, at, value);
        }
        if (value > top || n == 1) {
            top = value;
            memcpy(raw, at, (size_t)dom->n * sizeof(*raw));
        }
    }
    if (s->value != NULL) {
        *s->value = top;
    }
    pool_fini(&p);
    free(x);
}

/* ---- Thompson sampling ---- */

/* Posterior covariance of the pool's points, from the covariance with the data solved by L. */
static void joint(const struct gp *gp, const struct pool *p, const double *v, double *cov)
{
    struct gp prior = *gp; /* the pool's points take the place of the data */
    prior.x = p->x;
    prior.ld = p->ld;
    double *x = xcalloc((size_t)gp->d, sizeof(*x));
    double *t = xcalloc((size_t)p->m, (size_t)(gp->n + 8) * sizeof(*t));
    for (int i = 0; i < p->m; i++) {
        for (int j = 0; j < gp->d; j++) {
            x[j] = p->x[(size_t)j * p->ld + (size_t)i];
        }
        prior.n = i + 1;
        gp_cov(&prior, x, cov + (size_t)i * p->ld, NULL);
        for (int k = 0; k < gp->n; k++) {
            t[(size_t)i * (size_t)gp->n + (size_t)k] = v[(size_t)k * p->ld + (size_t)i];
        }
    }
    alg_subtract_product(cov, p->ld, t, (size_t)gp->n, v, p->ld, p->m, p->m, gp->n);
    free(t);
    free(x);
}

void gp_propose_draw(struct gp_search *s, double *raw)
{
    const struct gp_domain *dom = s->domain;
    const struct gp *gp = s->acq->gp;
    struct pool p;
    pool_init(&p, dom, DRAW);
    double *x = xcalloc((size_t)dom->d, sizeof(*x));
    int each = s->n_elite > 0 ? DRAW / 2 / s->n_elite : 0;
    breed(s, &p, each, x);
    spread(s, &p, DRAW - p.m, x);
    double *v = xcalloc((size_t)(gp->n + gp->draws) + 1, p.ld * sizeof(*v));
    double *mean = v + (size_t)gp->n * p.ld;
    double *cov = xcalloc((size_t)p.m, p.ld * sizeof(*cov));
    double *z = xcalloc((size_t)p.m, sizeof(*z));
    gp_at_many(gp, p.x, p.ld, p.m, mean, mean + (size_t)gp->draws * p.ld, v);
    joint(gp, &p, v, cov);
    for (int i = 0; i < p.m; i++) {
        z[i] = pcg64_normal(&s->g);
        cov[(size_t)i * p.ld + (size_t)i] += 1e-6 * (1 + gp->s2);
    }
    if (!alg_cholesky(cov, p.ld, p.m)) {
        memset(cov, 0, (size_t)p.m * p.ld * sizeof(*cov));
    }
    int best = 0;
    for (int i = 0; i < p.m; i++) {
        p.value[i] = mean[i] + alg_dot(cov + (size_t)i * p.ld, z, i + 1);
        best = p.value[i] < p.value[best] ? i : best;
    }
    memcpy(raw, pool_raw(&p, dom, best), (size_t)dom->n * sizeof(*raw));
    free(v);
    free(cov);
    free(z);
    free(x);
    pool_fini(&p);
}
