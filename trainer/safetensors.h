/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors files: 8 bytes of length, a JSON head that names every array with its place, then the
 * arrays, little-endian. Written with PyTorch's names (those of a torch.nn.Sequential), and with
 * the model's description among the metadata, so that this trainer reads its own files alone.
 */
#ifndef MAG_TRAINER_SAFETENSORS_H
#define MAG_TRAINER_SAFETENSORS_H

#include "base/err.h"

#include <stdint.h>

#define SAFETENSORS_HEAD_MAX (32 << 20) /* bytes of the head */

struct saved;
/* Writes the model; the file appears whole. CONFLICT when it is there already. */
enum mag_status safetensors_write(struct saved *s, const char *path,
                                  struct mag_err *err) MAG_MUSTCHECK;

struct safetensors;
enum mag_status safetensors_open(const char *path, struct safetensors **ret,
                                 struct mag_err *err) MAG_MUSTCHECK;
void safetensors_close(struct safetensors *f);
/* Borrowed; NULL = no such entry. */
const char *safetensors_metadata(const struct safetensors *f, const char *key);
/* Names of arrays, at most `max`; borrowed. Returns how many. */
int safetensors_names(const struct safetensors *f, const char **ret, int max);
/* Any array to be read value by value: fills all of `a` but `what`, which is in messages. */
struct array;
enum mag_status safetensors_array(struct safetensors *f, const char *name, struct array *a,
                                  struct mag_err *err) MAG_MUSTCHECK;
void safetensors_array_close(struct array *a);
/* The array of that name as floats; CORRUPT when it is absent, of another shape or type. */
enum mag_status safetensors_take(struct safetensors *f, const char *name, const int64_t *dims,
                                 int n_dims, float *to) MAG_MUSTCHECK;

#endif
