/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "worker/argv.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text)
{
    json_t *v = NULL;
    cr_assert_eq(mjson_parse(text, strlen(text), &v, NULL), MAG_OK, "%s", text);
    return v;
}

#define PARAMS "{\"lr\":0.1,\"n\":64,\"opt\":\"adam\",\"tiny\":1e-07,\"neg\":-3}"

Test(argv, parameters_take_their_places)
{
    const struct {
        const char *list, *want;
    } cases[] = {
        {"[\"a\",\"--lr\",\"${lr}\"]", "a --lr 0.1"},
        {"[\"a\",\"--x=${n}/${opt}\"]", "a --x=64/adam"},
        {"[\"a\",\"${tiny}\",\"${neg}\"]", "a 1e-07 -3"},
        {"[\"a\",[\"--m\",\"${momentum}\"],\"z\"]", "a z"},
        {"[\"a\",[\"--m\",\"${n}\"],\"z\"]", "a --m 64 z"},
        {"[\"a\",[\"${n}\",\"${momentum}\"],[\"k\"]]", "a k"},
        {"[\"a\",\"$lr ${ {}\"]", "a $lr ${ {}"},
        {"[\"a\",\"${\"]", "a ${"},
    };
    json_t *params = parse(PARAMS);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *list = parse(cases[i].list);
        char **argv = NULL;
        struct mag_err err = {0};
        char text[256];
        if (i == 6) { /* "${ {}" names the parameter " {" */
            cr_assert_eq(argv_build(list, params, &argv, &err), MAG_INVALID);
            json_decref(list);
            continue;
        }
        cr_assert_eq(argv_build(list, params, &argv, &err), MAG_OK, "%s: %s", cases[i].list,
                     err.text);
        argv_text(argv, text, sizeof(text));
        cr_assert_str_eq(text, cases[i].want);
        argv_free(argv);
        json_decref(list);
    }
    json_decref(params);
}

Test(argv, an_absent_parameter_outside_a_nested_list_is_an_error)
{
    json_t *params = parse(PARAMS);
    const struct {
        const char *list, *want;
    } cases[] = {
        {"[\"a\",\"${momentum}\"]", "${momentum}"},
        {"[\"${lr2}\"]", "nested list"},
        {"[]", "empty"},
        {"[\"\"]", "empty"},
        {"[\"a\",7]", "an argument is a string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *list = parse(cases[i].list);
        char **argv = NULL;
        struct mag_err err = {0};
        cr_assert_eq(argv_build(list, params, &argv, &err), MAG_INVALID, "%s", cases[i].list);
        cr_assert_not_null(strstr(err.text, cases[i].want), "%s", err.text);
        json_decref(list);
    }
    json_decref(params);
}

Test(argv, a_value_is_one_argument_whatever_it_holds)
{
    json_t *params = parse("{\"s\":\"a b; rm -rf $(x) 'q' \\\"d\\\"\"}");
    json_t *list = parse("[\"p\",\"--s=${s}\"]");
    char **argv = NULL;
    cr_assert_eq(argv_build(list, params, &argv, NULL), MAG_OK);
    cr_assert_str_eq(argv[1], "--s=a b; rm -rf $(x) 'q' \"d\"");
    cr_assert_null(argv[2]);
    argv_free(argv);
    json_decref(list);
    json_decref(params);
}

/* ---- environments ---- */

static char *joined(char **list)
{
    static char text[512];
    argv_text(list, text, sizeof(text));
    argv_free(list);
    return text;
}

Test(argv, variables_take_parameters_and_go_without_absent_ones)
{
    json_t *params = parse(PARAMS);
    json_t *env = parse("{\"A\":\"x\",\"B\":\"${n}/${opt}\",\"C\":\"${momentum}\",\"D\":null,\"E\":\"\"}");
    char **list = NULL;
    cr_assert_eq(argv_env(env, params, &list, NULL), MAG_OK);
    cr_assert_str_eq(joined(list), "A=x B=64/adam D E=");
    cr_assert_eq(argv_env(NULL, params, &list, NULL), MAG_OK);
    cr_assert_str_eq(joined(list), "");
    json_decref(env);
    json_decref(params);
}

Test(argv, later_environments_go_over_earlier_ones)
{
    static char a1[] = "PATH=/bin", a2[] = "HOME=/me", a3[] = "TOKEN=s", b1[] = "PATH=/usr/bin",
                b2[] = "TOKEN", b3[] = "PATHS=1", c1[] = "HOME=", c2[] = "GONE";
    char *const a[] = {a1, a2, a3, NULL};
    char *const b[] = {b1, b2, b3, NULL};
    char *const c[] = {c1, c2, NULL};
    char *text = joined(argv_merge(a, b, c));
    cr_assert_not_null(strstr(text, "PATH=/usr/bin"), "%s", text);
    cr_assert_not_null(strstr(text, "PATHS=1"), "%s", text);
    cr_assert_not_null(strstr(text, "HOME="), "%s", text);
    cr_assert_null(strstr(text, "/me"), "%s", text);
    cr_assert_null(strstr(text, "TOKEN"), "%s", text);
    cr_assert_null(strstr(text, "GONE"), "%s", text);
    cr_assert_str_eq(joined(argv_merge(NULL, NULL, NULL)), "");
}
