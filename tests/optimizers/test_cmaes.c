/* SPDX-License-Identifier: Apache-2.0
 *
 * CMA-ES: its parts against their definitions, and the whole against figures of the literature and
 * of the reference implementation.
 */
#include "harness.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "optimizers/cma_axes.h"
#include "optimizers/cma_model.h"
#include "optimizers/eigen.h"
#include "space/constraint.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(cmaes, .timeout = 100);

/* ---- eigenvectors ---- */

static void check_eigen(int n, uint64_t seed, double spread)
{
    double *a = xcalloc((size_t)(n * n), sizeof(*a));
    double *b = xcalloc((size_t)(n * n), sizeof(*b));
    double *d = xcalloc((size_t)n, sizeof(*d));
    double *work = xcalloc((size_t)n, sizeof(*work));
    struct pcg64 g;
    double size = 0;
    double off = 0;
    double skew = 0;
    pcg_stream(&g, seed, "eigen", 0);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double v = (pcg64_double(&g) - 0.5) * pow(spread, (double)(i + j) / (2 * n));
            a[i * n + j] = a[j * n + i] = b[i * n + j] = b[j * n + i] = v;
            size = fmax(size, fabs(v));
        }
    }
    cr_assert(eigen_symmetric(n, a, d, work));
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            double sum = 0;
            double dot = 0;
            for (int k = 0; k < n; k++) {
                sum += a[i * n + k] * d[k] * a[j * n + k];
                dot += a[k * n + i] * a[k * n + j];
            }
            off = fmax(off, fabs(sum - b[i * n + j]));
            skew = fmax(skew, fabs(dot - (i == j)));
        }
    }
    bool rising = true;
    for (int i = 1; i < n; i++) {
        rising = rising && d[i] >= d[i - 1];
    }
    cr_expect(off <= 1e-13 * n * (1 + size), "n %d: off by %g", n, off);
    cr_expect(skew <= 1e-14 * n, "n %d: not orthonormal by %g", n, skew);
    cr_expect(rising);
    free(a);
    free(b);
    free(d);
    free(work);
}

Test(cmaes, eigenvectors_are_orthonormal_and_give_the_matrix_back)
{
    for (int n = 1; n <= 12; n++) {
        check_eigen(n, (uint64_t)n, 1);
        check_eigen(n, (uint64_t)n, 1e8);
    }
    check_eigen(60, 1, 1e4);
}

Test(cmaes, eigenvalues_of_known_matrices_and_of_none)
{
    double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    double known[9] = {2, -1, 0, -1, 2, -1, 0, -1, 2}; /* 2 - sqrt 2, 2, 2 + sqrt 2 */
    double none[4] = {1, NAN, NAN, 1};
    double d[3];
    double work[3];
    cr_assert(eigen_symmetric(3, identity, d, work));
    cr_expect(d[0] == 1 && d[1] == 1 && d[2] == 1);
    cr_assert(eigen_symmetric(3, known, d, work));
    cr_expect_float_eq(d[0], 2 - M_SQRT2, 1e-14);
    cr_expect_float_eq(d[1], 2, 1e-14);
    cr_expect_float_eq(d[2], 2 + M_SQRT2, 1e-14);
    cr_expect_not(eigen_symmetric(2, none, d, work));
}

/* ---- the distribution ---- */

