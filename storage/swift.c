/* SPDX-License-Identifier: Apache-2.0
 *
 * The `swift` scheme: swift://container/prefix at OpenStack. An object appears whole with the
 * answer to its PUT; a large one is written in pieces that no listing shows, and appears with the
 * manifest (SLO) that ties them together. The server checks every piece against its MD5.
 */
#include "storage/swift.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

char *swift_name(const struct swift *s, const char *key)
{
    return s->prefix[0] == '\0' ? xstrdup(key) : xasprintf("%s/%s", s->prefix, key);
}

char *swift_path(const struct swift *s, const char *name)
{
    struct buf b = {0};
    buf_addc(&b, '/');
    web_encode(&b, s->container, false);
    buf_addc(&b, '/');
    web_encode(&b, name, true);
    return buf_take(&b);
}

char *swift_parts(const char *name)
{
    const char *slash = strrchr(name, '/');
    int dir = slash != NULL ? (int)(slash - name) + 1 : 0;
    return xasprintf("%.*s.%s.parts/", dir, name, name + dir);
}

/* ---- what web.c asks ---- */

static enum mag_status prepare(void *self, const struct web_call *call, char **ret_url,
                               struct curl_slist **headers, struct mag_err *err)
{
    struct swift *s = self;
    enum mag_status st = swift_authenticate(s, err);
    if (st == MAG_OK) {
        *ret_url = xasprintf("%s%s", s->root, call->path);
        char *line = xasprintf("X-Auth-Token: %s", s->token);
        *headers = curl_slist_append(*headers, line);
        explicit_bzero(line, strlen(line));
        free(line);
    }
    return st;
}

static enum web_verdict judge(void *self, const struct web_call *call, const struct web_reply *r)
{
    (void)call;
    if (r->status == 401 && swift_drop_token(self)) {
        return WEB_NOW; /* tokens run out */
    }
    if (r->status == 422) {
        return WEB_NOW; /* not what was sent: the way damages it, or the file changes */
    }
    return r->status == 498 ? WEB_AGAIN : WEB_TAKE; /* too many requests, says Swift */
}

static void explain(void *self, const struct web_reply *r, struct buf *detail, struct buf *remedy)
{
    const struct swift *s = self;
    const char *text = r->body.data != NULL ? r->body.data : "";
    if (r->body.len > 0 && text[0] != '<') {
        buf_add(detail, text, strcspn(text, "\r\n"));
    }
    if (r->status == 404) {
        buf_addf(remedy, "is there a container \"%.100s\"? (swift post %.100s)", s->container,
                 s->container);
    } else if (r->status == 401 || r->status == 403) {
        buf_adds(remedy, "this user may not do that in this container; check its rights");
    } else if (r->status == 413 || r->status == 507) {
        buf_adds(remedy, "the quota is used up or the storage full");
    } else if (r->status == 422) {
        buf_adds(remedy, "the file changed while it was sent, or the way damages it");
    }
}

static const struct web_scheme swift_web = {.prepare = prepare, .judge = judge, .explain = explain};

/* ---- opening ---- */

static enum mag_status swift_init(void *self, const char *rest, char **ret_url, struct mag_err *err)
{
    struct swift *s = self;
    if (!storage_split(rest, &s->container, &s->prefix)) {
        return mag_fail(err, MAG_INVALID, "storage swift:%.200s: expected swift://CONTAINER/PREFIX",
                        rest);
    }
    enum mag_status st = settings_init(&s->settings, err);
    if (st == MAG_OK) {
        st = web_init(&s->web, &swift_web, s, &s->settings, err);
    }
    if (st == MAG_OK) {
        st = pieces_setting(&s->settings, &s->piece, err);
    }
    if (st == MAG_OK) {
        st = names_setting(&s->settings, &s->page, err);
    }
    if (st == MAG_OK) {
        st = swift_configure(s, err);
    }
    if (st == MAG_OK) {
        *ret_url =
            xasprintf("swift://%s%s%s", s->container, s->prefix[0] != '\0' ? "/" : "", s->prefix);
    }
    return st;
}

