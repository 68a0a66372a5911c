/* SPDX-License-Identifier: Apache-2.0
 *
 * ASHA and Hyperband against their papers: rung arithmetic, Algorithm 2 played by a slow and plain
 * model, bracket tables, and the faults of earlier systems, each by its claim.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/rungs.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(halving, .timeout = 100);

#define LINE "{\"x\": [\"DOUBLE\", [0, 1]]}"

/* ---- rungs ---- */

Test(halving, rungs_are_whole_and_none_is_lost_to_rounding)
{
    static const struct {
        int64_t min, max, eta;
        int n;
        int64_t levels[8];
    } cases[] = {
        {1,
         243,
         3,
         6,
         {1, 3, 9, 27, 81, 243}}, /* floor(log) in floating point loses the last one */
        {1, 1000, 10, 4, {1, 10, 100, 1000}},
        {3, 243, 3, 5, {3, 9, 27, 81, 243}},
        {1, 20, 3, 4, {1, 3, 9, 20}},
        {1, 27, 3, 4, {1, 3, 9, 27}},
        {2, 3, 3, 2, {2, 3}},
        {5, 5, 2, 1, {5}},
        {1, 2, 1000, 2, {1, 2}},
        {7, 100, 4, 3, {7, 28, 100}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t levels[RUNGS_MAX];
        cr_expect_eq(rungs_levels(cases[i].min, cases[i].max, cases[i].eta, levels), cases[i].n,
                     "case %zu", i);
        for (int k = 0; k < cases[i].n; k++) {
            cr_expect_eq(levels[k], cases[i].levels[k], "case %zu rung %d", i, k);
        }
    }
    int64_t levels[RUNGS_MAX];
    cr_expect_eq(rungs_levels(1, INT64_MAX, 2, levels), 64);
    cr_expect_eq(levels[62], INT64_C(1) << 62);
    cr_expect_eq(levels[63], INT64_MAX);
}

/* The candidate by sorting: the best of the top floor(n / eta) that is not spent. */
static int64_t plain_candidate(const double *value, const int64_t *trial, const bool *spent, int n,
                               int64_t eta)
{
    int64_t best = 0;
    double best_value = 0;
    for (int i = 0; i < n; i++) {
        int better = 0;
        for (int j = 0; j < n; j++) {
            better += value[j] < value[i] || (value[j] == value[i] && trial[j] < trial[i]);
        }
        if (!spent[i] && better < n / eta &&
            (best == 0 || value[i] < best_value || (value[i] == best_value && trial[i] < best))) {
            best = trial[i];
            best_value = value[i];
        }
    }
    return best;
}

Test(halving, a_rung_knows_its_candidate_as_sorting_would)
{
    enum { N = 300 };
    for (int64_t eta = 2; eta <= 5; eta++) {
        for (uint64_t seed = 0; seed < 6; seed++) {
            struct rung r;
            struct pcg64 g;
            double value[N];
            int64_t trial[N];
            bool spent[N];
            rung_init(&r, eta);
            pcg_stream(&g, seed, "rung", (uint64_t)eta);
            for (int n = 0; n < N; n++) {
                value[n] = (double)pcg64_below(&g, seed % 2 == 0 ? 20 : 1000000) -
                           (seed == 4 ? n : 0); /* ties too */
                trial[n] = (n * 7919) % 1009 + 1;
                spent[n] = pcg64_below(&g, 10) == 0;
                (void)rung_add(&r, trial[n], value[n], spent[n]);
                const struct rung_entry *c = rung_candidate(&r);
                cr_assert_eq(c != NULL ? c->trial : 0,
                             plain_candidate(value, trial, spent, n + 1, eta),
                             "eta %d seed %d n %d", (int)eta, (int)seed, n);
                if (c != NULL && pcg64_below(&g, 3) != 0) {
                    uint32_t at = (uint32_t)(c - r.entries);
                    spent[at] = true;
                    rung_spend(&r, at);
                }
            }
            rung_fini(&r);
        }
    }
}

/* ---- ASHA ---- */

/* Algorithm 2 of the paper, plainly, over a recorded run. */
struct plain {
    int64_t levels[RUNGS_MAX];
    int n_levels;
    int64_t eta;
    double value[8][400];
    int64_t trial[8][400];
    bool spent[8][400];
    int n[8];
    int target[400]; /* rung that a trial runs to */
    bool paused[400];
};

static int64_t plain_best(const struct plain *p, int *ret_rung)
{
    for (int k = p->n_levels - 2; k >= 0; k--) {
        int64_t c = plain_candidate(p->value[k], p->trial[k], p->spent[k], p->n[k], p->eta);
        if (c != 0) {
            *ret_rung = k;
            return c;
        }
    }
    return 0;
}

static void plain_spend(struct plain *p, int64_t trial)
{
    int k = p->target[trial];
    for (int i = 0; i < p->n[k]; i++) {
        p->spent[k][i] = p->spent[k][i] || p->trial[k][i] == trial;
    }
}

static void plain_check(struct plain *p, const struct record *r)
{
    int rung = 0;
    int64_t want = plain_best(p, &rung);
    if (r->call == CALL_ASK && want != 0) {
        cr_assert_eq(r->answer.answer, OPT_RESUME);
        cr_assert_eq(r->answer.trial, want);
        cr_assert_eq(r->answer.budget, p->levels[rung + 1]);
        plain_spend(p, want);
        p->target[want] = rung + 1;
        p->paused[want] = false;
    } else if (r->call == CALL_ASK) {
        cr_assert_neq(r->answer.answer, OPT_RESUME);
        cr_assert_eq(r->answer.answer == OPT_TRIAL, r->ask.may_create);
    } else if (r->call == CALL_REPORT) {
        int k = p->target[r->trial];
        bool at = r->step == p->levels[k];
        cr_assert_eq(r->action, at && k < p->n_levels - 1 ? OPT_PAUSE : OPT_CONTINUE);
        if (at && k < p->n_levels - 1) {
            p->trial[k][p->n[k]] = r->trial;
            p->value[k][p->n[k]] = r->value;
            p->spent[k][p->n[k]++] = false;
            p->paused[r->trial] = true;
        }
    } else if (r->call == CALL_FINISH && p->paused[r->trial]) {
        plain_spend(p, r->trial);
        p->paused[r->trial] = false;
    }
}

Test(halving, asha_is_algorithm_2_of_its_paper_also_with_failures)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct plain *p = xcalloc(1, sizeof(*p));
        struct sim m;
        p->eta = 2 + (int64_t)(seed % 3);
        char *json = xasprintf("{\"algorithm\": \"asha\", \"reduction_factor\": %d}", (int)p->eta);
        sim_init(&m, LINE, json, seed, 27, 120, 1 + (int)seed % 9);
        p->n_levels = rungs_levels(1, 27, p->eta, p->levels);
        m.p_fail = seed % 2 == 0 ? 0.03 : 0;
        m.p_cancel = seed % 4 == 0 ? 0.03 : 0;
        m.p_enqueue = seed % 5 == 0 ? 0.02 : 0;
        sim_run(&m, 100000);
        cr_assert(m.done);
        for (int i = 0; i < m.h.n; i++) {
            plain_check(p, &m.h.at[i]);
        }
        cr_expect_gt(m.resumes, 10);
        sim_fini(&m);
        free(json);
        free(p);
    }
}

