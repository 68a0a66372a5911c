/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers: connections of their own, for replay on the loop's start and for scans on reader
 * threads.
 */
#include "driver/store_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct store_reader {
    sqlite3 *db;
    sqlite3_stmt *experiments, *events, *trial;
};

static enum mag_status prepare(struct store_reader *r, struct mag_err *err)
{
    const struct {
        sqlite3_stmt **q;
        const char *sql;
    } table[] = {
        {&r->experiments,
         "SELECT id, created_ms, spec, resolved, request, summary, commit_seq FROM experiments "
         "WHERE id=?1 OR ?1=0 ORDER BY id"},
        {&r->events, "SELECT id, kind, trial, wall_ms, up_ms, text, commit_seq FROM events "
                     "WHERE id>?1 AND id<?2 ORDER BY id"},
        {&r->trial, "SELECT id, kind, trial, wall_ms, up_ms, text, commit_seq FROM events INDEXED "
                    "BY events_trial "
                    "WHERE id>>36=?1 AND trial=?2 AND trial>0 AND id>?3 ORDER BY id"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (sqlite3_prepare_v3(r->db, table[i].sql, -1, SQLITE_PREPARE_PERSISTENT, table[i].q,
                               NULL) != SQLITE_OK) {
            return store_sql_fail(r->db, "reading the store", err);
        }
    }
    return MAG_OK;
}

static enum mag_status open_path(const char *path, bool check, struct store_reader **ret,
                                 struct mag_err *err)
{
    struct store_reader *r = xcalloc(1, sizeof(*r));
    enum mag_status st = store_connect(path, false, STORE_FULL, &r->db, err);
    if (st == MAG_OK && check) {
        st = store_schema_check(r->db, err);
    }
    if (st == MAG_OK) {
        st = prepare(r, err);
    }
    if (st != MAG_OK) {
        store_reader_close(r);
        return st;
    }
    *ret = r;
    return MAG_OK;
}

enum mag_status store_reader_open(struct store *s, struct store_reader **ret, struct mag_err *err)
{
    return open_path(store_path(s), false, ret, err);
}

enum mag_status store_reader_open_url(const char *url, struct store_reader **ret,
                                      struct mag_err *err)
{
    const char *path = NULL;
    enum mag_status st = store_url_path(url, &path, err);
    if (st == MAG_OK && access(path, F_OK) != 0) {
        st = mag_fail(err, MAG_NOTFOUND, "store %s: %s", path, strerror(errno));
    }
    return st == MAG_OK ? open_path(path, true, ret, err) : st;
}

void store_reader_close(struct store_reader *r)
{
    if (r == NULL) {
        return;
    }
    (void)sqlite3_finalize(r->experiments);
    (void)sqlite3_finalize(r->events);
    (void)sqlite3_finalize(r->trial);
    (void)sqlite3_close(r->db);
    free(r);
}

enum mag_status store_read_experiments(struct store_reader *r, int64_t only, store_experiment_fn fn,
                                       void *arg, struct mag_err *err)
{
    sqlite3_stmt *q = r->experiments;
    (void)sqlite3_bind_int64(q, 1, only);
    int rc = SQLITE_OK;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_experiment x = {
            .id = sqlite3_column_int64(q, 0),
            .created_ms = sqlite3_column_int64(q, 1),
            .spec_text = (const char *)sqlite3_column_text(q, 2),
            .spec_len = sqlite3_column_bytes(q, 2),
            .resolved = (const char *)sqlite3_column_text(q, 3),
            .request = (const char *)sqlite3_column_text(q, 4),
            .summary = (const char *)sqlite3_column_text(q, 5),
            .commit_seq = sqlite3_column_int64(q, 6),
        };
        if (!fn(arg, &x)) {
            rc = SQLITE_DONE;
            break;
        }
    }
    enum mag_status st =
        rc == SQLITE_DONE ? MAG_OK : store_sql_fail(r->db, "reading experiments", err);
    (void)sqlite3_reset(q);
    return st;
}

static enum mag_status visit_events(struct store_reader *r, sqlite3_stmt *q, store_event_fn fn,
                                    void *arg, struct mag_err *err)
{
    int rc = SQLITE_OK;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(q, 0);
        struct store_event ev = {
            .experiment = id >> STORE_SEQ_BITS,
            .seq = id & STORE_SEQ_MAX,
            .kind = sqlite3_column_int(q, 1),
            .trial = sqlite3_column_int64(q, 2),
            .wall_ms = sqlite3_column_int64(q, 3),
            .up_ms = sqlite3_column_int64(q, 4),
            .text = (const char *)sqlite3_column_text(q, 5),
            .text_len = sqlite3_column_bytes(q, 5),
            .commit_seq = sqlite3_column_int64(q, 6),
        };
        if (!fn(arg, &ev)) {
            rc = SQLITE_DONE;
            break;
        }
    }
    enum mag_status st = rc == SQLITE_DONE ? MAG_OK : store_sql_fail(r->db, "reading events", err);
    (void)sqlite3_reset(q);
    return st;
}

enum mag_status store_read_events(struct store_reader *r, int64_t experiment, int64_t after,
                                  store_event_fn fn, void *arg, struct mag_err *err)
{
    (void)sqlite3_bind_int64(r->events, 1, STORE_KEY(experiment, after));
    (void)sqlite3_bind_int64(r->events, 2, STORE_KEY(experiment + 1, 0));
    return visit_events(r, r->events, fn, arg, err);
}

enum mag_status store_read_trial(struct store_reader *r, int64_t experiment, int64_t trial,
                                 int64_t after, store_event_fn fn, void *arg, struct mag_err *err)
{
    (void)sqlite3_bind_int64(r->trial, 1, experiment);
    (void)sqlite3_bind_int64(r->trial, 2, trial);
    (void)sqlite3_bind_int64(r->trial, 3, STORE_KEY(experiment, after));
    return visit_events(r, r->trial, fn, arg, err);
}
