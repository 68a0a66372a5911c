/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders of runs: <scratch>/<run> with trial/ and checkpoints/ in it. Those that programs leave empty
 * are kept with our own files, emptied, and used again, since making folders and files is what a short
 * trial waits for: ext4 passes over every inode that was freed in the last minute when it looks for a
 * new one.
 */
#ifndef MAG_WORKER_FOLDER_H
#define MAG_WORKER_FOLDER_H

#include "base/err.h"

#define FOLDERS_SPARE_MAX 256

/* Loop thread only; zero-initialise. */
struct folders {
    char *spare[FOLDERS_SPARE_MAX]; /* paths of empty run folders */
    int n;
};

/* Makes the run's folder `path`, or renames a spare one to it. What lay there is removed. */
enum mag_status folder_take(struct folders *f, const char *path, struct mag_err *err) MAG_MUSTCHECK;
/* Any thread. Empties our own files in an ended run's folder; when nothing else is in it, renames it
 * and returns its new path (malloc'ed, for folder_give_take), else removes it and returns NULL. */
char *folder_empty(const char *path);
/* Keeps a spare folder, or removes it when there are enough. NULL is allowed. */
void folder_give_take(struct folders *f, char *spare_take);
/* Forgets the spare folders; the scratch folder goes as a whole. */
void folders_fini(struct folders *f);

#endif
