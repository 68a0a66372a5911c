/* SPDX-License-Identifier: Apache-2.0
 *
 * MurmurHash3, 32 bits (Austin Appleby's x86 form), as Spark's HashingTF and scikit-learn use it.
 */
#ifndef MAG_TRAINER_MURMUR3_H
#define MAG_TRAINER_MURMUR3_H

#include <stddef.h>
#include <stdint.h>

#define MURMUR3_SPARK_SEED 42

uint32_t murmur3(const void *bytes, size_t n, uint32_t seed);
/* The place that Spark 3's HashingTF gives a word among `features`. */
uint32_t murmur3_place(const void *bytes, size_t n, uint32_t features);

#endif
