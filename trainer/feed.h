/* SPDX-License-Identifier: Apache-2.0
 *
 * The batches of an epoch of training, one after the other. Gathering rows from all over memory,
 * making floats of them and changing images takes its time: a feed that is made so does it ahead,
 * on a thread of its own, while the batch before is trained on. Which it is changes no bit of what
 * is trained: all that is random comes from streams that name the batch (augment.h).
 *
 * Whoever made a feed uses it, from one thread. The feed's own thread reads the data set and the
 * rows that it was given, gathers into a ring that the feed owns, and does nothing else.
 */
#ifndef MAG_TRAINER_FEED_H
#define MAG_TRAINER_FEED_H

#include "trainer/augment.h"
#include "trainer/backend.h"

#define FEED_AHEAD_MAX 8 /* batches */

struct feed;
struct team;

struct feed_options {
    const struct dataset *d; /* borrowed; its values stay as they are meanwhile */
    struct shape shape;      /* of an example as the model takes it */
    int batch_size;          /* of all processes together */
    int lanes;               /* each with batches of its own, at most */
    int ahead;               /* batches made ready ahead; 0 = none, load gathers */
    const struct team *team; /* this process takes its share of each batch; NULL = all of it */
};

/* What a lane trains on in an epoch. Borrowed until its last batch. */
struct feed_lane {
    const uint32_t *rows;
    const struct augmentation *augmentation;
    struct augment_stream stream; /* of the first batch */
};

/* Without memory, or when no thread can be had, it gathers nothing ahead. */
struct feed *feed_create(const struct feed_options *o);
/* Ends the thread, whatever it was about. NULL allowed. */
void feed_destroy(struct feed *f);

/* Begins an epoch of n_rows rows in each of n lanes. The one before may have been left half-way. */
void feed_begin(struct feed *f, const struct feed_lane *lanes, int n, uint32_t n_rows);
/* The next batch of every lane, valid until the next call, of which this process has the rows from
 * *first on. Returns the rows that the batch has in all processes together; 0: the epoch is over.
 */
int feed_next(struct feed *f, struct batch *lanes, int *first);
/* Nothing is made ready for the lane any more. */
void feed_drop(struct feed *f, int lane);

#endif
