/* SPDX-License-Identifier: Apache-2.0
 *
 * Gaussian-process optimization: its algebra against definitions, its derivatives against
 * differences, its posterior against closed forms and against numbers computed elsewhere (numpy in
 * double, mpmath with 60 digits), and what the whole finds.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/gp_acq.h"
#include "optimizers/gp_algebra.h"
#include "optimizers/gp_data.h"
#include "optimizers/gp_min.h"
#include "optimizers/gp_model.h"
#include "optimizers/gp_region.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(gp, .timeout = 100);

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * (1 + fabs(b));
}

/* ---- algebra ---- */

/* A positive definite matrix of n rows, ld apart. */
static double *definite(int n, size_t ld, uint64_t seed)
{
    struct pcg64 g;
    double *a = xcalloc((size_t)n, ld * sizeof(*a));
    double *b = xcalloc((size_t)n, (size_t)n * sizeof(*b));
    pcg_stream(&g, seed, "test", 0);
    for (int i = 0; i < n * n; i++) {
        b[i] = pcg64_normal(&g);
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            for (int k = 0; k < n; k++) {
                a[(size_t)i * ld + (size_t)j] += b[i * n + k] * b[j * n + k];
            }
        }
        a[(size_t)i * ld + (size_t)i] += 1;
    }
    free(b);
    return a;
}

Test(gp, cholesky_solves_and_inverse_fit_their_definitions_at_any_size)
{
    static const int sizes[] = {1, 2, 3, 7, 8, 31, 32, 33, 65, 100};
    for (size_t t = 0; t < sizeof(sizes) / sizeof(sizes[0]); t++) {
        int n = sizes[t];
        size_t ld = ((size_t)n + 8) / 8 * 8;
        double *a = definite(n, ld, t);
        double *l = xcalloc((size_t)n, ld * sizeof(*l));
        double *inverse = xcalloc((size_t)n, ld * sizeof(*l));
        double *work = xcalloc(2 * (size_t)n, ld * sizeof(*l));
        double *b = xcalloc((size_t)n, ld * sizeof(*l));
        memcpy(l, a, (size_t)n * ld * sizeof(*l));
        cr_assert(alg_cholesky(l, ld, n));
        double off = 0;
        for (int i = 0; i < n; i++) {
            for (int j = 0; j <= i; j++) {
                double sum = 0;
                for (int k = 0; k <= j; k++) {
                    sum += l[(size_t)i * ld + (size_t)k] * l[(size_t)j * ld + (size_t)k];
                }
                off = fmax(off, fabs(sum - a[(size_t)i * ld + (size_t)j]));
            }
        }
        cr_expect_lt(off, 1e-10 * n, "L L' of %d rows is off by %g", n, off);
        alg_inverse(l, ld, n, inverse, work);
        memcpy(b, a, (size_t)n * ld * sizeof(*b));
        alg_forward_many(l, ld, n, b, ld, n); /* L^-1 A = L' */
        off = 0;
        for (int i = 0; i < n; i++) {
            double x[100];
            for (int j = 0; j < n; j++) {
                x[j] = a[(size_t)j * ld + (size_t)i];
                off = fmax(off, fabs(b[(size_t)j * ld + (size_t)i] -
                                     (j <= i ? l[(size_t)i * ld + (size_t)j] : 0)));
            }
            alg_forward(l, ld, n, x);
            alg_backward(l, ld, n, x); /* A^-1 A */
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int k = 0; k < n; k++) {
                    sum += a[(size_t)i * ld + (size_t)k] *
                           inverse[(size_t)(j > k ? j : k) * ld + (size_t)(j > k ? k : j)];
                }
                off = fmax(off, fmax(fabs(x[j] - (i == j)), fabs(sum - (i == j))));
            }
        }
        cr_expect_lt(off, 1e-8 * n, "solves of %d rows are off by %g", n, off);
        free(a);
        free(l);
        free(inverse);
        free(work);
        free(b);
    }
}

Test(gp, cholesky_refuses_what_is_not_positive_definite)
{
    double a[] = {1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0};
    cr_expect_not(alg_cholesky(a, 8, 2));
}

/* ---- the minimiser ---- */

static double rosenbrock(void *arg, const double *x, double *g)
{
    double a = x[1] - x[0] * x[0];
    ++*(int *)arg;
    g[0] = -400 * x[0] * a - 2 * (1 - x[0]);
    g[1] = 200 * a;
    return 100 * a * a + (1 - x[0]) * (1 - x[0]);
}

