/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

Test(err, the_first_failure_stays_and_callers_add_context)
{
    struct mag_err err = {0};
    cr_assert_eq(mag_fail(&err, MAG_INVALID, "low %d", 3), MAG_INVALID);
    cr_assert_eq(mag_fail(&err, MAG_IO, "later"), MAG_IO);
    cr_assert_eq(err.code, MAG_INVALID);
    cr_assert_str_eq(err.text, "low 3");
    cr_assert_eq(mag_wrap(&err, MAG_CORRUPT, "file %s", "x.json"), MAG_CORRUPT);
    cr_assert_str_eq(err.text, "file x.json: low 3");
    cr_assert_eq(err.code, MAG_CORRUPT);
}

Test(err, null_is_allowed)
{
    cr_assert_eq(mag_fail(NULL, MAG_IO, "x"), MAG_IO);
    cr_assert_eq(mag_wrap(NULL, MAG_IO, "x"), MAG_IO);
}

Test(err, texts_that_do_not_fit_are_cut_and_stay_strings)
{
    struct mag_err err = {0};
    char text[2000];
    const size_t room = sizeof(err.text);
    const size_t lengths[] = {0, 1, room - 3, room - 2, room - 1, room, room + 1, sizeof(text) - 1};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
            err = (struct mag_err){0};
            memset(text, 'a', sizeof(text));
            text[lengths[i]] = '\0';
            (void)mag_fail(&err, MAG_IO, "%s", text);
            memset(text, 'b', sizeof(text));
            text[lengths[j]] = '\0';
            (void)mag_wrap(&err, MAG_IO, "%s", text);
            size_t whole = lengths[j] + 2 + (lengths[i] < room ? lengths[i] : room - 1);
            size_t n = strlen(err.text);
            /* One byte may stay free: a colon is never cut from its blank. */
            cr_assert(whole < room ? n == whole : n >= room - 2, "text %zu, context %zu",
                      lengths[i], lengths[j]);
            size_t front = lengths[j] < room ? lengths[j] : room - 1;
            cr_assert_eq(strspn(err.text, "b"), front);
        }
    }
}

Test(err, every_code_has_a_name)
{
    cr_assert_str_eq(mag_status_name(MAG_OK), "ok");
    cr_assert_str_eq(mag_status_name(MAG_NOTFOUND), "not-found");
    cr_assert_str_eq(mag_status_name(MAG_BUG), "bug");
    cr_assert_str_eq(mag_status_name((enum mag_status)99), "unknown");
}

Test(err, a_broken_invariant_aborts, .signal = SIGABRT)
{
    int two = 2;
    MAG_ASSERT(two == 3, "two is %d", two);
}
