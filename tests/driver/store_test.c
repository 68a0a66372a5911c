/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/clock.h"
#include "driver/store_internal.h"
#include "tests/driver/power_vfs.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- helpers ---- */

static char folder[64];

static void make_folder(char out[64])
{
    (void)snprintf(out, 64, "/tmp/magpie-store-XXXXXX");
    cr_assert_not_null(mkdtemp(out));
}

static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char name[400];
        (void)snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        (void)unlink(name);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    (void)rmdir(path);
}

static void setup(void)
{
    make_folder(folder);
}

static void teardown(void)
{
    remove_folder(folder);
}

static struct store *open_store(const char *in, enum store_durability durability,
                                struct mag_err *err)
{
    char url[128];
    (void)snprintf(url, sizeof(url), "sqlite:%s/magpie.db", in);
    struct store *s = NULL;
    return store_open(url, durability, &s, err) == MAG_OK ? s : NULL;
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    uint64_t commit;
    enum mag_status st;
    char text[512];
    int64_t unsynced; /* when the commit was acknowledged */
};

static void on_done(void *arg, uint64_t commit, enum mag_status st, const char *text)
{
    struct waiter *w = arg;
    int64_t unsynced = power_unsynced();
    (void)pthread_mutex_lock(&w->lock);
    w->done = true;
    w->commit = commit;
    w->st = st;
    w->unsynced = unsynced;
    (void)snprintf(w->text, sizeof(w->text), "%s", text != NULL ? text : "");
    (void)pthread_cond_signal(&w->cond);
    (void)pthread_mutex_unlock(&w->lock);
}

static struct waiter commit(struct store *s, struct store_batch *b, uint64_t number)
{
    struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    store_commit_take(s, b, number, on_done, &w);
    (void)pthread_mutex_lock(&w.lock);
    while (!w.done) {
        (void)pthread_cond_wait(&w.cond, &w.lock);
    }
    (void)pthread_mutex_unlock(&w.lock);
    return w;
}

static void add_experiment(struct store_batch *b, int64_t id, int64_t commit_seq)
{
    static const char spec[] = "{ \"objective\" : 1 }\n";
    store_batch_experiment(b,
                           &(struct store_experiment){.id = id,
                                                      .created_ms = 1000 + id,
                                                      .spec_text = spec,
                                                      .spec_len = (int)strlen(spec),
                                                      .resolved = "{\"objective\":1}",
                                                      .request = id == 1 ? "me\nkey\nhash" : NULL,
                                                      .commit_seq = commit_seq});
}

static void add_event(struct store_batch *b, int64_t experiment, int64_t seq, int64_t trial,
                      int64_t commit_seq)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "{\"seq\":%lld}", (long long)seq);
    store_batch_event(b, &(struct store_event){.experiment = experiment,
                                               .seq = seq,
                                               .commit_seq = commit_seq,
                                               .kind = trial > 0 ? 4 : 1,
                                               .trial = trial,
                                               .wall_ms = 5000 + seq,
                                               .up_ms = seq,
                                               .text = text,
                                               .text_len = n});
}

struct seen {
    int64_t n;
    int64_t first, last;
    int64_t trial; /* expected, 0 = any */
    bool gap, wrong;
    int64_t stop_at;
};

static bool see_event(void *arg, const struct store_event *ev)
{
    struct seen *v = arg;
    char text[64];
    int n = snprintf(text, sizeof(text), "{\"seq\":%lld}", (long long)ev->seq);
    v->wrong = v->wrong || ev->text_len != n || strcmp(ev->text, text) != 0 ||
               ev->wall_ms != 5000 + ev->seq || ev->up_ms != ev->seq ||
               (v->trial != 0 && ev->trial != v->trial);
    v->gap = v->gap || (v->n > 0 && ev->seq != v->last + 1);
    v->first = v->n == 0 ? ev->seq : v->first;
    v->last = ev->seq;
    v->n++;
    return v->n != v->stop_at;
}

static bool see_experiment(void *arg, const struct store_experiment *x)
{
    int64_t *ids = arg;
    ids[++ids[0]] = x->id;
    cr_assert_eq(x->created_ms, 1000 + x->id);
    cr_assert_str_eq(x->spec_text, "{ \"objective\" : 1 }\n");
    cr_assert_eq(x->spec_len, 20);
    cr_assert_str_eq(x->resolved, "{\"objective\":1}");
    cr_assert_eq(x->request != NULL, x->id == 1);
    return true;
}

