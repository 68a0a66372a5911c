/* SPDX-License-Identifier: Apache-2.0
 *
 * Option tables (struct opt_option) to values and back: one parser for every algorithm and rule.
 */
#ifndef MAG_OPTIMIZERS_OPTIONS_H
#define MAG_OPTIMIZERS_OPTIONS_H

#include "optimizers/optimizer.h"

#define OPTIONS_MAX 32 /* options of one algorithm */

/* The number of options in a table. */
int options_count(const struct opt_option *table);
/* Fills values[i] from `object`, defaults where absent. Keys other than the table's and `name_key`
 * are faults, and so are wrong types and ranges. */
void options_parse(const struct opt_option *table, const char *name_key, const json_t *object,
                   const char *pointer, struct mjson_issues *is, double *values);
/* Writes every option with a value (a NaN default stays out) into `object`. */
void options_write(const struct opt_option *table, const double *values, json_t *object);

#endif