Test(gp, the_minimiser_finds_the_minimum_inside_and_on_the_wall_of_its_box)
{
    static const struct {
        double lo[2], hi[2], at[2];
    } cases[] = {
        {{-2, -2}, {2, 2}, {1, 1}},
        {{-2, -2}, {0.5, 2}, {0.5, 0.25}}, /* the valley leaves through x = 1/2 */
        {{0, 1.5}, {2, 2}, {1.2243, 1.5}}, /* and through y = 3/2 */
        {{-1, -1}, {-1, 2}, {-1, 1}},      /* x is held */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int evals = 0;
        double x[2] = {-1.2, 1};
        struct min_box box = {
            .n = 2, .lo = cases[i].lo, .hi = cases[i].hi, .evals = 200, .gtol = 1e-8, .ftol = 0};
        (void)min_in_box(&box, rosenbrock, &evals, x);
        cr_expect_leq(evals, 200);
        cr_expect(near(x[0], cases[i].at[0], 1e-4) && near(x[1], cases[i].at[1], 1e-4),
                  "case %zu: (%.8g, %.8g) after %d", i, x[0], x[1], evals);
    }
}

/* ---- acquisition ---- */

Test(gp, log_h_and_log_cdf_agree_with_sixty_digits_at_every_range)
{
    static const double h[][2] = {
        {3, 1.0987396653277078},       {0, -0.91893853320467274},     {-0.99, -2.4661143916690494},
        {-1, -2.4851210257126413},     {-1.01, -2.5041998574802568},  {-5, -16.74430116266099},
        {-19.99, -206.71689563670067}, {-20.01, -207.11888089308224}, {-37, -692.64296016327041},
        {-1000, -500014.73445209116},  {-1e6, -500000000028.54996},
    };
    static const double cdf[][2] = {
        {2, -0.023012909328963488},  {-0.5, -1.1759117615936186},  {-3, -6.6077262215103495},
        {-19.9, -201.9171677073326}, {-20.1, -205.92711840194825}, {-40, -804.60844201375379},
    };
    double slope = 0;
    for (size_t i = 0; i < sizeof(h) / sizeof(h[0]); i++) {
        double got = gp_log_h(h[i][0], &slope);
        cr_expect(near(got, h[i][1], 1e-11), "log h(%g) = %.17g", h[i][0], got);
    }
    for (size_t i = 0; i < sizeof(cdf) / sizeof(cdf[0]); i++) {
        double got = gp_log_cdf(cdf[i][0], &slope);
        cr_expect(near(got, cdf[i][1], 1e-11), "log Phi(%g) = %.17g", cdf[i][0], got);
    }
    for (double z = -1e9; z < 1e9; z = z / (z < 0 ? 3 : 1.0 / 3) + (fabs(z) < 1e-6)) {
        cr_expect(isfinite(gp_log_h(z, &slope)) && isfinite(slope) && slope > 0, "z = %g", z);
        cr_expect(isfinite(gp_log_cdf(z, &slope)) && isfinite(slope) && slope >= 0, "z = %g", z);
    }
}

Test(gp, the_slopes_of_log_h_and_log_cdf_agree_with_differences)
{
    for (double z = -40; z < 5; z += 0.37) {
        double e = 1e-5;
        double slope[2];
        double s = 0;
        (void)gp_log_h(z, &slope[0]);
        (void)gp_log_cdf(z, &slope[1]);
        double dh = (gp_log_h(z + e, &s) - gp_log_h(z - e, &s)) / (2 * e);
        double dc = (gp_log_cdf(z + e, &s) - gp_log_cdf(z - e, &s)) / (2 * e);
        cr_expect(near(slope[0], dh, 1e-6) && near(slope[1], dc, 1e-6), "z = %g", z);
    }
}

/* ---- the model ---- */

static const uint8_t mixed_kinds[] = {GP_NUMBER, GP_CONDITIONAL, GP_CHOICE, GP_NUMBER};