/* What pycma 4.5 has for the same n and lambda. */
Test(cmaes, weights_and_rates_are_those_of_the_tutorial)
{
    static const struct {
        int n, lambda;
        double mu_eff, c1, c_mu, c_sigma, d_sigma, c_c, first, last;
    } rows[] = {
        {5, 8, 2.60017882611318, 0.047292304159400896, 0.04785904960298248, 0.24, 1.24,
         0.45019955799280803, 0.52993, -0.811149},
        {10, 10, 3.1672992814107017, 0.015283824524751714, 0.02355177665041747, 0.2844, 1.2844,
         0.29499038303562225, 0.456273, -0.54975},
        {20, 12, 3.729458934303067, 0.004372354435160246, 0.009216561776274352, 0, 0,
         0.17176721127681213, 0.402403, -0.415204},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cma c;
        double mean[20] = {0};
        double sum = 0;
        int n = rows[i].n;
        cma_init(&c, &(struct cma_setup){.n = n, .lambda = rows[i].lambda});
        cma_start(&c, rows[i].lambda, mean, 0.3, NULL);
        cr_expect_float_eq(c.mu_eff, rows[i].mu_eff, 1e-12);
        cr_expect_float_eq(c.c1, rows[i].c1, 1e-12);
        cr_expect_float_eq(c.c_mu, rows[i].c_mu, 1e-12, "%g", c.c_mu);
        cr_expect_float_eq(c.c_c, rows[i].c_c, 1e-12);
        /* The tutorial's, equations 55 and 56; pycma's differ by design. */
        cr_expect_float_eq(c.c_sigma, (c.mu_eff + 2) / (n + c.mu_eff + 5), 1e-12);
        cr_expect_float_eq(c.d_sigma, 1 + c.c_sigma, 1e-12);
        cr_expect_float_eq(c.weights[0], rows[i].first, 1e-6);
        cr_expect_float_eq(c.weights[rows[i].lambda - 1], rows[i].last, 1e-6, "%g",
                           c.weights[rows[i].lambda - 1]);
        for (int k = 0; k < c.mu; k++) {
            sum += c.weights[k];
        }
        cr_expect_float_eq(sum, 1, 1e-12);
        cma_fini(&c);
    }
}

static double f_ball(int n, const double *x)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sum;
}

static double f_ellipsoid(int n, const double *x)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += pow(10, 6.0 * i / (n - 1)) * x[i] * x[i];
    }
    return sum;
}

static double f_valley(int n, const double *x)
{
    double sum = 0;
    for (int i = 0; i + 1 < n; i++) {
        double a = x[i + 1] - x[i] * x[i];
        sum += 100 * a * a + (1 - x[i]) * (1 - x[i]);
    }
    return sum;
}

/* Evaluations until a value below 1e-8, by plain generations without walls. */
static double evaluations(struct cma *c, double (*f)(int, const double *), double from,
                          uint64_t seed)
{
    int n = c->is.n;
    int lambda = c->is.lambda;
    double mean[32];
    double *x = xcalloc((size_t)(lambda * n), sizeof(*x));
    const double *row[64];
    double value[64];
    bool foreign[64] = {false};
    int64_t count = 0;
    double best = INFINITY;
    for (int i = 0; i < n; i++) {
        mean[i] = from;
    }
    cma_start(c, lambda, mean, 0.5, NULL);
    for (uint64_t g = 0; best > 1e-8 && count < 100000; g++) {
        struct pcg64 p;
        pcg_stream(&p, seed, "generation", g);
        for (int k = 0; k < lambda; k++) {
            cma_sample(c, &p, x + k * n);
            double v = f(n, x + k * n);
            int at = k;
            for (; at > 0 && value[at - 1] > v; at--) {
                value[at] = value[at - 1];
                row[at] = row[at - 1];
            }
            value[at] = v;
            row[at] = x + k * n;
            best = fmin(best, v);
            count++;
        }
        cma_update(c, row, foreign);
    }
    free(x);
    return (double)count;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_evaluations(const struct cma_setup *setup, double (*f)(int, const double *),
                                 double from)
{
    enum { SEEDS = 15 };
    double v[SEEDS];
    struct cma c;
    cma_init(&c, setup);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        v[seed] = evaluations(&c, f, from, seed);
    }
    cma_fini(&c);
    qsort(v, SEEDS, sizeof(v[0]), by_value);
    return v[SEEDS / 2];
}

/* Medians of 15 seeds of pycma 4.5 to 1e-8, first step .5: within a sixth. */
Test(cmaes, evaluations_to_the_optimum_are_those_of_the_reference_implementation)
{
    static const struct {
        const char *name;
        double (*f)(int, const double *);
        double from;
        int n, lambda;
        double reference;
    } rows[] = {
        {"sphere", f_ball, 1, 5, 8, 624},          {"sphere", f_ball, 1, 10, 10, 1360},
        {"ellipsoid", f_ellipsoid, 1, 5, 8, 1415}, {"ellipsoid", f_ellipsoid, 1, 10, 10, 3949},
        {"rosenbrock", f_valley, 0, 5, 8, 1572},   {"rosenbrock", f_valley, 0, 10, 10, 5181},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double m = median_evaluations(&(struct cma_setup){.n = rows[i].n, .lambda = rows[i].lambda},
                                      rows[i].f, rows[i].from);
        printf("# %s %d: %g, reference %g\n", rows[i].name, rows[i].n, m, rows[i].reference);
        cr_expect(m > rows[i].reference * 5 / 6 && m < rows[i].reference * 7 / 6,
                  "%s %d: %g, reference %g", rows[i].name, rows[i].n, m, rows[i].reference);
    }
}

