/* SPDX-License-Identifier: Apache-2.0
 *
 * Running a trial: what reports and tells do, step by step.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(study_report, .timeout = 60);

#define HEAD                                                                                       \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5,"
/* Rungs 1, 3, 9. */
#define ASHA                                                                                       \
    HEAD " 'optimizer': {'algorithm': 'asha'}, 'resource': {'min': 1, 'max': 9}, 'limits': "
#define PLAIN HEAD " 'optimizer': {'algorithm': 'random'}, 'limits': "

Test(study_report, the_budget_of_a_lower_rung_pauses_and_promotion_resumes_as_the_next_attempt)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 3}}", true);
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(lab_ask(&l, "c", 1), 1);
        cr_assert_eq(l.ev.grants[0].budget, 1);
        cr_assert_eq(lab_checkpoint(&l, i, 1, 1, "ck"), ACT_CONTINUE);
        cr_assert_eq(lab_report(&l, i, 1, 1, i * 0.1), ACT_PAUSE);
        cr_assert_eq(lab_state(&l, i), TRIAL_PAUSED);
    }
    cr_assert_eq(lab_ask(&l, "c", 1), 1);
    cr_assert_eq(l.ev.grants[0].trial, 3);
    cr_assert_eq(l.ev.grants[0].attempt, 2);
    cr_assert_eq(l.ev.grants[0].budget, 3);
    cr_assert_eq(l.ev.grants[0].resume_step, 1);
    cr_assert_str_eq(l.ev.grants[0].resume_uri, "ck");
    cr_assert_not(l.ev.grants[0].created);
    /* Its last report, repeated after the promotion: the same answer, nothing recorded. */
    cr_assert_eq(lab_report(&l, 3, 1, 1, 0.3), ACT_PAUSE);
    cr_assert_eq(l.ev.seq, 0);
    cr_assert_not(l.ev.late);
    /* A tell after the pause that its own report brought. */
    cr_assert_eq(lab_tell(&l, 3, 1, 0.3), TRIAL_PAUSED);
    cr_assert_eq(l.ev.seq, 0);
    cr_assert_eq(lab_state(&l, 3), TRIAL_RUNNING);
    lab_close(&l);
}

Test(study_report, steps_seen_in_an_earlier_attempt_are_stored_and_answered_continue)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 3}}", true);
    lab_ask(&l, "c", 3);
    for (int i = 1; i <= 3; i++) {
        lab_report(&l, i, 1, 1, 0.5);
    }
    cr_assert_eq(lab_ask(&l, "c", 1), 1);
    int64_t t = l.ev.grants[0].trial;
    cr_assert_eq(l.ev.grants[0].resume_step, -1, "no checkpoint: it starts from step 0");
    int before = l.n_rows;
    cr_assert_eq(lab_report(&l, t, 2, 1, 0.7), ACT_CONTINUE);
    cr_assert_eq(l.n_rows, before + 1);
    cr_assert_eq(study_trial(l.s, t)->value, 0.5, "the first value of a step counts");
    cr_assert_eq(lab_report(&l, t, 2, 2, 0.6), ACT_CONTINUE);
    cr_assert_eq(study_trial(l.s, t)->value, 0.6);
    lab_close(&l);
}

Test(study_report, several_steps_in_one_report_get_the_first_action_that_is_not_continue)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 1}}", true);
    lab_ask(&l, "c", 1);
    struct event *ev = lab_event(&l, EV_REPORT, 1, 1);
    event_add_point(ev, 2, 1)->values[0].value = 0.9;
    event_add_point(ev, 1, 1)->values[0].value = 0.4;
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.action, ACT_PAUSE);
    cr_assert_eq(l.ev.action_step, 1);
    cr_assert_eq(study_trial(l.s, 1)->value, 0.4);
    cr_assert_eq(study_trial(l.s, 1)->seen_step, 1);
    lab_close(&l);
}

Test(study_report, steps_beyond_the_budget_are_stored_and_not_shown)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 1}}", true);
    lab_ask(&l, "c", 1);
    cr_assert_eq(lab_report(&l, 1, 1, 5, 0.8), ACT_CONTINUE);
    cr_assert_eq(study_trial(l.s, 1)->seen_step, -1);
    cr_assert_eq(lab_report(&l, 1, 1, 1, 0.2), ACT_PAUSE);
    lab_close(&l);
}

