/* SPDX-License-Identifier: Apache-2.0
 *
 * How many trials a second each algorithm decides (suggest, adopt, one report a step up to a pause,
 * finish) after 100, 10,000 and 200,000 trials; it must stay flat. JSON lines, one for each
 * algorithm and size:
 *   {"bench":"optimizers","algorithm":"asha","after":200000,"asks_per_s":…,"relative":…}
 * "relative" is against the first size. 64 trials run at a time.
 *
 * usage: optimizers [ALGORITHM]
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "optimizers/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNNING 64
#define WINDOW                                                                                     \
    500 /* asks timed at once; the best of WINDOWS counts, so that a busy machine matters less */
#define WINDOWS 10

static const char space_json[] =
    "{\"lr\": {\"type\": \"DOUBLE\", \"range\": [0.0001, 0.1], \"scale\": \"log\"},"
    " \"units\": {\"type\": \"INTEGER\", \"range\": [32, 512], \"step\": 32},"
    " \"layers\": {\"type\": \"INTEGER\", \"range\": [1, 200]},"
    " \"kernel\": {\"type\": \"DISCRETE\", \"values\": [3, 5, 7]},"
    " \"optimizer\": {\"type\": \"CATEGORICAL\", \"values\": [\"sgd\", \"adam\"]},"
    " \"momentum\": {\"type\": \"DOUBLE\", \"range\": [0, 0.99], \"when\": {\"optimizer\": "
    "[\"sgd\"]}}}";

static const char grid_json[] = "{\"a\": [\"INTEGER\", [1, 1000]], \"b\": [\"INTEGER\", [1, 1000]],"
                                " \"c\": [\"CATEGORICAL\", [\"x\", \"y\"]]}";

struct slot {
    int64_t trial, budget;
};

struct bench {
    struct space *space;
    struct optimizer *o;
    double *points; /* by trial */
    int64_t created;
    struct slot running[RUNNING];
    int64_t asks;
};

static double value_of(const struct bench *b, int64_t trial, int64_t step)
{
    const double *p = b->points + trial * b->space->n;
    double sum = 0;
    for (int i = 0; i < b->space->n; i++) {
        double u = isnan(p[i]) ? 0.5 : param_to_unit(&b->space->params[i], p[i]);
        sum += (u - 0.3) * (u - 0.3);
    }
    return sum + 1 / (double)(step + 1);
}

/* The oldest running trial goes to its budget and pauses or ends; its slot asks for the next. */
static bool turn(struct bench *b)
{
    struct slot *s = &b->running[b->asks++ % RUNNING];
    if (s->trial != 0) {
        double v = value_of(b, s->trial, s->budget);
        struct opt_result r = opt_result_of(&v);
        if (optimizer_report(b->o, s->trial, s->budget, &r) != OPT_PAUSE) {
            optimizer_finish(b->o, s->trial, OPT_COMPLETED, &r);
        }
    }
    struct opt_suggestion out = {.point = b->points + (b->created + 1) * b->space->n};
    optimizer_suggest(b->o, &(struct opt_ask){.next_trial = b->created + 1, .may_create = true},
                      &out);
    if (out.answer != OPT_TRIAL && out.answer != OPT_RESUME) {
        return false;
    }
    optimizer_adopt(b->o, &out);
    b->created += out.answer == OPT_TRIAL;
    *s = (struct slot){.trial = out.trial, .budget = out.budget > 0 ? out.budget : 1};
    return true;
}

static bool run(const struct optimizer_ops *ops)
{
    static const int64_t sizes[] = {100, 10000, 200000};
    struct mjson_issues is = {0};
    bool finite = (ops->caps & OPT_CAP_FINITE) != 0;
    json_t *space = json_loads(finite ? grid_json : space_json, 0, NULL);
    json_t *options = json_pack("{s:s}", "algorithm", ops->name);
    struct bench b = {.space = space_parse(space, "", &is)};
    struct opt_setup setup = {.space = b.space,
                              .seed = 42,
                              .resource = {.present = true, .min = 1, .max = 81},
                              .trials = 10 * sizes[2]};
    b.o = optimizer_create(options, "", &setup, &is, NULL);
    b.points =
        xcalloc((size_t)(sizes[2] + WINDOWS * WINDOW + 2) * (size_t)b.space->n, sizeof(double));
    double first = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        while (ok && b.created < sizes[i]) {
            ok = turn(&b);
        }
        double rate = 0;
        for (int w = 0; ok && w < WINDOWS; w++) {
            int64_t from = clock_mono_ns();
            for (int k = 0; ok && k < WINDOW; k++) {
                ok = turn(&b);
            }
            rate = fmax(rate, WINDOW / ((double)(clock_mono_ns() - from) / 1e9));
        }
        first = i == 0 ? rate : first;
        printf("{\"bench\":\"optimizers\",\"algorithm\":\"%s\",\"after\":%lld,\"asks_per_s\":%.0f,"
               "\"relative\":%.2f}\n",
               ops->name, (long long)sizes[i], rate, rate / first);
    }
    free(b.points);
    optimizer_destroy(b.o);
    space_destroy(b.space);
    json_decref(space);
    json_decref(options);
    return ok;
}

int main(int argc, char **argv)
{
    bool ok = true;
    for (int i = 0; optimizer_registry()[i] != NULL; i++) {
        const struct optimizer_ops *ops = optimizer_registry()[i];
        if (argc < 2 || strcmp(argv[1], ops->name) == 0) {
            ok = run(ops) && ok;
        }
    }
    return ok ? 0 : 1;
}
