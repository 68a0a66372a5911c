/* SPDX-License-Identifier: Apache-2.0
 *
 * The algorithms and samplers of this build, one line each. The order is that of docs and help.
 */
#include "optimizers/registry.h"

#include <assert.h>
#include <string.h>

/* clang-format off: one line each, so that changes of several algorithms merge */
static const struct optimizer_ops *const registry[] = {
    &random_ops,
    &sobol_ops,
    &halton_ops,
    &lhs_ops,
    &grid_ops,
    &asha_ops,
    &hyperband_ops,
    &bohb_ops,
    &pasha_ops,
    &de_ops,
    &dehb_ops,
    &pbt_ops,
    &cmaes_ops,
    &nsga2_ops,
    &gp_ops,
    &portfolio_ops,
    &tpe_ops,
    NULL,
};
/* clang-format on */

const struct optimizer_ops *const *optimizer_registry(void)
{
    return registry;
}

const struct optimizer_ops *optimizer_find(const char *name)
{
    for (int i = 0; registry[i] != NULL; i++) {
        if (strcmp(registry[i]->name, name) == 0) {
            return registry[i];
        }
    }
    return NULL;
}

/* clang-format off: one line each, so that changes of several algorithms merge */
static const struct sampler_ops *const samplers[] = {
    &random_sampler,
    &sobol_sampler,
    &halton_sampler,
    &lhs_sampler,
    &de_sampler,
    &nsga2_sampler,
    &gp_sampler,
    &tpe_sampler,
    NULL,
};

/* In the order of `samplers`: the option "sampler" holds the index. */
const char *const sampler_names[] = {
    "random",
    "sobol",
    "halton",
    "lhs",
    "de",
    "nsga2",
    "gp",
    "tpe",
    NULL,
};
/* clang-format on */

static_assert(sizeof(samplers) == sizeof(sampler_names), "one name for each sampler");

const struct sampler_ops *const *sampler_registry(void)
{
    return samplers;
}

const struct sampler_ops *sampler_find(const char *name)
{
    for (int i = 0; samplers[i] != NULL; i++) {
        if (strcmp(samplers[i]->name, name) == 0) {
            return samplers[i];
        }
    }
    return NULL;
}
