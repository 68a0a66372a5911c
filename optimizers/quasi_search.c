/* SPDX-License-Identifier: Apache-2.0
 *
 * Sobol', Halton and Latin hypercube search: trial t takes point t - 1 of the sequence, whatever
 * happens to the others. A point that repeats an earlier one, where the space is finite, is
 * replaced by random ones.
 */
#include "optimizers/quasi.h"
#include "optimizers/registry.h"
#include "optimizers/search.h"

#include <math.h>

#define SOBOL_PAPER                                                                                \
    "Owen, Scrambling Sobol' and Niederreiter-Xing Points, Journal of Complexity 14 (1998)"
#define HALTON_PAPER "Owen, A Randomized Halton Algorithm in R, arXiv 1706.02808 (2017)"
#define LHS_PAPER                                                                                  \
    "McKay, Beckman and Conover, A Comparison of Three Methods for Selecting Values of Input "     \
    "Variables, Technometrics 21 (1979)"

#define LHS_SIZE 100 /* without a limit of trials */

enum { OPT_SIZE };

static const struct opt_option no_options[] = {{0}};

static const struct opt_option lhs_options[] = {
    {"size", OPT_T_INT, 1, 1e6, NAN, NULL,
     "trials of one hypercube; default: the limit of trials, 100 without one"},
    {0},
};

struct quasi_sampler {
    struct quasi *quasi;
    const struct space *space;
    uint64_t seed;
    const char *purpose;
};

static void start(struct quasi_sampler *s, enum quasi_kind kind, const struct sampler_config *cfg,
                  uint64_t size)
{
    *s = (struct quasi_sampler){
        .space = cfg->opt.space, .seed = cfg->opt.seed, .purpose = cfg->purpose};
    s->quasi = quasi_create(kind, s->space, s->seed, s->purpose, size);
}

static enum mag_status sobol_start(void *self, const struct sampler_config *cfg,
                                   const char **ret_pointer, struct mag_err *err)
{
    start(self, QUASI_SOBOL, cfg, 0);
    return MAG_OK;
}

static enum mag_status halton_start(void *self, const struct sampler_config *cfg,
                                    const char **ret_pointer, struct mag_err *err)
{
    start(self, QUASI_HALTON, cfg, 0);
    return MAG_OK;
}

static enum mag_status lhs_start(void *self, const struct sampler_config *cfg,
                                 const char **ret_pointer, struct mag_err *err)
{
    double size = cfg->opt.values[OPT_SIZE];
    if (isnan(size)) {
        size = cfg->opt.trials > 0 ? (double)cfg->opt.trials : LHS_SIZE;
    }
    start(self, QUASI_LHS, cfg, (uint64_t)size);
    return MAG_OK;
}

static void quasi_fini(void *self)
{
    quasi_destroy(((struct quasi_sampler *)self)->quasi);
}

static void propose(const void *self, int64_t trial, uint32_t attempt, double *point)
{
    const struct quasi_sampler *s = self;
    if (attempt == 0) {
        quasi_point(s->quasi, (uint64_t)trial - 1, point);
    } else {
        space_sample(s->space, s->seed, s->purpose, sampler_stream(trial, attempt), point);
    }
}

/* The three differ in their first lines only. */
#define QUASI_SAMPLER                                                                              \
    .caps = OPT_CAP_STATELESS | OPT_CAP_MULTI, .version = 1,                                       \
    .state_size = sizeof(struct quasi_sampler), .fini = quasi_fini, .propose = propose

const struct sampler_ops sobol_sampler = {
    .name = "sobol",
    .summary = "scrambled Sobol' sequence: random points spread evenly",
    .paper = SOBOL_PAPER,
    .options = no_options,
    .init = sobol_start,
    QUASI_SAMPLER,
};

const struct sampler_ops halton_sampler = {
    .name = "halton",
    .summary = "scrambled Halton sequence: evenly spread at any number of points",
    .paper = HALTON_PAPER,
    .options = no_options,
    .init = halton_start,
    QUASI_SAMPLER,
};

const struct sampler_ops lhs_sampler = {
    .name = "lhs",
    .summary = "Latin hypercube: every slice of every parameter exactly once",
    .paper = LHS_PAPER,
    .options = lhs_options,
    .init = lhs_start,
    QUASI_SAMPLER,
};

static enum mag_status sobol_init(void *self, const struct opt_config *cfg,
                                  const char **ret_pointer, struct mag_err *err)
{
    return search_init(self, &sobol_sampler, cfg, ret_pointer, err);
}

static enum mag_status halton_init(void *self, const struct opt_config *cfg,
                                   const char **ret_pointer, struct mag_err *err)
{
    return search_init(self, &halton_sampler, cfg, ret_pointer, err);
}

static enum mag_status lhs_init(void *self, const struct opt_config *cfg, const char **ret_pointer,
                                struct mag_err *err)
{
    return search_init(self, &lhs_sampler, cfg, ret_pointer, err);
}

const struct optimizer_ops sobol_ops = {
    .name = "sobol",
    .summary = "scrambled Sobol' sequence: random points spread evenly",
    .paper = SOBOL_PAPER,
    .caps = OPT_CAP_MULTI,
    .options = no_options,
    .version = 1,
    .init = sobol_init,
    SEARCH_OPS,
};

const struct optimizer_ops halton_ops = {
    .name = "halton",
    .summary = "scrambled Halton sequence: evenly spread at any number of points",
    .paper = HALTON_PAPER,
    .caps = OPT_CAP_MULTI,
    .options = no_options,
    .version = 1,
    .init = halton_init,
    SEARCH_OPS,
};

const struct optimizer_ops lhs_ops = {
    .name = "lhs",
    .summary = "Latin hypercube: every slice of every parameter exactly once",
    .paper = LHS_PAPER,
    .caps = OPT_CAP_MULTI,
    .options = lhs_options,
    .version = 1,
    .init = lhs_init,
    SEARCH_OPS,
};
