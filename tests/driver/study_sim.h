/* SPDX-License-Identifier: Apache-2.0
 *
 * A seeded world around one study: workers that ask, report, die, come back too late and repeat
 * themselves; operators that pause, extend and cancel; drivers that restart. Virtual time. The
 * world keeps a model of its own of who holds what and compares after every event.
 */
#ifndef MAG_TESTS_STUDY_SIM_H
#define MAG_TESTS_STUDY_SIM_H

#include "tests/driver/study_lab.h"

struct sim_options {
    const char *algorithm;
    uint64_t seed;
    int steps;     /* chaotic ones; then everybody behaves until the search ends */
    bool shadow;   /* compare a replayed study after each event */
    bool restarts; /* rebuild the live study from the record at random moments */
    bool leases;   /* leases run out by time; otherwise only by events that the seed picks */
    bool folds;    /* points of two to four folds, and mostly a refit */
};

struct sim_result {
    uint64_t record; /* digest of the record's texts */
    int events;
    int64_t trials, late, losses, retries, restarts, repeats, resumed, reserved;
    int64_t points, whole, cut, refits; /* points: all folds completed; ended before that */
};

/* Aborts with the seed in the text when anything is wrong. */
void sim_run(const struct sim_options *o, struct sim_result *ret);

#endif