/* Ros and Hansen 2008: the diagonal learns (n + 2) / 3 times as fast on a separable function. */
Test(cmaes, the_separable_variant_is_faster_where_parameters_do_not_act_together)
{
    struct cma_setup full = {.n = 20, .lambda = 12};
    struct cma_setup separable = {.n = 20, .lambda = 12, .separable = true};
    double a = median_evaluations(&full, f_ellipsoid, 1);
    double b = median_evaluations(&separable, f_ellipsoid, 1);
    printf("# full %g separable %g\n", a, b);
    cr_expect_lt(b, a / 2, "full %g separable %g", a, b);
}

/* ---- the whole ---- */

static char *cube(int n, double lo, double hi)
{
    struct buf b = {0};
    for (int i = 0; i < n; i++) {
        buf_addf(&b, "%s\"x%02d\": [\"DOUBLE\", [%g, %g]]", i > 0 ? ", " : "{", i, lo, hi);
    }
    buf_adds(&b, "}");
    return b.data;
}

static double f_branin(const struct space *s, const double *p, int64_t step)
{
    double x = 15 * p[0] - 5;
    double y = 15 * p[1];
    double a = y - 5.1 / (4 * M_PI * M_PI) * x * x + 5 / M_PI * x - 6;
    return a * a + 10 * (1 - 1 / (8 * M_PI)) * cos(x) + 10 - 0.397887357729738;
}

static double f_hartmann6(const struct space *s, const double *p, int64_t step)
{
    static const double alpha[] = {1, 1.2, 3, 3.2};
    static const double a[4][6] = {{10, 3, 17, 3.5, 1.7, 8},
                                   {0.05, 10, 17, 0.1, 8, 14},
                                   {3, 3.5, 1.7, 10, 17, 8},
                                   {17, 8, 0.05, 10, 0.1, 14}};
    static const double c[4][6] = {{1312, 1696, 5569, 124, 8283, 5886},
                                   {2329, 4135, 8307, 3736, 1004, 9991},
                                   {2348, 1451, 3522, 2883, 3047, 6650},
                                   {4047, 8828, 8732, 5743, 1091, 381}};
    double sum = 3.322368011415515;
    for (int i = 0; i < 4; i++) {
        double e = 0;
        for (int j = 0; j < 6; j++) {
            e += a[i][j] * (p[j] - c[i][j] / 10000) * (p[j] - c[i][j] / 10000);
        }
        sum -= alpha[i] * exp(-e);
    }
    return sum;
}

static double f_rosenbrock(const struct space *s, const double *p, int64_t step)
{
    return f_valley(s->n, p);
}

static double f_ackley(const struct space *s, const double *p, int64_t step)
{
    double squares = 0;
    double cosines = 0;
    for (int i = 0; i < s->n; i++) {
        squares += (p[i] - 7) * (p[i] - 7) / s->n;
        cosines += cos(2 * M_PI * (p[i] - 7)) / s->n;
    }
    return 20 + M_E - 20 * exp(-0.2 * sqrt(squares)) - exp(cosines);
}

/* The median over seeds of the best value. */
static double median_best(const char *json, const char *space,
                          double (*f)(const struct space *, const double *, int64_t),
                          int64_t trials, int workers)
{
    enum { SEEDS = 11 };
    double v[SEEDS];
    for (int seed = 0; seed < SEEDS; seed++) {
        struct sim m;
        sim_init(&m, space, json, (uint64_t)seed + 40, 0, trials, workers);
        m.f = f;
        sim_run(&m, 1000000);
        cr_assert(m.done);
        v[seed] = INFINITY;
        for (int64_t id = 1; id <= m.n_trials; id++) {
            v[seed] = fmin(v[seed], f(m.space, m.trials[id].point, 1));
        }
        sim_fini(&m);
    }
    qsort(v, SEEDS, sizeof(v[0]), by_value);
    return v[SEEDS / 2];
}

