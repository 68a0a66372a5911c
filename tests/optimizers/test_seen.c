/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/seen.h"

#include "harness.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(seen, .timeout = 60);

/* 12 points: 3 * 4. */
#define TWELVE "{\"a\": [\"DISCRETE\", [0.5, 2, 8]], \"b\": [\"INTEGER\", [1, 4]]}"
/* 6 of 12. */
#define SIX                                                                                        \
    "{\"searchspace\": " TWELVE ", \"constraints\": [\"b < 3 or a == 8\", {\"a\": 8, \"b\": "      \
    "[1, 2]}]}"
/* One of its branches has a single point. */
#define BRANCH                                                                                     \
    "{\"o\": [\"CATEGORICAL\", [\"none\", \"some\"]], "                                            \
    "\"x\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"when\": {\"o\": [\"some\"]}}}"

Test(seen, remembers_cells_hashes_and_nothing_where_nothing_repeats)
{
    static const struct {
        const char *space;
        bool matters, counts;
    } cases[] = {
        {TWELVE, true, true},
        {SIX, true, true},
        {FINITE_SPACE, true, true},
        {"{\"a\": [\"INTEGER\", [0, 100000000]]}", true, false},
        {BRANCH, true, false},
        {"{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"INTEGER\", [1, 4]]}", false, false},
        {"{\"a\": [\"DOUBLE\", [3, 3]], \"b\": [\"INTEGER\", [1, 4]]}", true, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = space_of(cases[i].space);
        struct seen t;
        double point[4];
        seen_init(&t, s);
        cr_expect_eq(seen_matters(&t), cases[i].matters, "%s", cases[i].space);
        cr_expect_eq(isfinite(seen_left(&t)), cases[i].counts, "%s", cases[i].space);
        for (uint64_t id = 1; id <= 1000; id++) {
            space_sample(s, 1, "t", id, point);
            bool before = seen_has(&t, point);
            uint64_t n = t.n;
            seen_add(&t, point);
            cr_expect_eq(seen_has(&t, point), cases[i].matters);
            cr_expect_eq(t.n, n + (cases[i].matters && !before));
        }
        cr_expect_eq(seen_exhausted(&t), seen_left(&t) <= 0);
        seen_fini(&t);
        space_destroy(s);
    }
}

Test(seen, fresh_points_take_every_cell_once_and_then_say_no)
{
    static const char *const spaces[] = {TWELVE, SIX, FINITE_SPACE};
    static const int sizes[] = {12, 6, 33};
    for (int i = 0; i < 3; i++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            struct space *s = space_of(spaces[i]);
            struct seen t;
            double point[4];
            seen_init(&t, s);
            for (int k = 0; k < sizes[i]; k++) {
                space_grid_point(s, 0, point); /* what a stubborn model wants */
                cr_assert(seen_fresh(&t, seed, "t", (uint64_t)k, point));
                cr_assert(space_normalize(s, point) && space_is_feasible(s, point));
                cr_assert_not(seen_has(&t, point));
                seen_add(&t, point);
            }
            cr_expect(seen_exhausted(&t));
            cr_expect_not(seen_fresh(&t, seed, "t", 99, point));
            seen_fini(&t);
            space_destroy(s);
        }
    }
}

Test(seen, the_last_free_cell_of_a_large_space_is_found_at_once)
{
    struct space *s = space_of("{\"a\": [\"INTEGER\", [0, 999]], \"b\": [\"INTEGER\", [0, 999]]}");
    struct seen t;
    double point[2], last[2] = {123, 457};
    seen_init(&t, s);
    for (uint64_t k = 0; k < 1000000; k++) {
        space_grid_point(s, k, point);
        if (!space_point_equal(s, point, last)) {
            seen_add(&t, point);
        }
    }
    cr_expect_eq(seen_left(&t), 1);
    cr_assert(seen_fresh(&t, 1, "t", 1, point));
    cr_expect(space_point_equal(s, point, last));
    seen_fini(&t);
    space_destroy(s);
}

static void check_exhausts(const char *space, const char *optimizer, int size, bool enqueue)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim m;
        sim_init(&m, space, optimizer, seed, 0, 4 * size, 4);
        m.p_fail = m.p_stop = m.p_cancel = 0.1; /* a failed point was tried too */
        m.p_enqueue = enqueue ? 0.2 : 0;
        sim_run(&m, 100000);
        int distinct = 0;
        for (int64_t id = 1; id <= m.n_trials; id++) {
            bool old = false;
            for (int64_t k = 1; k < id && !old; k++) {
                old = space_point_equal(m.space, m.trials[k].point, m.trials[id].point);
            }
            distinct += !old;
        }
        cr_expect(m.done);
        cr_expect_eq(distinct, size, "%s: %d distinct points", optimizer, distinct);
        cr_expect(enqueue || m.n_trials == size, "%s: %d trials", optimizer, (int)m.n_trials);
        cr_expect_str_eq(m.h.at[m.h.n - 1].answer.why_code, "space-exhausted");
        sim_fini(&m);
    }
}

Test(seen, random_gives_each_of_twelve_points_once_and_is_then_done)
{
    check_exhausts(TWELVE, "{\"algorithm\": \"random\"}", 12, false);
    check_exhausts(SIX, "{\"algorithm\": \"random\"}", 6, false);
    check_exhausts(FINITE_SPACE, "{\"algorithm\": \"random\"}", 33, true);
}

Test(seen, a_branch_with_one_point_is_tried_once)
{
    struct sim m;
    int none = 0;
    sim_init(&m, BRANCH, "{\"algorithm\": \"random\"}", 5, 0, 200, 4);
    sim_run(&m, 100000);
    cr_expect_eq(m.n_trials, 200);
    for (int64_t id = 1; id <= m.n_trials; id++) {
        none += m.trials[id].point[space_find(m.space, "o")] == 0;
    }
    cr_expect_eq(none, 1, "%d", none);
    sim_fini(&m);
}