static double f_up(const struct space *s, const double *point, int64_t step)
{
    return point[0];
}

Test(halving, asha_promotes_the_lowest_values_and_continues_the_same_trial)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"asha\"}", 4, 9, 9, 9);
    m.f = f_up;
    for (int k = 0; k < 9; k++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t id = 1; id <= 9; id++) {
        sim_step(&m, id);
    }
    double promoted = 0;
    for (int k = 0; k < 3; k++) { /* the best three of nine, best first, from their checkpoints */
        cr_assert(sim_ask(&m));
        const struct opt_suggestion *a = &m.h.at[m.h.n - 1].answer;
        double x = m.trials[a->trial].point[0];
        cr_expect_eq(a->answer, OPT_RESUME);
        cr_expect_eq(a->budget, 3);
        cr_expect(x > promoted);
        promoted = x;
    }
    for (int64_t id = 1; id <= 9; id++) {
        cr_expect(m.trials[id].state == SIM_RUNNING || m.trials[id].point[0] > promoted);
    }
    sim_fini(&m);
}

Test(halving, asha_does_not_end_with_the_first_trial_of_the_top_rung)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"asha\", \"reduction_factor\": 2}", 1, 4, 40, 4);
    sim_run(&m, 100000);
    cr_expect_eq(m.n_trials, 40);
    cr_expect_geq(m.tops, 10 - 2);
    sim_fini(&m);
}