/* Half of what the better of Optuna 5's TPE and CMA-ES reaches (medians of 20 seeds). */
Test(cmaes, regrets_of_the_classics_are_half_of_the_best_known_samplers_at_most)
{
    static const struct {
        const char *name;
        int n;
        double lo, hi;
        double (*f)(const struct space *, const double *, int64_t);
        int64_t trials;
        double most;
    } rows[] = {
        {"branin", 2, 0, 1, f_branin, 100, 0.0135 / 2},
        {"hartmann6", 6, 0, 1, f_hartmann6, 150, 0.0485 / 2},
        {"rosenbrock5", 5, -2.048, 2.048, f_rosenbrock, 200, 3.53 / 2},
        {"ackley10", 10, -32.8, 32.8, f_ackley, 200, 8.1 / 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *space = cube(rows[i].n, rows[i].lo, rows[i].hi);
        double m = median_best("{\"algorithm\": \"cmaes\"}", space, rows[i].f, rows[i].trials, 1);
        printf("# %s %g\n", rows[i].name, m);
        cr_expect_leq(m, rows[i].most, "%s: %g", rows[i].name, m);
        free(space);
    }
}

/* Optuna 5's constant-liar TPE: .065 with 8 workers, .339 with 32 (exponential durations). */
Test(cmaes, many_workers_cost_little)
{
    char *space = cube(6, 0, 1);
    double eight = median_best("{\"algorithm\": \"cmaes\"}", space, f_hartmann6, 200, 8);
    double many = median_best("{\"algorithm\": \"cmaes\"}", space, f_hartmann6, 200, 32);
    printf("# 8 workers %g, 32 workers %g\n", eight, many);
    cr_expect_leq(eight, 0.03, "%g", eight);
    cr_expect_leq(many, 0.15, "%g", many);
    free(space);
}

/* ---- integers and categories ---- */

Test(cmaes, the_normal_quantile_is_the_inverse_of_the_distribution)
{
    cr_expect_float_eq(cma_normal_cdf(1.959963984540054), 0.975, 1e-12);
    cr_expect_float_eq(cma_normal_quantile(0.975), 1.959963984540054, 1e-9);
    for (double p = 1e-9; p < 1; p = p < 0.1 ? p * 3 : p + 0.07) {
        cr_expect_float_eq(cma_normal_cdf(cma_normal_quantile(p)), p, 1e-9 * p + 1e-15, "%g", p);
    }
}

/* The part of the distribution of coordinate 0 that lies outside the cell of its mean. */
static double outside_cell(const struct cma *c, double cells)
{
    double sd = c->sigma * c->scale[0] * sqrt(cma_variance(c, 0));
    double k = fmin(floor(fmin(fmax(c->mean[0], 0), 1) * cells), cells - 1);
    double below = k > 0 ? cma_normal_cdf((k / cells - c->mean[0]) / sd) : 0;
    double above = k + 1 < cells ? cma_normal_cdf((c->mean[0] - (k + 1) / cells) / sd) : 0;
    return below + above;
}

/* Section 4 of Hamano et al.: however small the step has become. */
Test(cmaes, the_margin_keeps_the_next_values_within_reach)
{
    struct space *s = space_of("{\"k\": [\"INTEGER\", [0, 9]], \"x\": [\"DOUBLE\", [0, 1]]}");
    struct cma_axes a;
    struct cma c;
    const double margin = 0.05;
    cma_axes_init(&a, s);
    cr_assert_eq(a.n, 2);
    cma_init(&c, &(struct cma_setup){.n = 2, .lambda = 6});
    for (double at = 0.005; at < 1; at += 0.0317) {
        double mean[2] = {at, 0.5};
        cma_start(&c, 6, mean, 1e-3, NULL);
        double k = floor(c.mean[0] * 10);
        cma_axes_margin(&a, &c, margin);
        cr_expect_eq(floor(fmin(c.mean[0], 0.999) * 10), k, "the margin moved the mean's value");
        cr_expect_geq(outside_cell(&c, 10), margin * 0.999, "at %g: %g", at, outside_cell(&c, 10));
        cr_expect_leq(outside_cell(&c, 10), fmax(0.5, margin), "at %g", at);
        cr_expect(c.mean[1] == 0.5 && c.scale[1] == 1, "a continuous coordinate is left alone");
    }
    cma_fini(&c);
    cma_axes_fini(&a);
    space_destroy(s);
}

static double f_off_middle(const struct space *s, const double *p, int64_t step)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++) {
        if (!param_is_ordered(&s->params[i])) {
            sum += p[i] == 2 ? 0 : 0.1;
        } else {
            double u = param_to_unit(&s->params[i], p[i]) - param_to_unit(&s->params[i], 3);
            sum += u * u * (s->params[i].type == PARAM_DOUBLE ? 1 : 10);
        }
    }
    return sum;
}

