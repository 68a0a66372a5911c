/* SPDX-License-Identifier: Apache-2.0
 *
 * TFRecord files of tf.train.Example messages, plain or .gz: record after record, each with its
 * features. For readers of data sets.
 */
#ifndef MAG_TRAINER_TFRECORDS_H
#define MAG_TRAINER_TFRECORDS_H

#include "base/err.h"
#include "base/pbread.h"

#include <stdbool.h>
#include <stdint.h>

#define TFRECORDS_NAME_MAX 256 /* bytes of a feature's name */

enum list_kind { LIST_BYTES = 1, LIST_FLOAT = 2, LIST_INT = 3 };

/* A feature of one record; borrows its bytes. */
struct item {
    char name[TFRECORDS_NAME_MAX];
    enum list_kind kind;
    struct pb_reader list;
};

/* The record that is read. */
struct records {
    const char *path; /* of its file; borrowed */
    uint64_t record;  /* in it, from 1 */
    struct item *items;
    int n_items;
    struct mag_err *err;
};

void records_init(struct records *r, struct mag_err *err);
void records_fini(struct records *r);

/* Calls fn for each record of a file, whose features are then in `r`, until one fails. CORRUPT and
 * LIMIT name the file and the record. */
typedef enum mag_status (*records_fn)(void *ctx);
enum mag_status records_read(struct records *r, const char *path, records_fn fn,
                             void *ctx) MAG_MUSTCHECK;

/* Whether a file of that name is one of records: "tfrecord" is in it, as in
 * x.tfrecord-00000-of-00002. */
bool records_named(const char *name);

/* A failure of the feature `name` of this record. */
enum mag_status records_wrong(const struct records *r, enum mag_status st, const char *name,
                              const char *what);

/* NULL = the record has none of that name. */
struct item *records_find(const struct records *r, const char *name);
/* The numbers of a list, packed or one by one: at most `max` into `to`; returns how many there are.
 */
int item_numbers(const struct item *item, double *to, int max);
/* The only text of a list; false when there are none, or more. Borrows. */
bool item_text(const struct item *item, struct pb_field *ret);

#endif
