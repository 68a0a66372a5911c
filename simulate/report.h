/* SPDX-License-Identifier: Apache-2.0
 *
 * Results of simulations for people and programs.
 */
#ifndef MAG_SIMULATE_REPORT_H
#define MAG_SIMULATE_REPORT_H

#include "base/buf.h"
#include "simulate/sim.h"

/* Mean and standard error of one figure over repetitions; `n` counts those that have it. */
struct sim_figure {
    double sum, squares;
    int64_t n;
};
void sim_figure_add(struct sim_figure *f, double v); /* NaN is left out */
double sim_figure_mean(const struct sim_figure *f);  /* NaN without any */
double sim_figure_error(const struct sim_figure *f); /* 0 for fewer than two */

/* One configuration: an algorithm with so many workers. */
struct sim_summary {
    const char *algorithm; /* borrowed */
    int64_t workers;
    struct sim_figure seconds, best, truth, trials, full, first_full_seconds, utilisation,
        utilisation_until_tail, lost, steps, late, drops, copies;
};
void sim_summary_add(struct sim_summary *s, const struct sim_result *r);

/* {"algorithm", "workers", "seed", "seconds", …}; new references. */
json_t *sim_result_json(const struct sim_result *r, const char *algorithm);
json_t *sim_summary_json(const struct sim_summary *s);
/* One row a job; the head first, with `head`. */
void sim_jobs_csv(const struct sim_result *r, const char *algorithm, bool head, struct buf *out);
/* "3d 4h", "2h 05m", "31.4s": two places that matter. */
void sim_time_text(double seconds, char *buf, size_t size);

#endif
