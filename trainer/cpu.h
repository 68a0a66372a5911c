/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the CPU backend (backend_cpu.c, cpu_*.c): its op, the layouts of activations, and the
 * kernels.
 *
 * Activations are either plain [n][c][h][w] or blocked [n][c / B][h][w][B] with B = 8 or 16, the
 * layout that the vector kernels of convolutions want; ops pass it on from one to the next, so that
 * nothing is reordered between layers. A dense layer behind a blocked image permutes its weights
 * once instead. Weights of convolutions are kept in the canonical layout.
 *
 * Convolutions and pooling always compute whole batches: rows past n are zero in the input and in
 * gradients, so they add nothing.
 */
#ifndef MAG_TRAINER_CPU_H
#define MAG_TRAINER_CPU_H

#include "trainer/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Compiles a kernel once for AVX2 and once for any processor; the loader picks. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FOR_CPUS __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_CPUS
#endif

struct cpu_op;
struct cpu_sheet;
struct onednn_conv;
struct winograd;

/* Each function works on all lanes. */
struct cpu_kind {
    enum mag_status (*init)(struct cpu_op *c, struct mag_err *err); /* NULL = nothing to do */
    void (*forward)(struct cpu_op *c, int n, const struct pass *pass);
    /* dx[i] takes the gradient of input i, all of it, in the input's layout; NULL = not wanted. Ops
     * with several inputs are called once for each (c->part), with dx of that one alone. */
    void (*backward)(struct cpu_op *c, int n, const struct pass *pass, float *const *dx);
    /* NULL = the plain step on weights and bias */
    void (*update)(struct cpu_op *c, const struct update *lanes);
    /* Makes the gradients that backward left to update; NULL = none are. */
    void (*finish_grads)(struct cpu_op *c);
};

/* Activations; owned by the op that made them. The value k of row i of a lane lies at
 * lane * `lane` + i * `row` + k. */
struct cpu_act {
    float *out;
    float *grad; /* NULL where no gradient flows */
    int block;   /* channels in a block; 1 = plain */
    int lanes;
    size_t row, lane;
};

/* A batch at the input. */
struct cpu_slot {
    float *out;              /* NULL until it is staged */
    int n;                   /* rows that it holds */
    struct cpu_sheet *sheet; /* what was found in it; NULL until a layer asks, or no memory */
};

struct cpu_op {
    struct op op; /* first */
    const struct cpu_kind *kind;
    struct cpu_act act;
    bool owns_act;                      /* flatten hands its input's on */
    int users;                          /* ops that this one feeds */
    int part;                           /* in backward: the input whose gradient is asked for */
    float *params[OP_PARAMS][OP_SLOTS]; /* [lanes][op_param_floats] */
    /* dense and layer norm behind a blocked image: our column of each canonical one; else NULL */
    uint32_t *column;
    float *pre;  /* what went into gelu and silu; NULL where the output tells the slope */
    int pending; /* dense: rows whose weight gradient is left to update; 0 = it lies in SLOT_GRAD */
    float *scratch;             /* room of the kind's own, made by its init */
    double *sums;               /* batch norm: two numbers of each channel */
    float *mask;                /* dropout */
    uint8_t *where;             /* maxpool: place of the largest value in its window */
    int32_t *place;             /* globalpool: the same in the image; NULL = the mean is taken */
    struct winograd *winograd;  /* conv: NULL = one of the next two */
    struct onednn_conv *onednn; /* conv: NULL = im2col */
    bool panels;                /* dense: weights lie in panels (cpu_panel.h) */
    struct cpu_slot slots[BACKEND_SLOTS_MAX]; /* input: act.out is slots[slot].out */
    int slot;
};

struct backend {
    int threads;
    bool bf16;         /* factors of products are rounded to bfloat16 */
    float *rounded[2]; /* room for the factors of one product, rounded_size floats each */
    size_t rounded_size[2];
    char text[96];
    bool onednn; /* engine below is live */
    void *engine, *stream;
    float *spare; /* room of spare_size floats for one op's values, between two calls of it */
    size_t spare_size;
    bool winograd; /* convolutions may take it */
    float *tiles;  /* room of tiles_size floats for one pass of one such */
    size_t tiles_size;
    float *room; /* room of room_size floats, within one call of an op */
    size_t room_size;
    struct mag_err failure; /* the first; code 0 = none */
};

static inline struct cpu_op *cpu_of(struct op *op)
{
    return (struct cpu_op *)(void *)op;
}

