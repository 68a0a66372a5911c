/* SPDX-License-Identifier: Apache-2.0
 *
 * The "searchspace" object: {"lr": {"type": "DOUBLE", "range": [1e-4, 0.1], "scale": "log"}} or
 * Maggy's short form {"lr": ["DOUBLE", [1e-4, 0.1]]}. Every fault is reported, none stops the rest.
 * Two passes: parameters one by one, then (names sorted) the conditions between them.
 */
#include "space/space.h"

#include "base/alloc.h"
#include "space/constraint_impl.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_names[] = {"DOUBLE", "INTEGER", "DISCRETE", "CATEGORICAL", NULL};

static bool read_type(const json_t *v, const char *pointer, enum param_type *ret,
                      struct mjson_issues *is)
{
    if (!json_is_string(v)) {
        mjson_issue(is, pointer,
                    "the type must be one of DOUBLE, INTEGER, DISCRETE, CATEGORICAL, not %s",
                    mjson_kind(v));
        return false;
    }
    char upper[32] = {0};
    const char *name = json_string_value(v);
    for (size_t i = 0; i + 1 < sizeof(upper) && name[i] != '\0'; i++) {
        upper[i] = (char)toupper((unsigned char)name[i]);
    }
    for (int t = 0; type_names[t] != NULL; t++) {
        if (strlen(name) < sizeof(upper) && strcmp(upper, type_names[t]) == 0) {
            *ret = (enum param_type)t;
            return true;
        }
    }
    const char *near = strncmp(upper, "FLOAT", 5) == 0 || strncmp(upper, "REAL", 4) == 0 ? "DOUBLE"
                       : strncmp(upper, "BOOL", 4) == 0 || strcmp(upper, "CHOICE") == 0
                           ? "CATEGORICAL"
                           : mjson_nearest(upper, type_names);
    mjson_issue(
        is, pointer,
        "unknown type \"%.40s\"%s%s%s; the types are DOUBLE, INTEGER, DISCRETE, CATEGORICAL", name,
        near != NULL ? "; did you mean " : "", near != NULL ? near : "", near != NULL ? "?" : "");
    return false;
}

/* ---- ranges ---- */

static bool is_whole(double v)
{
    return v == floor(v) && fabs(v) <= SPACE_WHOLE_MAX;
}

static bool read_bound(const json_t *v, const char *pointer, size_t at, bool whole, double *ret,
                       struct mjson_issues *is)
{
    char *where = mjson_pointer_index(pointer, at);
    bool ok = json_is_number(v) && isfinite(json_number_value(v));
    if (!ok) {
        mjson_issue(is, where, "a bound must be a finite number, not %s", mjson_kind(v));
    } else if (whole && (!is_whole(json_number_value(v)) ||
                         llabs(json_integer_value(v)) > (INT64_C(1) << 53))) {
        mjson_issue(
            is, where,
            "a bound of an INTEGER must be a whole number within ±2^53; for fractions use DOUBLE");
        ok = false;
    } else {
        *ret = json_number_value(v) + 0.0; /* -0 becomes 0 */
    }
    free(where);
    return ok;
}

static bool read_range(struct param *p, const json_t *range, const char *pointer,
                       struct mjson_issues *is)
{
    if (!json_is_array(range) || json_array_size(range) != 2) {
        mjson_issue(is, pointer, "%s needs \"range\": [low, high], two numbers",
                    type_names[p->type]);
        return false;
    }
    bool whole = p->type == PARAM_INTEGER;
    bool lo = read_bound(json_array_get(range, 0), pointer, 0, whole, &p->lo, is);
    bool hi = read_bound(json_array_get(range, 1), pointer, 1, whole, &p->hi, is);
    if (!lo || !hi) {
        return false;
    }
    if (p->lo > p->hi) {
        mjson_issue(is, pointer, "the low bound %.15g must not be above the high bound %.15g",
                    p->lo, p->hi);
        return false;
    }
    if (!isfinite(p->hi - p->lo) || (whole && p->hi - p->lo > SPACE_WHOLE_MAX)) {
        mjson_issue(is, pointer, "the range is too wide to draw from evenly");
        return false;
    }
    return true;
}

