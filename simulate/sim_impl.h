/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside a simulation: its state and the calls between sim.c (clock and study), work.c (what workers
 * do) and tally.c (what is counted).
 */
#ifndef MAG_SIMULATE_SIM_IMPL_H
#define MAG_SIMULATE_SIM_IMPL_H

#include "simulate/queue.h"
#include "simulate/sim.h"

#include "base/pcg.h"

#define SIM_NEVER INT64_MAX

/* Times are virtual nanoseconds since the start. */
struct sim_worker {
    struct queue_node node; /* in sim->due, or sim->idle while it has nothing to do */
    int32_t number;         /* from 0 */
    char name[24];
    bool busy, away;
    bool told_off;     /* the job's fate is known, its worker hears of it at free_ns */
    bool second;       /* its job runs elsewhere too, and began there */
    int64_t free_ns;   /* asks (again) then; SIM_NEVER while it works */
    int64_t death_ns;  /* goes then */
    int64_t back_ns;   /* away: comes back then */
    int64_t silent_ns; /* not heard from then … */
    int64_t heard_ns;  /* … to then */
    int64_t idle_ns;   /* idle since */
    struct pcg64 fate; /* its deaths and silences */
    /* the job */
    struct sim_job job;
    double unit_ns;      /* a step of this job, without what is drawn for each step */
    struct pcg64 pace;   /* draws of each step */
    int64_t step_ns;     /* the current step ends then; SIM_NEVER: the job waits to be heard */
    int64_t reached_ns;  /* its last whole step ended then; or its start */
    int64_t drop_ns;     /* the job is lost then */
    double *values;      /* of the current step, where it is reported: n_measures */
    int64_t saved_step;  /* what a loss would leave; job.saved_ns: since when */
    /* steps that nobody has heard of yet, and n_measures values of each */
    int64_t *unsaid;
    double *unsaid_values;
    int n_unsaid, cap_unsaid;
};

/* What the simulator must know of a trial. */
struct sim_trial {
    int64_t budget;   /* of the last grant */
    int64_t quiet_ns; /* nobody beats for it since then, SIM_NEVER = somebody does */
    int32_t attempt;  /* current */
    int32_t holder, copy; /* workers, -1 = none */
    int32_t copies;       /* of this attempt, so far */
    int32_t rung;         /* row in the tally */
    bool full;
};

struct sim {
    const struct sim_setup *setup;
    const struct sim_options *options;
    struct study *study;
    const struct spec *spec; /* the study's */
    struct objective *objective;
    struct objective_more more[SPEC_MEASURES_MAX]; /* measures behind the first */
    int64_t checkpoint_every; /* 0 = none */
    uint64_t draws;           /* seed of durations, deaths */
    int64_t now_ns;
    struct sim_worker *workers;
    struct queue due, idle;
    struct sim_trial *trials; /* by id */
    int64_t cap_trials;
    double step_seen_ns; /* a step's usual time, as the driver sees it; 0 = nothing seen */
    int64_t n_jobs_seen;
    int32_t n_copies;    /* running */
    int cap_rungs, cap_moments;
    int64_t cap_list;
    int64_t best_seen; /* trial of the last moment */
    double best_value;
    struct sim_result *r;
    struct mag_err *err;
    enum mag_status st; /* first failure: ends the run */
};

/* ---- sim.c ---- */
/* Applies at now; false when the simulation failed. */
bool sim_apply(struct sim *m, struct event *ev);
struct sim_trial *sim_trial_of(struct sim *m, int64_t id);
/* The holder is gone: at once (without leases) or when the lease runs out. */
void sim_lose(struct sim *m, const struct sim_worker *w);
bool sim_is_silent(struct sim *m, struct sim_worker *w);
/* An exponential time with this mean. */
int64_t sim_wait_ns(struct pcg64 *g, int64_t mean_ms);

/* ---- work.c ---- */
/* Something is due for this worker. */
void work_due(struct sim *m, struct sim_worker *w);
/* Idle workers get what there is. */
void work_serve_idle(struct sim *m);
/* The search is over: running jobs are cut. */
void work_cut(struct sim *m);

/* ---- speculate.c ---- */
/* A job of which a second copy should run, or NULL. `idle`: the worker has nothing else to do. */
struct sim_worker *speculate_pick(struct sim *m, bool idle);
/* The one of this job's two copies that is expected to end later, NULL = too early to tell. */
struct sim_worker *speculate_loser(struct sim *m, struct sim_worker *w);

/* ---- tally.c ---- */
int32_t tally_rung(struct sim *m, int32_t bracket, int32_t rung, int64_t budget);
void tally_job(struct sim *m, struct sim_worker *w, enum sim_end end);
void tally_best(struct sim *m);
void tally_idle(struct sim *m, struct sim_worker *w, bool begins);
void tally_end(struct sim *m);

#endif