/* Without the margin the step collapses along the real numbers first, and integers freeze. */
Test(cmaes, integers_and_categories_are_solved_with_real_numbers)
{
    static const struct {
        const char *space, *options;
        int64_t trials;
        double most;
    } rows[] = {
        {"{\"i\": [\"INTEGER\", [-9, 10]], \"j\": [\"INTEGER\", [0, 40]], \"k\": [\"INTEGER\", [1, "
         "7]],"
         " \"x\": [\"DOUBLE\", [0, 10]], \"y\": [\"DOUBLE\", [-4, 20]]}",
         "{\"algorithm\": \"cmaes\", \"model\": \"none\"}", 600, 1e-6},
        {"{\"i\": [\"INTEGER\", [-9, 10]], \"k\": {\"type\": \"INTEGER\", \"range\": [1, 1000],"
         " \"scale\": \"log\"}, \"x\": [\"DOUBLE\", [0, 10]]}",
         "{\"algorithm\": \"cmaes\"}", 200, 1e-6},
        {"{\"a\": [\"CATEGORICAL\", [\"p\", \"q\", \"r\", \"s\", \"t\"]],"
         " \"b\": [\"CATEGORICAL\", [\"p\", \"q\", \"r\"]], \"x\": [\"DOUBLE\", [0, 10]],"
         " \"y\": [\"DOUBLE\", [-4, 20]]}",
         "{\"algorithm\": \"cmaes\"}", 400, 1e-3},
        {"{\"a\": [\"CATEGORICAL\", [\"p\", \"q\", \"r\", \"s\", \"t\"]],"
         " \"b\": [\"CATEGORICAL\", [\"p\", \"q\", \"r\", \"s\"]],"
         " \"c\": [\"CATEGORICAL\", [\"p\", \"q\", \"r\", \"s\"]]}",
         "{\"algorithm\": \"cmaes\"}", 60, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double m = median_best(rows[i].options, rows[i].space, f_off_middle, rows[i].trials, 3);
        printf("# mixed %zu: %g\n", i, m);
        cr_expect_leq(m, rows[i].most, "row %zu: %g", i, m);
    }
}

/* ---- the model ---- */

static double f_quadratic(const double *x)
{
    double a = x[0] - 0.3;
    double b = x[1] - 0.6;
    double c = x[2] - 0.55;
    return 7 + a * a + 30 * b * b + 4 * c * c + 5 * a * b - 3 * b * c;
}

Test(cmaes, the_model_is_exact_on_quadratics_and_finds_their_optimum)
{
    struct cma c;
    struct cma_model m;
    struct pcg64 g;
    double mean[3] = {0.4, 0.5, 0.5};
    double x[3];
    cma_init(&c, &(struct cma_setup){.n = 3, .lambda = 7});
    cma_start(&c, 7, mean, 0.2, NULL);
    cma_model_init(&m, 3, 7);
    pcg_stream(&g, 1, "model", 0);
    cr_expect_not(cma_model_fit(&m, &c), "there is nothing to fit");
    for (int i = 0; i < 20; i++) {
        cma_sample(&c, &g, x);
        cma_model_add(&m, x, f_quadratic(x));
    }
    cr_assert(cma_model_fit(&m, &c));
    cr_expect_eq(m.terms, 10);
    for (int i = 0; i < 20; i++) {
        cma_sample(&c, &g, x);
        cr_expect_float_eq(cma_model_value(&m, x), f_quadratic(x), 1e-5);
    }
    cr_expect_float_eq(cma_model_tau(&m, 15), 1, 1e-12);
    cr_assert(cma_model_best(&m, &c, 10, x));
    cr_expect_float_eq(x[0], 0.3, 1e-4);
    cr_expect_float_eq(x[1], 0.6, 1e-4);
    cr_expect_float_eq(x[2], 0.55, 1e-4);
    cma_model_fini(&m);
    cma_fini(&c);
}

Test(cmaes, the_model_spares_most_trials_on_a_smooth_objective)
{
    char *space = cube(5, -2.048, 2.048);
    double with = median_best("{\"algorithm\": \"cmaes\"}", space, f_rosenbrock, 300, 1);
    double without =
        median_best("{\"algorithm\": \"cmaes\", \"model\": \"none\"}", space, f_rosenbrock, 600, 1);
    printf("# with %g, without and twice the trials %g\n", with, without);
    cr_expect_lt(with, without, "%g, without %g", with, without);
    free(space);
}

/* ---- walls, constraints, noise ---- */

static double f_corner(const struct space *s, const double *p, int64_t step)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++) {
        sum += p[i] * (i + 1);
    }
    return sum;
}

