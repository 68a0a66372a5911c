/* SPDX-License-Identifier: Apache-2.0
 *
 * The SQLite store: one writing connection, used by the store's thread alone. One batch is in
 * flight at a time; it becomes one transaction, and its end is told only after the write-ahead log
 * was synced. The checkpointer is ours: it runs between commits, after the acknowledgement, so that
 * no commit ever waits for one that it did not need.
 */
#include "driver/store_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAL_BYTES                                                                                  \
    (INT64_C(8) << 20)       /* the log's file from the start: no commit has to lengthen it */
#define WAL_FULL_FRAMES 1900 /* checkpoint now: 1,900 frames of 4,120 bytes fit in WAL_BYTES */
#define WAL_IDLE_FRAMES 32   /* checkpoint when nothing was committed for WAL_IDLE_MS */
#define WAL_IDLE_MS 500
#define SPIN_NS (250 * 1000)         /* see spin_for_batch */
#define PURGE_ROWS 2000 /* rows of a deleted experiment that go in one transaction */

enum {
    Q_BEGIN,
    Q_COMMIT,
    Q_EVENT,
    Q_EXPERIMENT,
    Q_DELETE,
    Q_DELETED,
    Q_PROBE,
    Q_PURGE_TO,
    Q_PURGE,
    N_QUERIES
};

static const char *const query_text[N_QUERIES] = {
    [Q_BEGIN] = "BEGIN IMMEDIATE",
    [Q_COMMIT] = "COMMIT",
    [Q_EVENT] =
        "INSERT INTO events(id,commit_seq,kind,trial,wall_ms,up_ms,text) VALUES(?,?,?,?,?,?,?)",
    [Q_EXPERIMENT] =
        "INSERT INTO experiments(id,commit_seq,created_ms,request,summary,resolved,spec) "
        "VALUES(?,?,?,?,?,?,?)",
    [Q_DELETE] = "DELETE FROM experiments WHERE id=?",
    [Q_DELETED] =
        "UPDATE meta SET value=max(value, CASE key WHEN 'last_experiment' THEN ?1 ELSE ?2 END) "
        "WHERE key IN ('last_experiment','last_commit_seq')",
    [Q_PROBE] = "UPDATE meta SET value=value+1 WHERE key='probe'",
    [Q_PURGE_TO] = "SELECT id FROM events WHERE id>=?1 AND id<?2 ORDER BY id LIMIT 1 OFFSET ?3",
    [Q_PURGE] = "DELETE FROM events WHERE id>=?1 AND id<?2",
};

struct store {
    char *path;
    int lock_fd;
    sqlite3 *db;
    sqlite3_stmt *q[N_QUERIES];
    char uuid[64];
    int64_t last_commit_seq, last_experiment;

    /* store thread only */
    bool hot; /* the last batch came within SPIN_NS of the commit before it */
    int wal_frames;
    int wal_full;   /* WAL_FULL_FRAMES */
    int wal_tried;  /* frames at the last checkpoint that could not finish */
    int64_t *purge; /* deleted experiments whose rows are still there */
    size_t n_purge;

    /* shared, under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool started;
    bool closing;
    struct store_batch *batch; /* in flight */
    atomic_bool handed;        /* batch != NULL, for a look without the lock */
    uint64_t commit;
    store_done_fn done;
    void *done_arg;
};

const char *store_path(const struct store *s)
{
    return s->path;
}

void store_set_wal_full(struct store *s, int frames)
{
    s->wal_full = frames;
}

const char *store_uuid(const struct store *s)
{
    return s->uuid;
}

int64_t store_last_commit_seq(const struct store *s)
{
    return s->last_commit_seq;
}

int64_t store_last_experiment(const struct store *s)
{
    return s->last_experiment;
}

/* ---- committing (store thread) ---- */

static int run(sqlite3_stmt *q)
{
    int rc = sqlite3_step(q);
    /* The reset repeats the step's error and ends the statement. */
    int end = sqlite3_reset(q);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : end;
}

