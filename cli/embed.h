/* SPDX-License-Identifier: Apache-2.0
 *
 * `magpie run`'s household: one driver and N workers as child processes, over ipc in a folder of
 * their own. They go when this process goes, however it ends.
 */
#ifndef MAG_CLI_EMBED_H
#define MAG_CLI_EMBED_H

#include "base/err.h"

#include <sys/types.h>

#define EMBED_WORKERS_MAX 256
#define EMBED_RESTARTS_MAX 10 /* of workers that ended by themselves */

struct embed_config {
    const char *data;    /* real path */
    const char *http;    /* "ADDR:PORT" */
    const char *storage; /* URL, or NULL */
    int workers;
    int slots; /* of each worker */
};

struct embed {
    const struct embed_config *cfg;
    char *self;       /* this program */
    char *http, *nng; /* from the ready line */
    char *socket_dir; /* of the ipc socket; removed at the end */
    pid_t driver;     /* 0 = not running */
    pid_t workers[EMBED_WORKERS_MAX];
    int restarts;
};

/* Starts the driver, waits for its ready line, starts the workers. On failure what was started has
 * ended again. */
enum mag_status embed_start(struct embed *e, const struct embed_config *cfg,
                            struct mag_err *err) MAG_MUSTCHECK;
/* Looks after the children: a worker that died is started again, some times; a driver that died is
 * the end. */
enum mag_status embed_tend(struct embed *e, struct mag_err *err) MAG_MUSTCHECK;
/* Signals every worker that runs. */
void embed_signal_workers(struct embed *e, int number);
/* How many workers still run; reaps. */
int embed_workers_left(struct embed *e);
/* Drains what is left: workers first, then the driver; kills after `patience_ms` each. */
void embed_stop(struct embed *e, int patience_ms);

#endif
