/* SPDX-License-Identifier: Apache-2.0
 *
 * A search that has settled in one basin looks elsewhere: when it has settled, what belongs to the
 * basin, and that the whole finds better ones.
 */
#include "harness.h"

#include "optimizers/gp_basin.h"
#include "optimizers/gp_data.h"

#include <criterion/criterion.h>
#include <math.h>

TestSuite(gp_basin, .timeout = 100);

/* Two parabolas in the plane, 1 at (0.2, 0.3) and 1.1 at (0.8, 0.7). */
static double two_basins(const double *p)
{
    double a = 4 * ((p[0] - 0.2) * (p[0] - 0.2) + (p[1] - 0.3) * (p[1] - 0.3));
    double b = 0.1 + 4 * ((p[0] - 0.8) * (p[0] - 0.8) + (p[1] - 0.7) * (p[1] - 0.7));
    return 1 + fmin(a, b);
}

#define GRID 36  /* results over the square */
#define ROUND 16 /* and round one point */

struct places {
    struct space *space;
    struct gp_domain domain;
    double at[GRID + ROUND][2], y[GRID + ROUND];
    const double *x[GRID + ROUND];
    struct gp_results r;
};

/* A grid over the square and points within `radius` of (0.2, 0.3). */
static void places_init(struct places *p, double radius)
{
    struct opt_resource none = {0};
    p->space = space_of("{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]]}");
    gp_domain_init(&p->domain, p->space, &none);
    for (int i = 0; i < GRID + ROUND; i++) {
        double t = i - GRID;
        p->at[i][0] = i < GRID ? (i % 6 + 0.5) / 6 : 0.2 + radius * t / ROUND * cos(t);
        p->at[i][1] = i < GRID ? (i / 6 + 0.5) / 6 : 0.3 + radius * t / ROUND * sin(t);
        p->y[i] = two_basins(p->at[i]);
        p->x[i] = p->at[i];
    }
    p->r = (struct gp_results){.domain = &p->domain, .x = p->x, .y = p->y, .n = GRID + ROUND};
}

static void places_fini(struct places *p)
{
    gp_domain_fini(&p->domain);
    space_destroy(p->space);
}

Test(gp_basin, a_search_has_settled_where_results_lie_close_and_are_equal)
{
    struct places p;
    places_init(&p, 0.001);
    cr_expect(gp_basin_settled(&p.r, GRID));
    cr_expect_not(gp_basin_settled(&p.r, GRID - 1), "nothing else is near");
    p.r.n = GRID + 4;
    cr_expect(gp_basin_settled(&p.r, GRID), "n + 2 results are enough");
    p.r.n = GRID + 3;
    cr_expect_not(gp_basin_settled(&p.r, GRID), "n + 1 are not");
    places_fini(&p);
    places_init(&p, 0.2);
    cr_expect_not(gp_basin_settled(&p.r, GRID), "near but not equal: it still goes down");
    places_fini(&p);
}

/* With values y * scale + shift: 3 bits, has it settled where it stands, with one result too few,
 * and where results are near but not equal? */
static int settled_with(double scale, double shift)
{
    static const struct {
        double radius;
        int n;
    } cases[] = {{0.001, GRID + ROUND}, {0.001, GRID + 3}, {0.2, GRID + ROUND}};
    int bits = 0;
    for (int c = 0; c < 3; c++) {
        struct places p;
        places_init(&p, cases[c].radius);
        p.r.n = cases[c].n;
        for (int i = 0; i < p.r.n; i++) {
            p.y[i] = p.y[i] * scale + shift;
        }
        bits |= gp_basin_settled(&p.r, GRID) << c;
        places_fini(&p);
    }
    return bits;
}

Test(gp_basin, neither_the_unit_nor_the_zero_of_the_values_decides_whether_it_has_settled)
{
    static const double scales[] = {1e-6, 1, 1e6};
    static const double shifts[] = {-1, 0, 1, -1000}; /* times the scale; the best is 1 */
    for (int i = 0; i < 12; i++) {
        double scale = scales[i / 4];
        double shift = shifts[i % 4] * scale;
        cr_expect_eq(settled_with(scale, shift), 1, "y * %g + %g", scale, shift);
    }
}

Test(gp_basin, a_thinned_set_keeps_the_best_of_results_that_lie_close)
{
    struct places p;
    int pick[GRID + ROUND];
    places_init(&p, 0.001);
    cr_assert_eq(gp_basin_thin(&p.r, pick), GRID + 1);
    cr_expect_eq(pick[GRID], GRID, "of those round the optimum the one that stands in it");
    places_fini(&p);
}

Test(gp_basin, the_level_is_the_best_result_beyond_the_hill_round_the_basin)
{
    struct places p;
    struct gp_basins b;
    int pick[GRID + ROUND];
    double y[GRID + ROUND];
    double z[GRID + ROUND];
    double theta[4];
    places_init(&p, 0.001);
    int m = gp_basin_thin(&p.r, pick);
    for (int i = 0; i < m; i++) {
        y[i] = p.y[pick[i]];
    }
    (void)gp_data_targets(y, m, 1, z);
    gp_theta_default(2, theta);
    gp_basins_init(&b, &p.r, pick, m, z, theta);
    const double second[] = {0.75, 0.75}; /* of the grid, the nearest to the second optimum */
    cr_expect_eq(b.n, 1);
    cr_expect_eq(b.level, two_basins(second), "%g", b.level);
    cr_expect(gp_basins_have(&b, p.at[GRID]), "its own best");
    cr_expect(gp_basins_have(&b, (const double[]){0.3, 0.35}), "a slope of it");
    cr_expect_not(gp_basins_have(&b, (const double[]){0.8, 0.7}), "the other basin");
    gp_basins_fini(&b);
    places_fini(&p);
}

/* Best value of `trials` trials, one after another. */
static double best_of(const char *json, const char *space, double (*f)(const double *),
                      uint64_t seed, int trials)
{
    struct space *s = space_of(space);
    struct optimizer *o = optimizer_of(json, s, seed, 0, 0, trials);
    double point[4];
    double best = INFINITY;
    for (int64_t id = 1; id <= trials; id++) {
        struct opt_suggestion out = {.point = point};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        cr_assert_eq(out.answer, OPT_TRIAL);
        optimizer_adopt(o, &out);
        double y = f(point);
        best = fmin(best, y);
        finish_value(o, id, OPT_COMPLETED, y);
    }
    optimizer_destroy(o);
    space_destroy(s);
    return best;
}

/* A wide basin that ends at 0 and on its slope one half as wide that ends below -0.05. */
static double decoy(const double *p)
{
    double wide = 0;
    double narrow = 0;
    for (int j = 0; j < 4; j++) {
        wide += (p[j] - 0.7) * (p[j] - 0.7);
        narrow += (p[j] - 0.25) * (p[j] - 0.25);
    }
    return 0.95 - 0.95 * exp(-3 * wide) - 0.95 * exp(-12 * narrow);
}

Test(gp_basin, a_search_that_has_settled_finds_the_better_basin_elsewhere)
{
    const char *space = "{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]],"
                        " \"c\": [\"DOUBLE\", [0, 1]], \"d\": [\"DOUBLE\", [0, 1]]}";
    int found = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        found += best_of("{\"algorithm\": \"gp\"}", space, decoy, seed, 120) < -0.05;
    }
    cr_expect_geq(found, 3, "%d of 8 searches", found);
}
