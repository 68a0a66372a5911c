/* SPDX-License-Identifier: Apache-2.0
 *
 * The variants of halving: ASHA that stops, ASHA with several brackets, asynchronous Hyperband,
 * each against a plain model or the paper's table.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/rungs.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(brackets, .timeout = 100);

#define LINE "{\"x\": [\"DOUBLE\", [0, 1]]}"

/* ---- ASHA that stops ---- */

/* Does the last of n values stay among the best max(1, n / eta)? Ids rise or fall at will. */
static bool stays(const double *value, const int64_t *trial, int n, int64_t eta)
{
    int better = 0;
    for (int i = 0; i < n - 1; i++) {
        better += value[i] < value[n - 1] || (value[i] == value[n - 1] && trial[i] < trial[n - 1]);
    }
    return better < (n / eta > 1 ? n / eta : 1);
}

struct plain {
    int64_t levels[RUNGS_MAX];
    double value[8][400];
    int64_t trial[8][400];
    int n[8];
};

static int check_report(struct plain *p, int n_levels, int64_t eta, const struct record *r)
{
    enum opt_action want = OPT_CONTINUE;
    for (int k = 0; k < n_levels; k++) {
        if (r->step == p->levels[k]) {
            p->value[k][p->n[k]] = r->value;
            p->trial[k][p->n[k]++] = r->trial;
            if (k < n_levels - 1 && !stays(p->value[k], p->trial[k], p->n[k], eta)) {
                want = OPT_STOP;
            }
        }
    }
    cr_assert_eq(r->action, want, "trial %d step %d: %d", (int)r->trial, (int)r->step,
                 (int)r->action);
    return want == OPT_STOP;
}

Test(brackets, stopping_asha_keeps_the_best_of_those_that_have_come_so_far)
{
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct plain *p = xcalloc(1, sizeof(*p));
        struct sim m;
        int stops = 0;
        int64_t eta = 2 + (int64_t)(seed % 3);
        char *json = xasprintf("{\"algorithm\": \"asha\", \"type\": \"stopping\", "
                               "\"reduction_factor\": %d}",
                               (int)eta);
        sim_init(&m, LINE, json, seed, 27, 120, 1 + (int)seed % 9);
        int n_levels = rungs_levels(1, 27, eta, p->levels);
        m.p_fail = seed % 2 == 0 ? 0.03 : 0;
        sim_run(&m, 100000);
        cr_assert(m.done);
        cr_assert_eq(m.n_trials, 120);
        for (int i = 0; i < m.h.n; i++) {
            const struct record *r = &m.h.at[i];
            stops += r->call == CALL_REPORT && check_report(p, n_levels, eta, r);
            cr_assert(r->call != CALL_ASK || r->answer.answer != OPT_TRIAL ||
                      r->answer.budget == 27);
        }
        cr_expect_gt(stops, 40);
        cr_expect_gt(m.tops, 0);
        cr_expect_eq(m.resumes, 0);
        sim_fini(&m);
        free(json);
        free(p);
    }
}

Test(brackets, stopping_asha_lets_the_first_go_on_and_equal_ones_stop)
{
    struct space *s = space_of(LINE);
    struct optimizer *o =
        optimizer_of("{\"algorithm\": \"asha\", \"type\": \"stopping\"}", s, 1, 1, 9, 100);
    double point = 0;
    for (int64_t id = 1; id <= 4; id++) {
        struct opt_suggestion out = {.point = &point};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        cr_expect_eq(out.budget, 9);
        optimizer_adopt(o, &out);
    }
    cr_expect_eq(report_value(o, 2, 1, 0.5), OPT_CONTINUE); /* the only one */
    cr_expect_eq(report_value(o, 3, 1, 0.5), OPT_STOP);     /* ties go to the lower id */
    cr_expect_eq(report_value(o, 1, 1, 0.5), OPT_CONTINUE);
    cr_expect_eq(report_value(o, 4, 1, 0.4), OPT_CONTINUE); /* 4 / 3 = 1 place, and the best */
    optimizer_destroy(o);
    space_destroy(s);
}

Test(brackets, stopping_asha_is_done_at_the_limit_while_trials_still_run)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"asha\", \"type\": \"stopping\"}", 1, 9, 3, 3);
    for (int k = 0; k < 3; k++) {
        cr_assert(sim_ask(&m));
    }
    cr_expect_not(sim_ask(&m));
    cr_expect_eq(m.h.at[m.h.n - 1].answer.answer, OPT_DONE);
    sim_fini(&m);
}

/* ---- several brackets ---- */

