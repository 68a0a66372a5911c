/* SPDX-License-Identifier: Apache-2.0 */
#include "space/space.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(space, .timeout = 60);

static struct space *parse(const char *json)
{
    struct mjson_issues is = {0};
    json_t *v = NULL;
    struct mag_err err = {0};
    cr_assert_eq(mjson_parse(json, strlen(json), &v, &err), MAG_OK, "%s: %s", json, err.text);
    struct space *s = space_parse(v, "", &is);
    cr_assert_not_null(s, "%s: %s", json, is.n > 0 ? is.items[0].text : "");
    json_decref(v);
    return s;
}

#define DOUBLE(body) "{\"x\": {\"type\": \"DOUBLE\", " body "}}"
#define INTEGER(body) "{\"x\": {\"type\": \"INTEGER\", " body "}}"
/* The names are not in alphabetical order on purpose. */
#define MIXED                                                                                      \
    "{\"z\": [\"double\", [-1, 1]], \"lr\": {\"type\": \"Double\", \"range\": [0.0001, 0.1], "     \
    "\"scale\": \"log\"},"                                                                         \
    " \"n\": [\"integer\", [1, 4]], \"k\": [\"discrete\", [7, 3, 5]], \"opt\": [\"Categorical\", " \
    "[\"sgd\", \"adam\"]],"                                                                        \
    " \"m\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"when\": {\"opt\": [\"sgd\"]}},"           \
    " \"q\": {\"type\": \"INTEGER\", \"range\": [1, 2], \"when\": {\"k\": [3, 5]}}}"

Test(space, type_names_and_the_short_form_of_maggy_are_read_in_any_case)
{
    struct space *s = parse(MIXED);
    cr_expect_eq(s->n, 7);
    cr_expect_eq(s->params[space_find(s, "z")].type, PARAM_DOUBLE);
    cr_expect_eq(s->params[space_find(s, "n")].type, PARAM_INTEGER);
    cr_expect_eq(s->params[space_find(s, "k")].type, PARAM_DISCRETE);
    cr_expect_eq(s->params[space_find(s, "opt")].type, PARAM_CATEGORICAL);
    cr_expect_eq(space_find(s, "nothing"), -1);
    cr_expect_eq(s->params[space_find(s, "m")].parent, space_find(s, "opt"));
    space_destroy(s);
}

Test(space, names_that_maggy_reserves_are_ordinary_names)
{
    struct space *s = parse("{\"names\": [\"DOUBLE\", [0, 1]], \"values\": [\"DOUBLE\", [0, 1]], "
                            "\"get\": [\"DOUBLE\", [0, 1]]}");
    cr_expect_eq(s->n, 3);
    space_destroy(s);
}

Test(space, the_long_form_parses_back_to_itself)
{
    struct space *s = parse(MIXED);
    json_t *a = space_to_json(s);
    char *ta = mjson_dump(a);
    struct space *t = parse(ta);
    json_t *b = space_to_json(t);
    cr_expect(json_equal(a, b));
    cr_expect_not_null(strstr(ta, "\"values\":[7,3,5]"));
    space_destroy(s);
    space_destroy(t);
}

Test(space, limits_hold_at_the_limit_and_not_beyond)
{
    struct mjson_issues is = {0};
    for (int n = SPACE_PARAMS_MAX; n <= SPACE_PARAMS_MAX + 1; n++) {
        json_t *o = json_object();
        for (int i = 0; i < n; i++) {
            char name[16];
            (void)snprintf(name, sizeof(name), "p%d", i);
            (void)json_object_set_new(o, name, json_pack("[s,[i,i]]", "INTEGER", 0, 1));
        }
        struct space *s = space_parse(o, "", &is);
        cr_expect_eq(s != NULL, n == SPACE_PARAMS_MAX);
        space_destroy(s);
        json_decref(o);
    }
    for (int n = SPACE_VALUES_MAX; n <= SPACE_VALUES_MAX + 1; n++) {
        json_t *values = json_array();
        for (int i = 0; i < n; i++) {
            (void)json_array_append_new(values, json_integer(i));
        }
        json_t *o = json_pack("{s:[s,o]}", "x", "DISCRETE", values);
        struct space *s = space_parse(o, "", &is);
        cr_expect_eq(s != NULL, n == SPACE_VALUES_MAX);
        space_destroy(s);
        json_decref(o);
    }
    for (size_t n = SPACE_NAME_MAX; n <= SPACE_NAME_MAX + 1; n++) {
        char *name = xstrndup("", 0);
        name = xrealloc(name, n + 1);
        memset(name, 'a', n);
        name[n] = '\0';
        json_t *o = json_pack("{s:[s,[i,i]]}", name, "INTEGER", 0, 1);
        struct space *s = space_parse(o, "", &is);
        cr_expect_eq(s != NULL, n == SPACE_NAME_MAX);
        space_destroy(s);
        json_decref(o);
        free(name);
    }
}