static struct seen read_events(struct store *s, int64_t experiment, int64_t after)
{
    struct seen v = {0};
    struct store_reader *r = NULL;
    cr_assert_eq(store_reader_open(s, &r, NULL), MAG_OK);
    cr_assert_eq(store_read_events(r, experiment, after, see_event, &v, NULL), MAG_OK);
    store_reader_close(r);
    return v;
}

TestSuite(store, .init = setup, .fini = teardown, .timeout = 60);

/* ---- claims ---- */

Test(store, gives_back_what_was_committed_also_after_reopening)
{
    struct store *s = open_store(folder, STORE_FULL, NULL);
    cr_assert_not_null(s);
    char uuid[64];
    (void)snprintf(uuid, sizeof(uuid), "%s", store_uuid(s));
    cr_assert_eq(strlen(uuid), 32);
    struct store_batch *b = store_batch_create();
    cr_assert(store_batch_is_empty(b));
    add_experiment(b, 1, 1);
    add_experiment(b, 2, 2);
    for (int i = 1; i <= 100; i++) {
        add_event(b, 1, i, i % 3, 2 * i + 1);
        add_event(b, 2, i, 0, 2 * i + 2);
    }
    cr_assert_eq(store_batch_rows(b), 202);
    struct waiter w = commit(s, b, 7);
    cr_assert_eq(w.st, MAG_OK, "%s", w.text);
    cr_assert_eq(w.commit, 7);
    for (int pass = 0; pass < 2; pass++) {
        struct seen v = read_events(s, 1, 0);
        cr_assert(v.n == 100 && v.first == 1 && v.last == 100 && !v.gap && !v.wrong);
        v = read_events(s, 2, 40);
        cr_assert(v.n == 60 && v.first == 41 && v.last == 100 && !v.gap && !v.wrong);
        cr_assert_eq(read_events(s, 3, 0).n, 0);
        struct store_reader *r = NULL;
        cr_assert_eq(store_reader_open(s, &r, NULL), MAG_OK);
        int64_t ids[8] = {0};
        cr_assert_eq(store_read_experiments(r, 0, see_experiment, ids, NULL), MAG_OK);
        cr_assert(ids[0] == 2 && ids[1] == 1 && ids[2] == 2);
        ids[0] = 0;
        cr_assert_eq(store_read_experiments(r, 2, see_experiment, ids, NULL), MAG_OK);
        cr_assert(ids[0] == 1 && ids[1] == 2);
        v = (struct seen){.trial = 2};
        cr_assert_eq(store_read_trial(r, 1, 2, 0, see_event, &v, NULL), MAG_OK);
        cr_assert(v.n == 33 && v.first == 2 && v.last == 98 && !v.wrong);
        v = (struct seen){.trial = 2};
        cr_assert_eq(store_read_trial(r, 1, 2, 50, see_event, &v, NULL), MAG_OK);
        cr_assert(v.n == 16 && v.first == 53);
        v = (struct seen){.stop_at = 5};
        cr_assert_eq(store_read_events(r, 1, 0, see_event, &v, NULL), MAG_OK);
        cr_assert_eq(v.n, 5, "a visitor that says false stops the visit");
        store_reader_close(r);
        store_close(s);
        s = open_store(folder, STORE_NORMAL, NULL);
        cr_assert_not_null(s);
        cr_assert_str_eq(store_uuid(s), uuid);
        cr_assert_eq(store_last_commit_seq(s), 202);
        cr_assert_eq(store_last_experiment(s), 2);
    }
    store_close(s);
}

/* Reads the one event of the store by its URL, without the owner's lock. */
static enum mag_status read_by_url(const char *url, struct seen *v, struct mag_err *err)
{
    struct store_reader *r = NULL;
    enum mag_status st = store_reader_open_url(url, &r, err);
    if (st == MAG_OK) {
        *v = (struct seen){0};
        st = store_read_events(r, 1, 0, see_event, v, err);
        store_reader_close(r);
    }
    return st;
}

