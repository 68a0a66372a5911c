/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "wire/fuse.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static json_t *json(const char *text)
{
    json_t *v = NULL;
    struct mag_err err = {0};
    char *copy = strdup(text);
    for (char *p = copy; *p != '\0'; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    enum mag_status st = mjson_parse(copy, strlen(copy), &v, &err);
    free(copy);
    cr_assert_eq(st, MAG_OK, "%s: %s", text, err.text);
    return v;
}

static const char recipe[] =
    "{'program': 'builtin', 'dataset': 'csv:${file}?label=y', 'fuse': 8,"
    " 'model': {'layers': [{'type': 'dense', 'units': '${units}', 'activation': '${act}'},"
    "                      [{'type': 'dense', 'units': 8}, {'type': 'dropout', 'rate': '${drop}'}],"
    "                      {'type': 'dense', 'units': 10, 'repeat': '${depth}'}]},"
    " 'training': {'optimizer': '${optimizer}', 'lr': '${lr}', 'momentum': '${momentum}', 'beta1': '${b1}',"
    "              'batch_size': '${batch}', 'label_smoothing': '${smooth}', 'schedule': {'type': '${type}', 'epochs': '${epochs}'}}}";

static bool alike(const char *a, const char *b)
{
    json_t *trial = json(recipe);
    json_t *pa = json(a);
    json_t *pb = json(b);
    char *ka = fuse_key(trial, pa);
    char *kb = fuse_key(trial, pb);
    bool same = strcmp(ka, kb) == 0;
    free(ka);
    free(kb);
    json_decref(pa);
    json_decref(pb);
    json_decref(trial);
    return same;
}

Test(fuse, numbers_of_a_lane_may_differ_and_what_makes_the_model_may_not)
{
    static const struct {
        const char *a, *b;
        bool want;
    } cases[] = {
        {"{'lr': 0.1}", "{'lr': 0.2}", true},
        {"{'lr': 0.1, 'momentum': 0.9, 'b1': 0.1}", "{'lr': 0.3, 'momentum': 0.5, 'b1': 0.2}", true},
        {"{'drop': 0.1}", "{'drop': 0.5}", true},
        {"{'type': 'cosine', 'epochs': 3}", "{'type': 'linear', 'epochs': 5}", true},
        {"{'not_in_the_recipe': 1}", "{'not_in_the_recipe': 2}", true},
        {"{'units': 8}", "{'units': 16}", false},
        {"{'act': 'relu'}", "{'act': 'tanh'}", false},
        {"{'depth': 1}", "{'depth': 2}", false},
        {"{'batch': 32}", "{'batch': 64}", false},
        {"{'smooth': 0.1}", "{'smooth': 0.2}", true},
        {"{'optimizer': 'sgd'}", "{'optimizer': 'adam'}", false},
        {"{'file': 'a'}", "{'file': 'b'}", true}, /* no reference: the trainer refuses it anyway */
        {"{'drop': 0.1}", "{}", false},           /* a list of layers that is left out */
        {"{'lr': 0.1}", "{}", false},
        {"{'ablated_layer': 'a'}", "{'ablated_layer': 'b'}", false},
        {"{'ablated_feature': 'a'}", "{}", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(alike(cases[i].a, cases[i].b), cases[i].want, "%s and %s", cases[i].a,
                     cases[i].b);
    }
}

Test(fuse, a_parameter_may_differ_where_it_decides_nothing)
{
    json_t *trial = json(recipe);
    static const struct {
        const char *name;
        bool want;
    } cases[] = {{"lr", true},        {"drop", true},   {"epochs", true}, {"elsewhere", true},
                 {"units", false},    {"batch", false}, {"depth", false}, {"optimizer", false},
                 {"ablated_layer", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(fuse_allows(trial, cases[i].name), cases[i].want, "%s", cases[i].name);
    }
    json_decref(trial);
}

Test(fuse, a_parameter_that_stands_in_both_kinds_of_places_decides)
{
    json_t *trial = json("{'training': {'lr': '${x}', 'batch_size': '${x}'}}");
    cr_assert(!fuse_allows(trial, "x"));
    json_decref(trial);
}

Test(fuse, how_many_is_a_number_or_auto_and_bounded)
{
    static const struct {
        const char *text;
        int want; /* 0 = refused */
    } cases[] = {{"[false]", 1},       {"[true]", FUSE_AUTO}, {"['auto']", FUSE_AUTO}, {"[1]", 1},
                 {"[64]", 64},         {"[65]", 0},           {"[0]", 0},              {"[-1]", 0},
                 {"[2.5]", 0},         {"['many']", 0},       {"[null]", 0},           {"[[8]]", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *v = json(cases[i].text);
        int got = 0;
        struct mag_err err = {0};
        enum mag_status st = fuse_parse(json_array_get(v, 0), &got, &err);
        cr_assert_eq(st, cases[i].want != 0 ? MAG_OK : MAG_INVALID, "%s", cases[i].text);
        cr_assert_eq(got, cases[i].want, "%s: %d", cases[i].text, got);
        json_decref(v);
    }
    int got = 0;
    cr_assert_eq(fuse_parse(NULL, &got, NULL), MAG_OK);
    cr_assert_eq(got, 1);
}
