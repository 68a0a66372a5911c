/* SPDX-License-Identifier: Apache-2.0
 *
 * The median rule of Vizier (Golovin et al., KDD 2017): a trial stops at step s when its best value
 * so far is worse than the median of the running averages, up to s, of the other trials. Trials are
 * compared at equal steps, never by position in a list. Other trials count as soon as they have
 * reached s, running or ended: waiting for ended ones would leave the first round without a rule. A
 * report stays counted when its trial fails later; it was a true value.
 */
#include "optimizers/early_stop.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"
#include "optimizers/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 10000  /* distinct steps compared; later ones never stop a trial */
#define VALUES_MAX 10000 /* trials that form the median of one step: the first to reach it */

enum { OPT_MIN_TRIALS, OPT_MIN_STEP, OPT_INTERVAL, OPT_COMBINE, OPTIONS };

static const struct opt_option median_options[] = {
    {"min_trials", OPT_T_INT, 1, 1e6, 10, NULL,
     "other trials that must have reached a step before it can stop one"},
    {"min_step", OPT_T_INT, 0, 1e15, 1, NULL, "first step at which a trial may be stopped"},
    {"interval", OPT_T_INT, 1, 1e15, 1, NULL, "compare at steps that are a multiple of this"},
    {"combine", OPT_T_BOOL, 0, 1, 0, NULL,
     "allow the rule beside an algorithm that itself ends trials early"},
    {0},
};

/* Two heaps share one array pair: `low` has its greatest on top, `high` its smallest, and low holds
 * as many as high or one more, so that the median is at their tops. */
struct median {
    int64_t step;
    double *low, *high;
    int n_low, n_high;
    int cap;
};

struct curve {
    double sum, best;
    int64_t n;
};

IDTAB(curves, struct curve)

struct early_stop {
    double values[OPTIONS];
    struct median *steps; /* by step */
    int n_steps, cap_steps;
    struct curves curves;
};

/* ---- the running median ---- */

/* A heap of negated or plain values with its smallest on top. */
static void push(double *heap, int *n, double v)
{
    int i = (*n)++;
    for (; i > 0 && v < heap[(i - 1) / 2]; i = (i - 1) / 2) {
        heap[i] = heap[(i - 1) / 2];
    }
    heap[i] = v;
}

static double pop(double *heap, int *n)
{
    double top = heap[0];
    double v = heap[--*n];
    int i = 0;
    for (int c = 1; c < *n; c = 2 * i + 1) {
        c += c + 1 < *n && heap[c + 1] < heap[c];
        if (v <= heap[c]) {
            break;
        }
        heap[i] = heap[c];
        i = c;
    }
    heap[i] = v;
    return top;
}

static void median_add(struct median *m, double v)
{
    if (m->n_low + m->n_high >= VALUES_MAX) {
        return;
    }
    if (m->n_low + 1 >= m->cap) {
        m->cap = m->cap > 0 ? 2 * m->cap : 8;
        m->low = xreallocarray(m->low, (size_t)m->cap, sizeof(*m->low));
        m->high = xreallocarray(m->high, (size_t)m->cap, sizeof(*m->high));
    }
    push(m->low, &m->n_low, -v);
    push(m->high, &m->n_high, -pop(m->low, &m->n_low));
    if (m->n_high > m->n_low) {
        push(m->low, &m->n_low, -pop(m->high, &m->n_high));
    }
}

static double median_of(const struct median *m)
{
    MAG_ASSERT(m->n_low > 0, "the median of nothing");
    return m->n_low > m->n_high ? -m->low[0] : (-m->low[0] + m->high[0]) / 2;
}

/* ---- the rule ---- */

static struct median *step_of(struct early_stop *e, int64_t step)
{
    int lo = 0;
    int hi = e->n_steps;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (e->steps[mid].step < step) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo < e->n_steps && e->steps[lo].step == step) {
        return &e->steps[lo];
    }
    if (e->n_steps == STEPS_MAX) {
        return NULL;
    }
    if (e->n_steps == e->cap_steps) {
        e->cap_steps = e->cap_steps > 0 ? 2 * e->cap_steps : 16;
        e->steps = xreallocarray(e->steps, (size_t)e->cap_steps, sizeof(*e->steps));
    }
    memmove(&e->steps[lo + 1], &e->steps[lo], (size_t)(e->n_steps++ - lo) * sizeof(*e->steps));
    e->steps[lo] = (struct median){.step = step};
    return &e->steps[lo];
}

bool early_stop_report(struct early_stop *e, int64_t trial, int64_t step, double value,
                       char **ret_why)
{
    struct curve *c = curves_of(&e->curves, trial);
    c->best = c->n == 0 || value < c->best ? value : c->best;
    c->sum += value;
    c->n++;
    if (step % (int64_t)e->values[OPT_INTERVAL] != 0 || step < (int64_t)e->values[OPT_MIN_STEP]) {
        return false;
    }
    struct median *m = step_of(e, step);
    if (m == NULL) {
        return false;
    }
    int others = m->n_low + m->n_high;
    bool stop = others >= (int)e->values[OPT_MIN_TRIALS] && c->best > median_of(m);
    median_add(m, c->sum / (double)c->n);
    if (stop && ret_why != NULL) {
        *ret_why = xasprintf(
            "at step %lld its best value so far is worse than the median of %d other trials",
            (long long)step, others);
    }
    return stop;
}

void early_stop_finish(struct early_stop *e, int64_t trial, enum opt_outcome outcome)
{
    struct curve *c = curves_of(&e->curves, trial);
    *c = (struct curve){0};
}

struct early_stop *early_stop_create(const json_t *object, const char *pointer,
                                     struct mjson_issues *is)
{
    int before = is->total;
    const json_t *rule = json_object_get(object, "rule");
    if (!json_is_object(object) || (rule != NULL && !json_is_string(rule))) {
        mjson_issue(is, pointer, "must be an object such as {\"rule\": \"median\"}");
        return NULL;
    }
    if (rule == NULL || strcmp(json_string_value(rule), "median") != 0) {
        mjson_issue_at(is, pointer, "rule", "%s%.60s%s; this build has \"median\"",
                       rule != NULL ? "no rule \"" : "the rule is missing",
                       rule != NULL ? json_string_value(rule) : "", rule != NULL ? "\"" : "");
        return NULL;
    }
    struct early_stop *e = xcalloc(1, sizeof(*e));
    options_parse(median_options, "rule", object, pointer, is, e->values);
    if (is->total > before) {
        early_stop_destroy(e);
        return NULL;
    }
    return e;
}

void early_stop_destroy(struct early_stop *e)
{
    if (e == NULL) {
        return;
    }
    for (int i = 0; i < e->n_steps; i++) {
        free(e->steps[i].low);
        free(e->steps[i].high);
    }
    free(e->steps);
    free(e->curves.at);
    free(e);
}

bool early_stop_may_combine(const struct early_stop *e)
{
    return e->values[OPT_COMBINE] != 0;
}

json_t *early_stop_resolved(const struct early_stop *e)
{
    json_t *object = json_pack("{s:s}", "rule", "median");
    options_write(median_options, e->values, object);
    return object;
}

const struct opt_option *early_stop_options(void)
{
    return median_options;
}
