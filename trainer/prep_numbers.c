/* SPDX-License-Identifier: Apache-2.0
 *
 * Stages for numbers: missing values, scales.
 */
#include "base/alloc.h"
#include "trainer/prep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *reals(const double *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        (void)json_array_append_new(list, json_real(v[i]));
    }
    return list;
}

static double spec_number(const json_t *spec, const char *key)
{
    return json_number_value(json_object_get(spec, key));
}

static bool spec_is(const json_t *spec, const char *key, const char *text)
{
    const char *have = json_string_value(json_object_get(spec, key));
    return have != NULL && strcmp(have, text) == 0;
}

/* ---- impute ---- */

static void impute_parse(const struct place *p, json_t *out)
{
    static const char *const strategies[] = {"mean", "median", "most_frequent", "constant", NULL};
    int k = 0;
    bool indicator = false;
    (void)value_choice(p, "strategy", false, strategies, &k);
    (void)value_bool(p, "indicator", &indicator);
    (void)json_object_set_new(out, "strategy", json_string(strategies[k]));
    (void)json_object_set_new(out, "indicator", json_boolean(indicator));
    char *at = mjson_pointer(p->pointer, "value");
    const json_t *given = json_object_get(p->object, "value");
    const json_t *v = given != NULL ? value_resolve(p->reader, given, at, NULL) : NULL;
    if (k != 3 && given != NULL) {
        mjson_issue(p->reader->issues, at, "\"value\" goes with \"strategy\": \"constant\"");
    } else if (k == 3 && !json_is_number(v) && !json_is_string(v)) {
        mjson_issue(p->reader->issues, at,
                    "\"strategy\": \"constant\" needs the \"value\": a number for numbers, a text "
                    "for categories");
    } else if (k == 3) {
        (void)json_object_set(out, "value", (json_t *)(uintptr_t)v);
    }
    free(at);
}

static bool impute_wants(const json_t *spec, const struct column *c)
{
    bool texts = spec_is(spec, "strategy", "most_frequent") ||
                 json_is_string(json_object_get(spec, "value"));
    return texts == (c->kind == COLUMN_CATEGORY);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Mean or median of the values that are there, 0 of none. */
static double middle(const struct prep *p, const struct column *c, int k, bool median, float *room)
{
    uint32_t n = 0;
    double sum = 0;
    for (uint32_t i = 0; i < p->n_train; i++) {
        float v = column_value(c, p->train[i], k);
        if (!isnan(v)) {
            room[n++] = v;
            sum += (double)v;
        }
    }
    if (n == 0) {
        return 0;
    }
    if (!median) {
        return sum / n;
    }
    qsort(room, n, sizeof(*room), by_value);
    return ((double)room[(n - 1) / 2] + (double)room[n / 2]) / 2;
}

static json_t *most_frequent(const struct prep *p, const struct column *c)
{
    uint32_t *counts = xcalloc((size_t)c->n_levels + 1, sizeof(*counts));
    int best = -1;
    for (uint32_t i = 0; i < p->n_train; i++) {
        int code = c->codes[p->train[i]];
        if (code >= 0) {
            counts[code]++;
        }
    }
    for (int i = 0; i < c->n_levels; i++) {
        bool more = counts[i] > 0 && (best < 0 || counts[i] > counts[best] ||
                                      (counts[i] == counts[best] &&
                                       strcmp(c->levels[i], c->levels[best]) < 0));
        best = more ? i : best;
    }
    free(counts);
    return json_pack("{s:s}", "text", best >= 0 ? c->levels[best] : "");
}

static json_t *impute_fit(const struct prep *p, const struct column *c, const json_t *spec,
                          struct mag_err *err)
{
    const json_t *value = json_object_get(spec, "value");
    if (!impute_wants(spec, c)) {
        (void)mag_fail(err, MAG_INVALID,
                       "%s: impute: the column \"%.60s\" holds %s; \"mean\", \"median\" and numbers "
                       "are for numbers, \"most_frequent\" and texts for categories",
                       p->what, c->name, c->kind == COLUMN_CATEGORY ? "categories" : "numbers");
        return NULL;
    }
    if (c->kind == COLUMN_CATEGORY) {
        return value != NULL ? json_pack("{s:O}", "text", value) : most_frequent(p, c);
    }
    double *v = xcalloc((size_t)c->width, sizeof(*v));
    float *room = xcalloc((size_t)p->n_train + 1, sizeof(*room));
    for (int k = 0; k < c->width; k++) {
        v[k] = value != NULL ? json_number_value(value)
                             : middle(p, c, k, spec_is(spec, "strategy", "median"), room);
    }
    json_t *state = json_pack("{s:o}", "value", reals(v, c->width));
    free(room);
    free(v);
    return state;
}

static enum mag_status fill_categories(struct prep *p, int i, const json_t *state,
                                       struct mag_err *err)
{
    struct column *c = &p->frame.columns[i];
    const char *text = json_string_value(json_object_get(state, "text"));
    if (text == NULL) {
        return prep_damaged(p, c, err);
    }
    struct column full = {.name = c->name, .kind = COLUMN_CATEGORY, .width = 1, .groups = 1};
    int code = 0;
    while (code < c->n_levels && strcmp(c->levels[code], text) != 0) {
        code++;
    }
    full.n_levels = c->n_levels + (code == c->n_levels);
    full.levels = xcalloc((size_t)full.n_levels + 1, sizeof(char *));
    for (int k = 0; k < full.n_levels; k++) {
        full.levels[k] = xstrdup(k < c->n_levels ? c->levels[k] : text);
    }
    full.codes = xcalloc((size_t)p->frame.n_rows + 1, sizeof(*full.codes));
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        full.codes[r] = c->codes[r] < 0 ? code : c->codes[r];
    }
    full.name = xstrdup(c->name);
    column_fini(c);
    *c = full;
    return MAG_OK;
}

