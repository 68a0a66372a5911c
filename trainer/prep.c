/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/prep.h"

#include "base/alloc.h"
#include "trainer/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct stage_ops *find_stage(const json_t *spec)
{
    const char *name = json_string_value(json_object_get(spec, "type"));
    for (int i = 0; name != NULL && stage_registry[i] != NULL; i++) {
        if (strcmp(stage_registry[i]->name, name) == 0) {
            return stage_registry[i];
        }
    }
    return NULL;
}

/* ---- for stages ---- */

enum mag_status prep_make_numbers(struct prep *p, int i, int width, float **ret, struct mag_err *err)
{
    struct column *c = &p->frame.columns[i];
    struct column numbers = {.kind = COLUMN_NUMBER,
                             .encoded = true,
                             .width = width,
                             .stride = (size_t)width,
                             .groups = c->kind == COLUMN_NUMBER ? c->groups : 1};
    enum mag_status st = dataset_check_size(p->what, p->frame.n_rows, (uint64_t)width, err);
    if (st == MAG_OK) {
        numbers.values = mag_try_alloc((size_t)p->frame.n_rows * (size_t)width, sizeof(float));
        if (numbers.values == NULL) {
            st = mag_fail(err, MAG_NOMEM, "%s: no memory for %u examples of %d values", p->what,
                          p->frame.n_rows, width);
        }
    }
    if (st != MAG_OK) {
        return st;
    }
    numbers.name = xstrdup(c->name);
    column_fini(c);
    *c = numbers;
    *ret = numbers.values;
    return MAG_OK;
}

double *prep_numbers(const json_t *state, const char *key, int n)
{
    const json_t *list = json_object_get(state, key);
    if (!json_is_array(list) || json_array_size(list) != (size_t)n) {
        return NULL;
    }
    double *v = xcalloc((size_t)n + 1, sizeof(*v));
    for (int i = 0; i < n; i++) {
        v[i] = json_number_value(json_array_get(list, (size_t)i));
    }
    return v;
}

enum mag_status prep_damaged(const struct prep *p, const struct column *c, struct mag_err *err)
{
    return mag_fail(err, MAG_INVALID,
                    "%s: what the model learnt of the column \"%.60s\" does not fit it", p->what,
                    c->name);
}

void pairs_begin(struct pairs *b, uint32_t n_rows)
{
    *b = (struct pairs){.cap = 256};
    b->rows.start = xcalloc((size_t)n_rows + 1, sizeof(*b->rows.start));
    b->rows.index = xreallocarray(NULL, b->cap, sizeof(*b->rows.index));
    b->rows.value = xreallocarray(NULL, b->cap, sizeof(*b->rows.value));
}

void pairs_add(struct pairs *b, uint32_t index, float value)
{
    if (b->n == b->cap) {
        b->cap *= 2;
        b->rows.index = xreallocarray(b->rows.index, b->cap, sizeof(*b->rows.index));
        b->rows.value = xreallocarray(b->rows.value, b->cap, sizeof(*b->rows.value));
    }
    b->rows.index[b->n] = index;
    b->rows.value[b->n++] = value;
}

void pairs_end_row(struct pairs *b)
{
    b->rows.start[++b->row] = b->n;
}

void prep_make_sparse(struct prep *p, int i, int width, struct pairs *take)
{
    struct column *c = &p->frame.columns[i];
    struct column sparse = {.kind = COLUMN_SPARSE,
                            .encoded = true,
                            .counts = c->counts,
                            .name = xstrdup(c->name),
                            .width = width,
                            .groups = 1,
                            .sparse = take->rows};
    column_fini(c);
    *c = sparse;
    *take = (struct pairs){0};
}

void prep_scale_sparse(struct prep *p, int i, const double *factors)
{
    const struct column *c = &p->frame.columns[i];
    struct pairs pairs;
    pairs_begin(&pairs, p->frame.n_rows);
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        for (uint64_t k = c->sparse.start[r]; k < c->sparse.start[r + 1]; k++) {
            uint32_t at = c->sparse.index[k];
            pairs_add(&pairs, at, (float)((double)c->sparse.value[k] * factors[at]));
        }
        pairs_end_row(&pairs);
    }
    prep_make_sparse(p, i, c->width, &pairs);
}

/* ---- which columns ---- */

