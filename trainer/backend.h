/* SPDX-License-Identifier: Apache-2.0
 *
 * What a compute backend is: a table of functions that build one op for each layer and run it. Ops
 * form a chain, each fed by the one before, and own everything that lies on the device: outputs,
 * gradients, weights and optimizer state, in whatever layout suits the kernels. Arrays cross this
 * interface only in the canonical layout: dense weights [out][in] with `in` in channel, row, column
 * order; convolution weights [filters][channels][kernel][kernel]; activations [n][c][h][w].
 *
 * Work may be asynchronous: forward, backward and update return nothing, a failure sticks to the
 * backend until `check` reports it, and score, get and read wait for the results they return.
 * One backend handle serves one thread. Results depend only on the calls made: same build, same
 * processor, same number of threads, same bits.
 */
#ifndef MAG_TRAINER_BACKEND_H
#define MAG_TRAINER_BACKEND_H

#include "base/err.h"
#include "trainer/dataset.h"
#include "trainer/model.h"

#include <stdbool.h>
#include <stdint.h>

#define BACKEND_VERSION 1
#define BACKEND_ROWS_MAX 16384 /* rows of one batch */
#define BACKEND_THREADS_MAX 256

struct backend;

/* The head of every op; a backend embeds it first in its own struct. */
struct op {
    struct backend *backend; /* borrowed */
    struct op *input;        /* borrowed; NULL for the input op */
    struct layer layer;      /* of the input op only `out` is meaningful */
    int index;               /* layer index, -1 for the input op */
    int rows;                /* most rows a batch may have */
};

enum op_param { OP_WEIGHTS = 0, OP_BIAS = 1 };
#define OP_PARAMS 2
enum op_slot {
    SLOT_VALUE = 0,
    SLOT_GRAD = 1,   /* of the last backward; undefined after update, which may never store it */
    SLOT_FIRST = 2,  /* momentum, or Adam's first moment */
    SLOT_SECOND = 3, /* Adam's second moment */
};
#define OP_SLOTS 4

enum optimizer_kind {
    OPTIMIZER_SGD = 0,
    OPTIMIZER_ADAM = 1,
    OPTIMIZER_RMSPROP = 2,
    OPTIMIZER_ADAGRAD = 3,
    OPTIMIZER_LAMB = 4,
};
#define OPTIMIZERS 5
enum loss_kind { LOSS_CROSS_ENTROPY = 0, LOSS_MSE = 1 };

struct loss {
    enum loss_kind kind;
    float smoothing; /* cross-entropy: part of the target spread evenly over all classes */
};

/* One optimizer step of an array, with gradient g (times `scale`) and step s: w -= lr (s + decay w).
 * Weight decay is decoupled (Loshchilov and Hutter 2019) and for weights only, no biases.
 *   SGD      v = momentum v + g; s = v, or with Nesterov's look ahead s = g + momentum v
 *   Adam     Kingma and Ba 2015, algorithm 1: s = m' / (sqrt(v') + epsilon), both bias-corrected
 *   RMSprop  v = beta2 v + (1 - beta2) g g; m = momentum m + g / (sqrt(v) + epsilon); s = m
 *   Adagrad  v += g g; s = g / (sqrt(v) + epsilon)
 *   LAMB     You et al. 2020: Adam's step and the decay, for weights times |w| / |step|
 */
struct update {
    enum optimizer_kind kind;
    float lr, momentum, weight_decay;
    float beta1, beta2, epsilon;
    bool nesterov;   /* SGD */
    float clip;      /* greatest norm of all gradients together, 0 = none; net_train sets `scale` */
    float scale;     /* of the gradients; 0 is read as 1 */
    int64_t count; /* updates done, this one included: Adam's bias correction */
};

/* Names the batch, so that a dropout mask is the same in every run and on every backend. */
struct pass {
    bool training;
    uint64_t seed;
    int64_t trial, epoch, batch;
};

