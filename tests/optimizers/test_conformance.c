/* SPDX-License-Identifier: Apache-2.0
 *
 * What every optimizer promises, run over a table of them. An algorithm joins with one row (or
 * more: one for each mode); a test counts that none is missing.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/options.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(conformance, .timeout = 400);

static const struct row {
    const char *json;
    const char *space;
    int64_t max;   /* of the resource, 0 = none */
    int64_t limit; /* of trials */
} rows[] = {
    {"{\"algorithm\": \"random\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"random\"}", MIXED_SPACE, 9, 60},
    {"{\"algorithm\": \"sobol\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"sobol\"}", FINITE_SPACE, 3, 30},
    {"{\"algorithm\": \"halton\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"lhs\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"lhs\", \"size\": 16}", MIXED_SPACE, 9, 60},
    {"{\"algorithm\": \"grid\"}", FINITE_SPACE, 0, 60},
    {"{\"algorithm\": \"grid\", \"order\": \"shuffled\", \"points\": 7}",
     "{\"k\": [\"INTEGER\", [1, 5]], \"x\": [\"DOUBLE\", [0, 1]]}", 0, 60},
    {"{\"algorithm\": \"grid\", \"order\": \"shuffled\"}", FINITE_SPACE, 4, 60},
    {"{\"algorithm\": \"grid\", \"order\": \"shuffled\"}", FINITE_SPACE, 0, 20},
    {"{\"algorithm\": \"random\"}", CONSTRAINED_SPACE, 0, 60},
    {"{\"algorithm\": \"grid\", \"order\": \"shuffled\"}", CONSTRAINED_SPACE, 0, 60},
    {"{\"algorithm\": \"random\"}", CONSTRAINED_MIXED, 0, 60},
    {"{\"algorithm\": \"sobol\"}", CONSTRAINED_MIXED, 0, 60},
    {"{\"algorithm\": \"lhs\"}", CONSTRAINED_MIXED, 0, 60},
    {"{\"algorithm\": \"asha\", \"sampler\": \"tpe\"}", CONSTRAINED_MIXED, 27, 60},
    {"{\"algorithm\": \"cmaes\"}", CONSTRAINED_MIXED, 0, 60},
    {"{\"algorithm\": \"de\", \"population\": 6}", CONSTRAINED_MIXED, 0, 60},
    {"{\"algorithm\": \"nsga2\", \"population\": 8}", CONSTRAINED_MIXED, 0, 60},
    {"{\"algorithm\": \"asha\"}", CONSTRAINED_MIXED, 27, 60},
    {"{\"algorithm\": \"hyperband\"}", CONSTRAINED_MIXED, 9, 60},
    {"{\"algorithm\": \"dehb\"}", CONSTRAINED_MIXED, 9, 60},
    {"{\"algorithm\": \"pbt\", \"population\": 6, \"interval\": 3}", CONSTRAINED_MIXED, 20, 40},
    {"{\"algorithm\": \"tpe\"}", CONSTRAINED_SPACE, 0, 100},
    {"{\"algorithm\": \"cmaes\"}", CONSTRAINED_SPACE, 0, 100},
    {"{\"algorithm\": \"asha\"}", MIXED_SPACE, 27, 60},
    {"{\"algorithm\": \"asha\", \"reduction_factor\": 2}", MIXED_SPACE, 7, 60},
    {"{\"algorithm\": \"asha\", \"bracket\": 1}", MIXED_SPACE, 20, 40},
    {"{\"algorithm\": \"asha\", \"type\": \"stopping\"}", MIXED_SPACE, 27, 60},
    {"{\"algorithm\": \"asha\", \"brackets\": 3}", MIXED_SPACE, 27, 60},
    {"{\"algorithm\": \"asha\", \"type\": \"stopping\", \"bracket\": 1, \"brackets\": 2}",
     MIXED_SPACE, 27, 60},
    {"{\"algorithm\": \"pasha\"}", MIXED_SPACE, 27, 60},
    {"{\"algorithm\": \"pasha\", \"reduction_factor\": 2, \"tolerance\": 0.01}", MIXED_SPACE, 20,
     60},
    {"{\"algorithm\": \"bohb\"}", MIXED_SPACE, 9, 60},
    {"{\"algorithm\": \"bohb\", \"mode\": \"asynchronous\", \"min_points\": 4}", MIXED_SPACE, 9,
     60},
    {"{\"algorithm\": \"hyperband\"}", MIXED_SPACE, 9, 60},
    {"{\"algorithm\": \"hyperband\", \"mode\": \"asynchronous\"}", MIXED_SPACE, 9, 60},
    {"{\"algorithm\": \"hyperband\", \"mode\": \"asynchronous\", \"iterations\": 2}", MIXED_SPACE,
     9, 200},
    {"{\"algorithm\": \"hyperband\", \"reduction_factor\": 2, \"iterations\": 1}", MIXED_SPACE, 8,
     90},
    {"{\"algorithm\": \"hyperband\", \"iterations\": 2}", MIXED_SPACE, 9, 200},
    {"{\"algorithm\": \"cmaes\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"cmaes\", \"initial\": 3}", FINITE_SPACE, 5, 30},
    {"{\"algorithm\": \"cmaes\", \"population\": 5}", NUMBERS_SPACE, 0, 60},
    {"{\"algorithm\": \"cmaes\", \"variant\": \"separable\", \"model\": \"none\"}", NUMBERS_SPACE,
     0, 60},
    {"{\"algorithm\": \"cmaes\", \"learning_rate\": \"adaptive\", \"population\": 4}",
     NUMBERS_SPACE, 3, 60},
    {"{\"algorithm\": \"de\", \"population\": 6}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"de\", \"population\": 5, \"mode\": \"generational\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"dehb\"}", MIXED_SPACE, 9, 90},
    {"{\"algorithm\": \"dehb\", \"iterations\": 2, \"reduction_factor\": 2}", MIXED_SPACE, 8, 200},
    {"{\"algorithm\": \"dehb\"}", FINITE_SPACE, 9, 90},
    {"{\"algorithm\": \"pbt\", \"population\": 6, \"interval\": 3}", MIXED_SPACE, 20, 40},
    {"{\"algorithm\": \"pbt\", \"population\": 5}", FINITE_SPACE, 30, 60},
    {"{\"algorithm\": \"nsga2\", \"population\": 8}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"asha\", \"sampler\": \"nsga2\"}", MIXED_SPACE, 27, 90},
    {"{\"algorithm\": \"hyperband\", \"sampler\": \"nsga2\"}", MIXED_SPACE, 9, 90},
    {"{\"algorithm\": \"de\", \"population\": 6, \"strategy\": \"current-to-best/1\"}", MIXED_SPACE,
     0, 60},
    {"{\"algorithm\": \"de\", \"population\": 6, \"strategy\": \"shade\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"de\", \"population\": 5, \"strategy\": \"shade\", \"mode\": "
     "\"generational\"}",
     MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"de\", \"population\": 9, \"strategy\": \"lshade\"}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"asha\", \"sampler\": \"de\"}", MIXED_SPACE, 27, 60},
    {"{\"algorithm\": \"de\", \"population\": 6, \"generations\": 4}", FINITE_SPACE, 3, 60},
    {"{\"algorithm\": \"gp\", \"startup\": 4, \"history\": 32}", MIXED_SPACE, 0, 14},
    {"{\"algorithm\": \"portfolio\", \"warmup\": 3}", NUMBERS_SPACE, 0, 14},
    {"{\"algorithm\": \"gp\", \"startup\": 2, \"history\": 32, \"acquisition\": \"thompson\"}",
     FINITE_SPACE, 3, 12},
    {"{\"algorithm\": \"tpe\", \"startup\": 5}", MIXED_SPACE, 0, 60},
    {"{\"algorithm\": \"tpe\", \"startup\": 5, \"random_fraction\": 0.3}", FINITE_SPACE, 3, 20},
    {"{\"algorithm\": \"asha\", \"sampler\": \"tpe\"}", MIXED_SPACE, 9, 60},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void start(struct sim *m, const struct row *r, uint64_t seed, int workers)
{
    sim_init(m, r->space, r->json, seed, r->max, r->limit, workers);
}

/* Everything that goes wrong in real life. */
static void start_rough(struct sim *m, const struct row *r, uint64_t seed)
{
    start(m, r, seed, 1 + (int)(seed % 7));
    m->p_fail = 0.04;
    m->p_stop = 0.03;
    m->p_cancel = 0.02;
    m->p_lost = 0.1;
    m->p_enqueue = 0.02;
}

Test(conformance, every_registered_algorithm_has_a_row)
{
    for (int i = 0; optimizer_registry()[i] != NULL; i++) {
        char *key = xasprintf("\"%s\"", optimizer_registry()[i]->name);
        int n = 0;
        for (size_t k = 0; k < ROWS; k++) {
            n += strstr(rows[k].json, key) != NULL;
        }
        cr_expect_gt(n, 0, "%s has no row", key);
        free(key);
    }
}

Test(conformance, every_algorithm_has_its_mandatory_slots_and_a_sound_option_table)
{
    for (int i = 0; optimizer_registry()[i] != NULL; i++) {
        const struct optimizer_ops *ops = optimizer_registry()[i];
        cr_expect(ops->summary != NULL && ops->version > 0 && ops->state_size > 0);
        cr_expect(ops->init && ops->suggest && ops->adopt && ops->report && ops->finish &&
                  ops->save && ops->load);
        cr_expect_eq(optimizer_find(ops->name), ops);
        for (int k = 0; k < options_count(ops->options); k++) {
            const struct opt_option *o = &ops->options[k];
            cr_expect(o->help != NULL && strcmp(o->name, "algorithm") != 0);
            cr_expect(o->type == OPT_T_ENUM ? o->names != NULL
                                            : isnan(o->def) || (o->def >= o->lo && o->def <= o->hi),
                      "%s.%s", ops->name, o->name);
        }
    }
}

Test(conformance, a_run_with_failures_stops_cancellations_losses_and_enqueued_points_ends)
{
    for (size_t i = 0; i < ROWS; i++) {
        int64_t resumes = 0;
        bool pauses = strstr(rows[i].json, "stopping") == NULL;
        for (uint64_t seed = 1; seed <= 12; seed++) {
            struct sim m;
            start_rough(&m, &rows[i], seed);
            sim_run(&m, 20000);
            cr_expect(m.done && m.running == 0, "%s seed %d does not end", rows[i].json, (int)seed);
            cr_expect_leq(m.n_trials, rows[i].limit);
            resumes += m.resumes;
            pauses = pauses && (optimizer_ops_of(m.o)->caps & OPT_CAP_PAUSES) != 0;
            sim_fini(&m);
        }
        cr_expect_eq(resumes > 0, pauses, "%s resumed %d", rows[i].json, (int)resumes);
    }
}

Test(conformance, same_seed_and_events_give_the_same_bytes_and_another_seed_others)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct sim a;
        struct sim b;
        start_rough(&a, &rows[i], 5);
        start_rough(&b, &rows[i], 5);
        sim_run(&a, 20000);
        sim_run(&b, 20000);
        char *sa = state_of(a.o);
        char *sb = state_of(b.o);
        cr_expect_eq(a.h.n, b.h.n);
        cr_expect_str_eq(sa, sb);
        free(sa);
        free(sb);
        sim_fini(&a);
        sim_fini(&b);
        if (strstr(rows[i].json, "ordered") == NULL && strstr(rows[i].json, "\"grid\"}") == NULL) {
            struct optimizer *o[2];
            struct space *s = space_of(rows[i].space);
            double p[2][16] = {{0}};
            for (int k = 0; k < 2; k++) {
                struct opt_suggestion out = {.point = p[k]};
                o[k] =
                    optimizer_of(rows[i].json, s, (uint64_t)k + 5, 1, rows[i].max, rows[i].limit);
                optimizer_suggest(o[k], &(struct opt_ask){.next_trial = 1, .may_create = true},
                                  &out);
                optimizer_destroy(o[k]);
            }
            cr_expect(!space_point_equal(s, p[0], p[1]), "%s: the seed changes nothing",
                      rows[i].json);
            space_destroy(s);
        }
    }
}

