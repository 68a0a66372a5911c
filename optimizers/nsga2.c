/* SPDX-License-Identifier: Apache-2.0
 *
 * NSGA-II (Deb, Pratap, Agarwal, Meyarivan, IEEE TEVC 6, 2002) in its steady-state form: every
 * result competes at once for a place in the population, by rank of constrained domination and then
 * crowding distance, so any number of trials may be pending and nobody waits for a generation.
 * Children come of two parents, each the winner of a binary tournament, by simulated binary
 * crossover (Deb and Agrawal 1995) and polynomial mutation in the unit cube; an unordered parameter
 * takes either parent's value or, mutated, any.
 *
 * Works with one objective too: then the rank is the order of the values.
 */
#include "optimizers/registry.h"
#include "optimizers/search.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "optimizers/idtab.h"
#include "optimizers/pareto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAPER                                                                                      \
    "Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE TEVC 6 (2002)"

enum { OPT_POPULATION, OPT_CROSSOVER, OPT_CROSSOVER_ETA, OPT_MUTATION, OPT_MUTATION_ETA };

static const struct opt_option nsga2_options[] = {
    {"population", OPT_T_INT, 4, 1000, 50, NULL,
     "members; as many trials start at random before the first child"},
    {"crossover", OPT_T_REAL, 0, 1, 0.9, NULL, "probability that two parents are crossed"},
    {"crossover_eta", OPT_T_REAL, 0, 1000, 15, NULL,
     "distribution index of the crossover: greater keeps children nearer to their parents"},
    {"mutation", OPT_T_REAL, 0, 1, NAN, NULL,
     "probability that a parameter mutates; default: 1 / parameters"},
    {"mutation_eta", OPT_T_REAL, 0, 1000, 20, NULL,
     "distribution index of the mutation: greater changes less"},
    {0},
};

/* A result: its point in the unit cube, objectives, violation. */
struct member {
    double *u; /* n coordinates, then m values; NULL = no member */
    double violation;
    int64_t trial;
    int rank;
    double crowding;
};

struct nsga2_trial {
    double *u; /* while it is open */
};

IDTAB(nsga2_trials, struct nsga2_trial)

struct nsga2 {
    const struct space *space;
    uint64_t seed;
    const char *purpose;
    int m;
    int size;
    double crossover, crossover_eta, mutation, mutation_eta;
    struct member *members; /* size + 1: room for the one that competes */
    int n;
    struct nsga2_trials trials;
};

static enum mag_status nsga2_sampler_init(void *self, const struct sampler_config *cfg,
                                          const char **ret_pointer, struct mag_err *err)
{
    struct nsga2 *g = self;
    const double *values = cfg->opt.values;
    *g = (struct nsga2){.space = cfg->opt.space,
                        .seed = cfg->opt.seed,
                        .purpose = cfg->purpose,
                        .m = cfg->opt.objectives,
                        .size = (int)values[OPT_POPULATION]};
    g->crossover = values[OPT_CROSSOVER];
    g->crossover_eta = values[OPT_CROSSOVER_ETA];
    g->mutation = isnan(values[OPT_MUTATION]) ? 1.0 / (double)g->space->n : values[OPT_MUTATION];
    g->mutation_eta = values[OPT_MUTATION_ETA];
    g->members = xcalloc((size_t)g->size + 1, sizeof(*g->members));
    return MAG_OK;
}

static void nsga2_sampler_fini(void *self)
{
    struct nsga2 *g = self;
    for (int i = 0; i < g->n; i++) {
        free(g->members[i].u);
    }
    for (int64_t i = 0; i < g->trials.n; i++) {
        free(g->trials.at[i].u);
    }
    free(g->members);
    free(g->trials.at);
}

/* ---- children ---- */

static bool is_better(const struct member *a, const struct member *b)
{
    if (a->rank != b->rank) {
        return a->rank < b->rank;
    }
    return a->crowding != b->crowding ? a->crowding > b->crowding : a->trial < b->trial;
}

