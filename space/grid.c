/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting and enumerating the distinct points. Conditions form a forest (every parameter has at
 * most one parent), so the points below a parameter are the sum over its values of the product over
 * the children that this value makes active.
 */
#include "space/space.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

/* Points of the children that value k of parameter j makes active. */
static double below(const struct space *s, const double *counts, int j, uint32_t k)
{
    double product = 1;
    for (int c = 0; c < s->n; c++) {
        if (s->params[c].parent == j && s->params[c].when[k]) {
            product *= counts[c];
        }
    }
    return product;
}

/* counts[j]: distinct assignments of j and everything below it, given that j is active. */
static void count_all(const struct space *s, double *counts)
{
    for (int i = s->n - 1; i >= 0; i--) { /* children before parents */
        int j = s->order[i];
        const struct param *p = &s->params[j];
        counts[j] = p->n_values > 0 ? 0 : param_cells(p);
        for (uint32_t k = 0; k < p->n_values; k++) {
            counts[j] += below(s, counts, j, k);
        }
    }
}

double space_size(const struct space *s)
{
    double *counts = xcalloc((size_t)s->n, sizeof(*counts));
    count_all(s, counts);
    double size = 1;
    for (int j = 0; j < s->n; j++) {
        size *= s->params[j].parent < 0 ? counts[j] : 1;
    }
    free(counts);
    return size;
}

/* Sets parameter j from *index, where `others` points belong to the rest of the open parameters;
 * returns what remains: the new number of points below j, and *index reduced. */
static double choose(const struct space *s, const double *counts, int j, double others,
                     uint64_t *index, double *point)
{
    const struct param *p = &s->params[j];
    if (p->n_values == 0) {
        uint64_t rest = (uint64_t)others;
        point[j] = param_cell_value(p, (double)(*index / rest));
        *index %= rest;
        return others;
    }
    for (uint32_t k = 0;; k++) {
        double block = below(s, counts, j, k) * others;
        if (*index < (uint64_t)block || k + 1 == p->n_values) {
            point[j] = k;
            return block;
        }
        *index -= (uint64_t)block;
    }
}

void space_grid_point(const struct space *s, uint64_t index, double *point)
{
    double *counts = xcalloc((size_t)s->n, sizeof(*counts));
    count_all(s, counts);
    double open = 1; /* points of the parameters that are active and not yet set */
    for (int j = 0; j < s->n; j++) {
        open *= s->params[j].parent < 0 ? counts[j] : 1;
    }
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        point[j] = NAN;
        if (space_is_active(s, point, j)) {
            open = choose(s, counts, j, open / counts[j], &index, point);
        }
    }
    free(counts);
}
