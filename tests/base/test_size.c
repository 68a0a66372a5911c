/* SPDX-License-Identifier: Apache-2.0 */
#include "base/size.h"

#include <criterion/criterion.h>

Test(size, sizes_have_units)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"0", 0},
                {"100", 100},
                {"100B", 100},
                {"64 MB", 64 << 20},
                {"64MiB", 64 << 20},
                {"1.5KB", 1536},
                {"0.1KB", 103},
                {"10GB", INT64_C(10) << 30},
                {"2TB", INT64_C(2) << 40},
                {"8192TB", INT64_C(1) << 53}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t n = -1;
        cr_assert_eq(size_parse(good[i].text, &n), MAG_OK, "%s", good[i].text);
        cr_assert_eq(n, good[i].bytes, "%s gave %lld", good[i].text, (long long)n);
    }
    static const char *const bad[] = {"",       "GB",   "-1",  "-1GB", "1  GB",
                                      "1gb",    "1GBs", "nan", "inf",  "1e400",
                                      "8193TB", " 1GB", "1 ",  "1G B", "+1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t n = -7;
        cr_assert_eq(size_parse(bad[i], &n), MAG_INVALID, "\"%s\" was taken", bad[i]);
        cr_assert_eq(n, -7, "set on success only");
    }
}

Test(size, sizes_are_shown_with_three_digits_or_so)
{
    static const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {999, "999 B"},
                 {1000, "1.0 KB"},
                 {1536, "1.5 KB"},
                 {200 << 10, "200 KB"},
                 {INT64_C(10) << 30, "10.0 GB"},
                 {INT64_C(1) << 53, "8192 TB"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[24];
        size_format(cases[i].bytes, text);
        cr_assert_str_eq(text, cases[i].text);
    }
}
