/* SPDX-License-Identifier: Apache-2.0 */
#include "bridges/sql.h"

#include <stddef.h>

static void failed(struct sql *s)
{
    if (s->status == MAG_OK) {
        int code = sqlite3_errcode(s->db);
        bool foreign = code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
        s->status = mag_fail(s->err, foreign ? MAG_CORRUPT : MAG_IO, "%s: %s", s->path,
                             foreign ? "not a SQLite database" : sqlite3_errmsg(s->db));
    }
}

enum mag_status sql_open(struct sql *s, const char *path, bool create, struct mag_err *err)
{
    *s = (struct sql){.path = path, .err = err};
    int flags = create ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK) {
        s->status = mag_fail(err, MAG_NOTFOUND, "cannot open %s: %s", path,
                             s->db != NULL ? sqlite3_errmsg(s->db) : "no memory");
    }
    return s->status;
}

void sql_close(struct sql *s)
{
    (void)sqlite3_close(s->db);
    s->db = NULL;
}

void sql_run(struct sql *s, const char *text)
{
    if (s->status == MAG_OK && sqlite3_exec(s->db, text, NULL, NULL, NULL) != SQLITE_OK) {
        failed(s);
    }
}

sqlite3_stmt *sql_prepare(struct sql *s, const char *text)
{
    sqlite3_stmt *stmt = NULL;
    if (s->status == MAG_OK && sqlite3_prepare_v2(s->db, text, -1, &stmt, NULL) != SQLITE_OK) {
        failed(s);
    }
    return stmt;
}

bool sql_step(struct sql *s, sqlite3_stmt *stmt)
{
    if (stmt == NULL) {
        return false;
    }
    int r = s->status == MAG_OK ? sqlite3_step(stmt) : SQLITE_DONE;
    if (r == SQLITE_ROW) {
        return true;
    }
    if (r != SQLITE_DONE) {
        failed(s);
    }
    (void)sqlite3_finalize(stmt);
    return false;
}

void sql_put(struct sql *s, sqlite3_stmt *stmt)
{
    if (stmt == NULL || s->status != MAG_OK) {
        return;
    }
    if (sqlite3_step(stmt) != SQLITE_DONE) {
        failed(s);
    }
    (void)sqlite3_reset(stmt);
    (void)sqlite3_clear_bindings(stmt);
}

const char *sql_text(sqlite3_stmt *stmt, int column)
{
    const unsigned char *text = sqlite3_column_text(stmt, column);
    return text != NULL ? (const char *)text : "";
}

static bool exists(struct sql *s, const char *query, const char *a, const char *b)
{
    sqlite3_stmt *stmt = sql_prepare(s, query);
    if (stmt == NULL) {
        return false;
    }
    (void)sqlite3_bind_text(stmt, 1, a, -1, SQLITE_TRANSIENT);
    if (b != NULL) {
        (void)sqlite3_bind_text(stmt, 2, b, -1, SQLITE_TRANSIENT);
    }
    bool found = sql_step(s, stmt);
    if (found) {
        (void)sqlite3_finalize(stmt);
    }
    return found;
}

bool sql_has_table(struct sql *s, const char *name)
{
    return exists(s, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", name, NULL);
}

bool sql_has_column(struct sql *s, const char *table, const char *column)
{
    return exists(s, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column);
}
