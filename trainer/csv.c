/* SPDX-License-Identifier: Apache-2.0
 *
 * CSV data sets: a header line, numeric columns, one label column by name. Fields may be quoted as
 * in RFC 4180 (without line breaks inside); blank lines are skipped. zlib reads plain and .gz
 * files.
 */
#include "base/alloc.h"
#include "trainer/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct csv {
    const struct dataset_source *source;
    struct lines lines; /* the last one is cut into fields in place */
    char **fields;      /* DATASET_COLUMNS_MAX, into it */
    int n_fields;
    char **names; /* header */
    int n_columns;
    int label;    /* column of the label, -1 = there is none */
    int fold;     /* column of the folds, -1 = there is none */
    int *feature; /* column -> feature index, -1 = not a feature */
    int n_features;
    struct classes classes;
};

static char *skip_blanks(char *p, char separator)
{
    while (*p == ' ' && separator != ' ') {
        p++;
    }
    return p;
}

/* The quoted field that starts at p, unquoted in place; its end in *end. NULL when the quote is not
 * closed or something but a separator follows it. */
static char *cut_quoted(char *p, char separator, char **end)
{
    char *to = p;
    for (p++; *p != '\0' && !(*p == '"' && p[1] != '"'); p++) {
        p += *p == '"';
        *to++ = *p;
    }
    if (*p == '\0') {
        return NULL;
    }
    p = skip_blanks(p + 1, separator);
    *end = to;
    return *p == separator || *p == '\0' ? p : NULL;
}

/* The plain field that starts at p, without blanks at its end. */
static char *cut_plain(char *p, char separator, char **end)
{
    char *start = p;
    while (*p != separator && *p != '\0') {
        p++;
    }
    *end = p;
    while (*end > start && (*end)[-1] == ' ') {
        (*end)--;
    }
    return p;
}

/* Cuts `line` into fields; false when a quote is not closed or there are too many. */
static bool cut_fields(struct csv *c)
{
    const char separator = c->source->separator;
    char *p = c->lines.line;
    for (c->n_fields = 0; c->n_fields < DATASET_COLUMNS_MAX;) {
        char *end = NULL;
        p = skip_blanks(p, separator);
        c->fields[c->n_fields++] = p;
        p = *p == '"' ? cut_quoted(p, separator, &end) : cut_plain(p, separator, &end);
        if (p == NULL) {
            return false;
        }
        bool last = *p == '\0';
        *end = '\0';
        if (last) {
            return true;
        }
        p++;
    }
    return false;
}

/* The next line that is not blank, cut; *more is false at the end of the file. */
static enum mag_status next_line(struct csv *c, bool *more, struct mag_err *err)
{
    for (;;) {
        enum mag_status st = lines_next(&c->lines, more, err);
        if (st != MAG_OK || !*more) {
            return st;
        }
        if (strspn(c->lines.line, " \t") < c->lines.len) {
            break;
        }
    }
    return cut_fields(c)
               ? MAG_OK
               : mag_fail(err, MAG_INVALID, "%s:%d: a quote is not closed, or over %d columns",
                          c->source->path, c->lines.number, DATASET_COLUMNS_MAX);
}

