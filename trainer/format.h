/* SPDX-License-Identifier: Apache-2.0
 *
 * What a format of data sets is: one table with its name, how files of it are known, the options
 * that a source may give, and the function that reads. A new format is one file with such a table,
 * one line in format.c, a row in docs/TRAINER.md (a test compares them) and an input for the
 * fuzzer.
 */
#ifndef MAG_TRAINER_FORMAT_H
#define MAG_TRAINER_FORMAT_H

#include "base/strmap.h"
#include "trainer/dataset.h"

/* What is wanted of a file. */
enum dataset_how {
    DATASET_WHOLE = 0,
    DATASET_PROBE = 1,    /* shape and classes alone, where that is less than all */
    DATASET_EXAMPLES = 2, /* for a model to be applied: the test part where there is one; labels may
                             be absent */
};

struct dataset_format {
    const char *name;              /* before the colon */
    const char *example;           /* "csv:FILE?label=COLUMN", for messages */
    const char *const *suffixes;   /* files that are of this format, NULL-terminated; NULL = folders */
    const char *const *options;    /* beside format, path and limit, NULL-terminated */
    bool labelled;                 /* "label" must be given */
    bool label_is_file;            /* and is, as those of the test part, a path */
    bool columns;                  /* examples have named columns */
    bool standardized;             /* "standardize" is true where it is not given */
    enum mag_status (*read)(const struct dataset_source *s, enum dataset_how how, struct dataset *d,
                            struct mag_err *err);
};

/* NULL-terminated. */
extern const struct dataset_format *const dataset_formats[];
extern const struct dataset_format dataset_idx, dataset_csv, dataset_npy, dataset_npz,
    dataset_safetensors, dataset_libsvm, dataset_images, dataset_text, dataset_tfrecord;

/* By its name (of n bytes); NULL = there is none. */
const struct dataset_format *dataset_format_named(const char *name, size_t n);
/* By the suffix of a file's name, ".gz" at the end not counted; NULL = no format has it. */
const struct dataset_format *dataset_format_of(const char *path);
/* `"idx", "csv" and "npy"`, malloc'ed. */
char *dataset_format_names(void);

/* ---- for readers ---- */

/* Texts of labels and their numbers. Zero-initialise. */
struct classes {
    struct strmap map; /* text -> number + 1, in order of appearance */
    int n;
};
/* The number of `text`, -1 when there are `max` others already. */
int classes_add(struct classes *c, const char *text, int max);
/* The texts by number, malloc'ed each. */
char **classes_texts(const struct classes *c);
/* Renumbers in sorted order (as numbers where they are), so that the order of rows does not matter:
 * labels, names and number of classes of `d` are set. */
void classes_finish(struct classes *c, struct dataset *d);
void classes_fini(struct classes *c);

/* Lines of a text file, plain or .gz. */
struct lines {
    const char *path; /* borrowed */
    void *gz;
    char *line; /* the last one, without its end */
    size_t len;
    int number; /* from 1 */
};
enum mag_status lines_open(struct lines *l, const char *path, struct mag_err *err) MAG_MUSTCHECK;
/* *more is false at the end. LIMIT: over DATASET_LINE_MAX bytes; CORRUPT: damaged, or no text. */
enum mag_status lines_next(struct lines *l, bool *more, struct mag_err *err) MAG_MUSTCHECK;
void lines_close(struct lines *l);

/* LIMIT when so many examples of so many values are too many. */
enum mag_status dataset_check_size(const char *path, uint64_t rows, uint64_t width,
                                   struct mag_err *err) MAG_MUSTCHECK;

#endif
