/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's transforms of tiles. Each goes first along one direction and then along the other,
 * through a small array that stays in the innermost cache; a function of one direction takes its
 * values `from_step` floats apart and leaves them `to_step` apart.
 */
#include "trainer/cpu_winograd.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <stdint.h>

#define LANES WINOGRAD_LANES
#define OUT WINOGRAD_OUT
#define POINTS WINOGRAD_POINTS
#define AHEAD 3 /* tiles whose pixels are asked for before they are needed */

#define LOAD(p) (*(const winograd_loose *)(const void *)(p))
#define STORE(p) (*(winograd_loose *)(void *)(p))
#define IN(i) LOAD(from + (size_t)(i)*from_step)
#define TO(i) STORE(to + (size_t)(i)*to_step)

typedef winograd_vec vec;

/* ---- B': the polynomials that vanish at all points but one ---- */

WINOGRAD_INLINE void spread_6(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec x0 = IN(0), x1 = IN(1), x2 = IN(2), x3 = IN(3), x4 = IN(4), x5 = IN(5);
    const vec even1 = x4 - 4 * x2;
    const vec odd1 = x3 - 4 * x1;
    const vec even2 = x4 - x2;
    const vec odd2 = x3 - x1;
    TO(0) = 4 * x0 + (x4 - 5 * x2);
    TO(1) = even1 + odd1;
    TO(2) = even1 - odd1;
    TO(3) = even2 + 2 * odd2;
    TO(4) = even2 - 2 * odd2;
    TO(5) = 4 * x1 + (x5 - 5 * x3);
}

WINOGRAD_INLINE void spread_8(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec x0 = IN(0), x1 = IN(1), x2 = IN(2), x3 = IN(3);
    const vec x4 = IN(4), x5 = IN(5), x6 = IN(6), x7 = IN(7);
    const vec even1 = (x2 + x6) - 4.25f * x4;
    const vec odd1 = (x1 + x5) - 4.25f * x3;
    const vec even2 = (x6 + 0.25f * x2) - 1.25f * x4;
    const vec odd2 = (2 * x5 + 0.5f * x1) - 2.5f * x3;
    const vec even3 = (x6 + 4 * x2) - 5 * x4;
    const vec odd3 = (0.5f * x5 + 2 * x1) - 2.5f * x3;
    TO(0) = (x0 - x6) + 5.25f * (x4 - x2);
    TO(1) = even1 + odd1;
    TO(2) = even1 - odd1;
    TO(3) = even2 + odd2;
    TO(4) = even2 - odd2;
    TO(5) = even3 + odd3;
    TO(6) = even3 - odd3;
    TO(7) = (x7 - x1) + 5.25f * (x3 - x5);
}

/* ---- B ---- */

WINOGRAD_INLINE void fold_6(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec s0 = IN(0), s1 = IN(1), s2 = IN(2), s3 = IN(3), s4 = IN(4), s5 = IN(5);
    const vec even1 = s1 + s2;
    const vec odd1 = s1 - s2;
    const vec even2 = s3 + s4;
    const vec odd2 = 2 * (s3 - s4);
    TO(0) = 4 * s0;
    TO(1) = 4 * (s5 - odd1) - odd2;
    TO(2) = -5 * s0 - (4 * even1 + even2);
    TO(3) = (odd1 + odd2) - 5 * s5;
    TO(4) = (s0 + even1) + even2;
    TO(5) = s5;
}

WINOGRAD_INLINE void fold_8(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec s0 = IN(0), s1 = IN(1), s2 = IN(2), s3 = IN(3);
    const vec s4 = IN(4), s5 = IN(5), s6 = IN(6), s7 = IN(7);
    const vec even1 = s1 + s2;
    const vec odd1 = s1 - s2;
    const vec even2 = s3 + s4;
    const vec odd2 = s3 - s4;
    const vec even3 = s5 + s6;
    const vec odd3 = s5 - s6;
    TO(0) = s0;
    TO(1) = (odd1 - s7) + (0.5f * odd2 + 2 * odd3);
    TO(2) = (even1 - 5.25f * s0) + (0.25f * even2 + 4 * even3);
    TO(3) = (5.25f * s7 - 4.25f * odd1) - 2.5f * (odd2 + odd3);
    TO(4) = (5.25f * s0 - 4.25f * even1) - (1.25f * even2 + 5 * even3);
    TO(5) = (odd1 - 5.25f * s7) + (2 * odd2 + 0.5f * odd3);
    TO(6) = (even1 - s0) + (even2 + even3);
    TO(7) = s7;
}

