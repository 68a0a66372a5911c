/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop over many things that do not depend on one another, on the cores that the process was
 * given.
 */
#ifndef MAG_TRAINER_PARALLEL_H
#define MAG_TRAINER_PARALLEL_H

#include "base/err.h"

#include <stdint.h>

#define PARALLEL_MAX 16 /* threads */

typedef enum mag_status (*parallel_fn)(void *ctx, uint32_t i, struct mag_err *err);

/* Threads that are good here: OMP_NUM_THREADS, which a worker sets to the cores of the slot, else
 * the processors that this process may use; at most PARALLEL_MAX. */
int parallel_threads(void);

/* Calls fn(ctx, i) for every i below n, on so many threads, of which the caller's is one. After a
 * failure no further ones are begun; returned is that of the lowest i, as a plain loop would. */
enum mag_status parallel_each(uint32_t n, int threads, parallel_fn fn, void *ctx,
                              struct mag_err *err) MAG_MUSTCHECK;

#endif
