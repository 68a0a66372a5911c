/* SPDX-License-Identifier: Apache-2.0
 *
 * One rank's part in a trial that several processes train together (all-reduce): every rank holds
 * the whole model and trains its share of each batch; the gradients are summed over the ranks in
 * pieces of up to 1 MiB, begun as soon as backward has completed them, and every rank then takes
 * the same step. Where each rank has a GPU of its own, the backend sums them there (net.h). The
 * batches, their order and the dropout masks are those of one process, so that the results differ
 * by rounding alone.
 *
 * Rank 0 alone speaks with the worker: what it is told is known to all by the next sum.
 */
#ifndef MAG_TRAINER_TEAM_H
#define MAG_TRAINER_TEAM_H

#include "trainer/collective.h"
#include "trainer/distribution.h"
#include "trainer/net.h"

struct team; /* of one trial on one rank */

/* Borrows all three. All ranks call it together. */
enum mag_status team_create(struct collective *c, const struct distribution *plan, struct net *net,
                            struct team **ret, struct mag_err *err) MAG_MUSTCHECK;
void team_destroy(struct team *t); /* NULL allowed */

/* This rank's share of n rows that lie in a row; NULL: all of them. */
void team_share(const struct team *t, uint32_t n, uint32_t *ret_from, uint32_t *ret_n);
/* The most rows that a share of a batch of n has. */
int team_rows(const struct collective *c, int n);

/* One training step on a batch of `whole` rows, of which this rank has its share (perhaps none);
 * lane->first_row is where that begins. `*order` is rank 0's and comes back on all ranks; where it
 * is above `ends`, no step was taken. */
enum mag_status team_train(struct team *t, const struct batch *share, int whole, struct loss loss,
                           const struct pass_lane *lane, const struct update *update, int *order,
                           int ends, struct score *add, struct mag_err *err) MAG_MUSTCHECK;

/* Sums what each rank counted of its share of `n_rows` rows; the same on all afterwards. `*order`
 * as above. */
enum mag_status team_sum_score(struct team *t, struct score *s, int n_classes, uint32_t n_rows,
                               int *order, struct mag_err *err) MAG_MUSTCHECK;

/* Running statistics (of batch norm), which each rank has of its own share, become their mean. */
enum mag_status team_mean_statistics(struct team *t, struct mag_err *err) MAG_MUSTCHECK;

/* Rank 0's arrays of all `slots` to all. */
enum mag_status team_spread(struct team *t, unsigned slots, struct mag_err *err) MAG_MUSTCHECK;
/* Rank 0's numbers to all. */
enum mag_status team_tell(struct team *t, int64_t *numbers, size_t n,
                          struct mag_err *err) MAG_MUSTCHECK;

#endif
