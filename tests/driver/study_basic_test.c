/* SPDX-License-Identifier: Apache-2.0
 *
 * The study core's first promises: trials are given, told, counted, replayed.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define RANDOM                                                                                     \
    "{'objective': {'metric': 'loss', 'direction': 'min'},"                                        \
    " 'searchspace': {'x': {'type': 'DOUBLE', 'range': [0, 1]}, 'n': {'type': 'INTEGER', "         \
    "'range': [1, 9]}},"                                                                           \
    " 'optimizer': {'algorithm': 'random'}, 'seed': 7, 'limits': "

TestSuite(study_basic, .timeout = 60);

Test(study_basic, a_search_of_ten_trials_completes_with_the_best)
{
    struct lab l;
    lab_open(&l, RANDOM "{'trials': 10}}", true);
    for (int i = 1; i <= 10; i++) {
        cr_assert_eq(lab_ask(&l, "c", 1), 1);
        cr_assert_eq(l.ev.grants[0].trial, i);
        cr_assert_eq(l.ev.grants[0].attempt, 1);
        cr_assert(l.ev.grants[0].created);
        cr_assert_eq(lab_state(&l, i), TRIAL_RUNNING);
        lab_advance(&l, 1);
        cr_assert_eq(study_state(l.s), STUDY_RUNNING);
        cr_assert_eq(lab_tell(&l, i, 1, fabs(i - 4.0)), TRIAL_COMPLETED);
    }
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(study_best(l.s)->id, 4);
    cr_assert_eq(lab_count(&l, TRIAL_COMPLETED), 10);
    cr_assert_eq(lab_ask(&l, "c", 1), 0);
    cr_assert(l.ev.done);
    cr_assert_eq(l.ev.seq, 0, "an answer that changes nothing is not recorded");
    cr_assert_eq(l.n_rows, 20);
    lab_close(&l);
}

Test(study_basic, the_limit_of_trials_counts_created_ids)
{
    struct lab l;
    lab_open(&l, RANDOM "{'trials': 5}}", true);
    cr_assert_eq(lab_ask(&l, "a", 1000), 5);
    cr_assert(l.ev.waiting);
    cr_assert_str_eq(l.ev.why_code, "trials-limit");
    cr_assert_eq(lab_ask(&l, "b", 1), 0);
    cr_assert(l.ev.waiting && !l.ev.done);
    cr_assert_eq(lab_simple(&l, EV_ENQUEUE, 0, "{'params': {'x': 0.5, 'n': 3}}"), MAG_LIMIT);
    cr_assert_eq(study_trials(l.s), 5);
    lab_close(&l);
}

Test(study_basic, a_repeated_request_gets_the_same_trials)
{
    struct lab l;
    lab_open(&l, RANDOM "{'trials': 100}}", true);
    struct event *ev = lab_event(&l, EV_ASK, 0, 0);
    ev->holder = xstrdup("c");
    ev->request = xstrdup("r1");
    ev->body_hash = xstrdup("h");
    ev->count = 3;
    cr_assert_eq(lab_apply(&l), MAG_OK);
    cr_assert_eq(l.ev.n_grants, 3);
    double x = l.ev.grants[2].point[0];
    for (int again = 0; again < 3; again++) {
        if (again == 1) {
            lab_restart(&l);
        }
        ev = lab_event(&l, EV_ASK, 0, 0);
        ev->holder = xstrdup("c");
        ev->request = xstrdup("r1");
        ev->body_hash = xstrdup(again == 2 ? "other" : "h");
        ev->count = 3;
        enum mag_status st = lab_apply(&l);
        if (again == 2) {
            cr_assert_eq(st, MAG_CONFLICT);
            break;
        }
        cr_assert_eq(st, MAG_OK);
        cr_assert_eq(l.ev.seq, 0);
        cr_assert_eq(l.ev.n_grants, 3);
        cr_assert_eq(l.ev.grants[2].trial, 3);
        cr_assert_eq(l.ev.grants[2].attempt, 1);
        cr_assert_eq(l.ev.grants[2].point[0], x);
        const struct event *known = study_request(l.s, "c", "r1");
        cr_assert_not_null(known);
        cr_assert_eq(known->n_grants, 3);
        cr_assert_str_eq(known->body_hash, "h");
    }
    cr_assert_null(study_request(l.s, "c", "r2"));
    cr_assert_null(study_request(l.s, "d", "r1"));
    lab_close(&l);
}

/* Trial by trial, whatever the order of asking, telling, dying and restarting. */
Test(study_basic, random_and_grid_give_the_same_trials_in_any_order_of_events)
{
    static const char *const searches[] = {
        RANDOM "{'trials': 24}}",
        "{'objective': {'metric': 'loss', 'direction': 'min'}, 'searchspace': {'a': ['INTEGER', "
        "[1, 6]],"
        " 'b': ['CATEGORICAL', ['p', 'q', 'r', 's']]}, 'optimizer': {'algorithm': 'grid'}}",
    };
    for (int k = 0; k < 2; k++) {
        struct lab calm, wild;
        lab_open(&calm, searches[k], true);
        for (int i = 1; i <= 24; i++) {
            cr_assert_eq(lab_ask(&calm, "c", 1), 1);
            lab_tell(&calm, i, 1, i);
        }
        cr_assert_eq(study_state(calm.s), STUDY_COMPLETED);
        lab_open(&wild, searches[k], true);
        while (study_trials(wild.s) < 24) {
            lab_ask_lease(&wild, "w", 7, 1000);
            lab_advance(&wild, 2);
            lab_tick(&wild); /* all seven are lost */
            lab_restart(&wild);
            cr_assert_gt(lab_ask_lease(&wild, "v", 9, 0), 0);
            for (int64_t id = study_trials(wild.s); id >= 1; id--) {
                const struct trial *t = study_trial(wild.s, id);
                if (t->state == TRIAL_RUNNING) {
                    lab_tell(&wild, id, t->attempt, (double)id);
                }
            }
        }
        cr_assert_eq(study_state(wild.s), STUDY_COMPLETED);
        for (int64_t id = 1; id <= 24; id++) {
            const double *a = study_trial(calm.s, id)->point, *b = study_trial(wild.s, id)->point;
            cr_assert_eq(memcmp(a, b, 2 * sizeof(double)), 0, "trial %lld of search %d",
                         (long long)id, k);
        }
        cr_assert_eq(study_best(calm.s)->id, study_best(wild.s)->id);
        lab_close(&calm);
        lab_close(&wild);
    }
}
