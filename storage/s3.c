/* SPDX-License-Identifier: Apache-2.0
 *
 * The `s3` scheme: s3://bucket/prefix at Amazon or any server that speaks its protocol. An object
 * appears whole with the answer to its PUT, or to the completion of its parts.
 */
#include "storage/s3.h"

#include "base/alloc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

char *s3_name(const struct s3 *s, const char *key)
{
    return s->prefix[0] == '\0' ? xstrdup(key)
           : key[0] == '\0'     ? xstrdup(s->prefix)
                                : xasprintf("%s/%s", s->prefix, key);
}

char *s3_path(const struct s3 *s, const char *key)
{
    struct buf b = {0};
    char *name = s3_name(s, key);
    if (s->bucket_in_path) {
        buf_addf(&b, "/%s", s->bucket);
    }
    buf_addc(&b, '/');
    web_encode(&b, name, true);
    free(name);
    return buf_take(&b);
}

char *s3_bucket_path(const struct s3 *s, const char *query)
{
    return s->bucket_in_path ? xasprintf("/%s?%s", s->bucket, query) : xasprintf("/?%s", query);
}

enum mag_status s3_ask(struct s3 *s, const struct web_call *call, struct s3_doc *doc,
                       struct mag_err *err)
{
    struct web_reply r = {0};
    enum mag_status st = web_expect(&s->web, call, &r, err);
    if (st == MAG_OK && r.body.len > 0) {
        st = s3_xml_parse(r.body.data, r.body.len, doc, err);
    }
    web_reply_fini(&r);
    return st;
}

/* ---- opening ---- */

static enum mag_status check_bucket(const char *bucket, struct mag_err *err)
{
    size_t n = strlen(bucket);
    bool sound = n >= 3 && n <= 63;
    for (const char *p = bucket; *p != '\0'; p++) {
        sound = sound && (isalnum((unsigned char)*p) || strchr(".-_", *p) != NULL);
    }
    return sound ? MAG_OK
                 : mag_fail(err, MAG_INVALID,
                            "storage s3://%.80s: a bucket's name has 3 to 63 letters, digits, "
                            "dots and hyphens",
                            bucket);
}

static enum mag_status s3_init(void *self, const char *rest, char **ret_url, struct mag_err *err)
{
    struct s3 *s = self;
    if (!storage_split(rest, &s->bucket, &s->prefix)) {
        return mag_fail(err, MAG_INVALID, "storage s3:%.200s: expected s3://BUCKET/PREFIX", rest);
    }
    enum mag_status st = check_bucket(s->bucket, err);
    if (st == MAG_OK) {
        st = settings_init(&s->settings, err);
    }
    if (st == MAG_OK) {
        st = web_init(&s->web, &s3_web, s, &s->settings, err);
    }
    if (st == MAG_OK) {
        st = pieces_setting(&s->settings, &s->piece, err);
    }
    if (st == MAG_OK) {
        st = names_setting(&s->settings, &s->page, err);
    }
    if (st == MAG_OK) {
        st = s3_configure(s, err);
    }
    if (st == MAG_OK) {
        *ret_url = xasprintf("s3://%s%s%s", s->bucket, s->prefix[0] != '\0' ? "/" : "", s->prefix);
    }
    return st;
}

static void s3_fini(void *self)
{
    struct s3 *s = self;
    web_fini(&s->web);
    s3_auth_fini(s);
    settings_fini(&s->settings);
    free(s->bucket);
    free(s->prefix);
}

static void s3_cancel(void *self)
{
    struct s3 *s = self;
    web_cancel(&s->web);
}

static void s3_patience(void *self, int64_t ms)
{
    struct s3 *s = self;
    web_set_patience(&s->web, ms);
}

/* ---- objects ---- */

/* A missing bucket is no missing object. */
static enum mag_status refine(const struct s3 *s, enum mag_status st, const struct web_reply *r)
{
    struct s3_doc doc = {0};
    (void)s;
    if (st == MAG_NOTFOUND && r->body.len > 0 &&
        s3_xml_parse(r->body.data, r->body.len, &doc, NULL) == MAG_OK && doc.code != NULL &&
        strcmp(doc.code, "NoSuchBucket") == 0) {
        st = MAG_INVALID;
    }
    s3_doc_fini(&doc);
    return st;
}

