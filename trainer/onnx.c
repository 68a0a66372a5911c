/* SPDX-License-Identifier: Apache-2.0
 *
 * Field numbers are those of onnx.proto; every message is named above its fields.
 */
#include "trainer/onnx.h"

#include "base/alloc.h"
#include "base/protobuf.h"
#include "trainer/outfile.h"
#include "trainer/saved.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IR_VERSION 8
#define OPSET 17 /* the first with LayerNormalization */
#define TYPE_FLOAT 1
#define TYPE_INT64 7
#define VALUE_MAX 48

/* AttributeProto */
enum { ATTR_NAME = 1, ATTR_F = 2, ATTR_I = 3, ATTR_INTS = 8, ATTR_TYPE = 20 };
enum { ATTR_TYPE_FLOAT = 1, ATTR_TYPE_INT = 2, ATTR_TYPE_INTS = 7 };
/* NodeProto */
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4, NODE_ATTR = 5 };
/* TensorProto */
enum { TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9 };
/* GraphProto */
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
/* ModelProto */
enum { MODEL_IR = 1, MODEL_PRODUCER = 2, MODEL_PRODUCER_VERSION = 3, MODEL_GRAPH = 7 };
enum { MODEL_OPSET = 8, MODEL_METADATA = 14 };

struct graph {
    struct saved *s;
    struct buf out;     /* GraphProto */
    char at[VALUE_MAX]; /* name of the value that the next node takes */
    int n;              /* nodes so far, for names */
    char input[VALUE_MAX];
    char (*values)[VALUE_MAX]; /* of each layer: its output */
};

/* ---- parts ---- */

static void attr_int(struct buf *node, const char *name, int64_t v)
{
    struct buf a = {0};
    pb_text(&a, ATTR_NAME, name);
    pb_int(&a, ATTR_I, v);
    pb_int(&a, ATTR_TYPE, ATTR_TYPE_INT);
    pb_message(node, NODE_ATTR, &a);
}

static void attr_float(struct buf *node, const char *name, float v)
{
    struct buf a = {0};
    pb_text(&a, ATTR_NAME, name);
    pb_float(&a, ATTR_F, v);
    pb_int(&a, ATTR_TYPE, ATTR_TYPE_FLOAT);
    pb_message(node, NODE_ATTR, &a);
}

static void attr_list(struct buf *node, const char *name, const int64_t *v, int n)
{
    struct buf a = {0};
    pb_text(&a, ATTR_NAME, name);
    for (int i = 0; i < n; i++) {
        pb_int(&a, ATTR_INTS, v[i]);
    }
    pb_int(&a, ATTR_TYPE, ATTR_TYPE_INTS);
    pb_message(node, NODE_ATTR, &a);
}

/* The number n times: kernels, strides and paddings are square. */
static void attr_ints(struct buf *node, const char *name, int64_t v, int n)
{
    const int64_t all[4] = {v, v, v, v};
    attr_list(node, name, all, n);
}

/* A node from the present value and `n` more to the next one, which becomes the present one.
 * `attributes` is taken. */
static void node_of(struct graph *g, const char *op, const char *const more[], int n,
                    struct buf *attributes, const char *output)
{
    struct buf b = {0};
    char name[VALUE_MAX];
    (void)snprintf(name, sizeof(name), "%s_%d", op, g->n++);
    pb_text(&b, NODE_INPUT, g->at);
    for (int i = 0; i < n; i++) {
        pb_text(&b, NODE_INPUT, more[i]);
    }
    (void)snprintf(g->at, sizeof(g->at), "%s", output != NULL ? output : name);
    pb_text(&b, NODE_OUTPUT, g->at);
    pb_text(&b, NODE_NAME, name);
    pb_text(&b, NODE_OP, op);
    if (attributes != NULL && attributes->len > 0) {
        buf_add(&b, attributes->data, attributes->len);
        buf_fini(attributes);
    }
    pb_message(&g->out, GRAPH_NODE, &b);
}

/* The same with at most two more; NULL = fewer. */
static void node(struct graph *g, const char *op, const char *second, const char *third,
                 struct buf *attributes, const char *output)
{
    const char *const more[] = {second, third};
    node_of(g, op, more, (second != NULL) + (third != NULL), attributes, output);
}

/* A constant array of floats; large ones are copied once. */
static void constant(struct graph *g, const char *name, const int64_t *dims, int n_dims,
                     const float *v, size_t n)
{
    struct buf head = {0};
    for (int i = 0; i < n_dims; i++) {
        pb_int(&head, TENSOR_DIMS, dims[i]);
    }
    pb_int(&head, TENSOR_TYPE, TYPE_FLOAT);
    pb_text(&head, TENSOR_NAME, name);
    pb_head(&head, TENSOR_RAW, n * sizeof(float));
    pb_head(&g->out, GRAPH_INITIALIZER, head.len + n * sizeof(float));
    buf_add(&g->out, head.data, head.len);
    buf_add(&g->out, v, n * sizeof(float));
    buf_fini(&head);
}

