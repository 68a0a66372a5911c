/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/zip.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define END_SIZE 22     /* end of the central directory */
#define LOCATOR_SIZE 20 /* of its zip64 form */
#define END64_SIZE 56
#define ENTRY_SIZE 46 /* head of an entry in the directory */
#define LOCAL_SIZE 30 /* head of an entry before its bytes */
#define TAIL_MAX (65535 + END_SIZE)
#define ROOM (1 << 16)
#define DEFLATE_MOST 1032 /* bytes that one packed byte can stand for */

struct zip_item {
    char *name;
    uint64_t packed, size, at;
    uint32_t crc;
    uint16_t method, flags;
};

struct zip {
    char *path;
    int fd;
    uint64_t size;
    struct zip_item *items;
    int n;
};

struct zip_entry {
    const struct zip *zip;
    const struct zip_item *item;
    uint64_t at, left; /* packed bytes in the file */
    uint64_t given;    /* bytes given out */
    uint32_t crc;
    z_stream z;
    bool inflating;
    unsigned char room[ROOM];
};

static uint64_t number(const unsigned char *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static enum mag_status read_at(const struct zip *z, uint64_t at, void *to, size_t n,
                               struct mag_err *err)
{
    if (at > z->size || n > z->size - at) {
        return mag_fail(err, MAG_CORRUPT, "%s: torn: a part of the zip file is missing", z->path);
    }
    for (size_t got = 0; got < n;) {
        ssize_t r = pread(z->fd, (char *)to + got, n - got, (off_t)(at + got));
        if (r <= 0 && !(r < 0 && errno == EINTR)) {
            return mag_fail(err, MAG_IO, "%s: %s", z->path, r < 0 ? strerror(errno) : "it shrank");
        }
        got += r > 0 ? (size_t)r : 0;
    }
    return MAG_OK;
}

/* ---- the directory ---- */

/* Sizes that do not fit 32 bits stand in an extra field of kind 1, in this order. */
static bool take_zip64(const unsigned char *extra, size_t n, struct zip_item *item)
{
    uint64_t *wide[3] = {&item->size, &item->packed, &item->at};
    while (n >= 4) {
        size_t len = (size_t)number(extra + 2, 2);
        if (len > n - 4) {
            return false;
        }
        if (number(extra, 2) == 1) {
            const unsigned char *p = extra + 4;
            for (int i = 0; i < 3; i++) {
                if (*wide[i] == UINT32_MAX) {
                    if ((size_t)(p - extra) + 8 > len + 4) {
                        return false;
                    }
                    *wide[i] = number(p, 8);
                    p += 8;
                }
            }
            return true;
        }
        extra += 4 + len;
        n -= 4 + len;
    }
    return item->size != UINT32_MAX && item->packed != UINT32_MAX && item->at != UINT32_MAX;
}

static enum mag_status read_directory(struct zip *z, uint64_t at, uint64_t size, uint64_t count,
                                      struct mag_err *err)
{
    if (size > ZIP_DIRECTORY_MAX || count > ZIP_ENTRIES_MAX) {
        return mag_fail(err, MAG_LIMIT, "%s: a zip file of over %d entries", z->path,
                        ZIP_ENTRIES_MAX);
    }
    unsigned char *d = xmalloc(size + 1);
    enum mag_status st = read_at(z, at, d, size, err);
    z->items = xcalloc(count + 1, sizeof(*z->items));
    size_t p = 0;
    while (st == MAG_OK && (uint64_t)z->n < count) {
        const unsigned char *e = d + p;
        size_t name = p + ENTRY_SIZE <= size ? (size_t)number(e + 28, 2) : 0;
        size_t extra = p + ENTRY_SIZE <= size ? (size_t)number(e + 30, 2) : 0;
        size_t all = ENTRY_SIZE + name + extra;
        struct zip_item item = {0};
        bool good = p + all <= size && memcmp(e, "PK\1\2", 4) == 0 && name > 0 &&
                    memchr(e + ENTRY_SIZE, '\0', name) == NULL;
        if (good) {
            item = (struct zip_item){.flags = (uint16_t)number(e + 8, 2),
                                     .method = (uint16_t)number(e + 10, 2),
                                     .crc = (uint32_t)number(e + 16, 4),
                                     .packed = number(e + 20, 4),
                                     .size = number(e + 24, 4),
                                     .at = number(e + 42, 4)};
            good = take_zip64(e + ENTRY_SIZE + name, extra, &item);
        }
        if (!good) {
            st = mag_fail(err, MAG_CORRUPT, "%s: the directory of the zip file is damaged", z->path);
            break;
        }
        item.name = xstrndup((const char *)e + ENTRY_SIZE, name);
        z->items[z->n++] = item;
        p += all + (size_t)number(e + 32, 2);
    }
    free(d);
    return st;
}

/* The zip64 end, where a locator stands before the usual one. */
static enum mag_status find_zip64(struct zip *z, uint64_t end, uint64_t *at, uint64_t *size,
                                  uint64_t *count, struct mag_err *err)
{
    unsigned char b[END64_SIZE];
    enum mag_status st =
        end < LOCATOR_SIZE ? MAG_CORRUPT : read_at(z, end - LOCATOR_SIZE, b, LOCATOR_SIZE, err);
    if (st == MAG_OK && memcmp(b, "PK\6\7", 4) == 0) {
        st = read_at(z, number(b + 8, 8), b, END64_SIZE, err);
    } else if (st == MAG_OK) {
        st = MAG_CORRUPT;
    }
    if (st != MAG_OK || memcmp(b, "PK\6\6", 4) != 0) {
        return mag_fail(err, MAG_CORRUPT, "%s: the zip64 directory is missing", z->path);
    }
    *count = number(b + 32, 8);
    *size = number(b + 40, 8);
    *at = number(b + 48, 8);
    return MAG_OK;
}

static enum mag_status find_directory(struct zip *z, struct mag_err *err)
{
    size_t n = z->size < TAIL_MAX ? (size_t)z->size : TAIL_MAX;
    unsigned char *tail = xmalloc(n + 1);
    enum mag_status st = read_at(z, z->size - n, tail, n, err);
    size_t p = n >= END_SIZE ? n - END_SIZE + 1 : 0;
    while (st == MAG_OK && p > 0 && memcmp(tail + p - 1, "PK\5\6", 4) != 0) {
        p--;
    }
    if (st == MAG_OK && p == 0) {
        st = mag_fail(err, MAG_CORRUPT, "%s: no zip file, or a torn one", z->path);
    }
    if (st == MAG_OK) {
        const unsigned char *e = tail + p - 1;
        uint64_t count = number(e + 10, 2);
        uint64_t size = number(e + 12, 4);
        uint64_t at = number(e + 16, 4);
        if (count == UINT16_MAX || size == UINT32_MAX || at == UINT32_MAX) {
            st = find_zip64(z, z->size - n + p - 1, &at, &size, &count, err);
        }
        if (st == MAG_OK) {
            st = read_directory(z, at, size, count, err);
        }
    }
    free(tail);
    return st;
}

enum mag_status zip_open(const char *path, struct zip **ret, struct mag_err *err)
{
    struct zip *z = xcalloc(1, sizeof(*z));
    struct stat info;
    enum mag_status st = MAG_OK;
    z->path = xstrdup(path);
    z->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (z->fd < 0 || fstat(z->fd, &info) != 0) {
        st = mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        st = mag_fail(err, MAG_INVALID, "%s: not a file", path);
    } else {
        z->size = (uint64_t)info.st_size;
        st = find_directory(z, err);
    }
    if (st != MAG_OK) {
        zip_close(z);
        return st;
    }
    *ret = z;
    return MAG_OK;
}

void zip_close(struct zip *z)
{
    if (z == NULL) {
        return;
    }
    for (int i = 0; i < z->n; i++) {
        free(z->items[i].name);
    }
    if (z->fd >= 0) {
        (void)close(z->fd);
    }
    free(z->items);
    free(z->path);
    free(z);
}

int zip_count(const struct zip *z)
{
    return z->n;
}

const char *zip_name(const struct zip *z, int i)
{
    return z->items[i].name;
}

/* ---- entries ---- */

enum mag_status zip_entry_open(struct zip *z, int i, struct zip_entry **ret, uint64_t *ret_size,
                               struct mag_err *err)
{
    const struct zip_item *item = &z->items[i];
    unsigned char head[LOCAL_SIZE];
    enum mag_status st = read_at(z, item->at, head, LOCAL_SIZE, err);
    if (st != MAG_OK) {
        return st;
    }
    uint64_t at = item->at + LOCAL_SIZE + number(head + 26, 2) + number(head + 28, 2);
    if (memcmp(head, "PK\3\4", 4) != 0 || at > z->size || item->packed > z->size - at) {
        return mag_fail(err, MAG_CORRUPT, "%s: damaged or torn at its entry %s", z->path, item->name);
    }
    if ((item->flags & 1) != 0 || (item->method != 0 && item->method != 8)) {
        return mag_fail(err, MAG_UNSUPPORTED,
                        "%s: entry %s is %s; stored and deflated ones are read", z->path, item->name,
                        (item->flags & 1) != 0 ? "encrypted" : "packed in another way");
    }
    if (item->method == 0 ? item->size != item->packed : item->size / DEFLATE_MOST > item->packed) {
        return mag_fail(err, MAG_CORRUPT, "%s: entry %s cannot hold the %llu bytes that it claims",
                        z->path, item->name, (unsigned long long)item->size);
    }
    struct zip_entry *e = xcalloc(1, sizeof(*e));
    *e = (struct zip_entry){.zip = z, .item = item, .at = at, .left = item->packed};
    if (item->method == 8) {
        e->inflating = inflateInit2(&e->z, -MAX_WBITS) == Z_OK;
        if (!e->inflating) {
            free(e);
            return mag_fail(err, MAG_NOMEM, "%s: no memory to unpack", z->path);
        }
    }
    *ret = e;
    *ret_size = item->size;
    return MAG_OK;
}

void zip_entry_close(struct zip_entry *e)
{
    if (e != NULL && e->inflating) {
        (void)inflateEnd(&e->z);
    }
    free(e);
}

/* The next packed bytes into `to`. */
static enum mag_status next_packed(struct zip_entry *e, void *to, size_t n, struct mag_err *err)
{
    enum mag_status st = read_at(e->zip, e->at, to, n, err);
    e->at += n;
    e->left -= n;
    return st;
}

static enum mag_status inflate_some(struct zip_entry *e, unsigned char *to, size_t n,
                                    struct mag_err *err)
{
    e->z.next_out = to;
    e->z.avail_out = (unsigned)n;
    while (e->z.avail_out > 0) {
        if (e->z.avail_in == 0 && e->left > 0) {
            size_t k = e->left < ROOM ? (size_t)e->left : ROOM;
            enum mag_status st = next_packed(e, e->room, k, err);
            if (st != MAG_OK) {
                return st;
            }
            e->z.next_in = e->room;
            e->z.avail_in = (unsigned)k;
        }
        int r = inflate(&e->z, Z_NO_FLUSH);
        if (r == Z_STREAM_END && e->z.avail_out == 0) {
            break;
        }
        if (r != Z_OK) {
            return mag_fail(err, MAG_CORRUPT, "%s: entry %s is damaged%s%s", e->zip->path,
                            e->item->name, e->z.msg != NULL ? ": " : "",
                            e->z.msg != NULL ? e->z.msg : "");
        }
    }
    return MAG_OK;
}

enum mag_status zip_entry_read(void *entry, void *to, size_t n, struct mag_err *err)
{
    struct zip_entry *e = entry;
    if (n > e->item->size - e->given) {
        return mag_fail(err, MAG_CORRUPT, "%s: entry %s ends too early", e->zip->path, e->item->name);
    }
    for (size_t done = 0; done < n;) {
        size_t k = n - done < 1u << 30 ? n - done : 1u << 30;
        unsigned char *at = (unsigned char *)to + done;
        if (!e->inflating && k > e->left) {
            return mag_fail(err, MAG_CORRUPT, "%s: entry %s is torn", e->zip->path, e->item->name);
        }
        enum mag_status st =
            e->inflating ? inflate_some(e, at, k, err) : next_packed(e, at, k, err);
        if (st != MAG_OK) {
            return st;
        }
        e->crc = (uint32_t)crc32(e->crc, at, (unsigned)k);
        done += k;
    }
    e->given += n;
    if (e->given == e->item->size && e->crc != e->item->crc) {
        return mag_fail(err, MAG_CORRUPT, "%s: entry %s is damaged: its check sum is wrong",
                        e->zip->path, e->item->name);
    }
    return MAG_OK;
}
