/* SPDX-License-Identifier: Apache-2.0
 *
 * What an experiment is after: "objective" or "objectives", and "outcome_constraints", bounds on
 * what a trial measures. All of them are measures: numbers by name that a trial has to report.
 */
#include "driver/spec_read.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool read_direction(const json_t *o, const char *pointer, struct mjson_issues *is)
{
    static const char *const words[] = {"max",      "maximize", "maximise", "min",
                                        "minimize", "minimise", NULL};
    const json_t *v = json_object_get(o, "direction");
    const char *direction = json_is_string(v) ? json_string_value(v) : "";
    bool maximize = strcmp(direction, "max") == 0;
    if (v == NULL) {
        mjson_issue(is, pointer, "\"direction\" is missing: \"max\" or \"min\"");
    } else if (!maximize && strcmp(direction, "min") != 0) {
        const char *near = mjson_nearest(direction, words);
        mjson_issue_at(is, pointer, "direction", "must be \"max\" or \"min\"%s%.3s%s",
                       near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                       near != NULL ? "\"?" : "");
    }
    return maximize;
}

int spec_measure_find(const struct spec *s, const char *name)
{
    for (int i = 0; i < s->n_measures; i++) {
        if (strcmp(s->measures[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Relative to the bound, so that bounds of any unit weigh alike. */
double spec_excess(const struct spec_bound *b, double v)
{
    double over = v > b->hi ? v - b->hi : v < b->lo ? b->lo - v : 0;
    double bound = v > b->hi ? b->hi : b->lo;
    return over > 0 && bound != 0 ? over / fabs(bound) : over;
}

/* The measure of this name, a new one when there is none; -1 when there is no room. */
static int measure(struct spec *s, char *name_take)
{
    int i = spec_measure_find(s, name_take);
    if (i >= 0 || s->n_measures == SPEC_MEASURES_MAX) {
        free(name_take);
        return i;
    }
    s->measures[s->n_measures].name = name_take;
    return s->n_measures++;
}

static void read_one(struct spec *s, const json_t *o, const char *pointer, struct mjson_issues *is)
{
    static const char *const keys[] = {"metric", "direction", NULL};
    if (!spec_object(o, pointer, is)) {
        return;
    }
    mjson_check_keys(o, keys, pointer, is);
    char *name = spec_text(o, pointer, "metric", SPEC_METRIC_MAX, false, NULL, is);
    bool maximize = read_direction(o, pointer, is);
    if (name == NULL) {
        return;
    }
    if (spec_measure_find(s, name) >= 0) {
        mjson_issue_at(is, pointer, "metric", "\"%s\" is an objective already", name);
        free(name);
        return;
    }
    int i = measure(s, name);
    if (i >= 0) {
        s->measures[i].maximize = maximize;
        s->n_objectives = s->n_measures;
    }
}

static void read_several(struct spec *s, const json_t *list, struct mjson_issues *is)
{
    if (!json_is_array(list) || json_array_size(list) < 1 ||
        json_array_size(list) > OPT_OBJECTIVES_MAX) {
        mjson_issue(is, "/objectives",
                    "must be a list of 1 to %d objectives such as {\"metric\": \"latency\", "
                    "\"direction\": \"min\"}",
                    OPT_OBJECTIVES_MAX);
        return;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *at = mjson_pointer_index("/objectives", i);
        const json_t *o = json_array_get(list, i);
        if (o == NULL || !json_is_object(o)) {
            mjson_issue(is, at, "must be an object, not %s", mjson_kind(o));
        } else {
            read_one(s, o, at, is);
        }
        free(at);
    }
}

static bool read_bound(const json_t *o, const char *pointer, const char *key, double absent,
                       double *ret, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    *ret = json_is_number(v) ? json_number_value(v) : absent;
    if (v != NULL && !json_is_number(v)) {
        mjson_issue_at(is, pointer, key, "must be a number, not %s", mjson_kind(v));
    }
    return v != NULL;
}

static void read_constraint(struct spec *s, const json_t *o, const char *pointer,
                            struct mjson_issues *is)
{
    static const char *const keys[] = {"metric", "min", "max", NULL};
    struct spec_bound b = {0};
    if (!json_is_object(o)) {
        mjson_issue(is, pointer,
                    "must be an object such as {\"metric\": \"latency\", \"max\": 20}");
        return;
    }
    mjson_check_keys(o, keys, pointer, is);
    char *name = spec_text(o, pointer, "metric", SPEC_METRIC_MAX, false, NULL, is);
    bool lower = read_bound(o, pointer, "min", -INFINITY, &b.lo, is);
    bool upper = read_bound(o, pointer, "max", INFINITY, &b.hi, is);
    if (!lower && !upper) {
        mjson_issue(is, pointer, "needs \"min\", \"max\" or both");
    } else if (b.lo > b.hi) {
        mjson_issue(is, pointer, "min %g is above max %g: nothing could be feasible", b.lo, b.hi);
    }
    if (name == NULL) {
        return;
    }
    b.measure = measure(s, name);
    if (b.measure < 0) {
        mjson_issue(is, pointer, "more than %d metrics are measured", SPEC_MEASURES_MAX);
        return;
    }
    s->bounds[s->n_bounds++] = b;
}

static void read_constraints(struct spec *s, const json_t *list, struct mjson_issues *is)
{
    if (list == NULL) {
        return;
    }
    if (!json_is_array(list) || json_array_size(list) > SPEC_BOUNDS_MAX) {
        mjson_issue(is, "/outcome_constraints", "must be a list of at most %d bounds",
                    SPEC_BOUNDS_MAX);
        return;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *at = mjson_pointer_index("/outcome_constraints", i);
        read_constraint(s, json_array_get(list, i), at, is);
        free(at);
    }
}

void spec_read_goals(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    const json_t *one = json_object_get(doc, "objective");
    const json_t *several = json_object_get(doc, "objectives");
    if (one == NULL && several == NULL) {
        mjson_issue(
            is, "",
            "\"objective\" is missing: {\"metric\": \"val_accuracy\", \"direction\": \"max\"}");
    } else if (one != NULL && several != NULL) {
        mjson_issue(is, "/objectives", "give \"objective\" or \"objectives\", not both");
    } else if (one != NULL) {
        read_one(s, one, "/objective", is);
    } else {
        read_several(s, several, is);
    }
    read_constraints(s, json_object_get(doc, "outcome_constraints"), is);
    if (s->n_objectives > 0) {
        s->metric = s->measures[0].name;
        s->maximize = s->measures[0].maximize;
    }
}

void spec_check_goals(const struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    if (s->n_objectives > 1 && s->limits.has_target) {
        mjson_issue(is, "/limits/target",
                    "a target needs one objective, and there are %d: take it out, or make a bound "
                    "in \"outcome_constraints\" of it",
                    s->n_objectives);
    }
    if (s->n_objectives > 1 && json_object_get(doc, "early_stopping") != NULL) {
        mjson_issue(is, "/early_stopping",
                    "early stopping compares one objective, and there are %d: leave it out",
                    s->n_objectives);
    }
}

static json_t *goal_json(const struct spec_measure *m)
{
    return json_pack("{s:s, s:s}", "metric", m->name, "direction", m->maximize ? "max" : "min");
}

void spec_write_goals(const struct spec *s, json_t *out)
{
    if (s->n_objectives == 1) {
        (void)json_object_set_new(out, "objective", goal_json(&s->measures[0]));
    } else {
        (void)json_object_set_new(out, "objectives", spec_objectives_json(s));
    }
    if (s->n_bounds == 0) {
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < s->n_bounds; i++) {
        const struct spec_bound *b = &s->bounds[i];
        json_t *o = json_pack("{s:s}", "metric", s->measures[b->measure].name);
        if (isfinite(b->lo)) {
            (void)json_object_set_new(o, "min", json_real(b->lo));
        }
        if (isfinite(b->hi)) {
            (void)json_object_set_new(o, "max", json_real(b->hi));
        }
        (void)json_array_append_new(list, o);
    }
    (void)json_object_set_new(out, "outcome_constraints", list);
}

json_t *spec_objectives_json(const struct spec *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->n_objectives; i++) {
        (void)json_array_append_new(list, goal_json(&s->measures[i]));
    }
    return list;
}
