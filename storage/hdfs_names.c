/* SPDX-License-Identifier: Apache-2.0
 *
 * What concerns names only: size, removal, renaming, listing. The namenode answers by itself.
 */
#include "storage/hdfs.h"

#include "base/alloc.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mag_status hdfs_status(struct hdfs *h, const char *file, int64_t *ret_size,
                            struct mag_err *err)
{
    struct storage_stat stat = {0};
    enum mag_status st = hdfs_stat_file(h, file, &stat, err);
    *ret_size = st == MAG_OK ? stat.size : *ret_size;
    return st;
}

enum mag_status hdfs_stat_file(struct hdfs *h, const char *file, struct storage_stat *ret,
                               struct mag_err *err)
{
    json_t *doc = NULL;
    char *path = hdfs_path(file, "GETFILESTATUS");
    const struct web_call call = WEB_CALL(.method = "GET", .path = path);
    enum mag_status st = hdfs_ask(h, &call, &doc, err);
    if (st == MAG_OK) {
        const json_t *status = json_object_get(doc, "FileStatus");
        const char *type = json_string_value(json_object_get(status, "type"));
        ret->size = json_integer_value(json_object_get(status, "length"));
        (void)snprintf(ret->tag, sizeof(ret->tag), "%lld-%lld",
                       (long long)json_integer_value(json_object_get(status, "modificationTime")),
                       (long long)ret->size);
        if (type == NULL || strcmp(type, "FILE") != 0) {
            st = mag_fail(err, MAG_NOTFOUND, "%s is no file", file);
        }
    }
    json_decref(doc);
    free(path);
    return st;
}

enum mag_status hdfs_delete(struct hdfs *h, const char *file, struct mag_err *err)
{
    char *path = hdfs_path(file, "DELETE&recursive=true");
    const struct web_call call = WEB_CALL(.method = "DELETE", .path = path);
    enum mag_status st = hdfs_ask(h, &call, NULL, err); /* false: nothing was there */
    free(path);
    return st;
}

/* ---- renaming ---- */

/* One RENAME; *ret_done false: the namenode would not. */
static enum mag_status rename_once(struct hdfs *h, const char *from, const char *to,
                                   const char *options, bool *ret_done, struct mag_err *err)
{
    struct buf path = {0};
    json_t *doc = NULL;
    char *start = hdfs_path(from, "RENAME");
    buf_addf(&path, "%s%s&destination=", start, options);
    web_encode(&path, to, true);
    const struct web_call call = WEB_CALL(.method = "PUT", .path = path.data);
    enum mag_status st = hdfs_ask(h, &call, &doc, err);
    if (st == MAG_OK) {
        const json_t *answer = json_object_get(doc, "boolean");
        *ret_done = answer == NULL || json_is_true(answer);
    }
    json_decref(doc);
    buf_fini(&path);
    free(start);
    return st;
}

/* An earlier try was done although its reply was lost. */
static bool is_renamed(struct hdfs *h, const char *from, const char *to, int64_t size)
{
    int64_t there = -1;
    int64_t left = -1;
    return hdfs_status(h, from, &left, NULL) == MAG_NOTFOUND &&
           hdfs_status(h, to, &there, NULL) == MAG_OK && there == size;
}

enum mag_status hdfs_rename(struct hdfs *h, const char *from, const char *to, int64_t size,
                            bool fresh, struct mag_err *err)
{
    struct mag_err why = {0};
    bool done = false;
    enum mag_status st =
        rename_once(h, from, to, fresh ? "" : "&renameoptions=OVERWRITE", &done, &why);
    if (st == MAG_OK && done) {
        return MAG_OK;
    }
    if (is_renamed(h, from, to, size)) {
        return MAG_OK;
    }
    if (st != MAG_OK) {
        return mag_fail(err, st, "%s", why.text);
    }
    if (fresh) {
        return mag_fail(err, MAG_CONFLICT, "%s is there already", to);
    }
    /* A gateway that knows no options: the old one goes first, and a reader finds none for a
     * moment. */
    st = hdfs_delete(h, to, err);
    if (st == MAG_OK) {
        st = rename_once(h, from, to, "", &done, err);
    }
    return st != MAG_OK || done || is_renamed(h, from, to, size)
               ? st
               : mag_fail(err, MAG_IO, "%s cannot be renamed to %s", from, to);
}

