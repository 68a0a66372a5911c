/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules that compare a trial with a quantile of the others at the same step.
 *
 * median: Vizier's (Golovin et al., KDD 2017): a trial stops at step s when its best value so far
 * is worse than the median of the running averages, up to s, of the other trials. percentile: when
 * its best value so far is not among the best p percent of the others' values at s.
 *
 * Trials are compared at equal steps, never by position in a list. Other trials count as soon as
 * they have reached s, running or ended: waiting for ended ones would leave the first round without
 * a rule. A report stays counted when its trial fails later; it was a true value.
 */
#include "optimizers/early_rule.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 10000  /* distinct steps compared; later ones never stop a trial */
#define VALUES_MAX 10000 /* trials that form the quantile of one step: the first to reach it */

/* Both tables begin alike; percentile has its own row before "combine". */
enum { OPT_MIN_TRIALS, OPT_MIN_STEP, OPT_INTERVAL, OPT_PERCENTILE };

#define COMMON_ROWS                                                                                \
    {"min_trials",                                                                                 \
     OPT_T_INT,                                                                                    \
     1,                                                                                            \
     1e6,                                                                                          \
     10,                                                                                           \
     NULL,                                                                                         \
     "other trials that must have reached a step before it can stop one"},                         \
        EARLY_MIN_STEP_ROW,                                                                        \
    {                                                                                              \
        "interval", OPT_T_INT, 1, 1e15, 1, NULL, "compare at steps that are a multiple of this"    \
    }

static const struct opt_option median_options[] = {COMMON_ROWS, EARLY_COMBINE_ROW, {0}};

static const struct opt_option percentile_options[] = {
    COMMON_ROWS,
    {"percentile", OPT_T_REAL, 0, 100, 25, NULL,
     "the best part of the trials, in percent, that runs on"},
    EARLY_COMBINE_ROW,
    {0},
};

/* Two heaps: `low` has its greatest on top, `high` its smallest, and low holds floor((n - 1) q) + 1
 * of the n, so that the q-quantile lies between their tops. */
struct at_step {
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

struct quantile_rule {
    double q;
    bool averages;         /* others count by their running average, else by their value */
    struct at_step *steps; /* by step */
    int n_steps, cap_steps;
    struct curves curves;
};

/* ---- the running quantile ---- */

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

static void add(struct at_step *m, double q, double v)
{
    int n = m->n_low + m->n_high;
    if (n >= VALUES_MAX) {
        return;
    }
    if (n + 1 >= m->cap) {
        m->cap = m->cap > 0 ? 2 * m->cap : 8;
        m->low = xreallocarray(m->low, (size_t)m->cap, sizeof(*m->low));
        m->high = xreallocarray(m->high, (size_t)m->cap, sizeof(*m->high));
    }
    if (m->n_low > 0 && v < -m->low[0]) {
        push(m->low, &m->n_low, -v);
    } else {
        push(m->high, &m->n_high, v);
    }
    int want = (int)floor((double)n * q) + 1;
    if (m->n_low > want) {
        push(m->high, &m->n_high, -pop(m->low, &m->n_low));
    } else if (m->n_low < want) {
        push(m->low, &m->n_low, -pop(m->high, &m->n_high));
    }
}

/* Interpolated linearly between the two values around it. */
static double quantile(const struct at_step *m, double q)
{
    double at = (double)(m->n_low + m->n_high - 1) * q;
    double part = at - floor(at);
    MAG_ASSERT(m->n_low > 0, "the quantile of nothing");
    return part > 0 ? -m->low[0] * (1 - part) + m->high[0] * part : -m->low[0];
}

/* ---- the rules ---- */

static struct at_step *step_of(struct quantile_rule *e, int64_t step)
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
    e->steps[lo] = (struct at_step){.step = step};
    return &e->steps[lo];
}

static char *why_of(const struct quantile_rule *e, const struct early_config *cfg, int64_t step,
                    double best, double limit, int others)
{
    if (e->averages) {
        return xasprintf("at step %lld its best value so far, %.6g, is worse than %.6g, the "
                         "median of %d other trials",
                         (long long)step, early_shown(cfg, best), early_shown(cfg, limit), others);
    }
    return xasprintf("at step %lld its best value so far, %.6g, is worse than %.6g, which the best "
                     "%.6g %% of %d other trials reached",
                     (long long)step, early_shown(cfg, best), early_shown(cfg, limit), 100 * e->q,
                     others);
}

static bool report(void *self, const struct early_config *cfg, int64_t trial, int64_t step,
                   double value, char **ret_why)
{
    struct quantile_rule *e = self;
    struct curve *c = curves_of(&e->curves, trial);
    c->best = c->n == 0 || value < c->best ? value : c->best;
    c->sum += value;
    c->n++;
    if (step % (int64_t)cfg->values[OPT_INTERVAL] != 0 ||
        step < (int64_t)cfg->values[OPT_MIN_STEP]) {
        return false;
    }
    struct at_step *m = step_of(e, step);
    if (m == NULL) {
        return false;
    }
    int others = m->n_low + m->n_high;
    double limit = others > 0 ? quantile(m, e->q) : 0;
    bool stop = others >= (int)cfg->values[OPT_MIN_TRIALS] && c->best > limit;
    add(m, e->q, e->averages ? c->sum / (double)c->n : value);
    if (stop) {
        *ret_why = why_of(e, cfg, step, c->best, limit, others);
    }
    return stop;
}

static void finish(void *self, int64_t trial, enum opt_outcome outcome, const struct opt_result *r)
{
    struct quantile_rule *e = self;
    *curves_of(&e->curves, trial) = (struct curve){0};
}

static void fini(void *self)
{
    struct quantile_rule *e = self;
    for (int i = 0; i < e->n_steps; i++) {
        free(e->steps[i].low);
        free(e->steps[i].high);
    }
    free(e->steps);
    free(e->curves.at);
}

static enum mag_status median_init(void *self, const struct early_config *cfg,
                                   const char **ret_pointer, struct mag_err *err)
{
    struct quantile_rule *e = self;
    e->q = 0.5;
    e->averages = true;
    return MAG_OK;
}

static enum mag_status percentile_init(void *self, const struct early_config *cfg,
                                       const char **ret_pointer, struct mag_err *err)
{
    struct quantile_rule *e = self;
    e->q = cfg->values[OPT_PERCENTILE] / 100;
    return MAG_OK;
}

const struct early_rule early_median = {
    .name = "median",
    .version = 1,
    .summary = "stops a trial whose best value is worse than the median of the others' averages",
    .paper = "Golovin et al., Google Vizier: A Service for Black-Box Optimization, KDD 2017",
    .options = median_options,
    .state_size = sizeof(struct quantile_rule),
    .init = median_init,
    .fini = fini,
    .report = report,
    .finish = finish,
};

const struct early_rule early_percentile = {
    .name = "percentile",
    .version = 1,
    .summary = "stops a trial that is not among the best percent at its step",
    .options = percentile_options,
    .state_size = sizeof(struct quantile_rule),
    .init = percentile_init,
    .fini = fini,
    .report = report,
    .finish = finish,
};
