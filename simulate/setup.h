/* SPDX-License-Identifier: Apache-2.0
 *
 * How a search is simulated: the "simulation" object of an experiment file, or the same in a file of
 * its own, or flags. Times are virtual milliseconds unless said.
 */
#ifndef MAG_SIMULATE_SETUP_H
#define MAG_SIMULATE_SETUP_H

#include "driver/spec.h"
#include "simulate/duration.h"
#include "simulate/objective.h"

#define SIM_WORKERS_MAX 100000
#define SIM_COUNTS_MAX 32     /* worker counts, algorithms in one call */
#define SIM_SEEDS_MAX 10000   /* repetitions */
#define SIM_TIME_MAX_MS (INT64_C(366) * 24 * 3600 * 1000 * 20) /* virtual: 20 years */

struct sim_setup {
    int64_t workers[SIM_COUNTS_MAX];
    int n_workers; /* at least 1 */
    struct objective_spec objective;
    int64_t step_ms;  /* mean time of one step (of a whole trial in a search without a resource) */
    int64_t start_ms; /* before the first step of a job: data, checkpoint */
    struct sim_duration duration;
    double drop;                     /* probability that a job is lost in one mean step's time */
    int64_t death_every_ms, away_ms; /* a worker goes (mean, exponential; 0 = never), and comes back */
    int64_t silent_every_ms, silent_ms; /* likewise: it works on, but nobody hears it */
    int64_t lease_ms, heartbeat_ms;  /* 0 = the driver knows at once */
    int64_t checkpoint_every;        /* steps; a job's last step has one too; 0 = none at all */
    int64_t report_every;            /* steps; a job's last step is always reported */
    double speculate; /* a second copy of jobs that take this many times the usual; 0 = never */
    int64_t time_ms;  /* virtual end, 0 = the experiment's own */
    uint64_t seed;
    int64_t seeds; /* repetitions */
    int64_t ties;  /* order of workers at the same moment: 0 by number, else shuffled by this */
};

/* `value` NULL: the defaults. Checks everything; faults go to `is` under `pointer`. */
void sim_setup_parse(const json_t *value, const char *pointer, struct sim_setup *ret,
                     struct mjson_issues *is);
void sim_setup_fini(struct sim_setup *s);
/* What depends on the experiment: parameters that are named, checkpoints as the file has them, an
 * end to the search. */
void sim_setup_check(const struct sim_setup *s, const struct spec *spec, const char *pointer,
                     struct mjson_issues *is);

#endif
