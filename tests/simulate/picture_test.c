/* SPDX-License-Identifier: Apache-2.0 */
#include "lab.h"

#include "simulate/picture.h"
#include "simulate/report.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(picture, .timeout = 100);

static struct buf picture_of(struct lab *l, int64_t *ret_jobs)
{
    struct buf svg = {0};
    struct sim_result r = lab_run(l, NULL);
    struct picture p = {.algorithm = "asha", .title = "a < b & c", .metric = "error", .unit = "epoch"};
    picture_svg(&r, &p, &svg);
    *ret_jobs = r.n_list;
    sim_result_fini(&r);
    return svg;
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)) != NULL; p++) {
        n++;
    }
    return n;
}

Test(picture, it_names_what_it_shows)
{
    int64_t jobs = 0;
    struct lab l = {.simulation = "{\"step\": 60, \"drop\": 0.02, \"duration\": \"straggler(0.5)\"}",
                    .algorithm = "asha", .trials = 60, .workers = 4};
    struct buf svg = picture_of(&l, &jobs);
    static const char *const words[] = {"<svg xmlns", "a &lt; b &amp; c: asha, 4 workers", "1 epoch<",
                                        "27 epochs", "lost", "error of the best trial", "</svg>"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        cr_expect_not_null(strstr(svg.data, words[i]), "%s", words[i]);
    }
    cr_expect_null(strstr(svg.data, "nan"));
    cr_expect_null(strstr(svg.data, "inf"));
    buf_fini(&svg);
}

Test(picture, it_stays_small)
{
    int64_t jobs = 0;
    struct lab l = {.simulation = "{\"step\": 60, \"drop\": 0.01, \"duration\": \"straggler(0.5)\"}",
                    .algorithm = "asha", .trials = 7000, .workers = 50};
    struct buf svg = picture_of(&l, &jobs);
    cr_expect_geq(jobs, 10000);
    cr_expect_lt(svg.len, 150000, "%zu bytes for %lld jobs", svg.len, (long long)jobs);
    buf_fini(&svg);
}

Test(picture, nothing_to_show_is_a_picture_too)
{
    int64_t jobs = 0;
    struct lab l = {.simulation = "{\"step\": 60, \"objective\": \"curve(0, 1)\"}",
                    .algorithm = "random", .trials = 3, .workers = 1};
    struct buf svg = picture_of(&l, &jobs);
    cr_expect_eq(count(svg.data, "of the best trial"), 0);
    cr_expect_not_null(strstr(svg.data, "failed"));
    cr_expect_null(strstr(svg.data, "nan"));
    buf_fini(&svg);
}

Test(picture, figures_have_a_mean_and_its_standard_error)
{
    struct sim_figure f = {0};
    static const double values[] = {2, 4, 4, 4, 5, 5, 7, 9, NAN};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        sim_figure_add(&f, values[i]);
    }
    cr_expect_eq(f.n, 8);
    cr_expect_eq(sim_figure_mean(&f), 5);
    cr_expect_float_eq(sim_figure_error(&f), sqrt(32.0 / 7 / 8), 1e-12);
}

Test(picture, times_are_written_as_people_say_them)
{
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0.05, "0.05s"}, {31.44, "31.4s"},    {100, "1m 40s"},    {3599, "59m 59s"},
                 {7500, "2h 05m"}, {86400 * 3 + 7200, "3d 02h"}, {NAN, "-"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[32];
        sim_time_text(cases[i].seconds, text, sizeof(text));
        cr_expect_str_eq(text, cases[i].text);
    }
}
