/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to worker/: a long-lived trial program in a slot. It is told `start` when it has said
 * `ready`, and stays for the next trial with the same program and the same part of the machine.
 */
#ifndef MAG_WORKER_EXECUTOR_H
#define MAG_WORKER_EXECUTOR_H

#include "worker/app.h"

/* Of the trials in it, on a GPU that several slots share (gpu.c). */
enum gpu_admission {
    ADMIT_NONE = 0,    /* nobody asks */
    ADMIT_ASKED = 1,   /* told to ask; what it needs is not known yet */
    ADMIT_WAITS = 2,   /* for memory */
    ADMIT_SETTLES = 3, /* it has begun and is not measured yet */
    ADMIT_DONE = 4,
};

struct executor {
    struct list_node node; /* app->leaving, once told to exit */
    struct app *app;
    struct slot *slot; /* NULL once it is leaving */
    struct child *child;
    char *key;       /* its program and its part of the machine */
    struct run *runs[WIRE_LANES_MAX]; /* what it runs: one, or a group */
    int n_runs;                       /* 0 between trials */
    int lanes;                        /* trials that it takes at once */
    bool ready;
    bool begun; /* `start` of `runs` was sent */
    bool dying; /* its end was asked for */
    bool closed; /* its channel is */
    int trials; /* begun so far */
    bool admits; /* it asks before it places a trial on a GPU */
    enum gpu_admission admission;
    int64_t asked; /* which question that was: those that wait go in order */
    int64_t need_mb, data_mb, free_mb, total_mb; /* of the GPU, as it said last */
    int64_t alone_ns; /* since when it waits with the GPU to itself; 0 = it does not */
    json_t *versions;
    struct event *start_limit;
};

/* Would the run find its program there, idle? */
bool executor_suits(const struct executor *x, const struct run *r);
/* "program\narguments…", limits, environment: all that makes one executor another. malloc'ed. */
char *executor_key(const struct run *r, const struct spawn_program *p);

#endif
