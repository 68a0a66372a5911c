/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses: one block a row compares its outputs with the label or target and leaves the gradient of
 * the mean loss; then one block adds the rows up in their order.
 */
#include "trainer/cuda/kernels.h"

MAG_INSIDE double cross_entropy_row(struct head h, int64_t first, int label, float max, float scale)
{
    const float off = h.smoothing / (float)h.width;
    const float on = 1.0f - h.smoothing + off;
    double sum = 0;
    double spread = 0; /* of all classes, where they are targets */
    for (int k = (int)threadIdx.x; k < h.width; k += (int)blockDim.x) {
        const float z = tensor_at(h.out, first + k) - max;
        sum += (double)expf(z);
        spread += h.smoothing > 0 ? (double)z : 0.0;
    }
    sum = block_sum(sum);
    spread = block_sum(spread);
    for (int k = (int)threadIdx.x; h.grad.data && k < h.width; k += (int)blockDim.x) {
        const float p = expf(tensor_at(h.out, first + k) - max) / (float)sum;
        tensor_put(h.grad, first + k, (p - (k == label ? on : off)) * scale);
    }
    const double right = label >= 0 ? (double)(tensor_at(h.out, first + label) - max) : 0;
    return log(sum) - (1.0 - (double)h.smoothing) * right - (double)off * spread;
}

MAG_INSIDE double mse_row(struct head h, int64_t first, int label, float target, float scale)
{
    double sum = 0;
    for (int k = (int)threadIdx.x; k < h.width; k += (int)blockDim.x) {
        const float t = label >= 0 ? (k == label ? 1.0f : 0.0f) : target;
        const float off = tensor_at(h.out, first + k) - t;
        sum += (double)off * (double)off;
        if (h.grad.data) {
            tensor_put(h.grad, first + k, 2.0f * off * scale / (float)h.width);
        }
    }
    return block_sum(sum) / h.width;
}

/* log(1 + exp(z)) - t z, without large exponentials. */
MAG_INSIDE double logistic_row(struct head h, int64_t first, int label, float scale)
{
    const float z = tensor_at(h.out, first);
    const float t = (float)label * (1.0f - h.smoothing) + h.smoothing / 2;
    const float e = expf(-fabsf(z));
    if (h.grad.data && threadIdx.x == 0) {
        tensor_put(h.grad, first, ((z >= 0 ? 1.0f : e) / (1.0f + e) - t) * scale);
    }
    return (double)((z > 0 ? z : 0.0f) - z * t + log1pf(e));
}

KERNEL head_rows(struct head h)
{
    const int64_t row = blockIdx.x;
    const int64_t first = (row * h.out.lanes + h.lane) * h.width;
    const int label = h.labels ? h.labels[h.rows[row]] : -1;
    const float target = h.targets ? h.targets[h.rows[row]] : 0;
    const float scale = 1.0f / (float)h.whole;
    float best = -INFINITY;
    int said = h.width;
    for (int k = (int)threadIdx.x; k < h.width; k += (int)blockDim.x) {
        const float z = tensor_at(h.out, first + k);
        if (z > best || said == h.width) {
            best = z;
            said = k;
        }
    }
    best = block_largest(best, said, &said);
    double loss = 0;
    if (h.kind == CELL_CROSS_ENTROPY) {
        loss = cross_entropy_row(h, first, label, best, scale);
    } else if (h.kind == CELL_MSE) {
        loss = mse_row(h, first, label, target, scale);
    } else {
        loss = logistic_row(h, first, label, scale);
        said = best > 0 ? 1 : 0;
    }
    if (threadIdx.x == 0) {
        h.row_loss[row] = loss;
        h.row_said[row] = label >= 0 && said == label;
    }
}

KERNEL head_total(struct head h)
{
    double loss = 0;
    double correct = 0;
    for (int row = (int)threadIdx.x; row < h.n; row += (int)blockDim.x) {
        loss += h.row_loss[row];
        correct += (double)h.row_said[row];
    }
    loss = block_sum(loss);
    correct = block_sum(correct);
    if (threadIdx.x == 0) {
        h.add->loss += loss;
        h.add->correct += (int64_t)correct;
        h.add->rows += h.n;
    }
}

KERNELS_BEGIN

void k_head(const struct head *h, void *stream)
{
    LAUNCH_BLOCKS(head_rows, h->n, stream, *h);
    LAUNCH_BLOCKS(head_total, 1, stream, *h);
}

KERNELS_END
