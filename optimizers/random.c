/* SPDX-License-Identifier: Apache-2.0
 *
 * Random search (Bergstra and Bengio, JMLR 2012): every trial's point comes from streams of its
 * own, so the trials are the same whatever the order of events.
 */
#include "optimizers/registry.h"
#include "optimizers/search.h"

#define PAPER "Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13 (2012)"

static const struct opt_option random_options[] = {{0}};

struct random_sampler {
    const struct space *space;
    uint64_t seed;
    const char *purpose;
};

static enum mag_status sampler_init(void *self, const struct sampler_config *cfg,
                                    const char **ret_pointer, struct mag_err *err)
{
    struct random_sampler *r = self;
    *r = (struct random_sampler){
        .space = cfg->opt.space, .seed = cfg->opt.seed, .purpose = cfg->purpose};
    return MAG_OK;
}

static void propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct random_sampler *r = self;
    space_sample(r->space, r->seed, r->purpose, sampler_stream(trial, attempt), point);
}

const struct sampler_ops random_sampler = {
    .name = "random",
    .summary = "independent random points",
    .paper = PAPER,
    .caps = OPT_CAP_STATELESS | OPT_CAP_MULTI,
    .options = random_options,
    .version = 1,
    .state_size = sizeof(struct random_sampler),
    .init = sampler_init,
    .propose = propose,
};

static enum mag_status random_init(void *self, const struct opt_config *cfg,
                                   const char **ret_pointer, struct mag_err *err)
{
    return search_init(self, &random_sampler, cfg, ret_pointer, err);
}

const struct optimizer_ops random_ops = {
    .name = "random",
    .summary = "independent random points",
    .paper = PAPER,
    .caps = OPT_CAP_MULTI,
    .options = random_options,
    .version = 1,
    .init = random_init,
    SEARCH_OPS,
};
