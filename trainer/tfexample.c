/* SPDX-License-Identifier: Apache-2.0
 *
 * TFRecord files of tf.train.Example messages, plain or .gz, one file or a folder of them in the
 * order of their names. Lists of numbers are columns of as many values, texts are categories or
 * texts. The first record says what all others hold.
 */
#include "base/alloc.h"
#include "base/pbread.h"
#include "base/tfrecord.h"
#include "trainer/folders.h"
#include "trainer/frame.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define RECORD_MAX (256 << 20) /* bytes of one record */
#define FEATURES_MAX 4096
#define NAME_MAX_BYTES 256
#define CHUNK (1 << 20)

enum list_kind { LIST_BYTES = 1, LIST_FLOAT = 2, LIST_INT = 3 };

/* A feature of one record; borrows its bytes. */
struct item {
    char name[NAME_MAX_BYTES];
    enum list_kind kind;
    struct pb_reader list;
    bool seen;
};

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
    const char *path; /* of the file that is read */
    uint64_t record;  /* in it, from 1 */
    struct feature *features;
    int n_features, n_numbers;
    struct item *items;
    int n_items;
    struct classes classes;
    float *values;
    uint32_t cap;
    bool labelled;
    struct mag_err *err;
};

static enum mag_status wrong(const struct examples *e, enum mag_status st, const char *name,
                             const char *what)
{
    return mag_fail(e->err, st, "%s: record %llu: the feature \"%.60s\" %s", e->path,
                    (unsigned long long)e->record, name, what);
}

/* ---- messages ---- */

static struct item *find_item(const struct examples *e, const char *name)
{
    for (int i = 0; i < e->n_items; i++) {
        if (strcmp(e->items[i].name, name) == 0) {
            return &e->items[i];
        }
    }
    return NULL;
}

/* One entry of the map: a name and a list. */
static enum mag_status take_entry(struct examples *e, struct pb_reader entry)
{
    struct item item = {0};
    struct pb_field f;
    struct pb_field inner;
    while (pb_next(&entry, &f)) {
        if (f.type == PB_BYTES && f.number == 1 && f.len < NAME_MAX_BYTES) {
            memcpy(item.name, f.bytes, f.len);
            item.name[f.len] = '\0';
        } else if (f.type == PB_BYTES && f.number == 2) {
            struct pb_reader feature = pb_inside(&f);
            while (pb_next(&feature, &inner)) {
                if (inner.type == PB_BYTES && inner.number >= LIST_BYTES && inner.number <= LIST_INT) {
                    item.kind = (enum list_kind)inner.number;
                    item.list = pb_inside(&inner);
                }
            }
        }
    }
    if (entry.p != entry.end || item.name[0] == '\0' || strlen(item.name) == 0) {
        return mag_fail(e->err, MAG_CORRUPT, "%s: record %llu is no tf.train.Example", e->path,
                        (unsigned long long)e->record);
    }
    if (find_item(e, item.name) != NULL || item.kind == 0) {
        return MAG_OK; /* an empty feature; of a name that comes twice the first counts */
    }
    if (e->n_items == FEATURES_MAX) {
        return mag_fail(e->err, MAG_LIMIT, "%s: over %d features", e->path, FEATURES_MAX);
    }
    e->items[e->n_items++] = item;
    return MAG_OK;
}

static enum mag_status take_example(struct examples *e, const void *bytes, size_t n)
{
    struct pb_reader r = pb_read(bytes, n);
    struct pb_field f;
    struct pb_field entry;
    enum mag_status st = MAG_OK;
    e->n_items = 0;
    while (st == MAG_OK && pb_next(&r, &f)) {
        struct pb_reader features = pb_inside(&f);
        while (f.number == 1 && f.type == PB_BYTES && st == MAG_OK && pb_next(&features, &entry)) {
            st = entry.number == 1 && entry.type == PB_BYTES ? take_entry(e, pb_inside(&entry))
                                                             : MAG_OK;
        }
    }
    if (st == MAG_OK && (r.p != r.end || e->n_items == 0)) {
        st = mag_fail(e->err, MAG_CORRUPT, "%s: record %llu is no tf.train.Example", e->path,
                      (unsigned long long)e->record);
    }
    return st;
}

/* ---- lists ---- */

/* The numbers of a list, packed or one by one: at most `max` into `to`; returns how many there are. */
static int numbers_of(const struct item *item, double *to, int max)
{
    struct pb_reader r = item->list;
    struct pb_field f;
    enum pb_type type = item->kind == LIST_FLOAT ? PB_32 : PB_VARINT;
    int n = 0;
    while (pb_next(&r, &f)) {
        struct pb_reader packed = pb_inside(&f);
        uint64_t bits = f.value;
        bool one = f.type == type;
        while (f.number == 1 && (one || (f.type == PB_BYTES && pb_number(&packed, type, &bits)))) {
            if (n < max) {
                to[n] = item->kind == LIST_FLOAT ? pb_as_float(bits) : (double)(int64_t)bits;
            }
            n += n < INT32_MAX;
            if (one) {
                break;
            }
        }
    }
    return n;
}

