/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include "base/alloc.h"
#include "cli/cmd.h"
#include "cli/datadir.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CONNECT_TIMEOUT_S 10L
#define CALL_TIMEOUT_S 120L
#define PAGE 1000

/* ---- where the driver is ---- */

static char *address_of(const char *dir)
{
    char *line = datadir_line(dir, "address");
    char *url = datadir_field(line, "http");
    free(line);
    return url;
}

static void find_base(struct client *c, const char *data)
{
    const char *env = getenv("MAGPIE_URL");
    if (c->url != NULL) {
        c->base = xstrdup(c->url);
    } else if (c->data != NULL && (c->base = address_of(c->data)) != NULL) {
        return;
    } else if (env != NULL && env[0] != '\0') {
        c->base = xstrdup(env);
    } else if ((c->base = address_of(data)) == NULL) {
        c->base = xstrdup(CLIENT_DEFAULT_URL);
    }
    size_t n = strlen(c->base);
    while (n > 0 && c->base[n - 1] == '/') {
        c->base[--n] = '\0';
    }
}

enum mag_status client_open(struct client *c, struct mag_err *err)
{
    char *own = c->data == NULL ? cmd_default_data_dir() : NULL;
    const char *data = c->data != NULL ? c->data : own;
    const char *token = getenv("MAGPIE_TOKEN");
    find_base(c, data);
    c->token = token != NULL && token[0] != '\0' ? xstrdup(token) : datadir_token(data);
    free(own);
    if (strncmp(c->base, "http://", 7) != 0 && strncmp(c->base, "https://", 8) != 0) {
        return mag_fail(err, MAG_INVALID,
                        "the driver's address must begin with http:// or https://, not \"%s\"",
                        c->base);
    }
    c->curl = curl_easy_init();
    return c->curl != NULL ? MAG_OK : mag_fail(err, MAG_NOMEM, "libcurl does not start");
}

void client_close(struct client *c)
{
    if (c->curl != NULL) {
        curl_easy_cleanup(c->curl);
    }
    free(c->base);
    if (c->token != NULL) {
        explicit_bzero(c->token, strlen(c->token));
    }
    free(c->token);
    c->curl = NULL;
    c->base = NULL;
    c->token = NULL;
}

const char *client_base(const struct client *c)
{
    return c->base;
}

/* ---- one exchange ---- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;
    if (b->len + size * n > CLIENT_BODY_MAX) {
        return 0;
    }
    buf_add(b, data, size * n);
    return size * n;
}

static struct curl_slist *headers_for(const struct client *c, bool body)
{
    struct curl_slist *h = curl_slist_append(NULL, "Accept: application/json");
    h = curl_slist_append(h, "Expect:");
    if (body) {
        h = curl_slist_append(h, "Content-Type: application/json");
    }
    if (c->token != NULL) {
        char *line = xasprintf("Authorization: Bearer %s", c->token);
        h = curl_slist_append(h, line);
        explicit_bzero(line, strlen(line));
        free(line);
    }
    return h;
}

/* The one translation of libcurl's failures. */
static enum mag_status curl_fail(const struct client *c, CURLcode code, const char *text,
                                 struct mag_err *err)
{
    if (code == CURLE_COULDNT_CONNECT) {
        return mag_fail(
            err, MAG_CLOSED,
            "no driver answers at %s; start one with 'magpie driver', or name another with --url",
            c->base);
    }
    enum mag_status st = code == CURLE_OPERATION_TIMEDOUT ? MAG_TIMEOUT : MAG_CLOSED;
    return mag_fail(err, st, "%s: %s", c->base, text[0] != '\0' ? text : curl_easy_strerror(code));
}

static enum mag_status exchange(struct client *c, const char *method, const char *path,
                                const char *body, size_t body_len, struct buf *out,
                                long *ret_status, struct mag_err *err)
{
    CURL *h = c->curl;
    char text[CURL_ERROR_SIZE] = "";
    char *url = xasprintf("%s%s", c->base, path);
    struct curl_slist *headers = headers_for(c, body != NULL);
    curl_easy_reset(h);
    (void)curl_easy_setopt(h, CURLOPT_URL, url);
    (void)curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(h, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
    (void)curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    (void)curl_easy_setopt(h, CURLOPT_TIMEOUT, CALL_TIMEOUT_S);
    (void)curl_easy_setopt(h, CURLOPT_ERRORBUFFER, text);
    if (getenv("MAGPIE_CA_BUNDLE") != NULL) {
        (void)curl_easy_setopt(h, CURLOPT_CAINFO, getenv("MAGPIE_CA_BUNDLE"));
    }
    (void)curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(h, CURLOPT_WRITEDATA, out);
    if (body != NULL) {
        (void)curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_len);
        (void)curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
    }
    (void)curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
    CURLcode code = curl_easy_perform(h);
    (void)curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, ret_status);
    curl_slist_free_all(headers);
    free(url);
    return code == CURLE_OK ? MAG_OK : curl_fail(c, code, text, err);
}