static void bind_text(sqlite3_stmt *q, int at, const struct store_batch *b, int64_t offset, int len)
{
    if (offset < 0) {
        (void)sqlite3_bind_null(q, at);
    } else {
        (void)sqlite3_bind_text(q, at, b->bytes.data + offset, len, SQLITE_STATIC);
    }
}

static int insert_event(struct store *s, const struct store_batch *b, const struct batch_row *row)
{
    sqlite3_stmt *q = s->q[Q_EVENT];
    (void)sqlite3_bind_int64(q, 1, STORE_KEY(row->experiment, row->seq));
    (void)sqlite3_bind_int64(q, 2, row->commit_seq);
    (void)sqlite3_bind_int(q, 3, row->event_kind);
    (void)sqlite3_bind_int64(q, 4, row->trial);
    (void)sqlite3_bind_int64(q, 5, row->wall_ms);
    (void)sqlite3_bind_int64(q, 6, row->up_ms);
    bind_text(q, 7, b, row->text, row->text_len);
    return run(q);
}

static int insert_experiment(struct store *s, const struct store_batch *b,
                             const struct batch_row *row)
{
    sqlite3_stmt *q = s->q[Q_EXPERIMENT];
    (void)sqlite3_bind_int64(q, 1, row->experiment);
    (void)sqlite3_bind_int64(q, 2, row->commit_seq);
    (void)sqlite3_bind_int64(q, 3, row->wall_ms);
    bind_text(q, 4, b, row->request, -1);
    bind_text(q, 5, b, row->summary, -1);
    bind_text(q, 6, b, row->resolved, -1);
    bind_text(q, 7, b, row->text, row->text_len);
    return run(q);
}

static int delete_experiment(struct store *s, const struct batch_row *row)
{
    (void)sqlite3_bind_int64(s->q[Q_DELETE], 1, row->experiment);
    (void)sqlite3_bind_int64(s->q[Q_DELETED], 1, row->experiment);
    (void)sqlite3_bind_int64(s->q[Q_DELETED], 2, row->commit_seq);
    int rc = run(s->q[Q_DELETE]);
    return rc == SQLITE_OK ? run(s->q[Q_DELETED]) : rc;
}

static int write_rows(struct store *s, const struct store_batch *b)
{
    int rc = b->n == 0 ? run(s->q[Q_PROBE]) : SQLITE_OK;
    for (size_t i = 0; i < b->n && rc == SQLITE_OK; i++) {
        const struct batch_row *row = &b->rows[i];
        switch (row->kind) {
        case BATCH_EVENT:
            rc = insert_event(s, b, row);
            break;
        case BATCH_EXPERIMENT:
            rc = insert_experiment(s, b, row);
            break;
        case BATCH_DELETE:
            rc = delete_experiment(s, row);
            break;
        }
    }
    return rc;
}

static void roll_back(struct store *s)
{
    if (sqlite3_get_autocommit(s->db) == 0) {
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    }
}

static enum mag_status commit_batch(struct store *s, const struct store_batch *b,
                                    struct mag_err *err)
{
    if (fault_hit("store.commit")) {
        return mag_fail(err, MAG_IO, "storing: the disk is full (fault store.commit)");
    }
    enum mag_status st = MAG_OK;
    if (run(s->q[Q_BEGIN]) != SQLITE_OK || write_rows(s, b) != SQLITE_OK ||
        run(s->q[Q_COMMIT]) != SQLITE_OK) {
        st = store_sql_fail(s->db, "storing", err);
        roll_back(s);
        return st;
    }
    if (fault_hit("store.committed")) {
        return mag_fail(err, MAG_IO, "stored, and then failed (fault store.committed)");
    }
    return MAG_OK;
}

static void note_deleted(struct store *s, const struct store_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->rows[i].kind == BATCH_DELETE) {
            s->purge = xreallocarray(s->purge, s->n_purge + 1, sizeof(*s->purge));
            s->purge[s->n_purge++] = b->rows[i].experiment;
        }
    }
}

/* ---- upkeep between commits (store thread) ---- */

