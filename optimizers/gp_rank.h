/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers in order, and indices in order.
 */
#ifndef MAG_OPTIMIZERS_GP_RANK_H
#define MAG_OPTIMIZERS_GP_RANK_H

struct gp_rank {
    double y;
    int i;
};

/* The n numbers y[pick[i]], or y[i] when `pick` is NULL, least first, of equal ones the lower i;
 * the caller frees. */
struct gp_rank *gp_rank(const double *y, const int *pick, int n);
/* Puts n indices into rising order. */
void gp_rank_indices(int *pick, int n);

#endif
