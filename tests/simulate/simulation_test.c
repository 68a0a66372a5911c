/* SPDX-License-Identifier: Apache-2.0 */
#include "lab.h"

#include "base/clock.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define UNIT "\"step\": 1, \"lease\": 0"
#define SECOND ((double)MAG_NS_PER_S)

TestSuite(simulation, .timeout = 200);

/* Li et al., MLSys 2020, section 3.2: 9 machines, R = 9, eta = 3. From checkpoints ASHA has a trial
 * trained to R after time(R); from scratch after 13/9 time(R). */
Test(simulation, asha_trains_the_first_trial_in_the_papers_time)
{
    static const struct {
        const char *simulation;
        double units;
    } cases[] = {
        {"{" UNIT ", \"checkpoint_every\": 1}", 9},
        {"{" UNIT ", \"checkpoint_every\": 100}", 9}, /* the last step of a job always has one */
        {"{" UNIT ", \"checkpoint_every\": 0}", 13},
        {"{" UNIT ", \"checkpoint_every\": 0, \"report_every\": 9}", 13},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lab l = {.simulation = cases[i].simulation,
                        .algorithm = "{\"algorithm\": \"asha\", \"reduction_factor\": 3}",
                        .trials = 60,
                        .min = 1,
                        .max = 9,
                        .workers = 9};
        struct sim_result r = lab_run(&l, NULL);
        cr_expect_eq((double)r.first_full_ns / SECOND, cases[i].units, "case %zu: %g", i,
                     (double)r.first_full_ns / SECOND);
        sim_result_fini(&r);
    }
}

/* Without faults every rung's work is done once: budget by budget, from the checkpoint below. */
Test(simulation, the_work_adds_up)
{
    static const char *const algorithms[] = {"asha", "hyperband", "random"};
    for (size_t i = 0; i < 3; i++) {
        struct lab l = {.simulation = "{" UNIT ", \"duration\": \"exponential\"}",
                        .algorithm = algorithms[i],
                        .trials = 150,
                        .min = 1,
                        .max = 27,
                        .workers = 7};
        struct sim_result r = lab_run(&l, NULL);
        int64_t steps = 0, started = 0;
        for (int k = 0; k < r.n_rungs; k++) {
            const struct sim_rung *g = &r.rungs[k];
            bool first = k == 0 || r.rungs[k - 1].bracket != g->bracket;
            cr_expect_eq(g->reached, g->started, "%s rung %d", algorithms[i], g->rung);
            cr_expect_leq(g->promoted, g->reached);
            if (!first) {
                cr_expect_eq(g->started, r.rungs[k - 1].promoted, "%s rung %d", algorithms[i],
                             g->rung);
            }
            started += first ? g->started : 0;
            steps += g->started * (g->budget - (first ? 0 : r.rungs[k - 1].budget));
        }
        cr_expect_eq(started, r.trials, "%s", algorithms[i]);
        cr_expect_eq(steps, r.steps, "%s: %lld steps, not %lld", algorithms[i],
                     (long long)r.steps, (long long)steps);
        cr_expect_eq(r.jobs, r.n_list);
        cr_expect_eq(r.lost_steps, 0);
        cr_expect_eq(r.trials, 150);
        cr_expect_gt(r.full, 0);
        sim_result_fini(&r);
    }
}

/* A worker's jobs follow each other, and a trial is run by one worker at a time. */
static void check_jobs(const struct sim_result *r)
{
    int64_t *busy_until = calloc((size_t)r->workers, sizeof(int64_t));
    int64_t *trial_until = calloc((size_t)r->trials + 1, sizeof(int64_t));
    double busy = 0;
    for (int64_t i = 0; i < r->n_list; i++) {
        const struct sim_job *j = &r->list[i];
        cr_assert(j->worker >= 0 && j->worker < r->workers && j->trial >= 1 &&
                  j->trial <= r->trials);
        cr_assert_geq(j->start_ns, busy_until[j->worker], "worker %d", j->worker);
        cr_assert(j->end_ns >= j->start_ns && j->end_ns <= r->end_ns);
        cr_assert(j->saved_ns >= j->start_ns && j->saved_ns <= j->end_ns);
        busy_until[j->worker] = j->end_ns;
        bool alone = !j->copy && j->end != SIM_OUTRUN && j->end != SIM_LATE;
        if (alone && r->late == 0 && r->copies == 0) {
            cr_assert_geq(j->start_ns, trial_until[j->trial], "trial %lld", (long long)j->trial);
            trial_until[j->trial] = j->end_ns;
        }
        busy += (double)(j->end_ns - j->start_ns);
    }
    cr_expect_float_eq(busy, r->busy_ns, 1e-6 * busy + 1);
    cr_expect_leq(sim_utilisation(r), 1 + 1e-12);
    free(busy_until);
    free(trial_until);
}

