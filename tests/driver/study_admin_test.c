/* SPDX-License-Identifier: Apache-2.0
 *
 * What people do to an experiment: pause, resume, cancel, extend, enqueue, retry, note; and its
 * ends.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(study_admin, .timeout = 60);

#define HEAD                                                                                       \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5,"
#define PLAIN HEAD " 'optimizer': {'algorithm': 'random'}, 'limits': "
#define ASHA                                                                                       \
    HEAD " 'optimizer': {'algorithm': 'asha'}, 'resource': {'min': 1, 'max': 9}, 'limits': "
#define GRID                                                                                       \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['INTEGER', [1, "   \
    "3]]},"                                                                                        \
    " 'optimizer': {'algorithm': 'grid'}}"

static const char *why_of(const struct lab *l)
{
    static char text[256];
    return study_why(l->s, text, sizeof(text));
}

Test(study_admin, a_paused_experiment_gives_nothing_and_lets_running_trials_finish)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask(&l, "a", 2);
    cr_assert_eq(lab_simple(&l, EV_PAUSE, 0, NULL), MAG_OK);
    cr_assert_eq(study_state(l.s), STUDY_PAUSED);
    int rows = l.n_rows;
    cr_assert_eq(lab_simple(&l, EV_PAUSE, 0, NULL), MAG_OK);
    cr_assert_eq(l.n_rows, rows, "paused already");
    cr_assert_eq(lab_ask(&l, "a", 1), 0);
    cr_assert(l.ev.waiting && !l.ev.done);
    cr_assert_str_eq(l.ev.why_code, "experiment-paused");
    cr_assert_eq(lab_report(&l, 1, 1, 1, 0.5), ACT_CONTINUE);
    cr_assert_eq(lab_tell(&l, 1, 1, 0.5), TRIAL_COMPLETED);
    cr_assert_eq(lab_simple(&l, EV_RESUME, 0, NULL), MAG_OK);
    cr_assert_eq(lab_ask(&l, "a", 1), 1);
    lab_close(&l);
}

Test(study_admin, pause_with_stop_holds_each_trial_at_its_next_checkpoint)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask(&l, "a", 2);
    lab_report(&l, 1, 1, 1, 0.1);
    cr_assert_eq(lab_simple(&l, EV_PAUSE, 0, "{'stop': true}"), MAG_OK);
    cr_assert_eq(lab_report(&l, 1, 1, 2, 0.2), ACT_CONTINUE, "no checkpoint yet: it goes on");
    struct event *ev = lab_event(&l, EV_REPORT, 1, 1);
    event_add_point(ev, 3, 1)->values[0].value = 0.3;
    ev->checkpoint_step = 3;
    ev->checkpoint_uri = xstrdup("ck3");
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.action, ACT_PAUSE);
    cr_assert_eq(lab_state(&l, 1), TRIAL_WAITING);
    cr_assert_eq(study_trial(l.s, 1)->seen_step, 3);
    cr_assert_eq(lab_report(&l, 1, 1, 4, 0.4), ACT_STOP);
    cr_assert(l.ev.late, "its lease has ended");
    lab_restart(&l);
    cr_assert_eq(lab_ask(&l, "a", 1), 0);
    lab_simple(&l, EV_RESUME, 0, NULL);
    cr_assert_eq(lab_ask(&l, "a", 1), 1);
    cr_assert_eq(l.ev.grants[0].trial, 1);
    cr_assert_eq(l.ev.grants[0].attempt, 2);
    cr_assert_str_eq(l.ev.grants[0].resume_uri, "ck3");
    cr_assert_eq(lab_checkpoint(&l, 1, 2, 4, "ck4"), ACT_CONTINUE,
                 "resumed: checkpoints hold nobody");
    cr_assert_eq(study_trial(l.s, 1)->losses, 0);
    lab_close(&l);
}

Test(study_admin, cancel_ends_all_open_trials_and_is_final)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 9}}", true);
    lab_ask(&l, "a", 4);
    lab_report(&l, 1, 1, 1, 0.1); /* paused */
    lab_tell_state(&l, 2, 1, TRIAL_WAITING, FAIL_NONE, NULL);
    cr_assert_eq(lab_simple(&l, EV_CANCEL, 0, NULL), MAG_OK);
    cr_assert_eq(lab_count(&l, TRIAL_CANCELLED), 4);
    cr_assert_eq(study_state(l.s), STUDY_CANCELLED);
    cr_assert_neq(study_ended_ms(l.s), 0);
    static const enum event_kind kinds[] = {EV_PAUSE, EV_RESUME};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(lab_simple(&l, kinds[i], 0, NULL), MAG_CONFLICT);
    }
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 99}"), MAG_CONFLICT);
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.5}}"), MAG_CONFLICT);
    cr_assert_eq(lab_simple(&l, EV_CANCEL, 0, NULL), MAG_OK);
    cr_assert_eq(l.ev.seq, 0);
    cr_assert_eq(lab_report(&l, 3, 1, 1, 0.1), ACT_STOP);
    cr_assert(l.ev.late);
    cr_assert_eq(lab_ask(&l, "a", 1), 0);
    cr_assert(l.ev.done);
    lab_close(&l);
}