/* One whole number in a list. */
static void constant_int(struct graph *g, const char *name, int64_t v)
{
    struct buf t = {0};
    pb_int(&t, TENSOR_DIMS, 1);
    pb_int(&t, TENSOR_TYPE, TYPE_INT64);
    pb_text(&t, TENSOR_NAME, name);
    pb_bytes(&t, TENSOR_RAW, &v, sizeof(v));
    pb_message(&g->out, GRAPH_INITIALIZER, &t);
}

/* ValueInfoProto: a float tensor [N, …]. */
static void value_info(struct graph *g, int field, const char *name, const struct shape *shape)
{
    enum { DIM_VALUE = 1, DIM_PARAM = 2 };
    const int sides[3] = {shape->c, shape->h, shape->w};
    struct buf dims = {0};
    struct buf dim = {0};
    struct buf tensor = {0};
    struct buf type = {0};
    struct buf info = {0};
    pb_text(&dim, DIM_PARAM, "N");
    pb_message(&dims, 1, &dim);
    for (int i = 0; i < (shape->flat ? 1 : 3); i++) {
        pb_int(&dim, DIM_VALUE, sides[i]);
        pb_message(&dims, 1, &dim);
    }
    pb_int(&tensor, 1, TYPE_FLOAT);
    pb_message(&tensor, 2, &dims);
    pb_message(&type, 1, &tensor);
    pb_text(&info, 1, name);
    pb_message(&info, 2, &type);
    pb_message(&g->out, field, &info);
}

/* ---- the graph ---- */

/* Raw values become inputs. */
static void preprocess(struct graph *g)
{
    const struct description *d = &g->s->description;
    int64_t width = shape_size(&d->model.input);
    int64_t dims[3] = {d->model.input.c, d->model.input.h, d->model.input.w};
    int n_dims = d->model.input.flat ? 1 : 3;
    if (d->mean != NULL) {
        float *v = xcalloc((size_t)width, sizeof(float));
        for (int64_t i = 0; i < width; i++) {
            v[i] = (float)d->mean[i];
        }
        constant(g, "mean", dims, n_dims, v, (size_t)width);
        for (int64_t i = 0; i < width; i++) {
            v[i] = (float)d->factor[i];
        }
        constant(g, "factor", dims, n_dims, v, (size_t)width);
        free(v);
        node(g, "Sub", "mean", NULL, NULL, NULL);
        node(g, "Mul", "factor", NULL, NULL, NULL);
    } else if (d->scale != 1) {
        float scale = (float)d->scale;
        constant(g, "scale", NULL, 0, &scale, 1);
        node(g, "Mul", "scale", NULL, NULL, NULL);
    }
}

/* The layer's arrays as constants; their names in the order of enum op_param. Returns how many. */
static int parameters(struct graph *g, int i, char names[OP_PARAMS][VALUE_MAX])
{
    struct net *net = g->s->net;
    const struct layer *l = &net->layers[i]->layer;
    int n_names = 0;
    for (int p = 0; p < OP_PARAMS; p++) {
        int64_t dims[4];
        int n_dims = saved_dims(l, (enum op_param)p, dims);
        size_t n = (size_t)op_param_floats(l, (enum op_param)p);
        if (n == 0) {
            continue;
        }
        float *room = xmalloc(n * sizeof(float));
        saved_name(&g->s->description.model, i, (enum op_param)p, names[n_names]);
        net->ops->get(net->layers[i], 0, (enum op_param)p, SLOT_VALUE, room);
        constant(g, names[n_names++], dims, n_dims, room, n);
        free(room);
    }
    return n_names;
}

/* A number as a constant of the layer's own. */
static void scalar(struct graph *g, float v, char name[VALUE_MAX])
{
    (void)snprintf(name, VALUE_MAX, "number_%d", g->n++);
    constant(g, name, NULL, 0, &v, 1);
}

/* x/2 (1 + erf(x / sqrt 2)) */
static void gelu(struct graph *g, const char *output)
{
    char x[VALUE_MAX];
    char factor[VALUE_MAX];
    char one[VALUE_MAX];
    char half[VALUE_MAX];
    memcpy(x, g->at, sizeof(x));
    scalar(g, 0.70710678f, factor);
    scalar(g, 1, one);
    scalar(g, 0.5f, half);
    node(g, "Mul", factor, NULL, NULL, NULL);
    node(g, "Erf", NULL, NULL, NULL, NULL);
    node(g, "Add", one, NULL, NULL, NULL);
    node(g, "Mul", half, NULL, NULL, NULL);
    node(g, "Mul", x, NULL, NULL, output);
}

