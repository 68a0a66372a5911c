/* SPDX-License-Identifier: Apache-2.0
 *
 * The experiment that is simulated: the user's file, or the objective's natural one, with what the
 * command line changes.
 */
#ifndef MAG_SIMULATE_EXPERIMENT_H
#define MAG_SIMULATE_EXPERIMENT_H

#include "simulate/setup.h"

#define SIM_TRIALS 100 /* where neither file nor flags limit anything */

struct sim_changes {
    const char *algorithm; /* a name, or an optimizer object as JSON text; NULL = the file's */
    int64_t trials;        /* 0 = the file's */
    int64_t min, max;      /* resource; 0 = the file's */
    uint64_t add_to_seed;  /* repetitions */
};

/* `file` NULL: the natural experiment of the objective (MAG_INVALID for a program, which has none).
 * New reference. */
enum mag_status sim_experiment(const json_t *file, const struct sim_setup *setup,
                               const struct sim_changes *changes, json_t **ret,
                               struct mag_err *err) MAG_MUSTCHECK;

#endif
