/* SPDX-License-Identifier: Apache-2.0
 *
 * Constraints between the parameters of a space: conditions (space/expr.h) that every point meets,
 * and forbidden combinations {"optimizer": "adam", "momentum": [0.9, 0.99]} that none has. They
 * belong to the space: space_sample draws only points that meet them, space_size and
 * space_grid_point know only those.
 */
#ifndef MAG_SPACE_CONSTRAINT_H
#define MAG_SPACE_CONSTRAINT_H

#include "space/space.h"

#define SPACE_CONSTRAINTS_MAX 256
#define SPACE_CELLS_MAX (1 << 20) /* finite spaces up to here are enumerated: sizes are exact */

/* Adds the list under `pointer` to a space without constraints, before anybody else uses it, and
 * looks for a point that meets them all. False when faults went to `is`: wrong constraints, or no
 * point found (the space then holds none of them). */
bool space_constrain(struct space *s, const json_t *list, const char *pointer,
                     struct mjson_issues *is);
/* The list as given, normalized, new reference; NULL without constraints. */
json_t *space_constraints_to_json(const struct space *s);

/* True when the point (normalized) meets every constraint; true for all without any. Cheap: about
 * 10 ns an operation of a condition. */
bool space_is_feasible(const struct space *s, const double *point);
/* The text of the first constraint that the point breaks, or NULL. Borrowed from the space. */
const char *space_broken(const struct space *s, const double *point);

/* Turns any point of the space's domain into one that meets every constraint, near it: the
 * parameters of broken constraints move one at a time, each as little as it must, and the others
 * stay. NaN in an active parameter is filled by a draw first. Never fails: space_constrain has seen
 * a point to fall back on. What is drawn comes from (seed, "<purpose>:<name>", id). */
void space_repair(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                  double *point);
/* Likewise, but parameters with held[i] keep their value (an inactive one that is held stays
 * inactive). False, with `point` as it was, when no point was found. */
bool space_complete(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                    const bool *held, double *point);

/* How broken a point is: 0 for a feasible one, else the sum over its constraints. */
double space_violation(const struct space *s, const double *point);

#endif
