/* SPDX-License-Identifier: Apache-2.0
 *
 * Scalars out of TensorBoard's event files, while these are being written. Pure: bytes in, in pieces of
 * any size, calls out. Simple values (TF1, PyTorch) and tensors with one element (TF2, Keras) count;
 * images, histograms, texts and other plugins' data are passed over.
 */
#ifndef MAG_WORKER_TFSCALAR_H
#define MAG_WORKER_TFSCALAR_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define TFSCALAR_RECORD_MAX (1 << 20) /* bytes of a record; longer ones hold no scalars: passed over */
#define TFSCALAR_TAG_MAX 256

/* `tag` is borrowed; `v` may be NaN or infinite; steps are 0 or more. */
typedef void (*tfscalar_fn)(void *arg, int64_t step, const char *tag, double v);

/* Of one file. Zero-initialise. */
struct tfscalars {
    struct buf partial; /* a record that has not come whole */
    uint64_t skip;      /* bytes still to be passed over */
    bool broken;        /* a record's length is damaged: nothing behind it can be found */
    int64_t damaged;    /* records whose bytes do not fit their check */
};

void tfscalars_add(struct tfscalars *t, const char *bytes, size_t n, tfscalar_fn fn, void *arg);
void tfscalars_fini(struct tfscalars *t);

#endif
