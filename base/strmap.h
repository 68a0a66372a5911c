/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash map from strings to pointers, insertion O(1). Keys are copied, values borrowed. Iteration
 * order is insertion order and does not depend on the hash. Not for untrusted unbounded key counts:
 * the owner limits them.
 */
#ifndef MAG_BASE_STRMAP_H
#define MAG_BASE_STRMAP_H

#include <stddef.h>
#include <stdint.h>

struct strmap_entry {
    char *key; /* NULL = removed */
    void *value;
    uint64_t hash;
};

struct strmap {
    struct strmap_entry *entries;
    size_t used; /* entries, removed ones included */
    size_t live;
    size_t cap;
    uint32_t *slots; /* index + 1 into entries, 0 = empty */
    size_t n_slots;
};

/* The value, or NULL. */
void *strmap_get(const struct strmap *m, const char *key);
/* Sets and returns the previous value, or NULL. `value` must not be NULL. */
void *strmap_set(struct strmap *m, const char *key, void *value);
/* Removes and returns the value, or NULL. */
void *strmap_remove(struct strmap *m, const char *key);
/* The next entry from *cursor (start at 0), or NULL at the end. */
struct strmap_entry *strmap_next(const struct strmap *m, size_t *cursor);
void strmap_fini(struct strmap *m);

#endif
