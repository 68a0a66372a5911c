/* SPDX-License-Identifier: Apache-2.0
 *
 * The page of a driver that was built without the board. BOARD_WHY says what was missing; the page
 * names what works instead, so that nobody stares at a 404.
 */
#include "board/board_assets.h"

#ifndef BOARD_WHY
#define BOARD_WHY "npm was not found when this driver was built"
#endif

static const unsigned char page[] =
    "<!doctype html>\n"
    "<html lang=\"en\"><head><meta charset=\"utf-8\"><title>magpie</title></head><body>\n"
    "<h1>magpie is running</h1>\n"
    "<p>This driver carries no web board: " BOARD_WHY ".</p>\n"
    "<p>To get it: install <code>nodejs</code> and <code>npm</code>, then\n"
    "<code>meson setup --reconfigure -Dboard=enabled build &amp;&amp; ninja -C build</code>.</p>\n"
    "<p>Everything else works: <code>magpie list</code>, <code>magpie watch ID</code>,\n"
    "<a href=\"/api/v1/experiments\">the experiments as JSON</a>,\n"
    "<a href=\"/openapi.json\">the API</a>, <a href=\"/metrics\">the metrics</a>.</p>\n"
    "</body></html>\n";

const struct board_asset board_assets[] = {
    {.path = "/",
     .content_type = "text/html; charset=utf-8",
     .data = page,
     .len = sizeof page - 1,
     .etag = "\"plain-1\""},
};
const size_t board_assets_n = 1;
const bool board_is_bundled = false;
