/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP server: connections and the life of a call. libevent's evhttp parses and writes; it does
 * not read from a connection while its request is being answered, so one connection has one call.
 */
#include "driver/http_internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "driver/driver_internal.h"
#include "driver/peer.h"
#include "driver/rest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- connections ---- */

static void conn_free(struct http_conn *conn)
{
    struct http *h = conn->http;
    if (conn->fd < h->conns_cap && h->conns[conn->fd] == conn) {
        h->conns[conn->fd] = NULL;
    }
    h->stats.open--;
    free(conn);
}

/* evhttp is about to free the connection, and with it a request that is not answered yet. */
static void on_conn_closed(struct evhttp_connection *evcon, void *arg)
{
    struct http_conn *conn = arg;
    struct http_call *c = conn->call;
    if (c != NULL) {
        c->req = NULL;
        c->conn = NULL;
        if (c->gone != NULL) {
            void (*gone)(struct http_call *) = c->gone;
            c->gone = NULL;
            gone(c);
        }
    }
    conn_free(conn);
}

static struct http_conn *conn_of(struct http *h, struct evhttp_connection *evcon)
{
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(evcon));
    if (fd >= h->conns_cap) {
        int cap = h->conns_cap > 0 ? h->conns_cap : 256;
        while (cap <= fd) {
            cap *= 2;
        }
        h->conns = xreallocarray(h->conns, (size_t)cap, sizeof(struct http_conn *));
        memset(h->conns + h->conns_cap, 0,
               (size_t)(cap - h->conns_cap) * sizeof(struct http_conn *));
        h->conns_cap = cap;
    }
    struct http_conn *conn = h->conns[fd];
    if (conn != NULL && conn->evcon == evcon) {
        return conn;
    }
    conn = xcalloc(1, sizeof(*conn));
    conn->http = h;
    conn->evcon = evcon;
    conn->fd = fd;
    h->conns[fd] = conn;
    h->stats.connections++;
    h->stats.open++;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    evhttp_connection_set_closecb(evcon, on_conn_closed, conn);
    return conn;
}

/* ---- calls ---- */

void http_call_free(struct http_call *c)
{
    if (c->conn != NULL) {
        c->conn->call = NULL;
    }
    list_remove(&c->held);
    if (c->timer != NULL) {
        event_free(c->timer);
    }
    if (c->closed != NULL) {
        event_free(c->closed);
    }
    if (c->free_state != NULL) {
        c->free_state(c->state);
    }
    json_decref(c->body);
    evhttp_clear_headers(&c->query);
    buf_fini(&c->out);
    free(c);
}

static void send_now(struct http_call *c)
{
    struct http *h = c->d->http;
    struct evhttp_request *req = c->req;
    if (req == NULL) {
        http_call_free(c);
        return;
    }
    int status = c->status > 0 ? c->status : 200;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    if (c->out.len > 0) {
        (void)evhttp_add_header(headers, "Content-Type",
                                c->content_type != NULL ? c->content_type : "application/json");
        (void)evbuffer_add(evhttp_request_get_output_buffer(req), c->out.data, c->out.len);
    }
    if (evhttp_find_header(headers, "Cache-Control") == NULL) {
        (void)evhttp_add_header(headers, "Cache-Control", "no-store");
    }
    (void)evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    h->stats.by_class[status / 100 < 6 ? status / 100 : 5]++;
    /* The call ends before its request does: sending may close the connection. */
    http_call_free(c);
    evhttp_send_reply(req, status, http_reason(status), NULL);
}

static void on_durable(struct deferred *df, bool ok)
{
    struct http_call *c = container_of(df, struct http_call, df);
    if (!ok) {
        buf_reset(&c->out);
        c->status = 503;
        c->content_type = "application/problem+json";
        char detail[600];
        (void)snprintf(detail, sizeof(detail),
                       "the answer could not be stored, so nothing of it counts: %s",
                       c->d->read_only_why);
        http_problem_open(&c->out, 503, detail);
        buf_addc(&c->out, '}');
    }
    send_now(c);
}

void http_reply(struct http_call *c)
{
    c->gone = NULL;
    list_remove(&c->held);
    if (c->route != NULL && (c->route->flags & HTTP_F_AT_ONCE)) {
        send_now(c);
        return;
    }
    c->df.fn = on_durable;
    driver_after_commit(c->d, &c->df);
}

/* An event of our own that sees the peer close without reading what it may have sent ahead. */
static void on_peer_closed(evutil_socket_t fd, short what, void *arg)
{
    struct http_call *c = arg;
    void (*gone)(struct http_call *) = c->gone;
    c->gone = NULL;
    if (gone != NULL) {
        gone(c);
    }
}

