/* SPDX-License-Identifier: Apache-2.0
 *
 * The header of a CSV file: which column is the label, which are features, and of what type.
 */
#include "trainer/csv.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static bool is_ignored(const struct dataset_source *s, const char *name)
{
    for (int i = 0; i < s->n_ignore; i++) {
        if (strcmp(s->ignore[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static enum column_type type_of(const struct dataset_source *s, const char *name)
{
    for (int i = 0; i < s->n_types; i++) {
        if (strcmp(s->types[i].name, name) == 0) {
            return s->types[i].type;
        }
    }
    return TYPE_AUTO;
}

/* The place among the features that the column takes, -1 = none. */
static int feature_of(const struct csv *c, const char *name)
{
    const struct dataset_source *s = c->source;
    if (s->n_only == 0) {
        return is_ignored(s, name) || type_of(s, name) == TYPE_IGNORE ? -1 : c->n_features;
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

static bool has_column(const struct csv *c, const char *want)
{
    for (int i = 0; i < c->n_columns; i++) {
        if (strcmp(c->names[i], want) == 0) {
            return true;
        }
    }
    return false;
}

/* Every column that the source names must be there. */
static enum mag_status check_names(const struct csv *c, struct mag_err *err)
{
    const struct dataset_source *s = c->source;
    for (int i = 0; i < s->n_ignore; i++) {
        if (!has_column(c, s->ignore[i])) {
            return no_column(c, s->ignore[i], err);
        }
    }
    for (int i = 0; i < s->n_only; i++) {
        if (!has_column(c, s->only[i])) {
            return no_column(c, s->only[i], err);
        }
    }
    for (int i = 0; i < s->n_types; i++) {
        if (!has_column(c, s->types[i].name)) {
            return no_column(c, s->types[i].name, err);
        }
    }
    return MAG_OK;
}

/* A feature's place in the list; those of a model come in its order, whatever the file's. */
static void take_column(struct csv *c, int i)
{
    const struct dataset_source *s = c->source;
    int at = feature_of(c, c->names[i]);
    if (at < 0) {
        return;
    }
    enum column_type type = type_of(s, c->names[i]);
    c->features[at] = (struct csv_feature){.column = i, .type = type};
    c->n_features++;
}

/* Names are keys in model files: each once, in UTF-8. */
static enum mag_status check_twice(const struct csv *c, struct mag_err *err)
{
    struct strmap seen = {0};
    enum mag_status st = MAG_OK;
    for (int i = 0; i < c->n_columns && st == MAG_OK; i++) {
        json_t *name = json_string(c->names[i]);
        if (name == NULL) {
            st = mag_fail(err, MAG_INVALID,
                          "%s: the name of column %d is no UTF-8; save the file as UTF-8",
                          c->source->path, i + 1);
        } else if (strmap_set(&seen, c->names[i], c->names[i]) != NULL && feature_of(c, c->names[i]) >= 0) {
            st = mag_fail(err, MAG_INVALID, "%s: the column \"%.60s\" stands in its header twice",
                          c->source->path, c->names[i]);
        }
        json_decref(name);
    }
    strmap_fini(&seen);
    return st;
}

static enum mag_status check_roles(const struct csv *c, struct mag_err *err)
{
    const struct dataset_source *s = c->source;
    if (c->label < 0 && s->n_only == 0) {
        return no_column(c, s->label, err);
    }
    if (s->fold_column != NULL && c->fold < 0) {
        return no_column(c, s->fold_column, err);
    }
    if (s->fold_column != NULL && c->fold == c->label) {
        return mag_fail(err, MAG_INVALID, "%s: the column \"%s\" is the label", s->path,
                        s->fold_column);
    }
    enum mag_status st = check_names(c, err);
    if (st != MAG_OK) {
        return st;
    }
    if (c->n_features == 0) {
        return mag_fail(err, MAG_INVALID, "%s: no column beside the label", s->path);
    }
    return check_twice(c, err);
}

enum mag_status csv_header(struct csv *c, struct mag_err *err)
{
    const struct dataset_source *s = c->source;
    bool more = false;
    enum mag_status st = csv_next(c, &more, err);
    if (st != MAG_OK) {
        return st;
    }
    if (!more) {
        return mag_fail(err, MAG_INVALID, "%s: empty; a header line and rows are expected", s->path);
    }
    c->n_columns = c->n_fields;
    c->names = xcalloc((size_t)c->n_columns + 1, sizeof(char *));
    c->features = xcalloc((size_t)(c->n_columns + s->n_only) + 1, sizeof(*c->features));
    c->label = c->fold = -1;
    for (int i = 0; i < c->n_columns; i++) {
        c->names[i] = xstrdup(c->fields[i]);
        if (s->label != NULL && strcmp(c->names[i], s->label) == 0) {
            c->label = i;
        } else if (s->fold_column != NULL && strcmp(c->names[i], s->fold_column) == 0) {
            c->fold = i;
        } else {
            take_column(c, i);
        }
    }
    if (s->fold_column != NULL && s->label != NULL && strcmp(s->fold_column, s->label) == 0) {
        c->fold = c->label;
    }
    return check_roles(c, err);
}
