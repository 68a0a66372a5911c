/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders of this host: made with all above them, removed with all below them.
 */
#include "storage/storage.h"

#include "base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
