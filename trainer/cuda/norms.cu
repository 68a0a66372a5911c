/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels that sum over a batch: gradients of biases, batch and layer normalisation. Sums go in two
 * stages of a fixed shape: parts of the rows, then the parts of a column by one block.
 */
#include "trainer/cuda/kernels.h"

MAG_INSIDE double sum_of_parts(const double *partial, struct columns m, int column)
{
    double sum = 0;
    for (int part = (int)threadIdx.x; part < m.parts; part += (int)blockDim.x) {
        sum += partial[(int64_t)part * m.columns + column];
    }
    return block_sum(sum);
}

/* ---- biases ---- */

KERNEL bias_parts(struct tensor dz, double *partial, struct columns m)
{
    EACH_ITEM(i, (int64_t)m.parts * m.columns)
    {
        const int64_t first = i / m.columns * m.each;
        double sum = 0;
        for (int64_t r = first; r < first + m.each && r < m.rows; r++) {
            sum += (double)tensor_at(dz, r * m.columns + i % m.columns);
        }
        partial[i] = sum;
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

KERNEL batchnorm_parts(struct tensor x, double *partial, struct columns m)
{
    EACH_ITEM(i, (int64_t)m.parts * m.columns)
    {
        const int64_t first = i / m.columns * m.each;
        double sum = 0;
        double squares = 0;
        for (int64_t r = first; r < first + m.each && r < m.rows; r++) {
            const double v = (double)tensor_at(x, r * m.columns + i % m.columns);
            sum += v;
            squares += v * v;
        }
        partial[i] = sum;
        partial[(int64_t)m.parts * m.columns + i] = squares;
    }
}

KERNEL batchnorm_total(struct batchnorm b, struct columns m)
{
    const int k = (int)blockIdx.x;
    const double sum = sum_of_parts(b.partial, m, k);
    const double squares = sum_of_parts(b.partial + (int64_t)m.parts * m.columns, m, k);
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

KERNEL batchnorm_apply(struct tensor x, struct tensor y, struct batchnorm b, int columns, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int k = (int)(i % columns);
        const float v = (tensor_at(x, i) - b.saved[k]) * b.saved[columns + k];
        tensor_put(y, i, v * b.gamma[k] + b.beta[k]);
    }
}

KERNEL batchnorm_grad_parts(struct tensor x, struct tensor dy, struct batchnorm b, struct columns m)
{
    EACH_ITEM(i, (int64_t)m.parts * m.columns)
    {
        const int k = (int)(i % m.columns);
        const int64_t first = i / m.columns * m.each;
        double sum = 0;
        double along = 0;
        for (int64_t r = first; r < first + m.each && r < m.rows; r++) {
            const float g = tensor_at(dy, r * m.columns + k);
            const float v = (tensor_at(x, r * m.columns + k) - b.saved[k]) * b.saved[m.columns + k];
            sum += (double)g;
            along += (double)g * (double)v;
        }
        b.partial[i] = sum;
        b.partial[(int64_t)m.parts * m.columns + i] = along;
    }
}

KERNEL batchnorm_grad_total(struct batchnorm b, float *dgamma, float *dbeta, struct columns m)
{
    const int k = (int)blockIdx.x;
    const double sum = sum_of_parts(b.partial, m, k);
    const double along = sum_of_parts(b.partial + (int64_t)m.parts * m.columns, m, k);
    if (threadIdx.x == 0) {
        dbeta[k] = (float)sum;
        dgamma[k] = (float)along;
    }
}

KERNEL batchnorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct batchnorm b,
                      const float *dgamma, const float *dbeta, struct columns m, int add, int64_t n)
{
    const float share = 1.0f / (float)m.rows;
    EACH_ITEM(i, n)
    {
        const int k = (int)(i % m.columns);
        const float v = (tensor_at(x, i) - b.saved[k]) * b.saved[m.columns + k];
        const float g = tensor_at(dy, i) - share * (dbeta[k] + v * dgamma[k]);
        tensor_give(dx, i, b.gamma[k] * b.saved[m.columns + k] * g, add);
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

KERNEL layernorm(struct tensor x, struct tensor y, const float *gamma, const float *beta,
                 float *saved, float epsilon, struct extent e)
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
    const float inverse = (float)(1.0 / sqrt(var + (double)epsilon));
    if (threadIdx.x == 0) {
        saved[blockIdx.x] = (float)mean;
        saved[e.rows * e.lanes + blockIdx.x] = inverse;
    }
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        const int64_t i = layer_index(e, row, lane, j);
        const int64_t k = scale_index(e, lane, j);
        tensor_put(y, i, (tensor_at(x, i) - (float)mean) * inverse * gamma[k] + beta[k]);
    }
}

KERNEL layernorm_back(struct tensor x, struct tensor dy, struct tensor dx, const float *gamma,
                      const float *saved, struct extent e, int add)
{
    const int64_t row = blockIdx.x / (unsigned)e.lanes;
    const int lane = (int)(blockIdx.x % (unsigned)e.lanes);
    const int width = e.area * e.c;
    const float mean = saved[blockIdx.x];
    const float inverse = saved[e.rows * e.lanes + blockIdx.x];
    double sum = 0;
    double along = 0;
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        const int64_t i = layer_index(e, row, lane, j);
        const float g = tensor_at(dy, i) * gamma[scale_index(e, lane, j)];
        sum += (double)g;
        along += (double)g * (double)((tensor_at(x, i) - mean) * inverse);
    }
    const float all = (float)(block_sum(sum) / width);
    const float slope = (float)(block_sum(along) / width);
    for (int j = (int)threadIdx.x; j < width; j += (int)blockDim.x) {
        const int64_t i = layer_index(e, row, lane, j);
        const float g = tensor_at(dy, i) * gamma[scale_index(e, lane, j)];
        const float v = (tensor_at(x, i) - mean) * inverse;
        tensor_give(dx, i, inverse * (g - all - v * slope), add);
    }
}