static void silu(struct graph *g, const char *output)
{
    char x[VALUE_MAX];
    memcpy(x, g->at, sizeof(x));
    node(g, "Sigmoid", NULL, NULL, NULL, NULL);
    node(g, "Mul", x, NULL, NULL, output);
}

static void activation(struct graph *g, enum activation act, const char *output)
{
    static const char *const ops[ACTIVATIONS] = {NULL, "Relu", "Tanh", "Sigmoid", NULL, NULL};
    if (ops[act] != NULL) {
        node(g, ops[act], NULL, NULL, NULL, output);
    } else if (act == ACT_GELU) {
        gelu(g, output);
    } else if (act == ACT_SILU) {
        silu(g, output);
    }
}

static void flatten(struct graph *g)
{
    struct buf a = {0};
    attr_int(&a, "axis", 1);
    node(g, "Flatten", NULL, NULL, &a, NULL);
}

static void dense(struct graph *g, int i, const char *output)
{
    const struct layer *l = &g->s->description.model.layers[i];
    char names[OP_PARAMS][VALUE_MAX];
    struct buf a = {0};
    if (saved_flattens(&g->s->description.model, i)) {
        flatten(g);
    }
    int n = parameters(g, i, names);
    attr_int(&a, "transB", 1);
    node(g, "Gemm", names[0], n > 1 ? names[1] : NULL, &a, l->act == ACT_NONE ? output : NULL);
    activation(g, l->act, output);
}

static void conv(struct graph *g, int i)
{
    const struct layer *l = &g->s->description.model.layers[i];
    char names[OP_PARAMS][VALUE_MAX];
    struct buf a = {0};
    int n = parameters(g, i, names);
    attr_ints(&a, "kernel_shape", l->kernel, 2);
    attr_ints(&a, "strides", l->stride, 2);
    attr_ints(&a, "pads", l->pad, 4);
    attr_int(&a, "group", l->groups);
    node(g, "Conv", names[0], n > 1 ? names[1] : NULL, &a, NULL);
}

static void pool(struct graph *g, const struct layer *l)
{
    struct buf a = {0};
    attr_ints(&a, "kernel_shape", l->kernel, 2);
    attr_ints(&a, "strides", l->stride, 2);
    node(g, l->kind == LAYER_MAXPOOL ? "MaxPool" : "AveragePool", NULL, NULL, &a, NULL);
}

static void norm(struct graph *g, int i)
{
    const struct layer *l = &g->s->description.model.layers[i];
    char names[OP_PARAMS][VALUE_MAX];
    struct buf a = {0};
    const bool batch = l->kind == LAYER_BATCHNORM;
    int n = parameters(g, i, names);
    const char *const more[OP_PARAMS] = {names[0], names[1], names[2], names[3]};
    attr_float(&a, "epsilon", l->epsilon);
    if (!batch) {
        attr_int(&a, "axis", 1);
    }
    node_of(g, batch ? "BatchNormalization" : "LayerNormalization", more, n, &a, NULL);
}

/* [N][places] of numbers as floats -> [N][width][1][places] */
static void embedding(struct graph *g, int i)
{
    static const int64_t perm[] = {0, 2, 1};
    char names[OP_PARAMS][VALUE_MAX];
    char numbers[VALUE_MAX];
    struct buf a = {0};
    (void)parameters(g, i, names);
    attr_int(&a, "to", TYPE_INT64);
    node(g, "Cast", NULL, NULL, &a, NULL);
    memcpy(numbers, g->at, sizeof(numbers));
    memcpy(g->at, names[0], sizeof(g->at));
    node(g, "Gather", numbers, NULL, NULL, NULL);
    attr_list(&a, "perm", perm, 3);
    node(g, "Transpose", NULL, NULL, &a, NULL);
    constant_int(g, "embedding_axis", 2);
    node(g, "Unsqueeze", "embedding_axis", NULL, NULL, NULL);
}

static const char *value_of(const struct graph *g, int layer)
{
    return layer == MODEL_INPUT ? g->input : g->values[layer];
}

/* The sum of its inputs, or all of them along the channels. */
static void join(struct graph *g, const struct layer *l)
{
    struct buf a = {0};
    const char *more[MODEL_INPUTS_MAX];
    for (int i = 1; i < l->n_inputs; i++) {
        more[i - 1] = value_of(g, l->inputs[i]);
    }
    if (l->kind == LAYER_CONCAT) {
        attr_int(&a, "axis", 1);
    }
    node_of(g, l->kind == LAYER_CONCAT ? "Concat" : "Sum", more, l->n_inputs - 1, &a, NULL);
}

