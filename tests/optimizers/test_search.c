/* SPDX-License-Identifier: Apache-2.0
 *
 * Random, grid, differential evolution and the median rule: what each promises on its own.
 */
#include "harness.h"

#include "base/alloc.h"
#include "space/constraint.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(search, .timeout = 100);

/* ---- random ---- */

Test(search, random_trials_do_not_depend_on_results_or_workers)
{
    struct sim a;
    struct sim b;
    sim_init(&a, MIXED_SPACE, "{\"algorithm\": \"random\"}", 9, 0, 50, 1);
    sim_init(&b, MIXED_SPACE, "{\"algorithm\": \"random\"}", 9, 0, 50, 50);
    b.p_fail = 0.2;
    b.p_stop = 0.1;
    sim_run(&a, 100000);
    sim_run(&b, 100000);
    cr_assert(a.n_trials == 50 && b.n_trials == 50);
    for (int64_t id = 1; id <= 50; id++) {
        cr_expect(space_point_equal(a.space, a.trials[id].point, b.trials[id].point));
    }
    sim_fini(&a);
    sim_fini(&b);
}

Test(search, random_takes_any_types_and_as_many_trials_as_there_are_points)
{
    struct sim m;
    sim_init(&m, "{\"c\": [\"CATEGORICAL\", [\"a\", \"b\", \"c\"]]}", "{\"algorithm\": \"random\"}",
             1, 0, 30, 4);
    sim_run(&m, 10000);
    cr_expect_eq(m.n_trials, 3);
    sim_fini(&m);
}

/* ---- grid ---- */

static void check_grid(const char *json, uint64_t seed, bool enqueue)
{
    struct sim m;
    bool seen[33] = {false};
    sim_init(&m, FINITE_SPACE, json, seed, 0, 100, 5);
    m.p_enqueue = enqueue ? 0.05 : 0;
    m.p_fail = 0.05;
    sim_run(&m, 100000);
    for (int64_t id = 1; id <= m.n_trials; id++) {
        double p[3];
        int k = -1;
        do {
            cr_assert_lt(++k, 33);
            space_grid_point(m.space, (uint64_t)k, p);
        } while (!space_point_equal(m.space, p, m.trials[id].point));
        cr_expect(!seen[k] || enqueue, "%s gives point %d twice", json, k);
        seen[k] = true;
    }
    for (int k = 0; k < 33; k++) {
        cr_expect(seen[k], "%s misses point %d", json, k);
    }
    cr_expect(enqueue || m.n_trials == 33);
    cr_expect_str_eq(m.h.at[m.h.n - 1].answer.why_code, "grid-exhausted");
    sim_fini(&m);
}

Test(search, grid_gives_every_point_exactly_once_ordered_or_shuffled)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        check_grid("{\"algorithm\": \"grid\"}", seed, false);
        check_grid("{\"algorithm\": \"grid\", \"order\": \"shuffled\"}", seed, false);
        check_grid("{\"algorithm\": \"grid\", \"order\": \"shuffled\"}", seed, true);
    }
}

Test(search, grid_does_not_try_an_enqueued_point_again)
{
    struct sim m;
    sim_init(&m, FINITE_SPACE, "{\"algorithm\": \"grid\"}", 1, 0, 100, 100);
    for (uint64_t k = 4; k < 12; k += 3) {
        struct opt_suggestion s = {
            .answer = OPT_TRIAL, .trial = ++m.n_trials, .point = xcalloc(3, sizeof(double))};
        space_grid_point(m.space, k, s.point);
        optimizer_adopt(m.o, &s);
        m.trials[m.n_trials].state = SIM_RUNNING;
        m.trials[m.n_trials].point = s.point;
        m.running++;
    }
    while (sim_ask(&m)) {
    }
    cr_expect_eq(m.n_trials, 33);
    sim_fini(&m);
}

Test(search, a_shuffled_grid_differs_by_seed_and_is_no_simple_rotation)
{
    struct sim a;
    struct sim b;
    const char *space = "{\"x\": [\"INTEGER\", [0, 999]]}";
    int falls = 0;
    int same = 0;
    sim_init(&a, space, "{\"algorithm\": \"grid\", \"order\": \"shuffled\"}", 1, 0, 1000, 1000);
    sim_init(&b, space, "{\"algorithm\": \"grid\", \"order\": \"shuffled\"}", 2, 0, 1000, 1000);
    for (int k = 0; k < 1000; k++) {
        cr_assert(sim_ask(&a) && sim_ask(&b));
        same += a.trials[k + 1].point[0] == b.trials[k + 1].point[0];
        falls += k > 0 && a.trials[k + 1].point[0] < a.trials[k].point[0];
    }
    cr_expect_lt(same, 20);
    cr_expect(falls > 400 && falls < 600, "%d", falls);
    sim_fini(&a);
    sim_fini(&b);
}

