/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/standalone.h"

#include "base/alloc.h"
#include "base/json.h"
#include "trainer/distribution.h"
#include "trainer/elastic.h"
#include "trainer/session.h"
#include "trainer/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_metrics(const char *kind, int64_t step, const struct metrics *m)
{
    struct buf b = {0};
    buf_addf(&b, "{\"%s\":%lld,\"metrics\":", kind, (long long)step);
    metrics_json(m, &b);
    printf("%s}\n", b.data);
    (void)fflush(stdout);
    buf_fini(&b);
}

static enum mag_status on_report(void *ctx, int64_t step, const struct metrics *m,
                                 struct mag_err *err)
{
    (void)ctx;
    (void)err;
    print_metrics("epoch", step, m);
    return MAG_OK;
}

/* Prints the issues with their places; those of --params have none. */
static void print_issues(struct mjson_issues *is, const char *path, const char *text, size_t len)
{
    struct buf out = {0};
    mjson_issues_place(is, text, len);
    mjson_issues_print(is, path, &out);
    fputs(out.data, stderr);
    buf_fini(&out);
}

static int train(struct session *s, const struct recipe *r, const struct standalone *o)
{
    const struct trial_job job = {.trial = o->trial,
                                  .seed = (uint64_t)o->seed,
                                  .budget = o->epochs,
                                  .checkpoint_every = 1,
                                  .checkpoint_dir = o->checkpoints,
                                  .resume_path = o->resume};
    const struct trial_hooks hooks = {.report = on_report};
    struct trial_result result;
    struct mag_err err = {0};
    if (trial_run(&job, r, s->dataset, s->backend, &hooks, &result, &err) != MAG_OK) {
        fprintf(stderr, "magpie-trainer: %s\n", err.text);
        return 1;
    }
    print_metrics("result", result.step, &result.metrics);
    return 0;
}

/* ---- over several ranks ---- */

/* What a worker would send; with what `folds` says. */
static json_t *start_message(const json_t *spec, json_t *params, const json_t *distribution,
                             json_t *folds, const struct standalone *o)
{
    json_t *m = json_pack("{s:s, s:I, s:O, s:O, s:I, s:I, s:{s:i}, s:O}", "type", "start", "trial",
                          (json_int_t)o->trial, "params", params, "spec", spec, "budget",
                          (json_int_t)o->epochs, "seed", (json_int_t)o->seed, "checkpoint", "every",
                          1, "distribution", distribution);
    (void)json_object_update(m, folds);
    if (o->checkpoints != NULL) {
        (void)json_object_set_new(m, "checkpoint_dir", json_string(o->checkpoints));
    }
    if (o->resume != NULL) {
        (void)json_object_set_new(m, "resume_from", json_pack("{s:s}", "path", o->resume));
    }
    return m;
}

struct printer {
    json_int_t step;
    bool good;
};

static enum mag_status on_line(void *ctx, const json_t *message, const char *text, size_t len)
{
    struct printer *p = ctx;
    const char *type = json_string_value(json_object_get(message, "type"));
    json_t *metrics = json_object_get(message, "metrics");
    (void)text;
    (void)len;
    if (strcmp(type, "error") == 0) {
        fprintf(stderr, "magpie-trainer: %s\n",
                json_string_value(json_object_get(message, "reason")));
        return MAG_OK;
    }
    if (metrics == NULL) {
        return MAG_OK;
    }
    bool result = strcmp(type, "result") == 0;
    p->good = p->good || result;
    p->step = result ? p->step : json_integer_value(json_object_get(message, "step"));
    char *dump = json_dumps(metrics, JSON_COMPACT | JSON_REAL_PRECISION(17));
    printf("{\"%s\":%lld,\"metrics\":%s}\n", result ? "result" : "epoch", (long long)p->step, dump);
    (void)fflush(stdout);
    free(dump);
    return MAG_OK;
}

static int train_ranks(const json_t *spec, json_t *params, const json_t *distribution,
                       json_t *folds, const struct distribution *plan, const struct standalone *o)
{
    struct elastic x = {.ranks = {.listener = -1, .region = -1}};
    struct printer p = {0};
    struct mag_err err = {0};
    bool leave = false;
    const struct elastic_hooks hooks = {.ctx = &p, .line = on_line};
    json_t *m = start_message(spec, params, distribution, folds, o);
    if (elastic_run(&x, plan, m, &hooks, &leave, &err) != MAG_OK) {
        fprintf(stderr, "magpie-trainer: %s\n", err.text);
    }
    elastic_fini(&x);
    json_decref(m);
    return p.good ? 0 : 1;
}

/* One rank needs no others; MAGPIE_RANK_ALONE=1 runs it as one all the same, so that a machine with
 * one GPU shows what NCCL does. */
static bool is_plain(const struct distribution *plan)
{
    const char *alone = getenv("MAGPIE_RANK_ALONE");
    return plan->ranks == 1 && plan->strategy == STRATEGY_ALLREDUCE &&
           (alone == NULL || strcmp(alone, "1") != 0);
}

