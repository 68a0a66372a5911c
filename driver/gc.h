/* SPDX-License-Identifier: Apache-2.0
 *
 * Garbage in shared storage: folders of deleted experiments, checkpoints that killed workers left
 * and nobody committed, old ones beyond what an experiment keeps. Storage is read and changed on a
 * thread of its own; what a study says about its trials is asked on the loop, a batch at a time,
 * and acted on only when that is durable. Whatever is newer than the answer is left alone.
 */
#ifndef MAG_DRIVER_GC_H
#define MAG_DRIVER_GC_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct driver;
struct gc;

/* Loop thread, all of it. `every_ms` 0: only when asked for. */
enum mag_status gc_start(struct gc **ret, struct driver *d, int64_t every_ms,
                         struct mag_err *err) MAG_MUSTCHECK;
void gc_stop(struct gc *g);
/* An experiment was deleted (its commit may be on its way): its folder goes soon. */
void gc_deleted(struct gc *g, int64_t experiment);

/* Storage is over a limit (quota.h): of the experiment, 0 = of all, whatever may go is collected
 * soon. */
void gc_press(struct gc *g, int64_t experiment);

/* `done` gets the report, borrowed, once: {"dry_run", "experiments", "checkpoints",
 * "objects", "bytes", "seconds", "removed": [keys, the first 1,000], "error"?}. */
typedef void (*gc_done_fn)(void *arg, const json_t *report);
/* Starts a run; CONFLICT: one is going on. */
enum mag_status gc_run(struct gc *g, bool dry, gc_done_fn done, void *arg,
                       struct mag_err *err) MAG_MUSTCHECK;
/* Whoever waits with this `arg` has gone. */
void gc_forget(struct gc *g, const void *arg);

#endif