/* The op that owns the activations that `op` hands on. */
static inline struct cpu_op *cpu_owner(struct op *op)
{
    while (!cpu_of(op)->owns_act) {
        op = op->inputs[0];
    }
    return cpu_of(op);
}

static inline const struct cpu_act *cpu_in(const struct cpu_op *c, int input)
{
    return &cpu_owner(c->op.inputs[input])->act;
}

static inline size_t cpu_out_size(const struct cpu_op *c)
{
    return (size_t)shape_size(&c->op.layer.out);
}

/* Where a lane of activations begins; a shared one serves all lanes. */
static inline size_t cpu_lane(const struct cpu_act *a, int lane)
{
    return a->lanes == 1 ? 0 : (size_t)lane * a->lane;
}

/* NULL where the op has no such array. */
static inline float *cpu_param(const struct cpu_op *c, int lane, enum op_param p, enum op_slot s)
{
    return c->params[p][s] == NULL
               ? NULL
               : c->params[p][s] + (size_t)lane * (size_t)op_param_floats(&c->op.layer, p);
}

static inline float *cpu_pre(const struct cpu_op *c, int lane)
{
    return c->pre != NULL ? c->pre + cpu_lane(&c->act, lane) : NULL;
}

/* Has the lane ended? Where one lane serves all, it has not. */
static inline bool cpu_idle(const struct cpu_op *c, int lane, const struct pass *pass)
{
    return c->op.lanes > 1 && pass->lanes[lane].idle;
}

/* The image whose blocks `op` hands on, also where a flatten layer already calls it flat. */
static inline const struct shape *cpu_image(struct op *op)
{
    while (op->layer.out.flat && op->index >= 0 && cpu_of(op)->act.block > 1) {
        op = op->inputs[0];
    }
    return &op->layer.out;
}

/* Lays a lane's outputs out like those of input 0 (of as many lanes as the op has). */
void cpu_act_like(struct cpu_op *c, const struct cpu_act *in);
/* The step of bias, averages and, with `weights`, weights of every lane that is not idle. */
void cpu_update_lanes(struct cpu_op *c, const struct update *lanes, bool weights);
/* Makes backend->spare, or backend->room, hold n floats. False: no memory. */
bool cpu_need_spare(struct backend *b, size_t n);
bool cpu_need_room(struct backend *b, size_t n);
/* What was found in the batch that input 0 of a dense layer holds: its keys, or with `dw` its
 * columns. NULL: it is no batch as it was loaded, or has few zeros. */
const struct cpu_sheet *cpu_sheet_of(const struct cpu_op *c, bool dw);
/* All floats of an op's activations. */
size_t cpu_act_size(const struct cpu_op *c);

/* As backend_ops.room. */
void cpu_room(const struct net *outline, enum precision precision, struct room *add);

/* 64-byte aligned zeroed floats, or NULL; free() releases. */
float *cpu_alloc(size_t n);
/* Remembers the first failure. */
void cpu_fail(struct backend *b, enum mag_status code, const char *what);

/* ---- kernels (cpu_math.c) ---- */

/* A factor (0 or 1) of a product as the precision has it: itself, or a rounded copy that lasts
 * until the next call for that factor. */
const float *cpu_factor(struct backend *b, int which, const float *from, size_t n);
/* dL/dz as the precision has it, in place. */
void cpu_round_grad(const struct backend *b, float *g, size_t n);

/* C[m][n] = op(A) op(B) + beta C; rows lie lda, ldb, ldc apart. */
void cpu_matmul(struct backend *b, bool trans_a, bool trans_b, int m, int n, int k, const float *a,
                int lda, const float *bb, int ldb, float beta, float *c, int ldc);
/* y[out] = W x for W [out][in]: a product with one column. */
void cpu_matvec(const float *w, int out, int in, const float *x, float *y);
/* to[width] = sum of the rows. */
void cpu_sum_rows(const float *from, int rows, int width, float *to);
/* The optimizer's step of an array; `decays` as op_param_decays says. */
void cpu_update(float *const slots[OP_SLOTS], size_t n, const struct update *u, bool decays);
/* Moves the average towards the values: average += (1 - keep) (value - average). */
void cpu_average(const float *value, float *average, size_t n, float keep);
/* The sum of squares, in eight partial sums. */
double cpu_square(const float *v, size_t n);
void cpu_bytes_to_float(const uint8_t *from, float scale, float *to, size_t n);
void cpu_multiply(const float *a, const float *b, float *to, size_t n);
void cpu_add(const float *a, float *to, size_t n); /* to += a */
/* to = a + b, or with relu the largest of that and 0. */
void cpu_sum(const float *a, const float *b, float *to, size_t n, bool relu);

