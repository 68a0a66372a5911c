/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/tfimages.h"

#include "base/alloc.h"
#include "trainer/folders.h"
#include "trainer/parallel.h"
#include "trainer/pictures.h"
#include "trainer/tfrecords.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH 256 /* pictures that are decoded together */
#define BATCH_BYTES (256 << 20)

/* A picture that waits to be decoded. */
struct waiting {
    char *bytes;
    size_t n;
    uint64_t record;
};

struct reader {
    const struct dataset_source *source;
    enum dataset_how how;
    struct dataset *d;
    struct records records;
    const char *image, *label; /* features; label NULL = there is none */
    struct classes classes;
    struct waiting batch[BATCH];
    uint32_t n_batch, cap;
    size_t batch_bytes;
};

/* ---- pictures ---- */

static char *place_of(const struct reader *r, const struct waiting *w)
{
    return xasprintf("%s: record %llu", r->records.path, (unsigned long long)w->record);
}

static enum mag_status decode_one(void *ctx, uint32_t i, struct mag_err *err)
{
    const struct reader *r = ctx;
    const struct waiting *w = &r->batch[i];
    struct picture p = {0};
    char *what = place_of(r, w);
    enum mag_status st = picture_decode(w->bytes, w->n, r->d->shape.c, what, &p, err);
    if (st == MAG_OK) {
        st = pictures_put(r->source, &p, what, r->d->n_rows + i, r->d, err);
    }
    picture_fini(&p);
    free(what);
    return st;
}

static enum mag_status find_shape(struct reader *r)
{
    struct picture first = {0};
    const struct waiting *w = &r->batch[0];
    char *what = place_of(r, w);
    enum mag_status st =
        picture_decode(w->bytes, w->n, r->source->channels, what, &first, r->records.err);
    if (st == MAG_OK) {
        st = pictures_shape(r->source, &first, what, r->d, r->records.err);
    }
    picture_fini(&first);
    free(what);
    return st;
}

/* Room for so many rows. */
static enum mag_status reserve(struct reader *r, uint32_t rows)
{
    struct dataset *d = r->d;
    const size_t width = (size_t)shape_size(&d->shape);
    enum mag_status st = dataset_check_size(r->source->path, rows, width, r->records.err);
    if (st != MAG_OK || rows <= r->cap || r->how == DATASET_PROBE) {
        return st;
    }
    uint32_t cap = r->cap > 0 ? r->cap : BATCH;
    while (cap < rows) {
        cap *= 2;
    }
    uint8_t *bytes = mag_try_alloc(cap, width);
    if (bytes == NULL) {
        return mag_fail(r->records.err, MAG_NOMEM, "%s: no memory for %u pictures", r->source->path,
                        cap);
    }
    if (d->bytes != NULL) {
        memcpy(bytes, d->bytes, d->n_rows * width);
    }
    free(d->bytes);
    d->bytes = bytes;
    r->cap = cap;
    return MAG_OK;
}

static void drop_batch(struct reader *r)
{
    for (uint32_t i = 0; i < r->n_batch; i++) {
        free(r->batch[i].bytes);
    }
    r->n_batch = 0;
    r->batch_bytes = 0;
}

/* Decodes what waits. */
static enum mag_status flush(struct reader *r)
{
    enum mag_status st = MAG_OK;
    if (r->n_batch > 0 && r->d->shape.c == 0) {
        st = find_shape(r);
    }
    if (st == MAG_OK) {
        st = reserve(r, r->d->n_rows + r->n_batch);
    }
    if (st == MAG_OK && r->how != DATASET_PROBE) {
        st = parallel_each(r->n_batch, parallel_threads(), decode_one, r, r->records.err);
    }
    r->d->n_rows += st == MAG_OK ? r->n_batch : 0;
    drop_batch(r);
    return st;
}

/* ---- records ---- */

/* The first of the features that the record has; NULL = none. */
static const char *first_there(const struct records *r, const char *const *names)
{
    while (*names != NULL && records_find(r, *names) == NULL) {
        names++;
    }
    return *names;
}

/* Which features hold picture and class: as the source says, else what TensorFlow calls them. */
static enum mag_status settle(struct reader *r)
{
    static const char *const images[] = {"image/encoded", "image", NULL};
    static const char *const labels[] = {"image/class/label", "label", NULL};
    const struct dataset_source *s = r->source;
    r->image = s->input != NULL ? s->input : first_there(&r->records, images);
    r->label = s->label != NULL ? s->label : first_there(&r->records, labels);
    if (r->image == NULL) {
        return mag_fail(r->records.err, MAG_INVALID,
                        "%s: no feature \"image/encoded\" or \"image\"; say which one holds the "
                        "picture (input=)",
                        r->records.path);
    }
    if (r->label == NULL && r->how != DATASET_EXAMPLES) {
        return mag_fail(
            r->records.err, MAG_INVALID,
            "%s: no feature \"image/class/label\" or \"label\"; say which one holds the "
            "class (label=)",
            r->records.path);
    }
    return MAG_OK;
}

