/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes optimizers/quasi_table.c: primitive polynomials over GF(2) and initial direction numbers of
 * the Sobol' sequence, found here. For each dimension sets of initial numbers are drawn and the
 * set is kept whose two-dimensional projections with all earlier dimensions are the best: the
 * criterion of Joe and Kuo (SIAM J. Sci. Comput. 30, 2008), t^6 / (m - t + 1) at its worst over the
 * first 2^m points, near dimensions counting a little more. Takes minutes; the seed is fixed, so
 * the same file comes out.
 *
 * usage: sobol_search > optimizers/quasi_table.c
 */
#include "base/pcg.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DIMENSIONS 256
#define DEGREE_MAX 11
#define POINTS_LOG 13   /* projections are judged up to 2^13 points */
#define TRIES_NEAR 4000 /* of each of the first NEAR dimensions */
#define TRIES_FAR 500
#define NEAR 32
#define TRIPLES 16 /* dimensions whose triples are judged too, up to 2^TRIPLE_LOG points */
#define TRIPLE_LOG 10

struct dimension {
    uint32_t polynomial; /* every coefficient, the leading one included */
    int degree;
    uint32_t m[DEGREE_MAX];
    uint32_t rows[POINTS_LOG]; /* of the generator matrix: bit c of row r */
};

static struct dimension dims[DIMENSIONS];

/* x^e mod p over GF(2). */
static uint32_t power_of_x(uint32_t p, int degree, uint32_t e)
{
    uint32_t result = 1;
    uint32_t square = degree == 1 ? (2u ^ p) : 2;
    for (; e > 0; e >>= 1) {
        uint32_t factors[2] = {result, square};
        for (int i = 0; i < 2; i++) {
            uint32_t product = 0;
            uint32_t a = factors[i];
            for (int k = degree - 1; k >= 0; k--) {
                product <<= 1;
                product ^= (product >> degree & 1) != 0 ? p : 0;
                product ^= (square >> k & 1) != 0 ? a : 0;
            }
            factors[i] = product;
        }
        result = (e & 1) != 0 ? factors[0] : result;
        square = factors[1];
    }
    return result;
}

/* Primitive: x has order 2^degree - 1. */
static bool is_primitive(uint32_t p, int degree)
{
    uint32_t order = (1u << degree) - 1;
    if ((p & 1) == 0 || power_of_x(p, degree, order) != 1) {
        return false;
    }
    for (uint32_t q = 2; q < order; q++) {
        if (order % q == 0 && power_of_x(p, degree, order / q) == 1) {
            return false;
        }
    }
    return true;
}

static void fill_rows(struct dimension *d)
{
    uint32_t m[POINTS_LOG];
    memset(d->rows, 0, sizeof(d->rows));
    for (int c = 0; c < POINTS_LOG; c++) {
        if (d->degree == 0) {
            m[c] = 1;
        } else if (c < d->degree) {
            m[c] = d->m[c];
        } else {
            m[c] = m[c - d->degree] ^ m[c - d->degree] << d->degree;
            for (int k = 1; k < d->degree; k++) {
                m[c] ^= (d->polynomial >> (d->degree - k) & 1) != 0 ? m[c - k] << k : 0;
            }
        }
        for (int r = 0; r <= c; r++) { /* v_c = m_c / 2^(c+1): its bit r after the point */
            d->rows[r] |= (m[c] >> (c - r) & 1) << c;
        }
    }
}

/* Reduces `row` by the basis (indexed by leading bit) and adds it; false when it depends on it. */
static bool insert(uint32_t *basis, uint32_t row)
{
    while (row != 0) {
        int lead = 31 - __builtin_clz(row);
        if (basis[lead] == 0) {
            basis[lead] = row;
            return true;
        }
        row ^= basis[lead];
    }
    return false;
}

/* t of the first 2^m points projected on two dimensions. */
static int t_value(const struct dimension *a, const struct dimension *b, int m)
{
    uint32_t mask = (1u << m) - 1;
    uint32_t base[POINTS_LOG] = {0};
    int rho = m;
    for (int k = 0; k < rho; k++) {
        uint32_t both[POINTS_LOG];
        int more = 0;
        memcpy(both, base, sizeof(both));
        while (k + more < m && insert(both, b->rows[more] & mask)) {
            more++;
        }
        rho = k + more < rho ? k + more : rho;
        (void)insert(base, a->rows[k] & mask);
    }
    return m - rho;
}

