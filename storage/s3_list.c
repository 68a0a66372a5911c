/* SPDX-License-Identifier: Apache-2.0
 *
 * Listing and removing in S3, page by page. Parts of uploads that nobody completed are no objects
 * but take room: a listing names their folders, removing a folder ends them.
 */
#include "storage/s3.h"

#include "base/alloc.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DELETE_AT_ONCE 1000 /* keys in one request; what S3 allows */

static void add_query(struct buf *b, const char *name, const char *value)
{
    if (value != NULL) {
        buf_addf(b, "%s%s=", b->len > 0 ? "&" : "", name);
        web_encode(b, value, false);
    }
}

/* One page of objects below `prefix`; `next` (NULL = first) in, doc->next out. Parameters stand in
 * the order that the signature wants. */
static enum mag_status page_of_objects(struct s3 *s, const char *prefix, const char *delimiter,
                                       const char *next, struct s3_doc *doc, struct mag_err *err)
{
    struct buf query = {0};
    char limit[24];
    (void)snprintf(limit, sizeof(limit), "%lld", (long long)(s->page < 1000 ? s->page : 1000));
    add_query(&query, "continuation-token", next);
    add_query(&query, "delimiter", delimiter);
    add_query(&query, "list-type", "2");
    add_query(&query, "max-keys", limit);
    add_query(&query, "prefix", prefix);
    char *path = s3_bucket_path(s, query.data);
    const struct web_call call = WEB_CALL(.method = "GET", .path = path);
    enum mag_status st = s3_ask(s, &call, doc, err);
    free(path);
    buf_fini(&query);
    return st;
}

static enum mag_status page_of_uploads(struct s3 *s, const char *prefix, const char *delimiter,
                                       const struct s3_doc *before, struct s3_doc *doc,
                                       struct mag_err *err)
{
    struct buf query = {0};
    char limit[24];
    (void)snprintf(limit, sizeof(limit), "%lld", (long long)(s->page < 1000 ? s->page : 1000));
    add_query(&query, "delimiter", delimiter);
    add_query(&query, "key-marker", before->next_key);
    add_query(&query, "max-uploads", limit);
    add_query(&query, "prefix", prefix);
    add_query(&query, "upload-id-marker", before->next_key != NULL ? before->next_upload : NULL);
    add_query(&query, "uploads", "");
    char *path = s3_bucket_path(s, query.data);
    const struct web_call call = WEB_CALL(.method = "GET", .path = path);
    enum mag_status st = s3_ask(s, &call, doc, err);
    free(path);
    buf_fini(&query);
    return st;
}

/* Servers that know no listing of uploads have none that we could mend. */
static bool unknown_here(enum mag_status st, const struct mag_err *err)
{
    return st != MAG_OK && (strstr(err->text, "NotImplemented") != NULL ||
                            strstr(err->text, "answered 501") != NULL);
}

/* ---- listing ---- */

static enum mag_status list_objects(struct s3 *s, const char *prefix, struct names *to,
                                    struct mag_err *err)
{
    char *next = NULL;
    enum mag_status st = MAG_OK;
    bool more = true;
    while (st == MAG_OK && more) {
        struct s3_doc doc = {0};
        st = page_of_objects(s, prefix, "/", next, &doc, err);
        if (st == MAG_OK) {
            st = names_add_below(to, &doc.keys, strlen(prefix), err);
        }
        if (st == MAG_OK) {
            st = names_add_below(to, &doc.prefixes, strlen(prefix), err);
        }
        free(next);
        next = doc.next;
        doc.next = NULL;
        more = doc.truncated && next != NULL;
        s3_doc_fini(&doc);
    }
    free(next);
    return st;
}

/* Only folders: an object that is not whole is not there. */
static enum mag_status list_uploads(struct s3 *s, const char *prefix, struct names *to,
                                    struct mag_err *err)
{
    struct s3_doc before = {0};
    struct mag_err why = {0};
    enum mag_status st = MAG_OK;
    bool more = true;
    while (st == MAG_OK && more) {
        struct s3_doc doc = {0};
        st = page_of_uploads(s, prefix, "/", &before, &doc, &why);
        if (unknown_here(st, &why)) {
            s3_doc_fini(&doc);
            st = MAG_OK;
            break;
        }
        if (st == MAG_OK) {
            st = names_add_below(to, &doc.prefixes, strlen(prefix), &why);
        }
        more = doc.truncated && doc.next_key != NULL;
        s3_doc_fini(&before);
        before = doc;
    }
    s3_doc_fini(&before);
    return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
}

static char *folder_prefix(const struct s3 *s, const char *key)
{
    char *name = s3_name(s, key);
    char *prefix = xasprintf("%s/", name);
    free(name);
    return prefix;
}

enum mag_status s3_list(void *self, const char *key, storage_name_fn fn, void *arg,
                        struct mag_err *err)
{
    struct s3 *s = self;
    struct names found = {0};
    char *prefix = folder_prefix(s, key);
    enum mag_status st = list_objects(s, prefix, &found, err);
    if (st == MAG_OK) {
        st = list_uploads(s, prefix, &found, err);
    }
    if (st == MAG_OK) {
        names_visit(&found, fn, arg);
    }
    names_fini(&found);
    free(prefix);
    return st;
}