Test(study_report, a_repeated_report_is_answered_alike_and_not_recorded)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1}}", true);
    lab_ask(&l, "c", 1);
    for (int step = 1; step <= 3; step++) {
        lab_report(&l, 1, 1, step, 0.1 * step);
    }
    int before = l.n_rows;
    for (int step = 3; step >= 1; step--) {
        cr_assert_eq(lab_report(&l, 1, 1, step, 0.1 * step), ACT_CONTINUE);
        cr_assert_eq(l.ev.seq, 0);
    }
    cr_assert_eq(l.n_rows, before);
    /* After a gap a repeat cannot be told from a step that came out of order: it is kept. */
    lab_report(&l, 1, 1, 7, 0.7);
    lab_report(&l, 1, 1, 5, 0.5);
    cr_assert_eq(l.n_rows, before + 2);
    cr_assert_eq(study_trial(l.s, 1)->step, 7);
    cr_assert_eq(study_trial(l.s, 1)->value, 0.7);
    lab_close(&l);
}

Test(study_report, an_empty_report_renews_and_is_not_recorded)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1}}", true);
    lab_ask_lease(&l, "c", 1, 10000);
    int before = l.n_rows;
    for (int i = 0; i < 5; i++) {
        lab_advance(&l, 9);
        cr_assert_eq(lab_tick(&l), 0);
        lab_event(&l, EV_REPORT, 1, 1);
        cr_assert_eq(lab_apply(&l), MAG_OK);
        cr_assert_eq(l.ev.action, ACT_CONTINUE);
    }
    cr_assert_eq(l.n_rows, before);
    lab_advance(&l, 10.5);
    cr_assert_eq(lab_tick(&l), 1);
    lab_close(&l);
}

Test(study_report, an_objective_that_is_no_number_fails_the_trial_for_good)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        struct lab l;
        lab_open(&l, PLAIN "{'trials': 2, 'retries': 5}}", true);
        lab_ask(&l, "c", 1);
        lab_report(&l, 1, 1, 1, 0.5);
        cr_assert_eq(lab_report(&l, 1, 1, 2, bad[i]), ACT_STOP);
        const struct trial *t = study_trial(l.s, 1);
        cr_assert_eq(t->state, TRIAL_FAILED);
        cr_assert_eq(t->cause, FAIL_OBJECTIVE);
        cr_assert_not_null(strstr(t->reason, "step 2"));
        lab_ask(&l, "c", 1);
        cr_assert_eq(lab_tell(&l, 2, 1, bad[i]), TRIAL_FAILED);
        cr_assert_eq(study_trial(l.s, 2)->cause, FAIL_OBJECTIVE);
        lab_close(&l);
    }
}

Test(study_report, other_metrics_may_be_null_and_are_not_the_objective)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1}}", true);
    lab_ask(&l, "c", 1);
    struct event *ev = lab_event(&l, EV_REPORT, 1, 1);
    struct event_point *p = event_add_point(ev, 1, 2);
    p->values[0] = (struct event_value){.name = xstrdup("loss"), .value = INFINITY};
    p->values[1] = (struct event_value){.name = xstrdup("acc"), .value = 0.25};
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.action, ACT_CONTINUE);
    cr_assert(isnan(l.ev.points[0].values[0].value));
    cr_assert_null(l.ev.points[0].values[1].name,
                   "the objective's name is not repeated in the record");
    cr_assert_eq(study_trial(l.s, 1)->value, 0.25);
    ev = lab_event(&l, EV_REPORT, 1, 1);
    event_add_point(ev, 2, 1)->values[0] =
        (struct event_value){.name = xstrdup("loss"), .value = 1};
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(study_trial(l.s, 1)->step, 2);
    cr_assert_eq(study_trial(l.s, 1)->value, 0.25);
    lab_close(&l);
}

Test(study_report, a_tell_without_reports_is_the_report_of_the_budget)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 3}}", true);
    lab_ask(&l, "c", 3);
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(lab_tell(&l, i, 1, 0.1 * i), TRIAL_PAUSED);
        cr_assert_eq(study_trial(l.s, i)->step, 1);
    }
    cr_assert_eq(lab_tell(&l, 3, 1, 0.3), TRIAL_PAUSED);
    cr_assert_eq(l.ev.seq, 0, "repeated: the same answer");
    lab_ask(&l, "c", 1);
    cr_assert_eq(l.ev.grants[0].trial, 3);
    lab_close(&l);
}