/* The document's "distribution" with --ranks over it, new reference; NULL = one process. */
static json_t *distribution_of(const json_t *doc, const struct standalone *o,
                               struct mjson_issues *is, struct distribution *plan)
{
    json_t *own = json_deep_copy(json_object_get(doc, "distribution"));
    if (o->ranks > 0) {
        own = own != NULL ? own : json_object();
        (void)json_object_set_new(own, "ranks", json_integer(o->ranks));
        (void)json_object_set_new(own, "min_ranks", json_integer(1));
    }
    bool good = distribution_parse(own, "/distribution", is, plan);
    if (!good || is_plain(plan)) {
        json_decref(own);
        return NULL;
    }
    return own;
}

/* ---- folds ---- */

/* What a start message says of the fold that is asked for, new reference: empty where none is. NULL
 * with an issue. */
static json_t *folds_of(const json_t *doc, const struct standalone *o, struct mjson_issues *is,
                        struct dataset_part *part)
{
    const json_t *validation = json_object_get(doc, "validation");
    const json_t *folds = json_object_get(validation, "folds");
    struct mag_err err = {0};
    *part = (struct dataset_part){0};
    if (o->fold < 0) {
        return json_object();
    }
    if (!json_is_object(validation)) {
        mjson_issue(is, "/validation",
                    "--fold is for an experiment with \"validation\": {\"folds\": 5}");
        return NULL;
    }
    const json_int_t n = folds != NULL ? json_integer_value(folds) : 1;
    if (o->fold > n) {
        mjson_issue(is, "/validation", "--fold must be 1 to %lld, or 0 for the refit, not %d",
                    (long long)n, o->fold);
        return NULL;
    }
    json_t *split = json_copy((json_t *)(uintptr_t)validation);
    (void)json_object_del(split, "folds");
    if (json_object_get(split, "seed") == NULL) {
        (void)json_object_set_new(split, "seed", json_integer((json_int_t)o->seed));
    }
    json_t *out = json_pack("{s:I, s:i, s:o}", "folds", n, "fold", o->fold, "split", split);
    if (dataset_part_parse(out, part, &err) != MAG_OK) {
        mjson_issue(is, "/validation", "cannot be read: %s", err.text);
        json_decref(out);
        return NULL;
    }
    return out;
}

/* One process. */
static int train_here(const json_t *trial, const char *pointer, const struct recipe_context *ctx,
                      const struct dataset_part *part, struct mjson_issues *is,
                      const struct standalone *o)
{
    struct session session = {0};
    struct recipe recipe;
    struct mag_err err = {0};
    int status = 1;
    if (!recipe_parse(trial, pointer, ctx, is, &recipe)) {
        return 1;
    }
    if (session_prepare(&session, &recipe, (uint64_t)o->seed, part, pointer, is, &err) == MAG_OK) {
        status = train(&session, &recipe, o);
    } else if (is->total == 0) {
        fprintf(stderr, "magpie-trainer: %s\n", err.text);
    }
    recipe_fini(&recipe);
    session_fini(&session);
    return status;
}

/* As it was asked for, with what the document says where nothing was. */
static struct standalone complete(const struct standalone *given, const json_t *doc)
{
    struct standalone o = *given;
    const json_int_t seed = json_integer_value(json_object_get(doc, "seed"));
    o.seed = o.seed >= 0 ? o.seed : seed > 0 ? (int64_t)seed : 0;
    return o;
}

int standalone_run(const json_t *doc, const char *path, const char *text, size_t len,
                   const struct standalone *given)
{
    const struct standalone o = complete(given, doc);
    struct mag_err err = {0};
    json_t *params = NULL;
    const char *values = o.params != NULL ? o.params : "{}";
    if (mjson_parse(values, strlen(values), &params, &err) != MAG_OK || !json_is_object(params)) {
        fprintf(stderr, "magpie-trainer: --params must be a JSON object: %s\n", err.text);
        json_decref(params);
        return 2;
    }
    const json_t *trial = json_object_get(doc, "trial");
    const char *pointer = trial != NULL ? "/trial" : "";
    struct mjson_issues *is = calloc(1, sizeof(*is));
    struct dataset_part part;
    const struct recipe_context ctx = {.params = params,
                                       .declared = json_object_get(doc, "searchspace")};
    int status = 1;
    struct distribution plan;
    json_t *distribution = distribution_of(doc, &o, is, &plan);
    json_t *folds = folds_of(doc, &o, is, &part);
    if (is->total > 0) {
        status = 1;
    } else if (distribution != NULL) {
        status = train_ranks(trial != NULL ? trial : doc, params, distribution, folds, &plan, &o);
    } else {
        status = train_here(trial != NULL ? trial : doc, pointer, &ctx, &part, is, &o);
    }
    if (is->total > 0) {
        print_issues(is, path, text, len);
    }
    mjson_issues_fini(is);
    free(is);
    json_decref(folds);
    json_decref(distribution);
    json_decref(params);
    return status;
}
