/* SPDX-License-Identifier: Apache-2.0 */
#include "space/constraint.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "space/expr.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(constraint, .timeout = 100);

static json_t *json_of(const char *text)
{
    json_t *v = NULL;
    struct mag_err err = {0};
    cr_assert_eq(mjson_parse(text, strlen(text), &v, &err), MAG_OK, "%s: %s", text, err.text);
    return v;
}

static struct space *parse(const char *json)
{
    struct mjson_issues is = {0};
    json_t *v = json_of(json);
    struct space *s = space_parse(v, "", &is);
    cr_assert_not_null(s, "%s: %s", json, is.n > 0 ? is.items[0].text : "");
    json_decref(v);
    return s;
}

static struct space *constrained(const char *json, const char *list)
{
    struct mjson_issues is = {0};
    struct space *s = parse(json);
    json_t *v = json_of(list);
    cr_assert(space_constrain(s, v, "/constraints", &is), "%s: %s %s", list, is.items[0].pointer,
              is.items[0].text);
    json_decref(v);
    return s;
}

#define SPACE                                                                                      \
    "{\"a\": {\"type\": \"DOUBLE\", \"range\": [-10, 10]},"                                        \
    " \"b\": {\"type\": \"DOUBLE\", \"range\": [-10, 10]},"                                        \
    " \"n\": {\"type\": \"INTEGER\", \"range\": [0, 100]},"                                        \
    " \"k\": {\"type\": \"DISCRETE\", \"values\": [7, 3, 5]},"                                     \
    " \"opt\": {\"type\": \"CATEGORICAL\", \"values\": [\"sgd\", \"adam\", \"it's\"]},"            \
    " \"other\": {\"type\": \"CATEGORICAL\", \"values\": [\"adam\", \"lamb\"]},"                   \
    " \"size\": {\"type\": \"CATEGORICAL\", \"values\": [\"s\", \"m\", \"l\"], \"ordered\": "      \
    "true},"                                                                                       \
    " \"my-rate\": {\"type\": \"DOUBLE\", \"range\": [0, 1]},"                                     \
    " \"min\": {\"type\": \"DOUBLE\", \"range\": [0, 1]},"                                         \
    " \"mom\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"when\": {\"opt\": [\"sgd\"]}}}"
/* A point of it: opt is adam, so mom is inactive. */
#define PARAMS                                                                                     \
    "{\"a\": 0.1, \"b\": 0.2, \"n\": 12, \"k\": 3, \"opt\": \"adam\", \"other\": \"adam\", "       \
    "\"size\": \"m\", \"my-rate\": 0.5, \"min\": 0.25}"

static void point_of(const struct space *s, const char *params, double *point)
{
    struct mjson_issues is = {0};
    json_t *v = json_of(params);
    cr_assert(space_point_from_json(s, v, "", &is, point), "%s: %s", params,
              is.n > 0 ? is.items[0].text : "");
    json_decref(v);
}

/* 1 = true (its negation is broken), 0 = false, -1 = cannot be told (neither it nor its negation is
 * broken). */
static int truth_of(const struct space *s, const char *text, const double *point)
{
    struct mjson_issues is = {0};
    char *opposite = xasprintf("not (%s)", text);
    struct expr *e = expr_parse(s, text, "", &is);
    struct expr *o = expr_parse(s, opposite, "", &is);
    cr_assert(e != NULL && o != NULL, "%s: %s", text, is.n > 0 ? is.items[0].text : "");
    double broken = expr_violation(e, s, point);
    double opposite_broken = expr_violation(o, s, point);
    cr_expect(broken >= 0 && opposite_broken >= 0 && isfinite(broken), "%s: %g", text, broken);
    cr_expect(broken <= 0 || opposite_broken <= 0, "%s is true and false", text);
    expr_destroy(e);
    expr_destroy(o);
    free(opposite);
    return broken > 0 ? 0 : opposite_broken > 0 ? 1 : -1;
}