static struct gp *example(int n, int room, int draws)
{
    struct pcg64 g;
    struct gp *gp = gp_create(4, mixed_kinds, n + room, draws);
    pcg_stream(&g, 7, "test", 1);
    for (int i = 0; i < n; i++) {
        double x[] = {pcg64_double(&g), pcg64_double(&g), (double)pcg64_below(&g, 3),
                      pcg64_double(&g)};
        x[1] = x[2] == 1 ? GP_INACTIVE : x[1];
        gp_add(gp, x, sin(5 * x[0]) + (x[1] < 0 ? 0.5 : x[1] * x[1]) + 0.3 * x[2]);
    }
    return gp;
}

static const double example_theta[] = {-0.7, -0.2, 0.3, 0.4, 0.5, -6};

Test(gp, the_gradient_of_the_marginal_likelihood_agrees_with_differences)
{
    struct gp *gp = example(40, 0, 1);
    double grad[6];
    double other[6];
    (void)gp_nll(gp, example_theta, grad);
    for (int i = 0; i < 6; i++) {
        double e = 1e-5;
        double t[6];
        memcpy(t, example_theta, sizeof(t));
        t[i] += e;
        double up = gp_nll(gp, t, other);
        t[i] -= 2 * e;
        double down = gp_nll(gp, t, other);
        cr_expect(near(grad[i], (up - down) / (2 * e), 1e-5), "theta %d: %.9g, not %.9g", i,
                  grad[i], (up - down) / (2 * e));
    }
    double theta[6];
    memcpy(theta, example_theta, sizeof(theta));
    double before = gp_nll(gp, theta, grad);
    double after = gp_fit(gp, theta, 100);
    cr_expect_lt(after, before);
    (void)gp_nll(gp, theta, grad);
    for (int i = 0; i < 6; i++) {
        cr_expect_lt(fabs(grad[i]), 0.05, "theta %d", i);
    }
    gp_destroy(gp);
}

/* n points at (0.1, 0.2), ... with length scales 0.3 and 0.7, s2 1.7, n2 1e-3. */
static const double numpy_theta[] = {-1.2039728043259361, -0.35667494393873245, 0.53062825106217038,
                                     -6.9077552789821368};

static struct gp *numpy_example(int draws)
{
    static const uint8_t kinds[] = {GP_NUMBER, GP_NUMBER};
    static const double x[][2] = {{0.1, 0.2}, {0.4, 0.9}, {0.75, 0.35}, {0.9, 0.8}, {0.5, 0.5}};
    static const double y[] = {0.3, -1.2, 0.8, 1.1, -0.4};
    struct gp *gp = gp_create(2, kinds, 8, draws);
    for (int i = 0; i < 5; i++) {
        gp_add(gp, x[i], y[i]);
    }
    return gp;
}

Test(gp, posterior_and_likelihood_agree_with_numpy)
{
    static const double at[][2] = {{0.3, 0.6}, {0.1, 0.2}, {1, 0}};
    static const double mean[] = {-0.742286149249869, 0.299605600720681, 0.749228590400386};
    static const double var[] = {0.333597958095548, 0.000999419853950023, 1.22858210941257};
    static const uint8_t kinds[] = {GP_NUMBER, GP_NUMBER};
    double grad[4];
    struct gp *gp = numpy_example(1);
    struct gp *nothing = gp_create(2, kinds, 1, 1);
    double nll = gp_nll(gp, numpy_theta, grad) - gp_nll(nothing, numpy_theta, grad);
    cr_expect(near(nll, 1.9853088182277, 1e-10), "%.15g", nll);
    gp_factor(gp, numpy_theta);
    gp_settle(gp);
    double x[2 * 8] = {0};
    double means[8];
    double vars[8];
    double work[5 * 8];
    for (int i = 0; i < 3; i++) {
        double m = 0;
        double v = 0;
        double row[8];
        gp_at(gp, at[i], &m, &v, row, NULL);
        cr_expect(near(m, mean[i], 1e-10) && near(v, var[i], 1e-9), "%d: %.15g %.15g", i, m, v);
        x[i] = at[i][0];
        x[8 + i] = at[i][1];
    }
    gp_at_many(gp, x, 8, 3, means, vars, work);
    for (int i = 0; i < 3; i++) {
        cr_expect(near(means[i], mean[i], 1e-10) && near(vars[i], var[i], 1e-9));
    }
    gp_destroy(gp);
    gp_destroy(nothing);
}

