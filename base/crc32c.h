/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C (Castagnoli), as in iSCSI, ext4 and TFRecord files.
 */
#ifndef MAG_BASE_CRC32C_H
#define MAG_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of the bytes behind those that gave `crc` (0 = none). Any thread. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);

#endif