Test(halving, asha_works_with_fewer_trials_than_rungs_would_take)
{
    for (int64_t limit = 1; limit <= 4; limit++) {
        struct sim m;
        sim_init(&m, LINE, "{\"algorithm\": \"asha\", \"reduction_factor\": 2}", 1, 4, limit, 2);
        sim_run(&m, 10000);
        cr_expect(m.done);
        cr_expect_eq(m.n_trials, limit);
        cr_expect(limit < 2 || m.resumes > 0);
        sim_fini(&m);
    }
}

/* Section 3.2 of the paper: R = 9, r = 1, eta = 3 on 9 machines. */
Test(halving, asha_resuming_from_checkpoints_trains_one_trial_fully_in_the_time_of_one)
{
    struct sim m;
    int64_t t = 0;
    sim_init(&m, LINE, "{\"algorithm\": \"asha\"}", 6, 9, 1000, 9);
    m.f = f_up;
    for (; m.tops == 0 && t < 100; t++) {
        while (m.running < 9) {
            cr_assert(sim_ask(&m));
        }
        int64_t n = m.n_trials;
        for (int64_t id = 1; id <= n; id++) {
            if (m.trials[id].state == SIM_RUNNING) {
                sim_step(&m, id);
            }
        }
    }
    cr_expect_eq(t, 9);
    sim_fini(&m);
}

Test(halving, equal_values_are_promoted_in_order_of_trial_ids)
{
    struct space *s = space_of(LINE);
    struct optimizer *o = optimizer_of("{\"algorithm\": \"asha\"}", s, 1, 1, 9, 100);
    double point = 0;
    for (int64_t id = 1; id <= 6; id++) {
        struct opt_suggestion out = {.point = &point};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        optimizer_adopt(o, &out);
    }
    for (int64_t id = 6; id >= 1; id--) {
        cr_expect_eq(report_value(o, id, 1, 0.5), OPT_PAUSE);
    }
    for (int64_t want = 1; want <= 2; want++) {
        struct opt_suggestion out = {.point = &point};
        optimizer_suggest(o, &(struct opt_ask){.next_trial = 7, .may_create = true}, &out);
        cr_expect_eq(out.trial, want);
        optimizer_adopt(o, &out);
    }
    optimizer_destroy(o);
    space_destroy(s);
}

Test(halving, a_report_that_steps_over_the_budget_is_the_rungs_entry)
{
    struct space *s = space_of(LINE);
    struct optimizer *o =
        optimizer_of("{\"algorithm\": \"asha\", \"bracket\": 1}", s, 1, 1, 27, 100);
    double point = 0;
    struct opt_suggestion out = {.point = &point};
    optimizer_suggest(o, &(struct opt_ask){.next_trial = 1, .may_create = true}, &out);
    cr_expect_eq(out.budget, 3);
    optimizer_adopt(o, &out);
    cr_expect_eq(report_value(o, 1, 2, 0.5), OPT_CONTINUE);
    cr_expect_eq(report_value(o, 1, 4, 0.5), OPT_PAUSE);
    optimizer_destroy(o);
    space_destroy(s);
}

Test(halving, waiting_names_the_rung_and_its_numbers)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"asha\"}", 4, 9, 3, 3);
    for (int k = 0; k < 3; k++) {
        cr_assert(sim_ask(&m));
    }
    cr_expect_not(sim_ask(&m));
    const struct opt_suggestion *a = &m.h.at[m.h.n - 1].answer;
    cr_expect_eq(a->answer, OPT_WAIT);
    cr_expect_str_eq(a->why_code, "rung-not-full");
    cr_expect_not_null(strstr(a->why, "rung 0 (budget 1) has 0 reports"), "%s", a->why);
    sim_fini(&m);
}

