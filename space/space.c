/* SPDX-License-Identifier: Apache-2.0
 *
 * Spaces as a whole: lookup, activity, drawing, the unit cube, equality, JSON, destruction.
 */
#include "space/space.h"

#include "base/alloc.h"
#include "space/constraint_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void space_destroy(struct space *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < s->n; i++) {
        struct param *p = &s->params[i];
        for (uint32_t k = 0; p->labels != NULL && k < p->n_values; k++) {
            free(p->labels[k]);
        }
        free(p->labels);
        free(p->values);
        free(p->rank);
        free(p->at);
        free(p->when);
        free(p->name);
    }
    constraints_destroy(s->constraints);
    free(s->params);
    free(s->order);
    free(s->counts);
    free(s);
}

int space_find(const struct space *s, const char *name)
{
    int lo = 0;
    int hi = s->n - 1;
    while (lo <= hi) {
        int mid = (lo + hi) / 2;
        int c = strcmp(name, s->params[mid].name);
        if (c == 0) {
            return mid;
        }
        if (c < 0) {
            hi = mid - 1;
        } else {
            lo = mid + 1;
        }
    }
    return -1;
}

/* The parent must be settled in `point`: callers go through `order`. */
bool space_is_active(const struct space *s, const double *point, int index)
{
    const struct param *p = &s->params[index];
    if (p->parent < 0) {
        return true;
    }
    double v = point[p->parent];
    return !isnan(v) && p->when[(uint32_t)v];
}

void space_to_unit(const struct space *s, const double *point, double *u)
{
    for (int i = 0; i < s->n; i++) {
        u[i] = isnan(point[i]) ? NAN : param_to_unit(&s->params[i], point[i]);
    }
}

void space_from_unit(const struct space *s, const double *u, double *point)
{
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        point[j] = space_is_active(s, point, j) ? param_from_unit(&s->params[j], u[j]) : NAN;
    }
}

bool space_normalize(const struct space *s, double *point)
{
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        const struct param *p = &s->params[j];
        if (!space_is_active(s, point, j)) {
            point[j] = NAN;
        } else if (p->type == PARAM_DOUBLE && p->step <= 0) {
            if (!(point[j] >= p->lo && point[j] <= p->hi)) {
                return false;
            }
        } else {
            double k = param_cell_of(p, point[j]);
            if (k < 0) {
                return false;
            }
            point[j] = param_cell_value(p, k);
        }
    }
    return true;
}

bool space_point_equal(const struct space *s, const double *a, const double *b)
{
    for (int i = 0; i < s->n; i++) {
        if (!(isnan(a[i]) ? isnan(b[i]) : a[i] == b[i])) {
            return false;
        }
    }
    return true;
}

uint64_t space_point_hash(const struct space *s, const double *point)
{
    uint64_t h = 0xcbf29ce484222325ULL; /* FNV-1a */
    for (int i = 0; i < s->n; i++) {
        /* One bit pattern for every NaN, and for both zeros. */
        double v = isnan(point[i]) ? (double)NAN : point[i] == 0 ? 0 : point[i];
        unsigned char bytes[sizeof(v)];
        memcpy(bytes, &v, sizeof(v));
        for (size_t k = 0; k < sizeof(v); k++) {
            h = (h ^ bytes[k]) * 0x100000001b3ULL;
        }
    }
    return h;
}

static json_t *list_value(const struct param *p, uint32_t k)
{
    if (p->type == PARAM_CATEGORICAL) {
        return json_string(p->labels[k]);
    }
    return p->whole ? json_integer((json_int_t)p->values[k]) : json_real(p->values[k]);
}

static json_t *number(const struct param *p, double v)
{
    return p->type == PARAM_INTEGER ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *when_to_json(const struct space *s, const struct param *p)
{
    const struct param *parent = &s->params[p->parent];
    json_t *values = json_array();
    for (uint32_t k = 0; k < parent->n_values; k++) {
        if (p->when[k]) {
            (void)json_array_append_new(values, list_value(parent, k));
        }
    }
    return json_pack("{s:o}", parent->name, values);
}

static json_t *param_to_json(const struct space *s, const struct param *p)
{
    static const char *const names[] = {"DOUBLE", "INTEGER", "DISCRETE", "CATEGORICAL"};
    json_t *o = json_pack("{s:s}", "type", names[p->type]);
    if (p->n_values > 0) {
        json_t *values = json_array();
        for (uint32_t k = 0; k < p->n_values; k++) {
            (void)json_array_append_new(values, list_value(p, k));
        }
        (void)json_object_set_new(o, "values", values);
        if (p->ordered) {
            (void)json_object_set_new(o, "ordered", json_true());
        }
    } else {
        (void)json_object_set_new(o, "range",
                                  json_pack("[o,o]", number(p, p->lo), number(p, p->hi)));
        (void)json_object_set_new(o, "scale",
                                  json_string(p->log           ? "log"
                                              : p->reverse_log ? "reverse-log"
                                                               : "linear"));
        if (p->step > (p->type == PARAM_INTEGER ? 1 : 0)) {
            (void)json_object_set_new(o, "step", number(p, p->step));
        }
    }
    if (p->parent >= 0) {
        (void)json_object_set_new(o, "when", when_to_json(s, p));
    }
    return o;
}

json_t *space_to_json(const struct space *s)
{
    json_t *o = json_object();
    for (int i = 0; i < s->n; i++) {
        (void)json_object_set_new(o, s->params[i].name, param_to_json(s, &s->params[i]));
    }
    return o;
}

json_t *space_point_to_json(const struct space *s, const double *point)
{
    json_t *o = json_object();
    for (int i = 0; i < s->n; i++) {
        const struct param *p = &s->params[i];
        if (!isnan(point[i])) {
            json_t *v = p->n_values > 0 ? list_value(p, (uint32_t)point[i]) : number(p, point[i]);
            (void)json_object_set_new(o, p->name, v);
        }
    }
    return o;
}