Test(study_admin, extend_reopens_a_completed_experiment)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 2}}", true);
    lab_ask(&l, "a", 2);
    lab_tell(&l, 1, 1, 0.1);
    lab_tell(&l, 2, 1, 0.2);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_str_eq(why_of(&l), "trials-done");
    static const char *const bad[] = {
        "{'trials': 1}",    "{'trials': -5}",  "{'trials': 2.5}",     "{'trails': 9}", "{}",
        "{'time': 'long'}", "{'target': 'x'}", "{'trials': 10000001}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, bad[i]), MAG_INVALID, "%s", bad[i]);
    }
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 3, 'time': '2h', 'target': 0.9}"),
                 MAG_OK);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    cr_assert_eq(study_ended_ms(l.s), 0);
    cr_assert_eq(study_limits(l.s)->trials, 3);
    cr_assert_eq(study_limits(l.s)->time_ms, 7200000);
    cr_assert_eq(lab_ask(&l, "a", 5), 1);
    cr_assert_eq(l.ev.grants[0].trial, 3);
    lab_restart(&l);
    cr_assert_eq(lab_tell(&l, 3, 1, 0.3), TRIAL_COMPLETED);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_close(&l);
}

Test(study_admin, an_exhausted_grid_completes_and_stays_so_when_extended)
{
    struct lab l;
    lab_open(&l, GRID, true);
    cr_assert_eq(lab_ask(&l, "a", 10), 3);
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(study_state(l.s), STUDY_RUNNING);
        lab_tell(&l, i, 1, i);
    }
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 9}"), MAG_OK);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    /* A user's own point is still welcome. */
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 2}}"), MAG_OK);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    cr_assert_eq(lab_ask(&l, "a", 10), 1);
    lab_tell(&l, 4, 1, 2);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_close(&l);
}

Test(study_admin, paused_trials_that_nothing_promotes_stay_paused_when_all_is_done)
{
    struct lab l;
    lab_open(&l, ASHA "{'trials': 2}}", true);
    lab_ask(&l, "a", 2);
    cr_assert_eq(lab_report(&l, 1, 1, 1, 0.1), ACT_PAUSE);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    cr_assert_eq(lab_report(&l, 2, 1, 1, 0.2), ACT_PAUSE);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED, "two of three: nobody is promoted");
    cr_assert_eq(lab_count(&l, TRIAL_PAUSED), 2);
    cr_assert_eq(study_best(l.s)->id, 2);
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 3}"), MAG_OK);
    lab_ask(&l, "a", 1);
    lab_report(&l, 3, 1, 1, 0.05);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    cr_assert_eq(lab_ask(&l, "a", 1), 1);
    cr_assert_eq(l.ev.grants[0].trial, 2, "the extension promoted it");
    lab_close(&l);
}

Test(study_admin, time_up_counts_active_time_only)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 99, 'time': 100}}", true);
    lab_ask_lease(&l, "a", 2, 0);
    lab_tell(&l, 2, 1, 0.4);
    lab_advance(&l, 60);
    cr_assert_eq(lab_tick(&l), 0);
    lab_simple(&l, EV_PAUSE, 0, NULL);
    lab_advance(&l, 1000);
    cr_assert_eq(lab_tick(&l), 0, "a pause takes no time");
    lab_simple(&l, EV_RESUME, 0, NULL);
    lab_advance(&l, 30);
    cr_assert_eq(study_up_ms(l.s, l.now_ns), 90000);
    lab_report(&l, 1, 1, 1, 0.2);
    lab_advance(&l, 5); /* not recorded by any event: lost with the driver */
    lab_restart(&l);
    cr_assert_eq(study_up_ms(l.s, l.now_ns), 90000);
    cr_assert_eq(study_deadline(l.s), l.now_ns + 10000000000);
    lab_advance(&l, 10);
    cr_assert_eq(lab_tick(&l), 1);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(lab_state(&l, 1), TRIAL_STOPPED);
    cr_assert_str_eq(why_of(&l), "time-up");
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 200}"), MAG_INVALID);
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'time': 200}"), MAG_OK);
    cr_assert_eq(lab_ask(&l, "a", 1), 1);
    lab_close(&l);
}

