/* SPDX-License-Identifier: Apache-2.0
 *
 * The `hdfs` scheme: hdfs://namenode:port/path through WebHDFS (or an HttpFS gateway). A file is
 * written under a name of its own and renamed, so a reader sees all of it or none.
 */
#include "storage/hdfs.h"

#include "base/alloc.h"
#include "base/json.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PORT_HTTP "9870"
#define PORT_HTTPS "9871"

char *hdfs_file(const struct hdfs *h, const char *key)
{
    return xasprintf("%s/%s", strcmp(h->root, "/") == 0 ? "" : h->root, key);
}

char *hdfs_path(const char *file, const char *op)
{
    struct buf b = {0};
    buf_adds(&b, "/webhdfs/v1");
    web_encode(&b, file, true);
    buf_addf(&b, "?op=%s", op);
    return buf_take(&b);
}

/* ---- what web.c asks ---- */

static enum mag_status prepare(void *self, const struct web_call *call, char **ret_url,
                               struct curl_slist **headers, struct mag_err *err)
{
    struct hdfs *h = self;
    struct buf b = {0};
    (void)headers;
    (void)err;
    buf_addf(&b, "%s%s&%s=", h->namenodes[h->at], call->path,
             h->delegation != NULL ? "delegation" : "user.name");
    web_encode(&b, h->delegation != NULL ? h->delegation : h->user, false);
    *ret_url = buf_take(&b);
    return MAG_OK;
}

static json_t *remote_exception(const struct web_reply *r)
{
    json_t *doc = NULL;
    if (r->body.len == 0 || mjson_parse(r->body.data, r->body.len, &doc, NULL) != MAG_OK) {
        return NULL;
    }
    json_t *e = json_incref(json_object_get(doc, "RemoteException"));
    json_decref(doc);
    return e;
}

char *hdfs_exception(const struct web_reply *r)
{
    json_t *e = remote_exception(r);
    const char *name = json_string_value(json_object_get(e, "exception"));
    char *copy = name != NULL ? xstrdup(name) : NULL;
    json_decref(e);
    return copy;
}

static void next_namenode(void *self)
{
    struct hdfs *h = self;
    h->at = (h->at + 1) % h->n_namenodes;
}

static enum web_verdict judge(void *self, const struct web_call *call, const struct web_reply *r)
{
    static const char *const passing[] = {"StandbyException",
                                          "SafeModeException",
                                          "RetriableException",
                                          "RecoveryInProgressException",
                                          "AlreadyBeingCreatedException",
                                          NULL};
    (void)call;
    if (r->status < 400) {
        return WEB_TAKE;
    }
    json_t *e = remote_exception(r);
    const char *name = json_string_value(json_object_get(e, "exception"));
    const char *text = json_string_value(json_object_get(e, "message"));
    enum web_verdict v = WEB_TAKE;
    for (int i = 0; name != NULL && passing[i] != NULL; i++) {
        v = strcmp(name, passing[i]) == 0 ? WEB_AGAIN : v;
    }
    if (text != NULL && strstr(text, "could only be written to") != NULL) {
        v = WEB_AGAIN; /* no datanode takes blocks at the moment */
    }
    if (name != NULL && strcmp(name, "StandbyException") == 0) {
        next_namenode(self);
    }
    json_decref(e);
    return v;
}

static void explain(void *self, const struct web_reply *r, struct buf *detail, struct buf *remedy)
{
    const struct hdfs *h = self;
    json_t *e = remote_exception(r);
    const char *name = json_string_value(json_object_get(e, "exception"));
    const char *text = json_string_value(json_object_get(e, "message"));
    if (name != NULL) {
        buf_addf(detail, "%s: %.*s", name, (int)(text != NULL ? strcspn(text, "\n") : 0),
                 text != NULL ? text : "");
    }
    if (r->status == 401) {
        buf_adds(remedy, h->delegation != NULL
                             ? "the delegation token is not taken: get a new one"
                             : "this cluster wants Kerberos: give a delegation token in "
                               "MAGPIE_HDFS_DELEGATION_TOKEN");
    } else if (name != NULL && strcmp(name, "AccessControlException") == 0) {
        buf_addf(remedy, "may %s write there? (MAGPIE_HDFS_USER, hdfs dfs -chown)",
                 h->user != NULL ? h->user : "the token's owner");
    } else if (name != NULL && strstr(name, "QuotaExceeded") != NULL) {
        buf_adds(remedy, "the folder's quota is used up");
    } else if (r->status == 404 && name == NULL) {
        buf_adds(remedy, "is this WebHDFS? Its port is the namenode's HTTP port (" PORT_HTTP
                         "), not that of its RPC (8020, 9000)");
    }
    json_decref(e);
}

