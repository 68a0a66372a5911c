/* SPDX-License-Identifier: Apache-2.0
 *
 * Stages that make numbers of categories. What a fitted stage never saw is unknown to it, as is a
 * missing value: what becomes of both is the stage's to say.
 */
#include "base/alloc.h"
#include "base/strmap.h"
#include "trainer/murmur3.h"
#include "trainer/prep.h"

#include <stdlib.h>
#include <string.h>

#define DENSE_LEVELS 64 /* more become sparse rows */

/* ---- levels ---- */

struct level {
    const char *text;
    uint32_t count;
};

static int by_count(const void *a, const void *b)
{
    const struct level *x = a;
    const struct level *y = b;
    return x->count != y->count ? (x->count > y->count ? -1 : 1) : strcmp(x->text, y->text);
}

static int by_text(const void *a, const void *b)
{
    const struct level *x = a;
    const struct level *y = b;
    double nx = strtod(x->text, NULL);
    double ny = strtod(y->text, NULL);
    return nx != ny ? (nx < ny ? -1 : 1) : strcmp(x->text, y->text);
}

static void levels_parse(const struct place *p, json_t *out)
{
    int most = DATASET_CLASSES_MAX;
    int least = 1;
    (void)value_int(p, "max_levels", false, 1, FRAME_LEVELS_MAX, &most);
    (void)value_int(p, "min_count", false, 1, DATASET_ROWS_MAX, &least);
    (void)json_object_set_new(out, "max_levels", json_integer(most));
    (void)json_object_set_new(out, "min_count", json_integer(least));
}

/* The levels of the training rows: those that come up often enough, at most so many, sorted. */
static json_t *levels_fit(const struct prep *p, const struct column *c, const json_t *spec,
                          struct mag_err *err)
{
    size_t most = (size_t)json_integer_value(json_object_get(spec, "max_levels"));
    uint32_t least = (uint32_t)json_integer_value(json_object_get(spec, "min_count"));
    struct level *all = xcalloc((size_t)c->n_levels + 1, sizeof(*all));
    size_t n = 0;
    for (int i = 0; i < c->n_levels; i++) {
        all[i].text = c->levels[i];
    }
    for (uint32_t i = 0; i < p->n_train; i++) {
        int code = c->codes[p->train[i]];
        if (code >= 0) {
            all[code].count++;
        }
    }
    qsort(all, (size_t)c->n_levels, sizeof(*all), by_count);
    while (n < (size_t)c->n_levels && n < most && all[n].count >= least) {
        n++;
    }
    qsort(all, n, sizeof(*all), by_text);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_string(all[i].text)) != 0) {
            (void)mag_fail(err, MAG_INVALID,
                           "%s: the column \"%.60s\" holds text that is no UTF-8; save the file as UTF-8",
                           p->what, c->name);
            json_decref(list);
            free(all);
            return NULL;
        }
    }
    free(all);
    return json_pack("{s:o}", "levels", list);
}

/* For each level of the column its place among the fitted ones, -1 = unknown; NULL = damaged. */
static int32_t *places(const struct column *c, const json_t *state, int *ret_n)
{
    const json_t *list = json_object_get(state, "levels");
    struct strmap map = {0};
    size_t n = json_array_size(list);
    bool good = json_is_array(list) && n <= FRAME_LEVELS_MAX;
    for (size_t i = 0; good && i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        good = text != NULL && strmap_set(&map, text, (void *)(uintptr_t)(i + 1)) == NULL;
    }
    int32_t *ret = good ? xcalloc((size_t)c->n_levels + 1, sizeof(*ret)) : NULL;
    for (int i = 0; good && i < c->n_levels; i++) {
        ret[i] = (int32_t)(uintptr_t)strmap_get(&map, c->levels[i]) - 1;
    }
    strmap_fini(&map);
    *ret_n = (int)n;
    return ret;
}

/* ---- onehot ---- */

static const char *const unknowns[] = {"zeros", "column", "error", NULL};

static void onehot_parse(const struct place *p, json_t *out)
{
    int k = 0;
    (void)value_choice(p, "unknown", false, unknowns, &k);
    (void)json_object_set_new(out, "unknown", json_string(unknowns[k]));
    levels_parse(p, out);
}

static enum mag_status refuse_unknown(const struct prep *p, const struct column *c, uint32_t row,
                                      struct mag_err *err)
{
    return mag_fail(err, MAG_INVALID,
                    "%s: example %u: the column \"%.60s\" holds \"%.60s\", which the training part "
                    "does not (\"unknown\": \"error\")",
                    p->what, row + 1, c->name, c->codes[row] < 0 ? "" : c->levels[c->codes[row]]);
}

/* The place of each row, -1 = nothing of the row is 1. */
static enum mag_status onehot_places(const struct prep *p, const struct column *c, const json_t *spec,
                                     const int32_t *place, int n, int32_t *ret, struct mag_err *err)
{
    const char *unknown = json_string_value(json_object_get(spec, "unknown"));
    bool own = unknown != NULL && strcmp(unknown, "column") == 0;
    bool refuse = unknown != NULL && strcmp(unknown, "error") == 0;
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        ret[r] = c->codes[r] < 0 ? -1 : place[c->codes[r]];
        if (ret[r] < 0 && refuse) {
            return refuse_unknown(p, c, r, err);
        }
        ret[r] = ret[r] < 0 && own ? n : ret[r];
    }
    return MAG_OK;
}

