/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver's JSON as people read it: values, times, parameters, states.
 */
#ifndef MAG_CLI_FORMAT_H
#define MAG_CLI_FORMAT_H

#include "cli/term.h"

#include <jansson.h>
#include <stddef.h>

/* A member's string, or "" (borrowed). */
const char *format_string(const json_t *object, const char *key);
/* A member's whole number, or 0. */
int64_t format_int(const json_t *object, const char *key);
/* A number in 6 digits, "-" for null and what is no number. */
const char *format_number(const json_t *value, char buf[32]);
/* "3.2s", "4m10s", "2h05m", "3d4h". */
const char *format_duration(double seconds, char buf[32]);
/* RFC 3339 UTC to seconds since 1970, -1 when it is not one. */
double format_time(const char *rfc3339);
/* "lr=0.01 units=64", malloc'ed. */
char *format_params(const json_t *params);
/* "0.93" of a trial, or "0.93 ms=12" where it measured more than the objective; malloc'ed. */
char *format_values(const json_t *trial);
/* What follows a best trial's value: " ± 0.02 over 5 folds", or "" without folds; malloc'ed. */
char *format_spread(const json_t *best);
/* "refitted as trial 13: file:/…/1-1" of a best trial, NULL where it was not refitted; malloc'ed. */
char *format_refit(const json_t *best);
/* "maximize acc, minimize ms" of an experiment, its file or a plan; malloc'ed. */
char *format_objectives(const json_t *object);
enum term_colour format_state_colour(const char *state);
/* The sentence of a "why" ({"code", "text"}, a string or null), "" when there is none; borrowed. */
const char *format_why(const json_t *object);
/* A file as a person would write it, malloc'ed: objects down to `depth` on lines of their own, what is
 * below on one line, numbers in their shortest form. */
char *format_file(const json_t *value, int depth);
/* "a, b, c" of an array of strings, malloc'ed. */
char *format_join(const json_t *strings);

#endif
