/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/recipe.h"

#include "base/alloc.h"
#include "trainer/ablate.h"
#include "trainer/parse.h"
#include "trainer/prep.h"
#include "trainer/recipe_training.h"
#include "wire/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the whole ---- */

static void parse_dataset(struct reader *r, const json_t *trial, const char *pointer,
                          struct recipe *ret)
{
    const json_t *given = json_object_get(trial, "dataset");
    if (given == NULL) {
        mjson_issue(r->issues, pointer,
                    "\"dataset\" is missing: write \"idx:FOLDER\" or "
                    "\"csv:PATH?label=COLUMN\"");
        return;
    }
    char *at = mjson_pointer(pointer, "dataset");
    int before = r->issues->total;
    const json_t *v = value_resolve(r, given, at, NULL);
    if (v != NULL) {
        if (dataset_source_parse(v, at, r->issues, &ret->source)) {
            (void)ablate_feature(r->ctx->params, pointer, &ret->source, r->issues);
        }
    } else if (r->issues->total == before) {
        mjson_issue(r->issues, at, "the parameter of \"dataset\" has no value here");
    }
    free(at);
}

/* Whoever gives trials out uses it; here it only has to be right. */
static void check_fuse(const json_t *trial, const char *pointer, struct mjson_issues *is)
{
    struct mag_err err = {0};
    int lanes = 0;
    if (fuse_parse(json_object_get(trial, "fuse"), &lanes, &err) != MAG_OK) {
        mjson_issue_at(is, pointer, "fuse", "%s", err.text);
    }
}

bool recipe_parse(const json_t *trial, const char *pointer, const struct recipe_context *ctx,
                  struct mjson_issues *is, struct recipe *ret)
{
    static const char *const keys[] = {"program", "dataset", "preprocessing", "model", "training",
                                       "fuse",    NULL};
    struct reader r = {.ctx = ctx, .issues = is};
    int before = is->total;
    *ret = (struct recipe){0};
    if (!json_is_object(trial)) {
        mjson_issue(is, pointer, "the trial must be an object, not %s", mjson_kind(trial));
        return false;
    }
    mjson_check_keys(trial, keys, pointer, is);
    const char *program = json_string_value(json_object_get(trial, "program"));
    if (program == NULL || strcmp(program, "builtin") != 0) {
        mjson_issue_at(is, pointer, "program",
                       "\"program\" must be \"builtin\" for the built-in trainer");
    }
    check_fuse(trial, pointer, is);
    parse_dataset(&r, trial, pointer, ret);
    char *at = mjson_pointer(pointer, "preprocessing");
    prep_parse_into(&r, json_object_get(trial, "preprocessing"), at, &ret->source);
    free(at);
    at = mjson_pointer(pointer, "model");
    parse_model(&r, json_object_get(trial, "model"), at, ret);
    free(at);
    at = mjson_pointer(pointer, "training");
    recipe_training(&r, json_object_get(trial, "training"), at, &ret->training);
    free(at);
    if (is->total > before) {
        recipe_fini(ret);
        return false;
    }
    return true;
}

void recipe_fini(struct recipe *r)
{
    dataset_source_fini(&r->source);
}

/* Takes the data set's shape, or checks that the given one holds as many values. */
static bool fit_input(struct recipe *r, const struct dataset *d, const char *pointer,
                      struct mjson_issues *is)
{
    if (!r->input_given) {
        r->model.input = d->shape;
        return true;
    }
    if (shape_size(&r->model.input) == shape_size(&d->shape)) {
        return true;
    }
    char want[48];
    char have[48];
    shape_text(&r->model.input, want);
    shape_text(&d->shape, have);
    char *at = mjson_pointer(pointer, "model");
    mjson_issue_at(is, at, "input",
                   "\"input\" is %s (%lld values), but an example of the data set is %s (%lld)",
                   want, (long long)shape_size(&r->model.input), have,
                   (long long)shape_size(&d->shape));
    free(at);
    return false;
}

