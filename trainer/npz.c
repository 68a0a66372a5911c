/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets of arrays with names in one file: NumPy's .npz (a zip file of .npy files) and
 * safetensors. Where the source names no arrays they are those of Keras's files: x_train, y_train,
 * x_test and y_test, or x and y.
 */
#include "base/alloc.h"
#include "trainer/npy.h"
#include "trainer/safetensors.h"
#include "trainer/zip.h"

#include <stdlib.h>
#include <string.h>

#define ARRAYS 4 /* examples, labels, and both of the test part */

/* A file of named arrays. */
struct bundle {
    const char *path;
    struct zip *zip;
    struct safetensors *tensors;
    const char *names[ZIP_ENTRIES_MAX + 1]; /* borrowed */
    int n;
    struct array arrays[ARRAYS];
    struct zip_entry *entries[ARRAYS];
};

static bool is_named(const char *entry, const char *name)
{
    size_t n = strlen(name);
    return strncmp(entry, name, n) == 0 && (entry[n] == '\0' || strcmp(entry + n, ".npy") == 0);
}

static int find(const struct bundle *b, const char *name)
{
    for (int i = 0; i < b->n; i++) {
        if (is_named(b->names[i], name)) {
            return i;
        }
    }
    return -1;
}

static enum mag_status missing(const struct bundle *b, const char *name, struct mag_err *err)
{
    struct buf known = {0};
    for (int i = 0; i < b->n && known.len < 200; i++) {
        const char *entry = b->names[i];
        size_t n = strlen(entry);
        n -= n > 4 && strcmp(entry + n - 4, ".npy") == 0 ? 4 : 0;
        buf_addf(&known, "%s%.*s", i > 0 ? ", " : "", n < 60 ? (int)n : 60, entry);
    }
    enum mag_status st = mag_fail(
        err, MAG_INVALID, "%s: no array \"%.60s\"; it holds %s; name them with input= and label=",
        b->path, name, b->n > 0 ? known.data : "none");
    buf_fini(&known);
    return st;
}

/* What is read as examples, labels, test examples and test labels; NULL = nothing. */
static void choose(const struct bundle *b, const struct dataset_source *s, const char *names[ARRAYS])
{
    bool keras = find(b, "x_train") >= 0;
    bool test = find(b, "x_test") >= 0 && s->input == NULL;
    const char *labels = keras ? "y_train" : "y";
    names[0] = s->input != NULL ? s->input : keras ? "x_train" : "x";
    names[1] = s->label != NULL ? s->label : labels;
    names[2] = s->test_input != NULL ? s->test_input : test ? "x_test" : NULL;
    names[3] = s->test_label != NULL ? s->test_label
               : names[2] != NULL && find(b, "y_test") >= 0 ? "y_test"
                                                            : NULL;
}

static enum mag_status open_entry(struct bundle *b, int slot, int i, struct mag_err *err)
{
    struct array *a = &b->arrays[slot];
    uint64_t size = 0;
    uint64_t head = 0;
    enum mag_status st = zip_entry_open(b->zip, i, &b->entries[slot], &size, err);
    if (st != MAG_OK) {
        return st;
    }
    a->read = zip_entry_read;
    a->ctx = b->entries[slot];
    st = npy_read_head(a, &head, err);
    if (st == MAG_OK && array_values(a) * dtype_size(a->type) > size - head) {
        st = mag_fail(err, MAG_CORRUPT, "%s: it ends before its values do", a->what);
    }
    return st;
}

static enum mag_status open_arrays(struct bundle *b, const char *const names[ARRAYS], bool need_labels,
                                   struct array_set *ret, struct mag_err *err)
{
    struct array **to[ARRAYS] = {&ret->x, &ret->y, &ret->test_x, &ret->test_y};
    for (int slot = 0; slot < ARRAYS; slot++) {
        int i = names[slot] != NULL ? find(b, names[slot]) : -1;
        if (names[slot] != NULL && i < 0 && (slot != 1 || need_labels)) {
            return missing(b, names[slot], err);
        }
        if (i < 0) {
            continue;
        }
        b->arrays[slot].what = xasprintf("%s: %s", b->path, names[slot]);
        enum mag_status st = b->zip != NULL
                                 ? open_entry(b, slot, i, err)
                                 : safetensors_array(b->tensors, names[slot], &b->arrays[slot], err);
        if (st != MAG_OK) {
            return st;
        }
        *to[slot] = &b->arrays[slot];
    }
    return MAG_OK;
}

static enum mag_status read_bundle(struct bundle *b, const struct dataset_source *s,
                                   enum dataset_how how, struct dataset *d, struct mag_err *err)
{
    const char *names[ARRAYS];
    struct array_set set = {0};
    choose(b, s, names);
    enum mag_status st = open_arrays(b, names, how != DATASET_EXAMPLES, &set, err);
    if (st == MAG_OK) {
        st = arrays_read(&set, s, how, d, err);
    }
    for (int i = 0; i < ARRAYS; i++) {
        free(b->arrays[i].what);
        zip_entry_close(b->entries[i]);
        if (b->tensors != NULL) {
            safetensors_array_close(&b->arrays[i]);
        }
    }
    return st;
}

static enum mag_status npz_read(const struct dataset_source *s, enum dataset_how how,
                                struct dataset *d, struct mag_err *err)
{
    struct bundle *b = xcalloc(1, sizeof(*b));
    b->path = s->path;
    enum mag_status st = zip_open(s->path, &b->zip, err);
    if (st == MAG_OK) {
        for (b->n = 0; b->n < zip_count(b->zip); b->n++) {
            b->names[b->n] = zip_name(b->zip, b->n);
        }
        st = read_bundle(b, s, how, d, err);
    }
    zip_close(b->zip);
    free(b);
    return st;
}

static enum mag_status tensors_read(const struct dataset_source *s, enum dataset_how how,
                                    struct dataset *d, struct mag_err *err)
{
    struct bundle *b = xcalloc(1, sizeof(*b));
    b->path = s->path;
    enum mag_status st = safetensors_open(s->path, &b->tensors, err);
    if (st == MAG_OK) {
        b->n = safetensors_names(b->tensors, b->names, ZIP_ENTRIES_MAX);
        st = read_bundle(b, s, how, d, err);
    }
    safetensors_close(b->tensors);
    free(b);
    return st;
}

static const char *const options[] = {"input",      "label",  "test_input", "test_label",
                                      "layout",     "task",   "test",       NULL};
static const char *const npz_suffixes[] = {".npz", NULL};
const struct dataset_format dataset_npz = {.name = "npz",
                                           .example = "npz:FILE?input=x&label=y",
                                           .suffixes = npz_suffixes,
                                           .options = options,
                                           .read = npz_read};

static const char *const tensor_suffixes[] = {".safetensors", NULL};
const struct dataset_format dataset_safetensors = {.name = "safetensors",
                                                   .example = "safetensors:FILE?input=x&label=y",
                                                   .suffixes = tensor_suffixes,
                                                   .options = options,
                                                   .read = tensors_read};
