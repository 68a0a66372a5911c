/* SPDX-License-Identifier: Apache-2.0
 *
 * CSV data sets: a header line, columns of numbers, categories, booleans and texts, one label
 * column by name. Fields may be quoted as in RFC 4180 (without line breaks inside); blank lines are
 * skipped. A file is read once while every column of unknown type holds numbers; the first that
 * does not makes a second pass find the types.
 */
#include "trainer/csv.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

static enum mag_status number_of(const struct csv *c, int column, float *ret, struct mag_err *err)
{
    MAG_ASSERT(c->names != NULL, "rows come after the header");
    const char *text = c->fields[column];
    char *end = NULL;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite((float)v)) {
        return mag_fail(err, MAG_INVALID,
                        "%s:%d: column \"%.60s\" holds \"%.60s\", which is no number%s",
                        c->source->path, c->lines.number, c->names[column], text,
                        column == c->label ? " (task=regression)" : "");
    }
    *ret = (float)v;
    return MAG_OK;
}

static enum mag_status read_boolean(const struct csv *c, int column, float *ret, struct mag_err *err)
{
    int v = csv_boolean(c->fields[column]);
    if (v < 0) {
        return mag_fail(err, MAG_INVALID,
                        "%s:%d: column \"%.60s\" holds \"%.60s\", which is neither true nor false",
                        c->source->path, c->lines.number, c->names[column], c->fields[column]);
    }
    *ret = (float)v;
    return MAG_OK;
}

static enum mag_status read_number(struct csv *c, const struct csv_feature *f, float *ret,
                                   struct mag_err *err)
{
    const char *text = c->fields[f->column];
    if (csv_is_missing(c->source, text)) {
        *ret = NAN;
        return MAG_OK;
    }
    if (f->type == TYPE_BOOLEAN) {
        return read_boolean(c, f->column, ret, err);
    }
    char *end = NULL;
    (void)strtod(text, &end);
    if (f->type == TYPE_AUTO && (end == text || *end != '\0')) {
        c->retype = true;
        return MAG_CONFLICT; /* not told: the second pass says what is wrong, if anything is */
    }
    return number_of(c, f->column, ret, err);
}

static enum mag_status read_category(struct csv *c, struct csv_feature *f, uint32_t row,
                                     struct mag_err *err)
{
    const char *text = c->fields[f->column];
    if (csv_is_missing(c->source, text)) {
        f->codes[row] = -1;
        return MAG_OK;
    }
    f->codes[row] = classes_add(&f->levels, text, FRAME_LEVELS_MAX);
    return f->codes[row] >= 0
               ? MAG_OK
               : mag_fail(err, MAG_LIMIT,
                          "%s:%d: column \"%.60s\" holds over %d categories; leave it out or declare "
                          "it a text",
                          c->source->path, c->lines.number, c->names[f->column], FRAME_LEVELS_MAX);
}

static enum mag_status read_text(struct csv *c, struct csv_feature *f, uint32_t row,
                                 struct mag_err *err)
{
    const char *text = c->fields[f->column];
    f->start[row] = f->text.len;
    buf_adds(&f->text, text);
    f->start[row + 1] = f->text.len;
    return (long long)f->text.len <= FRAME_TEXT_MAX
               ? MAG_OK
               : mag_fail(err, MAG_LIMIT, "%s:%d: column \"%.60s\" holds over %lld bytes",
                          c->source->path, c->lines.number, c->names[f->column], FRAME_TEXT_MAX);
}

static enum mag_status read_feature(struct csv *c, struct csv_feature *f, uint32_t row,
                                    struct mag_err *err)
{
    switch (f->type) {
    case TYPE_CATEGORY:
        return read_category(c, f, row, err);
    case TYPE_TEXT:
        return read_text(c, f, row, err);
    case TYPE_AUTO:
    case TYPE_NUMBER:
    case TYPE_BOOLEAN:
    case TYPE_IGNORE:
    default:
        return read_number(
            c, f, &c->values[(size_t)row * (size_t)c->n_numbers + (size_t)f->number], err);
    }
}

static enum mag_status read_label(struct csv *c, struct dataset *d, struct mag_err *err)
{
    if (c->label < 0) {
        return MAG_OK;
    }
    if (c->source->regression) {
        return number_of(c, c->label, &d->targets[d->n_rows], err);
    }
    int k = classes_add(&c->classes, c->fields[c->label], DATASET_CLASSES_MAX);
    if (k < 0) {
        return mag_fail(err, MAG_LIMIT,
                        "%s:%d: over %d classes; is \"%s\" a number (task=regression)?",
                        c->source->path, c->lines.number, DATASET_CLASSES_MAX, c->source->label);
    }
    d->labels[d->n_rows] = k;
    return MAG_OK;
}

