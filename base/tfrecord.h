/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame of TFRecord files (TensorBoard's event files): length, masked CRC-32C of the length,
 * bytes, masked CRC-32C of the bytes; numbers little-endian.
 */
#ifndef MAG_BASE_TFRECORD_H
#define MAG_BASE_TFRECORD_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

#define TFRECORD_HEAD 12 /* bytes before a record */
#define TFRECORD_FOOT 4  /* and behind it */

void tfrecord_add(struct buf *out, const void *bytes, size_t n);
/* Reads a head of TFRECORD_HEAD bytes: the length of the record; false when its check fails. */
bool tfrecord_head(const void *head, uint64_t *ret);
/* Do the n bytes fit the foot of TFRECORD_FOOT bytes behind them? */
bool tfrecord_sound(const void *bytes, size_t n, const void *foot);

#endif
