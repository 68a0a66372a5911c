/* SPDX-License-Identifier: Apache-2.0
 *
 * What the trainer's tests share: models from JSON, small data sets, temporary folders.
 */
#ifndef MAG_TESTS_TRAINER_SUPPORT_H
#define MAG_TESTS_TRAINER_SUPPORT_H

#include "base/pcg.h"
#include "trainer/dataset.h"
#include "trainer/model.h"
#include "trainer/net.h"
#include "trainer/recipe.h"

/* The model with these layers (a JSON list) and this input; fails the test when it does not parse.
 */
struct model model_of(const char *layers_json, struct shape input);
/* A whole recipe; fails the test when it does not parse. The caller runs recipe_fini. */
struct recipe recipe_of(const char *trial_json);

/* Uniform in [-1, 1). */
void fill_random(struct pcg64 *g, float *to, size_t n);

/* A data set in memory: `rows` examples of the shape around one centre a class, split by seed 1
 * with a fifth for validation. A last fifth of the rows is the test part. */
struct dataset *toy_dataset(struct shape shape, int classes, uint32_t rows);

/* A fresh folder below /tmp; remove_tree takes it away. */
char *temp_folder(void);
void remove_tree(const char *path);
void write_file(const char *path, const void *data, size_t n);
/* The whole file, malloc'ed. */
char *read_file(const char *path, size_t *ret_len);

#endif
