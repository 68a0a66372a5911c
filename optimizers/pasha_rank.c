/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/pasha_rank.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- curves ---- */

void curve_add(struct pasha_curve *c, int64_t step, double value)
{
    c->stride = c->stride > 0 ? c->stride : 1;
    if (c->seen++ % c->stride != 0) {
        return;
    }
    if (c->n == CURVE_MAX) {
        for (int i = 0; i < CURVE_MAX / 2; i++) {
            c->points[i] = c->points[2 * i];
        }
        c->n = CURVE_MAX / 2;
        c->stride *= 2; /* CURVE_MAX is even: this report is one of those that stay */
    }
    if (c->n == c->cap) {
        c->cap = c->cap > 0 ? (uint8_t)(2 * c->cap) : 4;
        c->points = xreallocarray(c->points, c->cap, sizeof(*c->points));
    }
    c->points[c->n++] = (struct curve_point){step, value};
}

void curve_fini(struct pasha_curve *c)
{
    free(c->points);
    *c = (struct pasha_curve){0};
}

bool curves_cross_twice(const struct pasha_curve *a, const struct pasha_curve *b)
{
    bool above = a->now > b->now;
    bool opposite = false;
    for (int i = a->n - 1, k = b->n - 1; i >= 0 && k >= 0;) {
        if (a->points[i].step > b->points[k].step) {
            i--;
        } else if (a->points[i].step < b->points[k].step) {
            k--;
        } else {
            bool was = a->points[i--].value > b->points[k--].value;
            if (opposite && was == above) {
                return true;
            }
            opposite = opposite || was != above;
        }
    }
    return false;
}

static struct pasha_curve copy_of(const struct pasha_curve *c)
{
    struct pasha_curve copy = *c;
    copy.cap = c->n;
    copy.points = xcalloc((size_t)c->n + 1, sizeof(*copy.points));
    if (c->n > 0) {
        memcpy(copy.points, c->points, c->n * sizeof(*copy.points));
    }
    return copy;
}

/* ---- the noise ---- */

static void add_distance(struct pasha_rank *r, double d)
{
    int i = r->n_distances++;
    for (; i > 0 && r->distances[i - 1] > d; i--) {
        r->distances[i] = r->distances[i - 1];
    }
    r->distances[i] = d;
}

static void hear_noise(struct pasha_rank *r, const struct pasha_curve *c)
{
    if (r->fixed || r->n_noise == NOISE_MAX) {
        return;
    }
    for (int i = 0; i < r->n_noise; i++) {
        if (curves_cross_twice(c, &r->noise[i])) {
            add_distance(r, fabs(c->now - r->noise[i].now));
        }
    }
    r->noise[r->n_noise++] = copy_of(c);
    if (r->n_distances > 0) {
        double at = (double)(r->n_distances - 1) * r->percentile;
        int i = (int)floor(at);
        double next = r->distances[i + 1 < r->n_distances ? i + 1 : i];
        r->epsilon = r->distances[i] + (at - i) * (next - r->distances[i]);
    }
}

/* ---- the ranking ---- */

static bool comes_before(double a, int64_t trial_a, double b, int64_t trial_b)
{
    return a != b ? a < b : trial_a < trial_b;
}

static void insert(struct ranked *list, int n, struct ranked v, bool by_now)
{
    double key = by_now ? v.now : v.before;
    int i = n;
    while (i > 0 && comes_before(key, v.trial, by_now ? list[i - 1].now : list[i - 1].before,
                                 list[i - 1].trial)) {
        list[i] = list[i - 1];
        i--;
    }
    list[i] = v;
}

static void drop(struct ranked *list, int n, int64_t trial)
{
    int i = 0;
    while (i < n && list[i].trial != trial) {
        i++;
    }
    if (i < n) {
        memmove(&list[i], &list[i + 1], (size_t)(n - i - 1) * sizeof(*list));
    }
}

static void rank_insert(struct pasha_rank *r, struct ranked v)
{
    if (r->n == RANK_MAX) {
        const struct ranked *worst = &r->by_now[RANK_MAX - 1];
        if (!comes_before(v.now, v.trial, worst->now, worst->trial)) {
            return;
        }
        drop(r->by_before, r->n, worst->trial);
        r->n--;
    }
    insert(r->by_now, r->n, v, true);
    insert(r->by_before, r->n, v, false);
    r->n++;
}

