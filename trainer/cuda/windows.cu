/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels with a window that slides over an image: pooling, and convolutions for the shapes that
 * cuDNN has no kernel for. Gradients are gathered by whoever receives them, never scattered, so
 * that their sums have one order.
 */
#include "trainer/cuda/kernels.h"

/* Of index i in [row][h][w][columns]. */
struct place {
    int64_t row;
    int h, w, column;
};

MAG_DEVICE struct place place_of(int64_t i, int height, int width, int columns)
{
    struct place p;
    p.column = rest_of(i, columns);
    i = quotient_of(i, columns);
    p.w = rest_of(i, width);
    i = quotient_of(i, width);
    p.h = rest_of(i, height);
    p.row = quotient_of(i, height);
    return p;
}

MAG_DEVICE int64_t place_index(int64_t row, int h, int w, int height, int width, int columns,
                               int column)
{
    return ((row * height + h) * width + w) * columns + column;
}

/* The outputs o whose window covers input h: first .. last. */
MAG_DEVICE int first_window(int h, struct window w)
{
    const int from = h + w.pad - w.kernel + 1;
    return from <= 0 ? 0 : (from + w.stride - 1) / w.stride;
}

MAG_DEVICE int last_window(int h, struct window w, int outputs)
{
    const int last = (h + w.pad) / w.stride;
    return last < outputs ? last : outputs - 1;
}

/* ---- pooling; lanes are columns beside each other, so a shared input is spread before ---- */

KERNEL maxpool(struct tensor x, struct tensor y, uint16_t *kept, struct window w, int columns,
               int64_t n)
{
    EACH_ITEM(i, n)
    {
        const struct place o = place_of(i, w.out_h, w.out_w, columns);
        float best = -INFINITY;
        int found = -1;
        for (int t = 0; t < w.kernel * w.kernel; t++) {
            const int h = o.h * w.stride - w.pad + t / w.kernel;
            const int v = o.w * w.stride - w.pad + t % w.kernel;
            if (h < 0 || h >= w.in_h || v < 0 || v >= w.in_w) {
                continue;
            }
            const float a =
                tensor_at(x, place_index(o.row, h, v, w.in_h, w.in_w, columns, o.column));
            if (found < 0 || a > best) {
                best = a;
                found = t;
            }
        }
        kept[i] = (uint16_t)found;
        tensor_put(y, i, best);
    }
}

KERNEL maxpool_back(struct tensor dy, const uint16_t *kept, struct tensor dx, struct window w,
                    int columns, int add, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const struct place at = place_of(i, w.in_h, w.in_w, columns);
        float sum = 0;
        for (int p = first_window(at.h, w); p <= last_window(at.h, w, w.out_h); p++) {
            for (int q = first_window(at.w, w); q <= last_window(at.w, w, w.out_w); q++) {
                const int64_t o = place_index(at.row, p, q, w.out_h, w.out_w, columns, at.column);
                const int t =
                    (at.h - p * w.stride + w.pad) * w.kernel + at.w - q * w.stride + w.pad;
                sum += kept[o] == t ? tensor_at(dy, o) : 0.0f;
            }
        }
        tensor_give(dx, i, sum, add);
    }
}

KERNEL avgpool(struct tensor x, struct tensor y, struct window w, int columns, int64_t n)
{
    const float share = 1.0f / (float)(w.kernel * w.kernel);
    EACH_ITEM(i, n)
    {
        const struct place o = place_of(i, w.out_h, w.out_w, columns);
        float sum = 0;
        for (int t = 0; t < w.kernel * w.kernel; t++) {
            const int h = o.h * w.stride - w.pad + t / w.kernel;
            const int v = o.w * w.stride - w.pad + t % w.kernel;
            if (h >= 0 && h < w.in_h && v >= 0 && v < w.in_w) {
                sum += tensor_at(x, place_index(o.row, h, v, w.in_h, w.in_w, columns, o.column));
            }
        }
        tensor_put(y, i, sum * share);
    }
}