static void layer(struct graph *g, int i)
{
    const struct model *m = &g->s->description.model;
    const struct layer *l = &m->layers[i];
    (void)snprintf(g->at, sizeof(g->at), "%s", value_of(g, l->inputs[0]));
    switch (l->kind) {
    case LAYER_DENSE:
        dense(g, i, i + 1 == m->n ? "output" : NULL);
        break;
    case LAYER_CONV:
        conv(g, i);
        break;
    case LAYER_MAXPOOL:
    case LAYER_AVGPOOL:
        pool(g, l);
        break;
    case LAYER_GLOBALPOOL:
        node(g, l->max ? "GlobalMaxPool" : "GlobalAveragePool", NULL, NULL, NULL, NULL);
        flatten(g);
        break;
    case LAYER_FLATTEN:
        flatten(g);
        break;
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
        norm(g, i);
        break;
    case LAYER_EMBEDDING:
        embedding(g, i);
        break;
    case LAYER_ADD:
    case LAYER_CONCAT:
        join(g, l);
        break;
    case LAYER_DROPOUT: /* does nothing where nothing is learnt */
    case LAYER_ACTIVATION:
    case LAYER_IDENTITY:
    default:
        break;
    }
    if (l->kind != LAYER_DENSE) {
        activation(g, l->act, NULL);
    }
    memcpy(g->values[i], g->at, sizeof(g->at));
}

static void make_graph(struct graph *g)
{
    const struct description *d = &g->s->description;
    const struct layer *last = &d->model.layers[d->model.n - 1];
    pb_text(&g->out, GRAPH_NAME, "magpie");
    value_info(g, GRAPH_INPUT, "input", &d->model.input);
    (void)snprintf(g->at, sizeof(g->at), "input");
    preprocess(g);
    memcpy(g->input, g->at, sizeof(g->at));
    for (int i = 0; i < d->model.n; i++) {
        layer(g, i);
    }
    value_info(g, GRAPH_OUTPUT, "output", &last->out);
    if (d->n_classes > 0 && d->loss != LOSS_MSE) {
        struct buf a = {0};
        const struct shape all = {.c = d->n_classes, .h = 1, .w = 1, .flat = true};
        if (d->loss == LOSS_LOGISTIC) { /* sigmoids are the softmax of 0 and the output */
            const int64_t dims[2] = {1, 2};
            constant(g, "classes", dims, 2, (const float[]){0, 1}, 2);
            node(g, "MatMul", "classes", NULL, NULL, NULL);
        }
        attr_int(&a, "axis", 1);
        node(g, "Softmax", NULL, NULL, &a, "probabilities");
        value_info(g, GRAPH_OUTPUT, "probabilities", &all);
    }
}

/* ---- the file ---- */

/* ModelProto up to the graph, whose bytes follow, and the rest behind it. */
static void make_frame(const struct graph *g, struct buf *before, struct buf *after)
{
    enum { OPSET_VERSION = 2, ENTRY_KEY = 1, ENTRY_VALUE = 2 };
    struct buf part = {0};
    char *description = mjson_dump(g->s->object);
    pb_int(before, MODEL_IR, IR_VERSION);
    pb_text(before, MODEL_PRODUCER, "magpie");
    pb_text(before, MODEL_PRODUCER_VERSION, MAG_VERSION);
    pb_head(before, MODEL_GRAPH, g->out.len);
    pb_int(&part, OPSET_VERSION, OPSET);
    pb_message(after, MODEL_OPSET, &part);
    pb_text(&part, ENTRY_KEY, "magpie");
    pb_text(&part, ENTRY_VALUE, description);
    pb_message(after, MODEL_METADATA, &part);
    free(description);
}

enum mag_status onnx_write(struct saved *s, const char *path, struct mag_err *err)
{
    struct graph g = {.s = s, .values = xcalloc((size_t)s->description.model.n, sizeof(*g.values))};
    struct buf before = {0};
    struct buf after = {0};
    struct outfile o;
    if (model_weights(&s->description.model) * (int64_t)sizeof(float) > ONNX_BYTES_MAX) {
        free(g.values);
        return mag_fail(err, MAG_LIMIT,
                        "%s: the model is too large for one ONNX file (2 GB); "
                        "write it as .safetensors",
                        path);
    }
    enum mag_status st = outfile_begin(&o, path, err);
    if (st != MAG_OK) {
        free(g.values);
        return st;
    }
    make_graph(&g);
    free(g.values);
    make_frame(&g, &before, &after);
    const struct buf *const parts[] = {&before, &g.out, &after};
    for (int i = 0; i < 3 && st == MAG_OK; i++) {
        if (fwrite(parts[i]->data, 1, parts[i]->len, o.f) != parts[i]->len) {
            st = mag_fail(err, MAG_IO, "cannot write %s: %s", path, strerror(errno));
        }
    }
    buf_fini(&before);
    buf_fini(&g.out);
    buf_fini(&after);
    return outfile_end(&o, st, err);
}