static const char *const faulty[] = {
    "{\"step\": 10, \"duration\": \"straggler(0.5)\", \"drop\": 0.03, \"checkpoint_every\": 2}",
    "{\"step\": 10, \"duration\": \"lognormal(1)\", \"drop\": 0.02, \"lease\": 0, \"report_every\": 3}",
    "{\"step\": 10, \"start\": 5, \"deaths\": {\"every\": 300, \"for\": 60}, \"duration\": "
    "{\"model\": \"uniform(0.5)\", \"per\": \"step\"}}",
    "{\"step\": 10, \"silence\": {\"every\": 200, \"for\": 60}, \"duration\": \"exponential\"}",
    "{\"step\": 10, \"silence\": {\"every\": 100, \"for\": 30}, \"deaths\": {\"every\": 400, \"for\": "
    "10}, \"drop\": 0.02, \"speculate\": 1.5, \"duration\": \"straggler(1.33)\", \"checkpoint_every\": 4}",
    "{\"step\": 10, \"speculate\": 1, \"duration\": \"straggler(1)\", \"lease\": 0}",
    "{\"step\": 10, \"objective\": \"curve(0.01, 0.1)\", \"checkpoint_every\": 0, \"drop\": 0.01}",
    "{\"step\": 10, \"duration\": \"constant\", \"ties\": 5}",
};

/* The record of every simulation is one that the driver could have written: each decision is derived
 * again from the seed, and each trial ends. */
Test(simulation, every_record_can_be_verified)
{
    static const char *const algorithms[] = {"asha", "hyperband", "random", "de"};
    for (size_t i = 0; i < sizeof(faulty) / sizeof(faulty[0]); i++) {
        for (size_t a = 0; a < 4; a++) {
            struct lab_record record;
            struct lab l = {.simulation = faulty[i],
                            .algorithm = algorithms[a],
                            .experiment = "{\"objective\":{\"metric\":\"m\",\"direction\":\"max\"},"
                                          "\"searchspace\":{\"x\":[\"DOUBLE\",[0,1]],\"k\":"
                                          "[\"INTEGER\",[1,9]]},\"resource\":{\"max\":9},\"limits\":"
                                          "{\"losses\":100,\"failures\":0}}",
                            .trials = 60,
                            .workers = 6,
                            .verify = true};
            struct sim_result r = lab_run(&l, &record);
            cr_expect(record.sound, "%s of %s", algorithms[a], faulty[i]);
            cr_expect_eq(r.state, STUDY_COMPLETED, "%s of %s: %s", algorithms[a], faulty[i], r.why);
            cr_expect_eq(r.counts[TRIAL_WAITING] + r.counts[TRIAL_RUNNING], 0);
            cr_expect_eq(record.kinds[EV_EXPIRE], r.expiries);
            cr_expect_leq(r.lost_steps, r.steps);
            check_jobs(&r);
            sim_result_fini(&r);
            lab_record_fini(&record);
        }
    }
}

Test(simulation, the_same_settings_give_the_same_bytes)
{
    for (size_t i = 0; i < sizeof(faulty) / sizeof(faulty[0]); i++) {
        struct lab_record record[3];
        for (int k = 0; k < 3; k++) {
            struct lab l = {.simulation = faulty[i],
                            .algorithm = "asha",
                            .trials = 80,
                            .max = 27,
                            .min = 1,
                            .workers = 9,
                            .repetition = k == 2 ? 1 : 0};
            struct sim_result r = lab_run(&l, &record[k]);
            sim_result_fini(&r);
        }
        cr_expect_str_eq(record[0].text.data, record[1].text.data, "%s", faulty[i]);
        cr_expect_str_neq(record[0].text.data, record[2].text.data, "another repetition");
        for (int k = 0; k < 3; k++) {
            lab_record_fini(&record[k]);
        }
    }
}

