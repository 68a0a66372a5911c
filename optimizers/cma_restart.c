/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/cma_restart.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOL_FUN 1e-12    /* of the spread of the first generation */
#define LAMBDA_FACTOR 64 /* no population grows beyond so many times the first */

void cma_restart_init(struct cma_restart *r, enum cma_restarts kind, int lambda, double sigma,
                      uint64_t seed)
{
    *r = (struct cma_restart){.kind = kind,
                              .lambda_start = lambda,
                              .sigma_start = sigma,
                              .seed = seed,
                              .lambda = lambda,
                              .sigma = sigma};
}

void cma_restart_fini(struct cma_restart *r)
{
    free(r->best);
    free(r->median);
}

/* Begins the record of a run: as long as the longest criterion looks back. */
static void begin(struct cma_restart *r, int n)
{
    r->length = 120 + 30 * n / r->lambda;
    r->best = xreallocarray(r->best, (size_t)r->length, sizeof(double));
    r->median = xreallocarray(r->median, (size_t)r->length, sizeof(double));
    r->n = 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *values, int n)
{
    double *v = xcalloc((size_t)n, sizeof(*v));
    memcpy(v, values, (size_t)n * sizeof(*v));
    qsort(v, (size_t)n, sizeof(*v), by_value);
    double m = (v[n / 2] + v[(n - 1) / 2]) / 2;
    free(v);
    return m;
}

/* The newest part of the record is no better than the oldest. */
static bool stagnates(const struct cma_restart *r)
{
    int part = r->length * 3 / 10;
    int newest = r->length - part;
    return r->n >= r->length && part > 0 &&
           median_of(r->best + newest, part) >= median_of(r->best, part) &&
           median_of(r->median + newest, part) >= median_of(r->median, part);
}

/* The best values of the last generations, and all of this one, are equal. */
static bool is_flat(const struct cma_restart *r, int n, const double *values, int count)
{
    int look = 10 + (30 * n + r->lambda - 1) / r->lambda;
    int held = r->n < r->length ? (int)r->n : r->length;
    double low = values[0];
    double high = values[count - 1];
    if (held < look) {
        return false;
    }
    for (int i = held - look; i < held; i++) {
        low = fmin(low, r->best[i]);
        high = fmax(high, r->best[i]);
    }
    return high - low <= TOL_FUN * r->spread;
}

const char *cma_restart_judge(struct cma_restart *r, const struct cma *c, const double *values,
                              int count, int64_t trials)
{
    if (r->kind == CMA_RESTARTS_NONE || count == 0) {
        return NULL;
    }
    if (r->best == NULL || c->updates <= 1) {
        begin(r, c->is.n);
        r->spread = values[count - 1] - values[0];
    }
    r->spent[r->small] += trials;
    if (r->n >= r->length) {
        memmove(r->best, r->best + 1, (size_t)(r->length - 1) * sizeof(double));
        memmove(r->median, r->median + 1, (size_t)(r->length - 1) * sizeof(double));
    }
    int at = r->n < r->length ? (int)r->n : r->length - 1;
    r->best[at] = values[0];
    r->median[at] = values[count / 2];
    r->n++;
    const char *why = cma_stuck(c);
    if (why == NULL && is_flat(r, c->is.n, values, count)) {
        why = "tolfun";
    }
    return why == NULL && stagnates(r) ? "stagnation" : why;
}

void cma_restart_next(struct cma_restart *r)
{
    int most = r->lambda_start * LAMBDA_FACTOR;
    struct pcg64 g;
    most = most < CMA_POPULATION_MAX ? most : CMA_POPULATION_MAX;
    r->run++;
    r->small = r->kind == CMA_RESTARTS_BIPOP && r->run > 1 && r->spent[1] < r->spent[0];
    if (r->small) {
        pcg_stream(&g, r->seed, "cma-restart", (uint64_t)r->run);
        double u = pcg64_double(&g);
        double large = ldexp(r->lambda_start, r->doublings);
        r->lambda = (int)(r->lambda_start * pow(large / 2 / r->lambda_start, u * u));
        r->lambda = r->lambda < r->lambda_start ? r->lambda_start : r->lambda;
        r->sigma = r->sigma_start * pow(10, -2 * pcg64_double(&g));
    } else {
        r->doublings++;
        r->lambda = (int)fmin(ldexp(r->lambda_start, r->doublings), most);
        r->sigma = r->sigma_start;
    }
    r->lambda = r->lambda < most ? r->lambda : most;
}
