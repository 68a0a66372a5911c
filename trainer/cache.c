/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/cache.h"

#include "base/alloc.h"
#include "storage/storage.h"
#include "trainer/remote.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_DIGITS 32

/* ---- places ---- */

static enum mag_status find_root(char **ret, struct mag_err *err)
{
    const char *own = getenv("MAGPIE_DATA_CACHE");
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char *root = own != NULL && *own != '\0'       ? xstrdup(own)
                 : cache != NULL && *cache != '\0' ? xasprintf("%s/magpie/data", cache)
                 : home != NULL && *home != '\0'   ? xasprintf("%s/.cache/magpie/data", home)
                                                   : NULL;
    if (root == NULL || root[0] != '/') {
        free(root);
        return mag_fail(err, MAG_INVALID,
                        "no folder for fetched data: set MAGPIE_DATA_CACHE to an absolute path");
    }
    enum mag_status st = storage_make_local(root, err);
    if (st != MAG_OK) {
        free(root);
        return mag_wrap(err, st, "folder for fetched data (MAGPIE_DATA_CACHE)");
    }
    *ret = root;
    return MAG_OK;
}

static enum mag_status find_bound(int64_t *ret, struct mag_err *err)
{
    const char *text = getenv("MAGPIE_DATA_CACHE_GB");
    char *end = NULL;
    double v = text != NULL && *text != '\0' ? strtod(text, &end) : REMOTE_CACHE_GB;
    if ((end != NULL && *end != '\0') || !(v > 0 && v <= REMOTE_CACHE_GB_MAX)) {
        return mag_fail(err, MAG_INVALID, "MAGPIE_DATA_CACHE_GB is \"%.60s\": gigabytes, above 0",
                        text);
    }
    *ret = (int64_t)(v * (1LL << 30));
    return MAG_OK;
}

static enum mag_status lock_file(const char *path, int how, int *ret, struct mag_err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int r = fd < 0 ? -1 : flock(fd, how);
    while (fd >= 0 && r != 0 && errno == EINTR) {
        r = flock(fd, how);
    }
    if (r != 0) {
        int e = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return mag_fail(err, e == EWOULDBLOCK ? MAG_CONFLICT : MAG_IO, "cannot lock %s: %s", path,
                        strerror(e));
    }
    *ret = fd;
    return MAG_OK;
}

enum mag_status cache_enter(const char *url, struct cache_entry *ret, struct mag_err *err)
{
    char id[STORAGE_SHA256_HEX];
    struct cache_entry e = {.lock = -1};
    enum mag_status st = find_root(&e.root, err);
    if (st != MAG_OK) {
        return st;
    }
    storage_sha256(url, strlen(url), id);
    id[ID_DIGITS] = '\0';
    e.folder = xasprintf("%s/%s", e.root, id);
    char *lock = xasprintf("%s.lock", e.folder);
    st = lock_file(lock, LOCK_SH, &e.lock, err);
    free(lock);
    if (st != MAG_OK) {
        cache_leave(&e);
        return st;
    }
    (void)futimens(e.lock, NULL); /* used last now */
    *ret = e;
    return MAG_OK;
}

char *cache_path(const struct cache_entry *e, const char *version)
{
    return xasprintf("%s/%s", e->folder, version);
}

void cache_leave(struct cache_entry *e)
{
    if (e->lock >= 0) {
        (void)close(e->lock);
    }
    free(e->root);
    free(e->folder);
    *e = (struct cache_entry){.lock = -1};
}

/* Another kind of lock; the system may let go of the one before first. */
static enum mag_status relock(struct cache_entry *e, int how, struct mag_err *err)
{
    int r = flock(e->lock, how);
    while (r != 0 && errno == EINTR) {
        r = flock(e->lock, how);
    }
    return r == 0 ? MAG_OK : mag_fail(err, MAG_IO, "cannot lock %s: %s", e->folder, strerror(errno));
}

enum mag_status cache_exclude(struct cache_entry *e, struct mag_err *err)
{
    return relock(e, LOCK_EX, err);
}

enum mag_status cache_share(struct cache_entry *e, struct mag_err *err)
{
    return relock(e, LOCK_SH, err);
}

int cache_take_lock(struct cache_entry *e)
{
    int fd = e->lock;
    e->lock = -1;
    return fd;
}

void cache_abandon(struct cache_entry *e)
{
    storage_remove_local(e->folder);
}

/* ---- room ---- */

static _Thread_local int64_t walked;

static int add_size(const char *path, const struct stat *info, int type, struct FTW *f)
{
    (void)path;
    (void)f;
    walked += type == FTW_F ? (int64_t)info->st_size : 0;
    return 0;
}

