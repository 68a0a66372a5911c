/* SPDX-License-Identifier: Apache-2.0
 *
 * The study: one experiment's whole brain. Pure: no sockets, no clock, no threads, no files; time
 * comes in as an argument. Events go in through study_apply, which decides, changes the state and
 * writes the decision into the event; deadlines come out of study_tick. Replay calls study_apply
 * with recorded events (decided = true): recorded outcomes are adopted, never derived again.
 */
#ifndef MAG_DRIVER_STUDY_H
#define MAG_DRIVER_STUDY_H

#include "base/heap.h"
#include "base/list.h"
#include "driver/event.h"
#include "driver/spec.h"

#define STUDY_LEASE_CLIENT_MS 300000 /* a client's lease where it names none */

/* One finished or current attempt, for repeated messages: the same question gets the same answer.
 * Attempt n of a trial is attempts[n - 1]. */
struct trial_attempt {
    int64_t first_step, last_step; /* steps with the objective reported in it, -1 = none */
    int64_t end_step;              /* step of the report that paused or stopped it, -1 = none */
    enum report_action action;     /* that report's action */
    enum trial_state told_state;   /* the answer of the tell, or the state that report left */
    bool gaps;                     /* first_step .. last_step was not reported whole, in order */
    bool told;                     /* a tell of this attempt was answered with `told_state` */
    bool told_late;                /* and as late */
};

/* A checkpoint of a trial in shared storage, as the record tells. */
struct trial_kept {
    int64_t step, attempt, bytes;
    double score; /* the objective at its step, user's sign; NaN = not at hand */
};

/* Texts are borrowed from the study until the next apply. */
struct trial {
    int64_t id;
    int64_t attempt; /* 0 = never granted */
    enum trial_state state;
    enum fail_cause cause;
    double *point;
    int64_t budget; /* of the current or last grant; 0 = none */
    int64_t step;   /* highest step reported, -1 = none */
    double value;   /* told, else of the highest step; user's sign; NaN = none */
    double *extras; /* spec->n_measures - 1: the other measures, newest, user's sign; NaN = none */
    int64_t seen_step;        /* highest step the optimizer saw, -1 = none */
    int32_t failures, losses; /* of the program; lost leases in all */
    int32_t losses_in_row;    /* without a newer checkpoint */
    int32_t late;             /* messages recorded as late */
    int64_t peak_mb;          /* memory of its newest attempt that told it; 0 = not known */
    int64_t need_mb;          /* memory that its last attempt said it needs; 0 = it did not say */
    int64_t checkpoint_step;  /* committed, -1 = none */
    char *checkpoint_uri;
    struct trial_kept *kept; /* by step; study_usage.c */
    int n_kept;
    int64_t parent, parent_step;
    int32_t bracket, rung;
    char *reason;               /* why it failed, stopped or was cancelled; or the last failure */
    const char *why_code, *why; /* WAITING, PAUSED: why it does not run; see study_trial_why */
    const char *holder;         /* current (or, WAITING after a loss, last) holder; NULL = none */
    bool from_worker;
    bool reserved;    /* WAITING and promised to `holder` */
    bool lost;        /* WAITING because its holder seemed gone: a message of its last attempt takes
                         it back */
    bool enqueued;    /* a user's point */
    bool delivered;   /* not stored: the holder is known to have it */
    int64_t lease_ms; /* 0 = no lease */
    struct heap_node lease;                   /* in study->leases while a lease runs */
    json_t *where;                            /* where it runs or ran */
    int64_t created_ms, started_ms, ended_ms; /* wall, 0 = not yet */
    struct trial_attempt *attempts;
    int32_t n_attempts;
    int64_t rerun_of; /* trial that this one runs again, 0 = none */
    int64_t point_of; /* the first trial of its point: itself where a point is one trial */
    int64_t ordinal;  /* number of its point, which is what the optimizer knows; 0 = a refit */
    int32_t fold;     /* with "validation": 1 .. folds; 0 = a refit */
    char *notes;
    struct list_node link; /* in study->queue while WAITING and not reserved; in study->open while
                              RUNNING or reserved; in none otherwise */
    /* private to the study */
    struct trial_attempt first; /* attempts points here until there is a second */
    double attempt_value;       /* last objective of the current attempt, NaN = none */
    int64_t attempt_step;       /* highest step of the current attempt, with or without objective */
    int64_t value_step;         /* step that `value` belongs to, -1 = none */
    int64_t attempt_ns, report_ns; /* monotonic, for estimates; 0 after a restart */
    uint64_t touch;                /* last apply that changed it */
};

struct study;

/* `spec` is taken. Never fails: a spec that parsed is sound. */
struct study *study_create(struct spec *spec_take);
void study_destroy(struct study *s);

/* Applies one event at monotonic `now_ns`. In: ev's "in" fields (and "out" when ev->decided). Out:
 * the decision. Returns MAG_OK when the event is now part of the record; any other status (text in
 * err) means that it was refused, nothing changed and nothing must be recorded: NOTFOUND no such
 * trial; CONFLICT the study's state forbids it, or the `request` was used with another body;
 * INVALID a wrong value (TELL completed without a value, ENQUEUE out of bounds …); LIMIT; CORRUPT a
 * recorded event that cannot follow the ones before. MAG_OK with ev->kind unchanged and ev->seq ==
 * 0 means: answered, nothing to record (a repeated message; a waiting ask). */
