/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to csv*.c: a CSV file while it is read.
 */
#ifndef MAG_TRAINER_CSV_H
#define MAG_TRAINER_CSV_H

#include "trainer/format.h"
#include "trainer/frame.h"

#define CSV_SAMPLE 64 /* bytes of a value that are kept for a message */

/* A column that is a feature. */
struct csv_feature {
    int column; /* of the file */
    enum column_type type;
    int number;             /* COLUMN_NUMBER and booleans: its place among them */
    struct classes levels;  /* categories: text -> number, in order of appearance */
    int32_t *codes;
    struct buf text;
    uint64_t *start;
    /* what its values are, where the type is not known yet */
    uint32_t numbers, booleans, others;
    int line; /* of the first that is no number */
    char sample[CSV_SAMPLE];
};

struct csv {
    const struct dataset_source *source;
    struct lines lines; /* the last one is cut into fields in place */
    char **fields;      /* DATASET_COLUMNS_MAX, into it */
    int n_fields;
    char **names; /* header */
    int n_columns;
    int label; /* column of the label, -1 = there is none */
    int fold;  /* column of the folds, -1 = there is none */
    struct csv_feature *features;
    int n_features, n_numbers;
    float *values; /* [rows][n_numbers] */
    struct classes classes;
    uint32_t cap; /* rows that there is room for */
    bool retype;  /* a column of unknown type holds something else than numbers */
};

/* The next line that is not blank, cut; *more is false at the end of the file. */
enum mag_status csv_next(struct csv *c, bool *more, struct mag_err *err) MAG_MUSTCHECK;
/* The header: which column is what. */
enum mag_status csv_header(struct csv *c, struct mag_err *err) MAG_MUSTCHECK;

/* Does the text stand for a value that is not there? */
bool csv_is_missing(const struct dataset_source *s, const char *text);
/* -1 = neither, else 0 or 1. */
int csv_boolean(const char *text);
/* Reads the rest of the file and settles the types that are not known. */
enum mag_status csv_find_types(struct csv *c, struct mag_err *err) MAG_MUSTCHECK;

#endif
