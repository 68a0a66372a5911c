/* SPDX-License-Identifier: Apache-2.0
 *
 * Every sampler behind every algorithm that takes one: the promises of the conformance suite for
 * all pairs, on short rough runs, and that the sampler is told the right things.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/sampler.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(samplers, .timeout = 300);

static const char *const hosts[] = {
    "\"asha\"",
    "\"asha\", \"type\": \"stopping\"",
    "\"asha\", \"reduction_factor\": 2, \"brackets\": 2",
    "\"hyperband\"",
    "\"hyperband\", \"mode\": \"asynchronous\"",
    "\"pasha\"",
};
#define HOSTS (sizeof(hosts) / sizeof(hosts[0]))

static char *pair(const char *host, const char *sampler)
{
    return xasprintf("{\"algorithm\": %s, \"sampler\": \"%s\"}", host, sampler);
}

static void start_rough(struct sim *m, const char *json, uint64_t seed)
{
    sim_init(m, MIXED_SPACE, json, seed, 9, 40, 5);
    m->p_fail = 0.04;
    m->p_stop = 0.03;
    m->p_cancel = 0.02;
    m->p_lost = 0.1;
    m->p_enqueue = 0.02;
}

static void check_pair(const char *json, uint64_t seed)
{
    struct sim m;
    struct sim again;
    start_rough(&m, json, seed);
    start_rough(&again, json, seed);
    sim_run(&m, 20000);
    sim_run(&again, 20000);
    cr_expect(m.done && m.running == 0, "%s does not end", json);
    char *live = state_of(m.o);
    char *twice = state_of(again.o);
    cr_expect_str_eq(live, twice, "%s: the same seed and events", json);

    struct optimizer *o = optimizer_of(json, m.space, seed, 1, 9, 40);
    for (int i = 0; i < m.h.n; i++) {
        replay(o, m.space, &m.h, i, i + 1, i % 7 == 0);
        if (i % 31 == 0) {
            struct optimizer *cut = reload(o, json, m.space, seed, 9, 40);
            optimizer_destroy(o);
            o = cut;
        }
    }
    char *cut = state_of(o);
    cr_expect_str_eq(cut, live, "%s: saved and loaded on the way", json);
    optimizer_destroy(o);
    free(live);
    free(twice);
    free(cut);
    sim_fini(&m);
    sim_fini(&again);
}

Test(samplers, every_pair_ends_repeats_and_survives_save_and_load)
{
    for (int i = 0; sampler_names[i] != NULL; i++) {
        for (size_t k = 0; k < HOSTS; k++) {
            char *json = pair(hosts[k], sampler_names[i]);
            for (uint64_t seed = 1; seed <= 2; seed++) {
                check_pair(json, seed);
            }
            free(json);
        }
    }
}

Test(samplers, every_pair_takes_the_results_of_an_earlier_experiment)
{
    for (int i = 0; sampler_names[i] != NULL; i++) {
        for (size_t k = 0; k < HOSTS; k++) {
            struct sim m;
            char *json = pair(hosts[k], sampler_names[i]);
            sim_init(&m, MIXED_SPACE, json, 7, 9, 30, 4);
            for (uint64_t n = 0; n < 20; n++) {
                double point[16];
                space_sample(m.space, 99, "others", n, point);
                double v = f_sphere(m.space, point, 9);
                struct opt_result r = opt_result_of(&v);
                optimizer_observe(m.o, point, n % 3 == 0 ? 9 : 3, &r);
            }
            sim_run(&m, 20000);
            cr_expect(m.done && m.n_trials == 30, "%s", json);
            sim_fini(&m);
            free(json);
        }
    }
}