/* The first value that is no row of a table of `rows`; NULL = there is none in what has been read.
 */
static const float *not_whole(const struct dataset *d, int rows)
{
    int64_t n = (int64_t)d->n_rows * shape_size(&d->shape);
    for (int64_t i = 0; d->values != NULL && i < n; i++) {
        float v = d->values[i];
        if (!(v >= 0) || v >= (float)rows || v != floorf(v)) {
            return &d->values[i];
        }
    }
    return NULL;
}

static void fit_embedding(const struct recipe *r, const struct dataset *d, const char *pointer,
                          struct mjson_issues *is)
{
    const struct layer *l = &r->model.layers[0];
    if (l->kind != LAYER_EMBEDDING) {
        return;
    }
    char *at = xasprintf("%s%s", pointer, l->at);
    const float *value = not_whole(d, l->vocabulary);
    if (d->bytes != NULL && d->scale != 1) {
        mjson_issue(
            is, at,
            "an embedding takes whole numbers, but the data set's bytes are scaled to 0 to 1");
    } else if (value != NULL) {
        mjson_issue(
            is, at,
            "an embedding takes whole numbers from 0 to %d (\"vocabulary\": %d), but the data "
            "set gives %g; columns of numbers are standardised unless it says "
            "standardize=false",
            l->vocabulary - 1, l->vocabulary, (double)*value);
    }
    free(at);
}

/* The loss by the data, or whether the given one can be. */
static void fit_loss(struct recipe *r, const struct dataset *d, const char *pointer,
                     struct mjson_issues *is)
{
    struct training *t = &r->training;
    char *at = mjson_pointer(pointer, r->logistic ? "model" : "training");
    if (!t->loss_given) {
        t->loss.kind = r->logistic        ? LOSS_LOGISTIC
                       : d->n_classes > 0 ? LOSS_CROSS_ENTROPY
                                          : LOSS_MSE;
    }
    if (r->logistic && (t->loss.kind != LOSS_LOGISTIC || d->n_classes != 2)) {
        mjson_issue_at(is, at, "family",
                       t->loss.kind != LOSS_LOGISTIC
                           ? "logistic regression has the logistic loss: leave \"loss\" out, or "
                             "write \"linear\""
                           : "logistic regression is for two classes, which these data have not; "
                             "write \"linear\"");
    } else if (t->loss.kind == LOSS_LOGISTIC && d->n_classes != 2) {
        mjson_issue_at(is, at, "loss",
                       "\"logistic\" needs two classes, but the data set %s; write \"%s\"",
                       d->n_classes > 0 ? "has others" : "predicts a number",
                       d->n_classes > 0 ? "cross_entropy" : "mse");
    } else if (t->loss.kind == LOSS_CROSS_ENTROPY && d->n_classes == 0) {
        mjson_issue_at(is, at, "loss",
                       "\"cross_entropy\" needs classes, but the data set predicts a number; "
                       "write \"mse\"");
    }
    free(at);
}

bool recipe_fit(struct recipe *r, const struct dataset *d, const char *pointer,
                struct mjson_issues *is)
{
    int before = is->total;
    struct training *t = &r->training;
    fit_loss(r, d, pointer, is);
    int outputs = d->n_classes > 0 && t->loss.kind != LOSS_LOGISTIC ? d->n_classes : 1;
    if (r->family) {
        r->model.layers[r->model.n - 1].filters = outputs;
    }
    if (fit_input(r, d, pointer, is)) {
        char *training = mjson_pointer(pointer, "training");
        (void)recipe_training_fit(t, &r->model.input, d->n_classes, training, is);
        free(training);
        char *model = mjson_pointer(pointer, "model");
        if (model_shapes(&r->model, outputs, model, is)) {
            fit_embedding(r, d, model, is);
        }
        free(model);
    }
    return is->total == before;
}
