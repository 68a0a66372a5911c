/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything that waits says why, with a code and a sentence.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(study_why, .timeout = 60);

#define HEAD                                                                                       \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5,"
#define PLAIN HEAD " 'optimizer': {'algorithm': 'random'}, 'limits': "
#define ASHA                                                                                       \
    HEAD " 'optimizer': {'algorithm': 'asha'}, 'resource': {'min': 1, 'max': 9}, 'limits': "

static void expect(const struct lab *l, const char *code, const char *part)
{
    char text[512] = "";
    cr_assert_str_eq(study_why(l->s, text, sizeof(text)), code, "%s", text);
    cr_assert_not_null(strstr(text, part), "%s: %s", code, text);
}

static void expect_trial(const struct lab *l, int64_t trial, const char *code, const char *part)
{
    char text[512] = "";
    const char *got = study_trial_why(l->s, study_trial(l->s, trial), text, sizeof(text));
    cr_assert_not_null(got);
    cr_assert_str_eq(got, code, "%s", text);
    cr_assert_not_null(strstr(text, part), "%s: %s", code, text);
}

Test(study_why, an_experiment_that_nobody_serves_says_so)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 3, 'parallel': 1}}", true);
    expect(&l, "no-taker", "next trial");
    cr_assert(study_has_work(l.s));
    lab_ask(&l, "a", 1);
    expect(&l, "parallel-limit", "1 parallel");
    cr_assert_not(study_has_work(l.s));
    lab_tell_state(&l, 1, 1, TRIAL_WAITING, FAIL_NONE, "host goes down");
    expect(&l, "no-taker", "1 trial waits");
    expect_trial(&l, 1, "lost", "host goes down");
    lab_simple(&l, EV_PAUSE, 0, NULL);
    expect(&l, "experiment-paused", "resume");
    expect_trial(&l, 1, "experiment-paused", "resume");
    cr_assert_not(study_has_work(l.s));
    lab_simple(&l, EV_RESUME, 0, NULL);
    lab_ask(&l, "b", 1);
    char text[64];
    cr_assert_null(study_trial_why(l.s, study_trial(l.s, 1), text, sizeof(text)), "it runs");
    lab_close(&l);
}

Test(study_why, the_last_running_trials_are_named)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 2}}", true);
    lab_ask(&l, "a", 2);
    expect(&l, "trials-limit", "2 still running");
    lab_tell(&l, 1, 1, 0.5);
    expect(&l, "trials-limit", "1 still running");
    lab_tell(&l, 2, 1, 0.5);
    expect(&l, "trials-done", "2 trials");
    lab_close(&l);
}

Test(study_why, waiting_trials_tell_apart_retry_loss_reservation_and_queue)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9, 'parallel': 2}}", true);
    lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.5}}");
    expect_trial(&l, 1, "enqueued", "user");
    lab_ask(&l, "a", 2);
    lab_tell_state(&l, 1, 1, TRIAL_FAILED, FAIL_MEMORY, "killed");
    expect_trial(&l, 1, "retry", "out-of-memory");
    lab_ask(&l, "a", 1);
    lab_tell_state(&l, 2, 1, TRIAL_WAITING, FAIL_NONE, NULL);
    expect_trial(&l, 2, "lost", "no checkpoint");
    lab_ask(&l, "a", 1);
    lab_checkpoint(&l, 2, 2, 4, "ck");
    lab_tell_state(&l, 2, 2, TRIAL_WAITING, FAIL_NONE, NULL);
    expect_trial(&l, 2, "lost", "step 4");
    lab_ask(&l, "a", 1);
    struct event *ev = lab_event(&l, EV_RESERVE, 0, 0);
    ev->holder = xstrdup("w7");
    cr_assert_eq(lab_apply(&l), MAG_OK);
    expect_trial(&l, 3, "reserved", "w7");
    lab_event(&l, EV_RELEASE, 3, 1);
    cr_assert_eq(lab_apply(&l), MAG_OK);
    expect_trial(&l, 3, "parallel-limit", "2 parallel");
    lab_tell(&l, 1, 2, 0.5);
    expect_trial(&l, 3, "returned", "next");
    lab_close(&l);
}

Test(study_why, a_paused_trial_waits_for_its_rung)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 2}}", true);
    lab_ask(&l, "a", 2);
    lab_report(&l, 1, 1, 1, 0.5);
    expect_trial(&l, 1, "rung-not-full", "rung 0");
    expect(&l, "trials-limit", "1 still running");
    lab_report(&l, 2, 1, 1, 0.5);
    expect(&l, "trials-done", "2 trials");
    expect_trial(&l, 1, "trials-done", "2 trials");
    lab_close(&l);
}

Test(study_why, a_search_that_is_exhausted_or_cancelled_keeps_its_reason)
{
    struct lab l;
    lab_open(&l,
             "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': "
             "['INTEGER', [1, 2]]},"
             " 'optimizer': {'algorithm': 'grid'}}",
             true);
    lab_ask(&l, "a", 2);
    char text[512];
    cr_assert_not_null(study_why(l.s, text, sizeof(text)));
    cr_assert_neq(text[0], '\0');
    lab_tell(&l, 1, 1, 0.5);
    lab_tell(&l, 2, 1, 0.5);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_not_null(study_why(l.s, text, sizeof(text)));
    cr_assert_neq(text[0], '\0');
    cr_assert_eq((int)study_eta_s(l.s, l.now_ns), 0);
    lab_close(&l);

    lab_open(&l, PLAIN "{'trials': 9}}", true);
    struct event *ev = lab_event(&l, EV_CANCEL, 0, 0);
    ev->reason = xstrdup("wrong data set");
    cr_assert_eq(lab_apply(&l), MAG_OK);
    expect(&l, "cancelled", "wrong data set");
    lab_close(&l);
}
