/* SPDX-License-Identifier: Apache-2.0
 *
 * What the columns of a CSV file hold, where nobody said it: numbers, booleans or categories.
 */
#include "trainer/csv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool csv_is_missing(const struct dataset_source *s, const char *text)
{
    static const char *const usual[] = {"", "NA", "N/A", "NaN", "nan", "null", "NULL"};
    for (int i = 0; i < s->n_missing; i++) {
        if (strcmp(s->missing[i], text) == 0) {
            return true;
        }
    }
    for (size_t i = 0; s->n_missing == 0 && i < sizeof(usual) / sizeof(usual[0]); i++) {
        if (strcmp(usual[i], text) == 0) {
            return true;
        }
    }
    return false;
}

int csv_boolean(const char *text)
{
    static const char *const words[] = {"false", "true", "no", "yes", "f", "t", "n", "y", "0", "1"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(words[i], text) == 0) {
            return (int)(i % 2);
        }
    }
    return -1;
}

static void look_at(struct csv *c, struct csv_feature *f)
{
    const char *text = c->fields[f->column];
    char *end = NULL;
    if (f->type != TYPE_AUTO || csv_is_missing(c->source, text)) {
        return;
    }
    (void)strtod(text, &end);
    bool number = end != text && *end == '\0';
    if (!number && f->others + f->booleans == 0) {
        f->line = c->lines.number;
        (void)snprintf(f->sample, sizeof(f->sample), "%.60s", text);
    }
    if (number) {
        f->numbers++;
    } else if (csv_boolean(text) >= 0) {
        f->booleans++;
    } else {
        f->others++;
    }
}

/* A column that is mostly numbers has a fault rather than categories. */
static enum mag_status settle(const struct csv *c, struct csv_feature *f, struct mag_err *err)
{
    uint32_t words = f->booleans + f->others;
    const char *name = c->names[f->column];
    if (f->type != TYPE_AUTO || words == 0) {
        f->type = f->type == TYPE_AUTO ? TYPE_NUMBER : f->type;
        return MAG_OK;
    }
    if (f->numbers >= words) {
        return mag_fail(err, MAG_INVALID,
                        "%s:%d: column \"%.60s\" holds \"%.60s\", which is no number, though most of "
                        "the column is; mend it, leave the column out (ignore=), or declare it: "
                        "columns=%.60s:category",
                        c->source->path, f->line, name, f->sample, name);
    }
    f->type = f->others == 0 && f->numbers == 0 ? TYPE_BOOLEAN : TYPE_CATEGORY;
    return MAG_OK;
}

enum mag_status csv_find_types(struct csv *c, struct mag_err *err)
{
    bool more = true;
    enum mag_status st = MAG_OK;
    while (st == MAG_OK) {
        st = csv_next(c, &more, err);
        if (st != MAG_OK || !more) {
            break;
        }
        for (int i = 0; c->n_fields == c->n_columns && i < c->n_features; i++) {
            look_at(c, &c->features[i]);
        }
    }
    for (int i = 0; st == MAG_OK && i < c->n_features; i++) {
        st = settle(c, &c->features[i], err);
    }
    return st;
}
