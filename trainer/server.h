/* SPDX-License-Identifier: Apache-2.0
 *
 * A parameter server: one set of weights and optimizer state in memory that all ranks see. Each
 * rank trains on its part of the epoch's examples at its own pace: before every mini-batch it takes
 * the weights as they are, and after every `push_every` of them it applies the mean of its
 * gradients to them. Nobody waits for anybody before the end of the epoch. With "lock" one rank at
 * a time takes or changes the weights; without, all do at once and now and then overwrite each
 * other's steps (Hogwild; Recht et al. 2011). Results therefore differ from run to run, unless
 * there is one rank.
 */
#ifndef MAG_TRAINER_SERVER_H
#define MAG_TRAINER_SERVER_H

#include "trainer/collective.h"
#include "trainer/distribution.h"
#include "trainer/net.h"

struct server;

/* All ranks call it; the server starts from rank 0's net. Borrows all three. UNSUPPORTED where the
 * ranks have no memory in common, INVALID for what a server does not have. */
enum mag_status server_create(struct collective *c, const struct distribution *plan,
                              struct net *net, int64_t updates, struct server **ret,
                              struct mag_err *err) MAG_MUSTCHECK;
void server_destroy(struct server *s); /* NULL allowed */

/* One mini-batch: takes the weights, computes gradients, pushes them where it is time. `update` is
 * the recipe's, its count is the server's own. */
void server_train(struct server *s, const struct batch *batch, struct loss loss,
                  const struct pass_lane *lane, const struct update *update, struct score *add);
/* Pushes what is left. */
void server_flush(struct server *s, const struct update *update);
/* Rank 0's order for all, and what it is. A larger one stays. */
void server_order(struct server *s, int order);
int server_ordered(const struct server *s);
/* Waits for all ranks, then brings the server's weights, in rank 0 its optimizer state too, into
 * the net. Nothing may be pushed before the ranks have met again. */
enum mag_status server_settle(struct server *s, int64_t *ret_updates,
                              struct mag_err *err) MAG_MUSTCHECK;

#endif
