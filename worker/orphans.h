/* SPDX-License-Identifier: Apache-2.0
 *
 * What trial programs leave behind. The worker is their subreaper, so a process whose parent has
 * gone becomes our child; one that belongs to no living program is killed.
 */
#ifndef MAG_WORKER_ORPHANS_H
#define MAG_WORKER_ORPHANS_H

#include <stdbool.h>
#include <sys/types.h>

struct orphans_test {
    void *arg;
    bool (*is_leader)(void *arg, pid_t pid);       /* a program that we started and that lives */
    bool (*is_live)(void *arg, const char *token); /* the token of such a program */
};

/* SIGKILL to every child of ours that is no leader and carries no live token. */
void orphans_kill(const struct orphans_test *test);

#endif
