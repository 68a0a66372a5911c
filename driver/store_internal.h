/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to driver/store_*.c: the SQLite store's parts. store_lock.c guards the file (owner, file
 * system), store_schema.c makes and checks the tables, store_batch.c collects rows, store_sqlite.c
 * commits them on the store's thread, store_read.c reads.
 */
#ifndef MAG_DRIVER_STORE_INTERNAL_H
#define MAG_DRIVER_STORE_INTERNAL_H

#include "base/buf.h"
#include "driver/store.h"

#include <sqlite3.h>

/* The key of an event: its experiment's rows lie side by side in the table, in order. */
#define STORE_SEQ_BITS 36
#define STORE_KEY(experiment, seq) (((experiment) << STORE_SEQ_BITS) | (seq))

/* ---- store_lock.c ---- */

#define STORE_LOCK_WAIT_MS 3000 /* for an owner that is about to end */
/* Takes PATH.lock; *ret_fd holds the lock until it is closed. */
enum mag_status store_lock_take(const char *path, int *ret_fd, struct mag_err *err) MAG_MUSTCHECK;
/* The name of the network file system with this statfs type, or NULL for a local one. */
const char *store_network_fs(unsigned long f_type);
/* MAG_UNSUPPORTED when the folder of `path` lies on a network file system. */
enum mag_status store_check_fs(const char *path, struct mag_err *err) MAG_MUSTCHECK;
/* Makes the write-ahead log's file `bytes` long (zeros mean "no frames" to SQLite), so that a
 * commit's sync has no file size to record. Best effort: a full disk just leaves it as it is. */
void store_extend_wal(const char *path, int64_t bytes);

/* ---- store_schema.c ---- */

/* The one translation of an SQLite failure; keeps SQLite's own text. */
enum mag_status store_sql_fail(sqlite3 *db, const char *doing, struct mag_err *err);
enum mag_status store_exec(sqlite3 *db, const char *sql, struct mag_err *err) MAG_MUSTCHECK;
/* Opens a connection with our settings. */
enum mag_status store_connect(const char *path, bool writer, enum store_durability durability,
                              sqlite3 **ret, struct mag_err *err) MAG_MUSTCHECK;
/* Makes the tables in a new file; refuses files that are not ours and newer versions. */
enum mag_status store_schema_open(sqlite3 *db, struct mag_err *err) MAG_MUSTCHECK;
/* As above for readers: makes nothing, an empty file is MAG_NOTFOUND. */
enum mag_status store_schema_check(sqlite3 *db, struct mag_err *err) MAG_MUSTCHECK;
/* One text or number of the meta table; MAG_NOTFOUND when it is not there. */
enum mag_status store_meta_text(sqlite3 *db, const char *key, char *ret, size_t size,
                                struct mag_err *err) MAG_MUSTCHECK;
enum mag_status store_meta_int(sqlite3 *db, const char *key, int64_t *ret,
                               struct mag_err *err) MAG_MUSTCHECK;

/* ---- store_batch.c ---- */

enum batch_kind { BATCH_EVENT = 0, BATCH_EXPERIMENT = 1, BATCH_DELETE = 2 };

/* A row as offsets into the batch's bytes (-1 = NULL), since those move while they grow. */
struct batch_row {
    enum batch_kind kind;
    int event_kind;
    int64_t experiment, seq, commit_seq, trial, wall_ms, up_ms;
    int64_t text, resolved, request, summary;
    int text_len;
};

struct store_batch {
    struct batch_row *rows;
    size_t n, cap;
    struct buf bytes;
};

/* ---- store_sqlite.c ---- */
const char *store_path(const struct store *s);
/* The path in "sqlite:PATH", borrowed from `url`. */
enum mag_status store_url_path(const char *url, const char **ret,
                               struct mag_err *err) MAG_MUSTCHECK;
/* Checkpoints after so many frames of the log; before the first commit. Tests make it small. */
void store_set_wal_full(struct store *s, int frames);

#endif