/* The only text of a list; false when there are none, or more. */
static bool text_of(const struct item *item, struct pb_field *ret)
{
    struct pb_reader r = item->list;
    struct pb_field f;
    int n = 0;
    while (pb_next(&r, &f)) {
        if (f.number == 1 && f.type == PB_BYTES) {
            *ret = f;
            n++;
        }
    }
    return n == 1;
}

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
    qsort(e->items, (size_t)e->n_items, sizeof(*e->items), by_name);
    e->features = xcalloc((size_t)e->n_items + 1, sizeof(*e->features));
    for (int i = 0; i < e->n_items; i++) {
        const struct item *item = &e->items[i];
        if (is_left_out(e->source, item->name)) {
            continue;
        }
        struct feature *f = &e->features[e->n_features++];
        *f = (struct feature){.name = xstrdup(item->name), .kind = item->kind};
        f->text = item->kind == LIST_BYTES && is_text(e->source, item->name);
        if (item->kind != LIST_BYTES) {
            f->n = numbers_of(item, NULL, 0);
            f->number = (int)total;
            total += f->n;
            if (f->n == 0 || total > DATASET_WIDTH_MAX) {
                return wrong(e, f->n == 0 ? MAG_INVALID : MAG_LIMIT, f->name,
                             f->n == 0 ? "holds no numbers; leave it out (ignore=)"
                                       : "makes an example of over 1048576 numbers");
            }
        }
    }
    e->n_numbers = (int)total;
    return e->n_features > 0 ? MAG_OK
                             : mag_fail(e->err, MAG_INVALID, "%s: no feature beside the label", e->path);
}

/* ---- rows ---- */

static enum mag_status grow(struct examples *e)
{
    struct dataset *d = e->d;
    if (d->n_rows < e->cap) {
        return MAG_OK;
    }
    size_t want = e->cap > 0 ? (size_t)e->cap * 2 : 64;
    enum mag_status st = dataset_check_size(e->path, want, (uint64_t)e->n_numbers, e->err);
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
    if (!text_of(item, &text)) {
        return wrong(e, MAG_INVALID, f->name, "holds no text, or several");
    }
    if (memchr(text.bytes, '\0', text.len) != NULL) {
        return wrong(e, MAG_UNSUPPORTED, f->name,
                     "holds bytes that are no text; leave it out (ignore=), or write numbers");
    }
    if (f->text) {
        f->start[row] = f->bytes.len;
        buf_add(&f->bytes, text.bytes, text.len);
        f->start[row + 1] = f->bytes.len;
        return (long long)f->bytes.len <= FRAME_TEXT_MAX
                   ? MAG_OK
                   : wrong(e, MAG_LIMIT, f->name, "holds too many bytes of text");
    }
    char *level = xstrndup((const char *)text.bytes, text.len);
    f->codes[row] = *level == '\0' ? -1 : classes_add(&f->levels, level, FRAME_LEVELS_MAX);
    bool good = *level == '\0' || f->codes[row] >= 0;
    free(level);
    return good ? MAG_OK : wrong(e, MAG_LIMIT, f->name, "holds over 1000000 categories");
}

static enum mag_status read_numbers(struct examples *e, const struct feature *f,
                                    const struct item *item)
{
    float *to = e->values + (size_t)e->d->n_rows * (size_t)e->n_numbers + f->number;
    double *room = xcalloc((size_t)f->n, sizeof(*room));
    bool good = numbers_of(item, room, f->n) == f->n;
    for (int k = 0; k < f->n && good; k++) {
        to[k] = (float)room[k];
        good = !isinf(to[k]);
    }
    free(room);
    return good ? MAG_OK
                : wrong(e, MAG_INVALID, f->name,
                        "holds another number of values than in the first record, or an infinity");
}

static enum mag_status read_label(struct examples *e)
{
    const char *name = e->source->label;
    const struct item *item = name != NULL ? find_item(e, name) : NULL;
    uint32_t row = e->d->n_rows;
    struct pb_field text = {0};
    double v = 0;
    if (!e->labelled) {
        return MAG_OK;
    }
    if (item == NULL) {
        return wrong(e, MAG_INVALID, name, "(label=) is missing");
    }
    if (item->kind == LIST_BYTES ? !text_of(item, &text) : numbers_of(item, &v, 1) != 1) {
        return wrong(e, MAG_INVALID, name, "(label=) is not one value");
    }
    if (e->source->regression) {
        e->d->targets[row] = (float)v;
        return item->kind != LIST_BYTES && isfinite(e->d->targets[row])
                   ? MAG_OK
                   : wrong(e, MAG_INVALID, name, "(label=) is no finite number (task=regression)");
    }
    char *label = item->kind == LIST_BYTES ? xstrndup((const char *)text.bytes, text.len)
                                           : xasprintf("%.9g", v);
    e->d->labels[row] = classes_add(&e->classes, label, DATASET_CLASSES_MAX);
    free(label);
    return e->d->labels[row] >= 0
               ? MAG_OK
               : wrong(e, MAG_LIMIT, name, "(label=) has over 10000 classes; task=regression?");
}

