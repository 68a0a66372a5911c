/* SPDX-License-Identifier: Apache-2.0
 *
 * Fronts, crowding and hypervolume against brute force and closed forms; NSGA-II on problems whose
 * fronts are known.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/pareto.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(pareto, .timeout = 60);

Test(pareto, domination_needs_one_better_and_none_worse)
{
    static const double a[] = {1, 2}, b[] = {1, 3}, c[] = {2, 1};
    cr_expect_eq(pareto_compare(a, 0, b, 0, 2), -1);
    cr_expect_eq(pareto_compare(b, 0, a, 0, 2), 1);
    cr_expect_eq(pareto_compare(a, 0, c, 0, 2), 0);
    cr_expect_eq(pareto_compare(a, 0, a, 0, 2), 0);
}

Test(pareto, less_violation_dominates_whatever_the_objectives)
{
    static const double good[] = {0, 0}, poor[] = {9, 9};
    cr_expect_eq(pareto_compare(good, 0.1, poor, 0, 2), 1);
    cr_expect_eq(pareto_compare(good, 0.1, poor, 0.2, 2), -1);
    cr_expect_eq(pareto_compare(good, 0.1, poor, 0.1, 2), -1);
}

/* The definition: front 0 is what nobody dominates, front k what only fronts before it dominate. */
static void ranks_by_definition(const double *v, const double *w, int n, int m, int *ranks)
{
    for (int i = 0; i < n; i++) {
        ranks[i] = -1;
    }
    for (int front = 0, left = n; left > 0; front++) {
        int found[256];
        int k = 0;
        for (int i = 0; i < n; i++) {
            bool free_ = ranks[i] < 0;
            for (int j = 0; j < n && free_; j++) {
                free_ = ranks[j] >= 0 || pareto_compare(v + j * m, w[j], v + i * m, w[i], m) >= 0;
            }
            if (free_ && ranks[i] < 0) {
                found[k++] = i;
            }
        }
        for (int i = 0; i < k; i++) {
            ranks[found[i]] = front;
        }
        left -= k;
    }
}

Test(pareto, ranks_are_those_of_the_definition)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        enum { N = 120 };
        double v[N * 4], w[N];
        int ranks[N], want[N];
        struct pcg64 g;
        int m = 1 + (int)(seed % 4);
        pcg_stream(&g, seed, "ranks", 0);
        for (int i = 0; i < N * m; i++) {
            v[i] = (double)pcg64_below(&g, seed % 3 == 0 ? 6 : 1000); /* ties and equals too */
        }
        for (int i = 0; i < N; i++) {
            w[i] = seed % 2 == 0 ? 0 : (double)pcg64_below(&g, 3);
        }
        pareto_ranks(v, w, N, m, ranks);
        ranks_by_definition(v, w, N, m, want);
        for (int i = 0; i < N; i++) {
            cr_assert_eq(ranks[i], want[i], "seed %d row %d: %d, not %d", (int)seed, i, ranks[i],
                         want[i]);
        }
    }
}

Test(pareto, crowding_is_the_room_between_neighbours)
{
    static const double v[] = {0, 4, 1, 2, 4, 0, 2, 1};
    static const int members[] = {0, 1, 2, 3};
    double d[4];
    pareto_crowding(v, 2, members, 4, d);
    cr_expect(isinf(d[0]) && isinf(d[2]));
    cr_expect_float_eq(d[1], 2.0 / 4 + 3.0 / 4, 1e-12);
    cr_expect_float_eq(d[3], 3.0 / 4 + 2.0 / 4, 1e-12);
}

Test(pareto, hypervolume_of_boxes_is_exact)
{
    static const double ref2[] = {4, 4}, ref3[] = {2, 2, 2};
    static const double two[] = {1, 3, 2, 2, 3, 1, 5, 0};
    static const double cube[] = {0, 1, 1, 1, 0, 1, 1, 1, 0};
    cr_expect_float_eq(pareto_hypervolume(two, 4, 2, ref2), 6, 1e-12);
    cr_expect_float_eq(pareto_hypervolume(cube, 3, 3, ref3), 4, 1e-12);
    cr_expect_eq(pareto_hypervolume(two, 0, 2, ref2), 0);
}

Test(pareto, hypervolume_agrees_with_counting_cells)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        enum { N = 12, SIDE = 8 };
        int m = 2 + (int)(seed % 3);
        double v[N * 4], ref[4];
        struct pcg64 g;
        pcg_stream(&g, seed, "cells", 0);
        for (int i = 0; i < N * m; i++) {
            v[i] = (double)pcg64_below(&g, SIDE + 1);
        }
        int64_t cells = 0, all = 1;
        for (int k = 0; k < m; k++) {
            ref[k] = SIDE;
            all *= SIDE;
        }
        for (int64_t c = 0; c < all; c++) {
            bool covered = false;
            for (int i = 0; i < N && !covered; i++) {
                int64_t left = c;
                covered = true;
                for (int k = 0; k < m; k++, left /= SIDE) {
                    covered = covered && v[i * m + k] <= (double)(left % SIDE);
                }
            }
            cells += covered;
        }
        cr_expect_float_eq(pareto_hypervolume(v, N, m, ref), (double)cells, 1e-9, "seed %d",
                           (int)seed);
    }
}

