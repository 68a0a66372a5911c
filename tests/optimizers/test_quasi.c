/* SPDX-License-Identifier: Apache-2.0
 *
 * Quasi-random sequences: the stratification that defines them, and that they are more even than
 * random points.
 */
#include "harness.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "optimizers/permute.h"
#include "optimizers/quasi.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(quasi, .timeout = 100);

/* n DOUBLE parameters in [0, 1], by name in the order of the dimensions. */
static struct space *cube(int n)
{
    struct buf b = {0};
    for (int i = 0; i < n; i++) {
        buf_addf(&b, "%s\"x%03d\": [\"DOUBLE\", [0, 1]]", i > 0 ? ", " : "{", i);
    }
    buf_adds(&b, "}");
    struct space *s = space_of(b.data);
    buf_fini(&b);
    return s;
}

/* The first `count` points of a new sequence, n numbers each. */
static double *points_of(enum quasi_kind kind, int n, uint64_t seed, uint64_t count)
{
    struct space *s = cube(n);
    struct quasi *q = quasi_create(kind, s, seed, "test", count);
    double *u = xcalloc((size_t)count * (size_t)n, sizeof(*u));
    bool inside = true;
    for (uint64_t i = 0; i < count; i++) {
        quasi_unit(q, i, u + i * (uint64_t)n);
        for (int j = 0; j < n; j++) {
            double v = u[i * (uint64_t)n + (uint64_t)j];
            inside = inside && v >= 0 && v < 1;
        }
    }
    cr_assert(inside);
    quasi_destroy(q);
    space_destroy(s);
    return u;
}

/* Counts the points in each box of sides 2^-bits[j]; true when every box holds `each`. */
static bool boxes_hold(const double *u, int stride, const int *dims, int n, const int *bits,
                       uint64_t count, uint32_t each)
{
    int sum = 0;
    for (int j = 0; j < n; j++) {
        sum += bits[j];
    }
    uint32_t *in = xcalloc((size_t)1 << sum, sizeof(*in));
    for (uint64_t i = 0; i < count; i++) {
        size_t box = 0;
        for (int j = 0; j < n; j++) {
            double v = u[i * (uint64_t)stride + (uint64_t)dims[j]];
            box = box << bits[j] | (size_t)ldexp(v, bits[j]);
        }
        in[box]++;
    }
    bool ok = true;
    for (size_t k = 0; k < (size_t)1 << sum; k++) {
        ok = ok && in[k] == each;
    }
    free(in);
    return ok;
}

/* True when the first 2^m points are a (t, m, n)-net in base 2: every elementary box of volume
 * 2^(t - m) holds 2^t points. */
static bool is_net(const double *u, int stride, const int *dims, int n, int t, int m)
{
    int bits[8] = {0};
    int left = m - t;
    bits[0] = left;
    for (;;) { /* all ways to share m - t bits among n sides */
        if (!boxes_hold(u, stride, dims, n, bits, UINT64_C(1) << m, 1u << t)) {
            return false;
        }
        int j = 0;
        while (j < n - 1 && bits[j] == 0) {
            j++;
        }
        if (j == n - 1) {
            return true;
        }
        int moved = bits[j];
        bits[j] = 0;
        bits[0] = moved - 1;
        bits[j + 1]++;
    }
}

/* The quality that theory promises: t = the sum of (degree - 1) of the polynomials, whatever the
 * scrambling (Niederreiter 1992, theorem 4.49; Owen 1995). */
Test(quasi, sobol_points_are_nets_of_the_quality_that_theory_promises)
{
    static const int t_of[] = {0, 0, 1, 3, 5};
    static const int dims[] = {0, 1, 2, 3, 4};
    for (uint64_t seed = 0; seed < 3; seed++) {
        double *u = points_of(QUASI_SOBOL, 5, seed, 1 << 10);
        for (int n = 1; n <= 5; n++) {
            for (int m = t_of[n - 1] + 1; m <= 10; m++) {
                cr_expect(is_net(u, 5, dims, n, t_of[n - 1], m), "%d dimensions, 2^%d points", n,
                          m);
            }
        }
        free(u);
    }
}

Test(quasi, the_net_property_holds_for_every_later_block_of_points_too)
{
    static const int dims[] = {0, 1};
    double *u = points_of(QUASI_SOBOL, 2, 5, 64 * 8);
    for (uint64_t block = 0; block < 8; block++) {
        cr_expect(is_net(u + block * 64 * 2, 2, dims, 2, 0, 6));
    }
    free(u);
}

Test(quasi, each_projection_of_sobol_on_one_of_256_parameters_is_stratified)
{
    double *u = points_of(QUASI_SOBOL, 256, 3, 256);
    for (int j = 0; j < 256; j++) {
        cr_expect(is_net(u, 256, &j, 1, 0, 8), "parameter %d", j);
    }
    free(u);
}