static enum mag_status onehot_fill(struct prep *p, int i, int width, const int32_t *at,
                                   struct mag_err *err)
{
    float *to = NULL;
    if (width <= DENSE_LEVELS) {
        enum mag_status st = prep_make_numbers(p, i, width > 0 ? width : 1, &to, err);
        for (uint32_t r = 0; st == MAG_OK && r < p->frame.n_rows; r++) {
            if (at[r] >= 0) {
                to[(size_t)r * (size_t)width + (size_t)at[r]] = 1;
            }
        }
        return st;
    }
    struct pairs pairs;
    pairs_begin(&pairs, p->frame.n_rows);
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        if (at[r] >= 0) {
            pairs_add(&pairs, (uint32_t)at[r], 1);
        }
        pairs_end_row(&pairs);
    }
    prep_make_sparse(p, i, width, &pairs);
    return MAG_OK;
}

static enum mag_status onehot_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                    struct mag_err *err)
{
    const struct column *c = &p->frame.columns[i];
    const char *unknown = json_string_value(json_object_get(spec, "unknown"));
    int n = 0;
    int32_t *place = places(c, state, &n);
    int32_t *at = xcalloc((size_t)p->frame.n_rows + 1, sizeof(*at));
    enum mag_status st = place == NULL ? prep_damaged(p, c, err)
                                       : onehot_places(p, c, spec, place, n, at, err);
    if (st == MAG_OK) {
        st = onehot_fill(p, i, n + (unknown != NULL && strcmp(unknown, "column") == 0), at, err);
    }
    free(place);
    free(at);
    return st;
}

static const char *const onehot_keys[] = {"unknown", "max_levels", "min_count", NULL};
const struct stage_ops stage_onehot = {.name = "onehot",
                                       .keys = onehot_keys,
                                       .kinds = 1 << COLUMN_CATEGORY,
                                       .parse = onehot_parse,
                                       .fit = levels_fit,
                                       .apply = onehot_apply};

/* ---- ordinal: 1, 2, … in sorted order; 0 = unknown ---- */

static enum mag_status ordinal_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                     struct mag_err *err)
{
    (void)spec;
    const struct column *c = &p->frame.columns[i];
    int n = 0;
    int32_t *place = places(c, state, &n);
    float *v = place != NULL ? xcalloc((size_t)p->frame.n_rows + 1, sizeof(*v)) : NULL;
    if (place == NULL) {
        return prep_damaged(p, c, err);
    }
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        v[r] = c->codes[r] < 0 ? 0 : (float)(place[c->codes[r]] + 1);
    }
    float *to = NULL;
    enum mag_status st = prep_make_numbers(p, i, 1, &to, err);
    if (st == MAG_OK) {
        memcpy(to, v, p->frame.n_rows * sizeof(*v));
    }
    free(v);
    free(place);
    return st;
}

static const char *const ordinal_keys[] = {"max_levels", "min_count", NULL};
const struct stage_ops stage_ordinal = {.name = "ordinal",
                                        .keys = ordinal_keys,
                                        .kinds = 1 << COLUMN_CATEGORY,
                                        .parse = levels_parse,
                                        .fit = levels_fit,
                                        .apply = ordinal_apply};

/* ---- hash: place = murmur3("column=value") among so many, as Spark's FeatureHasher ---- */

static void hash_parse(const struct place *p, json_t *out)
{
    int features = 256;
    (void)value_int(p, "features", false, 1, DATASET_WIDTH_MAX, &features);
    (void)json_object_set_new(out, "features", json_integer(features));
}

static json_t *hash_fit(const struct prep *p, const struct column *c, const json_t *spec,
                        struct mag_err *err)
{
    (void)p;
    (void)c;
    (void)spec;
    (void)err;
    return json_object();
}

static enum mag_status hash_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                  struct mag_err *err)
{
    (void)state;
    const struct column *c = &p->frame.columns[i];
    int features = (int)json_integer_value(json_object_get(spec, "features"));
    if (features < 1 || features > DATASET_WIDTH_MAX) {
        return prep_damaged(p, c, err);
    }
    uint32_t *place = xcalloc((size_t)c->n_levels + 1, sizeof(*place));
    for (int k = 0; k < c->n_levels; k++) {
        char *text = xasprintf("%s=%s", c->name, c->levels[k]);
        place[k] = murmur3_place(text, strlen(text), (uint32_t)features);
        free(text);
    }
    struct pairs pairs;
    pairs_begin(&pairs, p->frame.n_rows);
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        if (c->codes[r] >= 0) {
            pairs_add(&pairs, place[c->codes[r]], 1);
        }
        pairs_end_row(&pairs);
    }
    free(place);
    prep_make_sparse(p, i, features, &pairs);
    return MAG_OK;
}

static const char *const hash_keys[] = {"features", NULL};
const struct stage_ops stage_hash = {.name = "hash",
                                     .keys = hash_keys,
                                     .kinds = 1 << COLUMN_CATEGORY,
                                     .parse = hash_parse,
                                     .fit = hash_fit,
                                     .apply = hash_apply};
