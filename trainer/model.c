/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/model.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>

const char *layer_kind_name(enum layer_kind k)
{
    static const char *const names[LAYER_KINDS] = {
        "dense",     "conv",      "maxpool",   "flatten",    "dropout", "avgpool", "globalpool",
        "batchnorm", "layernorm", "embedding", "activation", "add",     "concat",  "identity"};
    return names[k];
}

const char *activation_name(enum activation a)
{
    static const char *const names[ACTIVATIONS] = {"none",    "relu", "tanh",
                                                   "sigmoid", "gelu", "silu"};
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
    switch (l->kind) {
    case LAYER_DENSE:
    case LAYER_CONV:
        return p == OP_WEIGHTS               ? layer_fan_in(l) * l->filters
               : p == OP_BIAS && !l->no_bias ? l->filters
                                             : 0;
    case LAYER_BATCHNORM:
        return l->in.c;
    case LAYER_LAYERNORM:
        return p == OP_WEIGHTS || p == OP_BIAS ? shape_size(&l->in) : 0;
    case LAYER_EMBEDDING:
        return p == OP_WEIGHTS ? (int64_t)l->vocabulary * l->filters : 0;
    case LAYER_MAXPOOL:
    case LAYER_FLATTEN:
    case LAYER_DROPOUT:
    case LAYER_AVGPOOL:
    case LAYER_GLOBALPOOL:
    case LAYER_ACTIVATION:
    case LAYER_ADD:
    case LAYER_CONCAT:
    case LAYER_IDENTITY:
    default:
        return 0;
    }
}

bool op_param_decays(const struct layer *l, enum op_param p)
{
    return p == OP_WEIGHTS && l->kind != LAYER_BATCHNORM && l->kind != LAYER_LAYERNORM;
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
    return l->kind == LAYER_CONV ? (int64_t)(l->in.c / l->groups) * l->kernel * l->kernel : 0;
}

int64_t model_weights(const struct model *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n; i++) {
        n += op_param_floats(&m->layers[i], OP_WEIGHTS) + op_param_floats(&m->layers[i], OP_BIAS);
    }
    return n;
}

int64_t model_products(const struct model *m, bool training)
{
    bool moves[MODEL_LAYERS_MAX]; /* does a layer's output depend on anything that is trained? */
    int64_t n = 0;
    for (int i = 0; i < m->n; i++) {
        const struct layer *l = &m->layers[i];
        bool input_moves = false;
        for (int k = 0; k < l->n_inputs; k++) {
            input_moves = input_moves || (l->inputs[k] != MODEL_INPUT && moves[l->inputs[k]]);
        }
        moves[i] = input_moves || layer_learns(l);
        if (l->kind == LAYER_DENSE || l->kind == LAYER_CONV) {
            n += layer_fan_in(l) * shape_size(&l->out) * (!training ? 1 : input_moves ? 3 : 2);
        }
    }
    return n;
}

bool model_is_chain(const struct model *m)
{
    for (int i = 0; i < m->n; i++) {
        if (m->layers[i].n_inputs != 1 || m->layers[i].inputs[0] != i - 1) {
            return false;
        }
    }
    return true;
}

/* Numbers of a layer that tell its arrays and what it computes. */
static void sign_layer(struct buf *b, const struct layer *l)
{
    switch (l->kind) {
    case LAYER_CONV:
        buf_addf(b, " %d of %dx%d stride %d pad %d", l->filters, l->kernel, l->kernel, l->stride,
                 l->pad);
        if (l->groups > 1) {
            buf_addf(b, " groups %d", l->groups);
        }
        break;
    case LAYER_DENSE:
        buf_addf(b, " %d", l->filters);
        break;
    case LAYER_MAXPOOL:
    case LAYER_AVGPOOL:
        buf_addf(b, " %d stride %d", l->kernel, l->stride);
        break;
    case LAYER_GLOBALPOOL:
        buf_adds(b, l->max ? " max" : " avg");
        break;
    case LAYER_EMBEDDING:
        buf_addf(b, " %d of %d", l->filters, l->vocabulary);
        break;
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
        buf_addf(b, " %g", (double)l->epsilon);
        break;
    case LAYER_FLATTEN:
    case LAYER_DROPOUT:
    case LAYER_ACTIVATION:
    case LAYER_ADD:
    case LAYER_CONCAT:
    case LAYER_IDENTITY:
    default:
        break;
    }
    if (l->no_bias) {
        buf_adds(b, " no bias");
    }
    if (l->act != ACT_NONE || l->kind == LAYER_CONV || l->kind == LAYER_DENSE) {
        buf_addf(b, " %s", activation_name(l->act));
    }
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
        sign_layer(&b, l);
        for (int k = 0; k < l->n_inputs && (l->n_inputs > 1 || l->inputs[0] != i - 1); k++) {
            buf_addf(&b, "%s%d", k == 0 ? " from " : ",", l->inputs[k]);
        }
    }
    return buf_take(&b);
}
