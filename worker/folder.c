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

/* Does the folder hold nothing but entries that are named here? */
static bool folder_holds_only(const char *path, const char *const *names)
{
    DIR *d = opendir(path);
    bool only = d != NULL;
    for (struct dirent *e = NULL; only && (e = readdir(d)) != NULL;) {
        bool known = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
        for (size_t i = 0; names[i] != NULL; i++) {
            known = known || strcmp(e->d_name, names[i]) == 0;
        }
        only = known;
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return only;
}

/* The first segment's file stays, emptied; further ones go. */
static bool empty_log(const char *path)
{
    DIR *d = opendir(path);
    bool good = d != NULL || errno == ENOENT;
    for (struct dirent *e = NULL; d != NULL && good && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            char *p = xasprintf("%s/%s", path, e->d_name);
            good = strcmp(e->d_name, "0") == 0 ? truncate(p, 0) == 0 : unlink(p) == 0;
            free(p);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return good;
}

char *folder_empty(const char *path)
{
    static const char *const ours[] = {"trial", "checkpoints", "log", "metrics.jsonl",
                                       "params.json", NULL};
    static const char *const none[] = {NULL};
    bool empty = folder_holds_only(path, ours);
    for (size_t i = 0; ours[i] != NULL && empty; i++) {
        char *p = xasprintf("%s/%s", path, ours[i]);
        empty = i < 2    ? folder_holds_only(p, none)
                : i == 2 ? empty_log(p)
                         : truncate(p, 0) == 0 || errno == ENOENT;
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
