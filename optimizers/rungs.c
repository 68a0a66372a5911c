/* SPDX-License-Identifier: Apache-2.0
 *
 * Three index-keeping heaps a rung: the top 1/eta, the rest, and the candidates in the top. An
 * entry moves between top and rest at most once for each that comes in, so every operation is O(log
 * n) however many entries a rung has.
 */
#include "optimizers/rungs.h"

#include "base/alloc.h"
#include "base/err.h"

#include <stdlib.h>

int rungs_levels(int64_t min, int64_t max, int64_t eta, int64_t levels[RUNGS_MAX])
{
    int n = 0;
    for (int64_t b = min; b < max; b *= eta) {
        levels[n++] = b;
        if (b > INT64_MAX / eta) {
            break;
        }
    }
    levels[n++] = max;
    return n;
}

/* ---- heaps of entry indices ---- */

enum kind { TOP, REST, READY };

static struct rung_heap *heap_of(struct rung *r, enum kind kind)
{
    return kind == TOP ? &r->top : kind == REST ? &r->rest : &r->ready;
}

/* Does a come before b in this heap? */
static bool before(const struct rung *r, enum kind kind, uint32_t a, uint32_t b)
{
    const struct rung_entry *x = &r->entries[a];
    const struct rung_entry *y = &r->entries[b];
    bool better = x->value != y->value ? x->value < y->value : x->trial < y->trial;
    return kind == TOP ? !better : better;
}

static void put_at(struct rung *r, enum kind kind, uint32_t at, uint32_t entry)
{
    heap_of(r, kind)->items[at] = entry;
    if (kind == READY) {
        r->entries[entry].waiting = at + 1;
    } else {
        r->entries[entry].at = at;
    }
}

static void sift_up(struct rung *r, enum kind kind, uint32_t at, uint32_t entry)
{
    struct rung_heap *h = heap_of(r, kind);
    while (at > 0 && before(r, kind, entry, h->items[(at - 1) / 2])) {
        put_at(r, kind, at, h->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put_at(r, kind, at, entry);
}

static void sift_down(struct rung *r, enum kind kind, uint32_t at, uint32_t entry)
{
    struct rung_heap *h = heap_of(r, kind);
    for (uint32_t c = 2 * at + 1; c < h->n; c = 2 * at + 1) {
        if (c + 1 < h->n && before(r, kind, h->items[c + 1], h->items[c])) {
            c++;
        }
        if (!before(r, kind, h->items[c], entry)) {
            break;
        }
        put_at(r, kind, at, h->items[c]);
        at = c;
    }
    put_at(r, kind, at, entry);
}

static void push(struct rung *r, enum kind kind, uint32_t entry)
{
    struct rung_heap *h = heap_of(r, kind);
    if (h->n == h->cap) {
        h->cap = h->cap > 0 ? 2 * h->cap : 16;
        h->items = xreallocarray(h->items, h->cap, sizeof(*h->items));
    }
    h->n++;
    sift_up(r, kind, h->n - 1, entry);
}

static void remove_at(struct rung *r, enum kind kind, uint32_t at)
{
    struct rung_heap *h = heap_of(r, kind);
    uint32_t gone = h->items[at];
    uint32_t last = h->items[--h->n];
    if (at < h->n) {
        if (at > 0 && before(r, kind, last, h->items[(at - 1) / 2])) {
            sift_up(r, kind, at, last);
        } else {
            sift_down(r, kind, at, last);
        }
    }
    if (kind == READY) {
        r->entries[gone].waiting = 0;
    }
}

/* ---- a rung ---- */

void rung_init(struct rung *r, int64_t eta)
{
    *r = (struct rung){.eta = eta};
}

void rung_fini(struct rung *r)
{
    free(r->entries);
    free(r->top.items);
    free(r->rest.items);
    free(r->ready.items);
    *r = (struct rung){0};
}

static void enter_top(struct rung *r, uint32_t entry)
{
    r->entries[entry].in_top = true;
    push(r, TOP, entry);
    if (!r->entries[entry].spent) {
        push(r, READY, entry);
    }
}

static void leave_top(struct rung *r, uint32_t entry)
{
    if (r->entries[entry].waiting > 0) {
        remove_at(r, READY, r->entries[entry].waiting - 1);
    }
    remove_at(r, TOP, r->entries[entry].at);
    r->entries[entry].in_top = false;
    push(r, REST, entry);
}

uint32_t rung_add(struct rung *r, int64_t trial, double value, bool spent)
{
    if (r->n == r->cap) {
        r->cap = r->cap > 0 ? 2 * r->cap : 16;
        r->entries = xreallocarray(r->entries, r->cap, sizeof(*r->entries));
    }
    uint32_t entry = r->n++;
    r->entries[entry] =
        (struct rung_entry){.value = value, .trial = (uint32_t)trial & INT32_MAX, .spent = spent};
    r->n_spent += spent;
    if (r->top.n > 0 && before(r, REST, entry, r->top.items[0])) {
        enter_top(r, entry);
    } else {
        push(r, REST, entry);
    }
    uint32_t want = (uint32_t)(r->n / r->eta);
    if (r->top.n > want) {
        leave_top(r, r->top.items[0]);
    } else if (r->top.n < want) {
        uint32_t best = r->rest.items[0];
        remove_at(r, REST, 0);
        enter_top(r, best);
    }
    return entry;
}

void rung_spend(struct rung *r, uint32_t entry)
{
    struct rung_entry *e = &r->entries[entry];
    r->n_spent += !e->spent;
    e->spent = true;
    if (e->waiting > 0) {
        remove_at(r, READY, e->waiting - 1);
    }
}

const struct rung_entry *rung_candidate(const struct rung *r)
{
    return r->ready.n > 0 ? &r->entries[r->ready.items[0]] : NULL;
}

bool rung_keeps(const struct rung *r, uint32_t entry)
{
    return r->entries[entry].in_top || (r->top.n == 0 && r->rest.items[0] == entry);
}
