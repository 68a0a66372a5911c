/* SPDX-License-Identifier: Apache-2.0
 *
 * A study on a bench: virtual time, every event recorded as it would be stored, and a shadow study
 * that lives by the record alone and must equal the live one after each event.
 */
#ifndef MAG_TESTS_STUDY_LAB_H
#define MAG_TESTS_STUDY_LAB_H

#include "driver/study.h"

struct lab_row {
    enum event_kind kind;
    int64_t seq, wall_ms, up_ms;
    char *text;
    size_t len;
};

struct lab {
    struct study *s;
    struct study *shadow; /* NULL = not kept */
    char *spec;           /* JSON text */
    struct lab_row *rows;
    int n_rows, cap_rows;
    int64_t now_ns, wall_ms;
    struct event ev; /* the last one applied, with its decision */
    struct mag_err err;
};

/* True while a record is replayed: nothing may be decided then. */
extern bool lab_replaying;
/* One search for each algorithm, with short rungs and limits that bite; any number, modulo. */
#define LAB_SEARCHES 7
const char *lab_search(int which);
/* `spec` is JSON with ' for ". Aborts when it does not parse. */
struct spec *lab_spec(const char *text);
void lab_open(struct lab *l, const char *spec, bool shadow);
/* Feeds the whole record to a verifier, then frees. Aborts on a difference. */
void lab_close(struct lab *l);
void lab_advance(struct lab *l, double seconds);

/* Applies l->ev at the lab's time; on MAG_OK records it when it is to be recorded. */
enum mag_status lab_apply(struct lab *l);
/* Applies the last recorded row to the shadow and compares (lab_apply does it). */
void lab_follow(struct lab *l);
/* Rebuilds the live study from the record alone, as a restart does. */
void lab_restart(struct lab *l);
/* A fresh study from the first n rows; the caller destroys it. */
struct study *lab_replay(const struct lab *l, int n);
/* Applies everything that is due. Returns how many events. */
int lab_tick(struct lab *l);

/* Shorthands. They start a new l->ev. */
struct event *lab_event(struct lab *l, enum event_kind kind, int64_t trial, int64_t attempt);
/* The number of trials given; they are in l->ev.grants. */
int lab_ask(struct lab *l, const char *client, int count);
int lab_ask_lease(struct lab *l, const char *client, int count, int64_t lease_ms);
/* One value at one step; the action. */
enum report_action lab_report(struct lab *l, int64_t trial, int64_t attempt, int64_t step,
                              double value);
enum report_action lab_checkpoint(struct lab *l, int64_t trial, int64_t attempt, int64_t step,
                                  const char *uri);
/* The state afterwards. */
enum trial_state lab_tell(struct lab *l, int64_t trial, int64_t attempt, double value);
enum trial_state lab_tell_state(struct lab *l, int64_t trial, int64_t attempt,
                                enum trial_state told, enum fail_cause cause, const char *reason);
enum mag_status lab_simple(struct lab *l, enum event_kind kind, int64_t trial, const char *detail);
enum trial_state lab_state(const struct lab *l, int64_t trial);
int64_t lab_count(const struct lab *l, enum trial_state state);

#endif