const struct web_scheme hdfs_web = {
    .prepare = prepare, .judge = judge, .unreachable = next_namenode, .explain = explain};

enum mag_status hdfs_ask(struct hdfs *h, const struct web_call *call, json_t **ret,
                         struct mag_err *err)
{
    struct web_reply r = {0};
    json_t *doc = NULL;
    enum mag_status st = web_expect(&h->web, call, &r, err);
    if (st == MAG_OK && r.body.len > 0) {
        st = mjson_parse(r.body.data, r.body.len, &doc, err);
    }
    if (st == MAG_OK && ret != NULL) {
        *ret = doc != NULL ? doc : json_object();
        doc = NULL;
    }
    json_decref(doc);
    web_reply_fini(&r);
    return st;
}

/* ---- opening ---- */

static enum mag_status add_namenode(struct hdfs *h, const char *url, size_t n, struct mag_err *err)
{
    while (n > 0 && url[n - 1] == '/') {
        n--;
    }
    bool sound =
        (n > 7 && strncmp(url, "http://", 7) == 0) || (n > 8 && strncmp(url, "https://", 8) == 0);
    if (!sound || h->n_namenodes == HDFS_NAMENODES_MAX) {
        return mag_fail(err, MAG_INVALID,
                        "MAGPIE_WEBHDFS_ENDPOINT: expected http://HOST:PORT[,http://HOST:PORT], at "
                        "most %d",
                        HDFS_NAMENODES_MAX);
    }
    h->namenodes[h->n_namenodes++] = xstrndup(url, n);
    return MAG_OK;
}

static enum mag_status find_namenodes(struct hdfs *h, const char *authority, bool tls,
                                      struct mag_err *err)
{
    const char *given = settings_get(&h->settings, "MAGPIE_WEBHDFS_ENDPOINT");
    enum mag_status st = MAG_OK;
    for (const char *p = given; p != NULL && *p != '\0' && st == MAG_OK;) {
        size_t n = strcspn(p, ",");
        st = add_namenode(h, p, n, err);
        p += p[n] == ',' ? n + 1 : n;
    }
    if (given == NULL && authority[0] == '\0') {
        return mag_fail(err, MAG_INVALID,
                        "storage hdfs: name the namenode, hdfs://HOST:" PORT_HTTP
                        "/PATH, or set MAGPIE_WEBHDFS_ENDPOINT");
    }
    if (given == NULL) {
        bool port = strchr(authority, ':') != NULL;
        h->namenodes[h->n_namenodes++] = xasprintf("%s://%s%s", tls ? "https" : "http", authority,
                                                   port  ? ""
                                                   : tls ? ":" PORT_HTTPS
                                                         : ":" PORT_HTTP);
    }
    return st;
}

static void find_user(struct hdfs *h)
{
    static const char *const users[] = {"MAGPIE_HDFS_USER", "HADOOP_USER_NAME", NULL};
    static const char *const tokens[] = {"MAGPIE_HDFS_DELEGATION_TOKEN", "HADOOP_TOKEN", NULL};
    const char *token = settings_first(&h->settings, tokens);
    const char *user = settings_first(&h->settings, users);
    if (token != NULL) {
        h->delegation = xstrdup(token);
        return;
    }
    struct passwd entry, *found = NULL;
    char text[4096];
    if (user == NULL && getpwuid_r(geteuid(), &entry, text, sizeof(text), &found) == 0 &&
        found != NULL) {
        user = found->pw_name;
    }
    h->user = xstrdup(user != NULL ? user : "magpie");
}