Test(store, is_read_by_url_beside_its_owner_and_without_one)
{
    char url[128];
    (void)snprintf(url, sizeof(url), "sqlite:%s/magpie.db", folder);
    struct seen v = {0};
    struct mag_err err = {0};
    cr_assert_eq(read_by_url(url, &v, &err), MAG_NOTFOUND);
    cr_assert_not_null(strstr(err.text, "magpie.db"), "%s", err.text);
    cr_assert_eq(read_by_url("mysql:x", &v, NULL), MAG_UNSUPPORTED);
    struct store *s = open_store(folder, STORE_FULL, NULL);
    cr_assert_not_null(s);
    struct store_batch *b = store_batch_create();
    add_experiment(b, 1, 1);
    add_event(b, 1, 1, 0, 2);
    cr_assert_eq(commit(s, b, 1).st, MAG_OK);
    cr_assert_eq(read_by_url(url, &v, NULL), MAG_OK);
    cr_assert(v.n == 1 && !v.wrong, "what is committed is seen while the owner runs");
    store_close(s);
    cr_assert_eq(read_by_url(url, &v, NULL), MAG_OK);
    cr_assert(v.n == 1 && !v.wrong);
    s = open_store(folder, STORE_FULL, NULL);
    cr_assert_not_null(s, "a reader leaves no lock behind");
    store_close(s);
}

Test(store, deleted_experiment_goes_and_numbers_keep_rising)
{
    struct store *s = open_store(folder, STORE_NORMAL, NULL);
    struct store_batch *b = store_batch_create();
    add_experiment(b, 1, 1);
    add_experiment(b, 2, 2);
    for (int i = 1; i <= 5000; i++) {
        add_event(b, 1, i, i, 2 + 2 * i);
        add_event(b, 2, i, i, 3 + 2 * i);
    }
    cr_assert_eq(commit(s, b, 1).st, MAG_OK);
    b = store_batch_create();
    store_batch_delete(b, 2, 10004);
    cr_assert_eq(commit(s, b, 2).st, MAG_OK);
    /* Closing at once leaves rows of the deleted one behind, as a crash would. */
    store_close(s);
    s = open_store(folder, STORE_NORMAL, NULL);
    cr_assert_eq(store_last_commit_seq(s), 10004);
    cr_assert_eq(store_last_experiment(s), 2);
    int64_t end = clock_mono_ns() + 20 * MAG_NS_PER_S;
    while (read_events(s, 2, 0).n > 0 && clock_mono_ns() < end) {
        (void)sched_yield();
    }
    cr_assert_eq(read_events(s, 2, 0).n, 0);
    cr_assert_eq(read_events(s, 1, 0).n, 5000);
    struct store_reader *r = NULL;
    cr_assert_eq(store_reader_open(s, &r, NULL), MAG_OK);
    int64_t ids[8] = {0};
    cr_assert_eq(store_read_experiments(r, 0, see_experiment, ids, NULL), MAG_OK);
    cr_assert(ids[0] == 1 && ids[1] == 1);
    store_reader_close(r);
    store_close(s);
}

Test(store, second_owner_is_told_who_holds_it)
{
    struct store *s = open_store(folder, STORE_FULL, NULL);
    cr_assert_not_null(s);
    struct mag_err err = {0};
    cr_assert_null(open_store(folder, STORE_FULL, &err));
    cr_assert_eq(err.code, MAG_CONFLICT);
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "pid %d on host ", (int)getpid());
    cr_assert_not_null(strstr(err.text, pid), "%s", err.text);
    store_close(s);
    s = open_store(folder, STORE_FULL, NULL);
    cr_assert_not_null(s, "the lock goes with its owner");
    store_close(s);
}

static void run_sql(const char *sql)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/magpie.db", folder);
    sqlite3 *db = NULL;
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    (void)sqlite3_close(db);
}

Test(store, refuses_what_it_cannot_keep_safe)
{
    static const struct {
        const char *sql;
        enum mag_status st;
        const char *says;
    } cases[] = {
        {"PRAGMA user_version=2", MAG_UNSUPPORTED, "newer magpie"},
        {"PRAGMA user_version=0", MAG_CORRUPT, "no schema version"},
        {"PRAGMA application_id=7", MAG_UNSUPPORTED, "not made by magpie"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        store_close(open_store(folder, STORE_FULL, NULL));
        run_sql(cases[i].sql);
        struct mag_err err = {0};
        cr_assert_null(open_store(folder, STORE_FULL, &err));
        cr_assert_eq(err.code, cases[i].st, "%s: %s", cases[i].sql, err.text);
        cr_assert_not_null(strstr(err.text, cases[i].says), "%s", err.text);
        remove_folder(folder);
        cr_assert_eq(mkdir(folder, 0700), 0);
    }
    struct mag_err err = {0};
    struct store *s = NULL;
    cr_assert_eq(store_open("mysql:x", STORE_FULL, &s, &err), MAG_UNSUPPORTED);
    err = (struct mag_err){0};
    cr_assert_eq(store_open("sqlite:/nonexistent/dir/x.db", STORE_FULL, &s, &err), MAG_IO);
    cr_assert_not_null(strstr(err.text, "/nonexistent/dir"), "%s", err.text);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/magpie.db", folder);
    FILE *f = fopen(path, "we");
    for (int i = 0; i < 1000; i++) {
        (void)fputs("this is no database ", f);
    }
    (void)fclose(f);
    err = (struct mag_err){0};
    cr_assert_null(open_store(folder, STORE_FULL, &err));
    cr_assert_eq(err.code, MAG_CORRUPT, "%s", err.text);
}

Test(store, knows_network_file_systems)
{
    cr_assert_str_eq(store_network_fs(0x6969), "NFS");
    cr_assert_str_eq(store_network_fs(0xFFFFFFFFFF534D42UL), "CIFS",
                     "sign-extended on some systems");
    cr_assert_str_eq(store_network_fs(0x0BD00BD0), "Lustre");
    const unsigned long local[] = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630};
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
        cr_assert_null(store_network_fs(local[i]));
    }
    cr_assert_eq(setenv("MAGPIE_FAULTS", "store.network-fs=fail*", 1), 0);
    struct mag_err err = {0};
    cr_assert_null(open_store(folder, STORE_FULL, &err));
    cr_assert_eq(err.code, MAG_UNSUPPORTED);
    cr_assert_not_null(strstr(err.text, "network file system (NFS)"), "%s", err.text);
}

