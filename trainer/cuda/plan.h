/* SPDX-License-Identifier: Apache-2.0
 *
 * Where everything of a net lies in the memory of a GPU: one block, whose size is known before
 * anything is allocated. First what stays (gradients of all parameters in a row, parameters,
 * optimizer state, what a step reads from the host and leaves), then outputs and their gradients,
 * which take turns in the same places as far as no two are needed at the same moment, then room for
 * the op that runs. Knows no CUDA.
 */
#ifndef MAG_TRAINER_CUDA_PLAN_H
#define MAG_TRAINER_CUDA_PLAN_H

#include "trainer/backend.h"

#define PLAN_ALIGN 256 /* bytes */
#define PLAN_NONE (-1)

/* What an op has beside its parameters, each from one moment of a step to another. */
enum plan_part {
    PLAN_OUT = 0,
    PLAN_GRAD = 1,
    PLAN_KEPT = 2,       /* what backward needs beside inputs and outputs */
    PLAN_INPUT = 3,      /* the input as the op wants it: spread over lanes, or flattened */
    PLAN_INPUT_GRAD = 4, /* its gradient, on the way to the input's */
};
#define PLAN_PARTS 5

/* Offsets in the block, PLAN_NONE for what the op has not. */
struct plan_op {
    int64_t parts[PLAN_PARTS];
    int64_t params[OP_PARAMS][OP_SLOTS]; /* [lanes][op_param_floats] */
    int64_t half;                        /* bfloat16 copy of the weights */
    int64_t saved;                       /* norms: mean and 1 / deviation of this pass */
    int64_t streams;                     /* dropout: [lanes] struct cell_stream, in the step's */
    /* While the op runs, in places that all ops share: */
    int64_t scratch;   /* sums, sorted numbers */
    int64_t half_grad; /* convolution: its bfloat16 gradient */
    int64_t work;      /* convolution: what cuDNN may work in, `work_bytes` */
    int64_t work_bytes;
    int first_array, n_arrays, first_chunk, n_chunks; /* its rows of the table of parameters */
};

struct plan {
    int n; /* ops: the input, then the layers */
    int lanes;
    struct plan_op *ops;
    /* Bytes of parameters: gradients, at the block's start; values with their bfloat16 copies and
     * running statistics; moments; averages. */
    int64_t gradients, weights, optimizer, average;
    /* What a step reads from the host, in one copy: updates, row numbers, changes of images,
     * streams. `step` is where it begins, the others count from there. */
    int64_t step, rows, changes, streams, step_bytes;
    int64_t scores, row_loss, row_said; /* losses: [lanes], [lanes][rows] */
    /* The table of parameters: its parts, for n_arrays arrays in n_chunks chunks. */
    int64_t arrays, chunks, chunks_of, partial, ratios, squares;
    int n_arrays, n_chunks;
    int64_t state;       /* bytes of all that stays */
    int64_t activations; /* bytes of outputs and gradients that take turns */
    int64_t scratch;     /* bytes of the room for the op that runs */
    int64_t bytes;       /* of the block */
};

struct net;
/* Of a net whose ops are there, or the heads of them (op_init) alone. */
void plan_net(const struct net *net, enum precision precision, struct plan *ret);
void plan_fini(struct plan *p);

/* Does the op need an input other than the one that is there? */
bool plan_spreads(const struct layer *l, int x_lanes, int lanes);
bool plan_flattens(const struct layer *l);
/* What cuDNN may work in for a convolution of arrays of these sizes: some of its kernels bring all
 * three into another layout first. */
int64_t plan_work_bytes(int64_t x, int64_t y, int64_t weights);

#endif
