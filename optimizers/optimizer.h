/* SPDX-License-Identifier: Apache-2.0
 *
 * The plug-in contract of a search algorithm. An optimizer is a deterministic function of
 * (options, space, seed, ordered calls): no clock, no I/O, no threads, no logging, no global state,
 * no hash-order iteration; draws come from pcg_stream(seed, purpose, trial or counter). It always
 * minimises (the study flips signs); NaN and infinities never reach it; ties break by trial id.
 *
 * Decide and adopt are two steps. `suggest` decides and changes NOTHING; `adopt` makes a decision
 * part of the history. Live: study calls suggest, records the answer, calls adopt with it. Replay:
 * study calls adopt with the recorded answer and never suggest, so a restart trusts the record and
 * not this code; `magpie verify` calls both and compares. Hence suggest after adopt-only replay
 * must equal suggest in the live run, byte for byte.
 *
 * Trial ids are positive, given by the study in creation order: the next new trial's id is always
 * the `next_trial` passed to suggest.
 */
#ifndef MAG_OPTIMIZERS_OPTIMIZER_H
#define MAG_OPTIMIZERS_OPTIMIZER_H

#include "base/err.h"
#include "base/json.h"
#include "space/space.h"

#include <stddef.h>
#include <stdint.h>

enum opt_answer {
    OPT_TRIAL = 0,  /* start a new trial at `point` up to `budget` */
    OPT_RESUME = 1, /* continue the paused trial `trial` up to `budget` */
    OPT_WAIT = 2,   /* nothing now; ask again after the next report or finish */
    OPT_DONE = 3,   /* nothing ever again, unless the study is extended */
};

enum opt_action { OPT_CONTINUE = 0, OPT_PAUSE = 1, OPT_STOP = 2 };

enum opt_outcome {
    OPT_COMPLETED = 0, /* ran to its end; value valid */
    OPT_STOPPED = 1,   /* ended early; value = last seen, may be absent (has_value) */
    OPT_FAILED = 2,    /* no usable value */
    OPT_CANCELLED = 3, /* taken out by a person; no usable value */
};

#define OPT_WHY_MAX 160
#define OPT_OBJECTIVES_MAX 16

/* What a trial reached, smaller is better in every objective. All finite. */
struct opt_result {
    double value;         /* values[0]: the objective, or the first of several */
    const double *values; /* opt_config.objectives of them, borrowed for the call */
    double violation;     /* of the outcome constraints, summed; 0 = feasible, never negative */
};

/* One feasible value as a result; borrows it. */
static inline struct opt_result opt_result_of(const double *value)
{
    return (struct opt_result){.value = *value, .values = value};
}

/* One decision. The caller owns `point` (space->n doubles, may be NULL when it wants no point). */
struct opt_suggestion {
    enum opt_answer answer;
    int64_t trial;  /* TRIAL: next_trial; RESUME: the paused trial */
    double *point;  /* TRIAL: filled */
    int64_t budget; /* resource units to run up to; 0 = the experiment has no resource */
    int64_t parent; /* TRIAL: start from this trial's checkpoint, 0 = from nothing */
    int64_t parent_step;
    int32_t bracket; /* multi-fidelity: for display; 0 otherwise */
    int32_t rung;
    const char *why_code;  /* WAIT, DONE: constant code such as "rung-not-full" */
    char why[OPT_WHY_MAX]; /* WAIT, DONE: one sentence */
};

/* What suggest may use. */
struct opt_ask {
    int64_t next_trial; /* id of the next new trial */
    bool may_create;    /* false: only RESUME, WAIT or DONE (the limit of trials is reached) */
};

struct opt_resource {
    bool present;
    int64_t min, max; /* 1 <= min <= max */
};

enum opt_type { OPT_T_INT = 0, OPT_T_REAL = 1, OPT_T_BOOL = 2, OPT_T_ENUM = 3 };

/* One option of an algorithm: drives parsing, errors, docs and the board. */
struct opt_option {
    const char *name;
    enum opt_type type;
    double lo, hi;            /* INT, REAL: inclusive range */
    double def;               /* INT, REAL, BOOL: default; NaN = depends, see help */
    const char *const *names; /* ENUM: NULL-terminated; the default is names[(int)def] */
    const char *help;         /* one line */
};

/* Parsed options: values[i] belongs to ops->options[i]; ENUM holds the index. Options that were not
 * given hold their default. */
struct opt_config {
    const struct space *space; /* borrowed for the optimizer's life */
    uint64_t seed;
    struct opt_resource resource;
    int64_t trials;   /* limits.trials, 0 = none; a hint only: the study enforces it */
    bool bounded;     /* trials, time or a target end the search whatever the optimizer does */
    int64_t parallel; /* limits.parallel, 0 = unknown; a hint only */
    int objectives;   /* 1 .. OPT_OBJECTIVES_MAX */
    const double *values;
};

enum opt_caps {
    OPT_CAP_RESOURCE = 1,    /* needs `resource` */
    OPT_CAP_PAUSES = 2,      /* may answer PAUSE and RESUME */
    OPT_CAP_FINITE = 4,      /* tries every point of a finite space, and ends */
    OPT_CAP_ESTIMATE = 8,    /* plan rows are what a long search tends to, not bounds */
    OPT_CAP_SLOW = 16,       /* suggest may take over 1 ms: the driver calls it on a thread. Without
                                a point (NULL) or a new trial (may_create) it is quick all the same,
                                and so are all other calls */
    OPT_CAP_MULTI = 32,      /* handles several objectives */
    OPT_CAP_OUTCOME = 64,    /* prefers feasible results by opt_result.violation */
    OPT_CAP_STATELESS = 128, /* samplers: propose depends on (seed, trial, attempt) alone */
};

