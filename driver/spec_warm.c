/* SPDX-License-Identifier: Apache-2.0
 *
 * "warm_start": results known before the search. Those of earlier experiments are read once, when
 * the experiment is submitted, and recorded in its resolved file: whatever becomes of the earlier
 * ones, a restart tells the optimizer the same.
 */
#include "driver/spec_read.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXPERIMENTS_MAX 100
#define LIMIT_DEFAULT 500

/* ---- observations ---- */

static bool read_measure(const json_t *v, const char *pointer, const char *key,
                         struct mjson_issues *is, double *ret)
{
    if (!json_is_number(v) || !isfinite(json_number_value(v))) {
        mjson_issue_at(is, pointer, key, "must be a finite number, not %s", mjson_kind(v));
        return false;
    }
    *ret = json_number_value(v) + 0.0;
    return true;
}

static void read_values(const struct spec *s, const json_t *values, const char *pointer,
                        struct mjson_issues *is, double *measures)
{
    const char *name = NULL;
    json_t *v = NULL;
    const char *names[SPEC_MEASURES_MAX + 1] = {NULL};
    char *at = mjson_pointer(pointer, "values");
    for (int i = 0; i < s->n_measures; i++) {
        names[i] = s->measures[i].name;
    }
    if (spec_object(values, at, is)) {
        mjson_check_keys(values, names, at, is);
        json_object_foreach((json_t *)(uintptr_t)values, name, v)
        {
            int i = spec_measure_find(s, name);
            if (i >= 0) {
                (void)read_measure(v, at, name, is, &measures[i]);
            }
        }
    }
    free(at);
}

static void read_measures(const struct spec *s, const json_t *o, const char *pointer,
                          struct mjson_issues *is, double *measures)
{
    const json_t *value = json_object_get(o, "value");
    const json_t *values = json_object_get(o, "values");
    int before = is->total;
    for (int i = 0; i < s->n_measures; i++) {
        measures[i] = NAN;
    }
    if (value != NULL) {
        (void)read_measure(value, pointer, "value", is, &measures[0]);
    }
    if (values != NULL) {
        read_values(s, values, pointer, is, measures);
    }
    for (int i = 0; i < s->n_objectives && is->total == before; i++) {
        if (isnan(measures[i])) {
            mjson_issue(is, pointer, "\"%s\" of the objective \"%s\" is missing: give %s",
                        i == 0 ? "value" : "values", s->measures[i].name,
                        i == 0 ? "\"value\": a number" : "\"values\": {\"metric\": number, …}");
        }
    }
}

static json_t *observation_json(const struct spec *s, const struct spec_observation *o,
                                const json_t *given)
{
    static const char *const origin[] = {"experiment", "trial"};
    json_t *values = json_object();
    for (int i = 0; i < s->n_measures; i++) {
        if (!isnan(o->measures[i])) {
            (void)json_object_set_new(values, s->measures[i].name, json_real(o->measures[i]));
        }
    }
    json_t *out = json_pack("{s:o, s:o}", "params", space_point_to_json(s->space, o->point),
                            "values", values);
    if (o->budget > 0) {
        (void)json_object_set_new(out, "budget", json_integer(o->budget));
    }
    for (int i = 0; i < 2; i++) {
        if (json_object_get(given, origin[i]) != NULL) {
            (void)json_object_set(out, origin[i], json_object_get(given, origin[i]));
        }
    }
    return out;
}

static void keep(struct spec *s, const struct spec_observation *o)
{
    if ((s->n_observed & (s->n_observed - 1)) == 0) { /* full at every power of two */
        size_t cap = s->n_observed > 0 ? 2 * (size_t)s->n_observed : 1;
        s->observed = xreallocarray(s->observed, cap, sizeof(*s->observed));
    }
    s->observed[s->n_observed++] = *o;
}

