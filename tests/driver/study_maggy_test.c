/* SPDX-License-Identifier: Apache-2.0
 *
 * The faults of Maggy's optimizers, each as the claim that it broke, on the whole study.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(study_maggy, .timeout = 300);

#define LOSS "{'objective': {'metric': 'm', 'direction': 'min'}, "
#define GAIN "{'objective': {'metric': 'm', 'direction': 'max'}, "
#define SEED "'seed': 11, "
#define XY "'searchspace': {'x': ['DOUBLE', [0, 1]], 'y': ['DOUBLE', [-2, 2]]}, "

/* Maggy promoted the highest metric whatever the direction. */
Test(study_maggy, asha_promotes_the_lowest_loss_and_the_highest_accuracy)
{
    static const char rest[] = SEED XY
        "'optimizer': {'algorithm': 'asha', 'reduction_factor': 3}, 'resource': {'min': 1, 'max': 9}, "
        "'limits': {'trials': 9}}";
    for (int max = 0; max < 2; max++) {
        struct lab l;
        char *spec = xasprintf("%s%s", max ? GAIN : LOSS, rest);
        lab_open(&l, spec, true);
        cr_assert_eq(lab_ask(&l, "w", 3), 3);
        for (int i = 1; i <= 3; i++) {
            cr_assert_eq(lab_report(&l, i, 1, 1, 0.1 * i), ACT_PAUSE);
        }
        cr_assert_eq(lab_ask(&l, "w", 1), 1);
        cr_assert_eq(l.ev.grants[0].trial, max ? 3 : 1);
        cr_assert_eq(l.ev.grants[0].budget, 3);
        lab_close(&l);
        free(spec);
    }
}

/* ---- signs of what is pending ---- */

static double bowl(const double *p)
{
    return (p[0] - 0.3) * (p[0] - 0.3) + (p[1] - 1) * (p[1] - 1);
}

/* The points of a search with three trials pending all the time; `sign` -1 tells negated values. */
static int points_of(const char *algorithm, bool max, double *ret, int trials)
{
    struct lab l;
    char *spec = xasprintf("%s" SEED XY "'optimizer': {'algorithm': '%s'}, 'limits': {'trials': %d}}",
                           max ? GAIN : LOSS, algorithm, trials);
    double value[64] = {0};
    int n = 0;
    lab_open(&l, spec, false);
    for (int told = 1; told <= trials; told++) {
        while (n < trials && n < told + 3) {
            cr_assert_eq(lab_ask(&l, "w", 1), 1);
            const struct event_grant *g = &l.ev.grants[0];
            value[g->trial] = bowl(g->point);
            memcpy(ret + 2 * n, g->point, 2 * sizeof(double));
            n++;
        }
        cr_assert_eq(lab_tell(&l, told, 1, max ? -value[told] : value[told]), TRIAL_COMPLETED);
    }
    lab_close(&l);
    free(spec);
    return n;
}

/* Maggy's GP gave the values that it imagined for pending trials the wrong sign under "max". */
Test(study_maggy, models_see_pending_trials_alike_under_both_directions)
{
    static const char *const algorithms[] = {"gp", "tpe", "cmaes", "portfolio", "de"};
    for (size_t a = 0; a < sizeof(algorithms) / sizeof(algorithms[0]); a++) {
        double up[64], down[64];
        int n = points_of(algorithms[a], true, up, 28);
        cr_assert_eq(points_of(algorithms[a], false, down, 28), n);
        cr_assert_arr_eq(up, down, 2 * (size_t)n * sizeof(double), "%s", algorithms[a]);
    }
}

/* ---- the metric's name ---- */