/* Bad pairs are what poor direction numbers give: t would come near m. */
Test(quasi, no_pair_of_the_first_20_sobol_dimensions_is_a_poor_net)
{
    double *u = points_of(QUASI_SOBOL, 20, 1, 1 << 9);
    double sum = 0;
    for (int i = 0; i < 20; i++) {
        for (int j = 0; j < i; j++) {
            int dims[] = {j, i};
            int t = 0;
            while (!is_net(u, 20, dims, 2, t, 9)) {
                t++;
            }
            cr_expect_leq(t, 5, "parameters %d and %d: t = %d", j, i, t);
            sum += t;
        }
    }
    cr_expect_lt(sum / 190, 3, "mean t %g", sum / 190);
    free(u);
}

/* Base 2 for the first parameter, then 3, 5, 7, …: the first b^k points share out the slices. */
Test(quasi, halton_is_stratified_in_the_base_of_each_parameter)
{
    static const uint64_t bases[] = {2, 3, 5, 7, 11, 13};
    double *u = points_of(QUASI_HALTON, 6, 4, 15625);
    for (int j = 0; j < 6; j++) {
        for (uint64_t count = bases[j]; count <= 15625; count *= bases[j]) {
            bool *seen = xcalloc(count, sizeof(*seen));
            bool twice = false;
            for (uint64_t i = 0; i < count; i++) {
                uint64_t slice = (uint64_t)(u[i * 6 + (uint64_t)j] * (double)count);
                twice = twice || seen[slice];
                seen[slice] = true;
            }
            cr_expect_not(twice, "base %d, %d points", (int)bases[j], (int)count);
            free(seen);
        }
    }
    free(u);
}

Test(quasi, a_latin_hypercube_has_one_point_in_each_slice_and_so_has_the_next)
{
    static const uint64_t sizes[] = {1, 2, 3, 37, 100, 256};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        uint64_t size = sizes[k];
        struct space *s = cube(4);
        struct quasi *q = quasi_create(QUASI_LHS, s, 6, "test", size);
        bool *seen = xcalloc(3 * 4 * size, sizeof(*seen));
        bool twice = false;
        for (uint64_t i = 0; i < 3 * size; i++) {
            double u[4];
            quasi_unit(q, i, u);
            for (uint64_t j = 0; j < 4; j++) {
                uint64_t slice = (uint64_t)(u[j] * (double)size);
                uint64_t at = (i / size * 4 + j) * size + slice;
                twice = twice || seen[at];
                seen[at] = true;
            }
        }
        cr_expect_not(twice, "size %d", (int)size);
        free(seen);
        quasi_destroy(q);
        space_destroy(s);
    }
}

/* Squared centred L2 discrepancy (Hickernell 1998). */
static double discrepancy(const double *u, int n, uint64_t count)
{
    double one = 0;
    double two = 0;
    for (uint64_t i = 0; i < count; i++) {
        double product = 1;
        for (int j = 0; j < n; j++) {
            double z = fabs(u[i * (uint64_t)n + (uint64_t)j] - 0.5);
            product *= 1 + 0.5 * z - 0.5 * z * z;
        }
        one += product;
        for (uint64_t k = 0; k < count; k++) {
            product = 1;
            for (int j = 0; j < n; j++) {
                double a = u[i * (uint64_t)n + (uint64_t)j];
                double b = u[k * (uint64_t)n + (uint64_t)j];
                product *= 1 + 0.5 * fabs(a - 0.5) + 0.5 * fabs(b - 0.5) - 0.5 * fabs(a - b);
            }
            two += product;
        }
    }
    double c = (double)count;
    return pow(13.0 / 12.0, n) - 2 / c * one + two / (c * c);
}

static double mean_discrepancy(enum quasi_kind kind, int n, uint64_t count)
{
    double sum = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        double *u = points_of(kind, n, seed, count);
        sum += discrepancy(u, n, count);
        free(u);
    }
    return sum / 20;
}

/* The means of 20 seeds that scipy 1.17's qmc gives with its own scrambling (Sobol' by the numbers
 * of Joe and Kuo), for the same measure. */
Test(quasi, discrepancy_is_that_of_the_best_known_sequences_and_far_below_random)
{
    static const struct {
        int n;
        uint64_t count;
        double sobol, halton, lhs, random;
    } rows[] = {
        {2, 64, 0.00015668, 0.00026776, 0.0004823, 0.0060579},
        {5, 128, 0.00073053, 0.0012161, 0.003319, 0.012014},
        {5, 200, 0.00056502, 0.00060204, 0.002118, 0.0076573},
        {10, 256, 0.0061121, 0.0074967, 0.014428, 0.027303},
        {20, 512, 0.091968, 0.10589, 0.13006, 0.16193},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double sobol = mean_discrepancy(QUASI_SOBOL, rows[i].n, rows[i].count);
        double halton = mean_discrepancy(QUASI_HALTON, rows[i].n, rows[i].count);
        double lhs = mean_discrepancy(QUASI_LHS, rows[i].n, rows[i].count);
        printf("# %d %d: sobol %g halton %g lhs %g\n", rows[i].n, (int)rows[i].count, sobol, halton,
               lhs);
        cr_expect_lt(sobol, 1.1 * rows[i].sobol, "%d: sobol %g", rows[i].n, sobol);
        cr_expect_lt(halton, 1.15 * rows[i].halton, "%d: halton %g", rows[i].n, halton);
        cr_expect_lt(lhs, 1.15 * rows[i].lhs, "%d: lhs %g", rows[i].n, lhs);
        cr_expect(sobol < 0.6 * rows[i].random && halton < 0.7 * rows[i].random);
    }
}

