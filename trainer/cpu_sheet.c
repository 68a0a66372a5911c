/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/cpu_panel.h"

#include "base/alloc.h"
#include "trainer/cpu.h"

#include <stdlib.h>
#include <string.h>

/* The most values of a batch that are looked through: a sheet takes three times their memory. */
#define VALUES_MAX ((size_t)1 << 24)

static int tiles_of(int n)
{
    return (n + TILE - 1) / TILE;
}

struct cpu_sheet *cpu_sheet_create(int rows, int in)
{
    const size_t tiles = (size_t)tiles_of(in);
    const size_t n = (size_t)rows;
    if (n * (size_t)in > VALUES_MAX) {
        return NULL;
    }
    struct cpu_sheet *s = xcalloc(1, sizeof(*s));
    s->order = mag_try_alloc(n, sizeof(*s->order));
    s->sort = mag_try_alloc(n, sizeof(*s->sort));
    s->used = mag_try_alloc((size_t)in, sizeof(*s->used));
    s->keys = mag_try_alloc((size_t)tiles_of(rows) * (size_t)in, sizeof(*s->keys));
    s->keys_at = mag_try_alloc((size_t)tiles_of(rows) + 1, sizeof(*s->keys_at));
    s->columns = cpu_alloc((n * tiles + 1) * TILE);
    s->rows = mag_try_alloc(n * tiles + 1, sizeof(*s->rows));
    s->rows_at = mag_try_alloc(tiles + 1, sizeof(*s->rows_at));
    if (s->order == NULL || s->sort == NULL || s->used == NULL || s->keys == NULL ||
        s->keys_at == NULL || s->columns == NULL || s->rows == NULL || s->rows_at == NULL) {
        cpu_sheet_destroy(s);
        return NULL;
    }
    s->in = in;
    return s;
}

void cpu_sheet_destroy(struct cpu_sheet *s)
{
    if (s != NULL) {
        free(s->order);
        free(s->sort);
        free(s->used);
        free(s->keys);
        free(s->keys_at);
        free(s->columns);
        free(s->rows);
        free(s->rows_at);
        free(s);
    }
}

FOR_CPUS static int count_used(const float *x, int n)
{
    int used = 0;
    for (int k = 0; k < n; k++) {
        used += x[k] != 0;
    }
    return used;
}

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Are there so many zeros that it pays to go by a list? */
static bool pays(size_t some, size_t all)
{
    return some < all - all / 16;
}

/* Counts what is not zero, row by row, and says whether any list can pay: one holds at least
 * that. */
static bool may_pay(struct cpu_sheet *s, const float *x)
{
    if (!s->counted) {
        size_t some = 0;
        for (int i = 0; i < s->n; i++) {
            const int used = count_used(x + (size_t)i * (size_t)s->in, s->in);
            s->sort[i] = (uint64_t)used << 16 | (uint64_t)i;
            some += (size_t)used;
        }
        s->may_pay = pays(some, (size_t)s->n * (size_t)s->in);
        s->counted = true;
    }
    return s->may_pay;
}

/* Rows by how much of them is not zero: what is empty in one is empty in its neighbours more often
 * than elsewhere. */
static void order_rows(struct cpu_sheet *s)
{
    qsort(s->sort, (size_t)s->n, sizeof(*s->sort), ascending);
    for (int i = 0; i < s->n; i++) {
        s->order[i] = (uint16_t)s->sort[i];
    }
}

FOR_CPUS static void mark_used(const float *x, int n, uint32_t *used)
{
    for (int k = 0; k < n; k++) {
        used[k] |= x[k] != 0;
    }
}

static void make_keys(struct cpu_sheet *s, const float *x)
{
    uint32_t end = 0;
    order_rows(s);
    for (int t = 0; t < tiles_of(s->n); t++) {
        s->keys_at[t] = end;
        memset(s->used, 0, (size_t)s->in * sizeof(*s->used));
        for (int i = t * TILE; i < s->n && i < (t + 1) * TILE; i++) {
            mark_used(x + (size_t)s->order[i] * (size_t)s->in, s->in, s->used);
        }
        for (int k = 0; k < s->in; k++) {
            s->keys[end] = (uint32_t)k;
            end += s->used[k];
        }
    }
    s->keys_at[tiles_of(s->n)] = end;
    s->pays[0] = pays(end, (size_t)tiles_of(s->n) * (size_t)s->in);
}

/* One tile of columns: its rows that are not all zero are packed from `end` on; the new end. */
static uint32_t pack_tile(struct cpu_sheet *s, const float *x, int width, uint32_t end)
{
    for (int i = 0; i < s->n; i++, x += s->in) {
        float *to = s->columns + (size_t)end * TILE;
        bool used = false;
        for (int r = 0; r < TILE; r++) {
            to[r] = r < width ? x[r] : 0;
            used |= to[r] != 0;
        }
        s->rows[end] = (uint16_t)i;
        end += used;
    }
    return end;
}

static void make_columns(struct cpu_sheet *s, const float *x)
{
    uint32_t end = 0;
    for (int t = 0; t < tiles_of(s->in); t++) {
        const int width = s->in - t * TILE < TILE ? s->in - t * TILE : TILE;
        s->rows_at[t] = end;
        end = width == TILE ? pack_tile(s, x + (size_t)t * TILE, TILE, end)
                            : pack_tile(s, x + (size_t)t * TILE, width, end);
    }
    s->rows_at[tiles_of(s->in)] = end;
    s->pays[1] = pays(end, (size_t)tiles_of(s->in) * (size_t)s->n);
}

void cpu_sheet_forget(struct cpu_sheet *s, int n)
{
    s->n = n;
    s->counted = s->made[0] = s->made[1] = false;
}

void cpu_sheet_make(struct cpu_sheet *s, const float *x, bool dw)
{
    if (s->made[dw]) {
        return;
    }
    s->made[dw] = true;
    s->pays[dw] = false;
    if (may_pay(s, x)) {
        dw ? make_columns(s, x) : make_keys(s, x);
    }
}