/* Maggy took the first value of a dict, whatever optimization_key said. */
Test(study_maggy, the_objective_is_found_by_its_name_wherever_it_stands)
{
    struct lab l;
    lab_open(&l,
             "{'objective': {'metric': 'f1', 'direction': 'max'}, " SEED XY
             "'optimizer': {'algorithm': 'random'}, 'limits': {'trials': 1}}",
             true);
    cr_assert_eq(lab_ask(&l, "w", 1), 1);
    struct event *ev = lab_event(&l, EV_REPORT, 1, 1);
    struct event_point *p = event_add_point(ev, 1, 3);
    p->values[0] = (struct event_value){xstrdup("accuracy"), 0.9};
    p->values[1] = (struct event_value){xstrdup("f1"), 0.4};
    p->values[2] = (struct event_value){xstrdup("loss"), 3};
    cr_assert_eq(lab_apply(&l), MAG_OK, "%s", l.err.text);
    ev = lab_event(&l, EV_TELL, 1, 1);
    ev->told = TRIAL_COMPLETED;
    cr_assert_eq(lab_apply(&l), MAG_OK, "%s", l.err.text);
    const struct trial *t = study_best(l.s);
    cr_assert_not_null(t);
    cr_assert_float_eq(t->value, 0.4, 1e-12);
    lab_close(&l);
}

/* ---- ids ---- */

/* Maggy's id was a hash of the parameters: the same point twice was one trial, and its second end
 * stopped the server. */
Test(study_maggy, ids_are_numbers_and_no_point_of_a_small_space_comes_twice)
{
    struct lab l;
    bool seen[4] = {false};
    lab_open(&l,
             LOSS SEED "'searchspace': {'n': ['INTEGER', [1, 3]]}, 'optimizer': {'algorithm': "
                       "'random'}, 'limits': {'trials': 6}}",
             true);
    cr_assert_eq(lab_ask(&l, "w", 6), 3);
    for (int i = 0; i < 3; i++) {
        int n = (int)l.ev.grants[i].point[0];
        cr_assert_eq(l.ev.grants[i].trial, i + 1);
        cr_assert(n >= 1 && n <= 3 && !seen[n], "%d", n);
        seen[n] = true;
    }
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(lab_tell(&l, i, 1, i), TRIAL_COMPLETED);
        cr_assert_eq(lab_tell(&l, i, 1, i), TRIAL_COMPLETED); /* told again: the same answer */
    }
    cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
    cr_assert_eq(lab_count(&l, TRIAL_COMPLETED), 3);
    lab_close(&l);
}

Test(study_maggy, the_same_point_run_again_on_purpose_is_a_trial_of_its_own)
{
    struct lab l;
    lab_open(&l,
             LOSS SEED "'searchspace': {'n': ['INTEGER', [1, 3]]}, 'optimizer': {'algorithm': "
                       "'random'}, 'points': [{'n': 2}, {'n': 2}], 'limits': {'trials': 2}}",
             true);
    cr_assert_eq(lab_ask(&l, "w", 2), 2);
    cr_assert_eq(lab_tell(&l, 1, 1, 1), TRIAL_COMPLETED);
    cr_assert_eq(lab_tell(&l, 2, 1, 2), TRIAL_COMPLETED);
    cr_assert_eq(lab_count(&l, TRIAL_COMPLETED), 2);
    lab_close(&l);
}

/* ---- ends ---- */

/* Maggy's ASHA ended with the first trial of the top rung, and lost that rung to a logarithm. */
Test(study_maggy, asha_runs_all_its_trials_and_every_rung)
{
    static const struct {
        int eta, max, rungs;
    } rows[] = {{3, 243, 6}, {10, 1000, 4}, {2, 4, 3}};
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct lab l;
        int trials = rows[k].eta == 10 ? 1100 : 300;
        bool budgets[1001] = {false};
        int rungs = 0, completed = 0;
        char *spec = xasprintf(
            GAIN SEED XY "'optimizer': {'algorithm': 'asha', 'reduction_factor': %d}, 'resource': "
                         "{'min': 1, 'max': %d}, 'limits': {'trials': %d}}",
            rows[k].eta, rows[k].max, trials);
        lab_open(&l, spec, false);
        while (lab_ask(&l, "w", 1) == 1) {
            struct event_grant g = l.ev.grants[0];
            rungs += !budgets[g.budget];
            budgets[g.budget] = true;
            enum report_action act =
                lab_report(&l, g.trial, g.attempt, g.budget, (double)g.trial / 7);
            if (act == ACT_CONTINUE) {
                (void)lab_tell(&l, g.trial, g.attempt, (double)g.trial / 7);
                completed++;
            }
        }
        cr_assert_eq(rungs, rows[k].rungs, "%d rungs up to %d", rungs, rows[k].max);
        cr_assert_gt(completed, 0);
        cr_assert_eq(study_state(l.s), STUDY_COMPLETED);
        cr_assert_eq(lab_count(&l, TRIAL_COMPLETED) + lab_count(&l, TRIAL_PAUSED), trials);
        lab_close(&l);
        free(spec);
    }
}

