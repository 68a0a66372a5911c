/* SPDX-License-Identifier: Apache-2.0
 *
 * What a storage scheme brings. `self` is of `state_size` zeroed bytes; `fini` copes with what a
 * failed `init` left. Keys are checked before they arrive here.
 */
#ifndef MAG_STORAGE_SCHEME_H
#define MAG_STORAGE_SCHEME_H

#include "storage/storage.h"

struct storage_ops {
    const char *scheme; /* "file" */
    size_t state_size;
    /* `rest` is the URL after "scheme:"; *ret_url gets the malloc'ed normal form. */
    enum mag_status (*init)(void *self, const char *rest, char **ret_url, struct mag_err *err);
    void (*fini)(void *self);
    /* Can be written from here; NULL = only trying tells. */
    enum mag_status (*ready)(void *self, struct mag_err *err);
    enum mag_status (*put)(void *self, const char *key, const void *bytes, size_t len, bool durable,
                           struct mag_err *err);
    /* The same for an object that must not be there yet: MAG_CONFLICT when it is. */
    enum mag_status (*put_new)(void *self, const char *key, const void *bytes, size_t len,
                               struct mag_err *err);
    enum mag_status (*get)(void *self, const char *key, size_t max, char **ret, size_t *ret_len,
                           struct mag_err *err);
    enum mag_status (*read)(void *self, const char *key, int64_t offset, size_t max,
                            struct storage_part *ret, struct mag_err *err);
    enum mag_status (*stat)(void *self, const char *key, struct storage_stat *ret,
                            struct mag_err *err);
    enum mag_status (*remove)(void *self, const char *key, struct mag_err *err);
    enum mag_status (*list)(void *self, const char *key, storage_name_fn fn, void *arg,
                            struct mag_err *err);
    /* How long a failure that may pass is tried again; NULL where none does. */
    void (*patience)(void *self, int64_t ms);
    /* From any thread: calls end soon, in failure. NULL where none waits. */
    void (*cancel)(void *self);
    /* The object into a new local file, with its size and SHA-256. NULL where `local` is. */
    enum mag_status (*get_file)(void *self, const char *key, const char *path, int64_t *ret_size,
                                char sha256[STORAGE_SHA256_HEX], struct mag_err *err);
    /* Copies a local file to `key`, durable after the next `seal`; gives its size and SHA-256. */
    enum mag_status (*put_file)(void *self, const char *key, const char *path, int64_t *ret_size,
                                char sha256[STORAGE_SHA256_HEX], struct mag_err *err);
    /* Everything put below `key` is durable afterwards; NULL where it is at once. */
    enum mag_status (*seal)(void *self, const char *key, struct mag_err *err);
    /* A path on this host where the folder `key` lies anyway; NULL where files must be fetched. */
    char *(*local)(void *self, const char *key);
};

extern const struct storage_ops storage_file_ops;
extern const struct storage_ops storage_s3_ops;
extern const struct storage_ops storage_swift_ops;
extern const struct storage_ops storage_hdfs_ops, storage_webhdfs_ops, storage_swebhdfs_ops;

/* "//name/a/b/" -> "name" and "a/b", malloc'ed; false when there is no name or the rest is no key.
 */
bool storage_split(const char *rest, char **ret_name, char **ret_prefix);

/* MD5 of a local file, in hex. */
enum mag_status storage_md5_file(const char *path, char md5[33], struct mag_err *err) MAG_MUSTCHECK;
/* Size and SHA-256 of a local file; `to` >= 0 gets a copy of its bytes. */
enum mag_status storage_digest_file(const char *path, int to, int64_t *ret_size,
                                    char sha256[STORAGE_SHA256_HEX],
                                    struct mag_err *err) MAG_MUSTCHECK;

#endif