/* A column of its own that is 1 where `c` is missing. */
static enum mag_status add_indicator(struct prep *p, int i, struct mag_err *err)
{
    if (p->frame.columns[i].width > 1) {
        return mag_fail(err, MAG_INVALID,
                        "%s: impute: \"indicator\" is for columns of one value, but \"%.60s\" has %d",
                        p->what, p->frame.columns[i].name, p->frame.columns[i].width);
    }
    char *name = xasprintf("%s=missing", p->frame.columns[i].name);
    struct column *mark = frame_add(&p->frame, name, COLUMN_NUMBER);
    const struct column *c = &p->frame.columns[i];
    mark->encoded = true;
    mark->values = xcalloc((size_t)p->frame.n_rows + 1, sizeof(float));
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        bool gone = c->kind == COLUMN_CATEGORY ? c->codes[r] < 0 : isnan(column_value(c, r, 0));
        mark->values[r] = gone ? 1 : 0;
    }
    free(name);
    return MAG_OK;
}

static enum mag_status impute_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                    struct mag_err *err)
{
    if (json_is_true(json_object_get(spec, "indicator"))) {
        enum mag_status st = add_indicator(p, i, err);
        if (st != MAG_OK) {
            return st;
        }
    }
    if (p->frame.columns[i].kind == COLUMN_CATEGORY) {
        return fill_categories(p, i, state, err);
    }
    const struct column old = p->frame.columns[i];
    double *value = prep_numbers(state, "value", old.width);
    float *to = NULL;
    enum mag_status st = value != NULL ? MAG_OK : prep_damaged(p, &old, err);
    struct column keep = old;
    keep.name = xstrdup(old.name);
    p->frame.columns[i].borrowed = true; /* `keep` has it now */
    if (st == MAG_OK) {
        st = prep_make_numbers(p, i, old.width, &to, err);
    }
    for (uint32_t r = 0; st == MAG_OK && r < p->frame.n_rows; r++) {
        for (int k = 0; k < old.width; k++) {
            float v = column_value(&keep, r, k);
            *to++ = isnan(v) ? (float)value[k] : v;
        }
    }
    column_fini(&keep);
    free(value);
    return st;
}