static bool is_ignored(const struct dataset_source *s, const char *name)
{
    for (int i = 0; i < s->n_ignore; i++) {
        if (strcmp(s->ignore[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The feature that the column is, -1 = none. `next` is the number of features so far. */
static int feature_of(const struct dataset_source *s, const char *name, int next)
{
    if (s->n_only == 0) {
        return is_ignored(s, name) ? -1 : next;
    }
    for (int i = 0; i < s->n_only; i++) {
        if (strcmp(s->only[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static enum mag_status no_column(const struct csv *c, const char *want, struct mag_err *err)
{
    const char **known = xcalloc((size_t)c->n_columns + 1, sizeof(*known));
    for (int i = 0; i < c->n_columns; i++) {
        known[i] = c->names[i];
    }
    const char *near = mjson_nearest(want, known);
    enum mag_status st =
        mag_fail(err, MAG_INVALID, "%s: no column \"%.100s\"%s%.100s%s", c->source->path, want,
                 near != NULL ? "; did you mean \"" : " in its header", near != NULL ? near : "",
                 near != NULL ? "\"?" : "");
    free(known);
    return st;
}

/* Every column that the source names must be there. */
static enum mag_status check_columns(const struct csv *c, char *const *want, int n,
                                     struct mag_err *err)
{
    for (int k = 0; k < n; k++) {
        int i = 0;
        while (i < c->n_columns && strcmp(c->names[i], want[k]) != 0) {
            i++;
        }
        if (i == c->n_columns) {
            return no_column(c, want[k], err);
        }
    }
    return MAG_OK;
}

static enum mag_status read_header(struct csv *c, struct mag_err *err)
{
    const struct dataset_source *s = c->source;
    bool more = false;
    enum mag_status st = next_line(c, &more, err);
    if (st != MAG_OK) {
        return st;
    }
    if (!more) {
        return mag_fail(err, MAG_INVALID, "%s: empty; a header line and rows are expected",
                        c->source->path);
    }
    c->n_columns = c->n_fields;
    c->names = xcalloc((size_t)c->n_columns, sizeof(char *));
    c->feature = xcalloc((size_t)c->n_columns, sizeof(int));
    c->label = c->fold = -1;
    for (int i = 0; i < c->n_columns; i++) {
        c->names[i] = xstrdup(c->fields[i]);
        bool label = s->label != NULL && strcmp(c->names[i], s->label) == 0;
        if (label) {
            c->label = i;
        }
        bool fold = s->fold_column != NULL && strcmp(c->names[i], s->fold_column) == 0;
        if (fold) {
            c->fold = i;
        }
        c->feature[i] = label || fold ? -1 : feature_of(s, c->names[i], c->n_features);
        c->n_features += c->feature[i] >= 0;
    }
    if (c->label < 0 && s->n_only == 0) {
        return no_column(c, s->label, err);
    }
    if (s->fold_column != NULL && (c->fold < 0 || c->fold == c->label)) {
        return c->fold < 0 ? no_column(c, s->fold_column, err)
                           : mag_fail(err, MAG_INVALID, "%s: the column \"%s\" is the label",
                                      s->path, s->fold_column);
    }
    st = check_columns(c, s->ignore, s->n_ignore, err);
    if (st == MAG_OK) {
        st = check_columns(c, s->only, s->n_only, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    if (s->n_only > 0 && c->n_features != s->n_only) {
        return mag_fail(err, MAG_INVALID, "%s: a column stands in its header twice", s->path);
    }
    return c->n_features > 0
               ? MAG_OK
               : mag_fail(err, MAG_INVALID, "%s: no column beside the label", c->source->path);
}

static enum mag_status number_of(const struct csv *c, int column, float *ret, struct mag_err *err)
{
    MAG_ASSERT(c->names != NULL, "rows come after the header");
    const char *text = c->fields[column];
    char *end = NULL;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite((float)v)) {
        return mag_fail(
            err, MAG_INVALID, "%s:%d: column \"%.60s\" holds \"%.60s\", which is no number%s",
            c->source->path, c->lines.number, c->names[column], text,
            column == c->label ? " (task=regression)" : "; add &ignore=COLUMN or encode it");
    }
    *ret = (float)v;
    return MAG_OK;
}

static enum mag_status read_label(struct csv *c, struct dataset *d, uint32_t row,
                                  struct mag_err *err)
{
    if (c->label < 0) {
        return MAG_OK;
    }
    if (c->source->regression) {
        return number_of(c, c->label, &d->targets[row], err);
    }
    const char *text = c->fields[c->label];
    int k = classes_add(&c->classes, text);
    if (k < 0) {
        return mag_fail(err, MAG_LIMIT,
                        "%s:%d: over %d classes; is \"%s\" a number (task=regression)?",
                        c->source->path, c->lines.number, DATASET_CLASSES_MAX, c->source->label);
    }
    d->labels[row] = k;
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
static enum mag_status grow(const struct csv *c, struct dataset *d, uint32_t *cap,
                            struct mag_err *err)
{
    if (d->n_rows < *cap) {
        return MAG_OK;
    }
    uint64_t want = *cap > 0 ? (uint64_t)*cap * 2 : 256;
    if (want > DATASET_ROWS_MAX || want * (uint64_t)c->n_features > DATASET_VALUES_MAX) {
        return mag_fail(err, MAG_LIMIT, "%s: too many rows", c->source->path);
    }
    d->raw = xreallocarray(d->raw, want, sizeof(float) * (size_t)c->n_features);
    if (c->fold >= 0) {
        d->fold_of = xreallocarray(d->fold_of, want, sizeof(int32_t));
    }
    if (c->label < 0) {
        d->labels = NULL;
    } else if (c->source->regression) {
        d->targets = xreallocarray(d->targets, want, sizeof(float));
    } else {
        d->labels = xreallocarray(d->labels, want, sizeof(int32_t));
    }
    *cap = (uint32_t)want;
    return MAG_OK;
}

static enum mag_status read_row(struct csv *c, struct dataset *d, struct mag_err *err)
{
    if (c->n_fields != c->n_columns) {
        return mag_fail(err, MAG_INVALID, "%s:%d: %d fields, but the header names %d",
                        c->source->path, c->lines.number, c->n_fields, c->n_columns);
    }
    float *row = d->raw + (size_t)d->n_rows * (size_t)c->n_features;
    for (int i = 0; i < c->n_columns; i++) {
        if (c->feature[i] >= 0) {
            enum mag_status st = number_of(c, i, &row[c->feature[i]], err);
            if (st != MAG_OK) {
                return st;
            }
        }
    }
    enum mag_status st = read_label(c, d, d->n_rows, err);
    if (st == MAG_OK) {
        st = read_fold(c, d, err);
    }
    if (st == MAG_OK) {
        d->n_rows++;
    }
    return st;
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
    d->columns = xcalloc((size_t)c->n_features, sizeof(char *));
    for (int i = 0; i < c->n_columns; i++) {
        if (c->feature[i] >= 0) {
            d->columns[c->feature[i]] = xstrdup(c->names[i]);
        }
    }
    size_t n = (size_t)d->n_rows * (size_t)c->n_features;
    if (!c->source->standardize) {
        d->values = d->raw;
        d->raw = NULL;
        return MAG_OK;
    }
    d->values = mag_try_alloc(n, sizeof(float));
    return d->values != NULL
               ? MAG_OK
               : mag_fail(err, MAG_NOMEM, "%s: no memory for %zu values", c->source->path, n);
}

static enum mag_status csv_read(const struct dataset_source *s, enum dataset_how how,
                                struct dataset *d, struct mag_err *err)
{
    (void)how; /* a model's columns are s->only */
    struct csv c = {.source = s};
    enum mag_status st = lines_open(&c.lines, s->path, err);
    if (st != MAG_OK) {
        return st;
    }
    c.fields = xcalloc(DATASET_COLUMNS_MAX, sizeof(char *));
    st = read_header(&c, err);
    uint32_t cap = 0;
    bool more = true;
    while (st == MAG_OK) {
        st = next_line(&c, &more, err);
        if (st != MAG_OK || !more) {
            break;
        }
        st = grow(&c, d, &cap, err);
        if (st == MAG_OK) {
            st = read_row(&c, d, err);
        }
    }
    if (st == MAG_OK) {
        st = finish(&c, d, err);
    }
    for (int i = 0; i < c.n_columns && c.names != NULL; i++) {
        free(c.names[i]);
    }
    free(c.names);
    free(c.feature);
    free(c.fields);
    classes_fini(&c.classes);
    lines_close(&c.lines);
    return st;
}

static const char *const suffixes[] = {".csv", ".tsv", NULL};
static const char *const options[] = {"label",     "ignore", "task", "standardize",
                                      "separator", "test",   NULL};
const struct dataset_format dataset_csv = {.name = "csv",
                                           .example = "csv:FILE?label=COLUMN",
                                           .suffixes = suffixes,
                                           .options = options,
                                           .labelled = true,
                                           .columns = true,
                                           .standardized = true,
                                           .read = csv_read};
