/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/said.h"

#include <criterion/criterion.h>
#include <string.h>

static struct said read_line(const char *text)
{
    struct said s;
    struct mag_err err = {0};
    cr_assert_eq(said_parse(text, strlen(text), &s, &err), MAG_OK, "%s: %s", text, err.text);
    return s;
}

Test(said, every_message_is_read)
{
    struct said s = read_line("{\"type\":\"ready\",\"versions\":{\"torch\":\"2\"}}");
    cr_assert(s.kind == SAID_READY && json_object_size(s.versions) == 1);
    said_fini(&s);
    s = read_line("{\"type\":\"report\",\"trial\":7,\"step\":3,\"metrics\":{\"acc\":NaN,\"b\":1}}");
    cr_assert(s.kind == SAID_REPORT && s.trial == 7 && s.step == 3);
    cr_assert(json_is_null(json_object_get(s.metrics, "acc")));
    said_fini(&s);
    s = read_line("{\"type\":\"checkpoint\",\"step\":4.0,\"path\":\"4\"}");
    cr_assert(s.kind == SAID_CHECKPOINT && s.trial == 0 && s.step == 4);
    cr_assert_str_eq(s.path, "4");
    said_fini(&s);
    s = read_line("{\"type\":\"result\",\"status\":\"paused\",\"metrics\":null}");
    cr_assert(s.kind == SAID_RESULT && s.metrics == NULL);
    cr_assert_str_eq(s.status, "paused");
    said_fini(&s);
    s = read_line("{\"type\":\"error\",\"reason\":\"no\",\"cause\":\"configuration\",\"retry\":true}");
    cr_assert(s.kind == SAID_ERROR && s.retry);
    cr_assert_str_eq(s.cause, "configuration");
    cr_assert_str_eq(s.reason, "no");
    said_fini(&s);
    s = read_line(
        "{\"type\":\"error\",\"cause\":\"out-of-memory\",\"retry\":false,\"need_mb\":70000}");
    cr_assert(s.final && !s.retry && s.need_mb == 70000);
    said_fini(&s);
    s = read_line("{\"type\":\"ready\",\"admits\":true}");
    cr_assert(s.admits);
    said_fini(&s);
    s = read_line("{\"type\":\"needs\",\"trial\":3,\"need_mb\":5,\"data_mb\":2,\"free_mb\":9,"
                  "\"total_mb\":10}");
    cr_assert(s.kind == SAID_NEEDS && s.need_mb == 5 && s.data_mb == 2 && s.free_mb == 9 &&
              s.total_mb == 10);
    said_fini(&s);
    s = read_line("{\"type\":\"memory\",\"trial\":3,\"free_mb\":0,\"total_mb\":10}");
    cr_assert(s.kind == SAID_MEMORY && s.free_mb == 0);
    said_fini(&s);
    s = read_line("{\"type\":\"error\",\"cause\":\"bad luck\"}");
    cr_assert_str_eq(s.cause, "program");
    cr_assert_str_eq(s.reason, "the program reported an error without a reason");
    said_fini(&s);
}

Test(said, what_can_be_passed_over_says_why)
{
    static const struct {
        const char *line, *want;
    } cases[] = {
        {"{\"type\":\"report\",\"metrics\":{}}", "a report needs \"step\""},
        {"{\"type\":\"report\",\"step\":1.5,\"metrics\":{}}", "a report needs \"step\""},
        {"{\"type\":\"report\",\"step\":-1,\"metrics\":{}}", "a report needs \"step\""},
        {"{\"type\":\"report\",\"step\":9007199254740992,\"metrics\":{}}",
         "a report needs \"step\""},
        {"{\"type\":\"report\",\"step\":1,\"metrics\":[1]}", "a report needs \"step\""},
        {"{\"type\":\"checkpoint\",\"step\":1}", "a checkpoint needs"},
        {"{\"type\":\"checkpoint\",\"step\":1,\"path\":\"\"}", "a checkpoint needs"},
        {"{\"type\":\"needs\",\"need_mb\":1}", "\"needs\" and \"memory\" tell"},
        {"{\"type\":\"memory\",\"free_mb\":-1,\"total_mb\":\"x\"}",
         "\"needs\" and \"memory\" tell"},
        {"{\"type\":\"progress\"}", "\"progress\" is no type of message"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct said s = read_line(cases[i].line);
        cr_assert_eq(s.kind, SAID_UNUSABLE, "%s", cases[i].line);
        cr_assert_eq(strncmp(s.reason, cases[i].want, strlen(cases[i].want)), 0, "%s", s.reason);
        said_fini(&s);
    }
}

Test(said, what_breaks_the_protocol_is_refused_with_a_reason)
{
    static const struct {
        const char *line, *want;
    } cases[] = {
        {"hello", "line 1"},
        {"", "line 1"},
        {"\"text\"", "the line is a string, not a JSON object"},
        {"{}", "the message has no \"type\""},
        {"{\"type\":3}", "the message has no \"type\""},
        {"{\"type\":\"result\"}", "a result needs \"status\""},
        {"{\"type\":\"result\",\"status\":\"done\"}", "a result needs \"status\""},
        {"{\"type\":\"result\",\"status\":\"completed\",\"metrics\":0.5}", "\"metrics\" of a result"},
        {"{\"type\":\"report\",\"trial\":\"7\"}", "\"trial\" must be the number"},
        {"{\"type\":\"report\",\"trial\":0}", "\"trial\" must be the number"},
        {"{\"type\":\"ready\"} {}", "line 1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct said s;
        struct mag_err err = {0};
        const char *t = cases[i].line;
        cr_assert_eq(said_parse(t, strlen(t), &s, &err), MAG_INVALID, "%s", t);
        cr_assert_eq(strncmp(err.text, cases[i].want, strlen(cases[i].want)), 0, "%s: %s", t,
                     err.text);
    }
}
