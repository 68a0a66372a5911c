/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels that go over a batch column by column: gradients of biases, batch normalisation; and
 * layer normalisation, row by row. Activations are part of the pass that makes their input.
 */
#include "trainer/cuda/kernels.h"

/* ---- columns: what a thread works on, and sums of it ---- */

struct patch {
    int64_t row, end; /* its first row; the end of the part */
    int step;         /* from row to row */
    int column;       /* the first of its v */
    int across;       /* threads of the block beside each other */
    int part;
    int here; /* it has columns at all */
};

/* Threads beside each other: a power of two, so that those above each other are one too. */
MAG_DEVICE int threads_across(struct columns m, int threads)
{
    int across = 1;
    while (across < threads && across * m.v < m.columns) {
        across *= 2;
    }
    return across;
}

MAG_DEVICE int64_t column_blocks(struct columns m, int threads)
{
    const int64_t width = (int64_t)threads_across(m, threads) * m.v;
    return (m.columns + width - 1) / width * m.parts;
}

MAG_INSIDE struct patch patch_of(struct columns m)
{
    struct patch p;
    p.across = threads_across(m, (int)blockDim.x);
    p.part = (int)(blockIdx.x % (unsigned)m.parts);
    const int tile = (int)(blockIdx.x / (unsigned)m.parts);
    const int64_t column = ((int64_t)tile * p.across + (int)threadIdx.x % p.across) * m.v;
    const int64_t first = p.part * m.each;
    p.here = column < m.columns;
    p.column = p.here ? (int)column : 0;
    p.step = (int)blockDim.x / p.across;
    p.end = first + m.each < m.rows ? first + m.each : m.rows;
    p.row = p.here ? first + (int)threadIdx.x / p.across : p.end;
    return p;
}

/* Adds up what the block's threads have of each column, and leaves it with the part's others. */
MAG_INSIDE void leave_sums(struct patch p, struct columns m, int v, const double *sums,
                           double *partial)
{
    SHARED double room[WIDE * KERNEL_THREADS];
    const int t = (int)threadIdx.x;
    BARRIER(); /* the sums before may still be read */
    for (int k = 0; k < v; k++) {
        room[k * (int)blockDim.x + t] = sums[k];
    }
    for (int half = (int)blockDim.x / p.across / 2; half > 0; half /= 2) {
        BARRIER();
        for (int k = 0; t / p.across < half && k < v; k++) {
            room[k * (int)blockDim.x + t] += room[k * (int)blockDim.x + t + half * p.across];
        }
    }
    for (int k = 0; t < p.across && p.here && k < v; k++) {
        partial[(int64_t)(p.column + k) * m.parts + p.part] = room[k * (int)blockDim.x + t];
    }
}

MAG_INSIDE double sum_of_parts(const double *partial, struct columns m, int column)
{
    double sum = 0;
    for (int part = (int)threadIdx.x; part < m.parts; part += (int)blockDim.x) {
        sum += partial[(int64_t)column * m.parts + part];
    }
    return block_sum(sum);
}

/* The second of two sums. */
MAG_DEVICE double *second_sums(double *partial, struct columns m)
{
    return partial + (int64_t)m.parts * m.columns;
}

#define COLUMN_KERNEL(launch, m, stream, ...)                                                      \
    LAUNCH_BLOCKS(launch, column_blocks(m, BLOCK_THREADS), stream, __VA_ARGS__)

/* ---- biases ---- */

MAG_INSIDE void bias_add(struct tensor x, struct tensor y, struct tensor kept, const float *bias,
                         int act, struct columns m, int v)
{
    const struct patch p = patch_of(m);
    float b[WIDE];
    for (int k = 0; k < v; k++) {
        b[k] = bias ? bias[p.column + k] : 0.0f;
    }
    for (int64_t r = p.row; r < p.end; r += p.step) {
        const int64_t i = r * m.columns + p.column;
        float z[WIDE];
        wide_get(x, i, v, z);
        for (int k = 0; k < v; k++) {
            z[k] += b[k];
        }
        if (kept.data) {
            wide_put(kept, i, v, z);
        }
        for (int k = 0; k < v; k++) {
            z[k] = cell_act_value(act, z[k]);
        }
        wide_put(y, i, v, z);
    }
}

