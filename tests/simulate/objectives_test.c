/* SPDX-License-Identifier: Apache-2.0 */
#include "lab.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define UNIT3 "{\"x1\":[\"DOUBLE\",[0,1]],\"x2\":[\"DOUBLE\",[0,1]],\"x3\":[\"DOUBLE\",[0,1]]}"

TestSuite(objectives, .timeout = 100);

/* The natural space of an objective. */
static struct space *natural(const char *objective)
{
    struct objective_spec spec;
    struct mjson_issues is = {0};
    json_t *name = json_string(objective);
    objective_spec_parse(name, "", &spec, &is);
    cr_assert_eq(is.total, 0, "%s", is.items[0].text);
    json_t *doc = objective_document(&spec);
    struct space *s = space_parse(json_object_get(doc, "searchspace"), "", &is);
    cr_assert_not_null(s);
    json_decref(doc);
    json_decref(name);
    return s;
}

/* Published minima: Dixon and Szegoe's Branin and Hartmann; the others by construction. */
Test(objectives, minima_are_the_published_ones)
{
    static const struct {
        const char *name;
        double point[10], value, within;
    } cases[] = {
        {"branin", {-3.14159265358979, 12.275}, 0.397887, 1e-6},
        {"branin", {3.14159265358979, 2.275}, 0.397887, 1e-6},
        {"branin", {9.42478, 2.475}, 0.397887, 1e-6},
        {"branin", {0, 0}, 55.602113, 1e-6},
        {"hartmann3", {0.114614, 0.555649, 0.852547}, -3.86278, 1e-5},
        {"hartmann6", {0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573}, -3.32237, 1e-5},
        {"rosenbrock(5)", {1, 1, 1, 1, 1}, 0, 1e-12},
        {"rosenbrock(2)", {-1.2, 1}, 24.2, 1e-9},
        {"rastrigin(3)", {0, 0, 0}, 0, 1e-12},
        {"rastrigin(2)", {1, 1}, 2, 1e-9},
        {"ackley(10)", {0}, 0, 1e-9},
        {"ackley(10, 7)", {7, 7, 7, 7, 7, 7, 7, 7, 7, 7}, 0, 1e-9},
        {"ackley(2)", {1, 1}, 3.6253849, 1e-6},
        {"sphere(4)", {1, -2, 3, 0}, 14, 1e-12},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = natural(cases[i].name);
        struct objective *o = lab_objective(cases[i].name, s, false, 0);
        struct objective *turned = lab_objective(cases[i].name, s, true, 0);
        double v = lab_value(o, cases[i].point, 1, 0, 0);
        cr_expect_float_eq(v, cases[i].value, cases[i].within, "%s: %.10g", cases[i].name, v);
        cr_expect_eq(lab_value(turned, cases[i].point, 1, 0, 0), -v, "%s", cases[i].name);
        cr_expect_eq(objective_truth(o, cases[i].point), v, "%s", cases[i].name);
        cr_expect_leq(objective_optimum(o), v + 1e-5, "%s", cases[i].name);
        objective_destroy(o);
        objective_destroy(turned);
        space_destroy(s);
    }
}

/* mf-prior-bench 1.10 with noise 0, computed there: mfh3 at (.5, .5, .5), z = 3, 10, 100, bias .5;
 * by hand: s = ln z / ln 100, sum of (alpha_i - .5 (1 - s)) exp(-inner_i). */
