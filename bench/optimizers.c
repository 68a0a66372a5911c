/* SPDX-License-Identifier: Apache-2.0
 *
 * What a decision costs each registered algorithm. JSON lines, processor time of this thread.
 *
 *   cost   with 10,000 finished trials and 100 pending, 10 DOUBLE parameters: median and 99th
 *          percentile of one suggestion, and of the whole turn (suggest, adopt, report, finish)
 *   scale  microseconds a turn after 1,000, 10,000 and 1,000,000 trials, mixed parameters; sizes
 * that an algorithm does not reach within SECONDS are left out
 *
 * A slow algorithm makes its own trials for SECONDS at most; the rest of its history are random
 * points that it adopts, which "own" tells.
 *
 * usage: bench-optimizers cost|scale [ALGORITHM|all] [SECONDS (10)]
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "optimizers/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PENDING 100
#define FINISHED 10000
#define SAMPLES 1000 /* suggestions timed, at most */
#define TRIALS_MAX 1100000

static const char mixed_json[] =
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
    const char *name;
    struct space *space;
    struct optimizer *o;
    double *points; /* by trial */
    int64_t created, own;
    struct slot running[PENDING];
    int64_t turns;
    int64_t suggest_ns, turn_ns; /* of the last turn */
};

static int64_t cpu_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * MAG_NS_PER_S + ts.tv_nsec;
}

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

static void end_oldest(struct bench *b, struct slot *s)
{
    if (s->trial != 0) {
        double v = value_of(b, s->trial, s->budget);
        struct opt_result r = opt_result_of(&v);
        if (optimizer_report(b->o, s->trial, s->budget, &r) == OPT_CONTINUE) {
            optimizer_finish(b->o, s->trial, OPT_COMPLETED, &r);
        }
    }
    s->trial = 0;
}

static void begin(struct bench *b, struct slot *s, const struct opt_suggestion *out)
{
    optimizer_adopt(b->o, out);
    b->created += out->answer == OPT_TRIAL;
    *s = (struct slot){.trial = out->trial, .budget = out->budget > 0 ? out->budget : 1};
}

/* The oldest running trial goes to its budget and pauses or ends; its slot asks for the next. False
 * when there is none for any slot. */
static bool turn(struct bench *b)
{
    struct slot *s = &b->running[b->turns++ % PENDING];
    int64_t from = cpu_ns();
    end_oldest(b, s);
    struct opt_suggestion out = {.point = b->points + (b->created + 1) * b->space->n};
    int64_t asked = cpu_ns();
    optimizer_suggest(b->o, &(struct opt_ask){.next_trial = b->created + 1, .may_create = true},
                      &out);
    b->suggest_ns = cpu_ns() - asked;
    if (out.answer == OPT_TRIAL || out.answer == OPT_RESUME) {
        begin(b, s, &out);
        b->own += out.answer == OPT_TRIAL;
    }
    b->turn_ns = cpu_ns() - from;
    return out.answer != OPT_DONE;
}

/* As turn, with a random point that nobody suggested. */
static void turn_adopted(struct bench *b)
{
    struct slot *s = &b->running[b->turns++ % PENDING];
    end_oldest(b, s);
    int64_t trial = b->created + 1;
    struct opt_suggestion out = {.answer = OPT_TRIAL,
                                 .trial = trial,
                                 .point = b->points + trial * b->space->n,
                                 .budget = optimizer_first_budget(b->o)};
    space_sample(b->space, 7, "history", (uint64_t)trial, out.point);
    begin(b, s, &out);
}

static bool bench_init(struct bench *b, const struct optimizer_ops *ops, const char *space)
{
    struct mjson_issues is = {0};
    json_t *doc = json_loads((ops->caps & OPT_CAP_FINITE) != 0 ? grid_json : space, 0, NULL);
    json_t *options = json_pack("{s:s}", "algorithm", ops->name);
    *b = (struct bench){.name = ops->name, .space = space_parse(doc, "", &is)};
    struct opt_setup setup = {.space = b->space,
                              .seed = 42,
                              .resource = {.present = true, .min = 1, .max = 81},
                              .trials = TRIALS_MAX};
    b->o = optimizer_create(options, "", &setup, &is, NULL);
    if (b->o == NULL) {
        fprintf(stderr, "%s: %s\n", ops->name, is.items[0].text);
    }
    b->points = xcalloc((size_t)TRIALS_MAX * (size_t)b->space->n, sizeof(double));
    json_decref(doc);
    json_decref(options);
    mjson_issues_fini(&is);
    return b->o != NULL;
}

static void bench_fini(struct bench *b)
{
    free(b->points);
    optimizer_destroy(b->o);
    space_destroy(b->space);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static json_t *ten_doubles(void)
{
    json_t *space = json_object();
    for (int i = 0; i < 10; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "x%d", i);
        json_object_set_new(space, name, json_pack("[s, [f, f]]", "DOUBLE", -5.0, 5.0));
    }
    return space;
}

