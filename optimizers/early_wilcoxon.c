/* SPDX-License-Identifier: Apache-2.0
 *
 * For objectives that are a mean over folds or instances, reported as one value a step: a trial is
 * paired with the best completed trial over the steps that both have reported, and stops when the
 * signed-rank test of Wilcoxon (Biometrics Bulletin 1, 1945), one-sided, is sure that it is worse.
 * The differences that are zero count half to each side. Up to EXACT_MAX pairs the p-value is that
 * of the permutations, ties included; beyond, of the normal approximation with correction for ties.
 *
 * For safety a trial whose own mean is no worse than the best trial's goes on whatever the test
 * says.
 */
#include "optimizers/early_rule.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 1000 /* reports of a trial that are compared: the first ones */
#define EXACT_MAX 25

enum { OPT_P_THRESHOLD, OPT_MIN_PAIRS };

static const struct opt_option wilcoxon_options[] = {
    {"p_threshold", OPT_T_REAL, 0, 1, 0.1, NULL,
     "a trial stops when the p-value that it is no worse than the best is below this"},
    {"min_pairs", OPT_T_INT, 2, STEPS_MAX, 2, NULL,
     "steps that a trial must have in common with the best before it can be stopped"},
    EARLY_COMBINE_ROW,
    {0},
};

struct fold {
    int64_t step;
    double value;
};

struct folds {
    struct fold *at; /* by step */
    int n, cap;
    double sum;
};

IDTAB(folds_by_trial, struct folds)

struct wilcoxon {
    struct folds_by_trial trials;
    struct folds best; /* of the best completed trial */
    double best_value;
    int64_t best_trial; /* 0 = none yet */
};

/* ---- the test ---- */

struct diff {
    double size;
    int sign;
    int rank2; /* twice the rank, which ties share */
};

static int by_size(const void *a, const void *b)
{
    const struct diff *x = a;
    const struct diff *y = b;
    return x->size != y->size ? (x->size < y->size ? -1 : 1) : 0;
}

/* Ranks the differences; returns the sum of t^3 - t over the groups of t equal ones. */
static double set_ranks(struct diff *d, int n)
{
    double ties = 0;
    qsort(d, (size_t)n, sizeof(*d),
          by_size); /* equal ones get equal ranks: their order is nothing */
    for (int i = 0; i < n;) {
        int j = i;
        while (j < n && d[j].size == d[i].size) {
            j++;
        }
        double t = j - i;
        ties += t * t * t - t;
        for (int k = i; k < j; k++) {
            d[k].rank2 = i + 1 + j;
        }
        i = j;
    }
    return ties;
}

/* P(sum of the ranks with a positive sign >= the seen one) when every sign of the differences that
 * are not zero is a coin's; by counting the subsets of each doubled sum. */
static double exact_p(const struct diff *d, int n)
{
    enum { SUMS = EXACT_MAX * (EXACT_MAX + 1) + 1 };
    double count[SUMS] = {1};
    int seen = 0;
    int all = 0;
    double total = 1;
    double above = 0;
    for (int i = 0; i < n; i++) {
        if (d[i].sign == 0) {
            continue;
        }
        all += d[i].rank2;
        seen += d[i].sign > 0 ? d[i].rank2 : 0;
        total *= 2;
        for (int s = all; s >= d[i].rank2; s--) {
            count[s] += count[s - d[i].rank2];
        }
    }
    for (int s = seen; s <= all; s++) {
        above += count[s];
    }
    return above / total;
}

static double normal_p(const struct diff *d, int n, double ties)
{
    double plus = 0;
    for (int i = 0; i < n; i++) {
        plus += d[i].sign > 0 ? d[i].rank2 / 2.0 : d[i].sign == 0 ? d[i].rank2 / 4.0 : 0;
    }
    double mean = (double)n * (n + 1) / 4;
    double var = ((double)n * (n + 1) * (2 * n + 1) - ties / 2) / 24;
    return var > 0 ? 0.5 * erfc((plus - mean) / sqrt(2 * var)) : 1;
}

