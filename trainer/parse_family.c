/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole models by a few numbers: {"family": "mlp", "layers": 2, "units": 128}. A family writes the
 * list of layers that a file could hold, and the layers' own parser reads it. The last layer gets
 * its units once the data set is known (recipe_fit).
 */
#include "trainer/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum family { FAMILY_MLP, FAMILY_CNN, FAMILY_RESNET, FAMILY_LINEAR, FAMILY_LOGISTIC };
static const char *const family_names[] = {"mlp", "cnn", "resnet", "linear", "logistic", NULL};
static const char *const family_keys[][12] = {
    {"family", "input", "layers", "units", "activation", "norm", "dropout", NULL},
    {"family", "input", "blocks", "convs", "filters", "kernel", "units", "activation", "norm",
     "dropout", NULL},
    {"family", "input", "stages", "depth", "width", "activation", "dropout", NULL},
    {"family", "input", NULL},
    {"family", "input", NULL},
};
/* Where the family is a parameter, those of all families may be there. */
static const char *const all_keys[] = {"family",  "input",   "layers", "units",      "blocks",
                                       "convs",   "filters", "kernel", "activation", "norm",
                                       "dropout", "stages",  "depth",  "width",      NULL};

static const char *const norm_types[] = {NULL, "batchnorm", "layernorm"};

/* What several families have. */
struct style {
    const char *activation;
    int norm;
    double dropout;
};

static void parse_style(const struct place *p, bool norms, struct style *s)
{
    static const char *const activations[] = {"none", "relu", "tanh", "sigmoid",
                                              "gelu", "silu", NULL};
    static const char *const norm_names[] = {"none", "batch", "layer", NULL};
    int k = 1;
    *s = (struct style){0};
    (void)value_choice(p, "activation", false, activations, &k);
    s->activation = activations[k];
    if (norms) {
        (void)value_choice(p, "norm", false, norm_names, &s->norm);
    }
    (void)value_number(p, "dropout", false, 0, 0.99, &s->dropout);
}

static void add(json_t *list, json_t *layer)
{
    (void)json_array_append_new(list, layer);
}

/* A layer that computes sums, then its norm and its activation. */
static void add_unit(json_t *list, json_t *layer, const struct style *s)
{
    if (s->norm == 0) {
        (void)json_object_set_new(layer, "activation", json_string(s->activation));
        add(list, layer);
        return;
    }
    (void)json_object_set_new(layer, "bias", json_false());
    add(list, layer);
    add(list, json_pack("{s:s, s:s}", "type", norm_types[s->norm], "activation", s->activation));
}

static void add_dropout(json_t *list, double rate)
{
    if (rate > 0) {
        add(list, json_pack("{s:s, s:f}", "type", "dropout", "rate", rate));
    }
}

static void make_mlp(const struct place *p, json_t *list)
{
    struct style s;
    int layers = 2;
    int units = 128;
    parse_style(p, true, &s);
    (void)value_int(p, "layers", false, 0, 64, &layers);
    (void)value_int(p, "units", false, 1, MODEL_UNITS_MAX, &units);
    for (int i = 0; i < layers; i++) {
        add_unit(list, json_pack("{s:s, s:i}", "type", "dense", "units", units), &s);
        add_dropout(list, s.dropout);
    }
}

static json_t *conv(int filters, int kernel, int stride)
{
    return json_pack("{s:s, s:i, s:i, s:i}", "type", "conv", "filters", filters, "kernel", kernel,
                     "stride", stride);
}

/* `first` doubled with every block or stage; an issue where that is too much. */
static int doubled(const struct place *p, const char *key, int first, int times)
{
    int64_t n = (int64_t)first << times;
    if (n > MODEL_FILTERS_MAX) {
        mjson_issue_at(p->reader->issues, p->pointer, key,
                       "%d is doubled %d times, to more than %d filters; write a smaller number",
                       first, times, MODEL_FILTERS_MAX);
        return first;
    }
    return (int)n;
}

