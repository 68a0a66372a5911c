/* SPDX-License-Identifier: Apache-2.0
 *
 * One early-stopping rule, as early_stop.c sees it. A rule is a file (or a part of one) and a line
 * in its table. Values are minimised; `early_shown` turns them into the user's for sentences.
 * Whatever a rule keeps is bounded per trial, and what it computes at a report does not grow with
 * the number of trials beyond a logarithm.
 */
#ifndef MAG_OPTIMIZERS_EARLY_RULE_H
#define MAG_OPTIMIZERS_EARLY_RULE_H

#include "optimizers/early_stop.h"

struct early_config {
    const double *values; /* values[i] belongs to options[i]; lives as long as the rule */
    struct opt_resource resource;
    uint64_t seed;
    double sign; /* 1: the user minimises, -1: maximises */
};

struct early_rule {
    const char *name;
    int version; /* raised when the same history gives other decisions */
    const char *summary;
    const char *paper;
    const struct opt_option *options; /* ends with a NULL name */
    bool needs_resource;
    bool of_curve; /* follows a trial's own learning curve: of no use where steps are folds */
    bool paired;   /* see early_stop_is_paired */
    size_t state_size; /* zeroed */
    /* May be NULL, as fini and finish may. */
    enum mag_status (*init)(void *self, const struct early_config *cfg, const char **ret_pointer,
                            struct mag_err *err);
    void (*fini)(void *self);
    bool (*report)(void *self, const struct early_config *cfg, int64_t trial, int64_t step,
                   double value, char **ret_why);
    void (*finish)(void *self, int64_t trial, enum opt_outcome outcome, const struct opt_result *r);
};

static inline double early_shown(const struct early_config *cfg, double value)
{
    return cfg->sign * value + 0.0;
}

/* The row that ends every table but that of "none". */
#define EARLY_COMBINE_ROW                                                                          \
    {                                                                                              \
        "combine", OPT_T_BOOL, 0, 1, 0, NULL,                                                      \
            "allow the rule beside an algorithm that itself ends trials early"                     \
    }

#define EARLY_MIN_STEP_ROW                                                                         \
    {                                                                                              \
        "min_step", OPT_T_INT, 0, 1e15, 1, NULL, "first step at which a trial may be stopped"      \
    }

extern const struct early_rule early_none;
extern const struct early_rule early_median;
extern const struct early_rule early_percentile;
extern const struct early_rule early_threshold;
extern const struct early_rule early_patience;
extern const struct early_rule early_wilcoxon;
extern const struct early_rule early_curve;
extern const struct early_rule early_hyperband;

#endif
