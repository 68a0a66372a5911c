/* SPDX-License-Identifier: Apache-2.0 */
#include "base/protobuf.h"

#include <string.h>

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "fixed numbers go out as they lie in memory");

static void varint(struct buf *b, uint64_t v)
{
    while (v >= 0x80) {
        buf_addc(b, (char)(v | 0x80));
        v >>= 7;
    }
    buf_addc(b, (char)v);
}

static void tag(struct buf *b, int field, enum wire_type type)
{
    varint(b, (uint64_t)field << 3 | (uint64_t)type);
}

void pb_int(struct buf *b, int field, int64_t v)
{
    tag(b, field, WIRE_VARINT);
    varint(b, (uint64_t)v);
}

void pb_float(struct buf *b, int field, float v)
{
    tag(b, field, WIRE_32);
    buf_add(b, &v, sizeof(v));
}

void pb_double(struct buf *b, int field, double v)
{
    tag(b, field, WIRE_64);
    buf_add(b, &v, sizeof(v));
}

void pb_head(struct buf *b, int field, size_t n)
{
    tag(b, field, WIRE_BYTES);
    varint(b, n);
}

void pb_bytes(struct buf *b, int field, const void *bytes, size_t n)
{
    pb_head(b, field, n);
    buf_add(b, bytes, n);
}

void pb_text(struct buf *b, int field, const char *text)
{
    pb_bytes(b, field, text, strlen(text));
}

void pb_message(struct buf *b, int field, struct buf *message_take)
{
    pb_bytes(b, field, message_take->data != NULL ? message_take->data : "", message_take->len);
    buf_fini(message_take);
}
