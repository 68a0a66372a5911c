/* SPDX-License-Identifier: Apache-2.0
 *
 * The launchers of our own kernels, for C. Every one only queues work on `stream`; a launch that
 * fails is found by device_check. Pointers are device memory. `add` != 0 adds to a gradient that is
 * there instead of setting it. Shapes are of one lane; what several lanes share has lanes 1.
 */
#ifndef MAG_TRAINER_CUDA_KERNELS_H
#define MAG_TRAINER_CUDA_KERNELS_H

#include "trainer/cuda/cell.h"

/* Rows x positions x lanes x channels of an activation. */
struct extent {
    int64_t rows;
    int area, lanes, c;
};

static inline int64_t extent_size(struct extent e)
{
    return e.rows * e.area * e.lanes * e.c;
}

/* A window that slides over an image: convolution, pooling. */
struct window {
    int in_h, in_w, out_h, out_w;
    int kernel, stride, pad;
};

/* A convolution of one lane: c input channels and k filters in `groups` groups. */
struct filter {
    struct window w;
    int c, k, groups;
};

/* ---- a matrix of rows x columns, column by column: sums over a batch, norms ---- */

/* Blocks work on `parts` parts of the rows; a thread keeps its columns, WIDE of them or one. Sums
 * go in two stages of a fixed shape: within the block, then over the parts. */
#define COLUMN_PARTS_MAX 1024
#define COLUMN_SHARE 32768 /* values of a block, about */

struct columns {
    int64_t rows, each; /* rows of a part */
    int columns, parts, v;
};

static inline int64_t columns_parts_max(struct extent e)
{
    const int64_t columns = (int64_t)e.lanes * e.c;
    const int64_t parts = e.rows * e.area * (columns < 2048 ? columns : 2048) / COLUMN_SHARE;
    return parts < 1 ? 1 : parts > COLUMN_PARTS_MAX ? COLUMN_PARTS_MAX : parts;
}

static inline struct columns columns_of(struct extent e)
{
    struct columns m;
    m.rows = e.rows * e.area;
    m.columns = e.lanes * e.c;
    m.each = (m.rows + columns_parts_max(e) - 1) / columns_parts_max(e);
    m.parts = m.each > 0 ? (int)((m.rows + m.each - 1) / m.each) : 0;
    m.v = m.columns % WIDE == 0 ? WIDE : 1;
    return m;
}

/* Doubles that two sums of each column need, for e.rows rows and any number below. */
static inline int64_t columns_room(struct extent e)
{
    return 2 * columns_parts_max(e) * e.lanes * e.c;
}

/* ---- sums over equal numbers ---- */

#define SORT_BITS 4     /* of a number, by which one pass sorts */
#define SORT_ITEMS 4096 /* of one block */
#define RUN_ITEMS 64    /* that one thread sums up at once */

/* Bytes that the gradient of an embedding needs beside it. */
static inline int64_t embed_room(struct extent e)
{
    const int64_t n = e.rows * e.area * e.lanes;
    const int64_t blocks = (n + SORT_ITEMS - 1) / SORT_ITEMS;
    const int64_t runs = (n + RUN_ITEMS - 1) / RUN_ITEMS;
    return (n + 3) / 4 * 4 * 4 * (int64_t)sizeof(uint32_t) +
           (blocks << SORT_BITS) * (int64_t)sizeof(uint32_t) +
           2 * runs * e.c * (int64_t)sizeof(double);
}

/* Examples of a resident data set -> activations of the lanes in `mask`. Canonical order there. */
struct gather {
    const uint8_t *bytes; /* a value is byte * scale; or NULL, and then: */
    const float *values;
    float scale;
    const uint32_t *rows;              /* [lanes][stride]; NULL: the examples as they lie */
    const struct cell_change *changes; /* likewise, or NULL */
    int stride;
    int h, w;
    uint64_t mask;
    struct tensor out;
    struct extent e;
};

/* A strided product D[b][i][j] = act(sum_k A[b][i][k] B[b][k][j] + bias[b][j]) (+ D with `add`). */
struct product {
    struct tensor a, b, d;
    const float *bias; /* [batches][n] or NULL */
    int m, n, k, batches;
    int64_t a_row, a_col, a_batch;
    int64_t b_row, b_col, b_batch;
    int64_t d_row, d_batch; /* columns of d are adjacent */
    int relu, add;
};

