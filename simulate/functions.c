/* SPDX-License-Identifier: Apache-2.0
 *
 * Test functions without a fidelity, in their usual domains (Surjanovic and Bingham, Virtual Library
 * of Simulation Experiments; Molga and Smutnicki, Test functions for optimization needs, 2005).
 */
#include "simulate/objective_impl.h"

#include <math.h>
#include <stdio.h>

#define PI 3.14159265358979323846

/* x in [lo, hi] from the unit interval; an inactive parameter stands in the middle. */
static double at_unit(double u, double lo, double hi)
{
    return isnan(u) ? (lo + hi) / 2 : lo + u * (hi - lo);
}

double function_zero(const struct function_at *at)
{
    return 0;
}

json_t *function_space(const struct function *f, const double *args)
{
    json_t *o = json_object();
    int dims = f->dims > 0 ? f->dims : (int)args[0];
    for (int i = 0; i < dims; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), dims > 9 ? "x%02d" : "x%d", i + 1);
        (void)json_object_set_new(
            o, name, json_pack("{s:s, s:[f,f]}", "type", "DOUBLE", "range", f->lo, f->hi));
    }
    return o;
}

/* ---- Branin ---- */

static json_t *branin_space(const struct function *f, const double *args)
{
    return json_pack("{s:{s:s,s:[f,f]}, s:{s:s,s:[f,f]}}", "x1", "type", "DOUBLE", "range", -5.0,
                     10.0, "x2", "type", "DOUBLE", "range", 0.0, 15.0);
}

static double branin(const struct function_at *at, const struct function_ask *ask)
{
    double x = at_unit(ask->u[0], -5, 10);
    double y = at_unit(ask->u[1], 0, 15);
    double b = 5.1 / (4 * PI * PI), c = 5 / PI, t = 1 / (8 * PI);
    double q = y - b * x * x + c * x - 6;
    return q * q + 10 * (1 - t) * cos(x) + 10;
}

static double branin_optimum(const struct function_at *at)
{
    return 0.39788735772973816;
}

/* ---- Hartmann ---- */

const double function_hartmann_alpha[4] = {1.0, 1.2, 3.0, 3.2};

static const double hartmann3_a[4][3] = {
    {3.0, 10, 30}, {0.1, 10, 35}, {3.0, 10, 30}, {0.1, 10, 35}};
static const double hartmann3_p[4][3] = {{0.3689, 0.1170, 0.2673},
                                         {0.4699, 0.4387, 0.7470},
                                         {0.1091, 0.8732, 0.5547},
                                         {0.0381, 0.5743, 0.8828}};
static const double hartmann6_a[4][6] = {{10, 3, 17, 3.5, 1.7, 8},
                                         {0.05, 10, 17, 0.1, 8, 14},
                                         {3, 3.5, 1.7, 10, 17, 8},
                                         {17, 8, 0.05, 10, 0.1, 14}};
static const double hartmann6_p[4][6] = {{0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886},
                                         {0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991},
                                         {0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650},
                                         {0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381}};

double function_hartmann(const double *u, int dims, const double alpha[4])
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        const double *a = dims == 3 ? hartmann3_a[i] : hartmann6_a[i];
        const double *p = dims == 3 ? hartmann3_p[i] : hartmann6_p[i];
        double inner = 0;
        for (int j = 0; j < dims; j++) {
            double d = at_unit(u[j], 0, 1) - p[j];
            inner += a[j] * d * d;
        }
        sum += alpha[i] * exp(-inner);
    }
    return -sum;
}

static double hartmann(const struct function_at *at, const struct function_ask *ask)
{
    return function_hartmann(ask->u, at->f->dims, function_hartmann_alpha);
}

static double hartmann_optimum(const struct function_at *at)
{
    return at->f->dims == 3 ? -3.86278214782076 : -3.32236801141551;
}

/* ---- any number of dimensions ---- */

static double sphere(const struct function_at *at, const struct function_ask *ask)
{
    double sum = 0;
    for (int i = 0; i < at->space->n; i++) {
        double x = at_unit(ask->u[i], at->f->lo, at->f->hi);
        sum += x * x;
    }
    return sum;
}

static double rosenbrock(const struct function_at *at, const struct function_ask *ask)
{
    double sum = 0;
    for (int i = 0; i + 1 < at->space->n; i++) {
        double x = at_unit(ask->u[i], at->f->lo, at->f->hi);
        double next = at_unit(ask->u[i + 1], at->f->lo, at->f->hi);
        sum += 100 * (next - x * x) * (next - x * x) + (1 - x) * (1 - x);
    }
    return sum;
}

static double rastrigin(const struct function_at *at, const struct function_ask *ask)
{
    double sum = 10.0 * at->space->n;
    for (int i = 0; i < at->space->n; i++) {
        double x = at_unit(ask->u[i], at->f->lo, at->f->hi);
        sum += x * x - 10 * cos(2 * PI * x);
    }
    return sum;
}

static double ackley(const struct function_at *at, const struct function_ask *ask)
{
    double squares = 0, waves = 0;
    int n = at->space->n;
    for (int i = 0; i < n; i++) {
        double x = at_unit(ask->u[i], at->f->lo, at->f->hi) - at->args[1];
        squares += x * x;
        waves += cos(2 * PI * x);
    }
    return 20 - 20 * exp(-0.2 * sqrt(squares / n)) + exp(1) - exp(waves / n);
}

const struct function objective_plain[] = {
    {.form = "branin", .name = "branin", .summary = "2 parameters, 3 equal minima of .397887",
     .dims = 2, .space = branin_space, .value = branin, .optimum = branin_optimum},
    {.form = "hartmann3", .name = "hartmann3", .summary = "3 parameters, minimum -3.86278",
     .dims = 3, .lo = 0, .hi = 1, .space = function_space, .value = hartmann,
     .optimum = hartmann_optimum},
    {.form = "hartmann6", .name = "hartmann6", .summary = "6 parameters, minimum -3.32237",
     .dims = 6, .lo = 0, .hi = 1, .space = function_space, .value = hartmann,
     .optimum = hartmann_optimum},
    {.form = "rosenbrock(parameters)", .name = "rosenbrock",
     .summary = "a curved valley in [-2.048, 2.048], minimum 0", .n_args = 1, .args = {5},
     .least = {2}, .most = {100}, .lo = -2.048, .hi = 2.048, .space = function_space,
     .value = rosenbrock, .optimum = function_zero},
    {.form = "rastrigin(parameters)", .name = "rastrigin",
     .summary = "many local minima in [-5.12, 5.12], minimum 0", .n_args = 1, .args = {5},
     .least = {1}, .most = {100}, .lo = -5.12, .hi = 5.12, .space = function_space,
     .value = rastrigin, .optimum = function_zero},
    {.form = "ackley(parameters, shift)", .name = "ackley",
     .summary = "a hole in a rough plain, [-32.8, 32.8], minimum 0", .n_args = 2, .args = {10, 0},
     .least = {1, -20}, .most = {100, 20}, .lo = -32.8, .hi = 32.8, .space = function_space,
     .value = ackley, .optimum = function_zero},
    {.form = "sphere(parameters)", .name = "sphere",
     .summary = "the sum of squares in [-5.12, 5.12], minimum 0", .n_args = 1, .args = {5},
     .least = {1}, .most = {100}, .lo = -5.12, .hi = 5.12, .space = function_space,
     .value = sphere, .optimum = function_zero},
    {0},
};