static enum mag_status put(struct s3 *s, const char *key, const void *bytes, size_t len,
                           const char *condition, struct mag_err *err)
{
    char *path = s3_path(s, key);
    struct web_reply r = {0};
    const struct web_call call =
        WEB_CALL(.method = "PUT", .path = path, .bytes = len > 0 ? bytes : "", .len = len,
                 .headers = {"Content-Type: application/octet-stream", condition});
    enum mag_status st = web_expect(&s->web, &call, &r, err);
    st = refine(s, st, &r);
    web_reply_fini(&r);
    free(path);
    return st;
}

static enum mag_status s3_put(void *self, const char *key, const void *bytes, size_t len,
                              bool durable, struct mag_err *err)
{
    (void)durable; /* an answered PUT is */
    return put(self, key, bytes, len, NULL, err);
}

static enum mag_status s3_read(void *self, const char *key, int64_t offset, size_t max,
                               struct storage_part *ret, struct mag_err *err)
{
    struct s3 *s = self;
    char *path = s3_path(s, key);
    struct web_reply r = {0};
    enum mag_status st = web_read_part(&s->web, path, offset, max, &r, ret, err);
    st = refine(s, st, &r);
    web_reply_fini(&r);
    free(path);
    return st;
}

static enum mag_status s3_put_new(void *self, const char *key, const void *bytes, size_t len,
                                  struct mag_err *err)
{
    struct mag_err why = {0};
    enum mag_status st = put(self, key, bytes, len, "If-None-Match: *", &why);
    struct storage_part part = {0};
    if (st != MAG_INVALID && st != MAG_IO) {
        return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
    }
    /* A server that knows no conditions: look, then write. The caller reads it back. */
    if (strstr(why.text, "NotImplemented") == NULL) {
        return mag_fail(err, st, "%s", why.text);
    }
    st = s3_read(self, key, 0, 1, &part, err);
    free(part.bytes);
    return st == MAG_OK         ? mag_fail(err, MAG_CONFLICT, "%s is there already", key)
           : st == MAG_NOTFOUND ? put(self, key, bytes, len, NULL, err)
                                : st;
}

static enum mag_status s3_get(void *self, const char *key, size_t max, char **ret, size_t *ret_len,
                              struct mag_err *err)
{
    struct s3 *s = self;
    char *path = s3_path(s, key);
    struct web_reply r = {0};
    enum mag_status st = web_get_whole(&s->web, path, max, &r, ret, ret_len, err);
    st = refine(s, st, &r);
    web_reply_fini(&r);
    free(path);
    return st;
}

static enum mag_status s3_stat(void *self, const char *key, struct storage_stat *ret,
                               struct mag_err *err)
{
    struct s3 *s = self;
    char *path = s3_path(s, key);
    enum mag_status st = web_stat(&s->web, path, ret, err);
    free(path);
    return st;
}

static enum mag_status s3_get_file(void *self, const char *key, const char *path, int64_t *ret_size,
                                   char sha256[STORAGE_SHA256_HEX], struct mag_err *err)
{
    struct s3 *s = self;
    char *at = s3_path(s, key);
    struct web_range range = {.path = at};
    enum mag_status st = pieces_fetch(&s->web, path, web_aim_range, &range, ret_size, sha256, err);
    free(at);
    return st;
}

const struct storage_ops storage_s3_ops = {
    .scheme = "s3",
    .state_size = sizeof(struct s3),
    .init = s3_init,
    .fini = s3_fini,
    .patience = s3_patience,
    .cancel = s3_cancel,
    .put = s3_put,
    .put_new = s3_put_new,
    .get = s3_get,
    .read = s3_read,
    .remove = s3_remove,
    .list = s3_list,
    .put_file = s3_put_file,
    .stat = s3_stat,
    .get_file = s3_get_file,
};
