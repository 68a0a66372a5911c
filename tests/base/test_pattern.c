/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pattern.h"

#include <criterion/criterion.h>
#include <string.h>

static const char *fault_of(const char *text)
{
    static struct mag_err err;
    regex_t re;
    err = (struct mag_err){0};
    if (pattern_compile(text, &re, &err) == MAG_OK) {
        regfree(&re);
        return "";
    }
    return err.text;
}

Test(pattern, usual_expressions_compile)
{
    static const char *const good[] = {
        "acc=([0-9.]+)",     "loss[ =:]+([-+0-9.eE]+|nan|inf)",  "[]\\1{9999]x",
        "[[:digit:]]{1,30}", "([0-9]{1,3})\\.([0-9]{1,30}){1,9}", "\\{5\\}",
        "a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q+r+s+t+u+v+w+x+y+z+", "(((a+)+)+)+", ")",
        "a{,3}",             "x|y",                              "[^]]+",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        cr_assert_str_eq(fault_of(good[i]), "", "%s: %s", good[i], fault_of(good[i]));
    }
}

Test(pattern, what_can_take_for_ever_is_refused_with_its_name)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"(a*)\\1", "has the back-reference \\1"},
        {"(([0-9]{255}){255}){2}", "repeats too much"},
        {"a{999999}b", "repeats too much"},
        {"a{99999999999999999999}b", "repeats too much"},
        {"a++++++++++++++++++++++++++++++++", "repeats too much"},
        {"((((((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+", "repeats too much"},
        {"(((((((((((((((((((((((((((((((((a", "has more than 32 groups"},
        {"([0-9", "is no POSIX extended regular expression: "},
        {"", "is not a regular expression of 1 to 1024 bytes"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *got = fault_of(cases[i].text);
        cr_assert_eq(strncmp(got, cases[i].want, strlen(cases[i].want)), 0, "%s: %s",
                     cases[i].text, got);
    }
    char longest[PATTERN_BYTES_MAX + 2];
    memset(longest, 'a', sizeof(longest));
    longest[PATTERN_BYTES_MAX + 1] = '\0';
    cr_assert_neq(fault_of(longest)[0], '\0');
    longest[PATTERN_BYTES_MAX] = '\0';
    cr_assert_eq(fault_of(longest)[0], '\0');
}
