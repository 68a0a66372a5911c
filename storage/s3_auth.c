/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an S3 server is and who we are there: the variables and files of the AWS tools. libcurl
 * signs (SigV4); the digest of the body, which the signature covers, is given by us.
 */
#include "storage/s3.h"

#include "base/alloc.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1 << 20)

/* `key` of the profile in ~/.aws/NAME or the file that `variable` names; malloc'ed or NULL. */
static char *from_file(const struct settings *s, const char *variable, const char *name,
                       const char *key)
{
    const char *file = settings_get(s, variable);
    const char *home = getenv("HOME");
    const char *profile = settings_get(s, "AWS_PROFILE");
    char *path =
        file != NULL ? xstrdup(file) : xasprintf("%s/.aws/%s", home != NULL ? home : "", name);
    char *text = NULL;
    size_t len = 0;
    char *value = NULL;
    profile = profile != NULL ? profile : "default";
    if (mjson_read_file(path, FILE_MAX, &text, &len, NULL) == MAG_OK) {
        value = settings_ini(text, profile, key);
        if (value == NULL) {
            char *section = xasprintf("profile %s", profile); /* so in ~/.aws/config */
            value = settings_ini(text, section, key);
            free(section);
        }
        explicit_bzero(text, len);
    }
    free(text);
    free(path);
    return value;
}

static void replace(char **at, char *value_take)
{
    if (*at != NULL) {
        explicit_bzero(*at, strlen(*at));
    }
    free(*at);
    *at = value_take;
}

static bool load_credentials(struct s3 *s)
{
    const char *id = settings_get(&s->settings, "AWS_ACCESS_KEY_ID");
    const char *secret = settings_get(&s->settings, "AWS_SECRET_ACCESS_KEY");
    const char *token = settings_get(&s->settings, "AWS_SESSION_TOKEN");
    if (id != NULL && secret != NULL) {
        replace(&s->web.user, xstrdup(id));
        replace(&s->web.password, xstrdup(secret));
        replace(&s->token, token != NULL ? xstrdup(token) : NULL);
        return true;
    }
    static const char var[] = "AWS_SHARED_CREDENTIALS_FILE";
    replace(&s->web.user, from_file(&s->settings, var, "credentials", "aws_access_key_id"));
    replace(&s->web.password, from_file(&s->settings, var, "credentials", "aws_secret_access_key"));
    replace(&s->token, from_file(&s->settings, var, "credentials", "aws_session_token"));
    return s->web.user != NULL && s->web.password != NULL;
}

bool s3_renew(struct s3 *s)
{
    char *old = xasprintf("%s%s", s->web.user, s->token != NULL ? s->token : "");
    bool again = s->failed_key != NULL && strcmp(s->failed_key, old) == 0;
    replace(&s->failed_key, old);
    if (again || !load_credentials(s)) {
        return false;
    }
    char *now = xasprintf("%s%s", s->web.user, s->token != NULL ? s->token : "");
    bool changed = strcmp(now, s->failed_key) != 0;
    replace(&now, NULL);
    return changed;
}

static enum mag_status check_endpoint(const char *url, struct mag_err *err)
{
    bool sound = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    const char *host = sound ? strstr(url, "://") + 3 : url;
    return sound && host[0] != '\0' && host[0] != '/' && strpbrk(url, "?# @") == NULL
               ? MAG_OK
               : mag_fail(err, MAG_INVALID,
                          "the S3 endpoint \"%.200s\": expected http://HOST:PORT or https://HOST",
                          url);
}

/* Without an endpoint of one's own it is Amazon's, which wants the bucket in the host's name; where
 * names cannot be made up (one's own server), it stands in the path. */
static enum mag_status place(struct s3 *s, const char *endpoint, struct mag_err *err)
{
    const char *style = settings_get(&s->settings, "MAGPIE_S3_ADDRESSING");
    bool in_path = endpoint != NULL || strchr(s->bucket, '.') != NULL;
    if (style != NULL && strcmp(style, "path") != 0 && strcmp(style, "virtual") != 0) {
        return mag_fail(err, MAG_INVALID, "MAGPIE_S3_ADDRESSING=%.40s: expected path or virtual",
                        style);
    }
    in_path = style != NULL ? strcmp(style, "path") == 0 : in_path;
    char *url =
        endpoint != NULL ? xstrdup(endpoint) : xasprintf("https://s3.%s.amazonaws.com", s->region);
    for (size_t n = strlen(url); n > 0 && url[n - 1] == '/'; n--) {
        url[n - 1] = '\0';
    }
    enum mag_status st = check_endpoint(url, err);
    if (st == MAG_OK && !in_path) {
        const char *host = strstr(url, "://") + 3;
        s->endpoint = xasprintf("%.*s%s.%s", (int)(host - url), url, s->bucket, host);
    } else if (st == MAG_OK) {
        s->endpoint = xstrdup(url);
    }
    s->bucket_in_path = in_path;
    free(url);
    return st;
}