/* One entry; its normalized form goes to `out`. */
static void read_observation(struct spec *s, const json_t *v, const char *pointer, bool recorded,
                             struct mjson_issues *is, json_t *out)
{
    static const char *const keys[] = {"params", "value", "values", "budget", NULL};
    static const char *const all[] = {"params",     "value", "values", "budget",
                                      "experiment", "trial", NULL};
    int before = is->total;
    if (!json_is_object(v)) {
        mjson_issue(is, pointer, "must be {\"params\": {…}, \"value\": number}, not %s",
                    mjson_kind(v));
        return;
    }
    mjson_check_keys(v, recorded ? all : keys, pointer, is);
    struct spec_observation o = {0};
    o.measures = xcalloc((size_t)s->n_measures + 1, sizeof(double));
    o.point = xcalloc((size_t)s->space->n + 1, sizeof(double));
    read_measures(s, v, pointer, is, o.measures);
    o.budget = spec_int(v, pointer, "budget", 1, INT64_C(1) << 53, 0, is);
    if (json_object_get(v, "budget") != NULL && !s->resource.present) {
        mjson_issue_at(is, pointer, "budget", "the experiment has no resource: leave it out");
    }
    char *at = mjson_pointer(pointer, "params");
    (void)space_point_from_json(s->space, json_object_get(v, "params"), at, is, o.point);
    free(at);
    if (is->total == before) {
        (void)json_array_append_new(out, observation_json(s, &o, v));
        keep(s, &o);
    } else {
        free(o.point);
        free(o.measures);
    }
}

static json_t *read_observations(struct spec *s, const json_t *list, const char *pointer,
                                 bool recorded, struct mjson_issues *is)
{
    json_t *out = json_array();
    if (!json_is_array(list) || json_array_size(list) > SPEC_OBSERVATIONS_MAX) {
        mjson_issue(is, pointer,
                    "must be a list of at most %d results, such as {\"params\": {…}, \"value\": "
                    "0.3}",
                    SPEC_OBSERVATIONS_MAX);
        return out;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *at = mjson_pointer_index(pointer, i);
        read_observation(s, json_array_get(list, i), at, recorded, is, out);
        free(at);
    }
    return out;
}

/* ---- earlier experiments ---- */

static void read_ids(const json_t *ids, struct mjson_issues *is)
{
    const char *pointer = "/warm_start/experiments";
    if (!json_is_array(ids) || json_array_size(ids) < 1 || json_array_size(ids) > EXPERIMENTS_MAX) {
        mjson_issue(is, pointer, "must be a list of 1 to %d ids of experiments", EXPERIMENTS_MAX);
        return;
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *v = json_array_get(ids, i);
        char *at = mjson_pointer_index(pointer, i);
        if (!json_is_integer(v) || json_integer_value(v) < 1) {
            mjson_issue(is, at, "the id of an experiment is a whole number from 1, not %s",
                        mjson_kind(v));
        }
        for (size_t k = 0; k < i; k++) {
            if (json_equal(json_array_get(ids, k), v)) {
                mjson_issue(is, at, "this experiment is in the list already");
                break;
            }
        }
        free(at);
    }
}

static void read_defaults(const struct spec *s, const json_t *defaults, struct mjson_issues *is)
{
    const char *pointer = "/warm_start/defaults";
    const char *names[SPACE_PARAMS_MAX + 1] = {NULL};
    for (int i = 0; i < s->space->n; i++) {
        names[i] = s->space->params[i].name;
    }
    if (!spec_object(defaults, pointer, is)) {
        return;
    }
    mjson_check_keys(defaults, names, pointer, is);
    for (int i = 0; i < s->space->n; i++) {
        const json_t *v = json_object_get(defaults, names[i]);
        double value = 0;
        if (v != NULL && !space_value_fit(&s->space->params[i], v, &value)) {
            mjson_issue_at(is, pointer, names[i], "this is not a value of \"%s\"", names[i]);
        }
    }
}