static int on_wal(void *arg, sqlite3 *db, const char *name, int frames)
{
    struct store *s = arg;
    if (frames < s->wal_frames) {
        s->wal_tried = 0;
    }
    s->wal_frames = frames;
    return SQLITE_OK;
}

static void checkpoint(struct store *s)
{
    int in_log = 0;
    int copied = 0;
    int rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_log, &copied);
    if (rc == SQLITE_OK && copied == in_log) {
        /* The next transaction starts over at the log's head. */
        s->wal_frames = 0;
        s->wal_tried = 0;
    } else {
        /* A reader holds an old snapshot, or the disk is full: again when the log has grown. */
        s->wal_tried = s->wal_frames;
    }
}

static bool wal_is_full(const struct store *s)
{
    return s->wal_frames >= s->wal_tried + s->wal_full;
}

static bool has_upkeep(const struct store *s)
{
    return s->n_purge > 0 || s->wal_frames >= s->wal_tried + WAL_IDLE_FRAMES;
}

/* Deletes some rows of the oldest deleted experiment. Nobody waits for these transactions; what a
 * crash leaves is found again when the store opens. */
static void purge_some(struct store *s)
{
    int64_t experiment = s->purge[0];
    int64_t from = STORE_KEY(experiment, 0);
    int64_t end = STORE_KEY(experiment + 1, 0);
    sqlite3_stmt *find = s->q[Q_PURGE_TO];
    (void)sqlite3_bind_int64(find, 1, from);
    (void)sqlite3_bind_int64(find, 2, end);
    (void)sqlite3_bind_int(find, 3, PURGE_ROWS);
    bool more = sqlite3_step(find) == SQLITE_ROW;
    int64_t to = more ? sqlite3_column_int64(find, 0) : end;
    (void)sqlite3_reset(find);
    (void)sqlite3_bind_int64(s->q[Q_PURGE], 1, from);
    (void)sqlite3_bind_int64(s->q[Q_PURGE], 2, to);
    int rc = run(s->q[Q_PURGE]);
    if (rc != SQLITE_OK || !more) {
        /* On failure the rows stay until the next start. */
        s->n_purge--;
        memmove(s->purge, s->purge + 1, s->n_purge * sizeof(*s->purge));
    }
}

static void upkeep(struct store *s)
{
    if (s->n_purge > 0) {
        purge_some(s);
    } else if (has_upkeep(s)) {
        checkpoint(s);
    }
}

static struct timespec in_ms(int64_t ms)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t ns = ts.tv_nsec + ms * MAG_NS_PER_MS;
    return (struct timespec){.tv_sec = ts.tv_sec + ns / MAG_NS_PER_S, .tv_nsec = ns % MAG_NS_PER_S};
}

/* One client that asks and tells in turn hands in a batch right after each commit. Waking this thread
 * would cost it as much as half a sync, so while batches come that fast the thread stays awake for the
 * next. It never spins twice in vain, nor while the machine's pace is that of real trials. Called with
 * the lock, which it gives up meanwhile. */
static void spin_for_batch(struct store *s)
{
    int64_t until = clock_mono_ns() + SPIN_NS;
    (void)pthread_mutex_unlock(&s->lock);
    while (!atomic_load_explicit(&s->handed, memory_order_acquire) && clock_mono_ns() < until) {
    }
    (void)pthread_mutex_lock(&s->lock);
    s->hot = s->batch != NULL;
}

/* Waits for a batch; NULL = time for upkeep, or closing with nothing left. Called with the lock. */
static struct store_batch *await_batch(struct store *s)
{
    if (s->hot && s->batch == NULL && !s->closing) {
        spin_for_batch(s);
    }
    int64_t since = clock_mono_ns();
    struct timespec until = in_ms(WAL_IDLE_MS);
    while (s->batch == NULL && !s->closing) {
        if (!has_upkeep(s)) {
            (void)pthread_cond_wait(&s->wake, &s->lock);
            until = in_ms(WAL_IDLE_MS);
        } else if (pthread_cond_timedwait(&s->wake, &s->lock, &until) != 0) {
            break;
        }
    }
    s->hot = s->hot || (s->batch != NULL && clock_mono_ns() - since < SPIN_NS);
    return s->batch;
}