Test(conformance, save_and_load_at_every_event_equals_the_run_without_a_cut)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct sim m;
        start_rough(&m, &rows[i], 3);
        sim_run(&m, 400);
        char *end = state_of(m.o);
        struct optimizer *a = optimizer_of(rows[i].json, m.space, 3, 1, rows[i].max, rows[i].limit);
        for (int cut = 0; cut <= m.h.n; cut++) {
            struct optimizer *b = reload(a, rows[i].json, m.space, 3, rows[i].max, rows[i].limit);
            replay(b, m.space, &m.h, cut, m.h.n, true);
            char *got = state_of(b);
            cr_assert_str_eq(got, end, "%s cut at %d", rows[i].json, cut);
            free(got);
            optimizer_destroy(b);
            if (cut < m.h.n) {
                replay(a, m.space, &m.h, cut, cut + 1, false);
            }
        }
        optimizer_destroy(a);
        free(end);
        sim_fini(&m);
    }
}

Test(conformance, replay_by_adopting_alone_equals_the_live_run)
{
    for (size_t i = 0; i < ROWS; i++) {
        for (uint64_t seed = 20; seed < 26; seed++) {
            struct sim m;
            start_rough(&m, &rows[i], seed);
            sim_run(&m, 600);
            struct optimizer *o =
                optimizer_of(rows[i].json, m.space, seed, 1, rows[i].max, rows[i].limit);
            replay(o, m.space, &m.h, 0, m.h.n, false);
            char *live = state_of(m.o);
            char *got = state_of(o);
            cr_expect_str_eq(got, live, "%s", rows[i].json);
            struct opt_suggestion a = {.point = xcalloc((size_t)m.space->n, sizeof(double))};
            struct opt_suggestion b = {.point = xcalloc((size_t)m.space->n, sizeof(double))};
            struct opt_ask ask = {.next_trial = m.n_trials + 1, .may_create = m.n_trials < m.limit};
            optimizer_suggest(m.o, &ask, &a);
            optimizer_suggest(o, &ask, &b);
            cr_expect(a.answer == b.answer && a.trial == b.trial && a.budget == b.budget);
            cr_expect(memcmp(a.point, b.point, (size_t)m.space->n * sizeof(double)) == 0);
            free(a.point);
            free(b.point);
            free(live);
            free(got);
            optimizer_destroy(o);
            sim_fini(&m);
        }
    }
}

