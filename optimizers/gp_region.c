/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_region.h"

#include "base/alloc.h"
#include "optimizers/gp_rank.h"

#include <math.h>
#include <stdlib.h>

#define SIDE_MOST 0.8
#define SIDE_LEAST 0.0078125 /* 2^-7 */
#define SUCCESSES 2          /* in a row, until the side doubles */
#define SUCCESS 1e-3         /* a success improves by this share of the best value */

double gp_region_side(const struct gp_step *steps, int n, int d)
{
    double side = SIDE_MOST;
    double best = INFINITY;
    int won = 0;
    int lost = 0;
    for (int i = 0; i < n; i++) {
        bool success = steps[i].value < best - (i > 0 ? SUCCESS * fabs(best) : 0);
        best = fmin(best, steps[i].value);
        if (!steps[i].local) {
            continue;
        }
        won = success ? won + 1 : 0;
        lost = success ? 0 : lost + 1;
        if (won == SUCCESSES) {
            side = fmin(2 * side, SIDE_MOST);
            won = 0;
        } else if (lost >= (d > 4 ? d : 4)) {
            side = side / 2 < SIDE_LEAST ? SIDE_MOST : side / 2;
            lost = 0;
        }
    }
    return side;
}

void gp_region_box(const struct gp_domain *dom, const double *at, double side, const double *theta,
                   double *lo, double *hi)
{
    double mean = 0;
    for (int j = 0; j < dom->n; j++) {
        mean += theta[j] / dom->n;
    }
    for (int j = 0; j < dom->n; j++) {
        double half = side / 2 * fmin(fmax(exp(theta[j] - mean), 0.25), 4);
        bool free = dom->kind[j] == GP_CHOICE;
        lo[j] = free ? 0 : fmax(0, at[j] - half);
        hi[j] = free ? 1 : fmin(1, at[j] + half);
    }
}

int gp_region_nearest(const struct gp_domain *dom, const double *const *x, int n, int centre,
                      int want, int *pick)
{
    double *d2 = xcalloc((size_t)n + 1, sizeof(*d2));
    int m = want < n ? want : n;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < dom->n; j++) {
            d2[i] += gp_kernel_share((enum gp_kind)dom->kind[j], x[i][j], x[centre][j]);
        }
    }
    struct gp_rank *order = gp_rank(d2, NULL, n);
    for (int i = 0; i < m; i++) {
        pick[i] = order[i].i;
    }
    gp_rank_indices(pick, m);
    free(order);
    free(d2);
    return m;
}
