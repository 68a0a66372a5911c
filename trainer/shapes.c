/* SPDX-License-Identifier: Apache-2.0
 *
 * The shapes of a model's layers, from its input on.
 */
#include "base/alloc.h"
#include "trainer/model.h"

#include <stdio.h>
#include <stdlib.h>

#define WHY_MAX 320 /* bytes of a message */

/* Output side of a window that moves over `side` values; below 1 when it does not fit once. */
static int window_out(int side, int kernel, int stride, int pad)
{
    int room = side + 2 * pad - kernel;
    return room < 0 ? 0 : room / stride + 1;
}

static bool needs_image(const struct layer *l, const char *hint, char *why)
{
    char in[48];
    shape_text(&l->in, in);
    if (l->in.flat) {
        (void)snprintf(why, WHY_MAX, "a %s layer needs an image, but gets %s flat values%s",
                       layer_kind_name(l->kind), in, hint);
    }
    return !l->in.flat;
}

/* Depthwise means one group a channel; both sides must divide evenly. */
static bool conv_groups(struct layer *l, char *why)
{
    if (l->groups == 0) {
        l->groups = l->in.c;
    }
    if (l->filters == 0) {
        l->filters = l->in.c;
    }
    if (l->in.c % l->groups != 0 || l->filters % l->groups != 0) {
        (void)snprintf(why, WHY_MAX, "%d groups do not divide %d channels and %d filters evenly",
                       l->groups, l->in.c, l->filters);
        return false;
    }
    return true;
}

static bool conv_shape(struct layer *l, char *why)
{
    char in[48];
    shape_text(&l->in, in);
    if (!needs_image(l,
                     "; put it before dense and flatten layers, or give \"input\": [channels, "
                     "height, width]",
                     why) ||
        !conv_groups(l, why)) {
        return false;
    }
    if (l->pad_same) {
        if (l->kernel % 2 == 0) {
            (void)snprintf(why, WHY_MAX, "padding \"same\" needs an odd kernel, not %d", l->kernel);
            return false;
        }
        l->pad = l->kernel / 2;
    }
    l->out = (struct shape){.c = l->filters,
                            .h = window_out(l->in.h, l->kernel, l->stride, l->pad),
                            .w = window_out(l->in.w, l->kernel, l->stride, l->pad)};
    if (l->out.h < 1 || l->out.w < 1) {
        (void)snprintf(why, WHY_MAX,
                       "a %dx%d kernel does not fit into its input of %s (padding %d); use a "
                       "smaller kernel or \"padding\": \"same\"",
                       l->kernel, l->kernel, in, l->pad);
        return false;
    }
    return true;
}

static bool pool_shape(struct layer *l, char *why)
{
    char in[48];
    shape_text(&l->in, in);
    if (!needs_image(l, "", why)) {
        return false;
    }
    l->out = (struct shape){.c = l->in.c,
                            .h = window_out(l->in.h, l->kernel, l->stride, 0),
                            .w = window_out(l->in.w, l->kernel, l->stride, 0)};
    if (l->out.h < 1 || l->out.w < 1) {
        (void)snprintf(why, WHY_MAX,
                       "a %dx%d pooling window does not fit into its input of %s; take out a "
                       "pooling layer or make earlier layers keep more of the image",
                       l->kernel, l->kernel, in);
        return false;
    }
    return true;
}

static bool embedding_shape(const struct model *m, struct layer *l, char *why)
{
    if (l->inputs[0] != MODEL_INPUT || !l->in.flat || l->in.c > MODEL_SIDE_MAX) {
        (void)snprintf(why, WHY_MAX,
                       "an embedding must be the first layer, of an input of at most %d whole "
                       "numbers in a row",
                       MODEL_SIDE_MAX);
        return false;
    }
    (void)m;
    l->out = (struct shape){.c = l->filters, .h = 1, .w = l->in.c};
    return true;
}

/* ---- layers with several inputs ---- */

static const struct shape *input_shape(const struct model *m, const struct layer *l, int i)
{
    return l->inputs[i] == MODEL_INPUT ? &m->input : &m->layers[l->inputs[i]].out;
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    return a->c == b->c && a->h == b->h && a->w == b->w && a->flat == b->flat;
}

/* "1x2x3 and 4x5x6" */
static void two_texts(const struct shape *a, const struct shape *b, char out[128])
{
    char first[48];
    char second[48];
    shape_text(a, first);
    shape_text(b, second);
    (void)snprintf(out, 128, "%s and %s", first, second);
}

static bool join_shape(const struct model *m, struct layer *l, char *why)
{
    char both[128];
    l->out = l->in;
    for (int i = 1; i < l->n_inputs; i++) {
        const struct shape *s = input_shape(m, l, i);
        two_texts(&l->in, s, both);
        if (l->kind == LAYER_ADD && !same_shape(s, &l->in)) {
            (void)snprintf(why, WHY_MAX, "the values to be added are of unequal shapes, %s", both);
            return false;
        }
        if (l->kind == LAYER_CONCAT &&
            (s->h != l->in.h || s->w != l->in.w || s->flat != l->in.flat)) {
            (void)snprintf(why, WHY_MAX,
                           "branches give %s: to be put together they must be equal in height and "
                           "width",
                           both);
            return false;
        }
        l->out.c += l->kind == LAYER_CONCAT ? s->c : 0;
    }
    return true;
}

