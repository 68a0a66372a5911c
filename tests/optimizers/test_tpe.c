/* SPDX-License-Identifier: Apache-2.0
 *
 * Parzen densities against values computed independently (scipy 1.17: truncnorm, norm,
 * multivariate_normal), that they are densities, and what TPE promises beyond the conformance
 * suite.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/parzen.h"
#include "optimizers/sampler.h"
#include "optimizers/shape.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(tpe, .timeout = 200);

static double density_at(const struct parzen *p, const double *point)
{
    struct parzen_spot *at = xcalloc((size_t)p->space->n, sizeof(*at));
    double *scratch = xcalloc(parzen_room(p), sizeof(*scratch));
    parzen_locate(p->space, point, at);
    double v = parzen_log_density(p, at, scratch);
    free(at);
    free(scratch);
    return v;
}

static void put(struct parzen *p, const double *point, const double *widths, double weight)
{
    struct parzen_spot *at = xcalloc((size_t)p->space->n, sizeof(*at));
    double *u = xcalloc((size_t)p->space->n, sizeof(*u));
    parzen_locate(p->space, point, at);
    for (int j = 0; j < p->space->n; j++) {
        u[j] = at[j].u;
    }
    parzen_put(p, p->n, u, widths, weight);
    free(at);
    free(u);
}

/* ---- densities ---- */

Test(tpe, densities_are_those_of_an_independent_implementation)
{
    static const struct {
        const char *space;
        int n;
        double points[2][2], widths[2][2], weights[2], x[2], log_density;
    } cases[] = {
        {"{\"x\": [\"DOUBLE\", [0, 1]]}",
         2,
         {{.3}, {.9}},
         {{.1}, {.2}},
         {1, 2},
         {.35},
         0.15206097237608668},
        {"{\"x\": {\"type\": \"DOUBLE\", \"range\": [0.0001, 0.1], \"scale\": \"log\"}}",
         1,
         {{1e-3}},
         {{.15}},
         {1},
         {1e-2},
         -0.487633889928486},
        {"{\"x\": [\"INTEGER\", [1, 4]]}", 1, {{2}}, {{.2}}, {1}, {3}, -0.013697987507235278},
        {"{\"x\": {\"type\": \"INTEGER\", \"range\": [1, 8], \"scale\": \"log\"}}",
         1,
         {{4}},
         {{.3}},
         {1},
         {2},
         0.06889176298908},
        {"{\"x\": [\"CATEGORICAL\", [\"a\", \"b\", \"c\", \"d\", \"e\"]]}",
         1,
         {{3}},
         {{.4}},
         {1},
         {3},
         0.78845736036427},
        {"{\"x\": [\"CATEGORICAL\", [\"a\", \"b\", \"c\", \"d\", \"e\"]]}",
         1,
         {{3}},
         {{.4}},
         {1},
         {0},
         -0.35667494393873245},
        {"{\"x\": [\"DOUBLE\", [0, 1]], \"y\": [\"DOUBLE\", [0, 1]]}",
         1,
         {{.3, .9}},
         {{.1, .2}},
         {1},
         {.35, .8},
         1.6069394102224235},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space *s = space_of(cases[i].space);
        struct parzen p;
        parzen_init(&p, s, 1);
        for (int k = 0; k < cases[i].n; k++) {
            put(&p, cases[i].points[k], cases[i].widths[k], cases[i].weights[k]);
        }
        double got = density_at(&p, cases[i].x);
        cr_expect_float_eq(got, cases[i].log_density, 1e-9, "case %zu: %.15g", i, got);
        parzen_fini(&p);
        space_destroy(s);
    }
}

Test(tpe, a_turned_kernel_is_a_multivariate_normal)
{
    struct space *s = space_of("{\"x\": [\"DOUBLE\", [0, 1]], \"y\": [\"DOUBLE\", [0, 1]]}");
    struct parzen p;
    parzen_init(&p, s, 1);
    parzen_turn(&p, (const double[]){.03, 0, .02, .01});
    put(&p, (const double[]){.5, .5}, (const double[]){1, 1}, 1);
    double got = density_at(&p, (const double[]){.52, .51});
    cr_expect_float_eq(got, 5.305411472139515, 1e-9, "%.15g", got);
    parzen_fini(&p);
    space_destroy(s);
}