Test(constraint, conditions_mean_what_they_say)
{
    static const struct {
        const char *text;
        int truth;
    } cases[] = {
        {"a < b", 1},
        {"a > b", 0},
        {"a + b == 0.3", 1}, /* 0.30000000000000004 */
        {"a + b <= 0.3", 1},
        {"a + b > 0.3", 0},
        {"a + b != 0.3", 0},
        {"0.3 - (a + b) == 0", 1}, /* -5.6e-17, of numbers around 0.3 */
        {"0.3 - (a + b) == 1e-15", 1},
        {"0.3 - (a + b) == 1e-11", 0},
        {"n == 12", 1},
        {"n == 12.000001", 0},
        {"n * 1e12 < n * 1e12 + 1", 1},
        {"1 + 2 * 3 == n - 5", 1},
        {"(1 + 2) * 3 == n - 3", 1},
        {"2 ** 3 ** 2 == 500 + n", 1}, /* to the right: 512 */
        {"-2 ** 2 == 8 - n", 1},       /* -(2 ** 2) */
        {"2 ** -1 == a * 5", 1},
        {"10 - 4 - 3 == n - 9", 1},
        {"24 / 4 / 3 == n - 10", 1},
        {"n % 5 == 2", 1},
        {"-n % 5 == 3", 1}, /* the sign of the divisor */
        {"0.3 % a == 0", 1},
        {"min(n, 3, 5) == 3 and max(n, 3, 5) == 12", 1},
        {"abs(a - b) == 0.1 and sqrt(16) + n == 16", 1},
        {"log(exp(n)) == 12", 1},
        {"min < 0.3 and min(min, 1) == min", 1}, /* a parameter called min */
        {"1 < n <= 12", 1},
        {"1 < n < 12", 0},
        {"0 < a < b < n < 100", 1},
        {"k == 3", 1},
        {"k in [5, 7]", 0},
        {"k not in [5, 7]", 1},
        {"n in [11 + 1]", 1},
        {"opt == 'adam'", 1},
        {"'adam' == opt", 1},
        {"opt == \"sgd\" or opt != 'it\\'s'", 1},
        {"opt in ['sgd', \"it's\"]", 0},
        {"opt == other", 1},
        {"opt != other", 0},
        {"size < 'l'", 1},
        {"size >= 'm'", 1},
        {"'s' < size < 'l'", 1},
        {"'m' < size", 0},
        {"${my-rate} == 0.5 and ${opt} == 'adam'", 1},
        {"not a > b", 1},
        {"not not a > b", 0},
        {"a > b or a < b and n == 0", 0}, /* and is tighter */
        {"(a > b or a < b) and n == 12", 1},
        {"a > b implies n == 0", 1},
        {"a < b implies n == 0", 0},
        {"a > b implies a > b implies a > b", 1},
        {"a < b implies a < b implies a > b", 0},
        {"(a > b implies a > b) implies a > b", 0}, /* to the left it differs */
        {"opt == 'sgd' implies mom > 0.5", 1},
        /* mom is inactive: nothing it says counts */
        {"mom > 0.5", -1},
        {"mom == mom", -1},
        {"not mom > 0.5", -1},
        {"mom + 1 > 0.5", -1},
        {"min(mom, a) > 5", -1},
        {"mom in [0.5]", -1},
        {"mom > 0.5 and n == 12", -1},
        {"mom > 0.5 and n == 0", 0},
        {"mom > 0.5 or n == 12", 1},
        {"mom > 0.5 or n == 0", -1},
        {"mom > 0.5 implies n == 0", -1},
        {"active(mom)", 0},
        {"not active(mom) and active(a)", 1},
        {"active(mom) implies n == 0", 1},
        /* numbers that do not exist */
        {"log(a - b) > 0", 0},
        {"log(a - b) <= 0", 0},
        {"log(a - b) != 0", 1},
        {"0 / (n - 12) == 0", 0},
        {"1 / (n - 12) > 5", 1}, /* infinite */
        {"n % (n - 12) == 0", 0},
        {"sqrt(-n) in [1, 2]", 0},
        {"10 ** 300 * 10 ** 300 * n > n", 1},
    };
    struct space *s = parse(SPACE);
    double point[16];
    point_of(s, PARAMS, point);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(truth_of(s, cases[i].text, point), cases[i].truth, "%s", cases[i].text);
    }
    space_destroy(s);
}

