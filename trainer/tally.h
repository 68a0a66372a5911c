/* SPDX-License-Identifier: Apache-2.0
 *
 * Measures beside loss and accuracy, from what a backend's `score` counted over a whole part of the
 * data.
 */
#ifndef MAG_TRAINER_TALLY_H
#define MAG_TRAINER_TALLY_H

#include "trainer/backend.h"

/* Zeroed; `rows` is how many will be counted. */
struct tally *tally_create(int n_classes, int64_t rows);
void tally_destroy(struct tally *t);
/* The mean over the classes that are there or were predicted (macro average). */
double tally_f1(const struct tally *t, int n_classes);
/* The area under the ROC curve: how often an example of class 1 has the larger margin than one of
 * class 0, ties counted half; NaN where one class is absent. */
double tally_auc(const struct tally *t, int64_t rows);

/* ---- names ---- */

/* What a trial reports of an epoch, depending on the data; NULL-terminated. */
extern const char *const measure_names[];
/* Is a larger value of it better? */
bool measure_larger(const char *name);
/* Is it reported where there are so many classes (0 = a number is predicted)? */
bool measure_there(const char *name, int n_classes, enum loss_kind loss);

#endif
