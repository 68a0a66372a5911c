/* SPDX-License-Identifier: Apache-2.0
 *
 * The weights' gradient of a dense layer and the optimizer step in one pass: each tile of
 * dW = dY' X is summed in registers and goes straight into momentum and weights, so that the
 * gradient is never written to memory. That matters because a layer's weights do not fit the inner
 * caches: a step of its own reads and writes them all again.
 *
 * A tile is 6 rows of dY' (outputs) by 16 columns of X (inputs): 12 accumulators of 8 floats. Needs
 * AVX2 and FMA; elsewhere the caller makes the product and then the step.
 */
#include "trainer/cpu.h"

#include <math.h>
#include <string.h>

#define TILE_ROWS 6
#define TILE_COLUMNS 16

#if defined(__x86_64__) && defined(__GNUC__)

typedef float vec __attribute__((vector_size(32)));
typedef float vec_loose __attribute__((vector_size(32), aligned(4), may_alias));

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE static inline __attribute__((target("avx2,fma"), always_inline))

/* The optimizer's numbers, worked out once a step. */
struct step {
    bool adam;
    float lr, momentum, keep;     /* SGD; keep = 1 - lr decay */
    float b1, b2, rate, inv, eps; /* Adam: rate and inv hold the bias corrections */
};

static struct step step_of(const struct update *u, float decay)
{
    return (struct step){.adam = u->kind == OPTIMIZER_ADAM,
                         .lr = u->lr,
                         .momentum = u->momentum,
                         .keep = 1 - u->lr * decay,
                         .b1 = u->beta1,
                         .b2 = u->beta2,
                         .rate =
                             (float)((double)u->lr / (1 - pow((double)u->beta1, (double)u->count))),
                         .inv = (float)(1 / sqrt(1 - pow((double)u->beta2, (double)u->count))),
                         .eps = u->epsilon};
}

/* sum over k of a[k][6] (packed) times b[k][16] (packed) into tile[6][16] */
AVX2_INLINE void product(const float *a, const float *b, int n, vec tile[TILE_ROWS][2])
{
    vec c[TILE_ROWS][2] = {{{0}}};
    for (int k = 0; k < n; k++, a += TILE_ROWS, b += TILE_COLUMNS) {
        vec b0 = *(const vec_loose *)(const void *)b;
        vec b1 = *(const vec_loose *)(const void *)(b + 8);
#pragma GCC unroll 6
        for (int r = 0; r < TILE_ROWS; r++) {
            c[r][0] += a[r] * b0;
            c[r][1] += a[r] * b1;
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < TILE_ROWS; r++) {
        tile[r][0] = c[r][0];
        tile[r][1] = c[r][1];
    }
}

/* One row of a tile: up to 16 gradients into the arrays at offset `at`. */
AVX2_INLINE void apply_row(const struct step *s, const float *g, float *w, float *m, float *v,
                           int n)
{
    if (!s->adam) {
        for (int j = 0; j < n; j++) {
            m[j] = s->momentum * m[j] + g[j];
            w[j] = s->keep * w[j] - s->lr * m[j];
        }
        return;
    }
    for (int j = 0; j < n; j++) {
        m[j] = s->b1 * m[j] + (1 - s->b1) * g[j];
        v[j] = s->b2 * v[j] + (1 - s->b2) * g[j] * g[j];
        w[j] = s->keep * w[j] - s->rate * m[j] / (sqrtf(v[j]) * s->inv + s->eps);
    }
}

/* A whole tile of SGD, the hot case: nothing leaves the registers but momentum and weights. */
AVX2_INLINE void apply_sgd(const struct step *s, vec tile[TILE_ROWS][2], float *w, float *m,
                           size_t stride)
{
    const float momentum = s->momentum;
    const float keep = s->keep;
    const float lr = s->lr;
#pragma GCC unroll 6
    for (int r = 0; r < TILE_ROWS; r++, w += stride, m += stride) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vec_loose *wv = (vec_loose *)(void *)(w + 8 * h);
            vec_loose *mv = (vec_loose *)(void *)(m + 8 * h);
            vec moved = momentum * *mv + tile[r][h];
            *mv = moved;
            *wv = keep * *wv - lr * moved;
        }
    }
}

/* dY' in strips of 6 outputs: packed[strip][row][6], zero past the last output. */
static void pack_outputs(const float *dy, size_t row, int n, int out, float *packed)
{
    for (int o = 0; o < out; o += TILE_ROWS) {
        int some = out - o < TILE_ROWS ? out - o : TILE_ROWS;
        for (int i = 0; i < n; i++, packed += TILE_ROWS) {
            for (int r = 0; r < TILE_ROWS; r++) {
                packed[r] = r < some ? dy[(size_t)i * row + (size_t)(o + r)] : 0;
            }
        }
    }
}

/* One strip of 16 columns of X: packed[row][16], zero past the last column. */
AVX2_INLINE void pack_columns(const float *x, size_t row, int n, int in, int column, float *packed)
{
    int some = in - column < TILE_COLUMNS ? in - column : TILE_COLUMNS;
    for (int i = 0; i < n; i++, packed += TILE_COLUMNS) {
        const float *from = x + (size_t)i * row + (size_t)column;
        if (some == TILE_COLUMNS) {
            memcpy(packed, from, TILE_COLUMNS * sizeof(float));
        } else {
            memset(packed, 0, TILE_COLUMNS * sizeof(float));
            memcpy(packed, from, (size_t)some * sizeof(float));
        }
    }
}

