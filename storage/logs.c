/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/logs.h"

#include "base/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define NAME_DIGITS 16 /* so that the order of names is the order of offsets */
#define GZIP_WINDOW (15 + 16)
#define GZIP_LEVEL 1 /* an open segment is written again and again */

char *storage_log_key(const char *trial, int64_t attempt)
{
    return xasprintf("%s/attempts/%" PRId64 "/log", trial, attempt);
}

static char *segment_key(const char *log, int64_t start)
{
    return xasprintf("%s/%0*" PRId64 ".gz", log, NAME_DIGITS, start);
}

/* ---- gzip ---- */

static enum mag_status pack(const char *bytes, size_t len, struct buf *out, struct mag_err *err)
{
    z_stream z = {0};
    if (deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return mag_fail(err, MAG_NOMEM, "zlib: no memory");
    }
    uLong room = deflateBound(&z, len);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)len;
    z.next_out = (Bytef *)buf_room(out, room);
    z.avail_out = (uInt)room;
    int rv = deflate(&z, Z_FINISH);
    out->len += room - z.avail_out;
    (void)deflateEnd(&z);
    return rv == Z_STREAM_END ? MAG_OK : mag_fail(err, MAG_IO, "zlib: cannot compress");
}

static enum mag_status unpack(const char *bytes, size_t len, struct buf *out, struct mag_err *err)
{
    z_stream z = {0};
    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK) {
        return mag_fail(err, MAG_NOMEM, "zlib: no memory");
    }
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)len;
    int rv = Z_OK;
    while (rv == Z_OK && out->len <= STORAGE_SEGMENT_MAX) {
        size_t room = 256 << 10;
        z.next_out = (Bytef *)buf_room(out, room);
        z.avail_out = (uInt)room;
        rv = inflate(&z, Z_NO_FLUSH);
        out->len += room - z.avail_out;
    }
    (void)inflateEnd(&z);
    return rv == Z_STREAM_END && out->len <= STORAGE_SEGMENT_MAX
               ? MAG_OK
               : mag_fail(err, MAG_CORRUPT, "a segment of the log is damaged");
}

/* ---- writing ---- */

enum mag_status storage_log_put(struct storage *s, const char *log, int64_t start,
                                const char *bytes, size_t len, struct mag_err *err)
{
    if (len > STORAGE_SEGMENT_MAX) {
        return mag_fail(err, MAG_LIMIT, "a segment of a log has at most %d bytes",
                        STORAGE_SEGMENT_MAX);
    }
    struct buf packed = {0};
    char *key = segment_key(log, start);
    enum mag_status st = pack(bytes, len, &packed, err);
    if (st == MAG_OK) {
        st = storage_put(s, key, packed.data, packed.len, false, err);
    }
    free(key);
    buf_fini(&packed);
    return st;
}

enum mag_status storage_log_drop(struct storage *s, const char *log, int64_t start,
                                 struct mag_err *err)
{
    char *key = segment_key(log, start);
    enum mag_status st = storage_remove(s, key, err);
    free(key);
    return st;
}

/* ---- reading ---- */

struct listing {
    int64_t *starts; /* rising */
    size_t n, cap;
};

static bool on_name(void *arg, const char *name)
{
    struct listing *l = arg;
    char *end = NULL;
    int64_t start = strtoll(name, &end, 10);
    if (end == name + NAME_DIGITS && strcmp(end, ".gz") == 0 && start >= 0) {
        if (l->n == l->cap) {
            l->cap = l->cap > 0 ? 2 * l->cap : 64;
            l->starts = xreallocarray(l->starts, l->cap, sizeof(*l->starts));
        }
        l->starts[l->n++] = start;
    }
    return true;
}

/* NOTFOUND: it was dropped since the listing. */
static enum mag_status load(struct storage *s, const char *log, int64_t start, struct buf *out,
                            struct mag_err *err)
{
    char *key = segment_key(log, start);
    char *packed = NULL;
    size_t len = 0;
    buf_reset(out);
    enum mag_status st = storage_get(s, key, 2 * STORAGE_SEGMENT_MAX, &packed, &len, err);
    if (st == MAG_OK) {
        st = unpack(packed, len, out, err);
    }
    free(packed);
    free(key);
    return st;
}

/* The segment's part from the reader's position on; false when nothing more is to be read. */
static bool take(struct storage_log *ret, int64_t start, const struct buf *seg, int64_t *pos,
                 size_t max)
{
    int64_t end = start + (int64_t)seg->len;
    if (end <= *pos) {
        return true;
    }
    if (start > *pos && ret->bytes.len > 0) {
        return false; /* a gap: the next request begins behind it */
    }
    if (start > *pos) {
        *pos = start;
    }
    if (ret->bytes.len == 0) {
        ret->offset = *pos;
    }
    size_t n = (size_t)(end - *pos);
    n = n < max - ret->bytes.len ? n : max - ret->bytes.len;
    buf_add(&ret->bytes, seg->data + (*pos - start), n);
    *pos += (int64_t)n;
    return ret->bytes.len < max;
}

/* Where a reader of the last `max` bytes begins. */
static int64_t tail_start(const struct listing *l, int64_t end, size_t max)
{
    int64_t from = end > (int64_t)max ? end - (int64_t)max : 0;
    return l->n > 0 && from < l->starts[0] ? l->starts[0] : from;
}

static enum mag_status read_segments(struct storage *s, const char *log, const struct listing *l,
                                     int64_t offset, size_t max, struct storage_log *ret,
                                     struct mag_err *err)
{
    struct buf seg = {0};
    struct buf last = {0};
    enum mag_status st = load(s, log, l->starts[l->n - 1], &last, err);
    ret->end = l->starts[l->n - 1] + (int64_t)last.len;
    int64_t pos = offset >= 0 ? offset : tail_start(l, ret->end, max);
    ret->offset = pos;
    size_t i = 0;
    while (i + 1 < l->n && l->starts[i + 1] <= pos) {
        i++;
    }
    bool go_on = max > 0;
    for (; st == MAG_OK && go_on && i < l->n; i++) {
        bool newest = i + 1 == l->n;
        st = newest ? MAG_OK : load(s, log, l->starts[i], &seg, err);
        if (st == MAG_NOTFOUND) {
            st = MAG_OK; /* dropped meanwhile */
            continue;
        }
        go_on = st == MAG_OK && take(ret, l->starts[i], newest ? &last : &seg, &pos, max);
        if (go_on && offset < 0 && !newest && i + 1 < l->n && pos < l->starts[i + 1]) {
            /* The last bytes are wanted: what lies before a gap is of no use. */
            buf_reset(&ret->bytes);
        }
    }
    buf_fini(&seg);
    buf_fini(&last);
    return st;
}

enum mag_status storage_log_read(struct storage *s, const char *log, int64_t offset, size_t max,
                                 struct storage_log *ret, struct mag_err *err)
{
    struct listing l = {0};
    *ret = (struct storage_log){0};
    enum mag_status st = storage_list(s, log, on_name, &l, err);
    if (st == MAG_OK && l.n == 0) {
        st = mag_fail(err, MAG_NOTFOUND, "no output is stored");
    }
    if (st == MAG_OK) {
        st = read_segments(s, log, &l, offset, max, ret, err);
    }
    free(l.starts);
    if (st != MAG_OK) {
        buf_fini(&ret->bytes);
    }
    return st;
}
