/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"

#include "base/alloc.h"

#include <stdlib.h>

static bool less(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

static void place(struct heap *h, size_t i, struct heap_node *node)
{
    h->nodes[i] = node;
    node->at = i + 1;
}

static void sift_up(struct heap *h, size_t i)
{
    struct heap_node *node = h->nodes[i];
    while (i > 0 && less(node, h->nodes[(i - 1) / 2])) {
        place(h, i, h->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(h, i, node);
}

static void sift_down(struct heap *h, size_t i)
{
    struct heap_node *node = h->nodes[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->len) {
            break;
        }
        if (child + 1 < h->len && less(h->nodes[child + 1], h->nodes[child])) {
            child++;
        }
        if (!less(h->nodes[child], node)) {
            break;
        }
        place(h, i, h->nodes[child]);
        i = child;
    }
    place(h, i, node);
}

void heap_put(struct heap *h, struct heap_node *node, int64_t key)
{
    heap_remove(h, node);
    if (h->len == h->cap) {
        h->cap = h->cap > 0 ? h->cap * 2 : 16;
        h->nodes = xreallocarray(h->nodes, h->cap, sizeof(struct heap_node *));
    }
    node->key = key;
    node->seq = h->next_seq++;
    place(h, h->len++, node);
    sift_up(h, h->len - 1);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (node->at == 0) {
        return;
    }
    size_t i = node->at - 1;
    struct heap_node *last = h->nodes[--h->len];
    node->at = 0;
    if (last != node) {
        place(h, i, last);
        sift_up(h, i);
        sift_down(h, last->at - 1);
    }
}

struct heap_node *heap_min(const struct heap *h)
{
    return h->len > 0 ? h->nodes[0] : NULL;
}

void heap_fini(struct heap *h)
{
    free(h->nodes);
    *h = (struct heap){0};
}
