/* SPDX-License-Identifier: Apache-2.0
 *
 * Several objectives, all minimised: domination, fronts, crowding, hypervolume. Values of n results
 * with m objectives lie row by row. Deterministic: ties by index.
 */
#ifndef MAG_OPTIMIZERS_PARETO_H
#define MAG_OPTIMIZERS_PARETO_H

/* -1: a dominates b; 1: b dominates a; 0: neither. Constrained domination (Deb et al. 2002): less
 * violation dominates, and among equally infeasible or feasible ones the objectives decide. */
int pareto_compare(const double *a, double a_violation, const double *b, double b_violation, int m);

/* ranks[i] = the front of row i, from 0 (non-dominated). `violations` NULL = all feasible.
 * Efficient non-dominated sort (Zhang et al., IEEE TEVC 19, 2015); about O(n log n + n sqrt(n) m).
 */
void pareto_ranks(const double *values, const double *violations, int n, int m, int *ranks);

/* Crowding distance (Deb et al. 2002) of the rows `members` (n_members indices, one front);
 * distances[k] belongs to members[k]; INFINITY at the ends of each objective. */
void pareto_crowding(const double *values, int m, const int *members, int n_members,
                     double *distances);

/* The volume that the rows dominate below `reference`; rows that do not dominate it count nothing.
 * A sweep for two objectives, WFG (While et al., IEEE TEVC 16, 2012) beyond: exponential in m. */
double pareto_hypervolume(const double *values, int n, int m, const double *reference);

#endif
