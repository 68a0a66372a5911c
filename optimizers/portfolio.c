/* SPDX-License-Identifier: Apache-2.0
 *
 * Two models that are strong on different objectives, in turns: a Gaussian process (gp), which
 * finds its way among many valleys, and CMA-ES with its quadratic model (cmaes), which runs down
 * one that is narrow and turned. Both are told every trial; the one whose own trials gained more
 * lately gets three turns of four. When the search has settled in a basin gp gets as many, to look
 * elsewhere, while cmaes goes on where it is. Whose turn it is follows from the results alone.
 */
#include "base/alloc.h"
#include "optimizers/idtab.h"
#include "optimizers/options.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"

#include <math.h>
#include <stdlib.h>

#define PAPER                                                                                      \
    "Hoffman, Brochu and de Freitas, Portfolio Allocation for Bayesian Optimization, UAI 2011"

#define ARMS 2
#define GP 0
#define CMAES 1
#define DECAY 0.85 /* of an arm's credit with each trial of its own */
#define AHEAD 0.1  /* more credit than that is a lead */
#define CROWD 4    /* more trials running than that: gp alone, which counts them */

enum portfolio_option { OPTION_WARMUP };

static const struct opt_option portfolio_options[] = {
    [OPTION_WARMUP] = {.name = "warmup",
                       .type = OPT_T_INT,
                       .lo = 2,
                       .hi = 10000,
                       .def = NAN,
                       .help = "results before the turns begin, of gp's trials alone; by default "
                               "twice the parameters and 6"},
    {0},
};

struct turn {
    uint8_t arm;
    bool running;
};

IDTAB(turns, struct turn)

struct portfolio {
    const struct sampler_ops *ops[ARMS];
    void *state[ARMS];
    double credit[ARMS];
    int64_t warmup, results, running;
    double best; /* of the feasible results */
    struct turns turns;
};

static enum mag_status start_arm(struct portfolio *s, int arm, const struct sampler_ops *ops,
                                 const struct sampler_config *cfg, const char **ret_pointer,
                                 struct mag_err *err)
{
    double values[OPTIONS_MAX] = {0};
    struct sampler_config own = *cfg;
    for (int i = 0; i < options_count(ops->options); i++) {
        values[i] = ops->options[i].def;
    }
    own.opt.values = values;
    s->ops[arm] = ops;
    s->state[arm] = xcalloc(1, ops->state_size);
    return ops->init(s->state[arm], &own, ret_pointer, err);
}

static enum mag_status portfolio_init(void *self, const struct sampler_config *cfg,
                                      const char **ret_pointer, struct mag_err *err)
{
    struct portfolio *s = self;
    double warmup = cfg->opt.values[OPTION_WARMUP];
    s->best = INFINITY;
    s->warmup = isnan(warmup) ? 6 + 2 * cfg->opt.space->n : (int64_t)warmup;
    enum mag_status st = start_arm(s, GP, &gp_sampler, cfg, ret_pointer, err);
    return st == MAG_OK ? start_arm(s, CMAES, &cmaes_sampler, cfg, ret_pointer, err) : st;
}

static void portfolio_fini(void *self)
{
    struct portfolio *s = self;
    for (int a = 0; a < ARMS; a++) {
        if (s->state[a] != NULL) {
            s->ops[a]->fini(s->state[a]);
        }
        free(s->state[a]);
    }
    free(s->turns.at);
}

static int arm_of(const struct portfolio *s, int64_t trial)
{
    if (s->results < s->warmup || s->running > CROWD) {
        return GP;
    }
    if (gp_sampler_settled(s->state[GP])) {
        return trial % 4 == 0 ? CMAES : GP;
    }
    double lead = s->credit[CMAES] - s->credit[GP];
    if (fabs(lead) < AHEAD) {
        return trial % 2 == 0 ? CMAES : GP;
    }
    bool of_leader = trial % 4 != 0;
    return (lead > 0) == of_leader ? CMAES : GP;
}

static void propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct portfolio *s = self;
    int arm = arm_of(s, trial);
    s->ops[arm]->propose(s->state[arm], trial, attempt, point);
}

static void pending(void *self, int64_t trial, const double *point)
{
    struct portfolio *s = self;
    struct turn turn = {.arm = (uint8_t)arm_of(s, trial), .running = true};
    *turns_of(&s->turns, trial) = turn;
    s->running++;
    for (int a = 0; a < ARMS; a++) {
        s->ops[a]->pending(s->state[a], trial, point);
    }
}

static bool gains(struct portfolio *s, const struct opt_result *r)
{
    bool better = r->violation <= 0 && r->value < s->best;
    s->best = better ? r->value : s->best;
    s->results++;
    return better;
}

static void observe(void *self, int64_t trial, int64_t budget, const struct opt_result *r)
{
    struct portfolio *s = self;
    double *credit = &s->credit[turns_of(&s->turns, trial)->arm];
    *credit = DECAY * *credit + (gains(s, r) ? 1 - DECAY : 0);
    for (int a = 0; a < ARMS; a++) {
        s->ops[a]->observe(s->state[a], trial, budget, r);
    }
}

static void ended(void *self, int64_t trial, enum opt_outcome outcome)
{
    struct portfolio *s = self;
    struct turn *turn = turns_of(&s->turns, trial);
    s->running -= turn->running;
    turn->running = false;
    for (int a = 0; a < ARMS; a++) {
        s->ops[a]->ended(s->state[a], trial, outcome);
    }
}

static void others(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct portfolio *s = self;
    (void)gains(s, r);
    for (int a = 0; a < ARMS; a++) {
        if (s->ops[a]->others != NULL) {
            s->ops[a]->others(s->state[a], point, budget, r);
        }
    }
}

/* As a search of its own and as a sampler of others. */
#define IDENTITY                                                                                   \
    .name = "portfolio", .summary = "gp and cmaes in turns, more for the one that gains",          \
    .paper = PAPER, .caps = OPT_CAP_SLOW | OPT_CAP_OUTCOME, .options = portfolio_options,          \
    .version = 3

static const struct sampler_ops portfolio_sampler = {
    IDENTITY,
    .state_size = sizeof(struct portfolio),
    .init = portfolio_init,
    .fini = portfolio_fini,
    .propose = propose,
    .pending = pending,
    .observe = observe,
    .ended = ended,
    .others = others,
};

static enum mag_status init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                            struct mag_err *err)
{
    return search_init(self, &portfolio_sampler, cfg, ret_pointer, err);
}

const struct optimizer_ops portfolio_ops = {
    IDENTITY,
    .init = init,
    SEARCH_OPS,
};
