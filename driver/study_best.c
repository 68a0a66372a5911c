/* SPDX-License-Identifier: Apache-2.0
 *
 * The best trial, kept as values come in: the best completed one; while there is none, the best at
 * the highest step. Feasible ones first; ties go to the lower id. With several objectives it is the
 * best in the first one.
 */
#include "driver/study_impl.h"

#include <math.h>

/* Less violation of the outcome constraints first, then the (first) objective, then the id. */
static bool is_better(const struct study *s, const struct trial *a, const struct trial *b)
{
    double x = trial_violation(s, a), y = trial_violation(s, b);
    if (x != y) {
        return x < y;
    }
    x = study_measure(s, a, 0);
    y = study_measure(s, b, 0);
    return x == y ? a->id < b->id : study_is_better(s, x, y);
}

void best_completed(struct study *s, const struct trial *t)
{
    const struct trial *best = trial_at(s, s->best_completed);
    if (best == NULL || is_better(s, t, best)) {
        s->best_completed = t->id;
    }
}

static bool counts(const struct study *s, const struct trial *t)
{
    return !isnan(t->value) && study_folds(s) == 1 && !trial_is_refit(t) && t->state != TRIAL_FAILED && t->state != TRIAL_CANCELLED;
}

static bool is_ahead(const struct study *s, const struct trial *a, const struct trial *b)
{
    if (a->value_step != b->value_step) {
        return a->value_step > b->value_step;
    }
    return is_better(s, a, b);
}

void best_reported(struct study *s, const struct trial *t)
{
    if (s->best_completed != 0 || *s->best_partial < 0 || !counts(s, t)) {
        return;
    }
    const struct trial *best = trial_at(s, *s->best_partial);
    if (best == NULL || is_ahead(s, t, best)) {
        *s->best_partial = t->id;
    }
}

void best_gone(struct study *s, const struct trial *t)
{
    if (*s->best_partial == t->id) {
        *s->best_partial = -1;
    }
}

/* Only after the best so far failed or was cancelled, and only while none has completed. */
static void look_for_partial(const struct study *s)
{
    const struct trial *best = NULL;
    for (int64_t id = 1; id <= s->n_trials; id++) {
        const struct trial *t = trial_at(s, id);
        if (counts(s, t) && (best == NULL || is_ahead(s, t, best))) {
            best = t;
        }
    }
    *s->best_partial = best != NULL ? best->id : 0;
}

const struct trial *study_best(const struct study *s)
{
    if (s->best_completed != 0) {
        return trial_at(s, s->best_completed);
    }
    if (*s->best_partial < 0) {
        look_for_partial(s);
    }
    return trial_at(s, *s->best_partial);
}
