/* SPDX-License-Identifier: Apache-2.0
 *
 * Webhooks: a POST of {"event", "experiment"} to the address in an experiment's `notify`, when it
 * ends, reaches its target, or pauses or fails by itself. Sent once after the commit, from a thread
 * of its own, tried NOTIFY_TRIES times; a driver that dies in between does not send it again.
 */
#ifndef MAG_DRIVER_NOTIFY_H
#define MAG_DRIVER_NOTIFY_H

#include "driver/driver.h"

#define NOTIFY_TRIES 4
#define NOTIFY_TIMEOUT_S 10
#define NOTIFY_WAITING_MAX 1000

struct notify;
enum mag_status notify_start(struct notify **ret, struct driver *d,
                             struct mag_err *err) MAG_MUSTCHECK;
void notify_stop(struct notify *n);
/* At the turn's end: has `x` come to a state that somebody waits for? */
void notify_look(struct driver *d, struct experiment *x);

#endif
