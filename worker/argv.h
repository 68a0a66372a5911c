/* SPDX-License-Identifier: Apache-2.0
 *
 * The arguments of a command: ${name} replaced by the trial's parameters. Pure.
 */
#ifndef MAG_WORKER_ARGV_H
#define MAG_WORKER_ARGV_H

#include "base/err.h"

#include <jansson.h>

#define ARGV_ITEMS_MAX 4096         /* arguments after nested lists were opened */
#define ARGV_BYTES_MAX (128 * 1024) /* of one argument: the kernel's own limit */

/* Builds a NULL-terminated vector from strings and nested lists of strings. A nested list that
 * needs an absent (inactive) parameter is left out whole; elsewhere that is MAG_INVALID. */
enum mag_status argv_build(const json_t *list, const json_t *params, char ***ret,
                           struct mag_err *err) MAG_MUSTCHECK;
/* The experiment's "env" object as "NAME=value" entries; a null takes the variable away: "NAME". One
 * that needs an absent parameter is left out. Errors as above. */
enum mag_status argv_env(const json_t *env, const json_t *params, char ***ret,
                         struct mag_err *err) MAG_MUSTCHECK;
/* One environment of three, later entries over earlier ones of the same name; an entry without '='
 * takes the variable away. New strings; free with argv_free. NULL lists are empty. */
char **argv_merge(char *const *a, char *const *b, char *const *c);
void argv_free(char **argv);
/* "python3 train.py --lr 0.1", cut at `size`; for messages. */
void argv_text(char *const *argv, char *out, size_t size);

#endif
