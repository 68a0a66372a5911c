/* SPDX-License-Identifier: Apache-2.0
 *
 * A keyed bijection of 0 .. size-1 without memory: a Feistel network on the next even number of
 * bits, walked until it lands inside. For shuffled grids and Latin hypercubes of any size.
 */
#ifndef MAG_OPTIMIZERS_PERMUTE_H
#define MAG_OPTIMIZERS_PERMUTE_H

#include <stdint.h>

#define PERMUTE_ROUNDS 6

struct permutation {
    uint64_t size; /* at most 2^62 */
    uint64_t keys[PERMUTE_ROUNDS];
    int half_bits;
};

/* SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014): a bijection of 64 bits. */
static inline uint64_t permute_mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static inline void permutation_init(struct permutation *p, uint64_t size, uint64_t key)
{
    *p = (struct permutation){.size = size};
    while ((UINT64_C(1) << (2 * p->half_bits)) < size) {
        p->half_bits++;
    }
    for (uint64_t i = 0; i < PERMUTE_ROUNDS; i++) {
        p->keys[i] = permute_mix(key ^ permute_mix(i));
    }
}

/* What stands at `place`, both below the size. */
static inline uint64_t permutation_at(const struct permutation *p, uint64_t place)
{
    if (p->half_bits == 0) {
        return place;
    }
    uint64_t mask = (UINT64_C(1) << p->half_bits) - 1;
    do { /* more than a quarter of the values lie inside, so the walk is short */
        uint64_t left = place >> p->half_bits;
        uint64_t right = place & mask;
        for (int i = 0; i < PERMUTE_ROUNDS; i++) {
            uint64_t f = (right ^ p->keys[i]) * 0x9e3779b97f4a7c15ULL;
            f = (f ^ (f >> 29)) * 0xbf58476d1ce4e5b9ULL;
            uint64_t t = left ^ ((f ^ (f >> 32)) & mask);
            left = right;
            right = t;
        }
        place = left << p->half_bits | right;
    } while (place >= p->size);
    return place;
}

#endif
