/* SPDX-License-Identifier: Apache-2.0
 *
 * Grid search: every distinct point of a finite space once, in order or shuffled. The shuffle is a
 * keyed bijection of 0 .. size-1 (a Feistel network on the next even number of bits, walked until
 * it lands inside), so that it needs no memory whatever the size. A point that a user enqueued is
 * not tried again.
 */
#include "optimizers/registry.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "space/constraint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_ORDER };

static const char *const orders[] = {"ordered", "shuffled", NULL};

static const struct opt_option grid_options[] = {
    {"order", OPT_T_ENUM, 0, 0, 0, orders, "in order of the values, or shuffled by the seed"},
    {0},
};

#define FEISTEL_ROUNDS 6

struct grid {
    const struct space *space;
    int64_t budget;
    uint64_t size;
    uint64_t cursor; /* place of the next point in the order */
    bool shuffled;
    int half_bits;
    uint64_t keys[FEISTEL_ROUNDS];
    double *others; /* points that came from elsewhere, not yet passed by the cursor; n_others *
                       space->n */
    size_t n_others;
};

static enum mag_status grid_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                                 struct mag_err *err)
{
    struct grid *g = self;
    double size = space_size(cfg->space);
    *g = (struct grid){.space = cfg->space, .shuffled = cfg->values[OPT_ORDER] == 1};
    g->budget = cfg->resource.present ? cfg->resource.max : 0;
    if (size >= SPACE_WHOLE_MAX) {
        return mag_fail(err, MAG_LIMIT,
                        "the grid has %.3g points, more than anyone can try: use \"random\"", size);
    }
    if (!space_size_is_exact(cfg->space)) {
        return mag_fail(err, MAG_LIMIT,
                        "constraints leave an unknown part of %.3g points: a grid with constraints "
                        "counts up to %d; list fewer values, widen the steps, or use \"random\"",
                        size, SPACE_CELLS_MAX);
    }
    g->size = (uint64_t)size;
    while ((UINT64_C(1) << (2 * g->half_bits)) < g->size) {
        g->half_bits++;
    }
    for (uint64_t i = 0; i < FEISTEL_ROUNDS; i++) {
        struct pcg64 p;
        pcg_stream(&p, cfg->seed, "grid-order", i);
        g->keys[i] = pcg64_next(&p);
    }
    return MAG_OK;
}

static void grid_fini(void *self)
{
    free(((struct grid *)self)->others);
}

/* The grid index at a place of the order. */
static uint64_t index_at(const struct grid *g, uint64_t place)
{
    if (!g->shuffled || g->half_bits == 0) {
        return place;
    }
    uint64_t mask = (UINT64_C(1) << g->half_bits) - 1;
    do { /* at most a quarter of the values lie inside, so the walk is short */
        uint64_t left = place >> g->half_bits;
        uint64_t right = place & mask;
        for (int i = 0; i < FEISTEL_ROUNDS; i++) {
            uint64_t f = (right ^ g->keys[i]) * 0x9e3779b97f4a7c15ULL;
            f = (f ^ (f >> 29)) * 0xbf58476d1ce4e5b9ULL;
            uint64_t t = left ^ ((f ^ (f >> 32)) & mask);
            left = right;
            right = t;
        }
        place = left << g->half_bits | right;
    } while (place >= g->size);
    return place;
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
        space_grid_point(g->space, index_at(g, g->cursor), out->point);
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
        if (space_point_equal(g->space, g->others + i * n, point)) {
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
    if (g->cursor < g->size) {
        space_grid_point(g->space, index_at(g, g->cursor), next);
        if (space_point_equal(g->space, next, s->point)) {
            g->cursor++;
        } else {
            add_other(g, s->point);
        }
    }
    while (g->n_others > 0 && g->cursor < g->size) {
        space_grid_point(g->space, index_at(g, g->cursor), next);
        if (!take_other(g, next)) {
            break;
        }
        g->cursor++;
    }
    free(next);
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
            others, space_point_to_json(g->space, g->others + i * (size_t)g->space->n));
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
        if (space_point_from_json(g->space, json_array_get(others, i), "", &is, point)) {
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
    .version = 1,
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
