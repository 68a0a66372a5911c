/* SPDX-License-Identifier: Apache-2.0
 *
 * Trials side by side in the lanes of one net (horizontally fused training arrays: Wang et al.,
 * MLSys 2021). Each gives what it gives alone (trial.h): its random streams are its own, and so are
 * its numbers, schedule, orders, metrics and checkpoints, which have the same format.
 */
#ifndef MAG_TRAINER_FUSED_H
#define MAG_TRAINER_FUSED_H

#include "trainer/trial.h"

/* One of several trials. `recipe` is fitted; all are of one experiment and have the same fuse_key
 * (wire/fuse.h). */
struct trial_lane {
    const struct trial_job *job;
    int64_t resume_step; /* which epoch job->resume_path is said to be of */
    const struct recipe *recipe;
    const struct trial_hooks *hooks;
    /* It has ended, while others may go on; NULL = of no interest. */
    void (*end)(void *ctx, const struct trial_lane *lane);
    /* Only the first `lanes` have room, and this one is not begun; NULL as above. */
    void (*decline)(void *ctx, int lanes);
    struct trial_result *result;
    enum mag_status status; /* how it ended */
    struct mag_err err;
};

/* Runs them all to their ends; each one's is told by its `end` (with the hooks' ctx) and left in
 * `status`, `err` and `result`. What happens to one is no matter to the others, but for failures of
 * the backend, which are everyone's. n: 1 to BACKEND_LANES_MAX. */
void fused_run(struct trial_lane *lanes, int n, const struct dataset *d, struct backend *backend);

#endif
