/* SPDX-License-Identifier: Apache-2.0
 *
 * A model on a backend: the graph of its ops, driven batch by batch. A net may hold several lanes:
 * models of one architecture that are trained side by side (backend.h). Where a function takes one
 * lane's things as an array, it has `lanes` entries.
 */
#ifndef MAG_TRAINER_NET_H
#define MAG_TRAINER_NET_H

#include "trainer/backend.h"

struct collective;

struct net {
    const struct backend_ops *ops;
    struct backend *backend; /* borrowed; must outlive the net */
    struct op *input;        /* one lane where all lanes see the same batches */
    struct op *layers[MODEL_LAYERS_MAX];
    int n;
    int rows; /* most rows a batch may have */
    int lanes;
    int ahead;            /* most steps that net_steps takes at once */
    bool average, learns, keeps; /* as in the options */
    /* Lanes in turn: each is a net of its own with one lane, which shares the input where all see
     * the same batches; `layers` are then empty. NULL: the layers compute all lanes. */
    struct net *turns[BACKEND_LANES_MAX];
    /* Where net_train is this rank's part of a step of several: gradients are of the mean loss of
     * all `whole` rows and are summed over the ranks in device memory. NULL: not. Borrowed. */
    struct collective *ranks;
    int whole;
};

struct net_options {
    int rows;     /* most rows a batch may have */
    int lanes;    /* 0 is read as 1 */
    bool shared;  /* all lanes see the same batches: they are gathered once, from batches[0] */
    bool average; /* keep a moving average of the weights */
    bool learns;  /* false: only to be applied, without room for gradients and optimizer state */
    bool turns;   /* lanes are computed in turn, not side by side (backend_ops.stage) */
    bool keeps; /* every op's output and gradient can be read after a pass, not the last's alone */
};

/* Builds the ops. Weights are zero. */
enum mag_status net_create(const struct backend_ops *ops, struct backend *backend,
                           const struct model *model, const struct net_options *options,
                           struct net **ret, struct mag_err *err) MAG_MUSTCHECK;
void net_destroy(struct net *net);
/* What that net would be: the heads of its ops alone, without a backend and without arrays. For
 * counting what it takes. */
struct net *net_outline(const struct model *model, const struct net_options *options);
void net_outline_destroy(struct net *outline);

/* Weights and biases of a lane uniform in +-1 / sqrt(fan-in), norms as the identity, embeddings
 * normal, from the stream (seed, "init", trial). Optimizer state is cleared, averages start from
 * the weights. */
void net_init_weights(struct net *net, int lane, uint64_t seed, uint64_t trial);

/* ---- one training step, whole or in its parts (these not of lanes in turn) ---- */

/* Loads the batches and computes all outputs. */
void net_forward(struct net *net, const struct batch *batches, const struct pass *pass);
/* Every gradient, from that of the outputs, which ops->score or ops->put left. `done`, where not
 * NULL, is called for each op that learns once its gradients are complete, the last op first. */
void net_backward(struct net *net, int n, const struct pass *pass,
                  void (*done)(void *ctx, struct op *op), void *ctx);
/* Clips where the lanes' updates ask for it, then takes the step. */
void net_update(struct net *net, const struct update *lanes);
/* All of that: forward, loss, backward, update. Scores are complete after ops->check. */
void net_train(struct net *net, const struct batch *batches, struct loss loss,
               const struct pass *pass, const struct update *lanes, struct score *add);

/* ---- several steps at once ---- */

struct net_step {
    const struct batch *batches;
    const struct pass *pass;
    const struct update *updates; /* NULL: losses and hits are counted, nothing is learned */
};

/* Loads the batches of step k, below net->ahead, where lanes take turns; else net_steps does. */
void net_load(struct net *net, int k, const struct net_step *s);
/* n steps of each lane, at most net->ahead, which were loaded. Lanes in turn take them one lane
 * after the other; one whose loss is no finite number any more takes no further ones. taken[lane]:
 * how many it took. Every lane is idle in all of them or in none. */
void net_steps(struct net *net, const struct net_step *steps, int n, struct loss loss,
               struct score *add, int *taken);

/* ---- */

/* Loss and hits of a batch, without dropout; changes no weights. Lanes that are idle in `lanes` are
 * passed over; NULL = none is. */
void net_score(struct net *net, const struct batch *batches, const struct pass_lane *lanes,
               struct loss loss, struct score *add);
/* Outputs [n][width] of a batch into `out`, of a net with one lane. */
void net_apply(struct net *net, const struct batch *batch, float *out);
/* Exchanges weights and their averages, for measuring with the averages and for going back. */
void net_swap_average(struct net *net);

/* The op of a layer that has a lane, and which of its lanes that is. */
struct op *net_op(const struct net *net, int layer, int *lane);

/* Calls `visit` with every parameter array of a lane in a fixed order. `slots`: bits of those of
 * SLOT_VALUE, SLOT_FIRST, SLOT_SECOND and SLOT_AVERAGE to visit; moments only of arrays that are
 * trained. Which of them the net has room for is the caller's to know. Stops at the first failure.
 */
struct net_array {
    struct op *op;
    int lane;
    enum op_param p;
    enum op_slot slot;
    size_t n;
};
typedef enum mag_status (*net_visit)(void *ctx, struct net *net, const struct net_array *a);
enum mag_status net_each_array(struct net *net, int lane, unsigned slots, net_visit visit,
                               void *ctx) MAG_MUSTCHECK;
/* Floats that net_each_array visits. */
size_t net_array_floats(const struct net *net, unsigned slots);

#endif
