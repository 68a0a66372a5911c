/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/pieces.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
#define MIB (1 << 20)

/* ---- up ---- */

enum mag_status pieces_setting(const struct settings *s, int64_t *ret_bytes, struct mag_err *err)
{
    int64_t mib = 0;
    enum mag_status st = settings_int(s, "MAGPIE_STORAGE_PART_MB", 64, 5, 4096, &mib, err);
    *ret_bytes = mib * MIB;
    return st;
}

enum mag_status names_setting(const struct settings *s, int64_t *ret, struct mag_err *err)
{
    return settings_int(s, "MAGPIE_STORAGE_PAGE", 1000, 1, 10000, ret, err);
}

static EVP_MD_CTX *digest_start(const EVP_MD *kind)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    MAG_ASSERT(ctx != NULL && EVP_DigestInit_ex(ctx, kind, NULL) == 1, "no digest");
    return ctx;
}

static void digest_hex(EVP_MD_CTX *ctx_take, char *out)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    (void)EVP_DigestFinal_ex(ctx_take, raw, &n);
    for (unsigned int i = 0; i < n; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", raw[i]);
    }
    EVP_MD_CTX_free(ctx_take);
}

enum mag_status pieces_open(struct pieces *p, const char *path, int64_t piece, struct mag_err *err)
{
    struct stat sb;
    *p = (struct pieces){.path = xstrdup(path), .piece = piece};
    p->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (p->fd < 0 || fstat(p->fd, &sb) != 0) {
        return mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    p->size = sb.st_size;
    int64_t least = (p->size / PIECES_MAX / MIB + 1) * MIB;
    if (p->size / piece >= PIECES_MAX) {
        p->piece = least;
    }
    p->whole = digest_start(EVP_sha256());
    return MAG_OK;
}

void pieces_close(struct pieces *p)
{
    EVP_MD_CTX_free(p->whole);
    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    free(p->path);
}

bool pieces_is_one(const struct pieces *p)
{
    return p->size <= p->piece;
}

static enum mag_status digest_piece(struct pieces *p, const struct piece *piece, EVP_MD_CTX *sha,
                                    EVP_MD_CTX *md5, struct mag_err *err)
{
    static _Thread_local char chunk[CHUNK];
    for (int64_t done = 0; done < piece->size;) {
        size_t want = piece->size - done < CHUNK ? (size_t)(piece->size - done) : CHUNK;
        ssize_t n = pread(p->fd, chunk, want, piece->offset + done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return mag_fail(err, MAG_IO, "%s: %s", p->path,
                            n < 0 ? strerror(errno) : "became shorter while it was stored");
        }
        (void)EVP_DigestUpdate(sha, chunk, (size_t)n);
        (void)EVP_DigestUpdate(md5, chunk, (size_t)n);
        (void)EVP_DigestUpdate(p->whole, chunk, (size_t)n);
        if (p->look != NULL) {
            p->look(p->arg, chunk, (size_t)n);
        }
        done += n;
    }
    return MAG_OK;
}

enum mag_status pieces_next(struct pieces *p, struct piece *ret, struct mag_err *err)
{
    int64_t at = (int64_t)p->number * p->piece;
    *ret = (struct piece){.offset = at};
    if (p->number > 0 && at >= p->size) {
        return MAG_OK;
    }
    ret->number = ++p->number;
    ret->size = p->size - at < p->piece ? p->size - at : p->piece;
    EVP_MD_CTX *sha = digest_start(EVP_sha256());
    EVP_MD_CTX *md5 = digest_start(EVP_md5());
    enum mag_status st = digest_piece(p, ret, sha, md5, err);
    digest_hex(sha, ret->sha256);
    digest_hex(md5, ret->md5);
    return st;
}

void pieces_sha256(struct pieces *p, char sha256[STORAGE_SHA256_HEX])
{
    digest_hex(p->whole, sha256);
    p->whole = NULL;
}

/* ---- down ---- */

struct download {
    int fd;
    int64_t got;
    EVP_MD_CTX *sha;
    int failed; /* errno */
};

static bool take_bytes(void *arg, const char *bytes, size_t n)
{
    struct download *d = arg;
    for (size_t done = 0; done < n;) {
        ssize_t w = pwrite(d->fd, bytes + done, n - done, d->got + (int64_t)done);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            d->failed = w < 0 ? errno : ENOSPC;
            return false;
        }
        done += (size_t)w;
    }
    (void)EVP_DigestUpdate(d->sha, bytes, n);
    d->got += (int64_t)n;
    return true;
}

