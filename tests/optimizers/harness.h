/* SPDX-License-Identifier: Apache-2.0
 *
 * A study in small for tests of optimizers: it hands out trials, moves them step by step in an
 * order drawn from a seed, lets some fail, stop, get lost or be cancelled, and records what it told
 * the optimizer.
 */
#ifndef MAG_TESTS_OPTIMIZERS_HARNESS_H
#define MAG_TESTS_OPTIMIZERS_HARNESS_H

#include "base/pcg.h"
#include "optimizers/optimizer.h"

enum call { CALL_ASK, CALL_ADOPT_POINT, CALL_REPORT, CALL_FINISH };

/* One recorded call with its outcome. */
struct record {
    enum call call;
    struct opt_ask ask;           /* ASK */
    struct opt_suggestion answer; /* ASK, ADOPT_POINT; its point is owned by the record */
    int64_t trial, step;          /* REPORT, FINISH */
    double value;
    bool has_value;
    enum opt_action action;   /* REPORT */
    enum opt_outcome outcome; /* FINISH */
};

struct history {
    struct record *at;
    int n, cap;
};

enum sim_state { SIM_RUNNING, SIM_PAUSED, SIM_ENDED };

struct sim_trial {
    enum sim_state state;
    int64_t step, budget;
    double *point;
    double value; /* last reported */
};

struct sim {
    struct space *space;
    struct optimizer *o;
    struct opt_resource resource;
    int64_t limit; /* of trials */
    int workers;
    double p_fail, p_stop, p_cancel, p_lost, p_enqueue; /* per event */
    double (*f)(const struct space *s, const double *point, int64_t step);
    struct pcg64 g;
    struct sim_trial *trials; /* by id */
    int64_t n_trials;
    int running;
    struct history h;
    bool done;                    /* the last ask with all trials given said DONE */
    int64_t resumes, waits, tops; /* seen */
};

/* Everything from JSON texts; asserts that they are right. A space is its parameters, or
 * {"searchspace": {…}, "constraints": […]}. */
struct space *space_of(const char *json);
struct optimizer *optimizer_of(const char *json, const struct space *s, uint64_t seed, int64_t min,
                               int64_t max, int64_t trials);
/* The message that refuses it, malloc'ed; asserts that it is refused. */
char *optimizer_refusal(const char *json, const struct space *s, int64_t min, int64_t max,
                        int64_t trials);

void sim_init(struct sim *m, const char *space, const char *optimizer, uint64_t seed, int64_t max,
              int64_t limit, int workers);
void sim_fini(struct sim *m);
/* One ask (true when it gave a trial); one step of one running trial; until nothing moves any more.
 * All check the contract on the way. */
bool sim_ask(struct sim *m);
void sim_move(struct sim *m);
void sim_finish(struct sim *m, int64_t id, enum opt_outcome outcome, bool has_value, double value);
/* One step further of a running trial; at its budget it pauses or ends. */
void sim_step(struct sim *m, int64_t id);
/* Runs at most `events` moves. */
void sim_run(struct sim *m, int events);

/* Applies record i to another optimizer and checks that it answers the same. With `suggest` false
 * asks only adopt. */
void replay(struct optimizer *o, const struct space *s, const struct history *h, int from, int to,
            bool suggest);
char *state_of(const struct optimizer *o);
/* Saves to text, loads into a new optimizer of the same kind. */
struct optimizer *reload(const struct optimizer *o, const char *json, const struct space *s,
                         uint64_t seed, int64_t max, int64_t trials);

/* One feasible objective value, told. */
enum opt_action report_value(struct optimizer *o, int64_t trial, int64_t step, double value);
void finish_value(struct optimizer *o, int64_t trial, enum opt_outcome outcome, double value);

double f_sphere(const struct space *s, const double *point, int64_t step);

