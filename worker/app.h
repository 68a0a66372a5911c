/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to worker/: the one struct behind worker_run and its parts. Loop thread only, but for the
 * tasks of background.h, which touch nothing but themselves.
 */
#ifndef MAG_WORKER_APP_H
#define MAG_WORKER_APP_H

#include "base/list.h"
#include "storage/storage.h"
#include "wire/wire.h"
#include "worker/background.h"
#include "worker/child.h"
#include "worker/folder.h"
#include "worker/lines.h"
#include "worker/link.h"
#include "worker/machine.h"
#include "worker/mask.h"
#include "worker/outlog.h"
#include "worker/scratch.h"
#include "worker/worker.h"

#define RUN_POINTS_HOLD 10000 /* unsent points at which a program is no longer read */
#define RUN_BUDGET_HOLD_MS                                                                         \
    2000                  /* how long the report of the last step waits for its checkpoint         \
                           */
#define TALK_FLUSH_MS 100 /* metrics leave at most this late, and at most this often */
#define TALK_TIMEOUT_MIN_MS                                                                        \
    250 /* a request unanswered for one heartbeat, within these, is repeated */
#define TALK_TIMEOUT_MS 5000
#define TALK_POINTS_MAX 4000       /* points in one message */
#define TALK_TAILS_MAX (512 << 10) /* bytes of last lines in one message */
#define HELLO_TIMEOUT_MS 2000
#define BYE_TIMEOUT_MS 2000
#define VERDICT_MS 1000 /* between a signal to a program and the same one to its worker */
#define BOARDS_TOLD_MAX 64
#define DRAIN_NONE 0
#define DRAIN_FINISH 1 /* running trials end by themselves */
#define DRAIN_PAUSE 2  /* they stop at a checkpoint and are given back */
#define DRAIN_KILL 3   /* they end now and are given back */

enum run_state {
    RUN_FETCHING = 0, /* its checkpoint is made local and verified */
    RUN_WAITING = 1,  /* for a slot */
    RUN_STARTING = 2, /* has a slot; its executor is not ready yet */
    RUN_RUNNING = 3,
    RUN_PUBLISHING = 4, /* the program is done; its checkpoints are not */
    RUN_ENDED = 5,      /* the result is to be told, or told and not yet acknowledged */
};

#define RUN_SCORES 64 /* steps whose values are known when a checkpoint comes */
struct run_score {
    int64_t step;
    double value;
};

enum run_order { ORDER_NONE = 0, ORDER_PAUSE = 1, ORDER_STOP = 2 };

struct board;
struct follow;
struct group;
struct slot;
struct executor;
struct said;

/* One attempt of one trial, from its grant until the driver has acknowledged its result. */
struct run {
    struct list_node node; /* app->runs */
    struct app *app;
    struct wire_grant grant;
    enum run_state state;
    bool reserved; /* prefetched: takes a slot as soon as one comes free */
    struct group *group; /* those that it runs together with; NULL = alone */
    int lanes;           /* so many began together in its program */
    bool started_untold;
    bool result_sent; /* in the message in flight */
    char *dir, *trial_dir, *checkpoint_dir, *log_dir, *metrics_path, *params_path;
    char *resume_path; /* NULL = from the start */
    int64_t resume_step;

    /* its program */
    struct slot *slot;   /* the first of its (its group's) slots, while it has any */
    struct child *child; /* a command's own process; an executor's belongs to the executor */
    struct executor *executor;
    bool speaks;         /* a command that said `ready`: it hears orders on MAGPIE_FD */
    struct lines *lines; /* a command's output */
    struct masks *masks; /* of its experiment, beside the worker's; NULL = none */
    struct outlog log;
    bool shipping;        /* segments of the log are on their way to storage */
    struct buf metrics;   /* lines of metrics.jsonl not yet written */
    int64_t metrics_bytes; /* written */
    bool metrics_written;  /* some of them are */
    struct event *time_limit;
    struct event *budget_hold;
    struct event *verdict; /* its program was ended from outside: is the worker told to go, too? */
    int outside_status;    /* how, while `verdict` is pending */
    int64_t started_ns, started_ms, ended_ms;
    int64_t memory_wait_ns; /* since when it waits for free memory, 0 = it does not */

