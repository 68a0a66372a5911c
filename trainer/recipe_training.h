/* SPDX-License-Identifier: Apache-2.0
 *
 * The "training" object of a recipe. Private to recipe*.c.
 */
#ifndef MAG_TRAINER_RECIPE_TRAINING_H
#define MAG_TRAINER_RECIPE_TRAINING_H

#include "trainer/value.h"

/* Fills `t` with what `v` says and with defaults; NULL = all of them. Adds issues. */
void recipe_training(struct reader *r, const json_t *v, const char *pointer, struct training *t);
/* Whether augmentation and schedule fit the examples and what is measured of them. Adds issues below
 * `pointer`, that of the "training" object. */
bool recipe_training_fit(const struct training *t, const struct shape *input, int n_classes,
                         const char *pointer, struct mjson_issues *is);

#endif
