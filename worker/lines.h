/* SPDX-License-Identifier: Apache-2.0
 *
 * A program's standard output as a source of metrics: lines that begin with "::magpie " and one
 * JSON object, and lines that match the experiment's regular expressions. Pure: bytes in, calls
 * out.
 *
 * A line is what a terminal would show: escape sequences (colours, cursor movements) are taken out,
 * and text behind a carriage return replaces what stood before it. So of a progress bar that redraws
 * itself the last state counts, or with a pattern named "step" the last one of each step.
 */
#ifndef MAG_WORKER_LINES_H
#define MAG_WORKER_LINES_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define LINES_BYTES_MAX (1 << 20) /* of one line; longer ones are passed over */
#define LINES_MATCH_MAX 4096      /* bytes of a line that patterns see */
#define LINES_PATTERNS_MAX 64
#define LINES_STEP_MAX 9007199254740991 /* 2^53 - 1 */

struct lines_handler {
    void *arg;
    /* One step's metrics; `metrics` is borrowed. */
    void (*metrics)(void *arg, int64_t step, const json_t *metrics);
    void (*checkpoint)(void *arg, int64_t step);
    void (*result)(void *arg, const json_t *metrics);
    /* The program says that its trial has failed; `cause`: static, NULL = it names none. */
    void (*failed)(void *arg, const char *reason, const char *cause, bool retry);
    /* A "::magpie" line that cannot be used, and why. */
    void (*bad)(void *arg, const char *why);
};

struct lines;
/* `patterns` is {"metric": "regular expression"} or NULL: the first group (else the whole match) is
 * the number; objects in it are not ours. A match of `objective` ends a step; a pattern named "step" gives its number,
 * otherwise steps count from `first_step`. INVALID names the pattern that is none. */
enum mag_status lines_create(struct lines **ret, const json_t *patterns, const char *objective,
                             int64_t first_step, const struct lines_handler *handler,
                             struct mag_err *err) MAG_MUSTCHECK;
void lines_add(struct lines *l, const char *bytes, size_t n);
/* The output is complete: a last line without a newline counts. */
void lines_end(struct lines *l);
void lines_destroy(struct lines *l);

/* A metric as programs write it: a number, or null for null, "NaN", "Infinity" and their like; NULL
 * when it is something else. New reference. */
json_t *lines_number(const json_t *v);
/* An object of metrics with every value so read; entries that are no numbers are left out. */
json_t *lines_metrics(const json_t *object);
/* What a terminal shows of one line in the end: without escape sequences, control characters and
 * what was drawn over. In place. */
void lines_clean(char *line);
/* A step as programs write it: a whole number (3.0 too) from 0 to LINES_STEP_MAX. */
bool lines_step(const json_t *v, int64_t *ret);

#endif
