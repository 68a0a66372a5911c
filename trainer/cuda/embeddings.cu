/* SPDX-License-Identifier: Apache-2.0
 *
 * Embeddings: rows of a table by numbers. The gradient of a row is the sum over all places that
 * named it, in their order: the places are sorted by their numbers (by digits from the last on,
 * each pass in the order of the one before), then summed in runs of a fixed length.
 */
#include "trainer/cuda/kernels.h"

/* ---- e.area numbers a row, e.c values of each ---- */

/* As backend_index: the nearest whole number inside [0, vocabulary). */
MAG_DEVICE int id_at(struct tensor x, struct extent e, int64_t token, int lane, int vocabulary)
{
    const int64_t row = token / e.area;
    const float v =
        tensor_at(x, (row * x.lanes + (x.lanes == 1 ? 0 : lane)) * e.area + token % e.area);
    const int i = v >= 1 ? (v < (float)vocabulary ? (int)(v + 0.5f) : vocabulary - 1) : v >= 0.5f;
    return i < vocabulary ? i : vocabulary - 1;
}

KERNEL embed(struct tensor x, const float *table, int vocabulary, struct tensor y, struct extent e,
             int64_t n)
{
    EACH_ITEM(i, n)
    {
        const int c = (int)(i % e.c);
        const int lane = (int)(i / e.c % e.lanes);
        const int64_t id = id_at(x, e, i / e.c / e.lanes, lane, vocabulary);
        tensor_put(y, i, table[((int64_t)lane * vocabulary + id) * e.c + c]);
    }
}

KERNEL clear(float *to, int64_t n)
{
    EACH_ITEM(i, n)
    {
        to[i] = 0;
    }
}

/* ---- sorting: `key` is the row of the table over all lanes, `place` the one of dy ---- */

#define DIGITS (1 << SORT_BITS)

struct sorting {
    uint32_t *key, *place;       /* as they are */
    uint32_t *to_key, *to_place; /* as they become */
    uint32_t *counts;            /* [DIGITS][blocks]: of a digit, then where its items begin */
    int64_t n, blocks;
    int shift; /* of the digit */
};

KERNEL embed_keys(struct tensor x, int vocabulary, struct extent e, struct sorting s)
{
    EACH_ITEM(i, s.n)
    {
        const int lane = (int)(i % e.lanes);
        const int id = id_at(x, e, i / e.lanes, lane, vocabulary);
        s.key[i] = (uint32_t)((int64_t)lane * vocabulary + id);
        s.place[i] = (uint32_t)i;
    }
}

MAG_DEVICE int digit_of(const struct sorting *s, int64_t i)
{
    return (int)(s->key[i] >> s->shift & (DIGITS - 1));
}

/* The items of a thread: adjacent ones, so that threads in their order are items in theirs. */
struct share {
    int64_t from, to;
};

MAG_INSIDE struct share share_of(const struct sorting *s, int64_t block)
{
    const int64_t each = SORT_ITEMS / (int64_t)blockDim.x;
    const int64_t from = block * SORT_ITEMS + threadIdx.x * each;
    struct share mine;
    mine.from = from < s->n ? from : s->n;
    mine.to = from + each < s->n ? from + each : s->n;
    return mine;
}

/* Leaves the counts of every thread's digits in `counts`, [DIGITS][threads]. */
MAG_INSIDE void count_digits(const struct sorting *s, struct share mine, uint32_t *counts)
{
    for (int d = 0; d < DIGITS; d++) {
        counts[d * (int)blockDim.x + (int)threadIdx.x] = 0;
    }
    for (int64_t i = mine.from; i < mine.to; i++) {
        counts[digit_of(s, i) * (int)blockDim.x + (int)threadIdx.x]++;
    }
}

KERNEL sort_count(struct sorting s)
{
    SHARED uint32_t counts[DIGITS * KERNEL_THREADS];
    EACH_BLOCK(block, s.blocks)
    {
        BARRIER(); /* the counts before may still be read */
        count_digits(&s, share_of(&s, block), counts);
        BARRIER();
        for (int d = (int)threadIdx.x; d < DIGITS; d += (int)blockDim.x) {
            uint32_t sum = 0;
            for (int t = 0; t < (int)blockDim.x; t++) {
                sum += counts[d * (int)blockDim.x + t];
            }
            s.counts[d * s.blocks + block] = sum;
        }
    }
}

/* One block: counts become the number of items before. */
KERNEL sort_scan(struct sorting s)
{
    SHARED uint32_t before[KERNEL_THREADS];
    const int64_t n = s.blocks * DIGITS;
    const int64_t each = (n + blockDim.x - 1) / blockDim.x;
    const int64_t from = threadIdx.x * each < n ? threadIdx.x * each : n;
    const int64_t to = from + each < n ? from + each : n;
    uint32_t sum = 0;
    for (int64_t i = from; i < to; i++) {
        sum += s.counts[i];
    }
    before[threadIdx.x] = sum;
    BARRIER();
    sum = 0;
    for (int t = 0; t < (int)threadIdx.x; t++) {
        sum += before[t];
    }
    for (int64_t i = from; i < to; i++) {
        const uint32_t count = s.counts[i];
        s.counts[i] = sum;
        sum += count;
    }
}

