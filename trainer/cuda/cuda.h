/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the CUDA backend (backend.c, nets.c, ops.c, step.c, sums.c, resident.c, profile.c):
 * its handle, its ops, and the nets that they belong to.
 *
 * Activations lie as [n][h * w][lanes][c] (cell.h). Parameters lie as [lanes][canonical], but
 * weights of convolutions have the channel last: [filters][kernel][kernel][channels].
 */
#ifndef MAG_TRAINER_CUDA_CUDA_H
#define MAG_TRAINER_CUDA_CUDA_H

#include "trainer/backend.h"
#include "trainer/collective.h"
#include "trainer/cuda/device.h"
#include "trainer/cuda/plan.h"

#define RESIDENT_MAX 4 /* data sets that are kept on the device */
#define GRAPHS_MAX 4   /* recorded steps of a net: batch sizes, losses */

extern const struct backend_ops backend_cuda;

struct cuda_op;
struct net;

struct cuda_kind {
    enum mag_status (*init)(struct cuda_op *c, struct mag_err *err); /* NULL = nothing to do */
    void (*ready)(struct cuda_op *c); /* its memory is there; NULL likewise */
    void (*forward)(struct cuda_op *c, int n, const struct pass *pass);
    void (*backward)(struct cuda_op *c, int n);
};

/* A data set in device memory. */
struct resident {
    uint64_t serial; /* of the data set; 0 = an empty place */
    uint8_t *bytes;
    float *values;
    int32_t *labels;
    float *targets;
    uint64_t used; /* when last */
};

struct backend {
    struct device *device;
    enum precision precision;
    char text[256];
    struct resident sets[RESIDENT_MAX];
    uint64_t clock;
    float *row_values; /* examples that are gathered on the host: a batch of them */
    int64_t row_room;
    struct cuda_net *nets;
    bool graphs;   /* record the training step; MAGPIE_CUDA_GRAPHS=0 turns it off */
    bool profiles; /* MAGPIE_CUDA_PROFILE=1: measure every op, and print that at the end */
};

/* A step that was recorded, and what it is good for. */
struct cuda_graph {
    struct device_graph *graph;
    int n, whole; /* rows; of the batch over all ranks */
    struct loss loss;
    float smoothing[BACKEND_LANES_MAX]; /* 0 of those that are idle */
    uint64_t sets; /* which data sets the lanes read, as a sum over their serials */
    bool clips, ratios, changes;
    bool tried;   /* it has run once without being recorded: libraries have picked their kernels */
    bool records; /* with several ranks: all of them can record it */
};

/* Gradients that are summed over the ranks together. */
struct cuda_bucket {
    struct collective_span spans[COLLECTIVE_SPANS_MAX];
    int n;
    size_t floats;
};

/* All ops that stem from one input op. */
struct cuda_net {
    struct cuda_net *next; /* of the backend */
    struct backend *backend;
    struct cuda_op *input;
    struct cuda_op **ops; /* in the order of the layers */
    int n_ops;
    int lanes; /* of the ops that learn */
    struct plan plan;
    char *memory; /* the block that the plan is of; NULL until cuda_ready */
    bool staged;  /* a training step runs: what differs between steps is in device memory already */
    struct cell_model model; /* the table of parameters */
    /* What a step needs from the host, in one copy: updates, rows of each lane, changes of their
     * images, dropout streams. Where each begins: plan.rows and so on. */
    uint8_t *step_host;
    /* Losses that are on their way. */
    struct cell_score *scores; /* device, [lanes] */
    struct score *pending;     /* [lanes] of the caller, or NULL */
    bool idle[BACKEND_LANES_MAX];
    struct cuda_graph graphs[GRAPHS_MAX];
    /* Over which ranks the step is shared, or NULL; rows of the whole batch then, else of this one.
     */
    struct collective *ranks;
    int whole;
    struct cuda_bucket bucket;
    struct profile *profile; /* NULL = none */
};

struct cuda_op {
    struct op op; /* first */
    const struct cuda_kind *kind;
    struct cuda_net *net;
    struct tensor out, grad;
    void *kept;
    struct tensor input, input_grad; /* data NULL where the inputs' own will do */
    float *params[OP_PARAMS][OP_SLOTS];
    uint16_t *half;
    uint16_t *half_grad;
    float *saved;
    void *scratch; /* while it runs, as `work` */
    void *work;
    int64_t work_bytes;
    struct cell_stream *streams;
    int64_t n_gradients; /* all lanes */
    struct device_conv *conv;
    int first_array, n_arrays, first_chunk, n_chunks; /* its part of the net's table */
};

static inline struct cuda_op *cuda_of(struct op *op)
{
    return (struct cuda_op *)(void *)op;
}

