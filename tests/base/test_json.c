/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Test(json, broken_texts_name_line_and_column)
{
    static const struct {
        const char *text;
        size_t len; /* 0 = strlen */
        const char *starts;
    } cases[] = {
        {"", 0, "line 1, column 1: empty, expected JSON"},
        {"{\"a\": 1,\n \"a\": 2}", 0, "line 2, column "},
        {"{\"a\": }", 0, "line 1, column 7: "},
        {"[1, 2] x", 0, "line 1, column 8: "},
        {"{\"a\":\n\n  tru}", 0, "line 3, column "},
        {"[\"\xff\"]", 0, "line 1, column "},
        {"[1]\0", 4, "line 1, column 4: a NUL byte"},
        {"[1,\n 2\0, 3]", 11, "line 2, column 3: a NUL byte"}, /* found by fuzzing */
        {"[\"a\\u0000b\"]", 0, "line 1, column "},
        {"NaN", 0, "line 1, column "},
        {"[01]", 0, "line 1, column "},
        {"'a'", 0, "line 1, column "},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len = cases[i].len > 0 ? cases[i].len : strlen(cases[i].text);
        json_t *v = NULL;
        struct mag_err err = {0};
        cr_assert_eq(mjson_parse(cases[i].text, len, &v, &err), MAG_INVALID, "case %zu was taken",
                     i);
        cr_assert_null(v, "set on success only");
        cr_assert_eq(strncmp(err.text, cases[i].starts, strlen(cases[i].starts)), 0, "case %zu: %s",
                     i, err.text);
    }
}

static enum mag_status parse_nested(int depth)
{
    char text[2 * (MJSON_DEPTH_MAX + 2)];
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    json_t *v = NULL;
    enum mag_status st = mjson_parse(text, (size_t)depth * 2, &v, NULL);
    json_decref(v);
    return st;
}

Test(json, depth_has_a_limit)
{
    cr_assert_eq(parse_nested(MJSON_DEPTH_MAX), MAG_OK);
    cr_assert_eq(parse_nested(MJSON_DEPTH_MAX + 1), MAG_INVALID);
    json_t *v = NULL;
    const char *text =
        "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"]";
    cr_assert_eq(mjson_parse(text, strlen(text), &v, NULL), MAG_OK,
                 "brackets in strings do not count");
    json_decref(v);
}

Test(json, bare_nan_and_infinity_are_null_where_asked_for)
{
    static const struct {
        const char *text;
        const char *canon;
    } cases[] = {{"{\"a\": NaN}", "{\"a\":null}"},
                 {"[Infinity, -Infinity, -NaN, 1]", "[null,null,null,1]"},
                 {"{\"NaN\": \"a NaN \\\" Infinity\"}", "{\"NaN\":\"a NaN \\\" Infinity\"}"},
                 {"NaN", "null"},
                 {"[1.5]", "[1.5]"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *v = NULL;
        struct mag_err err = {0};
        cr_assert_eq(mjson_parse_nan(cases[i].text, strlen(cases[i].text), &v, &err), MAG_OK, "%s",
                     err.text);
        char *text = mjson_dump(v);
        cr_assert_str_eq(text, cases[i].canon);
        free(text);
        json_decref(v);
    }
    json_t *v = NULL;
    cr_assert_eq(mjson_parse_nan("[NaNx]", 6, &v, NULL), MAG_INVALID);
}

Test(json, locate_finds_values_by_pointer)
{
    static const char text[] = "{\n"
                               "  \"a\": {\"b/c\": [10, {\"d~\": true}],\n"
                               "        \"\": null},\n"
                               "  \"s\\u0041\": \"x,]}\", \"n\" : 5\n"
                               "}\n";
    static const struct {
        const char *pointer;
        bool found;
        int line, column;
    } cases[] = {
        {"", true, 1, 1},
        {"/a", true, 2, 8},
        {"/a/b~1c", true, 2, 16},
        {"/a/b~1c/0", true, 2, 17},
        {"/a/b~1c/1/d~0", true, 2, 28},
        {"/a/", true, 3, 13},
        {"/sA", true, 4, 14},
        {"/n", true, 4, 28},
        {"/a/b~1c/2", false, 2, 16},
        {"/zz", false, 1, 1},
        {"/n/x", false, 4, 28},
        {"/a/b~1c/1/q/r", false, 2, 21},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int line = 0;
        int column = 0;
        bool found = mjson_locate(text, sizeof(text) - 1, cases[i].pointer, &line, &column);
        cr_assert_eq(found, cases[i].found, "%s", cases[i].pointer);
        cr_assert(line == cases[i].line && column == cases[i].column, "%s: line %d, column %d",
                  cases[i].pointer, line, column);
    }
}

Test(json, issues_are_placed_and_printed_all)
{
    static const char text[] = "{\"space\": {\n  \"lr\": [1, 2]}}";
    struct mjson_issues is = {0};
    mjson_issue(&is, "/space/lr/1", "is %d, expected at most %d", 2, 1);
    mjson_issue_at(&is, "/space", "a/b", "missing");
    mjson_issue(&is, "", "no objective");
    mjson_issues_place(&is, text, sizeof(text) - 1);
    struct buf out = {0};
    mjson_issues_print(&is, "f.json", &out);
    cr_assert_str_eq(out.data, "f.json:2:13: /space/lr/1: is 2, expected at most 1\n"
                               "f.json:1:11: /space/a~1b: missing\n"
                               "f.json:1:1: (document): no objective\n");
    json_t *j = mjson_issues_json(&is);
    cr_assert_eq(json_array_size(j), 3);
    cr_assert_eq(json_integer_value(json_object_get(json_array_get(j, 0), "line")), 2);
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(j, 1), "pointer")),
                     "/space/a~1b");
    json_decref(j);
    buf_fini(&out);
    mjson_issues_fini(&is);
}

