/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/describe.h"

#include "base/alloc.h"
#include "trainer/format.h"
#include "trainer/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const loss_names[] = {"cross_entropy", "mse", "logistic"};

/* ---- writing ---- */

/* The numbers of its kind. */
static json_t *kind_json(const struct layer *l)
{
    const char *type = layer_kind_name(l->kind);
    switch (l->kind) {
    case LAYER_DENSE:
        return json_pack("{s:s, s:i}", "type", type, "units", l->filters);
    case LAYER_CONV:
        return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "type", type, "filters", l->filters,
                         "kernel", l->kernel, "stride", l->stride, "padding", l->pad, "groups",
                         l->groups);
    case LAYER_MAXPOOL:
    case LAYER_AVGPOOL:
        return json_pack("{s:s, s:i, s:i}", "type", type, "size", l->kernel, "stride", l->stride);
    case LAYER_GLOBALPOOL:
        return json_pack("{s:s, s:s}", "type", type, "kind", l->max ? "max" : "avg");
    case LAYER_DROPOUT:
        return json_pack("{s:s, s:f}", "type", type, "rate", (double)l->rate);
    case LAYER_BATCHNORM:
        return json_pack("{s:s, s:f, s:f}", "type", type, "momentum", (double)l->momentum,
                         "epsilon", (double)l->epsilon);
    case LAYER_LAYERNORM:
        return json_pack("{s:s, s:f}", "type", type, "epsilon", (double)l->epsilon);
    case LAYER_EMBEDDING:
        return json_pack("{s:s, s:i, s:i}", "type", type, "vocabulary", l->vocabulary, "width",
                         l->filters);
    case LAYER_FLATTEN:
    case LAYER_ACTIVATION:
    case LAYER_ADD:
    case LAYER_CONCAT:
    case LAYER_IDENTITY:
    default:
        return json_pack("{s:s}", "type", type);
    }
}

/* "inputs" where they are not the layer before alone. */
static json_t *layer_json(const struct layer *l, int index)
{
    json_t *o = kind_json(l);
    if (l->act != ACT_NONE || l->kind == LAYER_DENSE || l->kind == LAYER_CONV ||
        l->kind == LAYER_ACTIVATION) {
        (void)json_object_set_new(o, "activation", json_string(activation_name(l->act)));
    }
    if (l->no_bias) {
        (void)json_object_set_new(o, "bias", json_false());
    }
    if (l->n_inputs != 1 || l->inputs[0] != index - 1) {
        json_t *inputs = json_array();
        for (int i = 0; i < l->n_inputs; i++) {
            (void)json_array_append_new(inputs, json_integer(l->inputs[i]));
        }
        (void)json_object_set_new(o, "inputs", inputs);
    }
    return o;
}

static json_t *layers_json(const struct model *m)
{
    json_t *list = json_array();
    for (int i = 0; i < m->n; i++) {
        (void)json_array_append_new(list, layer_json(&m->layers[i], i));
    }
    return list;
}

static json_t *input_json(const struct shape *s)
{
    return s->flat ? json_pack("[i]", s->c) : json_pack("[i, i, i]", s->c, s->h, s->w);
}

static json_t *texts_json(char *const *texts, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_t *text = json_string(texts[i]);
        (void)json_array_append_new(list, text != NULL ? text : json_sprintf("column %d", i + 1));
    }
    return list;
}

/* Where the stages are one standardisation of all numbers, value by value: what it takes off and
 * what it multiplies with. Others can apply that without knowing our stages. */
static json_t *plain_scale(const struct dataset *d, const char *key)
{
    const json_t *stage = json_array_get(d->fitted, 0);
    const json_t *states = json_object_get(stage, "state");
    const char *type = json_string_value(json_object_get(stage, "type"));
    const char *per = json_string_value(json_object_get(stage, "per"));
    const struct frame *f = &d->raw->columns;
    if (json_array_size(d->fitted) != 1 || strcmp(type, "standardize") != 0 ||
        d->raw->bytes != NULL || d->sparse != NULL || strcmp(per, "value") != 0 ||
        json_object_size(states) != (size_t)(f->n > 0 ? f->n : 1)) {
        return NULL;
    }
    if (f->n == 0) {
        return json_incref(json_object_get(json_object_get(states, "values"), key));
    }
    json_t *list = json_array();
    for (int i = 0; i < f->n; i++) {
        const json_t *of = json_object_get(json_object_get(states, f->columns[i].name), key);
        (void)json_array_append(list, json_array_get(of, 0));
    }
    return list;
}

static void add_columns(json_t *o, const struct dataset_source *s, const struct frame *f)
{
    json_t *names = json_array();
    json_t *types = json_array();
    bool plain = true;
    for (int i = 0; i < f->n; i++) {
        const struct column *c = &f->columns[i];
        json_t *name = json_string(c->name);
        (void)json_array_append_new(names, name != NULL ? name : json_sprintf("column %d", i + 1));
        (void)json_array_append_new(
            types, json_string(c->boolean ? "boolean" : column_kind_names[c->kind]));
        plain = plain && c->kind == COLUMN_NUMBER && !c->boolean;
    }
    if (s->separator != '\0') {
        char separator[2] = {s->separator, '\0'};
        (void)json_object_set_new(o, "separator", json_string(separator));
    }
    if (s->label != NULL) {
        (void)json_object_set_new(o, "label", json_string(s->label));
    }
    if (s->n_missing > 0) {
        (void)json_object_set_new(o, "missing", texts_json(s->missing, s->n_missing));
    }
    (void)json_object_set_new(o, "columns", names);
    if (!plain) {
        (void)json_object_set(o, "types", types);
    }
    json_decref(types);
}