static void read_earlier(struct spec *s, const json_t *o, struct mjson_issues *is)
{
    const json_t *ids = json_object_get(o, "experiments");
    const json_t *which = json_object_get(o, "trials");
    const char *word = which == NULL           ? "completed"
                       : json_is_string(which) ? json_string_value(which)
                                               : "";
    if (ids == NULL) {
        static const char *const keys[] = {"trials", "limit", "defaults", NULL};
        for (int i = 0; keys[i] != NULL; i++) {
            if (json_object_get(o, keys[i]) != NULL) {
                mjson_issue_at(is, "/warm_start", keys[i],
                               "\"%s\" goes with \"experiments\": name those to learn from",
                               keys[i]);
            }
        }
        return;
    }
    read_ids(ids, is);
    if (strcmp(word, "completed") != 0 && strcmp(word, "all") != 0) {
        mjson_issue(is, "/warm_start/trials",
                    "must be \"completed\", or \"all\" for every trial with a value");
    }
    int64_t limit = spec_int(o, "/warm_start", "limit", 1, SPEC_WARM_LIMIT_MAX, LIMIT_DEFAULT, is);
    const json_t *defaults = json_object_get(o, "defaults");
    if (defaults != NULL) {
        read_defaults(s, defaults, is);
        (void)json_object_set(s->warm_start, "defaults", (json_t *)(uintptr_t)defaults);
    }
    (void)json_object_set(s->warm_start, "experiments", (json_t *)(uintptr_t)ids);
    (void)json_object_set_new(s->warm_start, "trials", json_string(word));
    (void)json_object_set_new(s->warm_start, "limit", json_integer(limit));
}

static void read_recorded(struct spec *s, const json_t *o, struct mjson_issues *is)
{
    static const char *const keys[] = {"used", "dropped", "observations", NULL};
    const char *pointer = "/warm_start/recorded";
    if (!spec_object(o, pointer, is)) {
        return;
    }
    mjson_check_keys(o, keys, pointer, is);
    const json_t *dropped = json_object_get(o, "dropped");
    if (!json_is_object(dropped)) {
        mjson_issue_at(is, pointer, "dropped", "must be an object of counts");
    }
    json_t *list = read_observations(s, json_object_get(o, "observations"),
                                     "/warm_start/recorded/observations", true, is);
    (void)json_object_set_new(
        s->warm_start, "recorded",
        json_pack("{s:I, s:O, s:o}", "used", (json_int_t)json_array_size(list), "dropped",
                  dropped != NULL ? dropped : json_null(), "observations", list));
}

/* ---- all of it ---- */

void spec_read_warm(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"experiments", "trials",       "limit", "defaults",
                                       "recorded",    "observations", NULL};
    const json_t *o = json_object_get(doc, "warm_start");
    if (o == NULL || !spec_object(o, "/warm_start", is)) {
        return;
    }
    mjson_check_keys(o, keys, "/warm_start", is);
    const json_t *recorded = json_object_get(o, "recorded");
    const json_t *given = json_object_get(o, "observations");
    if (given == NULL && json_object_get(o, "experiments") == NULL) {
        mjson_issue(is, "/warm_start",
                    "names nothing to learn from: give \"experiments\": [ids] of this driver, or "
                    "\"observations\": [{\"params\": {…}, \"value\": 0.3}]");
    }
    s->warm_start = json_object();
    if (s->space == NULL || s->n_objectives == 0) {
        return; /* their faults come first */
    }
    read_earlier(s, o, is);
    if (given != NULL) {
        json_t *list = read_observations(s, given, "/warm_start/observations", false, is);
        (void)json_object_set_new(s->warm_start, "observations", list);
    }
    if (recorded != NULL) {
        read_recorded(s, recorded, is);
    }
}

bool spec_warm_pending(const struct spec *s)
{
    return json_object_get(s->warm_start, "experiments") != NULL &&
           json_object_get(s->warm_start, "recorded") == NULL;
}

void spec_warm_record(struct spec *s, json_t *recorded_take, struct mjson_issues *is)
{
    read_recorded(s, recorded_take, is);
    json_decref(recorded_take);
    (void)json_object_set(s->resolved, "warm_start", s->warm_start);
}

json_t *spec_warm_summary(const struct spec *s)
{
    if (s->warm_start == NULL) {
        return NULL;
    }
    const json_t *dropped = json_object_get(json_object_get(s->warm_start, "recorded"), "dropped");
    const char *reason = NULL;
    json_t *v = NULL;
    json_int_t n = 0;
    json_object_foreach((json_t *)(uintptr_t)dropped, reason, v)
    {
        n += json_integer_value(v);
    }
    return json_pack("{s:i, s:I, s:o}", "used", s->n_observed, "dropped", n, "reasons",
                     dropped != NULL ? json_deep_copy(dropped) : json_object());
}
