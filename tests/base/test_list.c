/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"

#include <criterion/criterion.h>

struct thing {
    int id;
    struct list_node node;
};

static void expect_ids(struct list_node *head, const int *ids, int n)
{
    struct list_node *pos = NULL;
    struct list_node *tmp = NULL;
    int i = 0;
    list_foreach(pos, tmp, head)
    {
        cr_assert_lt(i, n, "more than %d nodes", n);
        cr_assert_eq(container_of(pos, struct thing, node)->id, ids[i], "place %d", i);
        i++;
    }
    cr_assert_eq(i, n, "%d nodes, expected %d", i, n);
}

Test(list, keeps_the_order_of_appending)
{
    struct list_node head;
    list_init(&head);
    cr_assert(list_is_empty(&head));
    cr_assert_null(list_first(&head));
    struct thing t[3] = {{.id = 1}, {.id = 2}, {.id = 3}};
    for (int i = 0; i < 3; i++) {
        cr_assert_not(list_is_linked(&t[i].node));
        list_append(&head, &t[i].node);
        cr_assert(list_is_linked(&t[i].node));
    }
    expect_ids(&head, (int[]){1, 2, 3}, 3);
    cr_assert_eq(container_of(list_first(&head), struct thing, node)->id, 1);
}

Test(list, removes_from_any_place_and_twice_without_harm)
{
    struct list_node head;
    list_init(&head);
    struct thing t[3] = {{.id = 1}, {.id = 2}, {.id = 3}};
    for (int i = 0; i < 3; i++) {
        list_append(&head, &t[i].node);
    }
    list_remove(&t[1].node);
    list_remove(&t[1].node);
    cr_assert_not(list_is_linked(&t[1].node));
    expect_ids(&head, (int[]){1, 3}, 2);
    list_append(&head, &t[1].node);
    expect_ids(&head, (int[]){1, 3, 2}, 3);
    for (int i = 0; i < 3; i++) {
        list_remove(&t[i].node);
    }
    cr_assert(list_is_empty(&head));
}

Test(list, the_current_node_may_be_removed_while_walking)
{
    struct list_node a;
    struct list_node b;
    list_init(&a);
    list_init(&b);
    struct thing t[6];
    for (int i = 0; i < 6; i++) {
        t[i] = (struct thing){.id = i};
        list_append(&a, &t[i].node);
    }
    struct list_node *pos = NULL;
    struct list_node *tmp = NULL;
    list_foreach(pos, tmp, &a)
    {
        if (container_of(pos, struct thing, node)->id % 2 == 1) {
            list_remove(pos);
            list_append(&b, pos);
        }
    }
    expect_ids(&a, (int[]){0, 2, 4}, 3);
    expect_ids(&b, (int[]){1, 3, 5}, 3);
}