KERNEL avgpool_back(struct tensor dy, struct tensor dx, struct window w, int columns, int add,
                    int64_t n)
{
    const float share = 1.0f / (float)(w.kernel * w.kernel);
    EACH_ITEM(i, n)
    {
        const struct place at = place_of(i, w.in_h, w.in_w, columns);
        float sum = 0;
        for (int p = first_window(at.h, w); p <= last_window(at.h, w, w.out_h); p++) {
            for (int q = first_window(at.w, w); q <= last_window(at.w, w, w.out_w); q++) {
                sum +=
                    tensor_at(dy, place_index(at.row, p, q, w.out_h, w.out_w, columns, at.column));
            }
        }
        tensor_give(dx, i, sum * share, add);
    }
}

KERNEL globalpool(struct tensor x, struct tensor y, int32_t *kept, int area, int columns, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int64_t from = i / columns * area * columns + i % columns;
        float sum = 0;
        int found = 0;
        for (int p = 0; p < area; p++) {
            const float a = tensor_at(x, from + (int64_t)p * columns);
            if (!kept) {
                sum += a;
            } else if (p == 0 || a > sum) {
                sum = a;
                found = p;
            }
        }
        if (kept) {
            kept[i] = found;
        }
        tensor_put(y, i, kept ? sum : sum / (float)area);
    }
}

KERNEL globalpool_back(struct tensor dy, const int32_t *kept, struct tensor dx, int area,
                       int columns, int add, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int p = (int)(i / columns % area);
        const int64_t o = i / columns / area * columns + i % columns;
        const float g = tensor_at(dy, o);
        tensor_give(dx, i, kept ? (kept[o] == p ? g : 0.0f) : g / (float)area, add);
    }
}

/* ---- convolutions ---- */

KERNEL conv(struct tensor x, struct tensor wt, struct tensor y, struct filter f, int lanes,
            int64_t n)
{
    const struct window w = f.w;
    const int each = f.c / f.groups;
    EACH_ITEM(i, n)
    {
        const struct place o = place_of(i, w.out_h, w.out_w, lanes * f.k);
        const int lane = o.column / f.k;
        const int from = o.column % f.k / (f.k / f.groups) * each; /* first channel of the group */
        const int column = (x.lanes == 1 ? 0 : lane * f.c) + from;
        float sum = 0;
        for (int t = 0; t < w.kernel * w.kernel; t++) {
            const int h = o.h * w.stride - w.pad + t / w.kernel;
            const int v = o.w * w.stride - w.pad + t % w.kernel;
            if (h < 0 || h >= w.in_h || v < 0 || v >= w.in_w) {
                continue;
            }
            const int64_t a = place_index(o.row, h, v, w.in_h, w.in_w, x.lanes * f.c, column);
            const int64_t b = ((int64_t)o.column * w.kernel * w.kernel + t) * each;
            for (int c = 0; c < each; c++) {
                sum += tensor_at(x, a + c) * tensor_at(wt, b + c);
            }
        }
        tensor_put(y, i, sum);
    }
}

KERNEL conv_dx(struct tensor dy, struct tensor wt, struct tensor dx, struct filter f, int lanes,
               int add, int64_t n)
{
    const struct window w = f.w;
    const int each = f.c / f.groups;
    const int filters = f.k / f.groups;
    EACH_ITEM(i, n)
    {
        const struct place at = place_of(i, w.in_h, w.in_w, lanes * f.c);
        const int lane = at.column / f.c;
        const int c = at.column % f.c;
        const int first = lane * f.k + c / each * filters; /* filter of the group, over all lanes */
        float sum = 0;
        for (int p = first_window(at.h, w); p <= last_window(at.h, w, w.out_h); p++) {
            for (int q = first_window(at.w, w); q <= last_window(at.w, w, w.out_w); q++) {
                const int t =
                    (at.h - p * w.stride + w.pad) * w.kernel + at.w - q * w.stride + w.pad;
                const int64_t o = place_index(at.row, p, q, w.out_h, w.out_w, lanes * f.k, first);
                for (int k = 0; k < filters; k++) {
                    const int64_t b =
                        ((int64_t)(first + k) * w.kernel * w.kernel + t) * each + c % each;
                    sum += tensor_at(dy, o + k) * tensor_at(wt, b);
                }
            }
        }
        tensor_give(dx, i, sum, add);
    }
}