static json_t *data_json(const struct dataset_source *s, const struct dataset *d)
{
    json_t *o = json_pack("{s:s, s:i}", "format", s->format->name, "n_classes", d->n_classes);
    if (d->raw != NULL && d->raw->columns.n > 0) {
        add_columns(o, s, &d->raw->columns);
    }
    if (s->fit > FIT_STRETCH) {
        (void)json_object_set_new(o, "fit", json_string(s->fit == FIT_CROP ? "crop" : "pad"));
    }
    if (d->class_names != NULL) {
        (void)json_object_set_new(o, "classes", texts_json(d->class_names, d->n_classes));
    }
    json_t *shift = d->fitted != NULL ? plain_scale(d, "shift") : NULL;
    if (shift != NULL) {
        (void)json_object_set_new(o, "mean", shift);
        (void)json_object_set_new(o, "factor", plain_scale(d, "factor"));
    } else if (json_array_size(d->fitted) > 0) {
        (void)json_object_set(o, "preprocessing", d->fitted);
    } else if (d->bytes != NULL) {
        (void)json_object_set_new(o, "scale", json_real((double)d->scale));
    }
    return o;
}

json_t *description_make(const struct recipe *r, const struct dataset *d)
{
    return json_pack("{s:i, s:s, s:o, s:o, s:o}", "format", DESCRIBE_FORMAT, "loss",
                     loss_names[r->training.loss.kind], "input", input_json(&r->model.input),
                     "layers", layers_json(&r->model), "data", data_json(&r->source, d));
}

/* ---- reading ---- */

/* The model part is read by the recipe's own parser, as a trial without parameters. */
static enum mag_status read_model(const json_t *object, struct description *d, const char *what,
                                  struct mag_err *err)
{
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    const struct recipe_context ctx = {.described = true};
    struct recipe recipe;
    json_t *trial = json_pack("{s:s, s:s, s:{s:O, s:O}}", "program", "builtin", "dataset",
                              "idx:none", "model", "input", json_object_get(object, "input"),
                              "layers", json_object_get(object, "layers"));
    bool good = trial != NULL && recipe_parse(trial, "", &ctx, is, &recipe);
    if (good) {
        d->model = recipe.model;
        recipe_fini(&recipe);
        int outputs = d->n_classes > 0 && d->loss != LOSS_LOGISTIC ? d->n_classes : 1;
        good = model_shapes(&d->model, outputs, "", is);
    }
    enum mag_status st =
        good ? MAG_OK
             : mag_fail(err, MAG_INVALID, "%s: its description of the model cannot be read: %s %s",
                        what, is->n > 0 ? is->items[0].pointer : "",
                        is->n > 0 ? is->items[0].text : "it lacks input or layers");
    json_decref(trial);
    mjson_issues_fini(is);
    free(is);
    return st;
}

/* A list of n texts (n < 0: any number); NULL when it is not there or not that. */
static char **read_texts(const json_t *list, int n, int *ret_n)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0 || count > DATASET_COLUMNS_MAX ||
        (n >= 0 && count != (size_t)n)) {
        return NULL;
    }
    char **texts = xcalloc(count, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        texts[i] = xstrdup(text != NULL ? text : "");
    }
    *ret_n = (int)count;
    return texts;
}

/* What the columns hold; all numbers where nothing is said. */
static bool read_types(const json_t *list, struct description *d)
{
    static const char *const names[] = {"number", "category", "boolean", "text"};
    if (list != NULL && json_array_size(list) != (size_t)d->n_columns) {
        return false;
    }
    d->source.types = xcalloc((size_t)d->n_columns + 1, sizeof(*d->source.types));
    for (int i = 0; i < d->n_columns; i++) {
        const char *text = json_string_value(json_array_get(list, (size_t)i));
        int k = 0;
        while (text != NULL && k < 4 && strcmp(names[k], text) != 0) {
            k++;
        }
        if (k == 4) {
            return false;
        }
        d->source.types[d->source.n_types++] = (struct typed_column){
            .name = xstrdup(d->columns[i]), .type = (enum column_type)(k + 1)};
    }
    return true;
}

static double *read_numbers(const json_t *list, int64_t n)
{
    if (!json_is_array(list) || (int64_t)json_array_size(list) != n) {
        return NULL;
    }
    double *v = xcalloc((size_t)n, sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        v[i] = json_number_value(json_array_get(list, (size_t)i));
    }
    return v;
}

