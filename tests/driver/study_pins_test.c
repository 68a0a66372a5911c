/* SPDX-License-Identifier: Apache-2.0
 *
 * A checkpoint that copies of a trial go on from is pinned until each has one of its own or ends.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <stdlib.h>

TestSuite(study_pins, .timeout = 60);

#define PBT                                                                                        \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5, 'resource': {'min': 1, 'max': 9}, 'optimizer': {'algorithm': 'pbt', "        \
    "'population': 4, 'interval': 3, 'quantile': 0.5}, 'limits': {'trials': 8}}"

static int pins(const struct lab *l, int64_t trial, struct study_pin *first)
{
    struct study_pin *list = NULL;
    int n = study_pins(l->s, trial, &list);
    if (n > 0) {
        *first = list[0];
    }
    free(list);
    return n;
}

static void train(struct lab *l, int64_t trial, int64_t attempt, int64_t step, double value)
{
    char *uri = xasprintf("file:/s/experiments/1/trials/%lld/checkpoints/%lld-%lld",
                          (long long)trial, (long long)step, (long long)attempt);
    (void)lab_checkpoint(l, trial, attempt, step, uri);
    (void)lab_report(l, trial, attempt, step, value);
    free(uri);
}

/* Four members; the worst is replaced by a copy of a good one. The copy's number, its parent's in
 * *ret. */
static int64_t make_copy(struct lab *l, int64_t *ret)
{
    cr_assert_eq(lab_ask(l, "c", 4), 4);
    for (int64_t t = 1; t <= 4; t++) {
        train(l, t, 1, 3, 1 - 0.1 * (double)t);
    }
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(lab_ask(l, "c", 1), 1);
        const struct trial *t = study_trial(l->s, l->ev.grants[0].trial);
        if (t->parent > 0) {
            *ret = t->parent;
            return t->id;
        }
        train(l, t->id, t->attempt, t->budget, 1 - 0.1 * (double)t->id);
    }
    cr_assert_fail("no copy was made");
    return 0;
}

Test(study_pins, a_copy_pins_its_parents_checkpoint_until_it_has_its_own)
{
    struct lab l;
    struct study_pin pin = {0};
    int64_t parent = 0;
    lab_open(&l, PBT, true);
    int64_t copy = make_copy(&l, &parent);
    cr_assert_eq(pins(&l, parent, &pin), 1);
    cr_expect_eq(pin.trial, parent);
    cr_expect_eq(pin.step, study_trial(l.s, copy)->checkpoint_step);
    cr_expect_eq(pins(&l, copy, &pin), 0);
    lab_restart(&l);
    cr_expect_eq(pins(&l, parent, &pin), 1, "a restart knows it");
    train(&l, copy, 1, pin.step + 1, 0.5);
    cr_expect_eq(pins(&l, parent, &pin), 0);
    lab_close(&l);
}

Test(study_pins, a_copy_that_has_ended_pins_nothing)
{
    struct lab l;
    struct study_pin pin = {0};
    int64_t parent = 0;
    lab_open(&l, PBT, true);
    int64_t copy = make_copy(&l, &parent);
    cr_assert_eq(pins(&l, parent, &pin), 1);
    (void)lab_tell_state(&l, copy, 1, TRIAL_FAILED, FAIL_PROGRAM, "no");
    cr_expect_eq(lab_state(&l, copy), TRIAL_FAILED);
    cr_expect_eq(pins(&l, parent, &pin), 0);
    lab_close(&l);
}

static bool claimed(struct lab *l, int64_t trial, int64_t step)
{
    struct study_pin *list = NULL;
    int n = study_claims(l->s, trial, trial, &list);
    bool found = false;
    for (int i = 0; i < n; i++) {
        cr_expect_eq(list[i].trial, trial);
        found = found || list[i].step == step;
    }
    free(list);
    return found;
}

Test(study_pins, an_ended_copy_without_a_checkpoint_of_its_own_still_claims_its_parents)
{
    struct lab l;
    int64_t parent = 0;
    lab_open(&l, PBT, true);
    int64_t copy = make_copy(&l, &parent);
    int64_t step = study_trial(l.s, copy)->checkpoint_step;
    (void)lab_tell_state(&l, copy, 1, TRIAL_FAILED, FAIL_PROGRAM, "no");
    cr_expect(claimed(&l, parent, step));
    cr_expect(claimed(&l, parent, study_trial(l.s, parent)->checkpoint_step), "and its own");
    cr_expect_not(claimed(&l, copy, step), "names are of one trial");
    lab_close(&l);
}

Test(study_pins, names_of_checkpoints_are_read_and_others_are_not)
{
    struct study_pin p;
    cr_assert(
        study_checkpoint_name("s3://b/trials/x/u/experiments/1/trials/12/checkpoints/7-3", &p));
    cr_expect_eq(p.trial, 12);
    cr_expect_eq(p.step, 7);
    cr_expect_eq(p.attempt, 3);
    cr_expect_not(study_checkpoint_name(NULL, &p));
    cr_expect_not(study_checkpoint_name("somewhere/else", &p));
    cr_expect_not(study_checkpoint_name("a/trials/1/checkpoints/7", &p));
    cr_expect_not(study_checkpoint_name("a/trials/1/checkpoints/7-3/x", &p));
}
