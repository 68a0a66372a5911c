/* SPDX-License-Identifier: Apache-2.0
 *
 * PASHA against its paper's rules: soft ranking and the estimate of the tolerance by hand and by a
 * plain model, the growth of the largest budget, and BOHB's choice of the modelled budget.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/pasha_rank.h"
#include "optimizers/rungs.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(pasha, .timeout = 100);

#define LINE "{\"x\": [\"DOUBLE\", [0, 1]]}"

/* ---- the parts ---- */

static struct pasha_curve curve_of(const double *values, int n, double before)
{
    struct pasha_curve c = {.before = before, .now = values[n - 1]};
    for (int i = 0; i < n; i++) {
        curve_add(&c, i + 1, values[i]);
    }
    return c;
}

Test(pasha, curves_that_cross_and_cross_back_are_noise_and_others_are_not)
{
    static const struct {
        double a[4], b[4];
        bool noise;
    } cases[] = {
        {{1, 2, 3, 4}, {2, 3, 4, 5}, false}, /* apart */
        {{3, 2, 1, 1}, {2, 3, 4, 5}, false}, /* cross once */
        {{1, 3, 1, 1}, {2, 2, 2, 2}, true},  /* cross and cross back */
        {{3, 1, 3, 3}, {2, 2, 2, 2}, true},  {{1, 1, 3, 1}, {2, 2, 2, 2}, true},
        {{3, 3, 3, 1}, {2, 2, 2, 2}, false}, /* only the last one differs */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pasha_curve a = curve_of(cases[i].a, 4, 0);
        struct pasha_curve b = curve_of(cases[i].b, 4, 0);
        cr_expect_eq(curves_cross_twice(&a, &b), cases[i].noise, "case %zu", i);
        cr_expect_eq(curves_cross_twice(&b, &a), cases[i].noise, "case %zu turned", i);
        curve_fini(&a);
        curve_fini(&b);
    }
}

static void add(struct pasha_rank *r, int64_t trial, double before, double now)
{
    struct pasha_curve c = {.before = before, .now = now};
    rank_add(r, trial, &c);
}

Test(pasha, soft_ranking_forgives_swaps_within_the_tolerance_only)
{
    struct pasha_rank *r = xcalloc(1, sizeof(*r));
    *r = (struct pasha_rank){.fixed = true, .epsilon = 0.1};
    add(r, 1, 0.50, 0.30);
    add(r, 2, 0.58, 0.20); /* first now, was second: 0.08 apart there */
    cr_expect(rank_is_stable(r));
    add(r, 3, 0.90, 0.40);
    cr_expect(rank_is_stable(r));
    add(r, 4, 0.75, 0.45); /* third then, last now; 0.15 apart: a change that counts */
    cr_expect_not(rank_is_stable(r));
    rank_reset(r);
    cr_expect(rank_is_stable(r));
    r->epsilon = 0; /* without a tolerance equal values may still swap */
    add(r, 1, 0.5, 0.3);
    add(r, 2, 0.5, 0.2);
    cr_expect(rank_is_stable(r));
    add(r, 3, 0.4, 0.25);
    cr_expect_not(rank_is_stable(r));
    free(r);
}

Test(pasha, the_tolerance_is_the_90th_percentile_of_the_distances_of_noisy_pairs)
{
    struct pasha_rank *r = xcalloc(1, sizeof(*r));
    *r = (struct pasha_rank){.percentile = 0.9};
    /* Against the flat one at 2 these go over and back, ending 0.1 … 1.0 above it. */
    static const double flat[] = {2, 2, 2, 2};
    struct pasha_curve c = curve_of(flat, 4, 2);
    rank_add(r, 1, &c);
    curve_fini(&c);
    cr_expect_eq(r->epsilon, 0);
    for (int i = 1; i <= 10; i++) {
        /* all of them run above one another and so cross nobody but the flat one */
        double v[] = {2 + 0.1 * i, 2 + 0.1 * i, 2 - 0.001 * (11 - i), 2 + 0.1 * i};
        c = curve_of(v, 4, v[0]);
        rank_add(r, 1 + i, &c);
        curve_fini(&c);
    }
    cr_expect_eq(r->n_distances, 10);
    cr_expect_float_eq(r->epsilon, 0.91, 1e-9, "numpy.percentile of 0.1 … 1.0: %g", r->epsilon);
    rank_reset(r);
    cr_expect_float_eq(r->epsilon, 0.91, 1e-9, "it stays until the next rung shows noise");
    free(r);
}