    /* news for the driver */
    struct wire_point *points;
    size_t n_points;
    struct wire_point *held; /* points at the budget, until their checkpoint is published */
    size_t n_held;
    bool tail_untold;
    char *waits; /* why it waits for a GPU's memory, "" = not any more, NULL = it never did */
    bool waits_untold;
    json_t *where;  /* the program's versions; NULL = told or none */
    int publishing; /* checkpoints on their way to storage */
    int64_t checkpoint_step;
    char *checkpoint_uri; /* newest published and untold, NULL = none */
    json_t *checkpoint_meta;

    struct board *board; /* its event files; NULL = none are wanted, or it has not begun */
    struct follow *follow; /* event files that its program writes; NULL = none are read */
    json_t *untold;      /* points of an older attempt that are in no event file, or NULL */

    /* how it ends */
    enum run_order ordered;
    bool late;      /* the lease is another's: nothing more is told but the end */
    bool give_back; /* drained */
    bool crowded;   /* a GPU's memory was taken by others: given back */
    bool declined;  /* its program has no room for it beside the others: given back */
    bool bystander; /* its program was killed because of another of its group */
    int64_t ask_limit_ns; /* told to stop or pause, its program has until then; 0 = not told */
    bool lane_stop;       /* failed: only its program's word that it has left is waited for */
    bool cut_off;   /* its checkpoint cannot be had here: `failure` says why; it may elsewhere */
    bool objective_seen;
    int64_t last_step;                   /* -1 = none */
    struct run_score scores[RUN_SCORES]; /* of the newest steps, in a ring */
    int64_t n_scores;
    char *failure; /* why the worker stops it, or the program's own words */
    const char *failure_cause;
    bool failure_retry;        /* the program says that it may pass */
    bool failure_final;        /* it says that it cannot */
    int64_t need_mb;           /* for lack of memory: what its program says that it needs */
    int64_t peak_mb;           /* the most memory its process was seen to use, 0 = not known */
    bool was_killed;           /* by us */
    bool left_nothing;         /* its folder is nobody's any more */
    bool saw_oom;              /* the kernel killed something for lack of memory meanwhile */
    char *bad_line;            /* why the first line that was passed over was */
    json_t *final_metrics;     /* of its result */
    const char *final_status;  /* of its result, NULL = none yet */
    struct wire_result result; /* filled when it ends */
};

struct slot {
    struct app *app;
    int index;
    struct run *run;           /* NULL = free; of a group: one of its members */
    struct executor *executor; /* kept between trials; NULL = none */
};

struct session;

struct app {
    struct worker_config cfg;
    struct event_base *base;
    char id[WIRE_ID_MAX + 1];
    char name[WIRE_NAME_MAX + 1];
    struct machine machine;
    json_t *labels;
    char *scratch; /* our own folder below the configured one */
    int scratch_lock;
    struct scratch_dead *dead; /* what killed workers left; until the storage is known */
    int n_dead;
    struct folders folders; /* below scratch */
    struct cgroups cgroups;
    struct children *children;
    struct background *background;
    struct storage *storage; /* of the driver; used by tasks */
    struct session *session;
    struct list_node runs;
    struct list_node leaving; /* executors told to exit */
    struct slot *slots;
    int n_slots;
    struct event *signals[3];
    bool noticed; /* the last signal was SIGUSR1 */
    struct event *drain_check;
    struct event *memory_check; /* of runs that wait for free memory */
    struct event *gpu_check;    /* of those that wait for a GPU's */
    struct gpu {
        int64_t extra_mb; /* what trials took beyond their estimates, at most lately */
        bool measured;
    } gpus[MACHINE_GPUS_MAX];
    int64_t gpu_asked;          /* questions so far */
    struct event *ship;         /* logs to storage */
    struct masks *masks;
    int64_t log_said_ns; /* when the log last said that logs cannot be stored */
    int64_t boards_told[BOARDS_TOLD_MAX]; /* experiments whose own event file was written */
    unsigned boards_next;
    struct wire_room room[WIRE_ROOMS_MAX]; /* what fits into one program, by experiment */
    size_t n_room;
    bool accepting; /* grants are being read: no group is whole yet */
    int drain;
    int exit_status;
};

/* ---- app.c ---- */
/* Ends the loop with this status, saying why on standard error where it is not 0. */
void app_exit(struct app *a, int status, const char *fmt, ...) MAG_PRINTF(3, 4);
void app_drain(struct app *a, int level);
/* Leaves when drained and everything is told. */
void app_check_drained(struct app *a);

