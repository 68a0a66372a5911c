/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/describe.h"

#include "base/alloc.h"
#include "trainer/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const loss_names[] = {"cross_entropy", "mse"};

/* ---- writing ---- */

static json_t *layer_json(const struct layer *l)
{
    const char *type = layer_kind_name(l->kind);
    const char *act = activation_name(l->act);
    switch (l->kind) {
    case LAYER_DENSE:
        return json_pack("{s:s, s:i, s:s}", "type", type, "units", l->filters, "activation", act);
    case LAYER_CONV:
        return json_pack("{s:s, s:i, s:i, s:i, s:i, s:s}", "type", type, "filters", l->filters,
                         "kernel", l->kernel, "stride", l->stride, "padding", l->pad, "activation",
                         act);
    case LAYER_MAXPOOL:
        return json_pack("{s:s, s:i, s:i}", "type", type, "size", l->kernel, "stride", l->stride);
    case LAYER_DROPOUT:
        return json_pack("{s:s, s:f}", "type", type, "rate", (double)l->rate);
    case LAYER_FLATTEN:
    default:
        return json_pack("{s:s}", "type", type);
    }
}

static json_t *layers_json(const struct model *m)
{
    json_t *list = json_array();
    for (int i = 0; i < m->n; i++) {
        (void)json_array_append_new(list, layer_json(&m->layers[i]));
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

static json_t *numbers_json(const double *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        (void)json_array_append_new(list, json_real(v[i]));
    }
    return list;
}

static json_t *data_json(const struct dataset_source *s, const struct dataset *d)
{
    int width = (int)shape_size(&d->shape);
    json_t *o = json_pack("{s:s, s:i}", "format", s->format->name, "n_classes", d->n_classes);
    if (s->format->columns) {
        char separator[2] = {s->separator, '\0'};
        (void)json_object_set_new(o, "separator", json_string(separator));
        (void)json_object_set_new(o, "label", json_string(s->label));
        (void)json_object_set_new(o, "columns", texts_json(d->columns, width));
    }
    if (d->class_names != NULL) {
        (void)json_object_set_new(o, "classes", texts_json(d->class_names, d->n_classes));
    }
    if (d->mean != NULL) {
        (void)json_object_set_new(o, "mean", numbers_json(d->mean, width));
        (void)json_object_set_new(o, "factor", numbers_json(d->factor, width));
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
    const struct recipe_context ctx = {0};
    struct recipe recipe;
    json_t *trial = json_pack("{s:s, s:s, s:{s:O, s:O}}", "program", "builtin", "dataset",
                              "idx:none", "model", "input", json_object_get(object, "input"),
                              "layers", json_object_get(object, "layers"));
    bool good = trial != NULL && recipe_parse(trial, "", &ctx, is, &recipe);
    if (good) {
        d->model = recipe.model;
        recipe_fini(&recipe);
        int outputs = d->n_classes > 0 ? d->n_classes : 1;
        good = model_shapes(&d->model, outputs, "/layers", is);
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
    int n = 0;
    d->columns = read_texts(json_object_get(o, "columns"), -1, &d->n_columns);
    d->classes = read_texts(json_object_get(o, "classes"), d->n_classes, &n);
    d->source.only = d->columns;
    d->source.n_only = d->n_columns;
    json_t *scale = json_object_get(o, "scale");
    d->scale = json_is_number(scale) ? json_number_value(scale) : 1;
    return !known->columns || d->columns != NULL;
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
    d.loss = strcmp(loss, loss_names[LOSS_MSE]) == 0 ? LOSS_MSE : LOSS_CROSS_ENTROPY;
    const json_t *data = json_object_get(object, "data");
    if (!read_data(data, &d)) {
        st = mag_fail(err, MAG_INVALID, "%s: its description of the data cannot be read", what);
    }
    if (st == MAG_OK) {
        st = read_model(object, &d, what, err);
    }
    if (st == MAG_OK) {
        int64_t width = shape_size(&d.model.input);
        d.mean = read_numbers(json_object_get(data, "mean"), width);
        d.factor = read_numbers(json_object_get(data, "factor"), width);
        if ((d.mean == NULL) != (d.factor == NULL) || (d.columns != NULL && d.n_columns != width)) {
            st = mag_fail(err, MAG_INVALID, "%s: its description does not fit its input", what);
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
    free(d->source.label);
    free(d->mean);
    free(d->factor);
    *d = (struct description){0};
}
