/* SPDX-License-Identifier: Apache-2.0
 *
 * A trial program's process: its own process group, a JSON-lines channel (MAGPIE_FD), its output
 * through a pipe, and its end. Loop thread only. Whatever it leaves behind is killed when it ends:
 * the worker is the subreaper of everything below it.
 */
#ifndef MAG_WORKER_CHILD_H
#define MAG_WORKER_CHILD_H

#include "base/err.h"
#include "worker/cgroup.h"
#include "worker/process.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_LINE_MAX (1 << 20) /* bytes of one line on the channel */
#define CHILD_FD SPAWN_FD
#define CHILD_WATCH_MS 250 /* between looks at a program's memory and processes, where limits are set */
#define CHILD_GLANCE_MS 1000     /* where only the usual limit of processes is */
#define CHILD_PROCESSES_FEW 1000 /* a limit below this was set by somebody */

enum child_limit { CHILD_MEMORY, CHILD_PROCESSES };

struct child_handler {
    void *arg;
    /* One line from the channel, without its newline; NULL: a line was longer than CHILD_LINE_MAX.
     */
    void (*line)(void *arg, const char *text, size_t len);
    void (*output)(void *arg, const char *bytes, size_t n);
    /* It closed its end of the channel; it may still run. NULL = of no interest. */
    void (*closed)(void *arg);
    /* It was killed for being over a limit; `why` is a sentence. Before `ended`. */
    void (*over)(void *arg, enum child_limit limit, const char *why);
    /* The process has ended (wait status) and all it wrote was handed over. Last call; the handler
     * may destroy the child. */
    void (*ended)(void *arg, int status);
};

struct child;
struct children; /* all of one worker; owns SIGCHLD */

/* `cgroups` is borrowed for as long as the children live. */
struct children *children_create(struct event_base *base, struct cgroups *cgroups);
/* Kills what is left. NULL is allowed. */
void children_destroy(struct children *cs);

/* Starts a program (its `cgroup` is ours to fill); MAGPIE_FD is in its `env` already. Errors as in
 * spawn_program. */
enum mag_status child_start(struct child **ret, struct children *cs,
                            const struct spawn_program *program,
                            const struct child_handler *handler, struct mag_err *err) MAG_MUSTCHECK;
/* From now on another handler hears of it (an executor goes from trial to trial). */
void child_set_handler(struct child *c, const struct child_handler *handler);
pid_t child_pid(const struct child *c);
/* Queues bytes for the channel; nothing happens when the program has closed it. */
void child_send(struct child *c, const char *text, size_t len);
/* Reads now what the program has written to its output and is not read yet. */
void child_read_output(struct child *c);
/* Stops and starts reading what the program says, so that it waits instead of filling memory. */
void child_hold(struct child *c, bool hold);
/* SIGTERM now, SIGKILL after grace_ms. Again with a shorter grace: the earlier end counts. */
void child_stop(struct child *c, int64_t grace_ms);
/* SIGKILL after grace_ms, without SIGTERM: for a program that was asked over its channel. */
void child_limit(struct child *c, int64_t grace_ms);
/* The program answered in time: no SIGKILL. */
void child_unlimit(struct child *c);
/* True when we have sent SIGKILL (child_stop, child_limit, a limit). */
bool child_was_killed(const struct child *c);
/* The most memory that it was seen to use: while it ran, and of its largest process by the kernel's
 * own account once it has ended. MiB. */
int64_t child_peak_mb(const struct child *c);
/* Once it has ended: nothing that it started is left. */
bool child_left_nothing(const struct child *c);
/* Since it was started the kernel has killed some process of this machine for lack of memory. */
bool child_saw_oom(const struct child *c);
/* Forgets a child that has ended or kills one that has not; its handler hears nothing more. */
void child_destroy(struct child *c);

#endif
