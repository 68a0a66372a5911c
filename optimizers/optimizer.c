/* SPDX-License-Identifier: Apache-2.0
 *
 * The handle over the plug-ins: parses {"algorithm": …, options} by the algorithm's own table,
 * picks for "auto", and forwards calls.
 */
#include "optimizers/optimizer.h"

#include "base/alloc.h"
#include "optimizers/auto.h"
#include "optimizers/options.h"
#include "optimizers/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct optimizer {
    const struct optimizer_ops *ops;
    double values[OPTIONS_MAX];
    struct opt_resource resource;
    int objectives;
    max_align_t state[];
};

static const struct optimizer_ops *unknown_algorithm(const char *name, const char *pointer,
                                                     struct mjson_issues *is)
{
    const char *names[64] = {"auto"};
    struct buf all = {0};
    buf_adds(&all, "auto");
    for (int i = 0; optimizer_registry()[i] != NULL && i < 62; i++) {
        names[i + 1] = optimizer_registry()[i]->name;
        buf_addf(&all, ", %s", names[i + 1]);
    }
    const char *near = mjson_nearest(name, names);
    mjson_issue_at(is, pointer, "algorithm",
                   "no algorithm \"%.60s\" in this build%s%s%s; it has %s", name,
                   near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                   near != NULL ? "\"?" : "", all.data);
    buf_fini(&all);
    return NULL;
}

/* The algorithm that `object` names. For "auto" *ret_auto is the object that takes its place, new
 * reference. */
static const struct optimizer_ops *choose(const json_t *object, const char *pointer,
                                          const struct opt_setup *setup, struct mjson_issues *is,
                                          json_t **ret_auto, char **ret_why)
{
    const json_t *name = json_object_get(object, "algorithm");
    if (object != NULL && !json_is_object(object)) {
        mjson_issue(is, pointer, "must be an object such as {\"algorithm\": \"asha\"}, not %s",
                    mjson_kind(object));
        return NULL;
    }
    if (object != NULL && !json_is_string(name)) {
        mjson_issue(is, pointer, "\"algorithm\" must name one, such as \"auto\" or \"random\"");
        return NULL;
    }
    if (name != NULL && strcmp(json_string_value(name), "auto") != 0) {
        const struct optimizer_ops *ops = optimizer_find(json_string_value(name));
        return ops != NULL ? ops : unknown_algorithm(json_string_value(name), pointer, is);
    }
    if (json_object_size(object) > 1) {
        mjson_issue(is, pointer,
                    "\"auto\" takes no options: name the algorithm to set its options");
        return NULL;
    }
    *ret_auto = auto_pick(setup, ret_why);
    return optimizer_find(json_string_value(json_object_get(*ret_auto, "algorithm")));
}

static void check_caps(const struct optimizer_ops *ops, const struct opt_config *cfg, int folds,
                       const char *pointer, struct mjson_issues *is)
{
    if ((ops->caps & OPT_CAP_RESOURCE) != 0 && !cfg->resource.present) {
        mjson_issue_at(is, pointer, "algorithm",
                       "\"%s\" needs a resource: add \"resource\": {\"unit\": \"epoch\", "
                       "\"min\": 1, \"max\": 27}",
                       ops->name);
    }
    if ((ops->caps & OPT_CAP_RESOURCE) != 0 && folds > 1) {
        mjson_issue_at(is, pointer, "algorithm",
                       "\"%s\" gives trials shares of a budget, which does not go with "
                       "\"validation\" by folds: use tpe, gp, random, … (early_stopping then ends "
                       "poor points after some of their folds), or validate by \"train_ratio\"",
                       ops->name);
    }
    if (cfg->objectives > 1 && (ops->caps & OPT_CAP_MULTI) == 0) {
        mjson_issue_at(is, pointer, "algorithm",
                       "\"%s\" takes one objective and the experiment has %d: name one, or use an "
                       "algorithm for several",
                       ops->name, cfg->objectives);
    }
}

struct optimizer *optimizer_create(const json_t *object, const char *pointer,
                                   const struct opt_setup *setup, struct mjson_issues *is,
                                   char **ret_why)
{
    char *why = NULL;
    int before = is->total;
    json_t *chosen = NULL;
    const struct optimizer_ops *ops = choose(object, pointer, setup, is, &chosen, &why);
    if (ops == NULL) {
        return NULL;
    }
    struct optimizer *o = xcalloc(1, sizeof(*o) + ops->state_size);
    o->ops = ops;
    o->resource = setup->resource;
    o->objectives = setup->objectives > 0 ? setup->objectives : 1;
    options_parse(ops->options, "algorithm", chosen != NULL ? chosen : object, pointer, is,
                  o->values);
    json_decref(chosen);
    struct opt_config cfg = {.space = setup->space,
                             .seed = setup->seed,
                             .resource = setup->resource,
                             .trials = setup->trials,
                             .bounded = setup->bounded || setup->trials > 0,
                             .parallel = setup->parallel,
                             .objectives = o->objectives,
                             .values = o->values};
    int parsed = is->total;
    check_caps(ops, &cfg, setup->folds, pointer, is);
    if (is->total == parsed) { /* a faulty option holds its default: init's own faults show too */
        struct mag_err err = {0};
        const char *where = NULL;
        if (ops->init(o->state, &cfg, &where, &err) != MAG_OK) {
            mjson_issue_at(is, pointer, where != NULL ? where + 1 : "algorithm", "%s", err.text);
        }
    }
    if (is->total > before) {
        free(why);
        optimizer_destroy(o);
        return NULL;
    }
    if (ret_why != NULL) {
        *ret_why = why;
    } else {
        free(why);
    }
    return o;
}

