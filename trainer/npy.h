/* SPDX-License-Identifier: Apache-2.0
 *
 * The head of NumPy's .npy format (versions 1 to 3).
 */
#ifndef MAG_TRAINER_NPY_H
#define MAG_TRAINER_NPY_H

#include "trainer/arrays.h"

#define NPY_HEAD_MAX 65536 /* bytes of its text */

/* Reads the head by a->read; a->what is in messages. Fills type, order and dimensions; *ret_size
 * gets the bytes read. */
enum mag_status npy_read_head(struct array *a, uint64_t *ret_size, struct mag_err *err) MAG_MUSTCHECK;

#endif
