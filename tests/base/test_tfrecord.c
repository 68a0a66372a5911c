/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"
#include "base/tfrecord.h"

#include <criterion/criterion.h>
#include <string.h>

/* RFC 3720, B.4, and the check value of the catalogue of CRCs. */
Test(crc32c, gives_the_published_checks)
{
    unsigned char b[32] = {0};
    cr_assert_eq(crc32c(0, "", 0), 0);
    cr_assert_eq(crc32c(0, "123456789", 9), 0xe3069283);
    cr_assert_eq(crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, 32);
    cr_assert_eq(crc32c(0, b, 32), 0x62a8ab43);
    for (unsigned char i = 0; i < 32; i++) {
        b[i] = i;
    }
    cr_assert_eq(crc32c(0, b, 32), 0x46dd794e);
}

Test(crc32c, is_the_same_in_pieces)
{
    const char text[] = "one text, cut wherever it may be cut";
    uint32_t whole = crc32c(0, text, sizeof(text));
    for (size_t cut = 0; cut <= sizeof(text); cut++) {
        cr_assert_eq(crc32c(crc32c(0, text, cut), text + cut, sizeof(text) - cut), whole);
    }
}

/* The first record of every event file that TensorFlow writes, but for its time. */
Test(tfrecord, a_record_has_the_bytes_that_tensorflow_writes)
{
    static const char expected[] = "\x18\x00\x00\x00\x00\x00\x00\x00\xa3\x7f\x4b\x22";
    struct buf b = {0};
    char event[24] = {0};
    uint64_t n = 0;
    tfrecord_add(&b, event, sizeof(event));
    cr_assert_eq(b.len, TFRECORD_HEAD + sizeof(event) + TFRECORD_FOOT);
    cr_assert_arr_eq(b.data, expected, TFRECORD_HEAD);
    cr_assert(tfrecord_head(b.data, &n) && n == sizeof(event));
    cr_assert(tfrecord_sound(b.data + TFRECORD_HEAD, n, b.data + b.len - TFRECORD_FOOT));
    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= 1;
        bool head = tfrecord_head(b.data, &n);
        bool body = tfrecord_sound(b.data + TFRECORD_HEAD, sizeof(event),
                                   b.data + b.len - TFRECORD_FOOT);
        cr_assert(!head || !body, "byte %zu", i);
        b.data[i] ^= 1;
    }
    buf_fini(&b);
}