static void swift_fini(void *self)
{
    struct swift *s = self;
    web_fini(&s->web);
    swift_auth_fini(s);
    settings_fini(&s->settings);
    free(s->container);
    free(s->prefix);
}

static void swift_cancel(void *self)
{
    struct swift *s = self;
    web_cancel(&s->web);
    web_cancel(&s->auth);
}

static void swift_patience(void *self, int64_t ms)
{
    struct swift *s = self;
    web_set_patience(&s->web, ms);
    web_set_patience(&s->auth, ms);
}

/* ---- objects ---- */

static char *path_of(const struct swift *s, const char *key)
{
    char *name = swift_name(s, key);
    char *path = swift_path(s, name);
    free(name);
    return path;
}

/* A PUT finds nothing only when there is no container. */
static enum mag_status swift_send(struct swift *s, const struct web_call *call, struct mag_err *err)
{
    struct web_reply r = {0};
    enum mag_status st = web_expect(&s->web, call, &r, err);
    web_reply_fini(&r);
    return st == MAG_NOTFOUND ? MAG_INVALID : st;
}

static enum mag_status swift_put(void *self, const char *key, const void *bytes, size_t len,
                                 bool durable, struct mag_err *err)
{
    char *path = path_of(self, key);
    (void)durable; /* an answered PUT is */
    const struct web_call call = WEB_CALL(.method = "PUT", .path = path, .bytes = bytes, .len = len,
                                          .headers = {"Content-Type: application/octet-stream"});
    enum mag_status st = swift_send(self, &call, err);
    free(path);
    return st;
}

static enum mag_status swift_put_new(void *self, const char *key, const void *bytes, size_t len,
                                     struct mag_err *err)
{
    char *path = path_of(self, key);
    const struct web_call call =
        WEB_CALL(.method = "PUT", .path = path, .bytes = bytes, .len = len,
                 .headers = {"Content-Type: application/octet-stream", "If-None-Match: *"});
    enum mag_status st = swift_send(self, &call, err);
    free(path);
    return st;
}

static enum mag_status swift_get(void *self, const char *key, size_t max, char **ret,
                                 size_t *ret_len, struct mag_err *err)
{
    struct swift *s = self;
    struct web_reply r = {0};
    char *path = path_of(s, key);
    enum mag_status st = web_get_whole(&s->web, path, max, &r, ret, ret_len, err);
    web_reply_fini(&r);
    free(path);
    return st;
}

static enum mag_status swift_read(void *self, const char *key, int64_t offset, size_t max,
                                  struct storage_part *ret, struct mag_err *err)
{
    struct swift *s = self;
    struct web_reply r = {0};
    char *path = path_of(s, key);
    enum mag_status st = web_read_part(&s->web, path, offset, max, &r, ret, err);
    web_reply_fini(&r);
    free(path);
    return st;
}

static enum mag_status swift_stat(void *self, const char *key, struct storage_stat *ret,
                                  struct mag_err *err)
{
    struct swift *s = self;
    char *path = path_of(s, key);
    enum mag_status st = web_stat(&s->web, path, ret, err);
    free(path);
    return st;
}

static enum mag_status swift_get_file(void *self, const char *key, const char *path,
                                      int64_t *ret_size, char sha256[STORAGE_SHA256_HEX],
                                      struct mag_err *err)
{
    struct swift *s = self;
    char *at = path_of(s, key);
    struct web_range range = {.path = at};
    enum mag_status st = pieces_fetch(&s->web, path, web_aim_range, &range, ret_size, sha256, err);
    free(at);
    return st;
}

/* ---- files of any size ---- */

static enum mag_status send_piece(struct swift *s, const struct pieces *p,
                                  const struct piece *piece, const char *path, struct mag_err *err)
{
    char *etag = xasprintf("ETag: %s", piece->md5);
    const struct web_call call = WEB_CALL_FROM(
        p->fd, .method = "PUT", .path = path, .offset = piece->offset, .size = piece->size,
        .headers = {etag, "Content-Type: application/octet-stream"});
    enum mag_status st = swift_send(s, &call, err);
    free(etag);
    return st;
}

