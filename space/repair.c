/* SPDX-License-Identifier: Apache-2.0
 *
 * From a broken point to a feasible one near it. Descent along one parameter at a time on the sum
 * of the constraints' violations: every parameter that a broken constraint reads (and the parents
 * that switch it) is tried on a ladder of distances, and the shortest move that mends everything
 * wins, else the move that mends most. Where that ends in a corner: new draws of those parameters,
 * and at last the way to the witness, parameter by parameter. Every search has a bound on
 * evaluations.
 */
#include "space/constraint_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_TRIED 64       /* of one listed parameter in one move; more are sampled */
#define LADDER 24             /* halvings of the unit interval */
#define RESTARTS 8            /* new draws of the moved parameters */
#define EVALUATIONS_MAX 30000 /* of one repair, before the way to the witness */
#define WITNESS_DRAWS 256     /* draws before each descent of the search for a witness */
#define WITNESS_MAX 400000    /* evaluations of that search */
#define WANDER_SWEEPS 4       /* of slice sampling */
#define WANDER_SHRINKS 40

struct descent {
    const struct space *s;
    const bool *held; /* NULL = none */
    struct pcg64 *g;  /* one generator for each parameter */
    double *fill;     /* unit values of parameters that become active */
    bool *moves;      /* parameters that may help */
    double *point, *trial, *best;
    double violation; /* of point */
    int evaluations, evaluations_max;
};

struct move {
    int j; /* -1 = none */
    double u;
    double violation, distance;
};

static void descent_init(struct descent *d, const struct space *s, struct pcg64 *g,
                         const bool *held, double *point)
{
    size_t n = (size_t)s->n;
    *d = (struct descent){.s = s, .held = held, .g = g, .point = point};
    d->evaluations_max = EVALUATIONS_MAX;
    d->fill = xcalloc(3 * n, sizeof(*d->fill));
    d->trial = d->fill + n;
    d->best = d->trial + n;
    d->moves = xcalloc(n, sizeof(*d->moves));
    for (int j = 0; j < s->n; j++) {
        d->fill[j] = pcg64_double(&d->g[j]);
    }
}

static void descent_fini(struct descent *d)
{
    free(d->fill);
    free(d->moves);
}

/* Makes activity true again: children of changed parents go, or get a value. False when that would
 * change a held one. */
static bool settle(const struct descent *d, double *point)
{
    const struct space *s = d->s;
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        bool active = space_is_active(s, point, j);
        if (active == !isnan(point[j])) {
            continue;
        }
        if (d->held != NULL && d->held[j]) {
            return false;
        }
        point[j] = active ? param_from_unit(&s->params[j], d->fill[j]) : NAN;
    }
    return true;
}

static double violation_of(struct descent *d, double *point)
{
    d->evaluations++;
    return settle(d, point) ? space_violation(d->s, point) : INFINITY;
}

static void put(struct descent *d, int j, double u)
{
    memcpy(d->trial, d->point, (size_t)d->s->n * sizeof(*d->trial));
    d->trial[j] = param_from_unit(&d->s->params[j], u);
}

static double try_value(struct descent *d, int j, double u)
{
    put(d, j, u);
    return violation_of(d, d->trial);
}

/* Less broken first, then nearer, then the lower parameter (who came first). */
static bool consider(struct descent *d, int j, double u, double distance, struct move *best)
{
    double v = try_value(d, j, u);
    if (v < best->violation || (v == best->violation && distance < best->distance)) {
        *best = (struct move){.j = j, .u = u, .violation = v, .distance = distance};
        return true;
    }
    return false;
}

/* ---- along one parameter ---- */

static bool is_unordered(const struct param *p)
{
    return p->type == PARAM_CATEGORICAL && !p->ordered;
}

static void along_values(struct descent *d, int j, struct move *best)
{
    const struct param *p = &d->s->params[j];
    double n = param_cells(p);
    double now = param_to_unit(p, d->point[j]);
    int tries = n <= VALUES_TRIED ? (int)n : VALUES_TRIED;
    for (int i = 0; i < tries; i++) {
        double k = n <= VALUES_TRIED ? i : floor(pcg64_double(&d->g[j]) * n);
        double u = param_to_unit(p, param_cell_value(p, k));
        if (u != now) {
            (void)consider(d, j, u, is_unordered(p) ? 1 : fabs(u - now), best);
        }
    }
}

/* Between a broken value (at `out`) and one that mends all: the nearest that still does. */
static void bisect(struct descent *d, double out, struct move *best)
{
    double now = param_to_unit(&d->s->params[best->j], d->point[best->j]);
    double in = best->u;
    for (int i = 0; i < LADDER; i++) {
        double mid = (in + out) / 2;
        if (try_value(d, best->j, mid) > 0) {
            out = mid;
        } else {
            in = mid;
        }
    }
    best->u = in;
    best->distance = fabs(in - now);
}

