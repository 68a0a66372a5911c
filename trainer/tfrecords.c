/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/tfrecords.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/tfrecord.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define RECORD_MAX (256 << 20) /* bytes of one record */
#define FEATURES_MAX 4096
#define CHUNK (1 << 20)

void records_init(struct records *r, struct mag_err *err)
{
    *r = (struct records){.items = xcalloc(FEATURES_MAX, sizeof(*r->items)), .err = err};
}

void records_fini(struct records *r)
{
    free(r->items);
}

enum mag_status records_wrong(const struct records *r, enum mag_status st, const char *name,
                              const char *what)
{
    return mag_fail(r->err, st, "%s: record %llu: the feature \"%.60s\" %s", r->path,
                    (unsigned long long)r->record, name, what);
}

/* ---- messages ---- */

struct item *records_find(const struct records *r, const char *name)
{
    for (int i = 0; i < r->n_items; i++) {
        if (strcmp(r->items[i].name, name) == 0) {
            return &r->items[i];
        }
    }
    return NULL;
}

/* One entry of the map: a name and a list. */
static enum mag_status take_entry(struct records *r, struct pb_reader entry)
{
    struct item item = {0};
    struct pb_field f;
    struct pb_field inner;
    while (pb_next(&entry, &f)) {
        if (f.type == PB_BYTES && f.number == 1 && f.len < TFRECORDS_NAME_MAX) {
            memcpy(item.name, f.bytes, f.len);
            item.name[f.len] = '\0';
        } else if (f.type == PB_BYTES && f.number == 2) {
            struct pb_reader feature = pb_inside(&f);
            while (pb_next(&feature, &inner)) {
                if (inner.type == PB_BYTES && inner.number >= LIST_BYTES &&
                    inner.number <= LIST_INT) {
                    item.kind = (enum list_kind)inner.number;
                    item.list = pb_inside(&inner);
                }
            }
        }
    }
    if (entry.p != entry.end || item.name[0] == '\0' || strlen(item.name) == 0) {
        return mag_fail(r->err, MAG_CORRUPT, "%s: record %llu is no tf.train.Example", r->path,
                        (unsigned long long)r->record);
    }
    if (records_find(r, item.name) != NULL || item.kind == 0) {
        return MAG_OK; /* an empty feature; of a name that comes twice the first counts */
    }
    if (r->n_items == FEATURES_MAX) {
        return mag_fail(r->err, MAG_LIMIT, "%s: over %d features", r->path, FEATURES_MAX);
    }
    r->items[r->n_items++] = item;
    return MAG_OK;
}

static enum mag_status take_example(struct records *r, const void *bytes, size_t n)
{
    struct pb_reader all = pb_read(bytes, n);
    struct pb_field f;
    struct pb_field entry;
    enum mag_status st = MAG_OK;
    r->n_items = 0;
    while (st == MAG_OK && pb_next(&all, &f)) {
        struct pb_reader features = pb_inside(&f);
        while (f.number == 1 && f.type == PB_BYTES && st == MAG_OK && pb_next(&features, &entry)) {
            st = entry.number == 1 && entry.type == PB_BYTES ? take_entry(r, pb_inside(&entry))
                                                             : MAG_OK;
        }
    }
    if (st == MAG_OK && (all.p != all.end || r->n_items == 0)) {
        st = mag_fail(r->err, MAG_CORRUPT, "%s: record %llu is no tf.train.Example", r->path,
                      (unsigned long long)r->record);
    }
    return st;
}

/* ---- lists ---- */

int item_numbers(const struct item *item, double *to, int max)
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

bool item_text(const struct item *item, struct pb_field *ret)
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

/* ---- files ---- */

/* Reads n bytes behind what `to` holds; false at the end of the file. */
static bool read_bytes(gzFile gz, struct buf *to, size_t n)
{
    while (n > 0) { /* bit by bit: what a head claims may not be there */
        size_t want = n < CHUNK ? n : CHUNK;
        int got = gzread(gz, buf_room(to, want), (unsigned)want);
        if (got <= 0) {
            return false;
        }
        to->len += (size_t)got;
        n -= (size_t)got;
    }
    return true;
}

static enum mag_status torn(const struct records *r, const char *what)
{
    return mag_fail(r->err, MAG_CORRUPT, "%s: record %llu is %s", r->path,
                    (unsigned long long)r->record, what);
}

static enum mag_status read_all(struct records *r, gzFile gz, records_fn fn, void *ctx)
{
    enum mag_status st = MAG_OK;
    struct buf b = {0};
    for (r->record = 1; st == MAG_OK; r->record++) {
        uint64_t n = 0;
        int code = 0;
        buf_reset(&b);
        if (!read_bytes(gz, &b, TFRECORD_HEAD)) {
            (void)gzerror(gz, &code);
            st = b.len > 0 || (code != Z_OK && code != Z_STREAM_END) ? torn(r, "torn") : MAG_OK;
            break;
        }
        if (!tfrecord_head(b.data, &n)) {
            st = torn(r,
                      "damaged, or this is no TFRecord file: the check sum of its length is wrong");
        } else if (n > RECORD_MAX) {
            st = mag_fail(r->err, MAG_LIMIT, "%s: record %llu has over %d bytes", r->path,
                          (unsigned long long)r->record, RECORD_MAX);
        } else if (!read_bytes(gz, &b, n + TFRECORD_FOOT)) {
            st = torn(r, "torn");
        } else if (!tfrecord_sound(b.data + TFRECORD_HEAD, n, b.data + TFRECORD_HEAD + n)) {
            st = torn(r, "damaged: its check sum is wrong");
        } else {
            st = take_example(r, b.data + TFRECORD_HEAD, n);
            st = st == MAG_OK ? fn(ctx) : st;
        }
    }
    buf_fini(&b);
    return st;
}

enum mag_status records_read(struct records *r, const char *path, records_fn fn, void *ctx)
{
    gzFile gz = gzopen(path, "rbe");
    if (gz == NULL) {
        return mag_fail(r->err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    r->path = path;
    enum mag_status st = read_all(r, gz, fn, ctx);
    (void)gzclose(gz);
    return st;
}

bool records_named(const char *name)
{
    return strstr(name, "tfrecord") != NULL;
}
