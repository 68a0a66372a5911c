/* SPDX-License-Identifier: Apache-2.0
 *
 * One simulated search: the study core of the driver (study_apply, study_tick, the production object
 * code), virtual workers, a virtual clock. Deterministic: the same (spec, setup, options) gives the
 * same events. Workers that are due at the same moment are served by their number (or as `ties`
 * shuffles them), never by an accident of order.
 */
#ifndef MAG_SIMULATE_SIM_H
#define MAG_SIMULATE_SIM_H

#include "driver/study.h"
#include "simulate/setup.h"

/* How a job (one attempt at a trial on one worker) ended. */
enum sim_end {
    SIM_PAUSED = 0,    /* at its rung; it may be promoted */
    SIM_COMPLETED = 1, /* at the end of its budget */
    SIM_STOPPED = 2,   /* early */
    SIM_FAILED = 3,    /* the objective was no number */
    SIM_DROPPED = 4,   /* the job was lost */
    SIM_DIED = 5,      /* its worker went */
    SIM_LATE = 6,      /* its worker came back too late: the trial was given to another */
    SIM_OUTRUN = 7,    /* a second copy of the job was faster */
    SIM_CUT = 8,       /* the search ended first */
    SIM_ENDS = 9,
};
const char *sim_end_name(enum sim_end e);

struct sim_job {
    int64_t trial;
    int64_t start_ns, end_ns;
    int64_t saved_ns; /* what was done until then is kept, whatever its end */
    int64_t from, to; /* steps: where it began, what it reached */
    int64_t budget;   /* where it was to go, 0 = an experiment without a resource */
    double value;     /* its last, NaN = none */
    int32_t attempt, worker, bracket, rung;
    enum sim_end end;
    bool copy; /* a second copy of a slow job */
};

/* One rung of one bracket; without rungs there is one of the whole budget. */
struct sim_rung {
    int32_t bracket, rung;
    int64_t budget;
    int64_t started;  /* trials given with this budget, each once */
    int64_t reached;  /* of them: reported it */
    int64_t promoted; /* of them: given a larger one */
};

/* The best trial changed. */
struct sim_moment {
    int64_t ns;
    int64_t trials; /* created by then */
    int64_t steps;  /* run by then */
    double value;   /* as measured */
    double truth;   /* its whole training without noise, NaN = unknown */
};

struct sim_result {
    int64_t workers;
    uint64_t seed; /* of the search */
    enum study_state state;
    char *why_code, *why; /* how it ended */
    int64_t end_ns;
    int64_t trials;
    int64_t counts[TRIAL_STATES];
    int64_t best_trial; /* 0 = none */
    double best, truth, optimum;
    json_t *best_params; /* NULL = none */
    int n_front;         /* trials on the Pareto front of several objectives, else 0 */
    int64_t full;          /* trials trained to the end of the resource */
    int64_t first_full_ns; /* -1 = none */
    int64_t jobs, steps;   /* run, whatever came of them */
    int64_t lost_steps;    /* run, and run again or never used */
    double busy_ns;        /* of all workers together; lost and copied work included */
    double lost_ns, copied_ns, idle_ns, away_ns;
    int64_t tail_ns;      /* from then on there was not work for every worker */
    double tail_idle_ns;  /* idle before that */
    int64_t drops, deaths, expiries, late, copies, copies_won;
    int64_t applies; /* calls of study_apply */
    struct sim_rung *rungs;
    int n_rungs;
    struct sim_moment *moments;
    int n_moments;
    struct sim_job *list; /* in the order they ended, with keep_jobs */
    int64_t n_list;
};

struct sim_options {
    int64_t workers;
    uint64_t repetition; /* 0, 1, …: other draws of durations, deaths and noise */
    bool keep_jobs;
    /* Each recorded event, after study_apply; NULL = nobody wants them. */
    void (*on_event)(void *arg, const struct event *ev, int dims);
    void *arg;
};

/* Runs to the end. Fails when the objective does (its program, a space that does not suit it). */
enum mag_status sim_run(const struct sim_setup *setup, struct spec *spec_take,
                        const struct sim_options *options, struct sim_result *ret,
                        struct mag_err *err) MAG_MUSTCHECK;
void sim_result_fini(struct sim_result *r);
/* Share of the workers' time (while they were there) that they worked; until the tail, likewise. */
double sim_utilisation(const struct sim_result *r);
double sim_utilisation_until_tail(const struct sim_result *r);

#endif
