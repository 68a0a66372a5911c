/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to storage/: what the files of the `hdfs` scheme share.
 */
#ifndef MAG_STORAGE_HDFS_H
#define MAG_STORAGE_HDFS_H

#include "storage/pieces.h"
#include "storage/scheme.h"
#include "storage/web.h"

#define HDFS_NAMENODES_MAX 8

struct hdfs {
    struct settings settings;
    struct web web;
    char *namenodes[HDFS_NAMENODES_MAX]; /* "http://host:port"; one of them is active */
    int n_namenodes, at;
    char *root; /* absolute path */
    char *user; /* NULL with a delegation token */
    char *delegation;
    uint64_t id;   /* of this handle */
    unsigned next; /* of temporary names */
    int64_t piece;
};

/* ---- hdfs.c ---- */
extern const struct web_scheme hdfs_web;
char *hdfs_file(const struct hdfs *h, const char *key); /* "/root/key" */
/* "/webhdfs/v1<file>?op=<op>", the file encoded; malloc'ed. */
char *hdfs_path(const char *file, const char *op);
/* The `exception` of a RemoteException, malloc'ed, or NULL. */
char *hdfs_exception(const struct web_reply *r);
/* Runs a call about the names (no redirection) and reads its JSON, if there is any. */
enum mag_status hdfs_ask(struct hdfs *h, const struct web_call *call, json_t **ret,
                         struct mag_err *err) MAG_MUSTCHECK;

/* ---- hdfs_names.c ---- */
enum mag_status hdfs_stat_file(struct hdfs *h, const char *file, struct storage_stat *ret,
                               struct mag_err *err) MAG_MUSTCHECK;
enum mag_status hdfs_status(struct hdfs *h, const char *file, int64_t *ret_size,
                            struct mag_err *err) MAG_MUSTCHECK;
enum mag_status hdfs_delete(struct hdfs *h, const char *file, struct mag_err *err) MAG_MUSTCHECK;
/* Gives `from`, of `size` bytes, the name `to`; `fresh`: CONFLICT when there is one. */
enum mag_status hdfs_rename(struct hdfs *h, const char *from, const char *to, int64_t size,
                            bool fresh, struct mag_err *err) MAG_MUSTCHECK;
/* Reads an answer to LISTSTATUS_BATCH; *ret_more: ask again after *ret_last (malloc'ed). */
enum mag_status hdfs_parse_page(const char *text, size_t len, struct names *to, char **ret_last,
                                bool *ret_more, struct mag_err *err) MAG_MUSTCHECK;
enum mag_status hdfs_list(void *self, const char *key, storage_name_fn fn, void *arg,
                          struct mag_err *err) MAG_MUSTCHECK;

/* ---- hdfs_check.c ---- */
/* HDFS's own checksum of a file that fits one block, from its bytes. Zero-initialise. */
struct hdfs_sum {
    EVP_MD_CTX *block;
    uint32_t crc;
    size_t fill; /* bytes of the chunk that is being summed */
};
void hdfs_sum_begin(struct hdfs_sum *s);
void hdfs_sum_add(void *sum, const char *bytes, size_t n); /* fits pieces->look */
void hdfs_sum_end(struct hdfs_sum *s, char hex[PIECE_MD5_HEX]);
void hdfs_sum_fini(struct hdfs_sum *s);
/* CORRUPT when the file there has another checksum. A cluster that sums differently (other chunks,
 * several blocks, encrypted) cannot be compared and passes: the manifest's SHA-256 is left. */
enum mag_status hdfs_compare(struct hdfs *h, const char *file, const char *sum,
                             struct mag_err *err) MAG_MUSTCHECK;

/* ---- hdfs_write.c ---- */
/* "/dir/.tmp-<handle>-<n>" beside a file; malloc'ed. */
char *hdfs_beside(struct hdfs *h, const char *file);
/* Writes a file from the body of `body` (its method and path are not looked at). */
enum mag_status hdfs_write(struct hdfs *h, const char *file, const struct web_call *body,
                           struct mag_err *err) MAG_MUSTCHECK;
enum mag_status hdfs_put_file(void *self, const char *key, const char *path, int64_t *ret_size,
                              char sha256[STORAGE_SHA256_HEX], struct mag_err *err) MAG_MUSTCHECK;

#endif