void optimizer_destroy(struct optimizer *o)
{
    if (o == NULL) {
        return;
    }
    if (o->ops->fini != NULL) {
        o->ops->fini(o->state);
    }
    free(o);
}

const struct optimizer_ops *optimizer_ops_of(const struct optimizer *o)
{
    return o->ops;
}

/* The sampler that it was given by its option of that name, NULL = none. */
static const struct sampler_ops *given_sampler(const struct optimizer *o)
{
    const struct opt_option *opt = o->ops->options;
    for (int i = 0; opt[i].name != NULL; i++) {
        if (strcmp(opt[i].name, "sampler") == 0 && opt[i].type == OPT_T_ENUM) {
            return sampler_find(opt[i].names[(int)o->values[i]]);
        }
    }
    return NULL;
}

bool optimizer_is_slow(const struct optimizer *o)
{
    const struct sampler_ops *s = given_sampler(o);
    unsigned caps = o->ops->caps | (s != NULL ? s->caps : 0);
    return (caps & OPT_CAP_SLOW) != 0;
}

char *optimizer_maker(const struct optimizer *o)
{
    const struct sampler_ops *s = given_sampler(o);
    return s == NULL ? xasprintf("%s %d", o->ops->name, o->ops->version)
                     : xasprintf("%s %d, %s %d", o->ops->name, o->ops->version, s->name, s->version);
}

json_t *optimizer_resolved(const struct optimizer *o)
{
    json_t *object = json_pack("{s:s}", "algorithm", o->ops->name);
    options_write(o->ops->options, o->values, object);
    return object;
}

void optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                       struct opt_suggestion *out)
{
    double *point = out->point;
    *out = (struct opt_suggestion){.point = point};
    o->ops->suggest(o->state, ask, out);
    MAG_ASSERT(out->answer != OPT_TRIAL || ask->may_create, "%s created beyond the limit",
               o->ops->name);
}

void optimizer_adopt(struct optimizer *o, const struct opt_suggestion *s)
{
    MAG_ASSERT(s->answer == OPT_TRIAL || s->answer == OPT_RESUME, "adopted answer %d",
               (int)s->answer);
    o->ops->adopt(o->state, s);
}

static void check_result(const struct optimizer *o, int64_t trial, const struct opt_result *r)
{
    for (int i = 0; i < o->objectives; i++) {
        MAG_ASSERT(isfinite(r->values[i]), "trial %lld objective %d", (long long)trial, i);
    }
    MAG_ASSERT(r->value == r->values[0] && r->violation >= 0 && isfinite(r->violation),
               "trial %lld", (long long)trial);
}

void optimizer_observe(struct optimizer *o, const double *point, int64_t budget,
                       const struct opt_result *r)
{
    check_result(o, 0, r);
    if (o->ops->observe != NULL) {
        o->ops->observe(o->state, point, budget, r);
    }
}

enum opt_action optimizer_report(struct optimizer *o, int64_t trial, int64_t step,
                                 const struct opt_result *r)
{
    check_result(o, trial, r);
    return o->ops->report(o->state, trial, step, r);
}

void optimizer_finish(struct optimizer *o, int64_t trial, enum opt_outcome outcome,
                      const struct opt_result *r)
{
    if (r != NULL) {
        check_result(o, trial, r);
    }
    o->ops->finish(o->state, trial, outcome, r);
}

int64_t optimizer_first_budget(const struct optimizer *o)
{
    if (o->ops->first_budget != NULL) {
        return o->ops->first_budget(o->state);
    }
    return o->resource.present ? o->resource.max : 0;
}

json_t *optimizer_save(const struct optimizer *o)
{
    return o->ops->save(o->state);
}

enum mag_status optimizer_load(struct optimizer *o, const json_t *state, struct mag_err *err)
{
    enum mag_status st = o->ops->load(o->state, state, err);
    return st == MAG_OK ? st : mag_wrap(err, st, "algorithm %s", o->ops->name);
}

void optimizer_plan(const struct optimizer *o, int64_t trials, json_t *rows)
{
    if (o->ops->plan != NULL) {
        o->ops->plan(o->state, trials, rows);
    }
}
