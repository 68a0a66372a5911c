/* SPDX-License-Identifier: Apache-2.0
 *
 * A file of any size to S3: one PUT, or parts that are completed at the end. A part that was torn
 * is sent again, alone. The server checks each against its SHA-256, which the signature covers.
 */
#include "storage/s3.h"

#include "base/alloc.h"
#include "base/fault.h"

#include <stdlib.h>
#include <string.h>

struct upload {
    struct s3 *s;
    char *path; /* of the object */
    char *id;
    struct buf complete; /* the body of the completion */
};

static enum mag_status send_piece(struct upload *u, const struct pieces *p,
                                  const struct piece *piece, const char *path, char **ret_etag,
                                  struct mag_err *err)
{
    struct web_reply r = {0};
    char *digest = xasprintf("x-amz-content-sha256: %s", piece->sha256);
    const struct web_call call = WEB_CALL_FROM(
        p->fd, .method = "PUT", .path = path, .offset = piece->offset, .size = piece->size,
        .headers = {digest, "Content-Type: application/octet-stream"});
    enum mag_status st = web_expect(&u->s->web, &call, &r, err);
    if (st == MAG_OK && ret_etag != NULL) {
        *ret_etag = web_header(&r, "ETag");
        st = *ret_etag != NULL ? MAG_OK
                               : mag_fail(err, MAG_IO, "PUT %s: the answer has no ETag", u->path);
    }
    web_reply_fini(&r);
    free(digest);
    return st;
}

static enum mag_status begin(struct upload *u, struct mag_err *err)
{
    struct s3_doc doc = {0};
    char *path = xasprintf("%s?uploads=", u->path);
    const struct web_call call = WEB_CALL(.method = "POST", .path = path, .bytes = "",
                                          .headers = {"Content-Type: application/octet-stream"});
    enum mag_status st = s3_ask(u->s, &call, &doc, err);
    if (st == MAG_OK && doc.upload_id == NULL) {
        st = mag_fail(err, MAG_IO, "POST %s: the answer names no upload", u->path);
    }
    if (st == MAG_OK) {
        u->id = xstrdup(doc.upload_id);
    }
    s3_doc_fini(&doc);
    free(path);
    return st;
}

static char *with_id(const struct upload *u, int part)
{
    struct buf b = {0};
    buf_addf(&b, "%s?", u->path);
    if (part > 0) {
        buf_addf(&b, "partNumber=%d&", part);
    }
    buf_adds(&b, "uploadId=");
    web_encode(&b, u->id, false);
    return buf_take(&b);
}

static enum mag_status send_all(struct upload *u, struct pieces *p, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    for (;;) {
        struct piece piece;
        st = pieces_next(p, &piece, err);
        if (st != MAG_OK || piece.number == 0) {
            return st;
        }
        char *path = with_id(u, piece.number);
        char *etag = NULL;
        st = send_piece(u, p, &piece, path, &etag, err);
        if (st == MAG_OK) {
            buf_addf(&u->complete, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>",
                     piece.number, etag);
        }
        free(etag);
        free(path);
        if (st != MAG_OK) {
            return st;
        }
        (void)fault_hit("storage.piece");
    }
}

/* The size of what lies at the path now, -1 when nothing does. */
static int64_t size_there(struct upload *u)
{
    struct web_reply r = {0};
    const struct web_call call = WEB_CALL(.method = "HEAD", .path = u->path);
    int64_t size = -1;
    if (web_expect(&u->s->web, &call, &r, NULL) == MAG_OK) {
        size = web_length(&r);
    }
    web_reply_fini(&r);
    return size;
}

static enum mag_status finish(struct upload *u, int64_t size, struct mag_err *err)
{
    struct s3_doc doc = {0};
    struct mag_err why = {0};
    char *path = with_id(u, 0);
    const struct web_call call =
        WEB_CALL(.method = "POST", .path = path, .bytes = u->complete.data, .len = u->complete.len,
                 .headers = {"Content-Type: application/xml"});
    enum mag_status st = s3_ask(u->s, &call, &doc, &why);
    if (st == MAG_OK && doc.code != NULL) { /* S3 may answer 200 and then fail */
        st = mag_fail(&why, MAG_IO, "POST %s: %s %s", u->path, doc.code,
                      doc.message != NULL ? doc.message : "");
    }
    /* The reply of an earlier try was lost: the upload is gone because it is complete. */
    if (st == MAG_NOTFOUND && size_there(u) == size) {
        st = MAG_OK;
    }
    s3_doc_fini(&doc);
    free(path);
    return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
}

/* Best effort: what stays is taken with the folder. */
static void give_up(struct upload *u)
{
    struct web_reply r = {0};
    char *path = with_id(u, 0);
    const struct web_call call = WEB_CALL(.method = "DELETE", .path = path, .once = true);
    enum mag_status ignored = web_run(&u->s->web, &call, &r, NULL);
    (void)ignored;
    web_reply_fini(&r);
    free(path);
}

static enum mag_status in_parts(struct upload *u, struct pieces *p, struct mag_err *err)
{
    enum mag_status st = begin(u, err);
    if (st != MAG_OK) {
        return st;
    }
    buf_adds(&u->complete, "<CompleteMultipartUpload>");
    st = send_all(u, p, err);
    buf_adds(&u->complete, "</CompleteMultipartUpload>");
    if (st == MAG_OK) {
        st = finish(u, p->size, err);
    }
    if (st != MAG_OK) {
        give_up(u);
    }
    return st;
}

enum mag_status s3_put_file(void *self, const char *key, const char *path, int64_t *ret_size,
                            char sha256[STORAGE_SHA256_HEX], struct mag_err *err)
{
    struct upload u = {.s = self};
    struct pieces p;
    u.path = s3_path(self, key);
    enum mag_status st = pieces_open(&p, path, u.s->piece, err);
    if (st == MAG_OK && pieces_is_one(&p)) {
        struct piece piece;
        st = pieces_next(&p, &piece, err);
        if (st == MAG_OK) {
            st = send_piece(&u, &p, &piece, u.path, NULL, err);
        }
    } else if (st == MAG_OK) {
        st = in_parts(&u, &p, err);
    }
    if (st == MAG_OK) {
        *ret_size = p.size;
        pieces_sha256(&p, sha256);
    }
    pieces_close(&p);
    buf_fini(&u.complete);
    free(u.id);
    free(u.path);
    return st;
}
