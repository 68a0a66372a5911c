/* SPDX-License-Identifier: Apache-2.0
 *
 * Grid search: every distinct point of a finite space that meets the constraints, once, in order or
 * shuffled by a permutation that needs no memory. A parameter without a step takes `points` values,
 * evenly spaced on its scale from end to end: the grid then lies in a finite copy of the space, in
 * which these parameters are lists. A point that a user enqueued is not tried again.
 */
#include "optimizers/permute.h"
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/pcg.h"
#include "space/constraint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_ORDER, OPT_POINTS };

static const char *const orders[] = {"ordered", "shuffled", NULL};

static const struct opt_option grid_options[] = {
    {"order", OPT_T_ENUM, 0, 0, 0, orders, "in order of the values, or shuffled by the seed"},
    {"points", OPT_T_INT, 2, SPACE_VALUES_MAX, NAN, NULL,
     "values of each DOUBLE without a step, evenly spaced on its scale; default: none, each needs "
     "a "
     "step"},
    {0},
};

struct grid {
    const struct space *space;
    struct space *levels; /* the finite copy; NULL = the space itself is finite */
    int64_t budget;
    uint64_t size;
    uint64_t cursor; /* place of the next point in the order */
    bool shuffled;
    struct permutation permutation;
    double *others; /* points of the grid that came from elsewhere, not yet passed by the cursor;
                       n_others * space->n */
    size_t n_others;
};

/* Is this one of the parameters that `points` is for? */
static bool is_levelled(const struct space *s, int i)
{
    return isinf(param_cells(&s->params[i]));
}

static enum mag_status fail_continuous(const struct space *s, struct mag_err *err)
{
    struct buf names = {0};
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (is_levelled(s, i)) {
            buf_addf(&names, "%s\"%.40s\"", n++ > 0 ? ", " : "", s->params[i].name);
        }
    }
    enum mag_status st = mag_fail(
        err, MAG_INVALID,
        "%.120s %s continuous: give it a step, list its values as DISCRETE, or set \"points\" of "
        "the grid, the number of values of each such parameter",
        names.data, n > 1 ? "are" : "is");
    buf_fini(&names);
    return st;
}

/* The text of parameter i with its levels as a list. */
static json_t *levels_of(const struct param *p, int points, const json_t *full)
{
    json_t *values = json_array();
    for (int k = 0; k < points; k++) {
        double v = param_from_unit(p, (double)k / (points - 1));
        (void)json_array_append_new(values, json_real(v));
    }
    json_t *o = json_pack("{s:s, s:o}", "type", "DISCRETE", "values", values);
    json_t *when = json_object_get(full, "when");
    if (when != NULL) {
        (void)json_object_set(o, "when", when);
    }
    return o;
}

static enum mag_status make_levels(struct grid *g, int points, struct mag_err *err)
{
    json_t *text = space_to_json(g->space);
    json_t *constraints = space_constraints_to_json(g->space);
    struct mjson_issues is = {0};
    for (int i = 0; i < g->space->n; i++) {
        const struct param *p = &g->space->params[i];
        if (is_levelled(g->space, i)) {
            json_t *o = levels_of(p, points, json_object_get(text, p->name));
            (void)json_object_set_new(text, p->name, o);
        }
    }
    g->levels = space_parse(text, "", &is);
    bool ok = g->levels != NULL &&
              (constraints == NULL || space_constrain(g->levels, constraints, "", &is));
    enum mag_status st = MAG_OK;
    if (!ok) { /* a range so narrow that levels coincide, or no level that meets the constraints */
        st = mag_fail(err, MAG_INVALID, "%d values of each continuous parameter: %.180s", points,
                      is.n > 0 ? is.items[0].text : "");
    }
    mjson_issues_fini(&is);
    json_decref(constraints);
    json_decref(text);
    return st;
}

/* The space that the grid is counted in. */
static const struct space *cells(const struct grid *g)
{
    return g->levels != NULL ? g->levels : g->space;
}

