/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/dataset.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "trainer/format.h"
#include "trainer/frame.h"
#include "trainer/prep.h"
#include "trainer/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

void dataset_stamp(struct dataset *d)
{
    static _Atomic uint64_t last;
    d->serial = ++last;
}

static enum mag_status read_how(const struct dataset_source *s, enum dataset_how how,
                                struct dataset **ret, struct mag_err *err)
{
    struct remote remote;
    enum mag_status st = remote_open(s, &remote, err);
    if (st != MAG_OK) {
        return st;
    }
    struct dataset *d = xcalloc(1, sizeof(*d));
    struct mag_err why = {0};
    st = s->format->read(&remote.local, how, d, &why);
    if (st != MAG_OK) {
        dataset_destroy(d);
        st = remote.paths[0] != NULL ? mag_fail(err, st, "%s: %s", s->path, why.text)
                                     : mag_fail(err, st, "%s", why.text);
    } else {
        dataset_stamp(d);
        *ret = d;
    }
    remote_close(&remote);
    return st;
}

enum mag_status dataset_open(const struct dataset_source *s, struct dataset **ret,
                             struct mag_err *err)
{
    return read_how(s, DATASET_WHOLE, ret, err);
}

enum mag_status dataset_open_examples(const struct dataset_source *s, struct dataset **ret,
                                      struct mag_err *err)
{
    return read_how(s, DATASET_EXAMPLES, ret, err);
}

enum mag_status dataset_probe(const struct dataset_source *s, struct dataset **ret,
                              struct mag_err *err)
{
    return read_how(s, DATASET_PROBE, ret, err);
}

void dataset_drop_sparse(struct sparse_rows *r)
{
    if (r != NULL) {
        free(r->start);
        free(r->index);
        free(r->value);
    }
    free(r);
}

void dataset_destroy(struct dataset *d)
{
    if (d == NULL) {
        return;
    }
    free(d->bytes);
    free(d->values);
    dataset_drop_sparse(d->sparse);
    free(d->labels);
    free(d->targets);
    if (d->raw != NULL) {
        frame_fini(&d->raw->columns);
        free(d->raw->values);
        free(d->raw->bytes);
        dataset_drop_sparse(d->raw->sparse);
        free(d->raw);
    }
    json_decref(d->fitted);
    free(d->prepared);
    for (int i = 0; d->class_names != NULL && i < d->n_classes; i++) {
        free(d->class_names[i]);
    }
    free(d->class_names);
    free(d->order);
    free(d->fold_of);
    free(d);
}

/* ---- rows ---- */

void dataset_gather(const struct dataset *d, const uint32_t *rows, int n, float *to)
{
    size_t width = (size_t)shape_size(&d->shape);
    for (int i = 0; i < n; i++, to += width) {
        if (d->values != NULL) {
            memcpy(to, d->values + rows[i] * width, width * sizeof(float));
        } else if (d->bytes != NULL) {
            const uint8_t *from = d->bytes + rows[i] * width;
            for (size_t k = 0; k < width; k++) {
                to[k] = (float)from[k] * d->scale;
            }
        } else {
            const struct sparse_rows *r = d->sparse;
            memset(to, 0, width * sizeof(float));
            for (uint64_t k = r->start[rows[i]]; k < r->start[rows[i] + 1]; k++) {
                to[r->index[k]] = r->value[k];
            }
        }
    }
}

enum mag_status dataset_make_dense(struct dataset *d, const char *path, struct mag_err *err)
{
    size_t width = (size_t)shape_size(&d->shape);
    enum mag_status st = dataset_check_size(path, d->n_rows, width, err);
    float *values = st == MAG_OK ? mag_try_alloc((size_t)d->n_rows * width, sizeof(float)) : NULL;
    if (st == MAG_OK && values == NULL) {
        st = mag_fail(err, MAG_NOMEM, "%s: no memory for %u examples of %zu values", path, d->n_rows,
                      width);
    }
    for (uint32_t i = 0; st == MAG_OK && i < d->n_rows; i++) {
        dataset_gather(d, &i, 1, values + i * width);
    }
    if (st == MAG_OK) {
        dataset_drop_sparse(d->sparse);
        d->sparse = NULL;
        d->values = values;
    }
    return st;
}

/* ---- the split ---- */

static bool is_split_so(const struct dataset *d, const struct dataset_source *s, uint64_t seed,
                        double validation)
{
    return d->n_train > 0 && d->split_part.folds == 0 && d->split_seed == seed &&
           d->split_validation == validation &&
           d->split_test == s->test && d->split_limit == s->limit;
}

/* All rows in the order that the seed gives; given test rows stay where they are, at the end. */
static void draw_order(struct dataset *d, uint64_t seed)
{
    if (d->order == NULL) {
        d->order = xcalloc(d->n_rows, sizeof(*d->order));
    }
    for (uint32_t i = 0; i < d->n_rows; i++) {
        d->order[i] = i;
    }
    struct pcg64 g;
    pcg_stream(&g, seed, "split", 0);
    pcg64_shuffle(&g, d->order, d->n_rows - d->n_given_test);
}

uint32_t dataset_draw(struct dataset *d, const struct dataset_source *s, uint64_t seed)
{
    uint32_t n_test = d->n_given_test > 0 ? d->n_given_test : (uint32_t)(s->test * d->n_rows);
    uint32_t n_fit = d->n_rows - n_test;
    draw_order(d, seed);
    free(d->prepared);
    d->prepared = NULL;
    d->split_seed = seed;
    d->split_test = s->test;
    d->split_limit = s->limit;
    d->split_part = (struct dataset_part){0};
    d->n_test = n_test;
    d->test = d->order + n_fit;
    return s->limit > 0 && s->limit < n_fit ? (uint32_t)s->limit : n_fit;
}

enum mag_status dataset_split(struct dataset *d, const struct dataset_source *s, uint64_t seed,
                              double validation, struct mag_err *err)
{
    if (is_split_so(d, s, seed, validation)) {
        return prep_run(d, s, err);
    }
    uint32_t use = dataset_draw(d, s, seed);
    d->split_validation = validation;
    d->n_val = (uint32_t)(validation * use);
    d->n_train = use - d->n_val;
    d->train = d->order;
    d->val = d->order + d->n_train;
    if (d->n_train == 0 || (validation > 0 && d->n_val == 0)) {
        d->n_train = 0;
        return mag_fail(err, MAG_INVALID,
                        "%s: %u examples are too few for a validation part of %g and a test part "
                        "of %u",
                        s->path, d->n_rows, validation, d->n_test);
    }
    return prep_run(d, s, err);
}
