/* SPDX-License-Identifier: Apache-2.0
 *
 * Webhooks: a POST of {"id", "event", "experiment"} to the address in an experiment's `notify`,
 * when it ends, reaches its target, or pauses by itself. Sent after the commit from a thread of its
 * own, at least once: what is owed and what was delivered are in the record, so a notice is tried
 * again, with growing waits and after a restart, until it is taken or `notify.retry` is over.
 */
#ifndef MAG_DRIVER_NOTIFY_H
#define MAG_DRIVER_NOTIFY_H

#include "driver/driver.h"

#define NOTIFY_TIMEOUT_S 10
#define NOTIFY_WAIT_MAX_S 300   /* between two tries */
#define NOTIFY_WAITING_MAX 1000 /* notices in memory; the others wait in the record */

struct notify;
enum mag_status notify_start(struct notify **ret, struct driver *d,
                             struct mag_err *err) MAG_MUSTCHECK;
void notify_stop(struct notify *n);
/* At the turn's end: what `x` owes and nobody has been asked to send is sent. */
void notify_look(struct driver *d, struct experiment *x);

#endif
