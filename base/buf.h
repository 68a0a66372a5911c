/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing byte buffer, always NUL-terminated after its `len` bytes. Zero-initialise; buf_fini frees.
 */
#ifndef MAG_BASE_BUF_H
#define MAG_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NULL while nothing was added */
    size_t len;
    size_t cap;
};

void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string literal with quotes, escaping what RFC 8259 asks for; bytes are taken as UTF-8. */
void buf_add_json_string(struct buf *b, const char *s);
/* The shortest decimal text that reads back as the same double; null for NaN and infinities. */
void buf_add_json_number(struct buf *b, double v);
void buf_add_int(struct buf *b, int64_t v);
/* Makes room for n more bytes and returns where they go; the caller adds to `len` what it wrote. */
char *buf_room(struct buf *b, size_t n);
/* Drops the first n bytes. */
void buf_shift(struct buf *b, size_t n);
/* Empties, keeping the memory. */
void buf_reset(struct buf *b);
/* The bytes as a malloc'ed string, never NULL; the buffer is empty afterwards. */
char *buf_take(struct buf *b);
void buf_fini(struct buf *b);

#endif