/* One image between plain [c][area] and blocked [c / block][area][block]. */
void cpu_to_plain(const float *blocked, int c, int area, int block, float *plain);
void cpu_to_blocked(const float *plain, int c, int area, int block, float *blocked);

/* ---- activations (cpu_act.c) ---- */

/* y = act(y). `pre` gets what went in; NULL where nobody will need it. */
void cpu_act_forward(float *y, float *pre, size_t n, enum activation act);
/* g *= act'(z): from the output y, or from z = pre where y does not tell the slope. */
void cpu_act_backward(float *g, const float *y, const float *pre, size_t n, enum activation act);
/* y = act(y + bias), rows of `width`; bias NULL: none. */
void cpu_bias_act(float *y, float *pre, const float *bias, int rows, int width,
                  enum activation act);

/* ---- layouts of rows ---- */

/* Copies one image from one blocking to another; `room` holds one image. */
void cpu_reblock(const float *from, int from_block, const struct shape *image, float *to,
                 int to_block, float *room);
/* Makes c->column for an input that is a blocked image: our place of each canonical value. */
bool cpu_make_columns(struct cpu_op *c);

/* ---- ops ---- */
extern const struct cpu_kind cpu_dense;
extern const struct cpu_kind cpu_conv;
extern const struct cpu_kind cpu_maxpool;
extern const struct cpu_kind cpu_dropout;
extern const struct cpu_kind cpu_avgpool;
extern const struct cpu_kind cpu_globalpool;
extern const struct cpu_kind cpu_batchnorm;
extern const struct cpu_kind cpu_layernorm;
extern const struct cpu_kind cpu_embedding;
extern const struct cpu_kind cpu_activation;
extern const struct cpu_kind cpu_add_kind;
extern const struct cpu_kind cpu_concat;

/* ---- oneDNN (cpu_onednn.c; without it cpu_noonednn.c, which has no kernel for anything) ---- */
enum mag_status onednn_open(struct backend *b, struct mag_err *err);
void onednn_close(struct backend *b);
/* A convolution whose input has `in_block`. *ret is NULL when oneDNN has no fast kernel for it. */
enum mag_status onednn_conv_create(struct backend *b, const struct layer *l, int rows, int in_block,
                                   bool want_dx, struct onednn_conv **ret, struct mag_err *err);
void onednn_conv_destroy(struct onednn_conv *c);
int onednn_conv_block(const struct onednn_conv *c); /* of its output */
/* Whether backward weights and backward data have kernels; where not, im2col does them. */
bool onednn_conv_has_dw(const struct onednn_conv *c);
bool onednn_conv_has_dx(const struct onednn_conv *c);
/* y = conv(x) + bias, then relu when the layer's activation is relu. Weights are canonical; bias
 * and db are NULL where the layer has none. */
void onednn_conv_forward(struct onednn_conv *c, const float *x, const float *w, const float *bias,
                         float *y);
void onednn_conv_dw(struct onednn_conv *c, const float *x, const float *dy, float *dw, float *db);
void onednn_conv_dx(struct onednn_conv *c, const float *dy, const float *w, float *dx);

/* ---- Winograd's minimal filtering (cpu_winograd.c; cpu_winograd.h tells what it is) ---- */

/* A convolution whose input and output have `block`. *ret is NULL where direct sums are faster or
 * the processor lacks AVX2. */
enum mag_status winograd_create(struct backend *b, const struct layer *l, int rows, int block,
                                bool learns, struct winograd **ret, struct mag_err *err);
void winograd_destroy(struct winograd *g); /* NULL allowed */
/* The floats that all such convolutions share, as one of them needs it in blocks of 8 channels; 0
 * where direct sums are faster. */
size_t winograd_room(const struct layer *l, int rows, bool learns);
/* y = conv(x) + bias of the first n images, then relu if asked for. Bias and db are NULL where the
 * layer has none. */
void winograd_forward(struct winograd *g, const float *x, const float *w, const float *bias,
                      bool relu, int n, float *y);
/* From the gradient dy of the first n images; dx, NULL if not wanted, is zero for the others. */
void winograd_backward(struct winograd *g, const float *x, const float *dy, const float *w, int n,
                       float *dw, float *db, float *dx);

#endif
