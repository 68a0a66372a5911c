/* SPDX-License-Identifier: Apache-2.0
 *
 * Failures and losses: whether a trial is tried again, and the counts that decide it. A failure is
 * the program's, a loss the lease's; each has its own limit.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>

static bool may_pass(enum fail_cause cause)
{
    return cause == FAIL_SIGNAL || cause == FAIL_TIMEOUT || cause == FAIL_MEMORY;
}

enum trial_state decide_failure(const struct study *s, const struct trial *t, enum fail_cause cause,
                                const struct event *ev)
{
    bool again = cause != FAIL_CONFIGURATION && (may_pass(cause) || ev->retry) && !ev->final &&
                 t->failures < s->limits.retries;
    return again ? TRIAL_WAITING : TRIAL_FAILED;
}

enum trial_state decide_loss(const struct study *s, const struct trial *t, bool uncounted)
{
    return uncounted || t->losses_in_row < s->limits.losses ? TRIAL_WAITING : TRIAL_FAILED;
}

static void fail(struct study *s, struct trial *t, enum fail_cause cause, const char *reason)
{
    t->cause = cause;
    trial_set_reason(t, reason);
    trial_end(s, t, TRIAL_FAILED);
}

static void count_failure(struct study *s, const struct trial *t)
{
    s->failures_in_row++;
    s->failures_all++;
    s->last_failed = t->id;
}

void enact_failure(struct study *s, struct trial *t, enum trial_state to, enum fail_cause cause,
                   const char *reason)
{
    t->failures++;
    count_failure(s, t);
    if (to == TRIAL_FAILED) {
        fail(s, t, cause, reason);
        return;
    }
    t->cause = cause;
    trial_set_reason(t, reason);
    char why[160];
    (void)snprintf(why, sizeof(why), "to be tried again after a failure (%s), retry %d of %lld",
                   fail_cause_name(cause), t->failures, (long long)s->limits.retries);
    trial_hold(s, t, TRIAL_WAITING, "retry", why);
}

void enact_loss(struct study *s, struct trial *t, enum trial_state to, bool uncounted,
                const char *reason)
{
    if (!uncounted) {
        t->losses++;
        t->losses_in_row++;
    }
    if (to == TRIAL_FAILED) {
        char text[512];
        (void)snprintf(text, sizeof(text),
                       "lost %d times in a row without a newer checkpoint; the last time: %s",
                       t->losses_in_row, reason != NULL ? reason : "no reason given");
        count_failure(s, t);
        fail(s, t, FAIL_LOST, text);
        return;
    }
    char why[512];
    if (t->checkpoint_step >= 0) {
        (void)snprintf(why, sizeof(why), "lost (%s); goes on from its checkpoint of step %lld",
                       reason != NULL ? reason : "given back", (long long)t->checkpoint_step);
    } else {
        (void)snprintf(why, sizeof(why), "lost (%s); starts again, it has no checkpoint",
                       reason != NULL ? reason : "given back");
    }
    trial_hold(s, t, TRIAL_WAITING, "lost", why);
}
