/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/cpu_panel.h"

#include <math.h>
#include <string.h>

/* The most floats of X that dw packs at a time: they stay in the second cache. */
#define CHUNK 65536

static int tiles_of(int n)
{
    return (n + TILE - 1) / TILE;
}

static size_t whole_panels(int out)
{
    return (size_t)((out + PANEL - 1) / PANEL * PANEL);
}

/* Tiles of columns that dw packs at a time. */
static int chunk_of(int n, int in)
{
    const int some = CHUNK / (TILE * n) > 0 ? CHUNK / (TILE * n) : 1;
    return some < tiles_of(in) ? some : tiles_of(in);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t cpu_panel_room(int rows, int out, int in)
{
    const size_t n = (size_t)rows;
    const size_t forward = (size_t)in * PANEL;
    const size_t dx = (n + PANEL) * (size_t)out;
    const size_t columns = least(n * TILE * (size_t)tiles_of(in), most(CHUNK, n * TILE));
    return most(most(forward, dx), n * whole_panels(out) + columns);
}

#if defined(__x86_64__) && defined(__GNUC__)

typedef float vec __attribute__((vector_size(32), may_alias));
typedef float vec_loose __attribute__((vector_size(32), aligned(4), may_alias));

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE static inline __attribute__((target("avx2,fma"), always_inline))
#define LOAD(p) (*(const vec_loose *)(const void *)(p))
#define STORE(p, v) (*(vec_loose *)(void *)(p) = (v))

bool cpu_panels_run(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           !__builtin_cpu_supports("avx512f");
}

/* ---- forward ---- */

/* The rows of a tile. */
struct rows {
    const float *x[TILE];
    float *y[TILE];
    int n, width; /* width: outputs of the panel */
};

AVX2_INLINE void store_rows(const struct rows *t, vec c[TILE][2], int rows)
{
    if (t->width < PANEL) {
        for (int r = 0; r < rows; r++) {
            memcpy(t->y[r], &c[r][0], (size_t)t->width * sizeof(float));
        }
        return;
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        STORE(t->y[r], c[r][0]);
        STORE(t->y[r] + 8, c[r][1]);
    }
}

/* y[r][0..16] = sum over k of x[r][k] w[k][0..16]; k goes through `keys`, or with none through
 * all. */
AVX2_INLINE void forward_tile(const struct rows *t, int rows, const uint32_t *keys, int n,
                              const float *w)
{
    vec c[TILE][2] = {{{0}}};
    const float *x[TILE];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        x[r] = t->x[r];
    }
    for (int j = 0; j < n; j++) {
        const size_t k = keys != NULL ? keys[j] : (size_t)j;
        const vec w0 = LOAD(w + k * PANEL);
        const vec w1 = LOAD(w + k * PANEL + 8);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            c[r][0] += x[r][k] * w0;
            c[r][1] += x[r][k] * w1;
        }
    }
    store_rows(t, c, rows);
}

/* One row by two whole panels: every weight is used once, so what counts is that they stream in;
 * the sums of two neighbours at a time do not wait for one another. */
AVX2_INLINE void forward_row(const float *x, int in, const float *w, float *y)
{
    vec c[2][4] = {{{0}}};
    const float *next = w + (size_t)in * PANEL;
    for (int k = 0; k < in; k += 2) {
        const int odd = k + 1 < in ? 1 : 0;
        const float x1 = odd ? x[k + 1] : 0;
        c[0][0] += x[k] * LOAD(w + (size_t)k * PANEL);
        c[0][1] += x[k] * LOAD(w + (size_t)k * PANEL + 8);
        c[0][2] += x[k] * LOAD(next + (size_t)k * PANEL);
        c[0][3] += x[k] * LOAD(next + (size_t)k * PANEL + 8);
        c[1][0] += x1 * LOAD(w + (size_t)(k + odd) * PANEL);
        c[1][1] += x1 * LOAD(w + (size_t)(k + odd) * PANEL + 8);
        c[1][2] += x1 * LOAD(next + (size_t)(k + odd) * PANEL);
        c[1][3] += x1 * LOAD(next + (size_t)(k + odd) * PANEL + 8);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        STORE(y + 8 * r, c[0][r] + c[1][r]);
    }
}

AVX2 static void forward_rows(const struct rows *t, const uint32_t *keys, int n, const float *w)
{
    switch (t->n) {
    case 6:
        keys != NULL ? forward_tile(t, 6, keys, n, w) : forward_tile(t, 6, NULL, n, w);
        break;
    case 5:
        forward_tile(t, 5, keys, n, w);
        break;
    case 4:
        forward_tile(t, 4, keys, n, w);
        break;
    case 3:
        forward_tile(t, 3, keys, n, w);
        break;
    case 2:
        forward_tile(t, 2, keys, n, w);
        break;
    default:
        forward_tile(t, 1, keys, n, w);
        break;
    }
}