Test(cmaes, an_optimum_in_a_corner_is_reached)
{
    char *space = cube(5, 0, 1);
    double m = median_best("{\"algorithm\": \"cmaes\"}", space, f_corner, 100, 1);
    double plain =
        median_best("{\"algorithm\": \"cmaes\", \"model\": \"none\"}", space, f_corner, 400, 1);
    cr_expect_leq(m, 1e-9, "%g", m);
    cr_expect_leq(plain, 0.1, "without a model %g", plain);
    free(space);
}

Test(cmaes, every_trial_meets_the_constraints_and_the_optimum_on_one_is_found)
{
    struct mjson_issues is = {0};
    struct space *s = space_of("{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]],"
                               " \"c\": [\"DOUBLE\", [0, 1]]}");
    json_t *list = json_pack("[s]", "a + b >= 1");
    cr_assert(space_constrain(s, list, "", &is));
    struct optimizer *o = optimizer_of("{\"algorithm\": \"cmaes\"}", s, 3, 0, 0, 200);
    double best = INFINITY;
    for (int64_t id = 1; id <= 200; id++) {
        double p[3];
        struct opt_suggestion out = {.point = p};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        cr_assert_eq(out.answer, OPT_TRIAL);
        cr_expect(space_is_feasible(s, p), "%g + %g", p[0], p[1]);
        optimizer_adopt(o, &out);
        double v = p[0] * p[0] + p[1] * p[1] + (p[2] - 0.3) * (p[2] - 0.3);
        best = fmin(best, v);
        finish_value(o, id, OPT_COMPLETED, v);
    }
    cr_expect_lt(best, 0.505, "%g", best); /* .5 at a = b = .5 */
    json_decref(list);
    optimizer_destroy(o);
    space_destroy(s);
}

/* f at the mean, over the last tenth of a long search under noise of deviation `noise`. */
static double late_quality(bool adapt, double noise)
{
    enum { N = 10, LAMBDA = 10, GENERATIONS = 3000, SEEDS = 5 };
    double sum = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct cma c;
        double mean[N] = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
        double x[LAMBDA][N];
        const double *row[LAMBDA];
        double value[LAMBDA];
        bool foreign[LAMBDA] = {false};
        cma_init(&c, &(struct cma_setup){.n = N, .lambda = LAMBDA, .adapt = adapt});
        cma_start(&c, LAMBDA, mean, 2, NULL);
        for (uint64_t g = 0; g < GENERATIONS; g++) {
            struct pcg64 p;
            pcg_stream(&p, seed, "noise", g);
            for (int k = 0; k < LAMBDA; k++) {
                cma_sample(&c, &p, x[k]);
                double v = f_ball(N, x[k]) + noise * pcg64_normal(&p);
                int at = k;
                for (; at > 0 && value[at - 1] > v; at--) {
                    value[at] = value[at - 1];
                    row[at] = row[at - 1];
                }
                value[at] = v;
                row[at] = x[k];
            }
            cma_update(&c, row, foreign);
            sum += g >= GENERATIONS * 9 / 10 ? f_ball(N, c.mean) : 0;
        }
        cma_fini(&c);
    }
    return sum / SEEDS / (GENERATIONS / 10);
}

