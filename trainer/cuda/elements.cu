/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels that give every value to one thread: loading examples, activations, sums and slices,
 * dropout, embeddings.
 */
#include "trainer/cuda/kernels.h"

/* ---- loading ---- */

KERNEL gather(struct gather g, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int c = (int)(i % g.e.c);
        const int p = (int)(i / g.e.c % g.e.area);
        const int64_t row = i / g.e.c / g.e.area;
        const int64_t from = ((g.rows ? (int64_t)g.rows[row] : row) * g.e.c + c) * g.e.area + p;
        const float v = g.bytes ? (float)g.bytes[from] * g.scale : g.values[from];
        tensor_put(g.out, tensor_index(g.out, row, g.e.area, p, g.lane, g.e.c, c), v);
    }
}

/* ---- activations ---- */

KERNEL bias_act(struct tensor x, struct tensor y, struct tensor kept, const float *bias, int act,
                int columns, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const float z = tensor_at(x, i) + (bias ? bias[i % columns] : 0.0f);
        if (kept.data) {
            tensor_put(kept, i, z);
        }
        tensor_put(y, i, cell_act_value(act, z));
    }
}

KERNEL act_back(struct tensor dy, struct tensor kept, struct tensor dx, int act, int add, int64_t n)
{
    EACH_ITEM(i, n)
    {
        tensor_give(dx, i, tensor_at(dy, i) * cell_act_slope(act, tensor_at(kept, i)), add);
    }
}

/* ---- sums and slices ---- */

#define ADD_MAX 8
struct add_inputs {
    struct tensor x[ADD_MAX];
    int n;
};

KERNEL add_all(struct add_inputs in, struct tensor y, struct extent e, int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int64_t at = i / e.c;
        const int64_t shared = at / e.lanes * e.c + i % e.c; /* where all lanes are one */
        float sum = 0;
        for (int k = 0; k < in.n; k++) {
            sum += tensor_at(in.x[k], in.x[k].lanes == e.lanes ? i : shared);
        }
        tensor_put(y, i, sum);
    }
}

KERNEL pass(struct tensor dy, struct tensor dx, int add, int64_t n)
{
    EACH_ITEM(i, n)
    {
        tensor_give(dx, i, tensor_at(dy, i), add);
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

/* ---- embeddings: e.area ids a row, e.c values of each ---- */

/* As backend_index: the nearest whole number inside [0, vocabulary). */
MAG_DEVICE int id_at(struct tensor x, struct extent e, int64_t token, int lane, int vocabulary)
{
    const int64_t row = token / e.area;
    const float v =
        tensor_at(x, (row * x.lanes + (x.lanes == 1 ? 0 : lane)) * e.area + token % e.area);
    const int i = v >= 1 ? (v < (float)vocabulary ? (int)(v + 0.5f) : vocabulary - 1) : v >= 0.5f;
    return i < vocabulary ? i : vocabulary - 1;
}

KERNEL embed(struct tensor x, const float *table, int vocabulary, struct tensor y, struct extent e,
             int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int c = (int)(i % e.c);
        const int lane = (int)(i / e.c % e.lanes);
        const int64_t id = id_at(x, e, i / e.c / e.lanes, lane, vocabulary);
        tensor_put(y, i, table[((int64_t)lane * vocabulary + id) * e.c + c]);
    }
}

/* The first token with an id sums up for all that have it, in their order; the others do nothing.
 */
KERNEL embed_back(struct tensor x, struct tensor dy, int vocabulary, float *grad, struct extent e,
                  int64_t n)
{
    const int64_t tokens = e.rows * e.area;
    EACH_ITEM(i, n)
    {
        const int c = (int)(i % e.c);
        const int lane = (int)(i / e.c % e.lanes);
        const int64_t token = i / e.c / e.lanes;
        const int id = id_at(x, e, token, lane, vocabulary);
        int mine = 1;
        for (int64_t t = 0; mine && t < token; t++) {
            mine = id_at(x, e, t, lane, vocabulary) != id;
        }
        double sum = 0;
        for (int64_t t = token; mine && t < tokens; t++) {
            if (id_at(x, e, t, lane, vocabulary) == id) {
                sum += (double)tensor_at(dy, (t * e.lanes + lane) * e.c + c);
            }
        }
        if (mine) {
            grad[((int64_t)lane * vocabulary + id) * e.c + c] = (float)sum;
        }
    }
}

KERNEL clear(float *to, int64_t n)
{
    EACH_ITEM(i, n)
    {
        to[i] = 0;
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
    const int64_t n = g->e.rows * g->e.area * g->e.c;
    LAUNCH_EACH(gather, n, stream, *g, n);
}

void k_bias_act(struct tensor x, struct tensor y, void *kept, const float *bias, int act,
                struct extent e, void *stream)
{
    const struct tensor k = {kept, y.bf16, y.lanes};
    const int64_t n = extent_size(e);
    LAUNCH_EACH(bias_act, n, stream, x, y, k, bias, act, e.lanes * e.c, n);
}

void k_act_slope(struct tensor grad, struct tensor kept, int act, struct extent e, void *stream)
{
    k_act_back(grad, kept, grad, act, e, 0, stream);
}

void k_act_back(struct tensor dy, struct tensor kept, struct tensor dx, int act, struct extent e,
                int add, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(act_back, n, stream, dy, kept, dx, act, add, n);
}

void k_add(const struct tensor *inputs, int n_inputs, struct tensor y, struct extent e,
           void *stream)
{
    struct add_inputs in;
    in.n = n_inputs;
    for (int k = 0; k < n_inputs; k++) {
        in.x[k] = inputs[k];
    }
    const int64_t n = extent_size(e);
    LAUNCH_EACH(add_all, n, stream, in, y, e, n);
}

void k_pass(struct tensor dy, struct tensor dx, struct extent e, int add, void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(pass, n, stream, dy, dx, add, n);
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

void k_embed(struct tensor x, const float *table, int vocabulary, struct tensor y, struct extent e,
             void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(embed, n, stream, x, table, vocabulary, y, e, n);
}

void k_embed_back(struct tensor x, struct tensor dy, int vocabulary, float *grad, struct extent e,
                  void *stream)
{
    const int64_t n = extent_size(e);
    const int64_t all = (int64_t)e.lanes * vocabulary * e.c;
    LAUNCH_EACH(clear, all, stream, grad, all);
    LAUNCH_EACH(embed_back, n, stream, x, dy, vocabulary, grad, e, n);
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