enum mag_status study_apply(struct study *s, struct event *ev, int64_t now_ns,
                            struct mag_err *err) MAG_MUSTCHECK;

/* The next lease or time-limit deadline (monotonic ns), INT64_MAX when none. */
int64_t study_deadline(const struct study *s);
/* Fills `ev` with the next due EXPIRE or TIME_UP (to be applied by the caller) and returns true;
 * false when nothing is due at `now_ns`. Call after the inbox is drained. */
bool study_tick(struct study *s, int64_t now_ns, struct event *ev);
/* A turn came late by `delay_ns`: every lease gets that much more. */
void study_delay(struct study *s, int64_t delay_ns);
/* After replay: every open lease gets a full term from now. */
void study_rearm(struct study *s, int64_t now_ns); /* also starts the clock of limits.time */
/* Any message of a holder renews the leases it holds (worker: all; client: the one trial). False
 * when the holder has no such lease any more: send an EV_REPORT without points, which takes a trial
 * that still waits back and otherwise answers `late`. */
bool study_renew(struct study *s, int64_t trial, int64_t attempt, int64_t now_ns);

/* The answer of an earlier ask with this (client, request), or NULL. Borrowed until the next apply.
 * MAG_CONFLICT is for the caller when the body hash differs. */
const struct event *study_request(const struct study *s, const char *client, const char *request);
/* Drops request answers older than 24 h none of whose trials lives. Done at each new request too.
 */
void study_forget_requests(struct study *s, int64_t wall_ms);

/* ---- queries; everything borrowed until the next apply ---- */
const struct spec *study_spec(const struct study *s);
enum study_state study_state(const struct study *s);
int64_t study_seq(const struct study *s); /* last recorded event */
int64_t study_up_ms(const struct study *s, int64_t now_ns);
const struct trial *study_trial(const struct study *s, int64_t id); /* NULL = none */
struct trial *study_trial_mut(struct study *s, int64_t id);         /* shell: `delivered` only */
int64_t study_trials(const struct study *s);                        /* ids are 1..n */
void study_counts(const struct study *s, int64_t counts[TRIAL_STATES]);
/* The best completed trial, else the best at the highest step; NULL = none. O(1). With folds: the
 * first trial of the best completed point. */
const struct trial *study_best(const struct study *s);
/* ---- points and folds (study_fold.c, study_refit.c); without "validation" a point is one trial
 * --- */
struct point_stat {
    int n;                  /* folds that have completed */
    double mean, deviation; /* of those, NaN = none; of a sample, 0 for one */
};
int study_folds(const struct study *s);            /* trials of a point */
int64_t study_points(const struct study *s);       /* created so far */
int64_t study_points_ended(const struct study *s); /* of those */
/* Is it the last trial, on all data, that nobody judges? */
bool trial_is_refit(const struct trial *t);
/* It is judged by its own value: there are no folds, or it is a refit. */
bool trial_stands_alone(const struct study *s, const struct trial *t);
/* Measure i (0: the objective) over the folds of `t`'s point; user's sign. */
struct point_stat study_point_stat(const struct study *s, const struct trial *t, int measure);
/* What `t` counts by: the mean over the folds of its point, or its own measure. NaN = none. */
double study_measure(const struct study *s, const struct trial *t, int i);
enum trial_state study_point_state(const struct study *s, const struct trial *t);
/* Fold i (from 0) of the point that begins with `first`; NULL beyond the last. */
const struct trial *study_point_fold(const struct study *s, const struct trial *first, int i);
/* The newest refit, NULL = none yet. */
const struct trial *study_refit(const struct study *s);

/* With several objectives: the completed feasible trials that no other dominates, in the order they
 * came; none with one objective. */
const int64_t *study_front(const struct study *s, int *ret_n);
/* Measure i of a trial itself (0: its value), NaN = none; and how far it (its point) breaks the
 * outcome constraints in all, relative to their bounds; 0 = feasible as far as is known. */
double trial_measure(const struct trial *t, int i);
double trial_violation(const struct study *s, const struct trial *t);
/* Limits in force: the spec's as changed by extend. */
const struct spec_limits *study_limits(const struct study *s);
/* Why this trial does not run (WAITING, PAUSED), with the experiment's own reasons first; the code,
 * or NULL when there is none. The sentence goes to buf. */
const char *study_trial_why(const struct study *s, const struct trial *t, char *buf, size_t size);
/* Why the experiment does not go on (or runs no more trials), code constant, text in buf. */
const char *study_why(const struct study *s, char *buf, size_t size);
/* Failures so far, those that were tried again included; *ret_last: the trial of the newest one,
 * NULL = none. Borrowed. */