/* All durations equal: every event is a tie. Another order of workers is another history, as
 * reproducible as the first; random trials do not depend on it at all. */
Test(simulation, ties_are_broken_by_rule)
{
    static const char *const settings[] = {"{" UNIT "}", "{" UNIT ", \"ties\": 3}",
                                           "{" UNIT ", \"ties\": 3}"};
    struct lab_record record[3];
    double best[3], random_best[3];
    for (int k = 0; k < 3; k++) {
        struct lab l = {.simulation = settings[k], .algorithm = "asha", .trials = 100,
                        .min = 1, .max = 27, .workers = 10};
        struct sim_result r = lab_run(&l, &record[k]);
        best[k] = r.best;
        sim_result_fini(&r);
        l.algorithm = "random";
        r = lab_run(&l, NULL);
        random_best[k] = r.best;
        sim_result_fini(&r);
    }
    cr_expect_str_neq(record[0].text.data, record[1].text.data);
    cr_expect_str_eq(record[1].text.data, record[2].text.data);
    cr_expect_eq(best[1], best[2]);
    cr_expect_eq(random_best[0], random_best[1]);
    for (int k = 0; k < 3; k++) {
        lab_record_fini(&record[k]);
    }
}

/* A dead worker's lease runs out one lease after its last heartbeat: never sooner than lease -
 * heartbeat after its death, never later than the lease. */
Test(simulation, a_death_is_noticed_within_a_lease)
{
    struct lab_record record;
    struct lab l = {.simulation = "{\"step\": 100, \"lease\": 15, \"heartbeat\": 2, \"deaths\": "
                                  "{\"every\": 700, \"for\": 100}}",
                    .experiment = "{\"objective\":{\"metric\":\"m\",\"direction\":\"min\"},"
                                  "\"searchspace\":{\"x\":[\"DOUBLE\",[0,1]]},\"resource\":{\"max\":20},"
                                  "\"limits\":{\"losses\":1000}}",
                    .algorithm = "random",
                    .trials = 12,
                    .workers = 3};
    struct sim_result r = lab_run(&l, &record);
    cr_assert(r.deaths > 5 && record.n_expired > 5, "%lld deaths", (long long)r.deaths);
    int found = 0;
    for (int k = 0; k < record.n_expired; k++) {
        for (int64_t i = 0; i < r.n_list; i++) {
            int64_t died = 946684800000 + r.list[i].end_ns / MAG_NS_PER_MS;
            int64_t after = record.expired_ms[k] - died;
            found += r.list[i].end == SIM_DIED && after >= 12990 && after <= 15010;
        }
    }
    cr_expect_geq(found, record.n_expired, "%d of %d", found, record.n_expired);
    cr_expect_gt(r.away_ns, 0);
    check_jobs(&r);
    sim_result_fini(&r);
    lab_record_fini(&record);
}

/* Cut off for longer than a lease, with others that ask: the trial goes to one of them, and what the
 * first says in the end is late. */
Test(simulation, a_worker_that_was_cut_off_too_long_is_late)
{
    struct lab l = {.simulation = "{\"step\": 10, \"lease\": 15, \"silence\": {\"every\": 200, \"for\": "
                                  "100}, \"objective\": \"curve(0)\"}",
                    .algorithm = "random",
                    .trials = 40,
                    .min = 1,
                    .max = 12,
                    .workers = 5};
    struct sim_result r = lab_run(&l, NULL);
    int64_t late = 0;
    for (int64_t i = 0; i < r.n_list; i++) {
        late += r.list[i].end == SIM_LATE;
    }
    cr_expect_gt(r.expiries, 0);
    cr_expect_gt(r.late, 0);
    cr_expect_eq(late, r.late);
    cr_expect_eq(r.counts[TRIAL_COMPLETED], 40, "every trial is trained all the same");
    sim_result_fini(&r);
    struct lab brief = l;
    brief.simulation = "{\"step\": 10, \"lease\": 15, \"silence\": {\"every\": 200, \"for\": 10}}";
    r = lab_run(&brief, NULL);
    cr_expect_eq(r.expiries, 0, "ten seconds of silence end no lease");
    cr_expect_eq(r.late, 0);
    sim_result_fini(&r);
}