static enum mag_status read_fold(const struct csv *c, struct dataset *d, struct mag_err *err)
{
    float v = 0;
    if (c->fold < 0) {
        return MAG_OK;
    }
    enum mag_status st = number_of(c, c->fold, &v, err);
    if (st == MAG_OK && (v < 0 || v >= DATASET_FOLDS_MAX || v != floorf(v))) {
        st = mag_fail(err, MAG_INVALID, "%s:%d: column \"%.60s\" holds \"%.60s\"; folds are 0, 1, …",
                      c->source->path, c->lines.number, c->names[c->fold], c->fields[c->fold]);
    }
    d->fold_of[d->n_rows] = st == MAG_OK ? (int32_t)v : 0;
    return st;
}

/* Room for one more row; doubles. */
static enum mag_status grow(struct csv *c, struct dataset *d, struct mag_err *err)
{
    if (d->n_rows < c->cap) {
        return MAG_OK;
    }
    size_t want = c->cap > 0 ? (size_t)c->cap * 2 : 256;
    enum mag_status st = dataset_check_size(c->source->path, want, (uint64_t)c->n_numbers, err);
    if (st != MAG_OK) {
        return st;
    }
    c->values = xreallocarray(c->values, want, sizeof(float) * (size_t)(c->n_numbers + 1));
    for (int i = 0; i < c->n_features; i++) {
        struct csv_feature *f = &c->features[i];
        if (f->type == TYPE_CATEGORY) {
            f->codes = xreallocarray(f->codes, want, sizeof(*f->codes));
        } else if (f->type == TYPE_TEXT) {
            f->start = xreallocarray(f->start, want + 1, sizeof(*f->start));
        }
    }
    if (c->fold >= 0) {
        d->fold_of = xreallocarray(d->fold_of, want, sizeof(int32_t));
    }
    if (c->label >= 0 && c->source->regression) {
        d->targets = xreallocarray(d->targets, want, sizeof(float));
    } else if (c->label >= 0) {
        d->labels = xreallocarray(d->labels, want, sizeof(int32_t));
    }
    c->cap = (uint32_t)want;
    return MAG_OK;
}

static enum mag_status read_row(struct csv *c, struct dataset *d, struct mag_err *err)
{
    if (c->n_fields != c->n_columns) {
        return mag_fail(err, MAG_INVALID, "%s:%d: %d fields, but the header names %d",
                        c->source->path, c->lines.number, c->n_fields, c->n_columns);
    }
    enum mag_status st = grow(c, d, err);
    for (int i = 0; st == MAG_OK && i < c->n_features; i++) {
        st = read_feature(c, &c->features[i], d->n_rows, err);
    }
    if (st == MAG_OK) {
        st = read_label(c, d, err);
    }
    if (st == MAG_OK) {
        st = read_fold(c, d, err);
    }
    d->n_rows += st == MAG_OK;
    return st;
}

static enum mag_status read_rows(struct csv *c, struct dataset *d, struct mag_err *err)
{
    bool more = true;
    enum mag_status st = MAG_OK;
    c->n_numbers = 0;
    for (int i = 0; i < c->n_features; i++) {
        bool number = c->features[i].type != TYPE_CATEGORY && c->features[i].type != TYPE_TEXT;
        c->features[i].number = c->n_numbers;
        c->n_numbers += number;
    }
    while (st == MAG_OK) {
        st = csv_next(c, &more, err);
        if (st != MAG_OK || !more) {
            break;
        }
        st = read_row(c, d, err);
    }
    return st;
}

/* ---- the whole ---- */