KERNEL sort_move(struct sorting s)
{
    SHARED uint32_t counts[DIGITS * KERNEL_THREADS];
    EACH_BLOCK(block, s.blocks)
    {
        const struct share mine = share_of(&s, block);
        BARRIER(); /* the counts before may still be read */
        count_digits(&s, mine, counts);
        BARRIER();
        for (int d = (int)threadIdx.x; d < DIGITS; d += (int)blockDim.x) {
            uint32_t at = s.counts[d * s.blocks + block];
            for (int t = 0; t < (int)blockDim.x; t++) {
                const uint32_t count = counts[d * (int)blockDim.x + t];
                counts[d * (int)blockDim.x + t] = at;
                at += count;
            }
        }
        BARRIER();
        for (int64_t i = mine.from; i < mine.to; i++) {
            const int d = digit_of(&s, i);
            const uint32_t to = counts[d * (int)blockDim.x + (int)threadIdx.x]++;
            s.to_key[to] = s.key[i];
            s.to_place[to] = s.place[i];
        }
    }
}

/* ---- sums: of RUN_ITEMS sorted places at once; what crosses the ends of a run is left there ----
 */

struct runs {
    const uint32_t *key, *place;
    int64_t n, count;
    double *first, *last; /* [count][c]: of the key that a run begins with, and ends with */
};

KERNEL run_sums(struct tensor dy, struct runs r, float *grad, int c_all)
{
    EACH_ITEM(i, r.count * c_all)
    {
        const int c = (int)(i % c_all);
        const int64_t run = i / c_all;
        const int64_t from = run * RUN_ITEMS;
        const int64_t to = from + RUN_ITEMS < r.n ? from + RUN_ITEMS : r.n;
        int64_t begin = from; /* of the key that is summed up */
        double sum = 0;
        r.first[i] = 0;
        for (int64_t k = from; k < to; k++) {
            sum += (double)tensor_at(dy, (int64_t)r.place[k] * c_all + c);
            if (k + 1 < to && r.key[k + 1] == r.key[k]) {
                continue;
            }
            const int opens = begin == from && from > 0 && r.key[from - 1] == r.key[k];
            const int goes_on = k + 1 == to && to < r.n && r.key[to] == r.key[k];
            if (opens) {
                r.first[i] = sum;
            }
            if (goes_on) {
                r.last[i] = sum;
            }
            if (!opens && !goes_on) {
                grad[(int64_t)r.key[k] * c_all + c] = (float)sum;
            }
            begin = k + 1;
            sum = 0;
        }
    }
}

/* Keys that go on beyond the run they begin in. */
KERNEL run_ends(struct runs r, float *grad, int c_all)
{
    EACH_ITEM(i, r.count * c_all)
    {
        const int c = (int)(i % c_all);
        const int64_t run = i / c_all;
        const int64_t from = run * RUN_ITEMS;
        const int64_t end = from + RUN_ITEMS;
        if (end >= r.n || r.key[end] != r.key[end - 1]) {
            continue;
        }
        const uint32_t key = r.key[end];
        if (r.key[from] == key && from > 0 && r.key[from - 1] == key) {
            continue; /* it began before */
        }
        double sum = r.last[i];
        for (int64_t next = run + 1; next < r.count && r.key[next * RUN_ITEMS] == key; next++) {
            sum += r.first[next * c_all + c];
        }
        grad[(int64_t)key * c_all + c] = (float)sum;
    }
}

/* ---- launchers ---- */

KERNELS_BEGIN

void k_embed(struct tensor x, const float *table, int vocabulary, struct tensor y, struct extent e,
             void *stream)
{
    const int64_t n = extent_size(e);
    LAUNCH_EACH(embed, n, stream, x, table, vocabulary, y, e, n);
}

void k_embed_back(struct tensor x, struct tensor dy, int vocabulary, float *grad, void *room,
                  struct extent e, void *stream)
{
    const int64_t rows = (int64_t)e.lanes * vocabulary; /* of all tables */
    const int64_t all = rows * e.c;
    struct sorting s;
    s.n = e.rows * e.area * e.lanes;
    s.blocks = (s.n + SORT_ITEMS - 1) / SORT_ITEMS;
    const int64_t padded = (s.n + 3) / 4 * 4;
    s.key = (uint32_t *)room;
    s.place = s.key + padded;
    s.to_key = s.place + padded;
    s.to_place = s.to_key + padded;
    s.counts = s.to_place + padded;
    LAUNCH_EACH(clear, all, stream, grad, all);
    LAUNCH_EACH(embed_keys, s.n, stream, x, vocabulary, e, s);
    for (s.shift = 0; (rows - 1) >> s.shift > 0; s.shift += SORT_BITS) {
        LAUNCH_BLOCKS(sort_count, s.blocks, stream, s);
        LAUNCH_BLOCKS(sort_scan, 1, stream, s);
        LAUNCH_BLOCKS(sort_move, s.blocks, stream, s);
        uint32_t *const key = s.key;
        uint32_t *const place = s.place;
        s.key = s.to_key;
        s.place = s.to_place;
        s.to_key = key;
        s.to_place = place;
    }
    struct runs r;
    r.key = s.key;
    r.place = s.place;
    r.n = s.n;
    r.count = (s.n + RUN_ITEMS - 1) / RUN_ITEMS;
    r.first = (double *)(void *)(s.counts + (s.blocks << SORT_BITS));
    r.last = r.first + r.count * e.c;
    LAUNCH_EACH(run_sums, r.count * e.c, stream, dy, r, grad, e.c);
    LAUNCH_EACH(run_ends, r.count * e.c, stream, r, grad, e.c);
}

KERNELS_END