static const char *const impute_keys[] = {"strategy", "value", "indicator", NULL};
const struct stage_ops stage_impute = {.name = "impute",
                                       .keys = impute_keys,
                                       .kinds = 1 << COLUMN_NUMBER | 1 << COLUMN_CATEGORY,
                                       .raw = true,
                                       .parse = impute_parse,
                                       .wants = impute_wants,
                                       .fit = impute_fit,
                                       .apply = impute_apply};

/* ---- scales: v becomes (v - a) * b ---- */

/* Shift and factor of each value, or of each channel. */
static enum mag_status scale_numbers(struct prep *p, int i, const double *a, const double *b,
                                     int groups, struct mag_err *err)
{
    struct column keep = p->frame.columns[i];
    float *to = NULL;
    keep.name = xstrdup(keep.name);
    p->frame.columns[i].borrowed = true;
    enum mag_status st = prep_make_numbers(p, i, keep.width, &to, err);
    int each = keep.width / groups;
    for (uint32_t r = 0; st == MAG_OK && r < p->frame.n_rows; r++) {
        for (int k = 0; k < keep.width; k++) {
            double v = (double)column_value(&keep, r, k);
            *to++ = (float)((v - a[k / each]) * b[k / each]);
        }
    }
    if (st == MAG_OK) {
        p->frame.columns[i].encoded = keep.encoded;
    }
    column_fini(&keep);
    return st;
}

static int groups_of(const json_t *spec, const struct column *c)
{
    return spec_is(spec, "per", "channel") && c->kind == COLUMN_NUMBER ? c->groups : c->width;
}

static enum mag_status scale_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                   struct mag_err *err)
{
    const struct column *c = &p->frame.columns[i];
    int groups = groups_of(spec, c);
    double *a = prep_numbers(state, "shift", groups);
    double *b = prep_numbers(state, "factor", groups);
    enum mag_status st = MAG_OK;
    if (a == NULL || b == NULL) {
        st = prep_damaged(p, c, err);
    } else if (c->kind == COLUMN_SPARSE) {
        prep_scale_sparse(p, i, b);
    } else {
        st = scale_numbers(p, i, a, b, groups, err);
    }
    free(a);
    free(b);
    return st;
}

/* ---- standardize ---- */

static void per_parse(const struct place *p, json_t *out)
{
    static const char *const pers[] = {"value", "channel", NULL};
    int per = 0;
    (void)value_choice(p, "per", false, pers, &per);
    (void)json_object_set_new(out, "per", json_string(pers[per]));
}

static void standardize_parse(const struct place *p, json_t *out)
{
    bool mean = true;
    bool deviation = true;
    (void)value_bool(p, "mean", &mean);
    (void)value_bool(p, "deviation", &deviation);
    (void)json_object_set_new(out, "mean", json_boolean(mean));
    (void)json_object_set_new(out, "deviation", json_boolean(deviation));
    per_parse(p, out);
}

/* Sums over the training rows; of sparse rows what is not there is 0. */
struct sums {
    double *n, *sum, *squares;
};

static void add_to(struct sums *s, int g, double v, double off)
{
    if (!isnan(v)) {
        s->n[g]++;
        s->sum[g] += v;
        s->squares[g] += (v - off) * (v - off);
    }
}

