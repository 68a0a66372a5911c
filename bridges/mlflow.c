/* SPDX-License-Identifier: Apache-2.0 */
#include "bridges/mlflow.h"

#include "base/alloc.h"
#include "storage/storage.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct store {
    const char *experiment_id;
    char *root; /* the experiment's folder, beside its final name */
    char *final;
    struct mag_err *err;
    enum mag_status status;
};

/* ---- files ---- */

static void failed(struct store *s, const char *path)
{
    if (s->status == MAG_OK) {
        s->status = mag_fail(s->err, MAG_IO, "cannot write %s: %s", path, strerror(errno));
    }
}

static void make_folder(struct store *s, const char *path)
{
    if (s->status == MAG_OK && mkdir(path, 0755) != 0 && errno != EEXIST) {
        failed(s, path);
    }
}

/* Writes `text` to root/folder/name. */
static void put_file(struct store *s, const char *folder, const char *name, const char *text)
{
    char *path = xasprintf("%s/%s%s%s", s->root, folder, folder[0] != '\0' ? "/" : "", name);
    FILE *f = s->status == MAG_OK ? fopen(path, "we") : NULL;
    if (s->status == MAG_OK) {
        bool good = f != NULL && fputs(text, f) >= 0;
        good = (f == NULL || fclose(f) == 0) && good;
        if (!good) {
            failed(s, path);
        }
    }
    free(path);
}

/* MLflow's names: letters, digits, _ - . space and /, no step up. Others become "_". */
static char *safe_name(const char *name)
{
    char *out = xstrdup(name);
    for (char *c = out; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr("_-. ", *c) == NULL) {
            *c = '_';
        }
    }
    if (strspn(out, ".") == strlen(out)) {
        memset(out, '_', strlen(out));
    }
    return out;
}

/* ---- text ---- */

/* A YAML scalar in quotes: JSON's strings are YAML's. */
static void yaml(struct buf *b, const char *key, const char *value)
{
    buf_addf(b, "%s: ", key);
    buf_add_json_string(b, value);
    buf_addc(b, '\n');
}

static int64_t millis(const json_t *v)
{
    const char *text = json_string_value(v);
    struct tm tm = {0};
    const char *rest = text != NULL ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    if (rest == NULL) {
        return 0;
    }
    double part = *rest == '.' ? strtod(rest, NULL) : 0;
    return (int64_t)timegm(&tm) * 1000 + (int64_t)(part * 1000 + 0.5);
}

/* FNV-1a, for names that are the same in every export. */
static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text != '\0'; text++) {
        h = (h ^ (unsigned char)*text) * 0x100000001b3ULL;
    }
    return h;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

/* ---- a run ---- */

/* MLflow's RunStatus. */
static int status_of(const char *state)
{
    static const struct {
        const char *state;
        int status;
    } rows[] = {{"running", 1}, {"waiting", 2}, {"completed", 3}, {"stopped", 3},
                {"paused", 2},  {"failed", 4},  {"cancelled", 5}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(state, rows[i].state) == 0) {
            return rows[i].status;
        }
    }
    return 1;
}

static void put_params(struct store *s, const char *run, const json_t *trial)
{
    char *folder = xasprintf("%s/params", run);
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach(json_object_get(trial, "params"), name, v)
    {
        char *file = safe_name(name);
        char *text = json_is_string(v) ? xstrdup(json_string_value(v)) : mjson_dump(v);
        put_file(s, folder, file, text);
        free(text);
        free(file);
    }
    free(folder);
}

static void put_metrics(struct store *s, const char *run, const json_t *trial)
{
    json_t *files = json_object(); /* name -> lines */
    char *folder = xasprintf("%s/metrics", run);
    size_t i = 0;
    const json_t *point = NULL;
    const char *name = NULL;
    json_t *v = NULL;
    json_array_foreach(json_object_get(trial, "metrics"), i, point)
    {
        int64_t at = millis(json_object_get(point, "time"));
        json_object_foreach(json_object_get(point, "values"), name, v)
        {
            char *number = json_is_number(v) ? mjson_dump(v) : xstrdup("nan");
            const char *before = json_string_value(json_object_get(files, name));
            (void)json_object_set_new(
                files, name,
                json_sprintf("%s%" PRId64 " %s %" JSON_INTEGER_FORMAT "\n",
                             before != NULL ? before : "", at, number,
                             json_integer_value(json_object_get(point, "step"))));
            free(number);
        }
    }
    json_object_foreach(files, name, v)
    {
        char *file = safe_name(name);
        put_file(s, folder, file, json_string_value(v));
        free(file);
    }
    free(folder);
    json_decref(files);
}