int64_t study_failures(const struct study *s, const struct trial **ret_last);
/* Seconds to the end as far as durations seen tell, negative = unknown. */
double study_eta_s(const struct study *s, int64_t now_ns);
/* Could an ask of a worker get something now, or end the experiment? A cheap hint for
 * dispatch. */
bool study_has_work(const struct study *s);
/* What an ask would give next. Borrowed until something changes. */
struct study_next {
    const double *point;
    int64_t budget;
    int64_t resume_step; /* -1 = from the start */
    int32_t fold;
    bool failed; /* an earlier attempt of it did */
};
/* False when it would give nothing, or when that takes thinking (study_must_think). */
bool study_next(const struct study *s, struct study_next *ret);
/* Trials that could still be given, and places of the limit of parallel ones; INT64_MAX = no limit. */
void study_room(const struct study *s, int64_t *ret_trials, int64_t *ret_places);
/* Would an ask now create a new trial (and not give one that waits or is promoted)? */
bool study_next_is_new(const struct study *s);

/* ---- slow optimizers (study_think.c) ----
 * Their suggestion may be computed on another thread, so that whoever calls study_apply is not held
 * up. It is part of no event and of no record: study_apply computes it itself when it is missing,
 * and takes it when it is there. */
struct thought;
/* Takes any optimizer for a slow one from now on; for tests of what is around it. */
void study_pretend_slow(struct study *s);
bool study_is_slow(const struct study *s);
/* Would an ask have to wait for a suggestion that takes long? */
bool study_must_think(const struct study *s);
/* The suggestion that study_must_think tells of, to be computed. */
struct thought *study_thought(const struct study *s);
/* Computes it: any thread. From study_thought to study_thought_take nothing may be applied to the
 * study; queries are allowed. */
void study_thought_run(struct thought *t);
/* Gives it to the study that it came from. */
void study_thought_take(struct study *s, struct thought *t_take);

/* Expected milliseconds until this running trial ends, -1 = unknown (prefetch). */
int64_t study_remaining_ms(const struct study *s, int64_t trial, int64_t now_ns);
/* Trials changed by the last study_apply, for the event stream. */
const int64_t *study_touched(const struct study *s, int *ret_n);
const json_t *study_tags(const struct study *s);
const char *study_notes(const struct study *s);
int64_t study_created_ms(const struct study *s); /* wall of the first event, 0 */
int64_t study_started_ms(const struct study *s);
int64_t study_ended_ms(const struct study *s);

/* ---- checkpoints (study_pins.c) ---- */
/* A stored checkpoint by its name, "…/trials/<trial>/checkpoints/<step>-<attempt>". */
struct study_pin {
    int64_t trial, step, attempt;
};
/* False when the URI is not one of a magpie storage. */
bool study_checkpoint_name(const char *uri, struct study_pin *ret);
/* The trial's checkpoints that other open trials go on from; their number, *ret malloc'ed. */
int study_pins(const struct study *s, int64_t trial, struct study_pin **ret);
/* The checkpoints of trials `lo` to `hi` that any trial, open or ended, has as its newest one;
 * their number, *ret malloc'ed. O(trials) where trials are copied, else O(hi - lo). */
int study_claims(const struct study *s, int64_t lo, int64_t hi, struct study_pin **ret);

/* ---- what it holds in shared storage (study_usage.c) ---- */
struct study_usage {
    int64_t checkpoints, checkpoint_bytes; /* committed ones that nobody has removed */
    int64_t log_bytes;                     /* what ended attempts wrote, before compression */
};
/* O(1). */
void study_usage(const struct study *s, struct study_usage *ret);

/* ---- what its webhook has still to be told (study_notice.c) ---- */
enum study_notice_kind { NOTICE_TARGET = 0, NOTICE_FAILURE = 1, NOTICE_END = 2, NOTICE_KINDS = 3 };
struct study_notice {
    int64_t seq; /* of the event that brought it */
    enum study_notice_kind kind;
    int64_t wall_ms; /* when */
};
/* In the order in which they came; an EV_NOTIFIED takes one out. Borrowed until the next apply. */
const struct study_notice *study_notices(const struct study *s, int *ret_n);
const char *study_notice_name(enum study_notice_kind kind); /* "target", "failure", "end" */

/* ---- verify ---- */
struct verify_result {
    int64_t events;    /* derived again */
    int64_t skipped;   /* decided by another version of the algorithm: taken as they are */
    char *other;       /* the first such version, "de 1"; malloc'ed or NULL */
    int64_t first_bad; /* seq of the first difference, 0 = none */
    char *text;        /* what differs, recorded against derived; malloc'ed or NULL */
};
/* Opaque walker: feed every recorded event in order; it derives each decision again and compares.
 */
struct verifier;
struct verifier *verifier_create(struct spec *spec_take);
/* False after the first difference. `ev` is a decoded recorded event. What another version of the
 * algorithm decided, as the record tells, is followed and counted instead of derived. */
bool verifier_feed(struct verifier *v, const struct event *ev, struct verify_result *res);
void verifier_destroy(struct verifier *v);

/* Digest (FNV-1a 64) of everything a restart must bring back; for tests and /debug/digest. */
uint64_t study_digest(const struct study *s);

#endif