Test(space, a_step_that_does_not_divide_ends_at_the_last_value_within)
{
    static const struct {
        const char *json;
        double n, last;
    } cases[] = {
        {INTEGER("\"range\": [1, 10], \"step\": 4"), 3, 9},
        {INTEGER("\"range\": [32, 512], \"step\": 32"), 16, 512},
        {INTEGER("\"range\": [-3, 3]"), 7, 3},
        {DOUBLE("\"range\": [0, 1], \"step\": 0.3"), 4, 0.9},
        {DOUBLE("\"range\": [0, 0.99], \"step\": 0.01"), 100, 0.99},
        {DOUBLE("\"range\": [0.1, 0.7], \"step\": 0.1"), 7, 0.7},
        {DOUBLE("\"range\": [0, 1], \"step\": 1"), 2, 1},
        {INTEGER("\"range\": [-9007199254740992, -1]"), 9007199254740992.0, -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = parse(cases[i].json);
        const struct param *p = &s->params[0];
        cr_expect_eq(param_cells(p), cases[i].n, "%s: %.17g", cases[i].json, param_cells(p));
        cr_expect_eq(param_cell_value(p, cases[i].n - 1), cases[i].last, "%s: %.17g", cases[i].json,
                     param_cell_value(p, cases[i].n - 1));
        cr_expect_eq(param_from_unit(p, 1.0), cases[i].last);
        cr_expect_eq(param_from_unit(p, 0.0), p->lo);
        space_destroy(s);
    }
}

Test(space, values_own_equal_pieces_of_the_unit_interval_and_come_back_exactly)
{
    static const char *const cases[] = {
        INTEGER("\"range\": [1, 7]"),
        INTEGER("\"range\": [1, 1000], \"scale\": \"log\""),
        INTEGER("\"range\": [1, 100], \"step\": 9, \"scale\": \"log\""),
        DOUBLE("\"range\": [0.1, 2], \"step\": 0.1"),
        DOUBLE("\"range\": [0.1, 2], \"step\": 0.1, \"scale\": \"log\""),
        "{\"x\": [\"DISCRETE\", [9, 1, 4, 0.5]]}",
        "{\"x\": [\"CATEGORICAL\", [\"a\", \"b\", \"c\"]]}",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = parse(cases[i]);
        const struct param *p = &s->params[0];
        double n = param_cells(p);
        double seen = -1;
        double before = -1; /* of DISCRETE: the numbers rise, not their places in the list */
        for (int k = 0; k < (int)n; k++) {
            double v = param_cell_value(p, k);
            cr_expect_eq(param_from_unit(p, param_to_unit(p, v)), v, "%s: %.17g", cases[i], v);
            cr_expect_eq(param_cell_of(p, v), k);
        }
        for (int k = 0; k <= 1000; k++) {
            double v = param_from_unit(p, k / 1000.0);
            double number = p->values != NULL ? p->values[(uint32_t)v] : v;
            cr_expect(number >= before, "%s is not monotone at %d", cases[i], k);
            seen += number > before;
            before = number;
            if (!p->log) { /* equal pieces */
                cr_expect_eq(seen, fmin(floor(k / 1000.0 * n), n - 1));
            }
        }
        space_destroy(s);
    }
}

Test(space, a_reverse_log_scale_is_even_in_the_distance_to_one)
{
    struct space *s = parse(DOUBLE("\"range\": [0.9, 0.999], \"scale\": \"reverse-log\""));
    const struct param *p = &s->params[0];
    cr_expect_eq(param_from_unit(p, 0), 0.9);
    cr_expect_eq(param_from_unit(p, 1), 0.999);
    cr_expect_float_eq(param_from_unit(p, 0.5), 0.99, 1e-12, "%.17g", param_from_unit(p, 0.5));
    for (int k = 0; k <= 100; k++) {
        cr_expect_float_eq(param_to_unit(p, param_from_unit(p, k / 100.0)), k / 100.0, 1e-9);
    }
    space_destroy(s);
}

Test(space, a_fixed_value_is_one_cell_and_always_the_same)
{
    static const struct {
        const char *json;
        double value;
    } cases[] = {
        {DOUBLE("\"range\": [0.1, 0.1]"), 0.1},
        {DOUBLE("\"range\": [0.30000000000000004, 0.30000000000000004]"), 0.30000000000000004},
        {DOUBLE("\"range\": [2, 2], \"step\": 0.5, \"scale\": \"log\""), 2},
        {DOUBLE("\"range\": [0.5, 0.5], \"scale\": \"reverse-log\""), 0.5},
        {INTEGER("\"range\": [-7, -7]"), -7},
        {INTEGER("\"range\": [8, 8], \"scale\": \"log\", \"step\": 3"), 8},
        {"{\"x\": [\"DISCRETE\", [5]]}", 0},
        {"{\"x\": [\"CATEGORICAL\", [\"only\"]]}", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = parse(cases[i].json);
        const struct param *p = &s->params[0];
        double point[1], other[1];
        cr_expect_eq(param_cells(p), 1, "%s", cases[i].json);
        cr_expect_eq(space_size(s), 1);
        for (int k = 0; k <= 4; k++) {
            cr_expect_eq(param_from_unit(p, k / 4.0), cases[i].value, "%s", cases[i].json);
        }
        cr_expect_eq(param_to_unit(p, cases[i].value), 0.5);
        cr_expect_eq(param_cell_of(p, cases[i].value), 0);
        cr_expect_eq(param_cell_of(p, cases[i].value + 1), -1);
        space_sample(s, 1, "t", 1, point);
        space_grid_point(s, 0, other);
        cr_expect(space_point_equal(s, point, other) && space_normalize(s, other));
        cr_expect_eq(space_grid_index(s, point), 0);
        json_t *a = space_to_json(s);
        char *text = mjson_dump(a);
        struct space *again = parse(text);
        cr_expect_eq(param_from_unit(&again->params[0], 0.3), cases[i].value, "%s", text);
        space_destroy(again);
        space_destroy(s);
    }
}

Test(space, ordered_labels_and_numbers_out_of_order_keep_their_order_in_the_unit_interval)
{
    struct space *s = parse("{\"size\": {\"type\": \"CATEGORICAL\", \"values\": [\"s\", \"m\", "
                            "\"l\"], \"ordered\": true}, \"k\": [\"DISCRETE\", [7, 3, 5]], "
                            "\"o\": [\"CATEGORICAL\", [\"a\", \"b\"]]}");
    const struct param *k = &s->params[space_find(s, "k")];
    const struct param *size = &s->params[space_find(s, "size")];
    cr_expect(param_is_ordered(k) && param_is_ordered(size));
    cr_expect_not(param_is_ordered(&s->params[space_find(s, "o")]));
    cr_expect_eq(param_to_unit(k, 1), 0.5 / 3);
    cr_expect_eq(param_to_unit(k, 2), 1.5 / 3);
    cr_expect_eq(param_to_unit(k, 0), 2.5 / 3);
    cr_expect_eq(param_to_unit(size, 2), 2.5 / 3);
    json_t *a = space_to_json(s);
    cr_expect(json_is_true(json_object_get(json_object_get(a, "size"), "ordered")));
    cr_expect_null(json_object_get(json_object_get(a, "o"), "ordered"));
    space_destroy(s);
}

Test(space, a_log_integer_gives_each_value_its_share_of_the_logarithm)
{
    struct space *s = parse(INTEGER("\"range\": [1, 100], \"scale\": \"log\""));
    int n[101] = {0};
    double point = 0;
    for (uint64_t i = 0; i < 200000; i++) {
        space_sample(s, 1, "t", i, &point);
        n[(int)point]++;
    }
    double total = log(100.5 / 0.5);
    for (int v = 1; v <= 100; v += 11) {
        double want = 200000 * log((v + 0.5) / (v - 0.5)) / total;
        cr_expect(fabs(n[v] - want) < 5 * sqrt(want), "%d: %d, wanted %.0f", v, n[v], want);
    }
    space_destroy(s);
}

Test(space, draws_do_not_depend_on_the_order_of_parameters_in_the_file)
{
    struct space *a = parse("{\"b\": [\"DOUBLE\", [0, 1]], \"a\": [\"INTEGER\", [0, 9]], \"c\": "
                            "[\"DISCRETE\", [1, 2]]}");
    struct space *b = parse("{\"c\": [\"DISCRETE\", [1, 2]], \"a\": [\"INTEGER\", [0, 9]], \"b\": "
                            "[\"DOUBLE\", [0, 1]], \"d\": [\"DOUBLE\", [0, 1]]}");
    for (uint64_t i = 0; i < 100; i++) {
        double pa[3];
        double pb[4];
        space_sample(a, 42, "random", i, pa);
        space_sample(b, 42, "random", i, pb);
        cr_expect(memcmp(pa, pb, sizeof(pa)) == 0); /* a further parameter changes nothing either */
    }
    space_destroy(a);
    space_destroy(b);
}

Test(space, integer_draws_reach_both_bounds_evenly)
{
    struct space *s = parse(INTEGER("\"range\": [-1, 1]"));
    int n[3] = {0};
    double point = 0;
    for (uint64_t i = 0; i < 30000; i++) {
        space_sample(s, 7, "t", i, &point);
        n[(int)point + 1]++;
    }
    for (int k = 0; k < 3; k++) {
        cr_expect(abs(n[k] - 10000) < 500, "%d: %d", k - 1, n[k]);
    }
    space_destroy(s);
}

Test(space, inactive_parameters_are_absent_and_active_ones_present)
{
    struct space *s = parse(MIXED);
    int opt = space_find(s, "opt");
    int m = space_find(s, "m");
    int k = space_find(s, "k");
    int q = space_find(s, "q");
    int with = 0;
    for (uint64_t i = 0; i < 300; i++) {
        double p[7];
        double u[7];
        double back[7];
        space_sample(s, 1, "t", i, p);
        cr_expect_eq(!isnan(p[m]), p[opt] == 0);
        cr_expect_eq(!isnan(p[q]), p[k] != 0); /* values 7, 3, 5 */
        with += !isnan(p[m]);
        json_t *o = space_point_to_json(s, p);
        cr_expect_eq(json_object_get(o, "m") != NULL, p[opt] == 0);
        struct mjson_issues is = {0};
        cr_assert(space_point_from_json(s, o, "", &is, back), "%s",
                  is.n > 0 ? is.items[0].text : "");
        cr_expect(space_point_equal(s, p, back));
        cr_expect_eq(space_point_hash(s, p), space_point_hash(s, back));
        space_to_unit(s, p, u);
        space_from_unit(s, u, back);
        cr_expect(space_normalize(s, back));
        json_decref(o);
    }
    cr_expect(with > 100 && with < 200);
    space_destroy(s);
}

Test(space, chains_of_conditions_and_parents_declared_after_their_children_work)
{
    struct space *s =
        parse("{\"a\": {\"type\": \"DISCRETE\", \"values\": [1, 2], \"when\": {\"b\": [\"on\"]}},"
              " \"b\": {\"type\": \"CATEGORICAL\", \"values\": [\"on\", \"off\"], \"when\": "
              "{\"c\": [5]}},"
              " \"c\": {\"type\": \"DISCRETE\", \"values\": [4, 5]}}");
    double off[3] = {0, 1, 1};
    double deep[3] = {1, 0, 1};
    double none[3] = {1, 0, 0};
    cr_expect(space_normalize(s, off));
    cr_expect(isnan(off[0]) && off[1] == 1);
    cr_expect(space_normalize(s, deep));
    cr_expect_eq(deep[0], 1);
    cr_expect(space_normalize(s, none));
    cr_expect(isnan(none[0]) && isnan(none[1]));
    cr_expect_eq(space_size(s), 4); /* c=4; c=5: off, on with 1, on with 2 */
    space_destroy(s);
}

Test(space, normalize_refuses_holes_and_values_outside)
{
    struct space *s = parse("{\"d\": [\"DOUBLE\", [0, 1]], \"i\": {\"type\": \"INTEGER\", "
                            "\"range\": [0, 10], \"step\": 5}, \"l\": [\"DISCRETE\", [1, 2]]}");
    static const struct {
        double p[3];
        bool good;
    } cases[] = {{{0.5, 5, 1}, true},      {{0, 0, 0}, true},      {{1, 10, 1}, true},
                 {{NAN, 5, 1}, false},     {{0.5, NAN, 0}, false}, {{1.1, 5, 0}, false},
                 {{-0.1, 5, 0}, false},    {{0.5, 4, 0}, false},   {{0.5, 15, 0}, false},
                 {{0.5, 5, 2}, false},     {{0.5, 5, 0.5}, false}, {{0.5, 5, -1}, false},
                 {{INFINITY, 5, 0}, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double p[3];
        memcpy(p, cases[i].p, sizeof(p));
        cr_expect_eq(space_normalize(s, p), cases[i].good, "case %zu", i);
    }
    space_destroy(s);
}

Test(space, the_grid_has_every_active_combination_once)
{
    static const struct {
        const char *json;
        double size;
    } cases[] = {
        {"{\"a\": [\"DISCRETE\", [1, 2, 3]], \"b\": [\"INTEGER\", [0, 4]], \"c\": "
         "[\"CATEGORICAL\", [\"x\", \"y\"]]}",
         30},
        {"{\"a\": [\"CATEGORICAL\", [\"x\", \"y\"]], \"b\": {\"type\": \"INTEGER\", \"range\": [1, "
         "10], \"when\": {\"a\": [\"x\"]}},"
         " \"c\": [\"DISCRETE\", [1, 2]]}",
         22},
        {"{\"z\": [\"CATEGORICAL\", [\"x\", \"y\", \"w\"]], \"b\": {\"type\": \"INTEGER\", "
         "\"range\": [1, 3], \"when\": {\"z\": [\"x\", \"w\"]}},"
         " \"c\": {\"type\": \"DISCRETE\", \"values\": [1, 2], \"when\": {\"z\": [\"w\"]}},"
         " \"d\": {\"type\": \"INTEGER\", \"range\": [0, 2], \"when\": {\"c\": [2]}}}",
         3 + 1 + 3 * (1 + 3)},
        {DOUBLE("\"range\": [0, 1], \"step\": 0.25"), 5},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = parse(cases[i].json);
        cr_assert_eq(space_size(s), cases[i].size, "case %zu: %g", i, space_size(s));
        double *points = xcalloc((size_t)cases[i].size * (size_t)s->n, sizeof(*points));
        for (uint64_t k = 0; k < (uint64_t)cases[i].size; k++) {
            double *p = points + k * (size_t)s->n;
            double copy[8];
            space_grid_point(s, k, p);
            memcpy(copy, p, (size_t)s->n * sizeof(*p));
            cr_assert(space_normalize(s, copy), "case %zu point %d", i, (int)k);
            cr_expect(space_point_equal(s, copy, p), "case %zu point %d has inactive values", i,
                      (int)k);
            for (uint64_t j = 0; j < k; j++) {
                cr_expect_not(space_point_equal(s, p, points + j * (size_t)s->n),
                              "case %zu: %d is %d", i, (int)k, (int)j);
            }
        }
        free(points);
        space_destroy(s);
    }
}

Test(space, the_last_parameter_changes_fastest_and_a_continuous_one_has_no_grid)
{
    struct space *s = parse("{\"b\": [\"INTEGER\", [0, 2]], \"a\": [\"INTEGER\", [0, 1]]}");
    for (uint64_t k = 0; k < 6; k++) {
        double p[2];
        space_grid_point(s, k, p);
        cr_expect(p[0] == (double)(k / 3) && p[1] == (double)(k % 3));
    }
    space_destroy(s);
    s = parse("{\"b\": [\"INTEGER\", [0, 2]], \"a\": [\"DOUBLE\", [0, 1]]}");
    cr_expect(isinf(space_size(s)));
    space_destroy(s);
}

Test(space, json_keeps_whole_numbers_whole_and_steps_readable)
{
    struct space *s = parse("{\"d\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"step\": 0.1}, "
                            "\"i\": [\"INTEGER\", [1, 9]], \"k\": [\"DISCRETE\", [3, 5]],"
                            " \"r\": [\"DISCRETE\", [1, 0.5]]}");
    double p[4] = {param_cell_value(&s->params[0], 3), 4, 1, 0};
    json_t *o = space_point_to_json(s, p);
    cr_expect(json_is_real(json_object_get(o, "d")) && json_is_integer(json_object_get(o, "i")));
    cr_expect(json_is_integer(json_object_get(o, "k")) && json_is_real(json_object_get(o, "r")));
    cr_expect_eq(p[0], 0.3);
    json_decref(o);
    space_destroy(s);
}
