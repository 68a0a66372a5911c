/* SPDX-License-Identifier: Apache-2.0
 *
 * What is said to come next is what comes: whoever puts trials together looks before asking.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(study_next, .timeout = 120);

#define OPEN_MAX 1000

struct play {
    struct lab lab;
    struct pcg64 g;
    struct event_grant open[OPEN_MAX]; /* without their strings */
    int n_open;
    int asked, given, resumed;
};

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* One ask, with what study_next and study_room said before it. */
static void ask(struct play *p)
{
    struct lab *l = &p->lab;
    struct study_next next = {0};
    int64_t trials = 0;
    int64_t places = 0;
    bool known = study_next(l->s, &next);
    study_room(l->s, &trials, &places);
    double point[16] = {0};
    int n = study_spec(l->s)->space->n;
    for (int i = 0; known && i < n; i++) {
        point[i] = next.point[i];
    }
    int given = lab_ask_lease(l, "w", 1, 5000);
    p->asked++;
    cr_assert_eq(given, known ? 1 : 0, "it said %d and gave %d", known, given);
    if (given == 0) {
        return;
    }
    const struct event_grant *g = &l->ev.grants[0];
    const struct trial *t = study_trial(l->s, g->trial);
    cr_assert(trials >= 1 && places >= 1, "it had no room and gave trial %lld", (long long)g->trial);
    cr_assert_eq(g->budget, next.budget);
    cr_assert_eq(t->fold, next.fold);
    cr_assert_eq(t->failures > 0, next.failed);
    cr_assert_eq(g->resume_uri != NULL ? g->resume_step : -1, next.resume_step);
    for (int i = 0; i < n; i++) {
        cr_assert(same(t->point[i], point[i]), "trial %lld has another point", (long long)t->id);
    }
    p->given++;
    p->resumed += g->resume_uri != NULL;
    if (p->n_open < OPEN_MAX) {
        p->open[p->n_open++] = (struct event_grant){
            .trial = g->trial, .attempt = g->attempt, .budget = g->budget};
    }
}

static void end_one(struct play *p)
{
    struct lab *l = &p->lab;
    int k = (int)pcg64_below(&p->g, (uint64_t)p->n_open);
    struct event_grant g = p->open[k];
    p->open[k] = p->open[--p->n_open];
    const struct trial *t = study_trial(l->s, g.trial);
    if (t->state != TRIAL_RUNNING || t->attempt != g.attempt) {
        return; /* its lease ran out, or its point has ended */
    }
    int64_t step = g.budget > 0 ? g.budget : 1;
    uint64_t how = pcg64_below(&p->g, 10);
    char uri[64];
    (void)snprintf(uri, sizeof(uri), "file:/x/trials/%lld/checkpoints/%lld-%lld",
                   (long long)g.trial, (long long)step, (long long)g.attempt);
    (void)lab_checkpoint(l, g.trial, g.attempt, step, uri);
    if (how == 0) {
        (void)lab_tell_state(l, g.trial, g.attempt, TRIAL_FAILED, FAIL_SIGNAL, "it died");
    } else if (how == 1) {
        (void)lab_tell_state(l, g.trial, g.attempt, TRIAL_WAITING, FAIL_NONE, "given back");
    } else if (how > 2 && lab_report(l, g.trial, g.attempt, step, pcg64_double(&p->g)) == ACT_CONTINUE) {
        (void)lab_tell(l, g.trial, g.attempt, 0.5);
    } /* else it is never heard of again */
}

Test(study_next, what_it_says_comes_next_is_what_an_ask_gives)
{
    int resumed = 0;
    for (int which = 0; which < LAB_SEARCHES; which++) {
        static struct play p;
        p = (struct play){0};
        pcg_stream(&p.g, 11, "play", (uint64_t)which);
        lab_open(&p.lab, lab_search(which), true);
        for (int i = 0; i < 400 && study_state(p.lab.s) != STUDY_COMPLETED; i++) {
            if (study_state(p.lab.s) == STUDY_PAUSED) {
                (void)lab_simple(&p.lab, EV_RESUME, 0, NULL);
            }
            ask(&p);
            for (uint64_t n = pcg64_below(&p.g, 3); n > 0 && p.n_open > 0; n--) {
                end_one(&p);
            }
            lab_advance(&p.lab, 1);
            (void)lab_tick(&p.lab);
        }
        cr_assert(p.given > 10, "%s gave %d trials", lab_search(which), p.given);
        resumed += p.resumed;
        lab_close(&p.lab);
    }
    cr_assert(resumed > 0);
}
