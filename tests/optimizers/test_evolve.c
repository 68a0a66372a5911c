/* SPDX-License-Identifier: Apache-2.0
 *
 * DEHB and population-based training: their schedules, what they copy and what comes of it.
 */
#include "harness.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define LINE "{\"x\": [\"DOUBLE\", [0, 1]], \"y\": [\"DOUBLE\", [0, 1]]}"

TestSuite(evolve, .timeout = 100);

/* ---- DEHB ---- */

/* Budgets 1, 3, 9: 9/3/1, then 3/1 (floor(3/2) * 3 = 3, where Hyperband starts 5), then 3. */
Test(evolve, dehb_runs_the_brackets_of_its_paper)
{
    struct sim m;
    int64_t at[10] = {0};
    sim_init(&m, LINE, "{\"algorithm\": \"dehb\", \"iterations\": 1}", 1, 9, 1000, 1);
    sim_run(&m, 100000);
    cr_assert(m.done);
    for (int i = 0; i < m.h.n; i++) {
        const struct record *r = &m.h.at[i];
        if (r->call == CALL_ASK && r->answer.answer <= OPT_RESUME) {
            at[r->answer.budget]++;
        }
    }
    cr_expect_eq(at[1], 9);
    cr_expect_eq(at[3], 3 + 3);
    cr_expect_eq(at[9], 1 + 1 + 3);
    cr_expect_str_eq(m.h.at[m.h.n - 1].answer.why_code, "schedule-done");
    sim_fini(&m);
}

Test(evolve, dehb_promotes_the_best_of_the_first_round_from_their_checkpoints)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"dehb\", \"iterations\": 3}", 1, 9, 1000, 1);
    double values[16];
    int n = 0;
    int resumes = 0;
    while (resumes < 3) {
        cr_assert(sim_ask(&m));
        const struct opt_suggestion *a = &m.h.at[m.h.n - 1].answer;
        if (a->answer == OPT_RESUME) {
            int better = 0;
            for (int i = 1; i <= 9; i++) {
                better += values[i] < values[a->trial];
            }
            cr_expect_eq(better, resumes, "promotion %d is number %d", resumes, better);
            cr_expect_eq(a->budget, 3);
            resumes++;
        }
        int64_t id = a->trial;
        while (m.trials[id].state == SIM_RUNNING) {
            sim_step(&m, id);
        }
        if (n < 9) {
            values[++n] = m.trials[id].value;
        }
    }
    cr_expect_eq(n, 9);
    sim_run(&m, 100000);
    cr_expect_eq(m.resumes, 3 + 1 + 1, "none after the first round");
    sim_fini(&m);
}

/* The best value at the top budget after `trials` trials, the median of 9 seeds. */
static double median_top(const char *json, int64_t trials)
{
    double best[9];
    for (int seed = 0; seed < 9; seed++) {
        struct sim m;
        double v = INFINITY;
        sim_init(&m, LINE, json, (uint64_t)seed, 9, trials, 4);
        sim_run(&m, 1000000);
        for (int64_t id = 1; id <= m.n_trials; id++) {
            v = m.trials[id].step == 9 ? fmin(v, m.trials[id].value - 0.1) : v;
        }
        int i = seed;
        for (; i > 0 && best[i - 1] > v; i--) {
            best[i] = best[i - 1];
        }
        best[i] = v;
        sim_fini(&m);
    }
    return best[4];
}

Test(evolve, dehb_goes_far_beyond_hyperband_on_a_smooth_objective)
{
    double evolved = median_top("{\"algorithm\": \"dehb\"}", 300);
    double drawn = median_top("{\"algorithm\": \"hyperband\"}", 300);
    cr_expect_lt(evolved, drawn / 20, "%g, %g", evolved, drawn);
}

Test(evolve, a_failed_trial_ends_its_place_in_the_rung)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"dehb\", \"iterations\": 1}", 1, 9, 1000, 9);
    for (int i = 0; i < 9; i++) {
        cr_assert(sim_ask(&m));
    }
    for (int64_t id = 1; id <= 9; id++) {
        sim_finish(&m, id, OPT_FAILED, false, 0);
    }
    cr_assert(sim_ask(&m), "the next rung begins though nobody survived");
    cr_expect_eq(m.h.at[m.h.n - 1].answer.answer, OPT_TRIAL);
    cr_expect_eq(m.h.at[m.h.n - 1].answer.budget, 3);
    sim_run(&m, 100000);
    cr_expect(m.done);
    sim_fini(&m);
}