Test(gp, the_posterior_of_one_and_two_points_is_the_closed_form)
{
    static const uint8_t kinds[] = {GP_NUMBER};
    double theta[] = {log(0.5), log(2.0), log(0.1)};
    double x[] = {0.25, 0.75};
    double r = sqrt(5) * 0.5 / 0.5;
    double k01 = 1 + 2 * (1 + r + r * r / 3) * exp(-r);
    double kk = 1 + 2 + 0.1 + 1e-10 * 2;
    for (int n = 1; n <= 2; n++) {
        struct gp *gp = gp_create(1, kinds, n, 1);
        double m = 0;
        double v = 0;
        double row[2];
        for (int i = 0; i < n; i++) {
            gp_add(gp, &x[i], i == 0 ? 0.7 : -0.4);
        }
        gp_factor(gp, theta);
        gp_settle(gp);
        gp_at(gp, &x[1], &m, &v, row, NULL);
        double det = kk * kk - k01 * k01;
        double want = n == 1 ? k01 / kk * 0.7
                             : (k01 * (kk * 0.7 + k01 * 0.4) + 3 * (-kk * 0.4 - k01 * 0.7)) / det;
        double spread =
            n == 1 ? 3 - k01 * k01 / kk : 3 - (kk * k01 * k01 - 2 * k01 * k01 * 3 + 9 * kk) / det;
        cr_expect(near(m, want, 1e-12) && near(v, spread, 1e-12), "%d points: %g %g", n, m, v);
        gp_destroy(gp);
    }
}

Test(gp, appending_a_point_equals_factoring_with_it)
{
    struct gp *all = example(30, 0, 1);
    gp_factor(all, example_theta);
    struct gp *some = example(30, 0, 1);
    double row[32];
    double x[4];
    some->n = 25;
    gp_factor(some, example_theta);
    for (int i = 25; i < 30; i++) {
        for (int j = 0; j < 4; j++) {
            x[j] = some->x[(size_t)j * some->ld + (size_t)i];
        }
        gp_cov(some, x, row, NULL);
        double own = 1 + some->s2 + some->n2 + some->nugget;
        cr_assert(alg_append(some->l, some->ld, i, row, own, 0));
        some->n++;
    }
    for (int i = 0; i < 30; i++) {
        for (int j = 0; j <= i; j++) {
            size_t at = (size_t)i * all->ld + (size_t)j;
            cr_expect(near(some->l[at], all->l[at], 1e-10));
        }
    }
    gp_destroy(all);
    gp_destroy(some);
}

Test(gp, a_fantasy_is_the_posterior_mean_plus_its_deviations)
{
    struct gp *gp = numpy_example(3);
    static const double x[] = {0.3, 0.6};
    static const double z[] = {0, 1, -2};
    double mean[3];
    double var = 0;
    double row[8];
    double before = 0;
    double spread = 0;
    struct gp *plain = numpy_example(1);
    gp_factor(plain, numpy_theta);
    gp_settle(plain);
    gp_at(plain, x, &before, &spread, row, NULL);
    gp_factor(gp, numpy_theta);
    cr_assert(gp_append(gp, x, z));
    gp_settle(gp);
    gp_at(gp, x, mean, &var, row, NULL);
    cr_expect_lt(var, 1.1e-3, "the point counts as seen");
    for (int s = 0; s < 3; s++) {
        double told = before + z[s] * sqrt(spread + 1e-3);
        /* Shrunk by the noise of one reading. */
        cr_expect(near(mean[s], before + (told - before) * spread / (spread + 1e-3), 1e-6));
    }
    gp_destroy(gp);
    gp_destroy(plain);
}

