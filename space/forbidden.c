/* SPDX-License-Identifier: Apache-2.0
 *
 * Forbidden combinations: {"optimizer": "adam", "momentum": [0.9, 0.99], "lr": {"range": [0.1, 1]}}
 * excludes the points where every named parameter is active and has one of the values named.
 */
#include "space/constraint_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

static bool read_range(struct term *t, const struct param *p, const json_t *v, const char *pointer,
                       struct mjson_issues *is)
{
    static const char *const keys[] = {"range", NULL};
    const json_t *range = json_object_get(v, "range");
    mjson_check_keys(v, keys, pointer, is);
    if (p->n_values > 0 || json_array_size(range) != 2 ||
        !json_is_number(json_array_get(range, 0)) || !json_is_number(json_array_get(range, 1))) {
        mjson_issue(is, pointer, "%s",
                    p->n_values > 0 ? "list the values that are forbidden"
                                    : "must be {\"range\": [low, high]}, two numbers");
        return false;
    }
    t->lo = json_number_value(json_array_get(range, 0));
    t->hi = json_number_value(json_array_get(range, 1));
    if (!(t->lo <= t->hi) || t->hi < p->lo || t->lo > p->hi) {
        mjson_issue_at(is, pointer, "range", "[%.15g, %.15g] %s [%.15g, %.15g] of \"%s\"", t->lo,
                       t->hi,
                       t->lo <= t->hi ? "has nothing of the range" : "is empty; from the range",
                       p->lo, p->hi, p->name);
        return false;
    }
    return true;
}

static bool read_value(struct term *t, const struct param *p, const json_t *v, const char *pointer,
                       struct mjson_issues *is)
{
    if (p->n_values > 0) {
        int k = param_value_index(p, v);
        if (k < 0) {
            mjson_issue(is, pointer, "this is not a value of \"%s\" as declared", p->name);
            return false;
        }
        t->listed[k] = true;
        return true;
    }
    if (isinf(param_cells(p))) {
        mjson_issue(is, pointer,
                    "\"%s\" is continuous and hits no single value: forbid a range, such as "
                    "{\"range\": [0.1, 0.2]}",
                    p->name);
        return false;
    }
    double k = json_is_number(v) ? param_cell_of(p, json_number_value(v)) : -1;
    if (k < 0) {
        mjson_issue(is, pointer, "this is not a value of \"%s\"", p->name);
        return false;
    }
    t->values[t->n++] = param_cell_value(p, k);
    return true;
}

static bool read_term(struct term *t, const struct param *p, const json_t *v, const char *pointer,
                      struct mjson_issues *is)
{
    if (json_is_object(v)) {
        return read_range(t, p, v, pointer, is);
    }
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    bool ok = n > 0 && n <= SPACE_VALUES_MAX;
    if (!ok) {
        mjson_issue(is, pointer, "must be a value of \"%s\" or a list of 1 to %d", p->name,
                    SPACE_VALUES_MAX);
        return false;
    }
    t->listed = p->n_values > 0 ? xcalloc(p->n_values, sizeof(*t->listed)) : NULL;
    t->values = p->n_values > 0 ? NULL : xcalloc(n, sizeof(*t->values));
    for (size_t i = 0; i < n; i++) {
        char *at = json_is_array(v) ? mjson_pointer_index(pointer, i) : xstrdup(pointer);
        ok = read_value(t, p, json_is_array(v) ? json_array_get(v, i) : v, at, is) && ok;
        free(at);
    }
    return ok;
}

bool forbidden_parse(struct constraint *c, const struct space *s, const json_t *object,
                     const char *pointer, struct mjson_issues *is)
{
    const char *name = NULL;
    json_t *v = NULL;
    bool ok = json_object_size(object) > 0;
    if (!ok) {
        mjson_issue(is, pointer,
                    "an empty combination forbids everything: name parameters and "
                    "their values, such as {\"optimizer\": \"adam\"}");
        return false;
    }
    const char **names = xcalloc((size_t)s->n + 1, sizeof(*names));
    for (int i = 0; i < s->n; i++) {
        names[i] = s->params[i].name;
    }
    int before = is->total;
    mjson_check_keys(object, names, pointer, is);
    free(names);
    c->terms = xcalloc(json_object_size(object), sizeof(*c->terms));
    json_object_foreach((json_t *)(uintptr_t)object, name, v)
    {
        int j = space_find(s, name);
        if (j >= 0) {
            char *at = mjson_pointer(pointer, name);
            c->terms[c->n_terms].param = j;
            (void)read_term(&c->terms[c->n_terms++], &s->params[j], v, at, is);
            free(at);
        }
    }
    return is->total == before;
}

void forbidden_fini(struct constraint *c)
{
    for (int i = 0; i < c->n_terms; i++) {
        free(c->terms[i].listed);
        free(c->terms[i].values);
    }
    free(c->terms);
}

/* How far inside the term the value lies: 0 = outside. */
static double inside(const struct term *t, double v)
{
    if (t->listed != NULL) {
        return t->listed[(uint32_t)v] ? 1 : 0;
    }
    if (t->values == NULL) {
        double d = fmin(v - t->lo, t->hi - v);
        return d >= 0 ? 1e-9 + d / fmax(t->hi - t->lo, 1e-300) : 0;
    }
    for (int i = 0; i < t->n; i++) {
        if (t->values[i] == v) {
            return 1;
        }
    }
    return 0;
}

double forbidden_violation(const struct constraint *c, const struct space *s, const double *point)
{
    double least = INFINITY;
    for (int i = 0; i < c->n_terms && least > 0; i++) {
        double v = point[c->terms[i].param];
        least = isnan(v) ? 0 : fmin(least, inside(&c->terms[i], v));
    }
    return least;
}
