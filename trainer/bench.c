/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "trainer/fused.h"
#include "trainer/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two 3x3 convolutions with norms, and a shortcut around them. */
#define RESIDUAL(filters, stride)                                                                  \
    "{\"type\":\"residual\",\"activation\":\"relu\",\"layers\":[{\"type\":\"conv\","               \
    "\"filters\":" filters ",\"kernel\":3,\"stride\":" stride                                      \
    ",\"bias\":false},{\"type\":\"batchnorm\",\"activation\":\"relu\"},{\"type\":\"conv\","        \
    "\"filters\":" filters ",\"kernel\":3,\"bias\":false},{\"type\":\"batchnorm\"}]},"
static const char *const layers[][2] = {
    {"mlp", "[{\"type\":\"dense\",\"units\":256,\"activation\":\"relu\",\"repeat\":2},"
            "{\"type\":\"dense\",\"units\":10}]"},
    {"cnn", "[{\"type\":\"conv\",\"filters\":32,\"kernel\":5,\"activation\":\"relu\"},{\"type\":"
            "\"maxpool\"},"
            "{\"type\":\"conv\",\"filters\":64,\"kernel\":5,\"activation\":\"relu\"},{\"type\":"
            "\"maxpool\"},"
            "{\"type\":\"flatten\"},{\"type\":\"dense\",\"units\":512,\"activation\":\"relu\"},"
            "{\"type\":\"dense\",\"units\":10}]"},
    {"resnet8",
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3,\"bias\":false},{\"type\":"
     "\"batchnorm\",\"activation\":\"relu\"}," RESIDUAL("16", "1") RESIDUAL("32", "2")
         RESIDUAL("64", "2") "{\"type\":\"globalpool\"},{\"type\":\"dense\",\"units\":10}]"},
    {"resnet18",
     "[{\"type\":\"conv\",\"filters\":64,\"kernel\":3,\"bias\":false},{\"type\":"
     "\"batchnorm\",\"activation\":\"relu\"}," RESIDUAL("64", "1") RESIDUAL("64", "1")
         RESIDUAL("128", "2") RESIDUAL("128", "1") RESIDUAL("256", "2") RESIDUAL("256", "1")
             RESIDUAL("512", "2") RESIDUAL(
                 "512", "1") "{\"type\":\"globalpool\"},{\"type\":\"dense\",\"units\":10}]"}};
#define N_MODELS (sizeof(layers) / sizeof(layers[0]))

static json_t *trial_object(const struct bench *b)
{
    size_t k = 0;
    while (k < N_MODELS && strcmp(layers[k][0], b->model) != 0) {
        k++;
    }
    if (k == N_MODELS) {
        return NULL;
    }
    json_t *list = json_loads(layers[k][1], 0, NULL);
    double lr = b->batch >= 256 ? 0.05 : 0.02;
    json_t *training =
        json_pack("{s:f, s:f, s:i, s:f, s:i}", "lr", lr, "momentum", 0.9, "batch_size", b->batch,
                  "validation", b->trials > 0 ? 0.1 : 0.0, "threads", b->threads);
    if (b->lanes > 1) {
        (void)json_object_set_new(training, "order", json_string("experiment"));
    }
    if (b->precision != NULL) {
        (void)json_object_set_new(training, "precision", json_string(b->precision));
    }
    if (b->backend != NULL) {
        (void)json_object_set_new(training, "backend", json_string(b->backend));
    }
    char *dataset = xasprintf("idx:%s", b->data);
    json_t *o = json_pack("{s:s, s:s, s:{s:o}, s:o}", "program", "builtin", "dataset", dataset,
                          "model", "layers", list, "training", training);
    free(dataset);
    return o;
}

struct timing {
    const struct bench *b;
    const char *system;
    int64_t products; /* multiplications with additions of an image */
    const struct trial_result *result;
    int64_t done;                /* batches */
    int64_t start, last;         /* on the wall's clock, ns */
    int64_t cpu_start, cpu_last; /* processor time of this process, ns */
};

/* The other lanes end with the first. */
static enum trial_order follow(void *ctx)
{
    const struct timing *t = ctx;
    return t->last != 0 ? ORDER_STOP : ORDER_NONE;
}