/* ---- removing ---- */

static void add_xml(struct buf *b, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        switch (*p) {
        case '&':
            buf_adds(b, "&amp;");
            break;
        case '<':
            buf_adds(b, "&lt;");
            break;
        case '>':
            buf_adds(b, "&gt;");
            break;
        default:
            buf_addc(b, *p);
        }
    }
}

static void md5_header(const struct buf *body, char *out, size_t size)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned char text[64];
    unsigned int n = 0;
    int ok = EVP_Digest(body->data, body->len, raw, &n, EVP_md5(), NULL);
    MAG_ASSERT(ok == 1, "MD5 is not there");
    (void)EVP_EncodeBlock(text, raw, (int)n);
    (void)snprintf(out, size, "Content-MD5: %s", (const char *)text);
}

static enum mag_status delete_keys(struct s3 *s, char *const *keys, size_t n, struct mag_err *err)
{
    struct buf body = {0};
    struct s3_doc doc = {0};
    char md5[96];
    buf_adds(&body, "<Delete><Quiet>true</Quiet>");
    for (size_t i = 0; i < n; i++) {
        buf_adds(&body, "<Object><Key>");
        add_xml(&body, keys[i]);
        buf_adds(&body, "</Key></Object>");
    }
    buf_adds(&body, "</Delete>");
    md5_header(&body, md5, sizeof(md5));
    char *path = s3_bucket_path(s, "delete=");
    const struct web_call call =
        WEB_CALL(.method = "POST", .path = path, .bytes = body.data, .len = body.len,
                 .headers = {md5, "Content-Type: application/xml"});
    enum mag_status st = s3_ask(s, &call, &doc, err);
    if (st == MAG_OK && doc.code != NULL) {
        st = mag_fail(err, MAG_IO, "storage s3://%s: %s cannot be removed: %s %s", s->bucket,
                      doc.failed.n > 0 ? doc.failed.items[0] : "an object", doc.code,
                      doc.message != NULL ? doc.message : "");
    }
    s3_doc_fini(&doc);
    free(path);
    buf_fini(&body);
    return st;
}

static enum mag_status delete_key(struct s3 *s, const char *key, struct mag_err *err)
{
    char *path = s3_path(s, key);
    enum mag_status st = web_delete(&s->web, path, err);
    free(path);
    return st;
}

static enum mag_status remove_objects(struct s3 *s, const char *prefix, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    bool more = true;
    while (st == MAG_OK &&
           more) { /* what is removed is not listed again: the first page each time */
        struct s3_doc doc = {0};
        st = page_of_objects(s, prefix, NULL, NULL, &doc, err);
        for (size_t at = 0; st == MAG_OK && at < doc.keys.n; at += DELETE_AT_ONCE) {
            size_t n = doc.keys.n - at < DELETE_AT_ONCE ? doc.keys.n - at : DELETE_AT_ONCE;
            st = delete_keys(s, doc.keys.items + at, n, err);
        }
        more = doc.truncated && doc.keys.n > 0;
        s3_doc_fini(&doc);
    }
    return st;
}

static enum mag_status abort_upload(struct s3 *s, const char *name, const char *id,
                                    struct mag_err *err)
{
    struct buf path = {0};
    if (s->bucket_in_path) {
        buf_addf(&path, "/%s", s->bucket);
    }
    buf_addc(&path, '/');
    web_encode(&path, name, true);
    buf_adds(&path, "?uploadId=");
    web_encode(&path, id, false);
    enum mag_status st = web_delete(&s->web, path.data, err);
    buf_fini(&path);
    return st;
}

static enum mag_status remove_uploads(struct s3 *s, const char *prefix, struct mag_err *err)
{
    struct s3_doc before = {0};
    struct mag_err why = {0};
    enum mag_status st = MAG_OK;
    bool more = true;
    while (st == MAG_OK && more) {
        struct s3_doc doc = {0};
        st = page_of_uploads(s, prefix, NULL, &before, &doc, &why);
        if (unknown_here(st, &why)) {
            s3_doc_fini(&doc);
            st = MAG_OK;
            break;
        }
        for (size_t i = 0; st == MAG_OK && i < doc.uploads.n; i++) {
            st = abort_upload(s, doc.uploads.items[i], doc.upload_ids.items[i], &why);
        }
        more = doc.truncated && doc.next_key != NULL;
        s3_doc_fini(&before);
        before = doc;
    }
    s3_doc_fini(&before);
    return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
}

enum mag_status s3_remove(void *self, const char *key, struct mag_err *err)
{
    struct s3 *s = self;
    char *manifest = xasprintf("%s/manifest.json", key);
    char *prefix = folder_prefix(s, key);
    /* From here on no reader takes the folder for a whole one. */
    enum mag_status st = delete_key(s, manifest, err);
    if (st == MAG_OK) {
        st = delete_key(s, key, err);
    }
    if (st == MAG_OK) {
        st = remove_objects(s, prefix, err);
    }
    if (st == MAG_OK) {
        st = remove_uploads(s, prefix, err);
    }
    free(prefix);
    free(manifest);
    return st;
}
