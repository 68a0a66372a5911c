/* SPDX-License-Identifier: Apache-2.0
 *
 * One trial: epochs of training with metrics, checkpoints and orders in between. Everything random
 * comes from streams named by (seed, purpose, trial, epoch, batch), so a trial that resumes from a
 * checkpoint gives the same bits as one that never stopped.
 */
#ifndef MAG_TRAINER_TRIAL_H
#define MAG_TRAINER_TRIAL_H

#include "trainer/collective.h"
#include "trainer/dataset.h"
#include "trainer/distribution.h"
#include "trainer/feed.h"
#include "trainer/metrics.h"
#include "trainer/net.h"
#include "trainer/recipe.h"

#include <stdint.h>

enum trial_order { ORDER_NONE = 0, ORDER_PAUSE = 1, ORDER_STOP = 2, ORDER_EXIT = 3 };
enum trial_end { TRIAL_COMPLETED = 0, TRIAL_STOPPED = 1, TRIAL_PAUSED = 2, TRIAL_EXITED = 3 };

struct trial_job {
    int64_t trial;
    uint64_t seed;
    int64_t budget;             /* last epoch; 0 = the recipe's "epochs" */
    const char *resume_path;    /* NULL = from the start */
    const char *checkpoint_dir; /* NULL = write none */
    int64_t checkpoint_every;   /* epochs; 0 = only at the end and when paused */
    /* The other ranks of this trial; NULL = none. All ranks run it with the same job; only rank 0's
     * paths and hooks count. After a failure they are of no more use. Borrowed. */
    struct collective *ranks;
    const struct distribution *plan; /* where there are ranks */
};

/* How the trial speaks with its surroundings; each may be NULL. */
struct trial_hooks {
    void *ctx;
    enum trial_order (*poll)(void *ctx); /* called before every batch: must be cheap */
    enum mag_status (*report)(void *ctx, int64_t step, const struct metrics *m,
                              struct mag_err *err);
    enum mag_status (*checkpoint)(void *ctx, int64_t step, const char *path, struct mag_err *err);
};

struct trial_result {
    enum trial_end end;
    int64_t step;
    struct metrics metrics; /* of the last epoch; with the test part when completed */
    double train_seconds;   /* in training batches alone */
    int64_t train_rows;
    int64_t batches; /* that it was trained on so far, also while it runs */
};

/* Runs a fitted recipe on its split data set with an open backend. */
enum mag_status trial_run(const struct trial_job *job, const struct recipe *recipe,
                          const struct dataset *d, struct backend *backend,
                          const struct trial_hooks *hooks, struct trial_result *ret,
                          struct mag_err *err) MAG_MUSTCHECK;

/* The epoch's order of training rows: the trial's own, or the experiment's. */
void trial_draw_order(const struct trial_job *job, const struct training *t,
                      const struct dataset *d, int64_t epoch, uint32_t *order);
/* What an epoch trains on: `rows` in this order; changes to images come from the stream of the
 * order's owner. */
struct feed_lane trial_feed_lane(const struct trial_job *job, const struct training *t,
                                 int64_t epoch, const uint32_t *rows);
/* Takes the measures of an epoch that is done where the schedule is a plateau's. A trial without a
 * validation part (a refit) goes by its training loss. */
void trial_watch_plateau(const struct training *t, const struct dataset *d, const struct metrics *m,
                         struct plateau *p);
/* What ends a trial whose loss `of` a part is no finite number any more. */
enum mag_status trial_diverged(const char *of, int64_t epoch, int64_t updates, struct mag_err *err);

#endif
