/* SPDX-License-Identifier: Apache-2.0
 *
 * Intrusive doubly linked list: the node lives inside the object, so moving an object between lists
 * allocates nothing and removal is O(1). A list is a circle through its head.
 */
#ifndef MAG_BASE_LIST_H
#define MAG_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *prev;
    struct list_node *next;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list_node *head)
{
    head->prev = head;
    head->next = head;
}

static inline bool list_is_empty(const struct list_node *head)
{
    return head->next == head;
}

/* Is this node in some list? (Nodes are zeroed or taken out by list_remove when they are in none.) */
static inline bool list_is_linked(const struct list_node *node)
{
    return node->next != NULL && node->next != node;
}

static inline void list_append(struct list_node *head, struct list_node *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void list_remove(struct list_node *node)
{
    if (node->next != NULL) {
        node->prev->next = node->next;
        node->next->prev = node->prev;
    }
    node->prev = NULL;
    node->next = NULL;
}

/* First node, or NULL. */
static inline struct list_node *list_first(const struct list_node *head)
{
    return head->next == head ? NULL : head->next;
}

/* Safe against removal of the current node. */
#define list_foreach(pos, tmp, head)                                                                \
    for ((pos) = (head)->next, (tmp) = (pos)->next; (pos) != (head); (pos) = (tmp), (tmp) = (pos)->next)

#endif