static void read_scale(struct param *p, const json_t *scale, const char *pointer, bool has_range,
                       struct mjson_issues *is)
{
    if (scale == NULL) {
        return;
    }
    const char *name = json_is_string(scale) ? json_string_value(scale) : "";
    p->log = strcmp(name, "log") == 0;
    p->reverse_log = strcmp(name, "reverse-log") == 0;
    if (!p->log && !p->reverse_log && strcmp(name, "linear") != 0) {
        mjson_issue_at(is, pointer, "scale",
                       "the scale must be \"linear\", \"log\" or \"reverse-log\"");
    } else if (p->reverse_log && p->type != PARAM_DOUBLE) {
        mjson_issue_at(is, pointer, "scale",
                       "\"reverse-log\" is for DOUBLE: it is even in "
                       "log(1 - value)");
    } else if (p->reverse_log && has_range && p->hi >= 1) {
        mjson_issue_at(is, pointer, "scale",
                       "\"reverse-log\" is even in log(1 - value) and needs a high bound below 1, "
                       "not %.15g",
                       p->hi);
    } else if (p->log && has_range && p->lo <= 0) {
        mjson_issue_at(is, pointer, "scale", "a log scale needs a low bound above 0, not %.15g",
                       p->lo);
    }
}

static void read_step(struct param *p, const json_t *step, const char *pointer, bool has_range,
                      struct mjson_issues *is)
{
    p->step = p->type == PARAM_INTEGER ? 1 : 0;
    if (step == NULL) {
        return;
    }
    double v = json_is_number(step) ? json_number_value(step) : 0;
    if (p->reverse_log) {
        mjson_issue_at(is, pointer, "step", "\"reverse-log\" takes no step");
    } else if (!(v > 0) || (p->type == PARAM_INTEGER && !is_whole(v))) {
        mjson_issue_at(is, pointer, "step", "the step must be a %snumber above 0, not %s",
                       p->type == PARAM_INTEGER ? "whole " : "",
                       json_is_number(step) && v <= 0 ? "0 or less" : mjson_kind(step));
    } else if (has_range && v > p->hi - p->lo && p->lo < p->hi) {
        mjson_issue_at(is, pointer, "step", "the step %.15g is wider than the range [%.15g, %.15g]",
                       v, p->lo, p->hi);
    } else if (has_range && (p->hi - p->lo) / v > 1e9 && p->type == PARAM_DOUBLE) {
        mjson_issue_at(is, pointer, "step",
                       "the step makes more than a billion values; leave it out");
    } else {
        p->step = v;
    }
}

/* ---- lists ---- */

static bool read_value(struct param *p, const json_t *v, const char *pointer,
                       struct mjson_issues *is)
{
    if (p->type == PARAM_CATEGORICAL) {
        if (!json_is_string(v)) {
            mjson_issue(is, pointer, "a CATEGORICAL value must be a string, not %s%s",
                        mjson_kind(v), json_is_number(v) ? "; for numbers use DISCRETE" : "");
            return false;
        }
        p->labels[p->n_values] = xstrdup(json_string_value(v));
    } else {
        if (!json_is_number(v) || !isfinite(json_number_value(v))) {
            mjson_issue(is, pointer, "a DISCRETE value must be a finite number, not %s%s",
                        mjson_kind(v), json_is_string(v) ? "; for strings use CATEGORICAL" : "");
            return false;
        }
        double x = json_number_value(v) + 0.0;
        p->values[p->n_values] = x;
        p->whole = p->whole && is_whole(x);
    }
    p->n_values++;
    return true;
}

struct keyed {
    uint32_t at;
    const char *label;
    double value;
};

