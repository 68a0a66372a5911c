/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets: examples in memory and their split into training, validation and test parts. A data
 * set is read once and kept by the executor between trials; the split depends on the experiment's
 * seed alone, so that every trial of an experiment sees the same parts.
 */
#ifndef MAG_TRAINER_DATASET_H
#define MAG_TRAINER_DATASET_H

#include "base/err.h"
#include "base/json.h"
#include "trainer/model.h"
#include "trainer/picture.h"

#include <stdbool.h>
#include <stdint.h>

#define DATASET_ROWS_MAX 100000000     /* examples */
#define DATASET_VALUES_MAX (1LL << 32) /* values of all examples together */
#define DATASET_COLUMNS_MAX 65536      /* columns of a CSV file */
#define DATASET_LINE_MAX (1 << 22)     /* bytes of one CSV line */
#define DATASET_CLASSES_MAX 10000
#define DATASET_PATH_MAX 4096
#define DATASET_FOLDS_MAX 1000
#define DATASET_WIDTH_MAX (1 << 20) /* values of an example whose rows are sparse */

struct dataset_format; /* trainer/format.h */

enum layout { LAYOUT_NONE = 0, LAYOUT_NCHW = 1, LAYOUT_NHWC = 2 };

/* What a column of a table holds. */
enum column_type {
    TYPE_AUTO = 0, /* the file tells */
    TYPE_NUMBER = 1,
    TYPE_CATEGORY = 2,
    TYPE_BOOLEAN = 3,
    TYPE_TEXT = 4,
    TYPE_IGNORE = 5,
};
struct typed_column {
    char *name;
    enum column_type type;
};

/* Where a data set lies and how it is read; from "idx:FOLDER" or "csv:PATH?label=COLUMN&…" or the
 * same as an object. Owned strings; dataset_source_fini frees. */
struct dataset_source {
    const struct dataset_format *format; /* NULL: a data set made in memory (tests) */
    char *path;
    char *label; /* csv: the column to learn; npy: the file of labels; npz, safetensors: their array */
    char *input; /* npz, safetensors: the array of examples */
    char *test_input, *test_label; /* the same of the test part, where the files have one */
    enum layout layout;            /* of four dimensions */
    struct typed_column *types;    /* csv: n_types columns whose type is given */
    int n_types;
    char **missing; /* csv: n_missing texts that stand for no value; 0 = the usual ones */
    int n_missing;
    json_t *stages;                /* "preprocessing", every default filled in; NULL = as columns need */
    int height, width;             /* images: what they are scaled to; 0 = all are of one size */
    enum picture_fit fit;          /* images: how they come to that size */
    int channels;                  /* images: 1 or 3; 0 = as the first one has */
    bool label_given;              /* of a model's examples: the source names the label itself */
    int64_t features;              /* libsvm: values of an example, 0 = as many as are seen */
    bool zero_based;               /* libsvm: the first index is 0 */
    char **ignore; /* csv: n_ignore columns left out */
    int n_ignore;
    /* csv, when a model is applied: its n_only features in its order; the label column may be
     * absent then. Other columns are left out. Borrowed; 0 = every column but the label's. */
    char *const *only;
    int n_only;
    bool regression; /* csv: the label is a number to predict, not a class */
    bool
        standardize; /* csv: features to mean 0, deviation 1 (of the training part); default true */
    bool standardize_given;
    char separator;  /* csv: ',' */
    double test;     /* part kept for the test where no test files lie beside: 0.2 */
    int64_t limit;   /* use so many examples for training and validation; 0 = all */
    char *fold_column; /* csv: no feature, but the fold of each row; NULL = none. Not part of the text */
};

/* Rows of which few values are not 0. */
struct sparse_rows {
    uint64_t *start; /* n_rows + 1: the pairs of row i are start[i] .. start[i + 1] - 1 */
    uint32_t *index; /* rising within a row */
    float *value;
};

/* Which rows a trial trains on and which it validates with, by the experiment's "validation". */
struct dataset_part {
    int folds;          /* 0 = no such thing: see dataset_split */
    int fold;           /* 1 .. folds is held out for validation; 0: nothing is, the refit */
    double train_ratio; /* with folds 1: this share of the rows is for training */
    uint64_t seed;
    bool stratified;    /* every part has the classes in the same shares */
    const char *column; /* the source's fold_column says it; NULL = drawn. Borrowed */
};

