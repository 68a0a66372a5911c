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
#include <sys/stat.h>
#include <unistd.h>

void outlog_open(struct outlog *o, const char *dir, const struct masks *masks, int64_t limit)
{
    *o = (struct outlog){.fd = -1, .dir = xstrdup(dir), .masks = masks};
    o->limit = limit > 0 ? limit : OUTLOG_LIMIT;
    o->segment = o->limit / 64;
    o->segment = o->segment < OUTLOG_SEGMENT_MIN   ? OUTLOG_SEGMENT_MIN
                 : o->segment > OUTLOG_SEGMENT_MAX ? OUTLOG_SEGMENT_MAX
                                                   : o->segment;
}

char *outlog_file(const char *dir, int64_t start)
{
    return xasprintf("%s/%" PRId64, dir, start);
}

/* ---- segments ---- */

static void forget(struct outlog *o, int i)
{
    memmove(&o->segments[i], &o->segments[i + 1],
            (size_t)(o->n_segments - i - 1) * sizeof(o->segments[0]));
    o->n_segments--;
}

static void remove_file(const struct outlog *o, const struct outlog_segment *g)
{
    char *path = outlog_file(o->dir, g->start);
    (void)unlink(path);
    free(path);
}

/* The oldest segment after the first quarter goes. */
static void drop_one(struct outlog *o)
{
    for (int i = 0; i + 1 < o->n_segments; i++) {
        struct outlog_segment *g = &o->segments[i];
        if (g->dropped || g->start + g->len <= o->limit / 4) {
            continue;
        }
        o->lost += g->len;
        remove_file(o, g);
        g->dropped = true;
        if (g->stored < 0) {
            forget(o, i);
        }
        return;
    }
}

static int64_t kept(const struct outlog *o)
{
    int64_t n = 0;
    for (int i = 0; i < o->n_segments; i++) {
        n += o->segments[i].dropped ? 0 : o->segments[i].len;
    }
    return n;
}

static void begin_segment(struct outlog *o)
{
    if (o->fd >= 0) {
        (void)close(o->fd);
    }
    if (kept(o) + o->segment > o->limit) {
        drop_one(o);
    }
    o->segments = xreallocarray(o->segments, (size_t)o->n_segments + 1, sizeof(*o->segments));
    o->segments[o->n_segments++] = (struct outlog_segment){.start = o->total, .stored = -1};
    char *path = outlog_file(o->dir, o->total);
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC;
    o->fd = open(path, flags, 0600);
    if (o->fd < 0 && errno == ENOENT && mkdir(o->dir, 0700) == 0) {
        o->fd = open(path, flags, 0600);
    }
    free(path);
}

static size_t write_out(int fd, const char *p, size_t n)
{
    size_t done = 0;
    while (done < n && fd >= 0) {
        ssize_t w = write(fd, p + done, n - done);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            break;
        }
        done += (size_t)w;
    }
    return done;
}

static void append(struct outlog *o, const char *p, size_t n)
{
    while (n > 0) {
        struct outlog_segment *g = o->n_segments > 0 ? &o->segments[o->n_segments - 1] : NULL;
        /* A segment holds what follows on from it: after a failed write comes a new one. */
        if (g == NULL || g->len >= o->segment || g->start + g->len != o->total) {
            begin_segment(o);
            g = &o->segments[o->n_segments - 1];
        }
        size_t room = (size_t)(o->segment - g->len);
        size_t k = n < room ? n : room;
        size_t w = write_out(o->fd, p, k);
        g->len += (int64_t)w;
        o->total += (int64_t)k;
        if (w < k) {
            o->lost += (int64_t)(k - w); /* a full scratch disk costs the log, not the trial */
            if (g->len == 0) {
                forget(o, o->n_segments - 1);
            }
        }
        p += k;
        n -= k;
    }
}

/* ---- the stream ---- */

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

static void take(struct outlog *o, const char *bytes, size_t n)
{
    if (o->dir != NULL && n > 0) {
        append(o, bytes, n);
        keep_tail(o, bytes, n);
    }
}

void outlog_add(struct outlog *o, const char *bytes, size_t n)
{
    o->raw += (int64_t)n;
    mask_stream_add(&o->in, o->masks, bytes, n, &o->scratch);
    take(o, o->scratch.data, o->scratch.len);
    buf_fini(&o->scratch);
}