Test(objectives, hartmann_with_a_fidelity_is_flatter_below)
{
    struct space *s = lab_space(UNIT3);
    static const double x[3] = {0.5, 0.5, 0.5};
    struct objective *full = lab_objective("hartmann3", s, false, 0);
    struct objective *mf = lab_objective("mfh3(0.5, 0)", s, false, 100);
    double h = lab_value(full, x, 1, 0, 0);
    cr_expect_float_eq(h, -0.628022, 1e-6, "%.9g", h);
    cr_expect_eq(lab_value(mf, x, 1, 100, 100), h);
    /* Every alpha is less by bias (1 - s): the difference is that times the sum of the bells. */
    double at3 = lab_value(mf, x, 1, 3, 100), at10 = lab_value(mf, x, 1, 10, 100);
    double bells3 = (at3 - h) / (0.5 * (1 - log(3) / log(100)));
    double bells10 = (at10 - h) / (0.5 * (1 - log(10) / log(100)));
    cr_expect_float_eq(bells3, bells10, 1e-9);
    cr_expect_gt(bells3, 0);
    objective_destroy(full);
    objective_destroy(mf);
    space_destroy(s);
}

Test(objectives, the_noise_of_a_fidelity_belongs_to_point_and_step)
{
    struct space *s = lab_space(UNIT3);
    static const double x[3] = {0.3, 0.6, 0.9}, y[3] = {0.3, 0.6, 0.91};
    struct objective *clean = lab_objective("mfh3(0.5, 0)", s, false, 100);
    struct objective *o = lab_objective("mfh3(0.5, 0.1)", s, false, 100);
    double noise[4] = {lab_value(o, x, 1, 3, 100) - lab_value(clean, x, 1, 3, 100),
                       lab_value(o, x, 9, 3, 100) - lab_value(clean, x, 9, 3, 100),
                       lab_value(o, x, 1, 4, 100) - lab_value(clean, x, 1, 4, 100),
                       lab_value(o, y, 1, 3, 100) - lab_value(clean, y, 1, 3, 100)};
    cr_expect_gt(noise[0], 0, "it is |N|");
    cr_expect_eq(noise[0], noise[1], "the same point again");
    cr_expect_neq(noise[0], noise[2]);
    cr_expect_neq(noise[0], noise[3]);
    cr_expect_eq(lab_value(o, x, 1, 100, 100), lab_value(clean, x, 1, 100, 100));
    cr_expect_eq(objective_truth(o, x), lab_value(o, x, 1, 100, 100));
    objective_destroy(clean);
    objective_destroy(o);
    space_destroy(s);
}

/* The mean of z draws has the variance p (1 - p) / z. */
Test(objectives, counting_ones_measures_better_with_more_draws)
{
    struct space *s = natural("counting-ones(2)");
    static const double x[4] = {1, 0, 0.5, 0.25}; /* cat01, cat02, float01, float02 */
    struct objective *o = lab_objective("counting-ones(2)", s, false, 729);
    static const int64_t draws[] = {9, 81, 729};
    cr_expect_float_eq(objective_truth(o, x), -(1 + 0 + 0.5 + 0.25) / 4, 1e-12);
    for (size_t k = 0; k < 3; k++) {
        double sum = 0, squares = 0;
        enum { N = 2000 };
        for (int i = 0; i < N; i++) {
            double v = lab_value(o, x, i + 1, draws[k], 729) * -4 - 1; /* float01 + float02 */
            sum += v;
            squares += v * v;
        }
        double variance = squares / N - (sum / N) * (sum / N);
        double want = (0.25 + 0.1875) / (double)draws[k];
        cr_expect_float_eq(sum / N, 0.75, 4 * sqrt(want / N));
        cr_expect_float_eq(variance / want, 1, 0.15, "%lld draws: %g", (long long)draws[k],
                           variance / want);
    }
    objective_destroy(o);
    space_destroy(s);
}

