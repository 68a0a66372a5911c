/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader thread: scans of the record and reads of files, which may block, away from the loop.
 * It has a store connection of its own; each job is one short read transaction or one file.
 */
#ifndef MAG_DRIVER_READER_H
#define MAG_DRIVER_READER_H

#include "base/list.h"
#include "driver/store.h"

#define READER_JOBS_MAX 1024 /* waiting jobs */

struct driver;
struct reader;

/* Embed it. `run` is called on the reader thread with its connection (NULL when the store cannot be
 * read: *err says why); `done` afterwards on the loop thread. */
struct reader_job {
    struct list_node node;
    void (*run)(struct reader_job *job, struct store_reader *store, const struct mag_err *err);
    void (*done)(struct reader_job *job);
};

enum mag_status reader_start(struct reader **ret, struct driver *d,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Ends the thread after its present job; `done` is called for all that wait. */
void reader_stop(struct reader *r);
/* Loop thread. False: too many jobs wait. */
bool reader_push(struct reader *r, struct reader_job *job);

#endif
