/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/json.h"
#include "base/pcg.h"
#include "wire/wire.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static enum mag_status decode(const char *text, struct wire_msg *m, struct mag_err *err)
{
    *err = (struct mag_err){0};
    return wire_decode(text, strlen(text), m, err);
}

#define HELLO                                                                                      \
    "{\"type\":\"hello\",\"seq\":1,\"protocol\":1,\"version\":\"0.1.0\",\"worker\":\"w-1\","       \
    "\"name\":\"w\","                                                                              \
    "\"host\":\"h\",\"pid\":7,\"slots\":2,\"held\":[{\"experiment\":1,\"trial\":2,\"attempt\":3}]" \
    "}"

/* One of each type with every field set to something. */
static const char *const samples[] = {
    HELLO,
    "{\"type\":\"next\",\"session\":\"s\",\"seq\":4,\"acked\":3,\"wait_ms\":25000}",
    "{\"type\":\"beat\",\"session\":\"s\",\"seq\":5,\"acked\":4,\"started\":[{\"experiment\":1,"
    "\"trial\":1,\"attempt\":1}],"
    "\"reports\":[{\"experiment\":1,\"trial\":2,\"attempt\":1,\"points\":[{\"step\":1,\"metrics\":{"
    "\"a\":0.5,\"b\":null}}],"
    "\"checkpoint_step\":1,\"checkpoint_uri\":\"file:/"
    "x\",\"checkpoint_meta\":{\"bytes\":3},\"tail\":\"hi\\n\"}],"
    "\"results\":[{\"experiment\":1,\"trial\":3,\"attempt\":2,\"status\":\"failed\",\"cause\":"
    "\"signal\","
    "\"reason\":\"r\",\"retry\":true,\"detail\":{\"signal\":11}}],\"use\":{\"cpu\":0.25},\"drain\":"
    "true}",
    "{\"type\":\"started\",\"session\":\"s\",\"seq\":6,\"acked\":5}",
    "{\"type\":\"done\",\"session\":\"s\",\"seq\":7,\"acked\":6}",
    "{\"type\":\"bye\",\"session\":\"s\",\"seq\":8,\"acked\":7,\"reason\":\"drained\"}",
    "{\"type\":\"welcome\",\"session\":\"s\",\"seq\":1,\"protocol\":1,\"version\":\"0.1.0\","
    "\"heartbeat_ms\":2000,"
    "\"lease_ms\":15000,\"storage\":\"file:/s\"}",
    "{\"type\":\"work\",\"seq\":2,\"grants\":[{\"experiment\":1,\"trial\":1,\"attempt\":1,"
    "\"reserved\":true,\"slots\":1,"
    "\"budget\":9,\"params\":{\"lr\":0.1},\"resume_step\":3,\"resume_uri\":\"file:/"
    "c\",\"seed\":0,\"metric\":\"m\","
    "\"direction\":\"max\",\"program\":{\"command\":[\"true\"]},\"checkpoint_every\":1,"
    "\"checkpoint_keep\":2,"
    "\"trial_time_ms\":1000,\"gpus\":1}],\"orders\":[{\"experiment\":1,\"trial\":4,\"attempt\":1,"
    "\"action\":\"stop\","
    "\"late\":true,\"state\":\"cancelled\"}],\"drain\":true}",
    "{\"type\":\"answer\",\"seq\":3}",
    "{\"type\":\"refused\",\"code\":\"session\",\"error\":\"say hello\"}",
};

Test(wire, what_was_encoded_decodes_to_the_same)
{
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        struct wire_msg m, again;
        struct mag_err err;
        struct buf one = {0}, two = {0};
        cr_assert_eq(decode(samples[i], &m, &err), MAG_OK, "%s: %s", samples[i], err.text);
        wire_encode(&m, &one);
        cr_assert_eq(wire_decode(one.data, one.len, &again, &err), MAG_OK, "%s", err.text);
        wire_encode(&again, &two);
        cr_assert_str_eq(one.data, two.data);
        /* Nothing of the sample is lost on the way. */
        json_t *a = NULL, *b = NULL;
        cr_assert_eq(mjson_parse(samples[i], strlen(samples[i]), &a, NULL), MAG_OK);
        cr_assert_eq(mjson_parse(one.data, one.len, &b, NULL), MAG_OK);
        cr_assert(json_equal(a, b), "%s became %s", samples[i], one.data);
        json_decref(a);
        json_decref(b);
        wire_fini(&m);
        wire_fini(&again);
        buf_fini(&one);
        buf_fini(&two);
    }
}

