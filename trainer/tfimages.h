/* SPDX-License-Identifier: Apache-2.0
 *
 * Pictures in TFRecord files, as TensorFlow's own data sets hold them: a feature with the bytes of
 * a JPEG or PNG file, and one with its class.
 */
#ifndef MAG_TRAINER_TFIMAGES_H
#define MAG_TRAINER_TFIMAGES_H

#include "trainer/format.h"

/* Whether the path is a file of records, or a folder that holds such files. */
bool tfimages_at(const char *path);

/* As a format's `read`. */
enum mag_status tfimages_read(const struct dataset_source *s, enum dataset_how how,
                              struct dataset *d, struct mag_err *err) MAG_MUSTCHECK;

#endif
