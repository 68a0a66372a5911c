/* SPDX-License-Identifier: Apache-2.0
 *
 * Several objectives and outcome constraints in the study core: what a trial has to report, what is
 * best, the Pareto front, and that all of it comes back from the record.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define TWO                                                                                        \
    "{'objectives': [{'metric': 'acc', 'direction': 'max'}, {'metric': 'ms', 'direction': "        \
    "'min'}], 'searchspace': {'x': ['DOUBLE', [0, 1]]}, 'optimizer': {'algorithm': 'nsga2', "      \
    "'population': 4}, 'seed': 7, 'limits': {'trials': 40}"
#define ONE                                                                                        \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'optimizer': {'algorithm': 'random'}, 'seed': 7, 'limits': {'trials': 40"
#define BOUND "'outcome_constraints': [{'metric': 'ms', 'max': 20}, {'metric': 'acc', 'min': 0.5}]"

TestSuite(study_goals, .timeout = 60);

/* Tells acc, and ms when it is a number. */
static enum mag_status tell(struct lab *l, int64_t trial, double acc, double ms)
{
    struct event *ev = lab_event(l, EV_TELL, trial, 1);
    ev->told = TRIAL_COMPLETED;
    ev->has_value = true;
    ev->value = acc;
    if (!isnan(ms)) {
        event_add_value(ev, "ms", ms);
    }
    return lab_apply(l);
}

static void run(struct lab *l, double acc, double ms)
{
    cr_assert_eq(lab_ask(l, "c", 1), 1);
    cr_assert_eq(tell(l, l->ev.grants[0].trial, acc, ms), MAG_OK, "%s", l->err.text);
}

static void check_front(const struct lab *l, const int64_t *want, int n)
{
    int got_n = 0;
    const int64_t *got = study_front(l->s, &got_n);
    cr_assert_eq(got_n, n, "%d on the front, not %d", got_n, n);
    cr_assert(memcmp(got, want, (size_t)n * sizeof(*want)) == 0);
}

Test(study_goals, the_front_is_what_nobody_dominates)
{
    struct lab l;
    lab_open(&l, TWO "}", true);
    run(&l, 0.8, 30); /* 1 */
    run(&l, 0.9, 50); /* 2 */
    run(&l, 0.7, 40); /* 3: dominated by 1 */
    run(&l, 0.8, 30); /* 4: equal to 1 */
    check_front(&l, (int64_t[]){1, 2, 4}, 3);
    run(&l, 0.85, 29); /* 5: dominates 1 and 4 */
    check_front(&l, (int64_t[]){2, 5}, 2);
    cr_expect_eq(study_best(l.s)->id, 2, "the best in the first objective");
    lab_restart(&l);
    check_front(&l, (int64_t[]){2, 5}, 2);
    lab_close(&l);
}

Test(study_goals, a_completed_trial_has_told_every_objective)
{
    struct lab l;
    lab_open(&l, TWO "}", true);
    cr_assert_eq(lab_ask(&l, "c", 1), 1);
    cr_assert_eq(tell(&l, 1, 0.5, NAN), MAG_INVALID);
    cr_expect_not_null(strstr(l.err.text, "reported no \"ms\""), "%s", l.err.text);
    cr_expect_eq(lab_state(&l, 1), TRIAL_RUNNING);
    cr_assert_eq(tell(&l, 1, 0.5, 3), MAG_OK);
    cr_expect_eq(lab_state(&l, 1), TRIAL_COMPLETED);
    cr_expect_eq(trial_measure(study_trial(l.s, 1), 1), 3);
    lab_close(&l);
}

Test(study_goals, objectives_may_come_in_reports_of_any_step)
{
    struct lab l;
    lab_open(&l, TWO "}", true);
    cr_assert_eq(lab_ask(&l, "c", 1), 1);
    struct event *ev = lab_event(&l, EV_REPORT, 1, 1);
    struct event_point *p = event_add_point(ev, 1, 2);
    p->values[0] = (struct event_value){.name = xstrdup("ms"), .value = 12};
    p->values[1] = (struct event_value){.name = xstrdup("unrelated"), .value = NAN};
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(lab_report(&l, 1, 1, 2, 0.75), ACT_CONTINUE);
    cr_assert_eq(tell(&l, 1, 0.8, NAN), MAG_OK, "%s", l.err.text);
    cr_expect_eq(trial_measure(study_trial(l.s, 1), 0), 0.8);
    cr_expect_eq(trial_measure(study_trial(l.s, 1), 1), 12);
    lab_close(&l);
}

Test(study_goals, an_objective_that_is_no_number_fails_the_trial_by_name)
{
    struct lab l;
    lab_open(&l, TWO "}", true);
    cr_assert_eq(lab_ask(&l, "c", 2), 2);
    struct event *ev = lab_event(&l, EV_TELL, 1, 1);
    ev->told = TRIAL_COMPLETED;
    ev->has_value = true;
    ev->value = 0.5;
    event_add_value(ev, "ms", INFINITY);
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_expect_eq(lab_state(&l, 1), TRIAL_FAILED);
    cr_expect_not_null(strstr(study_trial(l.s, 1)->reason, "\"ms\""));
    ev = lab_event(&l, EV_REPORT, 2, 1);
    struct event_point *p = event_add_point(ev, 4, 1);
    p->values[0] = (struct event_value){.name = xstrdup("ms"), .value = NAN};
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_expect_eq(lab_state(&l, 2), TRIAL_FAILED);
    cr_expect_not_null(strstr(study_trial(l.s, 2)->reason, "at step 4"));
    lab_close(&l);
}

Test(study_goals, the_best_trial_is_feasible_when_any_is)
{
    struct lab l;
    lab_open(&l, ONE "}, " BOUND "}", true);
    run(&l, 0.9, 30); /* violation 0.5 */
    cr_expect_float_eq(trial_violation(l.s, study_trial(l.s, 1)), 0.5, 1e-12);
    run(&l, 0.95, 25); /* 0.25 */
    cr_expect_eq(study_best(l.s)->id, 2, "the least violation while none is feasible");
    run(&l, 0.4, 10); /* 0.2: acc below 0.5 */
    cr_expect_eq(study_best(l.s)->id, 3);
    run(&l, 0.6, 20);
    cr_expect_eq(study_best(l.s)->id, 4);
    run(&l, 0.99, 21);
    cr_expect_eq(study_best(l.s)->id, 4);
    run(&l, 0.7, 2);
    cr_expect_eq(study_best(l.s)->id, 6);
    lab_close(&l);
}

Test(study_goals, the_target_is_for_feasible_trials)
{
    struct lab l;
    lab_open(&l, ONE ", 'target': 0.9}, " BOUND "}", true);
    run(&l, 0.95, 30);
    cr_expect_eq(study_state(l.s), STUDY_RUNNING);
    cr_assert_eq(lab_ask(&l, "c", 1), 1);
    cr_assert_eq(lab_report(&l, 2, 1, 1, 0.97), ACT_CONTINUE, "its latency is not known yet");
    cr_assert_eq(tell(&l, 2, 0.97, 7), MAG_OK);
    cr_expect_eq(study_state(l.s), STUDY_COMPLETED);
    cr_expect_eq(study_best(l.s)->id, 2);
    lab_close(&l);
}

Test(study_goals, infeasible_trials_are_not_on_the_front)
{
    struct lab l;
    lab_open(&l, TWO ", " BOUND "}", true);
    run(&l, 0.9, 30);
    check_front(&l, NULL, 0);
    run(&l, 0.6, 15);
    check_front(&l, (int64_t[]){2}, 1);
    lab_close(&l);
}
