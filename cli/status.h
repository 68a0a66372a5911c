/* SPDX-License-Identifier: Apache-2.0
 *
 * An experiment as the command line follows it: counts, best, progress line, last words. Shared by
 * `run` and `watch`.
 */
#ifndef MAG_CLI_STATUS_H
#define MAG_CLI_STATUS_H

#include "cli/client.h"

#include <stdio.h>

/* completed, cancelled or failed. */
bool status_is_over(const json_t *experiment);
/* "[####......] 12/36 trials, 2 running, best val_accuracy 0.8931 (trial 7), 1m30s left",
 * malloc'ed. `bar`: with the bar. */
char *status_line(const json_t *experiment, bool bar);
/* The end, for people: state, counts, best trial with its parameters and last metrics. */
void status_print_end(struct client *c, const json_t *experiment, FILE *f);
/* The best trial's metrics at its last step ({"val_accuracy": …}), new reference; NULL when
 * unknown. */
json_t *status_last_metrics(struct client *c, int64_t experiment, int64_t trial);
/* Trials by state: "12 completed, 2 running, 1 failed", malloc'ed. */
char *status_counts(const json_t *experiment);

#endif
