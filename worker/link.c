/* SPDX-License-Identifier: Apache-2.0
 *
 * A channel is an nng context with one aio that first sends and then receives. The aio's callback
 * (on nng's thread) starts the receive, or leaves the outcome in the channel and wakes the loop;
 * between link_send and that wake-up the loop does not touch the channel.
 */
#include "worker/link.h"

#include "base/alloc.h"
#include "wire/hangup.h"
#include "wire/secure.h"
#include "wire/wire.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CLOSE_MS 2000

struct channel {
    struct link *link;
    enum link_channel which;
    nng_ctx ctx;
    bool has_ctx;
    nng_aio *aio;
    int timeout_ms;
    bool busy;        /* loop thread */
    bool receiving;   /* nng's thread while busy */
    nng_msg *reply;   /* nng's thread until done */
    atomic_bool done; /* set last by nng's thread: the loop may look */
};

struct link {
    nng_socket sock;
    nng_dialer dialer;
    bool open;
    struct event *wake;
    struct link_handler handler;
    struct channel channels[LINK_CHANNELS];
};

static void finish(struct channel *c, nng_msg *reply)
{
    c->reply = reply;
    atomic_store(&c->done, true);
    event_active(c->link->wake, EV_READ, 0);
}

/* nng's thread. */
static void on_aio(void *arg)
{
    struct channel *c = arg;
    int rv = nng_aio_result(c->aio);
    if (rv != 0) {
        if (!c->receiving) {
            nng_msg *msg = nng_aio_get_msg(c->aio);
            nng_msg_free(msg); /* unsent: still ours */
            nng_aio_set_msg(c->aio, NULL);
        }
        finish(c, NULL);
        return;
    }
    if (!c->receiving) {
        c->receiving = true;
        nng_aio_set_timeout(c->aio, c->timeout_ms);
        nng_ctx_recv(c->ctx, c->aio);
        return;
    }
    nng_msg *reply = nng_aio_get_msg(c->aio);
    nng_aio_set_msg(c->aio, NULL);
    finish(c, reply);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct link *l = arg;
    for (int i = 0; i < LINK_CHANNELS; i++) {
        struct channel *c = &l->channels[i];
        if (!c->busy || !atomic_exchange(&c->done, false)) {
            continue;
        }
        nng_msg *reply = c->reply;
        c->reply = NULL;
        c->busy = false;
        /* The handler may send again on this channel; closing the link is deferred by its callers.
         */
        if (reply != NULL) {
            l->handler.reply(l->handler.arg, c->which, nng_msg_body(reply), nng_msg_len(reply));
            nng_msg_free(reply);
        } else {
            l->handler.reply(l->handler.arg, c->which, NULL, 0);
        }
    }
}

bool link_is_busy(const struct link *l, enum link_channel ch)
{
    return l->channels[ch].busy;
}

void link_send(struct link *l, enum link_channel ch, const char *text, size_t len, int timeout_ms)
{
    struct channel *c = &l->channels[ch];
    nng_msg *msg = NULL;
    MAG_ASSERT(!c->busy, "channel %d", (int)ch);
    int rv = nng_msg_alloc(&msg, 0);
    if (rv == 0) {
        rv = nng_msg_append(msg, text, len);
    }
    MAG_ASSERT(rv == 0, "out of memory for a message of %zu bytes", len);
    c->busy = true;
    c->receiving = false;
    c->timeout_ms = timeout_ms;
    nng_aio_set_msg(c->aio, msg);
    nng_aio_set_timeout(c->aio, timeout_ms);
    nng_ctx_send(c->ctx, c->aio);
}

static enum mag_status from_nng(int rv, const char *url, struct mag_err *err)
{
    enum mag_status st =
        rv == NNG_EADDRINVAL || rv == NNG_ENOTSUP || rv == NNG_EINVAL ? MAG_INVALID : MAG_IO;
    return mag_fail(
        err, st, "driver address %s: %s%s", url, nng_strerror(rv),
        st == MAG_INVALID ? " (expected tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH)" : "");
}