static enum mag_status read_label(struct reader *r)
{
    const struct item *item = r->label != NULL ? records_find(&r->records, r->label) : NULL;
    const uint32_t row = r->d->n_rows + r->n_batch;
    struct pb_field text = {0};
    double v = 0;
    if (item == NULL && r->how == DATASET_EXAMPLES) {
        r->label = NULL; /* one without a class: none counts */
        return MAG_OK;
    }
    if (item == NULL ||
        (item->kind == LIST_BYTES ? !item_text(item, &text) : item_numbers(item, &v, 1) != 1)) {
        return records_wrong(&r->records, MAG_INVALID, r->label, "(label=) is not one value");
    }
    char *label = item->kind == LIST_BYTES ? xstrndup((const char *)text.bytes, text.len)
                                           : xasprintf("%.9g", v);
    const int k = classes_add(&r->classes, label, DATASET_CLASSES_MAX);
    free(label);
    if (row % BATCH == 0) {
        r->d->labels = xreallocarray(r->d->labels, (size_t)row + BATCH, sizeof(*r->d->labels));
    }
    r->d->labels[row] = k;
    return k >= 0
               ? MAG_OK
               : records_wrong(&r->records, MAG_LIMIT, r->label, "(label=) has over 10000 classes");
}

static enum mag_status read_record(void *ctx)
{
    struct reader *r = ctx;
    struct pb_field bytes = {0};
    enum mag_status st = r->image == NULL ? settle(r) : MAG_OK;
    if (st != MAG_OK) {
        return st;
    }
    const struct item *item = records_find(&r->records, r->image);
    if (item == NULL || item->kind != LIST_BYTES || !item_text(item, &bytes)) {
        return records_wrong(&r->records, MAG_INVALID, r->image,
                             "(input=) is not the bytes of one JPEG or PNG file");
    }
    st = read_label(r);
    if (st != MAG_OK) {
        return st;
    }
    struct waiting *w = &r->batch[r->n_batch++];
    *w = (struct waiting){.n = bytes.len, .record = r->records.record};
    w->bytes = xmalloc(bytes.len + 1);
    memcpy(w->bytes, bytes.bytes, bytes.len);
    r->batch_bytes += bytes.len;
    return r->n_batch == BATCH || r->batch_bytes > BATCH_BYTES ? flush(r) : MAG_OK;
}

static enum mag_status read_file(struct reader *r, const char *path)
{
    enum mag_status st = records_read(&r->records, path, read_record, r);
    return st == MAG_OK ? flush(r) : st; /* messages name the file */
}

/* ---- files ---- */

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

bool tfimages_at(const char *path)
{
    bool found = false;
    if (!is_folder(path)) {
        return records_named(name_of(path));
    }
    DIR *dir = opendir(path);
    for (const struct dirent *e = NULL; dir != NULL && !found && (e = readdir(dir)) != NULL;) {
        char *child = xasprintf("%s/%s", path, e->d_name);
        found = records_named(e->d_name) && !is_folder(child);
        free(child);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return found;
}

/* The files of the test part go by their names, as in mnist-test.tfrecord-00000-of-00001; those
 * of a validation part where there is no other. NULL = there are none, or nothing else. */
static const char *test_word(const struct class_files *f)
{
    static const char *const words[] = {"test", "validation"};
    for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < f->n; i++) {
            n += strstr(name_of(f->paths[i]), words[k]) != NULL;
        }
        if (n > 0 && n < f->n) {
            return words[k];
        }
    }
    return NULL;
}

static enum mag_status read_files(struct reader *r, const struct class_files *f)
{
    const char *word = test_word(f);
    uint32_t before = 0;
    enum mag_status st = MAG_OK;
    for (int test = word != NULL && r->how == DATASET_EXAMPLES; test < 2; test++) {
        before = r->d->n_rows;
        for (uint32_t i = 0; i < f->n && st == MAG_OK; i++) {
            bool held = word != NULL && strstr(name_of(f->paths[i]), word) != NULL;
            st = held == (test == 1) ? read_file(r, f->paths[i]) : MAG_OK;
        }
    }
    r->d->n_given_test = word != NULL && r->how != DATASET_EXAMPLES ? r->d->n_rows - before : 0;
    return st;
}

static enum mag_status finish(struct reader *r)
{
    struct dataset *d = r->d;
    if (d->n_rows == 0) {
        return mag_fail(r->records.err, MAG_INVALID, "%s: no records", r->source->path);
    }
    if (r->label == NULL) {
        free(d->labels);
        d->labels = NULL;
        return MAG_OK;
    }
    classes_finish(&r->classes, d);
    return d->n_classes >= 2 || r->how == DATASET_EXAMPLES
               ? MAG_OK
               : mag_fail(r->records.err, MAG_INVALID, "%s: every record has the same \"%s\"",
                          r->source->path, r->label);
}

enum mag_status tfimages_read(const struct dataset_source *s, enum dataset_how how,
                              struct dataset *d, struct mag_err *err)
{
    struct reader *r = xcalloc(1, sizeof(*r));
    struct class_files files = {0};
    *r = (struct reader){.source = s, .how = how, .d = d};
    records_init(&r->records, err);
    enum mag_status st = MAG_OK;
    if (is_folder(s->path)) {
        st = folders_list(s->path, DATASET_EXAMPLES, records_named, &files, err);
        st = st == MAG_OK ? read_files(r, &files) : st;
    } else {
        st = read_file(r, s->path);
    }
    if (st == MAG_OK) {
        st = finish(r);
    }
    drop_batch(r);
    folders_fini(&files);
    classes_fini(&r->classes);
    records_fini(&r->records);
    free(r);
    return st;
}
