/* SPDX-License-Identifier: Apache-2.0
 *
 * What a trial measured beside its first objective: further objectives and what outcome constraints
 * bound; how that becomes a result for the optimizer; and the Pareto front of the completed trials.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double trial_measure(const struct trial *t, int i)
{
    return i == 0 ? t->value : t->extras[i - 1];
}

bool measures_note(const struct study *s, struct trial *t, const struct event_value *values, int n,
                   int *ret_bad)
{
    for (int k = 0; k < n; k++) {
        int i = values[k].name != NULL ? spec_measure_find(s->spec, values[k].name) : 0;
        if (i > 0 && isnan(values[k].value)) {
            *ret_bad = i;
            return false;
        }
        if (i > 0) {
            t->extras[i - 1] = values[k].value;
        }
    }
    return true;
}

double trial_violation(const struct study *s, const struct trial *t)
{
    double sum = 0;
    for (int i = 0; i < s->spec->n_bounds; i++) {
        const struct spec_bound *b = &s->spec->bounds[i];
        double v = study_measure(s, t, b->measure);
        sum += isnan(v) ? 0 : spec_excess(b, v);
    }
    return fmin(sum, 1e300);
}

bool study_result(const struct study *s, const struct trial *t, double value,
                  struct study_result *ret)
{
    const struct spec *spec = s->spec;
    ret->values[0] = study_minimised(s, value);
    for (int i = 1; i < spec->n_objectives; i++) {
        double v = study_measure(s, t, i);
        if (isnan(v)) {
            return false;
        }
        ret->values[i] = spec->measures[i].maximize ? 0.0 - v : v;
    }
    ret->r = (struct opt_result){
        .value = ret->values[0], .values = ret->values, .violation = trial_violation(s, t)};
    return true;
}

void study_observe(struct study *s)
{
    const struct spec *spec = s->spec;
    for (int i = 0; i < spec->n_observed; i++) {
        const struct spec_observation *o = &spec->observed[i];
        double values[OPT_OBJECTIVES_MAX];
        double violation = 0;
        for (int k = 0; k < spec->n_objectives; k++) {
            values[k] = spec->measures[k].maximize ? 0.0 - o->measures[k] : o->measures[k];
        }
        for (int k = 0; k < spec->n_bounds; k++) {
            double v = o->measures[spec->bounds[k].measure];
            violation += isnan(v) ? 0 : spec_excess(&spec->bounds[k], v);
        }
        struct opt_result r = {
            .value = values[0], .values = values, .violation = fmin(violation, 1e300)};
        optimizer_observe(s->opt, o->point, o->budget, &r);
    }
}

static bool is_whole(const struct study *s, const struct trial *t)
{
    for (int i = 1; i < s->spec->n_measures; i++) {
        if (isnan(study_measure(s, t, i))) {
            return false;
        }
    }
    return true;
}

bool trial_meets_target(const struct study *s, const struct trial *t, double value)
{
    bool judged = trial_stands_alone(s, t) && !trial_is_refit(t);
    return judged && study_meets_target(s, value) && is_whole(s, t) && trial_violation(s, t) == 0;
}

bool point_meets_target(const struct study *s, const struct trial *first)
{
    return study_meets_target(s, study_measure(s, first, 0)) && is_whole(s, first) &&
           trial_violation(s, first) == 0;
}

/* ---- the front ---- */

/* -1: a is nowhere worse and somewhere better; 1: the other way; 0: neither, or equal. */
static int dominance(const struct study *s, const struct trial *a, const struct trial *b)
{
    bool better = false, worse = false;
    for (int i = 0; i < s->spec->n_objectives; i++) {
        double x = study_measure(s, a, i), y = study_measure(s, b, i);
        bool up = s->spec->measures[i].maximize;
        better = better || (up ? x > y : x < y);
        worse = worse || (up ? x < y : x > y);
    }
    return better == worse ? 0 : better ? -1 : 1;
}

/* A trial equal to one on the front in every objective stands beside it. */
void front_completed(struct study *s, const struct trial *t)
{
    if (s->spec->n_objectives < 2 || trial_violation(s, t) > 0) {
        return;
    }
    int kept = 0;
    for (int i = 0; i < s->n_front; i++) {
        int d = dominance(s, t, trial_at(s, s->front[i]));
        if (d > 0) {
            return; /* then none before it was dominated: the front is mutually undominated */
        }
        if (d == 0) {
            s->front[kept++] = s->front[i];
        }
    }
    s->n_front = kept;
    if (s->n_front == s->cap_front) {
        s->cap_front = s->cap_front > 0 ? 2 * s->cap_front : 16;
        s->front = xreallocarray(s->front, (size_t)s->cap_front, sizeof(*s->front));
    }
    s->front[s->n_front++] = t->id;
}

const int64_t *study_front(const struct study *s, int *ret_n)
{
    *ret_n = s->n_front;
    return s->front;
}
