/* SPDX-License-Identifier: Apache-2.0
 *
 * Hyperband (Li et al., JMLR 2018) in its stopping form, beside any optimizer: each trial belongs
 * to a bracket, drawn as often as Hyperband starts trials there. In bracket s, whose first rung is
 * K - s, a trial that comes to a rung stops unless it is among the best max(1, floor(n / eta)) of
 * the n of its bracket that have come there so far, itself included.
 */
#include "optimizers/early_rule.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "optimizers/idtab.h"
#include "optimizers/rungs.h"

#include <stdlib.h>

enum { OPT_ETA };

static const struct opt_option hyperband_options[] = {
    {"reduction_factor", OPT_T_INT, 2, 1000, 3, NULL, "one in this many trials of a rung runs on"},
    EARLY_COMBINE_ROW,
    {0},
};

struct place {
    uint8_t passed; /* its reports have reached the rungs below this one */
    uint8_t start;  /* 1 + its first rung, 0 = not drawn yet */
};

IDTAB(places, struct place)

struct hyperband_rule {
    int n_levels;
    int64_t levels[RUNGS_MAX];
    struct rung *rungs; /* n_levels a bracket, by first rung */
    struct places places;
};

static enum mag_status init(void *self, const struct early_config *cfg, const char **ret_pointer,
                            struct mag_err *err)
{
    struct hyperband_rule *h = self;
    int64_t eta = (int64_t)cfg->values[OPT_ETA];
    h->n_levels = rungs_levels(cfg->resource.min, cfg->resource.max, eta, h->levels);
    if (h->n_levels < 2) {
        h->n_levels = 0;
        return mag_fail(err, MAG_INVALID,
                        "no rung fits between the resource's min %lld and max %lld: raise max",
                        (long long)cfg->resource.min, (long long)cfg->resource.max);
    }
    h->rungs = xcalloc((size_t)(h->n_levels * h->n_levels), sizeof(*h->rungs));
    for (int i = 0; i < h->n_levels * h->n_levels; i++) {
        rung_init(&h->rungs[i], eta);
    }
    return MAG_OK;
}

static void fini(void *self)
{
    struct hyperband_rule *h = self;
    for (int i = 0; i < h->n_levels * h->n_levels; i++) {
        rung_fini(&h->rungs[i]);
    }
    free(h->rungs);
    free(h->places.at);
}

static int draw_start(const struct hyperband_rule *h, uint64_t seed, int64_t trial)
{
    double weights[RUNGS_MAX];
    double sum = 0;
    struct pcg64 g;
    for (int k = 0; k < h->n_levels; k++) {
        weights[k] = 1 / (double)(h->n_levels - k) / (double)h->levels[k];
        sum += weights[k];
    }
    pcg_stream(&g, seed, "early/hyperband", (uint64_t)trial);
    double u = pcg64_double(&g) * sum;
    int k = 0;
    for (; k < h->n_levels - 1 && u >= weights[k]; k++) {
        u -= weights[k];
    }
    return k;
}

static bool report(void *self, const struct early_config *cfg, int64_t trial, int64_t step,
                   double value, char **ret_why)
{
    struct hyperband_rule *h = self;
    struct place *p = places_of(&h->places, trial);
    if (p->start == 0) {
        p->start = (uint8_t)(1 + draw_start(h, cfg->seed, trial));
    }
    int start = p->start - 1;
    for (; p->passed < h->n_levels - 1 && step >= h->levels[p->passed]; p->passed++) {
        struct rung *r = &h->rungs[start * h->n_levels + p->passed];
        if (p->passed < start) {
            continue;
        }
        uint32_t entry = rung_add(r, trial, value, true);
        if (!rung_keeps(r, entry)) {
            int64_t places = (int64_t)r->n / r->eta;
            *ret_why = xasprintf(
                "at step %lld its value %.6g is not among the best %lld of the %u trials that "
                "reached %lld in bracket %d",
                (long long)step, early_shown(cfg, value), (long long)(places > 1 ? places : 1),
                r->n, (long long)h->levels[p->passed], h->n_levels - 1 - start);
            return true;
        }
    }
    return false;
}

const struct early_rule early_hyperband = {
    .name = "hyperband",
    .version = 1,
    .summary = "brackets of rungs at which all but the best stop",
    .paper = "Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization, "
             "JMLR 18 (2018)",
    .options = hyperband_options,
    .needs_resource = true,
    .state_size = sizeof(struct hyperband_rule),
    .init = init,
    .fini = fini,
    .report = report,
};