struct optimizer;

struct optimizer_ops {
    const char *name;    /* as in "algorithm" */
    const char *summary; /* one line for docs, `magpie version` and the board */
    const char *paper;   /* reference, or NULL */
    unsigned caps;
    const struct opt_option *options; /* ends with a NULL name */
    int version; /* raised when the same history gives other decisions, by a part that it uses too
                    (but for the one named by the option "sampler"): the record names it */
    size_t state_size; /* the framework allocates zeroed state */

    /* Checks all that can be wrong (text in err, pointer in *ret_pointer such as
     * "/reduction_factor", constant, may stay NULL). May leave half-built state: fini copes. */
    enum mag_status (*init)(void *self, const struct opt_config *cfg, const char **ret_pointer,
                            struct mag_err *err);
    void (*fini)(void *self);
    /* Decides; changes nothing that a later call can see. */
    void (*suggest)(const void *self, const struct opt_ask *ask, struct opt_suggestion *out);
    /* A decision of ours or another's (recorded, enqueued, earlier trial) becomes history. For
     * TRIAL `s->trial` is the id it got; enqueued points may hold any valid point and have budget
     * set by `first_budget`. */
    void (*adopt)(void *self, const struct opt_suggestion *s);
    /* An earlier experiment's trial reached `r` at `budget` (0 = its end) from `point`. Only before
     * the first suggestion and adoption. NULL = this algorithm learns nothing from others. */
    void (*observe)(void *self, const double *point, int64_t budget, const struct opt_result *r);
    /* The first value of an increasing step of a running trial. */
    enum opt_action (*report)(void *self, int64_t trial, int64_t step, const struct opt_result *r);
    /* Exactly once for each adopted trial that ends; a paused trial that is cancelled also ends.
     * `r` NULL: there is no usable value. */
    void (*finish)(void *self, int64_t trial, enum opt_outcome outcome, const struct opt_result *r);
    /* Budget for a point that the optimizer did not suggest (enqueued, forked); NULL = resource max
     * or 0 without a resource. */
    int64_t (*first_budget)(const void *self);
    /* All state as JSON ("version" included), new reference; load into a freshly init'ed self. */
    json_t *(*save)(const void *self);
    enum mag_status (*load)(void *self, const json_t *state, struct mag_err *err);
    /* For `magpie plan`: adds {"bracket","rung","budget","trials","epochs"} rows to `rows`
     * ("rounds": how often the row happens, 1 when absent), upper bounds unless OPT_CAP_ESTIMATE;
     * trials and epochs are null where no limit of trials tells. NULL = no schedule beyond
     * `trials`. */
    void (*plan)(const void *self, int64_t trials, json_t *rows);
};

/* ---- registry (registry.c) ---- */
const struct optimizer_ops *const *optimizer_registry(void); /* NULL-terminated */
const struct optimizer_ops *optimizer_find(const char *name);

/* ---- handle (optimizer.c): what study and simulator use ---- */

/* What the experiment tells its optimizer. */
struct opt_setup {
    const struct space *space; /* borrowed for the optimizer's life */
    uint64_t seed;
    struct opt_resource resource;
    int64_t trials;   /* limits.trials, 0 = none */
    bool bounded;     /* limits.time or limits.target ends the search; trials do in any case */
    int64_t parallel; /* limits.parallel, 0 = unknown */
    int objectives;   /* 0 is read as 1 */
    int folds;        /* trials of one point, whose mean it gets as the point's value; 0 is read as
                         1. With more a report's step is the number of folds that have ended */
};

/* Parses the "optimizer" object ({"algorithm": …, options}); NULL = {"algorithm": "auto"}. "auto"
 * picks by the setup and says why in *ret_why (malloc'ed, NULL when not auto). Every fault goes to
 * `is` under `pointer`; NULL exactly when there are any. */
struct optimizer *optimizer_create(const json_t *object, const char *pointer,
                                   const struct opt_setup *setup, struct mjson_issues *is,
                                   char **ret_why);
void optimizer_destroy(struct optimizer *o);
const struct optimizer_ops *optimizer_ops_of(const struct optimizer *o);
/* OPT_CAP_SLOW, of the algorithm or of the sampler that it was given. */
bool optimizer_is_slow(const struct optimizer *o);
/* Who decides: "asha 1, tpe 2", the algorithm and the sampler that it was given with their
 * versions; malloc'ed. */
char *optimizer_maker(const struct optimizer *o);
/* The object with the algorithm chosen and every option written out, new reference. */
json_t *optimizer_resolved(const struct optimizer *o);

void optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                       struct opt_suggestion *out);
void optimizer_adopt(struct optimizer *o, const struct opt_suggestion *s);
void optimizer_observe(struct optimizer *o, const double *point, int64_t budget,
                       const struct opt_result *r);
enum opt_action optimizer_report(struct optimizer *o, int64_t trial, int64_t step,
                                 const struct opt_result *r);
void optimizer_finish(struct optimizer *o, int64_t trial, enum opt_outcome outcome,
                      const struct opt_result *r);
int64_t optimizer_first_budget(const struct optimizer *o);
json_t *optimizer_save(const struct optimizer *o);
enum mag_status optimizer_load(struct optimizer *o, const json_t *state,
                               struct mag_err *err) MAG_MUSTCHECK;
void optimizer_plan(const struct optimizer *o, int64_t trials, json_t *rows);

#endif
