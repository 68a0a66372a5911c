/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts by the experiment's "validation": the rows that are for fitting (all but the test part) are
 * dealt out to folds, or to training and validation by a ratio. Which row goes where follows from
 * the seed of the split and the order of the rows alone: the folds of one point are disjoint, and
 * together they are all rows.
 */
#include "base/alloc.h"
#include "base/pcg.h"
#include "trainer/dataset.h"
#include "trainer/prep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- from a start message ---- */

static bool is_whole(const json_t *v, int64_t lo, int64_t hi)
{
    return json_is_integer(v) && json_integer_value(v) >= lo && json_integer_value(v) <= hi;
}

enum mag_status dataset_part_parse(const json_t *start, struct dataset_part *ret,
                                   struct mag_err *err)
{
    const json_t *folds = json_object_get(start, "folds");
    const json_t *fold = json_object_get(start, "fold");
    const json_t *split = json_object_get(start, "split");
    const json_t *ratio = json_object_get(split, "train_ratio");
    const json_t *seed = json_object_get(split, "seed");
    *ret = (struct dataset_part){0};
    if (folds == NULL) {
        return MAG_OK;
    }
    if (!is_whole(folds, 1, DATASET_FOLDS_MAX) || !is_whole(fold, 0, json_integer_value(folds)) ||
        !is_whole(seed, 0, INT64_MAX)) {
        return mag_fail(err, MAG_INVALID,
                        "\"folds\", \"fold\" (0 to folds) and \"split\" with a \"seed\" go together");
    }
    ret->folds = (int)json_integer_value(folds);
    ret->fold = (int)json_integer_value(fold);
    ret->seed = (uint64_t)json_integer_value(seed);
    ret->stratified = json_is_true(json_object_get(split, "stratified"));
    ret->column = json_string_value(json_object_get(split, "fold_column"));
    ret->train_ratio = json_number_value(ratio);
    bool sound = ret->folds == 1 ? ret->train_ratio > 0 && ret->train_ratio < 1 : ratio == NULL;
    return sound ? MAG_OK
                 : mag_fail(err, MAG_INVALID,
                            "\"train_ratio\" (above 0, below 1) goes with \"folds\": 1");
}

/* ---- who is held out ---- */

/* Sorts the places by class; within a class their order stays. */
static void by_class(const struct dataset *d, uint32_t *places, uint32_t n)
{
    uint32_t *start = xcalloc((size_t)d->n_classes + 1, sizeof(*start));
    uint32_t *sorted = xcalloc(n, sizeof(*sorted));
    for (uint32_t i = 0; i < n; i++) {
        start[d->labels[d->order[places[i]]] + 1]++;
    }
    for (int c = 0; c < d->n_classes; c++) {
        start[c + 1] += start[c];
    }
    for (uint32_t i = 0; i < n; i++) {
        sorted[start[d->labels[d->order[places[i]]]]++] = places[i];
    }
    memcpy(places, sorted, n * sizeof(*places));
    free(sorted);
    free(start);
}

/* Deals the places out like cards; a ratio takes evenly spaced ones. */
static void deal(const struct dataset *d, const struct dataset_part *p, uint32_t n, uint8_t *held)
{
    uint32_t *places = xcalloc(n, sizeof(*places));
    for (uint32_t i = 0; i < n; i++) {
        places[i] = i;
    }
    struct pcg64 g;
    pcg_stream(&g, p->seed, "fold", 0);
    pcg64_shuffle(&g, places, n);
    if (p->stratified) {
        by_class(d, places, n);
    }
    double rest = 1 - p->train_ratio;
    for (uint32_t k = 0; k < n; k++) {
        held[places[k]] = p->train_ratio > 0
                              ? floor((k + 1.0) * rest + 1e-9) > floor(k * rest + 1e-9)
                              : k % (uint32_t)p->folds == (uint32_t)p->fold - 1;
    }
    free(places);
}