/* Bytes of an entry: while it is fetched, those that it will have. */
static int64_t size_of(const char *folder)
{
    struct stat info;
    char *reserve = xasprintf("%s/reserve", folder);
    walked = 0;
    if (stat(reserve, &info) == 0) {
        walked = (int64_t)info.st_size;
    } else {
        (void)nftw(folder, add_size, 16, FTW_PHYS);
    }
    free(reserve);
    return walked;
}

struct old_entry {
    char *folder;
    int64_t used_ns; /* last */
    int64_t bytes;
};

static int by_age(const void *a, const void *b)
{
    const struct old_entry *x = a;
    const struct old_entry *y = b;
    return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

static int list_entries(const struct cache_entry *e, struct old_entry **ret)
{
    struct old_entry *list = NULL;
    int n = 0;
    DIR *d = opendir(e->root);
    for (struct dirent *x = NULL; d != NULL && (x = readdir(d)) != NULL;) {
        struct stat info;
        char *folder = xasprintf("%s/%s", e->root, x->d_name);
        char *lock = xasprintf("%s.lock", folder);
        if (strlen(x->d_name) == ID_DIGITS && strcmp(folder, e->folder) != 0 &&
            stat(lock, &info) == 0) {
            list = xreallocarray(list, (size_t)n + 1, sizeof(*list));
            list[n++] = (struct old_entry){
                .folder = folder,
                .used_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec,
                .bytes = size_of(folder)};
            folder = NULL;
        }
        free(folder);
        free(lock);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    if (n > 0) {
        qsort(list, (size_t)n, sizeof(*list), by_age);
    }
    *ret = list;
    return n;
}

/* True when the entry is gone now; one that somebody reads or fetches stays. */
static bool remove_entry(const char *folder)
{
    char *lock = xasprintf("%s.lock", folder);
    int fd = -1;
    bool mine = lock_file(lock, LOCK_EX | LOCK_NB, &fd, NULL) == MAG_OK;
    if (mine) {
        storage_remove_local(folder);
        (void)close(fd);
    }
    free(lock);
    return mine;
}

static enum mag_status make_room(const struct cache_entry *e, int64_t bytes, struct mag_err *err)
{
    int64_t bound = 0;
    int64_t used = 0;
    enum mag_status st = find_bound(&bound, err);
    if (st != MAG_OK) {
        return st;
    }
    struct old_entry *list = NULL;
    int n = list_entries(e, &list);
    for (int i = 0; i < n; i++) {
        used += list[i].bytes;
    }
    for (int i = 0; i < n && used + bytes > bound; i++) {
        used -= remove_entry(list[i].folder) ? list[i].bytes : 0;
    }
    for (int i = 0; i < n; i++) {
        free(list[i].folder);
    }
    free(list);
    return used + bytes <= bound
               ? MAG_OK
               : mag_fail(err, MAG_LIMIT,
                          "%lld bytes, but the cache %s may hold %lld, %lld of them in use; raise "
                          "MAGPIE_DATA_CACHE_GB",
                          (long long)bytes, e->root, (long long)bound, (long long)used);
}

/* ---- fetching ---- */

static enum mag_status make_reserve(const struct cache_entry *e, int64_t bytes, struct mag_err *err)
{
    char *path = xasprintf("%s/reserve", e->folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && ftruncate(fd, (off_t)bytes) == 0; /* a hole: its size is what counts */
    int failed = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    free(path);
    return good ? MAG_OK
                : mag_fail(err, MAG_IO, "cannot write to %s: %s", e->folder, strerror(failed));
}

enum mag_status cache_begin(struct cache_entry *e, int64_t bytes, char **ret_part,
                            struct mag_err *err)
{
    int room = -1;
    char *lock = xasprintf("%s/lock", e->root);
    char *part = xasprintf("%s/part", e->folder);
    storage_remove_local(e->folder);
    enum mag_status st = lock_file(lock, LOCK_EX, &room, err);
    if (st == MAG_OK) {
        st = make_room(e, bytes, err);
    }
    if (st == MAG_OK) {
        st = storage_make_local(part, err);
    }
    if (st == MAG_OK) {
        st = make_reserve(e, bytes, err);
    }
    if (room >= 0) {
        (void)close(room);
    }
    free(lock);
    if (st != MAG_OK) {
        free(part);
        return st;
    }
    *ret_part = part;
    return MAG_OK;
}

enum mag_status cache_publish(struct cache_entry *e, const char *version, struct mag_err *err)
{
    char *part = xasprintf("%s/part", e->folder);
    char *reserve = xasprintf("%s/reserve", e->folder);
    char *path = cache_path(e, version);
    bool good = rename(part, path) == 0;
    int failed = errno;
    int fd = good ? open(e->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    (void)unlink(reserve);
    free(part);
    free(reserve);
    free(path);
    return good ? MAG_OK
                : mag_fail(err, MAG_IO, "cannot write to %s: %s", e->folder, strerror(failed));
}
