/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/outlog.h"

#include "base/alloc.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void outlog_open(struct outlog *o, const char *path)
{
    *o = (struct outlog){.fd = -1, .path = xstrdup(path)};
}

static void write_out(struct outlog *o, const char *p, size_t n)
{
    if (n > 0 && o->fd < 0 && o->path != NULL) {
        o->fd = open(o->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    while (n > 0 && o->fd >= 0) {
        ssize_t w = write(o->fd, p, n);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            return; /* a full scratch disk costs the log, not the trial */
        }
        o->head += w;
        p += w;
        n -= (size_t)w;
    }
}

static void keep_tail(struct outlog *o, const char *bytes, size_t n)
{
    if (n > OUTLOG_TAIL_MAX) {
        bytes += n - OUTLOG_TAIL_MAX;
        n = OUTLOG_TAIL_MAX;
    }
    buf_add(&o->tail, bytes, n);
    if (o->tail.len > 2 * OUTLOG_TAIL_MAX) {
        buf_shift(&o->tail, o->tail.len - OUTLOG_TAIL_MAX);
    }
}

void outlog_add(struct outlog *o, const char *bytes, size_t n)
{
    size_t room = o->head < OUTLOG_HEAD_MAX ? (size_t)(OUTLOG_HEAD_MAX - o->head) : 0;
    write_out(o, bytes, n < room ? n : room);
    o->total += (int64_t)n;
    keep_tail(o, bytes, n);
}

void outlog_note(struct outlog *o, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(line) - 2 ? (size_t)n : sizeof(line) - 2;
    line[len++] = '\n';
    outlog_add(o, "[magpie] ", 9);
    outlog_add(o, line, len);
}

char *outlog_shown(const struct outlog *o)
{
    if (o->tail.len == 0) {
        return xstrdup("");
    }
    size_t from = o->tail.len > OUTLOG_SHOWN_MAX ? o->tail.len - OUTLOG_SHOWN_MAX : 0;
    const char *start = o->tail.data + from;
    size_t n = o->tail.len - from;
    const char *nl = from > 0 ? memchr(start, '\n', n) : NULL;
    if (nl != NULL && nl + 1 < start + n) {
        n -= (size_t)(nl + 1 - start);
        start = nl + 1;
    }
    char *shown = xstrndup(start, n);
    return shown;
}

char *outlog_last_line(const struct outlog *o)
{
    size_t end = o->tail.len;
    while (end > 0 && isspace((unsigned char)o->tail.data[end - 1])) {
        end--;
    }
    size_t start = end;
    while (start > 0 && o->tail.data[start - 1] != '\n') {
        start--;
    }
    if (end == start) {
        return NULL;
    }
    size_t n = end - start < 1000 ? end - start : 1000;
    return xstrndup(o->tail.data + start, n);
}

void outlog_close(struct outlog *o)
{
    if (o->fd > 0) {
        if (o->total > o->head) {
            size_t n = o->tail.len < OUTLOG_TAIL_MAX ? o->tail.len : OUTLOG_TAIL_MAX;
            int64_t left_out = o->total - o->head - (int64_t)n;
            char note[128];
            if (left_out < 0) {
                n = (size_t)(o->total - o->head);
                left_out = 0;
            }
            int k = snprintf(note, sizeof(note), "\n[magpie] %" PRId64 " bytes left out here\n",
                             left_out);
            write_out(o, note, left_out > 0 ? (size_t)k : 0);
            write_out(o, o->tail.data + o->tail.len - n, n);
        }
        (void)close(o->fd);
    }
    free(o->path);
    buf_fini(&o->tail);
    *o = (struct outlog){.fd = -1};
}
