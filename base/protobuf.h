/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing Protocol Buffers messages: fields are appended to a buffer in the wire format of
 * https://protobuf.dev/programming-guides/encoding. A nested message is made in a buffer of its own
 * first. Fields with the value 0 or "" are written all the same; leave out what is to be absent.
 */
#ifndef MAG_BASE_PROTOBUF_H
#define MAG_BASE_PROTOBUF_H

#include "base/buf.h"

/* int64, uint64, bool, enum; negative numbers take ten bytes, as the format asks. */
void pb_int(struct buf *b, int field, int64_t v);
void pb_float(struct buf *b, int field, float v);
void pb_double(struct buf *b, int field, double v);
void pb_bytes(struct buf *b, int field, const void *bytes, size_t n);
void pb_text(struct buf *b, int field, const char *text);
/* Appends the message and empties it. */
void pb_message(struct buf *b, int field, struct buf *message_take);
/* The head of a bytes field or message of n bytes, which the caller appends itself. */
void pb_head(struct buf *b, int field, size_t n);

#endif
