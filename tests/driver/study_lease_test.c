/* SPDX-License-Identifier: Apache-2.0
 *
 * Leases, losses, failures, reservations: who holds a trial, and what an older attempt may do
 * (nothing).
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"
#include "driver/study_impl.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(study_lease, .timeout = 60);

#define PLAIN                                                                                      \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5,"                                                                             \
    " 'optimizer': {'algorithm': 'random'}, 'limits': "

#define LEASE 10000

static void expire(struct lab *l)
{
    lab_advance(l, 10.5);
    cr_assert_eq(lab_tick(l), 1);
}

Test(study_lease, an_expired_trial_waits_and_goes_on_from_its_checkpoint_before_new_ones)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask_lease(&l, "a", 1, LEASE);
    lab_checkpoint(&l, 1, 1, 3, "ck3");
    cr_assert_eq(study_deadline(l.s), l.now_ns + 10000000000);
    expire(&l);
    cr_assert_eq(lab_state(&l, 1), TRIAL_WAITING);
    cr_assert_eq(study_trial(l.s, 1)->losses, 1);
    char why[256];
    cr_assert_str_eq(study_trial_why(l.s, study_trial(l.s, 1), why, sizeof(why)), "lost");
    cr_assert_eq(study_deadline(l.s), INT64_MAX);
    cr_assert_eq(lab_ask_lease(&l, "b", 2, LEASE), 2);
    cr_assert_eq(l.ev.grants[0].trial, 1);
    cr_assert_eq(l.ev.grants[0].attempt, 2);
    cr_assert_eq(l.ev.grants[0].resume_step, 3);
    cr_assert_eq(l.ev.grants[1].trial, 2);
    lab_close(&l);
}

Test(study_lease, while_it_waits_its_last_holder_takes_it_back)
{
    for (int by = 0; by < 3; by++) {
        struct lab l;
        lab_open(&l, PLAIN "{'trials': 9}}", true);
        lab_ask_lease(&l, "a", 1, LEASE);
        expire(&l);
        if (by == 0) {
            lab_event(&l, EV_REPORT, 1, 1);
            cr_assert_eq(lab_apply(&l), MAG_OK);
            cr_assert_eq(l.ev.state, TRIAL_RUNNING);
            cr_assert_neq(l.ev.seq, 0, "coming back is recorded");
        } else if (by == 1) {
            cr_assert_eq(lab_report(&l, 1, 1, 1, 0.5), ACT_CONTINUE);
            cr_assert_eq(lab_state(&l, 1), TRIAL_RUNNING);
        } else {
            cr_assert_eq(lab_tell(&l, 1, 1, 0.5), TRIAL_COMPLETED);
        }
        cr_assert_not(l.ev.late);
        cr_assert_eq(study_trial(l.s, 1)->attempt, 1);
        lab_close(&l);
    }
}

Test(study_lease, once_given_to_another_the_older_attempt_changes_nothing)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask_lease(&l, "a", 1, LEASE);
    lab_report(&l, 1, 1, 1, 0.1);
    expire(&l);
    lab_ask_lease(&l, "b", 1, LEASE);
    cr_assert_eq(lab_report(&l, 1, 1, 2, 0.9), ACT_STOP);
    cr_assert(l.ev.late);
    cr_assert_eq(l.ev.state, TRIAL_RUNNING);
    cr_assert_eq(l.ev.state_attempt, 2);
    cr_assert_eq(lab_checkpoint(&l, 1, 1, 9, "old"), ACT_STOP);
    cr_assert_eq(lab_tell(&l, 1, 1, 0.99), TRIAL_RUNNING);
    cr_assert(l.ev.late);
    int rows = l.n_rows;
    cr_assert_eq(lab_tell(&l, 1, 1, 0.99), TRIAL_RUNNING);
    cr_assert(l.ev.late);
    cr_assert_eq(l.n_rows, rows, "a repeated late tell is answered alike and kept once");
    const struct trial *t = study_trial(l.s, 1);
    cr_assert_eq(t->value, 0.1);
    cr_assert_eq(t->checkpoint_step, -1);
    cr_assert_eq(t->late, 3);
    cr_assert_not(study_renew(l.s, 1, 1, l.now_ns));
    cr_assert(study_renew(l.s, 1, 2, l.now_ns));
    lab_close(&l);
}

Test(study_lease, losses_in_a_row_without_a_newer_checkpoint_fail_the_trial)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1, 'losses': 2}}", true);
    for (int i = 1; i <= 2; i++) {
        lab_ask_lease(&l, "a", 1, LEASE);
        expire(&l);
    }
    lab_ask_lease(&l, "a", 1, LEASE);
    lab_checkpoint(&l, 1, 3, 1, "ck"); /* progress: the count starts anew */
    expire(&l);
    for (int i = 4; i <= 5; i++) {
        cr_assert_eq(lab_state(&l, 1), TRIAL_WAITING);
        lab_ask_lease(&l, "a", 1, LEASE);
        cr_assert_eq(l.ev.grants[0].attempt, i);
        expire(&l);
    }
    cr_assert_eq(lab_state(&l, 1), TRIAL_FAILED);
    cr_assert_eq(study_trial(l.s, 1)->cause, FAIL_LOST);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_close(&l);
}