Test(gp, gradients_of_every_acquisition_agree_with_differences)
{
    struct gp *gp = example(30, 4, 3);
    struct gp *violation = example(20, 0, 1);
    static const double pending[] = {0.5, 0.5, 0, 0.5};
    static const double z[] = {0, 1, -1};
    gp_factor(gp, example_theta);
    cr_assert(gp_append(gp, pending, z));
    gp_settle(gp);
    gp_factor(violation, example_theta);
    gp_settle(violation);
    for (int kind = 0; kind < 6; kind++) {
        struct gp_acq a = {.gp = gp,
                           .kind = kind % 2 == 0 ? GP_LOGEI : GP_BOUND,
                           .kappa = 1.8,
                           .best = {-0.5, -0.6, -3},
                           .violation = kind >= 2 ? violation : NULL,
                           .limit = 0.4,
                           .feasibility_only = kind >= 4};
        gp_acq_open(&a);
        for (int t = 0; t < 3; t++) {
            double x[] = {0.2 + 0.3 * t, t == 1 ? GP_INACTIVE : 0.3, t, 0.9 - 0.2 * t};
            double grad[4];
            double value = gp_acq_at(&a, x, grad);
            double many = 0;
            gp_acq_many(&a, x, 1, 1, &many);
            cr_expect(near(value, many, 1e-9), "kind %d: %.12g %.12g", kind, value, many);
            for (int j = 0; j < 4; j++) {
                double e = 1e-6;
                double moved[4];
                if (mixed_kinds[j] == GP_CHOICE || x[j] == GP_INACTIVE) {
                    cr_expect_eq(grad[j], 0);
                    continue;
                }
                memcpy(moved, x, sizeof(moved));
                moved[j] += e;
                double up = gp_acq_at(&a, moved, NULL);
                moved[j] -= 2 * e;
                double down = gp_acq_at(&a, moved, NULL);
                cr_expect(near(grad[j], (up - down) / (2 * e), 1e-5),
                          "kind %d point %d coordinate %d: %.9g, not %.9g", kind, t, j, grad[j],
                          (up - down) / (2 * e));
            }
        }
        gp_acq_close(&a);
    }
    gp_destroy(gp);
    gp_destroy(violation);
}

Test(gp, repeated_and_nearly_equal_points_and_constant_values_do_not_break_the_model)
{
    static const uint8_t kinds[] = {GP_NUMBER, GP_NUMBER};
    for (int constant = 0; constant < 2; constant++) {
        struct gp *gp = gp_create(2, kinds, 60, 1);
        double theta[4];
        for (int i = 0; i < 60; i++) {
            double x[] = {0.5 + 1e-9 * (i % 7), 0.25 + (i % 3) * 1e-13};
            gp_add(gp, x, constant ? 0 : i % 2);
        }
        gp_theta_default(2, theta);
        cr_expect(isfinite(gp_fit(gp, theta, 40)));
        theta[3] = -19; /* hardly any noise */
        gp_factor(gp, theta);
        gp_settle(gp);
        double m = 0;
        double v = 0;
        double row[60];
        gp_at(gp, (double[]){0.1, 0.9}, &m, &v, row, NULL);
        cr_expect(isfinite(m) && v > 0);
        gp_destroy(gp);
    }
}

/* ---- targets and history ---- */

Test(gp, targets_keep_the_order_the_good_halfs_shape_and_tame_the_bad)
{
    double y[] = {0, 1, 2, 3, 4, 5, 1e12};
    double z[7];
    (void)gp_data_targets(y, 7, 1, z);
    for (int i = 0; i < 6; i++) {
        cr_expect_lt(z[i], z[i + 1]);
    }
    cr_expect(near(z[1] - z[0], z[3] - z[2], 1e-12), "linear up to the median");
    cr_expect_lt(z[6], 2.5);
    double same[] = {4, 4, 4};
    (void)gp_data_targets(same, 3, 1, z);
    cr_expect(z[0] == 0 && z[1] == 0 && z[2] == 0);
}

Test(gp, the_warps_jacobian_makes_likelihoods_of_warps_comparable)
{
    /* By differences: minus the sum of log dz/dy, at a fixed mean and deviation of z. */
    double y[] = {-1, 0, 0.5, 2, 3, 7, 20};
    double z[7];
    double slopes = gp_data_targets(y, 7, 2, z);
    double mean = 0;
    double scale = 2 * (2 - -1);
    double w[7];
    for (int i = 0; i < 7; i++) {
        w[i] = y[i] > 2 ? scale * log1p((y[i] - 2) / scale) : y[i] - 2;
        mean += w[i] / 7;
    }
    double var = 0;
    double sum = 0;
    for (int i = 0; i < 7; i++) {
        var += (w[i] - mean) * (w[i] - mean) / 7;
        sum -= y[i] > 2 ? log(1 / (1 + (y[i] - 2) / scale)) : 0;
    }
    cr_expect(near(slopes, sum + 7 * log(sqrt(var)), 1e-12));
    cr_expect(near(z[6], (w[6] - mean) / sqrt(var), 1e-12));
}

