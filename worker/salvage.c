/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/salvage.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "storage/logs.h"
#include "worker/app.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define METRICS_MAX (64 << 20)

struct salvage_task {
    struct task task;
    struct storage *storage;
    struct scratch_dead dead;
    int attempts; /* that something of was stored */
};

typedef enum mag_status (*entry_fn)(struct salvage_task *k, void *arg, const char *path,
                                    const char *name, struct mag_err *err);

/* Calls `fn` for each entry; a folder that is not there has none. */
static enum mag_status each(struct salvage_task *k, const char *dir, entry_fn fn, void *arg,
                            struct mag_err *err)
{
    DIR *d = opendir(dir);
    enum mag_status st = MAG_OK;
    for (struct dirent *e = NULL; d != NULL && st == MAG_OK && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.') {
            char *path = xasprintf("%s/%s", dir, e->d_name);
            st = fn(k, arg, path, e->d_name, err);
            free(path);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return st;
}

/* A segment's name is where it begins. */
static enum mag_status put_segment(struct salvage_task *k, void *arg, const char *path,
                                   const char *name, struct mag_err *err)
{
    char *end = NULL;
    char *bytes = NULL;
    size_t len = 0;
    int64_t start = strtoll(name, &end, 10);
    if (end == name || *end != '\0' || start < 0) {
        return MAG_OK;
    }
    enum mag_status st = mjson_read_file(path, OUTLOG_SEGMENT_MAX, &bytes, &len, err);
    if (st == MAG_OK && len > 0) {
        st = storage_log_put(k->storage, arg, start, bytes, len, err);
    }
    free(bytes);
    return st == MAG_NOTFOUND ? MAG_OK : st;
}

static enum mag_status put_metrics(struct salvage_task *k, const char *dir, const char *trial,
                                   int64_t attempt, struct mag_err *err)
{
    char *path = xasprintf("%s/metrics.jsonl", dir);
    char *key = xasprintf("%s/attempts/%" PRId64 "/metrics.jsonl", trial, attempt);
    char *bytes = NULL;
    size_t len = 0;
    enum mag_status st = mjson_read_file(path, METRICS_MAX, &bytes, &len, err);
    if (st == MAG_OK) {
        st = storage_put(k->storage, key, bytes, len, false, err);
    }
    free(bytes);
    free(key);
    free(path);
    return st == MAG_NOTFOUND || st == MAG_LIMIT ? MAG_OK : st;
}

/* The folder of a run: "<experiment>-<trial>-<attempt>". */
static enum mag_status put_run(struct salvage_task *k, void *arg, const char *path,
                               const char *name, struct mag_err *err)
{
    int64_t x = 0;
    int64_t t = 0;
    int64_t a = 0;
    int end = 0;
    (void)arg;
    if (sscanf(name, "%" SCNd64 "-%" SCNd64 "-%" SCNd64 "%n", &x, &t, &a, &end) != 3 ||
        name[end] != '\0' || x < 1 || t < 1 || a < 1) {
        return MAG_OK;
    }
    char *trial = xasprintf("experiments/%" PRId64 "/trials/%" PRId64, x, t);
    char *log = storage_log_key(trial, a);
    char *segments = xasprintf("%s/log", path);
    enum mag_status st = each(k, segments, put_segment, log, err);
    if (st == MAG_OK) {
        st = put_metrics(k, path, trial, a, err);
    }
    k->attempts += st == MAG_OK;
    free(segments);
    free(log);
    free(trial);
    return st;
}

static void salvage_work(struct task *t)
{
    struct salvage_task *k = container_of(t, struct salvage_task, task);
    struct mag_err err = {0};
    if (each(k, k->dead.dir, put_run, NULL, &err) == MAG_OK) {
        storage_remove_local(k->dead.dir);
    } else {
        log_warn("worker", "not-salvaged", "folder=%s error=%s the next worker tries again",
                 log_quote(k->dead.dir), log_quote(err.text));
    }
}

static void salvage_done(struct task *t)
{
    struct salvage_task *k = container_of(t, struct salvage_task, task);
    if (k->attempts > 0) {
        log_info("worker", "salvaged", "folder=%s attempts=%d", log_quote(k->dead.dir),
                 k->attempts);
    }
    (void)close(k->dead.lock);
    free(k->dead.dir);
    free(k);
}

/* ---- whose storage it was ---- */

static char *note_path(const char *dir)
{
    return xasprintf("%s/" SCRATCH_STORAGE, dir);
}

static void write_note(const char *dir, const char *url)
{
    char *path = note_path(dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, url, strlen(url)) != (ssize_t)strlen(url)) {
        log_warn("worker", "scratch-note", "error=%s", strerror(errno));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    free(path);
}

static bool is_theirs(const char *dir, const char *url)
{
    char *path = note_path(dir);
    char *text = NULL;
    size_t len = 0;
    bool same =
        mjson_read_file(path, WIRE_URI_MAX, &text, &len, NULL) == MAG_OK && strcmp(text, url) == 0;
    free(text);
    free(path);
    return same;
}

void salvage_start(struct app *a, const char *url)
{
    write_note(a->scratch, url);
    for (int i = 0; i < a->n_dead; i++) {
        struct scratch_dead *dead = &a->dead[i];
        if (!is_theirs(dead->dir, url)) {
            scratch_dead_fini(dead); /* another driver's: a worker of that one takes it */
            continue;
        }
        struct salvage_task *k = xcalloc(1, sizeof(*k));
        k->task = (struct task){.work = salvage_work, .done = salvage_done};
        k->storage = a->storage;
        k->dead = *dead;
        background_submit(a->background, &k->task);
    }
    a->n_dead = 0;
}
