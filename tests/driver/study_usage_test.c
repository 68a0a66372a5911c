/* SPDX-License-Identifier: Apache-2.0
 *
 * What an experiment holds in storage, told by its record alone: the lab compares with a shadow
 * study after each event, so a restart counts the same.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <stdlib.h>

TestSuite(study_usage, .timeout = 60);

#define SEARCH(more)                                                                               \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5, 'optimizer': {'algorithm': 'random'}, 'limits': {'trials': 4}" more "}"

static struct study_usage usage(const struct lab *l)
{
    struct study_usage u;
    study_usage(l->s, &u);
    return u;
}

/* A step's value and its checkpoint of `bytes`, as a worker tells them. */
static void save(struct lab *l, int64_t trial, int64_t attempt, int64_t step, double value,
                 int64_t bytes)
{
    struct event *ev = lab_event(l, EV_REPORT, trial, attempt);
    event_add_point(ev, step, 1)->values[0].value = value;
    ev->checkpoint_step = step;
    ev->checkpoint_uri = xasprintf("file:/s/experiments/1/trials/%lld/checkpoints/%lld-%lld",
                                   (long long)trial, (long long)step, (long long)attempt);
    ev->checkpoint_meta = xasprintf("{\"bytes\":%lld,\"files\":1}", (long long)bytes);
    cr_assert_eq(lab_apply(l), MAG_OK, "%s", l->err.text);
}

Test(study_usage, the_newest_checkpoints_of_each_trial_count)
{
    struct lab l;
    lab_open(&l, SEARCH(", 'checkpoint': {'keep': 2}"), true);
    cr_assert_eq(lab_ask(&l, "w", 2), 2);
    save(&l, 1, 1, 1, 0.1, 1000);
    save(&l, 1, 1, 2, 0.2, 200);
    cr_expect_eq(usage(&l).checkpoint_bytes, 1200);
    save(&l, 1, 1, 3, 0.3, 30);
    cr_expect_eq(usage(&l).checkpoint_bytes, 230, "the worker removes the oldest");
    save(&l, 2, 1, 1, 0.1, 4);
    cr_expect_eq(usage(&l).checkpoint_bytes, 234);
    cr_expect_eq(usage(&l).checkpoints, 3);
    lab_restart(&l);
    cr_expect_eq(usage(&l).checkpoint_bytes, 234);
    cr_expect_eq(study_trial(l.s, 1)->n_kept, 2);
    lab_close(&l);
}

Test(study_usage, the_best_steps_checkpoint_counts_where_it_stays)
{
    struct lab l;
    lab_open(&l, SEARCH(", 'checkpoint': {'keep': 1, 'best': true}"), true);
    cr_assert_eq(lab_ask(&l, "w", 1), 1);
    save(&l, 1, 1, 1, 0.1, 1);
    save(&l, 1, 1, 2, 0.9, 20);
    save(&l, 1, 1, 3, 0.5, 300);
    cr_expect_eq(usage(&l).checkpoint_bytes, 320);
    save(&l, 1, 1, 4, 0.9, 4000);
    cr_expect_eq(usage(&l).checkpoint_bytes, 4020, "of equal values the earliest");
    save(&l, 1, 1, 5, 0.95, 50000);
    cr_expect_eq(usage(&l).checkpoint_bytes, 50000);
    lab_close(&l);
}

Test(study_usage, a_clients_own_checkpoints_do_not_count)
{
    struct lab l;
    lab_open(&l, SEARCH(""), true);
    cr_assert_eq(lab_ask(&l, "w", 1), 1);
    (void)lab_checkpoint(&l, 1, 1, 1, "s3://mine/1");
    cr_expect_eq(usage(&l).checkpoints, 0);
    lab_close(&l);
}

Test(study_usage, what_a_collection_found_gone_counts_no_more)
{
    struct lab l;
    lab_open(&l, SEARCH(", 'checkpoint': {'keep': 3}"), true);
    cr_assert_eq(lab_ask(&l, "w", 1), 1);
    for (int64_t step = 1; step <= 3; step++) {
        save(&l, 1, 1, step, 0.1, 10);
    }
    cr_expect_eq(lab_simple(&l, EV_COLLECTED, 0, "{'gone': [[1, 1, 1], [1, 2, 1], [1, 9, 1]]}"),
                 MAG_OK);
    cr_expect_eq(usage(&l).checkpoint_bytes, 10);
    cr_expect_eq(lab_simple(&l, EV_COLLECTED, 0, "{'gone': [[1, 1, 1], [7, 1, 1]]}"), MAG_OK);
    cr_expect_eq(l.ev.seq, 0, "nothing changed: nothing to record");
    static const char *const bad[] = {"{}", "{'gone': 1}", "{'gone': [[1, 1]]}",
                                      "{'gone': [[1, 1, -1]]}", "{'gone': [], 'more': 1}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect_eq(lab_simple(&l, EV_COLLECTED, 0, bad[i]), MAG_INVALID, "%s", bad[i]);
    }
    lab_restart(&l);
    cr_expect_eq(usage(&l).checkpoints, 1);
    lab_close(&l);
}

Test(study_usage, what_attempts_wrote_counts_once)
{
    struct lab l;
    lab_open(&l, SEARCH(""), true);
    cr_assert_eq(lab_ask(&l, "w", 1), 1);
    for (int i = 0; i < 2; i++) {
        struct event *ev = lab_event(&l, EV_TELL, 1, 1);
        ev->told = TRIAL_COMPLETED;
        ev->has_value = true;
        ev->value = 0.5;
        ev->detail = json_pack("{s:I}", "stored", (json_int_t)777);
        cr_assert_eq(lab_apply(&l), MAG_OK);
    }
    cr_expect_eq(usage(&l).log_bytes, 777);
    lab_restart(&l);
    cr_expect_eq(usage(&l).log_bytes, 777);
    lab_close(&l);
}
