/* SPDX-License-Identifier: Apache-2.0
 *
 * nng to loop: a raw REP socket whose messages arrive on the loop thread, and whose replies may
 * leave at any later time. nng's threads only push to the inbox (mutex, list, event_active) and
 * free nothing of ours; everything in this header is called on the loop thread.
 */
#ifndef MAG_DRIVER_BRIDGE_H
#define MAG_DRIVER_BRIDGE_H

#include "base/err.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BRIDGE_HEADER_MAX 64  /* bytes of a reply's way back (nng allows 15 hops) */
#define BRIDGE_INBOX_MAX 4096 /* messages not yet looked at; beyond, receiving pauses */

/* The way back to one waiting request. Plain data: copy and keep it as long as you like. */
struct bridge_addr {
    uint32_t pipe;
    size_t len;
    unsigned char header[BRIDGE_HEADER_MAX];
};

/* Who is at the other end of a connection. */
struct bridge_peer {
    uint32_t pipe;
    bool local;     /* on this host: loopback or ipc */
    bool own_user;  /* local, and known to run as our own user (or root) */
    char text[128]; /* address for logs */
};

struct bridge_handler {
    void *arg;
    /* One request; `text` is borrowed for the call. */
    void (*message)(void *arg, const struct bridge_addr *from, const char *text, size_t len);
    /* The connection is gone: replies to it go nowhere. */
    void (*gone)(void *arg, uint32_t pipe);
};

struct bridge;

/* Where to listen. */
struct bridge_endpoint {
    const char *urls;               /* comma-separated: tcp://, tls+tcp://, ipc:// */
    const char *tls_cert, *tls_key; /* PEM files, both or neither, for tls+tcp:// */
};

enum mag_status bridge_start(struct bridge **ret, struct event_base *base,
                             const struct bridge_endpoint *at, const struct bridge_handler *handler,
                             struct mag_err *err) MAG_MUSTCHECK;
/* No handler runs after this. NULL is allowed. */
void bridge_stop(struct bridge *b);
/* The real addresses, comma-separated. */
const char *bridge_urls(const struct bridge *b);
/* Sends the answer; a peer that has gone is no error. */
void bridge_reply(struct bridge *b, const struct bridge_addr *to, const char *text, size_t len);
/* What is known of a connection; false when it has gone. */
bool bridge_peer(struct bridge *b, uint32_t pipe, struct bridge_peer *ret);

#endif
