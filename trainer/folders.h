/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets that are folders with a folder a class, FOLDER/cats/1.png, or with such folders below
 * train and test. Files come in the order of their names, those of the test part last.
 */
#ifndef MAG_TRAINER_FOLDERS_H
#define MAG_TRAINER_FOLDERS_H

#include "trainer/format.h"

#define FOLDERS_FILES_MAX 10000000

struct class_files {
    char **paths;
    int32_t *labels; /* by classes; undefined without any */
    uint32_t n, n_test;
    struct classes classes; /* none: the files lie in the folder itself */
    uint32_t cap;
};

/* `wanted` picks files by their names. With DATASET_EXAMPLES the test part alone, where there is
 * one, and files may lie in the folder itself, or `path` be one. NOTFOUND, INVALID and LIMIT name
 * the folder. */
enum mag_status folders_list(const char *path, enum dataset_how how, bool (*wanted)(const char *name),
                             struct class_files *ret, struct mag_err *err) MAG_MUSTCHECK;
void folders_fini(struct class_files *f);

#endif
