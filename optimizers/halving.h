/* SPDX-License-Identifier: Apache-2.0
 *
 * Asynchronous successive halving: what ASHA, asynchronous Hyperband and PASHA have in common.
 * Rungs of entries, trials that run up to a rung and pause or stop there, and a sampler that is
 * told of all of it. The algorithm says in which rung a new trial starts.
 *
 * What counts: a rung's entries are the values reported there, one a trial, of trials that started
 * in it or below. A trial that fails or is cancelled before the rung's budget leaves no entry; one
 * that ends after it keeps its entry (a true value) but can no longer be promoted. A program may
 * step over a rung's budget; its first report from there on is the entry.
 */
#ifndef MAG_OPTIMIZERS_HALVING_H
#define MAG_OPTIMIZERS_HALVING_H

#include "optimizers/idtab.h"
#include "optimizers/rungs.h"
#include "optimizers/sampler.h"

enum halving_phase { HALVING_NOT_OURS, HALVING_RUNNING, HALVING_PAUSED, HALVING_ENDED };

/* One a trial; there may be millions. */
struct halving_trial {
    uint8_t phase;
    uint8_t rung;   /* RUNNING: runs up to this one; PAUSED: stands there */
    uint8_t passed; /* its reports have reached the rungs below this one */
    uint8_t start;  /* the rung in which it started */
    uint32_t entry; /* PAUSED: its entry there */
};

IDTAB(halving_trials, struct halving_trial)

/* The rungs of one system; entries of a rung below `start` of every trial in it stay empty. */
struct ladder {
    struct rung rungs[RUNGS_MAX];
    int64_t running[RUNGS_MAX]; /* trials that run up to this rung */
    int64_t started;            /* trials, ever */
};

struct halving {
    struct sampler *sampler;
    int64_t eta;
    int n_levels;
    int64_t levels[RUNGS_MAX];
    int top;       /* promotions lead to this rung at most: n_levels - 1, PASHA begins lower */
    bool stops;    /* a poor trial stops at a rung and the others run on; else all pause there */
    int n_ladders; /* 1: all trials compete; n_levels: those that started in the same rung */
    struct ladder *ladders;
    struct halving_trials trials;
};

struct halving_setup {
    const struct sampler_ops *sampler;
    const double *sampler_values; /* its options, NULL = defaults */
    const char *purpose;          /* name of the algorithm */
    int64_t eta;
    bool stops, apart;
};

/* Refuses a resource without room for two rungs. The half-built is left for fini. */
enum mag_status halving_init(struct halving *h, const struct halving_setup *setup,
                             const struct opt_config *cfg, const char **ret_pointer,
                             struct mag_err *err) MAG_MUSTCHECK;
void halving_fini(struct halving *h);

/* The system in which trials of a start rung compete. */
struct ladder *halving_ladder(const struct halving *h, int start);
/* The rung that a budget leads to: the first that is not below it. */
int halving_rung(const struct halving *h, int64_t budget);
/* Resumes the best candidate of the highest rung of that system; false when it has none. */
bool halving_promote(const struct halving *h, int start, struct opt_suggestion *out);
/* A new trial in rung `start`; false when the space is exhausted. */
bool halving_create(const struct halving *h, int start, const struct opt_ask *ask,
                    struct opt_suggestion *out);
/* WAIT while some report could cause a promotion, else DONE with this reason. */
void halving_none(const struct halving *h, struct opt_suggestion *out, const char *code,
                  const char *why);

/* `start` counts for new trials. */
void halving_adopt(struct halving *h, const struct opt_suggestion *s, int start);
enum opt_action halving_report(struct halving *h, int64_t trial, int64_t step,
                               const struct opt_result *r);
void halving_finish(struct halving *h, int64_t trial, enum opt_outcome outcome);
/* The budget of a trial that starts in this rung. */
int64_t halving_budget(const struct halving *h, int start);

/* {"version", "trials", "rungs", "counts", "told"}; the algorithm may add its own. */
json_t *halving_save(const struct halving *h);
enum mag_status halving_load(struct halving *h, const json_t *state,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Rows of `magpie plan` for `trials` (0 = unknown) that start in this rung: what a large search
 * tends to. */
void halving_rows(const struct halving *h, int bracket, int start, int top, int64_t trials,
                  json_t *rows);

#endif