static enum mag_status status_code(long http)
{
    switch (http) {
    case 400:
    case 415:
    case 422:
        return MAG_INVALID;
    case 404:
    case 410:
        return MAG_NOTFOUND;
    case 409:
        return MAG_CONFLICT;
    case 413:
    case 429:
        return MAG_LIMIT;
    case 503:
        return MAG_UNSUPPORTED;
    default:
        return MAG_IO;
    }
}

/* The sentence in a problem object (RFC 9457), with the places that it names. */
static void problem_text(const json_t *problem, struct buf *out)
{
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    const char *title = json_string_value(json_object_get(problem, "title"));
    buf_adds(out, detail != NULL ? detail : title != NULL ? title : "");
    const json_t *issues = json_object_get(problem, "issues");
    issues = issues != NULL ? issues : json_object_get(problem, "errors");
    size_t i = 0;
    const json_t *issue = NULL;
    json_array_foreach(issues, i, issue)
    {
        const char *pointer = json_string_value(json_object_get(issue, "pointer"));
        const char *text = json_string_value(json_object_get(issue, "detail"));
        buf_addf(out, "\n  %s: %s", pointer != NULL && pointer[0] != '\0' ? pointer : "(document)",
                 text != NULL ? text : "");
    }
}

static enum mag_status http_fail(const struct client *c, long http, const struct buf *body,
                                 struct mag_err *err)
{
    json_t *problem = NULL;
    if (body->len > 0 && mjson_parse(body->data, body->len, &problem, NULL) != MAG_OK) {
        problem = NULL;
    }
    struct buf text = {0};
    if (json_is_object(problem)) {
        problem_text(problem, &text);
    }
    if (text.len == 0) {
        buf_addf(&text, "%s answered with HTTP status %ld", c->base, http);
    }
    if (http == 401 || http == 403) {
        buf_adds(&text, " (the token is read from the data folder, --data, or $MAGPIE_TOKEN)");
    }
    enum mag_status st = mag_fail(err, status_code(http), "%s", text.data);
    buf_fini(&text);
    json_decref(problem);
    return st;
}

enum mag_status client_call(struct client *c, const char *method, const char *path,
                            const char *body, size_t body_len, json_t **ret, struct mag_err *err)
{
    struct buf out = {0};
    long http = 0;
    json_t *value = NULL;
    enum mag_status st = exchange(c, method, path, body, body_len, &out, &http, err);
    if (st == MAG_OK && (http < 200 || http > 299)) {
        st = http_fail(c, http, &out, err);
    }
    if (st == MAG_OK && out.len > 0) {
        st = mjson_parse(out.data, out.len, &value, err);
        st = st == MAG_OK
                 ? MAG_OK
                 : mag_wrap(err, MAG_CORRUPT, "%s%s: not a driver's answer", c->base, path);
    }
    buf_fini(&out);
    if (st != MAG_OK) {
        return st;
    }
    if (ret != NULL) {
        *ret = value;
    } else {
        json_decref(value);
    }
    return MAG_OK;
}