static const struct member *tournament(const struct nsga2 *g, struct pcg64 *r)
{
    const struct member *a = &g->members[pcg64_below(r, (uint64_t)g->n)];
    const struct member *b = &g->members[pcg64_below(r, (uint64_t)g->n)];
    return is_better(a, b) ? a : b;
}

static double clamp(double u)
{
    return u < 0 ? 0 : u > 1 ? 1 : u;
}

/* One child coordinate of two parents: spread factor beta of equation (6) of the 1995 paper. */
static double sbx(const struct nsga2 *g, struct pcg64 *r, double a, double b)
{
    double u = pcg64_double(r);
    double e = 1 / (g->crossover_eta + 1);
    double beta = u <= 0.5 ? pow(2 * u, e) : pow(1 / (2 * (1 - u)), e);
    double side = pcg64_double(r) < 0.5 ? 1 : -1;
    return clamp(0.5 * ((a + b) + side * beta * (a - b)));
}

/* Bounded polynomial mutation: no step leaves the interval. */
static double mutate(const struct nsga2 *g, struct pcg64 *r, double x)
{
    double u = pcg64_double(r);
    double e = g->mutation_eta + 1;
    if (u < 0.5) {
        double q = 2 * u + (1 - 2 * u) * pow(1 - x, e);
        return clamp(x + pow(q, 1 / e) - 1);
    }
    double q = 2 * (1 - u) + 2 * (u - 0.5) * pow(x, e);
    return clamp(x + 1 - pow(q, 1 / e));
}

static double child_coordinate(const struct nsga2 *g, struct pcg64 *r, int i, double a, double b,
                               bool crossed)
{
    bool unordered = g->space->params[i].type == PARAM_CATEGORICAL;
    bool mixes = crossed && pcg64_double(r) < 0.5;
    double u = !mixes ? a : unordered ? b : sbx(g, r, a, b);
    if (pcg64_double(r) < g->mutation) {
        u = unordered ? pcg64_double(r) : mutate(g, r, u);
    }
    return u;
}

static void nsga2_propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct nsga2 *g = self;
    uint64_t stream = sampler_stream(trial, attempt);
    if (g->n < g->size) {
        space_sample(g->space, g->seed, g->purpose, stream, point);
        return;
    }
    struct pcg64 r;
    pcg_stream(&r, g->seed, "nsga2-child", stream);
    const struct member *a = tournament(g, &r);
    const struct member *b = tournament(g, &r);
    bool crossed = pcg64_double(&r) < g->crossover;
    double *u = xcalloc((size_t)g->space->n, sizeof(*u));
    for (int i = 0; i < g->space->n; i++) {
        u[i] = child_coordinate(g, &r, i, a->u[i], b->u[i], crossed);
    }
    space_from_unit(g->space, u, point);
    free(u);
}

/* ---- history ---- */

/* Coordinates of the point with room for the objectives behind them; inactive ones are drawn, so
 * that crossover can wake them. */
static double *coordinates(const struct nsga2 *g, int64_t trial, const double *point)
{
    double *u = xcalloc((size_t)(g->space->n + g->m), sizeof(*u));
    struct pcg64 r;
    pcg_stream(&r, g->seed, "nsga2-fill", (uint64_t)trial);
    space_to_unit(g->space, point, u);
    for (int i = 0; i < g->space->n; i++) {
        double drawn = pcg64_double(&r);
        u[i] = isnan(u[i]) ? drawn : u[i];
    }
    return u;
}

static void nsga2_pending(void *self, int64_t trial, const double *point)
{
    struct nsga2 *g = self;
    struct nsga2_trial *t = nsga2_trials_of(&g->trials, trial);
    free(t->u);
    t->u = coordinates(g, trial, point);
}