KERNEL bias_act(struct tensor x, struct tensor y, struct tensor kept, const float *bias, int act,
                struct columns m)
{
    if (m.v == WIDE) {
        bias_add(x, y, kept, bias, act, m, WIDE);
    } else {
        bias_add(x, y, kept, bias, act, m, 1);
    }
}

MAG_INSIDE void bias_sums(struct tensor dz, struct tensor kept, int act, double *partial,
                          struct columns m, int v)
{
    const struct patch p = patch_of(m);
    double sums[WIDE] = {0};
    for (int64_t r = p.row; r < p.end; r += p.step) {
        const int64_t i = r * m.columns + p.column;
        float g[WIDE];
        wide_get(dz, i, v, g);
        if (act != CELL_NONE) {
            float a[WIDE];
            wide_get(kept, i, v, a);
            for (int k = 0; k < v; k++) {
                g[k] *= cell_act_slope(act, a[k]);
            }
            wide_put(dz, i, v, g);
        }
        for (int k = 0; k < v; k++) {
            sums[k] += (double)g[k];
        }
    }
    if (partial) {
        leave_sums(p, m, v, sums, partial);
    }
}

KERNEL bias_parts(struct tensor dz, struct tensor kept, int act, double *partial, struct columns m)
{
    if (m.v == WIDE) {
        bias_sums(dz, kept, act, partial, m, WIDE);
    } else {
        bias_sums(dz, kept, act, partial, m, 1);
    }
}

KERNEL bias_total(const double *partial, float *grad, struct columns m)
{
    const double sum = sum_of_parts(partial, m, (int)blockIdx.x);
    if (threadIdx.x == 0) {
        grad[blockIdx.x] = (float)sum;
    }
}

/* ---- batch normalisation ---- */

/* What a column is normalised by. */
struct norm_column {
    float mean[WIDE], inverse[WIDE], gamma[WIDE], beta[WIDE];
};

MAG_INSIDE struct norm_column norm_columns(struct batchnorm b, struct columns m, int column, int v)
{
    struct norm_column c;
    for (int k = 0; k < v; k++) {
        c.mean[k] = b.saved[column + k];
        c.inverse[k] = b.saved[m.columns + column + k];
        c.gamma[k] = b.gamma[column + k];
        c.beta[k] = b.beta[column + k];
    }
    return c;
}

MAG_INSIDE void batchnorm_sums(struct tensor x, double *partial, struct columns m, int v)
{
    const struct patch p = patch_of(m);
    double sums[WIDE] = {0};
    double squares[WIDE] = {0};
    for (int64_t r = p.row; r < p.end; r += p.step) {
        float a[WIDE];
        wide_get(x, r * m.columns + p.column, v, a);
        for (int k = 0; k < v; k++) {
            sums[k] += (double)a[k];
            squares[k] += (double)a[k] * (double)a[k];
        }
    }
    leave_sums(p, m, v, sums, partial);
    leave_sums(p, m, v, squares, second_sums(partial, m));
}

KERNEL batchnorm_parts(struct tensor x, double *partial, struct columns m)
{
    if (m.v == WIDE) {
        batchnorm_sums(x, partial, m, WIDE);
    } else {
        batchnorm_sums(x, partial, m, 1);
    }
}

KERNEL batchnorm_total(struct batchnorm b, struct columns m)
{
    const int k = (int)blockIdx.x;
    const double sum = sum_of_parts(b.partial, m, k);
    const double squares = sum_of_parts(second_sums(b.partial, m), m, k);
    if (threadIdx.x == 0) {
        const double mean = sum / (double)m.rows;
        double var = squares / (double)m.rows - mean * mean;
        var = var > 0 ? var : 0;
        const double spread = m.rows > 1 ? var * (double)m.rows / (double)(m.rows - 1) : var;
        b.saved[k] = (float)mean;
        b.saved[m.columns + k] = (float)(1.0 / sqrt(var + (double)b.epsilon));
        if ((b.idle >> (k / b.c) & 1) == 0) {
            b.mean[k] += b.momentum * ((float)mean - b.mean[k]);
            b.var[k] += b.momentum * ((float)spread - b.var[k]);
        }
    }
}

