/* SPDX-License-Identifier: Apache-2.0
 *
 * How many models fit side by side into the memory that there is.
 */
#ifndef MAG_TRAINER_ROOM_H
#define MAG_TRAINER_ROOM_H

#include "trainer/model.h"

/* Bytes of one lane of a net: weights with their gradients and optimizer state, and every layer's
 * outputs with their gradients for a batch. */
int64_t room_lane_bytes(const struct model *m, int batch_size);
/* Lanes of n that fit into the host's free memory (within its control group), at least 1. A backend
 * with memory of its own says by itself what does not fit there. */
int room_lanes(const struct model *m, int batch_size, int n);

#endif