void rank_add(struct pasha_rank *r, int64_t trial, const struct pasha_curve *c)
{
    hear_noise(r, c);
    rank_insert(r, (struct ranked){.trial = trial, .before = c->before, .now = c->now});
}

bool rank_is_stable(const struct pasha_rank *r)
{
    for (int i = 0; i < r->n; i++) {
        if (fabs(r->by_now[i].before - r->by_before[i].before) > r->epsilon) {
            return false;
        }
    }
    return true;
}

void rank_reset(struct pasha_rank *r)
{
    for (int i = 0; i < r->n_noise; i++) {
        curve_fini(&r->noise[i]);
    }
    r->n = 0;
    r->n_noise = 0;
    r->n_distances = 0;
}

/* ---- state ---- */

json_t *curve_save(const struct pasha_curve *c)
{
    json_t *points = json_array();
    for (int i = 0; i < c->n; i++) {
        (void)json_array_append_new(
            points, json_pack("[I,f]", (json_int_t)c->points[i].step, c->points[i].value));
    }
    return json_pack("[I,I,f,f,o]", (json_int_t)c->stride, (json_int_t)c->seen, c->before, c->now,
                     points);
}

bool curve_load(struct pasha_curve *c, const json_t *state)
{
    const json_t *points = json_array_get(state, 4);
    json_int_t stride = json_integer_value(json_array_get(state, 0));
    json_int_t seen = json_integer_value(json_array_get(state, 1));
    size_t i = 0;
    json_t *row = NULL;
    if (!json_is_array(points) || json_array_size(points) > CURVE_MAX || stride < 0 ||
        stride > UINT32_MAX || seen < 0 || seen > UINT32_MAX) {
        return false;
    }
    *c = (struct pasha_curve){.cap = (uint8_t)json_array_size(points),
                              .stride = (uint32_t)stride,
                              .seen = (uint32_t)seen,
                              .before = json_number_value(json_array_get(state, 2)),
                              .now = json_number_value(json_array_get(state, 3))};
    c->points = xcalloc((size_t)c->cap + 1, sizeof(*c->points));
    json_array_foreach(points, i, row)
    {
        c->points[c->n++] =
            (struct curve_point){.step = json_integer_value(json_array_get(row, 0)),
                                 .value = json_number_value(json_array_get(row, 1))};
    }
    return true;
}

json_t *rank_save(const struct pasha_rank *r)
{
    json_t *ranked = json_array();
    json_t *noise = json_array();
    for (int i = 0; i < r->n; i++) {
        const struct ranked *v = &r->by_now[i];
        (void)json_array_append_new(ranked,
                                    json_pack("[I,f,f]", (json_int_t)v->trial, v->before, v->now));
    }
    for (int i = 0; i < r->n_noise; i++) {
        (void)json_array_append_new(noise, curve_save(&r->noise[i]));
    }
    return json_pack("{s:f, s:o, s:o}", "epsilon", r->epsilon, "ranked", ranked, "noise", noise);
}

bool rank_load(struct pasha_rank *r, const json_t *state)
{
    const json_t *ranked = json_object_get(state, "ranked");
    const json_t *noise = json_object_get(state, "noise");
    size_t i = 0;
    json_t *row = NULL;
    if (json_array_size(ranked) > RANK_MAX || json_array_size(noise) > NOISE_MAX) {
        return false;
    }
    json_array_foreach(ranked, i, row)
    {
        rank_insert(r, (struct ranked){.trial = json_integer_value(json_array_get(row, 0)),
                                       .before = json_number_value(json_array_get(row, 1)),
                                       .now = json_number_value(json_array_get(row, 2))});
    }
    json_array_foreach(noise, i, row)
    {
        struct pasha_curve c;
        if (!curve_load(&c, row)) {
            return false;
        }
        hear_noise(r, &c);
        curve_fini(&c);
    }
    r->epsilon = json_number_value(json_object_get(state, "epsilon"));
    return json_is_array(ranked) && json_is_array(noise);
}