/* Golden-section search around the best rung: where an equality holds, the violation is a V. */
static void narrow(struct descent *d, double width, struct move *best)
{
    const double golden = 0.6180339887498949;
    double a = fmax(best->u - width, 0);
    double b = fmin(best->u + width, 1);
    double x = b - golden * (b - a);
    double y = a + golden * (b - a);
    double vx = try_value(d, best->j, x);
    double vy = try_value(d, best->j, y);
    for (int i = 0; i < 72 && vx > 0 && vy > 0; i++) {
        if (vx <= vy) {
            b = y;
            y = x;
            vy = vx;
            x = b - golden * (b - a);
            vx = try_value(d, best->j, x);
        } else {
            a = x;
            x = y;
            vx = vy;
            y = a + golden * (b - a);
            vy = try_value(d, best->j, y);
        }
    }
    double u = vx <= vy ? x : y;
    (void)consider(d, best->j, u, best->distance, best);
}

static void along_range(struct descent *d, int j, struct move *best)
{
    const struct param *p = &d->s->params[j];
    double now = param_to_unit(p, d->point[j]);
    struct move line = {.j = -1, .violation = INFINITY};
    double width = 0;
    for (int i = 0; i <= LADDER; i++) {
        double h = ldexp(1, -i);
        double below = fmax(now - h, 0);
        double above = fmin(now + h, 1);
        bool better = consider(d, j, below, now - below, &line);
        better = consider(d, j, above, above - now, &line) || better;
        width = better ? h : width;
        if (h * param_cells(p) < 0.5) {
            break;
        }
    }
    if (line.violation <= 0) {
        bisect(d, line.u > now ? fmax(now, line.u - width / 2) : fmin(now, line.u + width / 2),
               &line);
    } else if (line.violation < d->violation && isinf(param_cells(p))) {
        narrow(d, width / 2, &line);
    }
    if (line.violation < best->violation ||
        (line.violation == best->violation && line.distance < best->distance)) {
        *best = line;
    }
}

/* ---- descent ---- */

/* What broken constraints read, and every parent above: turning it off ends the matter too. */
static void find_moves(struct descent *d)
{
    const struct constraints *c = d->s->constraints;
    memset(d->moves, 0, (size_t)d->s->n * sizeof(*d->moves));
    for (int i = 0; i < c->n; i++) {
        if (constraint_violation(&c->at[i], d->s, d->point) > 0) {
            for (int j = 0; j < d->s->n; j++) {
                d->moves[j] = d->moves[j] || constraint_reads(&c->at[i], j);
            }
        }
    }
    for (int i = d->s->n - 1; i >= 0; i--) {
        int j = d->s->order[i];
        if (d->moves[j] && d->s->params[j].parent >= 0) {
            d->moves[d->s->params[j].parent] = true;
        }
    }
}

static bool may_move(const struct descent *d, int j)
{
    return d->moves[j] && !isnan(d->point[j]) && (d->held == NULL || !d->held[j]) &&
           param_cells(&d->s->params[j]) > 1;
}

/* True when the point ends feasible. */
static bool descend(struct descent *d)
{
    d->violation = violation_of(d, d->point);
    while (d->violation > 0 && d->evaluations < d->evaluations_max) {
        struct move best = {.j = -1, .violation = d->violation, .distance = 0};
        find_moves(d);
        for (int j = 0; j < d->s->n; j++) {
            if (!may_move(d, j)) {
                continue;
            }
            if (d->s->params[j].n_values > 0 || param_cells(&d->s->params[j]) <= VALUES_TRIED) {
                along_values(d, j, &best);
            } else {
                along_range(d, j, &best);
            }
        }
        if (best.j < 0 || best.violation >= d->violation) {
            return false;
        }
        put(d, best.j, best.u);
        d->violation = violation_of(d, d->trial);
        memcpy(d->point, d->trial, (size_t)d->s->n * sizeof(*d->point));
    }
    return d->violation <= 0;
}

/* New draws for what may move. */
static void redraw(struct descent *d)
{
    for (int i = 0; i < d->s->n; i++) {
        int j = d->s->order[i];
        d->fill[j] = pcg64_double(&d->g[j]);
        if (may_move(d, j)) {
            d->point[j] = param_from_unit(&d->s->params[j], pcg64_double(&d->g[j]));
        }
    }
}

/* The values of the witness, one parameter after the other, until the point is feasible. */
static bool go_to_witness(struct descent *d)
{
    const double *w = d->s->constraints->witness;
    for (int i = 0; i < d->s->n; i++) {
        int j = d->s->order[i];
        if (d->held != NULL && d->held[j] &&
            (isnan(w[j]) != isnan(d->point[j]) || (!isnan(w[j]) && w[j] != d->point[j]))) {
            return false;
        }
    }
    for (int i = 0; i < d->s->n; i++) {
        int j = d->s->order[i];
        d->point[j] = w[j];
        memcpy(d->trial, d->point, (size_t)d->s->n * sizeof(*d->trial));
        if (violation_of(d, d->trial) <= 0) {
            memcpy(d->point, d->trial, (size_t)d->s->n * sizeof(*d->point));
            return true;
        }
    }
    MAG_ASSERT(false, "the witness of the constraints is feasible");
}