KERNEL batchnorm_running(struct batchnorm b, int columns)
{
    EACH_ITEM(k, columns)
    {
        b.saved[k] = b.mean[k];
        b.saved[columns + k] = 1.0f / sqrtf(b.var[k] + b.epsilon);
    }
}

MAG_INSIDE void batchnorm_rows(struct tensor x, struct tensor y, struct batchnorm b,
                               struct columns m, int v)
{
    const struct patch p = patch_of(m);
    const struct norm_column c = norm_columns(b, m, p.column, v);
    for (int64_t r = p.row; r < p.end; r += p.step) {
        const int64_t i = r * m.columns + p.column;
        float a[WIDE];
        wide_get(x, i, v, a);
        for (int k = 0; k < v; k++) {
            const float z = (a[k] - c.mean[k]) * c.inverse[k] * c.gamma[k] + c.beta[k];
            a[k] = cell_act_value(b.act, z);
        }
        wide_put(y, i, v, a);
    }
}

KERNEL batchnorm_apply(struct tensor x, struct tensor y, struct batchnorm b, struct columns m)
{
    if (m.v == WIDE) {
        batchnorm_rows(x, y, b, m, WIDE);
    } else {
        batchnorm_rows(x, y, b, m, 1);
    }
}

/* Of v values: x becomes the normalised values, g the gradient before the activation. */
MAG_INSIDE void norm_slopes(const struct norm_column *c, int act, int v, float *x, float *g)
{
    for (int k = 0; k < v; k++) {
        x[k] = (x[k] - c->mean[k]) * c->inverse[k];
        g[k] *= cell_act_slope_in(act, x[k] * c->gamma[k] + c->beta[k]);
    }
}

MAG_INSIDE void batchnorm_grad_sums(struct tensor x, struct tensor dy, struct batchnorm b,
                                    struct columns m, int v)
{
    const struct patch p = patch_of(m);
    const struct norm_column c = norm_columns(b, m, p.column, v);
    double sums[WIDE] = {0};
    double along[WIDE] = {0};
    for (int64_t r = p.row; r < p.end; r += p.step) {
        const int64_t i = r * m.columns + p.column;
        float a[WIDE];
        float g[WIDE];
        wide_get(x, i, v, a);
        wide_get(dy, i, v, g);
        norm_slopes(&c, b.act, v, a, g);
        for (int k = 0; k < v; k++) {
            sums[k] += (double)g[k];
            along[k] += (double)g[k] * (double)a[k];
        }
    }
    leave_sums(p, m, v, sums, b.partial);
    leave_sums(p, m, v, along, second_sums(b.partial, m));
}

KERNEL batchnorm_grad_parts(struct tensor x, struct tensor dy, struct batchnorm b, struct columns m)
{
    if (m.v == WIDE) {
        batchnorm_grad_sums(x, dy, b, m, WIDE);
    } else {
        batchnorm_grad_sums(x, dy, b, m, 1);
    }
}

KERNEL batchnorm_grad_total(struct batchnorm b, float *dgamma, float *dbeta, struct columns m)
{
    const int k = (int)blockIdx.x;
    const double sum = sum_of_parts(b.partial, m, k);
    const double along = sum_of_parts(second_sums(b.partial, m), m, k);
    if (threadIdx.x == 0) {
        dbeta[k] = (float)sum;
        dgamma[k] = (float)along;
    }
}