Test(objectives, curves_fall_and_cross_over_any_space)
{
    struct space *s = lab_space("{\"lr\":{\"type\":\"DOUBLE\",\"range\":[1e-4,0.1],\"scale\":\"log\"},"
                                "\"opt\":[\"CATEGORICAL\",[\"sgd\",\"adam\"]],"
                                "\"momentum\":{\"type\":\"DOUBLE\",\"range\":[0,0.99],\"when\":"
                                "{\"opt\":[\"sgd\"]}}}");
    struct objective *o = lab_objective("curve(0)", s, false, 27);
    struct objective *accuracy = lab_objective("curve(0)", s, true, 27);
    enum { N = 200 };
    double first[N], last[N], least = 1, most = 0;
    for (int i = 0; i < N; i++) {
        double p[3];
        space_sample(s, 5, "test", (uint64_t)i, p);
        double before = 1;
        for (int step = 1; step <= 27; step++) {
            double v = lab_value(o, p, i + 1, step, 27);
            cr_assert(v > 0 && v < before, "trial %d step %d: %g after %g", i, step, v, before);
            cr_expect_float_eq(lab_value(accuracy, p, i + 1, step, 27), 1 - v, 1e-12);
            before = v;
        }
        first[i] = lab_value(o, p, i + 1, 1, 27);
        last[i] = before;
        cr_expect_eq(objective_truth(o, p), before);
        least = fmin(least, before);
        most = fmax(most, before);
    }
    int pairs = 0, crossed = 0;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < i; k++, pairs++) {
            crossed += (first[i] < first[k]) != (last[i] < last[k]);
        }
    }
    /* The order after one epoch tells something, and not everything. */
    cr_expect(crossed > pairs / 20 && crossed < pairs * 2 / 5, "%d of %d", crossed, pairs);
    cr_expect(least < 0.25 && most > 0.35, "%g to %g", least, most);
    objective_destroy(o);
    objective_destroy(accuracy);
    space_destroy(s);
}

Test(objectives, curves_have_the_noise_and_the_failures_that_were_asked_for)
{
    struct space *s = lab_space(UNIT3);
    static const double x[3] = {0.4, 0.5, 0.6};
    struct objective *clean = lab_objective("curve(0)", s, false, 27);
    struct objective *o = lab_objective("curve(0.02, 0.3)", s, false, 27);
    double sum = 0, squares = 0, truth = lab_value(clean, x, 1, 9, 27);
    int failed = 0, n = 0;
    for (int i = 1; i <= 3000; i++) {
        double v = lab_value(o, x, i, 9, 27);
        failed += isnan(v);
        if (!isnan(v)) {
            n++;
            sum += v - truth;
            squares += (v - truth) * (v - truth);
        }
    }
    cr_expect_float_eq(failed / 3000.0, 0.3, 0.03);
    cr_expect_float_eq(sum / n, 0, 0.002);
    cr_expect_float_eq(sqrt(squares / n), 0.02, 0.001);
    objective_destroy(clean);
    objective_destroy(o);
    space_destroy(s);
}

Test(objectives, what_does_not_fit_is_said)
{
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"\"brannin\"", "did you mean \"branin\"?"},
        {"\"sphere(0)\"", "number 1 of sphere(parameters) must be 1 to 100, not 0"},
        {"\"branin(3)\"", "too many numbers: the form is branin"},
        {"\"sphere(\"", "no name with numbers"},
        {"7", "must be a name such as \"branin\""},
        {"[]", "a program is a list of 1 to 63 words"},
        {"[\"python3\", 3]", "word 1 of the program is a whole number"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char json[128];
        (void)snprintf(json, sizeof(json), "{\"objective\": %s}", cases[i].json);
        char *faults = lab_faults(json);
        cr_expect_not_null(strstr(faults, cases[i].says), "%s: %s", json, faults);
        free(faults);
    }
    struct space *s = lab_space(UNIT3);
    struct sim_setup setup = lab_setup("{\"objective\": \"branin\"}");
    struct objective_for what = {.space = s, .metric = "m"};
    struct objective *o = NULL;
    struct mag_err err = {0};
    cr_expect_eq(objective_create(&setup.objective, &what, &o, &err), MAG_INVALID);
    cr_expect_not_null(strstr(err.text, "branin has 2 parameters, the search space has 3"), "%s",
                       err.text);
    sim_setup_fini(&setup);
    space_destroy(s);
}
