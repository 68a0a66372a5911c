/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 by libcrypto, of bytes and of files (while they are copied); MD5 of files, which is what
 * many servers tell of an object.
 */
#include "storage/scheme.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (256 * 1024)

static void bytes_to_hex(const unsigned char *digest, int n, char *out)
{
    for (int i = 0; i < n; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
}

static void to_hex(const unsigned char *digest, char out[STORAGE_SHA256_HEX])
{
    bytes_to_hex(digest, 32, out);
}

void storage_sha256(const void *bytes, size_t len, char out[STORAGE_SHA256_HEX])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    int ok = EVP_Digest(bytes, len, digest, NULL, EVP_sha256(), NULL);
    MAG_ASSERT(ok == 1, "SHA-256 is not there");
    to_hex(digest, out);
}

static int copy_out(int to, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(to, p, n);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            return w < 0 ? errno : ENOSPC;
        }
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

static enum mag_status digest_fd(int fd, int to, const char *path, EVP_MD_CTX *ctx,
                                 int64_t *ret_size, struct mag_err *err)
{
    static _Thread_local char chunk[CHUNK];
    int64_t size = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return mag_fail(err, MAG_IO, "%s: %s", path, strerror(errno));
        }
        if (n == 0) {
            break;
        }
        (void)EVP_DigestUpdate(ctx, chunk, (size_t)n);
        int failed = to >= 0 ? copy_out(to, chunk, (size_t)n) : 0;
        if (failed != 0) {
            return mag_fail(err, MAG_IO, "copy of %s: %s", path, strerror(failed));
        }
        size += n;
    }
    *ret_size = size;
    return MAG_OK;
}

enum mag_status storage_digest_file(const char *path, int to, int64_t *ret_size,
                                    char sha256[STORAGE_SHA256_HEX], struct mag_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    MAG_ASSERT(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1,
               "SHA-256 is not there");
    enum mag_status st = digest_fd(fd, to, path, ctx, ret_size, err);
    if (st == MAG_OK) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        (void)EVP_DigestFinal_ex(ctx, digest, NULL);
        to_hex(digest, sha256);
    }
    EVP_MD_CTX_free(ctx);
    (void)close(fd);
    return st;
}

enum mag_status storage_md5_file(const char *path, char md5[33], struct mag_err *err)
{
    int64_t size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return mag_fail(err, MAG_IO, "%s: %s", path, strerror(errno));
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    MAG_ASSERT(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1, "MD5 is not there");
    enum mag_status st = digest_fd(fd, -1, path, ctx, &size, err);
    if (st == MAG_OK) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        (void)EVP_DigestFinal_ex(ctx, digest, NULL);
        bytes_to_hex(digest, 16, md5);
    }
    EVP_MD_CTX_free(ctx);
    (void)close(fd);
    return st;
}