Test(study_lease, draining_counts_as_no_loss)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1, 'losses': 1}}", true);
    for (int i = 1; i <= 8; i++) {
        cr_assert_eq(lab_ask_lease(&l, "a", 1, LEASE), 1);
        struct event *ev = lab_event(&l, i % 2 ? EV_TELL : EV_EXPIRE, 1, i);
        ev->told = TRIAL_WAITING;
        ev->uncounted = true;
        cr_assert_eq(lab_apply(&l), MAG_OK);
        cr_assert_eq(l.ev.state, TRIAL_WAITING);
    }
    cr_assert_eq(study_trial(l.s, 1)->losses, 0);
    lab_close(&l);
}

Test(study_lease, told_lost_gives_the_lease_back_for_good)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1, 'losses': 5}}", true);
    lab_ask_lease(&l, "a", 1, LEASE);
    cr_assert_eq(lab_tell_state(&l, 1, 1, TRIAL_WAITING, FAIL_NONE, "going home"), TRIAL_WAITING);
    cr_assert_eq(study_trial(l.s, 1)->losses, 1);
    cr_assert_eq(lab_report(&l, 1, 1, 1, 0.5), ACT_STOP,
                 "it was given back: nothing takes it back");
    cr_assert(l.ev.late);
    lab_close(&l);
}

Test(study_lease, a_lease_of_none_never_expires)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1}}", true);
    lab_ask_lease(&l, "a", 1, 0);
    cr_assert_eq(study_deadline(l.s), INT64_MAX);
    lab_advance(&l, 1e6);
    cr_assert_eq(lab_tick(&l), 0);
    lab_close(&l);
}

Test(study_lease, a_late_turn_extends_every_lease)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 3}}", true);
    lab_ask_lease(&l, "a", 3, LEASE);
    study_delay(l.s, 5000000000);
    lab_advance(&l, 14.9);
    cr_assert_eq(lab_tick(&l), 0);
    lab_advance(&l, 0.2);
    cr_assert_eq(lab_tick(&l), 3);
    lab_ask_lease(&l, "a", 1, LEASE);
    cr_assert_eq(study_deadline(l.s), l.now_ns + 10000000000, "later leases are not extended");
    lab_close(&l);
}

Test(study_lease, after_a_restart_every_open_lease_gets_a_full_term_and_no_attempt_rises)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 3}}", true);
    lab_ask_lease(&l, "a", 3, LEASE);
    lab_advance(&l, 9.9);
    lab_restart(&l);
    cr_assert_eq(study_deadline(l.s), l.now_ns + 10000000000);
    cr_assert_eq(study_trial(l.s, 1)->attempt, 1);
    cr_assert_eq(lab_report(&l, 1, 1, 1, 0.5), ACT_CONTINUE);
    lab_close(&l);
}

/* ---- failures ---- */

Test(study_lease, only_failures_that_may_pass_are_tried_again)
{
    static const struct {
        enum fail_cause cause;
        bool retry;
        enum trial_state want;
    } rows[] = {
        {FAIL_PROGRAM, false, TRIAL_FAILED},       {FAIL_SIGNAL, false, TRIAL_WAITING},
        {FAIL_TIMEOUT, false, TRIAL_WAITING},      {FAIL_MEMORY, false, TRIAL_WAITING},
        {FAIL_CONFIGURATION, false, TRIAL_FAILED}, {FAIL_OBJECTIVE, false, TRIAL_FAILED},
        {FAIL_NO_METRIC, false, TRIAL_FAILED},     {FAIL_CLIENT, false, TRIAL_FAILED},
        {FAIL_NONE, false, TRIAL_FAILED},          {FAIL_CLIENT, true, TRIAL_WAITING},
        {FAIL_PROGRAM, true, TRIAL_WAITING},       {FAIL_NONE, true, TRIAL_WAITING},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct lab l;
        lab_open(&l, PLAIN "{'trials': 2, 'retries': 1}}", true);
        lab_ask(&l, "a", 1);
        struct event *ev = lab_event(&l, EV_TELL, 1, 1);
        ev->told = TRIAL_FAILED;
        ev->cause = rows[i].cause;
        ev->retry = rows[i].retry;
        ev->reason = xstrdup("it broke");
        cr_assert_eq(lab_apply(&l), MAG_OK);
        cr_assert_eq(l.ev.state, rows[i].want, "row %zu", i);
        cr_assert_str_eq(study_trial(l.s, 1)->reason, "it broke");
        cr_assert_eq(study_trial(l.s, 1)->failures, 1);
        if (rows[i].want == TRIAL_WAITING) {
            lab_ask(&l, "a", 1);
            cr_assert_eq(l.ev.grants[0].trial, 1);
            ev = lab_event(&l, EV_TELL, 1, 2);
            ev->told = TRIAL_FAILED;
            ev->cause = rows[i].cause;
            ev->retry = rows[i].retry;
            cr_assert_eq(lab_apply(&l), MAG_OK);
            cr_assert_eq(l.ev.state, TRIAL_FAILED, "one retry was allowed");
        }
        lab_close(&l);
    }
}