Test(halving, a_resource_that_no_rung_fits_is_refused)
{
    static const struct {
        const char *json, *text;
        int64_t min, max;
    } cases[] = {
        {"{\"algorithm\": \"asha\"}", "/algorithm: no rung fits", 5, 5},
        {"{\"algorithm\": \"hyperband\"}", "/algorithm: no rung fits", 5, 5},
        {"{\"algorithm\": \"asha\"}", "/algorithm: \"asha\" needs a resource", 0, 0},
        {"{\"algorithm\": \"hyperband\"}", "/algorithm: \"hyperband\" needs a resource", 0, 0},
        {"{\"algorithm\": \"asha\", \"bracket\": 4}", "/bracket: no rung fits", 1, 27},
        {"{\"algorithm\": \"asha\", \"reduction_factor\": 1}",
         "/reduction_factor: 1 is outside 2 to", 1, 27},
        {"{\"algorithm\": \"asha\", \"reduction_factor\": 2.5}",
         "/reduction_factor: must be a whole number", 1, 27},
        {"{\"algorithm\": \"asha\", \"sampler\": \"tabu\"}",
         "/sampler: \"tabu\" is not in this build; it has \"random\"", 1, 27},
        {"{\"algorithm\": \"hyperband\", \"reduction_factor\": 2}",
         "starts more than 1000000 trials", 1, INT64_C(1) << 40},
        {"{\"algorithm\": \"grid\"}", "\"x\" is continuous: give it a step", 0, 0},
        {"{\"algorithm\": \"de\", \"population\": 3}", "/population: 3 is outside 4 to", 0, 0},
        {"{\"algorithm\": \"de\", \"mode\": 3}",
         "must be one of \"steady-state\", \"generational\"", 0, 0},
    };
    struct space *s = space_of(LINE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = optimizer_refusal(cases[i].json, s, cases[i].min, cases[i].max, 10);
        cr_expect_not_null(strstr(text, cases[i].text), "%s: %s", cases[i].json, text);
        free(text);
    }
    space_destroy(s);
}

/* ---- Hyperband ---- */

static int64_t cell(const json_t *rows, size_t i, const char *key)
{
    return json_integer_value(json_object_get(json_array_get(rows, i), key));
}

Test(halving, hyperband_has_the_brackets_of_its_paper)
{
    static const int64_t want[][3] = {{4, 1, 81}, {4, 3, 27}, {4, 9, 9},  {4, 27, 3}, {4, 81, 1},
                                      {3, 3, 34}, {3, 9, 11}, {3, 27, 3}, {3, 81, 1}, {2, 9, 15},
                                      {2, 27, 5}, {2, 81, 1}, {1, 27, 8}, {1, 81, 2}, {0, 81, 5}};
    struct space *s = space_of(LINE);
    struct optimizer *o =
        optimizer_of("{\"algorithm\": \"hyperband\", \"iterations\": 1}", s, 1, 1, 81, 0);
    json_t *rows = json_array();
    optimizer_plan(o, 0, rows);
    cr_assert_eq(json_array_size(rows), 15);
    for (size_t i = 0; i < 15; i++) {
        cr_expect_eq(cell(rows, i, "bracket"), want[i][0]);
        cr_expect_eq(cell(rows, i, "budget"), want[i][1]);
        cr_expect_eq(cell(rows, i, "trials"), want[i][2], "row %zu: %d", i,
                     (int)cell(rows, i, "trials"));
    }
    json_decref(rows);
    optimizer_destroy(o);
    space_destroy(s);
}

/* Trials that were run up to each budget. */
static void count_budgets(const struct sim *m, int64_t counts[100])
{
    memset(counts, 0, 100 * sizeof(*counts));
    for (int i = 0; i < m->h.n; i++) {
        const struct opt_suggestion *a = &m->h.at[i].answer;
        if (m->h.at[i].call == CALL_ASK && (a->answer == OPT_TRIAL || a->answer == OPT_RESUME)) {
            counts[a->budget]++;
        }
    }
}

Test(halving, hyperband_runs_exactly_its_plan_whatever_the_workers)
{
    for (int workers = 1; workers <= 200; workers = 3 * workers + 1) {
        struct sim m;
        int64_t n[100];
        sim_init(&m, LINE, "{\"algorithm\": \"hyperband\", \"iterations\": 1}", (uint64_t)workers,
                 81, 1000, workers);
        sim_run(&m, 1000000);
        count_budgets(&m, n);
        cr_expect(m.done);
        cr_expect_eq(m.n_trials, 81 + 34 + 15 + 8 + 5);
        cr_expect_eq(n[1], 81);
        cr_expect_eq(n[3], 27 + 34);
        cr_expect_eq(n[9], 9 + 11 + 15);
        cr_expect_eq(n[27], 3 + 3 + 5 + 8);
        cr_expect_eq(n[81], 1 + 1 + 1 + 2 + 5);
        sim_fini(&m);
    }
}

