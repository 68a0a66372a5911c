/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <criterion/criterion.h>

Test(time, durations_have_units)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"0", 0},         {"30s", 30000},          {"20m", 1200000}, {"2h", 7200000},
                {"1d", 86400000}, {"500ms", 500},          {"1.5", 1500},    {"0.5h", 1800000},
                {"10", 10000},    {"3650d", 315360000000}, {"0s", 0},        {"1e3", 1000000}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t ms = -1;
        cr_assert_eq(duration_parse(good[i].text, &ms), MAG_OK, "%s", good[i].text);
        cr_assert_eq(ms, good[i].ms, "%s gave %lld", good[i].text, (long long)ms);
    }
    static const char *const bad[] = {"",   "s",   "-1",  "-1s",   "+1s", "1 s",   " 1s", "1s ",
                                      "1w", "nan", "inf", "1e400", "1ss", "4000d", ".5",  "2h30m"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ms = -7;
        cr_assert_eq(duration_parse(bad[i], &ms), MAG_INVALID, "\"%s\" was taken", bad[i]);
        cr_assert_eq(ms, -7, "set on success only");
    }
}

Test(time, wall_time_is_rfc_3339_utc)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "1970-01-01T00:00:00.000Z"},
                 {951782400123, "2000-02-29T00:00:00.123Z"},
                 {4102444799999, "2099-12-31T23:59:59.999Z"}};
    char out[32];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        clock_rfc3339(cases[i].ms, out);
        cr_assert_str_eq(out, cases[i].text);
    }
}

Test(time, the_monotonic_clock_never_goes_back)
{
    int64_t last = clock_mono_ns();
    for (int i = 0; i < 100000; i++) {
        int64_t now = clock_mono_ns();
        cr_assert_geq(now, last);
        last = now;
    }
    cr_assert_gt(clock_wall_ms(), 1577836800000, "wall time is after 2020");
}
