/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the executor: executor.c runs one trial at a time, executor_group.c several side by side.
 */
#ifndef MAG_TRAINER_EXECUTOR_IMPL_H
#define MAG_TRAINER_EXECUTOR_IMPL_H

#include "base/json.h"
#include "trainer/channel.h"
#include "trainer/distribution.h"
#include "trainer/elastic.h"
#include "trainer/session.h"
#include "trainer/trial.h"

struct executor {
    struct channel channel;
    struct session session;
    struct elastic elastic;   /* the ranks of a trial over several */
    struct collective *ranks; /* of which this process is one; NULL = it is none */
    int64_t trial;            /* that runs; 0 = none */
    bool exit;
    bool parted; /* the other ranks hear no more from us */
    int status;  /* of the process */
    int steps_to_measure; /* until the worker is told what is free on the GPU; 0 = it is not */
    uint64_t placed;      /* serial of the data set that a trial brought there; 0 = none */
};

/* A trial, or several side by side, that ask the worker before they begin on a GPU. */
struct gpu_ask {
    int64_t trial; /* in whose name */
    const struct recipe *recipe;
    int lanes;
    void *ctx;
    /* A trial is told to stop or pause meanwhile: answers, and says whether anybody is left. */
    bool (*order)(void *ctx, int64_t trial, enum trial_order order);
};

/* One "start" message, checked. Borrows from the message. */
struct start {
    struct trial_job job;
    struct dataset_part part;
    struct distribution plan;
    const json_t *params;
    const json_t *spec;
};

/* Why a trial cannot begin. */
struct refusal {
    char cause[32];
    char text[1024];
    struct room_verdict room; /* for lack of memory: how much it needs; need 0 = not known */
};

/* ---- executor.c ---- */
/* Each sends one line; a worker that has gone ends the executor. */
void executor_error(struct executor *e, int64_t trial, const char *cause, const char *reason);
void executor_refuse(struct executor *e, int64_t trial, const struct refusal *why);
void executor_result(struct executor *e, int64_t trial, const struct trial_result *r);
enum mag_status executor_report(struct executor *e, int64_t trial, int64_t step,
                                const struct metrics *m, struct mag_err *err) MAG_MUSTCHECK;
enum mag_status executor_checkpoint(struct executor *e, int64_t trial, int64_t step,
                                    const char *path, struct mag_err *err) MAG_MUSTCHECK;
enum mag_status executor_send(struct executor *e, struct buf *line);
/* The message as an object with a "type", or NULL: then it was logged and is ignored. */
json_t *executor_parse_line(const char *line, size_t len, const char **type);
/* Reads a start message, or one of its trials; the text in `err` says what it lacks. */
enum mag_status executor_parse_start(const json_t *m, struct start *s,
                                     struct mag_err *err) MAG_MUSTCHECK;
/* Recipe, data set and backend; or what is wrong with the configuration. */
bool executor_make_ready(struct executor *e, const struct start *s, struct recipe *recipe,
                         struct refusal *why) MAG_MUSTCHECK;
const char *executor_cause(enum mag_status st);

/* ---- executor_gpu.c ---- */
/* Waits for the worker's word where it wants to be asked. False: nobody begins, and who was told to
 * end has been answered. */
bool executor_may_begin(struct executor *e, const struct gpu_ask *ask);
/* Called at every step, and with `now` at every report: tells once what is free, when all is
 * placed. */
void executor_measure(struct executor *e, int64_t trial, bool now);

/* ---- executor_group.c ---- */
/* {"type":"start","trials":[…]}: to the ends of all of them. */
void executor_run_group(struct executor *e, const json_t *trials);

#endif