Test(halving, hyperband_starts_the_next_bracket_while_a_rung_is_not_full)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"hyperband\", \"iterations\": 1}", 1, 9, 1000, 100);
    for (int k = 0; k < 9 + 5 + 3; k++) {
        cr_assert(sim_ask(&m), "trial %d", k);
    }
    cr_expect_not(sim_ask(&m)); /* all brackets are begun */
    cr_expect_eq(m.h.at[m.h.n - 1].answer.answer, OPT_WAIT);
    for (int64_t id = 1; id <= 9; id++) {
        cr_expect_not(m.resumes > 0, "promoted before the rung was full");
        sim_step(&m, id);
    }
    for (int k = 0; k < 3; k++) {
        cr_assert(sim_ask(&m));
    }
    cr_expect_eq(m.resumes, 3);
    sim_fini(&m);
}

Test(halving, a_failed_trial_does_not_hang_hyperbands_rung)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"hyperband\", \"iterations\": 1}", 1, 9, 1000, 9);
    for (int k = 0; k < 9; k++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t id = 1; id <= 7; id++) {
        sim_finish(&m, id, OPT_FAILED, false, 0);
    }
    sim_step(&m, 8);
    sim_step(&m, 9);
    cr_assert(sim_ask(&m));
    cr_assert(sim_ask(&m));
    cr_expect_eq(m.resumes, 2); /* three places, two survivors */
    sim_step(&m, 8);
    sim_step(&m, 8);
    sim_finish(&m, 9, OPT_FAILED, false, 0);
    cr_assert(sim_ask(&m));
    cr_expect_eq(m.resumes,
                 3); /* the last one goes on to the top: one of nine has its place there */
    cr_expect_eq(m.trials[8].budget, 9);
    sim_run(&m, 100000);
    cr_expect(m.done);
    sim_fini(&m);
}

Test(halving, a_cancelled_promoted_trial_does_not_hang_hyperbands_rung)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"hyperband\", \"iterations\": 1}", 1, 9, 9, 9);
    m.f = f_up;
    for (int k = 0; k < 9; k++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t id = 1; id <= 9; id++) {
        sim_step(&m, id);
    }
    for (int64_t id = 1; id <= 9; id++) {
        sim_finish(&m, id, OPT_CANCELLED, false, 0);
    }
    cr_expect_not(sim_ask(&m));
    cr_expect_eq(m.h.at[m.h.n - 1].answer.answer, OPT_DONE);
    sim_fini(&m);
}

Test(halving, hyperband_repeats_its_brackets_until_the_limit_of_trials)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"hyperband\"}", 3, 9, 40, 4);
    sim_run(&m, 100000);
    cr_expect_eq(m.n_trials, 40); /* 17 a round */
    struct space *s = m.space;
    json_t *rows = json_array();
    optimizer_plan(m.o, 40, rows);
    int64_t new_trials = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        new_trials +=
            cell(rows, i, "rung") == 0 ? cell(rows, i, "trials") * cell(rows, i, "rounds") : 0;
    }
    cr_expect_eq(new_trials, 40);
    json_decref(rows);
    cr_expect_not_null(s);
    sim_fini(&m);
}

Test(halving, a_recorded_resume_that_no_rung_allows_is_survived)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"hyperband\"}", 3, 9, 40, 4);
    for (int64_t id = 1; id <= 2; id++) {
        cr_assert(sim_ask(&m));
        sim_step(&m, id);
    }
    /* Two of nine have reported: closing the rung now leaves no place to promote to. */
    struct opt_suggestion wrong = {.answer = OPT_RESUME, .trial = 1, .budget = 3};
    optimizer_adopt(m.o, &wrong);
    cr_expect_eq(report_value(m.o, 1, 3, 0.5), OPT_CONTINUE);
    finish_value(m.o, 1, OPT_COMPLETED, 0.5);
    cr_expect(sim_ask(&m), "the next bracket starts");
    sim_fini(&m);
}
