/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the worker endpoint (pool.c, dispatch.c, offer.c, pool_json.c): its structures. Loop
 * thread only, all of it.
 */
#ifndef MAG_DRIVER_POOL_STATE_H
#define MAG_DRIVER_POOL_STATE_H

#include "base/list.h"
#include "base/strmap.h"
#include "driver/bridge.h"
#include "driver/driver.h"
#include "driver/pool.h"
#include "storage/storage.h"
#include "wire/wire.h"

#define POOL_SESSION_HEX 32
#define POOL_TICK_MS 100
#define POOL_SLACK_MS 500

/* Trials that were given together, to run as one in the slots of one. */
struct holding_group {
    int64_t id;  /* as the worker knows it */
    int members; /* holdings that point here */
    int cost;    /* slots of all together */
    unsigned counted; /* who counts groups: the round in which this one was */
    bool all_soon;    /* in that round: its members so far end soon */
};

/* What a worker has, or is about to be given. Its slots are busy until the worker says how it
 * ended, also when the lease has gone meanwhile. */
struct holding {
    struct list_node node; /* worker->holdings */
    int64_t experiment, trial, attempt;
    int cost;         /* slots; of a group's member: those of the group */
    struct holding_group *group; /* NULL = alone */
    bool reserved;    /* prefetch: counts no slot yet */
    bool sent;        /* in an answer that the worker has or can ask for again */
    bool revoked;     /* the lease is not the worker's any more: it is told to stop */
    bool told_stop;   /* an answer has carried that order */
    bool seen;        /* hello: the worker listed it */
    char *tail;       /* last lines of output */
    char *waits;      /* why it waits for a GPU's memory; NULL, "" = it does not */
    int64_t tail_end; /* offset in the output just behind them, 0 = unknown */
    char *resume_uri; /* where the grant said to start from, NULL = from the start */
    int64_t resume_step;
};

struct worker;

/* A group that is not full: the optimizer thread computes what may be its next trial, and the
 * worker's poll waits for that, for a while. */
struct gathering {
    bool on;
    int64_t experiment, trial, attempt; /* the one that the others must be like */
    int64_t until_ns;
    bool reserve;
    int lanes; /* at most */
};

/* The reply to one request: kept for repetition until the worker acknowledges it. */
struct answer {
    struct list_node node; /* worker->answers, by arrival */
    struct worker *worker;
    int64_t seq;
    struct bridge_addr to;
    bool ready;   /* `text` may leave: what it says is durable */
    bool waiting; /* `df` is in the driver's queue */
    struct buf text;
    struct deferred df;
};

struct worker {
    struct pool *pool;
    struct list_node node; /* pool->workers */
    char *id, *name, *host, *version;
    int64_t pid;
    int slots;
    int64_t gpus, gpu_memory_mb, memory_mb, cores;
    int fuse;          /* trials that are good to run as one there ("auto"), 0 = it knows no groups */
    bool can_folds;    /* knows "validation": says so in hello */
    json_t *labels;    /* array of strings, NULL = none */
    json_t *where;     /* host, worker, versions, git commit: stored with each trial */
    json_t *use;       /* last resource use, NULL = none */
    bool known;        /* said hello since this driver started */
    bool connected;    /* its connection stands */
    bool draining;     /* gets nothing any more */
    bool drain_wanted; /* we want it to drain: told with each answer */
    uint32_t pipe;
    char session[POOL_SESSION_HEX + 1]; /* "" = none */
    int64_t acked;                      /* answers up to here were forgotten, */
    int64_t open;                       /* but this one */
    struct list_node answers;
    int n_answers;
    struct answer *poll;        /* its held `next`, NULL = none */
    struct list_node poll_node; /* pool->polls, oldest first */
    int64_t poll_deadline_ns;
    struct wire_work offer; /* what the poll's answer will carry */
    struct gathering gather;
    struct wire_room *room; /* what fits into one program there, by experiment */
    size_t n_room;
    struct list_node holdings;
    int64_t saving_for; /* experiment that its free slots are kept for, in this round; 0 = none */
    int64_t heard_ns;
    int64_t since_ms; /* wall, of the first hello */
};

