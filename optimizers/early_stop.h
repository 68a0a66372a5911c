/* SPDX-License-Identifier: Apache-2.0
 *
 * Early-stopping rules: may stop a running trial at a report, beside (not inside) an optimizer. The
 * same determinism rules as optimizer.h; always minimises. Created from "early_stopping":
 * {"rule": "median", …}; options by the same table type.
 */
#ifndef MAG_OPTIMIZERS_EARLY_STOP_H
#define MAG_OPTIMIZERS_EARLY_STOP_H

#include "optimizers/optimizer.h"

struct early_stop;

/* NULL exactly when issues were added. */
struct early_stop *early_stop_create(const json_t *object, const char *pointer,
                                     struct mjson_issues *is);
void early_stop_destroy(struct early_stop *e);
json_t *early_stop_resolved(const struct early_stop *e);
/* "combine": true, the leave to work beside a multi-fidelity algorithm. */
bool early_stop_may_combine(const struct early_stop *e);
/* The median rule's option table, for docs and tests. */
const struct opt_option *early_stop_options(void);
/* First value of an increasing step. True = stop; *ret_why (may be NULL) gets a malloc'ed sentence.
 */
bool early_stop_report(struct early_stop *e, int64_t trial, int64_t step, double value,
                       char **ret_why);
void early_stop_finish(struct early_stop *e, int64_t trial, enum opt_outcome outcome);

#endif
