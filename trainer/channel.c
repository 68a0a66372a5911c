/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/channel.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define READ_SIZE 65536

void channel_init(struct channel *c, int fd)
{
    *c = (struct channel){.fd = fd};
}

void channel_fini(struct channel *c)
{
    buf_fini(&c->in);
}

/* Reads once; false when nothing came (and `ended` tells why). */
static bool receive(struct channel *c, bool wait)
{
    ssize_t n = 0;
    do {
        n = recv(c->fd, buf_room(&c->in, READ_SIZE), READ_SIZE, wait ? 0 : MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        c->in.len += (size_t)n;
        c->in.data[c->in.len] = '\0';
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        c->ended = true;
    }
    return false;
}

/* A whole line from what was read, or NULL. */
static char *cut_line(struct channel *c, size_t *ret_len)
{
    while (c->in.len > c->searched) {
        char *start = c->in.data + c->taken;
        char *end = memchr(c->in.data + c->searched, '\n', c->in.len - c->searched);
        if (end == NULL) {
            c->searched = c->in.len;
            break;
        }
        size_t len = (size_t)(end - start);
        c->taken += len + 1;
        c->searched = c->taken;
        if (c->skipping) { /* the rest of a long line */
            c->skipping = false;
            continue;
        }
        if (len > CHANNEL_LINE_MAX) {
            log_warn("trainer", "line-too-long", "limit=%d", CHANNEL_LINE_MAX);
            continue;
        }
        *end = '\0';
        *ret_len = len;
        return start;
    }
    return NULL;
}

/* Drops what was handed out, and a line that grows too long. */
static void tidy(struct channel *c)
{
    if (c->taken > 0) {
        buf_shift(&c->in, c->taken);
        c->searched -= c->taken;
        c->taken = 0;
    }
    if (c->in.len > CHANNEL_LINE_MAX || (c->skipping && c->in.len > 0)) {
        if (!c->skipping) {
            log_warn("trainer", "line-too-long", "limit=%d", CHANNEL_LINE_MAX);
        }
        c->skipping = true;
        buf_reset(&c->in);
        c->searched = 0;
    }
}

char *channel_next(struct channel *c, bool wait, size_t *ret_len)
{
    for (;;) {
        char *line = cut_line(c, ret_len);
        if (line != NULL) {
            return line;
        }
        tidy(c);
        if (c->ended || !receive(c, wait)) {
            return NULL;
        }
    }
}

enum mag_status channel_write(struct channel *c, const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = send(c->fd, line, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            c->ended = true;
            return MAG_CLOSED;
        }
        line += n;
        len -= (size_t)n;
    }
    return MAG_OK;
}
