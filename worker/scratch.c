/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/scratch.h"

#include "base/alloc.h"
#include "storage/storage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME ".lock"

/* A folder in a place that everybody may write to must be ours alone. */
static enum mag_status check_owner(const char *path, struct mag_err *err)
{
    struct stat sb;
    if (lstat(path, &sb) != 0 || !S_ISDIR(sb.st_mode) || sb.st_uid != geteuid() ||
        (sb.st_mode & 0022) != 0) {
        return mag_fail(err, MAG_INVALID,
                        "scratch folder %s: not a folder of this user that nobody else can write "
                        "to; give another "
                        "with --scratch",
                        path);
    }
    return MAG_OK;
}

struct dead_list {
    struct scratch_dead *list;
    int n;
};

void scratch_dead_fini(struct scratch_dead *d)
{
    (void)close(d->lock);
    free(d->dir);
}

/* It worked with a storage, which may lack the last of it. */
static bool had_storage(const char *dir)
{
    char *note = xasprintf("%s/" SCRATCH_STORAGE, dir);
    bool had = access(note, F_OK) == 0;
    free(note);
    return had;
}

/* The lock of a living worker cannot be had. */
static void take_if_dead(const char *dir, struct dead_list *dead)
{
    char *lock = xasprintf("%s/" LOCK_NAME, dir);
    int fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    bool ours = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (ours && had_storage(dir)) {
        dead->list = xreallocarray(dead->list, (size_t)dead->n + 1, sizeof(*dead->list));
        dead->list[dead->n++] = (struct scratch_dead){.dir = xstrdup(dir), .lock = fd};
        fd = -1;
    } else if (ours) {
        storage_remove_local(dir);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    free(lock);
}

static void take_dead(const char *base, struct dead_list *dead)
{
    DIR *d = opendir(base);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            char *dir = xasprintf("%s/%s", base, e->d_name);
            take_if_dead(dir, dead);
            free(dir);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
}

static enum mag_status lock_it(const char *path, int *ret_lock, struct mag_err *err)
{
    char *name = xasprintf("%s/" LOCK_NAME, path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    enum mag_status st =
        ok ? MAG_OK : mag_fail(err, MAG_IO, "scratch folder %s: %s", path, strerror(errno));
    if (ok) {
        *ret_lock = fd;
    } else if (fd >= 0) {
        (void)close(fd);
    }
    free(name);
    return st;
}

/* Folders of a base are made and cleared one worker at a time: between the making of a folder and
 * the taking of its lock, another worker would hold it for a dead one's. -1 when it cannot be had.
 */
static int take_guard(const char *base)
{
    char *name = xasprintf("%s/.guard", base);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (fd >= 0 && flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            (void)close(fd);
            fd = -1;
        }
    }
    free(name);
    return fd;
}

/* Makes PATH, locks it and looks at what dead workers left beside it. */
static enum mag_status claim(const char *base, const char *path, int *ret_lock,
                             struct dead_list *dead, struct mag_err *err)
{
    int guard = take_guard(base);
    if (guard < 0) {
        return mag_fail(err, MAG_IO, "scratch folder %s: %s", base, strerror(errno));
    }
    enum mag_status st = storage_make_local(path, err);
    if (st == MAG_OK) {
        st = lock_it(path, ret_lock, err);
    }
    if (st == MAG_OK) {
        take_dead(base, dead);
    }
    (void)close(guard);
    return st;
}

enum mag_status scratch_open(const char *base, const char *id, char **ret_path, int *ret_lock,
                             struct scratch_dead **ret_dead, int *ret_n_dead, struct mag_err *err)
{
    struct dead_list dead = {0};
    const char *tmp = getenv("TMPDIR");
    char *dir = base != NULL
                    ? xstrdup(base)
                    : xasprintf("%s/magpie-%ld", tmp != NULL && tmp[0] == '/' ? tmp : "/tmp",
                                (long)geteuid());
    char *path = NULL;
    char *real = NULL;
    enum mag_status st = storage_make_local(dir, err);
    if (st == MAG_OK && base == NULL) {
        st = check_owner(dir, err);
    }
    if (st == MAG_OK) {
        real = realpath(dir, NULL);
        path = xasprintf("%s/%s", real != NULL ? real : dir, id);
        st = claim(real != NULL ? real : dir, path, ret_lock, &dead, err);
    }
    *ret_dead = dead.list;
    *ret_n_dead = dead.n;
    if (st == MAG_OK) {
        *ret_path = path;
        path = NULL;
    }
    free(real);
    free(path);
    free(dir);
    return st;
}

void scratch_close(char *path_take, int lock)
{
    if (path_take != NULL) {
        storage_remove_local(path_take);
    }
    if (lock > 0) {
        (void)close(lock);
    }
    free(path_take);
}
