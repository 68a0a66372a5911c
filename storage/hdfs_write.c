/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes to HDFS. The namenode names a datanode, which takes them; when that breaks, both steps are
 * done again. A large file is written in pieces, each a file that is repeated alone when its
 * transfer broke; CONCAT makes one of them.
 */
#include "storage/hdfs.h"

#include "base/alloc.h"
#include "base/fault.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SENDS_MAX 3       /* of a piece that does not arrive as it was */
#define CONCAT_AT_ONCE 24 /* names in one request's line */

char *hdfs_beside(struct hdfs *h, const char *file)
{
    const char *slash = strrchr(file, '/');
    return xasprintf("%.*s/.tmp-%016" PRIx64 "-%u", (int)(slash - file), file, h->id, h->next++);
}

/* The datanode for a new file, malloc'ed. */
static enum mag_status find_datanode(struct hdfs *h, const char *file, char **ret,
                                     struct mag_err *err)
{
    struct web_reply r = {0};
    char *path = hdfs_path(file, "CREATE&overwrite=true");
    const struct web_call call = WEB_CALL(.method = "PUT", .path = path);
    enum mag_status st = web_run(&h->web, &call, &r, err);
    char *to = st == MAG_OK && r.status == 307 ? web_header(&r, "Location") : NULL;
    if (st == MAG_OK && to == NULL && !web_is_fine(&r)) {
        st = web_refused(&h->web, &call, &r, err);
    } else if (st == MAG_OK && to == NULL) {
        st = mag_fail(err, MAG_IO, "PUT %s: the namenode names no datanode", file);
    }
    if (st == MAG_OK) {
        *ret = to;
    }
    web_reply_fini(&r);
    free(path);
    return st;
}

enum mag_status hdfs_write(struct hdfs *h, const char *file, const struct web_call *body,
                           struct mag_err *err)
{
    struct web_wait wait = {0};
    struct web_reply r = {0};
    enum mag_status st = MAG_OK;
    for (;;) {
        struct mag_err why = {0};
        char *to = NULL;
        st = find_datanode(h, file, &to, err);
        if (st != MAG_OK) {
            break;
        }
        struct web_call call = *body;
        call.method = "PUT";
        call.url = to;
        call.once = true;
        call.headers[0] = "Content-Type: application/octet-stream";
        st = web_expect(&h->web, &call, &r, &why);
        free(to);
        if (st == MAG_OK || !r.passing || !web_wait(&h->web, &wait)) {
            st = st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
            break;
        }
    }
    web_reply_fini(&r);
    return st;
}

/* ---- files of any size ---- */

/* Appends files [from, to) of the list to `first`, which then has `size` bytes. */
static enum mag_status concat(struct hdfs *h, const char *first, const struct names *pieces,
                              size_t from, size_t to, int64_t size, struct mag_err *err)
{
    struct buf path = {0};
    struct mag_err why = {0};
    char *start = hdfs_path(first, "CONCAT");
    buf_addf(&path, "%s&sources=", start);
    for (size_t i = from; i < to; i++) {
        buf_adds(&path, i > from ? "," : "");
        web_encode(&path, pieces->items[i], true);
    }
    const struct web_call call = WEB_CALL(.method = "POST", .path = path.data);
    enum mag_status st = hdfs_ask(h, &call, NULL, &why);
    int64_t there = -1;
    if (st == MAG_OK || st == MAG_NOTFOUND || st == MAG_INVALID) {
        /* An earlier try may have been done although its reply was lost. */
        enum mag_status seen = hdfs_status(h, first, &there, st == MAG_OK ? &why : NULL);
        st = seen == MAG_OK && there == size ? MAG_OK
             : st == MAG_OK ? mag_fail(&why, MAG_IO, "%s has %lld bytes, not %lld", first,
                                       (long long)there, (long long)size)
                            : st;
    }
    buf_fini(&path);
    free(start);
    return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
}

/* What arrived is compared with what was sent; damage on the way is mended by sending again. */
static enum mag_status send_checked(struct hdfs *h, const char *name, const struct web_call *body,
                                    const char *sum, struct mag_err *err)
{
    struct mag_err why = {0};
    enum mag_status st = MAG_CORRUPT;
    for (int tries = 0; st == MAG_CORRUPT && tries < SENDS_MAX; tries++) {
        why = (struct mag_err){0};
        st = hdfs_write(h, name, body, &why);
        if (st == MAG_OK && body->size > 0) {
            st = hdfs_compare(h, name, sum, &why);
        }
    }
    return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
}

static enum mag_status send_pieces(struct hdfs *h, struct pieces *p, const char *tmp,
                                   struct names *sent, struct hdfs_sum *sum, struct mag_err *err)
{
    for (;;) {
        struct piece piece;
        char hex[PIECE_MD5_HEX];
        hdfs_sum_begin(sum);
        enum mag_status st = pieces_next(p, &piece, err);
        if (st != MAG_OK || piece.number == 0) {
            return st;
        }
        char *name = xasprintf("%s.%06d", tmp, piece.number);
        const struct web_call body =
            WEB_CALL_FROM(p->fd, .offset = piece.offset, .size = piece.size);
        st = names_add_whole(sent, name, err);
        if (st == MAG_OK) {
            hdfs_sum_end(sum, hex);
            st = send_checked(h, name, &body, hex, err);
        }
        free(name);
        if (st != MAG_OK) {
            return st;
        }
        (void)fault_hit("storage.piece");
    }
}

static enum mag_status join(struct hdfs *h, const struct pieces *p, const struct names *sent,
                            struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    for (size_t at = 1; st == MAG_OK && at < sent->n; at += CONCAT_AT_ONCE) {
        size_t end = at + CONCAT_AT_ONCE < sent->n ? at + CONCAT_AT_ONCE : sent->n;
        int64_t size = end == sent->n ? p->size : (int64_t)end * p->piece;
        st = concat(h, sent->items[0], sent, at, end, size, err);
    }
    return st;
}

enum mag_status hdfs_put_file(void *self, const char *key, const char *path, int64_t *ret_size,
                              char sha256[STORAGE_SHA256_HEX], struct mag_err *err)
{
    struct hdfs *h = self;
    struct pieces p;
    struct names sent = {0};
    struct hdfs_sum sum = {0};
    char *file = hdfs_file(h, key);
    char *tmp = hdfs_beside(h, file);
    /* CONCAT separates names by commas. */
    enum mag_status st =
        pieces_open(&p, path, strchr(file, ',') != NULL ? INT64_MAX : h->piece, err);
    if (st == MAG_OK) {
        p.look = hdfs_sum_add;
        p.arg = &sum;
        st = send_pieces(h, &p, tmp, &sent, &sum, err);
    }
    if (st == MAG_OK) {
        st = join(h, &p, &sent, err);
    }
    if (st == MAG_OK) {
        st = hdfs_rename(h, sent.items[0], file, p.size, false, err);
    }
    for (size_t i = 0; st != MAG_OK && i < sent.n; i++) {
        if (hdfs_delete(h, sent.items[i], NULL) != MAG_OK) {
            break; /* it goes with its folder */
        }
    }
    if (st == MAG_OK) {
        *ret_size = p.size;
        pieces_sha256(&p, sha256);
    }
    pieces_close(&p);
    hdfs_sum_fini(&sum);
    names_fini(&sent);
    free(tmp);
    free(file);
    return st;
}
