/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver's shell: one loop thread that owns every study, one store thread that commits. What a
 * front end (REST, worker endpoint) may call: look an experiment up, apply an event, and have its
 * reply released once everything applied so far is durable. Loop thread only, all of it.
 */
#ifndef MAG_DRIVER_DRIVER_H
#define MAG_DRIVER_DRIVER_H

#include "base/list.h"
#include "driver/store.h"
#include "driver/study.h"

#include <event2/event.h>

struct driver_config {
    const char *data_dir;
    const char *store_url;   /* NULL = sqlite:<data_dir>/magpie.db */
    const char *http_addr;   /* "127.0.0.1:8470" */
    const char *listen_urls; /* comma-separated nng URLs */
    const char *storage_url; /* NULL = file:<data_dir>/storage */
    enum store_durability durability;
    int64_t heartbeat_ms;    /* 2000 */
    int64_t lease_ms;        /* 15000 */
    int64_t gc_ms;           /* between collections of garbage in storage, 0 = only when asked */
    int64_t quota_bytes;     /* of shared storage, 0 = none */
    const char *allow_hosts; /* further Host names, comma-separated */
    bool require_token;      /* also on loopback */
    const char *tls_cert, *tls_key; /* PEM files, both or neither */
};

struct driver;

struct experiment {
    int64_t id;
    struct study *study;
    int64_t created_ms;
    char *spec_text; /* as sent */
    size_t spec_len;
    int dims;      /* space->n */
    char *request; /* "client\nkey\nhash" of its idempotent POST, or NULL */
    char *broken;  /* why its record cannot be replayed; it is read-only then, NULL = sound */
    struct list_node node;     /* driver's list, by id */
    struct list_node waiters;  /* held asks of REST clients, FIFO (struct http_call) */
    struct heap_node deadline; /* in the driver's heap, by study_deadline */
    struct list_node dirty;    /* in the driver's list when it changed since the last turn's end */
    int64_t shown_seq;         /* commit_seq of its last entry in the event stream */
    uint64_t unsaved;          /* number of the commit that holds its newest row */
    int64_t notified;          /* event up to which notices were handed to the webhook thread */
    int64_t used_bytes;        /* of shared storage; in the driver's sum */
    bool storage_full;         /* it was said that it is over limits.storage */
    bool deleted;              /* it is about to be freed */
    bool thinking;             /* its next suggestion is computed on the optimizer thread */
    struct list_node wanting;  /* in the queue for that */
    struct list_node parked;   /* struct parked, behind the suggestion, FIFO */
};

/* What waits until a suggestion is there. Embed it; `fn` runs on the loop thread exactly once: ok =
 * false when the driver ends before. */
struct parked {
    struct list_node node;
    void (*fn)(struct parked *p, bool ok);
};

/* A reply that waits for a commit. Embed it; `fn` runs on the loop thread exactly once: ok = true
 * after the commit, false when it failed (then nothing may be acknowledged). */
struct deferred {
    struct list_node node;
    void (*fn)(struct deferred *d, bool ok);
};

enum mag_status driver_start(struct driver **ret, const struct driver_config *cfg,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Runs until driver_stop; returns the process's exit status. */
int driver_run(struct driver *d);
/* Async-signal-unsafe; call from the loop (signal events) or through event_active. Drains: no new
 * grants, held polls answered, last turn committed. */
void driver_stop(struct driver *d);
void driver_destroy(struct driver *d);
/* The real addresses, for the ready line. */
const char *driver_http_url(const struct driver *d);
const char *driver_nng_url(const struct driver *d);

struct event_base *driver_base(struct driver *d);
const struct driver_config *driver_config(const struct driver *d);
int64_t driver_now_ns(const struct driver *d);    /* monotonic */
bool driver_is_read_only(const struct driver *d); /* the store cannot be written */
struct store *driver_store(struct driver *d);
/* The secret of the data folder's `token` file, NULL while there is none. */
const char *driver_token(const struct driver *d);

/* Sound experiments only (`broken` is NULL, `study` is not). The pointer lives until the callback
 * returns: a failed commit may replace the study, a delete frees it. */
struct experiment *driver_experiment(struct driver *d, int64_t id); /* NULL = none */
struct experiment *driver_next(struct driver *d,
                               const struct experiment *prev); /* by id; NULL starts */
/* Parses, stores, creates. Issues in `is` on MAG_INVALID. `request` as in store_experiment. */
enum mag_status driver_submit(struct driver *d, const char *text, size_t len, const char *request,
                              struct experiment **ret, struct mjson_issues *is,
                              struct mag_err *err) MAG_MUSTCHECK;
enum mag_status driver_delete(struct driver *d, struct experiment *x,
                              struct mag_err *err) MAG_MUSTCHECK;

/* study_apply plus the row in this turn's batch plus the event stream's entry. ev->wall_ms is set
 * here. MAG_UNSUPPORTED while read-only. */
enum mag_status driver_apply(struct driver *d, struct experiment *x, struct event *ev,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Runs `df->fn` when all that was applied up to now is durable: at once (before returning) when it
 * already is. */
void driver_after_commit(struct driver *d, struct deferred *df);
/* Takes a deferred that waits out of the queue (its owner goes); nothing happens when it does not.
 */
void driver_forget(struct driver *d, struct deferred *df);

/* Slow optimizers (think.h). Whoever has an ask for which study_must_think calls driver_think and
 * asks again when rest_serve_waiters or pool_serve is called: the suggestion is there then. */
void driver_think(struct driver *d, struct experiment *x);
/* The suggestion is computed: everything that applies events to `x` is parked. (driver_apply takes
 * it all the same; then the loop waits for the thread.) */
bool driver_is_thinking(const struct experiment *x);
/* It is computed, or will be. */
bool driver_awaits_thought(const struct experiment *x);
void driver_park(struct driver *d, struct experiment *x, struct parked *p);

/* Called at the end of each turn that changed studies, before its commit, so that held polls can be
 * served in it. The worker endpoint registers one; REST asks have their own. */
typedef void (*driver_turn_fn)(void *arg);
void driver_on_turn_end(struct driver *d, driver_turn_fn fn, void *arg);
/* True when a worker with these offers is connected (for "why"); set by the worker endpoint. */
typedef bool (*driver_offer_fn)(void *arg, const struct spec_requires *want, const char **ret_why);
void driver_set_offer(struct driver *d, driver_offer_fn fn, void *arg);

#endif