/* Nomura et al. 2023, figure 4: the usual rates stagnate where the noise drowns the signal. */
Test(cmaes, adaptive_learning_rates_go_on_under_noise)
{
    double fixed = late_quality(false, 1);
    double adaptive = late_quality(true, 1);
    double quiet = late_quality(true, 0);
    printf("# fixed %g adaptive %g, without noise %g\n", fixed, adaptive, quiet);
    cr_expect_lt(adaptive, fixed / 5, "fixed %g adaptive %g", fixed, adaptive);
    cr_expect_lt(quiet, 1e-8, "%g", quiet);
}

/* ---- restarts ---- */

static double f_rastrigin(const struct space *s, const double *p, int64_t step)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++) {
        double x = p[i] - 0.7;
        sum += 10 + x * x - 10 * cos(2 * M_PI * x);
    }
    return sum;
}

/* As median_best, one worker, without the checks of a small study. */
static double median_of_long(const char *json, const char *text,
                             double (*f)(const struct space *, const double *, int64_t),
                             int64_t trials)
{
    enum { SEEDS = 7 };
    double v[SEEDS];
    struct space *s = space_of(text);
    for (int seed = 0; seed < SEEDS; seed++) {
        struct optimizer *o = optimizer_of(json, s, (uint64_t)seed, 0, 0, trials);
        v[seed] = INFINITY;
        for (int64_t id = 1; id <= trials; id++) {
            double p[16];
            struct opt_suggestion out = {.point = p};
            optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
            optimizer_adopt(o, &out);
            double value = f(s, p, 1);
            v[seed] = fmin(v[seed], value);
            finish_value(o, id, OPT_COMPLETED, value);
        }
        optimizer_destroy(o);
    }
    space_destroy(s);
    qsort(v, SEEDS, sizeof(v[0]), by_value);
    return v[SEEDS / 2];
}

Test(cmaes, restarts_find_what_one_run_misses)
{
    static const char *const kinds[] = {"none", "ipop", "bipop"};
    double m[3];
    char *space = cube(3, -5.12, 5.12);
    for (int k = 0; k < 3; k++) {
        char *json = xasprintf("{\"algorithm\": \"cmaes\", \"model\": \"none\", \"sigma\": 0.1,"
                               " \"restarts\": \"%s\"}",
                               kinds[k]);
        m[k] = median_of_long(json, space, f_rastrigin, 12000);
        printf("# %s %g\n", kinds[k], m[k]);
        free(json);
    }
    cr_expect_geq(m[0], 0.9, "one run: %g", m[0]);
    cr_expect_leq(m[1], 1e-6, "ipop: %g", m[1]);
    cr_expect_leq(m[2], 1e-6, "bipop: %g", m[2]);
    free(space);
}

/* ---- results that are late, foreign, failed or of another experiment ---- */

Test(cmaes, enqueued_points_and_points_of_others_are_learnt_from)
{
    struct space *s = space_of("{\"x\": [\"DOUBLE\", [0, 1]], \"y\": [\"DOUBLE\", [0, 1]]}");
    struct optimizer *o = optimizer_of(
        "{\"algorithm\": \"cmaes\", \"model\": \"none\", \"initial\": 6}", s, 3, 0, 0, 200);
    /* Six trials from elsewhere are the whole design: the first draw lies around their best. */
    for (int64_t id = 1; id <= 6; id++) {
        double p[2] = {0.9, 0.1 + 0.001 * (double)id};
        struct opt_suggestion e = {.answer = OPT_TRIAL, .trial = id, .point = p};
        optimizer_adopt(o, &e);
        finish_value(o, id, OPT_COMPLETED, (double)id);
    }
    double mean[2] = {0};
    for (int64_t id = 7; id < 107; id++) {
        double p[2];
        struct opt_suggestion out = {.point = p};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        optimizer_adopt(o, &out);
        mean[0] += p[0] / 100;
        mean[1] += p[1] / 100;
    }
    cr_expect(mean[0] > 0.75 && mean[1] < 0.3, "%g %g", mean[0], mean[1]);
    optimizer_destroy(o);
    space_destroy(s);
}