static enum mag_status measure(struct grid *g, struct mag_err *err)
{
    double size = space_size(cells(g));
    if (size >= SPACE_WHOLE_MAX) {
        return mag_fail(err, MAG_LIMIT,
                        "the grid has %.3g points, more than anyone can try: use \"random\"", size);
    }
    if (!space_size_is_exact(cells(g))) {
        return mag_fail(err, MAG_LIMIT,
                        "constraints leave an unknown part of %.3g points: a grid with constraints "
                        "counts up to %d; list fewer values, widen the steps, or use \"random\"",
                        size, SPACE_CELLS_MAX);
    }
    g->size = (uint64_t)size;
    return MAG_OK;
}

static enum mag_status grid_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                                 struct mag_err *err)
{
    struct grid *g = self;
    double points = cfg->values[OPT_POINTS];
    bool continuous = false;
    *g = (struct grid){.space = cfg->space, .shuffled = cfg->values[OPT_ORDER] == 1};
    g->budget = cfg->resource.present ? cfg->resource.max : 0;
    for (int i = 0; i < cfg->space->n; i++) {
        continuous = continuous || is_levelled(cfg->space, i);
    }
    if (continuous && isnan(points)) {
        return fail_continuous(cfg->space, err);
    }
    *ret_pointer = continuous ? "/points" : NULL;
    enum mag_status st = continuous ? make_levels(g, (int)points, err) : MAG_OK;
    st = st == MAG_OK ? measure(g, err) : st;
    if (st != MAG_OK) {
        return st;
    }
    struct pcg64 p;
    pcg_stream(&p, cfg->seed, "grid-order", 0);
    permutation_init(&g->permutation, g->size, pcg64_next(&p));
    return MAG_OK;
}

static void grid_fini(void *self)
{
    struct grid *g = self;
    space_destroy(g->levels);
    free(g->others);
}

/* The point at a place of the order, in `cells`. */
static void cell_at(const struct grid *g, uint64_t place, double *cell)
{
    uint64_t index = g->shuffled ? permutation_at(&g->permutation, place) : place;
    space_grid_point(cells(g), index, cell);
}

static void to_point(const struct grid *g, double *point)
{
    for (int i = 0; i < g->space->n && g->levels != NULL; i++) {
        if (is_levelled(g->space, i) && !isnan(point[i])) {
            point[i] = g->levels->params[i].values[(uint32_t)point[i]];
        }
    }
}

/* The inverse; false for a point that is none of the grid's. */
static bool to_cell(const struct grid *g, const double *point, double *cell)
{
    memcpy(cell, point, (size_t)g->space->n * sizeof(*cell));
    for (int i = 0; i < g->space->n && g->levels != NULL; i++) {
        if (!is_levelled(g->space, i) || isnan(point[i])) {
            continue;
        }
        const struct param *p = &g->levels->params[i];
        uint32_t k = 0;
        while (k < p->n_values && p->values[k] != point[i]) {
            k++;
        }
        if (k == p->n_values) {
            return false;
        }
        cell[i] = k;
    }
    return true;
}

static void grid_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct grid *g = self;
    if (g->cursor == g->size || !ask->may_create) {
        bool end = g->cursor == g->size;
        out->answer = OPT_DONE;
        out->why_code = end ? "grid-exhausted" : "trials-limit";
        (void)snprintf(out->why, sizeof(out->why),
                       end ? "all %llu points of the grid are given out"
                           : "the limit of trials is reached before the %llu points of the grid",
                       (unsigned long long)g->size);
        return;
    }
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    out->budget = g->budget;
    if (out->point != NULL) {
        cell_at(g, g->cursor, out->point);
        to_point(g, out->point);
    }
}

static void add_other(struct grid *g, const double *point)
{
    size_t n = (size_t)g->space->n;
    g->others = xreallocarray(g->others, (g->n_others + 1) * n, sizeof(*g->others));
    memcpy(g->others + g->n_others++ * n, point, n * sizeof(*point));
}

