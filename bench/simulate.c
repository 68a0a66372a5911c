/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast a simulation runs: calls of study_apply a second on one core, through sim_run itself, so
 * the objective, the virtual workers and the clock are in the time. Asks get a real point of four
 * parameters. Three lines: without a record; with every event encoded and stored as the driver does
 * (SQLite, one transaction for so many events); and the memory of a study of many trials.
 * bench/simulate [TRIALS] [ALGORITHM] [WORKERS] [STORE_FOLDER] (1000000 asha 100 $TMPDIR; - = no store)
 */
#include "driver/store.h"
#include "simulate/experiment.h"
#include "simulate/sim.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BATCH 1000 /* events in one transaction: what gathers while the one before syncs */

static const char setup_text[] =
    "{\"objective\": \"sphere(4)\", \"duration\": \"lognormal(0.5)\", \"lease\": 0}";

/* ---- the record ---- */

struct record {
    struct store *store;
    struct store_batch *batch;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool busy; /* a commit is in flight */
    int64_t commit_seq;
    uint64_t commit;
    struct buf text;
    int64_t bytes;
};

static void on_done(void *arg, uint64_t commit, enum mag_status st, const char *text)
{
    struct record *r = arg;
    MAG_ASSERT(st == MAG_OK, "%s", text);
    (void)pthread_mutex_lock(&r->lock);
    r->busy = false;
    (void)pthread_cond_signal(&r->done);
    (void)pthread_mutex_unlock(&r->lock);
}

static void wait_done(struct record *r)
{
    (void)pthread_mutex_lock(&r->lock);
    while (r->busy) {
        (void)pthread_cond_wait(&r->done, &r->lock);
    }
    (void)pthread_mutex_unlock(&r->lock);
}

static void commit(struct record *r)
{
    wait_done(r);
    r->busy = true;
    store_commit_take(r->store, r->batch, ++r->commit, on_done, r);
    r->batch = store_batch_create();
}

static void keep_event(void *arg, const struct event *ev, int dims)
{
    struct record *r = arg;
    buf_reset(&r->text);
    event_encode(ev, dims, &r->text);
    r->bytes += (int64_t)r->text.len;
    store_batch_event(r->batch, &(struct store_event){.experiment = 1,
                                                      .seq = ev->seq,
                                                      .commit_seq = ++r->commit_seq,
                                                      .kind = ev->kind,
                                                      .trial = ev->trial,
                                                      .wall_ms = ev->wall_ms,
                                                      .up_ms = ev->up_ms,
                                                      .text = r->text.data,
                                                      .text_len = (int)r->text.len});
    if (store_batch_rows(r->batch) >= BATCH) {
        commit(r);
    }
}

static void record_open(struct record *r, const char *folder)
{
    struct mag_err err = {0};
    char *url = xasprintf("sqlite:%s/store.db", folder);
    *r = (struct record){.batch = store_batch_create()};
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_cond_init(&r->done, NULL);
    MAG_ASSERT(store_open(url, STORE_FULL, &r->store, &err) == MAG_OK, "%s", err.text);
    store_batch_experiment(r->batch, &(struct store_experiment){.id = 1,
                                                                .created_ms = 1,
                                                                .spec_text = "{}",
                                                                .spec_len = 2,
                                                                .resolved = "{}",
                                                                .commit_seq = ++r->commit_seq});
    free(url);
}

static void record_close(struct record *r)
{
    commit(r);
    wait_done(r);
    store_batch_destroy(r->batch);
    store_close(r->store);
    buf_fini(&r->text);
}

/* ---- runs ---- */

static struct spec *make_spec(const struct sim_setup *setup, const char *algorithm, int64_t trials)
{
    struct mag_err err = {0};
    struct mjson_issues is = {0};
    json_t *doc = NULL;
    struct sim_changes changes = {.algorithm = algorithm, .trials = trials, .min = 1, .max = 27};
    enum mag_status st = sim_experiment(NULL, setup, &changes, &doc, &err);
    MAG_ASSERT(st == MAG_OK, "%s", err.text);
    struct spec *spec = spec_parse(doc, 1, &is);
    MAG_ASSERT(spec != NULL, "%s %s", is.items[0].pointer, is.items[0].text);
    json_decref(doc);
    return spec;
}

