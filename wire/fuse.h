/* SPDX-License-Identifier: Apache-2.0
 *
 * Which trials of the built-in trainer may be trained side by side in one net ("lanes"; Wang et al.
 * 2021): those of one experiment that differ in nothing but numbers which every lane may have of
 * its own. It follows from where "${name}" stands in the recipe, so that the driver, which groups
 * trials, and the trainer, which trains them, agree. Pure.
 */
#ifndef MAG_WIRE_FUSE_H
#define MAG_WIRE_FUSE_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

#define FUSE_LANES_MAX 64 /* trials in one net */
#define FUSE_AUTO (-1)

/* "fuse" of a trial object: absent or false: 1 (each trial alone); "auto" or true: FUSE_AUTO, as
 * many as the worker thinks good; else 1 to FUSE_LANES_MAX. INVALID: `err` says what it may be. */
enum mag_status fuse_parse(const json_t *fuse, int *ret, struct mag_err *err) MAG_MUSTCHECK;

/* What two trials of one experiment must have in common to be lanes of one net: the trial object
 * with the parameters put in where they decide on shapes, data or the course of the training, and
 * left out elsewhere. Equal texts: they may. Malloc'ed. */
char *fuse_key(const json_t *trial, const json_t *params);

/* May the parameter differ between lanes? True too for one that stands nowhere in the recipe. */
bool fuse_allows(const json_t *trial, const char *name);

#endif
