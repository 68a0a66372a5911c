/* SPDX-License-Identifier: Apache-2.0
 *
 * What an ablation study leaves out of one trial: the parameters "ablated_feature" (a CSV column)
 * and "ablated_layer" (a layer's "name"; "a,b" is several, "conv*" those that begin so). Private to
 * recipe.c and check.c.
 */
#ifndef MAG_TRAINER_ABLATE_H
#define MAG_TRAINER_ABLATE_H

#include "trainer/recipe.h"

/* Is this layer left out? */
bool ablate_layer(const json_t *params, const json_t *layer);
/* Takes the feature out of the source; false with an issue at `pointer` (the trial's) when it
 * cannot be. */
bool ablate_feature(const json_t *params, const char *pointer, struct dataset_source *s,
                    struct mjson_issues *is);

#endif