static const struct optimizer_ops *ops_of_row(const struct row *r)
{
    json_t *v = json_loads(r->json, 0, NULL);
    const struct optimizer_ops *ops =
        optimizer_find(json_string_value(json_object_get(v, "algorithm")));
    json_decref(v);
    cr_assert_not_null(ops);
    return ops;
}

Test(conformance, ten_thousand_suggestions_keep_bounds_steps_scales_and_conditions)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct sim m;
        /* A model that is fitted anew each time: fewer. */
        bool slow = (ops_of_row(&rows[i])->caps & OPT_CAP_SLOW) != 0;
        int64_t many = slow ? 150 : 10000;
        sim_init(&m, rows[i].space, rows[i].json, 11, rows[i].max, many, 8);
        /* The contract is checked at every ask; results come back soon, so that models form. */
        for (int k = 0; m.n_trials < many && !m.done && k < 40000; k++) {
            (void)sim_ask(&m);
            for (int64_t id = m.n_trials; m.running > 0 && id > 0 && id > m.n_trials - 8; id--) {
                if (m.trials[id].state == SIM_RUNNING && pcg64_below(&m.g, 2) == 0) {
                    sim_finish(&m, id, OPT_COMPLETED, true,
                               f_sphere(m.space, m.trials[id].point, 3));
                }
            }
        }
        cr_expect(m.n_trials == many || m.done, "%s gave %d", rows[i].json, (int)m.n_trials);
        sim_fini(&m);
    }
}