static void *store_main(void *arg)
{
    struct store *s = arg;
    (void)pthread_setname_np(pthread_self(), "store");
    (void)pthread_mutex_lock(&s->lock);
    for (;;) {
        struct store_batch *b = await_batch(s);
        if (b == NULL && s->closing) {
            break;
        }
        (void)pthread_mutex_unlock(&s->lock);
        if (b != NULL) {
            struct mag_err err = {0};
            enum mag_status st = commit_batch(s, b, &err);
            if (st == MAG_OK) {
                note_deleted(s, b);
            }
            store_batch_destroy(b);
            /* Out of flight before the caller hears of it: it may hand in the next batch at once.
             */
            (void)pthread_mutex_lock(&s->lock);
            uint64_t commit = s->commit;
            store_done_fn done = s->done;
            void *done_arg = s->done_arg;
            s->batch = NULL;
            atomic_store_explicit(&s->handed, false, memory_order_relaxed);
            (void)pthread_mutex_unlock(&s->lock);
            done(done_arg, commit, st, st == MAG_OK ? NULL : err.text);
            if (wal_is_full(s)) {
                checkpoint(s);
            }
        } else {
            upkeep(s);
        }
        (void)pthread_mutex_lock(&s->lock);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

void store_commit_take(struct store *s, struct store_batch *b, uint64_t commit, store_done_fn done,
                       void *arg)
{
    (void)pthread_mutex_lock(&s->lock);
    MAG_ASSERT(s->batch == NULL, "a batch is in flight already");
    s->batch = b;
    atomic_store_explicit(&s->handed, true, memory_order_release);
    s->commit = commit;
    s->done = done;
    s->done_arg = arg;
    (void)pthread_mutex_unlock(&s->lock);
    /* After the unlock: the woken thread need not wait for us. */
    (void)pthread_cond_signal(&s->wake);
}

/* ---- opening and closing ---- */

/* The highest numbers given, and deleted experiments whose rows a crash left behind. */
static enum mag_status survey(struct store *s, struct mag_err *err)
{
    enum mag_status st = store_meta_int(s->db, "last_commit_seq", &s->last_commit_seq, err);
    if (st == MAG_OK) {
        st = store_meta_int(s->db, "last_experiment", &s->last_experiment, err);
    }
    if (st != MAG_OK) {
        return mag_wrap(err, st, "reading the meta table");
    }
    static const char sql[] =
        "SELECT x.id, max(x.commit_seq, coalesce((SELECT e.commit_seq FROM events e "
        "WHERE e.id>=x.id<<36 AND e.id<(x.id+1)<<36 ORDER BY e.id DESC LIMIT 1), 0)) FROM "
        "experiments x";
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK) {
        return store_sql_fail(s->db, "opening the store", err);
    }
    int rc = SQLITE_OK;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(q, 0);
        int64_t seq = sqlite3_column_int64(q, 1);
        s->last_experiment = id > s->last_experiment ? id : s->last_experiment;
        s->last_commit_seq = seq > s->last_commit_seq ? seq : s->last_commit_seq;
    }
    st = rc == SQLITE_DONE ? MAG_OK : store_sql_fail(s->db, "opening the store", err);
    (void)sqlite3_finalize(q);
    return st;
}

static enum mag_status find_orphans(struct store *s, struct mag_err *err)
{
    static const char sql[] =
        "SELECT e.id>>36, EXISTS(SELECT 1 FROM experiments x WHERE x.id=e.id>>36) "
        "FROM events e WHERE e.id>=? ORDER BY e.id LIMIT 1";
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK) {
        return store_sql_fail(s->db, "opening the store", err);
    }
    int rc = SQLITE_OK;
    (void)sqlite3_bind_int64(q, 1, 0);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(q, 0);
        if (sqlite3_column_int(q, 1) == 0) {
            s->purge = xreallocarray(s->purge, s->n_purge + 1, sizeof(*s->purge));
            s->purge[s->n_purge++] = id;
        }
        (void)sqlite3_reset(q);
        (void)sqlite3_bind_int64(q, 1, STORE_KEY(id + 1, 0));
    }
    enum mag_status st =
        rc == SQLITE_DONE ? MAG_OK : store_sql_fail(s->db, "opening the store", err);
    (void)sqlite3_finalize(q);
    return st;
}

