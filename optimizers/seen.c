/* SPDX-License-Identifier: Apache-2.0
 *
 * The set of tried points.
 */
#include "optimizers/seen.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS 16     /* other points that seen_fresh draws */
#define KEYS_MIN 256 /* first size of the hash table */

void seen_init(struct seen *t, const struct space *s)
{
    double size = space_size(s);
    *t = (struct seen){.space = s};
    if (size <= SEEN_CELLS_MAX && space_size_is_exact(s)) {
        t->size = (uint64_t)size;
        t->bits = xcalloc((t->size + 63) / 64, sizeof(*t->bits));
    }
    for (int j = 0; j < s->n; j++) {
        t->never = t->never || (s->params[j].parent < 0 && isinf(param_cells(&s->params[j])));
    }
}

void seen_fini(struct seen *t)
{
    free(t->bits);
    free(t->keys);
    t->bits = NULL;
    t->keys = NULL;
}

/* ---- the hash table ---- */

static uint64_t key_of(const struct seen *t, const double *point)
{
    uint64_t h = space_point_hash(t->space, point);
    return h == 0 ? 1 : h;
}

/* The place of a key, or the free one where it belongs. */
static uint64_t place_of(const struct seen *t, uint64_t key)
{
    uint64_t i = (key * 0x9e3779b97f4a7c15ULL) & (t->cap - 1);
    while (t->keys[i] != 0 && t->keys[i] != key) {
        i = (i + 1) & (t->cap - 1);
    }
    return i;
}

static void grow(struct seen *t)
{
    uint64_t *old = t->keys;
    uint64_t cap = t->cap;
    t->cap = cap > 0 ? 2 * cap : KEYS_MIN;
    t->keys = xcalloc(t->cap, sizeof(*t->keys));
    for (uint64_t i = 0; i < cap; i++) {
        if (old[i] != 0) {
            t->keys[place_of(t, old[i])] = old[i];
        }
    }
    free(old);
}

static void add_key(struct seen *t, uint64_t key)
{
    if (2 * t->n >= t->cap) {
        grow(t);
    }
    uint64_t i = place_of(t, key);
    t->n += t->keys[i] == 0;
    t->keys[i] = key;
}

/* ---- both ---- */

void seen_add(struct seen *t, const double *point)
{
    if (t->never) {
        return;
    }
    if (t->bits == NULL) {
        add_key(t, key_of(t, point));
        return;
    }
    uint64_t k = space_grid_index(t->space, point);
    if (k < t->size) {
        uint64_t bit = UINT64_C(1) << (k % 64);
        t->n += (t->bits[k / 64] & bit) == 0;
        t->bits[k / 64] |= bit;
    }
}

bool seen_has(const struct seen *t, const double *point)
{
    if (t->never || t->n == 0) {
        return false;
    }
    if (t->bits == NULL) {
        return t->keys[place_of(t, key_of(t, point))] != 0;
    }
    uint64_t k = space_grid_index(t->space, point);
    return k < t->size && (t->bits[k / 64] >> (k % 64) & 1) != 0;
}

bool seen_matters(const struct seen *t)
{
    return !t->never;
}

bool seen_exhausted(const struct seen *t)
{
    return t->bits != NULL && t->n == t->size;
}

double seen_left(const struct seen *t)
{
    return t->bits != NULL ? (double)(t->size - t->n) : INFINITY;
}

/* The first untried index at or after `from`, round the end; some index is untried. */
static uint64_t next_untried(const struct seen *t, uint64_t from)
{
    uint64_t words = (t->size + 63) / 64;
    uint64_t w = from / 64;
    uint64_t open = ~t->bits[w] & (UINT64_MAX << (from % 64));
    for (;;) {
        if (w + 1 == words && t->size % 64 != 0) {
            open &= (UINT64_C(1) << (t->size % 64)) - 1;
        }
        if (open != 0) {
            return w * 64 + (uint64_t)__builtin_ctzll(open);
        }
        w = w + 1 < words ? w + 1 : 0;
        open = ~t->bits[w];
    }
}

bool seen_fresh(const struct seen *t, uint64_t seed, const char *purpose, uint64_t id,
                double *point)
{
    char stream[96];
    struct pcg64 g;
    if (seen_exhausted(t)) {
        return false;
    }
    if (!seen_has(t, point)) {
        return true;
    }
    (void)snprintf(stream, sizeof(stream), "%.60s:fresh", purpose);
    pcg_stream(&g, seed, stream, id);
    for (int i = 0; i < DRAWS; i++) {
        space_sample(t->space, pcg64_next(&g), stream, id, point);
        if (!seen_has(t, point)) {
            return true;
        }
    }
    if (t->bits != NULL) {
        space_grid_point(t->space, next_untried(t, pcg64_below(&g, t->size)), point);
    }
    return true;
}
