/* SPDX-License-Identifier: Apache-2.0
 *
 * Simulations as text for people.
 */
#ifndef MAG_CLI_SIMULATE_PRINT_H
#define MAG_CLI_SIMULATE_PRINT_H

#include "simulate/report.h"

/* What is said of the experiment; copied, because a run takes the spec. */
struct print_head {
    char name[128], metric[128], unit[64];
    const char *algorithm; /* static */
    bool maximize;
};
void print_head_init(struct print_head *h, const struct spec *s);

void print_run(const struct print_head *h, const struct sim_result *r,
               const struct sim_setup *setup);
/* One row a configuration; means and, with repetitions, standard errors. */
void print_table(const struct sim_summary *rows, int n);
/* One compact line on standard output. */
void print_json_line(json_t *value_take);

#endif
