/* SPDX-License-Identifier: Apache-2.0
 *
 * The early-stopping rules, each against figures worked out apart from them.
 */
#include "optimizers/early_stop.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "harness.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(early_stop, .timeout = 100);

static const struct early_setup to_27 = {.resource = {.present = true, .min = 1, .max = 27},
                                         .seed = 5};

static struct early_stop *rule_of(const char *json, const struct early_setup *setup)
{
    struct mjson_issues is = {0};
    json_t *v = NULL;
    cr_assert_eq(mjson_parse(json, strlen(json), &v, NULL), MAG_OK);
    struct early_stop *e = early_stop_create(v, "", setup, &is);
    cr_assert_not_null(e, "%s: %s", json, is.n > 0 ? is.items[0].text : "");
    json_decref(v);
    return e;
}

static struct early_stop *min_rule(const char *json)
{
    return rule_of(json, &to_27);
}

static void complete(struct early_stop *e, int64_t trial, double value)
{
    struct opt_result r = opt_result_of(&value);
    early_stop_finish(e, trial, OPT_COMPLETED, &r);
}

/* Reports and wants a stop whose sentence holds `text`. */
static void expect_stop(struct early_stop *e, int64_t trial, int64_t step, double value,
                        const char *text)
{
    char *why = NULL;
    cr_assert(early_stop_report(e, trial, step, value, &why), "trial %d goes on at step %d",
              (int)trial, (int)step);
    cr_expect_not_null(strstr(why, text), "\"%s\" is not in: %s", text, why);
    free(why);
}

static void expect_on(struct early_stop *e, int64_t trial, int64_t step, double value)
{
    char *why = NULL;
    cr_assert_not(early_stop_report(e, trial, step, value, &why), "trial %d step %d: %s",
                  (int)trial, (int)step, why);
}

/* ---- all rules ---- */

Test(early_stop, every_rule_resolves_to_itself_and_takes_ten_thousand_reports)
{
    for (int i = 0; early_stop_rules()[i] != NULL; i++) {
        const char *name = early_rule_name(early_stop_rules()[i]);
        char *json = xasprintf("{\"rule\": \"%s\"%s}", name,
                               strcmp(name, "threshold") == 0 ? ", \"upper\": 1e9" : "");
        struct early_stop *e = min_rule(json);
        json_t *a = early_stop_resolved(e);
        char *text = mjson_dump(a);
        struct early_stop *f = min_rule(text);
        json_t *b = early_stop_resolved(f);
        struct pcg64 g;
        cr_expect(json_equal(a, b));
        cr_expect_eq(early_stop_may_combine(f), strcmp(name, "none") == 0);
        pcg_stream(&g, 3, "reports", 0);
        for (int64_t trial = 1; trial <= 600; trial++) {
            bool stopped = false;
            for (int64_t step = 1; step <= 27 && !stopped; step++) {
                double v = pcg64_double(&g) + 1 / (double)step;
                char *why = NULL;
                stopped = early_stop_report(e, trial, step, v, &why);
                cr_assert_eq(stopped, why != NULL);
                /* Two of the same kind decide the same: nothing but the calls counts. */
                cr_assert_eq(early_stop_report(f, trial, step, v, NULL), stopped, "%s", name);
                free(why);
            }
            double end = pcg64_double(&g);
            struct opt_result r = opt_result_of(&end);
            enum opt_outcome outcome = stopped          ? OPT_STOPPED
                                       : trial % 9 == 0 ? OPT_FAILED
                                                        : OPT_COMPLETED;
            early_stop_finish(e, trial, outcome, outcome == OPT_FAILED ? NULL : &r);
            early_stop_finish(f, trial, outcome, outcome == OPT_FAILED ? NULL : &r);
        }
        json_decref(a);
        json_decref(b);
        free(text);
        free(json);
        early_stop_destroy(e);
        early_stop_destroy(f);
    }
}

