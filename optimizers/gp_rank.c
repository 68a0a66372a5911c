/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/gp_rank.h"

#include "base/alloc.h"

#include <stdlib.h>

static int by_rank(const void *a, const void *b)
{
    const struct gp_rank *p = a;
    const struct gp_rank *q = b;
    if (p->y != q->y) {
        return p->y < q->y ? -1 : 1;
    }
    return (p->i > q->i) - (p->i < q->i);
}

struct gp_rank *gp_rank(const double *y, const int *pick, int n)
{
    struct gp_rank *order = xcalloc((size_t)n + 1, sizeof(*order));
    for (int i = 0; i < n; i++) {
        order[i] = (struct gp_rank){y[pick != NULL ? pick[i] : i], i};
    }
    qsort(order, (size_t)n, sizeof(*order), by_rank);
    return order;
}

static int by_index(const void *a, const void *b)
{
    const int *p = a;
    const int *q = b;
    return (*p > *q) - (*p < *q);
}

void gp_rank_indices(int *pick, int n)
{
    qsort(pick, (size_t)n, sizeof(*pick), by_index);
}