Test(conformance, a_thousand_askers_get_distinct_trials_or_a_reason)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct sim m;
        sim_init(&m, rows[i].space, rows[i].json, 2, rows[i].max, 1000, 1000);
        int64_t given = 0;
        for (int k = 0; k < 1000; k++) {
            given += sim_ask(&m);
        }
        cr_expect_eq(given, m.n_trials);
        cr_expect(given == 1000 || m.waits > 0 || m.done, "%s", rows[i].json);
        cr_expect_geq(given, 5);
        sim_run(&m, 200000);
        cr_expect(m.done && m.running == 0, "%s does not end", rows[i].json);
        sim_fini(&m);
    }
}

Test(conformance, nothing_is_created_beyond_the_limit_and_done_is_final)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct sim m;
        start(&m, &rows[i], 8, 3);
        sim_run(&m, 100000); /* sim_ask asserts both at every ask */
        cr_expect(m.done);
        for (int k = 0; k < 20; k++) {
            cr_expect_not(sim_ask(&m));
        }
        cr_expect_leq(m.n_trials, rows[i].limit);
        sim_fini(&m);
    }
}

/* Did the last ask say that every point was tried? */
static bool is_exhausted(const struct sim *m)
{
    int i = m->h.n - 1;
    while (i >= 0 && m->h.at[i].call != CALL_ASK) {
        i--;
    }
    const char *code = i >= 0 ? m->h.at[i].answer.why_code : NULL;
    return code != NULL && strcmp(code, "space-exhausted") == 0;
}