static enum mag_status send_pieces(struct swift *s, struct pieces *p, const char *parts,
                                   json_t *manifest, struct mag_err *err)
{
    for (;;) {
        struct piece piece;
        enum mag_status st = pieces_next(p, &piece, err);
        if (st != MAG_OK || piece.number == 0) {
            return st;
        }
        char *name = xasprintf("%s%06d", parts, piece.number);
        char *path = swift_path(s, name);
        st = send_piece(s, p, &piece, path, err);
        char *entry = xasprintf("/%s/%s", s->container, name);
        (void)json_array_append_new(manifest,
                                    json_pack("{s:s, s:s, s:I}", "path", entry, "etag", piece.md5,
                                              "size_bytes", (json_int_t)piece.size));
        free(entry);
        free(path);
        free(name);
        if (st != MAG_OK) {
            return st;
        }
        (void)fault_hit("storage.piece");
    }
}

/* A server without SLO would have stored the list itself under the object's name. */
static enum mag_status check_large(struct swift *s, const char *path, int64_t size,
                                   struct mag_err *err)
{
    struct web_reply r = {0};
    const struct web_call head = WEB_CALL(.method = "HEAD", .path = path);
    enum mag_status st = web_expect(&s->web, &head, &r, err);
    if (st == MAG_OK && web_length(&r) != size) {
        const struct web_call away = WEB_CALL(.method = "DELETE", .path = path);
        if (web_run(&s->web, &away, &r, NULL) != MAG_OK) {
            /* no matter: no manifest.json will name it */
        }
        st = mag_fail(err, MAG_UNSUPPORTED,
                      "this Swift has no static large objects (SLO): set MAGPIE_STORAGE_PART_MB to "
                      "more than %lld MB, at most 4096",
                      (long long)(size >> 20));
    }
    web_reply_fini(&r);
    return st;
}

static enum mag_status in_pieces(struct swift *s, struct pieces *p, const char *name,
                                 struct mag_err *err)
{
    char *parts = swift_parts(name);
    char *path = swift_path(s, name);
    char *put = xasprintf("%s?multipart-manifest=put", path);
    json_t *manifest = json_array();
    enum mag_status st = send_pieces(s, p, parts, manifest, err);
    if (st == MAG_OK) {
        char *text = mjson_dump(manifest);
        const struct web_call call =
            WEB_CALL(.method = "PUT", .path = put, .bytes = text, .len = strlen(text),
                     .headers = {"Content-Type: application/octet-stream"});
        st = swift_send(s, &call, err);
        free(text);
    }
    if (st == MAG_OK) {
        st = check_large(s, path, p->size, err);
    }
    json_decref(manifest);
    free(put);
    free(path);
    free(parts);
    return st;
}

static enum mag_status swift_put_file(void *self, const char *key, const char *from,
                                      int64_t *ret_size, char sha256[STORAGE_SHA256_HEX],
                                      struct mag_err *err)
{
    struct swift *s = self;
    struct pieces p;
    char *name = swift_name(s, key);
    enum mag_status st = pieces_open(&p, from, s->piece, err);
    if (st == MAG_OK && pieces_is_one(&p)) {
        struct piece piece;
        char *path = swift_path(s, name);
        st = pieces_next(&p, &piece, err);
        if (st == MAG_OK) {
            st = send_piece(s, &p, &piece, path, err);
        }
        free(path);
    } else if (st == MAG_OK) {
        st = in_pieces(s, &p, name, err);
    }
    if (st == MAG_OK) {
        *ret_size = p.size;
        pieces_sha256(&p, sha256);
    }
    pieces_close(&p);
    free(name);
    return st;
}

const struct storage_ops storage_swift_ops = {
    .scheme = "swift",
    .state_size = sizeof(struct swift),
    .init = swift_init,
    .fini = swift_fini,
    .patience = swift_patience,
    .cancel = swift_cancel,
    .put = swift_put,
    .put_new = swift_put_new,
    .get = swift_get,
    .read = swift_read,
    .remove = swift_remove,
    .list = swift_list,
    .put_file = swift_put_file,
    .stat = swift_stat,
    .get_file = swift_get_file,
};
