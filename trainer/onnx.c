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
#define OPSET 13
#define TYPE_FLOAT 1

/* AttributeProto */
enum { ATTR_NAME = 1, ATTR_I = 3, ATTR_INTS = 8, ATTR_TYPE = 20 };
enum { ATTR_TYPE_INT = 2, ATTR_TYPE_INTS = 7 };
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
    struct buf out; /* GraphProto */
    char at[32];    /* name of the value that the next node takes */
    int n;          /* nodes so far, for names */
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

/* The number n times: kernels, strides and paddings are square. */
static void attr_ints(struct buf *node, const char *name, int64_t v, int n)
{
    struct buf a = {0};
    pb_text(&a, ATTR_NAME, name);
    for (int i = 0; i < n; i++) {
        pb_int(&a, ATTR_INTS, v);
    }
    pb_int(&a, ATTR_TYPE, ATTR_TYPE_INTS);
    pb_message(node, NODE_ATTR, &a);
}

/* A node from the present value (and up to two constants) to the next one, which becomes the
 * present one. `attributes` is taken. */
static void node(struct graph *g, const char *op, const char *second, const char *third,
                 struct buf *attributes, const char *output)
{
    struct buf b = {0};
    char name[32];
    (void)snprintf(name, sizeof(name), "%s_%d", op, g->n++);
    pb_text(&b, NODE_INPUT, g->at);
    if (second != NULL) {
        pb_text(&b, NODE_INPUT, second);
    }
    if (third != NULL) {
        pb_text(&b, NODE_INPUT, third);
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

static void parameters(struct graph *g, int i, char weight[32], char bias[32])
{
    struct net *net = g->s->net;
    const struct layer *l = &net->layers[i]->layer;
    int module = saved_module(&g->s->description.model, i);
    char *const names[] = {weight, bias};
    (void)snprintf(weight, 32, "%d.weight", module);
    (void)snprintf(bias, 32, "%d.bias", module);
    for (int p = OP_WEIGHTS; p <= OP_BIAS; p++) {
        int64_t dims[4];
        int n_dims = saved_dims(l, (enum op_param)p, dims);
        size_t n = (size_t)op_param_floats(l, (enum op_param)p);
        float *room = xmalloc(n * sizeof(float));
        net->ops->get(net->layers[i], 0, (enum op_param)p, SLOT_VALUE, room);
        constant(g, names[p], dims, n_dims, room, n);
        free(room);
    }
}

static void activation(struct graph *g, enum activation act, const char *output)
{
    static const char *const ops[] = {NULL, "Relu", "Tanh", "Sigmoid"};
    if (ops[act] != NULL) {
        node(g, ops[act], NULL, NULL, NULL, output);
    }
}

static void flatten(struct graph *g)
{
    struct buf a = {0};
    attr_int(&a, "axis", 1);
    node(g, "Flatten", NULL, NULL, &a, NULL);
}

static void layer(struct graph *g, int i)
{
    const struct model *m = &g->s->description.model;
    const struct layer *l = &m->layers[i];
    const char *output = i + 1 == m->n ? "output" : NULL;
    struct buf a = {0};
    char weight[32];
    char bias[32];
    switch (l->kind) {
    case LAYER_DENSE:
        if (saved_flattens(m, i)) {
            flatten(g);
        }
        parameters(g, i, weight, bias);
        attr_int(&a, "transB", 1);
        node(g, "Gemm", weight, bias, &a, l->act == ACT_NONE ? output : NULL);
        activation(g, l->act, output);
        break;
    case LAYER_CONV:
        parameters(g, i, weight, bias);
        attr_ints(&a, "kernel_shape", l->kernel, 2);
        attr_ints(&a, "strides", l->stride, 2);
        attr_ints(&a, "pads", l->pad, 4);
        node(g, "Conv", weight, bias, &a, NULL);
        activation(g, l->act, NULL);
        break;
    case LAYER_MAXPOOL:
        attr_ints(&a, "kernel_shape", l->kernel, 2);
        attr_ints(&a, "strides", l->stride, 2);
        node(g, "MaxPool", NULL, NULL, &a, NULL);
        break;
    case LAYER_FLATTEN:
        flatten(g);
        break;
    case LAYER_DROPOUT: /* does nothing where nothing is learnt */
    default:
        break;
    }
}

static void make_graph(struct graph *g)
{
    const struct description *d = &g->s->description;
    const struct layer *last = &d->model.layers[d->model.n - 1];
    pb_text(&g->out, GRAPH_NAME, "magpie");
    value_info(g, GRAPH_INPUT, "input", &d->model.input);
    (void)snprintf(g->at, sizeof(g->at), "input");
    preprocess(g);
    for (int i = 0; i < d->model.n; i++) {
        layer(g, i);
    }
    value_info(g, GRAPH_OUTPUT, "output", &last->out);
    if (d->n_classes > 0 && d->loss == LOSS_CROSS_ENTROPY) {
        struct buf a = {0};
        attr_int(&a, "axis", 1);
        node(g, "Softmax", NULL, NULL, &a, "probabilities");
        value_info(g, GRAPH_OUTPUT, "probabilities", &last->out);
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
    struct graph g = {.s = s};
    struct buf before = {0};
    struct buf after = {0};
    struct outfile o;
    if (model_weights(&s->description.model) * (int64_t)sizeof(float) > ONNX_BYTES_MAX) {
        return mag_fail(err, MAG_LIMIT,
                        "%s: the model is too large for one ONNX file (2 GB); "
                        "write it as .safetensors",
                        path);
    }
    enum mag_status st = outfile_begin(&o, path, err);
    if (st != MAG_OK) {
        return st;
    }
    make_graph(&g);
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
