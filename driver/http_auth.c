/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may speak: loopback is no protection from a web page (which can make a browser send requests)
 * nor from other users of the host. So the Host header must be on a list, a foreign Origin is
 * refused, and a request carries the data folder's token or comes from a process of the driver's
 * own user.
 */
#include "driver/http_internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the token ---- */

static enum mag_status make_token(const char *path, char *token, size_t size, struct mag_err *err)
{
    unsigned char raw[HTTP_TOKEN_BYTES];
    if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw)) {
        return mag_fail(err, MAG_IO, "no random bytes: %s", strerror(errno));
    }
    for (size_t i = 0; i < sizeof(raw) && 2 * i + 2 < size; i++) {
        (void)snprintf(token + 2 * i, 3, "%02x", raw[i]);
    }
    /* Written whole under another name first: a reader never sees half a token. */
    char *fresh = xasprintf("%s.new", path);
    (void)unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t n = strlen(token);
    bool ok =
        fd >= 0 && write(fd, token, n) == (ssize_t)n && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
    ok = (fd < 0 || close(fd) == 0) && ok && rename(fresh, path) == 0;
    enum mag_status st = ok ? MAG_OK : mag_fail(err, MAG_IO, "%s: %s", path, strerror(errno));
    free(fresh);
    return st;
}

enum mag_status auth_token(const char *data_dir, char *token, size_t size, struct mag_err *err)
{
    char *path = xasprintf("%s/token", data_dir);
    enum mag_status st = MAG_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        st = make_token(path, token, size, err);
        goto out;
    }
    ssize_t n = fd < 0 ? -1 : read(fd, token, size - 1);
    if (n < 0) {
        st = mag_fail(err, MAG_IO, "%s: %s", path, strerror(errno));
        goto out;
    }
    token[n] = '\0';
    token[strcspn(token, " \t\r\n")] = '\0';
    if (strlen(token) < 16) {
        st = mag_fail(err, MAG_INVALID,
                      "%s: a token has 16 characters at least; delete the file to get a new one",
                      path);
    }
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    free(path);
    return st;
}

/* Takes as long for a wrong token as for a right one. */
bool auth_equal(const char *a, const char *b)
{
    size_t na = strlen(a);
    size_t nb = strlen(b);
    unsigned char differ = na != nb;
    for (size_t i = 0; i < na; i++) {
        differ |= (unsigned char)(a[i] ^ b[nb > 0 ? i % nb : 0]);
    }
    return differ == 0;
}

/* ---- hosts ---- */

void auth_allow_host(struct http *h, const char *host)
{
    if (h->n_hosts < HTTP_HOSTS_MAX && host[0] != '\0') {
        char *lower = xstrdup(host);
        for (char *p = lower; *p != '\0'; p++) {
            *p = (char)tolower((unsigned char)*p);
        }
        h->hosts[h->n_hosts++] = lower;
    }
}

/* "Example.org:8470" -> "example.org", "[::1]:8470" -> "[::1]". */
static void host_name(const char *value, char out[256])
{
    size_t n = 0;
    bool bracket = value[0] == '[';
    for (; value[n] != '\0' && n < 255 && (bracket || value[n] != ':'); n++) {
        out[n] = (char)tolower((unsigned char)value[n]);
        if (value[n] == ']') {
            n++;
            break;
        }
    }
    out[n] = '\0';
}