/* A narrow panel as one of 16, with zeros. */
static void widen(const float *w, int in, int width, float *to)
{
    memset(to, 0, (size_t)in * PANEL * sizeof(float));
    for (int k = 0; k < in; k++, w += width, to += PANEL) {
        memcpy(to, w, (size_t)width * sizeof(float));
    }
}

AVX2 static void forward_panel(const struct cpu_operand *x, const float *w, int width, float *y,
                               size_t y_row)
{
    const struct cpu_sheet *s = x->sheet;
    for (int i = 0; i < tiles_of(x->n); i++) {
        struct rows t = {.n = x->n - i * TILE < TILE ? x->n - i * TILE : TILE, .width = width};
        for (int r = 0; r < t.n; r++) {
            size_t row = s != NULL ? s->order[i * TILE + r] : (size_t)(i * TILE + r);
            t.x[r] = x->x + row * x->row;
            t.y[r] = y + row * y_row;
        }
        if (s != NULL) {
            forward_rows(&t, s->keys + s->keys_at[i], (int)(s->keys_at[i + 1] - s->keys_at[i]), w);
        } else {
            forward_rows(&t, NULL, x->in, w);
        }
    }
}

AVX2 void cpu_panel_forward(const struct cpu_operand *x, const float *w, int out, float *y,
                            size_t y_row, float *room)
{
    int o = 0;
    for (; x->n == 1 && o + 2 * PANEL <= out; o += 2 * PANEL) {
        forward_row(x->x, x->in, w + (size_t)o * (size_t)x->in, y + o);
    }
    for (; o < out; o += PANEL) {
        const int width = out - o < PANEL ? out - o : PANEL;
        const float *panel = w + (size_t)o * (size_t)x->in;
        if (width < PANEL) {
            widen(panel, x->in, width, room);
            panel = room;
        }
        forward_panel(x, panel, width, y + o, y_row);
    }
}

/* ---- dx ---- */

/* dY' in blocks of 16 rows: packed[block][o][16], zero past the last row. */
static void pack_rows(const float *dy, size_t dy_row, int n, int out, float *packed)
{
    for (int i = 0; i < n; i += PANEL) {
        for (int o = 0; o < out; o++, packed += PANEL) {
            for (int r = 0; r < PANEL; r++) {
                packed[r] = i + r < n ? dy[(size_t)(i + r) * dy_row + (size_t)o] : 0;
            }
        }
    }
}

