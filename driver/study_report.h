/* SPDX-License-Identifier: Apache-2.0
 *
 * What report and tell share: points, checkpoints, the end of an attempt. Inside the study core
 * only.
 */
#ifndef MAG_DRIVER_STUDY_REPORT_H
#define MAG_DRIVER_STUDY_REPORT_H

#include "driver/study_impl.h"

/* How a message's attempt stands to its trial. */
enum standing {
    STANDS_CURRENT,   /* it runs */
    STANDS_RETURNING, /* the trial waits, and this message takes it (back): reserved or lost */
    STANDS_HELD, /* ended by a pause or given back; not given again yet: may bring a checkpoint */
    STANDS_LATE, /* an older attempt, or the trial has ended */
};
enum standing standing_of(const struct trial *t, int64_t attempt);

/* Sorts by step, names the objective NULL, makes infinities NaN; refuses what cannot be. */
enum mag_status points_normalise(const struct study *s, struct event *ev,
                                 struct mag_err *err) MAG_MUSTCHECK;
/* False when the point has no objective. */
bool point_objective(const struct event_point *p, double *ret);
/* Takes the points of a running trial in order; decides (live) or follows (replay) ev->action. True
 * when one of them ended the attempt: end_attempt is next. */
bool points_take(struct study *s, struct event *ev, struct trial *t);
/* The attempt reported the objective at this step: what a repeated message is known by. */
void attempt_note(struct trial_attempt *a, int64_t step);
/* True when the checkpoint is news. */
bool checkpoint_take(struct study *s, struct event *ev, struct trial *t);
/* Shows one value to optimizer and rule. *ret_why: the rule's sentence, malloc'ed, or NULL. */
enum report_action show_value(struct study *s, struct trial *t, int64_t step, double value,
                              char **ret_why);
/* Writes an optimizer's PAUSE or STOP into the event. */
void decide_action(const struct study *s, struct event *ev, const struct trial *t,
                   enum report_action action, int64_t step, const char *rule_why);
/* Moves the trial where the event says. */
enum mag_status end_attempt(struct study *s, const struct event *ev, struct trial *t,
                            enum trial_state to, struct mag_err *err) MAG_MUSTCHECK;

#endif