struct dataset {
    uint64_t serial; /* of its values, see dataset_stamp; 0 = they may change unnoticed */
    struct shape shape; /* of one example */
    int n_classes;      /* 0: regression */
    uint32_t n_rows;
    /* One of the three; the first two hold n_rows * shape_size values, row by row. */
    uint8_t *bytes; /* a value is byte * scale */
    float *values;
    struct sparse_rows *sparse;
    float scale;
    char **class_names; /* texts of the classes; NULL where they have none */
    struct raw *raw;    /* as read, where examples are made of it (trainer/frame.h); or NULL */
    json_t *fitted;     /* the stages that made them, with what they learnt; or NULL */
    char *prepared;     /* by which stages that was, for this split; NULL = not yet */
    int32_t *labels;       /* classes; NULL: the file has no label */
    float *targets;        /* regression */
    int32_t *fold_of;      /* csv with a fold column: each row's, else NULL */
    uint32_t n_given_test; /* the last rows, where the format has test files of its own */
    uint32_t *order;       /* n_rows row numbers: training, validation, test */
    /* What the parts were made from; the next trial of the experiment finds them made. */
    uint64_t split_seed;
    double split_validation, split_test;
    int64_t split_limit;
    struct dataset_part split_part;
    uint32_t n_train, n_val, n_test;
    const uint32_t *train, *val, *test; /* into `order` */
};

/* ---- sources (source.c) ---- */
/* Parses the "dataset" value at `pointer`; false exactly when issues were added. */
bool dataset_source_parse(const json_t *value, const char *pointer, struct mjson_issues *is,
                          struct dataset_source *ret);
/* As that, for a model's examples: no label need be named. */
bool dataset_examples_parse(const char *text, const char *pointer, struct mjson_issues *is,
                            struct dataset_source *ret);
/* Everything of a source that changes what is read, malloc'ed. */
char *dataset_source_key(const struct dataset_source *s);
/* And what changes how it is made ready. */
char *dataset_stages_key(const struct dataset_source *s);
void dataset_source_fini(struct dataset_source *s);

/* Reads examples for a model: CSV with s->only; of formats that know a test part that one, or all
 * where there is none; or one file of IDX images. Labels come along where there are any. */
enum mag_status dataset_open_examples(const struct dataset_source *s, struct dataset **ret,
                                      struct mag_err *err) MAG_MUSTCHECK;
/* Reads the files. The text of `err` names the file and what is wrong with it. NOTFOUND, CORRUPT,
 * INVALID and LIMIT are the user's to mend. */
enum mag_status dataset_open(const struct dataset_source *s, struct dataset **ret,
                             struct mag_err *err) MAG_MUSTCHECK;
/* As dataset_open, but reads only what shape and classes need, where the format can. */
enum mag_status dataset_probe(const struct dataset_source *s, struct dataset **ret,
                              struct mag_err *err) MAG_MUSTCHECK;
void dataset_destroy(struct dataset *d);
/* Gives the data set a number that no other of this process has or had: whoever made or changed its
 * values, labels or targets calls it, so that copies elsewhere (a GPU's) are known to be old. */
void dataset_stamp(struct dataset *d);

/* Puts the examples `rows` into `to`, n rows of shape_size floats, however they are kept. */
void dataset_gather(const struct dataset *d, const uint32_t *rows, int n, float *to);
/* Replaces sparse rows by floats. LIMIT or NOMEM, naming `path`, when they are too many. */
enum mag_status dataset_make_dense(struct dataset *d, const char *path,
                                   struct mag_err *err) MAG_MUSTCHECK;

/* (Re)computes the parts; `validation` of the training rows go to validation. INVALID when a part
 * that was asked for would be empty. Then runs the source's stages, fitted on the training part. */
enum mag_status dataset_split(struct dataset *d, const struct dataset_source *s, uint64_t seed,
                              double validation, struct mag_err *err) MAG_MUSTCHECK;

/* ---- parts by "validation" (part.c) ---- */
/* From a worker's start message: "fold", "folds", "split"; without them folds is 0. */
enum mag_status dataset_part_parse(const json_t *start, struct dataset_part *ret,
                                   struct mag_err *err) MAG_MUSTCHECK;
/* As dataset_split, by `p` (folds > 0). The test part is that of dataset_split. */
enum mag_status dataset_split_part(struct dataset *d, const struct dataset_source *s, uint64_t seed,
                                   const struct dataset_part *p, struct mag_err *err) MAG_MUSTCHECK;

/* ---- for the splits ---- */
/* Puts the rows into the order that the seed gives, the test part last, and notes what it was made
 * from. Returns how many rows are for training and validation. */
uint32_t dataset_draw(struct dataset *d, const struct dataset_source *s, uint64_t seed);
/* Frees rows and their arrays; NULL allowed. */
void dataset_drop_sparse(struct sparse_rows *rows);

#endif