static inline struct device *cuda_device(const struct cuda_op *c)
{
    return c->net->backend->device;
}

static inline void *cuda_stream(const struct cuda_op *c)
{
    return device_stream(c->net->backend->device);
}

static inline int shape_area(const struct shape *s)
{
    return s->h * s->w;
}

/* Of the op's output in n rows. */
static inline struct extent cuda_extent(const struct cuda_op *c, int n)
{
    return (struct extent){n, shape_area(&c->op.layer.out), c->op.lanes, c->op.layer.out.c};
}

/* ---- ops (ops.c) ---- */
const struct cuda_kind *cuda_kind_of(enum layer_kind k);
/* The weights as products read them. */
struct tensor cuda_weights(const struct cuda_op *c);
/* Puts a lane's dropout streams for `pass` into `to`[lanes]. */
void cuda_streams(const struct cuda_op *c, const struct pass *pass, struct cell_stream *to);

/* ---- what a net would take (room.c), as backend_ops.room ---- */
void cuda_room(const struct net *outline, enum precision precision, struct room *add);

/* ---- data sets (resident.c) ---- */
/* Gathers a batch into a lane of the input op. */
void cuda_load(struct op *input, int lane, const struct batch *batch);
bool cuda_waits(struct backend *b, const struct dataset *d, bool augmented);
/* Gathers the batches of all lanes whose bit in `mask` is set; rows and changes are staged. */
void cuda_load_staged(struct cuda_net *net, uint64_t mask, const struct batch *batches,
                      bool changes);
/* The data set on the device, copied there when it is not. Without bytes and values where there is
 * no room: the host gathers its examples then. `touch`: it counts as used. */
const struct resident *cuda_resident(struct backend *b, const struct dataset *d, bool touch);
/* Frees what lies there for later; false when there was nothing. */
bool resident_release(struct backend *b);
void resident_close(struct backend *b);

/* ---- nets (nets.c) ---- */
struct cuda_net *cuda_net_open(struct backend *b, struct cuda_op *input);
void cuda_net_close(struct cuda_net *net);
void cuda_net_join(struct cuda_net *net, struct cuda_op *op);
void cuda_net_leave(struct cuda_net *net, struct cuda_op *op);
enum mag_status cuda_ready(struct net *net, struct mag_err *err);
/* An offset of the plan in device memory; NULL for PLAN_NONE. */
void *cuda_net_at(const struct cuda_net *net, int64_t offset);
/* No recorded step of any net is of use any more. */
void cuda_forget_graphs(struct backend *b);

/* ---- what takes how long (profile.c) ---- */
struct profile *profile_create(struct cuda_net *net);
void profile_fini(struct profile *p); /* prints it; NULL allowed */
/* What is queued from here on counts as this; steps end with profile_end. NULL allowed. */
enum profile_part {
    PROFILE_LOAD = 0,
    PROFILE_FORWARD = 1,
    PROFILE_LOSS = 2,
    PROFILE_BACKWARD = 3,
    PROFILE_UPDATE = 4,
};
void profile_mark(struct profile *p, enum profile_part part, const struct op *op);
/* Waits. `rows` of a batch. */
void profile_end(struct profile *p, int rows);

/* ---- steps (step.c) ---- */
/* Where a lane's row numbers and changes of images lie on the device. */
uint32_t *cuda_net_rows(struct cuda_net *net, int lane);
struct cell_change *cuda_net_changes(struct cuda_net *net, int lane);
/* Adds the losses that are on their way to where they belong. */
void cuda_net_settle(struct cuda_net *net);
void cuda_score(struct op *last, const struct batch *batches, const struct pass *pass,
                struct loss loss, bool want_grad, struct score *add);
void cuda_update(struct op *op, const struct update *lanes);
void cuda_grad_square(struct op *op, double *lanes);
void cuda_train(struct net *net, const struct batch *batches, struct loss loss,
                const struct pass *pass, const struct update *lanes, struct score *add);

/* ---- steps over several ranks (sums.c) ---- */
/* What is waited for on the device is given up once a rank of `ranks` has failed; NULL: one
 * process. */
void cuda_sums_begin(struct cuda_net *net, struct collective *ranks);
/* An op's gradients are complete (ctx is the net): their sums begin. */
void cuda_sums_add(void *ctx, struct op *op);
/* Instead of a backward pass, where this rank has no rows of a small batch. */
void cuda_sums_nothing(struct cuda_net *net, struct net *n);
/* What is queued from here on sees all sums. */
void cuda_sums_end(struct cuda_net *net);
/* Whether all ranks say yes; false, too, once they have lost each other. */
bool cuda_sums_agree(struct cuda_net *net, bool yes);

#endif
