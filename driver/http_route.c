/* SPDX-License-Identifier: Apache-2.0
 *
 * From a path to a row of the table of routes, and what the row asks for: the experiment, the
 * trial, the JSON body.
 */
#include "driver/http_internal.h"

#include "driver/driver_internal.h"
#include "driver/rest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Matches "/a/{x}/b/{y}:verb" against a path; args get the parts' places and lengths. */
static bool match(const char *pattern, const char *path, const char *at[HTTP_ARGS_MAX],
                  size_t len[HTTP_ARGS_MAX])
{
    int n = 0;
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return false;
            }
            continue;
        }
        pattern = strchr(pattern, '}') + 1;
        const char *start = path;
        path += strcspn(path, "/:");
        if (path == start || n == HTTP_ARGS_MAX) {
            return false;
        }
        at[n] = start;
        len[n++] = (size_t)(path - start);
    }
    return *path == '\0';
}

static void say_allowed(struct http_call *c, unsigned allowed)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        {HTTP_GET, "GET"}, {HTTP_POST, "POST"}, {HTTP_DELETE, "DELETE"}, {HTTP_PATCH, "PATCH"}};
    char list[64] = "";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (allowed & names[i].bit) {
            (void)strncat(list, list[0] != '\0' ? ", " : "", sizeof(list) - strlen(list) - 1);
            (void)strncat(list, names[i].name, sizeof(list) - strlen(list) - 1);
        }
    }
    http_add_header(c, "Allow", list);
    http_problem(c, 405, "this path takes %s", list);
}

/* Takes the parts out of the path and decodes them. */
static bool keep_args(struct http_call *c, const char *at[HTTP_ARGS_MAX],
                      const size_t len[HTTP_ARGS_MAX], int n)
{
    char *to = c->path;
    for (int i = 0; i < n; i++) {
        char part[HTTP_PATH_MAX];
        memcpy(part, at[i], len[i]);
        part[len[i]] = '\0';
        size_t size = len[i];
        char *decoded = strchr(part, '%') != NULL ? evhttp_uridecode(part, 0, &size) : NULL;
        const char *text = decoded != NULL ? decoded : part;
        bool whole = strlen(text) == size;
        memcpy(to, text, strlen(text) + 1);
        free(decoded);
        c->args[i] = to;
        to += strlen(to) + 1;
        if (!whole) {
            return false; /* a NUL byte in a name */
        }
    }
    return true;
}

bool route_find(struct http_call *c, const char *path, enum http_method method)
{
    size_t n = strlen(path);
    unsigned allowed = 0;
    const char *at[HTTP_ARGS_MAX] = {NULL};
    size_t len[HTTP_ARGS_MAX] = {0};
    if (n >= HTTP_PATH_MAX - HTTP_ARGS_MAX) {
        http_problem(c, 404, "no path has %zu bytes", n);
        return false;
    }
    for (const struct http_route *r = rest_routes; r->path != NULL; r++) {
        if (!match(r->path, path, at, len)) {
            continue;
        }
        if (r->method == method) {
            c->route = r;
            int args = 0;
            for (const char *p = r->path; (p = strchr(p, '{')) != NULL; p++) {
                args++;
            }
            if (keep_args(c, at, len, args)) {
                return true;
            }
            http_problem(c, 404, "no such name");
            return false;
        }
        allowed |= r->method;
    }
    if (allowed != 0) {
        say_allowed(c, allowed);
    } else if (method == HTTP_GET && rest_asset(c, path)) {
        return false; /* the board's files: answered */
    } else {
        http_problem(c, 404, "no such path; /openapi.json lists them");
    }
    return false;
}

static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";
    size_t n = sizeof(json) - 1;
    return content_type != NULL && strncasecmp(content_type, json, n) == 0 &&
           (content_type[n] == '\0' || content_type[n] == ';' || content_type[n] == ' ');
}

static bool parse_body(struct http_call *c)
{
    if (!is_json(http_header(c, "Content-Type"))) {
        http_problem(c, 415, "send JSON with the header \"Content-Type: application/json\"");
        return false;
    }
    if (!(c->route->flags & HTTP_F_BODY) || c->raw_len == 0) {
        c->body = json_object();
        return true;
    }
    struct mag_err err = {0};
    enum mag_status st = c->route->flags & HTTP_F_NAN
                             ? mjson_parse_nan(c->raw, c->raw_len, &c->body, &err)
                             : mjson_parse(c->raw, c->raw_len, &c->body, &err);
    if (st != MAG_OK) {
        http_problem(c, 400, "the body is no JSON: %s", err.text);
        return false;
    }
    if (!json_is_object(c->body)) {
        http_problem(c, 422, "the body is %s, expected an object", mjson_kind(c->body));
        return false;
    }
    return true;
}

static bool find_trial(struct http_call *c)
{
    char *end = NULL;
    errno = 0;
    if (rest_refuse_broken(c)) {
        return false;
    }
    long long n = strtoll(c->args[1], &end, 10);
    bool number = errno == 0 && *end == '\0';
    if (!number || study_trial(c->x->study, n) == NULL) {
        http_problem(c, 404, "experiment %lld has no trial %s", (long long)c->x->id, c->args[1]);
        return false;
    }
    c->trial = n;
    return true;
}

bool route_prepare(struct http_call *c)
{
    unsigned flags = c->route->flags;
    if (c->route->method == HTTP_POST || c->route->method == HTTP_PATCH) {
        if (!parse_body(c)) {
            return false;
        }
    }
    if (flags & HTTP_F_EXPERIMENT) {
        c->x = record_find(c->d, c->args[0]);
        if (c->x == NULL) {
            http_problem(c, 404, "no experiment is called %s", c->args[0]);
            return false;
        }
    }
    return !(flags & HTTP_F_TRIAL) || find_trial(c);
}
