/* SPDX-License-Identifier: Apache-2.0
 *
 * The experiment file: parsed, checked whole, resolved (every default written out). Pure: no clock,
 * no files; an omitted seed is drawn by the caller and passed in. Immutable after spec_parse.
 */
#ifndef MAG_DRIVER_SPEC_H
#define MAG_DRIVER_SPEC_H

#include "base/json.h"
#include "optimizers/early_stop.h"
#include "optimizers/optimizer.h"
#include "space/space.h"

#include <stdint.h>

#define SPEC_BYTES_MAX (1 << 20) /* size of an experiment file */
#define SPEC_TRIALS_MAX 10000000 /* limits.trials */

enum spec_program { SPEC_ASKED = 0, SPEC_BUILTIN = 1, SPEC_COMMAND = 2, SPEC_EXECUTOR = 3 };

struct spec_limits {
    int64_t trials;   /* created ids; 0 = none */
    int64_t parallel; /* running (and reserved) trials; 0 = none */
    int64_t time_ms;  /* driver up and experiment not paused; 0 = none */
    bool has_target;
    double target;         /* in the user's sign */
    int64_t retries;       /* 2: failures of the program that may pass, for each trial */
    int64_t losses;        /* 5: lost leases in a row without a newer checkpoint */
    int64_t failures;      /* 10: failed trials in a row that pause the experiment; 0 = never */
    int64_t storage_bytes; /* held in shared storage; 0 = no limit of its own */
    /* Kept by the worker; 0 = none. */
    int64_t trial_time_ms;
    int64_t memory_mb;             /* of a trial's processes together */
    int64_t output_mb;             /* 1024: what a trial may print */
    int64_t files;                 /* open descriptors of one process */
    int64_t processes;             /* 4096: of a trial at a time */
};

struct spec_requires {
    int64_t gpus, gpu_memory_mb, memory_mb, cores;
    int64_t slots; /* of one worker, by "distribution": its ranks; 0 = as the others say */
    bool folds; /* "validation": its worker has to hand the fold on */
    char **labels; /* n_labels strings */
    int n_labels;
};

#define SPEC_STORAGE_MIN 1024 /* limits.storage: bytes */
#define SPEC_STORAGE_MAX (INT64_C(1) << 53)
#define SPEC_LOG (16 << 20) /* logs.limit: bytes of an attempt's output that are kept */
#define SPEC_LOG_MIN (64 << 10)
#define SPEC_LOG_MAX (INT64_C(1) << 30)
#define SPEC_MASKS_MAX 64  /* logs.mask: regular expressions */
#define SPEC_MASK_MAX 1000 /* bytes of one */

#define SPEC_RANKS_MAX 64    /* distribution.ranks: processes of one trial */
#define SPEC_METRIC_MAX 256  /* bytes of a metric's name */
#define SPEC_BOUNDS_MAX 64   /* outcome constraints */
#define SPEC_MEASURES_MAX 64 /* metrics that are objectives or bounded */

/* A number that every trial has to report. */
struct spec_measure {
    char *name;
    bool maximize; /* objectives */
};

/* An outcome constraint: lo <= measure <= hi; infinite = open. */
struct spec_bound {
    int measure;
    double lo, hi;
};

/* A result known before the search: given in the file, or recorded from earlier experiments. */
struct spec_observation {
    double *point;    /* space->n */
    double *measures; /* n_measures, user's sign; NaN = not known (none of the objectives) */
    int64_t budget;   /* 0 = the end of a trial */
};

#define SPEC_FOLDS_MAX 100

/* How a point is judged. Without "validation" a point is one trial, and `folds` is 1. */
struct spec_validation {
    bool present;
    int folds;          /* trials of a point, each on another split; 1 with a ratio */
    double train_ratio; /* 0 = by folds */
    char *column;       /* where the data say which fold a row is of, NULL = drawn */
    uint64_t seed;
    bool stratified, refit;
};

#define SPEC_OBSERVATIONS_MAX 10000
#define SPEC_WARM_LIMIT_MAX 5000 /* trials of earlier experiments */

