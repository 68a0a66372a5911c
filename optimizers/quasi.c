/* SPDX-License-Identifier: Apache-2.0
 *
 * Sobol' (USSR Comput. Math. 7, 1967) with the nested uniform scrambling of Owen (1995), each bit
 * flipped by a hash of the bits above it; Halton (1960) with a random permutation for each place of
 * each base (Owen, arXiv 1706.02808); Latin hypercubes (McKay, Beckman, Conover 1979) by keyed
 * permutations. What lies below the last digit is uniform noise of the point itself, as endless
 * scrambling would give.
 */
#include "optimizers/quasi.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "optimizers/permute.h"

#include <stdio.h>
#include <stdlib.h>

#define BITS 32

struct quasi {
    const struct space *space;
    enum quasi_kind kind;
    uint64_t size;
    uint64_t *keys; /* by parameter */
    uint32_t (
        *columns)[BITS]; /* Sobol': direction numbers, the first bit after the point highest */
    uint16_t *primes;    /* Halton: the base of each parameter */
    uint16_t **digits;   /* Halton: place k's permutation is digits[j][k * base …] */
};

/* Places of a base that tell 2^32 indices apart. */
static int places_of(uint64_t base)
{
    int k = 0;
    for (uint64_t reach = 1; reach < UINT64_C(1) << BITS; reach *= base) {
        k++;
    }
    return k;
}

static void sobol_columns(const struct sobol_dimension *d, uint32_t *v)
{
    uint32_t p = d->polynomial;
    int degree = p > 0 ? 31 - __builtin_clz(p) : 0;
    uint32_t m[BITS];
    for (int c = 0; c < BITS; c++) {
        if (degree == 0) {
            m[c] = 1;
        } else if (c < degree) {
            m[c] = d->m[c];
        } else {
            m[c] = m[c - degree] ^ m[c - degree] << degree;
            for (int k = 1; k < degree; k++) {
                m[c] ^= (p >> (degree - k) & 1) != 0 ? m[c - k] << k : 0;
            }
        }
        v[c] = m[c] << (BITS - 1 - c);
    }
}

static void halton_digits(struct quasi *q, int j, uint16_t base)
{
    int places = places_of(base);
    uint32_t *items = xcalloc(base, sizeof(*items));
    q->primes[j] = base;
    q->digits[j] = xcalloc((size_t)places * base, sizeof(**q->digits));
    for (int k = 0; k < places; k++) {
        struct pcg64 g;
        pcg_stream(&g, q->keys[j], "halton-digits", (uint64_t)k);
        for (uint32_t i = 0; i < base; i++) {
            items[i] = i;
        }
        pcg64_shuffle(&g, items, base);
        for (uint32_t i = 0; i < base; i++) {
            q->digits[j][k * base + (int)i] = (uint16_t)items[i];
        }
    }
    free(items);
}

static uint16_t next_prime(uint16_t p)
{
    for (bool found = false; !found;) {
        p++;
        found = true;
        for (uint16_t d = 2; d * d <= p && found; d++) {
            found = p % d != 0;
        }
    }
    return p;
}

struct quasi *quasi_create(enum quasi_kind kind, const struct space *s, uint64_t seed,
                           const char *purpose, uint64_t size)
{
    struct quasi *q = xcalloc(1, sizeof(*q));
    size_t n = (size_t)s->n;
    uint16_t prime = 1;
    *q = (struct quasi){.space = s, .kind = kind, .size = size > 0 ? size : 1};
    q->keys = xcalloc(n, sizeof(*q->keys));
    q->columns = xcalloc(kind == QUASI_SOBOL ? n : 1, sizeof(*q->columns));
    q->primes = xcalloc(n, sizeof(*q->primes));
    q->digits = xcalloc(n, sizeof(*q->digits));
    for (int j = 0; j < s->n; j++) {
        char stream[SPACE_NAME_MAX + 64];
        struct pcg64 g;
        (void)snprintf(stream, sizeof(stream), "%s-quasi:%s", purpose, s->params[j].name);
        pcg_stream(&g, seed, stream, (uint64_t)kind);
        q->keys[j] = pcg64_next(&g);
        if (kind == QUASI_SOBOL) {
            sobol_columns(&sobol_table[j], q->columns[j]);
        } else if (kind == QUASI_HALTON) {
            prime = next_prime(prime);
            halton_digits(q, j, prime);
        }
    }
    return q;
}

void quasi_destroy(struct quasi *q)
{
    if (q == NULL) {
        return;
    }
    for (int j = 0; j < q->space->n; j++) {
        free(q->digits[j]);
    }
    free(q->digits);
    free(q->primes);
    free(q->columns);
    free(q->keys);
    free(q);
}

/* Uniform in [0, 1), 53 bits, from a hash. */
static double noise(uint64_t key, uint64_t id)
{
    return (double)(permute_mix(key ^ permute_mix(id)) >> 11) * 0x1.0p-53;
}

/* A sum that rounding lifts to 1 goes back inside. */
static double below_one(double u)
{
    return u < 1 ? u : 1 - 0x1.0p-53;
}

/* Each bit is flipped or not by all the bits above it; the 1 tells prefixes of 0 apart. */
static uint32_t nested_scramble(uint32_t x, uint64_t key)
{
    uint32_t y = 0;
    for (int b = 0; b < BITS; b++) {
        uint64_t prefix = (UINT64_C(1) << BITS | x) >> (BITS - b);
        uint32_t flip = (uint32_t)(permute_mix(key ^ prefix) >> 63);
        y = y << 1 | ((x >> (BITS - 1 - b) & 1) ^ flip);
    }
    return y;
}

static double sobol_unit(const struct quasi *q, int j, uint32_t index)
{
    uint32_t x = 0;
    for (uint32_t i = index, c = 0; i != 0; i >>= 1, c++) {
        x ^= (i & 1) != 0 ? q->columns[j][c] : 0;
    }
    double low = noise(~q->keys[j], x);
    return below_one(((double)nested_scramble(x, q->keys[j]) + low) * 0x1.0p-32);
}

static double halton_unit(const struct quasi *q, int j, uint32_t index)
{
    uint32_t base = q->primes[j];
    uint32_t rest = index;
    double scale = 1;
    double u = 0;
    for (int k = 0; k < places_of(base); k++) {
        scale /= base;
        u += scale * q->digits[j][(uint32_t)k * base + rest % base];
        rest /= base;
    }
    return below_one(u + scale * noise(~q->keys[j], index));
}

static double lhs_unit(const struct quasi *q, int j, uint64_t index)
{
    struct permutation p;
    permutation_init(&p, q->size, q->keys[j] ^ permute_mix(index / q->size));
    double slice = (double)permutation_at(&p, index % q->size);
    return below_one((slice + noise(~q->keys[j], index)) / (double)q->size);
}

void quasi_unit(const struct quasi *q, uint64_t index, double *u)
{
    for (int j = 0; j < q->space->n; j++) {
        switch (q->kind) {
        case QUASI_SOBOL:
            u[j] = sobol_unit(q, j, (uint32_t)index);
            break;
        case QUASI_HALTON:
            u[j] = halton_unit(q, j, (uint32_t)index);
            break;
        case QUASI_LHS:
            u[j] = lhs_unit(q, j, index);
            break;
        }
    }
}

void quasi_point(const struct quasi *q, uint64_t index, double *point)
{
    double *u = xcalloc((size_t)q->space->n, sizeof(*u));
    quasi_unit(q, index, u);
    space_from_unit(q->space, u, point);
    free(u);
}