Test(store, failed_commit_stores_nothing_and_can_be_repeated)
{
    cr_assert_eq(setenv("MAGPIE_FAULTS", "store.commit:2=fail", 1), 0);
    struct store *s = open_store(folder, STORE_FULL, NULL);
    struct store_batch *b = store_batch_create();
    add_experiment(b, 1, 1);
    cr_assert_eq(commit(s, b, 1).st, MAG_OK);
    for (int pass = 0; pass < 2; pass++) {
        b = store_batch_create();
        add_event(b, 1, 1, 0, 2);
        struct waiter w = commit(s, b, 2 + (uint64_t)pass);
        cr_assert_eq(w.st, pass == 0 ? MAG_IO : MAG_OK);
        cr_assert_eq(read_events(s, 1, 0).n, pass);
    }
    /* A row that breaks a rule takes the whole batch with it. */
    b = store_batch_create();
    add_event(b, 1, 2, 0, 3);
    add_event(b, 1, 1, 0, 4);
    cr_assert_eq(commit(s, b, 4).st, MAG_BUG);
    cr_assert_eq(read_events(s, 1, 0).n, 1);
    cr_assert_eq(commit(s, store_batch_create(), 5).st, MAG_OK, "an empty batch is a probe");
    store_close(s);
}

Test(store, full_disk_is_reported_and_passes)
{
    struct store *s = open_store(folder, STORE_FULL, NULL);
    struct store_batch *b = store_batch_create();
    add_experiment(b, 1, 1);
    cr_assert_eq(commit(s, b, 1).st, MAG_OK);
    /* A limit on the file size is a full disk to SQLite, and fills nobody's disk. */
    int64_t seq = 0;
    uint64_t number = 1;
    int failed = 0;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/magpie.db-wal", folder);
    struct stat sb;
    cr_assert_eq(stat(path, &sb), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit had;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &had), 0);
    struct rlimit limit = {.rlim_cur = (rlim_t)sb.st_size, .rlim_max = had.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    char *big = xmalloc(6 << 20);
    memset(big, 'x', 6 << 20);
    for (int i = 0; i < 4; i++) {
        b = store_batch_create();
        store_batch_event(b, &(struct store_event){.experiment = 1,
                                                   .seq = seq + 1,
                                                   .commit_seq = seq + 2,
                                                   .kind = 1,
                                                   .text = big,
                                                   .text_len = 6 << 20});
        struct waiter w = commit(s, b, ++number);
        seq += w.st == MAG_OK;
        failed += w.st != MAG_OK;
        cr_assert(w.st == MAG_OK || w.st == MAG_IO, "%s", w.text);
        cr_assert(w.st == MAG_OK || w.text[0] != '\0');
    }
    free(big);
    cr_assert_gt(failed, 0);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &had), 0);
    b = store_batch_create();
    add_event(b, 1, seq + 1, 0, 100);
    struct waiter w = commit(s, b, ++number);
    cr_assert_eq(w.st, MAG_OK, "%s", w.text);
    cr_assert_eq(read_events(s, 1, 0).n, seq + 1);
    store_close(s);
}