Test(pasha, a_curve_keeps_its_shape_in_bounded_room)
{
    struct pasha_curve c = {0};
    for (int64_t step = 1; step <= 100000; step++) {
        curve_add(&c, step, (double)step);
    }
    cr_expect_leq(c.n, CURVE_MAX);
    cr_expect_geq(c.n, CURVE_MAX / 2);
    for (int i = 0; i < c.n; i++) {
        cr_expect_eq(c.points[i].value, 1 + (double)i * c.stride);
    }
    curve_fini(&c);
}

Test(pasha, more_trials_than_are_ranked_leave_the_best)
{
    struct pasha_rank *r = xcalloc(1, sizeof(*r));
    *r = (struct pasha_rank){.fixed = true};
    for (int64_t id = 3 * RANK_MAX; id >= 1; id--) {
        add(r, id, (double)id, (double)id);
        cr_assert(rank_is_stable(r));
    }
    cr_expect_eq(r->n, RANK_MAX);
    for (int i = 0; i < RANK_MAX; i++) {
        cr_expect(r->by_now[i].trial == i + 1 && r->by_before[i].trial == i + 1);
    }
    free(r);
}

/* ---- growth ---- */

static int64_t largest_budget(const struct sim *m)
{
    int64_t max = 0;
    for (int i = 0; i < m->h.n; i++) {
        max = m->h.at[i].answer.budget > max ? m->h.at[i].answer.budget : max;
    }
    return max;
}

static double f_up(const struct space *s, const double *point, int64_t step)
{
    return point[0] + 1 / (double)step;
}

/* The better at 3^k steps is the worse at 3^(k + 1). */
static double f_turning(const struct space *s, const double *point, int64_t step)
{
    int k = 0;
    for (int64_t b = 1; b < step; b *= 3) {
        k++;
    }
    return k % 2 == 0 ? point[0] : -point[0];
}

Test(pasha, stable_rankings_never_leave_the_second_rung)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"pasha\"}", 4, 243, 300, 8);
    m.f = f_up;
    sim_run(&m, 100000);
    cr_expect(m.done);
    cr_expect_eq(m.n_trials, 300);
    cr_expect_eq(largest_budget(&m), 3);
    const struct opt_suggestion *a = &m.h.at[m.h.n - 1].answer;
    cr_expect_str_eq(a->why_code, "trials-limit");
    cr_expect_not_null(strstr(a->why, "the ranking at budget 3 is stable"), "%s", a->why);
    sim_fini(&m);
}

Test(pasha, rankings_that_keep_turning_go_to_the_maximum)
{
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"pasha\"}", 4, 81, 300, 8);
    m.f = f_turning;
    sim_run(&m, 100000);
    cr_expect_eq(largest_budget(&m), 81);
    cr_expect_gt(m.tops, 0);
    sim_fini(&m);
}