Test(json, more_issues_than_the_limit_are_counted)
{
    struct mjson_issues is = {0};
    for (int i = 0; i < MJSON_ISSUES_MAX + 5; i++) {
        mjson_issue(&is, "", "number %d", i);
    }
    cr_assert_eq(is.n, MJSON_ISSUES_MAX);
    cr_assert_eq(is.total, MJSON_ISSUES_MAX + 5);
    struct buf out = {0};
    mjson_issues_print(&is, NULL, &out);
    cr_assert_not_null(strstr(out.data, "… and 5 more\n"));
    buf_fini(&out);
    mjson_issues_fini(&is);
}

Test(json, unknown_keys_name_the_nearest_known_one)
{
    static const char *const known[] = {"objective", "searchspace", "seed", NULL};
    json_t *o = json_pack("{s:i, s:i, s:i}", "objectiv", 1, "seed", 2, "zzzzzzzzzz", 3);
    struct mjson_issues is = {0};
    mjson_check_keys(o, known, "/x", &is);
    cr_assert_eq(is.n, 2);
    cr_assert_str_eq(is.items[0].pointer, "/x/objectiv");
    cr_assert_str_eq(is.items[0].text, "unknown key \"objectiv\"; did you mean \"objective\"?");
    cr_assert_str_eq(is.items[1].text, "unknown key \"zzzzzzzzzz\"");
    mjson_issues_fini(&is);
    json_decref(o);
    cr_assert_str_eq(mjson_nearest("sed", known), "seed");
    cr_assert_null(mjson_nearest("qqq", known));
}

Test(json, canonical_text_does_not_depend_on_the_order_of_keys)
{
    json_t *a = json_pack("{s:i, s:f, s:[s,n,b]}", "b", 1, "a", 0.1, "c", "x", 1);
    json_t *b = json_pack("{s:[s,n,b], s:f, s:i}", "c", "x", 1, "a", 0.1, "b", 1);
    char *ta = mjson_dump(a);
    char *tb = mjson_dump(b);
    cr_assert_str_eq(ta, tb);
    cr_assert_eq(strncmp(ta, "{\"a\":0.1", 8), 0, "%s", ta);
    free(ta);
    free(tb);
    json_decref(a);
    json_decref(b);
}

Test(json, files_are_read_whole_and_up_to_a_limit)
{
    char path[] = "/tmp/magpie-test-json-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "12345", 5), 5);
    (void)close(fd);
    char *text = NULL;
    size_t len = 0;
    struct mag_err err = {0};
    cr_assert_eq(mjson_read_file(path, 5, &text, &len, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(len, 5);
    cr_assert_str_eq(text, "12345");
    free(text);
    cr_assert_eq(mjson_read_file(path, 4, &text, &len, &err), MAG_LIMIT);
    (void)unlink(path);
    err = (struct mag_err){0};
    cr_assert_eq(mjson_read_file(path, 5, &text, &len, &err), MAG_NOTFOUND);
    cr_assert_not_null(strstr(err.text, path), "the text names the file: %s", err.text);
    err = (struct mag_err){0};
    cr_assert_eq(mjson_read_file("/tmp", 5, &text, &len, &err), MAG_IO, "a folder is no file");
}

Test(json, kinds_have_names)
{
    static const struct {
        const char *text;
        const char *kind;
    } cases[] = {{"{}", "an object"},     {"[]", "an array"},  {"\"\"", "a string"},
                 {"1", "a whole number"}, {"1.0", "a number"}, {"true", "true"},
                 {"false", "false"},      {"null", "null"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *v = NULL;
        cr_assert_eq(mjson_parse(cases[i].text, strlen(cases[i].text), &v, NULL), MAG_OK);
        cr_assert_str_eq(mjson_kind(v), cases[i].kind);
        json_decref(v);
    }
    cr_assert_str_eq(mjson_kind(NULL), "nothing");
}