/* ---- A': the polynomial's values become the coefficients of 4 outputs ---- */

WINOGRAD_INLINE void gather_6(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec m0 = IN(0), m1 = IN(1), m2 = IN(2), m3 = IN(3), m4 = IN(4), m5 = IN(5);
    const vec even1 = m1 + m2;
    const vec odd1 = m1 - m2;
    const vec even2 = m3 + m4;
    const vec odd2 = m3 - m4;
    TO(0) = (m0 + even1) + even2;
    TO(1) = odd1 + 2 * odd2;
    TO(2) = even1 + 4 * even2;
    TO(3) = (m5 + odd1) + 8 * odd2;
}

WINOGRAD_INLINE void gather_8(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec m0 = IN(0), m1 = IN(1), m2 = IN(2), m3 = IN(3);
    const vec m4 = IN(4), m5 = IN(5), m6 = IN(6), m7 = IN(7);
    const vec even1 = m1 + m2;
    const vec odd1 = m1 - m2;
    const vec even2 = m3 + m4;
    const vec odd2 = m3 - m4;
    const vec even3 = m5 + m6;
    const vec odd3 = m5 - m6;
    TO(0) = (m0 + even1) + (even2 + even3);
    TO(1) = odd1 + (2 * odd2 + 0.5f * odd3);
    TO(2) = even1 + (4 * even2 + 0.25f * even3);
    TO(3) = (m7 + odd1) + (8 * odd2 + 0.125f * odd3);
}

/* ---- A ---- */

WINOGRAD_INLINE void lift_6(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec y0 = IN(0), y1 = IN(1), y2 = IN(2), y3 = IN(3);
    const vec even1 = y0 + y2;
    const vec odd1 = y1 + y3;
    const vec even2 = y0 + 4 * y2;
    const vec odd2 = 2 * y1 + 8 * y3;
    TO(0) = y0;
    TO(1) = even1 + odd1;
    TO(2) = even1 - odd1;
    TO(3) = even2 + odd2;
    TO(4) = even2 - odd2;
    TO(5) = y3;
}

WINOGRAD_INLINE void lift_8(const float *from, size_t from_step, float *to, size_t to_step)
{
    const vec y0 = IN(0), y1 = IN(1), y2 = IN(2), y3 = IN(3);
    const vec even1 = y0 + y2;
    const vec odd1 = y1 + y3;
    const vec even2 = y0 + 4 * y2;
    const vec odd2 = 2 * y1 + 8 * y3;
    const vec even3 = y0 + 0.25f * y2;
    const vec odd3 = 0.5f * y1 + 0.125f * y3;
    TO(0) = y0;
    TO(1) = even1 + odd1;
    TO(2) = even1 - odd1;
    TO(3) = even2 + odd2;
    TO(4) = even2 - odd2;
    TO(5) = even3 + odd3;
    TO(6) = even3 - odd3;
    TO(7) = y3;
}

/* ---- images ---- */

/* The first value of a plane of an image. */
static size_t plane_at(const struct winograd_images *s, int image, int plane)
{
    const size_t area = (size_t)s->h * (size_t)s->w;
    const size_t channel = (size_t)plane * LANES;
    const size_t block = (size_t)s->block;
    return ((size_t)image * (size_t)s->channels + channel / block * block) * area + channel % block;
}

/* `count` pixels of a row from `column` on; those outside the image are zero. Returns where they
 * lie, *step apart: in the image itself or in `room`. */
WINOGRAD_INLINE const float *pixels(const struct winograd_images *s, const float *plane, int row,
                                    int column, int count, float *room, size_t *step)
{
    const size_t block = (size_t)s->block;
    const bool inside = row >= 0 && row < s->h;
    if (inside && column >= 0 && column + count <= s->w) {
        *step = block;
        return plane + ((size_t)row * (size_t)s->w + (size_t)column) * block;
    }
    *step = LANES;
    for (int j = 0; j < count; j++) {
        vec v = {0};
        if (inside && column + j >= 0 && column + j < s->w) {
            v = LOAD(plane + (size_t)(row * s->w + column + j) * block);
        }
        STORE(room + j * LANES) = v;
    }
    return room;
}

