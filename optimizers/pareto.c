/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/pareto.h"

#include "base/alloc.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int compare_values(const double *a, const double *b, int m)
{
    bool better = false;
    bool worse = false;
    for (int i = 0; i < m; i++) {
        better = better || a[i] < b[i];
        worse = worse || a[i] > b[i];
    }
    return better == worse ? 0 : better ? -1 : 1;
}

int pareto_compare(const double *a, double a_violation, const double *b, double b_violation, int m)
{
    if (a_violation != b_violation) {
        return a_violation < b_violation ? -1 : 1;
    }
    return compare_values(a, b, m);
}

/* ---- fronts ---- */

struct row {
    const double *values;
    double violation;
    int m, index;
};

/* A row that comes before another in this order is never dominated by it. */
static int by_violation_and_values(const void *x, const void *y)
{
    const struct row *a = x;
    const struct row *b = y;
    if (a->violation != b->violation) {
        return a->violation < b->violation ? -1 : 1;
    }
    for (int i = 0; i < a->m; i++) {
        if (a->values[i] != b->values[i]) {
            return a->values[i] < b->values[i] ? -1 : 1;
        }
    }
    return a->index - b->index;
}

/* The rows of each front so far, newest first: last[f] and before[i] are places in the order. */
struct fronts {
    int *last, *before;
    int n;
};

static bool dominated_in(const struct fronts *f, const struct row *rows, int front, int at)
{
    for (int k = f->last[front]; k >= 0; k = f->before[k]) {
        if (pareto_compare(rows[k].values, rows[k].violation, rows[at].values, rows[at].violation,
                           rows[at].m) < 0) {
            return true;
        }
    }
    return false;
}

/* The first front that does not dominate the row: fronts that do come before those that do not. */
static int front_of(const struct fronts *f, const struct row *rows, int at)
{
    int lo = 0;
    int hi = f->n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (dominated_in(f, rows, mid, at)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void pareto_ranks(const double *values, const double *violations, int n, int m, int *ranks)
{
    struct row *rows = xcalloc((size_t)n + 1, sizeof(*rows));
    int *places = xcalloc(2 * (size_t)n + 1, sizeof(*places));
    struct fronts f = {.last = places, .before = places + n};
    for (int i = 0; i < n; i++) {
        rows[i] = (struct row){.values = values + (size_t)i * (size_t)m,
                               .violation = violations != NULL ? violations[i] : 0,
                               .m = m,
                               .index = i};
    }
    qsort(rows, (size_t)n, sizeof(*rows), by_violation_and_values);
    for (int at = 0; at < n; at++) {
        int front = front_of(&f, rows, at);
        f.before[at] = front < f.n ? f.last[front] : -1;
        f.n += front == f.n;
        f.last[front] = at;
        ranks[rows[at].index] = front;
    }
    free(rows);
    free(places);
}

/* ---- crowding ---- */

struct place {
    double value;
    int at;
};

static int by_value(const void *x, const void *y)
{
    const struct place *a = x;
    const struct place *b = y;
    return a->value < b->value ? -1 : a->value > b->value ? 1 : a->at - b->at;
}

void pareto_crowding(const double *values, int m, const int *members, int n, double *distances)
{
    struct place *order = xcalloc((size_t)n + 1, sizeof(*order));
    memset(distances, 0, (size_t)n * sizeof(*distances));
    for (int k = 0; k < m && n > 0; k++) {
        for (int i = 0; i < n; i++) {
            size_t row = (size_t)members[i];
            order[i] = (struct place){.value = values[row * (size_t)m + (size_t)k], .at = i};
        }
        qsort(order, (size_t)n, sizeof(*order), by_value);
        double range = order[n - 1].value - order[0].value;
        distances[order[0].at] = INFINITY;
        distances[order[n - 1].at] = INFINITY;
        for (int i = 1; i + 1 < n && range > 0; i++) {
            distances[order[i].at] += (order[i + 1].value - order[i - 1].value) / range;
        }
    }
    free(order);
}

/* ---- hypervolume ---- */

static int by_first(const void *x, const void *y)
{
    const struct row *a = x;
    const struct row *b = y;
    return a->values[0] < b->values[0] ? -1 : a->values[0] > b->values[0] ? 1 : a->index - b->index;
}

static double sweep_two(struct row *rows, int n, const double *reference)
{
    double volume = 0;
    double floor_ = reference[1];
    qsort(rows, (size_t)n, sizeof(*rows), by_first);
    for (int i = 0; i < n; i++) {
        double y = rows[i].values[1];
        if (y < floor_) {
            volume += (reference[0] - rows[i].values[0]) * (floor_ - y);
            floor_ = y;
        }
    }
    return volume;
}

static double box(const double *a, const double *reference, int m)
{
    double v = 1;
    for (int i = 0; i < m; i++) {
        v *= reference[i] - a[i];
    }
    return v;
}

static double wfg(const double *values, int n, int m, const double *reference);

/* What rows[0] adds to the volume of the rows after it: its box less what they cover of it. */
static double exclusive(const double *values, int n, int m, const double *reference)
{
    double *limited = xcalloc((size_t)n * (size_t)m + 1, sizeof(*limited));
    int kept = 0;
    for (int i = 1; i < n; i++) {
        double *to = limited + (size_t)kept * (size_t)m;
        for (int k = 0; k < m; k++) {
            to[k] = fmax(values[k], values[(size_t)i * (size_t)m + (size_t)k]);
        }
        bool covered = false;
        for (int j = 0; j < kept && !covered; j++) {
            const double *other = limited + (size_t)j * (size_t)m;
            covered =
                compare_values(other, to, m) < 0 || memcmp(other, to, (size_t)m * sizeof(*to)) == 0;
        }
        kept += !covered;
    }
    double v = box(values, reference, m) - wfg(limited, kept, m, reference);
    free(limited);
    return v;
}

static double wfg(const double *values, int n, int m, const double *reference)
{
    double v = 0;
    for (int i = 0; i < n; i++) {
        v += exclusive(values + (size_t)i * (size_t)m, n - i, m, reference);
    }
    return v;
}

double pareto_hypervolume(const double *values, int n, int m, const double *reference)
{
    struct row *rows = xcalloc((size_t)n + 1, sizeof(*rows));
    int kept = 0;
    for (int i = 0; i < n; i++) {
        const double *a = values + (size_t)i * (size_t)m;
        bool inside = true;
        for (int k = 0; k < m; k++) {
            inside = inside && a[k] < reference[k];
        }
        if (inside) {
            rows[kept++] = (struct row){.values = a, .m = m, .index = i};
        }
    }
    double v;
    if (m == 2) {
        v = sweep_two(rows, kept, reference);
    } else {
        double *dense = xcalloc((size_t)kept * (size_t)m + 1, sizeof(*dense));
        qsort(rows, (size_t)kept, sizeof(*rows), by_violation_and_values);
        for (int i = 0; i < kept; i++) {
            memcpy(dense + (size_t)i * (size_t)m, rows[i].values, (size_t)m * sizeof(*dense));
        }
        v = wfg(dense, kept, m, reference);
        free(dense);
    }
    free(rows);
    return v;
}
