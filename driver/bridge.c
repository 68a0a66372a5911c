/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads: nng's own run on_receive and on_pipe, which touch the inbox (under its mutex) and
 * nothing else of ours; the loop drains it. The receive aio is armed again by whoever made room:
 * normally the callback itself, or the loop after the inbox was full.
 *
 * Against nng's defaults: messages are bounded, keepalive is on, and the send buffer is deep,
 * because raw sockets refuse non-blocking sends and the loop must not wait in a plain one.
 */
#include "driver/bridge.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "driver/peer.h"
#include "wire/hangup.h"
#include "wire/secure.h"
#include "wire/wire.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/supplemental/tls/tls.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SEND_BUFFER 8192
#define CLOSE_MS 2000

struct item {
    struct list_node node;
    nng_msg *msg; /* NULL: the pipe has gone */
    uint32_t pipe;
};

struct bridge {
    nng_socket sock;
    bool open;
    nng_aio *recv;
    struct event *wake;
    struct bridge_handler handler;
    char *urls;
    pthread_mutex_t lock;
    struct list_node inbox; /* under lock: struct item */
    int queued;             /* under lock */
    bool closed;            /* under lock: callbacks leave everything alone */
    bool paused;            /* under lock: the aio is not armed, the inbox was full */
};

static enum mag_status from_nng(int rv, const char *what, const char *url, struct mag_err *err)
{
    enum mag_status st = rv == NNG_ENOMEM                            ? MAG_NOMEM
                         : rv == NNG_EADDRINUSE                      ? MAG_CONFLICT
                         : rv == NNG_EADDRINVAL || rv == NNG_ENOTSUP ? MAG_INVALID
                                                                     : MAG_IO;
    return mag_fail(err, st, "worker endpoint %s: %s: %s", url, what, nng_strerror(rv));
}

/* ---- nng's threads ---- */

static void push(struct bridge *b, nng_msg *msg, uint32_t pipe)
{
    struct item *it = xcalloc(1, sizeof(*it));
    it->msg = msg;
    it->pipe = pipe;
    (void)pthread_mutex_lock(&b->lock);
    if (b->closed) {
        (void)pthread_mutex_unlock(&b->lock);
        if (msg != NULL) {
            nng_msg_free(msg);
        }
        free(it);
        return;
    }
    list_append(&b->inbox, &it->node);
    b->queued++;
    bool full = msg != NULL && b->queued >= BRIDGE_INBOX_MAX;
    b->paused = b->paused || full;
    event_active(b->wake, EV_READ, 0);
    (void)pthread_mutex_unlock(&b->lock);
    if (msg != NULL && !full) {
        nng_recv_aio(b->sock, b->recv);
    }
}

static void on_receive(void *arg)
{
    struct bridge *b = arg;
    int rv = nng_aio_result(b->recv);
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED) {
        return;
    }
    if (rv != 0) {
        nng_recv_aio(b->sock, b->recv);
        return;
    }
    nng_msg *msg = nng_aio_get_msg(b->recv);
    push(b, msg, (uint32_t)nng_pipe_id(nng_msg_get_pipe(msg)));
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    if (ev == NNG_PIPE_EV_REM_POST) {
        push(arg, NULL, (uint32_t)nng_pipe_id(pipe));
    }
}

/* ---- loop thread ---- */

static void deliver(struct bridge *b, struct item *it)
{
    if (it->msg == NULL) {
        b->handler.gone(b->handler.arg, it->pipe);
        return;
    }
    struct bridge_addr from = {.pipe = it->pipe, .len = nng_msg_header_len(it->msg)};
    if (from.len <= sizeof(from.header)) {
        memcpy(from.header, nng_msg_header(it->msg), from.len);
        b->handler.message(b->handler.arg, &from, nng_msg_body(it->msg), nng_msg_len(it->msg));
    }
    nng_msg_free(it->msg);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct bridge *b = arg;
    struct list_node mine;
    list_init(&mine);
    (void)pthread_mutex_lock(&b->lock);
    while (!list_is_empty(&b->inbox)) {
        struct list_node *n = list_first(&b->inbox);
        list_remove(n);
        list_append(&mine, n);
    }
    b->queued = 0;
    bool again = b->paused;
    b->paused = false;
    (void)pthread_mutex_unlock(&b->lock);
    if (again) {
        nng_recv_aio(b->sock, b->recv);
    }
    while (!list_is_empty(&mine)) {
        struct item *it = container_of(list_first(&mine), struct item, node);
        list_remove(&it->node);
        deliver(b, it);
        free(it);
    }
}

void bridge_reply(struct bridge *b, const struct bridge_addr *to, const char *text, size_t len)
{
    nng_msg *msg = NULL;
    if (fault_hit("bridge.reply")) {
        return;
    }
    if (nng_msg_alloc(&msg, 0) != 0) {
        return;
    }
    if (nng_msg_append(msg, text, len) != 0 ||
        nng_msg_header_append(msg, to->header, to->len) != 0 || nng_sendmsg(b->sock, msg, 0) != 0) {
        nng_msg_free(msg);
    }
}

bool bridge_peer(struct bridge *b, uint32_t pipe, struct bridge_peer *ret)
{
    (void)b;
    return peer_lookup(pipe, ret);
}

const char *bridge_urls(const struct bridge *b)
{
    return b->urls;
}

/* ---- start and stop ---- */

static int set_options(nng_socket s)
{
    int rv = nng_socket_set_int(s, NNG_OPT_SENDBUF, SEND_BUFFER);
    if (rv == 0) {
        rv = nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, WIRE_MESSAGE_MAX);
    }
    if (rv == 0) {
        rv = nng_socket_set_bool(s, NNG_OPT_TCP_NODELAY, true);
    }
    if (rv == 0) {
        rv = nng_socket_set_bool(s, NNG_OPT_TCP_KEEPALIVE, true);
    }
    return rv;
}