/* Ranks and crowding of the whole population. */
static void judge(struct nsga2 *g)
{
    size_t n = (size_t)g->n;
    size_t m = (size_t)g->m;
    double *values = xcalloc(n * (m + 2) + 1, sizeof(*values));
    double *violations = values + n * m;
    double *distances = violations + n;
    int *ranks = xcalloc(2 * n + 1, sizeof(*ranks));
    int *front = ranks + n;
    for (int i = 0; i < g->n; i++) {
        memcpy(values + (size_t)i * m, g->members[i].u + g->space->n, m * sizeof(*values));
        violations[i] = g->members[i].violation;
    }
    pareto_ranks(values, violations, g->n, g->m, ranks);
    for (int done = 0, rank = 0; done < g->n; rank++) {
        int k = 0;
        for (int i = 0; i < g->n; i++) {
            if (ranks[i] == rank) {
                front[k++] = i;
            }
        }
        pareto_crowding(values, g->m, front, k, distances);
        for (int i = 0; i < k; i++) {
            g->members[front[i]].rank = rank;
            g->members[front[i]].crowding = distances[i];
        }
        done += k;
    }
    free(values);
    free(ranks);
}

/* Takes u. The worst of size + 1 goes. */
static void compete(struct nsga2 *g, int64_t trial, double *u_take, const struct opt_result *r)
{
    int at = 0;
    while (at < g->n && (trial == 0 || g->members[at].trial != trial)) {
        at++; /* a trial seen at a higher budget replaces what it was */
    }
    if (at < g->n) {
        free(g->members[at].u);
    } else {
        g->n++;
    }
    memcpy(u_take + g->space->n, r->values, (size_t)g->m * sizeof(double));
    g->members[at] = (struct member){.u = u_take, .violation = r->violation, .trial = trial};
    judge(g);
    if (g->n <= g->size) {
        return;
    }
    int worst = 0;
    for (int i = 1; i < g->n; i++) {
        worst = is_better(&g->members[worst], &g->members[i]) ? i : worst;
    }
    free(g->members[worst].u);
    g->members[worst] = g->members[--g->n];
    judge(g);
}

static void nsga2_sampler_observe(void *self, int64_t trial, int64_t budget,
                                  const struct opt_result *r)
{
    struct nsga2 *g = self;
    const struct nsga2_trial *t = nsga2_trials_of(&g->trials, trial);
    if (t->u != NULL) {
        size_t bytes = (size_t)(g->space->n + g->m) * sizeof(double);
        double *u = xmalloc(bytes);
        memcpy(u, t->u, bytes);
        compete(g, trial, u, r);
    }
}

static void nsga2_ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct nsga2 *g = self;
    struct nsga2_trial *t = nsga2_trials_of(&g->trials, trial);
    free(t->u);
    t->u = NULL;
}

static void nsga2_others(void *self, const double *point, int64_t budget,
                         const struct opt_result *r)
{
    struct nsga2 *g = self;
    compete(g, 0, coordinates(g, 0, point), r);
}

const struct sampler_ops nsga2_sampler = {
    .name = "nsga2",
    .summary = "children of a population that is best by Pareto rank and spread",
    .paper = PAPER,
    .caps = OPT_CAP_MULTI | OPT_CAP_OUTCOME,
    .options = nsga2_options,
    .version = 1,
    .state_size = sizeof(struct nsga2),
    .init = nsga2_sampler_init,
    .fini = nsga2_sampler_fini,
    .propose = nsga2_propose,
    .pending = nsga2_pending,
    .observe = nsga2_sampler_observe,
    .ended = nsga2_ended,
    .others = nsga2_others,
};

static enum mag_status nsga2_init(void *self, const struct opt_config *cfg,
                                  const char **ret_pointer, struct mag_err *err)
{
    return search_init(self, &nsga2_sampler, cfg, ret_pointer, err);
}

const struct optimizer_ops nsga2_ops = {
    .name = "nsga2",
    .summary = "NSGA-II: an evolving Pareto front for several objectives",
    .paper = PAPER,
    .caps = OPT_CAP_MULTI | OPT_CAP_OUTCOME,
    .options = nsga2_options,
    .version = 1,
    .init = nsga2_init,
    SEARCH_OPS,
};
