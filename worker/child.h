/* SPDX-License-Identifier: Apache-2.0
 *
 * A trial program's process: its own process group, a JSON-lines channel (MAGPIE_FD), its output
 * through a pipe, and its end. Loop thread only. Whatever it leaves behind is killed when it ends:
 * the worker is the subreaper of everything below it.
 */
#ifndef MAG_WORKER_CHILD_H
#define MAG_WORKER_CHILD_H

#include "base/err.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_LINE_MAX (1 << 20) /* bytes of one line on the channel */
#define CHILD_FD 3               /* the channel's descriptor in the program */

struct child_handler {
    void *arg;
    /* One line from the channel, without its newline; NULL: a line was longer than CHILD_LINE_MAX.
     */
    void (*line)(void *arg, const char *text, size_t len);
    void (*output)(void *arg, const char *bytes, size_t n);
    /* The process has ended (wait status) and all it wrote was handed over. Last call; the handler
     * may destroy the child. */
    void (*ended)(void *arg, int status);
};

struct child;
struct children; /* all of one worker; owns SIGCHLD */

struct children *children_create(struct event_base *base);
/* Kills what is left. NULL is allowed. */
void children_destroy(struct children *cs);

/* Starts argv[0] (looked up in PATH) with `env`, to which MAGPIE_FD is added by the caller.
 * INVALID: no such program or not executable; IO: the system refused. */
enum mag_status child_start(struct child **ret, struct children *cs, char *const *argv,
                            char *const *env, const struct child_handler *handler,
                            struct mag_err *err) MAG_MUSTCHECK;
/* From now on another handler hears of it (an executor goes from trial to trial). */
void child_set_handler(struct child *c, const struct child_handler *handler);
pid_t child_pid(const struct child *c);
/* Queues bytes for the channel; nothing happens when the program has closed it. */
void child_send(struct child *c, const char *text, size_t len);
/* Stops and starts reading what the program says, so that it waits instead of filling memory. */
void child_hold(struct child *c, bool hold);
/* SIGTERM now, SIGKILL after grace_ms. Again with a shorter grace: the earlier end counts. */
void child_stop(struct child *c, int64_t grace_ms);
/* SIGKILL after grace_ms, without SIGTERM: for a program that was asked over its channel. */
void child_limit(struct child *c, int64_t grace_ms);
/* The program answered in time: no SIGKILL. */
void child_unlimit(struct child *c);
/* True when child_stop or child_limit has sent SIGKILL. */
bool child_was_killed(const struct child *c);
/* Forgets a child that has ended or kills one that has not; its handler hears nothing more. */
void child_destroy(struct child *c);

#endif