static void put_tags(struct store *s, const char *run, const char *run_name, const json_t *trial)
{
    static const char *const kept[] = {"state", "attempt", "budget", "worker", "reason", "notes"};
    char *folder = xasprintf("%s/tags", run);
    put_file(s, folder, "mlflow.runName", run_name);
    put_file(s, folder, "mlflow.source.name", "magpie");
    put_file(s, folder, "mlflow.source.type", "JOB");
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        const json_t *v = json_object_get(trial, kept[i]);
        char *name = xasprintf("magpie.%s", kept[i]);
        char *text = json_is_string(v) ? xstrdup(json_string_value(v)) : mjson_dump(v);
        if (v != NULL && !json_is_null(v)) {
            put_file(s, folder, name, text);
        }
        free(text);
        free(name);
    }
    free(folder);
}

static void put_run(struct store *s, const json_t *trial)
{
    static const char *const folders[] = {"", "/params", "/metrics", "/tags", "/artifacts"};
    json_int_t id = json_integer_value(json_object_get(trial, "trial"));
    char number[32];
    char run[40];
    (void)snprintf(number, sizeof(number), "#%lld", (long long)id);
    uint64_t h = hash(hash(0xcbf29ce484222325ULL, s->experiment_id), number);
    (void)snprintf(run, sizeof(run), "%016" PRIx64 "%016" PRIx64, h, hash(h, "run"));
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char *path = xasprintf("%s/%s%s", s->root, run, folders[i]);
        make_folder(s, path);
        free(path);
    }
    char *run_name = xasprintf("trial-%lld", (long long)id);
    struct buf b = {0};
    char *artifacts = xasprintf("%s/%s/artifacts", s->final, run);
    int64_t ended = millis(json_object_get(trial, "ended"));
    yaml(&b, "artifact_uri", artifacts);
    if (ended > 0) {
        buf_addf(&b, "end_time: %" PRId64 "\n", ended);
    } else {
        buf_adds(&b, "end_time: null\n");
    }
    buf_adds(&b, "entry_point_name: ''\n");
    yaml(&b, "experiment_id", s->experiment_id);
    buf_adds(&b, "lifecycle_stage: active\n");
    yaml(&b, "run_id", run);
    yaml(&b, "run_name", run_name);
    yaml(&b, "run_uuid", run);
    buf_adds(&b, "source_name: ''\nsource_type: 4\nsource_version: ''\n");
    const json_t *begun = json_object_get(trial, "started");
    buf_addf(&b, "start_time: %" PRId64 "\nstatus: %d\ntags: []\nuser_id: magpie\n",
             millis(json_is_string(begun) ? begun : json_object_get(trial, "created")),
             status_of(text_of(trial, "state")));
    put_file(s, run, "meta.yaml", b.data);
    put_params(s, run, trial);
    put_metrics(s, run, trial);
    put_tags(s, run, run_name, trial);
    buf_fini(&b);
    free(artifacts);
    free(run_name);
}

/* ---- the experiment ---- */

static void put_experiment(struct store *s, const json_t *experiment)
{
    struct buf b = {0};
    int64_t created = millis(json_object_get(experiment, "created"));
    char *name = xasprintf("%s (magpie %" JSON_INTEGER_FORMAT ")", text_of(experiment, "name"),
                           json_integer_value(json_object_get(experiment, "id")));
    yaml(&b, "artifact_location", s->final);
    buf_addf(&b, "creation_time: %" PRId64 "\n", created);
    yaml(&b, "experiment_id", s->experiment_id);
    buf_addf(&b, "last_update_time: %" PRId64 "\nlifecycle_stage: active\n", created);
    yaml(&b, "name", name);
    put_file(s, "", "meta.yaml", b.data);
    free(name);
    buf_fini(&b);
}

enum mag_status mlflow_write(const char *dir, const json_t *experiment, const json_t *trials,
                             struct mag_err *err)
{
    char id[24];
    uint64_t h = hash(hash(0xcbf29ce484222325ULL, text_of(experiment, "name")),
                      text_of(experiment, "created"));
    (void)snprintf(id, sizeof(id), "%llu", 100000000000000000ULL + h % 800000000000000000ULL);
    if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
        return mag_fail(err, MAG_IO, "cannot make %s: %s", dir, strerror(errno));
    }
    char *real = realpath(dir, NULL);
    struct store s = {.experiment_id = id, .err = err};
    s.final = xasprintf("%s/%s", real != NULL ? real : dir, id);
    s.root = xasprintf("%s/.%s.new-%ld", real != NULL ? real : dir, id, (long)getpid());
    free(real);
    if (access(s.final, F_OK) == 0) {
        s.status =
            mag_fail(err, MAG_CONFLICT,
                     "%s is there already: this experiment was exported to that store; remove "
                     "the folder, or give another --output",
                     s.final);
    }
    make_folder(&s, s.root);
    put_experiment(&s, experiment);
    size_t i = 0;
    const json_t *trial = NULL;
    json_array_foreach(trials, i, trial)
    {
        put_run(&s, trial);
    }
    if (s.status == MAG_OK && rename(s.root, s.final) != 0) {
        failed(&s, s.final);
    }
    if (s.status != MAG_OK) {
        storage_remove_local(s.root);
    }
    free(s.root);
    free(s.final);
    return s.status;
}
