/* SPDX-License-Identifier: Apache-2.0
 *
 * What a simulated trial measures: test functions, some with a fidelity, learning curves over any
 * search space, or a program of the user's. A value is a function of (seed, trial, point, step): no
 * order of events changes it.
 */
#ifndef MAG_SIMULATE_OBJECTIVE_H
#define MAG_SIMULATE_OBJECTIVE_H

#include "base/err.h"
#include "base/json.h"
#include "simulate/call.h"
#include "space/space.h"

#include <stdint.h>

#define OBJECTIVE_ARGV_MAX 64 /* words of a program's command */

/* Which one, as files and flags name it. Plain data: parsed once, used for every run. */
struct objective_spec {
    struct sim_call call;           /* a built-in one, such as "ackley(10)" */
    char *argv[OBJECTIVE_ARGV_MAX]; /* a program; argv[0] NULL = none; malloc'ed */
    int64_t timeout_ms;             /* of one answer of the program */
};

/* One question. */
struct objective_ask {
    int64_t trial;
    const double *point; /* of the run's space */
    int64_t step;        /* 1 … budget; 0 in an experiment without a resource */
    int64_t budget;      /* the resource's max, 0 without one */
};

/* A further metric that trials must report: another objective, or one that is bounded. */
struct objective_more {
    const char *name;
    bool maximize;
    double lo, hi; /* bounds; infinite = open. Both open: an objective */
};

/* What an objective is made for. Borrowed for the objective's life. */
struct objective_for {
    const struct space *space;
    const char *metric;
    bool maximize;      /* values are turned round: the greater the better */
    int64_t min, max;   /* resource, 0 = none */
    uint64_t seed;      /* of the problem itself: the same in every repetition */
    uint64_t noise;     /* of what is random in a measurement: other in every repetition */
    const struct objective_more *more;
    int n_more;
};

struct objective;

/* Text form ("branin", "sphere(5)"), or a list of words: a program. Adds every fault to `is`. */
void objective_spec_parse(const json_t *value, const char *pointer, struct objective_spec *ret,
                          struct mjson_issues *is);
void objective_spec_fini(struct objective_spec *s);

/* An experiment file for the objective alone: its natural space, resource and direction. NULL for a
 * program (its space is the user's). New reference. */
json_t *objective_document(const struct objective_spec *s);

/* MAG_INVALID: the space does not suit it. Programs are started. */
enum mag_status objective_create(const struct objective_spec *s, const struct objective_for *what,
                                 struct objective **ret, struct mag_err *err) MAG_MUSTCHECK;
void objective_destroy(struct objective *o);
/* 1 + n_more values, in the user's sign; NaN fails the trial, as it would a real one. *ret_seconds:
 * how long the step takes where a program says so, else untouched. A function has its value for the
 * first metric; the others are learning curves of their own, about one in three beyond a bound. */
enum mag_status objective_value(struct objective *o, const struct objective_ask *ask, double *ret,
                                double *ret_seconds, struct mag_err *err) MAG_MUSTCHECK;
/* The value at the whole budget without noise, in the user's sign; NaN when nobody knows. */
double objective_truth(const struct objective *o, const double *point);
/* The best value there is, in the user's sign; NaN when nobody knows. */
double objective_optimum(const struct objective *o);
/* For help: "name(args)  summary" of the i-th built-in objective, false behind the last. */
bool objective_describe(int i, const char **ret_form, const char **ret_summary);

#endif