/* Of the calling thread (the store's thread is another core's work), or of the whole process. */
static int64_t cpu_ns(clockid_t which)
{
    struct timespec ts;
    (void)clock_gettime(which, &ts);
    return (int64_t)ts.tv_sec * MAG_NS_PER_S + ts.tv_nsec;
}

static void run(const struct sim_setup *setup, const char *algorithm, int64_t trials,
                struct sim_options *o, const char *what)
{
    struct sim_result r;
    struct mag_err err = {0};
    struct spec *spec = make_spec(setup, algorithm, trials);
    int64_t wall = clock_mono_ns(), cpu = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
    int64_t all = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    enum mag_status st = sim_run(setup, spec, o, &r, &err);
    double cpu_s = (double)(cpu_ns(CLOCK_THREAD_CPUTIME_ID) - cpu) / 1e9;
    double all_s = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - all) / 1e9;
    double wall_s = (double)(clock_mono_ns() - wall) / 1e9;
    MAG_ASSERT(st == MAG_OK, "%s", err.text);
    struct rusage ru;
    (void)getrusage(RUSAGE_SELF, &ru);
    printf("{\"bench\":\"simulate\",\"record\":\"%s\",\"algorithm\":\"%s\",\"workers\":%lld,"
           "\"trials\":%lld,\"applies\":%lld,\"steps\":%lld,\"cpu_s\":%.3f,\"wall_s\":%.3f,"
           "\"applies_per_cpu_s\":%.0f,\"applies_per_cpu_s_of_all_threads\":%.0f,\"applies_per_wall_s\":%.0f,\"max_rss_mb\":%.0f}\n",
           what, algorithm, (long long)o->workers, (long long)r.trials, (long long)r.applies,
           (long long)r.steps, cpu_s, wall_s, (double)r.applies / cpu_s,
           (double)r.applies / all_s, (double)r.applies / wall_s, (double)ru.ru_maxrss / 1024);
    (void)fflush(stdout);
    sim_result_fini(&r);
}

static void run_recorded(const struct sim_setup *setup, const char *algorithm, int64_t trials,
                         struct sim_options *o, const char *folder)
{
    struct record rec;
    char *path = xasprintf("%s/bench-simulate-XXXXXX", folder);
    MAG_ASSERT(mkdtemp(path) != NULL, "%s", path);
    record_open(&rec, path);
    o->on_event = keep_event;
    o->arg = &rec;
    run(setup, algorithm, trials, o, "stored");
    record_close(&rec);
    static const char *const files[] = {"store.db", "store.db-wal", "store.db-shm",
                                        "store.db.lock"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char *file = xasprintf("%s/%s", path, files[i]);
        (void)unlink(file);
        free(file);
    }
    (void)rmdir(path);
    free(path);
}

int main(int argc, char **argv)
{
    int64_t trials = argc > 1 ? strtoll(argv[1], NULL, 10) : 1000000;
    const char *algorithm = argc > 2 ? argv[2] : "asha";
    const char *tmp = getenv("TMPDIR");
    const char *folder = argc > 4 ? argv[4] : tmp != NULL ? tmp : "/tmp";
    struct sim_options o = {.workers = argc > 3 ? strtoll(argv[3], NULL, 10) : 100};
    struct sim_setup setup;
    struct mjson_issues is = {0};
    if (trials < 1 || optimizer_find(algorithm) == NULL || o.workers < 1) {
        fprintf(stderr, "usage: simulate [TRIALS] [ALGORITHM] [WORKERS] [STORE_FOLDER]\n");
        return 2;
    }
    json_t *doc = json_loads(setup_text, 0, NULL);
    sim_setup_parse(doc, "", &setup, &is);
    MAG_ASSERT(is.total == 0, "%s", is.items[0].text);
    run(&setup, algorithm, trials, &o, "off");
    if (strcmp(folder, "-") != 0) {
        run_recorded(&setup, algorithm, trials / 5 + 1, &o, folder);
    }
    sim_setup_fini(&setup);
    json_decref(doc);
    return 0;
}
