/* SPDX-License-Identifier: Apache-2.0
 *
 * What a net takes on the CPU backend, from the outline alone: as backend_cpu.c and the kinds'
 * init functions allocate it. Of oneDNN, which hides its own, the weights in layouts of its
 * kernels.
 */
#include "trainer/cpu.h"
#include "trainer/cpu_panel.h"
#include "trainer/net.h"

#define ONEDNN_LAYOUTS 3 /* of a convolution's weights: forward and both ways back */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t floats_of(const struct op *op)
{
    return shape_size(&op->layer.out) * op->rows * op->lanes;
}

/* Flatten and identity hand their input's activations on. */
static bool hands_on(const struct op *op)
{
    return op->index >= 0 && (op->layer.kind == LAYER_FLATTEN || op->layer.kind == LAYER_IDENTITY);
}

/* Outputs, gradients, and what went into activations whose slope needs it; of dropout and pooling
 * what backward goes by. */
static int64_t values_of(const struct op *op, bool learns)
{
    const struct layer *l = &op->layer;
    const int64_t n = floats_of(op);
    const bool grads = learns && op->flows;
    int64_t bytes = 4 * n * (grads ? 2 : 1);
    if (grads && !act_by_output(l->act) && l->kind != LAYER_ACTIVATION) {
        bytes += 4 * n;
    }
    if (op->index >= 0 && l->kind == LAYER_DROPOUT) {
        bytes += 4 * n;
    } else if (l->kind == LAYER_MAXPOOL) {
        bytes += n;
    } else if (l->kind == LAYER_GLOBALPOOL && l->max) {
        bytes += 4 * n;
    }
    return bytes;
}

static int64_t conv_room(const struct layer *l)
{
    const int64_t weights = op_param_floats(l, OP_WEIGHTS);
    const int64_t area = (int64_t)l->out.h * l->out.w;
    return layer_fan_in(l) * l->groups * area + shape_size(&l->in) +
           larger(shape_size(&l->out), weights) + ONEDNN_LAYOUTS * weights;
}

/* Of a convolution by Winograd's minimal filtering: room that all of them share, and nothing of its
 * own. Behind the input, whose channels are in no blocks, there is none. */
static int64_t tiles_of(const struct op *op, bool learns)
{
    const bool first = op->index >= 0 && op->inputs[0]->index < 0;
    return op->layer.kind == LAYER_CONV && !first
               ? (int64_t)winograd_room(&op->layer, op->rows, learns)
               : 0;
}

/* Floats that the kind's init makes. */
static int64_t scratch_of(const struct op *op)
{
    const struct layer *l = &op->layer;
    const int64_t in = shape_size(&l->in);
    switch (l->kind) {
    case LAYER_DENSE:
        return l->in.h * l->in.w > 1 ? in : 0;
    case LAYER_CONV:
        return tiles_of(op, true) > 0 ? 0 : conv_room(l);
    case LAYER_BATCHNORM:
        return (2 * (int64_t)op->lanes + 10) * l->in.c;
    case LAYER_LAYERNORM:
        return 2 * (int64_t)op->rows * op->lanes + in;
    case LAYER_ADD:
    case LAYER_CONCAT:
        return 2 * shape_size(&l->out);
    case LAYER_MAXPOOL:
    case LAYER_FLATTEN:
    case LAYER_DROPOUT:
    case LAYER_AVGPOOL:
    case LAYER_GLOBALPOOL:
    case LAYER_EMBEDDING:
    case LAYER_ACTIVATION:
    case LAYER_IDENTITY:
    default:
        return 0;
    }
}

/* Room that all dense layers share, within one call. */
static int64_t panels_of(const struct net *outline)
{
    int64_t most = 0;
    for (int i = 0; i < outline->n; i++) {
        const struct op *op = outline->layers[i];
        if (op->layer.kind == LAYER_DENSE) {
            most = larger(most, (int64_t)cpu_panel_room(op->rows, op->layer.filters,
                                                        (int)shape_size(&op->layer.in)));
        }
    }
    return most;
}

static const struct op *owner_of(const struct op *op)
{
    while (hands_on(op)) {
        op = op->inputs[0];
    }
    return op;
}

/* The batches that are kept at the input, and what is found in each where dense layers read it. */
static int64_t slots_of(const struct net *outline)
{
    const int64_t n = floats_of(outline->input);
    bool sheets = false;
    for (int i = 0; i < outline->n; i++) {
        const struct op *op = outline->layers[i];
        sheets = sheets || (op->layer.kind == LAYER_DENSE && owner_of(op->inputs[0])->index < 0);
    }
    sheets = sheets && outline->input->lanes == 1;
    return 4 * n * (outline->ahead - 1) + (sheets ? 5 * n * outline->ahead : 0);
}

/* Where a gradient is a sum, its second part is made in room that all ops share. */
static int64_t spare_of(const struct net *outline)
{
    int users[MODEL_LAYERS_MAX + 1] = {0};
    int64_t most = 0;
    for (int i = 0; i < outline->n; i++) {
        const struct op *op = outline->layers[i];
        for (int k = 0; k < op->layer.n_inputs && !hands_on(op); k++) {
            const struct op *in = owner_of(op->inputs[k]);
            if (users[in->index + 1]++ > 0 && in->flows) {
                most = larger(most, floats_of(in));
            }
        }
    }
    return most;
}

/* Room for the rounded copy of a product's factor. */
static int64_t factor_of(const struct op *op)
{
    const struct layer *l = &op->layer;
    const int64_t weights = op_param_floats(l, OP_WEIGHTS) * op->lanes;
    if (l->kind == LAYER_DENSE) {
        return larger(weights,
                      op->rows * larger(shape_size(&l->in), (int64_t)l->filters * op->lanes));
    }
    const int64_t columns = layer_fan_in(l) * (int64_t)l->out.h * l->out.w;
    return l->kind == LAYER_CONV ? larger(weights, larger(columns, shape_size(&l->out))) : 0;
}

void cpu_room(const struct net *outline, enum precision precision, struct room *add)
{
    int64_t factor = 0;
    int64_t tiles = 0;
    add->values += values_of(outline->input, outline->learns) + slots_of(outline);
    for (int i = 0; i < outline->n; i++) {
        const struct op *op = outline->layers[i];
        op_room(op, outline->average, outline->learns, add);
        if (!hands_on(op)) {
            add->values += values_of(op, outline->learns);
            add->workspace += 4 * scratch_of(op);
            tiles = larger(tiles, tiles_of(op, outline->learns));
            factor = larger(factor, factor_of(op));
        }
    }
    add->workspace += 4 * (spare_of(outline) + panels_of(outline) + tiles) +
                      (precision == PRECISION_BF16 ? 8 * factor : 0);
}
