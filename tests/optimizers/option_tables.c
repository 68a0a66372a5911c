/* SPDX-License-Identifier: Apache-2.0
 *
 * Prints every algorithm's and rule's option table as JSON, for tools/gen-optimizer-docs.
 */
#include "optimizers/early_stop.h"
#include "optimizers/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *option_json(const struct opt_option *o)
{
    static const char *const types[] = {"integer", "number", "boolean", "enum"};
    json_t *j =
        json_pack("{s:s, s:s, s:s}", "name", o->name, "type", types[o->type], "help", o->help);
    if (o->type == OPT_T_ENUM) {
        json_t *names = json_array();
        for (int k = 0; o->names[k] != NULL; k++) {
            (void)json_array_append_new(names, json_string(o->names[k]));
        }
        (void)json_object_set_new(j, "names", names);
        (void)json_object_set_new(j, "default", json_string(o->names[(int)o->def]));
    } else if (o->type == OPT_T_BOOL) {
        (void)json_object_set_new(j, "default", json_boolean(o->def != 0));
    } else {
        (void)json_object_set_new(j, "lo", json_real(o->lo));
        (void)json_object_set_new(j, "hi", json_real(o->hi));
        (void)json_object_set_new(j, "default", isnan(o->def) ? json_null() : json_real(o->def));
    }
    return j;
}

static json_t *entry_json(const char *name, const char *summary, const char *paper,
                          const struct opt_option *options)
{
    json_t *list = json_array();
    for (int i = 0; i < options_count(options); i++) {
        (void)json_array_append_new(list, option_json(&options[i]));
    }
    return json_pack("{s:s, s:s, s:s?, s:o}", "name", name, "summary", summary, "paper", paper,
                     "options", list);
}

int main(void)
{
    json_t *algorithms = json_array();
    json_t *rules = json_array();
    for (int i = 0; optimizer_registry()[i] != NULL; i++) {
        const struct optimizer_ops *ops = optimizer_registry()[i];
        (void)json_array_append_new(algorithms,
                                    entry_json(ops->name, ops->summary, ops->paper, ops->options));
    }
    for (int i = 0; early_stop_rules()[i] != NULL; i++) {
        const struct early_rule *r = early_stop_rules()[i];
        (void)json_array_append_new(rules, entry_json(early_rule_name(r), early_rule_summary(r),
                                                      early_rule_paper(r), early_rule_options(r)));
    }
    json_t *all = json_pack("{s:o, s:o}", "algorithms", algorithms, "rules", rules);
    char *text = json_dumps(all, JSON_INDENT(1));
    (void)puts(text);
    free(text);
    json_decref(all);
    return 0;
}
