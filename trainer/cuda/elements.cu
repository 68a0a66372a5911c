/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels that give every value to one thread: loading examples, activations, sums and slices,
 * dropout.
 */
#include "trainer/cuda/kernels.h"

/* ---- loading ---- */

/* The value at position p of a row's image as `change` leaves it; augment.h has the rule. */
MAG_DEVICE float changed_value(const struct gather *g, struct cell_change change, int64_t image,
                               int c, int p)
{
    const int y = p / g->w;
    const int x = p % g->w;
    const int from_y = y + change.dy;
    const int from_x = (change.flip ? g->w - 1 - x : x) + change.dx;
    const int cut =
        y >= change.cut_y0 && y < change.cut_y1 && x >= change.cut_x0 && x < change.cut_x1;
    if (cut || from_y < 0 || from_y >= g->h || from_x < 0 || from_x >= g->w) {
        return 0;
    }
    const int64_t from = (image * g->e.c + c) * g->e.area + (int64_t)from_y * g->w + from_x;
    return g->bytes ? (float)g->bytes[from] * g->scale : g->values[from];
}

KERNEL gather(struct gather g, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int c = rest_of(i, g.e.c);
        const int64_t place = quotient_of(i, g.e.c);
        const int lane = rest_of(place, g.e.lanes);
        const int64_t at = quotient_of(place, g.e.lanes);
        const int p = rest_of(at, g.e.area);
        const int64_t row = quotient_of(at, g.e.area);
        if ((g.mask >> lane & 1) == 0) {
            continue;
        }
        const int64_t staged = (int64_t)lane * g.stride + row;
        const int64_t image = g.rows ? (int64_t)g.rows[staged] : row;
        float v;
        if (g.changes) {
            v = changed_value(&g, g.changes[staged], image, c, p);
        } else {
            const int64_t from = (image * g.e.c + c) * g.e.area + p;
            v = g.bytes ? (float)g.bytes[from] * g.scale : g.values[from];
        }
        tensor_put(g.out, i, v);
    }
}

/* ---- activations ---- */

MAG_INSIDE void act_back_part(struct tensor dy, struct tensor kept, struct tensor dx, int act,
                              int add, int64_t n, int v)
{
    EACH_ITEM(item, n / v)
    {
        float g[WIDE];
        float a[WIDE];
        wide_get(dy, item * v, v, g);
        wide_get(kept, item * v, v, a);
        for (int k = 0; k < v; k++) {
            g[k] *= cell_act_slope(act, a[k]);
        }
        wide_give(dx, item * v, v, g, add);
    }
}

KERNEL act_back(struct tensor dy, struct tensor kept, struct tensor dx, int act, int add, int64_t n)
{
    if (n % WIDE == 0) {
        act_back_part(dy, kept, dx, act, add, n, WIDE);
    } else {
        act_back_part(dy, kept, dx, act, add, n, 1);
    }
}

/* ---- sums and slices ---- */

struct sum_inputs {
    struct tensor x[SUM_MAX];
    int n;
};

MAG_INSIDE void add_part(struct sum_inputs in, struct tensor y, struct tensor kept, int act,
                         struct extent e, int64_t n, int v)
{
    EACH_ITEM(item, n / v)
    {
        const int64_t i = item * v;
        const int64_t at = quotient_of(i, e.c);
        const int64_t shared = quotient_of(at, e.lanes) * e.c + rest_of(i, e.c); /* all lanes are one */
        float sum[WIDE] = {0};
        for (int k = 0; k < in.n; k++) {
            float a[WIDE];
            wide_get(in.x[k], in.x[k].lanes == e.lanes ? i : shared, v, a);
            for (int j = 0; j < v; j++) {
                sum[j] += a[j];
            }
        }
        if (kept.data) {
            wide_put(kept, i, v, sum);
        }
        for (int j = 0; j < v; j++) {
            sum[j] = cell_act_value(act, sum[j]);
        }
        wide_put(y, i, v, sum);
    }
}

KERNEL add_all(struct sum_inputs in, struct tensor y, struct tensor kept, int act, struct extent e,
               int64_t n)
{
    if (e.c % WIDE == 0) {
        add_part(in, y, kept, act, e, n, WIDE);
    } else {
        add_part(in, y, kept, act, e, n, 1);
    }
}

struct sum_outputs {
    struct tensor dx[SUM_MAX];
    int add[SUM_MAX];
    int n;
};

