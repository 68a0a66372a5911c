/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/dataset.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the source ---- */

static const char *const idx_keys[] = {"format", "path", "limit", NULL};
static const char *const csv_keys[] = {"format",      "path",      "label", "ignore", "task",
                                       "standardize", "separator", "test",  "limit",  NULL};

/* "csv:PATH?label=x&test=0.3" as the object that it abbreviates. Numbers become numbers, ignore=a,b
 * a list. NULL with an issue when it cannot be read. */
static json_t *source_from_text(const char *text, const char *pointer, struct mjson_issues *is)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL) {
        mjson_issue(is, pointer,
                    "\"%.200s\" is no data set: write \"idx:FOLDER\" or \"csv:PATH?label=COLUMN\"",
                    text);
        return NULL;
    }
    json_t *o = json_object();
    const char *query = strchr(colon, '?');
    size_t path_len = query != NULL ? (size_t)(query - colon - 1) : strlen(colon + 1);
    (void)json_object_set_new(o, "format", json_stringn(text, (size_t)(colon - text)));
    (void)json_object_set_new(o, "path", json_stringn(colon + 1, path_len));
    while (query != NULL && *query != '\0') {
        const char *key = query + 1;
        size_t n = strcspn(key, "&");
        const char *eq = memchr(key, '=', n);
        if (eq == NULL) {
            mjson_issue(is, pointer, "\"%.*s\" after ? is not of the form name=value", (int)n, key);
            json_decref(o);
            return NULL;
        }
        char *name = xstrndup(key, (size_t)(eq - key));
        char *value = xstrndup(eq + 1, n - (size_t)(eq + 1 - key));
        char *end = NULL;
        double number = strtod(value, &end);
        if (end != value && *end == '\0' && isfinite(number) && strcmp(name, "label") != 0) {
            (void)json_object_set_new(o, name,
                                      number == floor(number) && fabs(number) < 1e15
                                          ? json_integer((json_int_t)number)
                                          : json_real(number));
        } else {
            (void)json_object_set_new(o, name, json_string(value));
        }
        free(name);
        free(value);
        query = key + n;
    }
    return o;
}

/* A field that must be a string; NULL when absent or wrong (then an issue says so). */
static const char *text_field(const json_t *o, const char *key, const char *pointer,
                              struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    if (v == NULL) {
        return NULL;
    }
    if (!json_is_string(v) || json_string_length(v) == 0) {
        mjson_issue_at(is, pointer, key, "\"%s\" must be a text, not %s", key, mjson_kind(v));
        return NULL;
    }
    return json_string_value(v);
}

static void parse_ignore(const json_t *v, const char *pointer, struct mjson_issues *is,
                         struct dataset_source *s)
{
    json_t *list = json_is_array(v) ? json_incref((json_t *)(uintptr_t)v) : json_array();
    if (json_is_string(v)) {
        const char *p = json_string_value(v);
        while (*p != '\0') {
            size_t n = strcspn(p, ",");
            (void)json_array_append_new(list, json_stringn(p, n));
            p += n + (p[n] == ',');
        }
    }
    size_t i = 0;
    json_t *item = NULL;
    s->ignore = xcalloc(json_array_size(list) + 1, sizeof(char *));
    json_array_foreach(list, i, item)
    {
        if (json_is_string(item)) {
            s->ignore[s->n_ignore++] = xstrdup(json_string_value(item));
        } else {
            mjson_issue_at(is, pointer, "ignore", "\"ignore\" must list column names");
            break;
        }
    }
    json_decref(list);
}

/* true or false, also as the text that a query gives. */
static void parse_standardize(const json_t *v, const char *pointer, struct mjson_issues *is,
                              struct dataset_source *s)
{
    const char *text = json_string_value(v);
    if (json_is_boolean(v)) {
        s->standardize = json_is_true(v);
    } else if (text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        s->standardize = text[0] == 't';
    } else {
        mjson_issue_at(is, pointer, "standardize", "\"standardize\" must be true or false");
    }
}

static void parse_separator(const char *text, const char *pointer, struct mjson_issues *is,
                            struct dataset_source *s)
{
    if (strcmp(text, "tab") == 0) {
        s->separator = '\t';
    } else if (text[1] == '\0' && strchr(",;\t| ", text[0]) != NULL) {
        s->separator = text[0];
    } else {
        mjson_issue_at(is, pointer, "separator", "\"separator\" is one of , ; | space and \"tab\"");
    }
}

static void parse_task(const char *text, const char *pointer, struct mjson_issues *is,
                       struct dataset_source *s)
{
    s->regression = strcmp(text, "regression") == 0;
    if (!s->regression && strcmp(text, "classification") != 0) {
        mjson_issue_at(is, pointer, "task",
                       "\"task\" is \"classification\" or \"regression\", not \"%.100s\"", text);
    }
}