/* dx[0..16][0..6] = sum over o of w[0..6][o] dy'[o][0..16], from w + i of each panel. */
AVX2_INLINE void dx_tile(const float *w, int i, const float *dy, int out, int in,
                         float to[TILE][PANEL])
{
    vec c[TILE][2] = {{{0}}};
    for (int o = 0; o < out; o += PANEL, w += (size_t)PANEL * (size_t)in) {
        const int width = out - o < PANEL ? out - o : PANEL;
        const float *row = w + (size_t)i * (size_t)width;
        for (int j = 0; j < width; j++, dy += PANEL) {
            const vec d0 = LOAD(dy);
            const vec d1 = LOAD(dy + 8);
#pragma GCC unroll 6
            for (int r = 0; r < TILE; r++) {
                c[r][0] += row[r * width + j] * d0;
                c[r][1] += row[r * width + j] * d1;
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < TILE; r++) {
        STORE(to[r], c[r][0]);
        STORE(to[r] + 8, c[r][1]);
    }
}

/* The same for fewer than 6 inputs. */
static void dx_few(const float *w, const float *dy, int out, int in, float to[TILE][PANEL])
{
    memset(to, 0, TILE * sizeof(*to));
    for (int o = 0; o < out; o++, dy += PANEL) {
        for (int r = 0; r < in; r++) {
            const float v = w[cpu_panel_at(o, r, out, in)];
            for (int k = 0; k < PANEL; k++) {
                to[r][k] += v * dy[k];
            }
        }
    }
}

/* Up to 16 rows of a tile's inputs. */
static void put_tile(float to[TILE][PANEL], int rows, int inputs, float *dx, size_t dx_row)
{
    for (int k = 0; k < rows; k++, dx += dx_row) {
        for (int r = 0; r < inputs; r++) {
            dx[r] = to[r][k];
        }
    }
}

AVX2 void cpu_panel_dx(const float *dy, size_t dy_row, int n, const float *w, int out, int in,
                       float *dx, size_t dx_row, float *room)
{
    pack_rows(dy, dy_row, n, out, room);
    for (int t = 0; t < tiles_of(in); t++) {
        /* The last tile makes some inputs of the one before once more. */
        const int i = (t + 1) * TILE <= in || in < TILE ? t * TILE : in - TILE;
        const float *block = room;
        for (int at = 0; at < n; at += PANEL, block += (size_t)out * PANEL) {
            float tile[TILE][PANEL];
            if (in < TILE) {
                dx_few(w, block, out, in, tile);
            } else {
                dx_tile(w, i, block, out, in, tile);
            }
            put_tile(tile, n - at < PANEL ? n - at : PANEL, in < TILE ? in : TILE,
                     dx + (size_t)at * dx_row + (size_t)i, dx_row);
        }
    }
}

/* ---- dw, and the step ---- */

/* The optimizer's numbers, worked out once a step. */
struct step {
    bool adam;
    float lr, momentum, keep;     /* SGD; keep = 1 - lr decay */
    float b1, b2, rate, inv, eps; /* Adam: rate and inv hold the bias corrections */
};

static struct step step_of(const struct update *u)
{
    const double count = (double)u->count;
    return (struct step){.adam = u->kind == OPTIMIZER_ADAM,
                         .lr = u->lr,
                         .momentum = u->momentum,
                         .keep = 1 - u->lr * u->weight_decay,
                         .b1 = u->beta1,
                         .b2 = u->beta2,
                         .rate = (float)((double)u->lr / (1 - pow((double)u->beta1, count))),
                         .inv = (float)(1 / sqrt(1 - pow((double)u->beta2, count))),
                         .eps = u->epsilon};
}

/* n gradients into the arrays. */
AVX2_INLINE void apply(const struct step *s, const float *g, float *restrict w, float *restrict m,
                       float *restrict v, int n)
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
AVX2_INLINE void apply_sgd(const struct step *s, vec c[TILE][2], float *w, float *m)
{
    const float momentum = s->momentum;
    const float keep = s->keep;
    const float lr = s->lr;
#pragma GCC unroll 12
    for (int h = 0; h < 2 * TILE; h++) {
        const vec moved = momentum * LOAD(m + 8 * h) + c[h / 2][h % 2];
        STORE(m + 8 * h, moved);
        STORE(w + 8 * h, keep * LOAD(w + 8 * h) - lr * moved);
    }
}

/* Where a tile's weights lie: `rows` inputs, `width` outputs, each row behind the last. */
struct place {
    float *w, *g, *m, *v;
    int rows, width;
};

AVX2_INLINE void finish_tile(const struct step *s, vec c[TILE][2], const struct place *p)
{
    if (s != NULL && !s->adam && p->rows == TILE && p->width == PANEL) {
        apply_sgd(s, c, p->w, p->m);
        return;
    }
    float g[TILE * PANEL];
    for (int r = 0; r < p->rows; r++) {
        memcpy(g + r * p->width, &c[r][0], (size_t)p->width * sizeof(float));
    }
    if (s == NULL) {
        memcpy(p->g, g, (size_t)p->rows * (size_t)p->width * sizeof(float));
    } else {
        apply(s, g, p->w, p->m, p->v, p->rows * p->width);
    }
}

/* g[0..6][0..16] = sum over k of x[k][0..6] dy[k][0..16]; row k of x is row rows[k] of dy, or with
 * none row k. */
AVX2_INLINE void dw_sum(const float *x, const uint16_t *rows, int n, const float *dy,
                        vec c[TILE][2])
{
    vec sum[TILE][2] = {{{0}}};
    for (int k = 0; k < n; k++, x += TILE) {
        const float *d = dy + (rows != NULL ? rows[k] : (size_t)k) * PANEL;
        const vec d0 = LOAD(d);
        const vec d1 = LOAD(d + 8);
#pragma GCC unroll 6
        for (int r = 0; r < TILE; r++) {
            sum[r][0] += x[r] * d0;
            sum[r][1] += x[r] * d1;
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < TILE; r++) {
        c[r][0] = sum[r][0];
        c[r][1] = sum[r][1];
    }
}

/* What lies two tiles ahead will be wanted soon. */
AVX2_INLINE void fetch(const struct place *p)
{
#pragma GCC unroll 6
    for (int r = 2 * TILE; r < 3 * TILE; r++) {
        __builtin_prefetch(p->w + r * PANEL, 1);
        __builtin_prefetch(p->m + r * PANEL, 1);
    }
}

AVX2_INLINE void dw_tile(const struct step *s, const float *x, const uint16_t *rows, int n,
                         const float *dy, const struct place *p)
{
    vec c[TILE][2];
    fetch(p);
    if (rows != NULL) {
        dw_sum(x, rows, n, dy, c);
    } else {
        dw_sum(x, NULL, n, dy, c);
    }
    finish_tile(s, c, p);
}

/* dY in panels: packed[panel][row][16], zero past the last output. */
static void pack_panels(const float *dy, size_t dy_row, int n, int out, float *packed)
{
    for (int o = 0; o < out; o += PANEL) {
        const int some = out - o < PANEL ? out - o : PANEL;
        for (int i = 0; i < n; i++, packed += PANEL) {
            const float *from = dy + (size_t)i * dy_row + (size_t)o;
            if (some == PANEL) {
                memcpy(packed, from, PANEL * sizeof(float));
            } else {
                memset(packed, 0, PANEL * sizeof(float));
                memcpy(packed, from, (size_t)some * sizeof(float));
            }
        }
    }
}

/* Columns of X in tiles of 6: packed[tile][row][6], zero past the last column. */
static void pack_columns(const struct cpu_operand *x, int first, int tiles, float *packed)
{
    for (int t = first; t < first + tiles; t++) {
        const int some = x->in - t * TILE < TILE ? x->in - t * TILE : TILE;
        const float *from = x->x + (size_t)t * TILE;
        for (int i = 0; i < x->n; i++, packed += TILE, from += x->row) {
            if (some == TILE) {
                memcpy(packed, from, TILE * sizeof(float));
            } else {
                memset(packed, 0, TILE * sizeof(float));
                memcpy(packed, from, (size_t)some * sizeof(float));
            }
        }
    }
}

/* Tiles of columns of one panel; `columns` are packed from tile `first` on. */
AVX2 static void dw_panel(const struct cpu_operand *x, const struct cpu_step_of *s,
                          const struct step *step, int o, int first, int tiles,
                          const float *columns)
{
    const struct cpu_sheet *sheet = x->sheet;
    const int width = s->out - o < PANEL ? s->out - o : PANEL;
    const float *dy = s->room + (size_t)o * (size_t)x->n;
    for (int t = first; t < first + tiles; t++) {
        const size_t at = (size_t)o * (size_t)x->in + (size_t)t * TILE * (size_t)width;
        const struct place p = {.w = s->slots[SLOT_VALUE] + at,
                                .g = s->slots[SLOT_GRAD] + at,
                                .m = s->slots[SLOT_FIRST] + at,
                                .v = s->slots[SLOT_SECOND] + at,
                                .rows = x->in - t * TILE < TILE ? x->in - t * TILE : TILE,
                                .width = width};
        if (sheet != NULL) {
            uint32_t from = sheet->rows_at[t];
            dw_tile(step, sheet->columns + (size_t)from * TILE, sheet->rows + from,
                    (int)(sheet->rows_at[t + 1] - from), dy, &p);
        } else {
            dw_tile(step, columns + (size_t)(t - first) * TILE * (size_t)x->n, NULL, x->n, dy, &p);
        }
    }
}

bool cpu_can_fuse(const struct update *u)
{
    bool kind = (u->kind == OPTIMIZER_SGD && !u->nesterov) || u->kind == OPTIMIZER_ADAM;
    return kind && !(u->scale > 0 && u->scale != 1);
}

void cpu_panel_dw(const struct cpu_operand *x, const struct cpu_step_of *s)
{
    const struct step step = s->u != NULL ? step_of(s->u) : (struct step){0};
    const int all = tiles_of(x->in);
    const int chunk = x->sheet != NULL ? all : chunk_of(x->n, x->in);
    float *columns = s->room + whole_panels(s->out) * (size_t)x->n;
    pack_panels(s->dy, s->dy_row, x->n, s->out, s->room);
    for (int t = 0; t < all; t += chunk) {
        const int some = all - t < chunk ? all - t : chunk;
        if (x->sheet == NULL) {
            pack_columns(x, t, some, columns);
        }
        for (int o = 0; o < s->out; o += PANEL) {
            dw_panel(x, s, s->u != NULL ? &step : NULL, o, t, some, columns);
        }
    }
}

#else

bool cpu_panels_run(void)
{
    return false;
}

bool cpu_can_fuse(const struct update *u)
{
    (void)u;
    return false;
}

void cpu_panel_forward(const struct cpu_operand *x, const float *w, int out, float *y, size_t y_row,
                       float *room)
{
    (void)x, (void)w, (void)out, (void)y, (void)y_row, (void)room;
}

void cpu_panel_dx(const float *dy, size_t dy_row, int n, const float *w, int out, int in, float *dx,
                  size_t dx_row, float *room)
{
    (void)dy, (void)dy_row, (void)n, (void)w, (void)out, (void)in, (void)dx, (void)dx_row;
    (void)room;
}

void cpu_panel_dw(const struct cpu_operand *x, const struct cpu_step_of *s)
{
    (void)x, (void)s;
}

#endif
