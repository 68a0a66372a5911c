/* SPDX-License-Identifier: Apache-2.0
 *
 * A study of Optuna as an experiment file. Optuna's spaces are defined by running the objective, so
 * a condition shows only in the trials: where a parameter is there in exactly the trials that have
 * certain values of one categorical parameter, that is taken for its "when".
 */
#include "bridges/optuna.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

char *optuna_choice_text(const json_t *choice)
{
    return json_is_string(choice) ? xstrdup(json_string_value(choice)) : mjson_dump(choice);
}

/* ---- parameters ---- */

static bool all_numbers(const json_t *choices)
{
    size_t i = 0;
    const json_t *c = NULL;
    json_array_foreach(choices, i, c)
    {
        if (!json_is_number(c)) {
            return false;
        }
    }
    return true;
}

static const char *kind_of(const json_t *p)
{
    return json_string_value(json_object_get(p, "kind"));
}

static bool is_categorical(const json_t *p)
{
    return strcmp(kind_of(p), "categorical") == 0;
}

/* A choice as a value of ours. */
static json_t *choice_value(const json_t *p, const json_t *choice)
{
    if (all_numbers(json_object_get(p, "choices"))) {
        return json_incref((json_t *)(uintptr_t)choice);
    }
    char *text = optuna_choice_text(choice);
    json_t *v = json_string(text);
    free(text);
    return v;
}

static json_t *categorical_json(const json_t *p)
{
    const json_t *choices = json_object_get(p, "choices");
    json_t *values = json_array();
    size_t i = 0;
    const json_t *c = NULL;
    json_array_foreach(choices, i, c)
    {
        (void)json_array_append_new(values, choice_value(p, c));
    }
    return json_pack("{s:s, s:o}", "type", all_numbers(choices) ? "DISCRETE" : "CATEGORICAL",
                     "values", values);
}

static json_t *numeric_json(const json_t *p)
{
    bool whole = strcmp(kind_of(p), "int") == 0;
    double low = json_number_value(json_object_get(p, "low"));
    double high = json_number_value(json_object_get(p, "high"));
    double step = json_number_value(json_object_get(p, "step"));
    json_t *o = json_pack("{s:s}", "type", whole ? "INTEGER" : "DOUBLE");
    json_t *range = whole ? json_pack("[I, I]", (json_int_t)llround(low), (json_int_t)llround(high))
                          : json_pack("[f, f]", low, high);
    (void)json_object_set_new(o, "range", range);
    if (json_is_true(json_object_get(p, "log"))) {
        (void)json_object_set_new(o, "scale", json_string("log"));
    } else if (step > 0 && !(whole && step == 1)) {
        (void)json_object_set_new(
            o, "step", whole ? json_integer((json_int_t)llround(step)) : json_real(step));
    }
    return o;
}

/* ---- conditions ---- */

/* Did the trial get so far as to have parameters? */
static bool is_told(const json_t *trial)
{
    const char *state = json_string_value(json_object_get(trial, "state"));
    return strcmp(state, "COMPLETE") == 0 || strcmp(state, "PRUNED") == 0;
}

static size_t count_with(const json_t *trials, const char *name, size_t *ret_told)
{
    size_t n = 0;
    size_t i = 0;
    const json_t *t = NULL;
    *ret_told = 0;
    json_array_foreach(trials, i, t)
    {
        if (is_told(t)) {
            (*ret_told)++;
            n += json_object_get(json_object_get(t, "params"), name) != NULL;
        }
    }
    return n;
}

static void add_distinct(json_t *list, json_t *v)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_equal(json_array_get(list, i), v)) {
            return;
        }
    }
    (void)json_array_append(list, v);
}

/* The values of `parent` under which `name` is there; NULL where they do not tell. */
static json_t *values_that_show(const json_t *trials, const char *name, const char *parent)
{
    json_t *with = json_array();
    json_t *without = json_array();
    size_t i = 0;
    const json_t *t = NULL;
    bool tells = true;
    json_array_foreach(trials, i, t)
    {
        const json_t *params = json_object_get(t, "params");
        json_t *v = json_object_get(params, parent);
        if (!is_told(t)) {
            continue;
        }
        if (v == NULL) {
            tells = false;
            break;
        }
        add_distinct(json_object_get(params, name) != NULL ? with : without, v);
    }
    for (i = 0; tells && i < json_array_size(with); i++) {
        for (size_t k = 0; tells && k < json_array_size(without); k++) {
            tells = !json_equal(json_array_get(with, i), json_array_get(without, k));
        }
    }
    json_decref(without);
    if (!tells) {
        json_decref(with);
        return NULL;
    }
    return with;
}

