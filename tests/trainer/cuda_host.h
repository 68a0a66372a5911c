/* SPDX-License-Identifier: Apache-2.0
 *
 * The device in host memory that cuda_host.c makes.
 */
#ifndef TEST_TRAINER_CUDA_HOST_H
#define TEST_TRAINER_CUDA_HOST_H

#include <stdbool.h>
#include <stdint.h>

#define PAD_BYTES 64

/* How much memory it has, in bytes. */
extern int64_t cuda_host_memory;

/* Whether waiting for the device, for so long so far, still makes sense: asks what device_watch was
 * given. */
bool cuda_host_may_wait(int64_t waited_ms);

#endif