/* ---- slot.c ---- */
/* Gives free slots to runs that wait: granted ones first, then reserved ones, each by arrival. */
void slots_fill(struct app *a);
void slots_release(struct run *r);
void slots_close(struct app *a);
/* A whole environment: ours, GPUs and threads of the run's slots, what the experiment says (`own`),
 * what the program must know (`more`). Free with argv_free. */
char **slots_env(const struct run *r, char *const *own, char *const *more);

/* ---- group.c ---- */
/* The run, just accepted, joins the others of its grant's group. */
void group_join(struct run *r);
/* It has ended. */
void group_leave(struct run *r);
/* The run and those together with it; how many. */
int group_members(struct run *r, struct run *out[WIRE_LANES_MAX]);
/* All of them wait for a slot. */
bool group_is_ready(const struct run *r);
/* They have a slot: nobody joins any more. */
void group_begin(struct run *r);
/* Another of them that has the same slots; NULL = none. */
struct run *group_heir(const struct run *r);
/* No more than so many trials of the experiment fit into one program here. */
void room_note(struct app *a, int64_t experiment, int lanes);
void room_tell(const struct app *a, struct wire_next *next);

/* ---- gpu.c ---- */
/* Is its GPU shared with other slots? */
bool gpu_shared(const struct executor *x);
/* What the run's program said: how much it needs and what is free, before it begins; what is free
 * now that it has begun. */
void gpu_needs(struct run *r, const struct said *s);
void gpu_measured(struct run *r, const struct said *s);
/* It ran out of a GPU's memory: because others hold it? Then it may have room later. */
bool gpu_crowded(struct run *r);
/* A run has ended, or a program. */
void gpu_left(struct app *a);
/* Somebody waits: asks what is free. */
void gpu_check(struct app *a);

/* ---- executor.c ---- */
/* Starts the run (and those together with it) in its slot: in the slot's executor when that is the
 * right one, else in a new one that `p` starts. */
void executor_run(struct run *r, const struct spawn_program *p);
/* The run leaves it (result said, or stopped before it began). */
void executor_leave(struct run *r);
/* Asks it to exit; it is freed when it has. */
void executor_retire(struct executor *x);
/* Asks all idle ones to exit: the worker leaves. */
void executors_retire_all(struct app *a);
void executors_close(struct app *a);
/* Asks the program to pause or stop its trial, and limits the time it takes for that. */
void executor_ask(struct run *r, const char *what);
/* The run is to end now. Where others go on in the same program, that is asked to let go of it. */
void executor_kill(struct run *r);
struct child *executor_child(const struct executor *x);

/* ---- run.c ---- */
struct run *run_find(struct app *a, int64_t experiment, int64_t trial, int64_t attempt);
/* Takes the grant. */
void run_accept(struct app *a, struct wire_grant *g_take);
/* The driver's order. */
void run_obey(struct run *r, enum run_order order, bool late);
/* Its program has room for so many of its group, not for it: it is given back. */
void run_decline(struct run *r, int lanes);
/* Draining: pause or kill it and give it back. */
void run_give_back(struct run *r, bool now);
void run_free(struct run *r);
/* Its program has ended (wait status). */
void run_program_ended(struct run *r, int status);
/* Its program was ended from outside and it is not yet known why. */
bool run_awaits_verdict(const struct run *r);
/* The masks that hold for what it says; a NULL log has them too. */
const struct masks *run_masks(const struct run *r);
/* The worker ends it: `cause` as in fail_cause_name. */
void run_fail(struct run *r, const char *cause, const char *fmt, ...) MAG_PRINTF(3, 4);
/* Points at the budget wait a while (again) for their checkpoint; they may leave. */
void run_hold_again(struct run *r);
void run_release_held(struct run *r);
/* Writes what metrics.jsonl still lacks. */
void run_flush_metrics(struct run *r);

/* ---- launch.c ---- */
/* Its slots are there: go. */
void run_start(struct run *r);
/* Their executor is ready for `start`. `ask`: it is to ask before it places them on a GPU. */
void runs_begin(struct run *const *runs, int n, bool ask);
/* limits.trial_time runs from now on. */
void run_limit_time(struct run *r);
/* How long its program may take to end once told to. */
int64_t run_grace_ms(const struct run *r);
/* Its program was over a limit that the worker keeps. */
void run_over(struct run *r, enum child_limit limit, const char *why);