static enum mag_status prepare_all(struct store *s, struct mag_err *err)
{
    for (int i = 0; i < N_QUERIES; i++) {
        if (sqlite3_prepare_v3(s->db, query_text[i], -1, SQLITE_PREPARE_PERSISTENT, &s->q[i],
                               NULL) != SQLITE_OK) {
            return store_sql_fail(s->db, "opening the store", err);
        }
    }
    return MAG_OK;
}

static enum mag_status start_thread(struct store *s, struct mag_err *err)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    int rc = pthread_create(&s->thread, NULL, store_main, s);
    if (rc != 0) {
        return mag_fail(err, MAG_NOMEM, "no thread for the store: %s", strerror(rc));
    }
    s->started = true;
    return MAG_OK;
}

static enum mag_status open_database(struct store *s, enum store_durability durability,
                                     struct mag_err *err)
{
    enum mag_status st = store_check_fs(s->path, err);
    if (st == MAG_OK) {
        st = store_lock_take(s->path, &s->lock_fd, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    st = store_connect(s->path, true, durability, &s->db, err);
    if (st == MAG_OK) {
        st = store_schema_open(s->db, err);
        if (st != MAG_OK) {
            return mag_wrap(err, st, "%s", s->path);
        }
    }
    if (st == MAG_OK) {
        st = store_meta_text(s->db, "uuid", s->uuid, sizeof(s->uuid), err);
    }
    if (st == MAG_OK) {
        st = survey(s, err);
    }
    if (st == MAG_OK) {
        st = find_orphans(s, err);
    }
    if (st == MAG_OK) {
        st = prepare_all(s, err);
    }
    if (st == MAG_OK) {
        (void)sqlite3_wal_hook(s->db, on_wal, s);
        checkpoint(s);
        store_extend_wal(s->path, WAL_BYTES);
    }
    return st;
}

enum mag_status store_url_path(const char *url, const char **ret, struct mag_err *err)
{
    if (strncmp(url, "sqlite:", 7) != 0 || url[7] == '\0') {
        return mag_fail(err, MAG_UNSUPPORTED, "store '%s': this build knows sqlite:PATH", url);
    }
    *ret = url + 7;
    return MAG_OK;
}

enum mag_status store_open(const char *url, enum store_durability durability, struct store **ret,
                           struct mag_err *err)
{
    const char *path = NULL;
    if (store_url_path(url, &path, err) != MAG_OK) {
        return MAG_UNSUPPORTED;
    }
    struct store *s = xcalloc(1, sizeof(*s));
    s->path = xstrdup(path);
    s->lock_fd = -1;
    s->wal_full = WAL_FULL_FRAMES;
    enum mag_status st = open_database(s, durability, err);
    if (st == MAG_OK) {
        st = start_thread(s, err);
    }
    if (st != MAG_OK) {
        store_close(s);
        return st;
    }
    *ret = s;
    return MAG_OK;
}

void store_close(struct store *s)
{
    if (s == NULL) {
        return;
    }
    if (s->started) {
        (void)pthread_mutex_lock(&s->lock);
        s->closing = true;
        (void)pthread_cond_signal(&s->wake);
        (void)pthread_mutex_unlock(&s->lock);
        (void)pthread_join(s->thread, NULL);
        (void)pthread_cond_destroy(&s->wake);
        (void)pthread_mutex_destroy(&s->lock);
    }
    for (int i = 0; i < N_QUERIES; i++) {
        (void)sqlite3_finalize(s->q[i]);
    }
    /* Closing the last connection checkpoints what is left. */
    (void)sqlite3_close(s->db);
    if (s->lock_fd >= 0) {
        (void)close(s->lock_fd);
    }
    free(s->purge);
    free(s->path);
    free(s);
}
