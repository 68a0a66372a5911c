/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/arrays.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 8192 /* values read at once */

uint64_t array_values(const struct array *a)
{
    uint64_t n = 1;
    for (int i = 0; i < a->n_dims; i++) {
        if (a->dims[i] == 0 || n > (uint64_t)DATASET_VALUES_MAX / a->dims[i]) {
            return 0;
        }
        n *= a->dims[i];
    }
    return n;
}

/* ---- shapes ---- */

static enum mag_status check_dims(const struct array *a, struct mag_err *err)
{
    if (a->n_dims < 1 || a->n_dims > 4) {
        return mag_fail(err, MAG_INVALID,
                        "%s: %d dimensions; examples are [n], [n][values], [n][rows][columns] or "
                        "[n][channels][rows][columns]",
                        a->what, a->n_dims);
    }
    for (int i = 0; i < a->n_dims; i++) {
        uint64_t max = i == 0 ? DATASET_ROWS_MAX : a->n_dims == 2 ? MODEL_UNITS_MAX : MODEL_SIDE_MAX;
        if (a->dims[i] == 0 || a->dims[i] > max) {
            return mag_fail(err, MAG_LIMIT, "%s: dimension %d is %llu; 1 to %llu are read", a->what,
                            i + 1, (unsigned long long)a->dims[i], (unsigned long long)max);
        }
    }
    return dataset_check_size(a->what, a->dims[0], array_values(a) / a->dims[0] + 1, err);
}

static enum mag_status shape_of(const struct array *a, const struct dataset_source *s,
                                struct shape *ret, struct mag_err *err)
{
    const uint64_t *d = a->dims;
    enum mag_status st = check_dims(a, err);
    if (st != MAG_OK) {
        return st;
    }
    if (a->n_dims == 4 && s->layout == LAYOUT_NONE && d[3] <= 4 && d[1] > 4) {
        return mag_fail(err, MAG_INVALID,
                        "%s: [%llu][%llu][%llu][%llu] looks like channels last; say layout=nhwc (or "
                        "layout=nchw, if it is not)",
                        a->what, (unsigned long long)d[0], (unsigned long long)d[1],
                        (unsigned long long)d[2], (unsigned long long)d[3]);
    }
    switch (a->n_dims) {
    case 4:
        *ret = s->layout == LAYOUT_NHWC
                   ? (struct shape){.c = (int)d[3], .h = (int)d[1], .w = (int)d[2]}
                   : (struct shape){.c = (int)d[1], .h = (int)d[2], .w = (int)d[3]};
        break;
    case 3:
        *ret = (struct shape){.c = 1, .h = (int)d[1], .w = (int)d[2]};
        break;
    default:
        *ret = (struct shape){
            .c = a->n_dims == 2 ? (int)d[1] : 1, .h = 1, .w = 1, .flat = true};
        break;
    }
    return MAG_OK;
}

static bool same_shape(const struct array *a, const struct array *b)
{
    return a->type == b->type && a->n_dims == b->n_dims &&
           memcmp(a->dims + 1, b->dims + 1, sizeof(a->dims) - sizeof(a->dims[0])) == 0;
}

/* Where the k-th value of an example, in the array's own order, goes within the example. */
static uint32_t *place_map(const struct array *a, enum layout layout, size_t width)
{
    uint32_t *map = xcalloc(width, sizeof(*map));
    const uint64_t *d = a->dims;
    for (size_t k = 0; k < width; k++) {
        uint64_t index[ARRAY_DIMS_MAX] = {0};
        size_t rest = k;
        for (int i = 1; i < a->n_dims; i++) {
            int dim = a->fortran ? i : a->n_dims - i;
            index[dim] = rest % d[dim];
            rest /= d[dim];
        }
        uint64_t at = 0;
        if (a->n_dims == 4 && layout == LAYOUT_NHWC) {
            at = (index[3] * d[1] + index[1]) * d[2] + index[2];
        } else {
            for (int i = 1; i < a->n_dims; i++) {
                at = at * d[i] + index[i];
            }
        }
        map[k] = (uint32_t)at;
    }
    return map;
}

/* ---- values ---- */

/* Where values go: to bytes or floats of `d`, from row `at` on. */
struct target {
    const struct array *a;
    struct dataset *d;
    uint32_t at;
    size_t width;
    const uint32_t *map;
};

