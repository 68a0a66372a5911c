/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the driver's shell: the one struct behind driver.h. driver.c starts and stops it,
 * loop.c turns it (apply, commit, release), record.c brings experiments in and back.
 */
#ifndef MAG_DRIVER_DRIVER_INTERNAL_H
#define MAG_DRIVER_DRIVER_INTERNAL_H

#include "base/strmap.h"
#include "driver/driver.h"
#include "driver/pool.h"

#include <pthread.h>

/* Priorities of libevent's events: all I/O of a turn is applied before deadlines are looked at, and
 * both before the turn's end hands the batch over. New events get PRIORITY_IO by default. */
enum { PRIORITY_COMMIT = 1, PRIORITY_IO = 2, PRIORITY_TICK = 3, PRIORITY_TURN = 4, PRIORITIES = 5 };

#define DRIVER_EXPERIMENTS_MAX 100000         /* experiments of one driver */
#define DRIVER_BATCH_EVENTS 4096              /* rows after which a batch leaves within the turn */
#define DRIVER_BATCH_NS (2 * MAG_NS_PER_MS)   /* age after which it does */
#define DRIVER_TICK_MS 500                    /* longest time between looks at the deadlines */
#define DRIVER_LATE_NS (250 * MAG_NS_PER_MS)  /* a tick so late extends every lease */
#define DRIVER_FORGET_NS (600 * MAG_NS_PER_S) /* between looks at old answers of requests */
#define DRIVER_PROBE_MS 1000                  /* between tries to write again */

#define MAG_ON_LOOP(d)                                                                             \
    MAG_ASSERT(pthread_equal((d)->loop_thread, pthread_self()), "not on the loop thread")

struct http;
struct sse;
struct reader;
struct notify;
struct think;
struct gc;

struct driver_stats {
    uint64_t commits, commit_failures, events, replay_events;
    uint64_t commit_ns; /* in the store, in all */
    uint64_t turns_late;
    int64_t replay_ms;
};

struct driver {
    struct driver_config cfg;
    char *data_dir, *store_url, *storage_url, *http_url;
    pthread_t loop_thread;
    struct event_base *base;
    struct event *turn, *tick, *committed;
    int64_t tick_due_ns;
    int64_t forgot_ns; /* last look at old answers of requests */
    bool stopping;
    int exit_status;

    /* record */
    struct store *store;
    struct list_node experiments; /* all, by id */
    struct experiment **by_id;    /* index = id, NULL = none */
    int64_t by_id_cap;
    int64_t n_experiments;
    int64_t last_experiment;
    struct strmap requests; /* "client\nkey" -> experiment */
    int64_t *deleted;       /* ids whose delete is not durable yet */
    size_t n_deleted;
    struct list_node dirty;
    struct heap deadlines;
    int64_t used_bytes; /* of shared storage, by all experiments; quota.c */
    bool storage_full;  /* it was said that this is over the quota */

    /* commits */
    struct store_batch *batch; /* being collected */
    int64_t batch_since_ns;
    int64_t commit_seq;  /* last given */
    int64_t durable_seq; /* last committed */
    uint64_t commit;     /* last handed over */
    int64_t flying_seq;  /* last commit_seq of the batch in flight */
    int64_t flying_since_ns;
    bool flying;
    bool probing;                                  /* the batch in flight is a probe */
    struct list_node flying_replies, next_replies; /* struct deferred */
    int done_fd;                                   /* eventfd: the store's thread wakes the loop */
    enum mag_status done_status; /* written by the store's thread before the wake-up */
    char done_text[512];
    bool read_only;
    char read_only_why[512];
    struct event *probe;

    /* front ends */
    struct http *http;
    struct sse *sse;
    struct reader *reader;
    struct reader *archive;          /* reads of shared storage, which may be far away */
    struct storage *archive_storage; /* the archive thread's; NULL = not opened yet */
    struct notify *notify;
    struct think *think;
    struct gc *gc;
    struct pool *pool;
    driver_turn_fn turn_fn[4];
    void *turn_arg[4];
    int n_turn_fns;
    driver_offer_fn offer;
    void *offer_arg;
    struct driver_stats stats;
};

/* ---- loop.c ---- */
enum mag_status loop_start(struct driver *d, struct mag_err *err) MAG_MUSTCHECK;
void loop_stop(struct driver *d);
/* A row goes into the batch under the next commit_seq. */
int64_t loop_next_seq(struct driver *d);
/* The batch got a row of `x`: the turn's end will hand it over. */
void loop_collected(struct driver *d, struct experiment *x);
/* `x` changed or came: its deadline and its held asks are looked at at the turn's end. */
void loop_mark_dirty(struct driver *d, struct experiment *x);
/* Between two requests: hands a batch over that is large or old, so that a busy loop cannot hold
 * it. */
void loop_between(struct driver *d);
/* Waits for the commit in flight and commits what is left; for the end. */
void loop_drain(struct driver *d);

/* ---- record.c ---- */
/* Replays every experiment of the store. One that cannot be is marked broken and said on the log.
 */
enum mag_status record_load(struct driver *d, struct mag_err *err) MAG_MUSTCHECK;
/* After a failed commit: brings every experiment with unsaved rows back to what the store holds. */
void record_rebuild(struct driver *d);
void record_free_all(struct driver *d);
/* By id or, when `key` is no number, by a name that only one experiment has; broken ones too. */
struct experiment *record_find(struct driver *d, const char *key);
struct experiment *record_by_id(struct driver *d, int64_t id);
struct experiment *record_next(struct driver *d, const struct experiment *prev);
/* State and reason of any experiment, broken ones included. */
enum study_state record_state(const struct experiment *x);

#endif
