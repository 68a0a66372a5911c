/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/pcg.h"
#include "worker/lines.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What was called, as text: "m3{…} c3 r{…} !why". */
static struct buf seen;

static void on_metrics(void *arg, int64_t step, const json_t *metrics)
{
    char *text = mjson_dump(metrics);
    buf_addf(&seen, "m%" PRId64 "%s ", step, text);
    free(text);
}

static void on_checkpoint(void *arg, int64_t step)
{
    buf_addf(&seen, "c%" PRId64 " ", step);
}

static void on_result(void *arg, const json_t *metrics)
{
    char *text = mjson_dump(metrics);
    buf_addf(&seen, "r%s ", text);
    free(text);
}

static void on_failed(void *arg, const char *reason, const char *cause, bool retry)
{
    buf_addf(&seen, "f%s/%s%s ", reason, cause != NULL ? cause : "-", retry ? "/again" : "");
}

static void on_bad(void *arg, const char *why)
{
    buf_addf(&seen, "!%s ", why);
}

static struct lines *make(const char *patterns)
{
    const struct lines_handler h = {.metrics = on_metrics,
                                    .checkpoint = on_checkpoint,
                                    .result = on_result,
                                    .failed = on_failed,
                                    .bad = on_bad};
    struct lines *l = NULL;
    struct mag_err err = {0};
    json_t *p = NULL;
    if (patterns != NULL) {
        cr_assert_eq(mjson_parse(patterns, strlen(patterns), &p, NULL), MAG_OK);
    }
    cr_assert_eq(lines_create(&l, p, "acc", 1, &h, &err), MAG_OK, "%s", err.text);
    json_decref(p);
    buf_reset(&seen);
    buf_add(&seen, "", 0);
    return l;
}

/* Feeds the text whole and byte by byte: both must give the same. */
static void expect(const char *patterns, const char *text, const char *want)
{
    for (size_t part = 1; part <= 4096; part *= 4096) {
        struct lines *l = make(patterns);
        for (size_t at = 0; at < strlen(text); at += part) {
            size_t left = strlen(text) - at;
            lines_add(l, text + at, left < part ? left : part);
        }
        lines_end(l);
        lines_destroy(l);
        cr_assert_str_eq(seen.data, want, "%s\ngave %s", text, seen.data);
    }
}

Test(lines, marked_lines_are_read)
{
    expect(NULL, "hello\n::magpie {\"step\": 3, \"metrics\": {\"acc\": 0.91}}\n",
           "m3{\"acc\":0.91000000000000003} ");
    expect(NULL, "::magpie {\"metrics\":{\"acc\":1}}\r\n::magpie {\"metrics\":{\"acc\":2}}",
           "m1{\"acc\":1} m2{\"acc\":2} ");
    expect(NULL, "::magpie {\"checkpoint\": 3}\n", "c3 ");
    expect(NULL, "::magpie {\"result\": {\"acc\": 0.5}}", "r{\"acc\":0.5} ");
    expect(NULL, "::magpie {\"step\":2,\"metrics\":{\"acc\":1},\"checkpoint\":2}\n",
           "m2{\"acc\":1} c2 ");
    expect(NULL, " ::magpie {\"checkpoint\": 3}\n::magpie\n:magpie {}\n", "");
}

Test(lines, numbers_that_are_none_become_null)
{
    expect(NULL,
           "::magpie "
           "{\"step\":1,\"metrics\":{\"a\":NaN,\"b\":-Infinity,\"c\":null,\"d\":\"nan\",\"e\":"
           "\"Infinity\"}}\n",
           "m1{\"a\":null,\"b\":null,\"c\":null,\"d\":null,\"e\":null} ");
    expect(NULL,
           "::magpie {\"step\":1,\"metrics\":{\"a\":\"text\",\"b\":true,\"c\":[1],\"d\":2}}\n",
           "m1{\"d\":2} ");
}