static enum mag_status read_record(struct examples *e, const void *bytes, size_t n)
{
    enum mag_status st = take_example(e, bytes, n);
    if (st == MAG_OK && e->features == NULL) {
        st = settle(e);
    }
    if (st == MAG_OK) {
        st = grow(e);
    }
    for (int i = 0; st == MAG_OK && i < e->n_features; i++) {
        struct feature *f = &e->features[i];
        const struct item *item = find_item(e, f->name);
        if (item == NULL || item->kind != f->kind) {
            return wrong(e, MAG_INVALID, f->name, "is missing, or of another type");
        }
        st = f->kind == LIST_BYTES ? read_text(e, f, item) : read_numbers(e, f, item);
    }
    if (st == MAG_OK) {
        st = read_label(e);
    }
    e->d->n_rows += st == MAG_OK;
    return st;
}

/* ---- files ---- */

/* Reads n bytes behind what `to` holds; false at the end of the file. */
static bool read_bytes(gzFile gz, struct buf *to, size_t n)
{
    while (n > 0) { /* bit by bit: what a head claims may not be there */
        size_t want = n < CHUNK ? n : CHUNK;
        int r = gzread(gz, buf_room(to, want), (unsigned)want);
        if (r <= 0) {
            return false;
        }
        to->len += (size_t)r;
        n -= (size_t)r;
    }
    return true;
}

static enum mag_status torn(const struct examples *e, const char *what)
{
    return mag_fail(e->err, MAG_CORRUPT, "%s: record %llu is %s", e->path,
                    (unsigned long long)e->record, what);
}

static enum mag_status read_records(struct examples *e, gzFile gz)
{
    enum mag_status st = MAG_OK;
    struct buf b = {0};
    for (e->record = 1; st == MAG_OK; e->record++) {
        uint64_t n = 0;
        int code = 0;
        buf_reset(&b);
        if (!read_bytes(gz, &b, TFRECORD_HEAD)) {
            (void)gzerror(gz, &code);
            st = b.len > 0 || (code != Z_OK && code != Z_STREAM_END) ? torn(e, "torn") : MAG_OK;
            break;
        }
        if (!tfrecord_head(b.data, &n)) {
            st = torn(e, "damaged, or this is no TFRecord file: the check sum of its length is wrong");
        } else if (n > RECORD_MAX) {
            st = mag_fail(e->err, MAG_LIMIT, "%s: record %llu has over %d bytes", e->path,
                          (unsigned long long)e->record, RECORD_MAX);
        } else if (!read_bytes(gz, &b, n + TFRECORD_FOOT)) {
            st = torn(e, "torn");
        } else if (!tfrecord_sound(b.data + TFRECORD_HEAD, n, b.data + TFRECORD_HEAD + n)) {
            st = torn(e, "damaged: its check sum is wrong");
        } else {
            st = read_record(e, b.data + TFRECORD_HEAD, n);
        }
    }
    buf_fini(&b);
    return st;
}

static enum mag_status read_path(struct examples *e, const char *path)
{
    gzFile gz = gzopen(path, "rbe");
    if (gz == NULL) {
        return mag_fail(e->err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    e->path = path;
    enum mag_status st = read_records(e, gz);
    (void)gzclose(gz);
    return st;
}

static bool is_records(const char *name)
{
    return strstr(name, "tfrecord") != NULL;
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
        return mag_fail(e->err, MAG_INVALID, "%s: no records", e->source->path);
    }
    if (!e->labelled) {
        free(d->labels);
        free(d->targets);
        d->labels = NULL;
        d->targets = NULL;
    } else if (!e->source->regression) {
        classes_finish(&e->classes, d);
        if (d->n_classes < 2 && how != DATASET_EXAMPLES) {
            return mag_fail(e->err, MAG_INVALID, "%s: every record has the same \"%s\"",
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
    free(e->items);
    free(e->values);
    classes_fini(&e->classes);
}

static enum mag_status tfrecord_read(const struct dataset_source *s, enum dataset_how how,
                                     struct dataset *d, struct mag_err *err)
{
    struct examples e = {.source = s, .d = d, .path = s->path, .err = err, .labelled = true};
    struct class_files files = {0};
    struct stat info;
    bool folder = stat(s->path, &info) == 0 && S_ISDIR(info.st_mode);
    e.labelled = s->label != NULL && (how != DATASET_EXAMPLES || s->label_given);
    e.items = xcalloc(FEATURES_MAX, sizeof(*e.items));
    enum mag_status st =
        folder ? folders_list(s->path, DATASET_EXAMPLES, is_records, &files, err) : read_path(&e, s->path);
    for (uint32_t i = 0; i < files.n && st == MAG_OK; i++) {
        st = read_path(&e, files.paths[i]);
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