Test(study_report, the_steps_say_where_a_trial_ends_whatever_metrics_they_carry)
{
    struct lab l;
    lab_open(&l,
             HEAD
             "'optimizer': {'algorithm': 'asha', 'bracket': 1}, 'resource': {'min': 1, 'max': 9},"
             "'limits': {'trials': 3}}",
             true);
    lab_ask(&l, "c", 3);
    for (int i = 1; i <= 3;
         i++) { /* trial i reports a loss up to step i, and its accuracy only at the end */
        for (int step = 1; step <= i; step++) {
            struct event *ev = lab_event(&l, EV_REPORT, i, 1);
            event_add_point(ev, step, 1)->values[0] =
                (struct event_value){.name = xstrdup("loss"), .value = 1};
            cr_assert_eq(lab_apply(&l), MAG_OK);
        }
        cr_assert_eq(lab_tell(&l, i, 1, 0.5), i < 3 ? TRIAL_COMPLETED : TRIAL_PAUSED, "trial %d",
                     i);
    }
    lab_close(&l);
}

Test(study_report, ending_before_the_budget_completes_at_that_step)
{
    struct lab l;
    lab_open(&l,
             HEAD
             "'optimizer': {'algorithm': 'asha', 'bracket': 1}, 'resource': {'min': 1, 'max': 9},"
             "'limits': {'trials': 1}}",
             true);
    lab_ask(&l, "c", 1);
    cr_assert_eq(l.ev.grants[0].budget, 3);
    cr_assert_eq(lab_report(&l, 1, 1, 2, 0.4), ACT_CONTINUE);
    lab_event(&l, EV_TELL, 1, 1)->told = TRIAL_COMPLETED;
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.state, TRIAL_COMPLETED);
    cr_assert_eq(study_trial(l.s, 1)->value, 0.4, "the last value reported, by default");
    cr_assert_eq(study_trial(l.s, 1)->step, 2);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_close(&l);
}

Test(study_report, the_top_budget_continues_until_the_tell)
{
    struct lab l;
    lab_open(&l,
             HEAD
             "'optimizer': {'algorithm': 'asha', 'bracket': 2}, 'resource': {'min': 1, 'max': 9},"
             "'limits': {'trials': 1}}",
             true);
    lab_ask(&l, "c", 1);
    cr_assert_eq(l.ev.grants[0].budget, 9);
    for (int step = 1; step <= 9; step++) {
        cr_assert_eq(lab_report(&l, 1, 1, step, 0.1 * step), ACT_CONTINUE);
    }
    cr_assert_eq(lab_state(&l, 1), TRIAL_RUNNING);
    lab_event(&l, EV_TELL, 1, 1)->told = TRIAL_COMPLETED;
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.state, TRIAL_COMPLETED);
    lab_close(&l);
}

Test(study_report, completed_without_any_value_is_refused)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 1}}", true);
    lab_ask(&l, "c", 1);
    lab_event(&l, EV_TELL, 1, 1)->told = TRIAL_COMPLETED;
    cr_assert_eq(lab_apply(&l), MAG_INVALID);
    cr_assert_eq(lab_state(&l, 1), TRIAL_RUNNING);
    cr_assert_not_null(strstr(l.err.text, "value"));
    lab_close(&l);
}

Test(study_report, a_tell_may_carry_the_last_points_and_the_checkpoint)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 1}}", true);
    lab_ask(&l, "c", 1);
    struct event *ev = lab_event(&l, EV_TELL, 1, 1);
    ev->told = TRIAL_COMPLETED;
    event_add_point(ev, 1, 1)->values[0].value = 0.6;
    ev->checkpoint_step = 1;
    ev->checkpoint_uri = xstrdup("ck");
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.state, TRIAL_PAUSED);
    cr_assert_eq(study_trial(l.s, 1)->checkpoint_step, 1);
    lab_close(&l);
}

Test(study_report, a_checkpoint_after_the_pause_is_accepted_until_the_trial_is_given_again)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 3}}", true);
    lab_ask(&l, "c", 3);
    for (int i = 1; i <= 3; i++) {
        lab_report(&l, i, 1, 1, 0.1 * i);
    }
    cr_assert_eq(lab_checkpoint(&l, 3, 1, 1, "after"), ACT_PAUSE);
    cr_assert_not(l.ev.late);
    cr_assert_neq(l.ev.seq, 0);
    lab_ask(&l, "c", 1);
    cr_assert_str_eq(l.ev.grants[0].resume_uri, "after");
    cr_assert_eq(lab_checkpoint(&l, 3, 1, 1, "too late"), ACT_STOP);
    cr_assert(l.ev.late);
    cr_assert_str_eq(study_trial(l.s, 3)->checkpoint_uri, "after");
    lab_close(&l);
}

