/* SPDX-License-Identifier: Apache-2.0 */
#include "base/protobuf.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect(struct buf *b, const char *bytes, size_t n)
{
    cr_assert_eq(b->len, n);
    cr_assert_arr_eq(b->data, bytes, n);
    buf_fini(b);
}

/* The examples of the format's own description. */
Test(protobuf, fields_have_the_published_bytes)
{
    struct buf b = {0};
    pb_int(&b, 1, 150);
    expect(&b, "\x08\x96\x01", 3);
    pb_text(&b, 2, "testing");
    expect(&b, "\x12\x07testing", 9);
    pb_int(&b, 1, -2);
    expect(&b, "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    pb_int(&b, 16, 0);
    expect(&b, "\x80\x01\x00", 3);
    pb_float(&b, 1, 1.5f);
    expect(&b, "\x0d\x00\x00\xc0\x3f", 5);
    pb_double(&b, 2, -2.0);
    expect(&b, "\x11\x00\x00\x00\x00\x00\x00\x00\xc0", 9);
}

Test(protobuf, a_message_lies_in_its_field_and_an_empty_one_too)
{
    struct buf inner = {0};
    struct buf b = {0};
    pb_int(&inner, 1, 150);
    pb_message(&b, 3, &inner);
    cr_assert_null(inner.data);
    pb_message(&b, 4, &inner);
    pb_head(&b, 5, 300);
    expect(&b, "\x1a\x03\x08\x96\x01\x22\x00\x2a\xac\x02", 10);
}
