/* SPDX-License-Identifier: Apache-2.0 */
#include "base/flags.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct values {
    bool verbose;
    const char *data;
    const char *mode;
    int64_t workers;
    int64_t lease;
    double target;
    struct flag_list tags;
};

static const char *const modes[] = {"full", "normal", NULL};

/* Parses a line (blanks separate words) with the whole set of flags. */
static enum mag_status parse(const char *line, struct values *v, struct flags_args *args,
                             struct mag_err *err)
{
    const struct flag flags[] = {
        FLAG(FLAG_BOOL, "verbose", &v->verbose, NULL, "more", .letter = 'v'),
        FLAG(FLAG_TEXT, "data", &v->data, "DIR", "folder", .fallback = "here",
             .env = "MAGPIE_TEST_DATA"),
        FLAG(FLAG_TEXT, "durability", &v->mode, "MODE", "how", .fallback = "full",
             .choices = modes),
        FLAG(FLAG_INT, "workers", &v->workers, "N", "how many", .fallback = "2", .min = 1,
             .max = 8),
        FLAG(FLAG_DURATION, "lease", &v->lease, "TIME", "term", .fallback = "15s", .min = 100,
             .max = 60000),
        FLAG(FLAG_NUMBER, "target", &v->target, "X", "goal"),
        FLAG(FLAG_LIST, "tag", &v->tags, "TAG", "label"),
        {0},
    };
    const struct flags_usage u = {.program = "p",
                                  .args = "FILE [MORE]",
                                  .flags = flags,
                                  .min_args = 1,
                                  .max_args = 2,
                                  .summary = "Does it."};
    static char copy[512];
    (void)strncpy(copy, line, sizeof(copy) - 1);
    static char *argv[64];
    int argc = 0;
    for (char *w = strtok(copy, " "); w != NULL; w = strtok(NULL, " ")) {
        argv[argc++] = w;
    }
    *v = (struct values){0};
    *err = (struct mag_err){0};
    return flags_parse(&u, argc, argv, args, err);
}

Test(flags, defaults_hold_where_nothing_is_given)
{
    (void)unsetenv("MAGPIE_TEST_DATA");
    struct values v;
    struct flags_args a;
    struct mag_err err;
    cr_assert_eq(parse("p file", &v, &a, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(a.n, 1);
    cr_assert_str_eq(a.items[0], "file");
    cr_assert_str_eq(v.data, "here");
    cr_assert_str_eq(v.mode, "full");
    cr_assert_eq(v.workers, 2);
    cr_assert_eq(v.lease, 15000);
    cr_assert_not(v.verbose);
    cr_assert_not(a.help);
}

Test(flags, every_kind_both_ways_of_writing_and_mixed_arguments)
{
    struct values v;
    struct flags_args a;
    struct mag_err err;
    const char *line = "p --workers=3 one --lease 30s -v --durability normal --target -1.5 --tag a "
                       "two --tag=b --data=";
    cr_assert_eq(parse(line, &v, &a, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(v.workers, 3);
    cr_assert_eq(v.lease, 30000);
    cr_assert(v.verbose);
    cr_assert_str_eq(v.mode, "normal");
    cr_assert_eq(v.target, -1.5);
    cr_assert_eq(v.tags.n, 2);
    cr_assert_str_eq(v.tags.items[1], "b");
    cr_assert_str_eq(v.data, "", "an empty value is a value");
    cr_assert_str_eq(a.items[1], "two");
    cr_assert_eq(parse("p -- --workers", &v, &a, &err), MAG_OK, "%s", err.text);
    cr_assert_str_eq(a.items[0], "--workers", "-- ends the flags");
    cr_assert_eq(parse("p -", &v, &a, &err), MAG_OK, "a lone dash is an argument");
}

Test(flags, the_environment_stands_in_and_the_line_wins)
{
    struct values v;
    struct flags_args a;
    struct mag_err err;
    (void)setenv("MAGPIE_TEST_DATA", "there", 1);
    cr_assert_eq(parse("p f", &v, &a, &err), MAG_OK);
    cr_assert_str_eq(v.data, "there");
    cr_assert_eq(parse("p f --data line", &v, &a, &err), MAG_OK);
    cr_assert_str_eq(v.data, "line");
}

Test(flags, wrong_lines_say_what_is_wrong)
{
    static const struct {
        const char *line;
        const char *text;
    } cases[] = {
        {"p", "needs FILE [MORE]"},
        {"p a b c", "one argument too many: \"c\""},
        {"p f --worker 3", "unknown flag --worker; did you mean --workers?"},
        {"p f --zzzzzzzzzz", "unknown flag --zzzzzzzzzz"},
        {"p f -x", "unknown flag -x"},
        {"p f --workers", "--workers needs a value (N)"},
        {"p f --workers many", "--workers: expected a whole number, not \"many\""},
        {"p f --workers 3x", "--workers: expected a whole number, not \"3x\""},
        {"p f --workers 0", "--workers: 0 is not within 1 and 8"},
        {"p f --workers 9", "--workers: 9 is not within 1 and 8"},
        {"p f --workers 99999999999999999999",
         "--workers: expected a whole number, not \"99999999999999999999\""},
        {"p f --lease soon", "--lease: expected a duration such as 30s, 20m or 2h, not \"soon\""},
        {"p f --lease 2m", "--lease: 2m is not within 0.1 s and 60 s"},
        {"p f --durability half", "--durability: \"half\" is not one of full, normal"},
        {"p f --target nan", "--target: expected a number, not \"nan\""},
        {"p f --verbose=yes", "--verbose takes no value"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct values v;
        struct flags_args a;
        struct mag_err err;
        cr_assert_eq(parse(cases[i].line, &v, &a, &err), MAG_INVALID, "%s", cases[i].line);
        cr_assert_str_eq(err.text, cases[i].text);
    }
}

Test(flags, a_list_has_a_limit)
{
    char line[512] = "p f";
    for (int i = 0; i < FLAG_LIST_MAX; i++) {
        (void)strcat(line, " --tag=x");
    }
    struct values v;
    struct flags_args a;
    struct mag_err err;
    cr_assert_eq(parse(line, &v, &a, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(v.tags.n, FLAG_LIST_MAX);
    (void)strcat(line, " --tag=x");
    cr_assert_eq(parse(line, &v, &a, &err), MAG_LIMIT);
}

Test(flags, help_wins_over_errors_and_tells_all_rows)
{
    struct values v;
    struct flags_args a;
    struct mag_err err;
    cr_assert_eq(parse("p --nonsense --help", &v, &a, &err), MAG_OK);
    cr_assert(a.help);
    int64_t n = 0;
    const struct flag flags[] = {
        FLAG(FLAG_INT, "workers", &n, "N", "how many", .letter = 'w', .fallback = "2",
             .env = "X_WORKERS"),
        FLAG(FLAG_TEXT, "durability", &n, "MODE", "how", .choices = modes),
        {0},
    };
    const struct flags_usage u = {.program = "p",
                                  .args = "FILE",
                                  .flags = flags,
                                  .summary = "Does it.",
                                  .detail = "With care."};
    struct buf out = {0};
    flags_help(&u, &out);
    cr_assert_str_eq(out.data, "usage: p FILE [flags]\n\nDoes it.\n\nWith care.\n\nflags:\n"
                               "  --workers, -w N         how many [2] (or $X_WORKERS)\n"
                               "  --durability MODE       how (full, normal)\n");
    buf_fini(&out);
}