Test(store, log_file_does_not_grow_while_commits_are_small)
{
    struct store *s = open_store(folder, STORE_NORMAL, NULL);
    store_set_wal_full(s, 200);
    struct store_batch *b = store_batch_create();
    add_experiment(b, 1, 1);
    cr_assert_eq(commit(s, b, 1).st, MAG_OK);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/magpie.db-wal", folder);
    struct stat before;
    cr_assert_eq(stat(path, &before), 0);
    for (int i = 1; i <= 5000; i++) {
        b = store_batch_create();
        add_event(b, 1, i, i, 1 + i);
        cr_assert_eq(commit(s, b, 1 + (uint64_t)i).st, MAG_OK);
    }
    struct stat after;
    cr_assert_eq(stat(path, &after), 0);
    cr_assert_eq(after.st_size, before.st_size);
    cr_assert_eq(read_events(s, 1, 0).n, 5000);
    store_close(s);
}

/* ---- power failures ---- */

#define BATCHES 14
#define BATCH_EVENTS 3

/* Commits until the power fails; returns how many commits were acknowledged. */
static int run_until_dark(enum store_durability durability)
{
    struct store *s = open_store(folder, durability, NULL);
    if (s == NULL) {
        return 0;
    }
    store_set_wal_full(s, 9);
    int acked = 0;
    for (int i = 0; i < BATCHES; i++) {
        struct store_batch *b = store_batch_create();
        if (i == 0) {
            add_experiment(b, 1, 1);
        }
        for (int k = 1; k <= BATCH_EVENTS; k++) {
            int64_t seq = i * BATCH_EVENTS + k;
            add_event(b, 1, seq, seq, 1 + seq);
        }
        struct waiter w = commit(s, b, (uint64_t)i + 1);
        if (w.st != MAG_OK) {
            break;
        }
        if (durability == STORE_FULL) {
            cr_assert_eq(w.unsynced, 0, "commit %d was acknowledged before its sync", i + 1);
        }
        acked++;
    }
    store_close(s);
    return acked;
}

/* What a disk holds after the failure must open, and hold whole commits: the acknowledged ones
 * and perhaps the one in flight. */
static void check_image(int acked, int at, enum power_loss loss, enum store_durability durability)
{
    char image[64];
    make_folder(image);
    power_image(image, loss, (uint64_t)at);
    power_reset(0);
    struct mag_err err = {0};
    struct store *s = open_store(image, durability, &err);
    cr_assert_not_null(s, "sync %d, loss %d: %s", at, (int)loss, err.text);
    struct seen v = read_events(s, 1, 0);
    cr_assert(!v.gap && !v.wrong, "sync %d, loss %d", at, (int)loss);
    cr_assert_eq(v.n % BATCH_EVENTS, 0, "sync %d, loss %d: part of a commit", at, (int)loss);
    int64_t whole = v.n / BATCH_EVENTS;
    if (durability == STORE_FULL) {
        cr_assert(whole >= acked && whole <= acked + 1,
                  "sync %d, loss %d: %d acknowledged, %d found", at, (int)loss, acked, (int)whole);
    } else {
        cr_assert_leq(whole, acked + 1, "sync %d, loss %d", at, (int)loss);
    }
    struct store_batch *b = store_batch_create();
    if (whole == 0) {
        add_experiment(b, 1, 1);
    }
    add_event(b, 1, v.n + 1, 1, v.n + 2);
    cr_assert_eq(commit(s, b, 1).st, MAG_OK);
    cr_assert_eq(read_events(s, 1, 0).n, v.n + 1);
    store_close(s);
    remove_folder(image);
}

static int fail_everywhere(enum store_durability durability)
{
    int at = 1;
    for (bool failed = true; failed; at++) {
        for (int loss = 0; loss < POWER_LOSSES && failed; loss++) {
            remove_folder(folder);
            cr_assert_eq(mkdir(folder, 0700), 0);
            power_reset(at);
            int acked = run_until_dark(durability);
            failed = power_failed();
            cr_assert(failed || acked == BATCHES);
            check_image(acked, at, (enum power_loss)loss, durability);
        }
    }
    return at - 2;
}

Test(store, power_failure_at_any_sync_keeps_what_was_acknowledged, .timeout = 300)
{
    power_install();
    int points = fail_everywhere(STORE_FULL);
    cr_assert_gt(points, BATCHES + 4, "commits and checkpoints sync: %d points", points);
}

Test(store, power_failure_with_normal_durability_loses_a_tail_at_most, .timeout = 300)
{
    power_install();
    int points = fail_everywhere(STORE_NORMAL);
    cr_assert_gt(points, 2, "checkpoints sync: %d points", points);
}
