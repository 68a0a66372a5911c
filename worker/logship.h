/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a log's segments from scratch to storage, on the background thread: what storage lacks
 * is gathered on the loop, put (or dropped) there, and noted in the log afterwards.
 */
#ifndef MAG_WORKER_LOGSHIP_H
#define MAG_WORKER_LOGSHIP_H

#include "storage/storage.h"
#include "worker/outlog.h"

#define LOGSHIP_EVERY_MS 1000 /* how old output gets before it is on its way to storage */

struct app;
struct logship;

/* What storage lacks of this log now, under the key `log_take` (malloc'ed). */
struct logship *logship_gather(const struct outlog *o, char *log_take);
/* Any one thread. */
enum mag_status logship_work(struct logship *s, struct storage *storage, struct mag_err *err);
/* Notes in the log what is in storage now. */
void logship_settle(const struct logship *s, struct outlog *o);
void logship_free(struct logship *s);

/* Every LOGSHIP_EVERY_MS: each run with news and none on its way sends what it has. */
void logship_tick(struct app *a);

#endif