struct pool {
    struct driver *driver;
    struct bridge *bridge;
    struct storage *storage;
    struct event *tick;
    struct event *soon;       /* serve at the end of this round of the loop */
    struct list_node workers; /* by arrival */
    struct strmap by_id;      /* struct worker */
    struct strmap by_session; /* struct worker */
    struct list_node polls;
    bool draining;
    bool dirty;   /* studies changed since revoked leases were looked for */
    bool resync;  /* a commit failed: the studies were rebuilt */
    bool serving; /* our own events end turns too */
    int64_t groups; /* last number given to one */
    unsigned counted;
    unsigned ticks;
    struct pool_stats stats;
};

/* ---- pool.c ---- */
struct worker *pool_find(const struct pool *p, const char *id);
struct worker *pool_add(struct pool *p, const char *id);
void pool_forget_worker(struct pool *p, struct worker *w);
void worker_new_session(struct worker *w);
void worker_drop_session(struct worker *w);
struct holding *holding_find(struct worker *w, int64_t experiment, int64_t trial, int64_t attempt);
struct holding *holding_add(struct worker *w, int64_t experiment, int64_t trial, int64_t attempt);
void holding_free(struct holding *h);
/* How the study sees the worker's hold on a trial. */
enum standing {
    HELD_OPEN = 0,    /* its lease runs */
    HELD_EXPIRED = 1, /* it ran out; nobody else has the trial yet: any message takes it back */
    HELD_REVOKED = 2, /* the trial ended, or is another's */
};
/* Looks it up; keeps `reserved` and `revoked` up to date. */
enum standing holding_check(struct worker *w, struct holding *h);
/* An expired trial is the worker's again, by an empty report; false when it is too late for that.
 */
bool holding_take_back(struct worker *w, struct holding *h);
/* The worker was heard: renews every lease it has and takes expired ones back. */
void worker_renew(struct worker *w);
/* The reply is complete: it leaves once everything applied so far is durable. */
void answer_release(struct answer *a);
void answer_free(struct answer *a);
/* Takes back what the worker has not begun (reservations, undelivered grants). */
void worker_release_unstarted(struct worker *w);

/* ---- offer_group.c ---- */
/* The holding joins the group of this number at its worker; it is made when it is new. */
void holding_join(struct worker *w, struct holding *h, int64_t id);
void holding_leave(struct holding *h);
/* A trial was given (reserved): more that may run in one program with it follow, as the experiment
 * and the worker allow. `idle`: slots anywhere that could run one. */
void offer_group(struct worker *w, struct experiment *x, struct holding *first, bool reserve,
                int64_t idle);
/* Is there room for a whole group? One that is put aside while the limit of parallel trials leaves few
 * places would stay small. */
bool offer_may_reserve(const struct worker *w, const struct experiment *x);
/* Goes on with a group whose next trial was being computed. */
void offer_go_on(struct worker *w);
/* Its poll is to be answered later: the group is not full, and may become so soon. */
bool offer_is_gathering(struct worker *w);

/* ---- offer.c ---- */
/* Asks the study for one trial, which the worker then holds; NULL when it has none for now, and
 * *ret_thinks (NULL allowed) when that is being computed. */
struct holding *offer_grant(struct worker *w, struct experiment *x, bool reserve, bool *ret_thinks);
/* Puts what it holds into the answer of its poll. */
void offer_holding(struct worker *w, const struct experiment *x, struct holding *h);
/* Slots a trial with these needs takes on this worker, 0 = it does not fit. */
int offer_cost(const struct worker *w, const struct spec_requires *want);
bool worker_is_silent(const struct worker *w);
/* Sum of the slots that running trials take. */
int worker_busy(const struct worker *w);
/* Grants work to held polls and answers those that got something. */
void offer_serve(struct pool *p);
/* Answers the worker's held poll, if any, with what is in its offer. */
void offer_answer(struct worker *w);
/* Adds stop and pause orders for revoked leases to a list. */
void offer_orders(struct worker *w, bool again, struct wire_order **list, size_t *n);
bool offer_possible(void *arg, const struct spec_requires *want, const char **ret_why);

/* ---- dispatch.c ---- */
void dispatch_message(void *arg, const struct bridge_addr *from, const char *text, size_t len);
void dispatch_gone(void *arg, uint32_t pipe);

#endif
