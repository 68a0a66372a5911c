/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers as they lie in the files of others, little-endian unless swapped.
 */
#ifndef MAG_TRAINER_DTYPE_H
#define MAG_TRAINER_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_BOOL,
    DTYPE_U1,
    DTYPE_U2,
    DTYPE_U4,
    DTYPE_U8,
    DTYPE_I1,
    DTYPE_I2,
    DTYPE_I4,
    DTYPE_I8,
    DTYPE_F2,
    DTYPE_BF, /* bfloat16 */
    DTYPE_F4,
    DTYPE_F8,
};

/* Bytes of one. */
size_t dtype_size(enum dtype t);
bool dtype_is_float(enum dtype t);
/* `swap`: the bytes of each number lie the other way round. `from` may lie anywhere. */
void dtype_to_floats(enum dtype t, bool swap, const unsigned char *from, size_t n, float *to);
/* False when one is no whole number of 63 bits. */
bool dtype_to_ints(enum dtype t, bool swap, const unsigned char *from, size_t n, int64_t *to);

#endif