static enum trial_order count_batches(void *ctx)
{
    struct timing *t = ctx;
    if (t->start == 0) { /* building the model is not training */
        t->start = clock_mono_ns();
        t->cpu_start = clock_cpu_ns();
    }
    if (t->b->batches > 0 && t->result->batches >= t->b->batches) {
        t->last = clock_mono_ns();
        t->cpu_last = clock_cpu_ns();
        t->done = t->result->batches;
        return ORDER_STOP;
    }
    return ORDER_NONE;
}

static void print_line(const struct timing *t, int64_t epoch, double rate, double cpu_rate,
                       const struct metrics *m)
{
    struct buf out = {0};
    buf_addf(&out,
             "{\"bench\":\"trainer\",\"system\":\"magpie-trainer %s "
             "(%s)\",\"model\":\"%s\",\"batch\":%d,"
             "\"threads\":%d,\"lanes\":%d,\"seed\":%llu,\"epoch\":%lld,\"products_per_image\":%lld,"
             "\"images_per_s\":%.0f,\"images_per_cpu_s\":%.0f,\"metrics\":",
             MAG_VERSION, t->system, t->b->model, t->b->batch, t->b->threads, t->b->lanes,
             (unsigned long long)t->b->seed, (long long)epoch, (long long)t->products, rate,
             cpu_rate);
    metrics_json(m, &out);
    printf("%s}\n", out.data);
    (void)fflush(stdout);
    buf_fini(&out);
}

/* To their ends; each has its status. */
static void run_lanes(struct session *s, struct trial_lane *lanes, int n)
{
    if (n > 1) {
        fused_run(lanes, n, s->dataset, s->backend);
    } else {
        lanes[0].status = trial_run(lanes[0].job, lanes[0].recipe, s->dataset, s->backend,
                                    lanes[0].hooks, lanes[0].result, &lanes[0].err);
    }
}

static int measure(struct session *s, const struct recipe *r, const struct bench *b)
{
    struct timing t = {.b = b,
                       .system = s->ops->describe(s->backend),
                       .products = model_products(&r->model, true)};
    const struct trial_hooks first = {.ctx = &t, .poll = count_batches};
    const struct trial_hooks others = {.ctx = &t, .poll = follow};
    struct trial_job jobs[BACKEND_LANES_MAX];
    struct trial_result results[BACKEND_LANES_MAX];
    struct trial_lane lanes[BACKEND_LANES_MAX];
    t.result = &results[0];
    for (int i = 0; i < b->lanes; i++) {
        jobs[i] = (struct trial_job){.trial = i + 1, .seed = b->seed, .budget = b->epochs};
        lanes[i] = (struct trial_lane){.job = &jobs[i],
                                       .recipe = r,
                                       .hooks = i == 0 ? &first : &others,
                                       .result = &results[i]};
    }
    run_lanes(s, lanes, b->lanes);
    if (lanes[0].status != MAG_OK) {
        fprintf(stderr, "magpie-trainer: %s\n", lanes[0].err.text);
        return 1;
    }
    const struct trial_result *result = &results[0];
    double images = (double)result->train_rows * b->lanes;
    double rate = images / result->train_seconds;
    double cpu_rate = images / ((double)(clock_cpu_ns() - t.cpu_start) / (double)MAG_NS_PER_S);
    if (t.last != 0) { /* it ended at the batch that was asked for, not with its epochs */
        images = (double)t.done * b->batch * b->lanes;
        rate = images / ((double)(t.last - t.start) / (double)MAG_NS_PER_S);
        cpu_rate = images / ((double)(t.cpu_last - t.cpu_start) / (double)MAG_NS_PER_S);
    }
    print_line(&t, result->step, rate, cpu_rate, &result->metrics);
    return 0;
}

/* Whole trials, `lanes` at a time: net, training, validation and test of each, in one process as a
 * worker's slot runs them. `start` is when the data set and the device began to be opened. */
