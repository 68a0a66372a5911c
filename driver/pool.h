/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver's worker endpoint: connected workers, what they hold and what they are offered. Loop
 * thread only. It talks to studies through driver_apply alone and never keeps a pointer into one:
 * what a worker holds is looked up by (experiment, trial, attempt) each time.
 */
#ifndef MAG_DRIVER_POOL_H
#define MAG_DRIVER_POOL_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct driver;
struct bridge_endpoint;
struct pool;

#define POOL_WORKERS_MAX 10000 /* workers known at a time */
#define POOL_FORGET_MS 600000  /* a worker silent for this long and without trials is forgotten */
#define POOL_RESERVE_MS 1000   /* a trial that ends within this lets its worker reserve the next */

/* Opens the listening sockets (comma-separated nng URLs; port 0 = any) and registers with the
 * driver. Shared storage: <storage_url>/<store's uuid>, claimed here and told to workers; NULL =
 * <data_dir>/storage. */
enum mag_status pool_start(struct pool **ret, struct driver *d, const struct bridge_endpoint *at,
                           const char *storage_url, struct mag_err *err) MAG_MUSTCHECK;
/* No new grants; held polls are answered at once. */
void pool_drain(struct pool *p);
/* Something may be given now: grants it to held polls and answers those, at once. */
void pool_serve(struct pool *p);
/* Closes the sockets and frees everything. NULL is allowed. */
void pool_stop(struct pool *p);
/* The real addresses, comma-separated. */
const char *pool_urls(const struct pool *p);

/* {"workers": [{"worker","name","host","state","slots","busy","free","gpus","labels","running",…}],
 * "next": cursor or null}: ordered by id, `cursor` NULL from the start. New reference. */
json_t *pool_workers(const struct pool *p, const char *cursor, int limit);
/* One of those objects, NULL = no such worker. */
json_t *pool_worker(const struct pool *p, const char *id);
/* The worker takes no new trial, finishes those it has and goes. NOTFOUND: no such worker. */
enum mag_status pool_drain_worker(struct pool *p, const char *id) MAG_MUSTCHECK;
/* Why a trial that a worker runs waits there, for a GPU's memory; borrowed until the worker is
 * heard again, NULL = it does not wait. */
const char *pool_waits(const struct pool *p, int64_t experiment, int64_t trial);
/* Last lines of a running trial's output, borrowed until the next message; NULL = none here.
 * *ret_end: the offset in the whole output just behind them, 0 = unknown. */
const char *pool_log_tail(const struct pool *p, int64_t experiment, int64_t trial,
                          int64_t *ret_end);

struct pool_stats {
    int64_t workers, connected, slots, busy, polls;
    int64_t messages, refused, repeated; /* since the start */
};
void pool_stats(const struct pool *p, struct pool_stats *ret);

#endif
