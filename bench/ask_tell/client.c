/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/ask_tell/client.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 4096
#define MARK 1000

struct client {
    int fd;
    bool telling; /* the answer awaited is that of a tell */
    struct buf in, out;
    int64_t start_ns;
};

struct run {
    struct crowd *c;
    struct client *clients;
    int64_t asked, told, key;
    int64_t start_ns, first_ns, last_ns;
    double *rounds_us;
    int64_t n_rounds;
    struct buf body;
    bool failed;
};

/* ---- connections ---- */

static int open_connection(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        (void)fprintf(stderr, "ask_tell: connecting to port %d: %s\n", port, strerror(errno));
        return -1;
    }
    return fd;
}

static void put_request(struct buf *out, const char *method, const char *path, const char *body,
                        size_t len)
{
    buf_reset(out);
    buf_addf(out,
             "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
             "application/json\r\nContent-Length: %zu\r\n\r\n",
             method, path, len);
    buf_add(out, body, len);
}

static bool send_all(int fd, const struct buf *out)
{
    for (size_t at = 0; at < out->len;) {
        ssize_t n = send(fd, out->data + at, out->len - at, MSG_NOSIGNAL);
        if (n <= 0 && errno != EINTR) {
            return false;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* The body of a whole answer in `in`, or NULL while something is missing. */
static const char *whole_answer(const struct buf *in, int *ret_status, size_t *ret_len)
{
    const char *end = in->len > 0 ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
    if (end == NULL) {
        return NULL;
    }
    const char *length = strcasestr(in->data, "\r\nContent-Length:");
    size_t want = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
    const char *body = end + 4;
    if ((size_t)(in->data + in->len - body) < want) {
        return NULL;
    }
    *ret_status = (int)strtol(in->data + 9, NULL, 10);
    *ret_len = want;
    return body;
}

char *client_call(int port, const char *method, const char *path, const char *body, int *ret_status)
{
    struct buf out = {0};
    struct buf in = {0};
    const char *answer = NULL;
    size_t len = 0;
    int fd = open_connection(port);
    put_request(&out, method, path, body, strlen(body));
    bool ok = fd >= 0 && send_all(fd, &out);
    while (ok && (answer = whole_answer(&in, ret_status, &len)) == NULL) {
        ssize_t n = recv(fd, buf_room(&in, 65536), 65536, 0);
        ok = n > 0;
        in.len += n > 0 ? (size_t)n : 0;
        buf_add(&in, "", 0);
    }
    char *copy = answer != NULL ? xstrndup(answer, len) : NULL;
    if (fd >= 0) {
        (void)close(fd);
    }
    buf_fini(&out);
    buf_fini(&in);
    return copy;
}

/* ---- a round: ask, tell ---- */

static bool fail(struct run *r, const char *what, const char *answer)
{
    (void)fprintf(stderr, "ask_tell: %s: %.300s\n", what, answer);
    r->failed = true;
    return false;
}

static bool send_ask(struct run *r, struct client *k)
{
    char path[96];
    int64_t left = r->c->trials - r->asked;
    int64_t n = left < r->c->batch ? left : r->c->batch;
    if (n <= 0) {
        return true; /* this one has nothing more to do */
    }
    r->asked += n;
    (void)snprintf(path, sizeof(path), "/api/v1/experiments/%lld/ask", r->c->experiment);
    buf_reset(&r->body);
    buf_addf(&r->body, "{\"count\":%lld,\"client\":\"bench\"", (long long)n);
    if (r->c->requests) {
        buf_addf(&r->body, ",\"request\":\"r%lld\"", (long long)++r->key);
    }
    buf_addc(&r->body, '}');
    put_request(&k->out, "POST", path, r->body.data, r->body.len);
    k->telling = false;
    k->start_ns = clock_mono_ns();
    return send_all(k->fd, &k->out) || fail(r, "sending an ask", strerror(errno));
}

static void add_result(struct buf *b, long long trial, bool named)
{
    buf_addc(b, '{');
    if (named) {
        buf_addf(b, "\"trial\":%lld,", trial);
    }
    buf_addf(b, "\"attempt\":1,\"state\":\"completed\",\"value\":%lld.5}", trial % 997);
}

/* From the trials of an ask's answer to a tell. */
static bool send_tell(struct run *r, struct client *k, const char *answer)
{
    char path[128];
    bool many = r->c->batch > 1;
    long long trial = 0;
    int n = 0;
    buf_reset(&r->body);
    buf_adds(&r->body, many ? "{\"results\":[" : "");
    for (const char *p = answer; (p = strstr(p, "{\"trial\":")) != NULL; n++) {
        p += 9;
        trial = strtoll(p, NULL, 10);
        buf_adds(&r->body, n > 0 ? "," : "");
        add_result(&r->body, trial, many);
    }
    buf_adds(&r->body, many ? "]}" : "");
    if (n == 0) {
        return fail(r, "an ask gave no trial", answer);
    }
    if (many) {
        (void)snprintf(path, sizeof(path), "/api/v1/experiments/%lld/tell", r->c->experiment);
    } else {
        (void)snprintf(path, sizeof(path), "/api/v1/experiments/%lld/trials/%lld/tell",
                       r->c->experiment, trial);
    }
    put_request(&k->out, "POST", path, r->body.data, r->body.len);
    k->telling = true;
    return send_all(k->fd, &k->out) || fail(r, "sending a tell", strerror(errno));
}

static bool count_told(struct run *r, struct client *k, const char *answer)
{
    int n = 0;
    for (const char *p = answer; (p = strstr(p, "\"state\":\"completed\"")) != NULL; p++) {
        n++;
    }
    if (n == 0) {
        return fail(r, "a tell was not taken", answer);
    }
    int64_t now = clock_mono_ns();
    int64_t before = r->told;
    r->told += n;
    if (before < MARK && r->told >= MARK) {
        r->first_ns = now - r->start_ns;
    }
    if (before < r->c->trials - MARK && r->told >= r->c->trials - MARK) {
        r->last_ns = now;
    }
    r->rounds_us[r->n_rounds++] = (double)(now - k->start_ns) / 1e3;
    return true;
}

static bool on_readable(struct run *r, struct client *k)
{
    ssize_t n = recv(k->fd, buf_room(&k->in, 65536), 65536, 0);
    if (n <= 0) {
        return fail(r, "the driver closed a connection", n < 0 ? strerror(errno) : "");
    }
    k->in.len += (size_t)n;
    buf_add(&k->in, "", 0);
    int status = 0;
    size_t len = 0;
    const char *answer = whole_answer(&k->in, &status, &len);
    if (answer == NULL) {
        return true;
    }
    if (status != 200) {
        return fail(r, "an answer is not 200", k->in.data);
    }
    bool ok = k->telling ? count_told(r, k, answer) && send_ask(r, k) : send_tell(r, k, answer);
    buf_reset(&k->in);
    return ok;
}

/* ---- the crowd ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void loop(struct run *r, int ep)
{
    struct epoll_event ready[256];
    while (r->told < r->c->trials && !r->failed) {
        int n = epoll_wait(ep, ready, 256, 30000);
        if (n == 0) {
            (void)fail(r, "no answer for 30 s", "");
        }
        for (int i = 0; i < n && !r->failed; i++) {
            (void)on_readable(r, ready[i].data.ptr);
        }
    }
}

static bool connect_all(struct run *r, int ep)
{
    for (int i = 0; i < r->c->clients; i++) {
        struct client *k = &r->clients[i];
        k->fd = open_connection(r->c->port);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = k};
        if (k->fd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, k->fd, &ev) != 0) {
            return false;
        }
    }
    return true;
}

bool crowd_run(struct crowd *c)
{
    struct run r = {.c = c};
    r.clients = xcalloc((size_t)c->clients, sizeof(*r.clients));
    r.rounds_us = xcalloc((size_t)(c->trials / c->batch + c->clients + 1), sizeof(double));
    int ep = epoll_create1(EPOLL_CLOEXEC);
    bool ok = ep >= 0 && connect_all(&r, ep);
    r.start_ns = clock_mono_ns();
    for (int i = 0; i < c->clients && ok; i++) {
        ok = send_ask(&r, &r.clients[i]);
    }
    if (ok) {
        loop(&r, ep);
    }
    int64_t end = clock_mono_ns();
    c->seconds = (double)(end - r.start_ns) / 1e9;
    c->first_s = (double)r.first_ns / 1e9;
    c->last_s = (double)(end - r.last_ns) / 1e9;
    if (r.n_rounds > 0) {
        qsort(r.rounds_us, (size_t)r.n_rounds, sizeof(double), compare);
        c->median_us = r.rounds_us[r.n_rounds / 2];
        c->p99_us = r.rounds_us[r.n_rounds * 99 / 100];
    }
    for (int i = 0; i < c->clients; i++) {
        if (r.clients[i].fd > 0) {
            (void)close(r.clients[i].fd);
        }
        buf_fini(&r.clients[i].in);
        buf_fini(&r.clients[i].out);
    }
    (void)close(ep);
    buf_fini(&r.body);
    free(r.clients);
    free(r.rounds_us);
    return ok && !r.failed;
}
