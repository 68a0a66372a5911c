/* SPDX-License-Identifier: Apache-2.0
 *
 * The metastore: experiments and their events, durable. One interface, one conformance suite. The
 * store runs commits on a thread of its own; the loop hands it batches and learns of their end
 * through a callback on that thread (which must only wake the loop). Reads that scan open a reader,
 * which has a connection of its own and may be used from any one thread.
 */
#ifndef MAG_DRIVER_STORE_H
#define MAG_DRIVER_STORE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_SCHEMA_VERSION 1
#define STORE_SEQ_MAX ((INT64_C(1) << 36) - 1)        /* events of one experiment */
#define STORE_EXPERIMENT_MAX ((INT64_C(1) << 26) - 1) /* experiments of one store */

enum store_durability { STORE_FULL = 0, STORE_NORMAL = 1 };

/* A row of the record. Texts borrowed for the call or until the visit returns. */
struct store_event {
    int64_t experiment;
    int64_t seq;        /* in the experiment, from 1, without gaps, at most STORE_SEQ_MAX */
    int64_t commit_seq; /* in the store, rising over everything and over restarts; given by the
                           caller */
    int kind;           /* enum event_kind */
    int64_t trial;      /* 0 = none; reports and tells of a trial are found by it */
    int64_t wall_ms;
    int64_t up_ms;
    const char *text; /* event_encode */
    int text_len;
};

struct store_experiment {
    int64_t id;
    int64_t created_ms;
    const char *spec_text; /* as sent, byte for byte */
    int spec_len;
    const char *resolved; /* canonical JSON with the seed */
    const char *request;  /* "client\nkey\nbodyhash" of an idempotent POST, or NULL */
    const char *summary;  /* JSON of the last summary, for lists without replay, or NULL */
    int64_t commit_seq;   /* as in store_event: the experiment's creation */
};

/* Collects the rows of one turn; everything is copied in. */
struct store_batch;
struct store_batch *store_batch_create(void);
void store_batch_destroy(struct store_batch *b);
bool store_batch_is_empty(const struct store_batch *b);
void store_batch_event(struct store_batch *b, const struct store_event *ev);
void store_batch_experiment(struct store_batch *b, const struct store_experiment *x);
/* Every row of the experiment goes; `commit_seq` keeps the store's count rising. */
void store_batch_delete(struct store_batch *b, int64_t experiment, int64_t commit_seq);
size_t store_batch_rows(const struct store_batch *b);

struct store;
typedef void (*store_done_fn)(void *arg, uint64_t commit, enum mag_status st, const char *text);

/* url: "sqlite:PATH". Takes the owner's lock (PATH.lock), waiting three seconds for an owner that
 * is about to end: MAG_CONFLICT names the pid and host that hold it. Network file systems and newer schemas are refused with MAG_UNSUPPORTED. */
enum mag_status store_open(const char *url, enum store_durability durability, struct store **ret,
                           struct mag_err *err) MAG_MUSTCHECK;
/* Waits for the commit in flight, checkpoints, releases the lock. Readers are closed before. */
void store_close(struct store *s);
/* Loop thread. Takes the batch; `commit` numbers rise by one. One batch may be in flight; calling
 * while one is, is a bug. `done` runs on the store's thread, after the sync (STORE_FULL); with a
 * status other than MAG_OK nothing of the batch is stored and `text` says why: the caller may try
 * again later. An empty batch writes and syncs one small row: a probe whether the store can be
 * written again. */
void store_commit_take(struct store *s, struct store_batch *b, uint64_t commit, store_done_fn done,
                       void *arg);
/* A random id made with the store (32 hex digits). */
const char *store_uuid(const struct store *s);
/* The highest commit_seq that the store held when it was opened. */
int64_t store_last_commit_seq(const struct store *s);
/* The highest experiment id that was ever given, deleted ones included, when it was opened. */
int64_t store_last_experiment(const struct store *s);

/* ---- reading ---- */
struct store_reader;
enum mag_status store_reader_open(struct store *s, struct store_reader **ret,
                                  struct mag_err *err) MAG_MUSTCHECK;
/* Without the owner's lock, for other programs (`magpie verify`): works beside a running driver.
 * MAG_NOTFOUND: there is no store. */
enum mag_status store_reader_open_url(const char *url, struct store_reader **ret,
                                      struct mag_err *err) MAG_MUSTCHECK;
void store_reader_close(struct store_reader *r);
/* Visitors return false to stop. */
typedef bool (*store_experiment_fn)(void *arg, const struct store_experiment *x);
typedef bool (*store_event_fn)(void *arg, const struct store_event *ev);
/* In the order of ids. `only` = 0 visits all, else that one. */
enum mag_status store_read_experiments(struct store_reader *r, int64_t only, store_experiment_fn fn,
                                       void *arg, struct mag_err *err) MAG_MUSTCHECK;
/* Events of one experiment with seq > after, in order. */
enum mag_status store_read_events(struct store_reader *r, int64_t experiment, int64_t after,
                                  store_event_fn fn, void *arg, struct mag_err *err) MAG_MUSTCHECK;
/* The events that name the trial (reports, tells, …; not asks, which give several), in order, with
 * seq > after. */
enum mag_status store_read_trial(struct store_reader *r, int64_t experiment, int64_t trial,
                                 int64_t after, store_event_fn fn, void *arg,
                                 struct mag_err *err) MAG_MUSTCHECK;

#endif
