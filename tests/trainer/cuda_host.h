/* SPDX-License-Identifier: Apache-2.0
 *
 * The device in host memory that cuda_host.c makes.
 */
#ifndef TEST_TRAINER_CUDA_HOST_H
#define TEST_TRAINER_CUDA_HOST_H

#include <stdint.h>

#define PAD_BYTES 64

/* How much memory it has, in bytes. */
extern int64_t cuda_host_memory;

#endif
