/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/murmur3.h"

#include <string.h>

static uint32_t rotate(uint32_t x, int by)
{
    return x << by | x >> (32 - by);
}

static uint32_t mix(uint32_t k)
{
    return rotate(k * 0xcc9e2d51u, 15) * 0x1b873593u;
}

uint32_t murmur3(const void *bytes, size_t n, uint32_t seed)
{
    const unsigned char *p = bytes;
    uint32_t h = seed;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t k = (uint32_t)p[i] | (uint32_t)p[i + 1] << 8 | (uint32_t)p[i + 2] << 16 |
                     (uint32_t)p[i + 3] << 24;
        h = rotate(h ^ mix(k), 13) * 5 + 0xe6546b64u;
    }
    uint32_t tail = 0;
    for (size_t k = n; k > i; k--) {
        tail = tail << 8 | p[k - 1];
    }
    h ^= n > i ? mix(tail) : 0;
    h ^= (uint32_t)n;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

uint32_t murmur3_place(const void *bytes, size_t n, uint32_t features)
{
    int64_t h = (int32_t)murmur3(bytes, n, MURMUR3_SPARK_SEED); /* signed, as Java has it */
    int64_t r = h % (int64_t)features;
    return (uint32_t)(r < 0 ? r + features : r);
}