static bool mend(struct descent *d)
{
    double *start = d->best;
    memcpy(start, d->point, (size_t)d->s->n * sizeof(*start));
    bool done = descend(d);
    for (int i = 0; i < RESTARTS && !done && d->evaluations < d->evaluations_max; i++) {
        memcpy(d->point, start, (size_t)d->s->n * sizeof(*start));
        find_moves(d);
        redraw(d);
        done = descend(d);
    }
    if (!done) {
        memcpy(d->point, start, (size_t)d->s->n * sizeof(*start));
        done = go_to_witness(d);
    }
    return done;
}

static void streams(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                    struct pcg64 *g)
{
    char stream[SPACE_NAME_MAX + 80];
    for (int j = 0; j < s->n; j++) {
        (void)snprintf(stream, sizeof(stream), "%.60s:repair:%s", purpose, s->params[j].name);
        pcg_stream(&g[j], seed, stream, id);
    }
}

/* Holes are drawn, and activity holds, before anything is measured. */
bool space_complete(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                    const bool *held, double *point)
{
    struct pcg64 g[SPACE_PARAMS_MAX];
    struct descent d;
    double *before = xcalloc((size_t)s->n, sizeof(*before));
    memcpy(before, point, (size_t)s->n * sizeof(*before));
    streams(s, seed, purpose, id, g);
    descent_init(&d, s, g, held, point);
    bool ok = settle(&d, point) && (space_is_feasible(s, point) || mend(&d));
    if (!ok) {
        memcpy(point, before, (size_t)s->n * sizeof(*point));
    }
    descent_fini(&d);
    free(before);
    return ok;
}

static bool has_hole(const struct space *s, const double *point)
{
    for (int i = 0; i < s->n; i++) {
        if (isnan(point[s->order[i]]) == space_is_active(s, point, s->order[i])) {
            return true;
        }
    }
    return false;
}

void space_repair(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                  double *point)
{
    if (!has_hole(s, point) && space_is_feasible(s, point)) {
        return;
    }
    bool ok = space_complete(s, seed, purpose, id, NULL, point);
    MAG_ASSERT(ok, "a point with nothing held can be repaired");
}

/* ---- the first feasible point, and the way from one to others ---- */

static void draw_all(const struct space *s, struct pcg64 *g, double *point)
{
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        double u = pcg64_double(&g[j]);
        point[j] = space_is_active(s, point, j) ? param_from_unit(&s->params[j], u) : NAN;
    }
}

bool repair_witness(const struct space *s, double *best)
{
    struct pcg64 g[SPACE_PARAMS_MAX];
    struct descent d;
    double least = INFINITY;
    double *point = xcalloc(2 * (size_t)s->n, sizeof(*point));
    double *nearest = point + s->n;
    size_t bytes = (size_t)s->n * sizeof(*point);
    streams(s, 1, "witness", 0, g);
    descent_init(&d, s, g, NULL, point);
    while (least > 0 && d.evaluations < WITNESS_MAX) {
        double v_nearest = INFINITY;
        for (int i = 0; i < WITNESS_DRAWS && v_nearest > 0; i++) {
            draw_all(s, g, point);
            double v = violation_of(&d, point);
            if (i == 0 || v < v_nearest) {
                v_nearest = v;
                memcpy(nearest, point, bytes);
            }
        }
        memcpy(point, nearest, bytes);
        d.evaluations_max = d.evaluations + EVALUATIONS_MAX;
        (void)descend(&d);
        if (d.violation < least || isinf(least)) {
            least = d.violation;
            memcpy(best, point, bytes);
        }
    }
    descent_fini(&d);
    free(point);
    return least <= 0;
}

/* One parameter to a value drawn evenly from those that keep the point feasible: Neal's slice
 * sampling with shrinkage, on a flat density. */
static void slice(struct descent *d, int j)
{
    const struct param *p = &d->s->params[j];
    double now = param_to_unit(p, d->point[j]);
    double lo = 0;
    double hi = 1;
    for (int i = 0; i < WANDER_SHRINKS; i++) {
        double u = lo + (hi - lo) * pcg64_double(&d->g[j]);
        put(d, j, u);
        d->fill[j] = pcg64_double(&d->g[j]);
        if (settle(d, d->trial) && space_is_feasible(d->s, d->trial)) {
            memcpy(d->point, d->trial, (size_t)d->s->n * sizeof(*d->point));
            return;
        }
        lo = u < now ? u : lo;
        hi = u < now ? hi : u;
    }
}

void repair_wander(const struct space *s, struct pcg64 *g, double *point)
{
    struct descent d;
    descent_init(&d, s, g, NULL, point);
    for (int i = 0; i < WANDER_SWEEPS * s->n; i++) {
        int j = s->order[i % s->n];
        if (!isnan(point[j]) && param_cells(&s->params[j]) > 1) {
            slice(&d, j);
        }
    }
    descent_fini(&d);
}
