/* SPDX-License-Identifier: Apache-2.0
 *
 * What a net takes of a GPU's memory, from its outline alone: the blocks of its ops as plan.h says,
 * and what lies beside them. Without what the driver keeps for a process.
 */
#include "trainer/cuda/cuda.h"
#include "trainer/net.h"

/* Of the head's op. */
static int64_t block_of(const struct net *outline, const struct op *op, enum precision precision)
{
    const struct op_spec spec = {.layer = &op->layer,
                                 .index = op->index,
                                 .inputs = op->inputs,
                                 .lanes = op->lanes,
                                 .average = outline->average,
                                 .learns = outline->learns};
    struct plan p;
    plan_op(&spec, precision, &p);
    return p.bytes;
}

/* Losses and row numbers of a step, and the table of parameters that its kernels go by. */
static int64_t step_bytes(const struct net *outline, int64_t weights)
{
    const int64_t rows = outline->rows;
    const int64_t lanes = outline->lanes;
    const int64_t chunks = weights / 4 / CELL_CHUNK + (int64_t)outline->n * OP_PARAMS * lanes;
    return rows * (int64_t)(sizeof(double) + sizeof(int32_t)) +
           lanes * (int64_t)(sizeof(struct cell_update) + sizeof(struct cell_score)) +
           lanes * rows * (int64_t)sizeof(uint32_t) +
           chunks * (int64_t)(sizeof(struct cell_chunk) + sizeof(struct cell_array) +
                              2 * sizeof(double));
}

void cuda_room(const struct net *outline, enum precision precision, struct room *add)
{
    const struct op *input = outline->input;
    struct room arrays = {0};
    struct plan p;
    int64_t blocks = 0;
    plan_input(&input->layer.out, input->rows, input->lanes, &p);
    for (int i = 0; i < outline->n; i++) {
        op_room(outline->layers[i], outline->average, outline->learns, &arrays);
        blocks += block_of(outline, outline->layers[i], precision);
    }
    const int64_t held = arrays.weights + arrays.gradients + arrays.optimizer + arrays.average;
    add->weights += arrays.weights;
    add->gradients += arrays.gradients;
    add->optimizer += arrays.optimizer;
    add->average += arrays.average;
    add->values += p.bytes + blocks - held;
    add->workspace += DEVICE_WORKSPACE + step_bytes(outline, arrays.weights);
}