Test(study_lease, failures_in_a_row_pause_the_experiment_with_the_last_error)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 50, 'failures': 3}}", true);
    for (int i = 1; i <= 2; i++) {
        lab_ask(&l, "a", 1);
        lab_tell_state(&l, i, 1, TRIAL_FAILED, FAIL_PROGRAM, "exit status 1");
    }
    lab_ask(&l, "a", 1);
    lab_tell(&l, 3, 1, 0.5); /* a success: the count starts anew */
    for (int i = 4; i <= 6; i++) {
        cr_assert_eq(study_state(l.s), STUDY_RUNNING);
        lab_ask(&l, "a", 1);
        lab_tell_state(&l, i, 1, TRIAL_FAILED, FAIL_PROGRAM, "no module named torch");
    }
    cr_assert_eq(study_state(l.s), STUDY_PAUSED);
    char why[256];
    cr_assert_str_eq(study_why(l.s, why, sizeof(why)), "failures");
    cr_assert_not_null(strstr(why, "no module named torch"));
    cr_assert_eq(lab_ask(&l, "a", 1), 0);
    cr_assert(l.ev.waiting);
    cr_assert_eq(lab_simple(&l, EV_RESUME, 0, NULL), MAG_OK);
    cr_assert_eq(lab_ask(&l, "a", 1), 1);
    lab_tell_state(&l, 7, 1, TRIAL_FAILED, FAIL_PROGRAM, "x");
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    lab_close(&l);
}

/* ---- reservations ---- */

static int64_t reserve(struct lab *l, const char *worker)
{
    struct event *ev = lab_event(l, EV_RESERVE, 0, 0);
    ev->holder = xstrdup(worker);
    ev->from_worker = true;
    ev->lease_ms = LEASE;
    cr_assert_eq(lab_apply(l), MAG_OK);
    return l->ev.n_grants == 1 ? l->ev.grants[0].trial : 0;
}

Test(study_lease, a_reserved_trial_waits_for_its_worker_until_started)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 3, 'parallel': 1}}", true);
    lab_ask_lease(&l, "w", 1, LEASE);
    cr_assert_eq(reserve(&l, "w"), 2);
    cr_assert_eq(lab_state(&l, 2), TRIAL_WAITING);
    cr_assert(study_trial(l.s, 2)->reserved);
    cr_assert_eq(l.ev.grants[0].attempt, 1);
    cr_assert_eq(lab_ask_lease(&l, "v", 1, LEASE), 0, "nobody else gets it, nor its place");
    lab_tell(&l, 1, 1, 0.5);
    cr_assert_eq(lab_ask_lease(&l, "v", 1, LEASE), 0);
    lab_event(&l, EV_STARTED, 2, 1);
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.state, TRIAL_RUNNING);
    lab_event(&l, EV_STARTED, 2, 1);
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.seq, 0);
    lab_close(&l);
}

Test(study_lease, a_reservation_that_is_lost_or_released_goes_to_the_next_asker_without_a_loss)
{
    for (int by = 0; by < 3; by++) {
        struct lab l;
        lab_open(&l, PLAIN "{'trials': 9}}", true);
        lab_ask_lease(&l, "w", 1, 0);
        cr_assert_eq(reserve(&l, "w"), 2);
        double x = l.ev.grants[0].point[0];
        if (by == 0) {
            expire(&l);
        } else {
            lab_event(&l, by == 1 ? EV_RELEASE : EV_EXPIRE, 2, 1);
            cr_assert_eq(lab_apply(&l), MAG_OK);
        }
        cr_assert_eq(study_trial(l.s, 2)->losses, 0);
        cr_assert_not(study_trial(l.s, 2)->reserved);
        cr_assert_eq(lab_ask_lease(&l, "v", 1, LEASE), 1);
        cr_assert_eq(l.ev.grants[0].trial, 2);
        cr_assert_eq(l.ev.grants[0].attempt, 2);
        cr_assert_eq(study_trial(l.s, 2)->point[0], x);
        lab_event(&l, EV_STARTED, 2, 1);
        cr_assert_eq(lab_apply(&l), MAG_OK);
        cr_assert(l.ev.late, "what another has is not started");
        lab_close(&l);
    }
}

