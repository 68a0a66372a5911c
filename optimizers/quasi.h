/* SPDX-License-Identifier: Apache-2.0
 *
 * Quasi-random points: a scrambled Sobol' sequence, a scrambled Halton sequence and Latin
 * hypercubes. Point `index` is a function of (space, seed, purpose, index) alone, so a design can
 * be begun, left and taken up anywhere; models use one for their first trials.
 *
 * Each parameter has one dimension, by the order of the names, and scrambling keyed by its name.
 */
#ifndef MAG_OPTIMIZERS_QUASI_H
#define MAG_OPTIMIZERS_QUASI_H

#include "space/space.h"

#include <stdint.h>

#define QUASI_DIMENSIONS SPACE_PARAMS_MAX
#define SOBOL_DEGREE_MAX 11

enum quasi_kind {
    QUASI_SOBOL = 0,  /* Owen's nested uniform scrambling; best, above all for powers of 2 */
    QUASI_HALTON = 1, /* its digits permuted; even at any number of points */
    QUASI_LHS = 2,    /* exactly one point in each of `size` slices of every parameter */
};

struct quasi;

/* `size`: LHS: the points of one hypercube, at least 1; every `size` points a new one begins. Else
 * of no meaning. The space is borrowed. Never fails. */
struct quasi *quasi_create(enum quasi_kind kind, const struct space *s, uint64_t seed,
                           const char *purpose, uint64_t size);
void quasi_destroy(struct quasi *q); /* NULL is fine */
/* The point in [0, 1)^n, coordinates of inactive parameters included; Sobol' and Halton repeat
 * after 2^32 points. */
void quasi_unit(const struct quasi *q, uint64_t index, double *u);
/* The same as a point of the space; it may break constraints. */
void quasi_point(const struct quasi *q, uint64_t index, double *point);

/* ---- private to quasi.c and its table ---- */

/* `polynomial` over GF(2), all its coefficients; the first direction numbers m. */
struct sobol_dimension {
    uint16_t polynomial;
    uint16_t m[SOBOL_DEGREE_MAX];
};
extern const struct sobol_dimension sobol_table[QUASI_DIMENSIONS];

#endif
