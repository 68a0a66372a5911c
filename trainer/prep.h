/* SPDX-License-Identifier: Apache-2.0
 *
 * Preprocessing: stages that turn columns into the numbers that a model takes. A stage is fitted on
 * the training rows of a split alone and then applied to all rows. Its description is JSON: as a
 * recipe gives it ({"type": "onehot", "unknown": "zeros"}, every default filled in), and once
 * fitted with what it learnt of each column under "state", which is what model files carry:
 *
 *   {"type": "onehot", "unknown": "zeros", "state": {"city": {"levels": ["Bergen", "Oslo"]}}}
 */
#ifndef MAG_TRAINER_PREP_H
#define MAG_TRAINER_PREP_H

#include "trainer/frame.h"
#include "trainer/value.h"

#define PREP_STAGES_MAX 32

/* Makes the data set's examples for its split: by the source's stages, or where it names none by
 * what its columns need. Does nothing when that was done already. */
enum mag_status prep_run(struct dataset *d, const struct dataset_source *s,
                         struct mag_err *err) MAG_MUSTCHECK;
/* The same with stages that were fitted before, of a model (a list as d->fitted); `what` names the
 * data in messages. */
enum mag_status prep_apply(struct dataset *d, const json_t *fitted, const char *what,
                           struct mag_err *err) MAG_MUSTCHECK;

/* Parses "preprocessing" at `pointer` (NULL: there is none) into the source's stages. */
void prep_parse_into(struct reader *r, const json_t *value, const char *pointer,
                     struct dataset_source *s);

/* ---- for stages ---- */

struct prep {
    struct frame frame;    /* as the stages so far left it */
    const uint32_t *train; /* rows to fit on */
    uint32_t n_train;
    const char *what; /* the data, for messages */
};

struct stage_ops {
    const char *name;
    const char *const *keys; /* beside type and columns, NULL-terminated */
    unsigned kinds;          /* of columns that it takes: bits 1 << COLUMN_… */
    bool raw;                /* without "columns": only those that are not encoded yet */
    /* Reads the keys and puts them, or their defaults, into `out`. */
    void (*parse)(const struct place *p, json_t *out);
    /* Can the stage take this column when no columns are named? NULL = its kind is enough. */
    bool (*wants)(const json_t *spec, const struct column *c);
    /* What it learns of a column (new reference, an object), NULL after filling `err`. */
    json_t *(*fit)(const struct prep *p, const struct column *c, const json_t *spec,
                   struct mag_err *err);
    /* Replaces column i of p->frame, or appends to it. */
    enum mag_status (*apply)(struct prep *p, int i, const json_t *spec, const json_t *state,
                             struct mag_err *err);
};

extern const struct stage_ops stage_impute, stage_standardize, stage_minmax, stage_onehot,
    stage_ordinal, stage_hash, stage_tokenize, stage_hashing_tf, stage_idf, stage_normalize;
/* NULL-terminated. */
extern const struct stage_ops *const stage_registry[];

/* Makes column i a NUMBER of `width` values a row, zeroed, and keeps its name. NOMEM or LIMIT. */
enum mag_status prep_make_numbers(struct prep *p, int i, int width, float **ret,
                                  struct mag_err *err) MAG_MUSTCHECK;
/* An array of n numbers of a state (malloc'ed); NULL when it is not that. */
double *prep_numbers(const json_t *state, const char *key, int n);
/* INVALID: the model's state of a column is not what its stage needs. */
enum mag_status prep_damaged(const struct prep *p, const struct column *c, struct mag_err *err);
/* Rows of pairs as they are built; rows come in order. */
struct pairs {
    struct sparse_rows rows;
    uint64_t n, cap;
    uint32_t row;
};
void pairs_begin(struct pairs *b, uint32_t n_rows);
void pairs_add(struct pairs *b, uint32_t index, float value);
void pairs_end_row(struct pairs *b);
/* Makes column i SPARSE with these rows, which it takes. */
void prep_make_sparse(struct prep *p, int i, int width, struct pairs *take);
/* Multiplies each value of the SPARSE column i by its place's factor. */
void prep_scale_sparse(struct prep *p, int i, const double *factors);

#endif