Test(search, a_grid_takes_integers_and_stepped_doubles)
{
    struct sim m;
    sim_init(&m,
             "{\"i\": [\"INTEGER\", [1, 4]], \"d\": {\"type\": \"DOUBLE\", \"range\": [0, 1], "
             "\"step\": 0.5}}",
             "{\"algorithm\": \"grid\"}", 1, 0, 100, 3);
    sim_run(&m, 1000);
    cr_expect_eq(m.n_trials, 12);
    sim_fini(&m);
}

Test(search, a_grid_leaves_out_what_breaks_a_constraint_and_knows_its_size)
{
    for (int shuffled = 0; shuffled <= 1; shuffled++) {
        struct sim m;
        json_t *rows = json_array();
        sim_init(&m, CONSTRAINED_SPACE,
                 shuffled ? "{\"algorithm\": \"grid\", \"order\": \"shuffled\"}"
                          : "{\"algorithm\": \"grid\"}",
                 1, 0, 1000, 3);
        optimizer_plan(m.o, 0, rows);
        cr_expect_eq(json_integer_value(json_object_get(json_array_get(rows, 0), "trials")), 89);
        sim_run(&m, 10000); /* every answer is checked */
        cr_expect_eq(m.n_trials, 89);
        json_decref(rows);
        sim_fini(&m);
    }
}

/* True when one of the first n trials ran at (a, b), in the order of the names. */
static bool tried(const struct sim *m, double a, double b)
{
    for (int64_t id = 1; id <= m->n_trials; id++) {
        const double *p = m->trials[id].point;
        if (fabs(p[0] - a) < 1e-12 && fabs(p[1] - b) < 1e-12) {
            return true;
        }
    }
    return false;
}

Test(search, points_gives_a_continuous_parameter_levels_from_end_to_end_on_its_scale)
{
    static const char space[] =
        "{\"lr\": {\"type\": \"DOUBLE\", \"range\": [0.001, 0.1], \"scale\": \"log\"},"
        " \"m\": [\"DOUBLE\", [-1, 1]]}";
    static const char *const options[] = {
        "{\"algorithm\": \"grid\", \"points\": 3}",
        "{\"algorithm\": \"grid\", \"points\": 3, \"order\": \"shuffled\"}"};
    for (size_t k = 0; k < 2; k++) {
        struct sim m;
        sim_init(&m, space, options[k], 1, 0, 100, 2);
        sim_run(&m, 1000);
        cr_expect_eq(m.n_trials, 9);
        for (int i = 0; i < 9; i++) {
            cr_expect(tried(&m, 0.001 * pow(10, i / 3), i % 3 - 1), "%s misses %d", options[k], i);
        }
        sim_fini(&m);
    }
}

Test(search, a_levelled_grid_skips_an_enqueued_level_and_nothing_for_a_point_between)
{
    struct sim m;
    sim_init(&m, "{\"m\": [\"DOUBLE\", [0, 1]]}", "{\"algorithm\": \"grid\", \"points\": 5}", 1, 0,
             100, 100);
    for (int k = 0; k < 2; k++) {
        struct opt_suggestion s = {
            .answer = OPT_TRIAL, .trial = ++m.n_trials, .point = xcalloc(1, sizeof(double))};
        s.point[0] = k == 0 ? 0.5 : 0.6;
        optimizer_adopt(m.o, &s);
        m.trials[m.n_trials].state = SIM_RUNNING;
        m.trials[m.n_trials].point = s.point;
        m.running++;
    }
    while (sim_ask(&m)) {
    }
    cr_expect_eq(m.n_trials, 6, "two enqueued, and four of five levels");
    sim_fini(&m);
}

Test(search, the_levels_of_a_grid_meet_the_constraints_and_its_size_is_theirs)
{
    struct mjson_issues is = {0};
    struct space *s = space_of("{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]]}");
    json_t *list = json_pack("[s]", "a <= b");
    cr_assert(space_constrain(s, list, "", &is));
    struct optimizer *o = optimizer_of("{\"algorithm\": \"grid\", \"points\": 4}", s, 1, 0, 0, 0);
    json_t *rows = json_array();
    optimizer_plan(o, 0, rows);
    json_int_t size = json_integer_value(json_object_get(json_array_get(rows, 0), "trials"));
    cr_expect_eq(size, 10, "%d of 16 levels", (int)size);
    for (int64_t id = 1; id <= 11; id++) {
        double p[2];
        struct opt_suggestion out = {.point = p};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        cr_assert_eq(out.answer, id <= 10 ? OPT_TRIAL : OPT_DONE);
        if (id <= 10) {
            cr_expect_leq(p[0], p[1]);
            optimizer_adopt(o, &out);
        }
    }
    json_decref(rows);
    json_decref(list);
    optimizer_destroy(o);
    space_destroy(s);
}