static enum mag_status hold_by_column(const struct dataset *d, const struct dataset_source *s,
                                      const struct dataset_part *p, uint32_t n, uint8_t *held,
                                      struct mag_err *err)
{
    if (d->fold_of == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "%s: \"fold_column\" is for CSV data; these have no columns", s->path);
    }
    for (uint32_t i = 0; i < n; i++) {
        int32_t f = d->fold_of[d->order[i]];
        if (f < 0 || f >= p->folds) {
            return mag_fail(err, MAG_INVALID,
                            "%s: column \"%.60s\" holds the fold %d; with %d folds they are 0 to %d",
                            s->path, p->column, (int)f, p->folds, p->folds - 1);
        }
        held[i] = f == p->fold - 1;
    }
    return MAG_OK;
}

static enum mag_status hold(const struct dataset *d, const struct dataset_source *s,
                            const struct dataset_part *p, uint32_t n, uint8_t *held,
                            struct mag_err *err)
{
    if (p->fold == 0) {
        return MAG_OK; /* the refit: nothing is */
    }
    if (p->column != NULL) {
        return hold_by_column(d, s, p, n, held, err);
    }
    if (p->stratified && d->labels == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "%s: \"stratified\" needs classes, and the label is a number", s->path);
    }
    deal(d, p, n, held);
    return MAG_OK;
}

/* ---- the parts ---- */

/* Training rows first, then those held out; within each their order stays. */
static void arrange(struct dataset *d, const uint8_t *held, uint32_t n)
{
    uint32_t *rows = xcalloc(n, sizeof(*rows));
    uint32_t n_train = 0;
    for (uint32_t i = 0; i < n; i++) {
        n_train += !held[i];
    }
    uint32_t at[2] = {0, n_train};
    for (uint32_t i = 0; i < n; i++) {
        rows[at[held[i]]++] = d->order[i];
    }
    memcpy(d->order, rows, n * sizeof(*rows));
    free(rows);
    d->n_train = n_train;
    d->n_val = n - n_train;
}

static bool same_column(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL); /* which one it is belongs to the source */
}

static bool is_split_so(const struct dataset *d, const struct dataset_source *s, uint64_t seed,
                        const struct dataset_part *p)
{
    const struct dataset_part *q = &d->split_part;
    return d->n_train > 0 && d->split_seed == seed && d->split_test == s->test &&
           d->split_limit == s->limit && q->folds == p->folds && q->fold == p->fold &&
           q->seed == p->seed && q->stratified == p->stratified &&
           q->train_ratio == p->train_ratio && same_column(q->column, p->column);
}

enum mag_status dataset_split_part(struct dataset *d, const struct dataset_source *s, uint64_t seed,
                                   const struct dataset_part *p, struct mag_err *err)
{
    if (is_split_so(d, s, seed, p)) {
        return prep_run(d, s, err);
    }
    uint32_t use = dataset_draw(d, s, seed);
    uint8_t *held = xcalloc((size_t)use + 1, sizeof(*held));
    enum mag_status st = hold(d, s, p, use, held, err);
    d->n_train = d->n_val = 0;
    if (st == MAG_OK) {
        arrange(d, held, use);
    }
    free(held);
    if (st == MAG_OK && (d->n_train == 0 || (p->fold > 0 && d->n_val == 0))) {
        st = mag_fail(err, MAG_INVALID,
                      "%s: %u examples beside the test part are too few: %s %d of %d has %u, %u are "
                      "left for training",
                      s->path, use, p->folds > 1 ? "fold" : "part", p->fold, p->folds, d->n_val,
                      d->n_train);
        d->n_train = 0;
    }
    if (st != MAG_OK) {
        return st;
    }
    d->split_part = *p;
    d->split_part.column = p->column != NULL ? "" : NULL; /* theirs ends with the message */
    d->train = d->order;
    d->val = d->order + d->n_train;
    return prep_run(d, s, err);
}
