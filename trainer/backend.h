/* SPDX-License-Identifier: Apache-2.0
 *
 * What a compute backend is: a table of functions that build one op for each layer and run it. Ops
 * form a graph, each fed by earlier ones, and own everything that lies on the device: outputs,
 * gradients, weights and optimizer state, in whatever layout suits the kernels. Arrays cross this
 * interface only in the canonical layout: dense weights [out][in] with `in` in channel, row, column
 * order; convolution weights [filters][channels of a group][kernel][kernel]; embeddings
 * [vocabulary][width]; a layer norm's arrays in the order of its input; activations [n][c][h][w].
 *
 * Lanes: an op may compute K models of one architecture side by side (fused trials), each with
 * weights, optimizer, dropout and data order of its own. Every array then exists once a lane. An op
 * with one lane may feed ops with several: they share its values; that is how lanes that see the
 * same batch share one input. A lane's results are those that it would have alone: bit for bit on
 * the reference, up to rounding elsewhere. What is said of "an op" below holds for each lane.
 *
 * Gradients: backward goes through the ops from the last to the first. An op adds to the gradient
 * of its input where that was already set in this pass (grad_set), so that an output that feeds
 * several ops gets the sum.
 *
 * Work may be asynchronous: forward, backward and update return nothing, a failure sticks to the
 * backend until `check` reports it, and score, get and read wait for the results they return.
 * One backend handle serves one thread. Results depend only on the calls made: same build, same
 * processor, same number of threads, same bits.
 */
#ifndef MAG_TRAINER_BACKEND_H
#define MAG_TRAINER_BACKEND_H

#include "base/err.h"
#include "trainer/augment.h"
#include "trainer/dataset.h"
#include "trainer/model.h"

#include <stdbool.h>
#include <stdint.h>

#define BACKEND_VERSION 3
#define BACKEND_ROWS_MAX 16384 /* rows of one batch */
#define BACKEND_THREADS_MAX 256
#define BACKEND_LANES_MAX 64
#define BACKEND_SLOTS_MAX 32 /* batches that an input op may hold */

struct backend;
struct net;

/* The head of every op; a backend embeds it first in its own struct. */
struct op {
    struct backend *backend; /* borrowed */
    struct layer layer;      /* of the input op only `out` is meaningful */
    /* layer.n_inputs borrowed ops; none for the input op */
    struct op *inputs[MODEL_INPUTS_MAX];
    int index; /* layer index, -1 for the input op */
    int rows;  /* most rows a batch may have */
    int lanes;
    bool flows; /* it or a layer before it learns: its output's gradient is of use */
    /* Its gradient holds a part of this pass's already; net clears it before each backward. */
    bool grad_set;
};

/* Slots of a parameter array. Those that no gradient moves have VALUE and AVERAGE alone. */
enum op_slot {
    SLOT_VALUE = 0,
    SLOT_GRAD = 1,    /* of the last backward; undefined after update, which may never store it */
    SLOT_FIRST = 2,   /* momentum, or Adam's first moment */
    SLOT_SECOND = 3,  /* Adam's second moment */
    SLOT_AVERAGE = 4, /* the moving average of VALUE, where the op was made with one */
};
#define OP_SLOTS 5
#define SLOT_BIT(slot) (1u << (unsigned)(slot))

enum optimizer_kind {
    OPTIMIZER_SGD = 0,
    OPTIMIZER_ADAM = 1,
    OPTIMIZER_RMSPROP = 2,
    OPTIMIZER_ADAGRAD = 3,
    OPTIMIZER_LAMB = 4,
};
#define OPTIMIZERS 5
/* LOGISTIC: one output z, whose sigmoid is the probability of class 1 of two. */
enum loss_kind { LOSS_CROSS_ENTROPY = 0, LOSS_MSE = 1, LOSS_LOGISTIC = 2 };

struct loss {
    enum loss_kind kind;
    float
        smoothing; /* cross-entropy, logistic: part of the target spread evenly over all classes */
};