static enum mag_status open_root(struct hdfs *h, const char *scheme, const char *rest, bool tls,
                                 char **ret_url, struct mag_err *err)
{
    const char *authority = strncmp(rest, "//", 2) == 0 ? rest + 2 : "";
    size_t n = strcspn(authority, "/");
    const char *path = authority + n;
    char *key = NULL;
    while (*path == '/') {
        path++;
    }
    key = xstrdup(path);
    for (size_t len = strlen(key); len > 0 && key[len - 1] == '/'; len--) {
        key[len - 1] = '\0';
    }
    if (strncmp(rest, "//", 2) != 0 || strcspn(authority, "@?# ") < n ||
        (key[0] != '\0' && !storage_key_is_sound(key))) {
        free(key);
        return mag_fail(err, MAG_INVALID, "storage %s:%.200s: expected %s://NAMENODE:PORT/PATH",
                        scheme, rest, scheme);
    }
    char *host = xstrndup(authority, n);
    enum mag_status st = find_namenodes(h, host, tls, err);
    if (st == MAG_OK) {
        h->root = xasprintf("/%s", key);
        *ret_url = xasprintf("%s://%s%s", scheme, host, key[0] != '\0' ? h->root : "");
    }
    free(host);
    free(key);
    return st;
}

static enum mag_status init(void *self, const char *scheme, const char *rest, bool tls,
                            char **ret_url, struct mag_err *err)
{
    struct hdfs *h = self;
    enum mag_status st = settings_init(&h->settings, err);
    if (st == MAG_OK) {
        st = web_init(&h->web, &hdfs_web, h, &h->settings, err);
    }
    if (st == MAG_OK) {
        st = pieces_setting(&h->settings, &h->piece, err);
    }
    if (st == MAG_OK) {
        find_user(h);
        st = open_root(h, scheme, rest, tls, ret_url, err);
    }
    if (getrandom(&h->id, sizeof(h->id), 0) != (ssize_t)sizeof(h->id)) {
        h->id = (uint64_t)getpid();
    }
    return st;
}

static enum mag_status hdfs_init(void *self, const char *rest, char **ret_url, struct mag_err *err)
{
    return init(self, "hdfs", rest, false, ret_url, err);
}

static enum mag_status webhdfs_init(void *self, const char *rest, char **ret_url,
                                    struct mag_err *err)
{
    return init(self, "webhdfs", rest, false, ret_url, err);
}

static enum mag_status swebhdfs_init(void *self, const char *rest, char **ret_url,
                                     struct mag_err *err)
{
    return init(self, "swebhdfs", rest, true, ret_url, err);
}

static void hdfs_fini(void *self)
{
    struct hdfs *h = self;
    web_fini(&h->web);
    for (int i = 0; i < h->n_namenodes; i++) {
        free(h->namenodes[i]);
    }
    if (h->delegation != NULL) {
        explicit_bzero(h->delegation, strlen(h->delegation));
    }
    free(h->delegation);
    free(h->user);
    free(h->root);
    settings_fini(&h->settings);
}

static void hdfs_cancel(void *self)
{
    struct hdfs *h = self;
    web_cancel(&h->web);
}

static void hdfs_patience(void *self, int64_t ms)
{
    struct hdfs *h = self;
    web_set_patience(&h->web, ms);
}

/* ---- objects ---- */

static enum mag_status put(struct hdfs *h, const char *key, const void *bytes, size_t len,
                           bool fresh, struct mag_err *err)
{
    char *file = hdfs_file(h, key);
    char *tmp = hdfs_beside(h, file);
    const struct web_call body = WEB_CALL(.bytes = bytes, .len = len);
    enum mag_status st = hdfs_write(h, tmp, &body, err);
    if (st == MAG_OK) {
        st = hdfs_rename(h, tmp, file, (int64_t)len, fresh, err);
    }
    if (st != MAG_OK && hdfs_delete(h, tmp, NULL) != MAG_OK) {
        /* no matter: no reader looks at such names, and it goes with its folder */
    }
    free(tmp);
    free(file);
    return st;
}

static enum mag_status hdfs_put(void *self, const char *key, const void *bytes, size_t len,
                                bool durable, struct mag_err *err)
{
    (void)durable; /* a closed file has its copies */
    return put(self, key, bytes, len, false, err);
}

static enum mag_status hdfs_put_new(void *self, const char *key, const void *bytes, size_t len,
                                    struct mag_err *err)
{
    return put(self, key, bytes, len, true, err);
}

