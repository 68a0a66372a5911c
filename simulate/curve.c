/* SPDX-License-Identifier: Apache-2.0
 *
 * Learning curves over any search space: the error of a trial falls from .9 by a power law,
 *
 *     error(t) = a + (.9 - a) (1 + t / tau)^-rate + N(0, noise),
 *
 * and a, rate and tau are smooth random functions of the place in the unit cube. As in real searches
 * few parameters matter much (their weights halve from one to the next, in a random order), the best
 * place is somewhere inside, and rate and tau know nothing of a: a trial that is ahead early may be
 * overtaken, so that successive halving makes honest mistakes.
 */
#include "base/alloc.h"
#include "base/pcg.h"
#include "simulate/objective_impl.h"

#include <math.h>
#include <stdlib.h>

#define WAVES 12         /* random Fourier features of one smooth function */
#define START_ERROR 0.9
#define PI 3.14159265358979323846

enum { ROUGH, RATE, TAU, SMOOTHS };


struct curves {
    double *weight, *centre; /* of each parameter */
    double sum;              /* of the weights */
    double *w;               /* [SMOOTHS][WAVES][dims] */
    double b[SMOOTHS][WAVES];
    double numbers[];
};

static json_t *curve_space(const struct function *f, const double *args)
{
    return json_pack("{s:{s:s,s:[f,f],s:s}, s:{s:s,s:[i,i],s:s}, s:{s:s,s:[f,f]}, s:{s:s,s:[s,s,s]}}",
                     "lr", "type", "DOUBLE", "range", 1e-4, 1e-1, "scale", "log", "units", "type",
                     "INTEGER", "range", 16, 512, "scale", "log", "dropout", "type", "DOUBLE",
                     "range", 0.0, 0.6, "activation", "type", "CATEGORICAL", "values", "relu",
                     "tanh", "gelu");
}

static void *curve_setup(const struct function_at *at)
{
    int n = at->space->n;
    size_t numbers = (size_t)n * (2 + SMOOTHS * WAVES);
    struct curves *c = xcalloc(1, sizeof(*c) + numbers * sizeof(double));
    uint32_t *order = xcalloc((size_t)n, sizeof(*order));
    struct pcg64 g;
    pcg_stream(&g, at->seed, "curve:surface", 0);
    c->weight = c->numbers;
    c->centre = c->numbers + n;
    c->w = c->numbers + 2 * n;
    for (int i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
    }
    pcg64_shuffle(&g, order, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        c->weight[order[i]] = fmax(pow(0.5, i), 0.02);
        c->centre[i] = 0.15 + 0.7 * pcg64_double(&g);
        c->sum += c->weight[order[i]];
    }
    for (int k = 0; k < SMOOTHS * WAVES; k++) {
        c->b[k / WAVES][k % WAVES] = 2 * PI * pcg64_double(&g);
        for (int i = 0; i < n; i++) {
            c->w[k * n + i] = 2.5 * pcg64_normal(&g) * sqrt(c->weight[i]);
        }
    }
    free(order);
    return c;
}

/* A smooth function of the place, 0 to 1. */
static double smooth(const struct curves *c, int which, const double *u, int n)
{
    double sum = 0;
    for (int k = 0; k < WAVES; k++) {
        const double *w = &c->w[(which * WAVES + k) * n];
        double phase = c->b[which][k];
        for (int i = 0; i < n; i++) {
            phase += isnan(u[i]) ? 0 : w[i] * u[i];
        }
        sum += cos(phase);
    }
    return 1 / (1 + exp(-2 * sum / sqrt(WAVES)));
}

/* How far from the best place, 0 and up. */
static double distance(const struct curves *c, const double *u, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double d = isnan(u[i]) ? 0 : u[i] - c->centre[i];
        sum += c->weight[i] * d * d;
    }
    return sum / c->sum;
}

static double curve(const struct function_at *at, const struct function_ask *ask)
{
    const struct curves *c = at->data;
    int n = at->space->n;
    struct pcg64 g;
    pcg_stream(&g, at->noise, "curve:trial", (uint64_t)ask->trial);
    if (ask->noisy && pcg64_double(&g) < at->args[1]) {
        return NAN; /* it diverges */
    }
    double max = at->max > 0 ? (double)at->max : 1;
    double t = ask->noisy ? (double)ask->z : max;
    double a = 0.03 + 0.6 * (1 - exp(-4 * distance(c, ask->u, n))) +
               0.05 * smooth(c, ROUGH, ask->u, n);
    double rate = 0.6 + 1.4 * smooth(c, RATE, ask->u, n);
    double tau = max * (0.01 + 0.12 * smooth(c, TAU, ask->u, n));
    double error = a + (START_ERROR - a) * pow(1 + t / tau, -rate);
    if (ask->noisy && at->args[0] > 0) {
        pcg_stream(&g, at->noise ^ (uint64_t)ask->trial << 20, "curve:noise", (uint64_t)ask->z);
        error += at->args[0] * pcg64_normal(&g);
    }
    return fmin(fmax(error, 0), 1);
}

const struct function objective_curves[] = {
    {.form = "curve(noise, failing)", .name = "curve",
     .summary = "learning curves over any space: noise (.005), share that diverges (0)",
     .n_args = 2, .args = {0.005, 0}, .least = {0, 0}, .most = {1, 1}, .min = 1, .max = 27,
     .unit = "epoch", .space = curve_space, .setup = curve_setup, .value = curve, .is_error = true},
    {0},
};
