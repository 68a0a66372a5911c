/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of an ablation study: what the objective becomes without each component, against the
 * base that has all of them. The one whose absence hurts most comes first.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct component {
    const char *kind, *name; /* NULL: the base; borrowed from the space */
    struct buf trials;       /* "3,7": the first trial of each run */
    int runs, completed, ended;
    double sum, squares; /* of the completed runs' values */
    double spread;       /* of the one run there is, over its folds */
};

struct table {
    struct component *rows; /* the base first */
    int n;
    bool maximize;
};

static double mean_of(const struct component *c)
{
    return c->completed > 0 ? c->sum / c->completed : NAN;
}

/* Over the runs (a sample's), or over the folds of the only one. */
static double deviation_of(const struct component *c)
{
    if (c->completed < 2) {
        return c->completed == 1 ? c->spread : NAN;
    }
    double mean = mean_of(c);
    double var = (c->squares - c->completed * mean * mean) / (c->completed - 1);
    return sqrt(var > 0 ? var : 0);
}

/* ---- gathering ---- */

static struct component *row_of(struct table *t, const char *kind, const char *name)
{
    for (int i = 0; i < t->n; i++) {
        const struct component *c = &t->rows[i];
        bool same = kind == NULL ? c->kind == NULL
                                 : c->kind != NULL && strcmp(c->kind, kind) == 0 &&
                                       strcmp(c->name, name) == 0;
        if (same) {
            return &t->rows[i];
        }
    }
    t->rows[t->n] = (struct component){.kind = kind, .name = name, .spread = NAN};
    return &t->rows[t->n++];
}

static void add_run(struct component *c, const struct study *s, const struct trial *t)
{
    enum trial_state state = study_point_state(s, t);
    double v = study_measure(s, t, 0);
    buf_addf(&c->trials, "%s%lld", c->runs++ > 0 ? "," : "", (long long)t->id);
    c->ended += trial_state_is_final(state);
    if (state == TRIAL_COMPLETED && !isnan(v)) {
        c->completed++;
        c->sum += v;
        c->squares += v * v;
        c->spread = trial_stands_alone(s, t) ? 0 : study_point_stat(s, t, 0).deviation;
    }
}

static const char *value_at(const struct space *space, const char *name, const double *point)
{
    int i = space_find(space, name);
    return i >= 0 && !isnan(point[i]) ? space->params[i].labels[(uint32_t)point[i]] : NULL;
}

/* Room for every value of the two parameters and the base; those not begun have a row too. */
static void make_rows(struct table *t, const struct space *space)
{
    static const char *const names[][2] = {{"feature", "ablated_feature"}, {"layer", "ablated_layer"}};
    size_t n = 1;
    for (int k = 0; k < 2; k++) {
        int i = space_find(space, names[k][1]);
        n += i >= 0 ? space->params[i].n_values : 0;
    }
    t->rows = xcalloc(n, sizeof(*t->rows));
    (void)row_of(t, NULL, NULL);
    for (int k = 0; k < 2; k++) {
        int i = space_find(space, names[k][1]);
        for (uint32_t v = 0; i >= 0 && v < space->params[i].n_values; v++) {
            (void)row_of(t, names[k][0], space->params[i].labels[v]);
        }
    }
}

static void gather(struct table *t, const struct study *s)
{
    const struct space *space = study_spec(s)->space;
    make_rows(t, space);
    for (int64_t id = 1; id <= study_trials(s); id++) {
        const struct trial *trial = study_trial(s, id);
        if (trial->id != trial->point_of) {
            continue; /* another fold, or the refit */
        }
        const char *feature = value_at(space, "ablated_feature", trial->point);
        const char *layer = value_at(space, "ablated_layer", trial->point);
        const char *kind = feature != NULL ? "feature" : layer != NULL ? "layer" : NULL;
        add_run(row_of(t, kind, feature != NULL ? feature : layer), s, trial);
    }
}

/* ---- the answer ---- */

static int by_effect(const void *a, const void *b, void *arg)
{
    const struct table *t = arg;
    double x = mean_of(a);
    double y = mean_of(b);
    if (isnan(x) || isnan(y)) {
        return isnan(x) - isnan(y);
    }
    int up = (x > y) - (x < y);
    return t->maximize ? up : -up;
}

static void add_number(struct buf *out, const char *key, double v)
{
    buf_addf(out, ",\"%s\":", key);
    buf_add_json_number(out, v);
}

static void add_row(struct buf *out, const struct component *c, double base)
{
    buf_adds(out, "{\"kind\":");
    buf_add_json_string(out, c->kind != NULL ? c->kind : "base");
    if (c->name != NULL) {
        buf_adds(out, ",\"name\":");
        buf_add_json_string(out, c->name);
    }
    buf_addf(out, ",\"runs\":%d,\"completed\":%d,\"ended\":%d", c->runs, c->completed, c->ended);
    add_number(out, "value", mean_of(c));
    add_number(out, "deviation", deviation_of(c));
    if (c->kind != NULL) {
        add_number(out, "delta", mean_of(c) - base);
    }
    buf_adds(out, ",\"trials\":[");
    buf_adds(out, c->trials.data != NULL ? c->trials.data : "");
    buf_adds(out, "]}");
}

void rest_experiment_ablation(struct http_call *c)
{
    if (rest_refuse_broken(c)) {
        return;
    }
    const struct study *s = c->x->study;
    const struct spec *spec = study_spec(s);
    if (spec->ablation == NULL) {
        http_problem(c, 404,
                     "experiment %lld is no ablation study: its file has no \"ablation\"",
                     (long long)c->x->id);
        return;
    }
    struct table t = {.maximize = spec->maximize};
    gather(&t, s);
    double base = mean_of(&t.rows[0]);
    qsort_r(t.rows + 1, (size_t)t.n - 1, sizeof(*t.rows), by_effect, &t);
    buf_adds(&c->out, "{\"metric\":");
    buf_add_json_string(&c->out, spec->metric);
    buf_addf(&c->out, ",\"direction\":\"%s\",\"base\":", spec->maximize ? "max" : "min");
    add_row(&c->out, &t.rows[0], base);
    buf_adds(&c->out, ",\"components\":[");
    for (int i = 1; i < t.n; i++) {
        buf_adds(&c->out, i > 1 ? "," : "");
        add_row(&c->out, &t.rows[i], base);
    }
    buf_adds(&c->out, "]}");
    for (int i = 0; i < t.n; i++) {
        buf_fini(&t.rows[i].trials);
    }
    free(t.rows);
    http_reply(c);
}