/* {"parent": [values]} or NULL: the parameter is always there, or nobody can tell when. */
static json_t *condition_of(const json_t *study, const char *name)
{
    const json_t *params = json_object_get(study, "params");
    const json_t *trials = json_object_get(study, "trials");
    size_t told = 0;
    size_t with = count_with(trials, name, &told);
    if (with == told || with == 0) {
        return NULL;
    }
    const char *parent = NULL;
    json_t *p = NULL;
    json_object_foreach((json_t *)(uintptr_t)params, parent, p)
    {
        size_t n = 0;
        if (strcmp(parent, name) == 0 || !is_categorical(p) ||
            count_with(trials, parent, &n) != told) {
            continue;
        }
        json_t *values = values_that_show(trials, name, parent);
        if (values != NULL) {
            json_t *ours = json_array();
            size_t i = 0;
            const json_t *v = NULL;
            json_array_foreach(values, i, v)
            {
                (void)json_array_append_new(ours, choice_value(p, v));
            }
            json_decref(values);
            json_t *when = json_object();
            (void)json_object_set_new(when, parent, ours);
            return when;
        }
    }
    return NULL;
}

static json_t *searchspace(const json_t *study)
{
    json_t *space = json_object();
    const char *name = NULL;
    json_t *p = NULL;
    json_object_foreach(json_object_get(study, "params"), name, p)
    {
        json_t *o = is_categorical(p) ? categorical_json(p) : numeric_json(p);
        json_t *when = condition_of(study, name);
        if (when != NULL) {
            (void)json_object_set_new(o, "when", when);
        }
        (void)json_object_set_new(space, name, o);
    }
    return space;
}

/* ---- observations ---- */

struct known {
    const json_t *trial;
    double value; /* smaller is better */
};

static int by_value(const void *a, const void *b)
{
    const struct known *x = a;
    const struct known *y = b;
    if (x->value != y->value) {
        return x->value < y->value ? -1 : 1;
    }
    json_int_t nx = json_integer_value(json_object_get(x->trial, "number"));
    json_int_t ny = json_integer_value(json_object_get(y->trial, "number"));
    return nx < ny ? -1 : nx > ny;
}

static int by_number(const void *a, const void *b)
{
    json_int_t nx = json_integer_value(json_object_get(((const struct known *)a)->trial, "number"));
    json_int_t ny = json_integer_value(json_object_get(((const struct known *)b)->trial, "number"));
    return nx < ny ? -1 : nx > ny;
}

static bool is_active(const json_t *space, const json_t *params, const char *name)
{
    const json_t *when = json_object_get(json_object_get(space, name), "when");
    const char *parent = NULL;
    json_t *values = NULL;
    json_object_foreach((json_t *)(uintptr_t)when, parent, values)
    {
        const json_t *v = json_object_get(params, parent);
        for (size_t i = 0; i < json_array_size(values); i++) {
            if (v != NULL && json_equal(json_array_get(values, i), v)) {
                return true;
            }
        }
        return false;
    }
    return true;
}

/* The trial's point in our values; NULL where it lacks a parameter. */
static json_t *point_of(const json_t *study, const json_t *space, const json_t *trial)
{
    json_t *point = json_object();
    const char *name = NULL;
    json_t *p = NULL;
    const json_t *params = json_object_get(trial, "params");
    json_object_foreach(json_object_get(study, "params"), name, p)
    {
        json_t *v = json_object_get(params, name);
        if (v != NULL) {
            json_t *ours = is_categorical(p) ? choice_value(p, v) : json_incref(v);
            (void)json_object_set_new(point, name, ours);
        }
    }
    json_object_foreach(json_object_get(study, "params"), name, p)
    {
        bool here = json_object_get(point, name) != NULL;
        if (here != is_active(space, point, name)) {
            json_decref(point);
            return NULL;
        }
    }
    return point;
}

