/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated workloads of Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys
 * 2020, appendix A.1), with our scheduler itself: 25 workers, R = 256, eta = 4, 2,000 time units; the
 * time of a job multiplied by 1 + |z|, z ~ N(0, std); jobs dropped with probability p a time unit.
 * One JSON line for each algorithm, std, p and kind of recovery: trials trained to R and the time of
 * the first, as means with standard errors.
 * bench/asha_paper [REPEATS] [all|drops|stragglers|wide] (25 all)
 */
#include "bench/asha_sha.h"
#include "simulate/experiment.h"
#include "simulate/report.h"
#include "simulate/sim.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double stds[] = {0, 0.1, 0.24, 0.33, 0.56, 1, 1.33, 1.67};
static const double drops[] = {0, 0.001, 0.002, 0.005, 0.01};

static const struct {
    const char *name, *object;
} algorithms[] = {
    {"asha", "{\"algorithm\":\"asha\",\"reduction_factor\":4}"},
    {"asha-stopping", "{\"algorithm\":\"asha\",\"reduction_factor\":4,\"type\":\"stopping\"}"},
    {"hyperband", "{\"algorithm\":\"hyperband\",\"reduction_factor\":4,\"iterations\":1000}"},
    {"hyperband-async", "{\"algorithm\":\"hyperband\",\"reduction_factor\":4,\"iterations\":1000,"
                        "\"mode\":\"asynchronous\"}"},
};

/* What survives a drop, and whether slow jobs get a second copy. */
static const struct {
    const char *name;
    int64_t every; /* checkpoints; a rung's last step always has one */
    double speculate;
} recoveries[] = {
    {"step", 1, 0},
    {"16-steps", 16, 0},
    {"rung", 256, 0},
    {"step+copies", 1, 1},
    {"16-steps+copies", 16, 1},
};

#define END 2000.0 /* units of time */

static json_t *parse(const char *text)
{
    json_t *doc = json_loads(text, 0, NULL);
    MAG_ASSERT(doc != NULL, "%s", text);
    return doc;
}

static struct spec *make_spec(const struct sim_setup *setup, const char *algorithm, uint64_t seed)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    json_t *doc = NULL;
    json_t *file = parse("{\"objective\":{\"metric\":\"error\",\"direction\":\"min\"},\"searchspace\":"
                         "{\"a\":[\"DOUBLE\",[0,1]],\"b\":[\"DOUBLE\",[0,1]],\"c\":[\"DOUBLE\",[0,1]],"
                         "\"d\":[\"DOUBLE\",[0,1]]},\"resource\":{\"min\":1,\"max\":256},\"limits\":"
                         "{\"losses\":1000,\"failures\":0},\"seed\":1}");
    struct sim_changes changes = {.algorithm = algorithm, .add_to_seed = seed};
    enum mag_status st = sim_experiment(file, setup, &changes, &doc, &err);
    MAG_ASSERT(st == MAG_OK, "%s", err.text);
    struct spec *spec = spec_parse(doc, 1, &is);
    MAG_ASSERT(spec != NULL, "%s %s", is.items[0].pointer, is.items[0].text);
    json_decref(file);
    json_decref(doc);
    return spec;
}

struct figures {
    struct sim_figure full, first, utilisation, lost, copies;
};

static void run(size_t a, double std, double p, size_t how, int64_t workers, int repeats,
                struct figures *f)
{
    struct sim_setup setup;
    struct mjson_issues is = {0};
    char *text = xasprintf("{\"objective\":\"curve\",\"step\":1,\"time\":2000,\"lease\":0,"
                           "\"duration\":\"straggler(%g)\",\"drop\":%g,\"checkpoint_every\":%lld,"
                           "\"report_every\":%lld,\"speculate\":%g}",
                           std, p, (long long)recoveries[how].every,
                           (long long)recoveries[how].every, recoveries[how].speculate);
    json_t *doc = parse(text);
    sim_setup_parse(doc, "", &setup, &is);
    MAG_ASSERT(is.total == 0, "%s %s", is.items[0].pointer, is.items[0].text);
    for (int k = 0; k < repeats; k++) {
        struct sim_result r;
        struct mag_err err = {0};
        struct sim_options o = {.workers = workers, .repetition = (uint64_t)k};
        struct spec *spec = make_spec(&setup, algorithms[a].object, (uint64_t)k);
        enum mag_status st = sim_run(&setup, spec, &o, &r, &err);
        MAG_ASSERT(st == MAG_OK, "%s", err.text);
        sim_figure_add(&f->full, (double)r.full);
        sim_figure_add(&f->first, r.first_full_ns < 0 ? END : (double)r.first_full_ns / 1e9);
        sim_figure_add(&f->utilisation, sim_utilisation(&r));
        sim_figure_add(&f->lost, r.lost_ns / r.busy_ns);
        sim_figure_add(&f->copies, (double)r.copies);
        sim_result_fini(&r);
    }
    sim_setup_fini(&setup);
    json_decref(doc);
    free(text);
}