static void sum_up(const struct prep *p, const struct column *c, int groups, const double *off,
                   struct sums *s)
{
    int each = c->width / groups;
    for (uint32_t i = 0; i < p->n_train; i++) {
        uint32_t r = p->train[i];
        if (c->kind == COLUMN_SPARSE) {
            for (uint64_t k = c->sparse.start[r]; k < c->sparse.start[r + 1]; k++) {
                uint32_t at = c->sparse.index[k];
                add_to(s, (int)at, (double)c->sparse.value[k], off != NULL ? off[at] : 0);
            }
            continue;
        }
        for (int k = 0; k < c->width; k++) {
            add_to(s, k / each, (double)column_value(c, r, k), off != NULL ? off[k / each] : 0);
        }
    }
    if (c->kind == COLUMN_SPARSE) {
        for (int g = 0; g < groups; g++) { /* the zeros between */
            double zeros = p->n_train - s->n[g];
            s->squares[g] += off != NULL ? zeros * off[g] * off[g] : 0;
            s->n[g] = p->n_train;
        }
    }
}

static json_t *standardize_fit(const struct prep *p, const struct column *c, const json_t *spec,
                               struct mag_err *err)
{
    bool centre = json_is_true(json_object_get(spec, "mean"));
    bool scale = json_is_true(json_object_get(spec, "deviation"));
    if (centre && c->kind == COLUMN_SPARSE) {
        (void)mag_fail(err, MAG_INVALID,
                       "%s: standardize: \"%.60s\" is sparse, and taking the mean off would fill it; "
                       "say \"mean\": false",
                       p->what, c->name);
        return NULL;
    }
    int groups = groups_of(spec, c);
    size_t n = (size_t)groups;
    double *room = xcalloc(n * 5, sizeof(double));
    struct sums s = {.n = room, .sum = room + n, .squares = room + 2 * n};
    double *mean = room + 3 * n;
    double *factor = room + 4 * n;
    sum_up(p, c, groups, NULL, &s);
    for (size_t g = 0; g < n; g++) {
        mean[g] = s.n[g] > 0 ? s.sum[g] / s.n[g] : 0;
    }
    memset(room, 0, n * 3 * sizeof(double));
    sum_up(p, c, groups, mean, &s);
    for (size_t g = 0; g < n; g++) {
        double dev = s.n[g] > 0 ? sqrt(s.squares[g] / s.n[g]) : 0;
        factor[g] = !scale ? 1 : dev > 1e-12 ? 1 / dev : 0; /* a constant says nothing */
        mean[g] = centre ? mean[g] : 0;
    }
    json_t *state = json_pack("{s:o, s:o}", "shift", reals(mean, groups), "factor",
                              reals(factor, groups));
    free(room);
    return state;
}

static const char *const standardize_keys[] = {"mean", "deviation", "per", NULL};
const struct stage_ops stage_standardize = {.name = "standardize",
                                            .keys = standardize_keys,
                                            .kinds = 1 << COLUMN_NUMBER | 1 << COLUMN_SPARSE,
                                            .raw = true,
                                            .parse = standardize_parse,
                                            .fit = standardize_fit,
                                            .apply = scale_apply};

/* ---- minmax ---- */

static void minmax_parse(const struct place *p, json_t *out)
{
    double lo = 0;
    double hi = 1;
    (void)value_number(p, "min", false, -1e6, 1e6, &lo);
    (void)value_number(p, "max", false, -1e6, 1e6, &hi);
    if (!(lo < hi)) {
        mjson_issue_at(p->reader->issues, p->pointer, "max", "\"max\" must be above \"min\"");
    }
    (void)json_object_set_new(out, "min", json_real(lo));
    (void)json_object_set_new(out, "max", json_real(hi));
    per_parse(p, out);
}

static json_t *minmax_fit(const struct prep *p, const struct column *c, const json_t *spec,
                          struct mag_err *err)
{
    (void)err;
    double low = spec_number(spec, "min");
    double high = spec_number(spec, "max");
    int groups = groups_of(spec, c);
    int each = c->width / groups;
    double *lo = xcalloc((size_t)groups, sizeof(double));
    double *hi = xcalloc((size_t)groups, sizeof(double));
    for (int g = 0; g < groups; g++) {
        lo[g] = INFINITY;
        hi[g] = -INFINITY;
    }
    for (uint32_t i = 0; i < p->n_train; i++) {
        for (int k = 0; k < c->width; k++) {
            double v = (double)column_value(c, p->train[i], k);
            lo[k / each] = v < lo[k / each] ? v : lo[k / each];
            hi[k / each] = v > hi[k / each] ? v : hi[k / each];
        }
    }
    for (int g = 0; g < groups; g++) { /* a constant says nothing, and becomes 0 */
        double span = hi[g] - lo[g];
        double factor = span > 0 && isfinite(span) ? (high - low) / span : 0;
        double shift = factor > 0 ? lo[g] - low / factor : 0;
        lo[g] = shift;
        hi[g] = factor;
    }
    json_t *state =
        json_pack("{s:o, s:o}", "shift", reals(lo, groups), "factor", reals(hi, groups));
    free(lo);
    free(hi);
    return state;
}