static bool takes(const struct stage_ops *ops, const json_t *spec, const struct column *c)
{
    return (ops->kinds & 1u << c->kind) != 0 && !(ops->raw && c->encoded) &&
           (ops->wants == NULL || ops->wants(spec, c));
}

static enum mag_status wrong_column(const struct prep *p, const struct stage_ops *ops,
                                    const char *name, struct mag_err *err)
{
    int i = frame_find(&p->frame, name);
    if (i >= 0) {
        return mag_fail(err, MAG_INVALID,
                        "%s: the stage \"%s\" cannot take the column \"%.60s\": it holds %s by then",
                        p->what, ops->name, name, column_kind_names[p->frame.columns[i].kind]);
    }
    const char **known = xcalloc((size_t)p->frame.n + 1, sizeof(*known));
    for (int k = 0; k < p->frame.n; k++) {
        known[k] = p->frame.columns[k].name;
    }
    const char *near = mjson_nearest(name, known);
    enum mag_status st = mag_fail(err, MAG_INVALID,
                                  "%s: the stage \"%s\" names no column \"%.60s\"%s%.60s%s", p->what,
                                  ops->name, name, near != NULL ? "; did you mean \"" : "",
                                  near != NULL ? near : "", near != NULL ? "\"?" : "");
    free(known);
    return st;
}

/* Indices of the columns that the stage works on, malloc'ed. `left_out`: names that may be absent. */
static enum mag_status choose(const struct prep *p, const struct stage_ops *ops, const json_t *spec,
                              const struct dataset_source *s, int **ret, int *ret_n,
                              struct mag_err *err)
{
    const json_t *named = json_object_get(spec, "columns");
    int *list = xcalloc((size_t)p->frame.n + json_array_size(named) + 1, sizeof(*list));
    int n = 0;
    enum mag_status st = MAG_OK;
    for (int i = 0; named == NULL && i < p->frame.n; i++) {
        if (takes(ops, spec, &p->frame.columns[i])) {
            list[n++] = i;
        }
    }
    for (size_t k = 0; k < json_array_size(named) && st == MAG_OK; k++) {
        const char *name = json_string_value(json_array_get(named, k));
        int i = name != NULL ? frame_find(&p->frame, name) : -1;
        bool left_out = false;
        for (int j = 0; s != NULL && name != NULL && j < s->n_ignore; j++) {
            left_out = left_out || strcmp(s->ignore[j], name) == 0;
        }
        if (i >= 0 && (ops->kinds & 1u << p->frame.columns[i].kind) != 0) {
            list[n++] = i;
        } else if (!left_out || i >= 0) {
            st = wrong_column(p, ops, name != NULL ? name : "", err);
        }
    }
    if (st == MAG_OK && named == NULL && n == 0) {
        st = mag_fail(err, MAG_INVALID, "%s: the stage \"%s\" has no column to work on", p->what,
                      ops->name);
    }
    if (st != MAG_OK) {
        free(list);
        return st;
    }
    *ret = list;
    *ret_n = n;
    return MAG_OK;
}

/* ---- fitting and applying ---- */

/* Learns of the training rows and applies to all; the fitted description is appended to `fitted`. */
static enum mag_status fit_stage(struct prep *p, const json_t *spec, const struct dataset_source *s,
                                 json_t *fitted, struct mag_err *err)
{
    const struct stage_ops *ops = find_stage(spec);
    int *list = NULL;
    int n = 0;
    enum mag_status st = choose(p, ops, spec, s, &list, &n, err);
    json_t *states = json_object();
    for (int k = 0; k < n && st == MAG_OK; k++) {
        json_t *state = ops->fit(p, &p->frame.columns[list[k]], spec, err);
        if (state == NULL) {
            st = err != NULL ? err->code : MAG_INVALID;
            break;
        }
        (void)json_object_set_new(states, p->frame.columns[list[k]].name, state);
        st = ops->apply(p, list[k], spec, state, err);
    }
    json_t *whole = json_copy((json_t *)(uintptr_t)spec);
    (void)json_object_set_new(whole, "state", states);
    (void)json_array_append_new(fitted, whole);
    free(list);
    return st;
}

