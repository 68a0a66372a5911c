/* SPDX-License-Identifier: Apache-2.0
 *
 * TFRecord files of tf.train.Example messages, plain or .gz, one file or a folder of them in the
 * order of their names. Lists of numbers are columns of as many values, texts are categories or
 * texts. The first record says what all others hold.
 */
#include "base/alloc.h"
#include "trainer/folders.h"
#include "trainer/frame.h"
#include "trainer/tfrecords.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A feature of all records. */
struct feature {
    char *name;
    enum list_kind kind;
    int n;            /* numbers of an example */
    int number;       /* where they begin among all */
    bool text;        /* of texts: kept whole, no category */
    struct classes levels;
    int32_t *codes;
    struct buf bytes;
    uint64_t *start;
};

struct examples {
    const struct dataset_source *source;
    struct dataset *d;
    struct records records;
    struct feature *features;
    int n_features, n_numbers;
    struct classes classes;
    float *values;
    uint32_t cap;
    bool labelled;
};

/* ---- what all records hold ---- */

static bool is_left_out(const struct dataset_source *s, const char *name)
{
    if (s->label != NULL && strcmp(s->label, name) == 0) {
        return true;
    }
    for (int i = 0; s->n_only == 0 && i < s->n_ignore; i++) {
        if (strcmp(s->ignore[i], name) == 0) {
            return true;
        }
    }
    bool wanted = s->n_only == 0;
    for (int i = 0; i < s->n_only; i++) {
        wanted = wanted || strcmp(s->only[i], name) == 0;
    }
    for (int i = 0; i < s->n_types; i++) {
        wanted = wanted && !(s->types[i].type == TYPE_IGNORE && strcmp(s->types[i].name, name) == 0);
    }
    return !wanted;
}

static bool is_text(const struct dataset_source *s, const char *name)
{
    for (int i = 0; i < s->n_types; i++) {
        if (strcmp(s->types[i].name, name) == 0) {
            return s->types[i].type == TYPE_TEXT;
        }
    }
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct item *)a)->name, ((const struct item *)b)->name);
}

/* From the first record; features in the order of their names. */
static enum mag_status settle(struct examples *e)
{
    int64_t total = 0;
    qsort(e->records.items, (size_t)e->records.n_items, sizeof(*e->records.items), by_name);
    e->features = xcalloc((size_t)e->records.n_items + 1, sizeof(*e->features));
    for (int i = 0; i < e->records.n_items; i++) {
        const struct item *item = &e->records.items[i];
        if (is_left_out(e->source, item->name)) {
            continue;
        }
        struct feature *f = &e->features[e->n_features++];
        *f = (struct feature){.name = xstrdup(item->name), .kind = item->kind};
        f->text = item->kind == LIST_BYTES && is_text(e->source, item->name);
        if (item->kind != LIST_BYTES) {
            f->n = item_numbers(item, NULL, 0);
            f->number = (int)total;
            total += f->n;
            if (f->n == 0 || total > DATASET_WIDTH_MAX) {
                return records_wrong(&e->records, f->n == 0 ? MAG_INVALID : MAG_LIMIT, f->name,
                             f->n == 0 ? "holds no numbers; leave it out (ignore=)"
                                       : "makes an example of over 1048576 numbers");
            }
        }
    }
    e->n_numbers = (int)total;
    return e->n_features > 0 ? MAG_OK
                             : mag_fail(e->records.err, MAG_INVALID, "%s: no feature beside the label", e->records.path);
}

/* ---- rows ---- */

static enum mag_status grow(struct examples *e)
{
    struct dataset *d = e->d;
    if (d->n_rows < e->cap) {
        return MAG_OK;
    }
    size_t want = e->cap > 0 ? (size_t)e->cap * 2 : 64;
    enum mag_status st = dataset_check_size(e->records.path, want, (uint64_t)e->n_numbers, e->records.err);
    if (st != MAG_OK) {
        return st;
    }
    e->cap = (uint32_t)want;
    e->values = xreallocarray(e->values, want, sizeof(float) * (size_t)(e->n_numbers + 1));
    if (e->source->regression) {
        d->targets = xreallocarray(d->targets, want, sizeof(*d->targets));
    } else {
        d->labels = xreallocarray(d->labels, want, sizeof(*d->labels));
    }
    for (int i = 0; i < e->n_features; i++) {
        struct feature *f = &e->features[i];
        if (f->text) {
            f->start = xreallocarray(f->start, want + 1, sizeof(*f->start));
        } else if (f->kind == LIST_BYTES) {
            f->codes = xreallocarray(f->codes, want, sizeof(*f->codes));
        }
    }
    return MAG_OK;
}