Test(early_stop, faults_name_their_place_and_what_would_do)
{
    static const struct {
        const char *json, *pointer, *text;
        int64_t max;
    } cases[] = {
        {"3", "", "must be an object such as", 9},
        {"{}", "/rule", "the rule is missing; this build has \"none\", \"median\"", 9},
        {"{\"rule\": \"medain\"}", "/rule", "did you mean \"median\"?", 9},
        {"{\"rule\": \"threshold\"}", "/upper", "give \"upper\", \"lower\" or both", 9},
        {"{\"rule\": \"threshold\", \"upper\": 1, \"lower\": 2}", "/lower", "is above", 9},
        {"{\"rule\": \"percentile\", \"percentile\": 101}", "/percentile", "outside 0 to 100", 9},
        {"{\"rule\": \"patience\", \"patience\": 0}", "/patience", "outside 1 to", 9},
        {"{\"rule\": \"wilcoxon\", \"p_threshold\": 2}", "/p_threshold", "outside 0 to 1", 9},
        {"{\"rule\": \"curve\"}", "/rule", "needs a resource", 0},
        {"{\"rule\": \"hyperband\"}", "/rule", "needs a resource", 0},
        {"{\"rule\": \"hyperband\"}", "/rule", "no rung fits", 1},
        {"{\"rule\": \"median\", \"patience\": 3}", "/patience", "unknown", 9},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct early_setup setup = {
            .resource = {.present = cases[i].max > 0, .min = 1, .max = cases[i].max}};
        struct mjson_issues is = {0};
        json_t *v = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        cr_assert_null(early_stop_create(v, "", &setup, &is), "%s", cases[i].json);
        cr_assert_gt(is.n, 0);
        cr_expect_str_eq(is.items[0].pointer, cases[i].pointer, "%s", cases[i].json);
        cr_expect_not_null(strstr(is.items[0].text, cases[i].text), "%s: %s", cases[i].json,
                           is.items[0].text);
        mjson_issues_fini(&is);
        json_decref(v);
    }
}

Test(early_stop, none_stops_nothing)
{
    struct early_stop *e = min_rule("{\"rule\": \"none\"}");
    cr_expect(early_stop_may_combine(e));
    for (int64_t step = 1; step < 100; step++) {
        expect_on(e, 1, step, (double)step * 1e9);
    }
    early_stop_destroy(e);
}

/* ---- median ---- */

Test(early_stop, median_stops_what_is_worse_than_the_median_of_running_averages)
{
    struct early_stop *e = min_rule("{\"rule\": \"median\", \"min_trials\": 3}");
    /* Running averages at step 2: 1, 2, 3. */
    for (int64_t id = 1; id <= 3; id++) {
        cr_expect_not(early_stop_report(e, id, 1, (double)id - 0.5, NULL));
        cr_expect_not(early_stop_report(e, id, 2, (double)id + 0.5, NULL));
        early_stop_finish(e, id, OPT_COMPLETED, NULL);
    }
    char *why = NULL;
    cr_expect_not(early_stop_report(e, 4, 1, 1.4, &why));
    cr_expect_null(why);
    cr_expect_not(early_stop_report(e, 4, 2, 9.0, NULL), "its best so far, 1.4, is better than 2");
    cr_expect(early_stop_report(e, 5, 1, 1.6, &why), "1.6 against 1.45");
    cr_expect_not_null(strstr(why, "at step 1"));
    cr_expect_not_null(strstr(why, "4 other trials"), "%s", why);
    free(why);
    early_stop_destroy(e);
}

Test(early_stop, median_compares_equal_steps_not_list_positions)
{
    struct early_stop *e = min_rule("{\"rule\": \"median\", \"min_trials\": 1}");
    for (int64_t step = 10; step <= 50; step += 10) { /* reports rarely: 5 values up to step 50 */
        cr_expect_not(early_stop_report(e, 1, step, 1.0 / (double)step, NULL));
    }
    /* By position the fifth value of trial 2 would be held against step 50. */
    for (int64_t step = 1; step <= 9; step++) {
        cr_expect_not(early_stop_report(e, 2, step, 0.9, NULL));
    }
    cr_expect(early_stop_report(e, 2, 10, 0.9, NULL));
    early_stop_destroy(e);
}

Test(early_stop, median_works_from_the_first_round_and_respects_its_options)
{
    struct early_stop *e =
        min_rule("{\"rule\": \"median\", \"min_trials\": 2, \"min_step\": 4, \"interval\": 2}");
    for (int64_t step = 1; step <= 6; step++) { /* all four run at once; none has ended */
        for (int64_t id = 1; id <= 4; id++) {
            bool stop = early_stop_report(e, id, step, (double)id, NULL);
            cr_expect_eq(stop, step >= 4 && step % 2 == 0 && id >= 3, "trial %d step %d", (int)id,
                         (int)step);
        }
    }
    early_stop_destroy(e);
}

