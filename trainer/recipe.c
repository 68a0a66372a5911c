/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/recipe.h"

#include "trainer/ablate.h"
#include "trainer/prep.h"
#include "trainer/recipe_training.h"
#include "trainer/value.h"

#include <stdlib.h>
#include <string.h>

static const char *const layer_names[] = {"dense", "conv", "maxpool", "flatten", "dropout", NULL};
static const char *const activation_names[] = {"none", "relu", "tanh", "sigmoid", NULL};

/* Keys of each layer kind, in the order of enum layer_kind. */
static const char *const layer_keys[][8] = {
    {"type", "units", "activation", "repeat", NULL},
    {"type", "filters", "kernel", "stride", "padding", "activation", "repeat", NULL},
    {"type", "size", "stride", NULL},
    {"type", NULL},
    {"type", "rate", NULL},
};

/* ---- model ---- */

/* "same", "valid" or a number of zeros on each side. */
static void parse_padding(const struct place *p, struct layer *l)
{
    l->pad_same = true;
    const json_t *given = json_object_get(p->object, "padding");
    if (given == NULL) {
        return;
    }
    static const char *const words[] = {"same", "valid", NULL};
    char *pointer = mjson_pointer(p->pointer, "padding");
    const json_t *v = value_resolve(p->reader, given, pointer, NULL);
    free(pointer);
    int word = 0;
    if (json_is_number(v)) {
        l->pad_same = false;
        (void)value_int(p, "padding", false, 0, MODEL_KERNEL_MAX, &l->pad);
    } else if (v != NULL && value_choice(p, "padding", false, words, &word)) {
        l->pad_same = word == 0;
    }
}

static void parse_layer_fields(const struct place *p, struct layer *l, int *repeat)
{
    int act = 0;
    double rate = 0.5;
    switch (l->kind) {
    case LAYER_DENSE:
        (void)value_int(p, "units", true, 1, MODEL_UNITS_MAX, &l->filters);
        (void)value_choice(p, "activation", false, activation_names, &act);
        (void)value_int(p, "repeat", false, 0, MODEL_LAYERS_MAX, repeat);
        break;
    case LAYER_CONV:
        (void)value_int(p, "filters", true, 1, MODEL_FILTERS_MAX, &l->filters);
        (void)value_int(p, "kernel", true, 1, MODEL_KERNEL_MAX, &l->kernel);
        l->stride = 1;
        (void)value_int(p, "stride", false, 1, MODEL_KERNEL_MAX, &l->stride);
        parse_padding(p, l);
        (void)value_choice(p, "activation", false, activation_names, &act);
        (void)value_int(p, "repeat", false, 0, MODEL_LAYERS_MAX, repeat);
        break;
    case LAYER_MAXPOOL:
        l->kernel = 2;
        (void)value_int(p, "size", false, 1, MODEL_POOL_MAX, &l->kernel);
        l->stride = l->kernel;
        (void)value_int(p, "stride", false, 1, MODEL_KERNEL_MAX, &l->stride);
        break;
    case LAYER_DROPOUT:
        (void)value_number(p, "rate", false, 0, 0.99, &rate);
        l->rate = (float)rate;
        break;
    case LAYER_FLATTEN:
    default:
        break;
    }
    l->act = (enum activation)act;
}

/* Any layer may have a "name", by which an ablation study leaves it out. */
static void check_layer_keys(struct reader *r, const json_t *value, const char *const keys[],
                             const char *pointer)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)value);
    const json_t *name = json_object_get(rest, "name");
    if (name != NULL && (!json_is_string(name) || json_string_length(name) == 0)) {
        mjson_issue_at(r->issues, pointer, "name", "must be a string, not empty");
    }
    (void)json_object_del(rest, "name");
    mjson_check_keys(rest, keys, pointer, r->issues);
    json_decref(rest);
}

static void parse_layer(struct reader *r, const json_t *value, const char *pointer, int origin,
                        struct model *m)
{
    if (!json_is_object(value)) {
        mjson_issue(r->issues, pointer,
                    "a layer must be an object such as {\"type\": \"dense\", \"units\": "
                    "10}, not %s",
                    mjson_kind(value));
        return;
    }
    struct place p = {.reader = r, .object = value, .pointer = pointer};
    struct layer l = {.origin = origin};
    int kind = 0;
    int repeat = 1;
    if (!value_choice(&p, "type", true, layer_names, &kind)) {
        return;
    }
    l.kind = (enum layer_kind)kind;
    check_layer_keys(r, value, layer_keys[kind], pointer);
    parse_layer_fields(&p, &l, &repeat);
    if (ablate_layer(r->ctx->params, value)) {
        return;
    }
    if (m->n + repeat > MODEL_LAYERS_MAX) {
        mjson_issue(r->issues, pointer, "over %d layers", MODEL_LAYERS_MAX);
        return;
    }
    for (int i = 0; i < repeat; i++) { /* MODEL_INPUT is -1: the first one takes it */
        l.n_inputs = 1;
        l.inputs[0] = m->n - 1;
        m->layers[m->n++] = l;
    }
}

