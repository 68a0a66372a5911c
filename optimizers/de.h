/* SPDX-License-Identifier: Apache-2.0
 *
 * Differential evolution as sampler and algorithm: their common options. Private to de*.c.
 */
#ifndef MAG_OPTIMIZERS_DE_H
#define MAG_OPTIMIZERS_DE_H

#include "optimizers/sampler.h"

enum {
    DE_POPULATION,
    DE_GENERATIONS,
    DE_STRATEGY,
    DE_MUTATION,
    DE_CROSSOVER,
    DE_MODE,
};
enum { DE_RAND_1, DE_CURRENT_TO_BEST, DE_SHADE, DE_LSHADE };

extern const struct opt_option de_options[];
/* Members that the options ask for at the start, in a space of n parameters. */
int64_t de_population(const struct opt_config *cfg);

#endif