static enum mag_status apply_stage(struct prep *p, const json_t *stage, struct mag_err *err)
{
    const struct stage_ops *ops = find_stage(stage);
    const char *name = NULL;
    json_t *state = NULL;
    if (ops == NULL) {
        return mag_fail(err, MAG_UNSUPPORTED, "%s: the model has a stage that this build does not know",
                        p->what);
    }
    json_object_foreach(json_object_get(stage, "state"), name, state)
    {
        int i = frame_find(&p->frame, name);
        if (i < 0 || (ops->kinds & 1u << p->frame.columns[i].kind) == 0) {
            return wrong_column(p, ops, name, err);
        }
        enum mag_status st = ops->apply(p, i, stage, state, err);
        if (st != MAG_OK) {
            return st;
        }
    }
    return MAG_OK;
}

/* ---- examples ---- */

static enum mag_status check_kinds(const struct prep *p, struct mag_err *err)
{
    static const char *const remedies[] = {[COLUMN_CATEGORY] = "onehot, ordinal or hash",
                                           [COLUMN_TEXT] = "tokenize and hashing_tf",
                                           [COLUMN_TOKENS] = "hashing_tf"};
    for (int i = 0; i < p->frame.n; i++) {
        const struct column *c = &p->frame.columns[i];
        if (c->kind != COLUMN_NUMBER && c->kind != COLUMN_SPARSE) {
            return mag_fail(err, MAG_INVALID,
                            "%s: after all stages the column \"%.60s\" still holds %s: it needs %s",
                            p->what, c->name, column_kind_names[c->kind], remedies[c->kind]);
        }
    }
    return MAG_OK;
}

static enum mag_status check_missing(const struct prep *p, struct mag_err *err)
{
    for (int i = 0; i < p->frame.n; i++) {
        const struct column *c = &p->frame.columns[i];
        uint32_t n = 0;
        uint32_t first = 0;
        for (uint32_t r = 0; c->kind == COLUMN_NUMBER && c->values != NULL && r < p->frame.n_rows; r++) {
            for (int k = 0; k < c->width; k++) {
                first = n == 0 ? r : first;
                n += isnan(c->values[(size_t)r * c->stride + (size_t)k]);
            }
        }
        if (n > 0) {
            return mag_fail(err, MAG_INVALID,
                            "%s: the column \"%.60s\" lacks %u value%s, first in example %u; put "
                            "{\"type\": \"impute\"} into \"preprocessing\"",
                            p->what, c->name, n, n > 1 ? "s" : "", first + 1);
        }
    }
    return MAG_OK;
}

/* Where each column's values begin in an example. */
static enum mag_status place_columns(const struct prep *p, uint32_t **ret, int64_t *ret_width,
                                     bool *ret_sparse, struct mag_err *err)
{
    uint32_t *at = xcalloc((size_t)p->frame.n + 1, sizeof(*at));
    int64_t width = 0;
    uint64_t pairs = 0;
    for (int i = 0; i < p->frame.n && width <= DATASET_WIDTH_MAX; i++) {
        const struct column *c = &p->frame.columns[i];
        at[i] = (uint32_t)width;
        width += c->width;
        bool sparse = c->kind == COLUMN_SPARSE;
        *ret_sparse = *ret_sparse || sparse;
        pairs += sparse ? c->sparse.start[p->frame.n_rows] : (uint64_t)c->width * p->frame.n_rows;
    }
    *ret_sparse = *ret_sparse && width > 256 && pairs < (uint64_t)width * p->frame.n_rows / 4;
    if (width > DATASET_WIDTH_MAX || width == 0) {
        free(at);
        return mag_fail(err, width == 0 ? MAG_INVALID : MAG_LIMIT,
                        "%s: an example of %s%d values after all stages; at most %d are possible",
                        p->what, width == 0 ? "" : "over ", width == 0 ? 0 : DATASET_WIDTH_MAX,
                        DATASET_WIDTH_MAX);
    }
    *ret = at;
    *ret_width = width;
    return MAG_OK;
}

static enum mag_status gather_dense(const struct prep *p, struct dataset *d, const uint32_t *at,
                                    size_t width, struct mag_err *err)
{
    enum mag_status st = dataset_check_size(p->what, d->n_rows, width, err);
    d->values = st == MAG_OK ? mag_try_alloc((size_t)d->n_rows * width, sizeof(float)) : NULL;
    if (st == MAG_OK && d->values == NULL) {
        return mag_fail(err, MAG_NOMEM, "%s: no memory for %u examples of %zu values", p->what,
                        d->n_rows, width);
    }
    for (int i = 0; st == MAG_OK && i < p->frame.n; i++) {
        const struct column *c = &p->frame.columns[i];
        for (uint32_t r = 0; r < d->n_rows; r++) {
            float *to = d->values + r * width + at[i];
            for (int k = 0; c->kind == COLUMN_NUMBER && k < c->width; k++) {
                to[k] = column_value(c, r, k);
            }
            uint64_t from = c->kind == COLUMN_SPARSE ? c->sparse.start[r] : 0;
            uint64_t end = c->kind == COLUMN_SPARSE ? c->sparse.start[r + 1] : 0;
            for (uint64_t k = from; k < end; k++) {
                to[c->sparse.index[k]] = c->sparse.value[k];
            }
        }
    }
    return st;
}