/* A checkpoint after each step: at most the step under way is lost. */
Test(simulation, lost_jobs_go_on_from_their_checkpoint)
{
    static const struct {
        const char *simulation;
        int64_t each; /* the most that one loss can cost */
    } cases[] = {
        {"{" UNIT ", \"drop\": 0.05, \"checkpoint_every\": 1}", 0},
        {"{" UNIT ", \"drop\": 0.05, \"checkpoint_every\": 4}", 3},
        {"{" UNIT ", \"drop\": 0.05, \"checkpoint_every\": 0}", 26},
    };
    int64_t before = -1;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lab l = {.simulation = cases[i].simulation,
                        .experiment = "{\"objective\":{\"metric\":\"m\",\"direction\":\"min\"},"
                                      "\"searchspace\":{\"x\":[\"DOUBLE\",[0,1]]},\"resource\":"
                                      "{\"max\":27},\"limits\":{\"losses\":1000}}",
                        .algorithm = "random",
                        .trials = 30,
                        .workers = 5};
        struct sim_result r = lab_run(&l, NULL);
        cr_expect_gt(r.drops, 10);
        cr_expect_leq(r.lost_steps, r.drops * cases[i].each);
        cr_expect_eq(r.steps, 30 * 27 + r.lost_steps, "what is lost is done again");
        cr_expect_gt(r.lost_steps, before);
        cr_expect_eq(r.full, 30);
        before = r.lost_steps;
        sim_result_fini(&r);
    }
}

/* Slow jobs are copied, the first of the two counts, and the search ends sooner. */
Test(simulation, second_copies_of_slow_jobs_end_a_search_sooner)
{
    double with = 0, without = 0;
    int64_t won = 0;
    for (uint64_t k = 0; k < 10; k++) {
        struct lab l = {.simulation = "{" UNIT ", \"duration\": \"straggler(1.33)\"}",
                        .algorithm = "random",
                        .trials = 40,
                        .min = 1,
                        .max = 27,
                        .workers = 20,
                        .repetition = k};
        struct sim_result r = lab_run(&l, NULL);
        without += (double)r.end_ns;
        cr_expect_eq(r.copies, 0);
        sim_result_fini(&r);
        l.simulation = "{" UNIT ", \"duration\": \"straggler(1.33)\", \"speculate\": 1.5}";
        r = lab_run(&l, NULL);
        with += (double)r.end_ns;
        won += r.copies_won;
        cr_expect_eq(r.counts[TRIAL_COMPLETED], 40);
        cr_expect_leq(r.copies_won, r.copies);
        sim_result_fini(&r);
    }
    cr_expect_gt(won, 10);
    cr_expect_lt(with, 0.97 * without, "%g of the time", with / without);
}

Test(simulation, five_hundred_workers_are_busy_until_the_last_rung)
{
    struct lab l = {.simulation = "{" UNIT ", \"duration\": \"straggler(0.56)\"}",
                    .algorithm = "{\"algorithm\": \"asha\", \"reduction_factor\": 4}",
                    .trials = 20000,
                    .min = 1,
                    .max = 256,
                    .workers = 500};
    struct sim_result r = lab_run(&l, NULL);
    cr_expect_geq(sim_utilisation_until_tail(&r), 0.99, "%g", sim_utilisation_until_tail(&r));
    cr_expect_eq(r.trials, 20000);
    sim_result_fini(&r);
}

