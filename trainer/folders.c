/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/folders.h"

#include "base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct walk {
    struct class_files *to;
    bool (*wanted)(const char *name);
    struct mag_err *err;
};

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool has_folder(const char *path, const char *name)
{
    char *child = xasprintf("%s/%s", path, name);
    bool there = is_folder(child);
    free(child);
    return there;
}

static enum mag_status add_file(struct walk *w, const char *path, int label)
{
    struct class_files *f = w->to;
    if (f->n == FOLDERS_FILES_MAX) {
        return mag_fail(w->err, MAG_LIMIT, "%s: over %d files", path, FOLDERS_FILES_MAX);
    }
    if (f->n == f->cap) {
        f->cap = f->cap > 0 ? f->cap * 2 : 256;
        f->paths = xreallocarray(f->paths, f->cap, sizeof(char *));
        f->labels = xreallocarray(f->labels, f->cap, sizeof(*f->labels));
    }
    f->labels[f->n] = label;
    f->paths[f->n++] = xstrdup(path);
    return MAG_OK;
}

/* What lies in a folder, sorted: its files with this label, or with `label` < 0 its folders as
 * classes. */
static enum mag_status list_folder(struct walk *w, const char *path, int label)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, NULL, alphasort);
    enum mag_status st =
        n >= 0 ? MAG_OK
               : mag_fail(w->err, errno == ENOENT || errno == ENOTDIR ? MAG_NOTFOUND : MAG_IO,
                          "%s: %s", path, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *child = xasprintf("%s/%s", path, names[i]->d_name);
        bool folder = is_folder(child);
        if (st == MAG_OK && names[i]->d_name[0] != '.' && folder && label < 0) {
            int k = classes_add(&w->to->classes, names[i]->d_name, DATASET_CLASSES_MAX);
            st = k >= 0 ? list_folder(w, child, k)
                        : mag_fail(w->err, MAG_LIMIT, "%s: over %d folders, each a class", path,
                                   DATASET_CLASSES_MAX);
        } else if (st == MAG_OK && label >= 0 && !folder && names[i]->d_name[0] != '.' &&
                   w->wanted(names[i]->d_name)) {
            st = add_file(w, child, label);
        }
        free(child);
        free(names[i]);
    }
    free(names);
    return st;
}

static enum mag_status list_parts(struct walk *w, const char *path, enum dataset_how how)
{
    static const char *const tests[] = {"test", "val", "validation"};
    const char *test = NULL;
    enum mag_status st = MAG_OK;
    for (size_t i = 0; i < 3 && test == NULL; i++) {
        test = has_folder(path, tests[i]) ? tests[i] : NULL;
    }
    if (!has_folder(path, "train") || test == NULL) {
        return list_folder(w, path, -1);
    }
    char *train = xasprintf("%s/train", path);
    char *held = xasprintf("%s/%s", path, test);
    if (how != DATASET_EXAMPLES) {
        st = list_folder(w, train, -1);
    }
    uint32_t before = w->to->n;
    int known = w->to->classes.n;
    if (st == MAG_OK) {
        st = list_folder(w, held, -1);
    }
    if (st == MAG_OK && how != DATASET_EXAMPLES) {
        w->to->n_test = w->to->n - before;
        if (w->to->classes.n > known) {
            st = mag_fail(w->err, MAG_INVALID, "%s: it has classes that %s has not", held, train);
        }
    }
    free(train);
    free(held);
    return st;
}

enum mag_status folders_list(const char *path, enum dataset_how how, bool (*wanted)(const char *name),
                             struct class_files *ret, struct mag_err *err)
{
    struct walk w = {.to = ret, .wanted = wanted, .err = err};
    *ret = (struct class_files){0};
    if (how == DATASET_EXAMPLES && !is_folder(path)) {
        return add_file(&w, path, 0);
    }
    enum mag_status st = list_parts(&w, path, how);
    if (st == MAG_OK && ret->n == 0 && how == DATASET_EXAMPLES) {
        classes_fini(&ret->classes);
        st = list_folder(&w, path, 0);
    }
    if (st == MAG_OK && ret->n == 0) {
        st = mag_fail(err, MAG_INVALID, "%s: no files in folders below it; each folder is a class",
                      path);
    } else if (st == MAG_OK && how != DATASET_EXAMPLES && ret->classes.n < 2) {
        st = mag_fail(err, MAG_INVALID, "%s: one class alone; each folder below it is one", path);
    }
    return st;
}

void folders_fini(struct class_files *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        free(f->paths[i]);
    }
    free(f->paths);
    free(f->labels);
    classes_fini(&f->classes);
    *f = (struct class_files){0};
}