static void parse_csv_options(const json_t *o, const char *pointer, struct mjson_issues *is,
                              struct dataset_source *s)
{
    const char *label = text_field(o, "label", pointer, is);
    const char *task = text_field(o, "task", pointer, is);
    const char *separator = text_field(o, "separator", pointer, is);
    const json_t *standardize = json_object_get(o, "standardize");
    const json_t *test = json_object_get(o, "test");
    const json_t *ignore = json_object_get(o, "ignore");
    if (label != NULL) {
        s->label = xstrdup(label);
    } else if (json_object_get(o, "label") == NULL) {
        mjson_issue(is, pointer, "a csv data set needs the column to learn: csv:PATH?label=COLUMN");
    }
    if (task != NULL) {
        parse_task(task, pointer, is, s);
    }
    if (separator != NULL) {
        parse_separator(separator, pointer, is, s);
    }
    if (standardize != NULL) {
        parse_standardize(standardize, pointer, is, s);
    }
    if (test != NULL) {
        s->test = json_is_number(test) ? json_number_value(test) : -1;
        if (!(s->test >= 0 && s->test <= 0.9)) {
            mjson_issue_at(is, pointer, "test",
                           "\"test\" is the part of the rows kept for the test, 0 to 0.9");
        }
    }
    if (ignore != NULL) {
        parse_ignore(ignore, pointer, is, s);
    }
}

static void parse_source_object(const json_t *o, const char *pointer, struct mjson_issues *is,
                                struct dataset_source *s)
{
    const char *format = text_field(o, "format", pointer, is);
    bool csv = format != NULL && strcmp(format, "csv") == 0;
    if (format == NULL || (!csv && strcmp(format, "idx") != 0)) {
        mjson_issue(is, pointer,
                    "unknown data set format \"%.100s\": \"idx\" and \"csv\" are known",
                    format != NULL ? format : "");
        return;
    }
    mjson_check_keys(o, csv ? csv_keys : idx_keys, pointer, is);
    s->format = csv ? DATASET_CSV : DATASET_IDX;
    s->standardize = csv;
    const char *path = text_field(o, "path", pointer, is);
    if (path == NULL && json_object_get(o, "path") == NULL) {
        mjson_issue(is, pointer, "the data set needs a \"path\"");
    } else if (path != NULL && strlen(path) >= DATASET_PATH_MAX - 64) {
        mjson_issue(is, pointer, "the path is too long");
    }
    s->path = xstrdup(path != NULL ? path : "");
    const json_t *limit = json_object_get(o, "limit");
    if (limit != NULL && !(json_is_integer(limit) && json_integer_value(limit) > 0)) {
        mjson_issue_at(is, pointer, "limit",
                       "\"limit\" must be a whole number of examples above 0");
    } else {
        s->limit = json_integer_value(limit);
    }
    if (csv) {
        parse_csv_options(o, pointer, is, s);
    }
}

bool dataset_source_parse(const json_t *value, const char *pointer, struct mjson_issues *is,
                          struct dataset_source *ret)
{
    int before = is->total;
    *ret = (struct dataset_source){.test = 0.2, .separator = ','};
    json_t *o = NULL;
    if (json_is_string(value)) {
        o = source_from_text(json_string_value(value), pointer, is);
    } else if (json_is_object(value)) {
        o = json_incref((json_t *)(uintptr_t)value);
    } else {
        mjson_issue(
            is, pointer,
            "the data set must be \"idx:FOLDER\", \"csv:PATH?label=COLUMN\" or an object, not %s",
            mjson_kind(value));
    }
    if (o != NULL) {
        parse_source_object(o, pointer, is, ret);
        json_decref(o);
    }
    if (is->total > before) {
        dataset_source_fini(ret);
        return false;
    }
    return true;
}

void dataset_source_fini(struct dataset_source *s)
{
    free(s->path);
    free(s->label);
    free(s->fold_column);
    for (int i = 0; i < s->n_ignore; i++) {
        free(s->ignore[i]);
    }
    free(s->ignore);
    *s = (struct dataset_source){0};
}

/* ---- opening ---- */

static enum mag_status open_or_probe(const struct dataset_source *s, bool probe,
                                     struct dataset **ret, struct mag_err *err)
{
    struct dataset *d = xcalloc(1, sizeof(*d));
    enum mag_status st =
        s->format == DATASET_IDX ? idx_read(s->path, probe, d, err) : csv_read(s, d, err);
    if (st != MAG_OK) {
        dataset_destroy(d);
        return st;
    }
    *ret = d;
    return MAG_OK;
}

enum mag_status dataset_open(const struct dataset_source *s, struct dataset **ret,
                             struct mag_err *err)
{
    return open_or_probe(s, false, ret, err);
}

