/* SPDX-License-Identifier: Apache-2.0 */
#include "base/strmap.h"

#include "base/alloc.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const char *s)
{
    uint64_t h = 0xcbf29ce484222325ULL;
    for (; *s != '\0'; s++) {
        h = (h ^ (unsigned char)*s) * 0x100000001b3ULL;
    }
    return h ^ (h >> 29);
}

/* The slot that holds `key`, or the empty one where it would go. */
static size_t probe(const struct strmap *m, const char *key, uint64_t hash)
{
    size_t i = hash & (m->n_slots - 1);
    while (m->slots[i] != 0) {
        const struct strmap_entry *e = &m->entries[m->slots[i] - 1];
        if (e->key != NULL && e->hash == hash && strcmp(e->key, key) == 0) {
            return i;
        }
        i = (i + 1) & (m->n_slots - 1);
    }
    return i;
}

/* Drops removed entries and makes room for as many again. */
static void rebuild(struct strmap *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->used; i++) {
        if (m->entries[i].key != NULL) {
            m->entries[n++] = m->entries[i];
        }
    }
    m->used = n;
    m->cap = n < 8 ? 16 : n * 2;
    m->entries = xreallocarray(m->entries, m->cap, sizeof(*m->entries));
    m->n_slots = 32;
    while (m->n_slots < m->cap * 2) {
        m->n_slots *= 2;
    }
    free(m->slots);
    m->slots = xcalloc(m->n_slots, sizeof(*m->slots));
    for (size_t i = 0; i < n; i++) {
        size_t s = m->entries[i].hash & (m->n_slots - 1);
        while (m->slots[s] != 0) {
            s = (s + 1) & (m->n_slots - 1);
        }
        m->slots[s] = (uint32_t)(i + 1);
    }
}

void *strmap_get(const struct strmap *m, const char *key)
{
    if (m->live == 0) {
        return NULL;
    }
    size_t s = probe(m, key, hash_of(key));
    return m->slots[s] != 0 ? m->entries[m->slots[s] - 1].value : NULL;
}

void *strmap_set(struct strmap *m, const char *key, void *value)
{
    MAG_ASSERT(value != NULL, "key %s", key);
    if (m->used == m->cap) {
        rebuild(m);
    }
    uint64_t hash = hash_of(key);
    size_t s = probe(m, key, hash);
    if (m->slots[s] != 0) {
        struct strmap_entry *e = &m->entries[m->slots[s] - 1];
        void *old = e->value;
        e->value = value;
        return old;
    }
    m->entries[m->used] = (struct strmap_entry){.key = xstrdup(key), .value = value, .hash = hash};
    m->slots[s] = (uint32_t)++m->used;
    m->live++;
    return NULL;
}

void *strmap_remove(struct strmap *m, const char *key)
{
    if (m->live == 0) {
        return NULL;
    }
    size_t s = probe(m, key, hash_of(key));
    if (m->slots[s] == 0) {
        return NULL;
    }
    struct strmap_entry *e = &m->entries[m->slots[s] - 1];
    void *old = e->value;
    free(e->key);
    e->key = NULL; /* its slot stays as a tombstone until the next rebuild */
    e->value = NULL;
    m->live--;
    return old;
}

struct strmap_entry *strmap_next(const struct strmap *m, size_t *cursor)
{
    while (*cursor < m->used) {
        struct strmap_entry *e = &m->entries[(*cursor)++];
        if (e->key != NULL) {
            return e;
        }
    }
    return NULL;
}

void strmap_fini(struct strmap *m)
{
    for (size_t i = 0; i < m->used; i++) {
        free(m->entries[i].key);
    }
    free(m->entries);
    free(m->slots);
    *m = (struct strmap){0};
}