Test(study_report, a_message_after_the_end_is_late_kept_and_changes_nothing)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 2}}", true);
    lab_ask(&l, "c", 1);
    lab_report(&l, 1, 1, 1, 0.5);
    lab_tell(&l, 1, 1, 0.5);
    cr_assert_eq(lab_report(&l, 1, 1, 1, 0.5), ACT_CONTINUE);
    cr_assert_eq(l.ev.seq, 0, "a step of its own time is a repeat");
    cr_assert_eq(lab_report(&l, 1, 1, 2, 0.9), ACT_STOP);
    cr_assert(l.ev.late);
    cr_assert_neq(l.ev.seq, 0, "kept and shown");
    cr_assert_eq(l.ev.state, TRIAL_COMPLETED);
    cr_assert_eq(study_trial(l.s, 1)->value, 0.5);
    cr_assert_eq(study_trial(l.s, 1)->late, 1);
    cr_assert_eq(lab_tell_state(&l, 1, 1, TRIAL_FAILED, FAIL_SIGNAL, "x"), TRIAL_COMPLETED);
    cr_assert_eq(l.ev.seq, 0, "this attempt was told already: the same answer");
    lab_close(&l);
}

Test(study_report, messages_about_what_never_was_are_refused)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 2}}", true);
    lab_ask(&l, "c", 1);
    static const struct {
        enum event_kind kind;
        int64_t trial, attempt;
        enum mag_status want;
    } rows[] = {
        {EV_REPORT, 2, 1, MAG_NOTFOUND},        {EV_REPORT, 0, 1, MAG_NOTFOUND},
        {EV_REPORT, 1, 2, MAG_INVALID},         {EV_REPORT, 1, 0, MAG_INVALID},
        {EV_TELL, 9, 1, MAG_NOTFOUND},          {EV_TELL, 1, 2, MAG_INVALID},
        {EV_STARTED, 1, 5, MAG_INVALID},        {EV_RELEASE, 7, 1, MAG_NOTFOUND},
        {EV_TRIAL_CANCEL, -1, 0, MAG_NOTFOUND}, {EV_EXPIRE, 3, 1, MAG_NOTFOUND},
        {EV_TRIAL_RETRY, 2, 0, MAG_NOTFOUND},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        lab_event(&l, rows[i].kind, rows[i].trial, rows[i].attempt);
        cr_assert_eq(lab_apply(&l), rows[i].want, "row %zu: %s", i, l.err.text);
    }
    struct event *ev = lab_event(&l, EV_REPORT, 1, 1);
    event_add_point(ev, -1, 1)->values[0].value = 1;
    cr_assert_eq(lab_apply(&l), MAG_INVALID);
    ev = lab_event(&l, EV_TELL, 1, 1);
    ev->told = TRIAL_PAUSED;
    cr_assert_eq(lab_apply(&l), MAG_INVALID);
    cr_assert_eq(lab_ask(&l, "c", 0), -1);
    cr_assert_eq(lab_ask(&l, "c", 1001), -1);
    lab_close(&l);
}