static const char *const minmax_keys[] = {"min", "max", "per", NULL};
const struct stage_ops stage_minmax = {.name = "minmax",
                                       .keys = minmax_keys,
                                       .kinds = 1 << COLUMN_NUMBER,
                                       .raw = true,
                                       .parse = minmax_parse,
                                       .fit = minmax_fit,
                                       .apply = scale_apply};

/* ---- normalize: each row's values of a column to length 1 ---- */

static void normalize_parse(const struct place *p, json_t *out)
{
    int norm = 2;
    (void)value_int(p, "norm", false, 1, 2, &norm);
    (void)json_object_set_new(out, "norm", json_integer(norm));
}

static json_t *normalize_fit(const struct prep *p, const struct column *c, const json_t *spec,
                             struct mag_err *err)
{
    (void)p;
    (void)c;
    (void)spec;
    (void)err;
    return json_object();
}

static double length_of(double sum, bool squares)
{
    double length = squares ? sqrt(sum) : sum;
    return length > 0 ? length : 1;
}

static enum mag_status normalize_numbers(struct prep *p, int i, bool squares, struct mag_err *err)
{
    struct column keep = p->frame.columns[i];
    float *to = NULL;
    keep.name = xstrdup(keep.name);
    p->frame.columns[i].borrowed = true;
    enum mag_status st = prep_make_numbers(p, i, keep.width, &to, err);
    for (uint32_t r = 0; st == MAG_OK && r < p->frame.n_rows; r++) {
        double sum = 0;
        for (int k = 0; k < keep.width; k++) {
            double v = (double)column_value(&keep, r, k);
            sum += squares ? v * v : fabs(v);
        }
        for (int k = 0; k < keep.width; k++) {
            *to++ = (float)((double)column_value(&keep, r, k) / length_of(sum, squares));
        }
    }
    column_fini(&keep);
    return st;
}

static enum mag_status normalize_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                       struct mag_err *err)
{
    (void)state;
    const struct column *c = &p->frame.columns[i];
    bool squares = spec_number(spec, "norm") > 1;
    if (c->kind == COLUMN_NUMBER) {
        return normalize_numbers(p, i, squares, err);
    }
    struct pairs pairs;
    pairs_begin(&pairs, p->frame.n_rows);
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        double sum = 0;
        for (uint64_t k = c->sparse.start[r]; k < c->sparse.start[r + 1]; k++) {
            double v = (double)c->sparse.value[k];
            sum += squares ? v * v : fabs(v);
        }
        for (uint64_t k = c->sparse.start[r]; k < c->sparse.start[r + 1]; k++) {
            pairs_add(&pairs, c->sparse.index[k],
                      (float)((double)c->sparse.value[k] / length_of(sum, squares)));
        }
        pairs_end_row(&pairs);
    }
    prep_make_sparse(p, i, c->width, &pairs);
    return MAG_OK;
}

static const char *const normalize_keys[] = {"norm", NULL};
const struct stage_ops stage_normalize = {.name = "normalize",
                                          .keys = normalize_keys,
                                          .kinds = 1 << COLUMN_NUMBER | 1 << COLUMN_SPARSE,
                                          .parse = normalize_parse,
                                          .fit = normalize_fit,
                                          .apply = normalize_apply};