MAG_INSIDE void batchnorm_grads(struct tensor x, struct tensor dy, struct tensor dx,
                                struct batchnorm b, const float *dgamma, const float *dbeta,
                                struct columns m, int add, int v)
{
    const struct patch p = patch_of(m);
    const struct norm_column c = norm_columns(b, m, p.column, v);
    const float share = 1.0f / (float)m.rows;
    float all[WIDE];
    float slope[WIDE];
    for (int k = 0; k < v; k++) {
        all[k] = share * dbeta[p.column + k];
        slope[k] = share * dgamma[p.column + k];
    }
    for (int64_t r = p.row; r < p.end; r += p.step) {
        const int64_t i = r * m.columns + p.column;
        float a[WIDE];
        float g[WIDE];
        wide_get(x, i, v, a);
        wide_get(dy, i, v, g);
        norm_slopes(&c, b.act, v, a, g);
        for (int k = 0; k < v; k++) {
            g[k] = c.gamma[k] * c.inverse[k] * (g[k] - all[k] - a[k] * slope[k]);
        }
        wide_give(dx, i, v, g, add);
    }
}

KERNEL batchnorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct batchnorm b,
                      const float *dgamma, const float *dbeta, struct columns m, int add)
{
    if (m.v == WIDE) {
        batchnorm_grads(x, dy, dx, b, dgamma, dbeta, m, add, WIDE);
    } else {
        batchnorm_grads(x, dy, dx, b, dgamma, dbeta, m, add, 1);
    }
}

/* ---- layer normalisation: one block a row and lane ---- */

MAG_DEVICE int64_t layer_index(struct extent e, int64_t row, int lane, int j)
{
    return ((row * e.area + j / e.c) * e.lanes + lane) * e.c + j % e.c;
}

/* Of gamma and beta, which are [lanes][c][area]. */
MAG_DEVICE int64_t scale_index(struct extent e, int lane, int j)
{
    return ((int64_t)lane * e.c + j % e.c) * e.area + j / e.c;
}

KERNEL layernorm(struct tensor x, struct tensor y, struct layernorm b, struct extent e)
{
    const int64_t row = blockIdx.x / (unsigned)e.lanes;
    const int lane = (int)(blockIdx.x % (unsigned)e.lanes);
    const int width = e.area * e.c;
    double sum = 0;
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        sum += (double)tensor_at(x, layer_index(e, row, lane, j));
    }
    const double mean = block_sum(sum) / width;
    double squares = 0;
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        const double off = (double)tensor_at(x, layer_index(e, row, lane, j)) - mean;
        squares += off * off;
    }
    const double var = block_sum(squares) / width;
    const float inverse = (float)(1.0 / sqrt(var + (double)b.epsilon));
    if (threadIdx.x == 0) {
        b.saved[blockIdx.x] = (float)mean;
        b.saved[e.rows * e.lanes + blockIdx.x] = inverse;
    }
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        const int64_t i = layer_index(e, row, lane, j);
        const int64_t k = scale_index(e, lane, j);
        const float z = (tensor_at(x, i) - (float)mean) * inverse * b.gamma[k] + b.beta[k];
        tensor_put(y, i, cell_act_value(b.act, z));
    }
}

/* The gradient before the activation, of a value that is v when normalised. */
MAG_DEVICE float layer_slope(const struct layernorm *b, float dy, float v, int64_t k)
{
    return dy * cell_act_slope_in(b->act, v * b->gamma[k] + b->beta[k]);
}

KERNEL layernorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct layernorm b,
                      struct extent e, int add)
{
    const int64_t row = blockIdx.x / (unsigned)e.lanes;
    const int lane = (int)(blockIdx.x % (unsigned)e.lanes);
    const int width = e.area * e.c;
    const float mean = b.saved[blockIdx.x];
    const float inverse = b.saved[e.rows * e.lanes + blockIdx.x];
    double sum = 0;
    double along = 0;
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        const int64_t i = layer_index(e, row, lane, j);
        const int64_t k = scale_index(e, lane, j);
        const float v = (tensor_at(x, i) - mean) * inverse;
        const float g = layer_slope(&b, tensor_at(dy, i), v, k) * b.gamma[k];
        sum += (double)g;
        along += (double)g * (double)v;
    }
    const float all = (float)(block_sum(sum) / width);
    const float slope = (float)(block_sum(along) / width);
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        const int64_t i = layer_index(e, row, lane, j);
        const int64_t k = scale_index(e, lane, j);
        const float v = (tensor_at(x, i) - mean) * inverse;
        const float g = layer_slope(&b, tensor_at(dy, i), v, k) * b.gamma[k];
        tensor_give(dx, i, inverse * (g - all - v * slope), add);
    }
}

