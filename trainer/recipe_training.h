/* SPDX-License-Identifier: Apache-2.0
 *
 * The "training" object of a recipe. Private to recipe*.c.
 */
#ifndef MAG_TRAINER_RECIPE_TRAINING_H
#define MAG_TRAINER_RECIPE_TRAINING_H

#include "trainer/value.h"

/* Fills `t` with what `v` says and with defaults; NULL = all of them. Adds issues. */
void recipe_training(struct reader *r, const json_t *v, const char *pointer, struct training *t);

#endif