/* What the paper promises: a small part of ASHA's epochs, and as good a choice. */
Test(pasha, spends_a_fraction_of_asha_and_chooses_as_well_where_curves_are_orderly)
{
    int64_t epochs[2] = {0};
    double best[2] = {0};
    static const char *const json[] = {"{\"algorithm\": \"asha\"}", "{\"algorithm\": \"pasha\"}"};
    for (int k = 0; k < 2; k++) {
        struct sim m;
        sim_init(&m, LINE, json[k], 9, 243, 256, 4);
        m.f = f_up;
        sim_run(&m, 1000000);
        int64_t deepest = 0;
        for (int64_t id = 1; id <= m.n_trials; id++) {
            epochs[k] += m.trials[id].step;
            bool better = m.trials[id].step > deepest ||
                          (m.trials[id].step == deepest && m.trials[id].point[0] < best[k]);
            best[k] = better ? m.trials[id].point[0] : best[k];
            deepest = m.trials[id].step > deepest ? m.trials[id].step : deepest;
        }
        sim_fini(&m);
    }
    cr_expect_lt(5 * epochs[1], 2 * epochs[0], "%d of %d epochs", (int)epochs[1], (int)epochs[0]);
    cr_expect_leq(best[1], best[0] + 0.01);
}

/* ---- a plain model of the growth ---- */

enum { TRIALS = 60, STEPS = 28 };

struct plain {
    double curve[TRIALS + 2][STEPS];
    int64_t top_trials[TRIALS];
    int n_top;
    int top;
    double epsilon;
};

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool plain_noise(const double *a, const double *b, int64_t level)
{
    bool above = a[level] > b[level];
    bool opposite = false;
    for (int64_t s = level - 1; s >= 1; s--) {
        opposite = opposite || (a[s] > b[s]) != above;
        if (opposite && (a[s] > b[s]) == above) {
            return true;
        }
    }
    return false;
}

static void plain_epsilon(struct plain *p, int64_t level)
{
    double d[TRIALS * TRIALS];
    int n = 0;
    for (int i = 0; i < p->n_top; i++) {
        for (int k = 0; k < i; k++) {
            const double *a = p->curve[p->top_trials[i]];
            const double *b = p->curve[p->top_trials[k]];
            if (plain_noise(a, b, level)) {
                d[n++] = fabs(a[level] - b[level]);
            }
        }
    }
    if (n > 0) {
        qsort(d, (size_t)n, sizeof(*d), rising);
        double at = (n - 1) * 0.9;
        int i = (int)floor(at);
        p->epsilon = d[i] + (at - i) * (d[i + 1 < n ? i + 1 : i] - d[i]);
    }
}

/* By places: count who is better. */
static int64_t on_place(const struct plain *p, int place, int64_t level)
{
    for (int i = 0; i < p->n_top; i++) {
        int better = 0;
        for (int k = 0; k < p->n_top; k++) {
            better += p->curve[p->top_trials[k]][level] < p->curve[p->top_trials[i]][level];
        }
        if (better == place) {
            return p->top_trials[i];
        }
    }
    return 0;
}

static void plain_report(struct plain *p, const int64_t *levels, int n_levels,
                         const struct record *r)
{
    p->curve[r->trial][r->step] = r->value;
    int64_t level = levels[p->top];
    if (p->top == n_levels - 1 || r->step != level) {
        return;
    }
    p->top_trials[p->n_top++] = r->trial;
    plain_epsilon(p, level);
    for (int i = 0; i < p->n_top; i++) {
        double then = p->curve[on_place(p, i, levels[p->top - 1])][levels[p->top - 1]];
        double same = p->curve[on_place(p, i, level)][levels[p->top - 1]];
        if (fabs(then - same) > p->epsilon) {
            p->top++;
            p->n_top = 0;
            return;
        }
    }
}

/* Noise of a size that differs between seeds, so that growth stops in different rungs. */
static double noise;
static double f_noisy(const struct space *s, const double *point, int64_t step)
{
    struct pcg64 g;
    uint64_t bits = 0;
    memcpy(&bits, point, sizeof(bits));
    pcg_stream(&g, bits, "noise", (uint64_t)step);
    return point[0] + 1 / (double)step + noise * (pcg64_double(&g) - 0.5);
}

