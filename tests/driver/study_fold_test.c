/* SPDX-License-Identifier: Apache-2.0
 *
 * "validation" in the study core: points of several folds, their mean, early ends, the refit; and
 * that all of it comes back from the record (every lab has a shadow, and closes by verifying).
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define SEARCH(algorithm, more)                                                                    \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'optimizer': {'algorithm': '" algorithm "'}, 'seed': 7, " more "}"
#define FOLDS(more) SEARCH("random", "'validation': {'folds': 3, 'refit': false}, " more)
#define REFIT(more) SEARCH("random", "'validation': {'folds': 2}, " more)

TestSuite(study_fold, .timeout = 60);

static int64_t ask(struct lab *l)
{
    cr_assert_eq(lab_ask(l, "c", 1), 1, "nothing to do");
    return l->ev.grants[0].trial;
}

static const struct trial *at(const struct lab *l, int64_t id)
{
    return study_trial(l->s, id);
}

static void run(struct lab *l, double value)
{
    int64_t id = ask(l);
    cr_assert_eq(lab_tell(l, id, at(l, id)->attempt, value), TRIAL_COMPLETED);
}

Test(study_fold, a_point_is_one_trial_a_fold_and_counts_by_their_mean)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 2}"), true);
    run(&l, 0.7);
    run(&l, 0.9);
    cr_assert_null(study_best(l.s), "a point with an open fold has no value yet");
    cr_assert_eq(study_point_state(l.s, at(&l, 1)), TRIAL_RUNNING);
    run(&l, 0.8);
    cr_assert_eq(study_points(l.s), 1);
    cr_assert_eq(study_trials(l.s), 3);
    for (int64_t id = 1; id <= 3; id++) {
        cr_assert_eq(at(&l, id)->point_of, 1);
        cr_assert_eq(at(&l, id)->fold, id);
        cr_assert_eq(at(&l, id)->point[0], at(&l, 1)->point[0]);
    }
    struct point_stat stat = study_point_stat(l.s, at(&l, 2), 0);
    cr_assert_eq(stat.n, 3);
    cr_assert_float_eq(stat.mean, 0.8, 1e-12);
    cr_assert_float_eq(stat.deviation, 0.1, 1e-12);
    cr_assert_eq(study_best(l.s)->id, 1);
    for (int i = 0; i < 3; i++) {
        run(&l, 0.6);
    }
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED, "the limit of trials counts points");
    cr_assert_eq(study_trials(l.s), 6);
    cr_assert_eq(study_best(l.s)->id, 1);
    lab_close(&l);
}

Test(study_fold, points_are_those_of_a_search_without_folds)
{
    struct lab with, without;
    lab_open(&with, FOLDS("'limits': {'trials': 4}"), false);
    lab_open(&without, SEARCH("random", "'limits': {'trials': 4}"), false);
    for (int i = 0; i < 12; i++) {
        run(&with, 0.5);
    }
    for (int i = 0; i < 4; i++) {
        run(&without, 0.5);
        cr_assert_eq(at(&with, 3 * i + 1)->point[0], at(&without, i + 1)->point[0], "point %d", i);
    }
    lab_close(&with);
    lab_close(&without);
}

Test(study_fold, folds_run_side_by_side_and_parallel_counts_them)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 4, 'parallel': 5}"), true);
    cr_assert_eq(lab_ask(&l, "c", 100), 5);
    cr_assert_eq(study_points(l.s), 2);
    cr_assert_eq(lab_ask(&l, "c", 1), 0);
    (void)lab_tell(&l, 5, 1, 0.5);
    cr_assert_eq(ask(&l), 6, "the open point's last fold comes before a new point");
    lab_close(&l);
}

Test(study_fold, the_mean_does_not_depend_on_the_order_in_which_folds_end)
{
    static const int order[2][3] = {{1, 2, 3}, {3, 1, 2}};
    static const double values[] = {0.1, 0.2, 0.7000000001};
    double mean[2];
    for (int k = 0; k < 2; k++) {
        struct lab l;
        lab_open(&l, FOLDS("'limits': {'trials': 1}"), true);
        cr_assert_eq(lab_ask(&l, "c", 3), 3);
        for (int i = 0; i < 3; i++) {
            (void)lab_tell(&l, order[k][i], 1, values[order[k][i] - 1]);
        }
        mean[k] = study_measure(l.s, at(&l, 1), 0);
        lab_close(&l);
    }
    cr_assert_eq(mean[0], mean[1]);
}

Test(study_fold, a_fold_that_fails_fails_its_point_and_names_itself)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 2, 'retries': 1}"), true);
    cr_assert_eq(lab_ask(&l, "c", 2), 2);
    cr_assert_eq(lab_tell_state(&l, 2, 1, TRIAL_FAILED, FAIL_SIGNAL, "killed"), TRIAL_WAITING,
                 "a fold is tried again like any trial");
    cr_assert_eq(lab_state(&l, 1), TRIAL_RUNNING);
    cr_assert_eq(ask(&l), 3);
    cr_assert_eq(ask(&l), 2);
    cr_assert_eq(lab_tell_state(&l, 2, 2, TRIAL_FAILED, FAIL_SIGNAL, "killed again"), TRIAL_FAILED);
    cr_assert_eq(lab_state(&l, 1), TRIAL_STOPPED);
    cr_assert_eq(lab_state(&l, 3), TRIAL_STOPPED);
    cr_assert_str_eq(at(&l, 3)->reason,
                     "fold 2 of 3 of its point (trial 2) failed: killed again");
    cr_assert_eq(study_point_state(l.s, at(&l, 1)), TRIAL_FAILED);
    cr_assert_eq(ask(&l), 4, "the search goes on with the next point");
    cr_assert_eq(lab_tell(&l, 1, 1, 0.5), TRIAL_STOPPED, "a fold that ran on is late");
    lab_close(&l);
}

Test(study_fold, a_nan_fails_the_fold_and_its_point)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 2}"), true);
    run(&l, 0.5);
    int64_t id = ask(&l);
    cr_assert_eq(lab_report(&l, id, 1, 1, NAN), ACT_STOP);
    cr_assert_eq(lab_state(&l, 1), TRIAL_COMPLETED);
    cr_assert_eq(lab_state(&l, 2), TRIAL_FAILED);
    cr_assert_eq(lab_state(&l, 3), TRIAL_STOPPED);
    cr_assert_eq(study_point_state(l.s, at(&l, 1)), TRIAL_FAILED);
    cr_assert_null(study_best(l.s));
    lab_close(&l);
}

Test(study_fold, failures_in_a_row_are_seen_although_other_folds_succeed)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 20, 'failures': 3}"), true);
    for (int i = 0; i < 3; i++) {
        run(&l, 0.5);
        int64_t id = ask(&l);
        cr_assert_eq(lab_tell_state(&l, id, 1, TRIAL_FAILED, FAIL_PROGRAM, "no"), TRIAL_FAILED);
    }
    cr_assert_eq(study_state(l.s), STUDY_PAUSED);
    lab_close(&l);
}

Test(study_fold, a_hopeless_point_ends_after_some_of_its_folds)
{
    struct lab l;
    lab_open(&l,
             FOLDS("'limits': {'trials': 9}, 'early_stopping': {'rule': 'median', 'min_trials': "
                   "2, 'min_step': 2}"),
             true);
    for (int i = 0; i < 9; i++) {
        run(&l, 0.9);
    }
    cr_assert_eq(lab_ask(&l, "c", 2), 2);
    (void)lab_tell(&l, 10, 1, 0.1);
    cr_assert_eq(lab_state(&l, 11), TRIAL_RUNNING, "one fold is too few to judge");
    (void)lab_tell(&l, 11, 1, 0.2);
    cr_assert_eq(lab_state(&l, 11), TRIAL_COMPLETED);
    cr_assert_eq(lab_state(&l, 12), TRIAL_STOPPED, "the last fold is not run");
    cr_assert_eq(at(&l, 12)->attempt, 0);
    cr_assert_not_null(strstr(at(&l, 12)->reason, "the point ends after fold 2 of 3"));
    cr_assert_eq(study_point_state(l.s, at(&l, 10)), TRIAL_STOPPED);
    cr_assert_eq(study_best(l.s)->id, 1);
    cr_assert_eq(ask(&l), 13);
    lab_close(&l);
}

Test(study_fold, wilcoxon_compares_fold_by_fold_in_whatever_order_they_end)
{
    struct lab l;
    lab_open(&l,
             SEARCH("random",
                    "'validation': {'folds': 5, 'refit': false}, 'limits': {'trials': 3}, "
                    "'early_stopping': {'rule': 'wilcoxon', 'p_threshold': 0.2}"),
             true);
    cr_assert_eq(lab_ask(&l, "c", 5), 5);
    for (int64_t id = 5; id >= 1; id--) {
        (void)lab_tell(&l, id, 1, 0.5 + 0.1 * (double)id);
    }
    cr_assert_eq(lab_ask(&l, "c", 5), 5);
    (void)lab_tell(&l, 10, 1, 0.99); /* alone it is as good as the mean, in its own fold it is not */
    (void)lab_tell(&l, 8, 1, 0.6);
    (void)lab_tell(&l, 6, 1, 0.2);
    cr_assert_eq(lab_state(&l, 7), TRIAL_STOPPED, "three folds, each worse than its counterpart");
    cr_assert_not_null(strstr(at(&l, 7)->reason, "of trial 1, the best, over 3 common steps"), "%s",
                       at(&l, 7)->reason);
    lab_close(&l);
}