/* One block an entry of gamma and beta. */
KERNEL layernorm_grads(struct tensor x, struct tensor dy, struct layernorm b, float *dgamma,
                       float *dbeta, struct extent e)
{
    const int width = e.area * e.c;
    EACH_BLOCK(entry, (int64_t)e.lanes * width)
    {
        const int lane = (int)(entry / width);
        const int j = (int)(entry % width);
        const int64_t k = scale_index(e, lane, j);
        double sum = 0;
        double along = 0;
        for (int64_t row = threadIdx.x; row < e.rows; row += blockDim.x) {
            const int64_t i = layer_index(e, row, lane, j);
            const int64_t at = row * e.lanes + lane;
            const float v = (tensor_at(x, i) - b.saved[at]) * b.saved[e.rows * e.lanes + at];
            const float g = layer_slope(&b, tensor_at(dy, i), v, k);
            sum += (double)g;
            along += (double)g * (double)v;
        }
        sum = block_sum(sum);
        along = block_sum(along);
        if (threadIdx.x == 0) {
            dbeta[k] = (float)sum;
            dgamma[k] = (float)along;
        }
    }
}

/* ---- launchers ---- */

KERNELS_BEGIN

void k_bias_act(struct tensor x, struct tensor y, void *kept, const float *bias, int act,
                struct extent e, void *stream)
{
    const struct columns m = columns_of(e);
    const struct tensor k = {kept, y.bf16, y.lanes};
    COLUMN_KERNEL(bias_act, m, stream, x, y, k, bias, act, m);
}

void k_bias_back(struct tensor dz, struct tensor kept, int act, float *bias, double *partial,
                 struct extent e, void *stream)
{
    const struct columns m = columns_of(e);
    if (bias || act != CELL_NONE) {
        double *sums = bias ? partial : NULL;
        COLUMN_KERNEL(bias_parts, m, stream, dz, kept, act, sums, m);
    }
    if (bias) {
        LAUNCH_BLOCKS(bias_total, m.columns, stream, partial, bias, m);
    }
}

void k_batchnorm(struct tensor x, struct tensor y, struct batchnorm b, struct extent e,
                 int training, void *stream)
{
    const struct columns m = columns_of(e);
    if (training) {
        COLUMN_KERNEL(batchnorm_parts, m, stream, x, b.partial, m);
        LAUNCH_BLOCKS(batchnorm_total, m.columns, stream, b, m);
    } else {
        LAUNCH_EACH(batchnorm_running, m.columns, stream, b, m.columns);
    }
    COLUMN_KERNEL(batchnorm_apply, m, stream, x, y, b, m);
}

void k_batchnorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct batchnorm b,
                      float *dgamma, float *dbeta, struct extent e, int add, void *stream)
{
    const struct columns m = columns_of(e);
    COLUMN_KERNEL(batchnorm_grad_parts, m, stream, x, dy, b, m);
    LAUNCH_BLOCKS(batchnorm_grad_total, m.columns, stream, b, dgamma, dbeta, m);
    if (dx.data) {
        COLUMN_KERNEL(batchnorm_back, m, stream, x, dy, dx, b, dgamma, dbeta, m, add);
    }
}

void k_layernorm(struct tensor x, struct tensor y, struct layernorm b, struct extent e,
                 void *stream)
{
    LAUNCH_BLOCKS(layernorm, e.rows * e.lanes, stream, x, y, b, e);
}

void k_layernorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct layernorm b,
                      float *dgamma, float *dbeta, struct extent e, int add, void *stream)
{
    LAUNCH_BLOCKS(layernorm_grads, (int64_t)e.lanes * e.area * e.c, stream, x, dy, b, dgamma, dbeta,
                  e);
    if (dx.data) {
        LAUNCH_BLOCKS(layernorm_back, e.rows * e.lanes, stream, x, dy, dx, b, e, add);
    }
}

KERNELS_END
