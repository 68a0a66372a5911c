/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of CSV files, cut into fields.
 */
#include "trainer/csv.h"

#include <string.h>

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
enum mag_status csv_next(struct csv *c, bool *more, struct mag_err *err)
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

