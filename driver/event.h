/* SPDX-License-Identifier: Apache-2.0
 *
 * The events of a study: what was asked of it (in) and what it decided (out). One event is one row
 * of the durable record; the codec is canonical JSON, so equal events are equal bytes. An experiment
 * is its spec and its ordered events and nothing else.
 */
#ifndef MAG_DRIVER_EVENT_H
#define MAG_DRIVER_EVENT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENT_GRANTS_MAX 1000  /* trials in one ask */
#define EVENT_POINTS_MAX 1000  /* metric points in one report */
#define EVENT_VALUES_MAX 64    /* named values at one step */
#define EVENT_TEXT_MAX 8192    /* bytes of a reason, note or last lines */
#define EVENT_CLIENT_MAX 128   /* bytes of a client's or worker's name */
#define EVENT_REQUEST_MAX 64   /* bytes of an idempotency key */
#define EVENT_REQUEST_BYTES 80 /* with "\n" and a number: the same key, a further part of its answer */

enum trial_state {
    TRIAL_WAITING = 0,
    TRIAL_RUNNING = 1,
    TRIAL_PAUSED = 2,
    TRIAL_COMPLETED = 3,
    TRIAL_STOPPED = 4,
    TRIAL_FAILED = 5,
    TRIAL_CANCELLED = 6,
    TRIAL_STATES = 7,
};

enum study_state {
    STUDY_RUNNING = 0,
    STUDY_PAUSED = 1,
    STUDY_COMPLETED = 2,
    STUDY_CANCELLED = 3,
    STUDY_FAILED = 4,
};

enum event_kind {
    EV_ASK = 1,       /* grant up to count trials to a holder */
    EV_RESERVE = 2,   /* prefetch: like ASK of one, but the trial stays WAITING, reserved_by holder */
    EV_STARTED = 3,   /* the holder of a reservation runs it now */
    EV_REPORT = 4,    /* metrics and checkpoints of a running trial. A trial paused by it may be given
                         again at once, from the newest checkpoint committed by then: whoever writes
                         checkpoints sends that of the budget's last step in the same event */
    EV_TELL = 5,      /* the end of an attempt from its holder's side */
    EV_EXPIRE = 6,    /* a lease ran out, or its holder said bye / is known dead (`lost`) */
    EV_RELEASE = 7,   /* an undelivered grant or a reservation goes back; no loss is counted */
    EV_PAUSE = 8,     /* experiment */
    EV_RESUME = 9,    /* experiment */
    EV_CANCEL = 10,   /* experiment */
    EV_EXTEND = 11,   /* experiment: more trials, time, another target; reopens a completed one */
    EV_ENQUEUE = 12,  /* a user's point becomes a WAITING trial */
    EV_TRIAL_CANCEL = 13,
    EV_TRIAL_RETRY = 14, /* a failed, stopped or cancelled trial runs again under a new id */
    EV_TIME_UP = 15,  /* limits.time reached */
    EV_NOTE = 16,     /* tags and notes of experiment or trial changed */
    EV_COLLECTED = 17, /* committed checkpoints are no more in storage: detail {"gone": [[trial, step,
                          attempt], …]} */
    EV_NOTIFIED = 18, /* the webhook was told: detail {"seq", "event"} */
    EV_LAST = EV_NOTIFIED,
};

/* The kinds of failure, in "cause": they decide about a retry. */
enum fail_cause {
    FAIL_NONE = 0,
    FAIL_PROGRAM = 1,       /* non-zero exit status: final unless retry */
    FAIL_SIGNAL = 2,        /* may pass */
    FAIL_TIMEOUT = 3,       /* may pass */
    FAIL_MEMORY = 4,        /* may pass */
    FAIL_CONFIGURATION = 5, /* final: no such program, a model that does not fit, … */
    FAIL_OBJECTIVE = 6,     /* NaN, infinite: final */
    FAIL_NO_METRIC = 7,     /* the program ended well without the objective: final */
    FAIL_LOST = 8,          /* too many lost leases */
    FAIL_CLIENT = 9,        /* a client told failed */
};

enum report_action { ACT_CONTINUE = 0, ACT_PAUSE = 1, ACT_STOP = 2 };

struct event_value {
    char *name;   /* NULL = the objective */
    double value; /* NaN = null; for the objective that fails the trial */
};

struct event_point {
    int64_t step;
    int n_values;
    struct event_value *values;
};

/* What one ask or reserve gave. */
struct event_grant {
    int64_t trial;
    int64_t attempt;
    int64_t budget;          /* 0 = none */
    bool created;            /* a new trial: `point` is set (space->n doubles) */
    double *point;
    int64_t parent, parent_step;
    int32_t bracket, rung;
    int64_t resume_step;     /* -1 = from the start */
    char *resume_uri;        /* NULL = from the start */
};

/* A consequence for another trial (target reached, experiment cancelled, …). */
struct event_move {
    int64_t trial;
    enum trial_state to;
};

