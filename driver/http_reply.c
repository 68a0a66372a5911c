/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers: JSON values, problems (RFC 9457), and the small things that handlers read from a
 * request.
 */
#include "driver/http_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].status == status) {
            return table[i].reason;
        }
    }
    return "Status";
}

int http_status_of(enum mag_status st)
{
    switch (st) {
    case MAG_OK:
        return 200;
    case MAG_INVALID:
        return 422;
    case MAG_NOTFOUND:
        return 404;
    case MAG_CONFLICT:
        return 409;
    case MAG_LIMIT:
        return 422;
    case MAG_UNSUPPORTED:
        return 503;
    case MAG_NOMEM:
    case MAG_TIMEOUT:
    case MAG_CLOSED:
    case MAG_IO:
        return 503;
    case MAG_CORRUPT:
    case MAG_BUG:
    default:
        return 500;
    }
}

/* Bytes of a header or path that are no UTF-8 would make the answer no JSON. */
static void add_safe_string(struct buf *out, const char *text)
{
    json_t *whole = json_string(text);
    if (whole != NULL) {
        buf_add_json_string(out, text);
        json_decref(whole);
        return;
    }
    char safe[1024];
    size_t n = 0;
    for (; text[n] != '\0' && n < sizeof(safe) - 1; n++) {
        safe[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
    }
    safe[n] = '\0';
    buf_add_json_string(out, safe);
}

void http_problem_open(struct buf *out, int status, const char *detail)
{
    buf_addf(out, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d", http_reason(status),
             status);
    if (detail != NULL && detail[0] != '\0') {
        buf_adds(out, ",\"detail\":");
        add_safe_string(out, detail);
    }
}

static void problem(struct http_call *c, int status, const char *detail)
{
    buf_reset(&c->out);
    c->status = status;
    c->content_type = "application/problem+json";
    http_problem_open(&c->out, status, detail);
}

void http_problem(struct http_call *c, int status, const char *fmt, ...)
{
    char detail[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    problem(c, status, detail);
    buf_addc(&c->out, '}');
    http_reply(c);
}

void http_problem_issues(struct http_call *c, int status, const char *detail,
                         struct mjson_issues *is)
{
    problem(c, status, detail);
    json_t *list = mjson_issues_json(is);
    char *text = mjson_dump(list);
    buf_adds(&c->out, ",\"issues\":");
    buf_adds(&c->out, text);
    buf_addc(&c->out, '}');
    free(text);
    json_decref(list);
    mjson_issues_fini(is);
    http_reply(c);
}

void http_problem_status(struct http_call *c, enum mag_status st, const struct mag_err *err)
{
    http_problem(c, http_status_of(st), "%s", err->text);
}

void http_reply_json_take(struct http_call *c, int status, json_t *value)
{
    c->status = status;
    size_t n = json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    c->out.len += json_dumpb(value, buf_room(&c->out, n), n, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
    http_reply(c);
}

const char *http_query(const struct http_call *c, const char *key)
{
    return evhttp_find_header(&c->query, key);
}

int64_t http_query_int(const struct http_call *c, const char *key, int64_t lo, int64_t hi,
                       int64_t def, struct mjson_issues *is)
{
    const char *text = http_query(c, key);
    if (text == NULL) {
        return def;
    }
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || v < lo || v > hi) {
        mjson_issue(is, "", "query parameter '%s' must be a whole number from %lld to %lld", key,
                    (long long)lo, (long long)hi);
        return def;
    }
    return v;
}

const char *http_header(const struct http_call *c, const char *name)
{
    return c->req != NULL ? evhttp_find_header(evhttp_request_get_input_headers(c->req), name)
                          : NULL;
}

void http_add_header(struct http_call *c, const char *name, const char *value)
{
    if (c->req != NULL) {
        (void)evhttp_add_header(evhttp_request_get_output_headers(c->req), name, value);
    }
}
