/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the objectives: the table of built-in ones. Every function minimises and takes its
 * parameters from the unit cube, so that it can stand over any space with enough parameters.
 */
#ifndef MAG_SIMULATE_OBJECTIVE_IMPL_H
#define MAG_SIMULATE_OBJECTIVE_IMPL_H

#include "simulate/objective.h"

struct function;

/* A built-in function, set up for one space. */
struct function_at {
    const struct function *f;
    const struct space *space;
    double args[SIM_CALL_ARGS_MAX]; /* given or default */
    int64_t min, max;               /* resource; 0 = none */
    uint64_t seed, noise;
    void *data; /* made by setup, or NULL */
};

struct function_ask {
    const double *u; /* place in the unit cube, NaN = inactive; space->n numbers */
    const double *point;
    int64_t trial;
    int64_t z;  /* fidelity: the step; the resource's max, or 1, without a step */
    bool noisy; /* false: what it would be without noise */
};

struct function {
    const char *form; /* "ackley(dims, shift)", for help */
    const char *name;
    const char *summary;
    int dims;   /* parameters that it needs; 0 = any number */
    int n_args; /* numbers it takes at most */
    double args[SIM_CALL_ARGS_MAX]; /* defaults */
    double least[SIM_CALL_ARGS_MAX], most[SIM_CALL_ARGS_MAX];
    int64_t min, max; /* natural resource; 0 = none */
    const char *unit;
    json_t *(*space)(const struct function *f, const double *args); /* natural */
    double lo, hi;                                                  /* of each parameter there */
    void *(*setup)(const struct function_at *at);                   /* free()able, or NULL */
    double (*value)(const struct function_at *at, const struct function_ask *ask);
    double (*optimum)(const struct function_at *at); /* NULL = unknown */
    bool is_error; /* an error rate: turned round it is 1 - value, not -value */
};

/* NULL name at the end. */
extern const struct function objective_plain[];    /* functions.c */
extern const struct function objective_fidelity[]; /* fidelity.c */
extern const struct function objective_curves[];   /* curve.c */

/* Helpers of the tables (functions.c). */
json_t *function_space(const struct function *f, const double *args); /* args[0] or f->dims times
                                                                         DOUBLE in [lo, hi] */
double function_hartmann(const double *u, int dims, const double alpha[4]);
extern const double function_hartmann_alpha[4];
double function_zero(const struct function_at *at);

/* program.c */
struct program;
enum mag_status program_start(const struct objective_spec *s, const struct objective_for *what,
                              struct program **ret, struct mag_err *err) MAG_MUSTCHECK;
enum mag_status program_value(struct program *p, const struct objective_ask *ask, double *ret,
                              double *ret_seconds, struct mag_err *err) MAG_MUSTCHECK;
void program_destroy(struct program *p);

#endif