/* The same for three. */
static int t_value_3(const struct dimension *a, const struct dimension *b,
                     const struct dimension *c, int m)
{
    uint32_t mask = (1u << m) - 1;
    uint32_t base[POINTS_LOG] = {0};
    int rho = m;
    for (int k = 0; k < rho; k++) {
        uint32_t both[POINTS_LOG];
        memcpy(both, base, sizeof(both));
        for (int l = 0; k + l < rho; l++) {
            uint32_t all[POINTS_LOG];
            int more = 0;
            memcpy(all, both, sizeof(all));
            while (k + l + more < m && insert(all, c->rows[more] & mask)) {
                more++;
            }
            rho = k + l + more < rho ? k + l + more : rho;
            if (k + l < m && !insert(both, b->rows[l] & mask)) {
                rho = k + l < rho ? k + l : rho;
            }
        }
        (void)insert(base, a->rows[k] & mask);
    }
    return m - rho;
}

static double cost(int t, int m)
{
    double cube = (double)t * t * t;
    return cube * cube / (m - t + 1);
}

/* Of the triples of the first dimensions: most searches have no more. */
static double badness_3(int j, const struct dimension *d, double limit)
{
    double sum = 0;
    for (int i = j - 1; i >= 0 && sum < limit; i--) {
        for (int k = i - 1; k >= 0 && sum < limit; k--) {
            double worst = 0;
            for (int m = 3; m <= TRIPLE_LOG; m++) {
                worst = fmax(worst, cost(t_value_3(&dims[k], &dims[i], d, m), m));
            }
            sum += worst;
        }
    }
    return sum;
}

/* Stops adding once it is over `limit`. */
static double badness(int j, const struct dimension *d, double limit)
{
    double sum = 0;
    for (int i = j - 1; i >= 0 && sum < limit; i--) {
        double worst = 0;
        for (int m = 2; m <= POINTS_LOG; m++) {
            worst = fmax(worst, cost(t_value(&dims[i], d, m), m));
        }
        sum += worst * pow(0.9999, j - 1 - i);
    }
    return j < TRIPLES ? sum + badness_3(j, d, limit - sum) : sum;
}

static void choose(int j)
{
    double best = INFINITY;
    struct dimension d = dims[j];
    for (uint64_t k = 0; k < (j < NEAR ? TRIES_NEAR : TRIES_FAR); k++) {
        struct pcg64 g;
        pcg_stream(&g, 1, "sobol-search", (uint64_t)j << 32 | k);
        for (int i = 0; i < d.degree; i++) {
            d.m[i] = 2 * (uint32_t)pcg64_below(&g, UINT64_C(1) << i) + 1;
        }
        fill_rows(&d);
        double b = badness(j, &d, best);
        if (b < best) {
            best = b;
            dims[j] = d;
        }
    }
    fprintf(stderr, "%d: degree %d, %g\n", j + 1, d.degree, best);
}

static void print_table(void)
{
    printf(
        "/* SPDX-License-Identifier: Apache-2.0\n *\n"
        " * Made by bench/sobol_search: a primitive polynomial and the initial direction numbers "
        "of each\n * dimension of the Sobol' sequence. The first dimension has none.\n */\n"
        "#include \"optimizers/quasi.h\"\n\n"
        "/* clang-format off */\n"
        "const struct sobol_dimension sobol_table[QUASI_DIMENSIONS] = {\n    {0, {0}},\n");
    for (int j = 1; j < DIMENSIONS; j++) {
        printf("    {%u, {", dims[j].polynomial);
        for (int i = 0; i < dims[j].degree; i++) {
            printf("%s%u", i > 0 ? ", " : "", dims[j].m[i]);
        }
        printf("}},\n");
    }
    printf("};\n");
}

int main(void)
{
    int n = 1;
    fill_rows(&dims[0]);
    for (int degree = 1; degree <= DEGREE_MAX && n < DIMENSIONS; degree++) {
        for (uint32_t p = 1u << degree; p < 2u << degree && n < DIMENSIONS; p++) {
            if (is_primitive(p, degree)) {
                dims[n].polynomial = p;
                dims[n].degree = degree;
                choose(n++);
            }
        }
    }
    print_table();
    return n == DIMENSIONS ? 0 : 1;
}
