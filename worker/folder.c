/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/folder.h"

#include "base/alloc.h"
#include "storage/storage.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool make_new(const char *path)
{
    char *trial = xasprintf("%s/trial", path);
    char *checkpoints = xasprintf("%s/checkpoints", path);
    bool made = mkdir(path, 0700) == 0 && mkdir(trial, 0700) == 0 && mkdir(checkpoints, 0700) == 0;
    int failed = errno;
    free(trial);
    free(checkpoints);
    errno = failed;
    return made;
}

enum mag_status folder_take(struct folders *f, const char *path, struct mag_err *err)
{
    storage_remove_local(path); /* a grant given again after we lost our folder's run */
    while (f->n > 0) {
        char *spare = f->spare[--f->n];
        bool renamed = rename(spare, path) == 0;
        free(spare);
        if (renamed) {
            return MAG_OK;
        }
    }
    return make_new(path) ? MAG_OK
                          : mag_fail(err, MAG_IO, "cannot make the trial's folder %s: %s", path,
                                     strerror(errno));
}

/* Does the folder hold just `want` entries? */
static bool folder_holds(const char *path, int want)
{
    DIR *d = opendir(path);
    int n = -2; /* "." and ".." */
    while (d != NULL && readdir(d) != NULL) {
        n++;
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return n == want;
}

char *folder_empty(const char *path)
{
    static const char *const files[] = {"output.log", "metrics.jsonl"};
    static const char *const inner[] = {"trial", "checkpoints"};
    for (size_t i = 0; i < 2; i++) {
        char *p = xasprintf("%s/%s", path, files[i]);
        (void)unlink(p);
        free(p);
    }
    bool empty = folder_holds(path, 2);
    for (size_t i = 0; i < 2 && empty; i++) {
        char *p = xasprintf("%s/%s", path, inner[i]);
        empty = folder_holds(p, 0);
        free(p);
    }
    char *spare = xasprintf("%s.spare", path);
    if (empty && rename(path, spare) == 0) {
        return spare;
    }
    free(spare);
    storage_remove_local(path);
    return NULL;
}

void folder_give_take(struct folders *f, char *spare_take)
{
    if (spare_take == NULL) {
        return;
    }
    if (f->n < FOLDERS_SPARE_MAX) {
        f->spare[f->n++] = spare_take;
        return;
    }
    storage_remove_local(spare_take);
    free(spare_take);
}

void folders_fini(struct folders *f)
{
    while (f->n > 0) {
        free(f->spare[--f->n]);
    }
}