/* One block an entry of gamma and beta. */
KERNEL layernorm_grads(struct tensor x, struct tensor dy, float *dgamma, float *dbeta,
                       const float *saved, struct extent e)
{
    const int width = e.area * e.c;
    const int lane = (int)(blockIdx.x / (unsigned)width);
    const int j = (int)(blockIdx.x % (unsigned)width);
    double sum = 0;
    double along = 0;
    for (int64_t row = threadIdx.x; row < e.rows; row += blockDim.x) {
        const int64_t i = layer_index(e, row, lane, j);
        const int64_t at = row * e.lanes + lane;
        const float g = tensor_at(dy, i);
        sum += (double)g;
        along += (double)g * (double)((tensor_at(x, i) - saved[at]) * saved[e.rows * e.lanes + at]);
    }
    sum = block_sum(sum);
    along = block_sum(along);
    if (threadIdx.x == 0) {
        dbeta[scale_index(e, lane, j)] = (float)sum;
        dgamma[scale_index(e, lane, j)] = (float)along;
    }
}

/* ---- launchers ---- */

KERNELS_BEGIN

void k_bias_grad(struct tensor dz, float *grad, double *partial, struct extent e, void *stream)
{
    const struct columns m = columns_of(e);
    LAUNCH_EACH(bias_parts, (int64_t)m.parts * m.columns, stream, dz, partial, m);
    LAUNCH_BLOCKS(bias_total, m.columns, stream, partial, grad, m);
}

void k_batchnorm(struct tensor x, struct tensor y, struct batchnorm b, struct extent e,
                 int training, void *stream)
{
    const struct columns m = columns_of(e);
    const int64_t n = extent_size(e);
    if (training) {
        LAUNCH_EACH(batchnorm_parts, (int64_t)m.parts * m.columns, stream, x, b.partial, m);
        LAUNCH_BLOCKS(batchnorm_total, m.columns, stream, b, m);
    } else {
        LAUNCH_EACH(batchnorm_running, m.columns, stream, b, m.columns);
    }
    LAUNCH_EACH(batchnorm_apply, n, stream, x, y, b, m.columns, n);
}

void k_batchnorm_back(struct tensor x, struct tensor dy, struct tensor dx, struct batchnorm b,
                      float *dgamma, float *dbeta, struct extent e, int add, void *stream)
{
    const struct columns m = columns_of(e);
    const int64_t n = extent_size(e);
    LAUNCH_EACH(batchnorm_grad_parts, (int64_t)m.parts * m.columns, stream, x, dy, b, m);
    LAUNCH_BLOCKS(batchnorm_grad_total, m.columns, stream, b, dgamma, dbeta, m);
    if (dx.data) {
        LAUNCH_EACH(batchnorm_back, n, stream, x, dy, dx, b, dgamma, dbeta, m, add, n);
    }
}

void k_layernorm(struct tensor x, struct tensor y, const float *gamma, const float *beta,
                 float *saved, float epsilon, struct extent e, void *stream)
{
    LAUNCH_BLOCKS(layernorm, e.rows * e.lanes, stream, x, y, gamma, beta, saved, epsilon, e);
}

void k_layernorm_back(struct tensor x, struct tensor dy, struct tensor dx, const float *gamma,
                      float *dgamma, float *dbeta, const float *saved, struct extent e, int add,
                      void *stream)
{
    LAUNCH_BLOCKS(layernorm_grads, (int64_t)e.lanes * e.area * e.c, stream, x, dy, dgamma, dbeta,
                  saved, e);
    if (dx.data) {
        LAUNCH_BLOCKS(layernorm_back, e.rows * e.lanes, stream, x, dy, dx, gamma, saved, e, add);
    }
}

KERNELS_END