/* The URL with the port that was really taken. */
static char *real_url(nng_listener l, const char *url)
{
    int port = 0;
    const char *colon = strrchr(url, ':');
    if (strncmp(url, "ipc:", 4) == 0 || colon == NULL ||
        nng_listener_get_int(l, NNG_OPT_TCP_BOUND_PORT, &port) != 0) {
        return xstrdup(url);
    }
    return xasprintf("%.*s:%d", (int)(colon - url), url, port);
}

/* Certificate and key for a listener that speaks TLS. */
static enum mag_status show_certificate(nng_listener l, const char *url,
                                        const struct bridge_endpoint *at, struct mag_err *err)
{
    struct nng_tls_config *tls = NULL;
    if (at->tls_cert == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "worker endpoint %s: TLS wants --tls-cert FILE and --tls-key FILE", url);
    }
    enum mag_status st = secure_server(at->tls_cert, at->tls_key, &tls, err);
    if (st == MAG_OK) {
        const int rv = nng_listener_set_ptr(l, NNG_OPT_TLS_CONFIG, tls);
        st = rv == 0 ? MAG_OK : from_nng(rv, "TLS", url, err);
    }
    secure_free(tls);
    return st;
}

static bool stays_here(const char *url)
{
    char *host = secure_host(url);
    const bool here = strncmp(url, "ipc:", 4) == 0 || peer_host_is_loopback(host);
    free(host);
    return here;
}

static enum mag_status listen_one(struct bridge *b, const char *url,
                                  const struct bridge_endpoint *at, struct mag_err *err)
{
    nng_listener l;
    int rv = nng_listener_create(&l, b->sock, url);
    if (rv != 0) {
        return from_nng(rv,
                        "not a nng address (tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH)",
                        url, err);
    }
    if (strncmp(url, "ipc:", 4) == 0) {
        (void)nng_listener_set_int(l, NNG_OPT_IPC_PERMISSIONS, 0600);
    }
    if (secure_is_url(url)) {
        enum mag_status st = show_certificate(l, url, at, err);
        if (st != MAG_OK) {
            return st;
        }
    } else if (!stays_here(url)) {
        log_warn("driver", "no-tls", "address=%s advice=%s", url,
                 log_quote("other hosts can read what workers send, tokens too; listen on "
                           "tls+tcp:// with --tls-cert and --tls-key"));
    }
    rv = nng_listener_start(l, 0);
    if (rv != 0) {
        return from_nng(rv, "cannot listen", url, err);
    }
    char *real = real_url(l, url);
    char *all = b->urls != NULL ? xasprintf("%s,%s", b->urls, real) : xstrdup(real);
    free(real);
    free(b->urls);
    b->urls = all;
    return MAG_OK;
}

static enum mag_status listen_all(struct bridge *b, const struct bridge_endpoint *at,
                                  struct mag_err *err)
{
    char *copy = xstrdup(at->urls);
    char *save = NULL;
    enum mag_status st = MAG_OK;
    for (char *url = strtok_r(copy, ", ", &save); url != NULL && st == MAG_OK;
         url = strtok_r(NULL, ", ", &save)) {
        st = listen_one(b, url, at, err);
    }
    free(copy);
    if (st == MAG_OK && b->urls == NULL) {
        st = mag_fail(err, MAG_INVALID, "worker endpoint: no address to listen on");
    }
    return st;
}

enum mag_status bridge_start(struct bridge **ret, struct event_base *base,
                             const struct bridge_endpoint *at, const struct bridge_handler *handler,
                             struct mag_err *err)
{
    struct bridge *b = xcalloc(1, sizeof(*b));
    b->handler = *handler;
    list_init(&b->inbox);
    (void)pthread_mutex_init(&b->lock, NULL);
    b->wake = event_new(base, -1, EV_PERSIST, on_wake, b);
    MAG_ASSERT(b->wake != NULL, "event_new");
    enum mag_status st = MAG_OK;
    int rv = nng_rep0_open_raw(&b->sock);
    b->open = rv == 0;
    if (rv == 0) {
        rv = set_options(b->sock);
    }
    if (rv == 0) {
        rv = nng_pipe_notify(b->sock, NNG_PIPE_EV_REM_POST, on_pipe, b);
    }
    if (rv == 0) {
        rv = nng_aio_alloc(&b->recv, on_receive, b);
    }
    st = rv == 0 ? listen_all(b, at, err) : from_nng(rv, "socket", at->urls, err);
    if (st != MAG_OK) {
        bridge_stop(b);
        return st;
    }
    nng_recv_aio(b->sock, b->recv);
    *ret = b;
    return MAG_OK;
}

void bridge_stop(struct bridge *b)
{
    if (b == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&b->lock);
    b->closed = true;
    (void)pthread_mutex_unlock(&b->lock);
    if (b->open && !hangup(b->sock.id, CLOSE_MS)) {
        log_warn("driver", "endpoint-left-open",
                 "reason=nng still waits for a worker's connection");
        event_free(b->wake);
        b->wake = NULL;
        return; /* nng's threads may still look at the rest: it goes with the process */
    }
    if (b->recv != NULL) {
        nng_aio_stop(b->recv);
        nng_aio_free(b->recv);
    }
    while (!list_is_empty(&b->inbox)) {
        struct item *it = container_of(list_first(&b->inbox), struct item, node);
        list_remove(&it->node);
        if (it->msg != NULL) {
            nng_msg_free(it->msg);
        }
        free(it);
    }
    event_free(b->wake);
    (void)pthread_mutex_destroy(&b->lock);
    free(b->urls);
    free(b);
}
