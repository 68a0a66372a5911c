/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pbread.h"

#include <string.h>

struct pb_reader pb_read(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    return (struct pb_reader){.p = p, .end = p + n};
}

struct pb_reader pb_inside(const struct pb_field *f)
{
    return (struct pb_reader){.p = f->bytes, .end = f->bytes + f->len};
}

static bool varint(struct pb_reader *r, uint64_t *ret)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 70 && r->p < r->end; shift += 7) {
        unsigned char b = *r->p++;
        v |= shift < 64 ? (uint64_t)(b & 0x7f) << shift : 0;
        if (b < 0x80) {
            *ret = v;
            return true;
        }
    }
    return false;
}

static bool fixed(struct pb_reader *r, size_t size, uint64_t *ret)
{
    uint64_t v = 0;
    if ((size_t)(r->end - r->p) < size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        v |= (uint64_t)r->p[i] << 8 * i;
    }
    r->p += size;
    *ret = v;
    return true;
}

bool pb_number(struct pb_reader *r, enum pb_type type, uint64_t *ret)
{
    switch (type) {
    case PB_VARINT:
        return varint(r, ret);
    case PB_64:
        return fixed(r, 8, ret);
    case PB_32:
        return fixed(r, 4, ret);
    case PB_BYTES:
    default:
        return false;
    }
}

bool pb_next(struct pb_reader *r, struct pb_field *f)
{
    uint64_t tag = 0;
    if (!varint(r, &tag) || tag >> 3 == 0 || tag >> 3 > INT32_MAX) {
        return false;
    }
    *f = (struct pb_field){.number = (int64_t)(tag >> 3), .type = (enum pb_type)(tag & 7)};
    if (f->type != PB_BYTES) {
        return pb_number(r, f->type, &f->value);
    }
    if (!varint(r, &f->value) || f->value > (uint64_t)(r->end - r->p)) {
        return false;
    }
    f->bytes = r->p;
    f->len = (size_t)f->value;
    r->p += f->len;
    return true;
}

double pb_as_double(uint64_t bits)
{
    double v = 0;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

double pb_as_float(uint64_t bits)
{
    float v = 0;
    uint32_t low = (uint32_t)bits;
    memcpy(&v, &low, sizeof(v));
    return (double)v;
}