/* ---- news.c ---- */
/* One step's metrics, wherever they were found; `metrics` is borrowed, what is no number in it is
 * left out. Repeated steps are the driver's to drop. */
void run_point(struct run *r, int64_t step, const json_t *metrics);
/* Reading goes on once points were sent. */
void run_points_sent(struct run *r);
/* A line of the channel (NULL: an oversized one); false when it ended the run. Free *ret. */
bool run_hear(struct run *r, const char *text, size_t len, struct said *ret);
/* What it said about its trial. */
void run_said(struct run *r, const struct said *s);
void run_output(struct run *r, const char *bytes, size_t n);
/* Something it said is passed over; the first time is written into its log. */
void run_unusable(struct run *r, const char *what, const char *why);
/* The process that runs it, NULL = none. */
struct child *run_child(const struct run *r);

/* ---- outcome.c ---- */
/* Takes down what only its process knows, before that goes. */
void run_note_child(struct run *r);
/* The program is done with it: decides how the run ended. `status`: wait status, -1 = it lives on.
 */
void run_finish(struct run *r, int status);

/* ---- publish.c ---- */
/* The folder is complete: to storage with it, then into the next report. */
void publish_checkpoint(struct run *r, int64_t step, const char *path);
/* Makes the checkpoint that the grant names local; then the run waits for a slot. */
void publish_fetch(struct run *r);
/* params.json, what is left of its log, metrics.jsonl and trial.json (last: then the record is
 * whole) of the ended run; removes its folder. */
void publish_record(struct run *r);
char *publish_log_uri(const struct run *r);
char *publish_log_key(const struct run *r);
/* The run has ended: once none of its checkpoints is on its way, its result may be told. */
void publish_settle(struct run *r);

/* ---- board.c ---- */
/* The program begins, when the grant wants event files. The other calls do nothing without this. */
void board_begin(struct run *r);
/* One step's metrics, sound ones. */
void board_point(struct run *r, int64_t step, json_t *metrics);
/* Points in no event file yet, for the manifest of a checkpoint that covers them; new reference, NULL
 * = none. */
json_t *board_untold(const struct run *r);
/* Background thread: those in a checkpoint of this trial, new reference; NULL = none. */
json_t *board_untold_in(struct storage *s, const char *trial_key, const char *checkpoint_key,
                        int64_t trial);
/* The run has its result: its last event file into `out`; returns the key, malloc'ed, or NULL. */
char *board_end(struct run *r, struct buf *out);
void board_free(struct run *r);

/* ---- follow.c ---- */
/* The program begins, when the experiment reads metrics from event files. */
void follow_begin(struct run *r);
/* The program is done: reads what is left, before how it ended is decided. */
void follow_end(struct run *r);
void follow_free(struct run *r);

/* ---- collect.c ---- */
/* The value of a step, for the choice of the best checkpoint. */
void collect_note_score(struct run *r, int64_t step, double value);
/* That value; false when it was not noted (lately). */
bool collect_score(const struct run *r, int64_t step, double *ret);
/* The driver has committed the checkpoint `uri`: older ones go, but for those that the experiment
 * keeps and those that are pinned. */
void collect_checkpoints(const struct run *r, const char *uri, const struct wire_pin *pins,
                         size_t n_pins);

/* ---- session.c ---- */
enum mag_status session_start(struct session **ret, struct app *a,
                              struct mag_err *err) MAG_MUSTCHECK;
void session_stop(struct session *s);
/* There is news: `urgent` leaves now, the rest within TALK_FLUSH_MS. */
void session_wake(struct session *s, bool urgent);
/* The driver was heard lately enough that a reservation surely still is ours. */
bool session_is_fresh(const struct session *s);
bool session_is_up(const struct session *s);
int64_t session_lease_ms(const struct session *s);
/* Nothing is on its way. */
bool session_is_quiet(const struct session *s);
void session_bye(struct session *s);

/* ---- talk.c ---- */
/* Moves the runs' news into a message; false when there is none and `always` is false. */
bool talk_collect(struct app *a, struct wire_msg *m, bool always);
/* The message was acknowledged (answer NULL: refused for good): what it carried is settled. */
void talk_settle(struct app *a, const struct wire_msg *m, const struct wire_answer *answer);
/* What the driver said to do. */
void talk_obey(struct app *a, const struct wire_order *orders, size_t n);
/* The trials we have, for hello. */
void talk_held(struct app *a, struct wire_hello *h);

#endif