static void count_starts(const struct sim *m, int64_t starts[8], const int64_t *levels, int n)
{
    memset(starts, 0, 8 * sizeof(*starts));
    for (int i = 0; i < m->h.n; i++) {
        const struct opt_suggestion *a = &m->h.at[i].answer;
        for (int k = 0; k < n; k++) {
            starts[k] +=
                m->h.at[i].call == CALL_ASK && a->answer == OPT_TRIAL && a->budget == levels[k];
        }
    }
}

/* The distribution of Hyperband's trials: 81, 33.75, 15, 7.5 and 5 of 142.25 for 1 to 81 by 3. */
Test(brackets, asha_draws_first_rungs_as_often_as_hyperband_starts_trials_there)
{
    static const double want[] = {81, 33.75, 15, 7.5, 5};
    int64_t levels[RUNGS_MAX];
    int64_t starts[8];
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"asha\", \"brackets\": 5}", 3, 81, 4000, 4000);
    int n = rungs_levels(1, 81, 3, levels);
    for (int k = 0; k < 4000; k++) {
        cr_assert(sim_ask(&m));
    }
    count_starts(&m, starts, levels, n);
    for (int k = 0; k < n; k++) {
        double p = want[k] / 142.25;
        double sd = sqrt(4000 * p * (1 - p));
        cr_expect_lt(fabs((double)starts[k] - 4000 * p), 4 * sd, "rung %d: %d", k, (int)starts[k]);
    }
    sim_fini(&m);
}

Test(brackets, a_trial_that_starts_higher_has_no_entry_below)
{
    struct sim m;
    int64_t levels[RUNGS_MAX];
    int64_t starts[8];
    sim_init(&m, LINE, "{\"algorithm\": \"asha\", \"bracket\": 1, \"brackets\": 2}", 3, 27, 100,
             100);
    for (int k = 0; k < 100; k++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t id = 1; id <= 100; id++) {
        while (m.trials[id].state == SIM_RUNNING) {
            sim_step(&m, id);
        }
    }
    count_starts(&m, starts, levels, rungs_levels(1, 27, 3, levels));
    cr_expect_eq(starts[0] + starts[3], 0);
    cr_expect_eq(starts[1] + starts[2], 100);
    cr_expect(starts[1] > starts[2] && starts[2] > 0);
    json_t *state = optimizer_save(m.o);
    const json_t *rungs =
        json_object_get(json_array_get(json_object_get(state, "ladders"), 0), "rungs");
    cr_expect_eq(json_array_size(json_array_get(rungs, 0)), 0);
    cr_expect_eq((int64_t)json_array_size(json_array_get(rungs, 1)), starts[1]);
    cr_expect_eq((int64_t)json_array_size(json_array_get(rungs, 2)), starts[2]);
    json_decref(state);
    sim_fini(&m);
}

Test(brackets, more_brackets_than_rungs_are_refused)
{
    struct space *s = space_of(LINE);
    char *text = optimizer_refusal("{\"algorithm\": \"asha\", \"bracket\": 2, \"brackets\": 3}", s,
                                   1, 27, 10);
    cr_expect_not_null(strstr(text, "/brackets: no rung fits: 1 to 27 by 3 has the rungs 0 to 3"),
                       "%s", text);
    free(text);
    space_destroy(s);
}

/* ---- asynchronous Hyperband ---- */

#define ASYNC "{\"algorithm\": \"hyperband\", \"mode\": \"asynchronous\""

/* The table of the paper: 81, 34, 15, 8 and 5 trials in the brackets of R = 81, eta = 3. */
Test(brackets, asynchronous_hyperband_starts_trials_in_the_proportions_of_the_paper)
{
    static const int64_t sizes[] = {81, 34, 15, 8, 5};
    int64_t levels[RUNGS_MAX];
    int64_t starts[8];
    struct sim m;
    sim_init(&m, LINE, ASYNC "}", 3, 81, 1000, 1000);
    int n = rungs_levels(1, 81, 3, levels);
    for (int k = 1; k <= 3 * 143; k++) {
        cr_assert(sim_ask(&m));
        count_starts(&m, starts, levels, n);
        for (int b = 0; b < n; b++) {
            double fair = (double)k * (double)sizes[b] / 143;
            cr_assert_lt(fabs((double)starts[b] - fair), 2.5, "%d trials: bracket %d has %d", k, b,
                         (int)starts[b]);
            cr_assert(k % 143 != 0 || starts[b] == k / 143 * sizes[b]);
        }
    }
    sim_fini(&m);
}