struct event {
    enum event_kind kind;
    int64_t seq;      /* place in the experiment's record, from 1; set by study_apply */
    int64_t wall_ms;  /* when, for display; given by the caller */
    int64_t up_ms;    /* the experiment's active time so far; set by study_apply */

    /* ---- in ---- */
    int64_t trial, attempt; /* 0 where none is meant */
    char *holder;           /* client or worker */
    char *request;          /* idempotency key, NULL = none */
    char *body_hash;        /* of the request's body, with `request` */
    int count;              /* ASK */
    int64_t lease_ms;       /* ASK, RESERVE: 0 = none */
    bool from_worker;       /* ASK, RESERVE: holder is a worker of the pool (lease by heartbeat) */
    json_t *where;          /* STARTED, ASK, REPORT: host, versions, git commit, gpu; NULL = unchanged */
    struct event_point *points; /* REPORT, TELL */
    int n_points;
    int64_t checkpoint_step; /* REPORT, TELL: committed by this event; -1 = none */
    char *checkpoint_uri;
    char *checkpoint_meta;   /* size, sha256 … JSON text or NULL */
    enum trial_state told;   /* TELL: COMPLETED, FAILED, or WAITING = lost (given back) */
    bool uncounted;          /* TELL lost, EXPIRE: draining or announced preemption: counts as no loss */
    bool has_value;          /* TELL: objective given */
    double value;
    struct event_value *values; /* TELL: what else was measured, by name */
    int n_values;
    enum fail_cause cause;
    bool retry;              /* TELL failed: may be tried again whatever the cause */
    bool final;              /* TELL failed: is not tried again whatever the cause */
    char *reason;
    json_t *detail;          /* PAUSE {"stop": bool}, EXTEND, ENQUEUE (params, budget), NOTE, TRIAL_RETRY;
                                TELL {"exit","signal","last_line","log"}; NULL = none */

    /* ---- out: what was decided; recorded, and trusted on replay ---- */
    bool decided;            /* the fields below are given (replay), not asked for */
    char *maker;             /* who decides from this event on: "asha 1, tpe 2", algorithms with their
                                versions; NULL = as before */
    struct event_grant *grants;
    int n_grants;
    bool waiting, done;      /* ASK: nothing (more) now / ever */
    char *why_code, *why;    /* ASK waiting or done; also why a trial or study moved */
    enum report_action action; /* REPORT, TELL with points */
    int64_t action_step;       /* the step that ended the attempt, -1 = none did */
    bool late;               /* an older attempt or an ended trial: kept and shown, changes nothing */
    bool changed;            /* the trial's or study's state changed */
    enum trial_state state;  /* the trial's state afterwards */
    int64_t state_attempt;   /* the trial's attempt afterwards */
    int64_t created_trial;   /* ENQUEUE, TRIAL_RETRY: the new id */
    int64_t refit;           /* the point that runs once more, on all data: its trial is created; 0 = none */
    struct event_move *moves;
    int n_moves;
    enum study_state study;  /* the study's state afterwards */
    char *study_why_code, *study_why; /* why it moved; NULL when it did not */
};

void event_init(struct event *ev, enum event_kind kind);
void event_fini(struct event *ev);
const char *event_kind_name(enum event_kind kind);
const char *trial_state_name(enum trial_state s);  /* "waiting", … */
const char *study_state_name(enum study_state s);  /* "running", … */
const char *fail_cause_name(enum fail_cause c);    /* "signal", … */
const char *report_action_name(enum report_action a); /* "continue", "pause", "stop" */
bool trial_state_is_final(enum trial_state s);
bool study_state_is_final(enum study_state s);
/* The inverses; false when `name` is none. */
bool trial_state_from_name(const char *name, enum trial_state *ret);
bool fail_cause_from_name(const char *name, enum fail_cause *ret);

/* Takes the decision out again (all "out" fields, seq and up_ms); what was asked stays. */
void event_clear_decision(struct event *ev);
/* The values of point i are allocated by the caller: points[i].values is malloc'ed, as all that
 * event_fini frees. event_add_point appends one with `n` unset values and returns it. */
struct event_point *event_add_point(struct event *ev, int64_t step, int n);
void event_add_value(struct event *ev, const char *name, double value);
void event_add_move(struct event *ev, int64_t trial, enum trial_state to);
struct event_grant *event_add_grant(struct event *ev);

/* Canonical JSON text of in and out fields that are not at their default (seq, wall_ms, up_ms and
 * kind travel in columns of their own and are not written). `dims` = space->n. */
void event_encode(const struct event *ev, int dims, struct buf *out);
/* The inverse; the result has decided = true. MAG_CORRUPT names what is wrong. */
enum mag_status event_decode(enum event_kind kind, const char *text, size_t len, int dims,
                             struct event *ret, struct mag_err *err) MAG_MUSTCHECK;

#endif