/* True when the point came from elsewhere before; it is then forgotten. */
static bool take_other(struct grid *g, const double *point)
{
    size_t n = (size_t)g->space->n;
    for (size_t i = 0; i < g->n_others; i++) {
        if (space_point_equal(cells(g), g->others + i * n, point)) {
            memmove(g->others + i * n, g->others + (i + 1) * n,
                    (--g->n_others - i) * n * sizeof(*point));
            return true;
        }
    }
    return false;
}

static void grid_adopt(void *self, const struct opt_suggestion *s)
{
    struct grid *g = self;
    double *next = xcalloc((size_t)g->space->n, sizeof(*next));
    double *cell = xcalloc((size_t)g->space->n, sizeof(*cell));
    if (g->cursor < g->size && to_cell(g, s->point, cell)) {
        cell_at(g, g->cursor, next);
        if (space_point_equal(cells(g), next, cell)) {
            g->cursor++;
        } else {
            add_other(g, cell);
        }
    }
    while (g->n_others > 0 && g->cursor < g->size) {
        cell_at(g, g->cursor, next);
        if (!take_other(g, next)) {
            break;
        }
        g->cursor++;
    }
    free(next);
    free(cell);
}

static enum opt_action grid_report(void *self, int64_t trial, int64_t step,
                                   const struct opt_result *r)
{
    return OPT_CONTINUE;
}

static void grid_finish(void *self, int64_t trial, enum opt_outcome outcome,
                        const struct opt_result *r)
{
}

static json_t *grid_save(const void *self)
{
    const struct grid *g = self;
    json_t *others = json_array();
    for (size_t i = 0; i < g->n_others; i++) {
        (void)json_array_append_new(
            others, space_point_to_json(cells(g), g->others + i * (size_t)g->space->n));
    }
    return json_pack("{s:i, s:I, s:o}", "version", 1, "cursor", (json_int_t)g->cursor, "others",
                     others);
}

static enum mag_status grid_load(void *self, const json_t *state, struct mag_err *err)
{
    struct grid *g = self;
    json_int_t cursor = json_integer_value(json_object_get(state, "cursor"));
    const json_t *others = json_object_get(state, "others");
    double *point = xcalloc((size_t)g->space->n, sizeof(*point));
    struct mjson_issues is = {0};
    if (json_integer_value(json_object_get(state, "version")) != 1) {
        free(point);
        return mag_fail(err, MAG_UNSUPPORTED, "state of another version");
    }
    for (size_t i = 0; i < json_array_size(others); i++) {
        if (space_point_from_json(cells(g), json_array_get(others, i), "", &is, point)) {
            add_other(g, point);
        }
    }
    free(point);
    bool bad = is.total > 0 || cursor < 0 || (uint64_t)cursor > g->size;
    mjson_issues_fini(&is);
    if (bad) {
        return mag_fail(err, MAG_CORRUPT, "the state does not fit the grid");
    }
    g->cursor = (uint64_t)cursor;
    return MAG_OK;
}

static void grid_plan(const void *self, int64_t trials, json_t *rows)
{
    const struct grid *g = self;
    int64_t n = trials > 0 && (uint64_t)trials < g->size ? trials : (int64_t)g->size;
    (void)json_array_append_new(rows,
                                json_pack("{s:i, s:i, s:I, s:I, s:I}", "bracket", 0, "rung", 0,
                                          "budget", (json_int_t)g->budget, "trials", (json_int_t)n,
                                          "epochs", (json_int_t)(n * g->budget)));
}

const struct optimizer_ops grid_ops = {
    .name = "grid",
    .summary = "every point of a finite space once",
    .caps = OPT_CAP_FINITE,
    .options = grid_options,
    .version = 2,
    .state_size = sizeof(struct grid),
    .init = grid_init,
    .fini = grid_fini,
    .suggest = grid_suggest,
    .adopt = grid_adopt,
    .report = grid_report,
    .finish = grid_finish,
    .save = grid_save,
    .load = grid_load,
    .plan = grid_plan,
};