WINOGRAD_INLINE vec positive(vec v)
{
    typedef int32_t bits __attribute__((vector_size(32)));
    return (vec)((bits)v & (v > 0));
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Asks for the pixels of a tile some way ahead in the same plane: 4 columns that begin at its first
 * output, in the rows that its last 4 inputs lie in. The rows are too far apart for the processor
 * to foresee them. */
WINOGRAD_INLINE void fetch(const struct winograd_images *s, const struct winograd_tiles *t,
                           const float *all, int plane, int tile, int below)
{
    if (tile >= t->n) {
        return;
    }
    const struct winograd_tile *at = &t->at[tile];
    const float *image = all + plane_at(s, at->image, plane);
    const int column = least(at->column, s->w - 1);
    for (int r = 0; r < OUT; r++) {
        const int row = least(at->row + below + r, s->h - 1);
        const float *from = image + (size_t)(row * s->w + column) * (size_t)s->block;
        __builtin_prefetch(from);
        __builtin_prefetch(from + 16);
    }
}

/* ---- the transforms of whole planes; `points` is a constant where they are called ---- */

WINOGRAD_INLINE void spread_input(const struct winograd_tiles *t, const float *x, float *to,
                                  size_t stride, const int points)
{
    const size_t line = (size_t)points * LANES;
    _Alignas(64) float tmp[POINTS * POINTS * LANES];
    _Alignas(64) float room[POINTS * LANES];
    for (int plane = 0; plane < t->input.channels / LANES; plane++) {
        for (int i = 0; i < t->n; i++, to += LANES) {
            const struct winograd_tile *at = &t->at[i];
            const float *image = x + plane_at(&t->input, at->image, plane);
            fetch(&t->input, t, x, plane, i + AHEAD, points - OUT - t->pad);
            for (int r = 0; r < points; r++) {
                size_t step = 0;
                const float *from = pixels(&t->input, image, at->row - t->pad + r,
                                           at->column - t->pad, points, room, &step);
                if (points == 8) {
                    spread_8(from, step, tmp + (size_t)r * line, LANES);
                } else {
                    spread_6(from, step, tmp + (size_t)r * line, LANES);
                }
            }
            for (int c = 0; c < points; c++) {
                if (points == 8) {
                    spread_8(tmp + c * LANES, line, to + (size_t)c * stride, 8 * stride);
                } else {
                    spread_6(tmp + c * LANES, line, to + (size_t)c * stride, 6 * stride);
                }
            }
        }
    }
}

/* Adds the 16 gradients of a tile to its channels' biases. */
WINOGRAD_INLINE void add_bias(const float *from, size_t step, vec *sum)
{
    *sum += (LOAD(from) + LOAD(from + step)) + (LOAD(from + 2 * step) + LOAD(from + 3 * step));
}

WINOGRAD_INLINE void spread_grad(const struct winograd_tiles *t, const float *dy, float *to,
                                 size_t stride, float *bias, const int points)
{
    const size_t line = (size_t)points * LANES;
    _Alignas(64) float tmp[OUT * POINTS * LANES];
    _Alignas(64) float room[OUT * LANES];
    for (int plane = 0; plane < t->output.channels / LANES; plane++) {
        vec total = {0};
        for (int i = 0; i < t->n; i++, to += LANES) {
            const struct winograd_tile *at = &t->at[i];
            const float *image = dy + plane_at(&t->output, at->image, plane);
            fetch(&t->output, t, dy, plane, i + AHEAD, 0);
            vec sum = {0};
            for (int r = 0; r < OUT; r++) {
                size_t step = 0;
                const float *from =
                    pixels(&t->output, image, at->row + r, at->column, OUT, room, &step);
                add_bias(from, step, &sum);
                if (points == 8) {
                    lift_8(from, step, tmp + (size_t)r * line, LANES);
                } else {
                    lift_6(from, step, tmp + (size_t)r * line, LANES);
                }
            }
            total += sum;
            for (int c = 0; c < points; c++) {
                if (points == 8) {
                    lift_8(tmp + c * LANES, line, to + (size_t)c * stride, 8 * stride);
                } else {
                    lift_6(tmp + c * LANES, line, to + (size_t)c * stride, 6 * stride);
                }
            }
        }
        if (bias != NULL) {
            STORE(bias + plane * LANES) += total;
        }
    }
}

WINOGRAD_INLINE void gather_output(const struct winograd_tiles *t, const float *m, size_t stride,
                                   int first, int planes, const float *bias, bool relu, float *y,
                                   const int points)
{
    const size_t line = (size_t)points * LANES;
    const size_t block = (size_t)t->output.block;
    _Alignas(64) float tmp[OUT * POINTS * LANES];
    _Alignas(64) float out[OUT * LANES];
    for (int plane = first; plane < first + planes; plane++) {
        vec b = {0};
        if (bias != NULL) {
            b = LOAD(bias + plane * LANES);
        }
        for (int i = 0; i < t->n; i++, m += LANES) {
            const struct winograd_tile *at = &t->at[i];
            float *image = y + plane_at(&t->output, at->image, plane);
            for (int c = 0; c < points; c++) {
                if (points == 8) {
                    gather_8(m + (size_t)c * stride, 8 * stride, tmp + c * LANES, line);
                } else {
                    gather_6(m + (size_t)c * stride, 6 * stride, tmp + c * LANES, line);
                }
            }
            const int columns = least(OUT, t->output.w - at->column);
            for (int r = 0; r < least(OUT, t->output.h - at->row); r++) {
                if (points == 8) {
                    gather_8(tmp + (size_t)r * line, LANES, out, LANES);
                } else {
                    gather_6(tmp + (size_t)r * line, LANES, out, LANES);
                }
                float *to = image + (size_t)((at->row + r) * t->output.w + at->column) * block;
                for (int c = 0; c < columns; c++, to += block) {
                    vec v = LOAD(out + c * LANES) + b;
                    STORE(to) = relu ? positive(v) : v;
                }
            }
        }
    }
}

WINOGRAD_INLINE void gather_grad(const struct winograd_tiles *t, const float *s, size_t stride,
                                 float *dx, const int points)
{
    const size_t line = (size_t)points * LANES;
    const size_t block = (size_t)t->input.block;
    _Alignas(64) float tmp[POINTS * POINTS * LANES];
    _Alignas(64) float out[POINTS * LANES];
    for (int plane = 0; plane < t->input.channels / LANES; plane++) {
        for (int i = 0; i < t->n; i++, s += LANES) {
            const int row = t->at[i].row - t->pad;
            const int column = t->at[i].column - t->pad;
            float *image = dx + plane_at(&t->input, t->at[i].image, plane);
            for (int c = 0; c < points; c++) {
                if (points == 8) {
                    fold_8(s + (size_t)c * stride, 8 * stride, tmp + c * LANES, line);
                } else {
                    fold_6(s + (size_t)c * stride, 6 * stride, tmp + c * LANES, line);
                }
            }
            const int from = column < 0 ? -column : 0;
            const int past = least(points, t->input.w - column);
            for (int r = row < 0 ? -row : 0; r < least(points, t->input.h - row); r++) {
                if (points == 8) {
                    fold_8(tmp + (size_t)r * line, LANES, out, LANES);
                } else {
                    fold_6(tmp + (size_t)r * line, LANES, out, LANES);
                }
                float *to = image + (ptrdiff_t)((row + r) * t->input.w + column) * (ptrdiff_t)block;
                for (int c = from; c < past; c++) {
                    STORE(to + (size_t)c * block) += LOAD(out + c * LANES);
                }
            }
        }
    }
}

/* ---- for each number of points ---- */

WINOGRAD_AVX2 void winograd_spread_input(const struct winograd_tiles *t, const float *x, float *to,
                                         size_t stride)
{
    if (t->points == 8) {
        spread_input(t, x, to, stride, 8);
    } else {
        spread_input(t, x, to, stride, 6);
    }
}

WINOGRAD_AVX2 void winograd_spread_grad(const struct winograd_tiles *t, const float *dy, float *to,
                                        size_t stride, float *bias)
{
    if (t->points == 8) {
        spread_grad(t, dy, to, stride, bias, 8);
    } else {
        spread_grad(t, dy, to, stride, bias, 6);
    }
}

WINOGRAD_AVX2 void winograd_gather_output(const struct winograd_tiles *t, const float *m,
                                          size_t stride, int first, int planes, const float *bias,
                                          bool relu, float *y)
{
    if (t->points == 8) {
        gather_output(t, m, stride, first, planes, bias, relu, y, 8);
    } else {
        gather_output(t, m, stride, first, planes, bias, relu, y, 6);
    }
}

WINOGRAD_AVX2 void winograd_gather_grad(const struct winograd_tiles *t, const float *s,
                                        size_t stride, float *dx)
{
    if (t->points == 8) {
        gather_grad(t, s, stride, dx, 8);
    } else {
        gather_grad(t, s, stride, dx, 6);
    }
}

#endif
