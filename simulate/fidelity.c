/* SPDX-License-Identifier: Apache-2.0
 *
 * Test functions whose measurement is better the more resource it gets.
 *
 * mfh3, mfh6: Hartmann with a fidelity z, as in DEHB's own benchmark protocol (mf-prior-bench
 * 1.10): with s = ln z / ln max, alpha_i - bias (1 - s) stands for alpha_i, and |N(0, 1)| noise (1 -
 * s) is added, the same for the same point and z. At z = max it is Hartmann itself. z runs from 3 to
 * 100 there; bias and noise are .5, .1 (good: 2.5, 2; moderate: 3, 3; bad: 3.5, 4; terrible: 4, 5).
 *
 * counting-ones (Falkner, Klein, Hutter, BOHB, ICML 2018): binary parameters count as they are; each
 * continuous one is the mean of z draws that are 1 with its value as probability. Divided by the
 * number of parameters, as DEHB's results are: the best is -1.
 */
#include "base/pcg.h"
#include "simulate/objective_impl.h"

#include <math.h>
#include <stdio.h>

/* ---- Hartmann with a fidelity ---- */

static double mfh(const struct function_at *at, const struct function_ask *ask)
{
    double max = at->max > 1 ? (double)at->max : 100;
    double z = ask->noisy ? (double)ask->z : max;
    double missing = 1 - log(z) / log(max);
    double alpha[4];
    for (int i = 0; i < 4; i++) {
        alpha[i] = function_hartmann_alpha[i] - at->args[0] * missing;
    }
    double value = function_hartmann(ask->u, at->f->dims, alpha);
    if (!ask->noisy || missing <= 0) {
        return value;
    }
    struct pcg64 g;
    pcg_stream(&g, at->noise ^ space_point_hash(at->space, ask->point), "mfh", (uint64_t)ask->z);
    return value + fabs(pcg64_normal(&g)) * at->args[1] * missing;
}

static double mfh_optimum(const struct function_at *at)
{
    return at->f->dims == 3 ? -3.86278214782076 : -3.32236801141551;
}

/* ---- counting ones ---- */

static json_t *ones_space(const struct function *f, const double *args)
{
    json_t *o = json_object();
    for (int i = 0; i < (int)args[0]; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "cat%02d", i + 1);
        (void)json_object_set_new(
            o, name, json_pack("{s:s, s:[s,s]}", "type", "CATEGORICAL", "values", "0", "1"));
        (void)snprintf(name, sizeof(name), "float%02d", i + 1);
        (void)json_object_set_new(
            o, name, json_pack("{s:s, s:[f,f]}", "type", "DOUBLE", "range", 0.0, 1.0));
    }
    return o;
}

/* The mean of `z` draws that are 1 with probability p. */
static double bernoulli_mean(struct pcg64 *g, double p, int64_t z)
{
    int64_t ones = 0;
    for (int64_t i = 0; i < z; i++) {
        ones += pcg64_double(g) < p;
    }
    return (double)ones / (double)z;
}

static double counting_ones(const struct function_at *at, const struct function_ask *ask)
{
    double sum = 0;
    struct pcg64 g;
    pcg_stream(&g, at->noise ^ (uint64_t)ask->z, "counting-ones", (uint64_t)ask->trial);
    for (int i = 0; i < at->space->n; i++) {
        const struct param *p = &at->space->params[i];
        double cells = param_cells(p);
        if (isnan(ask->u[i])) {
            continue;
        }
        if (isfinite(cells)) {
            sum += cells > 1 ? param_cell_of(p, ask->point[i]) / (cells - 1) : 1;
        } else {
            sum += ask->noisy ? bernoulli_mean(&g, ask->u[i], ask->z) : ask->u[i];
        }
    }
    return -sum / at->space->n;
}

static double ones_optimum(const struct function_at *at)
{
    return -1;
}

const struct function objective_fidelity[] = {
    {.form = "mfh3(bias, noise)", .name = "mfh3",
     .summary = "hartmann3 with a fidelity of 3 to 100, as DEHB measures itself", .dims = 3,
     .n_args = 2, .args = {0.5, 0.1}, .least = {0, 0}, .most = {10, 10}, .min = 3, .max = 100,
     .unit = "z", .lo = 0, .hi = 1, .space = function_space, .value = mfh, .optimum = mfh_optimum},
    {.form = "mfh6(bias, noise)", .name = "mfh6",
     .summary = "hartmann6 with a fidelity of 3 to 100", .dims = 6, .n_args = 2,
     .args = {0.5, 0.1}, .least = {0, 0}, .most = {10, 10}, .min = 3, .max = 100, .unit = "z",
     .lo = 0, .hi = 1, .space = function_space, .value = mfh, .optimum = mfh_optimum},
    {.form = "counting-ones(n)", .name = "counting-ones",
     .summary = "n binary and n continuous parameters, 9 to 729 draws, minimum -1", .n_args = 1,
     .args = {8}, .least = {1}, .most = {64}, .min = 9, .max = 729, .unit = "sample",
     .space = ones_space, .value = counting_ones, .optimum = ones_optimum},
    {0},
};
