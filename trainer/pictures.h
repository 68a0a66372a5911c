/* SPDX-License-Identifier: Apache-2.0
 *
 * Pictures as the examples of a data set, wherever they come from: one shape for all of them, and
 * each in its place.
 */
#ifndef MAG_TRAINER_PICTURES_H
#define MAG_TRAINER_PICTURES_H

#include "trainer/dataset.h"
#include "trainer/picture.h"

/* Sets the shape of d's examples: as the source says, else as the picture has it. `what` names the
 * picture in messages. INVALID: a "fit" without a "size". */
enum mag_status pictures_shape(const struct dataset_source *s, const struct picture *first,
                               const char *what, struct dataset *d,
                               struct mag_err *err) MAG_MUSTCHECK;

/* Puts the picture into the place of row i, scaled as the source says. Any thread, for other rows.
 * INVALID: it has another size than the first one, and the source says none. */
enum mag_status pictures_put(const struct dataset_source *s, const struct picture *p,
                             const char *what, uint32_t i, struct dataset *d,
                             struct mag_err *err) MAG_MUSTCHECK;

#endif