Test(conformance, more_trials_after_the_end_are_taken_up)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct sim m;
        bool endless = strstr(rows[i].json, "iterations") == NULL &&
                       strstr(rows[i].json, "generations") == NULL &&
                       strstr(rows[i].json, "\"pbt\"") == NULL &&
                       strstr(rows[i].json, "\"grid\"") == NULL;
        start(&m, &rows[i], 8, 3);
        endless = endless && space_size(m.space) > (double)rows[i].limit;
        sim_run(&m, 100000);
        endless = endless && !is_exhausted(&m);
        int64_t before = m.n_trials;
        m.limit += 1;
        m.done = false;
        cr_expect(!endless || sim_ask(&m), "%s gives nothing after an extension", rows[i].json);
        cr_expect(!endless || m.n_trials == before + 1 || m.resumes > 0);
        sim_fini(&m);
    }
}

Test(conformance, resolved_options_make_the_same_optimizer)
{
    for (size_t i = 0; i < ROWS; i++) {
        struct space *s = space_of(rows[i].space);
        struct optimizer *a = optimizer_of(rows[i].json, s, 1, 1, rows[i].max, 10);
        json_t *ra = optimizer_resolved(a);
        char *ta = mjson_dump(ra);
        struct optimizer *b = optimizer_of(ta, s, 1, 1, rows[i].max, 10);
        json_t *rb = optimizer_resolved(b);
        char *tb = mjson_dump(rb);
        cr_expect_str_eq(ta, tb);
        json_decref(ra);
        json_decref(rb);
        free(ta);
        free(tb);
        optimizer_destroy(a);
        optimizer_destroy(b);
        space_destroy(s);
    }
}

Test(conformance, a_state_that_is_broken_is_refused_without_a_crash)
{
    static const char *const broken[] = {
        "{}",
        "{\"version\": 99}",
        "[]",
        "3",
        "{\"version\": 1, \"trials\": [[1, 7, 99, 0, 0]], \"rungs\": [[],[],[],[]], \"cursor\": -4,"
        " \"brackets\": [{\"index\": 99}], \"begun\": 1, \"members\": [1], \"given\": -1}",
        "{\"version\": 1, \"rungs\": [[]], \"begun\": 1, \"brackets\": [{\"index\": 0, \"size\": "
        "3, \"in\": [[1, 2]]}],"
        " \"trials\": [[-1, 1, 0, 0, 0]], \"cursor\": 99, \"given\": 1, \"members\": [[1, [2]], "
        "null, null, null, null, null]}",
        "{\"version\": 1, \"begun\": 1, \"trials\": [[1, 1, 5]], \"others\": [{\"a\": 99}],"
        " \"given\": 1, \"members\": [null, null, null, null, null, null],"
        " \"next\": [null, null, null, null, null, null], \"open\": [[1, 5, []]]}",
    };
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < sizeof(broken) / sizeof(broken[0]); k++) {
            struct space *s = space_of(rows[i].space);
            struct optimizer *o = optimizer_of(rows[i].json, s, 1, 1, rows[i].max, 10);
            json_t *v = NULL;
            struct mag_err err = {0};
            cr_assert_eq(mjson_parse(broken[k], strlen(broken[k]), &v, NULL), MAG_OK);
            enum mag_status st = optimizer_load(o, v, &err);
            cr_expect_neq(st, MAG_OK, "%s took %s", rows[i].json, broken[k]);
            json_decref(v);
            optimizer_destroy(o);
            space_destroy(s);
        }
    }
}
