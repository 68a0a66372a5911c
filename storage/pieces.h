/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to storage/: files of any size on their way, in bounded memory. Up: a file is cut into
 * pieces, each read twice (its digests first, so that the server can check what arrives). Down: the
 * bytes go to a file while their SHA-256 is taken; a torn transfer goes on where it broke.
 */
#ifndef MAG_STORAGE_PIECES_H
#define MAG_STORAGE_PIECES_H

#include "storage/storage.h"
#include "storage/web.h"

#include <openssl/evp.h>

#define PIECES_MAX                                                                                 \
    1000 /* of one file: all servers take so many; larger files have larger pieces                 \
          */
#define PIECE_MD5_HEX 33

struct piece {
    int number; /* from 1 */
    int64_t offset, size;
    char sha256[STORAGE_SHA256_HEX];
    char md5[PIECE_MD5_HEX];
};

struct pieces {
    char *path;
    int fd;
    int64_t size;  /* of the file */
    int64_t piece; /* bytes of each but the last */
    int number;    /* of the last one given */
    EVP_MD_CTX *whole;
    /* Sees every byte of a piece while it is digested. */
    void (*look)(void *arg, const char *bytes, size_t n);
    void *arg;
};

/* Sizes of pieces: MAGPIE_STORAGE_PART_MB, 64 when it is not set. */
enum mag_status pieces_setting(const struct settings *s, int64_t *ret_bytes,
                               struct mag_err *err) MAG_MUSTCHECK;
/* Names in one page of a listing: MAGPIE_STORAGE_PAGE, 1000 when it is not set. */
enum mag_status names_setting(const struct settings *s, int64_t *ret,
                              struct mag_err *err) MAG_MUSTCHECK;
enum mag_status pieces_open(struct pieces *p, const char *path, int64_t piece,
                            struct mag_err *err) MAG_MUSTCHECK;
void pieces_close(struct pieces *p);
/* One piece: the file fits. An empty file is one empty piece. */
bool pieces_is_one(const struct pieces *p);
/* The next piece with its digests; `ret->number` 0 after the last. */
enum mag_status pieces_next(struct pieces *p, struct piece *ret, struct mag_err *err) MAG_MUSTCHECK;
/* Of all pieces given. */
void pieces_sha256(struct pieces *p, char sha256[STORAGE_SHA256_HEX]);

/* Downloads into a new file `path`. `aim` fills the call for the bytes from `offset` on. */
typedef void (*pieces_aim_fn)(void *arg, int64_t offset, struct web_call *call);
enum mag_status pieces_fetch(struct web *h, const char *path, pieces_aim_fn aim, void *arg,
                             int64_t *ret_size, char sha256[STORAGE_SHA256_HEX],
                             struct mag_err *err) MAG_MUSTCHECK;

/* Names of a listing, in any order and perhaps repeated. */
#define NAMES_MAX 1000000
struct names {
    char **items;
    size_t n, cap;
};
/* Takes the first part of `rest`, with '/' when there is more; hidden (".x") and empty ones are
 * left out. */
enum mag_status names_add(struct names *v, const char *rest, struct mag_err *err) MAG_MUSTCHECK;
/* The same of each of `from`, behind its first `skip` bytes; shorter ones are the folder itself. */
enum mag_status names_add_below(struct names *v, const struct names *from, size_t skip,
                                struct mag_err *err) MAG_MUSTCHECK;
/* As they are. */
enum mag_status names_add_whole(struct names *v, const char *name,
                                struct mag_err *err) MAG_MUSTCHECK;
void names_visit(struct names *v, storage_name_fn fn, void *arg); /* sorted, each once */
void names_fini(struct names *v);

#endif
