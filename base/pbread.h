/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading Protocol Buffers messages: the fields of one message in their order. Any bytes may be given;
 * reading ends where they make no sense. Borrows the bytes.
 */
#ifndef MAG_BASE_PBREAD_H
#define MAG_BASE_PBREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pb_type { PB_VARINT = 0, PB_64 = 1, PB_BYTES = 2, PB_32 = 5 };

struct pb_reader {
    const unsigned char *p, *end;
};

struct pb_field {
    int64_t number;
    enum pb_type type;
    uint64_t value;             /* of a number, its bits */
    const unsigned char *bytes; /* PB_BYTES */
    size_t len;
};

struct pb_reader pb_read(const void *bytes, size_t n);
/* The message that lies in a PB_BYTES field. */
struct pb_reader pb_inside(const struct pb_field *f);
/* False at the end, and where the bytes are no field. */
bool pb_next(struct pb_reader *r, struct pb_field *f);
/* One number without a tag, as in packed fields; false at the end or when it is cut short. */
bool pb_number(struct pb_reader *r, enum pb_type type, uint64_t *ret);

double pb_as_double(uint64_t bits);
double pb_as_float(uint64_t bits);

#endif