static int set_up(struct link *l)
{
    int rv =
        nng_socket_set_size(l->sock, NNG_OPT_RECVMAXSZ, 0); /* the driver is trusted to answer */
    if (rv == 0) {
        rv = nng_socket_set_ms(l->sock, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    }
    if (rv == 0) {
        rv = nng_socket_set_ms(l->sock, NNG_OPT_RECONNMINT, 20);
    }
    if (rv == 0) {
        rv = nng_socket_set_ms(l->sock, NNG_OPT_RECONNMAXT, 250);
    }
    if (rv == 0) {
        rv = nng_socket_set_bool(l->sock, NNG_OPT_TCP_NODELAY, true);
    }
    if (rv == 0) {
        rv = nng_socket_set_bool(l->sock, NNG_OPT_TCP_KEEPALIVE, true);
    }
    for (int i = 0; i < LINK_CHANNELS && rv == 0; i++) {
        struct channel *c = &l->channels[i];
        c->link = l;
        c->which = (enum link_channel)i;
        rv = nng_ctx_open(&c->ctx, l->sock);
        c->has_ctx = rv == 0;
        if (rv == 0) {
            rv = nng_aio_alloc(&c->aio, on_aio, c);
        }
    }
    return rv;
}

/* Begins to connect, and goes on trying. */
static enum mag_status dial(struct link *l, const char *url, const char *ca, struct mag_err *err)
{
    int rv = nng_dialer_create(&l->dialer, l->sock, url);
    if (rv == 0 && secure_is_url(url)) {
        struct nng_tls_config *tls = NULL;
        enum mag_status st = secure_client(url, ca, &tls, err);
        if (st != MAG_OK) {
            return st;
        }
        rv = nng_dialer_set_ptr(l->dialer, NNG_OPT_TLS_CONFIG, tls);
        secure_free(tls);
    }
    if (rv == 0) {
        rv = nng_dialer_start(l->dialer, NNG_FLAG_NONBLOCK);
    }
    return rv == 0 ? MAG_OK : from_nng(rv, url, err);
}

const char *link_distrust(const struct link *l)
{
    nng_stat *all = NULL;
    if (l->dialer.id == 0 || nng_stats_get(&all) != 0) {
        return NULL;
    }
    nng_stat *mine = nng_stat_find_dialer(all, l->dialer);
    nng_stat *refused = mine != NULL ? nng_stat_find(mine, "auth") : NULL;
    const bool distrusts = refused != NULL && nng_stat_value(refused) > 0;
    nng_stats_free(all);
    return distrusts
               ? "its certificate is not signed by whom --ca or this system trusts, or is not "
                 "for the host name in the address (numbers do not count)"
               : NULL;
}

enum mag_status link_open(struct link **ret, struct event_base *base, const char *url,
                          const char *ca, const struct link_handler *handler, struct mag_err *err)
{
    struct link *l = xcalloc(1, sizeof(*l));
    l->handler = *handler;
    l->wake = event_new(base, -1, EV_PERSIST, on_wake, l);
    MAG_ASSERT(l->wake != NULL, "event_new");
    int rv = nng_req0_open(&l->sock);
    l->open = rv == 0;
    if (rv == 0) {
        rv = set_up(l);
    }
    enum mag_status st = rv == 0 ? dial(l, url, ca, err) : from_nng(rv, url, err);
    if (st != MAG_OK) {
        link_close(l);
        return st;
    }
    *ret = l;
    return MAG_OK;
}

void link_close(struct link *l)
{
    if (l == NULL) {
        return;
    }
    if (l->open && !hangup(l->sock.id, CLOSE_MS)) {
        (void)event_del(l->wake);
        return; /* nng's threads may still look at it: it goes with the process */
    }
    for (int i = 0; i < LINK_CHANNELS; i++) {
        struct channel *c = &l->channels[i];
        if (c->aio != NULL) {
            nng_aio_stop(c->aio);
            nng_aio_free(c->aio);
        }
        if (c->reply != NULL) {
            nng_msg_free(c->reply);
        }
    }
    event_free(l->wake);
    free(l);
}
