/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers of bytes as people write and read them: powers of 1024, "64MB", "1.5 GiB". Pure.
 */
#ifndef MAG_BASE_SIZE_H
#define MAG_BASE_SIZE_H

#include "base/err.h"

#include <stdint.h>

/* "64MB", "1.5 GiB", "100 B" or plain bytes, 0 to 2^53; a part of a byte counts as one. INVALID
 * leaves *ret alone. */
enum mag_status size_parse(const char *text, int64_t *ret) MAG_MUSTCHECK;
/* "0 B", "512 B", "1.5 MB", "12 GB": three digits or so. */
void size_format(int64_t bytes, char out[24]);

#endif