enum mag_status client_get(struct client *c, json_t **ret, struct mag_err *err, const char *fmt,
                           ...)
{
    char path[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    return client_call(c, "GET", path, NULL, 0, ret, err);
}

enum mag_status client_post(struct client *c, const char *path, json_t *body_take, json_t **ret,
                            struct mag_err *err)
{
    char *text = mjson_dump(body_take);
    enum mag_status st = client_call(c, "POST", path, text, strlen(text), ret, err);
    free(text);
    json_decref(body_take);
    return st;
}

enum mag_status client_get_text(struct client *c, char **ret, size_t *ret_len, struct mag_err *err,
                                const char *fmt, ...)
{
    char path[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    struct buf out = {0};
    long http = 0;
    enum mag_status st = exchange(c, "GET", path, NULL, 0, &out, &http, err);
    if (st == MAG_OK && (http < 200 || http > 299)) {
        st = http_fail(c, http, &out, err);
    }
    if (st == MAG_OK) {
        *ret_len = out.len;
        *ret = buf_take(&out);
    }
    buf_fini(&out);
    return st;
}

/* A header of the last answer as a number, 0 = it has none. */
static int64_t header_number(struct client *c, const char *name)
{
    struct curl_header *h = NULL;
    return curl_easy_header(c->curl, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK
               ? strtoll(h->value, NULL, 10)
               : 0;
}

enum mag_status client_get_log(struct client *c, const char *path, struct client_log *ret,
                               struct mag_err *err)
{
    *ret = (struct client_log){0};
    enum mag_status st = client_get_text(c, &ret->text, &ret->len, err, "%s", path);
    if (st == MAG_OK) {
        struct curl_header *h = NULL;
        ret->offset = header_number(c, "X-Log-Offset");
        ret->size = header_number(c, "X-Log-Size");
        ret->complete =
            curl_easy_header(c->curl, "X-Log-Complete", 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
            strcmp(h->value, "true") == 0;
    }
    return st;
}

/* ---- changes, exactly once ---- */

#define TRIES 5
#define TRY_AGAIN_MS 500

/* An idempotency key, 32 hex digits. */
static void request_key(char out[40])
{
    unsigned char bytes[16] = {0};
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        uint64_t seed = cmd_draw_seed();
        memcpy(bytes, &seed, sizeof(seed));
    }
    for (int i = 0; i < 16; i++) {
        (void)snprintf(out + (ptrdiff_t)2 * i, 3, "%02x", bytes[i]);
    }
}

/* A reply that was lost is asked for again: the driver knows the key and answers the same. */
static enum mag_status post_until_answered(struct client *c, const char *path, const char *body,
                                           size_t len, json_t **ret, struct mag_err *err)
{
    for (int i = 1;; i++) {
        struct mag_err one = {0};
        enum mag_status st = client_call(c, "POST", path, body, len, ret, &one);
        if (st == MAG_OK) {
            return MAG_OK;
        }
        if ((st != MAG_CLOSED && st != MAG_TIMEOUT) || i == TRIES) {
            return mag_fail(err, st, "%s", one.text);
        }
        (void)poll(NULL, 0, TRY_AGAIN_MS);
    }
}

enum mag_status client_submit(struct client *c, const char *text, size_t len, json_t **ret,
                              struct mag_err *err)
{
    char key[40];
    char path[128];
    request_key(key);
    (void)snprintf(path, sizeof(path), "/api/v1/experiments?client=magpie&request=%s", key);
    return post_until_answered(c, path, text, len, ret, err);
}

enum mag_status client_post_once(struct client *c, const char *path, json_t *body_take,
                                 json_t **ret, struct mag_err *err)
{
    char key[40];
    request_key(key);
    (void)json_object_set_new(body_take, "client", json_string("magpie"));
    (void)json_object_set_new(body_take, "request", json_string(key));
    char *text = mjson_dump(body_take);
    enum mag_status st = post_until_answered(c, path, text, strlen(text), ret, err);
    free(text);
    json_decref(body_take);
    return st;
}

char *client_experiment(const struct client *c, const char *key, const char *suffix)
{
    char *escaped = curl_easy_escape(c->curl, key, 0);
    char *path = xasprintf("/api/v1/experiments/%s%s", escaped != NULL ? escaped : "", suffix);
    curl_free(escaped);
    return path;
}

/* ---- lists ---- */

static void add_query(const struct client *c, struct buf *b, const char *key, const char *value)
{
    char *escaped = value != NULL ? curl_easy_escape(c->curl, value, 0) : NULL;
    if (escaped != NULL) {
        buf_addf(b, "%s%s=%s", b->len > 0 ? "&" : "", key, escaped);
    }
    curl_free(escaped);
}

char *client_escaped(const struct client *c, const char *text)
{
    char *escaped = curl_easy_escape(c->curl, text, 0);
    char *copy = xstrdup(escaped != NULL ? escaped : "");
    curl_free(escaped);
    return copy;
}

char *client_query(const struct client *c, const char *sort, const char *filter)
{
    struct buf b = {0};
    add_query(c, &b, "sort", sort);
    add_query(c, &b, "filter", filter);
    return buf_take(&b);
}

enum mag_status client_list(struct client *c, const char *path, const char *query, const char *key,
                            int64_t max, json_t **ret, struct mag_err *err)
{
    json_t *all = json_array();
    char *cursor = NULL;
    enum mag_status st = MAG_OK;
    bool more = true;
    while (st == MAG_OK && more) {
        int64_t left = max > 0 ? max - (int64_t)json_array_size(all) : PAGE;
        char *escaped = cursor != NULL ? curl_easy_escape(c->curl, cursor, 0) : NULL;
        json_t *page = NULL;
        st = client_get(c, &page, err, "%s?limit=%" PRId64 "%s%s%s%s", path,
                        left < PAGE ? left : (int64_t)PAGE, query[0] != '\0' ? "&" : "", query,
                        escaped != NULL ? "&cursor=" : "", escaped != NULL ? escaped : "");
        curl_free(escaped);
        free(cursor);
        cursor = NULL;
        if (st == MAG_OK) {
            (void)json_array_extend(all, json_object_get(page, key));
            const json_t *next = json_object_get(page, "next");
            cursor = json_is_string(next) ? xstrdup(json_string_value(next))
                     : json_is_integer(next)
                         ? xasprintf("%" PRId64, (int64_t)json_integer_value(next))
                         : NULL;
            more = cursor != NULL && (max == 0 || (int64_t)json_array_size(all) < max);
        }
        json_decref(page);
    }
    free(cursor);
    if (st != MAG_OK) {
        json_decref(all);
        return st;
    }
    *ret = all;
    return MAG_OK;
}
