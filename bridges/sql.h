/* SPDX-License-Identifier: Apache-2.0
 *
 * A little SQLite for bridges: statements that carry their failure, so that a run of them is
 * checked once.
 */
#ifndef MAG_BRIDGES_SQL_H
#define MAG_BRIDGES_SQL_H

#include "base/err.h"

#include <sqlite3.h>
#include <stdbool.h>

struct sql {
    sqlite3 *db;
    const char *path; /* for messages; borrowed */
    struct mag_err *err;
    enum mag_status status; /* of the first failure */
};

enum mag_status sql_open(struct sql *s, const char *path, bool create, struct mag_err *err);
void sql_close(struct sql *s);
/* Runs statements without results. */
void sql_run(struct sql *s, const char *text);
/* A prepared statement, NULL after a failure. */
sqlite3_stmt *sql_prepare(struct sql *s, const char *text);
/* True for a row; false at the end, which finalizes the statement, and after a failure. */
bool sql_step(struct sql *s, sqlite3_stmt *stmt);
/* Runs a statement that was bound, and resets it for the next. */
void sql_put(struct sql *s, sqlite3_stmt *stmt);
/* A text column, "" for NULL; borrowed until the next step. */
const char *sql_text(sqlite3_stmt *stmt, int column);
bool sql_has_table(struct sql *s, const char *name);
bool sql_has_column(struct sql *s, const char *table, const char *column);

#endif