static int by_value(const void *a, const void *b)
{
    const struct keyed *x = a;
    const struct keyed *y = b;
    int c = x->label != NULL ? strcmp(x->label, y->label)
                             : (x->value > y->value) - (x->value < y->value);
    return c != 0 ? c : (x->at > y->at) - (x->at < y->at);
}

/* Refuses values that are there twice, and ranks numbers that are not in order. */
static void check_values(struct param *p, const char *pointer, struct mjson_issues *is)
{
    bool in_order = true;
    struct keyed *k = xcalloc(p->n_values, sizeof(*k));
    for (uint32_t i = 0; i < p->n_values; i++) {
        k[i] = (struct keyed){.at = i,
                              .label = p->labels != NULL ? p->labels[i] : NULL,
                              .value = p->values != NULL ? p->values[i] : 0};
    }
    qsort(k, p->n_values, sizeof(*k), by_value);
    for (uint32_t i = 1; i < p->n_values; i++) {
        bool same = p->labels != NULL ? strcmp(p->labels[k[i].at], p->labels[k[i - 1].at]) == 0
                                      : k[i].value == k[i - 1].value;
        in_order = in_order && k[i].at > k[i - 1].at;
        if (same) {
            char *where = mjson_pointer_index(pointer, k[i].at);
            mjson_issue(is, where, "this value is in the list already; write each once");
            free(where);
        }
    }
    if (p->type == PARAM_DISCRETE && !in_order) {
        p->rank = xcalloc(p->n_values, sizeof(*p->rank));
        p->at = xcalloc(p->n_values, sizeof(*p->at));
        for (uint32_t i = 0; i < p->n_values; i++) {
            p->rank[k[i].at] = i;
            p->at[i] = k[i].at;
        }
    }
    free(k);
}

static bool read_list(struct param *p, const json_t *values, const char *pointer,
                      struct mjson_issues *is)
{
    size_t n = json_array_size(values);
    if (!json_is_array(values) || n == 0) {
        mjson_issue(is, pointer, "%s needs \"values\", a list of at least one %s",
                    type_names[p->type], p->type == PARAM_CATEGORICAL ? "string" : "number");
        return false;
    }
    if (n > SPACE_VALUES_MAX) {
        mjson_issue(is, pointer, "%zu values; at most %d are allowed", n, SPACE_VALUES_MAX);
        return false;
    }
    if (p->type == PARAM_CATEGORICAL) {
        p->labels = xcalloc(n, sizeof(*p->labels));
    } else {
        p->values = xcalloc(n, sizeof(*p->values));
        p->whole = true;
    }
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        char *where = mjson_pointer_index(pointer, i);
        ok = read_value(p, json_array_get(values, i), where, is) && ok;
        free(where);
    }
    if (ok) {
        check_values(p, pointer, is);
    }
    return ok;
}

static void read_ordered(struct param *p, const json_t *ordered, const char *pointer,
                         struct mjson_issues *is)
{
    p->ordered = json_is_true(ordered);
    if (p->type == PARAM_CATEGORICAL && ordered != NULL && !json_is_boolean(ordered)) {
        mjson_issue_at(is, pointer, "ordered", "must be true or false, not %s",
                       mjson_kind(ordered));
    }
}

/* ---- one parameter ---- */

