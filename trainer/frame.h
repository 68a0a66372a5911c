/* SPDX-License-Identifier: Apache-2.0
 *
 * Columns as they were read, before they become numbers for a model: numbers, categories, texts. A
 * frame is a list of columns with names; preprocessing replaces columns until only numbers are
 * left (trainer/prep.h).
 */
#ifndef MAG_TRAINER_FRAME_H
#define MAG_TRAINER_FRAME_H

#include "trainer/dataset.h"

#define FRAME_LEVELS_MAX 1000000       /* categories of one column */
#define FRAME_TEXT_MAX (1LL << 32)     /* bytes of one column of texts */

enum column_kind {
    COLUMN_NUMBER = 0,
    COLUMN_CATEGORY = 1,
    COLUMN_TEXT = 2,
    COLUMN_TOKENS = 3, /* words of a text */
    COLUMN_SPARSE = 4, /* numbers of which few are not 0 */
};

struct column {
    char *name;
    enum column_kind kind;
    bool borrowed; /* all below belongs to another frame or data set */
    bool boolean;  /* NUMBER: read from words such as true and no */
    bool encoded;  /* made of a category, a text or a mark of what was missing */
    bool counts;   /* SPARSE: how often a word is in a text */
    int width;     /* NUMBER, SPARSE: values of a row */
    size_t stride; /* NUMBER: row i begins at i * stride */
    int groups;    /* NUMBER: channels of an image; 1 where there are none */
    float *values; /* NUMBER; NaN = missing. NULL where `octets` are there */
    uint8_t *octets; /* NUMBER: a value is octet * scale */
    float scale;
    int32_t *codes; /* CATEGORY: into `levels`; -1 = missing */
    char **levels;
    int n_levels;
    char *bytes;     /* TEXT: row i is bytes[start[i]] up to start[i + 1]; TOKENS: each ends in NUL */
    uint64_t *start; /* n_rows + 1 */
    struct sparse_rows sparse;
};

struct frame {
    uint32_t n_rows;
    struct column *columns;
    int n;
};

/* What was read, of a data set that preprocessing makes ready for each split. */
struct raw {
    struct frame columns; /* with names; their numbers lie in `values`. None: all values as one */
    float *values;
    uint8_t *bytes;
    struct sparse_rows *sparse;
    struct shape shape;
    bool kept; /* bytes, values and sparse were the data set's own before */
};

/* "number", "category", …; the first three are what a file may hold. */
extern const char *const column_kind_names[];

/* Appends a column of that name and returns it, borrowed until the next one is appended. */
struct column *frame_add(struct frame *f, const char *name, enum column_kind kind);
/* Index of the column, -1 = none. */
int frame_find(const struct frame *f, const char *name);
/* Another list of the same columns, which it borrows. */
void frame_borrow(struct frame *to, const struct frame *from);
/* Frees the column's content and name. */
void column_fini(struct column *c);
void frame_fini(struct frame *f);

/* Value k of a row of a NUMBER column. */
static inline float column_value(const struct column *c, uint32_t row, int k)
{
    size_t at = (size_t)row * c->stride + (size_t)k;
    return c->values != NULL ? c->values[at] : (float)c->octets[at] * c->scale;
}

#endif