Test(study_lease, a_grant_thought_undelivered_is_taken_back_by_whoever_has_it)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask_lease(&l, "a", 1, LEASE);
    lab_event(&l, EV_RELEASE, 1, 1);
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(lab_state(&l, 1), TRIAL_WAITING);
    lab_event(&l, EV_STARTED, 1, 1);
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.state, TRIAL_RUNNING);
    lab_close(&l);
}

Test(study_lease, a_report_of_a_reserved_trial_starts_it)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    cr_assert_eq(reserve(&l, "w"), 1);
    cr_assert_eq(lab_report(&l, 1, 1, 1, 0.5), ACT_CONTINUE);
    cr_assert_eq(lab_state(&l, 1), TRIAL_RUNNING);
    lab_close(&l);
}

Test(study_lease, an_undelivered_grant_goes_back_to_the_head_of_the_queue)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask_lease(&l, "a", 2, LEASE);
    lab_advance(&l, 10.5);
    cr_assert_eq(lab_tick(&l), 2); /* 1 and 2 wait */
    lab_ask_lease(&l, "a", 1, LEASE);
    cr_assert_eq(l.ev.grants[0].trial, 1);
    lab_event(&l, EV_RELEASE, 1, 2);
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(study_trial(l.s, 1)->losses, 1, "only the expiry counts");
    lab_ask_lease(&l, "b", 2, LEASE);
    cr_assert_eq(l.ev.grants[0].trial, 1);
    cr_assert_eq(l.ev.grants[0].attempt, 3);
    cr_assert_eq(l.ev.grants[1].trial, 2);
    lab_close(&l);
}

Test(study_lease, the_limit_of_parallel_trials_holds)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9, 'parallel': 2}}", true);
    cr_assert_eq(lab_ask(&l, "a", 5), 2);
    cr_assert_str_eq(l.ev.why_code, "parallel-limit");
    cr_assert_not(study_has_work(l.s));
    char why[256];
    cr_assert_str_eq(study_why(l.s, why, sizeof(why)), "parallel-limit");
    lab_tell(&l, 1, 1, 0.5);
    cr_assert(study_has_work(l.s));
    cr_assert_eq(lab_ask(&l, "a", 5), 1);
    lab_close(&l);
}

/* Rungs 1, 3, 9; the objective is maximised. */
#define ASHA                                                                                       \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5,"                                                                             \
    " 'optimizer': {'algorithm': 'asha'}, 'resource': {'min': 1, 'max': 9}, 'limits': {'trials': " \
    "9}}"

static json_t *promotions(const struct lab *l)
{
    return optimizer_save(l->s->opt);
}

/* The best value is the highest, and a promotion whose worker dies is the same promotion again. */
Test(study_lease, a_lost_promotion_is_issued_again_from_its_checkpoint_and_asha_hears_nothing)
{
    struct lab l;
    lab_open(&l, ASHA, true);
    for (int64_t id = 1; id <= 3; id++) {
        cr_assert_eq(lab_ask_lease(&l, "a", 1, LEASE), 1);
        (void)lab_checkpoint(&l, id, 1, 1, "ck1");
        cr_assert_eq(lab_report(&l, id, 1, 1, 0.1 * (double)id), ACT_PAUSE);
    }
    cr_assert_eq(lab_ask_lease(&l, "a", 1, LEASE), 1);
    cr_assert_eq(l.ev.grants[0].trial, 3, "the highest of a maximised objective");
    cr_assert_eq(l.ev.grants[0].budget, 3);
    (void)lab_checkpoint(&l, 3, 2, 2, "ck2");
    json_t *before = promotions(&l);
    cr_assert_not_null(before);
    expire(&l);
    json_t *after = promotions(&l);
    cr_expect(json_equal(before, after), "the optimizer was told of the loss");
    json_decref(before);
    json_decref(after);
    cr_assert_eq(lab_ask_lease(&l, "b", 1, LEASE), 1); /* before any new trial */
    cr_assert_eq(l.ev.grants[0].trial, 3);
    cr_assert_eq(l.ev.grants[0].attempt, 3);
    cr_assert_eq(l.ev.grants[0].budget, 3);
    cr_assert_eq(l.ev.grants[0].resume_step, 2);
    cr_assert_eq(lab_report(&l, 3, 3, 3, 0.9), ACT_PAUSE);
    cr_assert_eq(lab_ask_lease(&l, "b", 1, LEASE), 1);
    cr_assert(l.ev.grants[0].created, "one of three was promoted, and only once");
    lab_close(&l);
}