/* The stride by which a 1x1 kernel makes `to` values of `from`; 0 = there is none. */
static int stride_between(int from, int to)
{
    for (int stride = 1; stride <= from; stride++) {
        if ((from - 1) / stride + 1 == to) {
            return stride;
        }
    }
    return 0;
}

/* A shortcut becomes the identity, or the product that brings its input to the target's shape. A
 * batchnorm behind it has the shape already where it is not needed. */
static bool resolve_shortcut(const struct model *m, struct layer *l, char *why)
{
    const struct shape *to = &m->layers[l->target].out;
    char both[128];
    two_texts(&l->in, to, both);
    bool same = same_shape(&l->in, to);
    if (l->kind == LAYER_BATCHNORM) {
        /* it follows a projection, which it normalises; behind the identity it is one too */
        l->kind = m->layers[l->inputs[0]].kind == LAYER_IDENTITY ? LAYER_IDENTITY : l->kind;
    } else if (same && l->shortcut != SHORTCUT_PROJECTION) {
        l->kind = LAYER_IDENTITY;
    } else if (l->shortcut == SHORTCUT_IDENTITY) {
        (void)snprintf(why, WHY_MAX,
                       "its layers change the shape (%s), so that the shortcut cannot be the "
                       "identity; write \"shortcut\": \"projection\"",
                       both);
        return false;
    } else if (l->in.flat && to->flat) {
        l->kind = LAYER_DENSE;
    } else {
        l->kind = LAYER_CONV;
        l->kernel = l->groups = 1;
        l->stride = l->in.flat || to->flat ? 0 : stride_between(l->in.h, to->h);
        if (l->stride == 0 || (l->in.w - 1) / l->stride + 1 != to->w) {
            (void)snprintf(why, WHY_MAX,
                           "its input and output are of shapes that no 1x1 convolution brings "
                           "together, %s",
                           both);
            return false;
        }
    }
    l->filters = to->c;
    l->shortcut = SHORTCUT_NONE;
    return true;
}

/* ---- all layers ---- */

static bool layer_shape(const struct model *m, struct layer *l, char *why)
{
    if (l->shortcut != SHORTCUT_NONE && !resolve_shortcut(m, l, why)) {
        return false;
    }
    switch (l->kind) {
    case LAYER_CONV:
        return conv_shape(l, why);
    case LAYER_MAXPOOL:
    case LAYER_AVGPOOL:
        return pool_shape(l, why);
    case LAYER_GLOBALPOOL:
        l->out = (struct shape){.c = l->in.c, .h = 1, .w = 1, .flat = true};
        return needs_image(l, "", why);
    case LAYER_EMBEDDING:
        return embedding_shape(m, l, why);
    case LAYER_ADD:
    case LAYER_CONCAT:
        return join_shape(m, l, why);
    case LAYER_DENSE: /* takes the values of an image as one row */
        l->out = (struct shape){.c = l->filters, .h = 1, .w = 1, .flat = true};
        return true;
    case LAYER_FLATTEN:
        l->out = (struct shape){.c = (int)shape_size(&l->in), .h = 1, .w = 1, .flat = true};
        return true;
    case LAYER_DROPOUT:
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
    case LAYER_ACTIVATION:
    case LAYER_IDENTITY:
    default:
        l->out = l->in;
        return true;
    }
}

static bool last_layer(const struct model *m, int outputs, char *why)
{
    const struct layer *l = &m->layers[m->n - 1];
    if (l->kind != LAYER_DENSE) {
        (void)snprintf(why, WHY_MAX, "the last layer must be a dense one%s, not %s",
                       outputs > 1 ? " with one unit a class" : "", layer_kind_name(l->kind));
        return false;
    }
    if (outputs > 0 && l->filters != outputs) {
        (void)snprintf(
            why, WHY_MAX,
            "the last layer has %d unit%s, but the data set has %d %s; write \"units\": %d",
            l->filters, l->filters == 1 ? "" : "s", outputs, outputs == 1 ? "target" : "classes",
            outputs);
        return false;
    }
    return true;
}

/* The first layer that does not fit; m->n when all do. */
static int fit_layers(struct model *m, char *why)
{
    int64_t values = shape_size(&m->input);
    int64_t weights = 0;
    for (int i = 0; i < m->n; i++) {
        struct layer *l = &m->layers[i];
        l->in = *input_shape(m, l, 0);
        if (!layer_shape(m, l, why)) {
            return i;
        }
        values += shape_size(&l->out);
        weights += op_param_floats(l, OP_WEIGHTS) + op_param_floats(l, OP_BIAS);
        if (weights > MODEL_WEIGHTS_MAX || values > MODEL_ACTIVATIONS_MAX) {
            (void)snprintf(why, WHY_MAX, "the model is too large: over %d million %s",
                           MODEL_WEIGHTS_MAX >> 20,
                           weights > MODEL_WEIGHTS_MAX ? "weights" : "values");
            return i;
        }
    }
    return m->n;
}

bool model_shapes(struct model *m, int outputs, const char *pointer, struct mjson_issues *is)
{
    char why[WHY_MAX];
    int bad = fit_layers(m, why);
    if (bad == m->n) {
        if (last_layer(m, outputs, why)) {
            return true;
        }
        bad = m->n - 1;
    }
    char *at = xasprintf("%s%s", pointer, m->layers[bad].at);
    mjson_issue(is, at, "%s", why);
    free(at);
    return false;
}