/* A list inside the list holds layers that come and go together with the parameters in it. */
static void parse_layers(struct reader *r, const json_t *list, const char *pointer, struct model *m)
{
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(list, i, item)
    {
        char *at = mjson_pointer_index(pointer, i);
        if (!json_is_array(item)) {
            parse_layer(r, item, at, (int)i, m);
        } else if (!value_has_inactive(r, item)) {
            size_t k = 0;
            json_t *inner = NULL;
            json_array_foreach(item, k, inner)
            {
                char *inner_at = mjson_pointer_index(at, k);
                parse_layer(r, inner, inner_at, (int)i, m);
                free(inner_at);
            }
        }
        free(at);
    }
}

static void parse_input(struct reader *r, const json_t *v, const char *pointer, struct recipe *ret)
{
    int side[3] = {0};
    bool good = json_is_array(v) && (json_array_size(v) == 1 || json_array_size(v) == 3);
    for (size_t i = 0; good && i < json_array_size(v); i++) {
        json_int_t n = json_integer_value(json_array_get(v, i));
        good = n >= 1 && n <= (json_array_size(v) == 1 ? MODEL_UNITS_MAX : MODEL_SIDE_MAX);
        side[i] = (int)n;
    }
    if (!good) {
        mjson_issue_at(r->issues, pointer, "input",
                       "\"input\" must be [channels, height, width] or [values], each 1 to %d",
                       MODEL_SIDE_MAX);
        return;
    }
    ret->input_given = true;
    ret->model.input = json_array_size(v) == 1 ? (struct shape){side[0], 1, 1, true}
                                               : (struct shape){side[0], side[1], side[2], false};
}

static void parse_model(struct reader *r, const json_t *v, const char *pointer, struct recipe *ret)
{
    static const char *const keys[] = {"input", "layers", NULL};
    if (!json_is_object(v)) {
        mjson_issue(r->issues, pointer, "\"model\" must be {\"layers\": [...]}, not %s",
                    mjson_kind(v));
        return;
    }
    mjson_check_keys(v, keys, pointer, r->issues);
    if (json_object_get(v, "input") != NULL) {
        parse_input(r, json_object_get(v, "input"), pointer, ret);
    }
    const json_t *layers = json_object_get(v, "layers");
    if (!json_is_array(layers) || json_array_size(layers) == 0) {
        mjson_issue_at(r->issues, pointer, "layers",
                       "\"layers\" must be a list of one layer or more, not %s",
                       json_is_array(layers) ? "an empty one" : mjson_kind(layers));
        return;
    }
    int before = r->issues->total;
    char *at = mjson_pointer(pointer, "layers");
    parse_layers(r, layers, at, &ret->model);
    if (ret->model.n == 0 && r->issues->total == before) {
        mjson_issue(r->issues, at,
                    "no layer is left once inactive ones and \"repeat\": 0 are taken out");
    }
    free(at);
}

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

bool recipe_parse(const json_t *trial, const char *pointer, const struct recipe_context *ctx,
                  struct mjson_issues *is, struct recipe *ret)
{
    static const char *const keys[] = {"program", "dataset",  "preprocessing", "model",
                                       "training", "fuse",    NULL};
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

bool recipe_fit(struct recipe *r, const struct dataset *d, const char *pointer,
                struct mjson_issues *is)
{
    int before = is->total;
    struct training *t = &r->training;
    if (!t->loss_given) {
        t->loss.kind = d->n_classes > 0 ? LOSS_CROSS_ENTROPY : LOSS_MSE;
    } else if (t->loss.kind == LOSS_CROSS_ENTROPY && d->n_classes == 0) {
        char *at = mjson_pointer(pointer, "training");
        mjson_issue_at(is, at, "loss",
                       "\"cross_entropy\" needs classes, but the data set predicts a number; "
                       "write \"mse\"");
        free(at);
    }
    if (fit_input(r, d, pointer, is)) {
        char *model = mjson_pointer(pointer, "model");
        char *layers = mjson_pointer(model, "layers");
        (void)model_shapes(&r->model, d->n_classes > 0 ? d->n_classes : 1, layers, is);
        free(layers);
        free(model);
    }
    return is->total == before;
}
