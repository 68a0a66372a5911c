/* SPDX-License-Identifier: Apache-2.0
 *
 * Random search (Bergstra and Bengio, JMLR 2012): every trial's point comes from streams of its
 * own, so the trials are the same whatever the order of events, and there is no state to keep.
 */
#include "optimizers/registry.h"

#include <stdio.h>

struct random_search {
    const struct space *space;
    uint64_t seed;
    int64_t budget;
};

static enum mag_status random_init(void *self, const struct opt_config *cfg,
                                   const char **ret_pointer, struct mag_err *err)
{
    struct random_search *r = self;
    *r = (struct random_search){.space = cfg->space, .seed = cfg->seed};
    r->budget = cfg->resource.present ? cfg->resource.max : 0;
    return MAG_OK;
}

static void random_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct random_search *r = self;
    if (!ask->may_create) {
        out->answer = OPT_DONE;
        out->why_code = "trials-limit";
        (void)snprintf(out->why, sizeof(out->why), "the limit of trials is reached");
        return;
    }
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    out->budget = r->budget;
    if (out->point != NULL) {
        space_sample(r->space, r->seed, "random", (uint64_t)ask->next_trial, out->point);
    }
}

static void random_adopt(void *self, const struct opt_suggestion *s)
{
}

static enum opt_action random_report(void *self, int64_t trial, int64_t step, double value)
{
    return OPT_CONTINUE;
}

static void random_finish(void *self, int64_t trial, enum opt_outcome outcome, bool has_value,
                          double value)
{
}

static json_t *random_save(const void *self)
{
    return json_pack("{s:i}", "version", 1);
}

static enum mag_status random_load(void *self, const json_t *state, struct mag_err *err)
{
    if (json_integer_value(json_object_get(state, "version")) != 1) {
        return mag_fail(err, MAG_UNSUPPORTED, "random: state of another version");
    }
    return MAG_OK;
}

const struct optimizer_ops random_ops = {
    .name = "random",
    .summary = "independent random points",
    .paper = "Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13 (2012)",
    .version = 1,
    .state_size = sizeof(struct random_search),
    .init = random_init,
    .suggest = random_suggest,
    .adopt = random_adopt,
    .report = random_report,
    .finish = random_finish,
    .save = random_save,
    .load = random_load,
};