Test(study_fold, the_target_is_for_whole_points)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 9, 'target': 0.8}"), true);
    run(&l, 0.9);
    run(&l, 0.9);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    run(&l, 0.5);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING, "the mean is below it");
    cr_assert_eq(lab_ask(&l, "c", 4), 4);
    (void)lab_tell(&l, 4, 1, 0.9);
    (void)lab_tell(&l, 6, 1, 0.9);
    (void)lab_tell(&l, 5, 1, 0.7);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(lab_state(&l, 7), TRIAL_STOPPED);
    lab_close(&l);
}

Test(study_fold, cancelling_a_fold_cancels_its_point)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 2}"), true);
    cr_assert_eq(lab_ask(&l, "c", 2), 2);
    cr_assert_eq(lab_simple(&l, EV_TRIAL_CANCEL, 2, NULL), MAG_OK);
    for (int64_t id = 1; id <= 3; id++) {
        cr_assert_eq(lab_state(&l, id), TRIAL_CANCELLED, "trial %lld", (long long)id);
    }
    lab_close(&l);
}

Test(study_fold, a_point_runs_again_with_all_its_folds)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 3}"), true);
    run(&l, 0.5);
    cr_assert_eq(lab_simple(&l, EV_TRIAL_RETRY, 1, NULL), MAG_CONFLICT, "its other folds wait");
    int64_t id = ask(&l);
    (void)lab_tell_state(&l, id, 1, TRIAL_FAILED, FAIL_PROGRAM, "no");
    cr_assert_eq(lab_simple(&l, EV_TRIAL_RETRY, 2, NULL), MAG_OK, "%s", l.err.text);
    cr_assert_eq(l.ev.created_trial, 4);
    for (int64_t k = 4; k <= 6; k++) {
        cr_assert_eq(at(&l, k)->rerun_of, k - 3);
        cr_assert_eq(at(&l, k)->point[0], at(&l, 1)->point[0]);
    }
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.25}}"), MAG_OK);
    cr_assert_eq(at(&l, 9)->point[0], 0.25);
    cr_assert_eq(at(&l, 9)->fold, 3);
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.5}}"), MAG_LIMIT);
    lab_close(&l);
}

