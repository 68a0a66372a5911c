/* SPDX-License-Identifier: Apache-2.0
 *
 * The front of storage/: picks the scheme, checks keys, keeps the marker that ties a root to a
 * store.
 */
#include "storage/storage.h"

#include "base/alloc.h"
#include "base/json.h"
#include "storage/scheme.h"
#include "storage/state.h"

#include <stdlib.h>
#include <string.h>

#define MARKER "magpie-store.json"

static const struct storage_ops *const schemes[] = {&storage_file_ops,    &storage_s3_ops,
                                                    &storage_swift_ops,   &storage_hdfs_ops,
                                                    &storage_webhdfs_ops, &storage_swebhdfs_ops};

static const struct storage_ops *find_scheme(const char *url, const char **ret_rest)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t n = strlen(schemes[i]->scheme);
        if (strncmp(url, schemes[i]->scheme, n) == 0 && url[n] == ':') {
            *ret_rest = url + n + 1;
            return schemes[i];
        }
    }
    if (strstr(url, "://") == NULL && strlen(url) > 0) {
        *ret_rest = url;
        return &storage_file_ops;
    }
    return NULL;
}

bool storage_split(const char *rest, char **ret_name, char **ret_prefix)
{
    if (strncmp(rest, "//", 2) != 0) {
        return false;
    }
    const char *name = rest + 2;
    size_t n = strcspn(name, "/");
    const char *prefix = name[n] == '/' ? name + n + 1 : "";
    size_t len = strlen(prefix);
    while (len > 0 && prefix[len - 1] == '/') {
        len--;
    }
    char *key = xstrndup(prefix, len);
    if (n == 0 || (len > 0 && !storage_key_is_sound(key))) {
        free(key);
        return false;
    }
    *ret_name = xstrndup(name, n);
    *ret_prefix = key;
    return true;
}

enum mag_status storage_open(const char *url, struct storage **ret, struct mag_err *err)
{
    const char *rest = NULL;
    const struct storage_ops *ops = find_scheme(url, &rest);
    if (ops == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "storage \"%.200s\": expected a folder, file:/path, s3://bucket/prefix, "
                        "swift://container/prefix or hdfs://namenode:port/path",
                        url);
    }
    struct storage *s = xcalloc(1, sizeof(*s));
    s->ops = ops;
    s->self = xcalloc(1, ops->state_size);
    enum mag_status st = ops->init(s->self, rest, &s->url, err);
    if (st != MAG_OK) {
        storage_close(s);
        return st;
    }
    *ret = s;
    return MAG_OK;
}

void storage_close(struct storage *s)
{
    if (s == NULL) {
        return;
    }
    s->ops->fini(s->self);
    free(s->self);
    free(s->url);
    free(s);
}

void storage_set_patience(struct storage *s, int64_t ms)
{
    if (s->ops->patience != NULL) {
        s->ops->patience(s->self, ms);
    }
}

void storage_cancel(struct storage *s)
{
    if (s != NULL && s->ops->cancel != NULL) {
        s->ops->cancel(s->self);
    }
}

const char *storage_url(const struct storage *s)
{
    return s->url;
}

bool storage_key_is_sound(const char *key)
{
    size_t n = strlen(key);
    if (n == 0 || n > STORAGE_KEY_MAX) {
        return false;
    }
    for (const char *part = key; part != NULL;) {
        const char *end = strchrnul(part, '/');
        size_t len = (size_t)(end - part);
        if (len == 0 || (len <= 2 && strncmp(part, "..", len) == 0)) {
            return false;
        }
        for (const char *p = part; p < end; p++) {
            if ((unsigned char)*p < 0x20 || *p == 0x7f) {
                return false;
            }
        }
        part = *end == '/' ? end + 1 : NULL;
    }
    return true;
}

static enum mag_status check_key(const char *key, struct mag_err *err)
{
    return storage_key_is_sound(key)
               ? MAG_OK
               : mag_fail(err, MAG_INVALID,
                          "storage: \"%.200s\" is not a relative path of plain names", key);
}

enum mag_status storage_put(struct storage *s, const char *key, const void *bytes, size_t len,
                            bool durable, struct mag_err *err)
{
    enum mag_status st = check_key(key, err);
    return st != MAG_OK ? st : s->ops->put(s->self, key, bytes, len, durable, err);
}

enum mag_status storage_get(struct storage *s, const char *key, size_t max, char **ret,
                            size_t *ret_len, struct mag_err *err)
{
    enum mag_status st = check_key(key, err);
    return st != MAG_OK ? st : s->ops->get(s->self, key, max, ret, ret_len, err);
}

enum mag_status storage_read(struct storage *s, const char *key, int64_t offset, size_t max,
                             struct storage_part *ret, struct mag_err *err)
{
    enum mag_status st = check_key(key, err);
    return st != MAG_OK ? st : s->ops->read(s->self, key, offset, max, ret, err);
}

