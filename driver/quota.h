/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of shared storage: of all (`magpie driver --storage-quota`) and of one experiment
 * (limits.storage). What is used comes from the records (study_usage), in O(1) a change. Over a
 * limit, a collection frees what may go (gc.h), running trials go on, and workers get no further
 * trials of the experiments concerned until they are below it. Loop thread only.
 */
#ifndef MAG_DRIVER_QUOTA_H
#define MAG_DRIVER_QUOTA_H

#include "driver/driver.h"

/* The experiment's record has changed, or came back from the store. */
void quota_note(struct driver *d, struct experiment *x);
/* After the start, when all records are in. */
void quota_start(struct driver *d);
/* It goes. */
void quota_forget(struct driver *d, struct experiment *x);
/* Is it over its own limit, or storage over that of all? */
bool quota_is_over(const struct driver *d, const struct experiment *x);
/* Why workers get no trials of it now: the code, the sentence in `buf`; NULL = they do. */
const char *quota_why(const struct driver *d, const struct experiment *x, char *buf, size_t size);

#endif
