/* SPDX-License-Identifier: Apache-2.0
 *
 * How one trial is spread over processes, its ranks: the experiment's "distribution" object, which
 * a `start` message carries.
 */
#ifndef MAG_TRAINER_DISTRIBUTION_H
#define MAG_TRAINER_DISTRIBUTION_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

enum strategy { STRATEGY_ALLREDUCE = 0, STRATEGY_SERVER = 1 };
enum transport { TRANSPORT_SHM = 0, TRANSPORT_MPI = 1 };

struct distribution {
    enum strategy strategy;
    enum transport transport;
    int ranks, min_ranks;
    int64_t timeout_ms; /* of a rank that waits for the others */
    bool lock;          /* parameter server: one changes the weights at a time */
    int push_every;     /* parameter server: batches between two pushes */
};

/* One process; what an absent object means. */
extern const struct distribution distribution_none;

/* `o` NULL: one rank. False exactly when issues were added below `pointer`. */
bool distribution_parse(const json_t *o, const char *pointer, struct mjson_issues *is,
                        struct distribution *ret);

#endif
