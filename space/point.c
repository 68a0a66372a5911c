/* SPDX-License-Identifier: Apache-2.0
 *
 * A params object from a user back to a point, strictly: every active parameter, no other, each
 * value in its domain; or a part of them, the rest being drawn.
 */
#include "space/space.h"

#include "base/alloc.h"
#include "space/constraint_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static bool read_value(const struct space *s, int j, const json_t *v, const char *pointer,
                       struct mjson_issues *is, double *ret)
{
    const struct param *p = &s->params[j];
    char *at = mjson_pointer(pointer, p->name);
    bool ok = p->n_values > 0 ? read_choice(p, v, at, is, ret) : read_number(p, v, at, is, ret);
    free(at);
    return ok;
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
    return read_value(s, j, v, pointer, is, &point[j]);
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

/* ---- a part of a point ---- */

#define PART_DRAWS 64 /* of what is missing, before the point is mended */

struct part {
    const struct space *s;
    const char *purpose;
    uint64_t seed, id;
    uint64_t draw; /* of PART_DRAWS */
    bool *given;   /* n, by the user */
    bool *known;   /* n, given or chosen for the sake of a given child */
};

static double draw_unit(const struct part *t, int j)
{
    struct pcg64 g;
    char stream[SPACE_NAME_MAX + 80];
    (void)snprintf(stream, sizeof(stream), "%.60s:%s", t->purpose, t->s->params[j].name);
    pcg_stream(&g, t->seed, stream, t->id | t->draw << 40);
    return pcg64_double(&g);
}

/* A value of parent j that makes every known child active; NaN when there is none. */
static double choose_parent(const struct part *t, int j)
{
    const struct param *p = &t->s->params[j];
    uint32_t from = (uint32_t)(draw_unit(t, j) * p->n_values);
    for (uint32_t i = 0; i < p->n_values; i++) {
        uint32_t k = (from + i) % p->n_values;
        bool ok = true;
        for (int c = 0; c < t->s->n; c++) {
            ok = ok && (t->s->params[c].parent != j || !t->known[c] || t->s->params[c].when[k]);
        }
        if (ok) {
            return k;
        }
    }
    return NAN;
}

static bool has_known_child(const struct part *t, int j)
{
    for (int c = 0; c < t->s->n; c++) {
        if (t->s->params[c].parent == j && t->known[c]) {
            return true;
        }
    }
    return false;
}

/* The values given, and the parents that they need, children before parents. */
static bool read_given(struct part *t, const json_t *params, const char *pointer,
                       struct mjson_issues *is, double *point)
{
    int before = is->total;
    for (int i = t->s->n - 1; i >= 0; i--) {
        int j = t->s->order[i];
        const json_t *v = json_object_get(params, t->s->params[j].name);
        t->given[j] = v != NULL;
        t->known[j] = t->given[j] || has_known_child(t, j);
        point[j] = NAN;
        if (v != NULL) {
            (void)read_value(t->s, j, v, pointer, is, &point[j]);
        } else if (t->known[j]) {
            point[j] = choose_parent(t, j);
            if (isnan(point[j])) {
                mjson_issue(is, pointer, "no value of \"%s\" makes all the parameters given active",
                            t->s->params[j].name);
            }
        }
    }
    for (int i = 0; is->total == before && i < t->s->n; i++) {
        int j = t->s->order[i];
        if (t->known[j] && !space_is_active(t->s, point, j)) {
            mjson_issue_at(is, pointer, t->s->params[j].name,
                           "\"%s\" is inactive for this value of \"%s\": leave it out",
                           t->s->params[j].name, t->s->params[t->s->params[j].parent].name);
        }
    }
    return is->total == before;
}

/* Draws what is active and not given; true when there is nothing to draw. */
static bool fill(struct part *t, double *point)
{
    bool whole = true;
    for (int i = 0; i < t->s->n; i++) {
        int j = t->s->order[i];
        if (t->given[j]) {
            continue;
        }
        if (t->known[j]) {
            point[j] = choose_parent(t, j);
        } else if (space_is_active(t->s, point, j)) {
            point[j] = param_from_unit(&t->s->params[j], draw_unit(t, j));
        } else {
            point[j] = NAN;
            continue;
        }
        whole = false;
    }
    return whole;
}

/* Fills the rest; false when it cannot keep to the constraints. */
static bool complete(struct part *t, const char *pointer, struct mjson_issues *is, double *point)
{
    bool whole = fill(t, point);
    const char *broken = space_broken(t->s, point);
    if (broken != NULL && whole) {
        mjson_issue(is, pointer, "the point breaks the constraint %.200s", broken);
        return false;
    }
    while (!space_is_feasible(t->s, point) && ++t->draw < PART_DRAWS) {
        (void)fill(t, point);
    }
    if (!space_is_feasible(t->s, point) &&
        !space_complete(t->s, t->seed, t->purpose, t->id, t->given, point)) {
        mjson_issue(is, pointer,
                    "no values for the other parameters were found that meet the constraint %.200s",
                    broken);
        return false;
    }
    return true;
}

bool space_point_from_part(const struct space *s, const json_t *params, const char *pointer,
                           uint64_t seed, const char *purpose, uint64_t id, struct mjson_issues *is,
                           double *point)
{
    int before = is->total;
    if (!json_is_object(params)) {
        mjson_issue(is, pointer, "a point is an object of parameters, not %s", mjson_kind(params));
        return false;
    }
    check_names(s, params, pointer, is);
    struct part t = {.s = s, .purpose = purpose, .seed = seed, .id = id};
    t.given = xcalloc(2 * (size_t)s->n, sizeof(*t.given));
    t.known = t.given + s->n;
    if (read_given(&t, params, pointer, is, point) && is->total == before) {
        (void)complete(&t, pointer, is, point);
    }
    free(t.given);
    return is->total == before;
}
