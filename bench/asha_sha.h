/* SPDX-License-Identifier: Apache-2.0
 *
 * Synchronous successive halving as the ASHA paper's appendix simulates it, for comparison: a bracket
 * of n trials, each rung waits for all of its jobs, the best 1/eta go on; a worker without a job
 * opens another bracket. A dropped job is lost, and its rung the smaller (the kindest reading: a
 * strict one would wait for ever).
 */
#ifndef MAG_BENCH_ASHA_SHA_H
#define MAG_BENCH_ASHA_SHA_H

#include <stdbool.h>
#include <stdint.h>

struct sha_result {
    double trained; /* jobs of the largest rung that ended in time */
    double first;   /* when the first did; the end when none did */
    double busy;    /* share of the workers' time */
};

/* 25 workers, 256 trials a bracket, 1 to 256 by 4, as many units of time as `end`. Jobs go on from the
 * rung below. */
struct sha_result sha_run(double std, double p, double end, uint64_t seed);

#endif
