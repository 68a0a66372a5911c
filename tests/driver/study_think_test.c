/* SPDX-License-Identifier: Apache-2.0
 *
 * Slow optimizers in the study core: who asks for a point, and that a suggestion made elsewhere
 * changes nothing in the record. Every optimizer is taken for a slow one here, and each suggestion
 * is counted (linked with --wrap).
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"
#include "optimizers/optimizer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define RANDOM                                                                                     \
    "{'objective': {'metric': 'loss', 'direction': 'min'},"                                        \
    " 'searchspace': {'x': {'type': 'DOUBLE', 'range': [0, 1]}},"                                  \
    " 'optimizer': {'algorithm': 'random'}, 'seed': 7, 'limits': "
#define ASHA                                                                                       \
    "{'objective': {'metric': 'loss', 'direction': 'min'},"                                        \
    " 'searchspace': {'x': {'type': 'DOUBLE', 'range': [0, 1]}},"                                  \
    " 'optimizer': {'algorithm': 'asha', 'reduction_factor': 3}, 'seed': 7,"                       \
    " 'resource': {'unit': 'step', 'min': 1, 'max': 9}, 'limits': {'trials': 9}}"

static int outlines, points;
static int64_t exhausted_at; /* id from which no point is left, 0 = never */

void __real_optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                              struct opt_suggestion *out);
void __wrap_optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                              struct opt_suggestion *out);
bool __wrap_optimizer_is_slow(const struct optimizer *o);

bool __wrap_optimizer_is_slow(const struct optimizer *o)
{
    return true;
}

void __wrap_optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                              struct opt_suggestion *out)
{
    cr_assert(!lab_replaying, "a replay asked the optimizer");
    outlines += out->point == NULL;
    points += out->point != NULL && ask->may_create;
    __real_optimizer_suggest(o, ask, out);
    if (out->point != NULL && exhausted_at > 0 && ask->next_trial >= exhausted_at) {
        *out = (struct opt_suggestion){.answer = OPT_DONE,
                                       .point = out->point,
                                       .why_code = "space-exhausted",
                                       .why = "none left"};
    }
}

TestSuite(study_think, .timeout = 60);

/* What the shell does for an ask: the suggestion is computed apart. */
static void think(struct study *s)
{
    cr_assert(study_must_think(s));
    struct thought *t = study_thought(s);
    study_thought_run(t);
    study_thought_take(s, t);
    cr_assert(!study_must_think(s));
}

static void query(const struct study *s)
{
    char why[512];
    (void)study_has_work(s);
    (void)study_why(s, why, sizeof(why));
    (void)study_eta_s(s, 1);
    (void)study_digest(s);
}

Test(study_think, only_an_ask_needs_a_point)
{
    struct lab l;
    lab_open(&l, RANDOM "{'trials': 20}}", false);
    for (int i = 1; i <= 20; i++) {
        points = 0;
        query(l.s);
        cr_assert_eq(points, 0);
        think(l.s);
        cr_assert_eq(points, 1);
        query(l.s);
        cr_assert_eq(lab_ask(&l, "c", 1), 1);
        cr_assert_eq(points, 1, "the ask takes the suggestion that is there");
        (void)lab_report(&l, i, 1, 1, 0.5);
        (void)lab_simple(&l, EV_NOTE, 0, "{'notes': 'n'}");
        (void)lab_tell(&l, i, 1, 1.0 / i);
        query(l.s);
        cr_assert_eq(points, 1);
    }
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED,
                 "the limit of trials needs no point to be seen");
    lab_close(&l);
}

Test(study_think, an_ask_without_a_suggestion_makes_it_itself)
{
    struct lab l;
    lab_open(&l, RANDOM "{'trials': 6}}", true);
    points = 0;
    cr_assert_eq(lab_ask(&l, "c", 5), 5);
    cr_assert_eq(points, 5);
    cr_assert(study_must_think(l.s));
    lab_close(&l);
}

Test(study_think, what_changes_the_optimizer_takes_the_suggestion_back)
{
    struct lab l;
    lab_open(&l, RANDOM "{'trials': 6}}", true);
    cr_assert_eq(lab_ask(&l, "c", 2), 2);
    think(l.s);
    (void)lab_tell(&l, 1, 1, 0.5);
    cr_assert(study_must_think(l.s));
    lab_close(&l);
}

Test(study_think, trials_that_wait_and_limits_come_first)
{
    struct lab l;
    lab_open(&l, RANDOM "{'trials': 6, 'parallel': 2}}", true);
    cr_assert_eq(lab_ask(&l, "c", 2), 2);
    cr_assert(!study_must_think(l.s), "the limit of parallel trials is reached");
    (void)lab_tell_state(&l, 1, 1, TRIAL_WAITING, FAIL_NONE, NULL);
    cr_assert(!study_must_think(l.s), "trial 1 waits");
    cr_assert(study_has_work(l.s));
    cr_assert_eq(lab_ask(&l, "c", 1), 1);
    (void)lab_tell(&l, 1, 2, 0.5);
    cr_assert(study_must_think(l.s));
    cr_assert_eq(lab_simple(&l, EV_PAUSE, 0, NULL), MAG_OK);
    cr_assert(!study_must_think(l.s));
    lab_close(&l);
}

Test(study_think, promotions_need_no_point)
{
    struct lab l;
    lab_open(&l, ASHA, true);
    for (int i = 1; i <= 3; i++) {
        think(l.s);
        cr_assert_eq(lab_ask(&l, "c", 1), 1);
        (void)lab_report(&l, i, 1, 1, i);
    }
    points = 0;
    cr_assert(study_has_work(l.s) && !study_must_think(l.s));
    cr_assert_eq(lab_ask(&l, "c", 1), 1);
    cr_assert_eq(l.ev.grants[0].trial, 1);
    cr_assert_eq(l.ev.grants[0].attempt, 2);
    lab_close(&l);
}

Test(study_think, an_exhausted_space_ends_with_the_ask_that_finds_it)
{
    struct lab l;
    exhausted_at = 3;
    lab_open(&l, RANDOM "{'trials': 20}}", true);
    cr_assert_eq(lab_ask(&l, "c", 5), 2);
    cr_assert(!study_has_work(l.s), "others run and the space is exhausted: nothing to give");
    (void)lab_tell(&l, 1, 1, 1);
    (void)lab_tell(&l, 2, 1, 1);
    cr_assert_eq(study_state(l.s), STUDY_RUNNING, "nobody has looked for a point");
    think(l.s);
    cr_assert(study_has_work(l.s), "an ask would end it");
    cr_assert_eq(lab_ask(&l, "c", 1), 0);
    cr_assert(l.ev.done);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_restart(&l);
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    lab_close(&l);
    exhausted_at = 0;
}

/* With the thought or without it: the same bytes. */
Test(study_think, the_record_is_the_same_however_it_was_computed)
{
    struct lab a, b;
    lab_open(&a, RANDOM "{'trials': 12}}", true);
    lab_open(&b, RANDOM "{'trials': 12}}", true);
    for (int i = 1; i <= 12; i++) {
        think(a.s);
        (void)lab_ask(&a, "c", 1);
        (void)lab_ask(&b, "c", 1);
        (void)lab_tell(&a, i, 1, fabs(i - 5.0));
        (void)lab_tell(&b, i, 1, fabs(i - 5.0));
    }
    cr_assert_eq(a.n_rows, b.n_rows);
    for (int i = 0; i < a.n_rows; i++) {
        cr_assert_str_eq(a.rows[i].text, b.rows[i].text);
    }
    lab_close(&a);
    lab_close(&b);
}
