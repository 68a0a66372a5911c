/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections and tables of the SQLite store. A data folder of this version must open in every
 * later one: a change of the tables raises STORE_SCHEMA_VERSION and adds a step that migrates the
 * version before; the tables below are never edited in place.
 */
#include "driver/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* "mgpe": marks the file as ours, so that any other SQLite file is refused. */
#define STORE_APPLICATION_ID 0x6d677065

/* Version 1. An event's id is experiment * 2^36 + seq: one experiment's rows lie together, so that
 * a commit touches one page, replay reads in order and a delete takes one range. Only events that
 * name a trial are in the index; asks, which may give many, keep theirs in the text. */
static const char schema_v1[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE experiments("
    "  id INTEGER PRIMARY KEY, commit_seq INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    "  request TEXT, summary TEXT, resolved TEXT NOT NULL, spec TEXT NOT NULL);"
    "CREATE TABLE events("
    "  id INTEGER PRIMARY KEY, commit_seq INTEGER NOT NULL, kind INTEGER NOT NULL,"
    "  trial INTEGER NOT NULL, wall_ms INTEGER NOT NULL, up_ms INTEGER NOT NULL, text TEXT NOT "
    "NULL);"
    "CREATE INDEX events_trial ON events(id >> 36, trial) WHERE trial > 0;";

enum mag_status store_sql_fail(sqlite3 *db, const char *doing, struct mag_err *err)
{
    int code = sqlite3_errcode(db);
    enum mag_status st = MAG_IO;
    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        st = MAG_CORRUPT;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        st = MAG_CONFLICT;
        break;
    case SQLITE_MISUSE:
    case SQLITE_ERROR:
    case SQLITE_CONSTRAINT:
        st = MAG_BUG;
        break;
    default:
        break;
    }
    int sys = sqlite3_system_errno(db);
    if ((code & 0xff) == SQLITE_FULL || sys == ENOSPC) {
        return mag_fail(err, st, "%s: the disk is full", doing);
    }
    return mag_fail(err, st, "%s: %s%s%s", doing, sqlite3_errmsg(db), sys != 0 ? ": " : "",
                    sys != 0 ? strerror(sys) : "");
}

enum mag_status store_exec(sqlite3 *db, const char *sql, struct mag_err *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? MAG_OK
                                                                : store_sql_fail(db, "store", err);
}

enum mag_status store_connect(const char *path, bool writer, enum store_durability durability,
                              sqlite3 **ret, struct mag_err *err)
{
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (writer ? SQLITE_OPEN_CREATE : 0);
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK) {
        enum mag_status st = db == NULL ? mag_fail(err, MAG_NOMEM, "%s: out of memory", path)
                                        : store_sql_fail(db, path, err);
        (void)sqlite3_close(db);
        return st;
    }
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_busy_timeout(db, 5000);
    /* The log's file stays when the last connection closes: later frames overwrite it, and a sync
     * then has no new size to record. */
    int keep = 1;
    (void)sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    enum mag_status st = store_exec(
        db,
        writer ? "PRAGMA journal_mode=WAL; PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY;"
               : "PRAGMA query_only=ON; PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY;",
        err);
    if (st == MAG_OK && writer) {
        st = store_exec(db,
                        durability == STORE_FULL ? "PRAGMA synchronous=FULL;"
                                                 : "PRAGMA synchronous=NORMAL;",
                        err);
    }
    if (st != MAG_OK) {
        (void)sqlite3_close(db);
        return mag_wrap(err, st, "%s", path);
    }
    *ret = db;
    return MAG_OK;
}

static enum mag_status one_int(sqlite3 *db, const char *sql, int64_t *ret, struct mag_err *err)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK) {
        return store_sql_fail(db, "store", err);
    }
    int rc = sqlite3_step(q);
    enum mag_status st = MAG_OK;
    if (rc == SQLITE_ROW) {
        *ret = sqlite3_column_int64(q, 0);
    } else {
        st = rc == SQLITE_DONE ? MAG_NOTFOUND : store_sql_fail(db, "store", err);
    }
    (void)sqlite3_finalize(q);
    return st;
}