enum mag_status s3_configure(struct s3 *s, struct mag_err *err)
{
    static const char *const endpoints[] = {"MAGPIE_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3",
                                            "AWS_ENDPOINT_URL", NULL};
    static const char *const regions[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
    static const char config[] = "AWS_CONFIG_FILE";
    const char *endpoint = settings_first(&s->settings, endpoints);
    const char *region = settings_first(&s->settings, regions);
    char *own = endpoint == NULL ? from_file(&s->settings, config, "config", "endpoint_url") : NULL;
    s->region =
        region != NULL ? xstrdup(region) : from_file(&s->settings, config, "config", "region");
    if (s->region == NULL) {
        s->region = xstrdup("us-east-1");
    }
    enum mag_status st = place(s, endpoint != NULL ? endpoint : own, err);
    free(own);
    if (st == MAG_OK && !load_credentials(s)) {
        st = mag_fail(err, MAG_INVALID,
                      "no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                      "write them into ~/.aws/credentials, section [%s]",
                      settings_get(&s->settings, "AWS_PROFILE") != NULL
                          ? settings_get(&s->settings, "AWS_PROFILE")
                          : "default");
    }
    s->web.sigv4 = xasprintf("aws:amz:%s:s3", s->region);
    return st;
}

void s3_auth_fini(struct s3 *s)
{
    replace(&s->token, NULL);
    replace(&s->failed_key, NULL);
    free(s->endpoint);
    free(s->region);
}

/* ---- what web.c asks ---- */

static enum mag_status prepare(void *self, const struct web_call *call, char **ret_url,
                               struct curl_slist **headers, struct mag_err *err)
{
    struct s3 *s = self;
    (void)err;
    *ret_url = xasprintf("%s%s", s->endpoint, call->path);
    if (call->fd < 0) { /* of a piece of a file the caller knows it */
        char sha[STORAGE_SHA256_HEX];
        storage_sha256(call->bytes != NULL ? call->bytes : "", call->len, sha);
        char *line = xasprintf("x-amz-content-sha256: %s", sha);
        *headers = curl_slist_append(*headers, line);
        free(line);
    }
    if (s->token != NULL) {
        char *line = xasprintf("x-amz-security-token: %s", s->token);
        *headers = curl_slist_append(*headers, line);
        explicit_bzero(line, strlen(line));
        free(line);
    }
    return MAG_OK;
}

static void read_error(const struct web_reply *r, struct s3_doc *doc)
{
    if (r->body.len > 0 && s3_xml_parse(r->body.data, r->body.len, doc, NULL) != MAG_OK) {
        s3_doc_fini(doc);
    }
}

static enum web_verdict judge(void *self, const struct web_call *call, const struct web_reply *r)
{
    static const char *const passing[] = {"RequestTimeout",   "SlowDown",           "InternalError",
                                          "OperationAborted", "ServiceUnavailable", NULL};
    static const char *const damaged[] = {"XAmzContentSHA256Mismatch", "BadDigest", NULL};
    static const char *const stale[] = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", NULL};
    struct s3_doc doc = {0};
    enum web_verdict v = WEB_TAKE;
    (void)call;
    if (r->status < 400) {
        return WEB_TAKE;
    }
    read_error(r, &doc);
    for (int i = 0; doc.code != NULL && passing[i] != NULL; i++) {
        v = strcmp(doc.code, passing[i]) == 0 ? WEB_AGAIN : v;
    }
    for (int i = 0; doc.code != NULL && damaged[i] != NULL; i++) {
        v = strcmp(doc.code, damaged[i]) == 0 ? WEB_NOW : v;
    }
    for (int i = 0; doc.code != NULL && stale[i] != NULL; i++) {
        if (strcmp(doc.code, stale[i]) == 0 && s3_renew(self)) {
            v = WEB_NOW;
        }
    }
    s3_doc_fini(&doc);
    return v;
}

static const char *remedy_of(const char *code, long status)
{
    static const struct {
        const char *code, *text;
    } table[] = {
        {"NoSuchBucket", "make the bucket first, or mend its name"},
        {"InvalidAccessKeyId", "the server does not know AWS_ACCESS_KEY_ID"},
        {"SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY or the region (AWS_REGION) is wrong"},
        {"ExpiredToken", "the session has expired: get new credentials"},
        {"RequestTimeTooSkewed", "this host's clock is wrong: set it (NTP)"},
        {"AuthorizationHeaderMalformed", "the region (AWS_REGION) is wrong"},
        {"AccessDenied", "these credentials may not do this in this bucket"},
        {"PermanentRedirect", "the bucket is in another region: set AWS_REGION"},
        {"EntityTooLarge", "the server takes no object of that size"},
        {"XAmzContentSHA256Mismatch", "the file changed while it was sent, or the way damages it"},
        {"BadDigest", "the file changed while it was sent, or the way damages it"},
    };
    for (size_t i = 0; code != NULL && i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(code, table[i].code) == 0) {
            return table[i].text;
        }
    }
    return status == 301 || status == 307 ? "the bucket is in another region: set AWS_REGION"
           : status == 401 || status == 403
               ? "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's rights"
           : status == 507 ? "the storage is full"
                           : "";
}

static void explain(void *self, const struct web_reply *r, struct buf *detail, struct buf *remedy)
{
    struct s3_doc doc = {0};
    (void)self;
    read_error(r, &doc);
    if (doc.code != NULL) {
        buf_addf(detail, "%s%s%s", doc.code, doc.message != NULL ? ": " : "",
                 doc.message != NULL ? doc.message : "");
    }
    buf_adds(remedy, remedy_of(doc.code, r->status));
    s3_doc_fini(&doc);
}

const struct web_scheme s3_web = {.prepare = prepare, .judge = judge, .explain = explain};
