/* SPDX-License-Identifier: Apache-2.0
 *
 * A heap of workers by (time, rank): equal times come out in the order of ranks, whatever the order
 * they went in.
 */
#ifndef MAG_SIMULATE_QUEUE_H
#define MAG_SIMULATE_QUEUE_H

#include <stdint.h>

struct queue_node {
    int64_t at_ns;
    int32_t rank;
    int32_t place; /* index + 1 in its queue, 0 = in none */
};

struct queue {
    struct queue_node **items;
    int32_t n, cap;
};

/* Puts the node in, or moves it when it is in already. */
void queue_put(struct queue *q, struct queue_node *node, int64_t at_ns);
void queue_remove(struct queue *q, struct queue_node *node);
struct queue_node *queue_first(const struct queue *q); /* NULL = empty */
void queue_fini(struct queue *q);

#endif
