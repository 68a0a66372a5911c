/* SPDX-License-Identifier: Apache-2.0
 *
 * Binary min-heap of pointers whose objects know their place: removal and change of any object are
 * O(log n). Order is (key, sequence), so equal keys come out in the order they went in.
 */
#ifndef MAG_BASE_HEAP_H
#define MAG_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in the object; zero-initialised means "in no heap". */
struct heap_node {
    int64_t key;
    uint64_t seq;
    size_t at; /* index + 1, 0 = in no heap */
};

struct heap {
    struct heap_node **nodes;
    size_t len;
    size_t cap;
    uint64_t next_seq;
};

/* Puts `node` in with `key`, or moves it when it is in already (it then counts as newly put in). */
void heap_put(struct heap *h, struct heap_node *node, int64_t key);
/* Takes `node` out; nothing happens when it is in no heap. */
void heap_remove(struct heap *h, struct heap_node *node);
/* The smallest node, or NULL. */
struct heap_node *heap_min(const struct heap *h);
static inline bool heap_has(const struct heap_node *node)
{
    return node->at != 0;
}
void heap_fini(struct heap *h);

#endif
