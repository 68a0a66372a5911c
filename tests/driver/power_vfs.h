/* SPDX-License-Identifier: Apache-2.0
 *
 * An SQLite VFS on which the power can fail. It passes everything to the system's files and keeps,
 * for each file, what a disk is bound to hold: the bytes as of the file's last sync, and the writes
 * since. At a chosen sync the power fails: that sync and everything after it fail, and
 * power_image() then writes what such a disk may hold, with every write that no sync followed
 * dropped, kept or torn.
 */
#ifndef MAG_TESTS_POWER_VFS_H
#define MAG_TESTS_POWER_VFS_H

#include <stdbool.h>
#include <stdint.h>

/* What becomes of the writes that no sync followed. */
enum power_loss {
    POWER_DROP_ALL = 0,
    POWER_KEEP_ALL = 1,
    POWER_KEEP_FIRST = 2,
    POWER_MIXED = 3,
    POWER_LOSSES = 4
};

/* Registers the VFS as SQLite's default one. Once. */
void power_install(void);
/* Forgets all files; the power fails at the n-th sync from now, 0 = never. */
void power_reset(int fail_at_sync);
/* Syncs seen since power_reset, and whether the power has failed. */
int power_syncs(void);
bool power_failed(void);
/* Bytes written to files and not yet synced. */
int64_t power_unsynced(void);
/* Writes every file, as the disk may hold it, into `folder` under its last name. */
void power_image(const char *folder, enum power_loss loss, uint64_t seed);

#endif