/* One parameter array of one lane. */
struct cell_array {
    float *value, *grad, *first, *second, *average; /* NULL where it has none */
    uint16_t *half;                                 /* bfloat16 copy of value, or NULL */
    int64_t n;
    int lane;
    int decays; /* weight decay and LAMB's ratio are for it */
};

/* A part of an array that one block works on: CELL_CHUNK values at most. */
#define CELL_CHUNK 4096
struct cell_chunk {
    int array;
    int64_t begin;
    int n;
};

/* The parameters of a net, in device memory; chunks of an array are adjacent and in order. A launch
 * works on a range of them: all, or those of one op. */
struct cell_model {
    const struct cell_array *arrays;
    const struct cell_chunk *chunks;
    const int *chunks_of; /* first chunk of each array, and one more: their number */
    int first_array, n_arrays, first_chunk, n_chunks;
    int all_chunks, lanes;
    double *partial; /* [2][all_chunks]: room for sums */
    double *ratios;  /* of each array */
    double *squares; /* [lanes]: of the gradients */
};

/* What the loss of a batch adds up to, one a lane. */
struct cell_score {
    double loss;
    int64_t correct;
    int64_t rows;
};

enum cell_loss { CELL_CROSS_ENTROPY = 0, CELL_MSE = 1, CELL_LOGISTIC = 2 }; /* as enum loss_kind */

#define HEAD_LANES_MAX 64

struct head {
    struct tensor out, grad; /* grad.data NULL = none wanted */
    const int32_t *labels;   /* of the data set, or NULL */
    const float *targets;    /* likewise */
    const uint32_t *rows;    /* [lanes][stride] */
    int stride, n, width, lanes, kind;
    int whole;     /* rows of whose mean loss the gradient is: n, or more where they are shared */
    uint64_t mask; /* the lanes to be looked at */
    float smoothing[HEAD_LANES_MAX]; /* of each lane */
    double *row_loss;                /* [lanes][stride]: room */
    int32_t *row_said;               /* likewise */
    struct cell_score *add;          /* [lanes] */
};

KERNELS_BEGIN

/* elements.cu; embeddings in embeddings.cu */
void k_gather(const struct gather *g, void *stream);
/* y = act(x + bias[lane][c]); bias may be NULL. With `kept` not NULL also kept = x + bias. */
void k_bias_act(struct tensor x, struct tensor y, void *kept, const float *bias, int act,
                struct extent e, void *stream);
/* dx (+)= dy * slope(kept), kept being the output or the input (cell_keeps_input) */
void k_act_back(struct tensor dy, struct tensor kept, struct tensor dx, int act, struct extent e,
                int add, void *stream);
#define SUM_MAX 8 /* inputs of a sum */
/* y = act(sum of n_inputs inputs); with `kept` not NULL also kept = the sum */
void k_add(const struct tensor *inputs, int n_inputs, struct tensor y, void *kept, int act,
           struct extent e, void *stream);
/* dx[k] (+)= dy * slope(kept) for the inputs whose data is not NULL */
void k_add_back(struct tensor dy, struct tensor kept, int act, const struct tensor *dx,
                const int *add, int n_inputs, struct extent e, void *stream);
/* Channels from .. from + part.c of y are x; `back`: dx (+)= those of dy. */
void k_slice(struct tensor x, struct tensor y, struct extent part, int from, int c_all,
             void *stream);
void k_slice_back(struct tensor dy, struct tensor dx, struct extent part, int from, int c_all,
                  int add, void *stream);
/* Image [area][lanes][c] -> rows [lanes][c][area], and the gradients the other way. */
void k_flatten(struct tensor x, struct tensor y, struct extent e, void *stream);
void k_flatten_back(struct tensor dy, struct tensor dx, struct extent e, int add, void *stream);
/* Every lane its copy of values that the lanes share. */
void k_spread(struct tensor x, struct tensor y, struct extent e, void *stream);
/* y = x * mask; the mask (0 or 1) is kept, one byte a value, in the order of y. streams: [lanes].
 */
void k_dropout(struct tensor x, struct tensor y, uint8_t *mask, const struct cell_stream *streams,
               struct extent e, void *stream);
void k_dropout_back(struct tensor dy, struct tensor dx, const uint8_t *mask,
                    const struct cell_stream *streams, struct extent e, int add, void *stream);
