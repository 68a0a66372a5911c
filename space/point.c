/* SPDX-License-Identifier: Apache-2.0
 *
 * A params object from a user back to a point, strictly: every active parameter, no other, each
 * value in its domain.
 */
#include "space/space.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

static bool read_choice(const struct param *p, const json_t *v, const char *pointer,
                        struct mjson_issues *is, double *ret)
{
    int k = param_value_index(p, v);
    if (k >= 0) {
        *ret = k;
        return true;
    }
    const char *near =
        p->type == PARAM_CATEGORICAL && json_is_string(v) && p->n_values == 1 ? p->labels[0] : NULL;
    char *text = mjson_dump(v);
    mjson_issue(is, pointer, "%.60s is not among the %u values of \"%s\"%s%s", text, p->n_values,
                p->name, near != NULL ? "; the only one is " : "", near != NULL ? near : "");
    free(text);
    return false;
}

static bool read_number(const struct param *p, const json_t *v, const char *pointer,
                        struct mjson_issues *is, double *ret)
{
    if (!json_is_number(v) || !isfinite(json_number_value(v))) {
        mjson_issue(is, pointer, "\"%s\" needs a finite number, not %s", p->name, mjson_kind(v));
        return false;
    }
    double x = json_number_value(v) + 0.0;
    if (x < p->lo || x > p->hi) {
        mjson_issue(is, pointer, "%.15g is outside [%.15g, %.15g]", x, p->lo, p->hi);
        return false;
    }
    if (p->type == PARAM_DOUBLE && p->step <= 0) {
        *ret = x;
        return true;
    }
    double k = param_cell_of(p, x);
    if (k < 0) {
        double near = fmin(fmax(floor((x - p->lo) / p->step + 0.5), 0), param_cells(p) - 1);
        mjson_issue(is, pointer, "%.15g is none of %.15g, %.15g, …; the nearest is %.15g", x, p->lo,
                    param_cell_value(p, 1), param_cell_value(p, near));
        return false;
    }
    *ret = param_cell_value(p, k);
    return true;
}

static void check_names(const struct space *s, const json_t *params, const char *pointer,
                        struct mjson_issues *is)
{
    const char **names = xcalloc((size_t)s->n + 1, sizeof(*names));
    for (int i = 0; i < s->n; i++) {
        names[i] = s->params[i].name;
    }
    mjson_check_keys(params, (const char *const *)names, pointer, is);
    free(names);
}

/* One parameter whose parent is settled. False when a fault was reported. */
static bool read_one(const struct space *s, int j, const json_t *params, const char *pointer,
                     struct mjson_issues *is, double *point)
{
    const struct param *p = &s->params[j];
    const json_t *v = json_object_get(params, p->name);
    point[j] = NAN;
    if (!space_is_active(s, point, j)) {
        if (v != NULL) {
            mjson_issue_at(is, pointer, p->name,
                           "\"%s\" is inactive for this value of \"%s\": leave it out", p->name,
                           s->params[p->parent].name);
        }
        return v == NULL;
    }
    if (v == NULL) {
        mjson_issue(is, pointer, "the parameter \"%s\" is missing", p->name);
        return false;
    }
    char *at = mjson_pointer(pointer, p->name);
    bool ok = p->n_values > 0 ? read_choice(p, v, at, is, &point[j])
                              : read_number(p, v, at, is, &point[j]);
    free(at);
    return ok;
}

bool space_point_from_json(const struct space *s, const json_t *params, const char *pointer,
                           struct mjson_issues *is, double *point)
{
    int before = is->total;
    if (!json_is_object(params)) {
        mjson_issue(is, pointer, "a point is an object of parameters, not %s", mjson_kind(params));
        return false;
    }
    check_names(s, params, pointer, is);
    bool *bad = xcalloc((size_t)s->n, sizeof(*bad));
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        int parent = s->params[j].parent;
        /* Below a faulty parent nobody knows what is active: one fault, one message. */
        bad[j] = (parent >= 0 && bad[parent]) || !read_one(s, j, params, pointer, is, point);
    }
    free(bad);
    return is->total == before;
}