Test(study_admin, enqueued_points_keep_to_the_constraints_and_may_leave_parameters_out)
{
    struct lab l;
    lab_open(
        &l,
        "{'objective': {'metric': 'loss', 'direction': 'min'}, 'searchspace': {'a': ['DOUBLE', "
        "[0, 1]], 'b': ['DOUBLE', [0, 1]]}, 'constraints': ['a <= b'], 'optimizer': "
        "{'algorithm': 'random'}}",
        true);
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'a': 0.5, 'b': 0.25}}"), MAG_INVALID);
    cr_assert_not_null(strstr(l.err.text, "/params: the point breaks the constraint a <= b"), "%s",
                       l.err.text);
    for (int64_t id = 1; id <= 20; id++) {
        cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'a': 0.875}}"), MAG_OK);
        const struct trial *t = study_trial(l.s, id);
        cr_assert_eq(t->point[0], 0.875);
        cr_assert(t->point[1] >= 0.875 && t->point[1] <= 1);
        cr_assert(id == 1 || t->point[1] != study_trial(l.s, id - 1)->point[1]);
    }
    lab_close(&l);
}

Test(study_admin, enqueued_points_come_before_suggestions_in_their_order)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask(&l, "a", 1);
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.25}, 'notes': 'mine'}"), MAG_OK);
    cr_assert_eq(l.ev.created_trial, 2);
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.75}}"), MAG_OK);
    static const char *const bad[] = {"{'params': {'x': 2}}",
                                      "{'params': {'y': 0.5}}",
                                      "{'params': 3}",
                                      "{}",
                                      "{'params': {'x': 0.5}, 'budget': 3}",
                                      "{'params': {'x': 0.5}, 'notes': 3}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, bad[i]), MAG_INVALID, "%s", bad[i]);
    }
    cr_assert_eq(lab_ask(&l, "a", 3), 3);
    cr_assert_eq(l.ev.grants[0].trial, 2);
    cr_assert_eq(study_trial(l.s, 2)->point[0], 0.25);
    cr_assert_str_eq(study_trial(l.s, 2)->notes, "mine");
    cr_assert_eq(l.ev.grants[1].trial, 3);
    cr_assert_eq(l.ev.grants[2].trial, 4);
    lab_close(&l);
}

Test(study_admin, a_repeated_enqueue_or_extend_is_done_once)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    for (int i = 0; i < 2; i++) {
        struct event *ev = lab_event(&l, EV_ENQUEUE, 0, 0);
        ev->holder = xstrdup("c");
        ev->request = xstrdup("k");
        ev->detail = json_pack("{s:{s:f}}", "params", "x", 0.5);
        cr_assert_eq(lab_apply(&l), MAG_OK);
        cr_assert_eq(l.ev.created_trial, 1);
    }
    cr_assert_eq(study_trials(l.s), 1);
    struct event *ev = lab_event(&l, EV_EXTEND, 0, 0);
    ev->holder = xstrdup("c");
    ev->request = xstrdup("k");
    ev->detail = json_pack("{s:i}", "trials", 10);
    cr_assert_eq(lab_apply(&l), MAG_CONFLICT, "the same key for another question");
    lab_close(&l);
}

Test(study_admin, the_specs_own_points_come_first)
{
    struct lab l;
    lab_open(&l,
             HEAD "'optimizer': {'algorithm': 'random'}, 'points': [{'x': 0.125}, {'x': 0.5}], "
                  "'limits': {'trials': 3}}",
             true);
    cr_assert_eq(study_trials(l.s), 2);
    cr_assert_eq(lab_ask(&l, "a", 9), 3);
    cr_assert_eq(study_trial(l.s, 1)->point[0], 0.125);
    cr_assert_eq(study_trial(l.s, 2)->point[0], 0.5);
    cr_assert_eq(study_trial(l.s, 1)->created_ms, l.wall_ms);
    lab_restart(&l);
    lab_close(&l);
}

Test(study_admin, one_trial_is_cancelled_and_one_run_again)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask(&l, "a", 2);
    cr_assert_eq(lab_simple(&l, EV_TRIAL_RETRY, 1, NULL), MAG_CONFLICT);
    cr_assert_eq(lab_simple(&l, EV_TRIAL_CANCEL, 1, NULL), MAG_OK);
    cr_assert_eq(lab_state(&l, 1), TRIAL_CANCELLED);
    cr_assert_eq(lab_simple(&l, EV_TRIAL_CANCEL, 1, NULL), MAG_OK);
    cr_assert_eq(l.ev.seq, 0);
    lab_tell(&l, 2, 1, 0.5);
    cr_assert_eq(lab_simple(&l, EV_TRIAL_CANCEL, 2, NULL), MAG_CONFLICT);
    cr_assert_eq(lab_simple(&l, EV_TRIAL_RETRY, 1, NULL), MAG_OK);
    cr_assert_eq(l.ev.created_trial, 3);
    cr_assert_eq(lab_ask(&l, "a", 1), 1);
    cr_assert_eq(l.ev.grants[0].trial, 3);
    cr_assert_eq(study_trial(l.s, 3)->rerun_of, 1);
    cr_assert_eq(study_trial(l.s, 3)->point[0], study_trial(l.s, 1)->point[0]);
    lab_close(&l);
}