static bool name_is_good(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > SPACE_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)name[i] < 0x20 || strchr("${}", name[i]) != NULL || name[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static void read_short(struct param *p, const json_t *v, const char *pointer,
                       struct mjson_issues *is)
{
    if (json_array_size(v) != 2) {
        mjson_issue(is, pointer,
                    "the short form is [\"TYPE\", [low, high]] or [\"TYPE\", [values…]]");
        return;
    }
    char *type_at = mjson_pointer_index(pointer, 0);
    char *values_at = mjson_pointer_index(pointer, 1);
    if (read_type(json_array_get(v, 0), type_at, &p->type, is)) {
        if (p->type == PARAM_DOUBLE || p->type == PARAM_INTEGER) {
            (void)read_range(p, json_array_get(v, 1), values_at, is);
            p->step = p->type == PARAM_INTEGER ? 1 : 0;
        } else {
            (void)read_list(p, json_array_get(v, 1), values_at, is);
        }
    }
    free(type_at);
    free(values_at);
}

static void read_long(struct param *p, const json_t *v, const char *pointer,
                      struct mjson_issues *is)
{
    static const char *const range_keys[] = {"type", "range", "scale", "step", "when", NULL};
    static const char *const list_keys[] = {"type", "values", "when", NULL};
    static const char *const label_keys[] = {"type", "values", "ordered", "when", NULL};
    if (json_object_get(v, "type") == NULL) {
        mjson_issue(is, pointer,
                    "\"type\" is missing: one of DOUBLE, INTEGER, DISCRETE, CATEGORICAL");
        return;
    }
    char *type_at = mjson_pointer(pointer, "type");
    bool typed = read_type(json_object_get(v, "type"), type_at, &p->type, is);
    free(type_at);
    if (!typed) {
        return;
    }
    bool numeric = p->type == PARAM_DOUBLE || p->type == PARAM_INTEGER;
    mjson_check_keys(v,
                     numeric                        ? range_keys
                     : p->type == PARAM_CATEGORICAL ? label_keys
                                                    : list_keys,
                     pointer, is);
    const char *key = numeric ? "range" : "values";
    char *at = json_object_get(v, key) != NULL ? mjson_pointer(pointer, key) : xstrdup(pointer);
    if (numeric) {
        bool ok = read_range(p, json_object_get(v, key), at, is);
        read_scale(p, json_object_get(v, "scale"), pointer, ok, is);
        read_step(p, json_object_get(v, "step"), pointer, ok, is);
    } else {
        (void)read_list(p, json_object_get(v, key), at, is);
        read_ordered(p, json_object_get(v, "ordered"), pointer, is);
    }
    free(at);
}

static void read_param(struct param *p, const json_t *v, const char *pointer,
                       struct mjson_issues *is)
{
    p->parent = -1;
    if (!name_is_good(p->name)) {
        mjson_issue(is, pointer,
                    "a parameter name has 1 to %d bytes and none of $ { } or control characters",
                    SPACE_NAME_MAX);
    }
    if (json_is_array(v)) {
        read_short(p, v, pointer, is);
    } else if (json_is_object(v)) {
        read_long(p, v, pointer, is);
    } else {
        mjson_issue(is, pointer, "a parameter is {\"type\": …} or [\"TYPE\", [...]], not %s",
                    mjson_kind(v));
    }
}

/* ---- conditions ---- */

static void read_when_values(struct param *p, const struct param *parent, const json_t *values,
                             const char *pointer, struct mjson_issues *is)
{
    if (!json_is_array(values) || json_array_size(values) == 0) {
        mjson_issue(is, pointer, "list the values of \"%s\" that make \"%s\" active", parent->name,
                    p->name);
        return;
    }
    p->when = xcalloc(parent->n_values, sizeof(*p->when));
    for (size_t i = 0; i < json_array_size(values); i++) {
        int k = param_value_index(parent, json_array_get(values, i));
        char *where = mjson_pointer_index(pointer, i);
        if (k < 0) {
            mjson_issue(is, where, "this is not a value of \"%s\" as declared", parent->name);
        } else if (p->when[k]) {
            mjson_issue(is, where, "this value is in the list already; write each once");
        } else {
            p->when[k] = true;
        }
        free(where);
    }
}

static const char *nearest_name(const struct space *s, const char *word)
{
    const char **names = xcalloc((size_t)s->n + 1, sizeof(*names));
    for (int i = 0; i < s->n; i++) {
        names[i] = s->params[i].name;
    }
    const char *near = mjson_nearest(word, (const char *const *)names);
    free(names);
    return near;
}

static void read_when(struct space *s, struct param *p, const json_t *when, const char *pointer,
                      struct mjson_issues *is)
{
    if (!json_is_object(when) || json_object_size(when) != 1) {
        mjson_issue(is, pointer,
                    "\"when\" names exactly one parameter: {\"parent\": [values…]}; for several, "
                    "let one condition follow from another");
        return;
    }
    const char *parent = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)when));
    char *at = mjson_pointer(pointer, parent);
    int k = space_find(s, parent);
    if (k < 0) {
        const char *near = nearest_name(s, parent);
        mjson_issue(is, at, "no parameter \"%s\"%s%s%s", parent,
                    near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                    near != NULL ? "\"?" : "");
    } else if (s->params[k].type == PARAM_DOUBLE || s->params[k].type == PARAM_INTEGER) {
        mjson_issue(is, at, "a condition needs a DISCRETE or CATEGORICAL parameter; \"%s\" is %s",
                    parent, type_names[s->params[k].type]);
    } else if (s->params[k].n_values > 0) {
        p->parent = k;
        read_when_values(p, &s->params[k], json_object_get(when, parent), at, is);
    }
    free(at);
}

