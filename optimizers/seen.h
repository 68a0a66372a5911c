/* SPDX-License-Identifier: Apache-2.0
 *
 * Which points of a space were tried: by a trial of any kind and state, pending and failed ones
 * too. Spaces of at most SEEN_CELLS_MAX distinct points are known cell by cell, so that the next
 * untried one is found whatever is left, and that none is left is seen; of larger ones the points'
 * hashes are kept; where every point has a continuous coordinate nothing repeats, and nothing is.
 */
#ifndef MAG_OPTIMIZERS_SEEN_H
#define MAG_OPTIMIZERS_SEEN_H

#include "space/constraint.h"

#define SEEN_CELLS_MAX (1 << 22) /* half a megabyte of bits */

/* Private, embedded only. */
struct seen {
    const struct space *space; /* borrowed */
    uint64_t *bits;            /* one for each point by space_grid_index; NULL = not by cells */
    uint64_t size;             /* of bits */
    uint64_t n;                /* distinct points tried */
    uint64_t *keys;            /* hashes, open addressing, 0 = free */
    uint64_t cap;              /* of keys, a power of two */
    bool never;                /* points do not repeat here */
};

void seen_init(struct seen *t, const struct space *s);
void seen_fini(struct seen *t); /* copes with a zeroed one */
/* A trial runs from `point`. */
void seen_add(struct seen *t, const double *point);
bool seen_has(const struct seen *t, const double *point);
/* Does it remember anything? False where points do not repeat. */
bool seen_matters(const struct seen *t);
/* Every point that meets the constraints was tried. */
bool seen_exhausted(const struct seen *t);
/* Points not tried yet; INFINITY when there are too many to know. */
double seen_left(const struct seen *t);
/* Leaves an untried `point` as it is. Else draws others (space_sample on the streams of `purpose`
 * and `id`), and where they repeat too, takes the next untried cell after a drawn one. False when
 * the space is exhausted; true with a repeated point when nothing new turned up in a space too
 * large to count. */
bool seen_fresh(const struct seen *t, uint64_t seed, const char *purpose, uint64_t id,
                double *point);

#endif
