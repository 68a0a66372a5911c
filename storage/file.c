/* SPDX-License-Identifier: Apache-2.0
 *
 * The `file` scheme: a folder, local or on a shared mount (NFS, Lustre, HopsFS). An object is
 * written under a name of its own and renamed, so a reader sees all of it or none.
 */
#include "storage/scheme.h"

#include "base/alloc.h"
#include "base/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_store {
    char *root;
    unsigned next; /* of temporary names */
};

static enum mag_status from_errno(int e, const char *what, const char *path, struct mag_err *err)
{
    enum mag_status st = e == ENOENT || e == ENOTDIR ? MAG_NOTFOUND : MAG_IO;
    return mag_fail(err, st, "storage: %s %s: %s", what, path, strerror(e));
}

enum mag_status storage_make_local(const char *path, struct mag_err *err)
{
    if (mkdir(path, 0700) == 0) {
        return MAG_OK; /* mostly only the last folder is missing */
    }
    char *copy = xstrdup(path);
    int failed = 0;
    for (char *p = copy + 1; failed == 0; p++) {
        bool last = *p == '\0';
        if (*p == '/' || last) {
            *p = '\0';
            if (mkdir(copy, 0700) != 0 && errno != EEXIST) {
                failed = errno;
            }
            *p = last ? '\0' : '/';
        }
        if (last) {
            break;
        }
    }
    struct stat sb;
    if (failed == 0 && (stat(path, &sb) != 0 || !S_ISDIR(sb.st_mode))) {
        failed = ENOTDIR;
    }
    free(copy);
    return failed == 0
               ? MAG_OK
               : mag_fail(err, MAG_IO, "cannot make the folder %s: %s", path, strerror(failed));
}

static void remove_below(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) {
        return;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return;
    }
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            remove_below(fd, e->d_name);
        }
    }
    (void)closedir(d);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

void storage_remove_local(const char *path)
{
    remove_below(AT_FDCWD, path);
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
    if (fd < 0 || fsync(fd) != 0) {
        enum mag_status st = from_errno(errno, "sync of", path, err);
        if (fd >= 0) {
            (void)close(fd);
        }
        return st;
    }
    (void)close(fd);
    return MAG_OK;
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

/* Opens a new file beside `path`; its malloc'ed name goes to *ret_tmp. */
static int open_beside(struct file_store *f, const char *path, char **ret_tmp)
{
    const char *slash = strrchr(path, '/');
    *ret_tmp = xasprintf("%.*s/.tmp-%ld-%u-%s", (int)(slash - path), path, (long)getpid(),
                         f->next++, slash + 1);
    return open(*ret_tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static enum mag_status file_put(void *self, const char *key, const void *bytes, size_t len,
                                bool durable, struct mag_err *err)
{
    struct file_store *f = self;
    char *path = path_of(f, key);
    char *tmp = NULL;
    enum mag_status st = make_parent(path, err);
    if (st != MAG_OK) {
        free(path);
        return st;
    }
    int fd = open_beside(f, path, &tmp);
    int failed = fd < 0 ? errno : write_all(fd, bytes, len);
    if (failed == 0 && durable && fsync(fd) != 0) {
        failed = errno;
    }
    if (fd >= 0 && close(fd) != 0 && failed == 0) {
        failed = errno;
    }
    if (failed == 0 && rename(tmp, path) != 0) {
        failed = errno;
    }
    if (failed != 0) {
        (void)unlink(tmp);
        st = mag_fail(err, MAG_IO, "storage: cannot write %s: %s", path, strerror(failed));
    } else if (durable) {
        st = sync_parent(path, err);
    }
    free(tmp);
    free(path);
    return st;
}

static enum mag_status file_get(void *self, const char *key, size_t max, char **ret,
                                size_t *ret_len, struct mag_err *err)
{
    char *path = path_of(self, key);
    enum mag_status st = mjson_read_file(path, max, ret, ret_len, err);
    free(path);
    return st != MAG_OK ? mag_wrap(err, st, "storage") : MAG_OK;
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
    enum mag_status st = make_parent(path, err);
    int fd = st == MAG_OK ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (st == MAG_OK && fd < 0) {
        st = from_errno(errno, "cannot write", path, err);
    }
    if (st == MAG_OK) {
        st = storage_digest_file(from, fd, ret_size, sha256, err);
    }
    if (st == MAG_OK && fsync(fd) != 0) {
        st = mag_fail(err, MAG_IO, "storage: sync of %s: %s", path, strerror(errno));
    }
    if (fd >= 0 && close(fd) != 0 && st == MAG_OK) {
        st = mag_fail(err, MAG_IO, "storage: close of %s: %s", path, strerror(errno));
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
        if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            char *child = xasprintf("%s/%s", path, e->d_name);
            st = sync_tree(child, err);
            free(child);
        }
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

static enum mag_status file_local(void *self, const char *key, const json_t *files,
                                  const char *scratch, char **ret, struct mag_err *err)
{
    (void)files;
    (void)scratch;
    (void)err;
    *ret = path_of(self, key);
    return MAG_OK;
}

const struct storage_ops storage_file_ops = {
    .scheme = "file",
    .state_size = sizeof(struct file_store),
    .init = file_init,
    .fini = file_fini,
    .put = file_put,
    .get = file_get,
    .remove = file_remove,
    .list = file_list,
    .put_file = file_put_file,
    .seal = file_seal,
    .local = file_local,
};