Test(early_stop, the_running_median_is_the_median)
{
    struct early_stop *e = min_rule("{\"rule\": \"median\", \"min_trials\": 1}");
    struct pcg64 g;
    enum { N = 501 };
    double sorted[N];
    pcg_stream(&g, 1, "median", 0);
    for (int64_t id = 1; id <= N; id++) {
        double v = (double)pcg64_below(&g, 50);
        int n = (int)id - 1;
        double median = n % 2 == 1 ? sorted[n / 2]
                        : n > 0    ? (sorted[n / 2 - 1] + sorted[n / 2]) / 2
                                   : INFINITY;
        cr_assert_eq(early_stop_report(e, id, 1, v, NULL), v > median, "trial %d", (int)id);
        int at = n;
        for (; at > 0 && sorted[at - 1] > v; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = v;
    }
    early_stop_destroy(e);
}

Test(early_stop, the_rule_keeps_its_memory_bounded_and_still_works_at_the_bounds)
{
    enum { MAX = 10000 }; /* steps, and trials of one step */
    struct early_stop *e = min_rule("{\"rule\": \"median\", \"min_trials\": 1}");
    for (int64_t step = 1; step <= MAX + 1; step++) {
        (void)early_stop_report(e, 1, step, 1, NULL);
    }
    for (int64_t id = 2; id <= MAX + 5; id++) {
        cr_expect_not(early_stop_report(e, id, 1, 1, NULL));
    }
    char *why = NULL;
    cr_expect(early_stop_report(e, MAX + 6, 1, 2, &why));
    cr_expect_not_null(strstr(why, "of 10000 other trials"), "%s", why);
    free(why);
    cr_expect(early_stop_report(e, MAX + 6, MAX, 2, NULL), "the last step that is compared");
    cr_expect_not(early_stop_report(e, MAX + 6, MAX + 1, 2, NULL), "steps beyond stop nobody");
    early_stop_destroy(e);
}

/* ---- percentile ---- */

Test(early_stop, the_running_percentile_is_the_percentile_whatever_it_is)
{
    static const double percents[] = {0, 5, 25, 33.3, 50, 75, 99, 100};
    for (size_t k = 0; k < sizeof(percents) / sizeof(percents[0]); k++) {
        char *json = xasprintf("{\"rule\": \"percentile\", \"percentile\": %g, "
                               "\"min_trials\": 1}",
                               percents[k]);
        struct early_stop *e = min_rule(json);
        struct pcg64 g;
        enum { N = 300 };
        double sorted[N];
        pcg_stream(&g, 1, "percentile", k);
        for (int64_t id = 1; id <= N; id++) {
            double v = pcg64_double(&g);
            int n = (int)id - 1;
            double at = (n - 1) * percents[k] / 100; /* as numpy.percentile interpolates */
            int lo = (int)floor(at);
            double limit = n == 0       ? INFINITY
                           : lo + 1 < n ? sorted[lo] + (at - lo) * (sorted[lo + 1] - sorted[lo])
                                        : sorted[lo];
            cr_assert(fabs(v - limit) > 1e-12);
            cr_assert_eq(early_stop_report(e, id, 1, v, NULL), v > limit, "%g: trial %d",
                         percents[k], (int)id);
            for (lo = n; lo > 0 && sorted[lo - 1] > v; lo--) {
                sorted[lo] = sorted[lo - 1];
            }
            sorted[lo] = v;
        }
        free(json);
        early_stop_destroy(e);
    }
}

Test(early_stop, percentile_keeps_the_best_quarter_by_the_best_value_so_far)
{
    struct early_stop *e = min_rule("{\"rule\": \"percentile\", \"min_trials\": 4}");
    for (int64_t id = 1; id <= 4; id++) {
        expect_on(e, id, 2, (double)id); /* values at step 2: 1 2 3 4; their quarter is 1.75 */
    }
    expect_on(e, 5, 1, 1.7);
    expect_on(e, 5, 2, 9); /* its best so far, 1.7, is among them */
    expect_stop(e, 6, 2, 2.1, "at step 2 its best value so far, 2.1, is worse than 2,");
    early_stop_destroy(e);
}

/* ---- threshold ---- */

Test(early_stop, threshold_is_in_the_users_units_whatever_the_direction)
{
    struct early_setup max = to_27;
    max.maximize = true;
    static const char json[] =
        "{\"rule\": \"threshold\", \"upper\": 10, \"lower\": 0.1, \"min_step\": 2}";
    struct early_stop *e = min_rule(json);
    expect_on(e, 1, 1, 99);
    expect_on(e, 1, 2, 10);
    expect_on(e, 1, 3, 0.1);
    expect_stop(e, 1, 4, 10.5, "at step 4 its value 10.5 is above the threshold 10");
    expect_stop(e, 2, 2, 0.05, "its value 0.05 is below the threshold 0.1");
    early_stop_destroy(e);
    e = rule_of(json, &max); /* an accuracy: the rule sees its negative */
    expect_on(e, 1, 2, -0.5);
    expect_stop(e, 1, 3, -0.05, "its value 0.05 is below the threshold 0.1");
    early_stop_destroy(e);
}

/* ---- patience ---- */

Test(early_stop, patience_counts_reports_without_an_improvement_beyond_min_delta)
{
    struct early_stop *e =
        min_rule("{\"rule\": \"patience\", \"patience\": 3, \"min_delta\": 0.1}");
    expect_on(e, 1, 1, 1.0);
    expect_on(e, 1, 5, 0.95); /* not by more than 0.1: 1 */
    expect_on(e, 1, 6, 0.92); /* 2 */
    expect_on(e, 1, 9, 0.89); /* better than 1.0 by 0.11: the count begins anew */
    expect_on(e, 1, 10, 2);
    expect_on(e, 1, 11, 0.80);
    expect_stop(e, 1, 12, 0.795,
                "3 reports in a row did not improve on 0.89, reached at step 9, by more than 0.1");
    expect_on(e, 2, 1, 5); /* each trial by itself */
    expect_on(e, 2, 2, 5);
    early_stop_destroy(e);
}

Test(early_stop, patience_waits_for_its_first_step)
{
    struct early_stop *e = min_rule("{\"rule\": \"patience\", \"patience\": 1, \"min_step\": 4}");
    expect_on(e, 1, 1, 1.0);
    expect_on(e, 1, 2, 1.0);
    expect_on(e, 1, 3, 1.0);
    expect_stop(e, 1, 4, 1.0, "3 reports");
    early_stop_destroy(e);
}

/* ---- wilcoxon ---- */

/* P(W+ >= seen) over all 2^m signs of the differences that are not zero, ranks by counting. */
static double permutations_p(const double *d, int n)
{
    double rank[16];
    int m = 0;
    double seen = 0;
    int above = 0;
    for (int i = 0; i < n; i++) {
        double r = 0.5;
        for (int k = 0; k < n; k++) {
            r += fabs(d[k]) < fabs(d[i]) ? 1 : fabs(d[k]) == fabs(d[i]) ? 0.5 : 0;
        }
        if (d[i] != 0) {
            rank[m++] = r;
            seen += d[i] > 0 ? r : 0;
        }
    }
    for (int signs = 0; signs < 1 << m; signs++) {
        double sum = 0;
        for (int i = 0; i < m; i++) {
            sum += signs >> i & 1 ? rank[i] : 0;
        }
        above += sum >= seen;
    }
    return (double)above / (1 << m);
}

Test(early_stop, wilcoxon_stops_exactly_when_the_permutations_say_so)
{
    int stops = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct early_stop *e = min_rule("{\"rule\": \"wilcoxon\"}");
        struct pcg64 g;
        double best[10];
        double d[10];
        double sum = 0;
        pcg_stream(&g, seed, "folds", 0);
        for (int i = 0; i < 10; i++) {
            best[i] = (double)pcg64_below(&g, 8);
            expect_on(e, 1, i + 1, best[i]);
        }
        complete(e, 1, 0);
        double best_mean = 0;
        for (int i = 0; i < 10; i++) {
            best_mean += best[i] / 10;
        }
        for (int i = 0; i < 10; i++) { /* whole numbers: ties and zeros too */
            d[i] = (double)pcg64_below(&g, 9) - 3;
            sum += best[i] + d[i];
            double p = i >= 1 ? permutations_p(d, i + 1) : 1;
            bool want = p < 0.1 && sum / (i + 1) > best_mean;
            cr_assert_eq(early_stop_report(e, 2, i + 1, best[i] + d[i], NULL), want,
                         "seed %d step %d p %g", (int)seed, i + 1, p);
            stops += want;
            if (want) {
                break;
            }
        }
        early_stop_destroy(e);
    }
    cr_expect(stops > 20 && stops < 180, "%d", stops);
}

