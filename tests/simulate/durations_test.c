/* SPDX-License-Identifier: Apache-2.0 */
#include "lab.h"

#include "simulate/duration.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(durations, .timeout = 100);

/* Means and deviations in closed form: of 1 + |N(0, s)| they are 1 + s sqrt(2 / pi) and s sqrt(1 - 2
 * / pi). */
Test(durations, models_have_their_mean_and_spread)
{
    static const struct {
        const char *model;
        double mean, deviation, least;
    } cases[] = {
        {"constant", 1, 0, 1},
        {"uniform(0.3)", 1, 0.17320508, 0.7},
        {"lognormal(0.5)", 1, 0.53294037, 0},
        {"exponential", 1, 1, 0},
        {"straggler(0.56)", 1.44681781, 0.33757, 1},
        {" straggler ( 1.33 ) ", 2.06119230, 0.80173, 1},
    };
    enum { N = 200000 };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sim_duration d = {0};
        struct mag_err err = {0};
        struct pcg64 g;
        double sum = 0, squares = 0;
        cr_assert_eq(sim_duration_parse(cases[i].model, &d, &err), MAG_OK, "%s", err.text);
        pcg_stream(&g, 3, "test", i);
        for (int k = 0; k < N; k++) {
            double v = sim_duration_draw(&d, &g);
            cr_assert_geq(v, cases[i].least, "%s", cases[i].model);
            sum += v;
            squares += v * v;
        }
        double mean = sum / N, deviation = sqrt(fmax(squares / N - mean * mean, 0));
        cr_expect_float_eq(mean, cases[i].mean, 0.01, "%s: mean %g", cases[i].model, mean);
        cr_expect_float_eq(deviation, cases[i].deviation, 0.015, "%s: deviation %g",
                           cases[i].model, deviation);
    }
}

Test(durations, parameters_make_trials_slower)
{
    struct space *s = lab_space("{\"units\":{\"type\":\"DOUBLE\",\"range\":[1,100],\"scale\":\"log\"},"
                                "\"opt\":[\"CATEGORICAL\",[\"a\",\"b\"]],"
                                "\"m\":{\"type\":\"DOUBLE\",\"range\":[0,1],\"when\":{\"opt\":[\"a\"]}}}");
    struct sim_setup setup = lab_setup("{\"duration\": {\"by\": {\"units\": 4, \"m\": 0.5}}}");
    /* by name: m, opt, units */
    const double slow[3] = {NAN, 1, 100}, middle[3] = {NAN, 1, 10}, fast[3] = {1, 0, 1};
    cr_expect_float_eq(sim_duration_of_point(&setup.duration, s, slow), 4, 1e-12);
    cr_expect_float_eq(sim_duration_of_point(&setup.duration, s, middle), 2, 1e-12);
    cr_expect_float_eq(sim_duration_of_point(&setup.duration, s, fast), 0.5, 1e-12);
    sim_setup_fini(&setup);
    space_destroy(s);
}

Test(durations, what_is_wrong_is_said_where_it_stands)
{
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{\"duration\": \"lognorm(1)\"}", "/duration: no duration model \"lognorm\""},
        {"{\"duration\": \"lognormal\"}", "takes one number"},
        {"{\"duration\": \"constant(2)\"}", "takes no number"},
        {"{\"duration\": \"uniform(2)\"}", "must be 0 to 1, not 2"},
        {"{\"duration\": 3}", "must be a model such as"},
        {"{\"duration\": {\"per\": \"day\"}}", "/duration/per: must be \"job\""},
        {"{\"duration\": {\"by\": {\"x\": 0}}}", "0.001 to 1000"},
        {"{\"step\": \"0\"}", "/step: a step takes a millisecond at least"},
        {"{\"step\": \"soon\"}", "/step: must be a duration"},
        {"{\"steps\": 3}", "did you mean \"step\"?"},
        {"{\"drop\": 1}", "/drop: must be a number from 0 to 0.999, not 1"},
        {"{\"workers\": 0}", "/workers: must be a number of workers from 1 to 100000"},
        {"{\"workers\": []}", "takes 1 to 32"},
        {"{\"deaths\": \"2h\"}", "/deaths: must say how often and for how long"},
        {"{\"lease\": \"2s\", \"heartbeat\": \"2s\"}", "must be shorter than the lease"},
        {"{\"speculate\": 0.5}", "/speculate: how many times"},
        {"{\"seeds\": 0}", "must be a whole number from 1 to 10000"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *faults = lab_faults(cases[i].json);
        cr_expect_not_null(strstr(faults, cases[i].says), "%s: %s", cases[i].json, faults);
        free(faults);
    }
}
