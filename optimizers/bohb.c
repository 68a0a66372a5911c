/* SPDX-License-Identifier: Apache-2.0
 *
 * BOHB (Falkner et al., ICML 2018): Hyperband whose points come from a TPE model of the highest
 * budget that has enough results; a fixed part stays random, so that Hyperband's guarantees hold.
 * Where the paper's model takes the best 15 % and never counts running trials, ours is the `tpe` of
 * this build, which counts them.
 */
#include "optimizers/hyperband.h"
#include "optimizers/options.h"
#include "optimizers/registry.h"

#include <math.h>
#include <string.h>

enum { OPT_MIN_POINTS = HYPERBAND_OPTIONS, OPT_CANDIDATES, OPT_RANDOM_FRACTION };

static const struct opt_option bohb_options[] = {
    HYPERBAND_OPTION_ROWS,
    {"min_points", OPT_T_INT, 1, 100000, NAN, NULL,
     "results that a budget needs to be modelled; default: parameters + 3"},
    {"candidates", OPT_T_INT, 1, 10000, 64, NULL, "points drawn and compared for each trial"},
    {"random_fraction", OPT_T_REAL, 0, 1, 1.0 / 3, NULL, "share of trials drawn at random"},
    {0},
};

static void set_option(const struct opt_option *table, double *values, const char *name, double v)
{
    for (int i = 0; i < options_count(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            values[i] = v;
            return;
        }
    }
    MAG_ASSERT(false, "the sampler has no option %s", name);
}

static enum mag_status init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                            struct mag_err *err)
{
    const struct opt_option *table = tpe_sampler.options;
    double values[OPTIONS_MAX];
    double min_points = cfg->values[OPT_MIN_POINTS];
    struct hyperband_setup setup = {.name = "bohb",
                                    .sampler = &tpe_sampler,
                                    .sampler_values = values,
                                    .eta = (int64_t)cfg->values[HYPERBAND_ETA],
                                    .iterations = cfg->values[HYPERBAND_ITERATIONS],
                                    .asynchronous = cfg->values[HYPERBAND_MODE] != 0};
    for (int i = 0; i < options_count(table); i++) {
        values[i] = table[i].def;
    }
    /* The paper: N_min = d + 1 results at the least, and two more so that both parts hold as many
     * as they have parameters. */
    min_points = isnan(min_points) ? cfg->space->n + 3 : min_points;
    set_option(table, values, "min_points", min_points);
    set_option(table, values, "startup", min_points);
    set_option(table, values, "candidates", cfg->values[OPT_CANDIDATES]);
    set_option(table, values, "random_fraction", cfg->values[OPT_RANDOM_FRACTION]);
    return hyperband_init(self, &setup, cfg, ret_pointer, err);
}

const struct optimizer_ops bohb_ops = {
    .name = "bohb",
    .summary = "Hyperband whose points come from a model of the results so far",
    .paper = "Falkner et al., BOHB: Robust and Efficient Hyperparameter Optimization at Scale, "
             "ICML 2018",
    .caps = OPT_CAP_RESOURCE | OPT_CAP_PAUSES,
    .options = bohb_options,
    .version = 2,
    .init = init,
    HYPERBAND_OPS,
};
