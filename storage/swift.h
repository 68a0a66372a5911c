/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to storage/: what the files of the `swift` scheme share.
 */
#ifndef MAG_STORAGE_SWIFT_H
#define MAG_STORAGE_SWIFT_H

#include "storage/pieces.h"
#include "storage/scheme.h"
#include "storage/web.h"

struct swift {
    struct settings settings;
    struct web web;  /* the object store */
    struct web auth; /* who gives tokens */
    char *container;
    char *prefix; /* "" or "a/b" */
    char *root;   /* URL of the account, NULL = not authenticated yet */
    char *token;
    int64_t piece;
    int64_t page;
};

/* ---- swift_auth.c ---- */
/* Checks that the environment says who we are; asks nobody yet. */
enum mag_status swift_configure(struct swift *s, struct mag_err *err) MAG_MUSTCHECK;
/* Fills `root` and `token` when they are not there. */
enum mag_status swift_authenticate(struct swift *s, struct mag_err *err) MAG_MUSTCHECK;
/* The token was refused; false when there is no way to another one. */
bool swift_drop_token(struct swift *s);
void swift_auth_fini(struct swift *s);

/* ---- swift_list.c ---- */
/* Reads a page of a listing: names of objects and folders; *ret_last is its last name, malloc'ed.
 */
enum mag_status swift_parse_page(const char *text, size_t len, struct names *to, char **ret_last,
                                 struct mag_err *err) MAG_MUSTCHECK;
enum mag_status swift_list(void *self, const char *key, storage_name_fn fn, void *arg,
                           struct mag_err *err) MAG_MUSTCHECK;
enum mag_status swift_remove(void *self, const char *key, struct mag_err *err) MAG_MUSTCHECK;

/* ---- swift.c ---- */
char *swift_name(const struct swift *s, const char *key);  /* "prefix/key" */
char *swift_path(const struct swift *s, const char *name); /* "/container/name", encoded */
/* Where the pieces of a large object lie: "dir/.file.parts/". */
char *swift_parts(const char *name);

#endif
