/* SPDX-License-Identifier: Apache-2.0
 *
 * The arithmetic of differential evolution in the unit cube, shared by its algorithms. Every type
 * of parameter takes part; an inactive one has a coordinate too, so that crossover can wake it.
 */
#ifndef MAG_OPTIMIZERS_EVOLVE_H
#define MAG_OPTIMIZERS_EVOLVE_H

#include "base/pcg.h"
#include "space/space.h"

/* The point's coordinates, malloc'ed; inactive ones are drawn for (seed, purpose, id), one stream a
 * parameter. */
double *evolve_coordinates(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                           const double *point);
/* Bounces v off the walls of [0, 1]. */
double evolve_reflect(double v);

struct evolve_cross {
    const double *target, *mutant; /* the mutant may lie outside the cube: it is reflected */
    double rate;                   /* CR: probability that a coordinate comes from the mutant */
    int forced;                    /* this one does in any case */
};
/* Binomial crossover; one stream a parameter, so that their order changes nothing. */
void evolve_cross(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                  const struct evolve_cross *c, double *u);
/* `k` different ones of the indices 0 .. n - 1 but `except` (-1 = none); false when there are not
 * so many. */
bool evolve_pick(struct pcg64 *g, int n, int except, int k, int *ret);

#endif