enum mag_status storage_stat(struct storage *s, const char *key, struct storage_stat *ret,
                             struct mag_err *err)
{
    enum mag_status st = check_key(key, err);
    *ret = (struct storage_stat){0};
    return st != MAG_OK ? st : s->ops->stat(s->self, key, ret, err);
}

static enum mag_status compare_fetched(const struct storage_stat *want, const char *key,
                                       const char *path, int64_t size, struct mag_err *err)
{
    char md5[33];
    if (size != want->size) {
        return mag_fail(err, MAG_CONFLICT, "storage: %s is of %lld bytes, not of %lld", key,
                        (long long)size, (long long)want->size);
    }
    enum mag_status st = want->md5[0] != '\0' ? storage_md5_file(path, md5, err) : MAG_OK;
    if (st == MAG_OK && want->md5[0] != '\0' && strcmp(md5, want->md5) != 0) {
        st = mag_fail(err, MAG_CONFLICT, "storage: %s arrived with another check sum", key);
    }
    return st;
}

enum mag_status storage_fetch(struct storage *s, const char *key, const struct storage_stat *want,
                              const char *path, struct mag_err *err)
{
    char sha256[STORAGE_SHA256_HEX];
    int64_t size = 0;
    enum mag_status st = check_key(key, err);
    if (st == MAG_OK) {
        st = s->ops->get_file != NULL
                 ? s->ops->get_file(s->self, key, path, &size, sha256, err)
                 : mag_fail(err, MAG_UNSUPPORTED, "storage: %s lies in a local folder", key);
    }
    return st == MAG_OK ? compare_fetched(want, key, path, size, err) : st;
}

enum mag_status storage_remove(struct storage *s, const char *key, struct mag_err *err)
{
    enum mag_status st = check_key(key, err);
    return st != MAG_OK ? st : s->ops->remove(s->self, key, err);
}

enum mag_status storage_list(struct storage *s, const char *key, storage_name_fn fn, void *arg,
                             struct mag_err *err)
{
    enum mag_status st = check_key(key, err);
    return st != MAG_OK ? st : s->ops->list(s->self, key, fn, arg, err);
}

/* ---- the marker ---- */

static enum mag_status read_marker(struct storage *s, char **ret_uuid, struct mag_err *err)
{
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    enum mag_status st = storage_get(s, MARKER, 4096, &text, &len, err);
    if (st == MAG_OK) {
        st = mjson_parse(text, len, &doc, err);
    }
    const char *uuid = json_string_value(json_object_get(doc, "store"));
    if (st == MAG_OK && uuid == NULL) {
        st = mag_fail(err, MAG_CORRUPT, "storage %s: %s names no store", s->url, MARKER);
    }
    if (st == MAG_OK) {
        *ret_uuid = xstrdup(uuid);
    }
    json_decref(doc);
    free(text);
    return st;
}

static enum mag_status compare_marker(struct storage *s, const char *uuid, struct mag_err *err)
{
    char *found = NULL;
    enum mag_status st = read_marker(s, &found, err);
    if (st == MAG_OK && strcmp(found, uuid) != 0) {
        st = mag_fail(err, MAG_CONFLICT, "storage %s belongs to another store (%s, not %s)", s->url,
                      found, uuid);
    }
    free(found);
    return st;
}

enum mag_status storage_claim(struct storage *s, const char *uuid, struct mag_err *err)
{
    struct mag_err why = {0};
    enum mag_status st = compare_marker(s, uuid, &why);
    if (st != MAG_NOTFOUND) {
        return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
    }
    char *text = xasprintf("{\"format\":1,\"store\":\"%s\"}\n", uuid);
    st = s->ops->put_new(s->self, MARKER, text, strlen(text), err);
    free(text);
    /* Another one was faster, or this storage cannot tell: what lies there now decides. */
    return st == MAG_OK || st == MAG_CONFLICT ? compare_marker(s, uuid, err) : st;
}

enum mag_status storage_check(struct storage *s, const char *uuid, struct mag_err *err)
{
    struct mag_err why = {0};
    enum mag_status st = compare_marker(s, uuid, &why);
    if (st == MAG_NOTFOUND) {
        return mag_fail(
            err, MAG_NOTFOUND,
            "storage %s: the driver's marker does not lie there; this host must reach the same "
            "storage as the driver (start the driver with --storage on a shared folder or server)",
            s->url);
    }
    if (st == MAG_OK && s->ops->ready != NULL) {
        return s->ops->ready(s->self, err);
    }
    return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
}

/* ---- URIs ---- */

char *storage_uri(const struct storage *s, const char *key)
{
    return xasprintf("%s/%s", s->url, key);
}

char *storage_key_of(const struct storage *s, const char *uri)
{
    size_t n = strlen(s->url);
    const char *key = NULL;
    if (strncmp(uri, s->url, n) == 0 && uri[n] == '/') {
        key = uri + n + 1;
    } else {
        /* The storage was moved since: the part below its root is still the same. */
        const char *at = strstr(uri, "/experiments/");
        key = at != NULL ? at + 1 : NULL;
    }
    return key != NULL && storage_key_is_sound(key) ? xstrdup(key) : NULL;
}
