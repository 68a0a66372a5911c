/* SPDX-License-Identifier: Apache-2.0
 *
 * What of one trial's or one experiment's folder is garbage, and its removal. Any one thread;
 * blocks.
 */
#ifndef MAG_DRIVER_GC_SWEEP_H
#define MAG_DRIVER_GC_SWEEP_H

#include "driver/study.h"
#include "storage/storage.h"

#include <jansson.h>

/* A checkpoint that the record counts. */
struct gc_known {
    int64_t step, attempt;
    bool there; /* the sweep found it and left it */
};

/* What the study said of a trial. */
struct gc_trial {
    int64_t id;
    int64_t attempt;
    bool open;      /* checkpoints of `attempt` may be on their way */
    bool foreign;   /* its checkpoint has a name that is not ours: nothing of it is touched */
    bool committed; /* it has a checkpoint of its own, this one: */
    struct study_pin last;
    struct gc_known *known;
    int n_known;
    bool swept; /* all of it was looked at: what is known and not there is gone */
};

/* What a sweep keeps. */
struct gc_rules {
    int64_t keep; /* the newest of a trial */
    bool tight;   /* storage is full: older ones of a running attempt go too */
    bool best, maximize;
    const struct study_pin *claims; /* newest checkpoints of this trial's copies, and its own */
    int n_claims;
};

#define GC_REMOVED_MAX 1000 /* keys in a report */

struct gc_count {
    bool dry;
    int64_t experiments, checkpoints, objects, bytes;
    json_t *removed; /* array of keys */
};

/* Removes the trial's checkpoints that nothing refers to, beyond the newest `keep` (and the best;
 * what may be the best, because its value was not written down with it, stays too), and fills
 * t->swept and t->known. */
enum mag_status gc_sweep_trial(struct storage *s, int64_t experiment, struct gc_trial *t,
                               const struct gc_rules *rules, struct gc_count *count,
                               struct mag_err *err) MAG_MUSTCHECK;
/* Removes the whole folder of an experiment. */
enum mag_status gc_sweep_experiment(struct storage *s, int64_t experiment, struct gc_count *count,
                                    struct mag_err *err) MAG_MUSTCHECK;

#endif