/* ---- population-based training ---- */

static void to_turn(struct sim *m, int64_t id)
{
    while (m->trials[id].state == SIM_RUNNING) {
        sim_step(m, id);
    }
}

/* The worst two of eight (a quantile of 0.25) give way to copies of the best two. */
Test(evolve, the_worst_members_give_way_to_copies_of_the_best)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"pbt\", \"population\": 8, \"interval\": 5}", 3, 20, 40,
             8);
    for (int64_t id = 1; id <= 8; id++) {
        cr_assert(sim_ask(&m));
        cr_expect_eq(m.h.at[m.h.n - 1].answer.budget, 5);
    }
    double worst = -INFINITY;
    int64_t poor = 0;
    for (int64_t id = 1; id <= 8; id++) {
        double v = f_sphere(m.space, m.trials[id].point, 5);
        poor = v > worst ? id : poor;
        worst = fmax(worst, v);
    }
    for (int64_t id = 1; id <= 8; id++) {
        if (id != poor) {
            to_turn(&m, id);
        }
    }
    to_turn(&m, poor);
    cr_assert_eq(m.trials[poor].state, SIM_ENDED, "the worst was stopped at its turn");
    cr_expect_eq(m.h.at[m.h.n - 1].outcome, OPT_STOPPED);
    bool copied = false;
    for (int i = 0; i < 8 && !copied; i++) {
        cr_assert(sim_ask(&m));
        const struct opt_suggestion *a = &m.h.at[m.h.n - 1].answer;
        if (a->answer == OPT_TRIAL) {
            copied = true;
            cr_expect_eq(a->parent_step, 5);
            cr_expect_eq(a->budget, 10);
            int better = 0;
            for (int64_t id = 1; id <= 8; id++) {
                better += f_sphere(m.space, m.trials[id].point, 5) <
                          f_sphere(m.space, m.trials[a->parent].point, 5);
            }
            cr_expect_lt(better, 2, "its parent is one of the best two");
        }
    }
    cr_expect(copied);
    sim_fini(&m);
}

Test(evolve, a_copy_moves_numbers_by_the_factor_and_stays_in_the_space)
{
    struct sim m;
    int moved = 0;
    sim_init(&m, MIXED_SPACE,
             "{\"algorithm\": \"pbt\", \"population\": 8, \"interval\": 2, \"resample\": 0}", 5, 40,
             300, 8);
    sim_run(&m, 100000);
    int lr = space_find(m.space, "lr");
    for (int i = 0; i < m.h.n; i++) {
        const struct record *r = &m.h.at[i];
        if (r->call == CALL_ASK && r->answer.answer == OPT_TRIAL && r->answer.parent > 0) {
            double from = m.trials[r->answer.parent].point[lr];
            double to = r->answer.point[lr];
            double up = fmin(from * 1.2, 0.1), down = fmax(from / 1.2, 0.0001);
            cr_expect(fabs(to - up) < 1e-9 || fabs(to - down) < 1e-9, "%g to %g", from, to);
            moved++;
        }
    }
    cr_expect_gt(moved, 20);
    sim_fini(&m);
}

Test(evolve, without_trials_left_every_member_trains_to_its_end)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"pbt\", \"population\": 8, \"interval\": 5}", 3, 20, 8, 3);
    sim_run(&m, 100000);
    cr_expect_eq(m.n_trials, 8);
    cr_expect_eq(m.tops, 8);
    sim_fini(&m);
}

Test(evolve, a_population_that_cannot_be_is_refused)
{
    struct space *s = space_of(LINE);
    char *text = optimizer_refusal("{\"algorithm\": \"pbt\", \"interval\": 20}", s, 1, 20, 100);
    cr_expect_eq(strncmp(text, "/interval", 9), 0, "%s", text);
    free(text);
    text = optimizer_refusal("{\"algorithm\": \"pbt\", \"population\": 20}", s, 1, 20, 10);
    cr_expect_eq(strncmp(text, "/population", 11), 0, "%s", text);
    free(text);
    text = optimizer_refusal("{\"algorithm\": \"dehb\"}", s, 5, 5, 10);
    cr_expect_not_null(strstr(text, "no rung fits"), "%s", text);
    free(text);
    space_destroy(s);
}
