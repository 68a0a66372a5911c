/* SPDX-License-Identifier: Apache-2.0
 *
 * The `file` scheme: a folder, local or on a shared mount (NFS, Lustre, HopsFS). An object is
 * written under a name that no other host uses and renamed, so a reader sees all of it or none.
 * What network mounts do differently: a rename that was done may be answered with ENOENT when its
 * reply was lost, a name that another host just made may not be seen until its folder is opened
 * again, an open file may be gone (ESTALE), folders may not take an fsync, and readdir may not
 * know which names are folders.
 */
#include "storage/scheme.h"

#include "base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_store {
    char *root;
    uint64_t id;   /* of this handle: process ids repeat on other hosts */
    unsigned next; /* of temporary names */
};

static const char *remedy(int e)
{
    switch (e) {
    case ENOSPC:
        return "; the disk is full: make room there";
    case EDQUOT:
        return "; your quota there is used up";
    case EROFS:
        return "; it is mounted read-only on this host";
    case EACCES:
    case EPERM:
        return "; this process's user must be allowed to write there";
    case ESTALE:
        return "; the shared folder was replaced: mount it again";
    default:
        return "";
    }
}

static enum mag_status from_errno(int e, const char *what, const char *path, struct mag_err *err)
{
    enum mag_status st = e == ENOENT || e == ENOTDIR ? MAG_NOTFOUND : MAG_IO;
    return mag_fail(err, st, "storage: %s %s: %s%s", what, path, strerror(e), remedy(e));
}

static enum mag_status file_init(void *self, const char *rest, char **ret_url, struct mag_err *err)
{
    struct file_store *f = self;
    const char *path = rest;
    if (strncmp(path, "//", 2) == 0) {
        path += 2;
        if (path[0] != '/') {
            return mag_fail(err, MAG_INVALID,
                            "storage file:%s: a file URL names no host; write file:/path", rest);
        }
    }
    if (path[0] == '\0') {
        return mag_fail(err, MAG_INVALID, "storage: the folder's name is empty");
    }
    enum mag_status st = storage_make_local(path, err);
    if (st != MAG_OK) {
        return mag_wrap(err, st, "storage");
    }
    if (getrandom(&f->id, sizeof(f->id), 0) != (ssize_t)sizeof(f->id)) {
        f->id = (uint64_t)getpid();
    }
    f->root = realpath(path, NULL);
    if (f->root == NULL) {
        return from_errno(errno, "folder", path, err);
    }
    *ret_url = xasprintf("file:%s", f->root);
    return MAG_OK;
}

static void file_fini(void *self)
{
    struct file_store *f = self;
    free(f->root);
}

static char *path_of(const struct file_store *f, const char *key)
{
    return xasprintf("%s/%s", f->root, key);
}

static enum mag_status make_parent(const char *path, struct mag_err *err)
{
    char *parent = xstrdup(path);
    *strrchr(parent, '/') = '\0';
    struct stat sb;
    enum mag_status st = stat(parent, &sb) == 0 ? MAG_OK : storage_make_local(parent, err);
    free(parent);
    return st;
}