Test(wire, faults_are_named)
{
    const struct {
        const char *text, *want;
    } cases[] = {
        {"", "empty"},
        {"[]", "expected an object"},
        {"{\"seq\":1}", "type: missing"},
        {"{\"type\":\"howdy\"}", "unknown: howdy"},
        {"{\"type\":\"next\",\"seq\":\"1\"}", "seq: expected a whole number, found a string"},
        {"{\"type\":\"next\",\"seq\":-1}", "seq: -1 is not within"},
        {"{\"type\":\"next\",\"seq\":1,\"wait_ms\":25001}",
         "wait_ms: 25001 is not within 0 to 25000"},
        {"{\"type\":\"next\",\"seq\":1,\"seq\":2}", "duplicate"},
        {"{\"type\":\"beat\",\"drain\":1}", "drain: expected true or false"},
        {"{\"type\":\"beat\",\"reports\":{}}", "reports: expected an array"},
        {"{\"type\":\"beat\",\"reports\":[{\"experiment\":1,\"trial\":2}]}",
         "beat: reports[0]: attempt: missing"},
        {"{\"type\":\"beat\",\"started\":[{\"experiment\":0,\"trial\":2,\"attempt\":1}]}",
         "started[0]: experiment: 0"},
        {"{\"type\":\"bye\",\"reason\":null}", "reason: expected a string, found null"},
        {"{\"type\":\"hello\",\"protocol\":1,\"version\":\"\"}", "version: 0 bytes"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire_msg m;
        struct mag_err err;
        cr_assert_eq(decode(cases[i].text, &m, &err), MAG_INVALID, "%s", cases[i].text);
        cr_assert_not_null(strstr(err.text, cases[i].want), "%s: %s", cases[i].text, err.text);
        cr_assert_null(m.session);
    }
}

Test(wire, another_protocol_version_is_told_apart_from_a_broken_message)
{
    struct wire_msg m;
    struct mag_err err;
    cr_assert_eq(decode("{\"type\":\"hello\",\"protocol\":2}", &m, &err), MAG_UNSUPPORTED);
    cr_assert_not_null(strstr(err.text, "version 2"), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "the driver is the older one"), "%s", err.text);
    cr_assert_eq(decode("{\"type\":\"welcome\",\"protocol\":3}", &m, &err), MAG_UNSUPPORTED);
    cr_assert_eq(decode("{\"type\":\"hello\",\"protocol\":\"2\"}", &m, &err), MAG_INVALID);
}

Test(wire, unknown_fields_of_a_newer_sender_are_passed_over)
{
    struct wire_msg m;
    struct mag_err err;
    cr_assert_eq(
        decode("{\"type\":\"next\",\"session\":\"s\",\"seq\":1,\"mood\":{\"good\":[1]}}", &m, &err),
        MAG_OK);
    cr_assert_eq(m.seq, 1);
    wire_fini(&m);
}

Test(wire, limits_hold_at_the_limit_and_one_beyond)
{
    char *big = xmalloc(WIRE_MESSAGE_MAX + 2);
    memset(big, ' ', WIRE_MESSAGE_MAX + 1);
    const char *text = "{\"type\":\"next\",\"seq\":1}";
    memcpy(big, text, strlen(text));
    struct wire_msg m;
    cr_assert_eq(wire_decode(big, WIRE_MESSAGE_MAX, &m, NULL), MAG_OK);
    wire_fini(&m);
    cr_assert_eq(wire_decode(big, WIRE_MESSAGE_MAX + 1, &m, NULL), MAG_LIMIT);
    free(big);
    for (int extra = 0; extra <= 1; extra++) {
        struct buf b = {0};
        buf_adds(&b, "{\"type\":\"bye\",\"reason\":\"");
        for (int i = 0; i < 256 + extra; i++) {
            buf_addc(&b, 'x');
        }
        buf_adds(&b, "\"}");
        cr_assert_eq(wire_decode(b.data, b.len, &m, NULL), extra == 0 ? MAG_OK : MAG_INVALID);
        wire_fini(&m);
        buf_fini(&b);
    }
}

Test(wire, strings_are_made_utf8_and_cut_between_characters)
{
    const struct {
        const char *in;
        size_t max;
        const char *out;
    } cases[] = {
        {"plain \"q\"\n", 100, "\"plain \\\"q\\\"\\n\""},
        {"a\xff\xfe", 100, "\"a\xef\xbf\xbd\xef\xbf\xbd\""},
        {"gr\xc3\xbc\xc3\x9f", 5, "\"gr\xc3\xbc\""},
        {"gr\xc3\xbc\xc3\x9f", 6, "\"gr\xc3\xbc\xc3\x9f\""},
        {"\xe2\x82", 100, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc0\xaf\xed\xa0\x80", 100,
         "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf0\x9f\xa6\x89", 100, "\"\xf0\x9f\xa6\x89\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        wire_add_string(&b, cases[i].in, cases[i].max);
        cr_assert_str_eq(b.data, cases[i].out, "case %zu", i);
        buf_fini(&b);
    }
}

/* Mutations of good messages must be refused or decoded, never crash, and what decodes must encode.
 */
Test(wire, mutated_messages_do_no_harm)
{
    struct pcg64 rng;
    pcg64_seed(&rng, 7, 11);
    for (int round = 0; round < 20000; round++) {
        const char *sample = samples[pcg64_below(&rng, sizeof(samples) / sizeof(samples[0]))];
        size_t len = strlen(sample);
        char *text = xstrdup(sample);
        for (uint32_t k = pcg64_below(&rng, 4) + 1; k > 0; k--) {
            text[pcg64_below(&rng, (uint32_t)len)] = (char)pcg64_below(&rng, 256);
        }
        size_t cut = pcg64_below(&rng, 4) == 0 ? pcg64_below(&rng, (uint32_t)len) : len;
        struct wire_msg m;
        struct mag_err err = {0};
        if (wire_decode(text, cut, &m, &err) == MAG_OK) {
            struct buf b = {0};
            struct wire_msg again;
            wire_encode(&m, &b);
            cr_assert_eq(wire_decode(b.data, b.len, &again, &err), MAG_OK, "%s: %s", b.data,
                         err.text);
            wire_fini(&again);
            buf_fini(&b);
        } else {
            cr_assert_neq(err.text[0], '\0');
        }
        wire_fini(&m);
        free(text);
    }
}

Test(wire, the_protocol_page_shows_these_tables)
{
    char *page = NULL;
    size_t len = 0;
    struct mag_err err = {0};
    struct buf tables = {0};
    cr_assert_eq(mjson_read_file(MAGPIE_ROOT "/PROTOCOL.md", 1 << 20, &page, &len, &err), MAG_OK,
                 "%s", err.text);
    wire_describe(&tables);
    cr_assert_not_null(strstr(page, tables.data),
                       "PROTOCOL.md, section 2, Messages should read:\n%s", tables.data);
    buf_fini(&tables);
    free(page);
}
