/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting and enumerating the distinct points. Conditions form a forest (every parameter has at
 * most one parent), so the points below a parameter are the sum over its values of the product over
 * the children that this value makes active. A cell is a point whether or not it meets the
 * constraints; the public index counts only those that do, where they are known one by one.
 */
#include "space/constraint_impl.h"

#include <math.h>
#include <stdlib.h>

/* Points of the children that value k of parameter j makes active. */
static double below(const struct space *s, int j, uint32_t k)
{
    double product = 1;
    for (int c = 0; c < s->n; c++) {
        if (s->params[c].parent == j && s->params[c].when[k]) {
            product *= s->counts[c];
        }
    }
    return product;
}

/* counts[j]: distinct assignments of j and everything below it, given that j is active. */
void space_count(struct space *s)
{
    for (int i = s->n - 1; i >= 0; i--) { /* children before parents */
        int j = s->order[i];
        const struct param *p = &s->params[j];
        s->counts[j] = p->n_values > 0 ? 0 : param_cells(p);
        for (uint32_t k = 0; k < p->n_values; k++) {
            s->counts[j] += below(s, j, k);
        }
    }
}

static double all_cells(const struct space *s)
{
    double size = 1;
    for (int j = 0; j < s->n; j++) {
        size *= s->params[j].parent < 0 ? s->counts[j] : 1;
    }
    return size;
}

double space_size(const struct space *s)
{
    return s->constraints != NULL && s->constraints->bits != NULL ? (double)s->constraints->feasible
                                                                  : all_cells(s);
}

bool space_size_is_exact(const struct space *s)
{
    return s->constraints == NULL || s->constraints->bits != NULL;
}

/* A parameter each of whose values is a block of one point: no need to add blocks up. */
static bool is_flat(const struct space *s, int j)
{
    return s->params[j].n_values == 0 || s->counts[j] == s->params[j].n_values;
}

/* Sets parameter j from *index, where `others` points belong to the rest of the open parameters;
 * returns what remains: the new number of points below j, and *index reduced. */
static double choose(const struct space *s, int j, double others, uint64_t *index, double *point)
{
    const struct param *p = &s->params[j];
    if (is_flat(s, j)) {
        uint64_t rest = (uint64_t)others;
        point[j] = param_cell_value(p, (double)(*index / rest));
        *index %= rest;
        return others;
    }
    for (uint32_t k = 0;; k++) {
        double block = below(s, j, k) * others;
        if (*index < (uint64_t)block || k + 1 == p->n_values) {
            point[j] = k;
            return block;
        }
        *index -= (uint64_t)block;
    }
}

void cells_point(const struct space *s, uint64_t cell, double *point)
{
    double open = all_cells(s); /* points of the parameters that are active and not yet set */
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        point[j] = NAN;
        if (space_is_active(s, point, j)) {
            open = choose(s, j, open / s->counts[j], &cell, point);
        }
    }
}

uint64_t cells_index(const struct space *s, const double *point)
{
    double open = all_cells(s);
    uint64_t cell = 0;
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        const struct param *p = &s->params[j];
        if (isnan(point[j])) {
            continue;
        }
        double others = open / s->counts[j];
        if (is_flat(s, j)) {
            cell += (uint64_t)(param_cell_of(p, point[j]) * others);
            open = others;
            continue;
        }
        for (uint32_t k = 0; k < (uint32_t)point[j]; k++) {
            cell += (uint64_t)(below(s, j, k) * others);
        }
        open = below(s, j, (uint32_t)point[j]) * others;
    }
    return cell;
}

void space_grid_point(const struct space *s, uint64_t index, double *point)
{
    bool known = s->constraints != NULL && s->constraints->bits != NULL;
    cells_point(s, known ? cells_select(s->constraints, index) : index, point);
}

uint64_t space_grid_index(const struct space *s, const double *point)
{
    uint64_t cell = cells_index(s, point);
    bool known = s->constraints != NULL && s->constraints->bits != NULL;
    return known ? cells_rank(s->constraints, cell) : cell;
}
