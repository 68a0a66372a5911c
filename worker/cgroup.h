/* SPDX-License-Identifier: Apache-2.0
 *
 * Control groups (version 2) for trial programs, where this worker was given a part of the tree to
 * govern: by systemd (Delegate=yes), or named with --cgroup. There the kernel itself keeps memory and
 * processes within their limits and ends a whole tree at once; elsewhere the worker measures (child.c).
 * Loop thread only.
 */
#ifndef MAG_WORKER_CGROUP_H
#define MAG_WORKER_CGROUP_H

#include "base/err.h"
#include "worker/process.h"

#include <stdbool.h>

struct cgroups {
    char *root;        /* the folder that is ours; NULL = none */
    bool memory, pids; /* what it may limit */
    char **old;        /* groups whose processes are not all reaped yet */
    size_t n_old;
};

/* `wanted`: "auto" (or NULL), "none", or a folder of the cgroup2 file system that we may govern. Moves
 * this process into a group of its own below it. OK with `root` NULL: there is none, or "auto" found
 * none that was delegated. INVALID, IO: the folder that was named cannot be used. */
enum mag_status cgroups_open(struct cgroups *cs, const char *wanted,
                             struct mag_err *err) MAG_MUSTCHECK;
/* A group for one program, malloc'ed; NULL = none is to be had. */
char *cgroup_make(struct cgroups *cs, const char *token, const struct spawn_limits *l);
/* Was a process in it killed for lack of memory? */
bool cgroup_saw_oom(const char *group);
/* The most memory it used, MiB; 0 = not known. */
int64_t cgroup_peak_mb(const char *group);
/* SIGKILL to all in it. */
void cgroup_kill(const char *group);
/* Kills what is left in it and removes it, now or when it has become empty. NULL is allowed. */
void cgroup_drop_take(struct cgroups *cs, char *group_take);
void cgroups_close(struct cgroups *cs);

#endif