void outlog_flush(struct outlog *o)
{
    mask_stream_end(&o->in, o->masks, &o->scratch);
    take(o, o->scratch.data, o->scratch.len);
    buf_fini(&o->scratch);
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
    struct buf b = {0};
    buf_adds(&b, "[magpie] ");
    masks_apply(o->masks, line, len, &b);
    take(o, b.data, b.len);
    buf_fini(&b);
}

/* ---- the last lines ---- */

/* UTF-8 without a NUL, so that JSON carries it byte for byte. */
static bool is_plain(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    for (size_t i = 0; i < n;) {
        size_t more = s[i] < 0x80                   ? 0
                      : s[i] >= 0xc2 && s[i] < 0xe0 ? 1
                      : s[i] >= 0xe0 && s[i] < 0xf0 ? 2
                      : s[i] >= 0xf0 && s[i] < 0xf5 ? 3
                                                    : n;
        if (s[i] == 0 || more >= n - i) {
            return false;
        }
        bool odd = (s[i] == 0xe0 && s[i + 1] < 0xa0) || (s[i] == 0xed && s[i + 1] > 0x9f) ||
                   (s[i] == 0xf0 && s[i + 1] < 0x90) || (s[i] == 0xf4 && s[i + 1] > 0x8f);
        for (size_t k = 1; k <= more; k++) {
            odd = odd || (s[i + k] & 0xc0) != 0x80;
        }
        if (odd) {
            return false;
        }
        i += more + 1;
    }
    return true;
}

char *outlog_shown(const struct outlog *o, size_t max, int64_t *ret_end)
{
    *ret_end = 0;
    max = max < OUTLOG_SHOWN_MAX ? max : OUTLOG_SHOWN_MAX;
    if (o->tail.len == 0) {
        return xstrdup("");
    }
    size_t from = o->tail.len > max ? o->tail.len - max : 0;
    const char *start = o->tail.data + from;
    size_t n = o->tail.len - from;
    const char *nl = from > 0 ? memchr(start, '\n', n) : NULL;
    if (nl != NULL && nl + 1 < start + n) {
        n -= (size_t)(nl + 1 - start);
        start = nl + 1;
    }
    *ret_end = is_plain(start, n) ? o->total : 0;
    return xstrndup(start, n);
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

/* ---- storage ---- */

bool outlog_has_news(const struct outlog *o)
{
    for (int i = o->n_segments - 1; i >= 0; i--) {
        const struct outlog_segment *g = &o->segments[i];
        if (g->dropped || g->stored < g->len) {
            return true;
        }
    }
    return false;
}

/* It was dropped here while it was on its way there. */
static void drop_there(struct outlog *o, int64_t start, int64_t len)
{
    o->segments = xreallocarray(o->segments, (size_t)o->n_segments + 1, sizeof(*o->segments));
    memmove(o->segments + 1, o->segments, (size_t)o->n_segments * sizeof(*o->segments));
    o->segments[0] =
        (struct outlog_segment){.start = start, .len = len, .stored = len, .dropped = true};
    o->n_segments++;
}

void outlog_stored(struct outlog *o, int64_t start, int64_t len)
{
    if (o->dir == NULL) {
        return; /* the run has ended meanwhile */
    }
    for (int i = 0; i < o->n_segments; i++) {
        struct outlog_segment *g = &o->segments[i];
        if (g->start != start) {
            continue;
        }
        bool last = i == o->n_segments - 1;
        g->stored = len;
        if (g->dropped && len < 0) {
            forget(o, i);
        } else if (!g->dropped && !last && len >= g->len) {
            remove_file(o, g); /* whole, and stored */
        }
        return;
    }
    if (len >= 0) {
        drop_there(o, start, len);
    }
}

void outlog_close(struct outlog *o)
{
    if (o->fd > 0) {
        (void)close(o->fd);
    }
    free(o->dir);
    free(o->segments);
    mask_stream_fini(&o->in);
    buf_fini(&o->tail);
    buf_fini(&o->scratch);
    *o = (struct outlog){.fd = -1};
}
