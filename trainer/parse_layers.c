/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/parse.h"

#include "base/alloc.h"
#include "trainer/ablate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a file may name: the layers, and blocks of them. */
enum { TYPE_RESIDUAL = LAYER_ACTIVATION + 1, TYPE_CONCAT };
static const char *const type_names[] = {
    "dense",     "conv",      "maxpool",   "flatten",    "dropout",  "avgpool", "globalpool",
    "batchnorm", "layernorm", "embedding", "activation", "residual", "concat",  NULL};
/* What a model's description names, where blocks have become layers: enum layer_kind. */
static const char *const kind_names[] = {"dense",     "conv",      "maxpool",    "flatten",
                                         "dropout",   "avgpool",   "globalpool", "batchnorm",
                                         "layernorm", "embedding", "activation", "add",
                                         "concat",    "identity",  NULL};

/* Keys of each type, in the order of type_names. */
static const char *const type_keys[][12] = {
    {"type", "units", "activation", "bias", "repeat", NULL},
    {"type", "filters", "kernel", "stride", "padding", "groups", "depthwise", "activation", "bias",
     "repeat", NULL},
    {"type", "size", "stride", "repeat", NULL},
    {"type", NULL},
    {"type", "rate", NULL},
    {"type", "size", "stride", "repeat", NULL},
    {"type", "kind", NULL},
    {"type", "momentum", "epsilon", "activation", NULL},
    {"type", "epsilon", "activation", NULL},
    {"type", "vocabulary", "width", NULL},
    {"type", "activation", NULL},
    {"type", "layers", "shortcut", "activation", "repeat", NULL},
    {"type", "branches", "repeat", NULL},
};

/* ---- one layer's numbers ---- */

void parse_activation(const struct place *p, const char *key, bool required, enum activation *act)
{
    static const char *const names[] = {"none", "relu", "tanh", "sigmoid", "gelu", "silu", NULL};
    int k = 0;
    if (value_choice(p, key, required, names, &k)) {
        *act = (enum activation)k;
    }
}

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

static void parse_conv(const struct place *p, struct layer *l)
{
    bool depthwise = false;
    l->stride = l->groups = 1;
    (void)value_bool(p, "depthwise", &depthwise);
    (void)value_int(p, "filters", !depthwise, 1, MODEL_FILTERS_MAX, &l->filters);
    (void)value_int(p, "kernel", true, 1, MODEL_KERNEL_MAX, &l->kernel);
    (void)value_int(p, "stride", false, 1, MODEL_KERNEL_MAX, &l->stride);
    if (value_int(p, "groups", false, 1, MODEL_FILTERS_MAX, &l->groups) && depthwise) {
        mjson_issue_at(p->reader->issues, p->pointer, "groups",
                       "\"depthwise\" is one group a channel: leave \"groups\" out");
    }
    l->groups = depthwise ? 0 : l->groups;
    parse_padding(p, l);
}

static void parse_norm(const struct place *p, struct layer *l)
{
    double momentum = 0.1;
    double epsilon = 1e-5;
    (void)value_number(p, "momentum", false, 0.0001, 1, &momentum);
    (void)value_number(p, "epsilon", false, 1e-12, 1, &epsilon);
    l->momentum = (float)momentum;
    l->epsilon = (float)epsilon;
}

static void parse_pool(const struct place *p, struct layer *l)
{
    l->kernel = 2;
    (void)value_int(p, "size", false, 1, MODEL_POOL_MAX, &l->kernel);
    l->stride = l->kernel;
    (void)value_int(p, "stride", false, 1, MODEL_KERNEL_MAX, &l->stride);
}

static void parse_globalpool(const struct place *p, struct layer *l)
{
    static const char *const kinds[] = {"avg", "max", NULL};
    int k = 0;
    (void)value_choice(p, "kind", false, kinds, &k);
    l->max = k == 1;
}