Test(lines, unusable_lines_are_named_and_passed_over)
{
    const struct {
        const char *line, *want;
    } cases[] = {
        {"::magpie {\"step\":1", "line 1"},
        {"::magpie 7", "not a JSON object"},
        {"::magpie {}", "none of"},
        {"::magpie {\"step\":-1,\"metrics\":{}}", "\"step\""},
        {"::magpie {\"step\":1.5,\"metrics\":{}}", "\"step\""},
        {"::magpie {\"step\":1,\"metrics\":[1]}", "\"metrics\""},
        {"::magpie {\"checkpoint\":\"x\"}", "\"checkpoint\""},
        {"::magpie {\"metrics\":{\"acc\":\"0.5\"}}", "\"acc\" must be a number, not a string"},
        {"::magpie {\"failed\":7}", "\"failed\" must be the reason"},
        {"::magpie {\"failed\":\"x\",\"cause\":\"fate\"}", "\"cause\" must be"},
        {"::magpie {\"result\":{\"acc\":true}}", "\"acc\" must be a number, not true"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lines *l = make(NULL);
        lines_add(l, cases[i].line, strlen(cases[i].line));
        lines_add(l, "\n::magpie {\"checkpoint\":9}\n", 27);
        lines_destroy(l);
        cr_assert_eq(seen.data[0], '!', "%s gave %s", cases[i].line, seen.data);
        cr_assert_not_null(strstr(seen.data, cases[i].want), "%s gave %s", cases[i].line,
                           seen.data);
        cr_assert_not_null(strstr(seen.data, "c9"), "%s", seen.data);
    }
}

Test(lines, a_failure_is_told_with_its_cause)
{
    expect(NULL, "::magpie {\"failed\": \"no such layer\", \"cause\": \"configuration\"}\n",
           "fno such layer/configuration ");
    expect(NULL, "::magpie {\"failed\": \"busy\", \"retry\": true}", "fbusy/-/again ");
    expect(NULL, "::magpie {\"step\": 2, \"metrics\": {\"acc\": 1}, \"failed\": \"x\"}\n",
           "m2{\"acc\":1} fx/- ");
    expect(NULL, "::magpie {\"failed\": \"x\", \"cause\": \"fate\"}\n",
           "!\"cause\" must be \"program\", \"configuration\" or \"out-of-memory\" fx/- ");
}

Test(lines, regular_expressions_find_metrics)
{
    const char *p = "{\"acc\":\"accuracy[ "
                    "=]+([0-9.]+|nan)\",\"loss\":\"loss=([-0-9.e]+)\",\"step\":\"epoch ([0-9]+)\"}";
    expect(p, "epoch 4 loss=0.5 accuracy = 0.75\n", "m4{\"acc\":0.75,\"loss\":0.5} ");
    expect(p, "epoch 1\nloss=1e-2\naccuracy 0.5\naccuracy nan\n",
           "m1{\"acc\":0.5,\"loss\":0.01} m2{\"acc\":null} ");
    expect(p, "nothing here\n", "");
    const char *whole = "{\"acc\":\"0\\\\.[0-9]+\"}";
    expect(whole, "got 0.25 now\n", "m1{\"acc\":0.25} ");
    struct lines *l = NULL;
    const struct lines_handler h = {.metrics = on_metrics, .bad = on_bad};
    struct mag_err err = {0};
    json_t *bad = json_pack("{s:s}", "acc", "([0-9]");
    cr_assert_eq(lines_create(&l, bad, "acc", 1, &h, &err), MAG_INVALID);
    cr_assert_not_null(strstr(err.text, "\"acc\" is no POSIX extended regular expression"), "%s",
                       err.text);
    json_decref(bad);
}

/* tqdm draws on standard error, without a line feed, before what else the script prints. */
Test(lines, progress_bars_count_by_what_they_show_last)
{
    const char *p = "{\"acc\":\"acc=([0-9.]+)\",\"step\":\"epoch ([0-9]+)\"}";
    const char *counted = "{\"acc\":\"acc=([0-9.]+)\"}";
    /* One bar over all epochs: the last state of each. */
    expect(p, "\repoch 1: 10% acc=0.1\repoch 1: 90% acc=0.2\repoch 2: 5% acc=0.3\repoch 2 acc=0.4",
           "m1{\"acc\":0.20000000000000001} m2{\"acc\":0.40000000000000002} ");
    /* A bar for each epoch, without a number to go by. */
    expect(counted, "\r  0%\r 50% acc=0.5\r100% acc=0.25\n\r  0% acc=1\r100% acc=0.75\n",
           "m1{\"acc\":0.25} m2{\"acc\":0.75} ");
    /* The value was drawn over before the line ended. */
    expect(counted, "acc=0.5\rdone   \n", "m1{\"acc\":0.5} ");
    expect(counted, "acc=0.5\r\nacc=0.75\r\r\n", "m1{\"acc\":0.5} m2{\"acc\":0.75} ");
    expect(counted, "acc=0.5\r", "m1{\"acc\":0.5} ");
    /* A line of ours behind a bar. */
    expect(NULL, "\r 45%|####  | 3/7::magpie {\"step\":4,\"metrics\":{\"acc\":1}}\n", "m4{\"acc\":1} ");
    expect(NULL, "45%::magpie {\"step\":4,\"metrics\":{\"acc\":1}}\n", "");
    expect(NULL, "::magpie {\"checkpoint\":4}\r 50%\n::magpie {\"checkpoint\":5}\n", "c4 c5 ");
}

Test(lines, colours_and_movements_of_the_cursor_are_not_seen)
{
    const char *p = "{\"acc\":\"^acc: ([0-9.]+)$\"}";
    expect(p, "\033[1;32macc\033[0m: \033[38;5;10m0.5\033[0m\n", "m1{\"acc\":0.5} ");
    expect(p, "\033]0;a title\aacc: 0.5\n\033]0;a title\033\\acc: 0.25\n",
           "m1{\"acc\":0.5} m2{\"acc\":0.25} ");
    expect(p, "\033[2K\033[1Aacc: 0.5\b\n", "m1{\"acc\":0.5} ");
    expect(NULL, "\033[0m::magpie {\"checkpoint\":3}\033[0m\n", "c3 ");
    expect(p, "\033[\nacc: 0.5\n\033", "m1{\"acc\":0.5} ");
}

Test(lines, steps_are_whole_and_have_a_limit)
{
    const char *p = "{\"acc\":\"acc=([0-9.]+)\",\"step\":\"epoch ([-0-9.e+]+)\"}";
    expect(p, "epoch 1e300 acc=1\nepoch -7 acc=2\nepoch 4.0 acc=3\n",
           "m1{\"acc\":1.0} m2{\"acc\":2.0} m4{\"acc\":3.0} ");
    expect(NULL, "::magpie {\"step\":9007199254740991,\"metrics\":{\"acc\":1}}\n::magpie {\"metrics\":{}}\n",
           "m9007199254740991{\"acc\":1} m9007199254740991{} ");
    expect(NULL, "::magpie {\"step\":9007199254740992,\"metrics\":{\"acc\":1}}\n",
           "!\"step\" must be a whole number from 0 on ");
    expect(NULL, "::magpie {\"step\":3.0,\"metrics\":{\"acc\":1}}\n", "m3{\"acc\":1} ");
}

Test(lines, patterns_see_the_first_part_of_a_long_line)
{
    struct lines *l = make("{\"acc\":\"acc=([0-9.]+)\"}");
    char *line = xmalloc(LINES_MATCH_MAX + 9);
    memset(line, 'x', LINES_MATCH_MAX + 9);
    memcpy(line + LINES_MATCH_MAX - 5, "acc=7", 5);
    line[LINES_MATCH_MAX + 8] = '\n';
    lines_add(l, line, LINES_MATCH_MAX + 9);
    memset(line, 'x', LINES_MATCH_MAX);
    memcpy(line + LINES_MATCH_MAX - 4, "acc=8", 5);
    lines_add(l, line, LINES_MATCH_MAX + 9);
    lines_destroy(l);
    free(line);
    cr_assert_str_eq(seen.data, "m1{\"acc\":7.0} ");
}

Test(lines, a_line_without_end_is_passed_over_whole)
{
    struct lines *l = make(NULL);
    char *block = xmalloc(65536);
    memset(block, 'x', 65536);
    for (int i = 0; i < 40; i++) {
        lines_add(l, block, 65536);
    }
    lines_add(l, "::magpie {\"checkpoint\":1}\n::magpie {\"checkpoint\":2}\n", 52);
    lines_end(l);
    lines_destroy(l);
    cr_assert_str_eq(seen.data, "c2 ");
    free(block);
}

Test(lines, any_bytes_do_no_harm)
{
    struct pcg64 rng;
    pcg64_seed(&rng, 3, 5);
    struct lines *l = make("{\"acc\":\"a([0-9]*)\"}");
    for (int i = 0; i < 200000; i++) {
        static const char some[] = "::magpie {\"step\":1,\"metrics\":{}}\n\0\xff a1";
        char c = pcg64_below(&rng, 8) == 0 ? (char)pcg64_below(&rng, 256)
                                           : some[pcg64_below(&rng, sizeof(some) - 1)];
        lines_add(l, &c, 1);
        if (seen.len > 100000) {
            buf_reset(&seen);
        }
    }
    lines_end(l);
    lines_destroy(l);
}
