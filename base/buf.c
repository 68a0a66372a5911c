/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/alloc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *buf_room(struct buf *b, size_t n)
{
    if (b->cap - b->len < n + 1 || b->data == NULL) {
        size_t cap = b->cap > 0 ? b->cap : 64;
        while (cap - b->len < n + 1) {
            cap *= 2;
        }
        b->data = xrealloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
    char *to = buf_room(b, n);
    if (n > 0) {
        memcpy(to, bytes, n);
    }
    to[n] = '\0';
    b->len += n;
}

void buf_adds(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n > 0) {
        char *to = buf_room(b, (size_t)n);
        (void)vsnprintf(to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_add_json_string(struct buf *b, const char *s)
{
    buf_addc(b, '"');
    const char *run = s;
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        buf_add(b, run, (size_t)(s - run));
        run = s + 1;
        switch (c) {
        case '"':
            buf_adds(b, "\\\"");
            break;
        case '\\':
            buf_adds(b, "\\\\");
            break;
        case '\n':
            buf_adds(b, "\\n");
            break;
        case '\t':
            buf_adds(b, "\\t");
            break;
        default:
            buf_addf(b, "\\u%04x", c);
            break;
        }
    }
    buf_add(b, run, (size_t)(s - run));
    buf_addc(b, '"');
}

void buf_add_int(struct buf *b, int64_t v)
{
    char text[24];
    char *end = text + sizeof(text);
    char *p = end;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do {
        *--p = (char)('0' + u % 10);
        u /= 10;
    } while (u > 0);
    if (v < 0) {
        *--p = '-';
    }
    buf_add(b, p, (size_t)(end - p));
}

void buf_shift(struct buf *b, size_t n)
{
    if (n > 0) {
        memmove(b->data, b->data + n, b->len - n + 1);
        b->len -= n;
    }
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    if (b->data != NULL) {
        b->data[0] = '\0';
    }
}

char *buf_take(struct buf *b)
{
    char *s = b->data != NULL ? b->data : xstrdup("");
    *b = (struct buf){0};
    return s;
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}