enum mag_status store_meta_text(sqlite3 *db, const char *key, char *ret, size_t size,
                                struct mag_err *err)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE key=?", -1, &q, NULL) != SQLITE_OK) {
        return store_sql_fail(db, "store", err);
    }
    (void)sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    int rc = sqlite3_step(q);
    enum mag_status st = MAG_NOTFOUND;
    if (rc == SQLITE_ROW) {
        (void)snprintf(ret, size, "%s", (const char *)sqlite3_column_text(q, 0));
        st = MAG_OK;
    } else if (rc != SQLITE_DONE) {
        st = store_sql_fail(db, "store", err);
    }
    (void)sqlite3_finalize(q);
    return st;
}

enum mag_status store_meta_int(sqlite3 *db, const char *key, int64_t *ret, struct mag_err *err)
{
    char text[32];
    enum mag_status st = store_meta_text(db, key, text, sizeof(text), err);
    if (st == MAG_OK) {
        long long v = 0;
        if (sscanf(text, "%lld", &v) != 1) {
            return mag_fail(err, MAG_CORRUPT, "meta value '%s' is not a number: '%s'", key, text);
        }
        *ret = v;
    }
    return st;
}

static enum mag_status create(sqlite3 *db, struct mag_err *err)
{
    unsigned char raw[16];
    if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw)) {
        return mag_fail(err, MAG_IO, "no random bytes: %s", strerror(errno));
    }
    char uuid[33];
    for (int i = 0; i < 16; i++) {
        (void)snprintf(uuid + 2 * i, 3, "%02x", raw[i]);
    }
    char sql[1024];
    (void)snprintf(sql, sizeof(sql),
                   "PRAGMA application_id=%d; PRAGMA user_version=%d;"
                   "INSERT INTO meta "
                   "VALUES('uuid','%s'),('last_commit_seq',0),('last_experiment',0),('probe',0);",
                   STORE_APPLICATION_ID, STORE_SCHEMA_VERSION, uuid);
    enum mag_status st = store_exec(db, "BEGIN IMMEDIATE", err);
    if (st == MAG_OK) {
        st = store_exec(db, schema_v1, err);
    }
    if (st == MAG_OK) {
        st = store_exec(db, sql, err);
    }
    if (st == MAG_OK) {
        st = store_exec(db, "COMMIT", err);
    }
    if (st != MAG_OK) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return st;
}

/* Whose file it is: *ret_empty, ours in a version we know, or an error. */
static enum mag_status look(sqlite3 *db, bool *ret_empty, struct mag_err *err)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    enum mag_status st = one_int(db, "PRAGMA application_id", &application, err);
    if (st == MAG_OK) {
        st = one_int(db, "PRAGMA user_version", &version, err);
    }
    if (st == MAG_OK) {
        st = one_int(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    *ret_empty = tables == 0 && application == 0;
    if (*ret_empty) {
        return MAG_OK;
    }
    if (application != STORE_APPLICATION_ID) {
        return mag_fail(err, MAG_UNSUPPORTED,
                        "this SQLite file was not made by magpie; name another data folder");
    }
    if (version > STORE_SCHEMA_VERSION) {
        return mag_fail(
            err, MAG_UNSUPPORTED,
            "the store has schema version %lld, made by a newer magpie; this one reads versions up "
            "to %d: install the newer release",
            (long long)version, STORE_SCHEMA_VERSION);
    }
    return version < 1 ? mag_fail(err, MAG_CORRUPT, "the store has no schema version") : MAG_OK;
}

enum mag_status store_schema_open(sqlite3 *db, struct mag_err *err)
{
    bool empty = false;
    enum mag_status st = look(db, &empty, err);
    return st == MAG_OK && empty ? create(db, err) : st;
}

enum mag_status store_schema_check(sqlite3 *db, struct mag_err *err)
{
    bool empty = false;
    enum mag_status st = look(db, &empty, err);
    return st == MAG_OK && empty ? mag_fail(err, MAG_NOTFOUND, "the store is empty") : st;
}
