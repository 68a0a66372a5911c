/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/search.h"

#include <stdio.h>

enum mag_status search_init(struct search *s, const struct sampler_ops *ops,
                            const struct opt_config *cfg, const char **ret_pointer,
                            struct mag_err *err)
{
    s->budget = cfg->resource.present ? cfg->resource.max : 0;
    return sampler_create(ops, cfg, cfg->values, ops->name, ret_pointer, &s->sampler, err);
}

void search_fini(void *self)
{
    struct search *s = self;
    sampler_destroy(s->sampler);
}

static void done(struct opt_suggestion *out, const char *code, const char *why)
{
    out->answer = OPT_DONE;
    out->why_code = code;
    (void)snprintf(out->why, sizeof(out->why), "%s", why);
}

void search_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out)
{
    const struct search *s = self;
    if (!ask->may_create) {
        done(out, "trials-limit", "the limit of trials is reached");
        return;
    }
    if (out->point != NULL && !sampler_propose(s->sampler, ask->next_trial, out->point)) {
        done(out, "space-exhausted", "every point of the space has been tried");
        return;
    }
    out->answer = OPT_TRIAL;
    out->trial = ask->next_trial;
    out->budget = s->budget;
}

void search_adopt(void *self, const struct opt_suggestion *o)
{
    struct search *s = self;
    if (o->answer == OPT_TRIAL) {
        sampler_pending(s->sampler, o->trial, o->point);
    }
}

void search_observe(void *self, const double *point, int64_t budget, const struct opt_result *r)
{
    struct search *s = self;
    sampler_others(s->sampler, point, budget, r);
}

enum opt_action search_report(void *self, int64_t trial, int64_t step, const struct opt_result *r)
{
    return OPT_CONTINUE;
}

/* A stopped trial counts with the value that it was stopped at: it was poor there already. */
void search_finish(void *self, int64_t trial, enum opt_outcome outcome, const struct opt_result *r)
{
    struct search *s = self;
    if (r != NULL && (outcome == OPT_COMPLETED || outcome == OPT_STOPPED)) {
        sampler_observe(s->sampler, trial, s->budget, r);
    }
    sampler_ended(s->sampler, trial, outcome);
}

json_t *search_save(const void *self)
{
    const struct search *s = self;
    return json_pack("{s:i, s:o}", "version", 1, "told", sampler_save(s->sampler));
}

enum mag_status search_load(void *self, const json_t *state, struct mag_err *err)
{
    struct search *s = self;
    const json_t *told = json_object_get(state, "told");
    if (json_integer_value(json_object_get(state, "version")) != 1) {
        return mag_fail(err, MAG_UNSUPPORTED, "state of another version");
    }
    if (!json_is_array(told)) {
        return mag_fail(err, MAG_CORRUPT, "the state has no record");
    }
    return sampler_load(s->sampler, told, err);
}