/* Rows of a table [lanes][vocabulary][width] by the numbers in x, [rows][lanes][area]; e.c = width.
 */
void k_embed(struct tensor x, const float *table, int vocabulary, struct tensor y, struct extent e,
             void *stream);
/* The table's gradient; `grad` is written whole. `room` is embed_room(e) bytes. */
void k_embed_back(struct tensor x, struct tensor dy, int vocabulary, float *grad, void *room,
                  struct extent e, void *stream);
void k_to_bf16(const float *from, uint16_t *to, int64_t n, void *stream);
void k_from_bf16(const uint16_t *from, float *to, int64_t n, void *stream);
void k_swap(float *a, float *b, int64_t n, void *stream);

/* windows.cu */
/* kept: index of the largest in its window, one a value of y */
void k_maxpool(struct tensor x, struct tensor y, uint16_t *kept, struct window w, struct extent e,
               void *stream);
void k_maxpool_back(struct tensor dy, const uint16_t *kept, struct tensor dx, struct window w,
                    struct extent e, int add, void *stream);
void k_avgpool(struct tensor x, struct tensor y, struct window w, struct extent e, void *stream);
void k_avgpool_back(struct tensor dy, struct tensor dx, struct window w, struct extent e, int add,
                    void *stream);
/* Over the whole image. kept: position of the largest, or NULL for the average. */
void k_globalpool(struct tensor x, struct tensor y, int32_t *kept, struct extent e, void *stream);
void k_globalpool_back(struct tensor dy, const int32_t *kept, struct tensor dx, struct extent e,
                       int add, void *stream);
/* Convolutions, for shapes that cuDNN has no kernel for. weights [lanes][k][kernel][kernel][c /
 * groups] */
void k_conv(struct tensor x, struct tensor w, struct tensor y, struct filter f, int64_t rows,
            int lanes, void *stream);
void k_conv_dx(struct tensor dy, struct tensor w, struct tensor dx, struct filter f, int64_t rows,
               int lanes, int add, void *stream);
void k_conv_dw(struct tensor x, struct tensor dy, struct tensor dw, struct filter f, int64_t rows,
               int lanes, void *stream);

/* norms.cu */
/* dz = dy * slope(kept) in place, and its sums over rows and positions in `bias`, which may be
 * NULL; `partial` is columns_room doubles. */
void k_bias_back(struct tensor dz, struct tensor kept, int act, float *bias, double *partial,
                 struct extent e, void *stream);
/* Batch normalisation by the batch's own mean and variance, or with `training` 0 by the running
 * ones, and the activation of the result. Backward computes the activation's slope anew from x.
 * saved: [2][lanes * c] mean and 1 / deviation of this pass. */
struct batchnorm {
    const float *gamma, *beta;
    float *mean, *var; /* running */
    float *saved;
    double *partial;
    float momentum, epsilon; /* running += momentum * (batch's - running) */
    uint64_t idle;           /* bit k: lane k has ended, its running ones stay */
    int c;                   /* channels of a lane */
    int act;
};
void k_batchnorm(struct tensor x, struct tensor y, struct batchnorm b, struct extent e,
                 int training, void *stream);
/* dx.data may be NULL */
void k_batchnorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct batchnorm b,
                      float *dgamma, float *dbeta, struct extent e, int add, void *stream);
/* Over the area * c values of a row and lane, and the activation of the result. saved:
 * [2][rows][lanes]. gamma and beta have an entry for each value, in canonical order. */
struct layernorm {
    const float *gamma, *beta;
    float *saved;
    float epsilon;
    int act;
};
void k_layernorm(struct tensor x, struct tensor y, struct layernorm b, struct extent e,
                 void *stream);
void k_layernorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct layernorm b,
                      float *dgamma, float *dbeta, struct extent e, int add, void *stream);

/* heads.cu */
void k_head(const struct head *h, void *stream);

/* steps.cu */
/* squares[lane] = sum of squares of all gradients */
void k_grad_squares(const struct cell_model *m, void *stream);
/* The step of every array. With `clip` the gradients of each lane are scaled to its update's clip
 * by `squares`; `ratios` when a lane uses LAMB. */
void k_update(const struct cell_model *m, const struct cell_update *lanes, int clip, int ratios,
              void *stream);

/* products.cu */
void k_product(const struct product *p, void *stream);

KERNELS_END

#endif