/* Wide, narrow, at the ends and in the tails. */
static void add_kernels(struct parzen *p, const struct space *s)
{
    static const double widths[] = {1, .3, .1, .05, .02};
    for (uint64_t id = 0; id < 40; id++) {
        double point[8];
        double w[8];
        space_sample(s, 5, "kernels", id, point);
        for (int j = 0; j < s->n; j++) {
            w[j] = widths[(id + (uint64_t)j) % 5];
            if (id < 4 && s->params[j].type == PARAM_DOUBLE && !isnan(point[j])) {
                point[j] = id % 2 == 0 ? s->params[j].lo : s->params[j].hi;
            }
        }
        put(p, point, w, 1 + (double)(id % 3));
    }
}

Test(tpe, densities_sum_to_one_over_every_type)
{
    static const char *const spaces[] = {
        "{\"x\": [\"DOUBLE\", [-2, 3]]}",
        "{\"x\": {\"type\": \"DOUBLE\", \"range\": [0.0001, 0.1], \"scale\": \"log\"}}",
        "{\"x\": {\"type\": \"DOUBLE\", \"range\": [0, 0.5], \"step\": 0.05}}",
        "{\"x\": {\"type\": \"INTEGER\", \"range\": [32, 512], \"step\": 32, \"scale\": \"log\"}}",
        "{\"x\": {\"type\": \"INTEGER\", \"range\": [1, 1000], \"scale\": \"log\"}}",
        "{\"x\": [\"INTEGER\", [0, 1000]]}",
        "{\"x\": [\"DISCRETE\", [3, 5, 7]]}",
        "{\"x\": [\"CATEGORICAL\", [\"a\", \"b\", \"c\"]]}",
        "{\"a\": [\"CATEGORICAL\", [\"x\", \"y\"]], \"b\": {\"type\": \"INTEGER\", \"range\": [1, "
        "9], \"when\": {\"a\": [\"x\"]}}}",
    };
    enum { GRID = 20000 };
    for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
        struct space *s = space_of(spaces[i]);
        struct parzen p;
        double sum = 0;
        parzen_init(&p, s, 2);
        add_kernels(&p, s);
        bool finite = isfinite(space_size(s));
        int n = finite ? (int)space_size(s) : GRID;
        for (int k = 0; k < n; k++) {
            double x[2];
            struct parzen_spot at[2];
            double share = 1;
            if (finite) {
                space_grid_point(s, (uint64_t)k, x);
                parzen_locate(s, x, at);
                for (int j = 0; j < s->n; j++) {
                    bool choice = parzen_axis(&s->params[j]) == AXIS_CHOICE;
                    share *= isnan(x[j]) ? 1
                             : choice    ? 1.0 / s->params[j].n_values
                                         : at[j].hi - at[j].lo;
                }
            } else {
                x[0] = param_from_unit(&s->params[0], (k + 0.5) / GRID);
                share = 1.0 / GRID;
            }
            sum += share * exp(density_at(&p, x));
        }
        cr_expect_float_eq(sum, 1, 1e-5, "%s: %.9g", spaces[i], sum);
        parzen_fini(&p);
        space_destroy(s);
    }
}

/* The share of draws in a piece is the density's mass there. */
Test(tpe, samples_follow_the_density)
{
    struct space *s =
        space_of("{\"n\": {\"type\": \"INTEGER\", \"range\": [1, 12], \"scale\": \"log\"}}");
    struct parzen p;
    struct pcg64 g;
    enum { N = 40000 };
    int count[13] = {0};
    parzen_init(&p, s, 1);
    add_kernels(&p, s);
    pcg_stream(&g, 1, "draws", 0);
    for (int k = 0; k < N; k++) {
        double x = 0;
        parzen_sample(&p, &g, NULL, &x);
        count[(int)x]++;
    }
    for (int v = 1; v <= 12; v++) {
        double x = v;
        struct parzen_spot at;
        parzen_locate(s, &x, &at);
        double want = exp(density_at(&p, &x)) * (at.hi - at.lo);
        cr_expect_float_eq(count[v] / (double)N, want, 5 * sqrt(want / N), "%d: %g, not %g", v,
                           count[v] / (double)N, want);
    }
    parzen_fini(&p);
    space_destroy(s);
}

