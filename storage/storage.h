/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared storage: named objects under one root, seen whole or not at all. Keys are relative paths
 * of plain names ("experiments/1/trials/2/params.json"). One interface, one scheme a file; calls
 * block, so they belong on a thread of their own. A storage may be used from one thread at a time.
 */
#ifndef MAG_STORAGE_STORAGE_H
#define MAG_STORAGE_STORAGE_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORAGE_KEY_MAX 1024          /* bytes of a key */
#define STORAGE_OBJECT_MAX (64 << 20) /* bytes of an object read whole */
#define STORAGE_FILES_MAX 100000      /* files in one folder that is put */
#define STORAGE_DEPTH_MAX 16          /* folders in folders in one folder that is put */
#define STORAGE_SHA256_HEX 65         /* digits and NUL */

struct storage;

/* "file:/absolute/path", "file:///absolute/path" or a plain path (the folder is made when missing);
 * "s3://bucket/prefix", "swift://container/prefix", "hdfs://namenode:port/path" (docs/STORAGE.md
 * tells settings and credentials). Opening may ask a server who we are. */
enum mag_status storage_open(const char *url, struct storage **ret,
                             struct mag_err *err) MAG_MUSTCHECK;
void storage_close(struct storage *s);
/* How long a call goes on trying when the storage does not answer, instead of what
 * MAGPIE_STORAGE_PATIENCE says (2 minutes); 0 = as that says. */
void storage_set_patience(struct storage *s, int64_t ms);
/* From any thread: the call that runs, and all later ones, fail soon instead of waiting for a
 * server. NULL is allowed. */
void storage_cancel(struct storage *s);
/* Normal form of the URL it was opened with: "file:/absolute/path". */
const char *storage_url(const struct storage *s);

/* Makes the object, replacing an older one, in one step. `durable`: on disk when this returns. */
enum mag_status storage_put(struct storage *s, const char *key, const void *bytes, size_t len,
                            bool durable, struct mag_err *err) MAG_MUSTCHECK;
/* Reads a whole object of at most `max` bytes into a malloc'ed, NUL-terminated *ret. */
enum mag_status storage_get(struct storage *s, const char *key, size_t max, char **ret,
                            size_t *ret_len, struct mag_err *err) MAG_MUSTCHECK;
/* Part of an object: at most `max` bytes from `offset` on, or its last ones when that is negative.
 */
struct storage_part {
    char *bytes; /* malloc'ed, NUL-terminated */
    size_t len;
    int64_t offset; /* where they begin */
    int64_t size;   /* of the whole object */
};
enum mag_status storage_read(struct storage *s, const char *key, int64_t offset, size_t max,
                             struct storage_part *ret, struct mag_err *err) MAG_MUSTCHECK;
/* What an object is now: another tag, another content. */
struct storage_stat {
    int64_t size;
    char tag[80]; /* ETag, or time and size */
    char md5[33]; /* of the content, in hex, where the storage tells it; else "" */
};
enum mag_status storage_stat(struct storage *s, const char *key, struct storage_stat *ret,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Copies an object of any size to a new local file. CONFLICT: it is not what `want` tells. */
enum mag_status storage_fetch(struct storage *s, const char *key, const struct storage_stat *want,
                              const char *path, struct mag_err *err) MAG_MUSTCHECK;
/* Removes the object, or everything below `key`. Nothing there is no error. */
enum mag_status storage_remove(struct storage *s, const char *key,
                               struct mag_err *err) MAG_MUSTCHECK;
/* Visits the names directly below `key`, sorted; folders end in '/'. Nothing there: no visit. */
typedef bool (*storage_name_fn)(void *arg, const char *name);
enum mag_status storage_list(struct storage *s, const char *key, storage_name_fn fn, void *arg,
                             struct mag_err *err) MAG_MUSTCHECK;

/* Claims the root for one store: MAG_CONFLICT when another one's marker lies there, also when two
 * claim at once. */
enum mag_status storage_claim(struct storage *s, const char *uuid,
                              struct mag_err *err) MAG_MUSTCHECK;
/* The storage that a driver speaks of, as seen from here: the marker must lie there. */
enum mag_status storage_check(struct storage *s, const char *uuid,
                              struct mag_err *err) MAG_MUSTCHECK;

/* ---- folders: files with a manifest (names, sizes, SHA-256) that is written last ---- */
struct storage_folder {
    int64_t files;
    int64_t bytes;
    char sha256[STORAGE_SHA256_HEX]; /* of the manifest */
};
/* Copies the local folder to `key`. `meta` (borrowed, may be NULL) goes into the manifest. Links
 * and special files are refused. Durable when this returns; before, readers see nothing. */
enum mag_status storage_put_folder(struct storage *s, const char *key, const char *local,
                                   const json_t *meta, struct storage_folder *ret,
                                   struct mag_err *err) MAG_MUSTCHECK;
/* Makes a folder readable on this host and checks every file against the manifest: *ret is a
 * malloc'ed path, below `scratch` or the stored folder itself. NOTFOUND: no manifest; CORRUPT names
 * the file that is not what was written. */
enum mag_status storage_get_folder(struct storage *s, const char *key, const char *scratch,
                                   char **ret, struct mag_err *err) MAG_MUSTCHECK;

/* The key that a URI made by storage_uri names, also after the storage moved; malloc'ed or NULL
 * when the URI is not one of a magpie storage. */
char *storage_key_of(const struct storage *s, const char *uri);
char *storage_uri(const struct storage *s, const char *key);
/* A relative path of plain names: no empty, "." or ".." part, no controls. */
bool storage_key_is_sound(const char *key);

/* Removes a local file or folder with all below it; links are not followed. */
void storage_remove_local(const char *path);
/* mkdir -p with mode 0700 for what it makes. */
enum mag_status storage_make_local(const char *path, struct mag_err *err) MAG_MUSTCHECK;
/* SHA-256 of bytes, in hex. */
void storage_sha256(const void *bytes, size_t len, char out[STORAGE_SHA256_HEX]);

#endif
