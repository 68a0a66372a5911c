/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"
#include "base/pcg.h"

#include <criterion/criterion.h>

Test(heap, equal_keys_come_out_in_the_order_they_went_in)
{
    struct heap h = {0};
    struct heap_node n[5] = {{0}};
    const int64_t keys[5] = {7, 3, 7, 3, 3};
    for (int i = 0; i < 5; i++) {
        heap_put(&h, &n[i], keys[i]);
    }
    const int order[5] = {1, 3, 4, 0, 2};
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(heap_min(&h), &n[order[i]], "place %d", i);
        heap_remove(&h, &n[order[i]]);
        cr_assert_not(heap_has(&n[order[i]]));
    }
    cr_assert_null(heap_min(&h));
    heap_fini(&h);
}

Test(heap, putting_again_moves_and_counts_as_new)
{
    struct heap h = {0};
    struct heap_node a = {0};
    struct heap_node b = {0};
    heap_put(&h, &a, 5);
    heap_put(&h, &b, 5);
    heap_put(&h, &a, 5);
    cr_assert_eq(heap_min(&h), &b, "a was put in again and stands behind b");
    cr_assert_eq(h.len, 2);
    heap_put(&h, &a, INT64_MIN);
    cr_assert_eq(heap_min(&h), &a);
    heap_put(&h, &a, INT64_MAX);
    cr_assert_eq(heap_min(&h), &b);
    heap_fini(&h);
}

Test(heap, removing_what_is_in_no_heap_does_nothing)
{
    struct heap h = {0};
    struct heap_node a = {0};
    heap_remove(&h, &a);
    heap_put(&h, &a, 1);
    heap_remove(&h, &a);
    heap_remove(&h, &a);
    cr_assert_eq(h.len, 0);
    heap_fini(&h);
}

/* The whole contract against a plain array: 20,000 random operations. */
Test(heap, agrees_with_a_sorted_array_under_random_operations)
{
    enum { N = 200, OPERATIONS = 20000 };
    struct heap h = {0};
    struct heap_node nodes[N] = {{0}};
    struct pcg32 g;
    pcg32_seed(&g, 1, 1);
    for (int op = 0; op < OPERATIONS; op++) {
        struct heap_node *n = &nodes[pcg32_next(&g) % N];
        if (pcg32_next(&g) % 3 == 0) {
            heap_remove(&h, n);
        } else {
            heap_put(&h, n, (int64_t)(pcg32_next(&g) % 50) - 25);
        }
        const struct heap_node *want = NULL;
        size_t in = 0;
        for (int i = 0; i < N; i++) {
            const struct heap_node *c = &nodes[i];
            if (!heap_has(c)) {
                continue;
            }
            in++;
            cr_assert_eq(h.nodes[c->at - 1], c);
            if (want == NULL || c->key < want->key || (c->key == want->key && c->seq < want->seq)) {
                want = c;
            }
        }
        cr_assert_eq(h.len, in);
        cr_assert_eq(heap_min(&h), want, "operation %d", op);
    }
    heap_fini(&h);
}
