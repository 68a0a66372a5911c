/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the study core: the study's state and the calls between its files (study*.c, trial.c,
 * leases.c, verify.c). Nobody else includes this.
 *
 * Every handler has the same shape: refuse what cannot be (live only), decide (live only: fill the
 * event's "out" fields), enact (live and replay: change the state by the "out" fields alone).
 */
#ifndef MAG_DRIVER_STUDY_IMPL_H
#define MAG_DRIVER_STUDY_IMPL_H

#include "base/strmap.h"
#include "driver/study.h"
#include "optimizers/early_stop.h"

#define TRIAL_CHUNK 256 /* trials allocated at once; their addresses never change */

struct trial_chunk {
    struct trial trials[TRIAL_CHUNK];
    double points[]; /* TRIAL_CHUNK * (dims + measures - 1): each trial's point and extras */
};

/* The optimizer's next answer, kept until something changes that it may depend on. */
struct peek {
    bool valid;
    struct opt_suggestion s;
    bool outlined;
    struct opt_suggestion outline; /* the same without a point, of a slow optimizer */
};

struct study {
    struct spec *spec;
    struct optimizer *opt;
    struct early_stop *rule; /* NULL = none */
    char *maker;             /* optimizer and rule of this build, with their versions */
    char
        *recorded_maker; /* who decided the newest recorded event; NULL = the record does not say */
    struct spec_limits limits;
    enum study_state state;
    char *why_code, *why;    /* of the state; NULL while running */
    bool stop_at_checkpoint; /* paused with {"stop": true} */
    json_t *tags;
    char *notes;

    int64_t seq;      /* recorded events */
    int64_t wall_ms;  /* of the event that is being applied */
    int64_t now_ns;   /* likewise, monotonic */
    int64_t up_ns;    /* active time up to since_ns */
    int64_t since_ns; /* the clock of limits.time runs since then, -1 = it stands */
    int64_t created_ms, started_ms, ended_ms;

    struct trial_chunk **chunks;
    int64_t n_trials;
    bool has_copies; /* of trials, made from another's checkpoint */
    int64_t n_points, n_points_ended;
    int64_t *points;    /* with "validation": the first trial of each point; NULL without */
    int64_t refit;      /* trial that is the running refit, 0 = none: with it the search is over */
    int64_t last_refit; /* trial, 0 = none yet */
    int64_t refitted;   /* point whose refit completed last, 0 = none */
    char *refit_code, *refit_why; /* why the search was over */
    int64_t counts[TRIAL_STATES];
    int64_t n_reserved;
    struct list_node queue; /* WAITING and not reserved, next to be given first */
    struct list_node open;  /* RUNNING or reserved */
    struct heap leases;     /* of open trials; keys are deadlines less lease_shift_ns */
    int64_t lease_shift_ns; /* what study_delay added to all of them */

    int64_t failures_in_row;
    int64_t failures_all;
    int64_t last_failed;    /* trial of the newest failure, 0 = none */
    int64_t target_trial;   /* in this event: the trial that reached the target, 0 = none */
    int64_t ended_fold;     /* in this event: the fold whose own end it is, 0 = none */
    bool fold_stops;        /* in this event, live: its point goes no further than that fold */
    char *fold_why;         /* and the rule's sentence */
    int64_t best_completed; /* trial, 0 = none */
    int64_t
        *best_partial; /* trial, 0 = none, -1 = to be looked for; a cache behind a const study */

    int64_t *front; /* trials: see study_front */
    int n_front, cap_front;

    struct peek *peek;
    bool slow;     /* a suggestion takes long: only an ask may need one (study_think.c) */
    bool answered; /* this event was answered and is not to be recorded */
    uint64_t turn; /* counts applies, for `touch` */
    int64_t *touched;
    int n_touched, cap_touched;

    struct strmap texts;     /* shared texts, counted */
    struct strmap wheres;    /* canonical text -> json_t, shared by all trials that ran there */
    struct strmap requests;  /* "client\nrequest" -> struct request */
    struct list_node by_age; /* struct request, the next to be looked at first */
    struct event *answer;    /* what study_request returned last; a cache behind a const study */

    struct study_usage usage;
    struct study_notice *notices;
    int n_notices;
    double step_ms, attempt_ms; /* durations seen, moving averages, 0 = none yet; not stored */
};

typedef enum mag_status (*study_handler)(struct study *s, struct event *ev, struct mag_err *err);

/* ---- study.c ---- */
void study_touch(struct study *s, struct trial *t);
/* Decides a new state of the study (live only). */
void study_decide(struct event *ev, enum study_state to, const char *code, const char *fmt, ...)
    MAG_PRINTF(4, 5);
/* Every trial that waits or runs ends with the experiment (live only): fills ev->moves. */
void study_decide_stop_all(struct study *s, struct event *ev);
/* Sets ev->why_code and ev->why. */
void event_why(struct event *ev, const char *code, const char *fmt, ...) MAG_PRINTF(3, 4);
enum mag_status event_corrupt(const struct event *ev, struct mag_err *err, const char *fmt, ...)
    MAG_PRINTF(3, 4);
/* The trial that a message names. */
enum mag_status event_trial(struct study *s, const struct event *ev, struct trial **ret,
                            struct mag_err *err);
/* Likewise; the attempt must exist too. */
enum mag_status event_attempt(struct study *s, const struct event *ev, struct trial **ret,
                              struct mag_err *err);
/* The state of the trial afterwards goes to the event (live). */
void event_after(struct event *ev, const struct trial *t, bool changed);
bool study_may_create(const struct study *s);
bool study_is_idle(const struct study *s); /* nothing waits or runs */

/* ---- study_think.c ---- */
/* What the optimizer would answer now. Borrowed until something changes. */
const struct opt_suggestion *study_peek(const struct study *s);
/* The same, but quick for a slow optimizer too: without its point, and then perhaps TRIAL where the
 * point would show that the space is exhausted. A function of the record, as decisions must be. */
const struct opt_suggestion *study_outline(const struct study *s);
/* The whole where it is known, else the outline: for queries. */
const struct opt_suggestion *study_outlook(const struct study *s);
void study_unpeek(struct study *s);
/* Knows whether its optimizer is slow. */
void study_think_init(struct study *s);
/* Ours and the optimizer's sign. */
double study_minimised(const struct study *s, double value);
bool study_is_better(const struct study *s, double a, double b);
bool study_meets_target(const struct study *s, double value);
int64_t study_active_ns(const struct study *s, int64_t now_ns);

/* ---- study_text.c: shared texts ---- */
/* Makes *slot hold a shared copy of `text` (NULL = none), giving back what it held. */
void study_text_set(struct study *s, const char **slot, const char *text);
/* The shared equal of `where`, new reference; NULL for NULL. */
json_t *study_where(struct study *s, json_t *where);
void study_texts_fini(struct study *s);

/* ---- study_request.c ---- */
/* Remembers the answer of an event that carries a request. */
void request_remember(struct study *s, const struct event *ev);
/* Live: true when the request was answered before; *ret says how (OK: ev holds that answer). */
bool request_repeats(struct study *s, struct event *ev, enum mag_status *ret, struct mag_err *err);
/* verify: a recorded request was news when it was recorded. */
void request_forget(struct study *s, const struct event *ev);
void requests_fini(struct study *s);

/* ---- handlers ---- */
enum mag_status handle_ask(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_started(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_release(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_expire(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_report(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_tell(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_pause(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_resume(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_cancel(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_extend(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_time_up(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_note(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_enqueue(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_trial_cancel(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_trial_retry(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_notified(struct study *s, struct event *ev, struct mag_err *err);
enum mag_status handle_collected(struct study *s, struct event *ev, struct mag_err *err);
/* study_enqueue.c: the spec's own points, at creation. */
void study_enqueue_points(struct study *s);

/* ---- study_loss.c: what failing and losing do ---- */
/* Live: where a trial goes after a failure of its program, or after a lost lease. */
enum trial_state decide_failure(const struct study *s, const struct trial *t, enum fail_cause cause,
                                const struct event *ev);
enum trial_state decide_loss(const struct study *s, const struct trial *t, bool uncounted);
/* `to` is WAITING (tried again) or FAILED. */
void enact_failure(struct study *s, struct trial *t, enum trial_state to, enum fail_cause cause,
                   const char *reason);
void enact_loss(struct study *s, struct trial *t, enum trial_state to, bool uncounted,
                const char *reason);

/* ---- trial.c ---- */
bool trial_may_move(enum trial_state from, enum trial_state to);
/* The one place where a trial's state changes: checks the table, moves it between the lists,
 * counts, ends its lease when it runs no more. False (nothing changed) when the table forbids it.
 */
bool trial_move(struct study *s, struct trial *t, enum trial_state to) MAG_MUSTCHECK;
/* The next id, WAITING, with a copy of `point`. */
struct trial *trial_create(struct study *s, const double *point);
struct trial *trial_at(const struct study *s, int64_t id); /* NULL = none */
/* A new attempt begins: `t` is RUNNING or, with `reserve`, WAITING and promised. */
void trial_give(struct study *s, struct trial *t, const struct event *ev, bool reserve);
/* A reservation becomes a run, or a lost trial comes back to its last holder. */
void trial_start(struct study *s, struct trial *t);
/* Back to the head of the queue: nothing happened to it. */
void trial_return(struct study *s, struct trial *t);
/* Ends for good: moves, and has its point judged (study_fold.c). */
void trial_end(struct study *s, struct trial *t, enum trial_state to);
/* To WAITING or PAUSED, with the reason. */
void trial_hold(struct study *s, struct trial *t, enum trial_state to, const char *code,
                const char *why);
void trial_set_reason(struct trial *t, const char *reason);
struct trial_attempt *trial_attempt_at(struct trial *t, int64_t attempt);
void trial_fini(struct trial *t);

/* ---- study_fold.c: points and their folds ---- */
/* A new point: its trials, WAITING. Returns the first one. */
struct trial *point_create(struct study *s, const double *point);
/* Its further folds get the budget and origin of the first one. */
void point_share(struct study *s, const struct trial *first);
struct trial *point_fold(const struct study *s, const struct trial *first, int i);
/* Between the optimizer's numbers and trials: the first trial of a point, NULL = none; the number
 * of a trial's point, 0 = none. */
struct trial *point_at(const struct study *s, int64_t ordinal);
int64_t point_ordinal(const struct study *s, int64_t trial);
/* `t` has just ended: whoever judges it hears what that means for its point. */
void trial_judge_end(struct study *s, struct trial *t, enum trial_state to);
/* Live: the other folds of a point that has just ended end too; fills ev->moves. */
void folds_decide(const struct study *s, struct event *ev);
/* Why the event moved `t`, where that is another fold's end; NULL = it is not. */
const char *fold_move_reason(const struct study *s, const struct event *ev, const struct trial *t,
                             char *buf, size_t size);

/* ---- study_refit.c ---- */
bool study_is_refitting(const struct study *s);
/* Live, where the event would complete the experiment: the refit comes first. */
void refit_decide(const struct study *s, struct event *ev);
/* Live, with nothing running: completes the experiment when its refit has ended. */
bool refit_decide_end(const struct study *s, struct event *ev);
/* Live: a refit that ended is asked to run again. */
enum mag_status refit_decide_again(const struct study *s, struct event *ev, const struct trial *old,
                                   struct mag_err *err);
enum mag_status refit_enact(struct study *s, const struct event *ev, struct mag_err *err);
void refit_ended(struct study *s, const struct trial *t);
/* The experiment is over, or the search goes on. */
void refit_forget(struct study *s);

/* ---- leases.c ---- */
void lease_arm(struct study *s, struct trial *t, int64_t now_ns);
void lease_end(struct study *s, struct trial *t);

/* ---- study_goals.c: measures beside the first objective ---- */
struct study_result {
    double values[OPT_OBJECTIVES_MAX];
    struct opt_result r; /* borrows `values` */
};
/* The trial with this first objective as the optimizer sees it; false when another objective has
 * not been reported yet. */
bool study_result(const struct study *s, const struct trial *t, double value,
                  struct study_result *ret) MAG_MUSTCHECK;
/* Tells the optimizer what the spec knows from before; at creation, before anything else. */
void study_observe(struct study *s);
/* Keeps what of `values` is a measure; false when one is not finite (its index in *ret_bad). */
bool measures_note(const struct study *s, struct trial *t, const struct event_value *values, int n,
                   int *ret_bad) MAG_MUSTCHECK;
/* The target is for trials that keep the outcome constraints, and with folds for whole points. */
bool trial_meets_target(const struct study *s, const struct trial *t, double value);
bool point_meets_target(const struct study *s, const struct trial *first);
void front_completed(struct study *s, const struct trial *t);

/* ---- study_usage.c ---- */
/* The event brings the trial's newest checkpoint; likewise the end of an attempt. */
void usage_checkpoint(struct study *s, struct trial *t, const struct event *ev);
void usage_attempt(struct study *s, const struct event *ev);

/* ---- study_notice.c ---- */
/* The state has just changed, by `ev`. */
void notice_note(struct study *s, const struct event *ev);

/* ---- study_best.c ---- */
void best_completed(struct study *s, const struct trial *t); /* it has just completed */
void best_reported(struct study *s, const struct trial *t);  /* its step or value has changed */
void best_gone(struct study *s, const struct trial *t);      /* it failed or was cancelled */

#endif