static enum mag_status hdfs_get(void *self, const char *key, size_t max, char **ret,
                                size_t *ret_len, struct mag_err *err)
{
    struct hdfs *h = self;
    struct web_reply r = {0};
    char *file = hdfs_file(h, key);
    char *path = hdfs_path(file, "OPEN");
    enum mag_status st = web_get_whole(&h->web, path, max, &r, ret, ret_len, err);
    web_reply_fini(&r);
    free(path);
    free(file);
    return st;
}

static enum mag_status read_range(struct hdfs *h, const char *file, struct storage_part *ret,
                                  size_t len, struct mag_err *err)
{
    struct web_reply r = {0};
    char *path = hdfs_path(file, "OPEN");
    char *at = xasprintf("%s&offset=%lld&length=%zu", path, (long long)ret->offset, len);
    const struct web_call call =
        WEB_CALL(.method = "GET", .path = at, .follow = true, .max = len > 0 ? len : 1);
    enum mag_status st = web_expect(&h->web, &call, &r, err);
    if (st == MAG_OK) {
        ret->len = r.body.len;
        ret->bytes = buf_take(&r.body);
    }
    web_reply_fini(&r);
    free(at);
    free(path);
    return st;
}

static enum mag_status hdfs_read(void *self, const char *key, int64_t offset, size_t max,
                                 struct storage_part *ret, struct mag_err *err)
{
    struct hdfs *h = self;
    struct storage_part part = {0};
    char *file = hdfs_file(h, key);
    enum mag_status st = hdfs_status(h, file, &part.size, err);
    if (st == MAG_OK) {
        part.offset = offset >= 0                ? offset
                      : part.size > (int64_t)max ? part.size - (int64_t)max
                                                 : 0;
        int64_t rest = part.size > part.offset ? part.size - part.offset : 0;
        size_t len = rest < (int64_t)max ? (size_t)rest : max;
        if (len > 0) {
            st = read_range(h, file, &part, len, err);
        } else {
            part.bytes = xstrdup("");
        }
    }
    if (st == MAG_OK) {
        *ret = part;
    }
    free(file);
    return st;
}

static enum mag_status hdfs_remove(void *self, const char *key, struct mag_err *err)
{
    char *file = hdfs_file(self, key);
    enum mag_status st = hdfs_delete(self, file, err);
    free(file);
    return st;
}

struct aim {
    char *path, *at;
};

static void aim_at(void *arg, int64_t offset, struct web_call *call)
{
    struct aim *a = arg;
    free(a->at);
    a->at = xasprintf("%s&offset=%lld", a->path, (long long)offset);
    call->path = a->at;
    call->follow = true;
}

static enum mag_status hdfs_stat(void *self, const char *key, struct storage_stat *ret,
                                 struct mag_err *err)
{
    struct hdfs *h = self;
    char *file = hdfs_file(h, key);
    enum mag_status st = hdfs_stat_file(h, file, ret, err);
    free(file);
    return st;
}

static enum mag_status hdfs_get_file(void *self, const char *key, const char *path,
                                     int64_t *ret_size, char sha256[STORAGE_SHA256_HEX],
                                     struct mag_err *err)
{
    struct hdfs *h = self;
    char *file = hdfs_file(h, key);
    struct aim a = {.path = hdfs_path(file, "OPEN")};
    enum mag_status st = pieces_fetch(&h->web, path, aim_at, &a, ret_size, sha256, err);
    free(a.at);
    free(a.path);
    free(file);
    return st;
}

#define HDFS_OPS(name, start)                                                                      \
    {                                                                                              \
        .scheme = (name), .state_size = sizeof(struct hdfs), .init = (start), .fini = hdfs_fini,   \
        .patience = hdfs_patience, .cancel = hdfs_cancel, .put = hdfs_put,                         \
        .put_new = hdfs_put_new, .get = hdfs_get, .read = hdfs_read, .remove = hdfs_remove,        \
        .list = hdfs_list, .put_file = hdfs_put_file, .get_file = hdfs_get_file, .stat = hdfs_stat,                   \
    }

const struct storage_ops storage_hdfs_ops = HDFS_OPS("hdfs", hdfs_init);
const struct storage_ops storage_webhdfs_ops = HDFS_OPS("webhdfs", webhdfs_init);
const struct storage_ops storage_swebhdfs_ops = HDFS_OPS("swebhdfs", swebhdfs_init);