/* One block a weight: its threads share the rows and positions. */
KERNEL conv_dw(struct tensor x, struct tensor dy, struct tensor dw, struct filter f, int64_t rows,
               int lanes, int64_t n)
{
    const struct window w = f.w;
    const int each = f.c / f.groups;
    const int area = w.kernel * w.kernel;
    EACH_BLOCK(weight, n)
    {
        const int c = (int)(weight % each);
        const int t = (int)(weight / each % area);
        const int column = (int)(weight / each / area);
        const int lane = column / f.k;
        const int group = column % f.k / (f.k / f.groups);
        const int from = (x.lanes == 1 ? 0 : lane * f.c) + group * each + c;
        double sum = 0;
        for (int64_t i = threadIdx.x; i < rows * w.out_h * w.out_w; i += blockDim.x) {
            const struct place o = place_of(i, w.out_h, w.out_w, 1);
            const int h = o.h * w.stride - w.pad + t / w.kernel;
            const int v = o.w * w.stride - w.pad + t % w.kernel;
            if (h >= 0 && h < w.in_h && v >= 0 && v < w.in_w) {
                const int64_t a = place_index(o.row, h, v, w.in_h, w.in_w, x.lanes * f.c, from);
                sum += (double)tensor_at(x, a) * (double)tensor_at(dy, i * lanes * f.k + column);
            }
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) {
            tensor_put(dw, weight, (float)sum);
        }
    }
}

/* ---- launchers ---- */

KERNELS_BEGIN

void k_maxpool(struct tensor x, struct tensor y, uint16_t *kept, struct window w, struct extent e,
               void *stream)
{
    const int64_t n = e.rows * w.out_h * w.out_w * e.lanes * e.c;
    LAUNCH_EACH(maxpool, n, stream, x, y, kept, w, e.lanes * e.c, n);
}

void k_maxpool_back(struct tensor dy, const uint16_t *kept, struct tensor dx, struct window w,
                    struct extent e, int add, void *stream)
{
    const int64_t n = e.rows * w.in_h * w.in_w * e.lanes * e.c;
    LAUNCH_EACH(maxpool_back, n, stream, dy, kept, dx, w, e.lanes * e.c, add, n);
}

void k_avgpool(struct tensor x, struct tensor y, struct window w, struct extent e, void *stream)
{
    const int64_t n = e.rows * w.out_h * w.out_w * e.lanes * e.c;
    LAUNCH_EACH(avgpool, n, stream, x, y, w, e.lanes * e.c, n);
}

void k_avgpool_back(struct tensor dy, struct tensor dx, struct window w, struct extent e, int add,
                    void *stream)
{
    const int64_t n = e.rows * w.in_h * w.in_w * e.lanes * e.c;
    LAUNCH_EACH(avgpool_back, n, stream, dy, dx, w, e.lanes * e.c, add, n);
}

void k_globalpool(struct tensor x, struct tensor y, int32_t *kept, struct extent e, void *stream)
{
    const int64_t n = e.rows * e.lanes * e.c;
    LAUNCH_EACH(globalpool, n, stream, x, y, kept, e.area, e.lanes * e.c, n);
}

void k_globalpool_back(struct tensor dy, const int32_t *kept, struct tensor dx, struct extent e,
                       int add, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(globalpool_back, n, stream, dy, kept, dx, e.area, e.lanes * e.c, add, n);
}

void k_conv(struct tensor x, struct tensor w, struct tensor y, struct filter f, int64_t rows,
            int lanes, void *stream)
{
    const int64_t n = rows * f.w.out_h * f.w.out_w * lanes * f.k;
    LAUNCH_EACH(conv, n, stream, x, w, y, f, lanes, n);
}

void k_conv_dx(struct tensor dy, struct tensor w, struct tensor dx, struct filter f, int64_t rows,
               int lanes, int add, void *stream)
{
    const int64_t n = rows * f.w.in_h * f.w.in_w * lanes * f.c;
    LAUNCH_EACH(conv_dx, n, stream, dy, w, dx, f, lanes, add, n);
}

void k_conv_dw(struct tensor x, struct tensor dy, struct tensor dw, struct filter f, int64_t rows,
               int lanes, void *stream)
{
    const int64_t n = (int64_t)lanes * f.k * f.w.kernel * f.w.kernel * (f.c / f.groups);
    LAUNCH_BLOCKS(conv_dw, n, stream, x, dy, dw, f, rows, lanes, n);
}

KERNELS_END