static bool read_data(const json_t *o, struct description *d)
{
    const char *format = json_string_value(json_object_get(o, "format"));
    const char *label = json_string_value(json_object_get(o, "label"));
    const char *separator = json_string_value(json_object_get(o, "separator"));
    json_int_t classes = json_integer_value(json_object_get(o, "n_classes"));
    const struct dataset_format *known =
        format != NULL ? dataset_format_named(format, strlen(format)) : NULL;
    if (known == NULL || classes < 0 || classes > DATASET_CLASSES_MAX) {
        return false;
    }
    d->n_classes = (int)classes;
    d->source = (struct dataset_source){
        .format = known,
        .label = label != NULL ? xstrdup(label) : NULL,
        .separator = separator != NULL && separator[0] != '\0' ? separator[0] : ',',
        .regression = classes == 0};
    const char *fit = json_string_value(json_object_get(o, "fit"));
    d->source.fit = fit == NULL ? FIT_NONE : strcmp(fit, "crop") == 0 ? FIT_CROP : FIT_PAD;
    int n = 0;
    d->columns = read_texts(json_object_get(o, "columns"), -1, &d->n_columns);
    d->classes = read_texts(json_object_get(o, "classes"), d->n_classes, &n);
    d->source.missing = read_texts(json_object_get(o, "missing"), -1, &d->source.n_missing);
    d->source.only = d->columns;
    d->source.n_only = d->n_columns;
    d->fitted = json_incref(json_object_get(o, "preprocessing"));
    json_t *scale = json_object_get(o, "scale");
    d->scale = json_is_number(scale) ? json_number_value(scale) : 1;
    return read_types(json_object_get(o, "types"), d) && (!known->columns || d->columns != NULL);
}

/* "mean" and "factor" as the stage that they stand for. */
static json_t *scale_stage(const struct description *d)
{
    json_t *states = json_object();
    for (int i = 0; i < d->n_columns; i++) {
        (void)json_object_set_new(
            states, d->columns[i],
            json_pack("{s:[f], s:[f]}", "shift", d->mean[i], "factor", d->factor[i]));
    }
    if (d->n_columns == 0) {
        int64_t width = shape_size(&d->model.input);
        json_t *shift = json_array();
        json_t *factor = json_array();
        for (int64_t i = 0; i < width; i++) {
            (void)json_array_append_new(shift, json_real(d->mean[i]));
            (void)json_array_append_new(factor, json_real(d->factor[i]));
        }
        (void)json_object_set_new(states, "values",
                                  json_pack("{s:o, s:o}", "shift", shift, "factor", factor));
    }
    return json_pack("[{s:s, s:s, s:o}]", "type", "standardize", "per", "value", "state", states);
}

/* Sizes of what was read agree with each other. */
static bool fits(const struct description *d)
{
    int64_t width = shape_size(&d->model.input);
    return (d->mean == NULL) == (d->factor == NULL) &&
           (d->columns == NULL || d->fitted != NULL || d->n_columns == width);
}

enum mag_status description_read(const json_t *object, const char *what, struct description *ret,
                                 struct mag_err *err)
{
    struct description d = {0};
    json_int_t format = json_integer_value(json_object_get(object, "format"));
    const char *loss = json_string_value(json_object_get(object, "loss"));
    enum mag_status st = MAG_OK;
    if (format != DESCRIBE_FORMAT || loss == NULL) {
        return mag_fail(err, format > DESCRIBE_FORMAT ? MAG_UNSUPPORTED : MAG_INVALID,
                        "%s: it carries no description of its model that this build reads; train "
                        "it again, or go on from the checkpoint once, with this version",
                        what);
    }
    d.loss = strcmp(loss, loss_names[LOSS_MSE]) == 0        ? LOSS_MSE
             : strcmp(loss, loss_names[LOSS_LOGISTIC]) == 0 ? LOSS_LOGISTIC
                                                            : LOSS_CROSS_ENTROPY;
    const json_t *data = json_object_get(object, "data");
    if (!read_data(data, &d) || (d.loss == LOSS_LOGISTIC && d.n_classes != 2)) {
        st = mag_fail(err, MAG_INVALID, "%s: its description of the data cannot be read", what);
    }
    if (st == MAG_OK) {
        st = read_model(object, &d, what, err);
    }
    if (st == MAG_OK) {
        int64_t width = shape_size(&d.model.input);
        d.mean = read_numbers(json_object_get(data, "mean"), width);
        d.factor = read_numbers(json_object_get(data, "factor"), width);
        if (!fits(&d)) {
            st = mag_fail(err, MAG_INVALID, "%s: its description does not fit its input", what);
        } else if (d.mean != NULL && d.fitted == NULL) {
            d.fitted = scale_stage(&d);
        }
    }
    if (st != MAG_OK) {
        description_fini(&d);
        return st;
    }
    *ret = d;
    return MAG_OK;
}

static void free_texts(char **texts, int n)
{
    for (int i = 0; texts != NULL && i < n; i++) {
        free(texts[i]);
    }
    free(texts);
}

void description_fini(struct description *d)
{
    free_texts(d->columns, d->n_columns);
    free_texts(d->classes, d->n_classes);
    dataset_source_fini(&d->source);
    json_decref(d->fitted);
    free(d->mean);
    free(d->factor);
    *d = (struct description){0};
}
