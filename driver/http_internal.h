/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to driver/http*.c.
 */
#ifndef MAG_DRIVER_HTTP_INTERNAL_H
#define MAG_DRIVER_HTTP_INTERNAL_H

#include "driver/http.h"

#include <sys/types.h>

#define HTTP_TOKEN_BYTES 32
#define HTTP_HOSTS_MAX 32

/* What is known of one connection; found by its descriptor. */
struct http_conn {
    struct http *http;
    struct evhttp_connection *evcon;
    int fd;
    bool trusted;           /* it came from a process of our own user */
    bool asked;             /* and that was looked up */
    struct http_call *call; /* in progress */
};

struct http {
    struct driver *d;
    struct evhttp *server;
    struct evhttp_bound_socket *bound;
    char *url;
    bool loopback;    /* the address it listens on */
    bool needs_token; /* also from our own user */
    char token[2 * HTTP_TOKEN_BYTES + 1];
    char *hosts[HTTP_HOSTS_MAX]; /* allowed in Host, without port, lower case */
    int n_hosts;
    void *tls;                /* SSL_CTX, NULL = plain HTTP */
    int diag_fd;              /* sock_diag, -1 = not there */
    struct http_conn **conns; /* index = descriptor */
    int conns_cap;
    struct list_node kept; /* calls that are kept */
    struct http_stats stats;
};

/* ---- http_auth.c ---- */
/* Reads the token of the data folder, or makes one (mode 0600). */
enum mag_status auth_token(const char *data_dir, char *token, size_t size,
                           struct mag_err *err) MAG_MUSTCHECK;
void auth_allow_host(struct http *h, const char *host);
void auth_open(struct http *h);
void auth_close(struct http *h);
/* True when the call may go on; else a problem was sent and the call has ended. */
bool auth_check(struct http *h, struct http_call *c);
bool auth_equal(const char *a, const char *b);
/* The user of the process at the other end of a loopback connection; false when it cannot be told.
 */
bool auth_peer_uid(int diag_fd, int fd, uid_t *ret);

/* ---- http_tls.c ---- */
/* Connections accepted from now on speak TLS. */
enum mag_status tls_start(struct http *h, const char *cert, const char *key,
                          struct mag_err *err) MAG_MUSTCHECK;
void tls_stop(struct http *h);

/* ---- http_route.c ---- */
/* Finds the route of a call and cuts its path up; else a problem was sent. */
bool route_find(struct http_call *c, const char *path, enum http_method method);
/* Looks up what the path names and parses the body; else a problem was sent. */
bool route_prepare(struct http_call *c);

#endif