/* Every metric that the experiment needs is reported, with steps and without, late or not. */
Test(simulation, several_objectives_and_bounds_are_measured)
{
    static const char *const settings[] = {
        "{\"step\": 10}", "{\"step\": 10, \"silence\": {\"every\": 100, \"for\": 30}, \"drop\": 0.02}"};
    for (size_t i = 0; i < 4; i++) {
        struct lab_record record;
        struct lab l = {.simulation = settings[i / 2],
                        .experiment = "{\"objectives\":[{\"metric\":\"accuracy\",\"direction\":\"max\"},"
                                      "{\"metric\":\"latency\",\"direction\":\"min\"}],"
                                      "\"outcome_constraints\":[{\"metric\":\"memory\",\"max\":512}],"
                                      "\"searchspace\":{\"x\":[\"DOUBLE\",[0,1]],\"y\":[\"DOUBLE\",[0,1]]},"
                                      "\"limits\":{\"losses\":100}}",
                        .algorithm = "{\"algorithm\":\"nsga2\",\"population\":20}",
                        .trials = 80,
                        .min = i % 2,
                        .max = i % 2 == 1 ? 9 : 0,
                        .workers = 5,
                        .verify = true};
        struct sim_result r = lab_run(&l, &record);
        cr_expect(record.sound, "case %zu", i);
        cr_expect_eq(r.counts[TRIAL_COMPLETED], 80, "case %zu: %s", i, r.why);
        cr_expect(r.n_front > 1 && r.n_front < 40, "case %zu: %d on the front", i, r.n_front);
        sim_result_fini(&r);
        lab_record_fini(&record);
    }
}

Test(simulation, limits_end_it_as_they_would_end_a_search)
{
    static const char file[] = "{\"objective\":{\"metric\":\"m\",\"direction\":\"min\"},"
                               "\"searchspace\":{\"x\":[\"DOUBLE\",[0,1]]},\"resource\":{\"max\":9},"
                               "\"limits\":{%s}}";
    static const struct {
        const char *limits, *simulation, *code;
        enum study_state state;
        double seconds;
    } cases[] = {
        {"\"time\": 100", "{\"step\": 1}", "time-up", STUDY_COMPLETED, 100},
        {"\"trials\": 1000", "{\"step\": 1, \"time\": 50}", "", STUDY_RUNNING, 50},
        {"\"trials\": 1000, \"failures\": 7", "{\"step\": 1, \"objective\": \"curve(0, 1)\"}",
         "failures", STUDY_PAUSED, 3},
        {"\"trials\": 1000, \"target\": 0.99", "{\"step\": 1}", "target-reached", STUDY_COMPLETED, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        (void)snprintf(text, sizeof(text), file, cases[i].limits);
        struct lab l = {.simulation = cases[i].simulation, .experiment = text,
                        .algorithm = "random", .workers = 4};
        struct sim_result r = lab_run(&l, NULL);
        cr_expect_eq(r.state, cases[i].state, "case %zu: %s", i, r.why);
        cr_expect_float_eq((double)r.end_ns / SECOND, cases[i].seconds, 1e-6, "case %zu: %g s", i,
                           (double)r.end_ns / SECOND);
        if (cases[i].code[0] != '\0') {
            cr_expect_str_eq(r.why_code, cases[i].code, "case %zu: %s", i, r.why_code);
        }
        check_jobs(&r);
        sim_result_fini(&r);
    }
}

Test(simulation, a_search_without_end_is_refused)
{
    struct sim_setup setup = lab_setup("{\"duration\": {\"by\": {\"y\": 2}}}");
    struct mjson_issues is = {0};
    json_t *doc = json_loads("{\"objective\":{\"metric\":\"m\",\"direction\":\"min\"},"
                             "\"searchspace\":{\"x\":[\"DOUBLE\",[0,1]]}}", 0, NULL);
    struct spec *spec = spec_parse(doc, 1, &is);
    cr_assert_not_null(spec);
    sim_setup_check(&setup, spec, "", &is);
    cr_assert_eq(is.total, 2);
    cr_expect_not_null(strstr(is.items[0].text, "\"y\", which is no parameter"));
    cr_expect_not_null(strstr(is.items[1].text, "the search has no end"));
    mjson_issues_fini(&is);
    spec_destroy(spec);
    json_decref(doc);
    sim_setup_fini(&setup);
}