/* One optimizer step of an array, with gradient g (times `scale`) and step s: w -= lr (s + decay
 * w). Weight decay is decoupled (Loshchilov and Hutter 2019) and only of what op_param_decays says.
 *
 * - SGD      v = momentum v + g; s = v, or with Nesterov's look ahead s = g + momentum v
 * - Adam     Kingma and Ba 2015, algorithm 1: s = m' / (sqrt(v') + epsilon), both bias-corrected
 * - RMSprop  v = beta2 v + (1 - beta2) g g; m = momentum m + g / (sqrt(v) + epsilon); s = m
 * - Adagrad  v += g g; s = g / (sqrt(v) + epsilon)
 * - LAMB     You et al. 2020: Adam's step and the decay, where it decays times |w| / |step|
 *
 * Then, where the op has averages, every array's average becomes
 * average + (1 - keep) (value - average). */
struct update {
    enum optimizer_kind kind;
    float lr, momentum, weight_decay;
    float beta1, beta2, epsilon;
    bool nesterov;      /* SGD */
    float clip;         /* greatest norm of all gradients together, 0 = none; net sets `scale` */
    float scale;        /* of the gradients; 0 is read as 1 */
    float average_keep; /* of the moving average; 0 makes it a copy of the values */
    int64_t count;      /* updates done, this one included: Adam's bias correction */
    bool idle;          /* the lane has ended: nothing of it changes */
};

/* Names a lane's batch, so that a dropout mask is the same in every run and on every backend. */
struct pass_lane {
    uint64_t seed;
    int64_t trial, epoch, batch;
    const float *rates;      /* dropout rate of each layer, by index; NULL = those of the layers */
    const struct loss *loss; /* of the kind of the others' loss; NULL = that of the call */
    int first_row;           /* of the whole batch, where its rows are shared among processes */
    bool idle;               /* the lane has ended: its values are undefined, its state stays */
};

struct pass {
    bool training;
    const struct pass_lane *lanes; /* as many as the net has */
};

/* The examples of one lane. */
struct batch {
    const struct dataset *d;
    const uint32_t *rows; /* n row numbers */
    int n;
    const struct augment_row *augment; /* how `load` changes each row's image; NULL = not at all */
    /* What `load` would make of all that, where somebody did it before: n rows as the input has
     * them; NULL = nobody did. */
    const float *values;
};

/* What more is counted where a part of the data is measured. */
struct tally {
    int64_t top5;               /* rows whose class is among the five largest outputs */
    int64_t *hits, *said, *are; /* of each class: right, predicted, there; NULL = not counted */
    double targets, squares;    /* regression: sums of the targets and of their squares */
    double brier; /* two classes: sum of (probability of class 1 - is it)^2; of MSE's outputs NaN */
    /* two classes: the difference of the outputs (logistic: the one there is), and whether the row
     * is of class 1; room for all rows, or NULL */
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

/* How products are computed; master weights, sums and statistics are float32 in all of them. */
enum precision {
    PRECISION_FLOAT32 = 0,
    /* operands of dense layers and convolutions (inputs, weights, gradients of outputs before the
     * activation) rounded to bfloat16, to the nearest, ties to even */
    PRECISION_BF16 = 1,
    PRECISION_TF32 = 2, /* the same to TensorFloat-32; only where the hardware has it */
};

struct backend_options {
    int threads; /* compute threads, 1 by default */
    int device;  /* where there are several: the one of this number, counted around */
    enum precision precision;
};

/* Bytes of memory that a net takes, by what lies in them. */
struct room {
    int64_t weights; /* and running statistics */
    int64_t gradients;
    int64_t optimizer; /* both moments */
    int64_t average;   /* of the weights */
    int64_t values;    /* of a batch: outputs, their gradients, what backward keeps beside them */
    int64_t workspace; /* of kernels and libraries */
    int64_t data;      /* the data set */
};

/* What an op is made from. */
struct op_spec {
    const struct layer *layer;
    int index;                /* of the layer */
    struct op *const *inputs; /* layer->n_inputs; each with `lanes` lanes, or with one */
    int lanes;
    bool average; /* parameters have a SLOT_AVERAGE */
    bool learns;  /* room for gradients and optimizer state; false where a model is only applied */
};

struct backend_ops {
    int version; /* BACKEND_VERSION */
    const char *name;
    const char *summary; /* one line for --help */
    /* Bits 1 << enum precision of those that open takes; 0 = it says so itself. */
    unsigned precisions;

