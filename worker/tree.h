/* SPDX-License-Identifier: Apache-2.0
 *
 * A trial program's process tree: it, what it started, and what these left to us (we are the
 * subreaper of all). Reads /proc; microseconds for each process.
 */
#ifndef MAG_WORKER_TREE_H
#define MAG_WORKER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TREE_VARIABLE "MAGPIE_RUN" /* names the program in the environment of all it starts */
#define TREE_MAX 65536             /* processes counted at most */

struct tree {
    int64_t processes;
    int64_t memory_mb; /* resident; pages that several of them share count once */
};

/* Processes that were left to us, found once for the trees of all programs. */
struct tree_left {
    struct {
        pid_t pid;
        char token[64];
    } * items;
    size_t n;
};

/* Our children that are no leaders of a tree. Free `items`. */
void tree_find_left(bool (*is_leader)(void *arg, pid_t pid), void *arg, struct tree_left *ret);
/* Of the program `leader`, whose tree carries `token` in its environment. Memory is measured
 * exactly, which is slow for large processes, only when a first sum exceeds `exact_above_mb`. */
void tree_measure(pid_t leader, const char *token, const struct tree_left *left,
                  int64_t exact_above_mb, struct tree *ret);
/* SIGKILL to all of it, again until no new process is found. */
void tree_kill(pid_t leader, const char *token);
/* The value of TREE_VARIABLE in a process's environment; "" when it has none or is gone. */
void tree_token(pid_t pid, char out[64]);
/* The children of a process, by calls of `visit`. */
void tree_children(pid_t pid, void (*visit)(void *arg, pid_t child), void *arg);

#endif