static double p_worse(struct diff *d, int n)
{
    double ties = set_ranks(d, n);
    return n <= EXACT_MAX ? exact_p(d, n) : normal_p(d, n, ties);
}

/* ---- the rule ---- */

static void keep(struct folds *f, int64_t step, double value)
{
    if (f->n == f->cap) {
        f->cap = f->cap > 0 ? 2 * f->cap : 8;
        f->at = xreallocarray(f->at, (size_t)f->cap, sizeof(*f->at));
    }
    int i = f->n++; /* folds that run side by side end in any order */
    for (; i > 0 && f->at[i - 1].step > step; i--) {
        f->at[i] = f->at[i - 1];
    }
    f->at[i] = (struct fold){step, value};
    f->sum += value;
}

static int pair_up(const struct folds *a, const struct folds *b, struct diff *out)
{
    int n = 0;
    for (int i = 0, k = 0; i < a->n && k < b->n;) {
        if (a->at[i].step == b->at[k].step) {
            double v = a->at[i++].value - b->at[k++].value;
            out[n++] = (struct diff){.size = fabs(v), .sign = (v > 0) - (v < 0)};
        } else if (a->at[i].step < b->at[k].step) {
            i++;
        } else {
            k++;
        }
    }
    return n;
}

static bool report(void *self, const struct early_config *cfg, int64_t trial, int64_t step,
                   double value, char **ret_why)
{
    struct wilcoxon *w = self;
    struct folds *f = folds_by_trial_of(&w->trials, trial);
    struct diff d[STEPS_MAX];
    if (f->n == STEPS_MAX) {
        return false;
    }
    keep(f, step, value);
    double mean = f->sum / f->n;
    double best = w->best_trial != 0 ? w->best.sum / w->best.n : 0;
    if (w->best_trial == 0 || mean <= best) {
        return false;
    }
    int n = pair_up(f, &w->best, d);
    double p = n >= (int)cfg->values[OPT_MIN_PAIRS] ? p_worse(d, n) : 1;
    if (p >= cfg->values[OPT_P_THRESHOLD]) {
        return false;
    }
    *ret_why =
        xasprintf("at step %lld its mean %.6g is worse than %.6g of trial %lld, the best, over "
                  "%d common steps: p = %.3g, below %.6g",
                  (long long)step, early_shown(cfg, mean), early_shown(cfg, best),
                  (long long)w->best_trial, n, p, cfg->values[OPT_P_THRESHOLD]);
    return true;
}

static void finish(void *self, int64_t trial, enum opt_outcome outcome, const struct opt_result *r)
{
    struct wilcoxon *w = self;
    struct folds *f = folds_by_trial_of(&w->trials, trial);
    bool better =
        w->best_trial == 0 || (r != NULL && (r->value < w->best_value ||
                                             (r->value == w->best_value && trial < w->best_trial)));
    if (outcome == OPT_COMPLETED && r != NULL && f->n > 0 && better) {
        free(w->best.at);
        w->best = *f;
        w->best_value = r->value;
        w->best_trial = trial;
    } else {
        free(f->at);
    }
    *f = (struct folds){0};
}

static void fini(void *self)
{
    struct wilcoxon *w = self;
    for (int64_t i = 0; i < w->trials.n; i++) {
        free(w->trials.at[i].at);
    }
    free(w->trials.at);
    free(w->best.at);
}

const struct early_rule early_wilcoxon = {
    .name = "wilcoxon",
    .version = 1,
    .summary = "stops a trial that is worse than the best one, step by step, beyond chance",
    .paper = "Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1 (1945)",
    .options = wilcoxon_options,
    .paired = true,
    .state_size = sizeof(struct wilcoxon),
    .fini = fini,
    .report = report,
    .finish = finish,
};