/* ---- NSGA-II ---- */

/* ZDT1 (Zitzler, Deb, Thiele 2000) in 10 dimensions: front f2 = 1 - sqrt(f1) at g = 1. */
static void zdt1(const double *x, double *f)
{
    double g = 0;
    for (int i = 1; i < 10; i++) {
        g += x[i];
    }
    g = 1 + 9 * g / 9;
    f[0] = x[0];
    f[1] = g * (1 - sqrt(x[0] / g));
}

#define ZDT_SPACE                                                                                  \
    "{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]], \"c\": [\"DOUBLE\", [0, 1]],"      \
    " \"d\": [\"DOUBLE\", [0, 1]], \"e\": [\"DOUBLE\", [0, 1]], \"f\": [\"DOUBLE\", [0, 1]],"      \
    " \"g\": [\"DOUBLE\", [0, 1]], \"h\": [\"DOUBLE\", [0, 1]], \"i\": [\"DOUBLE\", [0, 1]],"      \
    " \"j\": [\"DOUBLE\", [0, 1]]}"

/* The hypervolume below (1.1, 1.1) that `trials` trials reach with `pending` at a time. */
static double zdt_volume(const char *algorithm, uint64_t seed, int trials, int pending,
                         double violation_above)
{
    struct space *s = space_of(ZDT_SPACE);
    struct mjson_issues is = {0};
    json_t *v = json_pack("{s:s}", "algorithm", algorithm);
    struct opt_setup setup = {.space = s, .seed = seed, .trials = trials, .objectives = 2};
    struct optimizer *o = optimizer_create(v, "", &setup, &is, NULL);
    cr_assert_not_null(o);
    double *values = xcalloc(2 * (size_t)trials, sizeof(*values));
    double *points = xcalloc(10 * (size_t)trials, sizeof(*points));
    static const double reference[] = {1.1, 1.1};
    int kept = 0;
    for (int asked = 0, told = 0; told < trials;) {
        if (asked < trials && asked - told < pending) {
            struct opt_suggestion out = {.point = points + 10 * asked};
            optimizer_suggest(o, &(struct opt_ask){.next_trial = asked + 1, .may_create = true},
                              &out);
            cr_assert_eq(out.answer, OPT_TRIAL);
            optimizer_adopt(o, &out);
            asked++;
            continue;
        }
        double f[2];
        zdt1(points + 10 * told, f);
        double over = f[0] > violation_above ? f[0] - violation_above : 0;
        struct opt_result r = {.value = f[0], .values = f, .violation = over};
        optimizer_finish(o, ++told, OPT_COMPLETED, &r);
        if (over == 0) {
            memcpy(values + 2 * kept++, f, sizeof(f));
        }
    }
    double volume = pareto_hypervolume(values, kept, 2, reference);
    json_decref(v);
    free(values);
    free(points);
    optimizer_destroy(o);
    space_destroy(s);
    return volume;
}

/* The whole front's volume there is 0.21 + 2/3. */
Test(pareto, nsga2_reaches_the_front_of_zdt1)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        double evolved = zdt_volume("nsga2", seed, 3000, 1, INFINITY);
        cr_expect_gt(evolved, 0.82, "seed %d: %g", (int)seed, evolved);
        cr_expect_lt(evolved, 0.8767);
        cr_expect_gt(zdt_volume("nsga2", seed, 3000, 50, INFINITY), 0.80, "50 pending");
        cr_expect_lt(zdt_volume("random", seed, 3000, 1, INFINITY), 0.3, "random");
    }
}

Test(pareto, nsga2_finds_the_feasible_part_of_the_front)
{
    /* The volume below the front's part with f1 <= 0.3, summed by columns. */
    double want = 0;
    for (int i = 0; i < 100000; i++) {
        double x = 0.3 * (i + 0.5) / 100000;
        want += (1.1 - (1 - sqrt(x))) * 0.3 / 100000;
    }
    want += (1.1 - (1 - sqrt(0.3))) * 0.8;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        double got = zdt_volume("nsga2", seed, 3000, 8, 0.3);
        cr_expect_gt(got, 0.9 * want, "seed %d: %g of %g", (int)seed, got, want);
        cr_expect_lt(got, want);
    }
}
