/* SPDX-License-Identifier: Apache-2.0
 *
 * Listing and removing in Swift, page by page, in its JSON.
 */
#include "storage/swift.h"

#include "base/alloc.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

enum mag_status swift_parse_page(const char *text, size_t len, struct names *to, char **ret_last,
                                 struct mag_err *err)
{
    json_t *doc = NULL;
    const char *last = NULL;
    enum mag_status st = mjson_parse(text, len, &doc, err);
    if (st != MAG_OK || !json_is_array(doc)) {
        json_decref(doc);
        return mag_fail(err, MAG_CORRUPT, "the server's listing is not a JSON list");
    }
    for (size_t i = 0; st == MAG_OK && i < json_array_size(doc); i++) {
        const json_t *e = json_array_get(doc, i);
        const char *name = json_string_value(json_object_get(e, "name"));
        const char *folder = json_string_value(json_object_get(e, "subdir"));
        last = name != NULL ? name : folder;
        st = last != NULL ? names_add_whole(to, last, err)
                          : mag_fail(err, MAG_CORRUPT, "the server's listing has a nameless entry");
    }
    if (st == MAG_OK) {
        *ret_last = last != NULL ? xstrdup(last) : NULL;
    }
    json_decref(doc);
    return st;
}

/* One page after `marker` (NULL = the first); *ret_last NULL: there are no more. */
static enum mag_status page(struct swift *s, const char *prefix, const char *delimiter,
                            const char *marker, struct names *to, char **ret_last,
                            struct mag_err *err)
{
    struct buf path = {0};
    struct web_reply r = {0};
    buf_addc(&path, '/');
    web_encode(&path, s->container, false);
    buf_addf(&path, "?format=json&limit=%lld&prefix=", (long long)s->page);
    web_encode(&path, prefix, false);
    if (delimiter != NULL) {
        buf_addf(&path, "&delimiter=%s", delimiter);
    }
    if (marker != NULL) {
        buf_adds(&path, "&marker=");
        web_encode(&path, marker, false);
    }
    const struct web_call call = WEB_CALL(.method = "GET", .path = path.data);
    enum mag_status st = web_expect(&s->web, &call, &r, err);
    *ret_last = NULL;
    if (st == MAG_OK && r.body.len > 0) {
        st = swift_parse_page(r.body.data, r.body.len, to, ret_last, err);
    }
    web_reply_fini(&r);
    buf_fini(&path);
    return st;
}

static enum mag_status list_all(struct swift *s, const char *prefix, const char *delimiter,
                                struct names *to, struct mag_err *err)
{
    char *marker = NULL;
    enum mag_status st = MAG_OK;
    do {
        char *last = NULL;
        st = page(s, prefix, delimiter, marker, to, &last, err);
        free(marker);
        marker = last;
    } while (st == MAG_OK && marker != NULL);
    free(marker);
    return st;
}

enum mag_status swift_list(void *self, const char *key, storage_name_fn fn, void *arg,
                           struct mag_err *err)
{
    struct swift *s = self;
    struct names whole = {0};
    struct names found = {0};
    char *name = swift_name(s, key);
    char *prefix = xasprintf("%s/", name);
    enum mag_status st = list_all(s, prefix, "%2F", &whole, err);
    if (st == MAG_OK) {
        st = names_add_below(&found, &whole, strlen(prefix), err);
    }
    if (st == MAG_OK) {
        names_visit(&found, fn, arg);
    }
    names_fini(&found);
    names_fini(&whole);
    free(prefix);
    free(name);
    return st;
}

/* ---- removing ---- */

static enum mag_status delete_name(struct swift *s, const char *name, struct mag_err *err)
{
    char *path = swift_path(s, name);
    enum mag_status st = web_delete(&s->web, path, err);
    free(path);
    return st;
}

static enum mag_status delete_below(struct swift *s, const char *prefix, struct mag_err *err)
{
    struct names all = {0};
    enum mag_status st = list_all(s, prefix, NULL, &all, err);
    for (size_t i = 0; st == MAG_OK && i < all.n; i++) {
        st = delete_name(s, all.items[i], err);
    }
    names_fini(&all);
    return st;
}

enum mag_status swift_remove(void *self, const char *key, struct mag_err *err)
{
    struct swift *s = self;
    char *name = swift_name(s, key);
    char *below = xasprintf("%s/", name);
    char *manifest = xasprintf("%s/manifest.json", name);
    char *parts = swift_parts(name);
    /* From here on no reader takes the folder for a whole one. */
    enum mag_status st = delete_name(s, manifest, err);
    if (st == MAG_OK) {
        st = delete_name(s, name, err);
    }
    if (st == MAG_OK) {
        st = delete_below(s, below, err);
    }
    if (st == MAG_OK) {
        st = delete_below(s, parts, err); /* of a large object of this name */
    }
    free(parts);
    free(manifest);
    free(below);
    free(name);
    return st;
}