    /* UNSUPPORTED where the backend lacks the precision that is asked for. */
    enum mag_status (*open)(const struct backend_options *o, struct backend **ret,
                            struct mag_err *err);
    void (*close)(struct backend *b); /* NULL allowed */
    /* "oneDNN 2.6.3, AVX2": what computes, for records. Borrowed until close. */
    const char *(*describe)(const struct backend *b);
    /* The first failure since the last check, and forgets it. Scores are complete after it. */
    enum mag_status (*check)(struct backend *b, struct mag_err *err);

    /* True once `check` told a failure after which nothing works here in this process: it should
     * end. NULL: that cannot be. */
    bool (*lost)(const struct backend *b);

    /* True when `load` of such batches is work of the host that the device waits for; where the
     * function is NULL, it is work of the processors that compute. */
    bool (*waits)(struct backend *b, const struct dataset *d, bool augmented);

    /* Ops; inputs are borrowed and must outlive the new op. NOMEM when the device has no room. */
    enum mag_status (*input_create)(struct backend *b, const struct shape *shape, int rows,
                                    int lanes, struct op **ret, struct mag_err *err);
    enum mag_status (*op_create)(struct backend *b, const struct op_spec *spec, struct op **ret,
                                 struct mag_err *err);
    void (*op_destroy)(struct op *op); /* NULL allowed */
    /* All ops of the net are there: takes the memory that they need together. Before that no other
     * function is called with them but op_destroy. NOMEM when there is no room. NULL: each op has
     * what it needs already. */
    enum mag_status (*ready)(struct net *net, struct mag_err *err);

    /* Gathers the examples of a batch into a lane of the input op, and changes them as asked; or
     * takes what was gathered. */
    void (*load)(struct op *input, int lane, const struct batch *batch);
    /* The slot of an input op of one lane (below BACKEND_SLOTS_MAX; 0 at first) that `load` fills
     * and the others read from now on; each keeps its batch. NULL: there is but one, and lanes are
     * best computed side by side. Where it is there they are best computed in turn, each several
     * batches on end, so that what one trains on stays in the processor's caches. */
    void (*stage)(struct op *input, int slot);
    void (*forward)(struct op *op, int n, const struct pass *pass);
    /* Compares the last op's outputs with the examples' labels, lane by lane: batches[lane] and
     * add[lane]; all batches are of one size. With `want_grad` it also leaves the gradient of the
     * mean loss there and sets grad_set. Idle lanes are passed over. */
    void (*score)(struct op *last, const struct batch *batches, const struct pass *pass,
                  struct loss loss, bool want_grad, struct score *add);
    /* From the gradient of its output to those of its parameters and, unless no layer before it
     * learns, of its inputs. */
    void (*backward)(struct op *op, int n, const struct pass *pass);
    void (*update)(struct op *op, const struct update *lanes);
    /* Of each lane, the sum of squares of the gradients of the op's parameters. */
    void (*grad_square)(struct op *op, double *lanes);
    /* A whole training step of a net, as net_train (net.h) does it from the parts above; NULL: it
     * does. What it adds to `add`, which must live until then, is there after `check`. */
    void (*train)(struct net *net, const struct batch *batches, struct loss loss,
                  const struct pass *pass, const struct update *lanes, struct score *add);
    /* Exchanges VALUE and AVERAGE of every array: before measuring with the averages, and after. */
    void (*swap_average)(struct op *op);

