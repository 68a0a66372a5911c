/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of early-stopping rules and the handle over them.
 */
#include "optimizers/early_stop.h"

#include "base/alloc.h"
#include "optimizers/early_rule.h"
#include "optimizers/options.h"

#include <stdlib.h>
#include <string.h>

static const struct early_rule *const rules[] = {
    &early_none,      &early_median,    &early_percentile,
    &early_threshold, &early_patience,  &early_wilcoxon,
    &early_curve,     &early_hyperband, NULL,
};

struct early_stop {
    const struct early_rule *rule;
    double values[OPTIONS_MAX];
    struct early_config cfg;
    max_align_t state[];
};

const struct early_rule *const *early_stop_rules(void)
{
    return rules;
}

const char *early_rule_name(const struct early_rule *rule)
{
    return rule->name;
}

const char *early_rule_summary(const struct early_rule *rule)
{
    return rule->summary;
}

const char *early_rule_paper(const struct early_rule *rule)
{
    return rule->paper;
}

const struct opt_option *early_rule_options(const struct early_rule *rule)
{
    return rule->options;
}

/* ---- creation ---- */

static const struct early_rule *choose(const json_t *object, const char *pointer,
                                       struct mjson_issues *is)
{
    const char *names[sizeof(rules) / sizeof(rules[0])] = {0};
    const json_t *rule = json_object_get(object, "rule");
    struct buf all = {0};
    if (!json_is_object(object) || (rule != NULL && !json_is_string(rule))) {
        mjson_issue(is, pointer, "must be an object such as {\"rule\": \"median\"}");
        return NULL;
    }
    for (int i = 0; rules[i] != NULL; i++) {
        if (rule != NULL && strcmp(json_string_value(rule), rules[i]->name) == 0) {
            buf_fini(&all);
            return rules[i];
        }
        names[i] = rules[i]->name;
        buf_addf(&all, "%s\"%s\"", i > 0 ? ", " : "", names[i]);
    }
    const char *near = rule != NULL ? mjson_nearest(json_string_value(rule), names) : NULL;
    mjson_issue_at(is, pointer, "rule", "%s%.60s%s%s%s%s; this build has %s",
                   rule != NULL ? "no rule \"" : "the rule is missing",
                   rule != NULL ? json_string_value(rule) : "", rule != NULL ? "\"" : "",
                   near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                   near != NULL ? "\"?" : "", all.data);
    buf_fini(&all);
    return NULL;
}

static void init_rule(struct early_stop *e, const struct early_setup *setup, const char *pointer,
                      struct mjson_issues *is)
{
    struct mag_err err = {0};
    const char *where = NULL;
    e->cfg = (struct early_config){.values = e->values,
                                   .resource = setup->resource,
                                   .seed = setup->seed,
                                   .sign = setup->maximize ? -1 : 1};
    if (e->rule->of_curve && setup->folds > 1) {
        mjson_issue_at(is, pointer, "rule",
                       "\"%s\" follows one learning curve, and \"validation\" by folds compares "
                       "points by the mean of their folds: use median, percentile, threshold, "
                       "wilcoxon or hyperband",
                       e->rule->name);
    } else if (e->rule->needs_resource && !setup->resource.present) {
        mjson_issue_at(is, pointer, "rule",
                       "\"%s\" needs a resource: add \"resource\": {\"unit\": \"epoch\", "
                       "\"min\": 1, \"max\": 27}",
                       e->rule->name);
    } else if (e->rule->init != NULL && e->rule->init(e->state, &e->cfg, &where, &err) != MAG_OK) {
        mjson_issue_at(is, pointer, where != NULL ? where + 1 : "rule", "%s", err.text);
    }
}

struct early_stop *early_stop_create(const json_t *object, const char *pointer,
                                     const struct early_setup *setup, struct mjson_issues *is)
{
    int before = is->total;
    const struct early_rule *rule = choose(object, pointer, is);
    if (rule == NULL) {
        return NULL;
    }
    struct early_stop *e = xcalloc(1, sizeof(*e) + rule->state_size);
    e->rule = rule;
    options_parse(rule->options, "rule", object, pointer, is, e->values);
    init_rule(e, setup, pointer, is);
    if (is->total > before) {
        early_stop_destroy(e);
        return NULL;
    }
    return e;
}

void early_stop_destroy(struct early_stop *e)
{
    if (e != NULL && e->rule->fini != NULL) {
        e->rule->fini(e->state);
    }
    free(e);
}

bool early_stop_may_combine(const struct early_stop *e)
{
    for (int i = 0; i < options_count(e->rule->options); i++) {
        if (strcmp(e->rule->options[i].name, "combine") == 0) {
            return e->values[i] != 0;
        }
    }
    return true;
}

bool early_stop_is_paired(const struct early_stop *e)
{
    return e->rule->paired;
}

json_t *early_stop_resolved(const struct early_stop *e)
{
    json_t *object = json_pack("{s:s}", "rule", e->rule->name);
    options_write(e->rule->options, e->values, object);
    return object;
}

char *early_stop_maker(const struct early_stop *e)
{
    return xasprintf("%s %d", e->rule->name, e->rule->version);
}

/* ---- calls ---- */

bool early_stop_report(struct early_stop *e, int64_t trial, int64_t step, double value,
                       char **ret_why)
{
    char *why = NULL;
    bool stop = e->rule->report(e->state, &e->cfg, trial, step, value, &why);
    MAG_ASSERT(stop == (why != NULL), "rule %s", e->rule->name);
    if (ret_why != NULL && stop) {
        *ret_why = why;
    } else {
        free(why);
    }
    return stop;
}

void early_stop_finish(struct early_stop *e, int64_t trial, enum opt_outcome outcome,
                       const struct opt_result *r)
{
    if (e->rule->finish != NULL) {
        e->rule->finish(e->state, trial, outcome, r);
    }
}
