/* SPDX-License-Identifier: Apache-2.0 */
#include "base/strmap.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(strmap, get_set_and_remove)
{
    struct strmap m = {0};
    int a = 1;
    int b = 2;
    cr_assert_null(strmap_get(&m, "x"));
    cr_assert_null(strmap_remove(&m, "x"));
    cr_assert_null(strmap_set(&m, "x", &a));
    cr_assert_eq(strmap_get(&m, "x"), &a);
    cr_assert_eq(strmap_set(&m, "x", &b), &a, "setting again gives the old value back");
    cr_assert_eq(strmap_get(&m, "x"), &b);
    cr_assert_null(strmap_set(&m, "", &a), "the empty key is a key");
    cr_assert_eq(strmap_get(&m, ""), &a);
    cr_assert_eq(m.live, 2);
    cr_assert_eq(strmap_remove(&m, "x"), &b);
    cr_assert_null(strmap_get(&m, "x"));
    cr_assert_null(strmap_remove(&m, "x"));
    cr_assert_eq(m.live, 1);
    strmap_fini(&m);
}

Test(strmap, keys_are_copied)
{
    struct strmap m = {0};
    char key[8] = "abc";
    int a = 1;
    (void)strmap_set(&m, key, &a);
    key[0] = 'z';
    cr_assert_eq(strmap_get(&m, "abc"), &a);
    cr_assert_null(strmap_get(&m, "zbc"));
    strmap_fini(&m);
}

Test(strmap, thousands_of_keys_survive_growth_and_removal_in_insertion_order)
{
    enum { N = 5000 };
    static int values[N];
    struct strmap m = {0};
    char key[32];
    for (int round = 0; round < 3; round++) { /* tombstones of each round are reused by the next */
        for (int i = 0; i < N; i++) {
            (void)snprintf(key, sizeof(key), "key-%d", i);
            cr_assert_null(strmap_set(&m, key, &values[i]));
        }
        for (int i = 0; i < N; i += 2) {
            (void)snprintf(key, sizeof(key), "key-%d", i);
            cr_assert_eq(strmap_remove(&m, key), &values[i]);
        }
        cr_assert_eq(m.live, N / 2);
        size_t cursor = 0;
        int expected = 1;
        for (struct strmap_entry *e = NULL; (e = strmap_next(&m, &cursor)) != NULL; expected += 2) {
            cr_assert_eq(e->value, &values[expected], "insertion order");
        }
        cr_assert_eq(expected, N + 1);
        for (int i = 1; i < N; i += 2) {
            (void)snprintf(key, sizeof(key), "key-%d", i);
            cr_assert_eq(strmap_remove(&m, key), &values[i]);
        }
        cr_assert_eq(m.live, 0);
    }
    strmap_fini(&m);
}