enum mag_status dataset_open_examples(const struct dataset_source *s, struct dataset **ret,
                                      struct mag_err *err)
{
    struct dataset *d = xcalloc(1, sizeof(*d));
    enum mag_status st =
        s->format == DATASET_IDX ? idx_read_examples(s->path, d, err) : csv_read(s, d, err);
    if (st != MAG_OK) {
        dataset_destroy(d);
        return st;
    }
    *ret = d;
    return MAG_OK;
}

enum mag_status dataset_probe(const struct dataset_source *s, struct dataset **ret,
                              struct mag_err *err)
{
    return open_or_probe(s, true, ret, err);
}

void dataset_destroy(struct dataset *d)
{
    if (d == NULL) {
        return;
    }
    free(d->bytes);
    free(d->values);
    free(d->raw);
    free(d->labels);
    free(d->targets);
    for (int i = 0; d->columns != NULL && i < shape_size(&d->shape); i++) {
        free(d->columns[i]);
    }
    for (int i = 0; d->class_names != NULL && i < d->n_classes; i++) {
        free(d->class_names[i]);
    }
    free(d->columns);
    free(d->class_names);
    free(d->mean);
    free(d->factor);
    free(d->order);
    free(d->fold_of);
    free(d);
}

/* ---- the split ---- */

void dataset_standardize(struct dataset *d)
{
    if (d->raw == NULL) {
        return;
    }
    size_t width = (size_t)shape_size(&d->shape);
    if (d->mean == NULL) {
        d->mean = xcalloc(width, sizeof(double));
        d->factor = xcalloc(width, sizeof(double));
    }
    for (size_t c = 0; c < width; c++) {
        double sum = 0;
        double squares = 0;
        for (uint32_t i = 0; i < d->n_train; i++) {
            sum += (double)d->raw[d->train[i] * width + c];
        }
        double mean = sum / d->n_train;
        for (uint32_t i = 0; i < d->n_train; i++) {
            double off = (double)d->raw[d->train[i] * width + c] - mean;
            squares += off * off;
        }
        double dev = sqrt(squares / d->n_train);
        double inv = dev > 1e-12 ? 1 / dev : 0; /* a constant column says nothing */
        d->mean[c] = mean;
        d->factor[c] = inv;
        for (uint32_t i = 0; i < d->n_rows; i++) {
            d->values[i * width + c] = (float)(((double)d->raw[i * width + c] - mean) * inv);
        }
    }
}

static bool is_split_so(const struct dataset *d, const struct dataset_source *s, uint64_t seed,
                        double validation)
{
    return d->n_train > 0 && d->split_part.folds == 0 && d->split_seed == seed &&
           d->split_validation == validation &&
           d->split_test == s->test && d->split_limit == s->limit;
}

/* All rows in the order that the seed gives; given test rows stay where they are, at the end. */
static void draw_order(struct dataset *d, uint64_t seed)
{
    if (d->order == NULL) {
        d->order = xcalloc(d->n_rows, sizeof(*d->order));
    }
    for (uint32_t i = 0; i < d->n_rows; i++) {
        d->order[i] = i;
    }
    struct pcg64 g;
    pcg_stream(&g, seed, "split", 0);
    pcg64_shuffle(&g, d->order, d->n_rows - d->n_given_test);
}

uint32_t dataset_draw(struct dataset *d, const struct dataset_source *s, uint64_t seed)
{
    uint32_t n_test = d->n_given_test > 0 ? d->n_given_test : (uint32_t)(s->test * d->n_rows);
    uint32_t n_fit = d->n_rows - n_test;
    draw_order(d, seed);
    d->split_seed = seed;
    d->split_test = s->test;
    d->split_limit = s->limit;
    d->split_part = (struct dataset_part){0};
    d->n_test = n_test;
    d->test = d->order + n_fit;
    return s->limit > 0 && s->limit < n_fit ? (uint32_t)s->limit : n_fit;
}

enum mag_status dataset_split(struct dataset *d, const struct dataset_source *s, uint64_t seed,
                              double validation, struct mag_err *err)
{
    if (is_split_so(d, s, seed, validation)) {
        return MAG_OK;
    }
    uint32_t use = dataset_draw(d, s, seed);
    d->split_validation = validation;
    d->n_val = (uint32_t)(validation * use);
    d->n_train = use - d->n_val;
    d->train = d->order;
    d->val = d->order + d->n_train;
    if (d->n_train == 0 || (validation > 0 && d->n_val == 0)) {
        d->n_train = 0;
        return mag_fail(err, MAG_INVALID,
                        "%s: %u examples are too few for a validation part of %g and a test part "
                        "of %u",
                        s->path, d->n_rows, validation, d->n_test);
    }
    dataset_standardize(d);
    return MAG_OK;
}
