/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading earlier experiments once, at submission. Of more trials than the limit the best quarter
 * of it is taken, and the rest evenly over the others in their order, so that a model sees the good
 * region and what lies outside it.
 */
#include "driver/warm_start.h"

#include "base/alloc.h"
#include "driver/study.h"
#include "space/constraint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    const struct study *study;
    int64_t experiment, trial;
    double value; /* our first objective, smaller is better */
    size_t at;    /* place in the order of experiments and trials */
};

struct reading {
    struct spec *spec;
    const json_t *defaults;
    bool all;
    struct candidate *at;
    size_t n, cap;
    json_t *observations;
    int64_t missing, outside, broken, no_value, limit;
};

/* Our measure i of an earlier trial: by name; the first objective, where it has another name there,
 * is that of the other experiment, better staying better. */
static double measure_of(const struct spec *spec, const struct study *other, const struct trial *t,
                         int i)
{
    const struct spec *theirs = study_spec(other);
    int k = spec_measure_find(theirs, spec->measures[i].name);
    if (k >= 0) {
        return study_measure(other, t, k);
    }
    if (i > 0) {
        return NAN;
    }
    double v = study_measure(other, t, 0);
    return theirs->maximize != spec->maximize ? 0.0 - v : v;
}

static void add_candidates(struct reading *r, const struct study *study, int64_t experiment)
{
    for (int64_t id = 1; id <= study_trials(study); id++) {
        const struct trial *t = study_trial(study, id);
        enum trial_state state = study_point_state(study, t);
        double v = measure_of(r->spec, study, t, 0);
        if (t->id != t->point_of || isnan(v) || state == TRIAL_FAILED || state == TRIAL_CANCELLED ||
            (state != TRIAL_COMPLETED && !r->all)) {
            continue;
        }
        if (r->n == r->cap) {
            r->cap = r->cap > 0 ? 2 * r->cap : 256;
            r->at = xreallocarray(r->at, r->cap, sizeof(*r->at));
        }
        r->at[r->n] = (struct candidate){.study = study,
                                         .experiment = experiment,
                                         .trial = id,
                                         .value = r->spec->maximize ? -v : v,
                                         .at = r->n};
        r->n++;
    }
}

static int by_value(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    int c = (x->value > y->value) - (x->value < y->value);
    return c != 0 ? c : (x->at > y->at) - (x->at < y->at);
}

static int by_place(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static void take_some(struct reading *r, size_t limit)
{
    size_t best = (limit + 3) / 4;
    if (r->n <= limit) {
        return;
    }
    r->limit = (int64_t)(r->n - limit);
    qsort(r->at, r->n, sizeof(*r->at), by_value);
    struct candidate *rest = r->at + best;
    size_t n = r->n - best;
    size_t want = limit - best;
    qsort(rest, n, sizeof(*rest), by_place);
    for (size_t i = 0; i < want; i++) { /* i * n / want never lies before i */
        rest[i] = rest[i * n / want];
    }
    r->n = limit;
    qsort(r->at, r->n, sizeof(*r->at), by_place);
}

/* The budget here that a value of their step stands for; 0 = the end of a trial. */
static int64_t budget_of(const struct spec *spec, const struct study *other, const struct trial *t)
{
    if (!spec->resource.present || !study_spec(other)->resource.present || t->step < 1) {
        return 0;
    }
    return t->step < spec->resource.max ? t->step : spec->resource.max;
}

static json_t *values_of(const struct spec *spec, const struct candidate *c, const struct trial *t)
{
    json_t *values = json_object();
    for (int i = 0; i < spec->n_measures; i++) {
        double v = measure_of(spec, c->study, t, i);
        if (!isnan(v)) {
            (void)json_object_set_new(values, spec->measures[i].name, json_real(v));
        }
    }
    return values;
}

static void observe(struct reading *r, const struct candidate *c, double *point)
{
    const struct trial *t = study_trial(c->study, c->trial);
    json_t *params = space_point_to_json(study_spec(c->study)->space, t->point);
    enum space_fit fit = space_point_fit(r->spec->space, params, r->defaults, point);
    json_t *values = values_of(r->spec, c, t);
    bool whole = true;
    for (int i = 0; i < r->spec->n_objectives; i++) {
        whole = whole && json_object_get(values, r->spec->measures[i].name) != NULL;
    }
    r->missing += fit == SPACE_FIT_MISSING;
    r->outside += fit == SPACE_FIT_OUTSIDE;
    r->broken += fit == SPACE_FIT_BROKEN;
    r->no_value += fit == SPACE_FITS && !whole;
    if (fit == SPACE_FITS && whole) {
        json_t *o = json_pack(
            "{s:o, s:O, s:I, s:I}", "params", space_point_to_json(r->spec->space, point), "values",
            values, "experiment", (json_int_t)c->experiment, "trial", (json_int_t)c->trial);
        int64_t budget = budget_of(r->spec, c->study, t);
        if (budget > 0) {
            (void)json_object_set_new(o, "budget", json_integer(budget));
        }
        (void)json_array_append_new(r->observations, o);
    }
    json_decref(values);
    json_decref(params);
}

static json_t *recorded_of(struct reading *r)
{
    double *point = xcalloc((size_t)r->spec->space->n + 1, sizeof(*point));
    r->observations = json_array();
    for (size_t i = 0; i < r->n; i++) {
        observe(r, &r->at[i], point);
    }
    free(point);
    return json_pack("{s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:o}", "used",
                     (json_int_t)json_array_size(r->observations), "dropped", "missing-parameter",
                     (json_int_t)r->missing, "out-of-range", (json_int_t)r->outside, "constraint",
                     (json_int_t)r->broken, "no-value", (json_int_t)r->no_value, "limit",
                     (json_int_t)r->limit, "observations", r->observations);
}

void warm_start_read(struct driver *d, struct spec *spec, struct mjson_issues *is)
{
    int before = is->total;
    size_t i = 0;
    json_t *id = NULL;
    if (!spec_warm_pending(spec)) {
        return;
    }
    struct reading r = {.spec = spec, .defaults = json_object_get(spec->warm_start, "defaults")};
    r.all = strcmp(json_string_value(json_object_get(spec->warm_start, "trials")), "all") == 0;
    json_array_foreach(json_object_get(spec->warm_start, "experiments"), i, id)
    {
        struct experiment *x = driver_experiment(d, json_integer_value(id));
        if (x == NULL) {
            char *at = mjson_pointer_index("/warm_start/experiments", i);
            mjson_issue(is, at, "there is no experiment %lld on this driver",
                        (long long)json_integer_value(id));
            free(at);
        } else {
            add_candidates(&r, x->study, x->id);
        }
    }
    if (is->total == before) {
        take_some(&r, (size_t)json_integer_value(json_object_get(spec->warm_start, "limit")));
        spec_warm_record(spec, recorded_of(&r), is);
    }
    free(r.at);
}
