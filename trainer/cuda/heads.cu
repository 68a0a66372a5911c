/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses: one block a row and lane compares its outputs with the label or target and leaves the
 * gradient of the mean loss; then one block a lane adds the rows up in a fixed order.
 */
#include "trainer/cuda/kernels.h"

MAG_INSIDE double cross_entropy_row(const struct head *h, int64_t first, int label, float max,
                                    float smoothing, float scale)
{
    const float off = smoothing / (float)h->width;
    const float on = 1.0f - smoothing + off;
    double sum = 0;
    double spread = 0; /* of all classes, where they are targets */
    for (int k = (int)threadIdx.x; k < h->width; k += (int)blockDim.x) {
        const float z = tensor_at(h->out, first + k) - max;
        sum += (double)expf(z);
        spread += smoothing > 0 ? (double)z : 0.0;
    }
    sum = block_sum(sum);
    spread = block_sum(spread);
    for (int k = (int)threadIdx.x; h->grad.data && k < h->width; k += (int)blockDim.x) {
        const float p = expf(tensor_at(h->out, first + k) - max) / (float)sum;
        tensor_put(h->grad, first + k, (p - (k == label ? on : off)) * scale);
    }
    const double right = label >= 0 ? (double)(tensor_at(h->out, first + label) - max) : 0;
    return log(sum) - (1.0 - (double)smoothing) * right - (double)off * spread;
}

MAG_INSIDE double mse_row(const struct head *h, int64_t first, int label, float target, float scale)
{
    double sum = 0;
    for (int k = (int)threadIdx.x; k < h->width; k += (int)blockDim.x) {
        const float t = label >= 0 ? (k == label ? 1.0f : 0.0f) : target;
        const float off = tensor_at(h->out, first + k) - t;
        sum += (double)off * (double)off;
        if (h->grad.data) {
            tensor_put(h->grad, first + k, 2.0f * off * scale / (float)h->width);
        }
    }
    return block_sum(sum) / h->width;
}

/* log(1 + exp(z)) - t z, without large exponentials. */
MAG_INSIDE double logistic_row(const struct head *h, int64_t first, int label, float smoothing,
                               float scale)
{
    const float z = tensor_at(h->out, first);
    const float t = (float)label * (1.0f - smoothing) + smoothing / 2;
    const float e = expf(-fabsf(z));
    if (h->grad.data && threadIdx.x == 0) {
        tensor_put(h->grad, first, ((z >= 0 ? 1.0f : e) / (1.0f + e) - t) * scale);
    }
    return (double)((z > 0 ? z : 0.0f) - z * t + log1pf(e));
}

KERNEL head_rows(struct head h)
{
    const int64_t row = blockIdx.x / (unsigned)h.lanes;
    const int lane = (int)(blockIdx.x % (unsigned)h.lanes);
    const int64_t at = (int64_t)lane * h.stride + row;
    if ((h.mask >> lane & 1) == 0) {
        return; /* the whole block */
    }
    const int64_t first = (row * h.lanes + lane) * h.width;
    const int label = h.labels ? h.labels[h.rows[at]] : -1;
    const float target = h.targets ? h.targets[h.rows[at]] : 0;
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
        loss = cross_entropy_row(&h, first, label, best, h.smoothing[lane], scale);
    } else if (h.kind == CELL_MSE) {
        loss = mse_row(&h, first, label, target, scale);
    } else {
        loss = logistic_row(&h, first, label, h.smoothing[lane], scale);
        said = best > 0 ? 1 : 0;
    }
    if (threadIdx.x == 0) {
        h.row_loss[at] = loss;
        h.row_said[at] = label >= 0 && said == label;
    }
}

KERNEL head_total(struct head h)
{
    const int lane = (int)blockIdx.x;
    if ((h.mask >> lane & 1) == 0) {
        return; /* the whole block */
    }
    double loss = 0;
    double correct = 0;
    for (int row = (int)threadIdx.x; row < h.n; row += (int)blockDim.x) {
        loss += h.row_loss[(int64_t)lane * h.stride + row];
        correct += (double)h.row_said[(int64_t)lane * h.stride + row];
    }
    loss = block_sum(loss);
    correct = block_sum(correct);
    if (threadIdx.x == 0) {
        h.add[lane].loss += loss;
        h.add[lane].correct += (int64_t)correct;
        h.add[lane].rows += h.n;
    }
}

KERNELS_BEGIN

void k_head(const struct head *h, void *stream)
{
    LAUNCH_BLOCKS(head_rows, (int64_t)h->n * h->lanes, stream, *h);
    LAUNCH_BLOCKS(head_total, h->lanes, stream, *h);
}

KERNELS_END
