/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared storage as the driver reads it. It may be far away or down, so this happens on the archive
 * thread (`driver->archive`, a reader of its own): curves and lists never wait for it.
 */
#ifndef MAG_DRIVER_ARCHIVE_H
#define MAG_DRIVER_ARCHIVE_H

#include "storage/storage.h"

struct driver;

/* The storage's root of this store, opened at the first call; NULL with the reason in *err. Archive
 * thread only. Borrowed until driver_destroy. */
struct storage *archive_storage(struct driver *d, struct mag_err *err);

/* Its reads end soon: before the thread is stopped. Loop thread. */
void archive_cancel(struct driver *d);

#endif
