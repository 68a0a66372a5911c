/* SPDX-License-Identifier: Apache-2.0
 *
 * The optimizer thread: suggestions of slow optimizers, one at a time, so that the loop is not held
 * up. While an experiment's suggestion is computed its study stands still: its events wait in
 * order (driver_park) and are applied when the suggestion is there, behind the ask that it was made
 * for. Reads, renewals of leases and other experiments go on; leases of the experiment do not run
 * out meanwhile. The record is the same as if the loop had waited.
 */
#ifndef MAG_DRIVER_THINK_H
#define MAG_DRIVER_THINK_H

#include "driver/driver.h"

struct think;

struct think_stats {
    uint64_t thoughts; /* suggestions computed */
    uint64_t think_ns; /* the time that they took, waiting for the loop included */
    uint64_t parked;   /* requests that waited behind one */
    uint64_t waits;    /* times the loop itself had to wait for one */
};

enum mag_status think_start(struct think **ret, struct driver *d,
                            struct mag_err *err) MAG_MUSTCHECK;
/* The present suggestion is waited for, what is parked goes on, and nothing new begins. */
void think_drain(struct think *t);
/* Joins the thread; what is parked still is dropped. NULL is allowed. */
void think_stop(struct think *t);
/* Waits for the suggestion of `x`, if one is computed: its study may be used afterwards. */
void think_wait(struct think *t, struct experiment *x);
/* The same for whatever is computed. */
void think_wait_any(struct think *t);
/* `x` goes: drops what waits for it. */
void think_forget(struct think *t, struct experiment *x);
const struct think_stats *think_stats(const struct think *t);

#endif