/* All types, a log scale, steps and a condition. */
#define MIXED_SPACE                                                                                \
    "{\"lr\": {\"type\": \"DOUBLE\", \"range\": [0.0001, 0.1], \"scale\": \"log\"},"               \
    " \"drop\": {\"type\": \"DOUBLE\", \"range\": [0, 0.5], \"step\": 0.05},"                      \
    " \"units\": {\"type\": \"INTEGER\", \"range\": [32, 512], \"step\": 32, \"scale\": \"log\"}," \
    " \"depth\": {\"type\": \"INTEGER\", \"range\": [-2, 5]},"                                     \
    " \"kernel\": {\"type\": \"DISCRETE\", \"values\": [3, 5, 7]},"                                \
    " \"opt\": {\"type\": \"CATEGORICAL\", \"values\": [\"sgd\", \"adam\"]},"                      \
    " \"mom\": {\"type\": \"DOUBLE\", \"range\": [0, 0.99], \"when\": {\"opt\": [\"sgd\"]}}}"
/* 3 * (2 * 5 + 1 * 1) = 33 points, one condition. */
#define FINITE_SPACE                                                                               \
    "{\"a\": {\"type\": \"DISCRETE\", \"values\": [0.5, 2, 8]},"                                   \
    " \"b\": {\"type\": \"CATEGORICAL\", \"values\": [\"x\", \"y\"]},"                             \
    " \"c\": {\"type\": \"INTEGER\", \"range\": [1, 10], \"when\": {\"b\": [\"x\"]}}}"
/* 89 of 120 points. */
#define CONSTRAINED_SPACE                                                                          \
    "{\"searchspace\": {\"a\": {\"type\": \"INTEGER\", \"range\": [1, 6]},"                        \
    " \"b\": {\"type\": \"DOUBLE\", \"range\": [0, 0.9], \"step\": 0.1},"                          \
    " \"o\": {\"type\": \"CATEGORICAL\", \"values\": [\"x\", \"y\"]}},"                            \
    " \"constraints\": [\"a + 10 * b <= 14\", {\"o\": \"y\", \"a\": [2, 4, 6]}]}"

/* Numbers that are always active: what a model of the values takes. */
#define NUMBERS_SPACE                                                                              \
    "{\"lr\": {\"type\": \"DOUBLE\", \"range\": [0.0001, 0.1], \"scale\": \"log\"},"               \
    " \"drop\": {\"type\": \"DOUBLE\", \"range\": [0, 0.5]},"                                      \
    " \"units\": {\"type\": \"INTEGER\", \"range\": [32, 512], \"step\": 32, \"scale\": \"log\"}," \
    " \"depth\": {\"type\": \"INTEGER\", \"range\": [-2, 5]},"                                     \
    " \"kernel\": {\"type\": \"DISCRETE\", \"values\": [7, 3, 5]}}"

/* All types under constraints that a fifth of its points meet. */
#define CONSTRAINED_MIXED                                                                          \
    "{\"searchspace\": {\"lr\": {\"type\": \"DOUBLE\", \"range\": [0.0001, 0.1], \"scale\": "      \
    "\"log\"}, \"units\": {\"type\": \"INTEGER\", \"range\": [32, 512], \"step\": 32},"            \
    " \"layers\": {\"type\": \"INTEGER\", \"range\": [1, 8]},"                                     \
    " \"kernel\": {\"type\": \"DISCRETE\", \"values\": [7, 3, 5]},"                                \
    " \"size\": {\"type\": \"CATEGORICAL\", \"values\": [\"s\", \"m\", \"l\"], \"ordered\": "      \
    "true},"                                                                                       \
    " \"opt\": {\"type\": \"CATEGORICAL\", \"values\": [\"sgd\", \"adam\"]},"                      \
    " \"mom\": {\"type\": \"DOUBLE\", \"range\": [0.5, 0.999], \"scale\": \"reverse-log\","        \
    " \"when\": {\"opt\": [\"sgd\"]}}}, \"constraints\": [\"units * layers <= 1024\","             \
    " \"opt == 'adam' implies lr < 0.01\", \"mom > 0.9 implies lr < 0.01\","                       \
    " \"size < 'l' or kernel > 3\", {\"opt\": \"sgd\", \"kernel\": 7}]}"

#endif