Test(tpe, kernels_put_and_dropped_leave_what_a_fresh_mixture_has)
{
    struct space *s = space_of(MIXED_SPACE);
    struct parzen a;
    struct parzen b;
    double points[30][8];
    double w[8] = {.1, .2, .3, .1, .2, .3, .4, .5};
    parzen_init(&a, s, 1);
    parzen_init(&b, s, 1);
    for (uint64_t id = 0; id < 30; id++) {
        space_sample(s, 1, "k", id, points[id]);
        put(&a, points[id], w, 1);
        if (id != 7 && id != 29) {
            put(&b, points[id], w, 1);
        }
    }
    parzen_drop(&a, 29);
    parzen_drop(&a, 7);
    for (int k = 0; k < 30; k++) {
        cr_expect_float_eq(density_at(&a, points[k]), density_at(&b, points[k]), 1e-12);
    }
    parzen_fini(&a);
    parzen_fini(&b);
    space_destroy(s);
}

/* A long cloud along the diagonal: L has unit volume, and L L' its long axis there. */
Test(tpe, a_shape_has_unit_volume_and_the_directions_of_its_cloud)
{
    enum { N = 200 };
    double points[N][2];
    double weights[N];
    struct pcg64 g;
    double l[4];
    pcg_stream(&g, 1, "cloud", 0);
    for (int k = 0; k < N; k++) {
        double t = pcg64_normal(&g);
        double e = 0.1 * pcg64_normal(&g);
        points[k][0] = 0.5 + 0.1 * (t + e);
        points[k][1] = 0.5 + 0.1 * (t - e);
        weights[k] = 1;
    }
    shape_of(&points[0][0], weights, N, 2, l);
    cr_expect_float_eq(l[0] * l[3], 1, 1e-12);
    cr_expect_eq(l[1], 0);
    double xx = l[0] * l[0];
    double xy = l[0] * l[2];
    double yy = l[2] * l[2] + l[3] * l[3];
    cr_expect(xy / sqrt(xx * yy) > 0.95, "correlation %g", xy / sqrt(xx * yy));
    shape_of(&points[0][0], weights, 1, 2, l);
    cr_expect(fabs(l[0] - 1) < 1e-9 && fabs(l[2]) < 1e-9 && fabs(l[3] - 1) < 1e-9,
              "one point is a ball");
}

/* ---- the search ---- */

#define CUBE                                                                                       \
    "{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]], \"c\": [\"DOUBLE\", [0, 1]], "     \
    "\"d\": [\"DOUBLE\", [0, 1]]}"

static double best_of(const struct sim *m)
{
    double best = INFINITY;
    for (int64_t id = 1; id <= m->n_trials; id++) {
        best = fmin(best, m->f(m->space, m->trials[id].point, INT64_MAX - 1));
    }
    return best;
}

