/* SPDX-License-Identifier: Apache-2.0
 *
 * Hyperband as a kit, for the algorithms that are Hyperband with another sampler: hyperband_init
 * and HYPERBAND_OPS make one of them. Below: its parts, private to hyperband*.c.
 */
#ifndef MAG_OPTIMIZERS_HYPERBAND_H
#define MAG_OPTIMIZERS_HYPERBAND_H

#include "optimizers/halving.h"

#define HYPERBAND_SIZE_MAX 1000000 /* trials in the first rung of a bracket */

struct hyperband_setup {
    const char *name; /* of the algorithm: purpose of its sampler's draws; constant */
    const struct sampler_ops *sampler;
    const double *sampler_values; /* its options, NULL = defaults */
    int64_t eta;
    double iterations; /* NaN = until a limit of the experiment, once without any */
    bool asynchronous;
};

/* {"synchronous", "asynchronous"}: index 1 is `asynchronous`. */
extern const char *const hyperband_modes[];

/* Rows of an option table that every kind of Hyperband begins with, in this order. */
enum { HYPERBAND_ETA, HYPERBAND_ITERATIONS, HYPERBAND_MODE, HYPERBAND_OPTIONS };
#define HYPERBAND_OPTION_ROWS                                                                      \
    {"reduction_factor",                                                                           \
     OPT_T_INT,                                                                                    \
     2,                                                                                            \
     1000,                                                                                         \
     3,                                                                                            \
     NULL,                                                                                         \
     "one in this many trials of a rung is promoted"},                                             \
        {"iterations",                                                                             \
         OPT_T_INT,                                                                                \
         1,                                                                                        \
         1000000,                                                                                  \
         NAN,                                                                                      \
         NULL,                                                                                     \
         "how often to run all brackets; default: until a limit of the experiment, once without any"},   \
    {                                                                                              \
        "mode", OPT_T_ENUM, 0, 0, 0, hyperband_modes,                                              \
            "synchronous: a rung promotes when it is full; asynchronous: brackets of ASHA side "   \
            "by "                                                                                  \
            "side"                                                                                 \
    }

/* The arithmetic of the brackets. */
struct hyperband_table {
    int64_t eta;
    int64_t iterations; /* of all brackets, 0 = no end */
    int n_levels;
    int64_t levels[RUNGS_MAX];
};

struct hyperband_sync;

struct hyperband {
    struct hyperband_table table;
    struct hyperband_sync *sync; /* or NULL: asynchronous */
    struct halving async;
};

enum mag_status hyperband_init(struct hyperband *h, const struct hyperband_setup *setup,
                               const struct opt_config *cfg, const char **ret_pointer,
                               struct mag_err *err) MAG_MUSTCHECK;
void hyperband_fini(void *self);
void hyperband_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out);
void hyperband_adopt(void *self, const struct opt_suggestion *s);
void hyperband_observe(void *self, const double *point, int64_t budget, const struct opt_result *r);
enum opt_action hyperband_report(void *self, int64_t trial, int64_t step,
                                 const struct opt_result *r);
void hyperband_finish(void *self, int64_t trial, enum opt_outcome outcome,
                      const struct opt_result *r);
int64_t hyperband_first_budget(const void *self);
json_t *hyperband_save(const void *self);
enum mag_status hyperband_load(void *self, const json_t *state, struct mag_err *err);
void hyperband_plan(const void *self, int64_t trials, json_t *rows);

#define HYPERBAND_OPS                                                                              \
    .state_size = sizeof(struct hyperband), .fini = hyperband_fini, .suggest = hyperband_suggest,  \
    .adopt = hyperband_adopt, .observe = hyperband_observe, .report = hyperband_report,            \
    .finish = hyperband_finish, .first_budget = hyperband_first_budget, .save = hyperband_save,    \
    .load = hyperband_load, .plan = hyperband_plan

/* eta^s, or -1 beyond what a rung may hold. */
int64_t hyperband_power(int64_t eta, int s);
/* Trials that bracket s starts: ceil((K + 1) / (s + 1) * eta^s), or -1. */
int64_t hyperband_size(const struct hyperband_table *t, int s);

/* ---- the synchronous part (hyperband_sync.c) ---- */

struct hyperband_sync *hyperband_sync_create(const struct hyperband_table *table,
                                             struct sampler *sampler_take);
void hyperband_sync_destroy(struct hyperband_sync *h);
struct sampler *hyperband_sync_sampler(struct hyperband_sync *h);
void hyperband_sync_suggest(const struct hyperband_sync *h, const struct opt_ask *ask,
                            struct opt_suggestion *out);
void hyperband_sync_adopt(struct hyperband_sync *h, const struct opt_suggestion *s);
enum opt_action hyperband_sync_report(struct hyperband_sync *h, int64_t trial, int64_t step,
                                      const struct opt_result *r);
void hyperband_sync_finish(struct hyperband_sync *h, int64_t trial, enum opt_outcome outcome,
                           const struct opt_result *r);
int64_t hyperband_sync_first_budget(const struct hyperband_sync *h);
json_t *hyperband_sync_save(const struct hyperband_sync *h);
enum mag_status hyperband_sync_load(struct hyperband_sync *h, const json_t *state,
                                    struct mag_err *err) MAG_MUSTCHECK;

#endif
