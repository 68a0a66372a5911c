/* SPDX-License-Identifier: Apache-2.0
 *
 * A trained model as ONNX (opset 13): input "input" [N, …] of raw values as they stand in the data
 * (bytes 0 to 255 as floats, columns not standardised), so that nothing beside the file is needed;
 * outputs "output" (what the last layer gives) and, for classes under cross-entropy,
 * "probabilities". Names of columns and classes stand in the file's metadata ("magpie").
 */
#ifndef MAG_TRAINER_ONNX_H
#define MAG_TRAINER_ONNX_H

#include "base/err.h"

struct saved;

#define ONNX_BYTES_MAX 2000000000 /* a Protocol Buffers message is below 2 GiB */

/* The file appears whole. CONFLICT when it is there already, LIMIT when the model is too large. */
enum mag_status onnx_write(struct saved *s, const char *path, struct mag_err *err) MAG_MUSTCHECK;

#endif
