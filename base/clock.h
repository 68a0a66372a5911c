/* SPDX-License-Identifier: Apache-2.0
 *
 * Time. Decisions use monotonic nanoseconds given to them as arguments; wall time is for display
 * and records only. Nothing in space/ or optimizers/ may include this file.
 */
#ifndef MAG_BASE_CLOCK_H
#define MAG_BASE_CLOCK_H

#include "base/err.h"

#include <stdint.h>

#define MAG_NS_PER_MS 1000000LL
#define MAG_NS_PER_S 1000000000LL

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t clock_mono_ns(void);
/* Processor time of this process, all its threads, in nanoseconds: neighbours do not count. */
int64_t clock_cpu_ns(void);
/* Wall time in milliseconds since 1970, UTC. */
int64_t clock_wall_ms(void);
/* Writes "2026-11-21T03:04:05.678Z" (24 bytes and NUL) for wall milliseconds. */
void clock_rfc3339(int64_t wall_ms, char out[32]);
/* Parses a duration as experiment files and flags write it: "30s", "20m", "2h", "1d", "500ms", or
 * plain seconds ("1.5"). Result in milliseconds, 0 to 10 years. */
enum mag_status duration_parse(const char *text, int64_t *ret_ms) MAG_MUSTCHECK;

#endif
