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

static void on_bad(void *arg, const char *why)
{
    buf_addf(&seen, "!%s ", why);
}

static struct lines *make(const char *patterns)
{
    const struct lines_handler h = {
        .metrics = on_metrics, .checkpoint = on_checkpoint, .result = on_result, .bad = on_bad};
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
    cr_assert_not_null(strstr(err.text, "\"acc\" is not a POSIX extended regular expression"), "%s",
                       err.text);
    json_decref(bad);
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