Test(study_admin, notes_and_tags_are_part_of_the_record)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    lab_ask(&l, "a", 1);
    cr_assert_eq(lab_simple(&l, EV_NOTE, 0, "{'notes': 'try wider', 'tags': ['a', 'b']}"), MAG_OK);
    cr_assert_eq(lab_simple(&l, EV_NOTE, 1, "{'notes': 'odd'}"), MAG_OK);
    cr_assert_str_eq(study_notes(l.s), "try wider");
    cr_assert_eq(json_array_size(study_tags(l.s)), 2);
    cr_assert_str_eq(study_trial(l.s, 1)->notes, "odd");
    static const char *const bad[] = {"{}", "{'notes': 1}", "{'tags': 'a'}", "{'tags': [1]}",
                                      "{'colour': 'red'}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(lab_simple(&l, EV_NOTE, 0, bad[i]), MAG_INVALID, "%s", bad[i]);
    }
    cr_assert_eq(lab_simple(&l, EV_NOTE, 1, "{'tags': ['a']}"), MAG_INVALID);
    lab_restart(&l);
    cr_assert_str_eq(study_notes(l.s), "try wider");
    lab_close(&l);
}

Test(study_admin, requests_are_forgotten_after_a_day_when_none_of_their_trials_lives)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9}}", true);
    static const char *const keys[] = {"one", "two"};
    for (int i = 0; i < 2; i++) {
        struct event *ev = lab_event(&l, EV_ASK, 0, 0);
        ev->holder = xstrdup("c");
        ev->request = xstrdup(keys[i]);
        ev->count = 1;
        cr_assert_eq(lab_apply(&l), MAG_OK);
    }
    lab_tell(&l, 1, 1, 0.5);
    study_forget_requests(l.s, l.wall_ms + 86399000);
    cr_assert_not_null(study_request(l.s, "c", "one"));
    study_forget_requests(l.s, l.wall_ms + 86400000);
    cr_assert_null(study_request(l.s, "c", "one"));
    cr_assert_not_null(study_request(l.s, "c", "two"), "its trial runs");
    lab_tell(&l, 2, 1, 0.5);
    lab_advance(&l, 90000);
    cr_assert_not_null(study_request(l.s, "c", "two"), "looked at once a day");
    lab_advance(&l, 90000);
    struct event *ev = lab_event(&l, EV_ASK, 0, 0);
    ev->holder = xstrdup("c");
    ev->request = xstrdup("three");
    ev->count = 1;
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_null(study_request(l.s, "c", "two"), "a new request drops what is due");
    /* A forgotten key is a new question; the record of it is sound. */
    ev = lab_event(&l, EV_ASK, 0, 0);
    ev->holder = xstrdup("c");
    ev->request = xstrdup("one");
    ev->count = 1;
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.grants[0].trial, 4);
    lab_restart(&l);
    lab_close(&l);
}

Test(study_admin, the_best_is_kept_as_values_come_and_go)
{
    struct lab l;
    lab_open(&l, PLAIN "{'trials': 9, 'failures': 0}}", true);
    cr_assert_null(study_best(l.s));
    lab_ask(&l, "a", 4);
    lab_report(&l, 1, 1, 1, 0.9);
    cr_assert_eq(study_best(l.s)->id, 1);
    lab_report(&l, 2, 1, 2, 0.1);
    cr_assert_eq(study_best(l.s)->id, 2, "the highest step first");
    lab_report(&l, 3, 1, 2, 0.1);
    cr_assert_eq(study_best(l.s)->id, 2, "ties by id");
    lab_tell_state(&l, 2, 1, TRIAL_FAILED, FAIL_PROGRAM, "x");
    cr_assert_eq(study_best(l.s)->id, 3, "a failed trial is not the best");
    lab_tell(&l, 4, 1, 0.05);
    cr_assert_eq(study_best(l.s)->id, 4, "a completed trial beats all that are not");
    lab_tell(&l, 3, 1, 0.05);
    cr_assert_eq(study_best(l.s)->id, 3, "ties by id, not by time");
    lab_close(&l);
}
