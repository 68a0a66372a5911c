/* SPDX-License-Identifier: Apache-2.0
 *
 * A file that appears whole or not at all, and never takes another's place: written beside its
 * name, synced, then linked to it.
 */
#ifndef MAG_TRAINER_OUTFILE_H
#define MAG_TRAINER_OUTFILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdio.h>

struct outfile {
    FILE *f;
    char *path, *beside;
};

enum mag_status outfile_begin(struct outfile *o, const char *path,
                              struct mag_err *err) MAG_MUSTCHECK;
/* Completes the file when `st` is MAG_OK and every write went well, else removes what there is.
 * CONFLICT: the name is taken. Returns the first failure. */
enum mag_status outfile_end(struct outfile *o, enum mag_status st,
                            struct mag_err *err) MAG_MUSTCHECK;

#endif