void http_keep(struct http_call *c, void (*gone)(struct http_call *c))
{
    c->gone = gone;
    c->raw = NULL;
    c->x = NULL;
    list_append(&c->d->http->kept, &c->held);
    if (c->closed == NULL && c->conn != NULL) {
        c->closed = event_new(c->d->base, c->conn->fd, EV_CLOSED, on_peer_closed, c);
        if (c->closed != NULL) {
            (void)event_add(c->closed, NULL);
        }
    }
}

/* ---- calls that wait until their experiment may be changed again ---- */

static void forget_close(struct http_call *c)
{
    c->gone = NULL;
    list_remove(&c->held);
    if (c->closed != NULL) {
        event_free(c->closed);
        c->closed = NULL;
    }
}

/* It came whole: it is carried out even though nobody will hear the answer. */
static void on_parked_gone(struct http_call *c)
{
    forget_close(c);
}

static void on_unparked(struct parked *p, bool ok)
{
    struct http_call *c = container_of(p, struct http_call, parked);
    forget_close(c);
    c->x = record_find(c->d, c->args[0]);
    if (!ok) {
        http_problem(c, 503, "the driver is stopping; send it again");
    } else if (c->x == NULL) {
        http_problem(c, 404, "no experiment is called %s", c->args[0]);
    } else {
        c->route->handler(c);
    }
}

/* Changes to an experiment wait while its next suggestion is computed. */
static bool park(struct http_call *c)
{
    struct experiment *x = c->x;
    if (x == NULL || !driver_is_thinking(x) || c->route->method == HTTP_GET ||
        (c->route->flags & HTTP_F_HOLDS) != 0) {
        return false;
    }
    c->parked.fn = on_unparked;
    http_keep(c, on_parked_gone);
    driver_park(c->d, x, &c->parked);
    return true;
}

static enum http_method method_of(struct evhttp_request *req)
{
    switch (evhttp_request_get_command(req)) {
    case EVHTTP_REQ_GET:
    case EVHTTP_REQ_HEAD:
        return HTTP_GET;
    case EVHTTP_REQ_POST:
        return HTTP_POST;
    case EVHTTP_REQ_DELETE:
        return HTTP_DELETE;
    case EVHTTP_REQ_PATCH:
        return HTTP_PATCH;
    case EVHTTP_REQ_PUT:
    case EVHTTP_REQ_OPTIONS:
    case EVHTTP_REQ_TRACE:
    case EVHTTP_REQ_CONNECT:
    default:
        return 0;
    }
}

static void read_body(struct http_call *c)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(c->req);
    c->raw_len = evbuffer_get_length(in);
    c->raw = c->raw_len > 0 ? (const char *)evbuffer_pullup(in, -1) : "";
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct http *h = arg;
    struct http_call *c = xcalloc(1, sizeof(*c));
    c->d = h->d;
    c->req = req;
    c->conn = conn_of(h, evhttp_request_get_connection(req));
    c->conn->call = c;
    TAILQ_INIT(&c->query);
    h->stats.requests++;
    loop_between(h->d);
    if (h->stats.open > HTTP_CONNECTIONS_MAX) {
        http_add_header(c, "Connection", "close");
        http_problem(c, 503, "%d connections are open already", HTTP_CONNECTIONS_MAX);
        return;
    }
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
    const char *query = uri != NULL ? evhttp_uri_get_query(uri) : NULL;
    if (query != NULL && query[0] != '\0' && evhttp_parse_query_str(query, &c->query) != 0) {
        http_problem(c, 400, "the query string cannot be read");
        return;
    }
    read_body(c);
    if (route_find(c, path != NULL ? path : "/", method_of(req)) && auth_check(h, c) &&
        route_prepare(c)) {
        if (!park(c)) {
            c->route->handler(c);
        }
    } else {
        h->stats.refused++;
    }
}

/* ---- start and end ---- */

/* "127.0.0.1:8470", "[::1]:0", "localhost:8470". */
static enum mag_status split_address(const char *text, char host[256], ev_uint16_t *port,
                                     struct mag_err *err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    long n = colon != NULL ? strtol(colon + 1, &end, 10) : -1;
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    if (colon == NULL || colon[1] == '\0' || *end != '\0' || n < 0 || n > 65535 || len == 0 ||
        len > 255) {
        return mag_fail(err, MAG_INVALID,
                        "HTTP address '%s': expected ADDR:PORT, such as 127.0.0.1:8470", text);
    }
    bool bracket = text[0] == '[' && text[len - 1] == ']';
    (void)snprintf(host, 256, "%.*s", (int)(bracket ? len - 2 : len), bracket ? text + 1 : text);
    *port = (ev_uint16_t)n;
    return MAG_OK;
}

