/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of constraints of a space: reading it, asking it.
 */
#include "space/constraint_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double constraint_violation(const struct constraint *c, const struct space *s, const double *point)
{
    return c->condition != NULL ? expr_violation(c->condition, s, point)
                                : forbidden_violation(c, s, point);
}

bool constraint_reads(const struct constraint *c, int index)
{
    if (c->condition != NULL) {
        return expr_reads(c->condition, index);
    }
    for (int i = 0; i < c->n_terms; i++) {
        if (c->terms[i].param == index) {
            return true;
        }
    }
    return false;
}

bool space_is_feasible(const struct space *s, const double *point)
{
    return space_broken(s, point) == NULL;
}

const char *space_broken(const struct space *s, const double *point)
{
    for (int i = 0; s->constraints != NULL && i < s->constraints->n; i++) {
        if (constraint_violation(&s->constraints->at[i], s, point) > 0) {
            return s->constraints->at[i].text;
        }
    }
    return NULL;
}

double space_violation(const struct space *s, const double *point)
{
    double sum = 0;
    for (int i = 0; s->constraints != NULL && i < s->constraints->n; i++) {
        sum += constraint_violation(&s->constraints->at[i], s, point);
    }
    return sum;
}

/* ---- reading ---- */

static void read_one(struct constraint *c, const struct space *s, json_t *v, const char *pointer,
                     struct mjson_issues *is)
{
    c->json = json_incref(v);
    if (json_is_string(v)) {
        c->text = xstrdup(json_string_value(v));
        c->condition = expr_parse(s, c->text, pointer, is);
    } else if (json_is_object(v)) {
        char *text = mjson_dump(v);
        c->text = xasprintf("forbidden %.200s", text);
        free(text);
        (void)forbidden_parse(c, s, v, pointer, is);
    } else {
        mjson_issue(is, pointer,
                    "a constraint is a condition such as \"a <= b\" or a forbidden combination "
                    "such as {\"optimizer\": \"adam\", \"momentum\": [0.9]}, not %s",
                    mjson_kind(v));
    }
}

/* Sets the witness. False when there is none: `least` is then the least broken point seen. */
static bool find_witness(struct space *s, double *least, bool *ret_certain)
{
    struct constraints *c = s->constraints;
    double cells = space_size(s);
    c->witness = xcalloc((size_t)s->n, sizeof(*c->witness));
    *ret_certain = cells <= SPACE_CELLS_MAX;
    if (*ret_certain) {
        cells_enumerate(s, c);
        if (c->feasible > 0) {
            return true;
        }
    } else if (repair_witness(s, c->witness)) {
        return true;
    }
    (void)repair_witness(s, least);
    return false;
}

static void report_empty(const struct space *s, const double *least, bool certain,
                         const char *pointer, struct mjson_issues *is)
{
    const struct constraints *c = s->constraints;
    int at = 0;
    while (at + 1 < c->n && constraint_violation(&c->at[at], s, least) <= 0) {
        at++;
    }
    char *where = mjson_pointer_index(pointer, (size_t)at);
    mjson_issue(is, where,
                "no point of the search space %s all constraints%s; the one that keeps the nearest "
                "point out is %.120s: loosen it, or widen the ranges",
                certain ? "meets" : "was found that meets",
                certain ? "" : " (a long search ended without one)", c->at[at].text);
    free(where);
}

bool space_constrain(struct space *s, const json_t *list, const char *pointer,
                     struct mjson_issues *is)
{
    int before = is->total;
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > SPACE_CONSTRAINTS_MAX) {
        mjson_issue(is, pointer, "must be a list of at most %d constraints, such as [\"a <= b\"]",
                    SPACE_CONSTRAINTS_MAX);
        return false;
    }
    if (n == 0) {
        return true;
    }
    struct constraints *c = xcalloc(1, sizeof(*c));
    c->at = xcalloc(n, sizeof(*c->at));
    for (size_t i = 0; i < n; i++) {
        char *at = mjson_pointer_index(pointer, i);
        read_one(&c->at[c->n++], s, json_array_get(list, i), at, is);
        free(at);
    }
    if (is->total == before) {
        bool certain = false;
        double *least = xcalloc((size_t)s->n, sizeof(*least));
        s->constraints = c;
        if (!find_witness(s, least, &certain)) {
            report_empty(s, least, certain, pointer, is);
        }
        free(least);
    }
    if (is->total > before) {
        s->constraints = NULL;
        constraints_destroy(c);
    }
    return is->total == before;
}

json_t *space_constraints_to_json(const struct space *s)
{
    if (s->constraints == NULL) {
        return NULL;
    }
    json_t *list = json_array();
    for (int i = 0; i < s->constraints->n; i++) {
        (void)json_array_append_new(list, json_deep_copy(s->constraints->at[i].json));
    }
    return list;
}

void constraints_destroy(struct constraints *c)
{
    if (c == NULL) {
        return;
    }
    for (int i = 0; i < c->n; i++) {
        expr_destroy(c->at[i].condition);
        forbidden_fini(&c->at[i]);
        free(c->at[i].text);
        json_decref(c->at[i].json);
    }
    free(c->at);
    free(c->bits);
    free(c->rank);
    free(c->witness);
    free(c);
}