static void start_again(struct download *d)
{
    EVP_MD_CTX_free(d->sha);
    d->sha = digest_start(EVP_sha256());
    d->got = 0;
    d->failed = ftruncate(d->fd, 0) != 0 ? errno : 0;
}

static enum mag_status download(struct web *h, struct download *d, pieces_aim_fn aim, void *arg,
                                struct mag_err *err)
{
    struct web_wait wait = {0};
    struct web_reply r = {0};
    enum mag_status st = MAG_OK;
    for (;;) {
        struct mag_err why = {0};
        struct web_call call =
            WEB_CALL(.method = "GET", .sink = take_bytes, .sink_arg = d, .once = true);
        int64_t before = d->got;
        aim(arg, d->got, &call);
        st = web_run(h, &call, &r, &why);
        bool fine = st == MAG_OK && web_is_fine(&r);
        /* Torn just at the end: there is nothing after the last byte. */
        bool ended = st == MAG_OK && r.status == 416 && before > 0 && web_total(&r) == before;
        if (fine || ended || d->failed != 0) {
            break;
        }
        if (d->got > before) {
            wait = (struct web_wait){0}; /* it gets on */
        }
        if (r.whole) {
            start_again(d);
            continue;
        }
        if (!r.passing || !web_wait(h, &wait)) {
            st = st != MAG_OK ? mag_fail(err, st, "%s", why.text) : web_refused(h, &call, &r, err);
            break;
        }
    }
    web_reply_fini(&r);
    return st;
}

enum mag_status pieces_fetch(struct web *h, const char *path, pieces_aim_fn aim, void *arg,
                             int64_t *ret_size, char sha256[STORAGE_SHA256_HEX],
                             struct mag_err *err)
{
    struct download d = {
        .fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (d.fd < 0) {
        return mag_fail(err, MAG_IO, "%s: %s", path, strerror(errno));
    }
    d.sha = digest_start(EVP_sha256());
    enum mag_status st = download(h, &d, aim, arg, err);
    if (close(d.fd) != 0 && d.failed == 0) {
        d.failed = errno;
    }
    if (d.failed != 0) {
        st = mag_fail(err, MAG_IO, "%s: %s", path, strerror(d.failed));
    }
    if (st == MAG_OK) {
        *ret_size = d.got;
        digest_hex(d.sha, sha256);
    } else {
        EVP_MD_CTX_free(d.sha);
    }
    return st;
}

/* ---- names ---- */

enum mag_status names_add_whole(struct names *v, const char *name, struct mag_err *err)
{
    if (v->n >= NAMES_MAX) {
        return mag_fail(err, MAG_LIMIT, "storage: more than %d names in one folder", NAMES_MAX);
    }
    if (v->n == v->cap) {
        v->cap = v->cap > 0 ? 2 * v->cap : 64;
        v->items = xreallocarray(v->items, v->cap, sizeof(v->items[0]));
    }
    v->items[v->n++] = xstrdup(name);
    return MAG_OK;
}

enum mag_status names_add(struct names *v, const char *rest, struct mag_err *err)
{
    const char *slash = strchr(rest, '/');
    size_t n = slash != NULL ? (size_t)(slash - rest) + 1 : strlen(rest);
    if (n == 0 || rest[0] == '.' || rest[0] == '/') {
        return MAG_OK;
    }
    char *name = xstrndup(rest, n);
    enum mag_status st = names_add_whole(v, name, err);
    free(name);
    return st;
}

enum mag_status names_add_below(struct names *v, const struct names *from, size_t skip,
                                struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    for (size_t i = 0; st == MAG_OK && i < from->n; i++) {
        if (strlen(from->items[i]) > skip) {
            st = names_add(v, from->items[i] + skip, err);
        }
    }
    return st;
}

static int by_bytes(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

void names_visit(struct names *v, storage_name_fn fn, void *arg)
{
    if (v->n == 0) {
        return;
    }
    qsort(v->items, v->n, sizeof(v->items[0]), by_bytes);
    for (size_t i = 0; i < v->n; i++) {
        if ((i == 0 || strcmp(v->items[i], v->items[i - 1]) != 0) && !fn(arg, v->items[i])) {
            return;
        }
    }
}

void names_fini(struct names *v)
{
    for (size_t i = 0; i < v->n; i++) {
        free(v->items[i]);
    }
    free(v->items);
    *v = (struct names){0};
}