static enum mag_status put_floats(const struct target *t, const unsigned char *raw, uint64_t p,
                                  size_t n, float *room, struct mag_err *err)
{
    const struct array *a = t->a;
    dtype_to_floats(a->type, a->swap, raw, n, room);
    for (size_t i = 0; i < n; i++, p++) {
        uint64_t row = a->fortran ? p % a->dims[0] : p / t->width;
        uint64_t k = a->fortran ? p / a->dims[0] : p % t->width;
        if (!isfinite(room[i])) {
            return mag_fail(err, MAG_INVALID, "%s: example %llu holds %s in place %u", a->what,
                            (unsigned long long)row + 1, isnan(room[i]) ? "NaN" : "an infinity",
                            t->map[k] + 1);
        }
        t->d->values[(t->at + row) * t->width + t->map[k]] = room[i];
    }
    return MAG_OK;
}

static void put_bytes(const struct target *t, const unsigned char *raw, uint64_t p, size_t n)
{
    const struct array *a = t->a;
    for (size_t i = 0; i < n; i++, p++) {
        uint64_t row = a->fortran ? p % a->dims[0] : p / t->width;
        uint64_t k = a->fortran ? p / a->dims[0] : p % t->width;
        t->d->bytes[(t->at + row) * t->width + t->map[k]] =
            a->type == DTYPE_BOOL ? raw[i] != 0 : raw[i];
    }
}

static enum mag_status read_values(struct array *a, const struct dataset_source *s, uint32_t at,
                                   struct dataset *d, struct mag_err *err)
{
    size_t size = dtype_size(a->type);
    uint64_t total = array_values(a);
    struct target t = {.a = a, .d = d, .at = at, .width = (size_t)(total / a->dims[0])};
    uint32_t *map = place_map(a, s->layout, t.width);
    unsigned char *raw = xmalloc(CHUNK * size);
    float *room = xmalloc(CHUNK * sizeof(float));
    enum mag_status st = MAG_OK;
    t.map = map;
    for (uint64_t p = 0; st == MAG_OK && p < total;) {
        size_t n = total - p < CHUNK ? (size_t)(total - p) : CHUNK;
        st = a->read(a->ctx, raw, n * size, err);
        if (st == MAG_OK && d->bytes != NULL) {
            put_bytes(&t, raw, p, n);
        } else if (st == MAG_OK) {
            st = put_floats(&t, raw, p, n, room, err);
        }
        p += n;
    }
    free(map);
    free(raw);
    free(room);
    return st;
}

/* ---- labels ---- */

static enum mag_status put_labels(const struct array *a, const unsigned char *raw, size_t n,
                                  uint32_t at, struct dataset *d, struct mag_err *err)
{
    int64_t v[CHUNK];
    bool whole = dtype_to_ints(a->type, a->swap, raw, n, v);
    for (size_t i = 0; whole && i < n; i++) {
        whole = v[i] >= 0 && v[i] < DATASET_CLASSES_MAX;
        if (whole) {
            d->labels[at + i] = (int32_t)v[i];
            d->n_classes = v[i] >= d->n_classes ? (int)v[i] + 1 : d->n_classes;
        }
    }
    return whole ? MAG_OK
                 : mag_fail(err, MAG_INVALID,
                            "%s: a label is no class: they are whole numbers from 0 to %d; to "
                            "predict a number, say task=regression",
                            a->what, DATASET_CLASSES_MAX - 1);
}

static enum mag_status put_targets(const struct array *a, const unsigned char *raw, size_t n,
                                   uint32_t at, struct dataset *d, struct mag_err *err)
{
    dtype_to_floats(a->type, a->swap, raw, n, d->targets + at);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(d->targets[at + i])) {
            return mag_fail(err, MAG_INVALID, "%s: the number to predict of an example is not finite",
                            a->what);
        }
    }
    return MAG_OK;
}