/* Five differences of one sign: p = 1/32; four: 1/16; with 0.05 the fifth decides. */
Test(early_stop, wilcoxon_needs_five_pairs_of_one_sign_for_five_percent)
{
    struct early_stop *e = min_rule("{\"rule\": \"wilcoxon\", \"p_threshold\": 0.05}");
    for (int64_t step = 1; step <= 6; step++) {
        expect_on(e, 1, step, 1);
    }
    complete(e, 1, 1);
    for (int64_t step = 1; step <= 4; step++) {
        expect_on(e, 2, step, 2 + (double)step);
    }
    expect_stop(e, 2, 5, 7,
                "at step 5 its mean 5 is worse than 1 of trial 1, the best, over 5 common steps: "
                "p = 0.0312, below 0.05");
    early_stop_destroy(e);
}

/* 40 differences of +1 with noise: far into the normal approximation; and 40 without a trend. */
Test(early_stop, wilcoxon_beyond_the_exact_table_is_the_normal_approximation)
{
    struct early_stop *e =
        min_rule("{\"rule\": \"wilcoxon\", \"p_threshold\": 0.01, \"min_pairs\": 40}");
    struct pcg64 g;
    pcg_stream(&g, 4, "folds", 0);
    for (int64_t step = 1; step <= 40; step++) {
        expect_on(e, 1, step, 0);
    }
    complete(e, 1, 0);
    for (int64_t step = 1; step <= 39; step++) {
        expect_on(e, 2, step, 1 + pcg64_normal(&g));
        expect_on(e, 3, step, step % 2 == 0 ? (double)step : 0.5 - (double)step);
    }
    expect_stop(e, 2, 40, 1, "over 40 common steps");
    expect_on(e, 3, 40, 40);
    early_stop_destroy(e);
}

