/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk under a measurement: which file system, and what a durable write costs on it.
 */
#ifndef MAG_BENCH_DISK_H
#define MAG_BENCH_DISK_H

#include <stdbool.h>
#include <stddef.h>

/* Names the file system of `folder`; false when it lies in memory (tmpfs, ramfs, a RAM disk). */
bool disk_name(const char *folder, char *name, size_t size);

struct disk_rate {
    double median_us, p99_us, per_second;
};
/* 300 overwrites of 4 KiB, each followed by fdatasync. */
bool disk_fdatasync(const char *folder, struct disk_rate *ret);

#endif