void parse_layer_fields(const struct place *p, struct layer *l, int *repeat)
{
    double rate = 0.5;
    bool bias = true;
    switch (l->kind) {
    case LAYER_DENSE:
        (void)value_int(p, "units", true, 1, MODEL_UNITS_MAX, &l->filters);
        break;
    case LAYER_CONV:
        parse_conv(p, l);
        break;
    case LAYER_MAXPOOL:
    case LAYER_AVGPOOL:
        parse_pool(p, l);
        break;
    case LAYER_GLOBALPOOL:
        parse_globalpool(p, l);
        break;
    case LAYER_DROPOUT:
        (void)value_number(p, "rate", false, 0, 0.99, &rate);
        l->rate = (float)rate;
        break;
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
        parse_norm(p, l);
        break;
    case LAYER_EMBEDDING:
        (void)value_int(p, "vocabulary", true, 1, MODEL_VOCABULARY_MAX, &l->vocabulary);
        (void)value_int(p, "width", true, 1, MODEL_FILTERS_MAX, &l->filters);
        break;
    case LAYER_FLATTEN:
    case LAYER_ACTIVATION:
    case LAYER_ADD:
    case LAYER_CONCAT:
    case LAYER_IDENTITY:
    default:
        break;
    }
    (void)value_bool(p, "bias", &bias);
    l->no_bias = !bias;
    parse_activation(p, "activation", l->kind == LAYER_ACTIVATION, &l->act);
    (void)value_int(p, "repeat", false, 0, MODEL_LAYERS_MAX, repeat);
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

/* ---- the list ---- */

void parse_append(struct builder *b, const struct layer *l, const char *pointer)
{
    struct model *m = b->model;
    if (m->n == MODEL_LAYERS_MAX) {
        if (!b->full) {
            mjson_issue(b->reader->issues, pointer, "over %d layers", MODEL_LAYERS_MAX);
        }
        b->full = true;
        return;
    }
    struct layer *own = &m->layers[m->n];
    *own = *l;
    (void)snprintf(own->at, sizeof(own->at), "%s", pointer + b->base);
    if (own->n_inputs == 0) {
        own->n_inputs = 1;
        own->inputs[0] = b->from;
    }
    b->from = m->n++;
}

/* Blocks are expanded anew for each repetition; faults are told once. */
static void parse_block(struct builder *b, const struct place *p, int type)
{
    int repeat = 1;
    int before = b->reader->issues->total;
    (void)value_int(p, "repeat", false, 0, MODEL_LAYERS_MAX, &repeat);
    if (b->depth == MODEL_DEPTH_MAX) {
        mjson_issue(b->reader->issues, p->pointer, "blocks lie over %d deep", MODEL_DEPTH_MAX);
        return;
    }
    b->depth++;
    for (int i = 0; i < repeat && b->reader->issues->total == before; i++) {
        (type == TYPE_RESIDUAL ? parse_residual : parse_concat)(b, p);
    }
    b->depth--;
}

static void parse_layer(struct builder *b, const json_t *value, const char *pointer)
{
    struct reader *r = b->reader;
    if (!json_is_object(value)) {
        mjson_issue(r->issues, pointer,
                    "a layer must be an object such as {\"type\": \"dense\", \"units\": "
                    "10}, not %s",
                    mjson_kind(value));
        return;
    }
    struct place p = {.reader = r, .object = value, .pointer = pointer};
    struct layer l = {0};
    int type = 0;
    int repeat = 1;
    if (!value_choice(&p, "type", true, type_names, &type)) {
        return;
    }
    check_layer_keys(r, value, type_keys[type], pointer);
    if (type >= TYPE_RESIDUAL) {
        if (!ablate_layer(r->ctx->params, value)) {
            parse_block(b, &p, type);
        }
        return;
    }
    l.kind = (enum layer_kind)type;
    parse_layer_fields(&p, &l, &repeat);
    if (ablate_layer(r->ctx->params, value)) {
        return;
    }
    for (int i = 0; i < repeat; i++) {
        parse_append(b, &l, pointer);
    }
}

/* A layer as a description has it: every number is there, and "inputs" where they are not simply
 * the layer before. */
static void parse_described(struct builder *b, const json_t *value, const char *pointer)
{
    struct place p = {.reader = b->reader, .object = value, .pointer = pointer};
    const json_t *inputs = json_object_get(value, "inputs");
    struct layer l = {0};
    int kind = 0;
    int repeat = 1;
    if (!value_choice(&p, "type", true, kind_names, &kind)) {
        return;
    }
    l.kind = (enum layer_kind)kind;
    parse_layer_fields(&p, &l, &repeat);
    l.n_inputs = (int)json_array_size(inputs);
    bool good = l.n_inputs <= MODEL_INPUTS_MAX && (inputs == NULL || l.n_inputs > 0);
    for (int i = 0; good && i < l.n_inputs; i++) {
        json_int_t k = json_integer_value(json_array_get(inputs, (size_t)i));
        good = k >= MODEL_INPUT && k < b->model->n;
        l.inputs[i] = (int)k;
    }
    if (!good) {
        mjson_issue_at(b->reader->issues, pointer, "inputs", "must be 1 to %d earlier layers",
                       MODEL_INPUTS_MAX);
        return;
    }
    parse_append(b, &l, pointer);
}

void parse_layers(struct builder *b, const json_t *list, const char *pointer)
{
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(list, i, item)
    {
        char *at = mjson_pointer_index(pointer, i);
        if (b->reader->ctx->described) {
            parse_described(b, item, at);
        } else if (!json_is_array(item)) {
            parse_layer(b, item, at);
        } else if (!value_has_inactive(b->reader, item)) {
            size_t k = 0;
            json_t *inner = NULL;
            json_array_foreach(item, k, inner)
            {
                char *inner_at = mjson_pointer_index(at, k);
                parse_layer(b, inner, inner_at);
                free(inner_at);
            }
        }
        free(at);
    }
}