Test(study_fold, an_extension_counts_points_and_keeps_within_the_limit_of_trials)
{
    struct lab l;
    lab_open(&l, FOLDS("'limits': {'trials': 2}"), true);
    for (int i = 0; i < 6; i++) {
        run(&l, 0.5);
    }
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 1}"), MAG_INVALID);
    cr_assert_str_eq(l.err.text,
                     "/trials: is the new total; the experiment has created 2 points already");
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 3333333}"), MAG_OK, "%s", l.err.text);
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 3333334}"), MAG_INVALID);
    cr_assert_eq(ask(&l), 7);
    lab_close(&l);
}

/* ---- the refit ---- */

static void search(struct lab *l, int points)
{
    for (int i = 0; i < points; i++) {
        run(l, 0.5 + 0.1 * i);
        run(l, 0.5 + 0.1 * i);
    }
}

Test(study_fold, the_best_point_is_refitted_before_the_experiment_completes)
{
    struct lab l;
    char why[512];
    lab_open(&l, REFIT("'limits': {'trials': 3}"), true);
    search(&l, 3);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    cr_assert_eq(l.ev.refit, 5, "the event of the last fold makes it");
    cr_assert_str_eq(study_why(l.s, why, sizeof(why)), "no-taker");
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.25}}"), MAG_CONFLICT);
    cr_assert_eq(ask(&l), 7);
    cr_assert_str_eq(study_why(l.s, why, sizeof(why)), "refit");
    cr_assert_eq(lab_ask(&l, "d", 1), 0, "nobody gets anything beside it");
    cr_assert_not(l.ev.done);
    cr_assert(trial_is_refit(at(&l, 7)));
    cr_assert_eq(at(&l, 7)->point_of, 5);
    cr_assert_eq(at(&l, 7)->point[0], at(&l, 5)->point[0]);
    (void)lab_checkpoint(&l, 7, 1, 4, "ck/7");
    struct event *ev = lab_event(&l, EV_TELL, 7, 1);
    ev->told = TRIAL_COMPLETED; /* on all data there is nothing to measure by */
    cr_assert_eq(lab_apply(&l), MAG_OK, "%s", l.err.text);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_str_eq(study_why(l.s, why, sizeof(why)), "trials-done");
    cr_assert_str_eq(why, "all 3 points have run; point 5 was refitted as trial 7");
    cr_assert_eq(study_best(l.s)->id, 5, "the refit itself is judged by nobody");
    cr_assert_eq(study_refit(l.s)->id, 7);
    lab_close(&l);
}