MAG_INSIDE void add_back_part(struct tensor dy, struct tensor kept, int act, struct sum_outputs out,
                              int64_t n, int v)
{
    EACH_ITEM(item, n / v)
    {
        float g[WIDE];
        wide_get(dy, item * v, v, g);
        if (act != CELL_NONE) {
            float a[WIDE];
            wide_get(kept, item * v, v, a);
            for (int k = 0; k < v; k++) {
                g[k] *= cell_act_slope(act, a[k]);
            }
        }
        for (int k = 0; k < out.n; k++) {
            float mine[WIDE];
            for (int j = 0; j < v; j++) {
                mine[j] = g[j];
            }
            wide_give(out.dx[k], item * v, v, mine, out.add[k]);
        }
    }
}

KERNEL add_back(struct tensor dy, struct tensor kept, int act, struct sum_outputs out, int64_t n)
{
    if (n % WIDE == 0) {
        add_back_part(dy, kept, act, out, n, WIDE);
    } else {
        add_back_part(dy, kept, act, out, n, 1);
    }
}

KERNEL slice(struct tensor x, struct tensor y, struct extent e, int from, int c_all, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int64_t at = i / e.c;
        const int c = (int)(i % e.c);
        const int64_t source = x.lanes == e.lanes ? i : at / e.lanes * e.c + c;
        tensor_put(y, at * c_all + from + c, tensor_at(x, source));
    }
}

KERNEL slice_back(struct tensor dy, struct tensor dx, struct extent e, int from, int c_all, int add,
                  int64_t n)
{
    EACH_ITEM(i, n)
    {
        tensor_give(dx, i, tensor_at(dy, i / e.c * c_all + from + i % e.c), add);
    }
}

KERNEL flatten(struct tensor x, struct tensor y, struct extent e, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int p = (int)(i % e.area);
        const int c = (int)(i / e.area % e.c);
        const int64_t at = i / e.area / e.c;
        tensor_put(
            y, i,
            tensor_at(x, tensor_index(x, at / e.lanes, e.area, p, (int)(at % e.lanes), e.c, c)));
    }
}

KERNEL flatten_back(struct tensor dy, struct tensor dx, struct extent e, int add, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int p = (int)(i % e.area);
        const int c = (int)(i / e.area % e.c);
        const int64_t at = i / e.area / e.c;
        tensor_give(dx, tensor_index(dx, at / e.lanes, e.area, p, (int)(at % e.lanes), e.c, c),
                    tensor_at(dy, i), add);
    }
}

KERNEL spread(struct tensor x, struct tensor y, struct extent e, int64_t n)
{
    EACH_ITEM(i, n)
    {
        tensor_put(y, i, tensor_at(x, i / e.c / e.lanes * e.c + i % e.c));
    }
}

/* ---- dropout: the reference draws in canonical order [row][c][area], two values a draw ---- */

#define DROPOUT_DRAWS 16 /* of one thread, after one jump */

MAG_DEVICE void dropout_value(struct tensor x, struct tensor y, uint8_t *mask, uint32_t bits,
                              const struct cell_stream *s, struct extent e, int lane, int64_t i)
{
    const int p = (int)(i % e.area);
    const int c = (int)(i / e.area % e.c);
    const int64_t row = i / e.area / e.c;
    const int64_t to = tensor_index(y, row, e.area, p, lane, e.c, c);
    const int64_t from = tensor_index(x, row, e.area, p, lane, e.c, c);
    const uint8_t stays = bits >= s->drop;
    mask[to] = stays;
    tensor_put(y, to, stays ? tensor_at(x, from) * s->keep : 0.0f);
}

KERNEL dropout(struct tensor x, struct tensor y, uint8_t *mask, const struct cell_stream *streams,
               struct extent e, int64_t parts)
{
    const int64_t values = e.rows * e.area * e.c; /* of a lane */
    EACH_ITEM(i, parts * e.lanes)
    {
        const int lane = (int)(i / parts);
        const int64_t draw = i % parts * DROPOUT_DRAWS;
        const struct cell_stream s = streams[lane];
        const cell_u128 inc = cell_wide(s.inc_hi, s.inc_lo);
        cell_u128 state = cell_pcg_jump(cell_wide(s.state_hi, s.state_lo), inc, (uint64_t)draw);
        for (int64_t d = draw; d < draw + DROPOUT_DRAWS && 2 * d - s.odd < values; d++) {
            const uint64_t bits = cell_pcg_next(&state, inc);
            const int64_t k = 2 * d - s.odd;
            if (k >= 0) {
                dropout_value(x, y, mask, (uint32_t)bits, &s, e, lane, k);
            }
            if (k + 1 < values) {
                dropout_value(x, y, mask, (uint32_t)(bits >> 32), &s, e, lane, k + 1);
            }
        }
    }
}

