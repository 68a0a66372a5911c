/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/dtype.h"

#include <math.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as they lie in memory");

size_t dtype_size(enum dtype t)
{
    switch (t) {
    case DTYPE_BOOL:
    case DTYPE_U1:
    case DTYPE_I1:
        return 1;
    case DTYPE_U2:
    case DTYPE_I2:
    case DTYPE_F2:
    case DTYPE_BF:
        return 2;
    case DTYPE_U4:
    case DTYPE_I4:
    case DTYPE_F4:
        return 4;
    case DTYPE_U8:
    case DTYPE_I8:
    case DTYPE_F8:
    default:
        return 8;
    }
}

bool dtype_is_float(enum dtype t)
{
    return t >= DTYPE_F2;
}

/* The bits of one number. */
static uint64_t bits_of(const unsigned char *from, size_t size, bool swap)
{
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++) {
        v |= (uint64_t)from[swap ? size - 1 - i : i] << (8 * i);
    }
    return v;
}

static double half_of(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double fraction = (double)(h & 1023);
    double v = exponent == 0    ? ldexp(fraction, -24)
               : exponent == 31 ? (fraction > 0 ? NAN : INFINITY)
                                : ldexp(1024 + fraction, exponent - 25);
    return h >> 15 ? -v : v;
}

static double float_of(uint32_t bits)
{
    float v = 0;
    memcpy(&v, &bits, sizeof(v));
    return (double)v;
}

static double double_of(uint64_t bits)
{
    double v = 0;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

static double number_of(enum dtype t, uint64_t bits)
{
    switch (t) {
    case DTYPE_BOOL:
        return bits != 0;
    case DTYPE_I1:
        return (int8_t)bits;
    case DTYPE_I2:
        return (int16_t)bits;
    case DTYPE_I4:
        return (int32_t)bits;
    case DTYPE_I8:
        return (double)(int64_t)bits;
    case DTYPE_F2:
        return half_of((uint16_t)bits);
    case DTYPE_BF:
        return float_of((uint32_t)bits << 16);
    case DTYPE_F4:
        return float_of((uint32_t)bits);
    case DTYPE_F8:
        return double_of(bits);
    case DTYPE_U1:
    case DTYPE_U2:
    case DTYPE_U4:
    case DTYPE_U8:
    default:
        return (double)bits;
    }
}

void dtype_to_floats(enum dtype t, bool swap, const unsigned char *from, size_t n, float *to)
{
    if (t == DTYPE_F4 && !swap) {
        memcpy(to, from, n * sizeof(float));
        return;
    }
    size_t size = dtype_size(t);
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)number_of(t, bits_of(from + i * size, size, swap));
    }
}

bool dtype_to_ints(enum dtype t, bool swap, const unsigned char *from, size_t n, int64_t *to)
{
    size_t size = dtype_size(t);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = bits_of(from + i * size, size, swap);
        double v = number_of(t, bits);
        if (t == DTYPE_U8 || t == DTYPE_I8) {
            to[i] = (int64_t)bits;
            if (t == DTYPE_U8 && bits > INT64_MAX) {
                return false;
            }
        } else if (!(v == floor(v)) || fabs(v) > 1e15) {
            return false;
        } else {
            to[i] = (int64_t)v;
        }
    }
    return true;
}
