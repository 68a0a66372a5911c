/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of an ablation study, for people.
 */
#ifndef MAG_CLI_ABLATION_H
#define MAG_CLI_ABLATION_H

#include "cli/client.h"

/* GET …/ablation of an experiment, new reference. */
enum mag_status ablation_fetch(struct client *c, const char *key, json_t **ret,
                               struct mag_err *err) MAG_MUSTCHECK;
/* The base, then every component by its effect. */
void ablation_print(const json_t *table, FILE *f);

#endif