AVX2_INLINE void fetch_rows(const float *w, const float *m, size_t in, int rows)
{
    for (int r = 0; r < rows; r++) {
        __builtin_prefetch(w + (size_t)r * in, 1);
        __builtin_prefetch(m + (size_t)r * in, 1);
    }
}

/* The step of 16 columns of one lane's weights, which the slots begin at. */
AVX2_INLINE void fused_strip(const struct cpu_fused *f, const struct step *s, int column,
                             const float *outputs, const float *columns,
                             float *const slots[SLOT_SECOND + 1])
{
    const int width = f->in - column < TILE_COLUMNS ? f->in - column : TILE_COLUMNS;
    const size_t in = (size_t)f->in;
    for (int o = 0; o < f->out; o += TILE_ROWS) {
        int rows = f->out - o < TILE_ROWS ? f->out - o : TILE_ROWS;
        size_t at = (size_t)o * in + (size_t)column;
        vec tile[TILE_ROWS][2];
        fetch_rows(slots[SLOT_VALUE] + at, slots[SLOT_FIRST] + at, in, rows);
        product(outputs + (size_t)o * (size_t)f->n, columns, f->n, tile);
        if (!s->adam && width == TILE_COLUMNS && rows == TILE_ROWS) {
            apply_sgd(s, tile, slots[SLOT_VALUE] + at, slots[SLOT_FIRST] + at, in);
            continue;
        }
        for (int r = 0; r < rows; r++, at += in) {
            apply_row(s, (const float *)&tile[r][0], slots[SLOT_VALUE] + at, slots[SLOT_FIRST] + at,
                      slots[SLOT_SECOND] + at, width);
        }
    }
}

/* Floats of a lane's packed outputs. */
static size_t packed_size(int rows, int out)
{
    return (size_t)(out + TILE_ROWS) * (size_t)rows;
}

/* Floats of one packed strip of columns. */
static size_t strip_size(int rows)
{
    return (size_t)rows * TILE_COLUMNS;
}

static int strips_of(int in)
{
    return (in + TILE_COLUMNS - 1) / TILE_COLUMNS;
}

/* Lane by lane, since one lane's weights keep to the pages that the processor has at hand. Several
 * lanes share the packed columns; one packs a strip when it comes to it. */
AVX2 static void fused_avx2(const struct cpu_fused *f, const struct step *steps)
{
    const size_t weights = (size_t)f->out * (size_t)f->in;
    const size_t strip = f->lanes > 1 ? strip_size(f->n) : 0;
    float *columns = f->room + packed_size(f->n, f->out);
    for (int k = 0; k < strips_of(f->in) && f->lanes > 1; k++) {
        pack_columns(f->x, f->x_row, f->n, f->in, k * TILE_COLUMNS, columns + (size_t)k * strip);
    }
    for (int lane = 0; lane < f->lanes; lane++) {
        size_t at = weights * (size_t)lane;
        float *const slots[] = {f->slots[SLOT_VALUE] + at, f->slots[SLOT_GRAD] + at,
                                f->slots[SLOT_FIRST] + at, f->slots[SLOT_SECOND] + at};
        if (f->u[lane].idle) {
            continue;
        }
        pack_outputs(f->dy + (size_t)lane * f->dy_lane, f->dy_row, f->n, f->out, f->room);
        for (int k = 0; k < strips_of(f->in); k++) {
            if (f->lanes == 1) {
                pack_columns(f->x, f->x_row, f->n, f->in, k * TILE_COLUMNS, columns);
            }
            fused_strip(f, &steps[lane], k * TILE_COLUMNS, f->room, columns + (size_t)k * strip,
                        slots);
        }
    }
}

size_t cpu_fused_room(int rows, int out, int in, int lanes)
{
    return packed_size(rows, out) + strip_size(rows) * (size_t)(lanes > 1 ? strips_of(in) : 1);
}

bool cpu_can_fuse(const struct update *lanes, int n)
{
    bool all = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    for (int i = 0; i < n; i++) {
        const struct update *u = &lanes[i];
        bool kind = (u->kind == OPTIMIZER_SGD && !u->nesterov) || u->kind == OPTIMIZER_ADAM;
        all = all && kind && !(u->scale > 0 && u->scale != 1);
    }
    return all;
}

void cpu_fused_update(const struct cpu_fused *f)
{
    struct step steps[BACKEND_LANES_MAX];
    for (int lane = 0; lane < f->lanes; lane++) {
        steps[lane] = step_of(&f->u[lane], f->u[lane].weight_decay);
    }
    fused_avx2(f, steps);
}

#else

size_t cpu_fused_room(int rows, int out, int in, int lanes)
{
    (void)rows;
    (void)out;
    (void)in;
    (void)lanes;
    return 0;
}

bool cpu_can_fuse(const struct update *lanes, int n)
{
    (void)lanes;
    (void)n;
    return false;
}

void cpu_fused_update(const struct cpu_fused *f)
{
    (void)f;
}

#endif
