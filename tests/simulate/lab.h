/* SPDX-License-Identifier: Apache-2.0
 *
 * Short ways to simulations for tests.
 */
#ifndef MAG_TESTS_SIMULATE_LAB_H
#define MAG_TESTS_SIMULATE_LAB_H

#include "simulate/experiment.h"
#include "simulate/sim.h"

/* Every recorded event as text, one a line: "seq kind wall_ms text". */
struct lab_record {
    struct buf text;
    int64_t n;
    int64_t kinds[EV_LAST + 1];
    struct verifier *verifier; /* derives each decision again; NULL = nobody asked */
    bool sound;                /* and it never found a difference */
    int64_t expired_ms[64];    /* when leases ran out, of the first */
    int n_expired;
};

struct lab {
    const char *simulation; /* JSON of the settings */
    const char *experiment; /* JSON of an experiment file, NULL = the objective's own */
    const char *algorithm;
    int64_t trials, min, max;
    int64_t workers; /* 0 = what the settings say first */
    uint64_t repetition;
    bool verify;
};

/* Runs; every fault of the settings is a failed test. Free both. */
struct sim_result lab_run(const struct lab *l, struct lab_record *record);
void lab_record_fini(struct lab_record *r);
/* Settings that must parse, and texts of those that must not (freed by the caller). */
struct sim_setup lab_setup(const char *json);
char *lab_faults(const char *json);
/* An objective over a space, and one value of it. */
struct objective *lab_objective(const char *objective, const struct space *space, bool maximize,
                                int64_t max);
struct space *lab_space(const char *json);
double lab_value(struct objective *o, const double *point, int64_t trial, int64_t step,
                 int64_t budget);

#endif
