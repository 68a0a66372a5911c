/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tfrecord.h"

#include "base/crc32c.h"

#include <string.h>

#define MASK_DELTA 0xa282ead8U

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "numbers go out as they lie in memory");

/* So that the check of bytes that hold checks is no trivial one. */
static uint32_t masked(const void *bytes, size_t n)
{
    uint32_t crc = crc32c(0, bytes, n);
    return (crc >> 15 | crc << 17) + MASK_DELTA;
}

void tfrecord_add(struct buf *out, const void *bytes, size_t n)
{
    uint64_t len = n;
    uint32_t head = masked(&len, sizeof(len));
    uint32_t foot = masked(bytes, n);
    buf_add(out, &len, sizeof(len));
    buf_add(out, &head, sizeof(head));
    buf_add(out, bytes, n);
    buf_add(out, &foot, sizeof(foot));
}

bool tfrecord_head(const void *head, uint64_t *ret)
{
    uint32_t check = 0;
    memcpy(ret, head, sizeof(*ret));
    memcpy(&check, (const char *)head + sizeof(*ret), sizeof(check));
    return masked(ret, sizeof(*ret)) == check;
}

bool tfrecord_sound(const void *bytes, size_t n, const void *foot)
{
    uint32_t check = 0;
    memcpy(&check, foot, sizeof(check));
    return masked(bytes, n) == check;
}
