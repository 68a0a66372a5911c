/* SPDX-License-Identifier: Apache-2.0
 *
 * The board's files, from memory, and the parts of /openapi.json that are files too.
 */
#include "driver/rest.h"

#include "board/board_assets.h"
#include "driver/driver_internal.h"
#include "driver/embed.h"
#include "driver/http_internal.h"

#include <stdio.h>
#include <string.h>

const json_t *embed_openapi(void)
{
    static json_t *doc;
    if (doc == NULL) {
        struct mag_err err = {0};
        enum mag_status st =
            mjson_parse((const char *)embed_openapi_text, embed_openapi_text_len, &doc, &err);
        MAG_ASSERT(st == MAG_OK, "openapi_parts.json: %s", err.text);
    }
    return doc;
}

static bool takes_gzip(const struct http_call *c)
{
    const char *accepts = http_header(c, "Accept-Encoding");
    return accepts != NULL && strstr(accepts, "gzip") != NULL;
}

static bool has_already(const struct http_call *c, const char *etag)
{
    const char *has = http_header(c, "If-None-Match");
    return has != NULL && strstr(has, etag) != NULL;
}

static void serve(struct http_call *c)
{
    const struct board_asset *a = c->state;
    bool gzip = a->gz != NULL && takes_gzip(c);
    c->state = NULL;
    http_add_header(c, "Content-Security-Policy", board_csp());
    http_add_header(c, "Referrer-Policy", "no-referrer");
    http_add_header(c, "X-Frame-Options", "DENY");
    http_add_header(c, "Cross-Origin-Opener-Policy", "same-origin");
    http_add_header(c, "Cross-Origin-Resource-Policy", "same-origin");
    http_add_header(c, "ETag", a->etag);
    http_add_header(c, "Vary", "Accept-Encoding");
    http_add_header(c, "Cache-Control",
                    a->immutable ? "public, max-age=31536000, immutable" : "no-cache");
    if (has_already(c, a->etag)) {
        c->status = 304;
    } else {
        c->content_type = a->content_type;
        if (gzip) {
            http_add_header(c, "Content-Encoding", "gzip");
        }
        buf_add(&c->out, gzip ? a->gz : a->data, gzip ? a->gz_len : a->len);
    }
    http_reply(c);
}

bool rest_asset(struct http_call *c, const char *path)
{
    static const struct http_route route = {.method = HTTP_GET,
                                            .path = "/",
                                            .handler = serve,
                                            .flags = HTTP_F_PUBLIC | HTTP_F_AT_ONCE,
                                            .id = "board",
                                            .summary = "The board"};
    const struct board_asset *a = board_find(path);
    if (a == NULL) {
        return false;
    }
    c->route = &route;
    if (auth_check(c->d->http, c)) {
        c->state = (void *)(uintptr_t)a;
        serve(c);
    }
    return true;
}
