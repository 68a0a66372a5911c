/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/ranks_folder.h"

#include "base/alloc.h"
#include "storage/storage.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define PLACE "/dev/shm"
#define NAMES "magpie-mpi-%ju-%d-" /* the name space of process numbers, a number in it */

/* Containers may share the place, but not the numbers of their processes. */
static uintmax_t pid_space(void)
{
    struct stat sb;
    return stat("/proc/self/ns/pid", &sb) == 0 ? (uintmax_t)sb.st_ino : 0;
}

/* Of a process of ours that has gone. */
static bool is_left_behind(const char *name)
{
    uintmax_t space = 0;
    int pid = 0;
    struct stat sb;
    char *path = xasprintf(PLACE "/%s", name);
    bool left = sscanf(name, NAMES, &space, &pid) == 2 && space == pid_space() && pid > 0 &&
                kill(pid, 0) != 0 && errno == ESRCH && lstat(path, &sb) == 0 &&
                S_ISDIR(sb.st_mode) && sb.st_uid == geteuid();
    free(path);
    return left;
}

static void sweep(void)
{
    DIR *d = opendir(PLACE);
    if (d == NULL) {
        return;
    }
    for (struct dirent *e = NULL; (e = readdir(d)) != NULL;) {
        if (is_left_behind(e->d_name)) {
            ranks_folder_remove(xasprintf(PLACE "/%s", e->d_name));
        }
    }
    (void)closedir(d);
}

char *ranks_folder_make(void)
{
    sweep();
    char *path = xasprintf(PLACE "/" NAMES "XXXXXX", pid_space(), (int)getpid());
    if (mkdtemp(path) == NULL) {
        free(path);
        return NULL;
    }
    return path;
}

void ranks_folder_remove(char *folder)
{
    if (folder != NULL) {
        storage_remove_local(folder);
    }
    free(folder);
}