static void allow_hosts(struct http *h, const char *host, const char *more)
{
    static const char *const always[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
        auth_allow_host(h, always[i]);
    }
    char bracketed[300];
    (void)snprintf(bracketed, sizeof(bracketed), strchr(host, ':') != NULL ? "[%s]" : "%s", host);
    auth_allow_host(h, bracketed);
    char name[256] = "";
    if (!h->loopback && gethostname(name, sizeof(name) - 1) == 0) {
        auth_allow_host(h, name);
    }
    char *copy = xstrdup(more != NULL ? more : "");
    char *save = NULL;
    for (char *one = strtok_r(copy, ", ", &save); one != NULL; one = strtok_r(NULL, ", ", &save)) {
        auth_allow_host(h, one);
    }
    free(copy);
}

static enum mag_status listen_on(struct http *h, const char *host, ev_uint16_t port,
                                 struct mag_err *err)
{
    h->bound = evhttp_bind_socket_with_handle(h->server, host, port);
    if (h->bound == NULL) {
        return mag_fail(err, MAG_IO, "HTTP address %s:%u: %s", host, port,
                        errno == EADDRINUSE ? "another program listens there; choose another port"
                                            : strerror(errno));
    }
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(evhttp_bound_socket_get_fd(h->bound), (struct sockaddr *)&ss, &len) != 0) {
        return mag_fail(err, MAG_IO, "HTTP address: %s", strerror(errno));
    }
    unsigned real = ss.ss_family == AF_INET6
                        ? ntohs(((struct sockaddr_in6 *)(void *)&ss)->sin6_port)
                        : ntohs(((struct sockaddr_in *)(void *)&ss)->sin_port);
    bool six = strchr(host, ':') != NULL;
    h->url = xasprintf("http%s://%s%s%s:%u", h->tls != NULL ? "s" : "", six ? "[" : "", host,
                       six ? "]" : "", real);
    return MAG_OK;
}

static void set_limits(struct http *h)
{
    evhttp_set_allowed_methods(h->server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
                                              EVHTTP_REQ_DELETE | EVHTTP_REQ_PATCH |
                                              EVHTTP_REQ_PUT | EVHTTP_REQ_OPTIONS);
    evhttp_set_max_headers_size(h->server, HTTP_HEADERS_MAX);
    evhttp_set_max_body_size(h->server, HTTP_BODY_MAX);
    evhttp_set_timeout(h->server, HTTP_TIMEOUT_S);
    evhttp_set_default_content_type(h->server, NULL);
    evhttp_set_gencb(h->server, on_request, h);
}

enum mag_status http_start(struct http **ret, struct driver *d, struct mag_err *err)
{
    char host[256];
    ev_uint16_t port = 0;
    enum mag_status st = split_address(d->cfg.http_addr, host, &port, err);
    if (st != MAG_OK) {
        return st;
    }
    struct http *h = xcalloc(1, sizeof(*h));
    h->d = d;
    h->diag_fd = -1;
    list_init(&h->kept);
    h->loopback = peer_host_is_loopback(host);
    h->needs_token = d->cfg.require_token || !h->loopback;
    h->server = evhttp_new(d->base);
    MAG_ASSERT(h->server != NULL, "no evhttp");
    st = auth_token(d->data_dir, h->token, sizeof(h->token), err);
    if (st == MAG_OK) {
        allow_hosts(h, host, d->cfg.allow_hosts);
        auth_open(h);
        set_limits(h);
    }
    if (st == MAG_OK && d->cfg.tls_cert != NULL) {
        st = tls_start(h, d->cfg.tls_cert, d->cfg.tls_key, err);
    }
    if (st == MAG_OK) {
        st = listen_on(h, host, port, err);
    }
    if (st != MAG_OK) {
        http_stop(h);
        return st;
    }
    if (!h->loopback && h->tls == NULL) {
        log_warn(
            "http", "no-tls", "address=%s advice=%s", h->url,
            log_quote("other hosts can read what is sent; start it with --tls-cert and --tls-key"));
    }
    *ret = h;
    return MAG_OK;
}

void http_drain(struct http *h)
{
    if (h != NULL && h->bound != NULL) {
        evhttp_del_accept_socket(h->server, h->bound);
        h->bound = NULL;
    }
}

void http_end_waits(struct http *h)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &h->kept)
    {
        on_peer_closed(-1, 0, container_of(n, struct http_call, held));
    }
}

void http_stop(struct http *h)
{
    if (h == NULL) {
        return;
    }
    http_end_waits(h);
    evhttp_free(h->server);
    tls_stop(h);
    auth_close(h);
    free(h->conns);
    free(h->url);
    free(h);
}

const char *http_url(const struct http *h)
{
    return h->url;
}

const struct http_stats *http_stats(const struct http *h)
{
    return &h->stats;
}