static enum mag_status read_labels(struct array *y, const struct array *x, uint32_t at,
                                   struct dataset *d, struct mag_err *err)
{
    uint64_t n = array_values(y);
    size_t size = dtype_size(y->type);
    if (y->n_dims < 1 || y->n_dims > 2 || n != y->dims[0]) {
        return mag_fail(err, MAG_INVALID,
                        "%s: labels are one number an example, not [%llu][%llu]%s; take the index of "
                        "the largest of one-hot rows",
                        y->what, (unsigned long long)(y->n_dims > 0 ? y->dims[0] : 0),
                        (unsigned long long)(y->n_dims > 1 ? y->dims[1] : 1),
                        y->n_dims > 2 ? "[…]" : "");
    }
    if (n != x->dims[0]) {
        return mag_fail(err, MAG_INVALID, "%s holds %llu examples, but %s %llu labels", x->what,
                        (unsigned long long)x->dims[0], y->what, (unsigned long long)n);
    }
    unsigned char *raw = xmalloc(CHUNK * size);
    enum mag_status st = MAG_OK;
    for (uint64_t p = 0; st == MAG_OK && p < n;) {
        size_t k = n - p < CHUNK ? (size_t)(n - p) : CHUNK;
        st = y->read(y->ctx, raw, k * size, err);
        if (st == MAG_OK) {
            st = (d->targets != NULL ? put_targets : put_labels)(y, raw, k, at + (uint32_t)p, d, err);
        }
        p += k;
    }
    free(raw);
    return st;
}

/* ---- the whole ---- */

static enum mag_status alloc_rows(const struct array_set *set, const struct dataset_source *s,
                                  bool probe, struct dataset *d, struct mag_err *err)
{
    const struct array *x = set->x;
    uint64_t test = set->test_x != NULL ? set->test_x->dims[0] : 0;
    uint64_t rows = x->dims[0] + test;
    size_t width = (size_t)shape_size(&d->shape);
    bool bytes = x->type == DTYPE_U1 || x->type == DTYPE_BOOL;
    enum mag_status st = dataset_check_size(x->what, rows, width, err);
    if (st != MAG_OK) {
        return st;
    }
    d->n_rows = (uint32_t)rows;
    d->n_given_test = (uint32_t)test;
    bool good = true;
    d->scale = !bytes ? 0 : x->type == DTYPE_BOOL ? 1.0f : 1.0f / 255.0f;
    if (!probe && bytes) {
        d->bytes = mag_try_alloc(rows, width);
        good = d->bytes != NULL;
    } else if (!probe) {
        d->values = mag_try_alloc(rows, width * sizeof(float));
        good = d->values != NULL;
    }
    if (good && set->y != NULL && s->regression) {
        d->targets = mag_try_alloc(rows, sizeof(*d->targets));
        good = d->targets != NULL;
    } else if (good && set->y != NULL) {
        d->labels = mag_try_alloc(rows, sizeof(*d->labels));
        good = d->labels != NULL;
    }
    return good ? MAG_OK
                : mag_fail(err, MAG_NOMEM, "%s: no memory for %llu examples of %zu values", x->what,
                           (unsigned long long)rows, width);
}

static enum mag_status check_set(const struct array_set *set, const struct dataset_source *s,
                                 struct dataset *d, struct mag_err *err)
{
    enum mag_status st = shape_of(set->x, s, &d->shape, err);
    struct shape test;
    if (st == MAG_OK && set->test_x != NULL) {
        st = shape_of(set->test_x, s, &test, err);
    }
    if (st == MAG_OK && set->test_x != NULL && !same_shape(set->x, set->test_x)) {
        st = mag_fail(err, MAG_INVALID,
                      "%s: its examples have another shape or type than those of %s",
                      set->test_x->what, set->x->what);
    }
    if (st == MAG_OK && (set->test_x == NULL) != (set->test_y == NULL) && set->y != NULL) {
        st = mag_fail(err, MAG_INVALID, "%s: of the test part, %s are missing", set->x->what,
                      set->test_x == NULL ? "the examples" : "the labels");
    }
    return st;
}

enum mag_status arrays_read(const struct array_set *given, const struct dataset_source *s,
                            enum dataset_how how, struct dataset *d, struct mag_err *err)
{
    struct array_set set = *given;
    if (how == DATASET_EXAMPLES && set.test_x != NULL) {
        set = (struct array_set){.x = set.test_x, .y = set.test_y};
    }
    enum mag_status st = check_set(&set, s, d, err);
    if (st == MAG_OK) {
        st = alloc_rows(&set, s, how == DATASET_PROBE, d, err);
    }
    struct array *x[2] = {set.x, set.test_x};
    struct array *y[2] = {set.y, set.test_y};
    uint32_t at = 0;
    for (int i = 0; i < 2 && x[i] != NULL; i++) {
        if (st == MAG_OK && how != DATASET_PROBE) {
            st = read_values(x[i], s, at, d, err);
        }
        if (st == MAG_OK && y[i] != NULL) {
            st = read_labels(y[i], x[i], at, d, err);
        }
        at += (uint32_t)x[i]->dims[0];
    }
    return st;
}