static bool host_allowed(const struct http *h, const char *value)
{
    char name[256];
    host_name(value, name);
    for (int i = 0; i < h->n_hosts; i++) {
        if (strcmp(h->hosts[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Our own page has the Host that it was asked with as its Origin. */
static bool origin_allowed(const char *origin, const char *host)
{
    const char *rest = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : NULL;
    return rest != NULL && host != NULL && strcasecmp(rest, host) == 0;
}

/* ---- the process at the other end ---- */

void auth_open(struct http *h)
{
    h->diag_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (h->diag_fd >= 0) {
        struct timeval patience = {.tv_usec = 200000};
        (void)setsockopt(h->diag_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }
}

void auth_close(struct http *h)
{
    if (h->diag_fd >= 0) {
        (void)close(h->diag_fd);
    }
    for (int i = 0; i < h->n_hosts; i++) {
        free(h->hosts[i]);
    }
}

/* The two ends of a connection as the other process has them. */
struct ends {
    int family;
    uint8_t near[16], far[16];    /* its address, ours */
    uint16_t near_port, far_port; /* network order */
};

static bool one_end(const struct sockaddr_storage *ss, int *family, uint8_t address[16],
                    uint16_t *port)
{
    *family = ss->ss_family;
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)ss;
        memcpy(address, &in->sin_addr, 4);
        *port = in->sin_port;
        return true;
    }
    if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)ss;
        memcpy(address, &in->sin6_addr, 16);
        *port = in->sin6_port;
        return true;
    }
    return false;
}

static bool both_ends(int fd, struct ends *e)
{
    struct sockaddr_storage peer;
    struct sockaddr_storage self;
    socklen_t peer_len = sizeof(peer);
    socklen_t self_len = sizeof(self);
    int family = 0;
    return getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 &&
           getsockname(fd, (struct sockaddr *)&self, &self_len) == 0 &&
           one_end(&peer, &e->family, e->near, &e->near_port) &&
           one_end(&self, &family, e->far, &e->far_port);
}

static bool is_loopback(const struct ends *e)
{
    static const uint8_t six[16] = {[15] = 1};
    static const uint8_t mapped[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    return e->family == AF_INET ? e->near[0] == 127
                                : memcmp(e->near, six, 16) == 0 || memcmp(e->near, mapped, 13) == 0;
}

static bool uid_by_diag(int diag_fd, const struct ends *e, uid_t *ret)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 req;
    } ask = {
        .head = {.nlmsg_len = sizeof(ask),
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST},
        .req = {.sdiag_family = (uint8_t)e->family,
                .sdiag_protocol = IPPROTO_TCP,
                .idiag_states = ~0U},
    };
    ask.req.id.idiag_sport = e->near_port;
    ask.req.id.idiag_dport = e->far_port;
    memcpy(ask.req.id.idiag_src, e->near, 16);
    memcpy(ask.req.id.idiag_dst, e->far, 16);
    ask.req.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
    ask.req.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (send(diag_fd, &ask, sizeof(ask), 0) != (ssize_t)sizeof(ask)) {
        return false;
    }
    _Alignas(struct nlmsghdr) char answer[4096];
    ssize_t n = recv(diag_fd, answer, sizeof(answer), 0);
    const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)answer;
    if (n < (ssize_t)(NLMSG_HDRLEN + sizeof(struct inet_diag_msg)) ||
        head->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
        return false;
    }
    const struct inet_diag_msg *msg =
        (const struct inet_diag_msg *)(const void *)(answer + NLMSG_HDRLEN);
    if (msg->id.idiag_sport != e->near_port || msg->id.idiag_dport != e->far_port) {
        return false;
    }
    *ret = msg->idiag_uid;
    return true;
}

/* Where the kernel has no sock_diag: the table of sockets as text. Slow, but once a connection. */
static bool uid_by_proc(const char *path, const struct ends *e, uid_t *ret)
{
    FILE *f = fopen(path, "re");
    char line[512];
    bool found = false;
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        unsigned near_port = 0;
        unsigned far_port = 0;
        unsigned uid = 0;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%x %*x %*x:%*x %*x:%*x %*x %u",
                   &near_port, &far_port, &uid) == 3 &&
            near_port == ntohs(e->near_port) && far_port == ntohs(e->far_port)) {
            *ret = uid;
            found = true;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

bool auth_peer_uid(int diag_fd, int fd, uid_t *ret)
{
    struct ends e = {0};
    if (!both_ends(fd, &e) || !is_loopback(&e)) {
        return false;
    }
    return (diag_fd >= 0 && uid_by_diag(diag_fd, &e, ret)) ||
           uid_by_proc("/proc/net/tcp", &e, ret) || uid_by_proc("/proc/net/tcp6", &e, ret);
}

/* ---- the check ---- */

static bool has_token(const struct http *h, const struct http_call *c)
{
    const char *value = http_header(c, "Authorization");
    if (value == NULL || strncasecmp(value, "Bearer ", 7) != 0) {
        return false;
    }
    value += 7;
    return auth_equal(value + strspn(value, " "), h->token);
}

static bool is_own_user(struct http *h, struct http_conn *conn)
{
    if (!conn->asked) {
        uid_t uid = 0;
        conn->asked = true;
        conn->trusted = auth_peer_uid(h->diag_fd, conn->fd, &uid) && uid == getuid();
    }
    return conn->trusted;
}

bool auth_check(struct http *h, struct http_call *c)
{
    const char *host = http_header(c, "Host");
    if (host == NULL || !host_allowed(h, host)) {
        http_problem(
            c, 403,
            "the Host header %s%s%s is not one of this driver's names; name it with --allow-host",
            host != NULL ? "'" : "", host != NULL ? host : "is missing and",
            host != NULL ? "'" : "");
        return false;
    }
    const char *origin = http_header(c, "Origin");
    if (origin != NULL && !origin_allowed(origin, host)) {
        http_problem(c, 403, "requests from pages of %s are refused", origin);
        return false;
    }
    if (c->route->flags & HTTP_F_PUBLIC) {
        return true;
    }
    if (http_header(c, "Authorization") != NULL) {
        if (has_token(h, c)) {
            return true;
        }
    } else if (!h->needs_token && is_own_user(h, c->conn)) {
        return true;
    }
    http_add_header(c, "WWW-Authenticate", "Bearer realm=\"magpie\"");
    http_problem(
        c, 401, "%s",
        http_header(c, "Authorization") != NULL
            ? "this is not the driver's token"
            : "send the token in the data folder's file 'token' as \"Authorization: Bearer …\"");
    return false;
}