/* Maggy's model-based searches counted finished trials only: up to workers - 1 more were begun. */
Test(study_maggy, model_based_searches_begin_no_trial_beyond_the_limit)
{
    static const char *const algorithms[] = {"gp", "tpe", "cmaes", "portfolio", "nsga2"};
    for (size_t a = 0; a < sizeof(algorithms) / sizeof(algorithms[0]); a++) {
        struct lab l;
        char *spec =
            xasprintf(LOSS SEED XY "'optimizer': {'algorithm': '%s'}, 'limits': {'trials': 20}}",
                      algorithms[a]);
        int64_t pending[64] = {0};
        int n = 0, told = 0, highest = 0;
        lab_open(&l, spec, false);
        for (int round = 0; round < 40; round++) {
            int got = lab_ask(&l, "w", 16);
            for (int i = 0; i < got; i++) {
                cr_assert_lt(n, 64);
                pending[n++] = l.ev.grants[i].trial;
                highest = (int)l.ev.grants[i].trial > highest ? (int)l.ev.grants[i].trial : highest;
            }
            for (int i = 0; i < 3 && told < n; i++, told++) {
                (void)lab_tell(&l, pending[told], 1, (double)(pending[told] % 5));
            }
        }
        cr_assert_eq(highest, 20, "%s: %d", algorithms[a], highest);
        cr_assert_eq(study_state(l.s), STUDY_COMPLETED, "%s", algorithms[a]);
        lab_close(&l);
        free(spec);
    }
}

/* ---- refusals ---- */

static char *first_issue(const char *text)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    json_t *doc = NULL;
    cr_assert_eq(mjson_parse(text, strlen(text), &doc, &err), MAG_OK, "%s", err.text);
    struct spec *s = spec_parse(doc, 1, &is);
    char *first = s == NULL ? xasprintf("%s: %s", is.items[0].pointer, is.items[0].text) : NULL;
    spec_destroy(s);
    json_decref(doc);
    mjson_issues_fini(&is);
    return first;
}

/* Maggy told people whose space was empty that it has to be empty, and let its median rule stop
 * ASHA's trials at the wrong budgets. */
Test(study_maggy, refusals_say_what_is_wrong)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"{\"objective\": {\"metric\": \"m\", \"direction\": \"max\"}, \"searchspace\": {}}",
         "/searchspace: the search space is empty: name at least one parameter"},
        {"{\"objective\": {\"metric\": \"m\", \"direction\": \"max\"}, \"searchspace\": {\"x\": "
         "[\"DOUBLE\", [0, 1]]}, \"optimizer\": {\"algorithm\": \"asha\"}, \"resource\": {\"max\": "
         "9}, \"early_stopping\": {\"rule\": \"median\"}}",
         "/early_stopping"},
        {"{\"objective\": {\"metric\": \"m\", \"direction\": \"max\"}, \"searchspace\": {\"x\": "
         "[\"DOUBLE\", [0, 1]]}, \"optimizer\": {\"algorithm\": \"grid\"}}",
         "\"x\" is continuous: give it a step"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *first = first_issue(rows[i].text);
        cr_assert_not_null(first, "row %zu is accepted", i);
        cr_assert_not_null(strstr(first, rows[i].want), "%s", first);
        free(first);
    }
}