static void gather_sparse(const struct prep *p, struct dataset *d, const uint32_t *at)
{
    struct pairs pairs;
    pairs_begin(&pairs, d->n_rows);
    for (uint32_t r = 0; r < d->n_rows; r++) {
        for (int i = 0; i < p->frame.n; i++) {
            const struct column *c = &p->frame.columns[i];
            for (int k = 0; c->kind == COLUMN_NUMBER && k < c->width; k++) {
                float v = column_value(c, r, k);
                if (v != 0) {
                    pairs_add(&pairs, at[i] + (uint32_t)k, v);
                }
            }
            uint64_t from = c->kind == COLUMN_SPARSE ? c->sparse.start[r] : 0;
            uint64_t end = c->kind == COLUMN_SPARSE ? c->sparse.start[r + 1] : 0;
            for (uint64_t k = from; k < end; k++) {
                pairs_add(&pairs, at[i] + c->sparse.index[k], c->sparse.value[k]);
            }
        }
        pairs_end_row(&pairs);
    }
    d->sparse = xcalloc(1, sizeof(*d->sparse));
    *d->sparse = pairs.rows;
}

/* The examples that the columns are by now. An image that stays one keeps its shape. */
static enum mag_status finish(const struct prep *p, struct dataset *d, struct mag_err *err)
{
    uint32_t *at = NULL;
    int64_t width = 0;
    bool sparse = false;
    enum mag_status st = check_kinds(p, err);
    if (st == MAG_OK) {
        st = check_missing(p, err);
    }
    if (st == MAG_OK) {
        st = place_columns(p, &at, &width, &sparse, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    if (width != shape_size(&d->raw->shape) || d->raw->columns.n > 0) {
        d->shape = (struct shape){.c = (int)width, .h = 1, .w = 1, .flat = true};
    }
    if (sparse) {
        gather_sparse(p, d, at);
    } else {
        st = gather_dense(p, d, at, (size_t)width, err);
    }
    free(at);
    return st;
}

/* ---- the data set's own ---- */

static void drop_examples(struct dataset *d)
{
    free(d->values);
    free(d->bytes);
    dataset_drop_sparse(d->sparse);
    d->values = NULL;
    d->bytes = NULL;
    d->sparse = NULL;
    json_decref(d->fitted);
    d->fitted = NULL;
    dataset_stamp(d); /* what comes in their place is another */
}

/* Puts what was read aside, so that it can be made ready again for another split. */
static void keep_raw(struct dataset *d)
{
    if (d->raw == NULL) {
        d->raw = xcalloc(1, sizeof(*d->raw));
    }
    if (!d->raw->kept) {
        struct raw *r = d->raw;
        r->bytes = d->bytes;
        r->values = r->values != NULL ? r->values : d->values;
        r->sparse = d->sparse;
        r->shape = d->shape;
        r->kept = true;
        d->bytes = NULL;
        d->values = NULL;
        d->sparse = NULL;
    }
    drop_examples(d);
    d->shape = d->raw->shape;
}

/* Gives back what was put aside: no stage is wanted now. */
static void give_raw(struct dataset *d)
{
    struct raw *r = d->raw;
    drop_examples(d);
    d->bytes = r->bytes;
    d->sparse = r->sparse;
    d->values = r->columns.n > 0 ? NULL : r->values;
    d->shape = r->shape;
    r->bytes = NULL;
    r->sparse = NULL;
    r->values = r->columns.n > 0 ? r->values : NULL;
    r->kept = false;
}

/* The columns of a data set, borrowed: those with names, or all values as one. */
static void begin(struct prep *p, const struct dataset *d)
{
    const struct raw *r = d->raw;
    if (r->columns.n > 0) {
        frame_borrow(&p->frame, &r->columns);
        return;
    }
    p->frame = (struct frame){.n_rows = d->n_rows};
    struct column *c =
        frame_add(&p->frame, "values", r->sparse != NULL ? COLUMN_SPARSE : COLUMN_NUMBER);
    c->borrowed = true;
    c->width = (int)shape_size(&r->shape);
    c->stride = (size_t)c->width;
    c->groups = r->shape.flat ? 1 : r->shape.c;
    c->values = r->values;
    c->octets = r->bytes;
    c->scale = d->scale;
    if (r->sparse != NULL) {
        c->sparse = *r->sparse;
    }
}

/* Is nothing there but shape and labels? */
static bool is_probe(const struct dataset *d)
{
    return d->bytes == NULL && d->values == NULL && d->sparse == NULL &&
           (d->raw == NULL || (d->raw->values == NULL && d->raw->bytes == NULL &&
                               d->raw->sparse == NULL && d->raw->columns.n == 0));
}

/* What columns need where the recipe says nothing. */
static json_t *usual_stages(const struct dataset *d, const struct dataset_source *s)
{
    json_t *list = json_array();
    bool kinds[3] = {false, false, false};
    for (int i = 0; d->raw != NULL && i < d->raw->columns.n; i++) {
        kinds[d->raw->columns.columns[i].kind] = true;
    }
    if (kinds[COLUMN_NUMBER] && s->standardize) {
        (void)json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:s}", "type", "standardize",
                                                    "mean", 1, "deviation", 1, "per", "value"));
    }
    if (kinds[COLUMN_CATEGORY]) {
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i}", "type", "onehot",
                                                    "unknown", "zeros", "max_levels",
                                                    DATASET_CLASSES_MAX, "min_count", 1));
    }
    if (kinds[COLUMN_TEXT]) {
        (void)json_array_append_new(
            list, json_pack("{s:s, s:b, s:b, s:i, s:s}", "type", "tokenize", "lowercase", 1, "gaps",
                            1, "min_length", 1, "pattern", "[[:space:]]+"));
        (void)json_array_append_new(list, json_pack("{s:s, s:i, s:b}", "type", "hashing_tf",
                                                    "features", 4096, "binary", 0));
        (void)json_array_append_new(list, json_pack("{s:s, s:i}", "type", "idf", "min_docs", 0));
    }
    return list;
}

