/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading zip files (NumPy's .npz): stored and deflated entries, zip64. No encryption, no parts.
 */
#ifndef MAG_TRAINER_ZIP_H
#define MAG_TRAINER_ZIP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZIP_ENTRIES_MAX 4096
#define ZIP_DIRECTORY_MAX (4 << 20) /* bytes of the directory at the end */

struct zip;
enum mag_status zip_open(const char *path, struct zip **ret, struct mag_err *err) MAG_MUSTCHECK;
void zip_close(struct zip *z); /* NULL allowed */
int zip_count(const struct zip *z);
/* Borrowed until zip_close. */
const char *zip_name(const struct zip *z, int i);

struct zip_entry;
/* Opens the i-th entry; *ret_size is what it claims to hold. Several may be open at once. */
enum mag_status zip_entry_open(struct zip *z, int i, struct zip_entry **ret, uint64_t *ret_size,
                               struct mag_err *err) MAG_MUSTCHECK;
void zip_entry_close(struct zip_entry *e); /* NULL allowed */
/* Reads exactly n bytes (`entry` is a struct zip_entry); the check sum is looked at with the last
 * byte. CORRUPT: fewer are there, or damaged ones. */
enum mag_status zip_entry_read(void *entry, void *to, size_t n, struct mag_err *err) MAG_MUSTCHECK;

#endif