Test(gp, a_bounded_history_holds_the_best_the_newest_and_some_of_the_rest)
{
    double y[1000];
    int pick[1000];
    bool in[1000] = {0};
    for (int i = 0; i < 1000; i++) {
        y[i] = (i * 7919) % 1000;
    }
    int m = gp_data_pick(y, 1000, 100, pick);
    cr_assert_eq(m, 100);
    for (int i = 0; i < m; i++) {
        in[pick[i]] = true;
        cr_expect(i == 0 || pick[i] > pick[i - 1]);
    }
    int middling = 0;
    for (int i = 0; i < 1000; i++) {
        cr_expect(in[i] || (y[i] >= 50 && i < 976), "trial %d with value %g is missing", i, y[i]);
        middling += in[i] && y[i] >= 500 && i < 970;
    }
    cr_expect_gt(middling, 5);
}

/* ---- the trust region ---- */

Test(gp, the_trust_region_grows_with_successes_shrinks_with_failures_and_starts_anew)
{
    struct gp_step steps[200];
    for (int i = 0; i < 200; i++) {
        steps[i] = (struct gp_step){100, true};
    }
    cr_expect_eq(gp_region_side(steps, 5, 4), 0.4, "the first counts as a success");
    cr_expect_eq(gp_region_side(steps, 9, 4), 0.2);
    cr_expect_eq(gp_region_side(steps, 9, 20), 0.8, "as many failures as parameters");
    cr_expect_eq(gp_region_side(steps, 25, 4), 0.0125);
    cr_expect_eq(gp_region_side(steps, 29, 4), 0.8, "a tiny region starts anew");
    steps[9].value = 90;
    steps[10].value = 80;
    cr_expect_eq(gp_region_side(steps, 11, 4), 0.4);
    for (int i = 0; i < 200; i++) {
        steps[i].local = false;
    }
    cr_expect_eq(gp_region_side(steps, 200, 4), 0.8, "global trials do not count");
}

Test(gp, the_nearest_points_are_the_nearest)
{
    struct space *s =
        space_of("{\"a\": [\"DOUBLE\", [0, 1]], \"c\": [\"CATEGORICAL\", [\"x\", \"y\"]]}");
    struct gp_domain dom;
    struct opt_resource none = {0};
    gp_domain_init(&dom, s, &none);
    static const double x[][2] = {{0.9, 0}, {0.5, 1}, {0.4, 0}, {0.1, 0}, {0.5, 0}};
    const double *at[5];
    int pick[5];
    for (int i = 0; i < 5; i++) {
        at[i] = x[i];
    }
    cr_assert_eq(gp_region_nearest(&dom, at, 5, 4, 3, pick), 3);
    cr_expect(pick[0] == 0 && pick[1] == 2 && pick[2] == 4, "0.4 and 0.9 (before 0.1: a tie)");
    gp_domain_fini(&dom);
    space_destroy(s);
}

/* ---- the optimizer ---- */

/* Tells the trial's results: `values` objectives and a violation. */
static void finish_all(struct optimizer *o, int64_t id, const double *values, double violation)
{
    struct opt_result r = {.value = values[0], .values = values, .violation = violation};
    optimizer_finish(o, id, OPT_COMPLETED, &r);
}

static void next_point(struct optimizer *o, int64_t id, double *point)
{
    struct opt_suggestion out = {.point = point};
    optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
    cr_assert_eq(out.answer, OPT_TRIAL);
    optimizer_adopt(o, &out);
}

static double branin(const double *p)
{
    double a = p[1] - 5.1 / (4 * M_PI * M_PI) * p[0] * p[0] + 5 / M_PI * p[0] - 6;
    return a * a + 10 * (1 - 1 / (8 * M_PI)) * cos(p[0]) + 10;
}

/* Best value of `trials` told trials, `parallel` at a time; the newest finishes first. */
static double best_of(const char *json, const char *space, double (*f)(const double *),
                      uint64_t seed, int trials, int parallel)
{
    struct space *s = space_of(space);
    struct optimizer *o = optimizer_of(json, s, seed, 0, 0, trials);
    double points[64][16];
    int64_t open[64];
    int n = 0;
    int64_t next = 1;
    double best = INFINITY;
    while (next <= trials || n > 0) {
        while (n < parallel && next <= trials) {
            struct opt_suggestion out = {.point = points[n]};
            optimizer_suggest(o, &(struct opt_ask){.next_trial = next, .may_create = true}, &out);
            cr_assert_eq(out.answer, OPT_TRIAL);
            optimizer_adopt(o, &out);
            open[n++] = next++;
        }
        double y = f(points[--n]);
        best = fmin(best, y);
        finish_value(o, open[n], OPT_COMPLETED, y);
    }
    optimizer_destroy(o);
    space_destroy(s);
    return best;
}

