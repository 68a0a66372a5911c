/* SPDX-License-Identifier: Apache-2.0
 *
 * A trial over several ranks that outlives them: the ranks are children of this process, which
 * passes their lines on and keeps the newest checkpoint. When a rank dies they are all ended and
 * started again from that checkpoint; a second death without a newer one takes one rank less, down
 * to "min_ranks". Steps that are reported again are not passed on, so that nobody but the log
 * notices. After ELASTIC_TRIES deaths in a row without a newer checkpoint the trial fails, with a
 * request to be tried again.
 *
 * The ranks stay for the next trial of the same kind, with their data sets.
 */
#ifndef MAG_TRAINER_ELASTIC_H
#define MAG_TRAINER_ELASTIC_H

#include "base/json.h"
#include "trainer/ranks.h"

#define ELASTIC_TRIES 3

struct elastic {
    struct ranks ranks;
    bool ready; /* rank 0 waits for a start */
};

struct elastic_hooks {
    void *ctx;
    /* A report, checkpoint, result or error of rank 0 (or an error of this module's), whole with
     * its line end. A failure means that nobody listens any more. */
    enum mag_status (*line)(void *ctx, const json_t *message, const char *text, size_t len);
    struct channel *orders; /* of the worker: stop, pause, exit; NULL = none come */
};

/* Runs the trial of a checked `start` message to its result or error, which went to `line`.
 * *ret_exit: this process was told to exit, or has nobody to talk to; the ranks have ended. INVALID
 * and others when ranks cannot be started at all. */
enum mag_status elastic_run(struct elastic *x, const struct distribution *plan, const json_t *start,
                            const struct elastic_hooks *hooks, bool *ret_exit,
                            struct mag_err *err) MAG_MUSTCHECK;
/* Ends the ranks. */
void elastic_fini(struct elastic *x);

#endif