Test(cmaes, a_failed_trial_repels_and_a_cancelled_one_does_not_count)
{
    struct space *s = space_of("{\"x\": [\"DOUBLE\", [0, 1]], \"y\": [\"DOUBLE\", [0, 1]]}");
    struct optimizer *o =
        optimizer_of("{\"algorithm\": \"cmaes\", \"model\": \"none\"}", s, 3, 0, 0, 400);
    double late = 0;
    for (int64_t id = 1; id <= 400; id++) {
        double p[2];
        struct opt_suggestion out = {.point = p};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        optimizer_adopt(o, &out);
        if (id % 5 == 0) {
            optimizer_finish(o, id, OPT_CANCELLED, NULL);
        } else if (p[0] > 0.5) { /* the better half fails */
            optimizer_finish(o, id, OPT_FAILED, NULL);
        } else {
            finish_value(o, id, OPT_COMPLETED, (p[0] - 0.9) * (p[0] - 0.9) + p[1] * p[1]);
            late = id > 300 ? fmax(late, p[1]) : late;
        }
    }
    cr_expect_lt(late, 0.05, "%g", late);
    optimizer_destroy(o);
    space_destroy(s);
}

/* Nomura et al., AAAI 2021: from the best tenth of a similar problem the search is there at once.
 */
static double warm_best(int64_t n_others, int64_t trials)
{
    struct space *s =
        space_of("{\"x\": [\"DOUBLE\", [0, 1]], \"y\": [\"DOUBLE\", [0, 1]],"
                 " \"z\": [\"DOUBLE\", [0, 1]], \"c\": [\"CATEGORICAL\", [\"p\", \"q\"]]}");
    double sum = 0;
    for (uint64_t seed = 0; seed < 9; seed++) {
        double best = INFINITY;
        double p[4];
        struct optimizer *o = optimizer_of("{\"algorithm\": \"cmaes\"}", s, seed, 0, 0, trials);
        for (int64_t i = 0; i < n_others; i++) {
            space_sample(s, seed, "others", (uint64_t)i, p);
            double v = 5 + (p[0] == 1) +
                       100 * ((p[1] - 0.8) * (p[1] - 0.8) + (p[2] - 0.2) * (p[2] - 0.2) +
                              (p[3] - 0.6) * (p[3] - 0.6));
            struct opt_result r = opt_result_of(&v);
            optimizer_observe(o, p, 0, &r);
        }
        for (int64_t id = 1; id <= trials; id++) {
            struct opt_suggestion out = {.point = p};
            optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
            optimizer_adopt(o, &out);
            double v = (p[0] == 1) + (p[1] - 0.77) * (p[1] - 0.77) + (p[2] - 0.22) * (p[2] - 0.22) +
                       (p[3] - 0.6) * (p[3] - 0.6);
            best = fmin(best, v);
            finish_value(o, id, OPT_COMPLETED, v);
        }
        sum += best / 9;
        optimizer_destroy(o);
    }
    space_destroy(s);
    return sum;
}

Test(cmaes, a_warm_start_begins_where_a_similar_problem_ended)
{
    double cold = warm_best(0, 12);
    double warm = warm_best(100, 12);
    printf("# cold %g warm %g\n", cold, warm);
    cr_expect_lt(warm, cold / 3, "cold %g warm %g", cold, warm);
}

Test(cmaes, adaptive_rates_of_a_separable_distribution_are_refused)
{
    char *space = cube(3, 0, 1);
    struct space *s = space_of(space);
    char *text = optimizer_refusal("{\"algorithm\": \"cmaes\", \"variant\": \"separable\", "
                                   "\"learning_rate\": \"adaptive\"}",
                                   s, 0, 0, 10);
    cr_expect_not_null(strstr(text, "/learning_rate: "), "%s", text);
    cr_expect_not_null(strstr(text, "full covariance matrix"), "%s", text);
    free(text);
    text = optimizer_refusal("{\"algorithm\": \"cmaes\", \"population\": 3}", s, 0, 0, 10);
    cr_expect_not_null(strstr(text, "/population: 3 is outside 4 to"), "%s", text);
    free(text);
    free(space);
    space_destroy(s);
}