#define BRANIN "{\"a\": [\"DOUBLE\", [-5, 10]], \"b\": [\"DOUBLE\", [0, 15]]}"

Test(gp, branin_is_solved_to_1e_4_in_60_trials_alone_and_to_1e_2_by_8_workers)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        double alone = best_of("{\"algorithm\": \"gp\"}", BRANIN, branin, seed, 60, 1);
        cr_expect_lt(alone - 0.39788735773, 1e-4, "seed %d: %g", (int)seed, alone);
        double eight = best_of("{\"algorithm\": \"gp\"}", BRANIN, branin, seed, 60, 8);
        cr_expect_lt(eight - 0.39788735773, 1e-2, "seed %d: %g", (int)seed, eight);
    }
}

Test(gp, the_other_acquisitions_come_near_branins_optimum_too)
{
    cr_expect_lt(
        best_of("{\"algorithm\": \"gp\", \"acquisition\": \"ucb\"}", BRANIN, branin, 1, 60, 4),
        0.45);
    cr_expect_lt(
        best_of("{\"algorithm\": \"gp\", \"acquisition\": \"thompson\"}", BRANIN, branin, 1, 60, 4),
        0.45);
}

static double flat(const double *p)
{
    return 3;
}

Test(gp, a_constant_objective_is_searched_to_the_end)
{
    cr_expect_eq(best_of("{\"algorithm\": \"gp\"}", MIXED_SPACE, flat, 1, 40, 3), 3);
}

Test(gp, parameters_of_one_value_are_fine_and_a_space_of_one_point_is_done_after_it)
{
    double best = best_of("{\"algorithm\": \"gp\"}",
                          "{\"a\": [\"DOUBLE\", [-5, 10]], \"b\": [\"DOUBLE\", [0, 15]],"
                          " \"c\": [\"DISCRETE\", [5]], \"d\": [\"CATEGORICAL\", [\"x\"]]}",
                          branin, 1, 50, 1);
    cr_expect_lt(best, 0.41);
    struct space *s = space_of("{\"a\": [\"DISCRETE\", [5]]}");
    struct optimizer *o = optimizer_of("{\"algorithm\": \"gp\"}", s, 1, 0, 0, 10);
    double point = 0;
    next_point(o, 1, &point);
    struct opt_suggestion out = {.point = &point};
    optimizer_suggest(o, &(struct opt_ask){.next_trial = 2, .may_create = true}, &out);
    cr_expect_eq(out.answer, OPT_DONE);
    optimizer_destroy(o);
    space_destroy(s);
}

Test(gp, two_hundred_fifty_six_parameters_work)
{
    char text[16384] = "{";
    for (int i = 0; i < 256; i++) {
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                       "%s\"p%03d\": [\"DOUBLE\", [0, 1]]", i > 0 ? ", " : "", i);
    }
    (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "}");
    struct space *s = space_of(text);
    struct optimizer *o = optimizer_of("{\"algorithm\": \"gp\"}", s, 1, 0, 0, 30);
    double point[256];
    for (int64_t id = 1; id <= 26; id++) {
        struct opt_suggestion out = {.point = point};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        cr_assert(space_normalize(s, point));
        optimizer_adopt(o, &out);
        finish_value(o, id, OPT_COMPLETED, point[3] + point[200]);
    }
    optimizer_destroy(o);
    space_destroy(s);
}

#define SQUARE "{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]]}"

Test(gp, an_outcome_constraint_is_learnt_and_its_border_found)
{
    /* The least a + 2 b with a b >= 1/4: sqrt(2) at (0.707, 0.354); free, it would be 0. */
    struct space *s = space_of(SQUARE);
    struct optimizer *o = optimizer_of("{\"algorithm\": \"gp\"}", s, 3, 0, 0, 40);
    double best = INFINITY;
    int feasible = 0;
    for (int64_t id = 1; id <= 40; id++) {
        double p[2];
        next_point(o, id, p);
        double value = p[0] + 2 * p[1];
        double violation = fmax(0, 0.25 - p[0] * p[1]);
        best = violation == 0 ? fmin(best, value) : best;
        feasible += id > 10 && violation == 0;
        finish_all(o, id, &value, violation);
    }
    cr_expect_lt(best, 1.416, "%g", best);
    cr_expect_gt(feasible, 3, "%d", feasible);
    optimizer_destroy(o);
    space_destroy(s);
}

