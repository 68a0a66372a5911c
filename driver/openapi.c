/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /openapi.json: OpenAPI 3.1, made from the table of routes, so that it cannot lag behind; the
 * bodies' schemas are openapi_schemas.json, embedded.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/embed.h"

#include <stdlib.h>
#include <string.h>

static json_t *parameter(const char *name, const char *in, bool integer)
{
    return json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", name, "in", in, "required",
                     strcmp(in, "path") == 0, "schema", "type", integer ? "integer" : "string");
}

static json_t *parameters_of(const struct http_route *r)
{
    json_t *list = json_array();
    for (const char *p = r->path; (p = strchr(p, '{')) != NULL; p++) {
        size_t n = strcspn(p + 1, "}");
        char *name = xstrndup(p + 1, n);
        (void)json_array_append_new(list, parameter(name, "path", strcmp(name, "trial") == 0));
        free(name);
    }
    const json_t *own = json_object_get(json_object_get(embed_openapi(), "queries"), r->id);
    size_t i = 0;
    json_t *q = NULL;
    json_array_foreach(own, i, q)
    {
        (void)json_array_append_new(list, parameter(json_string_value(q), "query", false));
    }
    return list;
}

static json_t *content(const char *type, json_t *schema_take)
{
    return json_pack("{s:{s:{s:o}}}", "content", type, "schema", schema_take);
}

static json_t *schema_of(const struct http_route *r, const char *which)
{
    json_t *own = json_object_get(json_object_get(embed_openapi(), which), r->id);
    return own != NULL ? json_deep_copy(own) : json_pack("{s:s}", "type", "object");
}

static const char *type_of(const struct http_route *r)
{
    const json_t *own = json_object_get(json_object_get(embed_openapi(), "types"), r->id);
    return own != NULL ? json_string_value(own) : "application/json";
}

static json_t *operation(const struct http_route *r)
{
    json_t *problem = json_pack("{s:s}", "$ref", "#/components/schemas/Problem");
    json_t *failure = content("application/problem+json", problem);
    (void)json_object_set_new(failure, "description", json_string("What is wrong (RFC 9457)"));
    json_t *success = content(type_of(r), schema_of(r, "answers"));
    (void)json_object_set_new(success, "description", json_string(r->summary));
    const char *status =
        json_string_value(json_object_get(json_object_get(embed_openapi(), "statuses"), r->id));
    json_t *op = json_pack("{s:s, s:s, s:o, s:{s:o, s:o}}", "operationId", r->id, "summary",
                           r->summary, "parameters", parameters_of(r), "responses",
                           status != NULL ? status : "200", success, "default", failure);
    if (r->method == HTTP_POST || r->method == HTTP_PATCH) {
        json_t *body = content("application/json", schema_of(r, "bodies"));
        (void)json_object_set_new(body, "required", json_true());
        (void)json_object_set_new(op, "requestBody", body);
    }
    if (r->flags & HTTP_F_PUBLIC) {
        (void)json_object_set_new(op, "security", json_array());
    }
    return op;
}

static const char *method_name(enum http_method m)
{
    switch (m) {
    case HTTP_GET:
        return "get";
    case HTTP_POST:
        return "post";
    case HTTP_DELETE:
        return "delete";
    case HTTP_PATCH:
    default:
        return "patch";
    }
}

static json_t *document(void)
{
    json_t *paths = json_object();
    for (const struct http_route *r = rest_routes; r->path != NULL; r++) {
        json_t *item = json_object_get(paths, r->path);
        if (item == NULL) {
            item = json_object();
            (void)json_object_set_new(paths, r->path, item);
        }
        (void)json_object_set_new(item, method_name(r->method), operation(r));
    }
    json_t *schemas = json_deep_copy(json_object_get(embed_openapi(), "schemas"));
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:[{s:[]}, {}], s:{s:{s:{s:s, s:s}}, s:o}, s:o}",
                     "openapi", "3.1.0", "info", "title", "magpie", "version", MAGPIE_VERSION,
                     "summary", "Asynchronous hyperparameter optimization", "security", "token",
                     "components", "securitySchemes", "token", "type", "http", "scheme", "bearer",
                     "schemas", schemas, "paths", paths);
}

void rest_openapi(struct http_call *c)
{
    static json_t *doc; /* the same for the life of the program */
    if (doc == NULL) {
        doc = document();
    }
    rest_add_json(&c->out, doc);
    http_reply(c);
}

void rest_schema(struct http_call *c)
{
    buf_add(&c->out, embed_schema, embed_schema_len);
    c->content_type = "application/schema+json";
    http_reply(c);
}
