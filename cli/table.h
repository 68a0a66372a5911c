/* SPDX-License-Identifier: Apache-2.0
 *
 * Aligned columns for people. Cells are copied in; the last column is cut at a terminal's edge and
 * never cut elsewhere.
 */
#ifndef MAG_CLI_TABLE_H
#define MAG_CLI_TABLE_H

#include "cli/term.h"

#define TABLE_COLUMNS_MAX 16

struct table_cell {
    char *text;
    enum term_colour colour;
};

struct table {
    const char *const *heads; /* borrowed; a leading '>' aligns the column right */
    int n_columns;
    struct table_cell *cells; /* row after row */
    int n_cells, cap;
};

void table_init(struct table *t, const char *const *heads, int n_columns);
/* The next cell; rows fill up from left to right. NULL is shown as "-". */
void table_add(struct table *t, const char *text);
void table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_add_colour(struct table *t, enum term_colour c, const char *text);
void table_print(const struct table *t, FILE *f);
void table_fini(struct table *t);

#endif