Test(study_report, limits_hold_at_the_limit_and_not_one_beyond)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 2000}}", true);
    cr_assert_eq(lab_ask(&l, "c", EVENT_GRANTS_MAX), EVENT_GRANTS_MAX);
    for (int over = 0; over <= 1; over++) {
        enum mag_status want = over ? MAG_LIMIT : MAG_OK;
        struct event *ev = lab_event(&l, EV_REPORT, 1 + over, 1);
        for (int i = 0; i < EVENT_POINTS_MAX + over; i++) {
            event_add_point(ev, i, 1)->values[0].value = 0.5;
        }
        cr_assert_eq(lab_apply(&l), want);
        ev = lab_event(&l, EV_REPORT, 3, 1);
        struct event_point *p = event_add_point(ev, 1, EVENT_VALUES_MAX + over);
        for (int i = 0; i < p->n_values; i++) {
            p->values[i].name = xasprintf("m%d", i);
        }
        cr_assert_eq(lab_apply(&l), want);
        ev = lab_event(&l, EV_ASK, 0, 0);
        ev->holder = xcalloc(1, EVENT_CLIENT_MAX + 2);
        memset(ev->holder, 'c', (size_t)(EVENT_CLIENT_MAX + over));
        ev->count = 1;
        cr_assert_eq(lab_apply(&l), want);
        ev = lab_event(&l, EV_ASK, 0, 0);
        ev->holder = xstrdup("c");
        ev->request = xcalloc(1, EVENT_REQUEST_BYTES + 2);
        memset(ev->request, 'r', (size_t)(EVENT_REQUEST_BYTES + over));
        ev->count = 1;
        cr_assert_eq(lab_apply(&l), want);
        ev = lab_event(&l, EV_TELL, 5 + over, 1);
        ev->told = TRIAL_FAILED;
        ev->reason = xcalloc(1, EVENT_TEXT_MAX + 2);
        memset(ev->reason, 'x', (size_t)(EVENT_TEXT_MAX + over));
        cr_assert_eq(lab_apply(&l), want);
    }
    lab_close(&l);
}

/* ---- target ---- */

Test(study_report, the_target_completes_the_experiment_and_stops_what_runs)
{
    for (int by_report = 0; by_report <= 1; by_report++) {
        struct lab l;
        lab_open(&l, PLAIN "{'trials': 100, 'target': 0.9}}", true);
        lab_ask(&l, "c", 4);
        lab_report(&l, 1, 1, 1, 0.89);
        cr_assert_eq(study_state(l.s), STUDY_RUNNING);
        if (by_report) {
            cr_assert_eq(lab_report(&l, 2, 1, 1, 0.9), ACT_STOP);
        } else {
            cr_assert_eq(lab_tell(&l, 2, 1, 0.9), TRIAL_COMPLETED);
        }
        cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
        cr_assert_eq(lab_state(&l, 2), TRIAL_COMPLETED);
        cr_assert_eq(study_best(l.s)->id, 2);
        cr_assert_eq(lab_count(&l, TRIAL_STOPPED), 3);
        cr_assert_not_null(strstr(study_trial(l.s, 1)->reason, "target"));
        char why[256];
        cr_assert_str_eq(study_why(l.s, why, sizeof(why)), "target-reached");
        cr_assert_eq(lab_report(&l, 1, 1, 2, 0.95), ACT_STOP);
        cr_assert(l.ev.late);
        cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 200}"), MAG_INVALID);
        cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'target': 0.95}"), MAG_OK);
        cr_assert_eq(study_state(l.s), STUDY_RUNNING);
        cr_assert_eq(lab_ask(&l, "c", 1), 1);
        lab_close(&l);
    }
}

Test(study_report, a_minimised_target_is_reached_from_above)
{
    struct lab l;
    lab_open(&l,
             "{'objective': {'metric': 'loss', 'direction': 'min'}, 'searchspace': {'x': "
             "['DOUBLE', [0, 1]]},"
             " 'optimizer': {'algorithm': 'random'}, 'limits': {'target': 0.1}}",
             true);
    lab_ask(&l, "c", 2);
    lab_tell(&l, 1, 1, 0.2);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    lab_tell(&l, 2, 1, 0.1);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_close(&l);
}

/* ---- early stopping ---- */

Test(study_report, the_median_rule_stops_a_bad_trial_with_a_reason)
{
    struct lab l;
    lab_open(&l,
             HEAD "'optimizer': {'algorithm': 'random'}, 'early_stopping': {'rule': 'median', "
                  "'min_trials': 3},"
                  "'limits': {'trials': 10}}",
             true);
    lab_ask(&l, "c", 4);
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(lab_report(&l, i, 1, 1, 0.8), ACT_CONTINUE);
    }
    cr_assert_eq(lab_report(&l, 4, 1, 1, 0.1), ACT_STOP);
    cr_assert_eq(lab_state(&l, 4), TRIAL_STOPPED);
    cr_assert_not_null(study_trial(l.s, 4)->reason);
    cr_assert_eq(lab_report(&l, 4, 1, 1, 0.1), ACT_STOP, "repeated: the same answer");
    cr_assert_eq(l.ev.seq, 0);
    cr_assert_not(l.ev.late);
    cr_assert_eq(lab_tell(&l, 4, 1, 0.99), TRIAL_STOPPED, "a stop is final");
    cr_assert(l.ev.late);
    lab_close(&l);
}
