/* SPDX-License-Identifier: Apache-2.0
 *
 * What several schemes do with web.h: whole objects, parts of objects, texts of addresses.
 */
#include "storage/web.h"

#include "base/alloc.h"
#include "storage/storage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mag_status web_get_whole(struct web *h, const char *path, size_t max, struct web_reply *r,
                              char **ret, size_t *ret_len, struct mag_err *err)
{
    const struct web_call call =
        WEB_CALL(.method = "GET", .path = path, .follow = true, .max = max > 0 ? max : 1);
    enum mag_status st = web_expect(h, &call, r, err);
    if (st == MAG_OK && r->body.len > max) {
        st = mag_fail(err, MAG_LIMIT, "%s is larger than %zu bytes", path, max);
    }
    if (st == MAG_OK) {
        *ret_len = r->body.len;
        *ret = buf_take(&r->body);
    }
    return st;
}

static void part_of_whole(int64_t offset, size_t max, struct web_reply *r, struct storage_part *ret)
{
    int64_t size = (int64_t)r->body.len;
    int64_t from = offset >= 0 ? offset : size > (int64_t)max ? size - (int64_t)max : 0;
    int64_t rest = size > from ? size - from : 0;
    size_t n = rest < (int64_t)max ? (size_t)rest : max;
    ret->bytes = xstrndup("", 0);
    if (n > 0) {
        free(ret->bytes);
        ret->bytes = xmalloc(n + 1);
        memcpy(ret->bytes, r->body.data + from, n);
        ret->bytes[n] = '\0';
    }
    ret->len = n;
    ret->offset = from;
    ret->size = size;
}

/* The range begins behind the end, or the object is empty. */
static enum mag_status nothing_there(struct web *h, const char *path, int64_t offset,
                                     struct web_reply *r, struct storage_part *ret,
                                     struct mag_err *err)
{
    int64_t size = web_total(r);
    enum mag_status st = MAG_OK;
    if (size < 0) {
        const struct web_call head = WEB_CALL(.method = "HEAD", .path = path);
        st = web_expect(h, &head, r, err);
        size = st == MAG_OK ? web_length(r) : 0;
    }
    if (st == MAG_OK) {
        *ret = (struct storage_part){
            .bytes = xstrdup(""), .offset = offset >= 0 ? offset : 0, .size = size > 0 ? size : 0};
    }
    return st;
}

enum mag_status web_read_part(struct web *h, const char *path, int64_t offset, size_t max,
                              struct web_reply *r, struct storage_part *ret, struct mag_err *err)
{
    char range[80];
    if (offset < 0) {
        (void)snprintf(range, sizeof(range), "Range: bytes=-%zu", max);
    } else {
        (void)snprintf(range, sizeof(range), "Range: bytes=%lld-%lld", (long long)offset,
                       (long long)offset + (long long)max - 1);
    }
    const struct web_call call =
        WEB_CALL(.method = "GET", .path = path, .headers = {range}, .max = STORAGE_OBJECT_MAX);
    enum mag_status st = web_run(h, &call, r, err);
    if (st != MAG_OK) {
        return st;
    }
    if (r->status == 416) {
        return nothing_there(h, path, offset, r, ret, err);
    }
    if (!web_is_fine(r)) {
        return web_refused(h, &call, r, err);
    }
    if (r->status != 206) {
        part_of_whole(offset, max, r, ret);
        return MAG_OK;
    }
    int64_t size = web_total(r);
    int64_t len = (int64_t)r->body.len;
    if (size < len) {
        return mag_fail(err, MAG_IO, "%s: the answer to a range tells no size", path);
    }
    *ret = (struct storage_part){
        .len = r->body.len, .offset = offset >= 0 ? offset : size - len, .size = size};
    ret->bytes = buf_take(&r->body);
    return MAG_OK;
}

/* An ETag is the MD5 of the content where it has its form and nothing says that it is something
 * else: pieces, a key of one's own. */
static bool tells_md5(const struct web_reply *r, const char *tag)
{
    char *large = web_header(r, "X-Static-Large-Object");
    char *secret = web_header(r, "x-amz-server-side-encryption");
    char *own = web_header(r, "x-amz-server-side-encryption-customer-algorithm");
    bool plain = large == NULL && own == NULL && (secret == NULL || strcmp(secret, "AES256") == 0);
    free(large);
    free(secret);
    free(own);
    return plain && strlen(tag) == 32 && strspn(tag, "0123456789abcdef") == 32;
}

enum mag_status web_stat(struct web *h, const char *path, struct storage_stat *ret,
                         struct mag_err *err)
{
    struct web_reply r = {0};
    const struct web_call call = WEB_CALL(.method = "HEAD", .path = path);
    enum mag_status st = web_expect(h, &call, &r, err);
    char *tag = st == MAG_OK ? web_header(&r, "ETag") : NULL;
    if (st == MAG_OK) {
        const char *bare = tag != NULL ? tag + strspn(tag, "\"") : "";
        ret->size = web_length(&r);
        (void)snprintf(ret->tag, sizeof(ret->tag), "%.*s", (int)strcspn(bare, "\""), bare);
        if (tells_md5(&r, ret->tag)) {
            (void)snprintf(ret->md5, sizeof(ret->md5), "%.32s", ret->tag);
        }
        if (ret->size < 0 || ret->tag[0] == '\0') {
            st = mag_fail(err, MAG_IO, "%s: the server tells no size or no ETag of it", path);
        }
    }
    free(tag);
    web_reply_fini(&r);
    return st;
}

void web_aim_range(void *range, int64_t offset, struct web_call *call)
{
    struct web_range *g = range;
    call->path = g->path;
    if (offset > 0) {
        (void)snprintf(g->line, sizeof(g->line), "Range: bytes=%lld-", (long long)offset);
        call->headers[0] = g->line;
        call->ranged = true;
    }
}

void web_encode(struct buf *b, const char *text, bool slashes)
{
    static const char free_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789-._~";
    buf_add(b, "", 0);
    for (const char *p = text; *p != '\0'; p++) {
        if (strchr(free_chars, *p) != NULL || (slashes && *p == '/')) {
            buf_addc(b, *p);
        } else {
            buf_addf(b, "%%%02X", (unsigned char)*p);
        }
    }
}

int64_t web_total(const struct web_reply *r)
{
    char *range = web_header(r, "Content-Range");
    const char *slash = range != NULL ? strchr(range, '/') : NULL;
    char *end = NULL;
    errno = 0;
    long long total = slash != NULL ? strtoll(slash + 1, &end, 10) : -1;
    bool sound = slash != NULL && end != slash + 1 && *end == '\0' && errno == 0 && total >= 0;
    free(range);
    return sound ? total : -1;
}

int64_t web_length(const struct web_reply *r)
{
    char *text = web_header(r, "Content-Length");
    char *end = NULL;
    errno = 0;
    long long n = text != NULL ? strtoll(text, &end, 10) : -1;
    bool sound = text != NULL && end != text && *end == '\0' && errno == 0 && n >= 0;
    free(text);
    return sound ? n : -1;
}