static enum mag_status run_stages(struct dataset *d, const struct dataset_source *s, json_t *stages,
                                  struct mag_err *err)
{
    struct prep p = {.train = d->train, .n_train = d->n_train, .what = s->path};
    size_t i = 0;
    json_t *spec = NULL;
    enum mag_status st = MAG_OK;
    keep_raw(d);
    begin(&p, d);
    d->fitted = json_array();
    json_array_foreach(stages, i, spec)
    {
        st = fit_stage(&p, spec, s, d->fitted, err);
        if (st != MAG_OK) {
            break;
        }
    }
    if (st == MAG_OK) {
        st = finish(&p, d, err);
    }
    frame_fini(&p.frame);
    return st;
}

enum mag_status prep_run(struct dataset *d, const struct dataset_source *s, struct mag_err *err)
{
    bool named = d->raw != NULL && d->raw->columns.n > 0;
    if (is_probe(d)) {
        return MAG_OK;
    }
    json_t *stages =
        s->stages != NULL ? json_incref(s->stages) : usual_stages(d, s);
    char *key = mjson_dump(stages);
    enum mag_status st = MAG_OK;
    if (d->prepared == NULL || strcmp(d->prepared, key) != 0) {
        free(d->prepared);
        d->prepared = NULL;
        if (json_array_size(stages) > 0 || named) {
            st = run_stages(d, s, stages, err);
        } else if (d->raw != NULL && d->raw->kept) {
            give_raw(d);
        }
        if (st == MAG_OK) {
            d->prepared = key;
            key = NULL;
        }
    }
    free(key);
    json_decref(stages);
    return st;
}

enum mag_status prep_apply(struct dataset *d, const json_t *fitted, const char *what,
                           struct mag_err *err)
{
    struct prep p = {.what = what};
    size_t i = 0;
    const json_t *stage = NULL;
    enum mag_status st = MAG_OK;
    keep_raw(d);
    begin(&p, d);
    json_array_foreach(fitted, i, stage)
    {
        st = apply_stage(&p, stage, err);
        if (st != MAG_OK) {
            break;
        }
    }
    if (st == MAG_OK) {
        st = finish(&p, d, err);
    }
    frame_fini(&p.frame);
    return st;
}