Test(constraint, faults_are_named_with_their_column)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "column 1: the condition is empty"},
        {"  ", "column 1: the condition is empty"},
        {"a <= c", "column 6: no parameter \"c\""},
        {"a <= momm", "column 6: no parameter \"momm\"; did you mean \"mom\"?; strings stand in"},
        {"a", "column 1: this is a number, not a condition: compare it with something"},
        {"1 < 2", "column 1: the condition names no parameter"},
        {"a = b", "column 3: write \"==\" to compare"},
        {"a < 1 && b < 1", "column 7: write \"and\" for \"&&\""},
        {"a < 1 || b < 1", "column 7: write \"or\" for \"||\""},
        {"!(a < 1)", "column 1: write \"not\" for \"!\""},
        {"a < 1 => b < 1", "column 7: write \"implies\" for \"=>\""},
        {"a ^ 2 < 1", "column 3: write \"**\" for powers"},
        {"a < 1 b", "column 7: \"b\" cannot follow here; \"and\" joins conditions"},
        {"(a < 1", "column 7: \")\" is missing before the end"},
        {"a <", "column 4: a number, a parameter or a condition is missing before the end"},
        {"a and b < 1", "column 1: \"and\" needs a condition here, not a number"},
        {"a < 1 and b", "column 11: \"and\" needs a condition here, not a number"},
        {"not a", "column 5: \"not\" needs a condition here"},
        {"a + (b < 1) < 1", "column 5: \"+\" needs a number here, not a condition"},
        {"a < 1 < (b < 1)", "column 9: \"<\" cannot compare a number with a condition"},
        {"opt == 'adm'", "column 8: 'adm' is no value of \"opt\"; did you mean 'adam'?"},
        {"opt == sgd", "column 8: no parameter \"sgd\"; strings stand in quotes"},
        {"opt < 'sgd'", "column 1: \"opt\" has no order for \"<\": declare \"ordered\": true"},
        {"opt == 3", "column 8: \"==\" cannot compare a categorical parameter with a number"},
        {"a == 'x'", "column 6: \"==\" cannot compare a number with a string"},
        {"'x' == 'x'", "column 8: \"==\" cannot compare a string with a string"},
        {"opt + 1 < 2", "column 1: \"+\" needs a number here, not a categorical parameter"},
        {"opt in [1]", "column 1: \"in\" needs a number here, not a categorical parameter"},
        {"a in []", "column 7: an empty list"},
        {"a in 3", "column 6: \"[\" is missing before \"3\""},
        {"a not 3", "column 7: only \"in\" follows \"not\" here"},
        {"sin(a) < 1", "column 1: no function \"sin\"; did you mean \"min\"?"},
        {"min(a) < 1", "column 6: \"min\" takes two arguments or more"},
        {"log(a, b) < 1", "column 9: \"log\" takes one argument"},
        {"active(3)", "column 8: \"active\" takes the name of a parameter"},
        {"a < 'x", "column 5: this string has no end"},
        {"${a < 1", "column 1: a parameter of any name is written ${name}"},
        {"a < 1.2.3", "column 5: \"1.2.3\" is no number"},
        {"a < 1e999", "column 5: \"1e999\" is no number"},
        {"a < 1; b", "column 6: \";\" has no meaning here"},
        {"and < 1", "column 1: a number, a parameter or a condition is missing before \"and\""},
        {"size < opt", "column 8: compare the order of \"size\" with one of its values"},
    };
    struct space *s = parse(SPACE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mjson_issues is = {0};
        struct expr *e = expr_parse(s, cases[i].text, "/constraints/0", &is);
        cr_expect_null(e, "%s", cases[i].text);
        cr_assert_eq(is.total, 1, "%s: %d", cases[i].text, is.total);
        cr_expect_not_null(strstr(is.items[0].text, cases[i].want), "%s: %s, not %s", cases[i].text,
                           is.items[0].text, cases[i].want);
        cr_expect_str_eq(is.items[0].pointer, "/constraints/0");
        mjson_issues_fini(&is);
    }
    space_destroy(s);
}