static enum mag_status read_text(struct examples *e, struct feature *f, const struct item *item)
{
    struct pb_field text = {0};
    uint32_t row = e->d->n_rows;
    if (!item_text(item, &text)) {
        return records_wrong(&e->records, MAG_INVALID, f->name, "holds no text, or several");
    }
    if (memchr(text.bytes, '\0', text.len) != NULL) {
        return records_wrong(&e->records, MAG_UNSUPPORTED, f->name,
                     "holds bytes that are no text; leave it out (ignore=), or write numbers");
    }
    if (f->text) {
        f->start[row] = f->bytes.len;
        buf_add(&f->bytes, text.bytes, text.len);
        f->start[row + 1] = f->bytes.len;
        return (long long)f->bytes.len <= FRAME_TEXT_MAX
                   ? MAG_OK
                   : records_wrong(&e->records, MAG_LIMIT, f->name, "holds too many bytes of text");
    }
    char *level = xstrndup((const char *)text.bytes, text.len);
    f->codes[row] = *level == '\0' ? -1 : classes_add(&f->levels, level, FRAME_LEVELS_MAX);
    bool good = *level == '\0' || f->codes[row] >= 0;
    free(level);
    return good ? MAG_OK : records_wrong(&e->records, MAG_LIMIT, f->name, "holds over 1000000 categories");
}

static enum mag_status read_numbers(struct examples *e, const struct feature *f,
                                    const struct item *item)
{
    float *to = e->values + (size_t)e->d->n_rows * (size_t)e->n_numbers + f->number;
    double *room = xcalloc((size_t)f->n, sizeof(*room));
    bool good = item_numbers(item, room, f->n) == f->n;
    for (int k = 0; k < f->n && good; k++) {
        to[k] = (float)room[k];
        good = !isinf(to[k]);
    }
    free(room);
    return good ? MAG_OK
                : records_wrong(&e->records, MAG_INVALID, f->name,
                        "holds another number of values than in the first record, or an infinity");
}

static enum mag_status read_label(struct examples *e)
{
    const char *name = e->source->label;
    const struct item *item = name != NULL ? records_find(&e->records, name) : NULL;
    uint32_t row = e->d->n_rows;
    struct pb_field text = {0};
    double v = 0;
    if (!e->labelled) {
        return MAG_OK;
    }
    if (item == NULL) {
        return records_wrong(&e->records, MAG_INVALID, name, "(label=) is missing");
    }
    if (item->kind == LIST_BYTES ? !item_text(item, &text) : item_numbers(item, &v, 1) != 1) {
        return records_wrong(&e->records, MAG_INVALID, name, "(label=) is not one value");
    }
    if (e->source->regression) {
        e->d->targets[row] = (float)v;
        return item->kind != LIST_BYTES && isfinite(e->d->targets[row])
                   ? MAG_OK
                   : records_wrong(&e->records, MAG_INVALID, name, "(label=) is no finite number (task=regression)");
    }
    char *label = item->kind == LIST_BYTES ? xstrndup((const char *)text.bytes, text.len)
                                           : xasprintf("%.9g", v);
    e->d->labels[row] = classes_add(&e->classes, label, DATASET_CLASSES_MAX);
    free(label);
    return e->d->labels[row] >= 0
               ? MAG_OK
               : records_wrong(&e->records, MAG_LIMIT, name, "(label=) has over 10000 classes; task=regression?");
}