static double median_best(const char *space, const char *json, int64_t trials, int workers)
{
    double best[9];
    for (int seed = 0; seed < 9; seed++) {
        struct sim m;
        sim_init(&m, space, json, (uint64_t)seed, 0, trials, workers);
        sim_run(&m, 1000000);
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

Test(tpe, it_goes_far_beyond_random_alone_and_with_many_workers)
{
    double random = median_best(CUBE, "{\"algorithm\": \"random\"}", 150, 1);
    double alone = median_best(CUBE, "{\"algorithm\": \"tpe\"}", 150, 1);
    double many = median_best(CUBE, "{\"algorithm\": \"tpe\"}", 150, 16);
    cr_expect_lt(alone, random / 50, "%g, random %g", alone, random);
    cr_expect_lt(many, random / 5, "%g, random %g", many, random);
    double mixed = median_best(MIXED_SPACE, "{\"algorithm\": \"tpe\"}", 150, 1);
    double mixed_random = median_best(MIXED_SPACE, "{\"algorithm\": \"random\"}", 150, 1);
    cr_expect_lt(mixed, 0.7 * mixed_random, "%g, random %g", mixed, mixed_random);
}

/* The mean distance between neighbours among 32 pending proposals. */
static double spread(bool liar)
{
    struct sim m;
    double sum = 0;
    sim_init(&m, CUBE,
             liar ? "{\"algorithm\": \"tpe\"}" : "{\"algorithm\": \"tpe\", \"liar\": false}", 3, 0,
             200, 1);
    sim_run(&m, 240);
    int64_t from = m.n_trials + 1;
    m.workers = 64;
    for (int k = 0; k < 32; k++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t i = from; i < from + 32; i++) {
        double nearest = INFINITY;
        for (int64_t j = from; j < from + 32; j++) {
            double d = 0;
            for (int c = 0; c < 4; c++) {
                d += pow(m.trials[i].point[c] - m.trials[j].point[c], 2);
            }
            nearest = j != i ? fmin(nearest, d) : nearest;
        }
        sum += sqrt(nearest) / 32;
    }
    sim_fini(&m);
    return sum;
}

Test(tpe, the_liar_spreads_what_runs_at_the_same_time)
{
    double with = spread(true);
    double without = spread(false);
    cr_expect_gt(with, without, "%g with, %g without", with, without);
}

Test(tpe, it_avoids_where_trials_fail)
{
    struct sim m;
    int bad = 0;
    sim_init(&m, "{\"x\": [\"DOUBLE\", [0, 1]]}", "{\"algorithm\": \"tpe\"}", 1, 0, 120, 1);
    for (int64_t id = 1; id <= 120; id++) {
        cr_assert(sim_ask(&m));
        double x = m.trials[id].point[0];
        /* Half of the range crashes. */
        sim_finish(&m, id, x < 0.5 ? OPT_FAILED : OPT_COMPLETED, x >= 0.5, fabs(x - 0.65));
        bad += id > 60 && x < 0.5;
    }
    cr_expect_lt(bad, 10, "%d of the last 60 failed", bad);
    sim_fini(&m);
}

#define BRANCHES                                                                                   \
    "{\"m\": [\"CATEGORICAL\", [\"a\", \"b\", \"c\", \"d\", \"e\"]],"                              \
    " \"x\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"when\": {\"m\": [\"a\", \"b\"]}},"        \
    " \"y\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"when\": {\"m\": [\"c\", \"d\"]}}}"

/* Branch "c" is best, but only where y is tuned; "e" is as good as "c" on the average. */
static double f_branches(const struct space *s, const double *p, int64_t step)
{
    int m = (int)p[0];
    return m == 4  ? 0.35
           : m < 2 ? 0.2 + (p[1] - 0.5) * (p[1] - 0.5)
                   : (m - 2) * 0.3 + fabs(p[2] - 0.8);
}

Test(tpe, a_branch_that_must_be_tuned_to_be_best_is_found)
{
    int found = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct sim m;
        sim_init(&m, BRANCHES, "{\"algorithm\": \"tpe\"}", seed, 0, 100, 2);
        m.f = f_branches;
        sim_run(&m, 100000);
        for (int64_t id = 1; id <= m.n_trials; id++) {
            const double *p = m.trials[id].point;
            cr_expect(isnan(p[1]) == (p[0] > 1) && isnan(p[2]) == (p[0] != 2 && p[0] != 3));
        }
        found += best_of(&m) < 0.1;
        sim_fini(&m);
    }
    cr_expect_geq(found, 8, "%d of 10", found);
}

static struct sampler *sampler_with(const struct space *s, int objectives, uint64_t seed)
{
    struct opt_config cfg = {.space = s, .seed = seed, .objectives = objectives};
    struct sampler *t = NULL;
    const char *pointer = NULL;
    struct mag_err err = {0};
    cr_assert_eq(sampler_create(sampler_find("tpe"), &cfg, NULL, "tpe", &pointer, &t, &err),
                 MAG_OK);
    return t;
}

static void tell(struct sampler *t, int64_t trial, const double *point, int64_t budget,
                 double value)
{
    struct opt_result r = opt_result_of(&value);
    sampler_pending(t, trial, point);
    sampler_observe(t, trial, budget, &r);
    sampler_ended(t, trial, OPT_COMPLETED);
}

/* The mean of what is proposed for the 20 trials from `id` on. */
static double mean_of_proposals(struct sampler *t, int64_t id)
{
    double sum = 0;
    for (int64_t i = 0; i < 20; i++) {
        double x = 0;
        cr_assert(sampler_propose(t, id + i, &x));
        sum += x / 20;
    }
    return sum;
}

/* Low budgets mislead: the highest one that has enough results is modelled. */
Test(tpe, the_highest_budget_with_enough_results_is_modelled)
{
    struct space *s = space_of("{\"x\": [\"DOUBLE\", [0, 1]]}");
    struct sampler *t = sampler_with(s, 1, 1);
    for (int64_t id = 1; id <= 60; id++) {
        double x = (double)id / 61;
        tell(t, id, &x, 1, x);
    }
    double low = mean_of_proposals(t, 61);
    for (int64_t id = 61; id < 90; id++) {
        double x = (double)(id - 60) / 31;
        tell(t, id, &x, 9, -x);
    }
    double too_few = mean_of_proposals(t, 90);
    double x = 30.0 / 31;
    tell(t, 90, &x, 9, -x);
    double high = mean_of_proposals(t, 91);
    cr_expect(low < 0.3 && too_few < 0.3 && high > 0.7, "%g, %g with 29 results, then %g", low,
              too_few, high);
    sampler_destroy(t);
    space_destroy(s);
}

Test(tpe, results_of_others_are_learnt_from_and_proposals_start_there)
{
    struct space *s = space_of("{\"x\": [\"DOUBLE\", [0, 1]]}");
    struct sampler *t = sampler_with(s, 1, 1);
    double mean = 0;
    for (int k = 0; k < 30; k++) {
        double x = (k + 0.5) / 30;
        double v = fabs(x - 0.8);
        struct opt_result r = opt_result_of(&v);
        sampler_others(t, &x, 0, &r);
    }
    for (int64_t id = 1; id <= 20; id++) {
        double x = 0;
        cr_assert(sampler_propose(t, id, &x));
        mean += x / 20;
    }
    cr_expect_float_eq(mean, 0.8, 0.15, "%g", mean);
    sampler_destroy(t);
    space_destroy(s);
}

/* Infeasible below 0.5, where the objective is best: the search settles on the border. */
Test(tpe, feasible_results_go_before_better_ones_that_violate)
{
    struct space *s = space_of("{\"x\": [\"DOUBLE\", [0, 1]]}");
    struct sampler *t = sampler_with(s, 1, 1);
    int feasible = 0;
    int near = 0;
    for (int64_t id = 1; id <= 100; id++) {
        double x = 0;
        cr_assert(sampler_propose(t, id, &x));
        struct opt_result r = {.value = x, .values = &x, .violation = fmax(0, 0.5 - x)};
        sampler_pending(t, id, &x);
        sampler_observe(t, id, 0, &r);
        sampler_ended(t, id, OPT_COMPLETED);
        feasible += id > 50 && x >= 0.5;
        near += id > 50 && fabs(x - 0.5) < 0.1;
    }
    cr_expect(feasible > 15 && near > 35, "%d and %d of the last 50", feasible, near);
    sampler_destroy(t);
    space_destroy(s);
}

/* x^2 and (x - 2)^2 along one coordinate, the other coordinates want to be 0.5: the front is
 * reached, and along all of its length. */
Test(tpe, several_objectives_find_the_whole_front)
{
    struct space *s = space_of(
        "{\"x\": [\"DOUBLE\", [-5, 5]], \"y\": [\"DOUBLE\", [0, 1]], \"z\": [\"DOUBLE\", [0, 1]]}");
    for (int m = 2; m <= 4; m++) {
        struct sampler *t = sampler_with(s, m, 7);
        int near = 0;
        int part[4] = {0};
        for (int64_t id = 1; id <= 150; id++) {
            double p[3];
            cr_assert(sampler_propose(t, id, p));
            double off = pow(p[1] - 0.5, 2) + pow(p[2] - 0.5, 2);
            double v[4] = {p[0] * p[0] + off, pow(p[0] - 2, 2) + off, off, off + 1};
            struct opt_result r = {.value = v[0], .values = v};
            sampler_pending(t, id, p);
            sampler_observe(t, id, 0, &r);
            sampler_ended(t, id, OPT_COMPLETED);
            bool on = p[0] >= 0 && p[0] <= 2 && off < 0.05;
            near += id > 75 && on;
            part[on ? (int)fmin(3, p[0] * 2) : 0] += on;
        }
        /* A random point is there with probability 0.03. */
        cr_expect_gt(near, 25, "%d objectives: %d of the last 75", m, near);
        cr_expect(part[0] > 0 && part[1] > 0 && part[2] > 0 && part[3] > 0, "%d objectives", m);
        sampler_destroy(t);
    }
    space_destroy(s);
}

Test(tpe, a_categorical_of_a_thousand_values_and_256_parameters_work)
{
    struct buf {
        char *at;
    } many = {xasprintf("{\"c\": [\"CATEGORICAL\", [\"v0\"")};
    for (int k = 1; k < 1000; k++) {
        char *next = xasprintf("%s, \"v%d\"", many.at, k);
        free(many.at);
        many.at = next;
    }
    char *space = xasprintf("%s]], \"x\": [\"DOUBLE\", [0, 1]]}", many.at);
    struct sim m;
    int seen = 0;
    sim_init(&m, space, "{\"algorithm\": \"tpe\"}", 1, 0, 120, 4);
    sim_run(&m, 100000);
    for (int64_t id = 61; id <= 120; id++) { /* f_sphere wants the index at 0.7 of them */
        seen += fabs(m.trials[id].point[1] - 0.7) < 0.2;
    }
    cr_expect(m.n_trials == 120 && seen > 35, "%d of 60 near the optimum of x", seen);
    sim_fini(&m);
    free(space);
    free(many.at);

    char *wide = xasprintf("{\"p0\": [\"DOUBLE\", [0, 1]]");
    for (int k = 1; k < 256; k++) {
        char *next = xasprintf("%s, \"p%d\": [\"%s\", [0, %d]]", wide, k,
                               k % 2 == 0 ? "DOUBLE" : "INTEGER", 1 + k % 7);
        free(wide);
        wide = next;
    }
    char *all = xasprintf("%s}", wide);
    sim_init(&m, all, "{\"algorithm\": \"tpe\"}", 1, 0, 40, 4);
    sim_run(&m, 100000);
    cr_expect_eq(m.n_trials, 40);
    sim_fini(&m);
    free(all);
    free(wide);
}

/* Beyond the bounds of its memory it gives distinct valid points, and loads to the same. */
Test(tpe, long_histories_are_sampled_and_reload_to_the_same_proposals)
{
    struct space *s = space_of(CUBE);
    struct sampler *a = sampler_with(s, 1, 9);
    struct sampler *b = sampler_with(s, 1, 9);
    for (int64_t id = 1; id <= 3000; id++) {
        double p[4];
        space_sample(s, 1, "long", (uint64_t)id, p);
        tell(a, id, p, 0, fabs(p[0] - 0.3) + fabs(p[1] - 0.6));
    }
    json_t *record = sampler_save(a);
    cr_assert_eq(sampler_load(b, record, NULL), MAG_OK);
    for (int64_t id = 3001; id < 3011; id++) {
        double p[4];
        double q[4];
        cr_assert(sampler_propose(a, id, p) && sampler_propose(b, id, q));
        cr_expect(memcmp(p, q, sizeof(p)) == 0);
        cr_expect(fabs(p[0] - 0.3) < 0.3 || fabs(p[1] - 0.6) < 0.3);
    }
    json_decref(record);
    sampler_destroy(a);
    sampler_destroy(b);
    space_destroy(s);
}
