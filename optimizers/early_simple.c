/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules that look at the trial alone: none, threshold, patience.
 */
#include "optimizers/early_rule.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"

#include <math.h>
#include <stdlib.h>

/* ---- none ---- */

static const struct opt_option none_options[] = {{0}};

static bool none_report(void *self, const struct early_config *cfg, int64_t trial, int64_t step,
                        double value, char **ret_why)
{
    return false;
}

const struct early_rule early_none = {
    .name = "none",
    .version = 1,
    .summary = "stops nothing",
    .options = none_options,
    .report = none_report,
};

/* ---- threshold ---- */

enum { OPT_UPPER, OPT_LOWER, OPT_THRESHOLD_MIN_STEP };

static const struct opt_option threshold_options[] = {
    {"upper", OPT_T_REAL, -1e300, 1e300, NAN, NULL,
     "a trial that reports more stops; default: no such limit"},
    {"lower", OPT_T_REAL, -1e300, 1e300, NAN, NULL,
     "a trial that reports less stops; default: no such limit"},
    EARLY_MIN_STEP_ROW,
    EARLY_COMBINE_ROW,
    {0},
};

static enum mag_status threshold_init(void *self, const struct early_config *cfg,
                                      const char **ret_pointer, struct mag_err *err)
{
    double upper = cfg->values[OPT_UPPER];
    double lower = cfg->values[OPT_LOWER];
    if (isnan(upper) && isnan(lower)) {
        *ret_pointer = "/upper";
        return mag_fail(err, MAG_INVALID, "give \"upper\", \"lower\" or both");
    }
    if (lower > upper) {
        *ret_pointer = "/lower";
        return mag_fail(err, MAG_INVALID, "%.15g is above \"upper\", %.15g: every trial would stop",
                        lower, upper);
    }
    return MAG_OK;
}

static bool threshold_report(void *self, const struct early_config *cfg, int64_t trial,
                             int64_t step, double value, char **ret_why)
{
    double v = early_shown(cfg, value);
    bool above = v > cfg->values[OPT_UPPER]; /* false for NaN */
    bool below = v < cfg->values[OPT_LOWER];
    if (step < (int64_t)cfg->values[OPT_THRESHOLD_MIN_STEP] || !(above || below)) {
        return false;
    }
    *ret_why = xasprintf("at step %lld its value %.6g is %s the threshold %.6g", (long long)step, v,
                         above ? "above" : "below", cfg->values[above ? OPT_UPPER : OPT_LOWER]);
    return true;
}

const struct early_rule early_threshold = {
    .name = "threshold",
    .version = 1,
    .summary = "stops a trial that reports a value beyond a limit",
    .options = threshold_options,
    .init = threshold_init,
    .report = threshold_report,
};

/* ---- patience ---- */

enum { OPT_PATIENCE, OPT_MIN_DELTA, OPT_PATIENCE_MIN_STEP };

static const struct opt_option patience_options[] = {
    {"patience", OPT_T_INT, 1, 1e9, 5, NULL,
     "reports in a row without an improvement that stop a trial"},
    {"min_delta", OPT_T_REAL, 0, 1e300, 0, NULL,
     "a report improves when it is better than the best so far by more than this"},
    EARLY_MIN_STEP_ROW,
    EARLY_COMBINE_ROW,
    {0},
};

struct plateau {
    double best;
    int64_t best_step;
    int64_t since; /* reports since the best */
    bool any;
};

IDTAB(plateaus, struct plateau)

struct patience {
    struct plateaus plateaus;
};

static bool patience_report(void *self, const struct early_config *cfg, int64_t trial, int64_t step,
                            double value, char **ret_why)
{
    struct patience *p = self;
    struct plateau *t = plateaus_of(&p->plateaus, trial);
    if (!t->any || value < t->best - cfg->values[OPT_MIN_DELTA]) {
        *t = (struct plateau){.best = value, .best_step = step, .any = true};
        return false;
    }
    t->since++;
    if (t->since < (int64_t)cfg->values[OPT_PATIENCE] ||
        step < (int64_t)cfg->values[OPT_PATIENCE_MIN_STEP]) {
        return false;
    }
    *ret_why = xasprintf("at step %lld: %lld reports in a row did not improve on %.6g, reached at "
                         "step %lld, by more than %.6g",
                         (long long)step, (long long)t->since, early_shown(cfg, t->best),
                         (long long)t->best_step, cfg->values[OPT_MIN_DELTA]);
    return true;
}

static void patience_finish(void *self, int64_t trial, enum opt_outcome outcome,
                            const struct opt_result *r)
{
    struct patience *p = self;
    *plateaus_of(&p->plateaus, trial) = (struct plateau){0};
}

static void patience_fini(void *self)
{
    struct patience *p = self;
    free(p->plateaus.at);
}

const struct early_rule early_patience = {
    .name = "patience",
    .version = 1,
    .summary = "stops a trial that no longer improves on itself",
    .options = patience_options,
    .of_curve = true,
    .state_size = sizeof(struct patience),
    .fini = patience_fini,
    .report = patience_report,
    .finish = patience_finish,
};