static enum mag_status read_record(void *ctx)
{
    struct examples *e = ctx;
    enum mag_status st = e->features == NULL ? settle(e) : MAG_OK;
    if (st == MAG_OK) {
        st = grow(e);
    }
    for (int i = 0; st == MAG_OK && i < e->n_features; i++) {
        struct feature *f = &e->features[i];
        const struct item *item = records_find(&e->records, f->name);
        if (item == NULL || item->kind != f->kind) {
            return records_wrong(&e->records, MAG_INVALID, f->name, "is missing, or of another type");
        }
        st = f->kind == LIST_BYTES ? read_text(e, f, item) : read_numbers(e, f, item);
    }
    if (st == MAG_OK) {
        st = read_label(e);
    }
    e->d->n_rows += st == MAG_OK;
    return st;
}

static void make_columns(struct examples *e)
{
    struct raw *raw = e->d->raw = xcalloc(1, sizeof(*raw));
    raw->values = e->values;
    raw->columns.n_rows = e->d->n_rows;
    e->values = NULL;
    for (int i = 0; i < e->n_features; i++) {
        struct feature *f = &e->features[i];
        enum column_kind kind = f->kind != LIST_BYTES ? COLUMN_NUMBER
                                : f->text             ? COLUMN_TEXT
                                                      : COLUMN_CATEGORY;
        struct column *c = frame_add(&raw->columns, f->name, kind);
        if (kind == COLUMN_NUMBER) {
            c->borrowed = true;
            c->width = f->n;
            c->values = raw->values + f->number;
            c->stride = (size_t)e->n_numbers;
        } else if (kind == COLUMN_TEXT) {
            c->bytes = buf_take(&f->bytes);
            c->start = f->start;
            f->start = NULL;
        } else {
            c->codes = f->codes;
            c->levels = classes_texts(&f->levels);
            c->n_levels = f->levels.n;
            f->codes = NULL;
        }
    }
}

static enum mag_status finish(struct examples *e, enum dataset_how how)
{
    struct dataset *d = e->d;
    if (d->n_rows == 0) {
        return mag_fail(e->records.err, MAG_INVALID, "%s: no records", e->source->path);
    }
    if (!e->labelled) {
        free(d->labels);
        free(d->targets);
        d->labels = NULL;
        d->targets = NULL;
    } else if (!e->source->regression) {
        classes_finish(&e->classes, d);
        if (d->n_classes < 2 && how != DATASET_EXAMPLES) {
            return mag_fail(e->records.err, MAG_INVALID, "%s: every record has the same \"%s\"",
                            e->source->path, e->source->label);
        }
    }
    d->shape = (struct shape){.c = e->n_features, .h = 1, .w = 1, .flat = true};
    make_columns(e);
    return MAG_OK;
}

static void examples_fini(struct examples *e)
{
    for (int i = 0; i < e->n_features; i++) {
        struct feature *f = &e->features[i];
        free(f->name);
        classes_fini(&f->levels);
        free(f->codes);
        buf_fini(&f->bytes);
        free(f->start);
    }
    free(e->features);
    records_fini(&e->records);
    free(e->values);
    classes_fini(&e->classes);
}

static enum mag_status tfrecord_read(const struct dataset_source *s, enum dataset_how how,
                                     struct dataset *d, struct mag_err *err)
{
    struct examples e = {.source = s, .d = d, .labelled = true};
    struct class_files files = {0};
    struct stat info;
    bool folder = stat(s->path, &info) == 0 && S_ISDIR(info.st_mode);
    e.labelled = s->label != NULL && (how != DATASET_EXAMPLES || s->label_given);
    records_init(&e.records, err);
    enum mag_status st = folder ? folders_list(s->path, DATASET_EXAMPLES, records_named, &files, err)
                                : records_read(&e.records, s->path, read_record, &e);
    for (uint32_t i = 0; i < files.n && st == MAG_OK; i++) {
        st = records_read(&e.records, files.paths[i], read_record, &e);
    }
    if (st == MAG_OK) {
        st = finish(&e, how);
    }
    folders_fini(&files);
    examples_fini(&e);
    return st;
}

static const char *const suffixes[] = {".tfrecord", ".tfrecords", NULL};
static const char *const options[] = {"label", "ignore", "columns", "task",
                                      "standardize", "test", NULL};
const struct dataset_format dataset_tfrecord = {.name = "tfrecord",
                                                .example = "tfrecord:FILE?label=FEATURE",
                                                .suffixes = suffixes,
                                                .options = options,
                                                .labelled = true,
                                                .columns = true,
                                                .standardized = true,
                                                .read = tfrecord_read};