/* What more is counted where a part of the data is measured. */
struct tally {
    int64_t top5;               /* rows whose class is among the five largest outputs */
    int64_t *hits, *said, *are; /* of each class: right, predicted, there; NULL = not counted */
    double targets, squares;    /* regression: sums of the targets and of their squares */
    /* two classes: the difference of the outputs, and whether the row is of class 1; room for all
     * rows, or NULL */
    float *margin;
    uint8_t *positive;
};

/* Added to by `score`. */
struct score {
    double loss;     /* sum over the rows */
    int64_t correct; /* rows whose largest output is their class */
    int64_t rows;
    struct tally *tally; /* NULL = no more than that */
};

struct backend_options {
    int threads; /* compute threads, 1 by default */
};

struct backend_ops {
    int version; /* BACKEND_VERSION */
    const char *name;
    const char *summary; /* one line for --help */

    enum mag_status (*open)(const struct backend_options *o, struct backend **ret,
                            struct mag_err *err);
    void (*close)(struct backend *b); /* NULL allowed */
    /* "oneDNN 2.6.3, AVX2": what computes, for records. Borrowed until close. */
    const char *(*describe)(const struct backend *b);
    /* The first failure since the last check, and forgets it. */
    enum mag_status (*check)(struct backend *b, struct mag_err *err);

    /* Ops; `input` is borrowed and must outlive the new op. NOMEM when the device has no room. */
    enum mag_status (*input_create)(struct backend *b, const struct shape *shape, int rows,
                                    struct op **ret, struct mag_err *err);
    enum mag_status (*op_create)(struct backend *b, const struct layer *layer, int index,
                                 struct op *input, struct op **ret, struct mag_err *err);
    void (*op_destroy)(struct op *op); /* NULL allowed */

    /* Gathers the n examples `rows` of the data set into the input op. */
    void (*load)(struct op *input, const struct dataset *d, const uint32_t *rows, int n);
    void (*forward)(struct op *op, int n, const struct pass *pass);
    /* Compares the last op's outputs with the examples' labels. With `want_grad` it also leaves the
     * gradient of the mean loss there. */
    void (*score)(struct op *last, const struct dataset *d, const uint32_t *rows, int n,
                  struct loss loss, bool want_grad, struct score *add);
    /* From the gradient of its output to those of its parameters and, unless it is the first layer
     * with weights, of its input. */
    void (*backward)(struct op *op, int n, const struct pass *pass);
    void (*update)(struct op *op, const struct update *u);
    /* The sum of squares of the gradients of the op's parameters. */
    double (*grad_square)(struct op *op);

    /* Whole parameter arrays in the canonical layout (layer_weights, layer_biases values). */
    void (*get)(struct op *op, enum op_param p, enum op_slot slot, float *out);
    void (*set)(struct op *op, enum op_param p, enum op_slot slot, const float *in);
    /* Outputs or their gradients of the first n rows; put_grad sets the gradients (tests). */
    void (*read)(struct op *op, bool grad, int n, float *out);
    void (*put)(struct op *op, bool grad, int n, const float *in);
};

/* Every backend of this build, best first, NULL-terminated. */
extern const struct backend_ops *const backend_registry[];
/* By name; NULL name = the first. NULL when this build has none of that name. */
const struct backend_ops *backend_find(const char *name);

extern const struct backend_ops backend_ref;
extern const struct backend_ops backend_cpu;

/* ---- shared by backends ---- */

/* Fills n multipliers of inverted dropout: 0, or 1 / (1 - rate). */
void backend_dropout_mask(const struct pass *pass, int layer, float rate, float *mask, int64_t n);
/* Loss and, when `grad` is not NULL, its gradient for outputs [n][width] in host memory. */
void backend_score(const float *out, float *grad, int width, const struct dataset *d,
                   const uint32_t *rows, int n, struct loss loss, struct score *add);

#endif
