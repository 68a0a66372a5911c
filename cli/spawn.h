/* SPDX-License-Identifier: Apache-2.0
 *
 * Child processes of the command line, by posix_spawn.
 */
#ifndef MAG_CLI_SPAWN_H
#define MAG_CLI_SPAWN_H

#include "base/err.h"

#include <sys/types.h>

/* Runs a program to its end and captures what it prints (standard output and error together, 64 KiB
 * at most, malloc'ed, never NULL). Its exit status, 128 + the signal, or 127 when it cannot be
 * started. */
int spawn_capture(const char *const argv[], char **ret_output);

/* Starts a program of ours that is to end when this one does: own process group (a Ctrl-C reaches
 * only the parent, which drains), output to files. `stdout_fd` -1: to the log as well. */
enum mag_status spawn_child(const char *const argv[], const char *log_path, int stdout_fd,
                            pid_t *ret, struct mag_err *err) MAG_MUSTCHECK;

/* Called first in main: a child made by spawn_child gets SIGTERM when its parent dies. */
void spawn_follow_parent(void);
/* The parent that made this process by spawn_child, as spawn_follow_parent found it; 0 = none. */
pid_t spawn_parent(void);

/* In a message: "exit status 3" or "killed by signal 9 (Killed)". */
void spawn_status_text(int wait_status, char *buf, size_t size);

#endif
