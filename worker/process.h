/* SPDX-License-Identifier: Apache-2.0
 *
 * How a trial program's process comes to be: posix_spawn only (no fork once nng is live), a new
 * process group, default signals, an empty mask, no descriptor of ours but 0-3, and the guard
 * (guard.c), which sets its limits and becomes it.
 */
#ifndef MAG_WORKER_PROCESS_H
#define MAG_WORKER_PROCESS_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

#define SPAWN_FD 3 /* the channel's descriptor in the program */

/* 0 = no limit. */
struct spawn_limits {
    int64_t memory_mb; /* of it and its descendants together */
    int64_t files;     /* open descriptors of one process */
    int64_t processes; /* it and its descendants */
};

/* All borrowed. */
struct spawn_program {
    char *const *argv;  /* argv[0] is looked up in PATH, or from `cwd` when it has a slash */
    char *const *env;   /* whole */
    const char *cwd;    /* NULL = ours */
    const char *cgroup; /* folder of the control group it joins; NULL = none */
    struct spawn_limits limits;
};

/* Starts it with `channel` and `out` (standard output and error), which lie above SPAWN_FD. `guard`
 * NULL: not installed; then nothing ends it when we die, and no wall stands behind its memory limit.
 * INVALID: the program or its folder is not there or not usable; IO: the system refused. */
enum mag_status spawn_program(pid_t *ret, const struct spawn_program *p, const char *guard,
                              int channel, int out, struct mag_err *err) MAG_MUSTCHECK;

#endif