/* Parents first, else by name. A parameter that never finds its place is part of a cycle, or hangs
 * on one. */
static void make_order(struct space *s, const char *pointer, struct mjson_issues *is)
{
    bool *placed = xcalloc((size_t)s->n, sizeof(*placed));
    s->order = xcalloc((size_t)s->n, sizeof(*s->order));
    int n = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < s->n; i++) {
            int parent = s->params[i].parent;
            if (!placed[i] && (parent < 0 || placed[parent])) {
                placed[i] = true;
                s->order[n++] = i;
                moved = true;
                i = -1; /* the first by name that can go now */
            }
        }
    }
    for (int i = 0; i < s->n; i++) {
        if (!placed[i]) {
            char *at = mjson_pointer(pointer, s->params[i].name);
            mjson_issue_at(is, at, "when", "the conditions form a circle through \"%s\"",
                           s->params[i].name);
            free(at);
        }
    }
    free(placed);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct param *)a)->name, ((const struct param *)b)->name);
}

static void read_conditions(struct space *s, const json_t *object, const char *pointer,
                            struct mjson_issues *is)
{
    for (int i = 0; i < s->n; i++) {
        const json_t *when = json_object_get(json_object_get(object, s->params[i].name), "when");
        if (when != NULL) {
            char *p = mjson_pointer(pointer, s->params[i].name);
            char *at = mjson_pointer(p, "when");
            read_when(s, &s->params[i], when, at, is);
            free(at);
            free(p);
        }
    }
    make_order(s, pointer, is);
}

struct space *space_parse(const json_t *object, const char *pointer, struct mjson_issues *is)
{
    size_t n = json_object_size(object);
    int before = is->total;
    if (!json_is_object(object)) {
        mjson_issue(is, pointer, "the search space is an object of parameters, not %s",
                    mjson_kind(object));
    } else if (n == 0) {
        mjson_issue(is, pointer, "the search space is empty: name at least one parameter");
    } else if (n > SPACE_PARAMS_MAX) {
        mjson_issue(is, pointer, "%zu parameters; at most %d are allowed", n, SPACE_PARAMS_MAX);
    }
    if (is->total > before) {
        return NULL;
    }
    struct space *s = xcalloc(1, sizeof(*s));
    s->params = xcalloc(n, sizeof(*s->params));
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, name, v)
    {
        char *at = mjson_pointer(pointer, name);
        s->params[s->n].name = xstrdup(name);
        read_param(&s->params[s->n++], v, at, is);
        free(at);
    }
    qsort(s->params, n, sizeof(*s->params), by_name);
    read_conditions(s, object, pointer, is);
    if (is->total > before) {
        space_destroy(s);
        return NULL;
    }
    s->counts = xcalloc(n, sizeof(*s->counts));
    space_count(s);
    return s;
}
