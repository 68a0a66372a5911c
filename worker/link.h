/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection to one driver address: two channels, each with at most one request in flight, over
 * one nng REQ socket that connects again by itself and then repeats what was in flight. Loop thread
 * only; nng's threads push to an inbox and wake the loop.
 */
#ifndef MAG_WORKER_LINK_H
#define MAG_WORKER_LINK_H

#include "base/err.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

enum link_channel { LINK_TALK = 0, LINK_POLL = 1, LINK_CHANNELS = 2 };

struct link_handler {
    void *arg;
    /* The reply to the channel's request, or text NULL: none came in time. The channel is free. */
    void (*reply)(void *arg, enum link_channel ch, const char *text, size_t len);
};

struct link;
/* `ca`: certificates that a tls+tcp:// driver's must be signed by (PEM file); NULL = the system's.
 */
enum mag_status link_open(struct link **ret, struct event_base *base, const char *url,
                          const char *ca, const struct link_handler *handler,
                          struct mag_err *err) MAG_MUSTCHECK;
/* No handler runs after this. NULL is allowed. */
void link_close(struct link *l);
/* What went wrong with the driver's certificate so far, as words; NULL = nothing that is known. */
const char *link_distrust(const struct link *l);
bool link_is_busy(const struct link *l, enum link_channel ch);
/* The channel must not be busy. The bytes are copied. */
void link_send(struct link *l, enum link_channel ch, const char *text, size_t len, int timeout_ms);

#endif