Test(brackets, asynchronous_hyperband_ends_after_its_iterations_with_every_bracket_run)
{
    static const int64_t sizes[] = {9, 5, 3};
    for (int workers = 1; workers <= 40; workers = 3 * workers + 1) {
        int64_t levels[RUNGS_MAX];
        int64_t starts[8];
        struct sim m;
        sim_init(&m, LINE, ASYNC ", \"iterations\": 2}", 3, 9, 1000, workers);
        sim_run(&m, 100000);
        cr_expect(m.done);
        count_starts(&m, starts, levels, rungs_levels(1, 9, 3, levels));
        for (int b = 0; b < 3; b++) {
            cr_expect_eq(starts[b], 2 * sizes[b]);
        }
        /* ASHA promotes at least a third of each rung, rounded down, rung by rung. */
        cr_expect_geq(m.resumes, 6 + 2 + 3);
        cr_expect_str_eq(m.h.at[m.h.n - 1].answer.why_code, "schedule-done");
        sim_fini(&m);
    }
}

Test(brackets, asynchronous_hyperband_promotes_within_a_bracket_without_waiting)
{
    struct sim m;
    int promoted = 0;
    sim_init(&m, LINE, ASYNC "}", 5, 9, 200, 3);
    while (!m.done) {
        int before = m.h.n;
        sim_run(&m, 1);
        for (int i = before; i < m.h.n; i++) {
            const struct opt_suggestion *a = &m.h.at[i].answer;
            bool ask = m.h.at[i].call == CALL_ASK;
            cr_assert(!ask || a->answer != OPT_WAIT || m.n_trials == 200,
                      "waits while trials may be created");
            if (ask && a->answer == OPT_RESUME) {
                /* bracket s has the rungs from 3^(2 - s) on */
                cr_assert_eq(a->budget, a->bracket == 2 && a->rung == 1 ? 3 : 9);
                cr_assert_leq(a->rung, a->bracket);
                promoted++;
            }
        }
    }
    cr_expect_geq(promoted, 50);
    sim_fini(&m);
}

static int64_t cell(const json_t *rows, size_t i, const char *key)
{
    return json_integer_value(json_object_get(json_array_get(rows, i), key));
}

Test(brackets, plans_start_as_many_trials_as_the_limit_says)
{
    static const char *const algorithms[] = {
        "{\"algorithm\": \"asha\", \"brackets\": 4}",
        "{\"algorithm\": \"asha\", \"type\": \"stopping\"}",
        "{\"algorithm\": \"asha\", \"bracket\": 1, \"brackets\": 2}",
        "{\"algorithm\": \"hyperband\"}",
        ASYNC "}",
    };
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        for (int64_t trials = 1; trials <= 200; trials += 7) {
            struct space *s = space_of(LINE);
            struct optimizer *o = optimizer_of(algorithms[i], s, 1, 1, 27, trials);
            json_t *rows = json_array();
            int64_t sum = 0;
            int64_t bracket = -1;
            optimizer_plan(o, trials, rows);
            for (size_t k = 0; k < json_array_size(rows); k++) {
                json_t *rounds = json_object_get(json_array_get(rows, k), "rounds");
                bool first = cell(rows, k, "bracket") != bracket;
                bracket = cell(rows, k, "bracket");
                sum += first ? cell(rows, k, "trials") *
                                   (rounds != NULL ? json_integer_value(rounds) : 1)
                             : 0;
            }
            cr_expect_eq(sum, trials, "%s: %d of %d", algorithms[i], (int)sum, (int)trials);
            json_decref(rows);
            optimizer_destroy(o);
            space_destroy(s);
        }
    }
}

/* Trials given to askers who finish none. */
static int given_of(const char *json, bool bounded)
{
    struct space *s = space_of(LINE);
    struct opt_setup setup = {.space = s, .seed = 1, .resource = {true, 1, 9}, .bounded = bounded};
    struct mjson_issues is = {0};
    json_t *object = json_loads(json, 0, NULL);
    struct optimizer *o = optimizer_create(object, "", &setup, &is, NULL);
    cr_assert_not_null(o, "%s: %s", json, is.n > 0 ? is.items[0].text : "");
    int given = 0;
    for (bool more = true; more && given < 100;) {
        double point[1];
        struct opt_suggestion out = {.point = point};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = given + 1, .may_create = true}, &out);
        more = out.answer == OPT_TRIAL;
        if (more) {
            optimizer_adopt(o, &out);
            given++;
        }
    }
    optimizer_destroy(o);
    json_decref(object);
    space_destroy(s);
    return given;
}

Test(brackets, a_limit_of_time_or_target_lets_them_begin_again)
{
    static const char *const all[] = {"{\"algorithm\": \"hyperband\"}", "{\"algorithm\": \"bohb\"}",
                                      "{\"algorithm\": \"dehb\"}"};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        cr_expect_lt(given_of(all[i], false), 20, "%s: all brackets once", all[i]);
        cr_expect_eq(given_of(all[i], true), 100, "%s", all[i]);
    }
}