static bool is_whole(const json_t *values)
{
    for (size_t i = 0; i < json_array_size(values); i++) {
        if (!json_is_number(json_array_get(values, i))) {
            return false;
        }
    }
    return true;
}

/* The finished trials: the best quarter of the limit first, the rest evenly over the others. */
static size_t choose(struct known *all, size_t n, size_t limit)
{
    if (n <= limit) {
        return n;
    }
    size_t best = limit / 4;
    size_t rest = limit - best;
    qsort(all, n, sizeof(*all), by_value);
    qsort(all + best, n - best, sizeof(*all), by_number);
    for (size_t i = 0; i < rest; i++) {
        all[best + i] = all[best + i * (n - best) / rest];
    }
    qsort(all, limit, sizeof(*all), by_number);
    return limit;
}

static json_t *observation(const json_t *study, json_t *point_take, const json_t *trial)
{
    const json_t *metrics = json_object_get(study, "metrics");
    const json_t *values = json_object_get(trial, "values");
    json_t *named = json_object();
    for (size_t i = 0; i < json_array_size(metrics); i++) {
        (void)json_object_set(named, json_string_value(json_array_get(metrics, i)),
                              json_array_get(values, i));
    }
    return json_pack("{s:o, s:o}", "params", point_take, "values", named);
}

static json_t *observations(const json_t *study, const json_t *space, int64_t limit,
                            struct optuna_kept *kept)
{
    const json_t *trials = json_object_get(study, "trials");
    const char *direction =
        json_string_value(json_array_get(json_object_get(study, "directions"), 0));
    struct known *all = xcalloc(json_array_size(trials) + 1, sizeof(*all));
    size_t n = 0;
    size_t i = 0;
    const json_t *t = NULL;
    json_array_foreach(trials, i, t)
    {
        const json_t *values = json_object_get(t, "values");
        if (strcmp(json_string_value(json_object_get(t, "state")), "COMPLETE") != 0 ||
            !is_whole(values)) {
            kept->unfinished++;
            continue;
        }
        json_t *point = point_of(study, space, t);
        if (point == NULL) {
            kept->partial++;
            continue;
        }
        json_decref(point);
        double v = json_number_value(json_array_get(values, 0));
        all[n++] = (struct known){t, strcmp(direction, "max") == 0 ? -v : v};
    }
    size_t use = choose(all, n, (size_t)limit);
    json_t *list = json_array();
    for (i = 0; i < use; i++) {
        (void)json_array_append_new(
            list, observation(study, point_of(study, space, all[i].trial), all[i].trial));
    }
    kept->used = (int64_t)use;
    kept->beyond = (int64_t)(n - use);
    free(all);
    return list;
}

/* ---- the whole ---- */

static void add_objectives(const json_t *study, json_t *x)
{
    const json_t *metrics = json_object_get(study, "metrics");
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(metrics); i++) {
        (void)json_array_append_new(
            list, json_pack("{s:O, s:O}", "metric", json_array_get(metrics, i), "direction",
                            json_array_get(json_object_get(study, "directions"), i)));
    }
    if (json_array_size(list) == 1) {
        (void)json_object_set(x, "objective", json_array_get(list, 0));
        json_decref(list);
    } else {
        (void)json_object_set_new(x, "objectives", list);
    }
}

enum mag_status optuna_to_experiment(const json_t *study, int64_t limit, json_t **ret,
                                     struct optuna_kept *kept, struct mag_err *err)
{
    const char *name = json_string_value(json_object_get(study, "name"));
    *kept = (struct optuna_kept){0};
    if (json_object_size(json_object_get(study, "params")) == 0) {
        return mag_fail(err, MAG_INVALID,
                        "the study \"%.100s\" has no parameters: no trial of it has suggested one",
                        name);
    }
    json_t *x = json_object();
    json_t *space = searchspace(study);
    json_t *known = observations(study, space, limit, kept);
    (void)json_object_set_new(x, "name", json_string(name));
    add_objectives(study, x);
    (void)json_object_set_new(x, "searchspace", space);
    if (json_array_size(known) > 0) {
        (void)json_object_set_new(x, "warm_start", json_pack("{s:o}", "observations", known));
    } else {
        json_decref(known);
    }
    *ret = x;
    return MAG_OK;
}
