/* SPDX-License-Identifier: Apache-2.0
 *
 * The data folder as the command line sees it: made when needed, and the note in it that tells
 * where its driver listens.
 */
#ifndef MAG_CLI_DATADIR_H
#define MAG_CLI_DATADIR_H

#include "base/err.h"

/* Makes the folder and its parents (0700) and gives its real path, malloc'ed. */
enum mag_status datadir_make(const char *path, char **ret, struct mag_err *err) MAG_MUSTCHECK;

/* DIR/address: "http=… nng=…", for commands that are given --data alone. Best effort: a folder that
 * cannot be written has no note. */
void datadir_note_address(const char *dir, const char *http, const char *nng);
void datadir_forget_address(const char *dir);
/* The nng address in it, malloc'ed; NULL when there is none. */
char *datadir_nng(const char *dir);
/* The token in it, malloc'ed; NULL when there is none. */
char *datadir_token(const char *dir);
/* The first line of DIR/NAME, malloc'ed without its end; NULL when there is none. */
char *datadir_line(const char *dir, const char *name);
/* The value of `key` in "key=value key=value", malloc'ed; NULL when it is not there. */
char *datadir_field(const char *line, const char *key);

#endif
