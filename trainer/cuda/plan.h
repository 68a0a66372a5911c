/* SPDX-License-Identifier: Apache-2.0
 *
 * What lies in the memory of a GPU for one op: every op has one block, and this says how large it
 * is and where its arrays begin. The backend allocates by it and the estimate adds it up, so that
 * what a trial is admitted by is what it takes. Knows no CUDA.
 */
#ifndef MAG_TRAINER_CUDA_PLAN_H
#define MAG_TRAINER_CUDA_PLAN_H

#include "trainer/backend.h"

#define PLAN_ALIGN 256 /* bytes */
#define PLAN_NONE (-1)

/* Offsets in the block, PLAN_NONE for what the op has not. */
struct plan {
    int64_t out, grad;
    int64_t kept;       /* what backward needs beside the output */
    int64_t input;      /* the input as the op wants it: spread over lanes, or flattened */
    int64_t input_grad; /* its gradient, on the way to the input's */
    int64_t params[OP_PARAMS][OP_SLOTS]; /* [lanes][op_param_floats]; gradients lie in a row */
    int64_t half;                        /* bfloat16 copy of the weights */
    int64_t half_grad;                   /* convolution: its bfloat16 gradient */
    int64_t saved;                       /* norms: mean and 1 / deviation of this pass */
    int64_t partial;                     /* room for sums */
    int64_t streams;                     /* dropout: [lanes] struct cell_stream */
    int64_t rows;                        /* input op: [lanes][rows] row numbers */
    int64_t bytes;
};

/* Of an op made from `spec`; rows as in its inputs. */
void plan_op(const struct op_spec *spec, enum precision precision, struct plan *ret);
void plan_input(const struct shape *shape, int rows, int lanes, struct plan *ret);

/* Whether the op's output gradient is stored: where something learns in it or before it. */
bool plan_flows(const struct op_spec *spec);
/* Does the op need an input other than the one that is there? */
bool plan_spreads(const struct layer *l, int x_lanes, int lanes);
bool plan_flattens(const struct layer *l);

#endif