static int measure_trials(struct session *s, const struct recipe *r, const struct bench *b,
                          int64_t start)
{
    const struct trial_hooks hooks = {.ctx = NULL};
    struct trial_job jobs[BACKEND_LANES_MAX];
    struct trial_result results[BACKEND_LANES_MAX];
    struct trial_lane lanes[BACKEND_LANES_MAX];
    for (int done = 0; done < b->trials; done += b->lanes) {
        const int n = b->trials - done < b->lanes ? b->trials - done : b->lanes;
        for (int i = 0; i < n; i++) {
            jobs[i] =
                (struct trial_job){.trial = done + i + 1, .seed = b->seed, .budget = b->epochs};
            lanes[i] = (struct trial_lane){
                .job = &jobs[i], .recipe = r, .hooks = &hooks, .result = &results[i]};
        }
        run_lanes(s, lanes, n);
        for (int i = 0; i < n; i++) {
            if (lanes[i].status != MAG_OK) {
                fprintf(stderr, "magpie-trainer: trial %d: %s\n", done + i + 1, lanes[i].err.text);
                return 1;
            }
        }
    }
    const double seconds = (double)(clock_mono_ns() - start) / (double)MAG_NS_PER_S;
    printf("{\"bench\":\"trials\",\"system\":\"magpie-trainer %s (%s)\",\"model\":\"%s\","
           "\"batch\":%d,\"epochs\":%d,\"lanes\":%d,\"trials\":%d,\"seconds\":%.3f,"
           "\"trials_per_h\":%.1f}\n",
           MAG_VERSION, s->ops->describe(s->backend), b->model, b->batch, b->epochs, b->lanes,
           b->trials, seconds, b->trials / seconds * 3600);
    return 0;
}

/* The model with its first weights, applied to the test images batch after batch. */
static int measure_infer(struct session *s, const struct recipe *r, const struct bench *b)
{
    struct mag_err err = {0};
    struct net *net = NULL;
    const struct net_options options = {.rows = b->batch};
    if (net_create(s->ops, s->backend, &r->model, &options, &net, &err) != MAG_OK) {
        fprintf(stderr, "magpie-trainer: %s\n", err.text);
        return 1;
    }
    net_init_weights(net, 0, b->seed, 1);
    const struct dataset *d = s->dataset;
    const int whole = (int)d->n_test / b->batch;
    const int n = b->batches > 0 ? b->batches : whole;
    float *out =
        xcalloc((size_t)b->batch, (size_t)r->model.layers[r->model.n - 1].out.c * sizeof(*out));
    struct timing t = {.b = b,
                       .system = s->ops->describe(s->backend),
                       .products = model_products(&r->model, false)};
    for (int i = -whole / 10; i < n; i++) { /* the first ones only warm up */
        if (i == 0) {
            t.start = clock_mono_ns();
            t.cpu_start = clock_cpu_ns();
        }
        const int at = (i + whole) % whole * b->batch;
        net_apply(net, &(struct batch){.d = d, .rows = d->test + at, .n = b->batch}, out);
    }
    const double images = (double)n * b->batch;
    const double rate = images / ((double)(clock_mono_ns() - t.start) / (double)MAG_NS_PER_S);
    const double cpu_rate =
        images / ((double)(clock_cpu_ns() - t.cpu_start) / (double)MAG_NS_PER_S);
    print_line(&t, 0, rate, cpu_rate, &(struct metrics){.n = 0});
    free(out);
    net_destroy(net);
    return 0;
}

int bench_run(const struct bench *b)
{
    json_t *trial = trial_object(b);
    if (trial == NULL) {
        fprintf(stderr,
                "magpie-trainer: --bench takes \"mlp\", \"cnn\", \"resnet8\" or \"resnet18\", not "
                "\"%s\"\n",
                b->model);
        return 2;
    }
    struct mjson_issues *is = calloc(1, sizeof(*is));
    struct mag_err err = {0};
    struct session session = {0};
    struct recipe recipe;
    const struct recipe_context ctx = {0};
    const int64_t start = clock_mono_ns();
    int status = 1;
    if (recipe_parse(trial, "", &ctx, is, &recipe)) {
        const struct dataset_part whole = {0};
        if (session_prepare(&session, &recipe, b->seed, &whole, "", is, &err) == MAG_OK) {
            status = b->infer        ? measure_infer(&session, &recipe, b)
                     : b->trials > 0 ? measure_trials(&session, &recipe, b, start)
                                     : measure(&session, &recipe, b);
        } else {
            fprintf(stderr, "magpie-trainer: %s\n", err.text);
        }
        recipe_fini(&recipe);
    }
    struct buf out = {0};
    mjson_issues_print(is, NULL, &out);
    fputs(out.data != NULL ? out.data : "", stderr);
    buf_fini(&out);
    mjson_issues_fini(is);
    free(is);
    session_fini(&session);
    json_decref(trial);
    return status;
}
