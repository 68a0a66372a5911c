/* SPDX-License-Identifier: Apache-2.0
 *
 * Early-stopping rules: may stop a running trial at a report, beside (not inside) an optimizer. The
 * same determinism rules as optimizer.h; always minimises. Created from "early_stopping":
 * {"rule": "median", …}; options by the same table type. The first of several objectives counts.
 */
#ifndef MAG_OPTIMIZERS_EARLY_STOP_H
#define MAG_OPTIMIZERS_EARLY_STOP_H

#include "optimizers/optimizer.h"

struct early_stop;
struct early_rule;

/* What the experiment tells its rule. */
struct early_setup {
    struct opt_resource resource;
    uint64_t seed;
    bool maximize; /* the user's direction: options and sentences are in the user's units */
    int folds;     /* above 1: steps count the folds of a point that have ended; 0 is read as 1 */
};

/* NULL exactly when issues were added. */
struct early_stop *early_stop_create(const json_t *object, const char *pointer,
                                     const struct early_setup *setup, struct mjson_issues *is);
void early_stop_destroy(struct early_stop *e);
json_t *early_stop_resolved(const struct early_stop *e);
/* "combine": true, the leave to work beside a multi-fidelity algorithm. */
bool early_stop_may_combine(const struct early_stop *e);
/* It compares trials fold by fold: then what it is told is each fold's own value, its step being
 * the fold's number, in whatever order folds end; not the mean so far. */
bool early_stop_is_paired(const struct early_stop *e);
/* First value of an increasing step. True = stop; *ret_why (may be NULL) gets a malloc'ed sentence
 * with the figures that decided. */
bool early_stop_report(struct early_stop *e, int64_t trial, int64_t step, double value,
                       char **ret_why);
/* The trial ended; `r` NULL: there is no usable value. */
void early_stop_finish(struct early_stop *e, int64_t trial, enum opt_outcome outcome,
                       const struct opt_result *r);

/* ---- the table of rules, for docs and tests ---- */

const struct early_rule *const *early_stop_rules(void); /* NULL-terminated */
/* "median 1": rule and version, malloc'ed. */
char *early_stop_maker(const struct early_stop *e);
const char *early_rule_name(const struct early_rule *rule);
const char *early_rule_summary(const struct early_rule *rule);
const char *early_rule_paper(const struct early_rule *rule); /* or NULL */
const struct opt_option *early_rule_options(const struct early_rule *rule);

#endif
