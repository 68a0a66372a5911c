/* SPDX-License-Identifier: Apache-2.0
 *
 * A model on a backend: the chain of its ops, driven batch by batch.
 */
#ifndef MAG_TRAINER_NET_H
#define MAG_TRAINER_NET_H

#include "trainer/backend.h"

struct net {
    const struct backend_ops *ops;
    struct backend *backend; /* borrowed; must outlive the net */
    struct op *input;
    struct op *layers[MODEL_LAYERS_MAX];
    int n;
    int rows; /* most rows a batch may have */
};

/* Builds the ops for batches of at most `rows`. Weights are zero. */
enum mag_status net_create(const struct backend_ops *ops, struct backend *backend,
                           const struct model *model, int rows, struct net **ret,
                           struct mag_err *err) MAG_MUSTCHECK;
void net_destroy(struct net *net);

/* Weights and biases uniform in +-1 / sqrt(fan-in), from the stream (seed, "init", trial).
 * Optimizer state is cleared. */
void net_init_weights(struct net *net, uint64_t seed, uint64_t trial);

/* One training step on the n examples `rows`: forward, loss, backward, update. */
void net_train(struct net *net, const struct dataset *d, const uint32_t *rows, int n,
               struct loss loss, const struct pass *pass, const struct update *u,
               struct score *add);
/* Loss and hits of n examples, without dropout; changes no weights. */
void net_score(struct net *net, const struct dataset *d, const uint32_t *rows, int n,
               struct loss loss, struct score *add);

/* Calls `visit` with every parameter array in a fixed order. `slots` = how many of SLOT_VALUE,
 * SLOT_FIRST, SLOT_SECOND to visit (1 to 3). Stops at the first failure. */
typedef enum mag_status (*net_visit)(void *ctx, struct net *net, struct op *op, enum op_param p,
                                     enum op_slot slot, size_t n);
enum mag_status net_each_array(struct net *net, int slots, net_visit visit,
                               void *ctx) MAG_MUSTCHECK;
/* Floats that net_each_array visits. */
size_t net_array_floats(const struct net *net, int slots);

#endif