Test(early_stop, wilcoxon_pairs_by_step_and_spares_what_has_the_better_mean)
{
    struct early_stop *e = min_rule("{\"rule\": \"wilcoxon\", \"p_threshold\": 0.3}");
    expect_on(e, 1, 1, 1);
    expect_on(e, 1, 2, 1);
    expect_on(e, 1, 9, 100);
    complete(e, 1, 34);
    expect_on(e, 2, 3, 50); /* a step that the best lacks: no pair */
    expect_on(e, 2, 4, 50);
    expect_on(e, 3, 1, 2);
    expect_on(e, 3, 2, 2); /* worse at both common steps, but its mean 2 beats 34 */
    early_stop_destroy(e);
}

/* ---- curve ---- */

static double power_law(double c, double a, double b, int64_t t)
{
    return c + a * pow((double)t, -b);
}

Test(early_stop, curve_stops_what_leads_to_a_worse_end_and_lets_the_better_ones_run)
{
    struct early_setup to_100 = {.resource = {.present = true, .min = 1, .max = 100}};
    struct early_stop *e = rule_of("{\"rule\": \"curve\"}", &to_100);
    struct pcg64 g;
    int64_t wrong = 0;
    int64_t saved = 0;
    int64_t stopped = 0;
    pcg_stream(&g, 8, "curves", 0);
    for (int64_t step = 1; step <= 100; step++) {
        expect_on(e, 1, step, power_law(0.3, 0.5, 0.7, step));
    }
    double best = power_law(0.3, 0.5, 0.7, 100);
    complete(e, 1, best);
    for (int64_t id = 2; id <= 201; id++) {
        double c = 0.1 + 0.6 * pcg64_double(&g);
        double a = 0.3 + 0.6 * pcg64_double(&g);
        double b = 0.3 + 0.9 * pcg64_double(&g);
        double end = power_law(c, a, b, 100);
        for (int64_t step = 1; step <= 100; step++) {
            double v = power_law(c, a, b, step) + 0.005 * pcg64_normal(&g);
            if (early_stop_report(e, id, step, v, NULL)) {
                wrong += end < best;
                saved += 100 - step;
                stopped++;
                break;
            }
        }
        double v = best + 1; /* the best stays what it is */
        struct opt_result r = opt_result_of(&v);
        early_stop_finish(e, id, OPT_COMPLETED, &r);
    }
    cr_expect_leq(wrong, 2, "%d better trials stopped", (int)wrong);
    cr_expect_geq(stopped, 90, "%d", (int)stopped);
    cr_expect_geq(saved, 60 * stopped, "stopped on average at step %g",
                  100 - (double)saved / (double)stopped);
    early_stop_destroy(e);
}