KERNEL dropout_back(struct tensor dy, struct tensor dx, const uint8_t *mask,
                    const struct cell_stream *streams, struct extent e, int add, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const float keep = streams[i / e.c % e.lanes].keep;
        tensor_give(dx, i, mask[i] ? tensor_at(dy, i) * keep : 0.0f, add);
    }
}

KERNEL to_bf16(const float *from, uint16_t *to, int64_t n)
{
    EACH_ITEM(i, n)
    {
        to[i] = bf16_of(from[i]);
    }
}

KERNEL from_bf16(const uint16_t *from, float *to, int64_t n)
{
    EACH_ITEM(i, n)
    {
        to[i] = bf16_to_float(from[i]);
    }
}

KERNEL swap(float *a, float *b, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const float v = a[i];
        a[i] = b[i];
        b[i] = v;
    }
}

/* ---- launchers ---- */

KERNELS_BEGIN

void k_gather(const struct gather *g, void *stream)
{
    const int64_t n = extent_size(g->e);
    LAUNCH_EACH(gather, n, stream, *g, n);
}

void k_act_back(struct tensor dy, struct tensor kept, struct tensor dx, int act, struct extent e,
                int add, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(act_back, n, stream, dy, kept, dx, act, add, n);
}

void k_add(const struct tensor *inputs, int n_inputs, struct tensor y, void *kept, int act,
           struct extent e, void *stream)
{
    const struct tensor k = {kept, y.bf16, y.lanes};
    const int64_t n = extent_size(e);
    struct sum_inputs in;
    in.n = n_inputs;
    for (int i = 0; i < n_inputs; i++) {
        in.x[i] = inputs[i];
    }
    LAUNCH_EACH(add_all, n, stream, in, y, k, act, e, n);
}

void k_add_back(struct tensor dy, struct tensor kept, int act, const struct tensor *dx,
                const int *add, int n_inputs, struct extent e, void *stream)
{
    const int64_t n = extent_size(e);
    struct sum_outputs out;
    out.n = 0;
    for (int i = 0; i < n_inputs; i++) {
        if (dx[i].data) {
            out.dx[out.n] = dx[i];
            out.add[out.n++] = add[i];
        }
    }
    LAUNCH_EACH(add_back, n, stream, dy, kept, act, out, n);
}

void k_slice(struct tensor x, struct tensor y, struct extent part, int from, int c_all,
             void *stream)
{
    const int64_t n = extent_size(part);
    LAUNCH_EACH(slice, n, stream, x, y, part, from, c_all, n);
}

void k_slice_back(struct tensor dy, struct tensor dx, struct extent part, int from, int c_all,
                  int add, void *stream)
{
    const int64_t n = extent_size(part);
    LAUNCH_EACH(slice_back, n, stream, dy, dx, part, from, c_all, add, n);
}

void k_flatten(struct tensor x, struct tensor y, struct extent e, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(flatten, n, stream, x, y, e, n);
}

void k_flatten_back(struct tensor dy, struct tensor dx, struct extent e, int add, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(flatten_back, n, stream, dy, dx, e, add, n);
}

void k_spread(struct tensor x, struct tensor y, struct extent e, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(spread, n, stream, x, y, e, n);
}

void k_dropout(struct tensor x, struct tensor y, uint8_t *mask, const struct cell_stream *streams,
               struct extent e, void *stream)
{
    const int64_t values = e.rows * e.area * e.c;
    const int64_t parts =
        (values + 1 + 2 * DROPOUT_DRAWS - 1) / (2 * DROPOUT_DRAWS); /* one more if odd */
    LAUNCH_EACH(dropout, parts * e.lanes, stream, x, y, mask, streams, e, parts);
}

void k_dropout_back(struct tensor dy, struct tensor dx, const uint8_t *mask,
                    const struct cell_stream *streams, struct extent e, int add, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(dropout_back, n, stream, dy, dx, mask, streams, e, add, n);
}

void k_to_bf16(const float *from, uint16_t *to, int64_t n, void *stream)
{
    LAUNCH_EACH(to_bf16, n, stream, from, to, n);
}

void k_from_bf16(const uint16_t *from, float *to, int64_t n, void *stream)
{
    LAUNCH_EACH(from_bf16, n, stream, from, to, n);
}

void k_swap(float *a, float *b, int64_t n, void *stream)
{
    LAUNCH_EACH(swap, n, stream, a, b, n);
}

KERNELS_END