Test(gp, a_front_of_two_objectives_is_spread)
{
    /* (a + b, (1 - a)^2 + b): the front is b = 0, a in [0, 1]. */
    struct space *s = space_of(SQUARE);
    struct mjson_issues is = {0};
    struct opt_setup setup = {.space = s, .seed = 1, .trials = 40, .objectives = 2};
    json_t *json = json_pack("{s:s}", "algorithm", "gp");
    char *why = NULL;
    struct optimizer *o = optimizer_create(json, "", &setup, &is, &why);
    cr_assert_not_null(o);
    bool found[5] = {0};
    for (int64_t id = 1; id <= 40; id++) {
        double p[2];
        next_point(o, id, p);
        double values[] = {p[0] + p[1], (1 - p[0]) * (1 - p[0]) + p[1]};
        for (int k = 0; k < 5; k++) {
            found[k] = found[k] || (p[1] < 0.03 && fabs(p[0] - k / 4.0) < 0.15);
        }
        finish_all(o, id, values, 0);
    }
    for (int k = 0; k < 5; k++) {
        cr_expect(found[k], "nothing on the front near a = %g", k / 4.0);
    }
    json_decref(json);
    free(why);
    optimizer_destroy(o);
    space_destroy(s);
}

Test(gp, as_sampler_of_asha_it_beats_random_and_learns_from_low_budgets)
{
    double mean[2] = {0};
    for (int k = 0; k < 2; k++) {
        for (uint64_t seed = 1; seed <= 3; seed++) {
            struct sim m;
            sim_init(&m, SQUARE,
                     k == 0 ? "{\"algorithm\": \"asha\", \"sampler\": \"gp\"}"
                            : "{\"algorithm\": \"asha\", \"sampler\": \"random\"}",
                     seed, 9, 40, 2);
            m.f = f_sphere;
            sim_run(&m, 10000);
            double sum = 0;
            for (int64_t id = 21; id <= m.n_trials; id++) {
                sum += f_sphere(m.space, m.trials[id].point, 9) / 20;
            }
            mean[k] += sum / 3;
            sim_fini(&m);
        }
    }
    cr_expect_lt(mean[0], 0.7 * mean[1], "gp %g, random %g", mean[0], mean[1]);
}

static double labels(const double *p)
{
    static const double rank[] = {3, 7, 1, 0, 9, 4, 6, 2, 8, 5};
    return rank[(int)p[1]] + (p[0] - 7) * (p[0] - 7) / 10;
}

Test(gp, a_finite_space_of_labels_and_integers_is_solved_without_trying_it_all)
{
    double best =
        best_of("{\"algorithm\": \"gp\"}",
                "{\"i\": [\"INTEGER\", [0, 40]], \"label\": [\"CATEGORICAL\", [\"a\", \"b\","
                " \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\", \"j\"]]}",
                labels, 1, 60, 2);
    cr_expect_lt(best, 0.15, "%g of 410 points", best);
}

Test(gp, warm_starts_replace_the_first_trials)
{
    struct space *s = space_of(BRANIN);
    struct optimizer *o = optimizer_of("{\"algorithm\": \"gp\"}", s, 1, 0, 0, 20);
    struct pcg64 g;
    pcg_stream(&g, 1, "test", 9);
    for (int i = 0; i < 40; i++) {
        double p[] = {15 * pcg64_double(&g) - 5, 15 * pcg64_double(&g)};
        double y = branin(p);
        struct opt_result r = opt_result_of(&y);
        optimizer_observe(o, p, 0, &r);
    }
    double best = INFINITY;
    for (int64_t id = 1; id <= 12; id++) {
        double p[2];
        next_point(o, id, p);
        double y = branin(p);
        best = fmin(best, y);
        finish_value(o, id, OPT_COMPLETED, y);
    }
    cr_expect_lt(best, 0.41, "%g after 12 trials", best);
    optimizer_destroy(o);
    space_destroy(s);
}