struct spec {
    char *name;
    const char *metric;                              /* measures[0], the first objective */
    bool maximize;                                   /* likewise */
    struct spec_measure measures[SPEC_MEASURES_MAX]; /* the objectives first */
    int n_objectives, n_measures;
    struct spec_bound bounds[SPEC_BOUNDS_MAX];
    int n_bounds;
    struct space *space;
    struct opt_resource resource;
    char *resource_unit; /* "epoch"; NULL without a resource */
    struct spec_limits limits;
    struct spec_validation validation;
    json_t *distribution; /* of a trial over several processes, whole; NULL = one */
    json_t *ablation; /* as given, or NULL: the searchspace has its parameters */
    struct spec_requires requires_;
    uint64_t seed; /* 0 .. 2^53 */
    enum spec_program program;
    int fuse;         /* builtin: trials trained as one at most; 1 = each alone, FUSE_AUTO */
    int64_t grace_ms; /* between "end" and SIGKILL; 0 = the worker's own */
    json_t *trial;   /* the "trial" object as given, NULL when asked over REST */
    json_t *metrics; /* regular expressions {"name": "re"}, or NULL */
    bool tensorboard; /* its trials' metrics are written as TensorBoard's event files, too */
    json_t *tags;    /* array of strings, never NULL */
    char *notes;     /* never NULL */
    char *project;   /* "default" */
    json_t *notify;  /* {"url", "on": [...]} or NULL */
    int64_t notify_retry_ms; /* how long an undelivered notice is tried again */
    bool notify_recorded;    /* deliveries are in the record: not in those before that */
    int64_t checkpoint_every, checkpoint_keep; /* 1, 2 */
    bool checkpoint_best; /* that of the trial's best step stays, too */
    json_t *logs;                              /* {"limit": bytes, "mask": ["re"]}, never NULL */
    json_t *points;         /* enqueued at the start: array of params objects, or NULL */
    json_t *early_stopping; /* object or NULL */
    json_t *optimizer;      /* object as given or NULL */
    json_t *warm_start;     /* resolved, "recorded" included; or NULL */
    struct spec_observation *observed;
    int n_observed;
    json_t *resolved; /* everything, defaults written out; parsing it gives the same spec */
    char *auto_why;   /* why "auto" picked what it picked, or NULL */
};

/* Checks everything at once. `seed_if_absent` is used when the file has none. NULL exactly when
 * issues were added. */
struct spec *spec_parse(const json_t *doc, uint64_t seed_if_absent, struct mjson_issues *is);
void spec_destroy(struct spec *s);
/* What the search will do before anything is spent: {"algorithm", "why", "trials", "epochs",
 * "table": [{"bracket","rung","budget","trials","epochs"}], "notes": [...]}; new reference. */
json_t *spec_plan(const struct spec *s);
/* What "fuse" comes to in this space, a list of sentences; empty without it. New reference. */
json_t *spec_fuse_notes(const struct spec *s);
/* The index of a measure, -1 = no measure has this name. */
int spec_measure_find(const struct spec *s, const char *name);
/* [{"metric", "direction"}, …], new reference. */
json_t *spec_objectives_json(const struct spec *s);
/* What the spec tells its optimizer and its early-stopping rule; borrows the spec. */
struct opt_setup spec_opt_setup(const struct spec *s);
struct early_setup spec_early_setup(const struct spec *s);

/* How a program has to split its data: {"seed", "stratified", "train_ratio"?, "fold_column"?}, new
 * reference; NULL without "validation". */
json_t *spec_split_json(const struct spec *s);

/* Does it name earlier experiments that were not read yet? */
bool spec_warm_pending(const struct spec *s);
/* What was read from them becomes part of the spec and its resolved form for good: {"used",
 * "dropped": {reason: count}, "observations": [{"params", "values", "budget"?, "experiment",
 * "trial"}]}. Faults go to `is`. */
void spec_warm_record(struct spec *s, json_t *recorded_take, struct mjson_issues *is);
/* {"used", "dropped", "reasons": {…}}, new reference; NULL without a warm start. */
json_t *spec_warm_summary(const struct spec *s);
/* How far a value is beyond a bound, relative to it (absolute where the bound is 0); 0 = within. */
double spec_excess(const struct spec_bound *b, double v);

#endif
