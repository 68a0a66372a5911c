/* SPDX-License-Identifier: Apache-2.0 */
#include "board/board_assets.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

Test(board_assets, the_table_is_sorted_and_every_row_is_whole)
{
    cr_assert_gt(board_assets_n, 0);
    for (size_t i = 0; i < board_assets_n; i++) {
        const struct board_asset *a = &board_assets[i];
        if (i > 0) {
            cr_assert_lt(strcmp(board_assets[i - 1].path, a->path), 0, "%s", a->path);
        }
        cr_assert_eq(board_find(a->path), a, "%s", a->path);
        cr_assert(a->path[0] == '/' && a->len > 0 && strchr(a->content_type, '/') != NULL, "%s",
                  a->path);
        cr_assert(a->etag[0] == '"' && a->etag[strlen(a->etag) - 1] == '"', "%s: %s", a->path,
                  a->etag);
        cr_assert_eq(a->data[a->len], '\0', "%s: the array ends where len says", a->path);
    }
}

Test(board_assets, the_page_is_found_under_both_names_and_nothing_else_is)
{
    const struct board_asset *page = board_find("/");
    cr_assert_not_null(page);
    cr_assert_eq(board_find("/index.html"), page);
    cr_assert_not(page->immutable, "the page names the hashed files: it must be asked for again");
    static const char *const absent[] = {"",     "//",        "/assets", "/assets/", "/assets/../",
                                         "/api", "/index.htm"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        cr_assert_null(board_find(absent[i]), "%s", absent[i]);
    }
}

static void assert_inflates(const struct board_asset *a)
{
    unsigned char *out = malloc(a->len + 1);
    cr_assert_not_null(out);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)a->gz,
                  .avail_in = (uInt)a->gz_len,
                  .next_out = out,
                  .avail_out = (uInt)a->len + 1};
    cr_assert_eq(inflateInit2(&z, 16 + MAX_WBITS), Z_OK);
    cr_assert_eq(inflate(&z, Z_FINISH), Z_STREAM_END, "%s", a->path);
    cr_assert(z.total_out == a->len && memcmp(out, a->data, a->len) == 0, "%s", a->path);
    (void)inflateEnd(&z);
    free(out);
}

Test(board_assets, compressed_twins_hold_the_same_bytes)
{
    for (size_t i = 0; i < board_assets_n; i++) {
        if (board_assets[i].gz != NULL) {
            assert_inflates(&board_assets[i]);
        }
    }
}

/* What the policy forbids must not be in the page, or the page would break itself. */
Test(board_assets, the_page_lives_with_its_policy)
{
    cr_assert_not_null(strstr(board_csp(), "default-src 'none'"));
    cr_assert_null(strstr(board_csp(), "unsafe"));
    const char *html = (const char *)board_find("/")->data;
    static const char *const forbidden[] = {"<style", " style=", "<script>", "onclick",
                                            "onload", "http://", "https://", "//cdn"};
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        cr_assert_null(strstr(html, forbidden[i]), "%s", forbidden[i]);
    }
}

/* Every file that the page names exists; a bundled board names at least script and style. */
Test(board_assets, the_page_names_only_files_that_exist)
{
    const char *at = (const char *)board_find("/")->data;
    int named = 0;
    while ((at = strstr(at, "\"/assets/")) != NULL) {
        at++;
        char path[128];
        size_t n = strcspn(at, "\"");
        cr_assert_lt(n, sizeof path);
        memcpy(path, at, n);
        path[n] = '\0';
        const struct board_asset *a = board_find(path);
        cr_assert_not_null(a, "%s", path);
        cr_assert(a->immutable, "%s", path);
        named++;
    }
    cr_assert(board_is_bundled ? named >= 3 : named == 0, "%d", named);
}
