/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pcg.h"

#include <math.h>

#define PCG32_MULT 6364136223846793005ULL
#define U128(hi, lo) (((unsigned __int128)(hi) << 64) | (lo))
#define PCG64_MULT U128(2549297995355413924ULL, 4865540595714422341ULL)
#define PCG64_CHEAP_MULT 0xda942042e4dd58b5ULL

void pcg32_seed(struct pcg32 *g, uint64_t seed, uint64_t stream)
{
    g->state = 0;
    g->inc = (stream << 1) | 1;
    (void)pcg32_next(g);
    g->state += seed;
    (void)pcg32_next(g);
}

uint32_t pcg32_next(struct pcg32 *g)
{
    uint64_t old = g->state;
    g->state = old * PCG32_MULT + g->inc;
    uint32_t xorshifted = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t rot = (uint32_t)(old >> 59);
    return (xorshifted >> rot) | (xorshifted << ((32 - rot) & 31));
}

void pcg64_seed(struct pcg64 *g, unsigned __int128 seed, unsigned __int128 stream)
{
    g->state = 0;
    g->inc = (stream << 1) | 1;
    g->state = g->state * PCG64_MULT + g->inc;
    g->state += seed;
    g->state = g->state * PCG64_MULT + g->inc;
}

uint64_t pcg64_next(struct pcg64 *g)
{
    g->state = g->state * PCG64_MULT + g->inc;
    uint64_t hi = (uint64_t)(g->state >> 64);
    uint64_t lo = (uint64_t)g->state;
    uint32_t rot = (uint32_t)(hi >> 58);
    uint64_t x = hi ^ lo;
    return (x >> rot) | (x << ((64 - rot) & 63));
}

/* n steps of a linear generator are one of its kind (Brown 1994): by squaring. */
void pcg64_skip(struct pcg64 *g, uint64_t n)
{
    unsigned __int128 mult = PCG64_MULT;
    unsigned __int128 plus = g->inc;
    for (; n > 0; n >>= 1) {
        if ((n & 1) != 0) {
            g->state = g->state * mult + plus;
        }
        plus *= mult + 1;
        mult *= mult;
    }
}

uint64_t pcg64_next_dxsm(struct pcg64 *g)
{
    uint64_t hi = (uint64_t)(g->state >> 64);
    uint64_t lo = (uint64_t)g->state | 1;
    g->state = g->state * PCG64_CHEAP_MULT + g->inc;
    hi ^= hi >> 32;
    hi *= PCG64_CHEAP_MULT;
    hi ^= hi >> 48;
    hi *= lo;
    return hi;
}

/* SplitMix64 finaliser (Steele, Lea, Flood 2014): spreads every input bit over the word. */
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* FNV-1a, from `h` on. */
static uint64_t hash_text(uint64_t h, const char *text)
{
    for (; *text != '\0'; text++) {
        h = (h ^ (unsigned char)*text) * 0x100000001b3ULL;
    }
    return h;
}

static void seed_stream(struct pcg64 *g, uint64_t seed, uint64_t h, uint64_t id)
{
    uint64_t a = mix(seed);
    uint64_t b = mix(a ^ h);
    uint64_t c = mix(b ^ id);
    uint64_t d = mix(c ^ seed);
    pcg64_seed(g, U128(c, d), U128(mix(h ^ 0x5bd1e995), mix(id ^ b)));
}

void pcg_stream(struct pcg64 *g, uint64_t seed, const char *purpose, uint64_t id)
{
    seed_stream(g, seed, hash_text(0xcbf29ce484222325ULL, purpose), id);
}

void pcg_stream_named(struct pcg64 *g, uint64_t seed, const char *purpose, const char *name,
                      uint64_t id)
{
    uint64_t h = hash_text(0xcbf29ce484222325ULL, purpose);
    seed_stream(g, seed, hash_text(hash_text(h, ":"), name), id);
}

double pcg64_double(struct pcg64 *g)
{
    return (double)(pcg64_next(g) >> 11) * 0x1.0p-53;
}

uint64_t pcg64_below(struct pcg64 *g, uint64_t n)
{
    /* Lemire's multiply-and-reject. */
    unsigned __int128 m = (unsigned __int128)pcg64_next(g) * n;
    if ((uint64_t)m < n) {
        uint64_t floor_ = (0 - n) % n;
        while ((uint64_t)m < floor_) {
            m = (unsigned __int128)pcg64_next(g) * n;
        }
    }
    return (uint64_t)(m >> 64);
}

double pcg64_normal(struct pcg64 *g)
{
    double u = 1.0 - pcg64_double(g);
    double v = pcg64_double(g);
    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

void pcg64_shuffle(struct pcg64 *g, uint32_t *items, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)pcg64_below(g, i);
        uint32_t t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}
