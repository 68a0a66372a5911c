/* SPDX-License-Identifier: Apache-2.0
 *
 * The experiment file: tables of broken files (data/broken.json: a merge patch on data/base.json,
 * the place and the words of the message), what is accepted, and the resolved form.
 */
#include "driver/spec.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(spec, .timeout = 60);

static json_t *load(const char *name)
{
    char path[4096];
    char *text = NULL;
    size_t len = 0;
    json_t *v = NULL;
    struct mag_err err = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", TEST_DATA, name);
    cr_assert_eq(mjson_read_file(path, 1 << 24, &text, &len, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(mjson_parse(text, len, &v, &err), MAG_OK, "%s", err.text);
    free(text);
    return v;
}

/* RFC 7396. */
static json_t *merge(json_t *target, const json_t *patch)
{
    const char *key = NULL;
    json_t *v = NULL;
    if (!json_is_object(patch)) {
        return json_deep_copy(patch);
    }
    json_t *out = json_is_object(target) ? json_deep_copy(target) : json_object();
    json_object_foreach((json_t *)(uintptr_t)patch, key, v)
    {
        if (json_is_null(v)) {
            (void)json_object_del(out, key);
        } else {
            (void)json_object_set_new(out, key, merge(json_object_get(out, key), v));
        }
    }
    return out;
}

static json_t *with(const char *patch)
{
    json_t *base = load("base.json");
    json_t *p = NULL;
    struct mag_err err = {0};
    cr_assert_eq(mjson_parse(patch, strlen(patch), &p, &err), MAG_OK, "%s", err.text);
    json_t *doc = merge(base, p);
    json_decref(base);
    json_decref(p);
    return doc;
}

static struct spec *must_parse(const json_t *doc)
{
    struct mjson_issues is = {0};
    struct buf b = {0};
    struct spec *s = spec_parse(doc, 7, &is);
    mjson_issues_print(&is, NULL, &b);
    cr_assert_not_null(s, "%s", b.data);
    cr_assert_eq(is.total, 0);
    return s;
}

Test(spec, every_broken_file_gets_its_message_at_its_place)
{
    json_t *base = load("base.json");
    json_t *table = load("broken.json");
    size_t i = 0;
    json_t *row = NULL;
    cr_assert_gt(json_array_size(table), 100);
    json_array_foreach(table, i, row)
    {
        struct mjson_issues is = {0};
        struct buf all = {0};
        json_t *doc = merge(base, json_object_get(row, "patch"));
        const char *at = json_string_value(json_object_get(row, "at"));
        const char *text = json_string_value(json_object_get(row, "text"));
        bool found = false;
        cr_expect_null(spec_parse(doc, 7, &is), "row %zu was accepted", i);
        for (int k = 0; k < is.n; k++) {
            found = found || (strcmp(is.items[k].pointer, at) == 0 &&
                              strstr(is.items[k].text, text) != NULL);
        }
        mjson_issues_print(&is, NULL, &all);
        cr_expect(found, "row %zu: wanted \"%s\" at \"%s\", got\n%s", i, text, at, all.data);
        mjson_issues_fini(&is);
        buf_fini(&all);
        json_decref(doc);
    }
}

Test(spec, all_faults_are_reported_at_once_with_line_and_column)
{
    const char *text = "{\n  \"objective\": {\"metric\": \"m\", \"direction\": \"up\"},\n"
                       "  \"searchspace\": {\"lr\": {\"type\": \"DOUBLE\", \"range\": [3, 1]}},\n"
                       "  \"limits\": {\"trials\": \"many\"},\n  \"colour\": 1\n}\n";
    static const struct {
        const char *at;
        int line, column;
    } want[] = {{"/colour", 5, 13},
                {"/objective/direction", 2, 45},
                {"/searchspace/lr/range", 3, 53},
                {"/limits/trials", 4, 24}};
    json_t *doc = NULL;
    struct mjson_issues is = {0};
    cr_assert_eq(mjson_parse(text, strlen(text), &doc, NULL), MAG_OK);
    cr_assert_null(spec_parse(doc, 7, &is));
    mjson_issues_place(&is, text, strlen(text));
    cr_assert_eq(is.total, 4);
    for (int i = 0; i < 4; i++) {
        cr_expect_str_eq(is.items[i].pointer, want[i].at);
        cr_expect_eq(is.items[i].line, want[i].line, "%s line %d", want[i].at, is.items[i].line);
        cr_expect_eq(is.items[i].column, want[i].column, "%s column %d", want[i].at,
                     is.items[i].column);
    }
}

Test(spec, only_objective_and_searchspace_are_required)
{
    const char *text = "{\"objective\": {\"metric\": \"m\", \"direction\": \"max\"}, "
                       "\"searchspace\": {\"x\": [\"double\", [0, 1]]}}";
    json_t *doc = NULL;
    cr_assert_eq(mjson_parse(text, strlen(text), &doc, NULL), MAG_OK);
    struct spec *s = must_parse(doc);
    cr_expect_str_eq(s->name, "experiment");
    cr_expect(s->maximize);
    cr_expect_eq(s->seed, 7);
    cr_expect_eq(s->program, SPEC_ASKED);
    cr_expect_null(s->trial);
    cr_expect(!s->resource.present);
    cr_expect_null(s->early_stopping, "no rule unless it is asked for");
    cr_expect_eq(s->limits.retries, 2);
    cr_expect_eq(s->limits.losses, 5);
    cr_expect_eq(s->limits.failures, 10);
    cr_expect_eq(s->limits.trials, 0);
    cr_expect(!s->limits.has_target);
    cr_expect_eq(s->checkpoint_every, 1);
    cr_expect_eq(s->checkpoint_keep, 2);
    cr_expect_str_eq(s->project, "default");
    cr_expect_str_eq(s->notes, "");
    cr_expect_eq(json_array_size(s->tags), 0);
    cr_expect_not_null(strstr(s->auto_why, "cmaes, because"));
    spec_destroy(s);
}

Test(spec, every_key_is_read)
{
    json_t *doc = with(
        "{\"resource\": {\"unit\": \"epoch\", \"min\": 1, \"max\": 27},"
        "\"limits\": {\"retries\": 0, \"losses\": 1, \"failures\": 0, \"time\": 90.5},"
        "\"requires\": {\"gpus\": 2, \"gpu_memory\": \"16GB\", \"memory\": 512, \"cores\": 3, "
        "\"labels\": [\"a\"]},"
        "\"metrics\": {\"acc\": \"acc=([0-9.]+)\"}, \"project\": \"vision\", \"tags\": [\"t\"], "
        "\"notes\": \"a\\nb\","
        "\"notify\": {\"url\": \"https://example.org/hook\", \"on\": [\"end\"]}, \"checkpoint\": "
        "{\"every\": 3, \"keep\": 5},"
        "\"early_stopping\": {\"rule\": \"median\", \"min_trials\": 4}, \"$schema\": \"x\","
        "\"points\": [{\"lr\": 0.01, \"units\": 64, \"kernel\": 3, \"optimizer\": \"adam\"}]}");
    struct spec *s = must_parse(doc);
    cr_expect_eq(s->resource.max, 27);
    cr_expect_str_eq(s->resource_unit, "epoch");
    cr_expect_eq(s->limits.time_ms, 90500);
    cr_expect_eq(s->limits.trial_time_ms, 1200000);
    cr_expect_eq(s->limits.failures, 0);
    cr_expect_float_eq(s->limits.target, 0.05, 0);
    cr_expect_eq(s->requires_.gpus, 2);
    cr_expect_eq(s->requires_.gpu_memory_mb, 16384);
    cr_expect_eq(s->requires_.memory_mb, 512);
    cr_expect_eq(s->requires_.n_labels, 1);
    cr_expect_str_eq(s->requires_.labels[0], "a");
    cr_expect_eq(s->program, SPEC_COMMAND);
    cr_expect_eq(json_array_size(s->points), 1);
    cr_expect_str_eq(s->notes, "a\nb");
    cr_expect_eq(s->checkpoint_every, 3);
    cr_expect_null(json_object_get(s->resolved, "$schema"));
    spec_destroy(s);
}

Test(spec, a_warm_start_holds_what_is_given_and_what_was_recorded)
{
    json_t *doc = with(
        "{\"warm_start\": {\"experiments\": [3], \"observations\": [{\"params\": {\"lr\": 0.01, "
        "\"units\": 64, \"kernel\": 3, \"optimizer\": \"adam\"}, \"value\": 0.5}]}}");
    struct spec *s = must_parse(doc);
    struct mjson_issues is = {0};
    cr_assert_eq(s->n_observed, 1);
    cr_expect_eq(s->observed[0].measures[0], 0.5);
    cr_expect_eq(s->observed[0].point[space_find(s->space, "units")], 64);
    cr_expect(isnan(s->observed[0].point[space_find(s->space, "momentum")]));
    cr_expect(spec_warm_pending(s));
    json_t *recorded =
        json_pack("{s:i, s:{s:i, s:i}, s:[{s:{s:f, s:i, s:i, s:s, s:f}, s:{s:f}, s:i, s:i}]}",
                  "used", 1, "dropped", "limit", 4, "out-of-range", 2, "observations", "params",
                  "lr", 0.02, "units", 96, "kernel", 5, "optimizer", "sgd", "momentum", 0.5,
                  "values", "loss", 0.25, "experiment", 3, "trial", 12);
    cr_assert_not_null(recorded);
    spec_warm_record(s, recorded, &is);
    cr_assert_eq(is.total, 0, "%s", is.items[0].text);
    cr_expect_not(spec_warm_pending(s));
    json_t *summary = spec_warm_summary(s);
    cr_expect_eq(json_integer_value(json_object_get(summary, "used")), 2);
    cr_expect_eq(json_integer_value(json_object_get(summary, "dropped")), 6);
    /* A restart reads the resolved document and knows the same, without the other experiment. */
    struct spec *again = must_parse(s->resolved);
    cr_expect_eq(again->n_observed, 2);
    cr_expect_not(spec_warm_pending(again));
    cr_expect_eq(again->observed[1].measures[0], 0.25);
    cr_expect_eq(again->observed[1].point[space_find(s->space, "momentum")], 0.5);
    json_decref(summary);
    spec_destroy(again);
    spec_destroy(s);
    json_decref(doc);
}

Test(spec, points_that_leave_parameters_out_are_completed_once)
{
    json_t *doc = with("{\"constraints\": [\"units >= 64\", \"kernel == 3 implies lr < 0.001\"], "
                       "\"points\": [{\"momentum\": 0.5}, {\"kernel\": 3}, {}, {\"units\": 64, "
                       "\"optimizer\": \"adam\"}]}");
    struct spec *s = must_parse(doc);
    json_t *p = NULL;
    size_t i = 0;
    cr_assert_eq(json_array_size(s->points), 4);
    json_array_foreach(s->points, i, p)
    {
        bool adam = strcmp(json_string_value(json_object_get(p, "optimizer")), "adam") == 0;
        cr_expect_eq(json_object_size(p), adam ? 4 : 5);
        cr_expect_geq(json_integer_value(json_object_get(p, "units")), 64);
        cr_expect(json_integer_value(json_object_get(p, "kernel")) != 3 ||
                  json_real_value(json_object_get(p, "lr")) < 0.001);
    }
    /* What was given stays, and what it hangs on follows. */
    p = json_array_get(s->points, 0);
    cr_expect_eq(json_real_value(json_object_get(p, "momentum")), 0.5);
    cr_expect_str_eq(json_string_value(json_object_get(p, "optimizer")), "sgd");
    cr_expect_eq(json_integer_value(json_object_get(json_array_get(s->points, 1), "kernel")), 3);
    p = json_array_get(s->points, 3);
    cr_expect_eq(json_integer_value(json_object_get(p, "units")), 64);
    cr_expect_str_eq(json_string_value(json_object_get(p, "optimizer")), "adam");
    spec_destroy(s);
    json_decref(doc);
}

Test(spec, the_resolved_document_parses_to_itself_whatever_the_order_of_its_keys)
{
    static const char *const patches[] = {
        "{}",
        "{\"seed\": null, \"name\": null, \"limits\": null, \"trial\": null, \"optimizer\": null}",
        "{\"limits\": {\"time\": \"1500ms\", \"target\": null}, \"notify\": {\"url\": "
        "\"http://x/\"}, \"requires\": {\"memory\": \"2GB\"}}",
        "{\"resource\": {\"max\": 9}, \"early_stopping\": {\"rule\": \"median\"}, \"trial\": "
        "{\"command\": null, \"executor\": [\"x\"]}}",
        "{\"points\": [{\"lr\": 0.01, \"units\": 64, \"kernel\": 3, \"optimizer\": \"sgd\", "
        "\"momentum\": 0}]}",
        "{\"optimizer\": {\"algorithm\": \"asha\", \"bracket\": 1}, \"resource\": {\"unit\": "
        "\"epoch\", \"max\": 27}}",
        "{\"optimizer\": {\"algorithm\": \"hyperband\"}, \"resource\": {\"max\": 27}, \"limits\": "
        "{\"trials\": null}}",
        "{\"optimizer\": {\"algorithm\": \"de\", \"mutation\": 0.3}}",
        "{\"optimizer\": null, \"resource\": {\"max\": 27}}",
        "{\"searchspace\": {\"d\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"step\": 0.1}, "
        "\"l\": [\"DISCRETE\", [0.5, 1, -2e30]]}}",
        "{\"warm_start\": {\"experiments\": [3, 7], \"defaults\": {\"units\": 64}, "
        "\"observations\": "
        "[{\"params\": {\"lr\": 0.01, \"units\": 64, \"kernel\": 3, \"optimizer\": \"adam\"}, "
        "\"value\": 0.5}]}}",
        "{\"warm_start\": {\"experiments\": [3], \"trials\": \"all\", \"limit\": 9, \"recorded\": "
        "{\"used\": 1, \"dropped\": {\"limit\": 4}, \"observations\": [{\"params\": {\"lr\": 0.01, "
        "\"units\": 64, \"kernel\": 3, \"optimizer\": \"adam\"}, \"values\": {\"loss\": 0.5}, "
        "\"experiment\": 3, \"trial\": 12}]}}}",
        "{\"constraints\": [\"units >= 64\", {\"optimizer\": \"adam\", \"kernel\": [3, 5]}, "
        "\"active(momentum) implies lr < 0.05\"], \"points\": [{\"momentum\": 0.5}, {}]}",
        "{\"searchspace\": {\"beta\": {\"type\": \"DOUBLE\", \"range\": [0.9, 0.999], \"scale\": "
        "\"reverse-log\"}, \"size\": {\"type\": \"CATEGORICAL\", \"values\": [\"s\", \"l\"], "
        "\"ordered\": true}, \"fixed\": [\"DOUBLE\", [0.3, 0.3]]}, \"optimizer\": null}",
    };
    for (size_t i = 0; i < sizeof(patches) / sizeof(patches[0]); i++) {
        json_t *doc = with(patches[i]);
        struct spec *a = must_parse(doc);
        char *ta = mjson_dump(a->resolved); /* sorts the keys */
        json_t *again = NULL;
        cr_assert_eq(mjson_parse(ta, strlen(ta), &again, NULL), MAG_OK);
        struct mjson_issues is = {0};
        struct spec *b = spec_parse(again, 99, &is);
        cr_assert_not_null(b, "%s: %s", patches[i], is.n > 0 ? is.items[0].text : "");
        char *tb = mjson_dump(b->resolved);
        cr_expect_str_eq(ta, tb);
        cr_assert_eq(a->space->n, b->space->n);
        for (int k = 0; k < a->space->n; k++) {
            cr_expect_str_eq(a->space->params[k].name, b->space->params[k].name);
        }
        cr_expect_eq(a->seed, b->seed);
        cr_expect_eq(a->limits.time_ms, b->limits.time_ms);
        spec_destroy(a);
        spec_destroy(b);
    }
}

Test(spec, a_conditional_parameter_may_stand_in_a_nested_list_and_anywhere_in_a_builtin_program)
{
    spec_destroy(must_parse(with("{}")));
    spec_destroy(must_parse(with("{\"trial\": {\"command\": null, \"program\": \"builtin\", "
                                 "\"training\": {\"momentum\": \"${momentum}\"}}}")));
}

Test(spec, the_plan_of_a_search_without_schedule_is_trials_times_budget)
{
    struct spec *s = must_parse(with("{\"resource\": {\"unit\": \"epoch\", \"max\": 9}}"));
    json_t *plan = spec_plan(s);
    cr_expect_eq(json_integer_value(json_object_get(plan, "trials")), 20);
    cr_expect_eq(json_integer_value(json_object_get(plan, "epochs")), 180);
    cr_expect_eq(json_array_size(json_object_get(plan, "table")), 1);
    cr_expect_gt(json_array_size(json_object_get(plan, "notes")), 1);
    json_decref(plan);
    spec_destroy(s);
    s = must_parse(with("{\"limits\": null}"));
    plan = spec_plan(s);
    cr_expect(json_is_null(json_object_get(plan, "trials")));
    cr_expect_not_null(strstr(json_string_value(json_array_get(json_object_get(plan, "notes"), 0)),
                              "until it is cancelled"));
    json_decref(plan);
    spec_destroy(s);
}

Test(spec, what_fuse_comes_to_is_told_by_what_separates_groups)
{
#define FUSED(space, rest)                                                                         \
    "{\"searchspace\": {\"kernel\": null, \"lr\": null, \"momentum\": null, \"optimizer\": null, "       \
    "\"units\": null, " space "}, \"trial\": {\"command\": null, \"program\": \"builtin\", " rest "}}"
#define LR "\"rate\": {\"type\": \"DOUBLE\", \"range\": [0.1, 1]}"
#define KINDS                                                                                      \
    "\"width\": {\"type\": \"DISCRETE\", \"values\": [8, 16, 32]}, "                              \
    "\"batch\": {\"type\": \"INTEGER\", \"range\": [1, 2]}"
#define RECIPE                                                                                     \
    "\"model\": {\"layers\": [{\"units\": \"${width}\"}]}, "                                      \
    "\"training\": {\"lr\": \"${rate}\", \"batch_size\": \"${batch}\"}"
    static const struct {
        const char *patch;
        size_t n;
        const char *says[2];
    } cases[] = {
        {FUSED(LR, "\"training\": {\"lr\": \"${rate}\"}"), 0, {NULL}},
        {FUSED(LR, "\"fuse\": 1, \"training\": {\"lr\": \"${rate}\"}"), 0, {NULL}},
        {FUSED(LR, "\"fuse\": 8, \"training\": {\"lr\": \"${rate}\"}"),
         1,
         {"fuse: up to 8 trials train as one; they may differ in rate"}},
        {FUSED(LR, "\"fuse\": \"auto\", \"training\": {\"lr\": \"${rate}\"}"),
         1,
         {"up to 32 trials train as one on a GPU, each alone elsewhere; they may differ in rate"}},
        {FUSED(LR ", " KINDS, "\"fuse\": 8, " RECIPE),
         2,
         {"they may differ in rate",
          "batch (2) and width (3) separate groups, 6 kinds of trials in all; a group is trials of "
          "one kind that come one after the other: drawn at random 1.2 on average"}},
        {FUSED("\"width\": {\"type\": \"INTEGER\", \"range\": [8, 8]}, "
               "\"w\": {\"type\": \"DOUBLE\", \"range\": [0, 1]}",
               "\"fuse\": 4, \"model\": {\"layers\": [{\"rate\": \"${w}\"}, \"${width}\"]}"),
         2,
         {"nothing but their random streams",
          "w separates groups and takes any number, so that every trial runs alone: give a \"step\""}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct spec *s = must_parse(with(cases[i].patch));
        json_t *notes = spec_fuse_notes(s);
        cr_assert_eq(json_array_size(notes), cases[i].n, "case %zu: %zu", i, json_array_size(notes));
        for (size_t k = 0; k < cases[i].n; k++) {
            const char *text = json_string_value(json_array_get(notes, k));
            cr_expect_not_null(strstr(text, cases[i].says[k]), "case %zu: %s", i, text);
        }
        json_t *plan = spec_plan(s);
        char *dump = mjson_dump(plan);
        cr_expect_eq(strstr(dump, "fuse: ") != NULL, cases[i].n > 0, "the plan says it too");
        free(dump);
        json_decref(plan);
        json_decref(notes);
        spec_destroy(s);
    }
}

Test(spec, the_plan_of_asha_and_hyperband_has_their_rungs)
{
    static const struct {
        const char *patch;
        int64_t trials, epochs;
        size_t rows, notes;
        const char *note;
    } cases[] = {
        {"{\"optimizer\": {\"algorithm\": \"asha\"}, \"limits\": {\"trials\": 81}}", 81,
         81 + 27 * 2 + 9 * 6 + 3 * 18, 4, 1, "as reports arrive"},
        {"{\"optimizer\": null, \"limits\": null}", 0, 0, 4, 2, "until it is cancelled"},
        {"{\"optimizer\": {\"algorithm\": \"hyperband\"}, \"limits\": null}", 27 + 12 + 6 + 4,
         27 + 9 * 2 + 3 * 6 + 18 + 12 * 3 + 4 * 6 + 18 + 6 * 9 + 2 * 18 + 4 * 27, 10, 0, NULL},
        {"{\"optimizer\": {\"algorithm\": \"hyperband\", \"iterations\": 1}, \"limits\": "
         "{\"trials\": 1000}}",
         49, 27 + 9 * 2 + 3 * 6 + 18 + 12 * 3 + 4 * 6 + 18 + 6 * 9 + 2 * 18 + 4 * 27, 10, 1,
         "ends after 49 of at most 1000"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *doc = with(cases[i].patch);
        (void)json_object_set_new(doc, "resource",
                                  json_pack("{s:s, s:i}", "unit", "epoch", "max", 27));
        json_t *limits = json_object_get(doc, "limits");
        for (const char *const *k = (const char *const[]){"time", "target", NULL}; *k != NULL;
             k++) {
            (void)json_object_del(limits, *k);
        }
        struct spec *s = must_parse(doc);
        json_t *plan = spec_plan(s);
        json_t *notes = json_object_get(plan, "notes");
        cr_expect_eq(json_integer_value(json_object_get(plan, "trials")), cases[i].trials,
                     "case %zu", i);
        cr_expect_eq(json_integer_value(json_object_get(plan, "epochs")), cases[i].epochs,
                     "case %zu: %d", i, (int)json_integer_value(json_object_get(plan, "epochs")));
        cr_expect_eq(json_array_size(json_object_get(plan, "table")), cases[i].rows, "case %zu", i);
        cr_assert_eq(json_array_size(notes), cases[i].notes, "case %zu", i);
        cr_expect(cases[i].note == NULL ||
                  strstr(json_string_value(json_array_get(notes, 0)), cases[i].note) != NULL);
        json_decref(plan);
        spec_destroy(s);
    }
}

Test(spec, the_plan_of_grid_and_evolution_ends_with_their_points_and_generations)
{
    static const struct {
        const char *patch;
        json_int_t trials; /* 0 = open */
    } cases[] = {
        {"{\"optimizer\": {\"algorithm\": \"grid\"}, \"searchspace\": {\"lr\": {\"step\": 0.01},"
         " \"momentum\": {\"step\": 0.33}}, \"limits\": null}",
         10 * 16 * 3 * (4 + 1)},
        {"{\"optimizer\": {\"algorithm\": \"grid\"}, \"searchspace\": {\"lr\": {\"step\": 0.01},"
         " \"momentum\": {\"step\": 0.33}}}",
         20},
        {"{\"optimizer\": {\"algorithm\": \"de\"}}", 20},
        {"{\"optimizer\": {\"algorithm\": \"de\"}, \"limits\": null}", 0},
        {"{\"optimizer\": {\"algorithm\": \"de\", \"population\": 5, \"generations\": 3}}", 15},
        {"{\"optimizer\": {\"algorithm\": \"de\", \"generations\": 3}, \"limits\": null}", 30},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct spec *s = must_parse(with(cases[i].patch));
        json_t *plan = spec_plan(s);
        cr_expect_eq(json_integer_value(json_object_get(plan, "trials")), cases[i].trials,
                     "case %zu: %d", i, (int)json_integer_value(json_object_get(plan, "trials")));
        cr_expect(json_is_null(json_object_get(plan, "epochs")), "no resource, no epochs");
        json_decref(plan);
        spec_destroy(s);
    }
}

Test(spec, early_stopping_beside_asha_is_allowed_with_combine)
{
    spec_destroy(
        must_parse(with("{\"optimizer\": {\"algorithm\": \"asha\"}, \"resource\": {\"max\": 9},"
                        " \"early_stopping\": {\"rule\": \"median\", \"combine\": true}}")));
}

/* "aaa…", n bytes. */
static json_t *text_of(size_t n, const char *head)
{
    char *t = xcalloc(n + 1, 1);
    memset(t, 'a', n);
    memcpy(t, head, strlen(head));
    json_t *v = json_string(t);
    free(t);
    return v;
}

/* n members: distinct short texts, or `item` n times. */
static json_t *list_of(size_t n, const json_t *item)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        char t[24];
        (void)snprintf(t, sizeof(t), "t%zu", i);
        (void)json_array_append_new(list, item != NULL ? json_deep_copy(item) : json_string(t));
    }
    return list;
}

static json_t *regexes(size_t n)
{
    json_t *o = json_object();
    for (size_t i = 0; i < n; i++) {
        char t[24];
        (void)snprintf(t, sizeof(t), "m%zu", i);
        (void)json_object_set_new(o, t, json_string("(.)"));
    }
    return o;
}

static json_t *one_regex(size_t n)
{
    return json_pack("{s:o}", "m", text_of(n, "(.)"));
}

/* The document with `key` as large as n says. */
static json_t *sized(const char *key, size_t n)
{
    json_t *doc = with("{\"limits\": null}");
    json_t *arg = json_string("x");
    json_t *point = json_pack("{s:f, s:i, s:i, s:s}", "lr", 0.01, "units", 64, "kernel", 3,
                              "optimizer", "adam");
    json_t *v = strcmp(key, "name") == 0      ? text_of(n, "")
                : strcmp(key, "notes") == 0   ? text_of(n, "")
                : strcmp(key, "project") == 0 ? text_of(n, "")
                : strcmp(key, "tags") == 0    ? list_of(n, NULL)
                : strcmp(key, "points") == 0  ? list_of(n, point)
                : strcmp(key, "metrics") == 0 ? regexes(n)
                : strcmp(key, "trial") == 0   ? json_pack("{s:o}", "command", list_of(n, arg))
                                              : NULL;
    if (strcmp(key, "tag") == 0) {
        key = "tags";
        v = json_pack("[o]", text_of(n, ""));
    } else if (strcmp(key, "regex") == 0) {
        key = "metrics";
        v = one_regex(n);
    } else if (strcmp(key, "url") == 0) {
        key = "notify";
        v = json_pack("{s:o}", "url", text_of(n, "http://"));
    } else if (strcmp(key, "metric") == 0) {
        key = "objective";
        v = json_pack("{s:o, s:s}", "metric", text_of(n, ""), "direction", "max");
    }
    (void)json_object_set_new(doc, key, v);
    json_decref(arg);
    json_decref(point);
    return doc;
}

Test(spec, every_limit_holds_at_the_limit_and_not_beyond)
{
    static const struct {
        const char *key;
        size_t limit;
    } cases[] = {{"name", 256},   {"metric", 256}, {"notes", 65536},  {"project", 64},
                 {"tags", 64},    {"tag", 128},    {"points", 10000}, {"metrics", 64},
                 {"regex", 1024}, {"url", 2048},   {"trial", 1000}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mjson_issues is = {0};
        json_t *at = sized(cases[i].key, cases[i].limit);
        json_t *beyond = sized(cases[i].key, cases[i].limit + 1);
        spec_destroy(must_parse(at));
        cr_expect_null(spec_parse(beyond, 1, &is), "%s beyond its limit", cases[i].key);
        cr_expect_eq(is.total, 1, "%s: %d issues", cases[i].key, is.total);
        mjson_issues_fini(&is);
        json_decref(at);
        json_decref(beyond);
    }
}

Test(spec, a_document_that_is_no_object_is_refused)
{
    static const char *const texts[] = {
        "[]",
        "3",
        "null",
        "\"x\"",
        "{}",
        "{\"objective\": 3, \"searchspace\": 4, \"limits\": 5, \"trial\": [], "
        "\"resource\": 1, \"optimizer\": [], \"requires\": 1, \"metrics\": 2, \"notify\": 3, "
        "\"tags\": 4, "
        "\"points\": 5, \"early_stopping\": 6, \"checkpoint\": 7, \"project\": 8, \"notes\": 9}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *doc = NULL;
        struct mjson_issues is = {0};
        cr_assert_eq(mjson_parse(texts[i], strlen(texts[i]), &doc, NULL), MAG_OK);
        cr_expect_null(spec_parse(doc, 7, &is));
        cr_expect_gt(is.total, 0);
        mjson_issues_fini(&is);
        json_decref(doc);
    }
}