/* ---- listing ---- */

enum mag_status hdfs_parse_page(const char *text, size_t len, struct names *to, char **ret_last,
                                bool *ret_more, struct mag_err *err)
{
    json_t *doc = NULL;
    enum mag_status st = mjson_parse(text, len, &doc, err);
    const json_t *listing = json_object_get(doc, "DirectoryListing");
    const json_t *statuses = json_object_get(
        json_object_get(json_object_get(listing, "partialListing"), "FileStatuses"), "FileStatus");
    const char *last = NULL;
    if (st == MAG_OK && !json_is_array(statuses)) {
        st = mag_fail(err, MAG_CORRUPT, "the namenode's listing has no FileStatus");
    }
    for (size_t i = 0; st == MAG_OK && i < json_array_size(statuses); i++) {
        const json_t *e = json_array_get(statuses, i);
        const char *name = json_string_value(json_object_get(e, "pathSuffix"));
        const char *type = json_string_value(json_object_get(e, "type"));
        if (name == NULL || type == NULL || strchr(name, '/') != NULL) {
            st = mag_fail(err, MAG_CORRUPT, "the namenode's listing has an entry without a name");
            break;
        }
        char *shown = xasprintf("%s%s", name, strcmp(type, "DIRECTORY") == 0 ? "/" : "");
        st = names_add(to, shown, err);
        free(shown);
        last = name;
    }
    if (st == MAG_OK) {
        *ret_more = json_integer_value(json_object_get(listing, "remainingEntries")) > 0 &&
                    last != NULL && last[0] != '\0';
        *ret_last = last != NULL ? xstrdup(last) : NULL;
    }
    json_decref(doc);
    return st;
}

static enum mag_status page(struct hdfs *h, const char *file, const char *after, struct names *to,
                            char **ret_last, bool *ret_more, struct mag_err *err)
{
    struct buf path = {0};
    struct web_reply r = {0};
    char *start = hdfs_path(file, "LISTSTATUS_BATCH");
    buf_adds(&path, start);
    if (after != NULL) {
        buf_adds(&path, "&startAfter=");
        web_encode(&path, after, false);
    }
    const struct web_call call = WEB_CALL(.method = "GET", .path = path.data);
    enum mag_status st = web_expect(&h->web, &call, &r, err);
    if (st == MAG_OK) {
        st = hdfs_parse_page(r.body.data != NULL ? r.body.data : "", r.body.len, to, ret_last,
                             ret_more, err);
    }
    web_reply_fini(&r);
    buf_fini(&path);
    free(start);
    return st;
}

enum mag_status hdfs_list(void *self, const char *key, storage_name_fn fn, void *arg,
                          struct mag_err *err)
{
    struct hdfs *h = self;
    struct names found = {0};
    struct mag_err why = {0};
    char *file = hdfs_file(h, key);
    char *after = NULL;
    bool more = true;
    enum mag_status st = MAG_OK;
    while (st == MAG_OK && more) {
        char *last = NULL;
        more = false;
        st = page(h, file, after, &found, &last, &more, &why);
        free(after);
        after = last;
    }
    free(after);
    if (st == MAG_NOTFOUND) {
        st = MAG_OK; /* nothing there: no visit */
    } else if (st != MAG_OK) {
        st = mag_fail(err, st, "%s", why.text);
    }
    if (st == MAG_OK) {
        names_visit(&found, fn, arg);
    }
    names_fini(&found);
    free(file);
    return st;
}