/* FINISHED trials behind it, PENDING running: own ones first while time is left, then adopted. */
static bool make_history(struct bench *b, int64_t until_ns)
{
    bool ok = true;
    while (ok && b->created < FINISHED + PENDING && clock_mono_ns() < until_ns) {
        ok = turn(b);
    }
    while (ok && b->created < FINISHED + PENDING) {
        turn_adopted(b);
    }
    return ok;
}

static bool cost(const struct optimizer_ops *ops, double seconds)
{
    static int64_t suggest[SAMPLES], whole[SAMPLES];
    struct bench b;
    json_t *doc = ten_doubles();
    char *text = mjson_dump(doc);
    bool ok = bench_init(&b, ops, text);
    int64_t budget = (int64_t)(seconds * 1e9);
    ok = ok && make_history(&b, clock_mono_ns() + budget);
    int64_t own = b.own, until = clock_mono_ns() + budget;
    size_t n = 0;
    for (; ok && n < SAMPLES && (n < 30 || clock_mono_ns() < until); n++) {
        ok = turn(&b);
        suggest[n] = b.suggest_ns;
        whole[n] = b.turn_ns;
    }
    if (ok) {
        qsort(suggest, n, sizeof(suggest[0]), by_value);
        qsort(whole, n, sizeof(whole[0]), by_value);
        printf("{\"bench\":\"suggestion\",\"algorithm\":\"%s\",\"finished\":%d,\"pending\":%d,"
               "\"own\":%lld,\"samples\":%zu,\"suggest_us\":{\"median\":%.2f,\"p99\":%.2f},"
               "\"turn_us\":{\"median\":%.2f,\"p99\":%.2f}}\n",
               ops->name, FINISHED, PENDING, (long long)own, n, (double)suggest[n / 2] / 1e3,
               (double)suggest[n * 99 / 100] / 1e3, (double)whole[n / 2] / 1e3,
               (double)whole[n * 99 / 100] / 1e3);
        (void)fflush(stdout);
    }
    bench_fini(&b);
    json_decref(doc);
    free(text);
    return ok;
}

/* Turns until `size` trials exist; false when it ends or the time is up. */
static bool grow(struct bench *b, int64_t size, int64_t until_ns)
{
    bool ok = true;
    while (ok && b->created < size) {
        ok = turn(b) && clock_mono_ns() < until_ns;
    }
    return ok;
}

static bool scale(const struct optimizer_ops *ops, double seconds)
{
    static const int64_t sizes[] = {1000, 10000, 1000000};
    static int64_t whole[5000];
    struct bench b;
    bool ok = bench_init(&b, ops, mixed_json);
    double first = 0;
    int64_t until = clock_mono_ns() + (int64_t)(seconds * 1e9);
    bool goes_on = ok;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        goes_on = goes_on && grow(&b, sizes[i], until);
        size_t n = 0;
        for (; goes_on && n < sizeof(whole) / sizeof(whole[0]); n++) {
            goes_on = turn(&b);
            whole[n] = b.turn_ns;
        }
        if (!goes_on) {
            break;
        }
        qsort(whole, n, sizeof(whole[0]), by_value);
        double median = (double)whole[n / 2] / 1e3;
        first = i == 0 ? median : first;
        printf("{\"bench\":\"scale\",\"algorithm\":\"%s\",\"after\":%lld,\"turn_us\":{\"median\":"
               "%.2f,\"p99\":%.2f},\"to_first\":%.2f}\n",
               ops->name, (long long)sizes[i], median, (double)whole[n * 99 / 100] / 1e3,
               median / first);
        (void)fflush(stdout);
    }
    bench_fini(&b);
    return ok;
}

int main(int argc, char **argv)
{
    bool is_cost = argc > 1 && strcmp(argv[1], "cost") == 0;
    const char *only = argc > 2 ? argv[2] : "all";
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 10;
    bool all = strcmp(only, "all") == 0, ok = true;
    if ((!is_cost && (argc < 2 || strcmp(argv[1], "scale") != 0)) || !(seconds > 0) ||
        (!all && optimizer_find(only) == NULL)) {
        fprintf(stderr, "usage: bench-optimizers cost|scale [ALGORITHM|all] [SECONDS (10)]\n");
        return 2;
    }
    for (int i = 0; optimizer_registry()[i] != NULL; i++) {
        const struct optimizer_ops *ops = optimizer_registry()[i];
        if (all || strcmp(only, ops->name) == 0) {
            ok = (is_cost ? cost(ops, seconds) : scale(ops, seconds)) && ok;
        }
    }
    return ok ? 0 : 1;
}
