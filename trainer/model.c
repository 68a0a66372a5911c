/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/model.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>

const char *layer_kind_name(enum layer_kind k)
{
    static const char *const names[] = {"dense", "conv", "maxpool", "flatten", "dropout"};
    return names[k];
}

const char *activation_name(enum activation a)
{
    static const char *const names[] = {"none", "relu", "tanh", "sigmoid"};
    return names[a];
}

void shape_text(const struct shape *s, char out[48])
{
    if (s->flat) {
        (void)snprintf(out, 48, "%d", s->c);
    } else {
        (void)snprintf(out, 48, "%dx%dx%d", s->c, s->h, s->w);
    }
}

int64_t op_param_floats(const struct layer *l, enum op_param p)
{
    if (l->kind != LAYER_DENSE && l->kind != LAYER_CONV) {
        return 0;
    }
    return p == OP_WEIGHTS ? layer_fan_in(l) * l->filters : p == OP_BIAS ? l->filters : 0;
}

bool op_param_trained(enum op_param p)
{
    return p == OP_WEIGHTS || p == OP_BIAS;
}

bool layer_learns(const struct layer *l)
{
    return op_param_floats(l, OP_WEIGHTS) + op_param_floats(l, OP_BIAS) > 0;
}

int64_t layer_fan_in(const struct layer *l)
{
    if (l->kind == LAYER_DENSE) {
        return shape_size(&l->in);
    }
    return l->kind == LAYER_CONV ? (int64_t)l->in.c * l->kernel * l->kernel : 0;
}

int64_t model_weights(const struct model *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n; i++) {
        n += op_param_floats(&m->layers[i], OP_WEIGHTS) + op_param_floats(&m->layers[i], OP_BIAS);
    }
    return n;
}

/* ---- shapes ---- */

/* Output side of a window that moves over `side` values; below 1 when it does not fit once. */
static int window_out(int side, int kernel, int stride, int pad)
{
    int room = side + 2 * pad - kernel;
    return room < 0 ? 0 : room / stride + 1;
}

static bool conv_shape(struct layer *l, char *why, size_t why_size)
{
    char in[48];
    shape_text(&l->in, in);
    if (l->in.flat) {
        (void)snprintf(
            why, why_size,
            "a conv layer needs an image, but gets %s flat values; put it before dense and "
            "flatten layers, or give \"input\": [channels, height, width]",
            in);
        return false;
    }
    if (l->pad_same) {
        if (l->kernel % 2 == 0) {
            (void)snprintf(why, why_size, "padding \"same\" needs an odd kernel, not %d",
                           l->kernel);
            return false;
        }
        l->pad = l->kernel / 2;
    }
    l->out = (struct shape){.c = l->filters,
                            .h = window_out(l->in.h, l->kernel, l->stride, l->pad),
                            .w = window_out(l->in.w, l->kernel, l->stride, l->pad)};
    if (l->out.h < 1 || l->out.w < 1) {
        (void)snprintf(
            why, why_size,
            "a %dx%d kernel does not fit into its input of %s (padding %d); use a smaller "
            "kernel or \"padding\": \"same\"",
            l->kernel, l->kernel, in, l->pad);
        return false;
    }
    return true;
}

static bool pool_shape(struct layer *l, char *why, size_t why_size)
{
    char in[48];
    shape_text(&l->in, in);
    if (l->in.flat) {
        (void)snprintf(why, why_size, "a maxpool layer needs an image, but gets %s flat values",
                       in);
        return false;
    }
    l->out = (struct shape){.c = l->in.c,
                            .h = window_out(l->in.h, l->kernel, l->stride, 0),
                            .w = window_out(l->in.w, l->kernel, l->stride, 0)};
    if (l->out.h < 1 || l->out.w < 1) {
        (void)snprintf(
            why, why_size,
            "a %dx%d pooling window does not fit into its input of %s; take out a pooling "
            "layer or make earlier layers keep more of the image",
            l->kernel, l->kernel, in);
        return false;
    }
    return true;
}

static bool layer_shape(struct layer *l, char *why, size_t why_size)
{
    switch (l->kind) {
    case LAYER_CONV:
        return conv_shape(l, why, why_size);
    case LAYER_MAXPOOL:
        return pool_shape(l, why, why_size);
    case LAYER_DENSE: /* takes the values of an image as one row */
        l->out = (struct shape){.c = l->filters, .h = 1, .w = 1, .flat = true};
        return true;
    case LAYER_FLATTEN:
        l->out = (struct shape){.c = (int)shape_size(&l->in), .h = 1, .w = 1, .flat = true};
        return true;
    case LAYER_DROPOUT:
    default:
        l->out = l->in;
        return true;
    }
}

static bool last_layer(const struct model *m, int outputs, char *why, size_t why_size)
{
    const struct layer *l = &m->layers[m->n - 1];
    if (l->kind != LAYER_DENSE) {
        (void)snprintf(why, why_size, "the last layer must be a dense one%s, not %s",
                       outputs > 1 ? " with one unit a class" : "", layer_kind_name(l->kind));
        return false;
    }
    if (outputs > 0 && l->filters != outputs) {
        (void)snprintf(
            why, why_size,
            "the last layer has %d unit%s, but the data set has %d %s; write \"units\": %d",
            l->filters, l->filters == 1 ? "" : "s", outputs, outputs == 1 ? "target" : "classes",
            outputs);
        return false;
    }
    return true;
}

bool model_shapes(struct model *m, int outputs, const char *pointer, struct mjson_issues *is)
{
    char why[320];
    int64_t values = shape_size(&m->input);
    int64_t weights = 0;
    int i = 0;
    for (; i < m->n; i++) {
        struct layer *l = &m->layers[i];
        l->in = l->inputs[0] == MODEL_INPUT ? m->input : m->layers[l->inputs[0]].out;
        if (!layer_shape(l, why, sizeof(why))) {
            break;
        }
        values += shape_size(&l->out);
        weights += op_param_floats(l, OP_WEIGHTS) + op_param_floats(l, OP_BIAS);
        if (weights > MODEL_WEIGHTS_MAX || values > MODEL_ACTIVATIONS_MAX) {
            (void)snprintf(why, sizeof(why), "the model is too large: over %d million %s",
                           MODEL_WEIGHTS_MAX >> 20,
                           weights > MODEL_WEIGHTS_MAX ? "weights" : "values");
            break;
        }
    }
    if (i == m->n) {
        if (last_layer(m, outputs, why, sizeof(why))) {
            return true;
        }
        i = m->n - 1;
    }
    char *at_layer = mjson_pointer_index(pointer, (size_t)m->layers[i].origin);
    mjson_issue(is, at_layer, "%s", why);
    free(at_layer);
    return false;
}

char *model_signature(const struct model *m)
{
    struct buf b = {0};
    char text[48];
    shape_text(&m->input, text);
    buf_adds(&b, text);
    for (int i = 0; i < m->n; i++) {
        const struct layer *l = &m->layers[i];
        buf_addf(&b, "; %s", layer_kind_name(l->kind));
        if (l->kind == LAYER_CONV) {
            buf_addf(&b, " %d of %dx%d stride %d pad %d %s", l->filters, l->kernel, l->kernel,
                     l->stride, l->pad, activation_name(l->act));
        } else if (l->kind == LAYER_DENSE) {
            buf_addf(&b, " %d %s", l->filters, activation_name(l->act));
        } else if (l->kind == LAYER_MAXPOOL) {
            buf_addf(&b, " %d stride %d", l->kernel, l->stride);
        }
    }
    return buf_take(&b);
}
