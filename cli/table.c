/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include "base/alloc.h"
#include "base/err.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2

void table_init(struct table *t, const char *const *heads, int n_columns)
{
    MAG_ASSERT(n_columns > 0 && n_columns <= TABLE_COLUMNS_MAX, "%d columns", n_columns);
    *t = (struct table){.heads = heads, .n_columns = n_columns};
}

static void put(struct table *t, char *text_take, enum term_colour colour)
{
    if (t->n_cells == t->cap) {
        t->cap = t->cap > 0 ? t->cap * 2 : 64;
        t->cells = xreallocarray(t->cells, (size_t)t->cap, sizeof(*t->cells));
    }
    for (char *c = text_take; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x20 ? ' ' : *c; /* a cell is one line, and no escape sequence */
    }
    t->cells[t->n_cells++] = (struct table_cell){.text = text_take, .colour = colour};
}

void table_add(struct table *t, const char *text)
{
    put(t, xstrdup(text != NULL ? text : "-"), TERM_PLAIN);
}

void table_addf(struct table *t, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    put(t, n >= 0 ? text : xstrdup("-"), TERM_PLAIN);
}

void table_add_colour(struct table *t, enum term_colour c, const char *text)
{
    put(t, xstrdup(text != NULL ? text : "-"), c);
}

static void measure(const struct table *t, int widths[TABLE_COLUMNS_MAX])
{
    for (int c = 0; c < t->n_columns; c++) {
        widths[c] = term_columns(t->heads[c] + (t->heads[c][0] == '>'));
    }
    for (int i = 0; i < t->n_cells; i++) {
        int w = term_columns(t->cells[i].text);
        int c = i % t->n_columns;
        widths[c] = w > widths[c] ? w : widths[c];
    }
}

/* Bytes of `text` that fit into `columns`. */
static int cut(const char *text, int columns)
{
    const char *p = text;
    for (; *p != '\0'; p++) {
        if (((unsigned char)*p & 0xc0) != 0x80 && columns-- == 0) {
            break;
        }
    }
    return (int)(p - text);
}

struct line {
    FILE *f;
    int used;  /* columns so far */
    int width; /* of the terminal, 0 = endless */
};

static void print_cell(struct line *l, const char *text, enum term_colour colour, int width,
                       bool right, bool last)
{
    int columns = term_columns(text);
    int room = l->width > 0 ? l->width - l->used : columns;
    int bytes = room >= columns ? (int)strlen(text) : cut(text, room > 1 ? room - 1 : 0);
    int pad = width - columns;
    (void)fprintf(l->f, "%*s%s%.*s%s%s", right && pad > 0 ? pad : 0, "", term_on(l->f, colour),
                  bytes, text, room >= columns || room < 1 ? "" : "…",
                  colour != TERM_PLAIN ? term_off(l->f) : "");
    if (!last) {
        (void)fprintf(l->f, "%*s", (right || pad < 0 ? 0 : pad) + GAP, "");
    }
    l->used += width + GAP;
}

void table_print(const struct table *t, FILE *f)
{
    int widths[TABLE_COLUMNS_MAX] = {0};
    measure(t, widths);
    struct line l = {.f = f, .width = term_width(f)};
    for (int c = 0; c < t->n_columns; c++) {
        bool right = t->heads[c][0] == '>';
        print_cell(&l, t->heads[c] + right, TERM_BOLD, widths[c], right, c == t->n_columns - 1);
    }
    (void)fputc('\n', f);
    for (int i = 0; i < t->n_cells; i++) {
        int c = i % t->n_columns;
        l.used = c == 0 ? 0 : l.used;
        print_cell(&l, t->cells[i].text, t->cells[i].colour, widths[c], t->heads[c][0] == '>',
                   c == t->n_columns - 1);
        if (c == t->n_columns - 1) {
            (void)fputc('\n', f);
        }
    }
}

void table_fini(struct table *t)
{
    for (int i = 0; i < t->n_cells; i++) {
        free(t->cells[i].text);
    }
    free(t->cells);
    *t = (struct table){0};
}
