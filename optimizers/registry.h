/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations of every algorithm and sampler, one line each; for registry.c only.
 */
#ifndef MAG_OPTIMIZERS_REGISTRY_H
#define MAG_OPTIMIZERS_REGISTRY_H

#include "optimizers/sampler.h"

extern const struct optimizer_ops random_ops;
extern const struct optimizer_ops sobol_ops;
extern const struct optimizer_ops halton_ops;
extern const struct optimizer_ops lhs_ops;
extern const struct optimizer_ops grid_ops;
extern const struct optimizer_ops asha_ops;
extern const struct optimizer_ops hyperband_ops;
extern const struct optimizer_ops bohb_ops;
extern const struct optimizer_ops pasha_ops;
extern const struct optimizer_ops de_ops;
extern const struct optimizer_ops dehb_ops;
extern const struct optimizer_ops pbt_ops;
extern const struct optimizer_ops nsga2_ops;
extern const struct optimizer_ops gp_ops;
extern const struct optimizer_ops portfolio_ops;
extern const struct optimizer_ops tpe_ops;
extern const struct optimizer_ops cmaes_ops;

extern const struct sampler_ops random_sampler;
extern const struct sampler_ops sobol_sampler;
extern const struct sampler_ops halton_sampler;
extern const struct sampler_ops lhs_sampler;
extern const struct sampler_ops de_sampler;
extern const struct sampler_ops nsga2_sampler;
extern const struct sampler_ops cmaes_sampler;
extern const struct sampler_ops gp_sampler;
/* Has a search by gp_sampler, whose state `self` is, settled in a basin? (gp_basin.h) */
bool gp_sampler_settled(const void *self);
extern const struct sampler_ops tpe_sampler;

#endif