Test(search, a_grid_over_a_continuous_range_is_refused_with_the_names_and_the_remedy)
{
    struct space *s = space_of("{\"lr\": [\"DOUBLE\", [0, 1]], \"m\": [\"DOUBLE\", [0, 1]],"
                               " \"k\": [\"INTEGER\", [1, 3]]}");
    char *text = optimizer_refusal("{\"algorithm\": \"grid\"}", s, 0, 0, 10);
    cr_expect_not_null(strstr(text, "\"lr\", \"m\" are continuous: give it a step"), "%s", text);
    cr_expect_not_null(strstr(text, "or set \"points\""), "%s", text);
    free(text);
    text = optimizer_refusal("{\"algorithm\": \"grid\", \"points\": 1}", s, 0, 0, 10);
    cr_expect_not_null(strstr(text, "/points: 1 is outside 2 to"), "%s", text);
    free(text);
    space_destroy(s);
}

Test(search, a_grid_that_nobody_can_finish_is_refused)
{
    struct space *s =
        space_of("{\"a\": [\"INTEGER\", [0, 100000000]], \"b\": [\"INTEGER\", [0, 100000000]]}");
    char *text = optimizer_refusal("{\"algorithm\": \"grid\"}", s, 0, 0, 10);
    cr_expect_not_null(strstr(text, "1e+16 points, more than anyone can try"), "%s", text);
    free(text);
    space_destroy(s);
    s = space_of("{\"searchspace\": {\"a\": [\"INTEGER\", [1, 2000]], \"b\": [\"INTEGER\", [1, "
                 "2000]]}, \"constraints\": [\"a < b\"]}");
    text = optimizer_refusal("{\"algorithm\": \"grid\"}", s, 0, 0, 10);
    cr_expect_not_null(strstr(text, "an unknown part of 4e+06 points"), "%s", text);
    free(text);
    space_destroy(s);
}

/* ---- differential evolution ---- */

#define CUBE                                                                                       \
    "{\"a\": [\"DOUBLE\", [-5, 5]], \"b\": [\"DOUBLE\", [-5, 5]], \"c\": [\"DOUBLE\", [-5, 5]], "  \
    "\"d\": [\"DOUBLE\", [-5, 5]]}"

static double best_of(const struct sim *m)
{
    double best = INFINITY;
    for (int64_t id = 1; id <= m->n_trials; id++) {
        best = fmin(best, f_sphere(m->space, m->trials[id].point, INT64_MAX - 1));
    }
    return best;
}

/* The median of the best over 9 seeds. */
static double median_best(const char *json, int64_t trials, int workers)
{
    double best[9];
    for (int seed = 0; seed < 9; seed++) {
        struct sim m;
        sim_init(&m, CUBE, json, (uint64_t)seed, 0, trials, workers);
        sim_run(&m, 1000000);
        cr_assert(m.done);
        double v = best_of(&m);
        int i = seed;
        for (; i > 0 && best[i - 1] > v; i--) {
            best[i] = best[i - 1];
        }
        best[i] = v;
        sim_fini(&m);
    }
    return best[4];
}

Test(search, differential_evolution_goes_far_beyond_random_in_both_modes)
{
    double random = median_best("{\"algorithm\": \"random\"}", 600, 4);
    double steady = median_best("{\"algorithm\": \"de\"}", 600, 4);
    double generational =
        median_best("{\"algorithm\": \"de\", \"mode\": \"generational\"}", 600, 4);
    cr_expect_lt(steady, random / 1000, "%g, random %g", steady, random);
    cr_expect_lt(generational, random / 1000, "%g, random %g", generational, random);
}

Test(search, every_strategy_of_differential_evolution_goes_far_beyond_random)
{
    static const char *const strategies[] = {"current-to-best/1", "shade", "lshade"};
    double random = median_best("{\"algorithm\": \"random\"}", 600, 4);
    for (size_t i = 0; i < sizeof(strategies) / sizeof(strategies[0]); i++) {
        char *json = xasprintf("{\"algorithm\": \"de\", \"strategy\": \"%s\"}", strategies[i]);
        double best = median_best(json, 600, 4);
        double crowded = median_best(json, 600, 32);
        cr_expect_lt(best, random / 1000, "%s: %g, random %g", strategies[i], best, random);
        cr_expect_lt(crowded, random / 20, "%s, 32 pending: %g", strategies[i], crowded);
        free(json);
    }
}

