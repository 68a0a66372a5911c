/* SPDX-License-Identifier: Apache-2.0
 *
 * How long a step takes: a mean time, times a factor that is drawn (for each job or each step),
 * times what the trial's parameters make of it.
 *
 *     constant          1
 *     uniform(h)        1 - h … 1 + h
 *     lognormal(s)      exp(s z - s^2 / 2), z ~ N(0, 1): mean 1
 *     exponential       mean 1
 *     straggler(s)      1 + |z|, z ~ N(0, s) (Li et al., A System for Massively Parallel
 *                       Hyperparameter Tuning, MLSys 2020, appendix A.1): never below 1
 */
#ifndef MAG_SIMULATE_DURATION_H
#define MAG_SIMULATE_DURATION_H

#include "base/err.h"
#include "base/pcg.h"
#include "space/space.h"

enum sim_model {
    SIM_CONSTANT = 0,
    SIM_UNIFORM = 1,
    SIM_LOGNORMAL = 2,
    SIM_EXPONENTIAL = 3,
    SIM_STRAGGLER = 4,
};

/* One parameter that makes trials slower: the time is multiplied by ratio^u, u its place in the
 * unit interval. 4: the highest value takes four times as long as the lowest. */
struct sim_slower {
    char name[SPACE_NAME_MAX + 1];
    double ratio;
};

#define SIM_SLOWER_MAX 16

struct sim_duration {
    enum sim_model model;
    double spread; /* the model's number */
    bool per_step; /* drawn for each step; else once for each job */
    struct sim_slower by[SIM_SLOWER_MAX];
    int n_by;
};

/* "lognormal(0.5)", "straggler(1.33)", "constant" …; the rest of *ret stays. */
enum mag_status sim_duration_parse(const char *text, struct sim_duration *ret,
                                   struct mag_err *err) MAG_MUSTCHECK;
/* One factor. */
double sim_duration_draw(const struct sim_duration *d, struct pcg64 *g);
/* What the parameters make of a step's time; inactive ones make nothing. */
double sim_duration_of_point(const struct sim_duration *d, const struct space *space,
                             const double *point);

#endif