/* `head`, then n times `part`, then `tail`. */
static char *repeated(const char *head, const char *part, int n, const char *tail)
{
    struct buf b = {0};
    buf_adds(&b, head);
    for (int i = 0; i < n; i++) {
        buf_adds(&b, part);
    }
    buf_adds(&b, tail);
    return buf_take(&b);
}

Test(constraint, length_depth_and_width_have_limits)
{
    static const struct {
        const char *head, *part, *tail;
        int n; /* the most that is taken */
        const char *want;
    } cases[] = {
        {"a < 1", " ", "", EXPR_BYTES_MAX - 5, "longer than 1000 bytes"},
        {"a < ", "-", "1", EXPR_DEPTH_MAX - 1, "nested more than 32 deep"},
        {"a in [1", ",1", "]", EXPR_STACK_MAX - 2, "more than 256 values at once"},
    };
    struct space *s = parse(SPACE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int more = 0; more <= 1; more++) {
            struct mjson_issues is = {0};
            char *text = repeated(cases[i].head, cases[i].part, cases[i].n + more, cases[i].tail);
            struct expr *e = expr_parse(s, text, "", &is);
            cr_expect_eq(e != NULL, more == 0, "%s: %s", text, is.n > 0 ? is.items[0].text : "");
            cr_expect(more == 0 || strstr(is.items[0].text, cases[i].want) != NULL, "%s",
                      is.items[0].text);
            expr_destroy(e);
            free(text);
            mjson_issues_fini(&is);
        }
    }
    space_destroy(s);
}

/* ---- lists of constraints ---- */

#define TWO "{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]]}"
#define SMALL                                                                                      \
    "{\"a\": [\"INTEGER\", [1, 10]], \"b\": [\"INTEGER\", [1, 10]], "                              \
    "\"o\": [\"CATEGORICAL\", [\"x\", \"y\"]], "                                                   \
    "\"m\": {\"type\": \"DISCRETE\", \"values\": [0.5, 0.9], \"when\": {\"o\": [\"x\"]}}}"

