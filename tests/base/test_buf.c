/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/pcg.h"

#include <criterion/criterion.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(buf, grows_shifts_and_gives_its_bytes_away)
{
    struct buf b = {0};
    buf_add(&b, "", 0);
    cr_assert_str_eq(b.data, "", "ended by NUL even when empty");
    for (int i = 0; i < 1000; i++) {
        buf_addf(&b, "%d,", i);
    }
    cr_assert_eq(strlen(b.data), b.len);
    cr_assert_eq(strncmp(b.data, "0,1,2,", 6), 0);
    buf_shift(&b, 4);
    cr_assert_eq(strncmp(b.data, "2,3,", 4), 0);
    buf_shift(&b, b.len);
    cr_assert_eq(b.len, 0);
    cr_assert_str_eq(b.data, "");
    buf_adds(&b, "again");
    char *s = buf_take(&b);
    cr_assert_str_eq(s, "again");
    cr_assert_null(b.data);
    free(s);
    s = buf_take(&b);
    cr_assert_str_eq(s, "", "never NULL");
    free(s);
    buf_fini(&b);
}

Test(buf, holds_any_bytes)
{
    struct buf b = {0};
    buf_add(&b, "a\0b", 3);
    buf_addc(&b, '\0');
    cr_assert_eq(b.len, 4);
    cr_assert_eq(memcmp(b.data, "a\0b\0", 5), 0);
    buf_fini(&b);
}

Test(buf, integers_at_their_limits)
{
    const struct {
        int64_t v;
        const char *text;
    } cases[] = {{0, "0"},
                 {-1, "-1"},
                 {INT64_MAX, "9223372036854775807"},
                 {INT64_MIN, "-9223372036854775808"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        buf_add_int(&b, cases[i].v);
        cr_assert_str_eq(b.data, cases[i].text);
        buf_fini(&b);
    }
}

Test(buf, json_numbers_are_short)
{
    const struct {
        double v;
        const char *text;
    } cases[] = {
        {0.1, "0.1"},   {1, "1"},           {-3, "-3"},          {1e-4, "0.0001"},
        {0.93, "0.93"}, {1e15, "1e+15"},    {-0.0, "-0"},        {1.0 / 3, "0.3333333333333333"},
        {NAN, "null"},  {INFINITY, "null"}, {-INFINITY, "null"}, {123456789012.0, "123456789012"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        buf_add_json_number(&b, cases[i].v);
        cr_assert_str_eq(b.data, cases[i].text);
        buf_fini(&b);
    }
}

/* What is written is read back as the same bits, by strtod and by the JSON parser. */
static void round_trip(double v)
{
    struct buf b = {0};
    buf_add_json_number(&b, v);
    double again = strtod(b.data, NULL);
    cr_assert_eq(memcmp(&again, &v, sizeof(v)), 0, "%a became %s", v, b.data);
    json_t *j = json_loads(b.data, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    cr_assert_not_null(j, "%s", b.data);
    again = json_real_value(j);
    cr_assert_eq(memcmp(&again, &v, sizeof(v)), 0, "%a became %s in JSON", v, b.data);
    json_decref(j);
    buf_fini(&b);
}

Test(buf, json_numbers_round_trip_exactly)
{
    const double special[] = {0,
                              -0.0,
                              DBL_MIN,
                              DBL_MAX,
                              -DBL_MAX,
                              DBL_TRUE_MIN,
                              DBL_EPSILON,
                              1 - DBL_EPSILON / 2,
                              1e15,
                              1e15 - 1,
                              9007199254740993.0,
                              1e22,
                              1e23,
                              5e-324,
                              2.2250738585072011e-308};
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        round_trip(special[i]);
    }
    struct pcg64 g;
    pcg64_seed(&g, 1, 2);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = pcg64_next(&g);
        double v = 0;
        memcpy(&v, &bits, sizeof(v));
        if (isfinite(v)) {
            round_trip(v);
        }
        round_trip(pcg64_double(&g));
    }
}

Test(buf, json_strings_are_escaped)
{
    const struct {
        const char *in;
        const char *out;
    } cases[] = {{"", "\"\""},
                 {"plain é", "\"plain é\""},
                 {"a\"b\\c", "\"a\\\"b\\\\c\""},
                 {"line\nend\t\r", "\"line\\nend\\t\\u000d\""},
                 {"\x01\x1f", "\"\\u0001\\u001f\""}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        buf_add_json_string(&b, cases[i].in);
        cr_assert_str_eq(b.data, cases[i].out);
        json_t *j = json_loads(b.data, JSON_DECODE_ANY, NULL);
        cr_assert_str_eq(json_string_value(j), cases[i].in);
        json_decref(j);
        buf_fini(&b);
    }
}

/* What records were always written with. */
static int plain_number(double v, char text[40])
{
    int n = snprintf(text, 40, "%.15g", v);
    if (strtod(text, NULL) != v) {
        n = snprintf(text, 40, "%.16g", v);
        if (strtod(text, NULL) != v) {
            n = snprintf(text, 40, "%.17g", v);
        }
    }
    return n;
}

/* Every magnitude, round values, neighbours of powers, and values of few digits. */
static double odd_number(struct pcg64 *g, int i)
{
    double u = pcg64_double(g);
    uint64_t bits = pcg64_next(g);
    double any = 0;
    switch (i % 6) {
    case 0:
        memcpy(&any, &bits, sizeof(any));
        return any;
    case 1:
        return u;
    case 2:
        return (u - 0.5) * pow(10, (double)pcg64_below(g, 40) - 20);
    case 3:
        return nextafter(pow(2, (double)pcg64_below(g, 200) - 100), u < 0.5 ? 0 : INFINITY);
    case 4:
        return (double)pcg64_below(g, 100000) / pow(10, (double)pcg64_below(g, 12));
    default:
        return nextafter(pow(10, (double)pcg64_below(g, 60) - 30), u < 0.3 ? 0 : u < 0.6 ? INFINITY : 1);
    }
}

Test(buf, numbers_are_the_shortest_of_three_forms_byte_for_byte)
{
    struct pcg64 g;
    struct buf b = {0};
    pcg_stream(&g, 11, "numbers", 0);
    for (int i = 0; i < 600000; i++) {
        char want[40];
        double v = odd_number(&g, i);
        if (!isfinite(v) || (v == floor(v) && fabs(v) < 1e15)) {
            continue;
        }
        (void)plain_number(v, want);
        buf_reset(&b);
        buf_add_json_number(&b, v);
        cr_assert_str_eq(b.data, want, "%a", v);
    }
    buf_fini(&b);
}