Test(early_stop, curve_names_the_predicted_end_and_the_best)
{
    struct early_setup max = {.resource = {.present = true, .min = 1, .max = 50}, .maximize = true};
    struct early_stop *e = rule_of("{\"rule\": \"curve\"}", &max);
    complete(e, 1, -0.9);
    char *why = NULL;
    int64_t step = 1;
    while (step < 50 && !early_stop_report(e, 2, step, -0.5 + 0.3 / (double)step, &why)) {
        step++;
    }
    cr_expect_eq(step, 6, "a clean curve is judged as soon as it may be");
    cr_expect_not_null(strstr(why, "at step 6 its curve leads to 0.49"), "%s", why);
    cr_expect_not_null(strstr(why, "its chance to beat 0.9 of trial 1"), "%s", why);
    free(why);
    early_stop_destroy(e);
}

Test(early_stop, curve_judges_nobody_without_a_completed_trial_nor_at_the_end)
{
    struct early_stop *e = min_rule("{\"rule\": \"curve\"}");
    for (int64_t step = 1; step <= 26; step++) {
        expect_on(e, 1, step, 5);
        expect_on(e, 2, step, 1);
    }
    early_stop_finish(e, 1, OPT_FAILED, NULL);
    expect_on(e, 2, 27, 1);
    complete(e, 2, 1);
    expect_on(e, 3, 27, 9);
    early_stop_destroy(e);
}

/* ---- hyperband ---- */

Test(early_stop, hyperband_lets_all_brackets_live_and_stops_most_trials_in_the_first)
{
    struct early_setup to_81 = {.resource = {.present = true, .min = 1, .max = 81}, .seed = 11};
    struct early_stop *e = rule_of("{\"rule\": \"hyperband\"}", &to_81);
    static const int64_t levels[] = {1, 3, 9, 27, 81};
    int64_t ends[5] = {0};
    struct pcg64 g;
    enum { N = 3000 };
    pcg_stream(&g, 2, "values", 0);
    for (int64_t id = 1; id <= N; id++) {
        double v = pcg64_double(&g);
        int k = 0;
        while (k < 4 && !early_stop_report(e, id, levels[k], v, NULL)) {
            k++;
        }
        ends[k]++;
    }
    /* Of bracket 4 (0.5694 of all) two thirds stop at 1, of those left and of bracket 3 at 3, … */
    cr_expect_lt(fabs((double)ends[0] - N * 0.5694 * 2 / 3), 100, "%d", (int)ends[0]);
    cr_expect_lt(fabs((double)ends[1] - N * (0.5694 * 2 / 9 + 0.2373 * 2 / 3)), 100, "%d",
                 (int)ends[1]);
    cr_expect_gt(ends[4], N * 0.0351, "bracket 0 runs all of its trials whole: %d", (int)ends[4]);
    early_stop_destroy(e);
}

Test(early_stop, hyperband_says_where_a_trial_stood)
{
    struct early_setup one = {.resource = {.present = true, .min = 1, .max = 3}, .seed = 1};
    struct early_stop *e = rule_of("{\"rule\": \"hyperband\"}", &one);
    char *why = NULL;
    int64_t id = 1;
    while (!early_stop_report(e, id, 1, (double)id, &why)) {
        id++;
        cr_assert_lt(id, 50);
    }
    cr_expect_not_null(strstr(why, "is not among the best 1 of the 2 trials that reached 1 in "
                                   "bracket 1"),
                       "%s", why);
    free(why);
    early_stop_destroy(e);
}