Test(constraint, faulty_lists_are_refused_with_pointers)
{
    static const struct {
        const char *space, *list, *at, *text;
    } cases[] = {
        {SMALL, "{}", "/c", "must be a list of at most 256 constraints"},
        {SMALL, "[3]", "/c/0", "a constraint is a condition such as"},
        {SMALL, "[\"a < b\", \"a <\"]", "/c/1", "column 4:"},
        {SMALL, "[{}]", "/c/0", "an empty combination forbids everything"},
        {SMALL, "[{\"q\": 1}]", "/c/0/q", "unknown"},
        {SMALL, "[{\"o\": \"z\"}]", "/c/0/o", "not a value of \"o\" as declared"},
        {SMALL, "[{\"a\": [1, 11]}]", "/c/0/a/1", "not a value of \"a\""},
        {SMALL, "[{\"a\": []}]", "/c/0/a", "must be a value of \"a\" or a list"},
        {SMALL, "[{\"o\": {\"range\": [1, 2]}}]", "/c/0/o", "list the values that are forbidden"},
        {SMALL, "[{\"a\": {\"range\": [1]}}]", "/c/0/a", "{\"range\": [low, high]}"},
        {SMALL, "[{\"a\": {\"range\": [11, 12]}}]", "/c/0/a/range", "has nothing of the range"},
        {SMALL, "[{\"a\": {\"range\": [3, 2]}}]", "/c/0/a/range", "is empty"},
        {TWO, "[{\"a\": 0.5}]", "/c/0/a", "is continuous and hits no single value"},
        {SMALL, "[\"a > 5\", \"a < 5\"]", "/c/", "no point of the search space meets all"},
        {TWO, "[\"a > 2\"]", "/c/0", "no point of the search space was found that meets all"},
        {TWO, "[\"a < b\", \"b < a\"]", "/c/", "keeps the nearest point out is"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mjson_issues is = {0};
        struct space *s = parse(cases[i].space);
        json_t *list = json_of(cases[i].list);
        cr_expect_not(space_constrain(s, list, "/c", &is), "%s", cases[i].list);
        cr_assert_geq(is.total, 1);
        cr_expect_eq(strncmp(is.items[0].pointer, cases[i].at, strlen(cases[i].at)), 0, "%s: %s",
                     cases[i].list, is.items[0].pointer);
        cr_expect_not_null(strstr(is.items[0].text, cases[i].text), "%s: %s", cases[i].list,
                           is.items[0].text);
        cr_expect_null(space_constraints_to_json(s));
        json_decref(list);
        mjson_issues_fini(&is);
        space_destroy(s);
    }
}

Test(constraint, a_constrained_finite_space_knows_its_true_size_and_points)
{
    static const struct {
        const char *list;
        double size; /* of 100 * (2 + 1) = 300 */
    } cases[] = {
        {"[\"a <= b\"]", 55 * 3},
        {"[\"a + b == 11\"]", 10 * 3},
        {"[{\"o\": \"x\", \"m\": 0.9}]", 200},
        {"[{\"o\": \"x\", \"m\": [0.5, 0.9]}]", 100},
        {"[{\"m\": [0.5, 0.9]}]", 100}, /* inactive: not named */
        {"[\"m > 0.6\"]", 200},         /* inactive: not told, so allowed */
        {"[\"active(m) and m > 0.6\"]", 100},
        {"[{\"a\": {\"range\": [2, 9]}}, \"b != 5\"]", 2 * 9 * 3},
        {"[\"a * b in [6, 12]\", \"o == 'y' implies a < b\"]", 8 * 2 + 4},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = constrained(SMALL, cases[i].list);
        struct space *all = parse(SMALL);
        double point[4];
        uint64_t seen = 0;
        cr_expect_eq(space_size(s), cases[i].size, "%s: %g", cases[i].list, space_size(s));
        for (uint64_t k = 0; k < (uint64_t)space_size(all); k++) {
            space_grid_point(all, k, point);
            cr_expect_eq(space_grid_index(all, point), k);
            uint64_t index = space_grid_index(s, point);
            cr_expect_eq(index, space_is_feasible(s, point) ? seen : UINT64_MAX);
            if (space_is_feasible(s, point)) {
                double again[4];
                space_grid_point(s, seen++, again);
                cr_expect(space_point_equal(s, point, again));
            }
        }
        cr_expect_eq((double)seen, space_size(s));
        space_destroy(all);
        space_destroy(s);
    }
}

/* ---- drawing ---- */

/* Bounds, steps, activity and constraints, by other code than what drew. */
static void check_point(const struct space *s, const double *point, const char *what)
{
    double copy[32];
    memcpy(copy, point, (size_t)s->n * sizeof(*point));
    cr_assert(space_normalize(s, copy), "%s: out of its domain", what);
    cr_assert(space_point_equal(s, copy, point), "%s: not normalized", what);
    cr_assert_null(space_broken(s, point), "%s: breaks %s", what, space_broken(s, point));
}

static const struct tricky {
    const char *space, *list;
} tricky[] = {
    {TWO, "[\"a <= b\"]"},
    {TWO, "[\"a + b == 1\"]"},                                     /* no volume at all */
    {TWO, "[\"a > 0.99 and b < 0.01\"]"},                          /* 1e-4 of the volume */
    {TWO, "[\"a > 0.999 and b < 0.001\"]"},                        /* 1e-6 */
    {TWO, "[\"abs(a - b) < 0.00005\"]"},                           /* a thin diagonal, 1e-4 */
    {TWO, "[\"(a - 0.3) ** 2 + (b - 0.7) ** 2 < 3e-5\"]"},         /* a small disc, 1e-4 */
    {TWO, "[\"a < 0.01 or a > 0.99\", \"b < 0.01 or b > 0.99\"]"}, /* four corners */
    {SMALL, "[\"a * b in [6, 12]\", \"o == 'y' implies a < b\"]"},
    {SMALL, "[\"a + b == 20\"]"},
    {SPACE,
     "[\"a <= b\", \"n % 7 == 3\", \"k == 3 implies opt == 'adam'\", \"size >= 'm' or n > 50\", "
     "{\"opt\": \"it's\", \"other\": \"lamb\"}, \"active(mom) implies mom > a\"]"},
    {"{\"lr\": {\"type\": \"DOUBLE\", \"range\": [1e-6, 1], \"scale\": \"log\"},"
     " \"units\": {\"type\": \"INTEGER\", \"range\": [32, 4096], \"step\": 32, \"scale\": \"log\"},"
     " \"layers\": [\"INTEGER\", [1, 64]], \"drop\": {\"type\": \"DOUBLE\", \"range\": [0, 0.9], "
     "\"step\": 0.05}}",
     "[\"units * layers <= 128\", \"lr * units < 0.01\", \"drop * 10 % 1 == 0\"]"},
    {"{\"a\": [\"INTEGER\", [1, 1000000]], \"b\": [\"INTEGER\", [1, 1000000]], "
     "\"c\": [\"INTEGER\", [1, 1000000]]}",
     "[\"a < b < c\", \"a + b + c == 100000\"]"},
    {"{\"x1\": [\"DOUBLE\", [0, 1]], \"x2\": [\"DOUBLE\", [0, 1]], \"x3\": [\"DOUBLE\", [0, 1]], "
     "\"x4\": [\"DOUBLE\", [0, 1]], \"x5\": [\"DOUBLE\", [0, 1]], \"x6\": [\"DOUBLE\", [0, 1]]}",
     "[\"x1 <= x2 <= x3 <= x4 <= x5 <= x6\"]"}, /* 1 of 720 */
};

Test(constraint, ten_thousand_draws_of_tricky_spaces_keep_every_rule)
{
    for (size_t i = 0; i < sizeof(tricky) / sizeof(tricky[0]); i++) {
        struct space *s = constrained(tricky[i].space, tricky[i].list);
        double point[32];
        for (uint64_t id = 1; id <= 10000; id++) {
            space_sample(s, 7, "t", id, point);
            check_point(s, point, tricky[i].list);
        }
        space_destroy(s);
    }
}

Test(constraint, draws_are_the_same_whatever_the_order_of_keys_and_lists)
{
    struct space *s = constrained(TWO, "[\"a <= b\", \"a > 0.1\"]");
    struct space *t = constrained("{\"b\": [\"DOUBLE\", [0, 1]], \"a\": [\"DOUBLE\", [0, 1]]}",
                                  "[\"a > 0.1\", \"a <= b\"]");
    struct space *free_space = parse(TWO);
    double p[2], q[2], r[2];
    int same = 0;
    for (uint64_t id = 1; id <= 200; id++) {
        space_sample(s, 3, "t", id, p);
        space_sample(t, 3, "t", id, q);
        space_sample(free_space, 3, "t", id, r);
        cr_expect(space_point_equal(s, p, q));
        bool feasible = r[0] > 0.1 && r[0] <= r[1];
        cr_expect_eq(space_point_equal(s, p, r), feasible); /* the first draw, where it will do */
        same += feasible;
    }
    cr_expect(same > 50 && same < 120, "%d", same);
    space_destroy(s);
    space_destroy(t);
    space_destroy(free_space);
}

/* The share of draws for which a test holds. */
static double share(const struct space *s, bool (*test)(const double *point), int n)
{
    double point[32];
    int hits = 0;
    for (int i = 1; i <= n; i++) {
        space_sample(s, 11, "t", (uint64_t)i, point);
        hits += test(point);
    }
    return (double)hits / n;
}

static bool first_below_third(const double *p)
{
    return p[0] < 1.0 / 3;
}

static bool first_in_middle_of_corner(const double *p)
{
    return p[0] > 0.9995;
}

static bool low_end_of_diagonal(const double *p)
{
    return p[0] < 0.25;
}

Test(constraint, draws_are_spread_evenly_over_what_is_feasible)
{
    /* a <= b: P(a < 1/3) = 1 - (2/3)^2 = 5/9. */
    struct space *s = constrained(TWO, "[\"a <= b\"]");
    double got = share(s, first_below_third, 20000);
    cr_expect_float_eq(got, 5.0 / 9, 0.012, "%g", got);
    space_destroy(s);
    /* A box of 1e-6: repaired draws are moved about until half of them lie in either half. */
    s = constrained(TWO, "[\"a > 0.999 and b < 0.001\"]");
    got = share(s, first_in_middle_of_corner, 5000);
    cr_expect_float_eq(got, 0.5, 0.03, "%g", got);
    space_destroy(s);
    s = constrained(TWO, "[\"abs(a - b) < 0.00005\"]");
    got = share(s, low_end_of_diagonal, 5000);
    cr_expect_float_eq(got, 0.25, 0.05, "%g", got);
    space_destroy(s);
}

/* ---- repair ---- */

Test(constraint, repair_leaves_a_feasible_point_and_what_is_not_concerned_as_they_are)
{
    struct space *s = constrained(SPACE, "[\"a <= b\", \"opt == 'adam' implies n >= 50\"]");
    double point[16], before[16];
    point_of(s, PARAMS, before);
    memcpy(point, before, sizeof(point));
    space_repair(s, 1, "t", 1, point);
    check_point(s, point, "repaired");
    int changed = 0;
    for (int j = 0; j < s->n; j++) {
        if (point[j] != before[j] && !(isnan(point[j]) && isnan(before[j]))) {
            cr_expect(j == space_find(s, "n") || j == space_find(s, "opt") ||
                          j == space_find(s, "mom"),
                      "%s", s->params[j].name);
            changed++;
        }
    }
    cr_expect_eq(changed, 1);
    cr_expect_eq(point[space_find(s, "n")], 50); /* the nearest that will do */
    memcpy(before, point, sizeof(point));
    space_repair(s, 1, "t", 2, point);
    cr_expect(space_point_equal(s, before, point));
    space_destroy(s);
}

Test(constraint, repair_goes_to_the_nearest_point_along_a_line)
{
    struct space *s = constrained(TWO, "[\"a <= b\"]");
    for (uint64_t id = 1; id <= 1000; id++) {
        struct space *free_space = parse(TWO);
        double p[2], q[2];
        space_sample(free_space, 5, "t", id, p);
        memcpy(q, p, sizeof(p));
        space_repair(s, 5, "t", id, q);
        check_point(s, q, "a <= b");
        double moved = fabs(p[0] - q[0]) + fabs(p[1] - q[1]);
        cr_expect_leq(moved, fmax(p[0] - p[1], 0) + 1e-6, "%g %g to %g %g", p[0], p[1], q[0], q[1]);
        space_destroy(free_space);
    }
    space_destroy(s);
}

Test(constraint, repair_mends_random_points_of_every_tricky_space)
{
    for (size_t i = 0; i < sizeof(tricky) / sizeof(tricky[0]); i++) {
        struct space *s = constrained(tricky[i].space, tricky[i].list);
        struct space *free_space = parse(tricky[i].space);
        double p[32], q[32];
        for (uint64_t id = 1; id <= 500; id++) {
            space_sample(free_space, 9, "t", id, p);
            memcpy(q, p, sizeof(p));
            space_repair(s, 9, "t", id, p);
            check_point(s, p, tricky[i].list);
            space_repair(s, 9, "t", id, q);
            cr_expect(space_point_equal(s, p, q), "%s: not the same again", tricky[i].list);
        }
        space_destroy(free_space);
        space_destroy(s);
    }
}

Test(constraint, completing_keeps_what_is_held_and_fills_the_rest)
{
    struct space *s = constrained(SPACE, "[\"a <= b\", \"opt == 'sgd' implies n >= 50\"]");
    bool held[16] = {false};
    double point[16];
    int a = space_find(s, "a"), n = space_find(s, "n"), opt = space_find(s, "opt");
    for (uint64_t id = 1; id <= 200; id++) {
        for (int j = 0; j < s->n; j++) {
            point[j] = NAN;
        }
        held[a] = held[n] = true;
        point[a] = 9.5;
        point[n] = 20;
        cr_assert(space_complete(s, 4, "t", id, held, point));
        check_point(s, point, "completed");
        cr_expect_eq(point[a], 9.5);
        cr_expect_eq(point[n], 20);
        cr_expect_neq(point[opt], 0);
    }
    /* What is held contradicts itself. */
    held[opt] = true;
    point[opt] = 0;
    cr_expect_not(space_complete(s, 4, "t", 1, held, point));
    cr_expect_eq(point[opt], 0);
    space_destroy(s);
}
