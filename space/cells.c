/* SPDX-License-Identifier: Apache-2.0
 *
 * The feasible cells of a small finite space with constraints: one bit for each cell, and a rank
 * for each word, so that the k-th feasible cell and the number of a cell are found at once.
 */
#include "space/constraint_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct enumeration {
    const struct space *s;
    struct constraints *c;
    double *point;
    uint64_t cell;
};

/* Every cell whose first `depth` parameters (in order) stand in the point; lexicographic, as
 * cells_point counts. */
static void walk(struct enumeration *e, int depth)
{
    const struct space *s = e->s;
    while (depth < s->n && !space_is_active(s, e->point, s->order[depth])) {
        e->point[s->order[depth++]] = NAN;
    }
    if (depth == s->n) {
        if (space_is_feasible(s, e->point)) {
            if (e->c->feasible++ == 0) {
                memcpy(e->c->witness, e->point, (size_t)s->n * sizeof(*e->point));
            }
            e->c->bits[e->cell / 64] |= UINT64_C(1) << (e->cell % 64);
        }
        e->cell++;
        return;
    }
    int j = s->order[depth];
    double n = param_cells(&s->params[j]);
    for (double k = 0; k < n; k++) {
        e->point[j] = param_cell_value(&s->params[j], k);
        walk(e, depth + 1);
    }
}

void cells_enumerate(const struct space *s, struct constraints *c)
{
    struct enumeration e = {.s = s, .c = c};
    uint64_t cells = 1;
    for (int j = 0; j < s->n; j++) {
        cells *= s->params[j].parent < 0 ? (uint64_t)s->counts[j] : 1;
    }
    e.point = xcalloc((size_t)s->n, sizeof(*e.point));
    c->words = (cells + 63) / 64;
    c->bits = xcalloc(c->words, sizeof(*c->bits));
    c->rank = xcalloc(c->words, sizeof(*c->rank));
    walk(&e, 0);
    uint32_t before = 0;
    for (uint64_t w = 0; w < c->words; w++) {
        c->rank[w] = before;
        before += (uint32_t)__builtin_popcountll(c->bits[w]);
    }
    free(e.point);
}

uint64_t cells_select(const struct constraints *c, uint64_t index)
{
    uint64_t lo = 0;
    uint64_t hi = c->words;
    while (hi - lo > 1) { /* the last word with rank <= index */
        uint64_t mid = (lo + hi) / 2;
        if (c->rank[mid] <= index) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    uint64_t word = c->bits[lo];
    for (uint64_t skip = index - c->rank[lo]; skip > 0; skip--) {
        word &= word - 1;
    }
    return lo * 64 + (uint64_t)__builtin_ctzll(word);
}

uint64_t cells_rank(const struct constraints *c, uint64_t cell)
{
    uint64_t word = c->bits[cell / 64];
    uint64_t bit = UINT64_C(1) << (cell % 64);
    return (word & bit) == 0
               ? UINT64_MAX
               : c->rank[cell / 64] + (uint64_t)__builtin_popcountll(word & (bit - 1));
}
