/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to storage/: what the files of the `s3` scheme share.
 */
#ifndef MAG_STORAGE_S3_H
#define MAG_STORAGE_S3_H

#include "storage/s3_xml.h"
#include "storage/scheme.h"
#include "storage/web.h"

struct s3 {
    struct settings settings;
    struct web web;
    char *endpoint; /* "https://host" with the bucket in it when it is not in the path */
    char *region;
    char *bucket;
    char *prefix; /* "" or "a/b" */
    char *token;  /* of a session, NULL = none */
    bool bucket_in_path;
    int64_t piece;
    int64_t page;
    char *failed_key; /* of the credentials that were refused: read anew only once for each */
};

/* ---- s3_auth.c ---- */
/* Endpoint, region and credentials from the environment or the files of the AWS tools. */
enum mag_status s3_configure(struct s3 *s, struct mag_err *err) MAG_MUSTCHECK;
/* Reads the credentials again; true when they changed. */
bool s3_renew(struct s3 *s);
void s3_auth_fini(struct s3 *s);
extern const struct web_scheme s3_web;

/* ---- s3.c ---- */
/* "/bucket/prefix/key" or "/prefix/key", encoded; malloc'ed. An empty key: the prefix itself. */
char *s3_path(const struct s3 *s, const char *key);
/* "prefix/key" or "key", not encoded; malloc'ed. */
char *s3_name(const struct s3 *s, const char *key);
/* Runs a call whose 2xx answer is XML, and reads it. */
enum mag_status s3_ask(struct s3 *s, const struct web_call *call, struct s3_doc *doc,
                       struct mag_err *err) MAG_MUSTCHECK;
/* "/bucket" or "/", for calls about the bucket. */
char *s3_bucket_path(const struct s3 *s, const char *query);

/* ---- s3_list.c ---- */
enum mag_status s3_list(void *self, const char *key, storage_name_fn fn, void *arg,
                        struct mag_err *err) MAG_MUSTCHECK;
enum mag_status s3_remove(void *self, const char *key, struct mag_err *err) MAG_MUSTCHECK;

/* ---- s3_upload.c ---- */
enum mag_status s3_put_file(void *self, const char *key, const char *path, int64_t *ret_size,
                            char sha256[STORAGE_SHA256_HEX], struct mag_err *err) MAG_MUSTCHECK;

#endif