Test(study_fold, a_refit_that_fails_completes_the_search_says_so_and_may_run_again)
{
    struct lab l;
    char why[512];
    lab_open(&l, REFIT("'limits': {'trials': 1}"), true);
    search(&l, 1);
    cr_assert_eq(ask(&l), 3);
    (void)lab_tell_state(&l, 3, 1, TRIAL_FAILED, FAIL_PROGRAM, "disk full");
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    (void)study_why(l.s, why, sizeof(why));
    cr_assert_str_eq(why, "all 1 points have run; the refit of point 1 (trial 3) failed: disk full");
    cr_assert_eq(lab_simple(&l, EV_TRIAL_RETRY, 3, NULL), MAG_OK, "%s", l.err.text);
    cr_assert_eq(l.ev.created_trial, 4);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    run(&l, 0.1);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(study_best(l.s)->id, 1);
    cr_assert_eq(at(&l, 4)->rerun_of, 3);
    lab_close(&l);
}

Test(study_fold, a_search_that_is_extended_refits_again_only_what_is_better)
{
    struct lab l;
    lab_open(&l, REFIT("'limits': {'trials': 1}"), true);
    search(&l, 1);
    run(&l, 0.1); /* the refit, trial 3 */
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 2}"), MAG_OK);
    run(&l, 0.2);
    run(&l, 0.2);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED, "trial 1 is the best still, and refitted");
    cr_assert_eq(lab_simple(&l, EV_EXTEND, 0, "{'trials': 3}"), MAG_OK);
    run(&l, 0.9);
    run(&l, 0.9);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    run(&l, NAN); /* a refit's measure is nobody's business */
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(study_refit(l.s)->point_of, 6);
    lab_close(&l);
}

Test(study_fold, the_target_ends_the_search_and_the_refit_follows)
{
    struct lab l;
    char why[512];
    lab_open(&l, REFIT("'limits': {'trials': 9, 'target': 0.8}"), true);
    cr_assert_eq(lab_ask(&l, "c", 3), 3);
    (void)lab_tell(&l, 1, 1, 0.9);
    (void)lab_tell(&l, 2, 1, 0.9);
    cr_assert_eq(lab_state(&l, 3), TRIAL_STOPPED);
    cr_assert_eq(lab_state(&l, 4), TRIAL_STOPPED);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING);
    run(&l, 0);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_str_eq(study_why(l.s, why, sizeof(why)), "target-reached");
    lab_close(&l);
}

Test(study_fold, the_time_limit_leaves_no_time_for_a_refit)
{
    struct lab l;
    lab_open(&l, REFIT("'limits': {'trials': 9, 'time': 10}"), true);
    search(&l, 1);
    lab_advance(&l, 20);
    cr_assert_geq(lab_tick(&l), 1);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_null(study_refit(l.s));
    lab_close(&l);
}

Test(study_fold, an_ask_that_finds_the_space_exhausted_leads_to_the_refit)
{
    struct lab l;
    lab_open(&l,
             "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': "
             "['INTEGER', [1, 2]]}, 'optimizer': {'algorithm': 'grid'}, 'seed': 7, 'validation': "
             "{'folds': 2}}",
             false);
    study_pretend_slow(l.s);
    search(&l, 2);
    if (study_refit(l.s) == NULL) { /* a slow optimizer tells its end to an ask alone */
        cr_assert_eq(lab_ask(&l, "c", 1), 0);
        cr_assert_not(l.ev.done, "there is something to come");
        cr_assert(l.ev.waiting);
    }
    run(&l, 0.1);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    study_destroy(lab_replay(&l, l.n_rows));
    lab_restart(&l);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_close(&l);
}

Test(study_fold, one_split_goes_with_every_algorithm_and_is_refitted_too)
{
    struct lab l;
    lab_open(&l,
             SEARCH("asha",
                    "'resource': {'min': 1, 'max': 4}, 'validation': {'train_ratio': 0.75}, "
                    "'limits': {'trials': 4}"),
             true);
    for (int i = 0; study_refit(l.s) == NULL; i++) {
        cr_assert_lt(i, 100);
        int64_t id = ask(&l);
        const struct trial *t = at(&l, id);
        (void)lab_report(&l, id, t->attempt, t->budget, t->point[0]);
        if (lab_state(&l, id) == TRIAL_RUNNING) {
            (void)lab_tell(&l, id, t->attempt, t->point[0]);
        }
    }
    const struct trial *refit = study_refit(l.s);
    cr_assert_eq(refit->budget, 4, "the refit gets the whole budget");
    cr_assert_eq(refit->point_of, study_best(l.s)->id);
    cr_assert_eq(study_best(l.s)->state, TRIAL_PAUSED, "none reached the last rung");
    run(&l, 0.1);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(study_points(l.s), 4);
    lab_close(&l);
}