/* Hands the columns over to the data set. */
static void make_columns(struct csv *c, struct dataset *d)
{
    struct raw *raw = d->raw = xcalloc(1, sizeof(*d->raw));
    raw->values = c->values;
    raw->columns.n_rows = d->n_rows;
    c->values = NULL;
    for (int i = 0; i < c->n_features; i++) {
        struct csv_feature *f = &c->features[i];
        enum column_kind kind = f->type == TYPE_CATEGORY ? COLUMN_CATEGORY
                                : f->type == TYPE_TEXT   ? COLUMN_TEXT
                                                         : COLUMN_NUMBER;
        struct column *to = frame_add(&raw->columns, c->names[f->column], kind);
        if (kind == COLUMN_NUMBER) {
            to->borrowed = true;
            to->boolean = f->type == TYPE_BOOLEAN;
            to->values = raw->values + f->number;
            to->stride = (size_t)c->n_numbers;
        } else if (kind == COLUMN_CATEGORY) {
            to->codes = f->codes;
            to->levels = classes_texts(&f->levels);
            to->n_levels = f->levels.n;
            f->codes = NULL;
        } else {
            to->bytes = buf_take(&f->text);
            to->start = f->start;
            f->start = NULL;
        }
    }
}

static enum mag_status finish(struct csv *c, struct dataset *d, struct mag_err *err)
{
    if (d->n_rows == 0) {
        return mag_fail(err, MAG_INVALID, "%s: no rows after the header", c->source->path);
    }
    if (c->label >= 0 && !c->source->regression) {
        classes_finish(&c->classes, d);
        if (d->n_classes < 2 && c->source->n_only == 0) {
            return mag_fail(err, MAG_INVALID, "%s: every row has the same \"%s\"", c->source->path,
                            c->source->label);
        }
    }
    d->shape = (struct shape){.c = c->n_features, .h = 1, .w = 1, .flat = true};
    make_columns(c, d);
    return MAG_OK;
}

/* Back to the first row, with the types of the features kept. */
static enum mag_status again(struct csv *c, struct dataset *d, struct mag_err *err)
{
    bool more = false;
    lines_close(&c->lines);
    c->retype = false;
    c->cap = 0;
    free(c->values);
    free(d->labels);
    free(d->targets);
    free(d->fold_of);
    c->values = NULL;
    d->labels = d->fold_of = NULL;
    d->targets = NULL;
    d->n_rows = 0;
    classes_fini(&c->classes);
    for (int i = 0; i < c->n_features; i++) {
        struct csv_feature *f = &c->features[i];
        free(f->codes);
        free(f->start);
        buf_fini(&f->text);
        classes_fini(&f->levels);
        f->codes = NULL;
        f->start = NULL;
    }
    enum mag_status st = lines_open(&c->lines, c->source->path, err);
    return st == MAG_OK ? csv_next(c, &more, err) : st; /* over the header */
}

static void csv_fini(struct csv *c)
{
    for (int i = 0; c->names != NULL && i < c->n_columns; i++) {
        free(c->names[i]);
    }
    for (int i = 0; c->features != NULL && i < c->n_features; i++) {
        struct csv_feature *f = &c->features[i];
        free(f->codes);
        free(f->start);
        buf_fini(&f->text);
        classes_fini(&f->levels);
    }
    free(c->names);
    free(c->features);
    free(c->fields);
    free(c->values);
    classes_fini(&c->classes);
    lines_close(&c->lines);
}

static enum mag_status csv_read(const struct dataset_source *s, enum dataset_how how,
                                struct dataset *d, struct mag_err *err)
{
    (void)how; /* a model's columns are s->only */
    struct csv c = {.source = s};
    enum mag_status st = lines_open(&c.lines, s->path, err);
    if (st != MAG_OK) {
        lines_close(&c.lines);
        return st;
    }
    c.fields = xcalloc(DATASET_COLUMNS_MAX, sizeof(char *));
    st = csv_header(&c, err);
    if (st == MAG_OK) {
        st = read_rows(&c, d, err);
    }
    if (c.retype) {
        st = again(&c, d, err);
        if (st == MAG_OK) {
            st = csv_find_types(&c, err);
        }
        if (st == MAG_OK) {
            st = again(&c, d, err);
        }
        if (st == MAG_OK) {
            st = read_rows(&c, d, err);
        }
    }
    if (st == MAG_OK) {
        st = finish(&c, d, err);
    }
    csv_fini(&c);
    return st;
}

static const char *const suffixes[] = {".csv", ".tsv", NULL};
static const char *const options[] = {"label",     "ignore", "task",    "standardize",
                                      "separator", "test",   "columns", "missing",
                                      NULL};
const struct dataset_format dataset_csv = {.name = "csv",
                                           .example = "csv:FILE?label=COLUMN",
                                           .suffixes = suffixes,
                                           .options = options,
                                           .labelled = true,
                                           .columns = true,
                                           .standardized = true,
                                           .read = csv_read};