static void print(const char *algorithm, const char *how, double std, double p, int64_t workers,
                  int repeats, const struct figures *f)
{
    printf("{\"bench\":\"asha_paper\",\"algorithm\":\"%s\",\"checkpoint\":\"%s\",\"std\":%g,\"p\":%g,"
           "\"workers\":%lld,\"repeats\":%d,\"trained\":%.2f,\"trained_error\":%.2f,\"first\":%.1f,"
           "\"first_error\":%.1f,\"utilisation\":%.4f,\"lost_share\":%.4f,\"copies\":%.1f}\n",
           algorithm, how, std, p, (long long)workers, repeats,
           sim_figure_mean(&f->full), sim_figure_error(&f->full), sim_figure_mean(&f->first),
           sim_figure_error(&f->first), sim_figure_mean(&f->utilisation), sim_figure_mean(&f->lost),
           sim_figure_mean(&f->copies));
    (void)fflush(stdout);
}

static void line(size_t a, double std, double p, size_t how, int64_t workers, int repeats)
{
    struct figures f = {0};
    run(a, std, p, how, workers, repeats, &f);
    print(algorithms[a].name, recoveries[how].name, std, p, workers, repeats, &f);
}

/* The paper's synchronous halving, not ours. */
static void baseline(double std, double p, int repeats)
{
    struct figures f = {0};
    for (int k = 0; k < repeats; k++) {
        struct sha_result r = sha_run(std, p, END, (uint64_t)k);
        sim_figure_add(&f.full, r.trained);
        sim_figure_add(&f.first, r.first);
        sim_figure_add(&f.utilisation, r.busy);
        sim_figure_add(&f.lost, 0);
        sim_figure_add(&f.copies, 0);
    }
    print("sha", "rung", std, p, 25, repeats, &f);
}

enum { N_STDS = sizeof(stds) / sizeof(stds[0]), N_DROPS = sizeof(drops) / sizeof(drops[0]) };

/* Every level of stragglers, nothing dropped; with and without second copies. */
static void stragglers(int repeats)
{
    for (size_t s = 0; s < N_STDS; s++) {
        for (size_t a = 0; a < sizeof(algorithms) / sizeof(algorithms[0]); a++) {
            line(a, stds[s], 0, 0, 25, repeats);
        }
        line(0, stds[s], 0, 3, 25, repeats);
        baseline(stds[s], 0, repeats);
    }
}

/* Jobs dropped: by how often a checkpoint is written. */
static void dropped(int repeats)
{
    static const double some[] = {0.56, 0.1, 1.33};
    for (size_t s = 0; s < sizeof(some) / sizeof(some[0]); s++) {
        for (size_t d = 0; d < N_DROPS; d++) {
            for (size_t how = 0; how < sizeof(recoveries) / sizeof(recoveries[0]); how++) {
                line(0, some[s], drops[d], how, 25, repeats);
            }
            baseline(some[s], drops[d], repeats);
        }
    }
}

int main(int argc, char **argv)
{
    int repeats = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 25;
    const char *what = argc > 2 ? argv[2] : "all";
    bool all = strcmp(what, "all") == 0;
    if (repeats < 1) {
        fprintf(stderr, "usage: asha_paper [REPEATS] [all|drops|stragglers|wide]\n");
        return 2;
    }
    if (all || strcmp(what, "drops") == 0) {
        dropped(repeats);
    }
    if (all || strcmp(what, "stragglers") == 0) {
        stragglers(repeats);
    }
    if (all || strcmp(what, "wide") == 0) {
        line(0, 0.56, 0, 0, 500, repeats < 5 ? repeats : 5);
    }
    return 0;
}