Test(quasi, a_point_depends_on_space_seed_purpose_and_index_alone)
{
    static const enum quasi_kind kinds[] = {QUASI_SOBOL, QUASI_HALTON, QUASI_LHS};
    for (size_t k = 0; k < 3; k++) {
        struct space *s = cube(3);
        struct quasi *a = quasi_create(kinds[k], s, 1, "test", 50);
        struct quasi *b = quasi_create(kinds[k], s, 1, "test", 50);
        struct quasi *c = quasi_create(kinds[k], s, 2, "test", 50);
        struct quasi *d = quasi_create(kinds[k], s, 1, "other", 50);
        int same = 0;
        for (uint64_t i = 0; i < 50; i++) {
            double ua[3];
            double ub[3];
            double uc[3];
            double ud[3];
            quasi_unit(a, i, ua);
            quasi_unit(b, 49 - i, ub);
            quasi_unit(b, i, ub);
            quasi_unit(c, i, uc);
            quasi_unit(d, i, ud);
            cr_expect(memcmp(ua, ub, sizeof(ua)) == 0);
            same += memcmp(ua, uc, sizeof(ua)) == 0 || memcmp(ua, ud, sizeof(ua)) == 0;
        }
        cr_expect_eq(same, 0);
        quasi_destroy(a);
        quasi_destroy(b);
        quasi_destroy(c);
        quasi_destroy(d);
        space_destroy(s);
    }
}

Test(quasi, every_value_of_a_list_or_range_gets_its_share)
{
    struct space *s = space_of("{\"c\": [\"CATEGORICAL\", [\"a\", \"b\", \"c\", \"d\"]],"
                               " \"i\": [\"INTEGER\", [1, 8]]}");
    struct quasi *q = quasi_create(QUASI_SOBOL, s, 9, "test", 0);
    int c[4] = {0};
    int i[9] = {0};
    for (uint64_t k = 0; k < 64; k++) {
        double p[2];
        quasi_point(q, k, p);
        c[(int)p[0]]++;
        i[(int)p[1]]++;
    }
    for (int k = 0; k < 4; k++) {
        cr_expect_eq(c[k], 16);
    }
    for (int k = 1; k <= 8; k++) {
        cr_expect_eq(i[k], 8);
    }
    quasi_destroy(q);
    space_destroy(s);
}

Test(quasi, trials_do_not_depend_on_results_or_workers)
{
    static const char *const names[] = {"sobol", "halton", "lhs"};
    for (size_t k = 0; k < 3; k++) {
        struct sim a;
        struct sim b;
        char *json = xasprintf("{\"algorithm\": \"%s\"}", names[k]);
        sim_init(&a, MIXED_SPACE, json, 9, 0, 50, 1);
        sim_init(&b, MIXED_SPACE, json, 9, 0, 50, 50);
        b.p_fail = 0.2;
        b.p_stop = 0.1;
        sim_run(&a, 100000);
        sim_run(&b, 100000);
        cr_assert(a.n_trials == 50 && b.n_trials == 50);
        for (int64_t id = 1; id <= 50; id++) {
            cr_expect(space_point_equal(a.space, a.trials[id].point, b.trials[id].point));
        }
        free(json);
        sim_fini(&a);
        sim_fini(&b);
    }
}

Test(quasi, a_design_of_the_limit_of_trials_fills_every_slice)
{
    struct sim m;
    bool seen[40] = {false};
    sim_init(&m, "{\"x\": [\"DOUBLE\", [-3, 5]]}", "{\"algorithm\": \"lhs\"}", 1, 0, 40, 4);
    sim_run(&m, 10000);
    for (int64_t id = 1; id <= 40; id++) {
        int slice = (int)((m.trials[id].point[0] + 3) / 8 * 40);
        cr_expect_not(seen[slice]);
        seen[slice] = true;
    }
    sim_fini(&m);
}

Test(quasi, a_permutation_gives_every_number_once)
{
    for (uint64_t size = 1; size < 70; size++) {
        struct permutation p;
        bool seen[70] = {false};
        bool ok = true;
        permutation_init(&p, size, 77 * size);
        for (uint64_t i = 0; i < size; i++) {
            uint64_t at = permutation_at(&p, i);
            ok = ok && at < size && !seen[at];
            seen[at < size ? at : 0] = true;
        }
        cr_expect(ok, "size %d", (int)size);
    }
}