static void make_cnn(const struct place *p, json_t *list)
{
    struct style s;
    int blocks = 2;
    int convs = 1;
    int filters = 32;
    int kernel = 3;
    int units = 128;
    parse_style(p, true, &s);
    (void)value_int(p, "blocks", false, 1, 8, &blocks);
    (void)value_int(p, "convs", false, 1, 8, &convs);
    (void)value_int(p, "filters", false, 1, MODEL_FILTERS_MAX, &filters);
    (void)value_int(p, "kernel", false, 1, MODEL_KERNEL_MAX, &kernel);
    (void)value_int(p, "units", false, 0, MODEL_UNITS_MAX, &units);
    (void)doubled(p, "filters", filters, blocks - 1);
    for (int i = 0; i < blocks; i++) {
        for (int k = 0; k < convs; k++) {
            int n = (int)((int64_t)filters << i > MODEL_FILTERS_MAX ? 1 : filters << i);
            add_unit(list, conv(n, kernel, 1), &s);
        }
        add(list, json_pack("{s:s}", "type", "maxpool"));
    }
    add_dropout(list, s.dropout);
    if (units > 0) {
        add_unit(list, json_pack("{s:s, s:i}", "type", "dense", "units", units), &s);
        add_dropout(list, s.dropout);
    }
}

/* He et al. 2016, as for CIFAR: two convolutions a block, each stage twice as wide and half as
 * large as the one before. */
static void make_resnet(const struct place *p, json_t *list)
{
    struct style s;
    int stages = 3;
    int depth = 2;
    int width = 16;
    parse_style(p, false, &s);
    s.norm = 1;
    (void)value_int(p, "stages", false, 1, 5, &stages);
    (void)value_int(p, "depth", false, 1, 12, &depth);
    (void)value_int(p, "width", false, 1, MODEL_FILTERS_MAX, &width);
    (void)doubled(p, "width", width, stages - 1);
    add_unit(list, conv(width, 3, 1), &s);
    for (int i = 0; i < stages * depth; i++) {
        int stage = i / depth;
        int n = (int)((int64_t)width << stage > MODEL_FILTERS_MAX ? 1 : width << stage);
        json_t *inner = json_array();
        add_unit(inner, conv(n, 3, stage > 0 && i % depth == 0 ? 2 : 1), &s);
        add_unit(inner, conv(n, 3, 1), &(struct style){.norm = 1, .activation = "none"});
        add(list, json_pack("{s:s, s:s, s:o}", "type", "residual", "activation", s.activation,
                            "layers", inner));
    }
    add(list, json_pack("{s:s}", "type", "globalpool"));
    add_dropout(list, s.dropout);
}

/* Which key is to blame when a layer does not fit its input. */
static const char *blame(enum family f, const struct layer *l)
{
    bool cnn = f == FAMILY_CNN;
    return cnn && l->kind == LAYER_MAXPOOL                      ? "/blocks"
           : cnn && l->kind == LAYER_CONV && l->kernel % 2 == 0 ? "/kernel"
                                                                : "/family";
}

void parse_family(struct reader *r, const json_t *v, const char *pointer, struct recipe *ret)
{
    static void (*const make[])(const struct place *p, json_t *list) = {make_mlp, make_cnn,
                                                                        make_resnet, NULL, NULL};
    const struct place p = {.reader = r, .object = v, .pointer = pointer};
    const char *given = json_string_value(json_object_get(v, "family"));
    bool parameter = given != NULL && strncmp(given, "${", 2) == 0;
    int k = 0;
    if (!value_choice(&p, "family", true, family_names, &k)) {
        return;
    }
    int before = r->issues->total;
    mjson_check_keys(v, parameter ? all_keys : family_keys[k], pointer, r->issues);
    json_t *list = json_array();
    if (make[k] != NULL) {
        make[k](&p, list);
    }
    add(list, json_pack("{s:s, s:i}", "type", "dense", "units", 1));
    if (r->issues->total == before) {
        char *at = mjson_pointer(pointer, "family");
        struct builder b = {
            .reader = r, .model = &ret->model, .base = strlen(pointer), .from = MODEL_INPUT};
        parse_layers(&b, list, at);
        free(at);
    }
    for (int i = 0; i < ret->model.n; i++) {
        struct layer *l = &ret->model.layers[i];
        (void)snprintf(l->at, sizeof(l->at), "%s", blame((enum family)k, l));
    }
    ret->family = true;
    ret->logistic = k == FAMILY_LOGISTIC;
    json_decref(list);
}
