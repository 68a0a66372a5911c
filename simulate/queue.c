/* SPDX-License-Identifier: Apache-2.0 */
#include "simulate/queue.h"

#include "base/alloc.h"

#include <stdbool.h>
#include <stdlib.h>

static bool before(const struct queue_node *a, const struct queue_node *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->rank < b->rank;
}

static void place(struct queue *q, int32_t i, struct queue_node *node)
{
    q->items[i] = node;
    node->place = i + 1;
}

static void sift_up(struct queue *q, int32_t i, struct queue_node *node)
{
    for (; i > 0 && before(node, q->items[(i - 1) / 2]); i = (i - 1) / 2) {
        place(q, i, q->items[(i - 1) / 2]);
    }
    place(q, i, node);
}

static void sift_down(struct queue *q, int32_t i, struct queue_node *node)
{
    for (int32_t c = 2 * i + 1; c < q->n; c = 2 * i + 1) {
        c += c + 1 < q->n && before(q->items[c + 1], q->items[c]);
        if (!before(q->items[c], node)) {
            break;
        }
        place(q, i, q->items[c]);
        i = c;
    }
    place(q, i, node);
}

static void settle(struct queue *q, int32_t i, struct queue_node *node)
{
    if (i > 0 && before(node, q->items[(i - 1) / 2])) {
        sift_up(q, i, node);
    } else {
        sift_down(q, i, node);
    }
}

void queue_put(struct queue *q, struct queue_node *node, int64_t at_ns)
{
    node->at_ns = at_ns;
    if (node->place == 0) {
        if (q->n == q->cap) {
            q->cap = q->cap > 0 ? q->cap * 2 : 16;
            q->items = xreallocarray(q->items, (size_t)q->cap, sizeof(struct queue_node *));
        }
        q->n++;
        sift_up(q, q->n - 1, node);
    } else {
        settle(q, node->place - 1, node);
    }
}

void queue_remove(struct queue *q, struct queue_node *node)
{
    int32_t i = node->place - 1;
    if (i < 0) {
        return;
    }
    node->place = 0;
    struct queue_node *last = q->items[--q->n];
    if (last != node) {
        settle(q, i, last);
    }
}

struct queue_node *queue_first(const struct queue *q)
{
    return q->n > 0 ? q->items[0] : NULL;
}

void queue_fini(struct queue *q)
{
    free(q->items);
    *q = (struct queue){0};
}
