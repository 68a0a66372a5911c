/* SPDX-License-Identifier: Apache-2.0
 *
 * Looks assets up. The policy stands here, beside the page that must live with it: nothing but this
 * origin's own files, no inline script, no inline style, no frames, no forms, no plug-ins.
 */
#include "board/board_assets.h"

#include <stdlib.h>
#include <string.h>

static int compare_path(const void *key, const void *item)
{
    const struct board_asset *asset = item;
    return strcmp(key, asset->path);
}

const struct board_asset *board_find(const char *path)
{
    if (strcmp(path, "/index.html") == 0) {
        path = "/";
    }
    return bsearch(path, board_assets, board_assets_n, sizeof board_assets[0], compare_path);
}

const char *board_csp(void)
{
    return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
           "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}
