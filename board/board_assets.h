/* SPDX-License-Identifier: Apache-2.0
 *
 * The web board as the driver carries it: every file that a browser asks for, in memory, with what
 * HTTP needs to serve it. The table is generated from board/src at build time
 * (board/tools/bundle.mjs); without npm it holds one plain page that says so (board/plain.c).
 * Nothing here allocates, and everything lives as long as the program.
 */
#ifndef MAG_BOARD_ASSETS_H
#define MAG_BOARD_ASSETS_H

#include <stdbool.h>
#include <stddef.h>

struct board_asset {
    const char *path;          /* "/" or "/assets/…" */
    const char *content_type;  /* with charset where it is text */
    const unsigned char *data; /* as it is */
    size_t len;
    const unsigned char *gz; /* gzip of the same bytes, NULL when that would not be smaller */
    size_t gz_len;
    const char *etag; /* quoted, strong, of `data`; send it with a "-gz" twin or with Vary */
    bool immutable;   /* the path holds a hash of the content: cache for ever */
};

/* The generated table, sorted by path (strcmp). */
extern const struct board_asset board_assets[];
extern const size_t board_assets_n;
/* False when the table holds only the plain page. */
extern const bool board_is_bundled;

/* The asset at exactly this path (no query), or NULL. "/index.html" is "/". */
const struct board_asset *board_find(const char *path);
/* The Content-Security-Policy that every asset must be sent with. */
const char *board_csp(void);

#endif
