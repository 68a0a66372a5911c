/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <pthread.h>

#define POLYNOMIAL 0x82f63b78U /* reflected */

/* table[k][b]: what byte b does to the remainder k bytes later, so that eight go in one step. */
static uint32_t table[8][256];

static void make_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++) {
            c = (c & 1) != 0 ? c >> 1 ^ POLYNOMIAL : c >> 1;
        }
        table[0][b] = c;
    }
    for (int k = 1; k < 8; k++) {
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t before = table[k - 1][b];
            table[k][b] = before >> 8 ^ table[0][before & 0xff];
        }
    }
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const unsigned char *p = bytes;
    uint32_t c = ~crc;
    (void)pthread_once(&once, make_table);
    for (; n >= 8; n -= 8, p += 8) {
        c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        c = table[7][c & 0xff] ^ table[6][c >> 8 & 0xff] ^ table[5][c >> 16 & 0xff] ^
            table[4][c >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n > 0; n--, p++) {
        c = c >> 8 ^ table[0][(c ^ *p) & 0xff];
    }
    return ~c;
}
