/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/standalone.h"

#include "base/json.h"
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
                                  .seed = o->seed,
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

int standalone_run(const json_t *doc, const char *path, const char *text, size_t len,
                   const struct standalone *o)
{
    struct mag_err err = {0};
    json_t *params = NULL;
    const char *given = o->params != NULL ? o->params : "{}";
    if (mjson_parse(given, strlen(given), &params, &err) != MAG_OK || !json_is_object(params)) {
        fprintf(stderr, "magpie-trainer: --params must be a JSON object: %s\n", err.text);
        json_decref(params);
        return 2;
    }
    const json_t *trial = json_object_get(doc, "trial");
    const char *pointer = trial != NULL ? "/trial" : "";
    struct mjson_issues *is = calloc(1, sizeof(*is));
    struct session session = {0};
    struct recipe recipe;
    const struct recipe_context ctx = {.params = params,
                                       .declared = json_object_get(doc, "searchspace")};
    int status = 1;
    if (recipe_parse(trial != NULL ? trial : doc, pointer, &ctx, is, &recipe)) {
        const struct dataset_part whole = {0};
        if (session_prepare(&session, &recipe, o->seed, &whole, pointer, is, &err) == MAG_OK) {
            status = train(&session, &recipe, o);
        } else if (is->total == 0) {
            fprintf(stderr, "magpie-trainer: %s\n", err.text);
        }
        recipe_fini(&recipe);
    }
    if (is->total > 0) {
        print_issues(is, path, text, len);
    }
    mjson_issues_fini(is);
    free(is);
    session_fini(&session);
    json_decref(params);
    return status;
}