Test(pasha, grows_exactly_when_the_plain_model_does)
{
    int64_t levels[RUNGS_MAX];
    int n_levels = rungs_levels(1, 27, 2, levels);
    int ends[8] = {0};
    for (uint64_t seed = 0; seed < 24; seed++) {
        struct plain *p = xcalloc(1, sizeof(*p));
        struct sim m;
        noise = seed % 4 == 0 ? 0 : 0.05 * (double)(seed % 4);
        sim_init(&m, LINE, "{\"algorithm\": \"pasha\", \"reduction_factor\": 2}", seed, 27, TRIALS,
                 1 + (int)seed % 5);
        m.f = f_noisy;
        sim_run(&m, 100000);
        cr_assert(m.done);
        struct optimizer *o = optimizer_of("{\"algorithm\": \"pasha\", \"reduction_factor\": 2}",
                                           m.space, seed, 1, 27, TRIALS);
        p->top = 1;
        for (int i = 0; i < m.h.n; i++) {
            replay(o, m.space, &m.h, i, i + 1, false);
            if (m.h.at[i].call == CALL_REPORT) {
                plain_report(p, levels, n_levels, &m.h.at[i]);
                json_t *state = optimizer_save(o);
                cr_assert_eq(json_integer_value(json_object_get(state, "top")), p->top,
                             "seed %d event %d", (int)seed, i);
                json_decref(state);
            }
            cr_assert(m.h.at[i].answer.budget <= levels[p->top]);
        }
        ends[p->top]++;
        optimizer_destroy(o);
        sim_fini(&m);
        free(p);
    }
    cr_expect(ends[1] > 0 && ends[1] < 24, "some stay, some grow");
}

/* ---- BOHB ---- */

Test(pasha, bohb_models_the_highest_budget_that_has_enough_results)
{
    /* At budget 1 small x looks good, at 9 large x is: with results at 9, points must go up. */
    struct sim m;
    sim_init(&m, LINE, "{\"algorithm\": \"bohb\", \"random_fraction\": 0}", 3, 9, 1000, 1);
    for (uint64_t n = 0; n < 60; n++) {
        double x = ((double)n + 0.5) / 60;
        struct opt_result low = opt_result_of(&x);
        optimizer_observe(m.o, &x, 1, &low);
    }
    double sum = 0;
    double point = 0;
    for (int64_t id = 1; id <= 20; id++) {
        struct opt_suggestion out = {.point = &point};
        optimizer_suggest(m.o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        sum += point;
    }
    cr_expect_lt(sum / 20, 0.3, "the model of budget 1: %g", sum / 20);
    for (uint64_t n = 0; n < 20; n++) {
        double x = ((double)n + 0.5) / 20;
        double v = 1 - x;
        struct opt_result high = opt_result_of(&v);
        optimizer_observe(m.o, &x, 9, &high);
    }
    sum = 0;
    for (int64_t id = 1; id <= 20; id++) {
        struct opt_suggestion out = {.point = &point};
        optimizer_suggest(m.o, &(struct opt_ask){.next_trial = id, .may_create = true}, &out);
        sum += point;
    }
    cr_expect_gt(sum / 20, 0.7, "the model of budget 9: %g", sum / 20);
    sim_fini(&m);
}

/* Of the trials 201 to 400, over some seeds: how many lie beyond 0.3. */
static double part_beyond(const char *json)
{
    int far = 0;
    int n = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct sim m;
        sim_init(&m, LINE, json, seed, 27, 400, 4);
        m.f = f_up;
        sim_run(&m, 100000);
        for (int64_t id = 201; id <= 400; id++, n++) {
            far += m.trials[id].point[0] > 0.3;
        }
        sim_fini(&m);
    }
    return (double)far / n;
}

Test(pasha, bohb_goes_where_the_results_are_good_and_keeps_a_third_random)
{
    static const char *const modes[] = {"synchronous", "asynchronous"};
    for (int k = 0; k < 2; k++) {
        char *json = xasprintf("{\"algorithm\": \"bohb\", \"mode\": \"%s\"}", modes[k]);
        double far = part_beyond(json);
        /* A third of the trials is uniform: 0.7 / 3 = 0.23 of all lie beyond 0.3. */
        cr_expect(far > 0.2 && far < 0.4, "%s: %g", modes[k], far);
        free(json);
    }
}