static enum mag_status sync_folder(const char *path, struct mag_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 ? errno : 0;
    if (fd >= 0 && fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP && errno != ENOSYS) {
        failed = errno; /* those three: this mount keeps its names by itself */
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return failed == 0 ? MAG_OK : from_errno(failed, "sync of", path, err);
}

static enum mag_status sync_parent(const char *path, struct mag_err *err)
{
    char *parent = xstrdup(path);
    *strrchr(parent, '/') = '\0';
    enum mag_status st = sync_folder(parent, err);
    free(parent);
    return st;
}

static int write_all(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? errno : ENOSPC;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* A file on its way to `path`: made beside it, written, then published in one step. */
struct draft {
    char *tmp;
    int fd;
};

static int draft_open(struct file_store *f, const char *path, struct draft *d)
{
    const char *slash = strrchr(path, '/');
    d->tmp = xasprintf("%.*s/.tmp-%016" PRIx64 "-%u", (int)(slash - path), path, f->id, f->next++);
    d->fd = open(d->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return d->fd < 0 ? errno : 0;
}

/* Is `path` the file that we wrote? Then the step was done although its reply was lost. */
static bool is_published(const struct stat *ours, const char *path)
{
    struct stat there;
    return stat(path, &there) == 0 && there.st_ino == ours->st_ino && there.st_dev == ours->st_dev;
}

/* Closes the draft and, when nothing failed yet, gives it its name; `fresh`: which must not exist
 * (EEXIST). Returns an errno. */
static int draft_publish(struct draft *d, const char *path, int failed, bool sync, bool fresh)
{
    struct stat ours = {0};
    if (failed == 0 && ((sync && fsync(d->fd) != 0) || fstat(d->fd, &ours) != 0)) {
        failed = errno;
    }
    if (d->fd >= 0 && close(d->fd) != 0 && failed == 0) {
        failed = errno;
    }
    if (failed == 0 && (fresh ? link(d->tmp, path) : rename(d->tmp, path)) != 0) {
        failed = errno;
        if (is_published(&ours, path)) {
            failed = 0;
        }
    }
    if (failed != 0 || fresh) {
        (void)unlink(d->tmp);
    }
    free(d->tmp);
    return failed;
}

static enum mag_status write_object(struct file_store *f, const char *path, const void *bytes,
                                    size_t len, bool durable, bool fresh, struct mag_err *err)
{
    struct draft d = {.fd = -1};
    enum mag_status st = make_parent(path, err);
    if (st != MAG_OK) {
        return st;
    }
    int failed = draft_open(f, path, &d);
    if (failed == 0) {
        failed = write_all(d.fd, bytes, len);
    }
    failed = draft_publish(&d, path, failed, durable, fresh);
    if (failed == EEXIST && fresh) {
        return mag_fail(err, MAG_CONFLICT, "storage: %s is there already", path);
    }
    if (failed != 0) {
        st = mag_fail(err, MAG_IO, "storage: cannot write %s: %s%s", path, strerror(failed),
                      remedy(failed));
    } else if (durable) {
        st = sync_parent(path, err);
    }
    return st;
}

static enum mag_status file_put(void *self, const char *key, const void *bytes, size_t len,
                                bool durable, struct mag_err *err)
{
    char *path = path_of(self, key);
    enum mag_status st = write_object(self, path, bytes, len, durable, false, err);
    free(path);
    return st;
}

static enum mag_status file_put_new(void *self, const char *key, const void *bytes, size_t len,
                                    struct mag_err *err)
{
    char *path = path_of(self, key);
    enum mag_status st = write_object(self, path, bytes, len, true, true, err);
    free(path);
    return st;
}

/* Another host may have made the name while this one remembered that it does not exist: opening the
 * folder makes a network mount look again. */
static int open_object(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && (errno == ENOENT || errno == ESTALE)) {
        char *parent = xstrdup(path);
        *strrchr(parent, '/') = '\0';
        int dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        free(parent);
        if (dir >= 0) {
            (void)close(dir);
            fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        }
    }
    return fd;
}

static enum mag_status file_read(void *self, const char *key, int64_t offset, size_t max,
                                 struct storage_part *ret, struct mag_err *err)
{
    char *path = path_of(self, key);
    struct stat sb;
    int fd = open_object(path);
    int failed = fd < 0 || fstat(fd, &sb) != 0 ? errno : 0;
    if (failed == 0 && !S_ISREG(sb.st_mode)) {
        failed = ENOENT; /* a folder is no object */
    }
    struct storage_part part = {0};
    if (failed == 0) {
        part.size = sb.st_size;
        part.offset = offset >= 0                ? offset
                      : part.size > (int64_t)max ? part.size - (int64_t)max
                                                 : 0;
        int64_t rest = part.size > part.offset ? part.size - part.offset : 0;
        size_t want = rest < (int64_t)max ? (size_t)rest : max;
        part.bytes = xmalloc(want + 1);
        for (ssize_t n = 1; n > 0 && part.len < want;) {
            n = pread(fd, part.bytes + part.len, want - part.len, part.offset + (int64_t)part.len);
            part.len += n > 0 ? (size_t)n : 0;
            failed = n < 0 ? errno : 0;
        }
        part.bytes[part.len] = '\0';
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    enum mag_status st = MAG_OK;
    if (failed != 0) {
        st = from_errno(failed, "cannot read", path, err);
        free(part.bytes);
    } else {
        *ret = part;
    }
    free(path);
    return st;
}

static enum mag_status file_get(void *self, const char *key, size_t max, char **ret,
                                size_t *ret_len, struct mag_err *err)
{
    struct storage_part part = {0};
    enum mag_status st = file_read(self, key, 0, max, &part, err);
    if (st == MAG_OK && part.size > (int64_t)max) {
        free(part.bytes);
        return mag_fail(err, MAG_LIMIT, "storage: %s is larger than %zu bytes", key, max);
    }
    if (st == MAG_OK) {
        *ret = part.bytes;
        *ret_len = part.len;
    }
    return st;
}

static enum mag_status file_remove(void *self, const char *key, struct mag_err *err)
{
    char *path = path_of(self, key);
    /* The manifest goes first: from then on no reader takes the folder for a whole one. */
    char *manifest = xasprintf("%s/manifest.json", path);
    (void)unlink(manifest);
    storage_remove_local(path);
    struct stat sb;
    enum mag_status st = MAG_OK;
    if (lstat(path, &sb) == 0) {
        st = mag_fail(err, MAG_IO, "storage: cannot remove %s", path);
    }
    free(manifest);
    free(path);
    return st;
}

static enum mag_status file_list(void *self, const char *key, storage_name_fn fn, void *arg,
                                 struct mag_err *err)
{
    char *path = path_of(self, key);
    struct dirent **names = NULL;
    int n = scandir(path, &names, NULL, alphasort);
    enum mag_status st =
        n >= 0 || errno == ENOENT ? MAG_OK : from_errno(errno, "list of", path, err);
    bool go_on = true;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        char *child = xasprintf("%s/%s", path, name);
        struct stat sb;
        if (go_on && name[0] != '.' && lstat(child, &sb) == 0) {
            char *shown = xasprintf("%s%s", name, S_ISDIR(sb.st_mode) ? "/" : "");
            go_on = fn(arg, shown);
            free(shown);
        }
        free(child);
        free(names[i]);
    }
    free(names);
    free(path);
    return st;
}

static enum mag_status file_put_file(void *self, const char *key, const char *from,
                                     int64_t *ret_size, char sha256[STORAGE_SHA256_HEX],
                                     struct mag_err *err)
{
    char *path = path_of(self, key);
    struct draft d = {.fd = -1};
    enum mag_status st = make_parent(path, err);
    if (st == MAG_OK) {
        int failed = draft_open(self, path, &d);
        if (failed == 0) {
            st = storage_digest_file(from, d.fd, ret_size, sha256, err);
        }
        failed = draft_publish(&d, path, st != MAG_OK ? EIO : failed, true, false);
        if (st == MAG_OK && failed != 0) {
            st = mag_fail(err, MAG_IO, "storage: cannot write %s: %s%s", path, strerror(failed),
                          remedy(failed));
        } else if (st != MAG_OK) {
            st = mag_wrap(err, st, "storage: cannot write %s", path);
        }
    }
    free(path);
    return st;
}

/* The files are on disk already (put_file); here the folders that hold them follow. */
static enum mag_status sync_tree(const char *path, struct mag_err *err)
{
    DIR *d = opendir(path);
    if (d == NULL) {
        return from_errno(errno, "folder", path, err);
    }
    enum mag_status st = MAG_OK;
    for (struct dirent *e = readdir(d); e != NULL && st == MAG_OK; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        char *child = xasprintf("%s/%s", path, e->d_name);
        struct stat sb;
        bool folder = e->d_type == DT_DIR ||
                      (e->d_type == DT_UNKNOWN && lstat(child, &sb) == 0 && S_ISDIR(sb.st_mode));
        st = folder ? sync_tree(child, err) : MAG_OK;
        free(child);
    }
    (void)closedir(d);
    return st == MAG_OK ? sync_folder(path, err) : st;
}

static enum mag_status file_seal(void *self, const char *key, struct mag_err *err)
{
    struct file_store *f = self;
    char *path = path_of(f, key);
    enum mag_status st = storage_make_local(path, err); /* an empty folder was not made yet */
    if (st == MAG_OK) {
        st = sync_tree(path, err);
    }
    /* The folders above may be new as well. */
    while (st == MAG_OK && strlen(path) > strlen(f->root)) {
        *strrchr(path, '/') = '\0';
        st = sync_folder(path, err);
    }
    free(path);
    return st;
}

static char *file_local(void *self, const char *key)
{
    return path_of(self, key);
}

/* A host that can only read would find out when its first checkpoint is lost. */
static enum mag_status file_stat(void *self, const char *key, struct storage_stat *ret,
                                 struct mag_err *err)
{
    char *path = path_of(self, key);
    struct stat sb;
    int failed = stat(path, &sb) != 0 ? errno : S_ISREG(sb.st_mode) ? 0 : ENOENT;
    if (failed == 0) {
        ret->size = sb.st_size;
        (void)snprintf(ret->tag, sizeof(ret->tag), "%lld.%09ld-%lld", (long long)sb.st_mtim.tv_sec,
                       sb.st_mtim.tv_nsec, (long long)sb.st_size);
    }
    enum mag_status st = failed == 0 ? MAG_OK : from_errno(failed, "cannot read", path, err);
    free(path);
    return st;
}

static enum mag_status file_ready(void *self, struct mag_err *err)
{
    const struct file_store *f = self;
    return access(f->root, W_OK) == 0 ? MAG_OK : from_errno(errno, "cannot write to", f->root, err);
}

const struct storage_ops storage_file_ops = {
    .scheme = "file",
    .state_size = sizeof(struct file_store),
    .init = file_init,
    .fini = file_fini,
    .ready = file_ready,
    .put = file_put,
    .put_new = file_put_new,
    .get = file_get,
    .read = file_read,
    .stat = file_stat,
    .remove = file_remove,
    .list = file_list,
    .put_file = file_put_file,
    .seal = file_seal,
    .local = file_local,
};