    /* The gradients of a lane in an order of the backend's own, the same in every process of one
     * build; for sums over processes. Return how many floats; `out` NULL only counts. */
    int64_t (*grad_pack)(struct op *op, int lane, float *out);
    int64_t (*grad_unpack)(struct op *op, int lane, const float *in);
    /* Where those gradients lie in device memory, all lanes in a row, or NULL; the function itself
     * is NULL in backends whose memory is the host's. Where it is not, `train` sums them over the
     * net's ranks (net.h) before it updates. */
    float *(*grad_device)(struct op *op, int64_t *n);

    /* Whole parameter arrays of a lane in the canonical layout (op_param_floats values). */
    void (*get)(struct op *op, int lane, enum op_param p, enum op_slot slot, float *out);
    void (*set)(struct op *op, int lane, enum op_param p, enum op_slot slot, const float *in);
    /* Outputs or their gradients of the first n rows of a lane: of the last op, and of all where
     * the net keeps them (net.h). Put with `grad` sets gradients, and grad_set (tests). */
    void (*read)(struct op *op, int lane, bool grad, int n, float *out);
    void (*put)(struct op *op, int lane, bool grad, int n, const float *in);

    /* Adds what a net of this outline (net_outline) would take here: all but the data set. */
    void (*room)(const struct net *outline, enum precision precision, struct room *add);
    /* Bytes of the backend's memory that are free, and that there are; NULL: it is the host's. */
    int64_t (*memory)(struct backend *b, int64_t *ret_total);
};

/* Every backend of this build, best first, NULL-terminated. */
extern const struct backend_ops *const backend_registry[];
/* Those that a file may name: the registry's, then those of other programs of ours, whose open says
 * where they are. NULL from their number on. */
const struct backend_ops *backend_known(int i);
/* By name; NULL name = the first. NULL when this build has none of that name. */
const struct backend_ops *backend_find(const char *name);

extern const struct backend_ops backend_ref;
extern const struct backend_ops backend_cpu;

/* ---- shared by backends ---- */

/* v rounded to bfloat16. */
static inline float backend_bf16(float v)
{
    union {
        float f;
        uint32_t bits;
    } u = {.f = v};
    if (v != v) {
        return v;
    }
    u.bits += 0x7fff + (u.bits >> 16 & 1);
    u.bits &= 0xffff0000u;
    return u.f;
}
/* Fills the head of a new op, its room for `rows` rows included. */
void op_init(struct op *op, struct backend *b, const struct op_spec *spec);
void op_init_input(struct op *op, struct backend *b, const struct shape *shape, int rows,
                   int lanes);
/* Which arrays an op made from the spec has. */
bool op_has_slot(const struct op_spec *s, enum op_param p, enum op_slot slot);
/* The rate of a dropout layer in a lane. */
static inline float pass_rate(const struct pass *pass, int lane, const struct op *op)
{
    const float *rates = pass->lanes[lane].rates;
    return rates != NULL ? rates[op->index] : op->layer.rate;
}
/* What the outputs of a lane are compared by. */
static inline struct loss pass_loss(const struct pass *pass, int lane, struct loss all)
{
    const struct loss *own = pass->lanes[lane].loss;
    return own != NULL ? *own : all;
}
/* The row of an embedding that a value means: the nearest whole number inside [0, vocabulary). */
static inline int backend_index(float v, int vocabulary)
{
    int i = v >= 1 ? (v < (float)vocabulary ? (int)(v + 0.5f) : vocabulary - 1) : v >= 0.5f;
    return i < vocabulary ? i : vocabulary - 1;
}
/* Fills n multipliers of inverted dropout: 0, or 1 / (1 - rate); those of rows of `width` values
 * from lane->first_row on. */
void backend_dropout_mask(const struct pass_lane *lane, int layer, float rate, int64_t width,
                          float *mask, int64_t n);
/* Adds the parameter arrays of an op, or of the head of one, with all their slots. */
void op_room(const struct op *op, bool average, bool learns, struct room *add);
/* Loss and, when `grad` is not NULL, its gradient for outputs of `width` that lie `stride` apart in
 * host memory. */
void backend_score(const float *out, float *grad, int width, size_t stride,
                   const struct batch *batch, struct loss loss, struct score *add);

#endif