Test(search, a_shrinking_population_ends_ahead_of_one_that_stays)
{
    double stays = median_best("{\"algorithm\": \"de\", \"strategy\": \"shade\", "
                               "\"population\": 30}",
                               600, 1);
    double shrinks = median_best("{\"algorithm\": \"de\", \"strategy\": \"lshade\", "
                                 "\"population\": 30}",
                                 600, 1);
    cr_expect_lt(shrinks, stays / 10, "%g, %g", shrinks, stays);
}

Test(search, lshade_needs_to_know_how_long_the_search_is)
{
    struct space *s = space_of(CUBE);
    char *text = optimizer_refusal("{\"algorithm\": \"de\", \"strategy\": \"lshade\"}", s, 0, 0, 0);
    cr_expect_not_null(strstr(text, "limits.trials"), "%s", text);
    cr_expect_eq(strncmp(text, "/strategy", 9), 0, "%s", text);
    free(text);
    text = optimizer_refusal("{\"algorithm\": \"de\", \"strategy\": \"lshade\", \"mode\": "
                             "\"generational\"}",
                             s, 0, 0, 100);
    cr_expect_eq(strncmp(text, "/mode", 5), 0, "%s", text);
    free(text);
    space_destroy(s);
}

Test(search, generations_bound_the_trials_of_differential_evolution)
{
    struct sim m;
    sim_init(&m, CUBE, "{\"algorithm\": \"de\", \"population\": 6, \"generations\": 4}", 1, 0, 1000,
             3);
    sim_run(&m, 100000);
    cr_expect_eq(m.n_trials, 24);
    cr_expect_str_eq(m.h.at[m.h.n - 1].answer.why_code, "generations-done");
    sim_fini(&m);
}

Test(search, a_generation_waits_for_stragglers_and_a_failure_ends_its_place)
{
    struct sim m;
    sim_init(&m, CUBE, "{\"algorithm\": \"de\", \"population\": 4, \"mode\": \"generational\"}", 1,
             0, 100, 100);
    for (int k = 0; k < 4; k++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t id = 1; id <= 4; id++) {
        cr_expect_not(sim_ask(&m));
        cr_expect_str_eq(m.h.at[m.h.n - 1].answer.why_code, "generation-not-finished");
        sim_finish(&m, id, id == 2 ? OPT_FAILED : OPT_COMPLETED, id != 2, 1.0);
    }
    for (int k = 0; k < 4; k++) {
        cr_assert(sim_ask(&m));
    }
    cr_expect_not(sim_ask(&m));
    sim_fini(&m);
}

/* With CR = 0 a challenger differs from its member in the forced coordinate alone. */
Test(search, at_least_one_coordinate_of_a_challenger_comes_from_the_mutant)
{
    struct sim m;
    int changed[5] = {0};
    sim_init(
        &m, CUBE,
        "{\"algorithm\": \"de\", \"population\": 8, \"crossover\": 0, \"mode\": \"generational\"}",
        3, 0, 16, 16);
    for (int k = 0; k < 8; k++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t id = 1; id <= 8; id++) {
        sim_finish(&m, id, OPT_COMPLETED, true, (double)id);
    }
    for (int64_t id = 9; id <= 16; id++) {
        cr_assert(sim_ask(&m));
        int n = 0;
        for (int i = 0; i < 4; i++) {
            double was = param_from_unit(
                &m.space->params[i], param_to_unit(&m.space->params[i], m.trials[id - 8].point[i]));
            n += m.trials[id].point[i] != was;
        }
        changed[n]++;
    }
    cr_expect_eq(changed[1], 8);
    sim_fini(&m);
}

static double f_negative(const struct space *s, const double *point, int64_t step)
{
    return -1e6 - point[0];
}

Test(search, differential_evolution_finds_the_best_of_values_that_are_all_negative)
{
    struct sim m;
    sim_init(&m, CUBE, "{\"algorithm\": \"de\"}", 1, 0, 400, 1);
    m.f = f_negative;
    sim_run(&m, 1000000);
    double best = -INFINITY;
    for (int64_t id = 1; id <= m.n_trials; id++) {
        best = fmax(best, m.trials[id].point[0]);
    }
    cr_expect_gt(best, 4.9);
    sim_fini(&m);
}

Test(search, differential_evolution_tries_each_point_of_a_small_space_once)
{
    struct sim m;
    sim_init(&m, FINITE_SPACE, "{\"algorithm\": \"de\", \"population\": 4}", 1, 0, 200, 1);
    sim_run(&m, 100000);
    cr_expect_eq(m.n_trials, 33);
    cr_expect_str_eq(m.h.at[m.h.n - 1].answer.why_code, "space-exhausted");
    for (int64_t id = 1; id <= m.n_trials; id++) {
        for (int64_t other = 1; other < id; other++) {
            cr_expect(!space_point_equal(m.space, m.trials[id].point, m.trials[other].point));
        }
    }
    sim_fini(&m);
}
