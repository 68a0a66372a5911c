/* SPDX-License-Identifier: Apache-2.0
 *
 * A run's program as a writer of event files: those below its trial folder are read as they grow, and the
 * scalars that the experiment names become reports. Several files speak of one step (training and
 * validation), in any order: a step is told once it has the objective and nothing new came, or a
 * later one has it.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/json.h"
#include "worker/tfscalar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLLOW_EVERY_MS 500
#define FOLLOW_FILES_MAX 256   /* event files of one run */
#define FOLLOW_ENTRIES_MAX 10000 /* names looked at in one search for files */
#define FOLLOW_DEPTH_MAX 8
#define FOLLOW_STEPS_MAX 4096        /* steps that wait */
#define FOLLOW_TICK_BYTES (1 << 20)  /* of one file, at one time */
#define FOLLOW_END_BYTES (256 << 20) /* of one file, at the end */
#define CHUNK 65536

struct source {
    char *path; /* from the folder that is followed */
    char *run;  /* its folder, "" = the followed one */
    off_t offset;
    struct tfscalars scalars;
    bool noted;
};

struct step {
    int64_t step;
    json_t *metrics;
};

struct follow {
    char *dir;
    json_t *wanted; /* {"metric": {"tensorboard": tag, "offset": n}} */
    bool all;       /* every scalar, under its own name */
    bool objective; /* the objective is among them */
    struct source *files[FOLLOW_FILES_MAX];
    int n_files;
    int entries; /* of the search that runs */
    struct step *steps; /* rising */
    size_t n_steps;
    bool fresh; /* the last look found something */
    struct event *timer;
};

/* ---- steps ---- */

/* The metrics of a step that waits, made when it is new. */
static json_t *step_metrics(struct follow *f, int64_t step)
{
    size_t at = f->n_steps;
    while (at > 0 && f->steps[at - 1].step > step) {
        at--;
    }
    if (at > 0 && f->steps[at - 1].step == step) {
        return f->steps[at - 1].metrics;
    }
    f->steps = xreallocarray(f->steps, f->n_steps + 1, sizeof(*f->steps));
    memmove(f->steps + at + 1, f->steps + at, (f->n_steps - at) * sizeof(*f->steps));
    f->steps[at] = (struct step){.step = step, .metrics = json_object()};
    f->n_steps++;
    return f->steps[at].metrics;
}

static void tell_steps(struct run *r, size_t n)
{
    struct follow *f = r->follow;
    for (size_t i = 0; i < n; i++) {
        run_point(r, f->steps[i].step, f->steps[i].metrics);
        json_decref(f->steps[i].metrics);
    }
    f->n_steps -= n;
    memmove(f->steps, f->steps + n, f->n_steps * sizeof(*f->steps));
}

/* How many of the steps that wait are whole. */
static size_t whole_steps(const struct run *r)
{
    const struct follow *f = r->follow;
    size_t n = f->n_steps;
    while (f->objective && n > 0 &&
           json_object_get(f->steps[n - 1].metrics, r->grant.metric) == NULL) {
        n--;
    }
    return f->fresh && n > 0 && n == f->n_steps ? n - 1 : n;
}

/* ---- scalars ---- */

struct heard {
    struct run *run;
    const struct source *file;
};

static void keep(struct follow *f, const char *name, int64_t step, double v)
{
    if (step >= 0 && step <= WIRE_STEP_MAX) {
        json_t *metrics = step_metrics(f, step);
        /* A name that is no UTF-8 is nobody's metric. */
        (void)json_object_set_new(metrics, name, isfinite(v) ? json_real(v) : json_null());
    }
}

/* A name is a tag, or a tag behind the last folders of its file: "validation/epoch_accuracy". */
static bool is_wanted(const json_t *want, const char *tag, const char *full)
{
    const char *name = json_string_value(json_object_get(want, "tensorboard"));
    size_t n = name != NULL ? strlen(name) : 0;
    size_t all = strlen(full);
    return n >= strlen(tag) && n <= all && strcmp(full + all - n, name) == 0 &&
           (n == all || full[all - n - 1] == '/');
}

static void on_scalar(void *arg, int64_t step, const char *tag, double v)
{
    const struct heard *h = arg;
    struct follow *f = h->run->follow;
    char *full = h->file->run[0] != '\0' ? xasprintf("%s/%s", h->file->run, tag) : xstrdup(tag);
    const char *name = NULL;
    json_t *want = NULL;
    bool named = false;
    json_object_foreach(f->wanted, name, want)
    {
        if (is_wanted(want, tag, full)) {
            keep(f, name, step + json_integer_value(json_object_get(want, "offset")), v);
            named = true;
        }
    }
    if (f->all && !named) {
        keep(f, full, step, v);
    }
    free(full);
    if (f->n_steps > FOLLOW_STEPS_MAX) {
        tell_steps(h->run, 1);
    }
}

/* ---- files ---- */

static void note_damage(struct run *r, struct source *s)
{
    if (!s->noted && (s->scalars.broken || s->scalars.damaged > 0)) {
        s->noted = true;
        outlog_note(&r->log, "event file %s is damaged: %s", s->path,
                    s->scalars.broken ? "what follows cannot be read" : "a record was passed over");
    }
}

static void read_file(struct run *r, struct source *s, int64_t most)
{
    struct heard h = {.run = r, .file = s};
    char *path = xasprintf("%s/%s", r->follow->dir, s->path);
    char *chunk = xmalloc(CHUNK);
    int fd = s->scalars.broken ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n = fd >= 0 ? pread(fd, chunk, CHUNK, s->offset) : 0;
    while (n > 0 && most > 0) {
        s->offset += n;
        most -= n;
        r->follow->fresh = true;
        tfscalars_add(&s->scalars, chunk, (size_t)n, on_scalar, &h);
        if (s->scalars.skip > 0 && s->scalars.skip < INT64_MAX / 2) {
            s->offset += (off_t)s->scalars.skip; /* a record without scalars: not read at all */
            s->scalars.skip = 0;
        }
        n = s->scalars.broken ? 0 : pread(fd, chunk, CHUNK, s->offset);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    note_damage(r, s);
    free(chunk);
    free(path);
}

static bool is_known(const struct follow *f, const char *path)
{
    for (int i = 0; i < f->n_files; i++) {
        if (strcmp(f->files[i]->path, path) == 0) {
            return true;
        }
    }
    return false;
}

static void add_file(struct follow *f, const char *below, const char *path)
{
    struct stat sb;
    char *full = xasprintf("%s/%s", f->dir, path);
    bool plain = lstat(full, &sb) == 0 && S_ISREG(sb.st_mode);
    free(full);
    if (plain && f->n_files < FOLLOW_FILES_MAX && !is_known(f, path)) {
        struct source *s = xcalloc(1, sizeof(*s));
        s->path = xstrdup(path);
        s->run = xstrdup(below);
        f->files[f->n_files++] = s;
    }
}

static void search(struct follow *f, const char *below, int depth)
{
    char *dir = xasprintf("%s/%s", f->dir, below);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth > 0 ? O_NOFOLLOW : 0));
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e = NULL;
    while (d != NULL && (e = readdir(d)) != NULL && f->entries++ < FOLLOW_ENTRIES_MAX) {
        if (e->d_name[0] == '.') {
            continue;
        }
        char *path =
            below[0] != '\0' ? xasprintf("%s/%s", below, e->d_name) : xstrdup(e->d_name);
        if (strstr(e->d_name, "tfevents") != NULL) {
            add_file(f, below, path);
        } else if ((e->d_type == DT_DIR || e->d_type == DT_UNKNOWN) && depth < FOLLOW_DEPTH_MAX) {
            search(f, path, depth + 1);
        }
        free(path);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    free(dir);
}

static int by_path(const void *a, const void *b)
{
    const struct source *const *x = a;
    const struct source *const *y = b;
    return strcmp((*x)->path, (*y)->path);
}

static void look(struct run *r, int64_t most)
{
    struct follow *f = r->follow;
    f->fresh = false;
    f->entries = 0;
    search(f, "", 0);
    qsort(f->files, (size_t)f->n_files, sizeof(f->files[0]), by_path);
    for (int i = 0; i < f->n_files; i++) {
        read_file(r, f->files[i], most);
    }
}

/* ---- life ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct run *r = arg;
    const struct timeval tv = {.tv_usec = FOLLOW_EVERY_MS * 1000};
    look(r, FOLLOW_TICK_BYTES);
    tell_steps(r, whole_steps(r));
    (void)event_add(r->follow->timer, &tv);
}

/* Those of the experiment's metrics that come from event files. */
static json_t *wanted_of(const struct run *r)
{
    const char *name = NULL;
    json_t *v = NULL;
    json_t *wanted = json_object();
    json_object_foreach(r->grant.patterns, name, v)
    {
        if (json_is_object(v)) {
            (void)json_object_set(wanted, name, v);
        }
    }
    return wanted;
}

void follow_begin(struct run *r)
{
    const char *below = json_string_value(json_object_get(r->grant.program, "tensorboard"));
    json_t *wanted = wanted_of(r);
    if (r->follow != NULL || (below == NULL && json_object_size(wanted) == 0)) {
        json_decref(wanted);
        return;
    }
    const struct timeval tv = {.tv_usec = FOLLOW_EVERY_MS * 1000};
    struct follow *f = xcalloc(1, sizeof(*f));
    f->dir = below != NULL ? xasprintf("%s/%s", r->trial_dir, below) : xstrdup(r->trial_dir);
    f->wanted = wanted;
    f->all = below != NULL;
    f->objective = f->all || json_object_get(wanted, r->grant.metric) != NULL;
    f->timer = evtimer_new(r->app->base, on_timer, r);
    MAG_ASSERT(f->timer != NULL, "evtimer_new");
    r->follow = f;
    (void)event_add(f->timer, &tv);
}

void follow_end(struct run *r)
{
    if (r->follow != NULL) {
        look(r, FOLLOW_END_BYTES);
        tell_steps(r, r->follow->n_steps);
        follow_free(r);
    }
}

void follow_free(struct run *r)
{
    struct follow *f = r->follow;
    if (f == NULL) {
        return;
    }
    event_free(f->timer);
    for (int i = 0; i < f->n_files; i++) {
        tfscalars_fini(&f->files[i]->scalars);
        free(f->files[i]->path);
        free(f->files[i]->run);
        free(f->files[i]);
    }
    for (size_t i = 0; i < f->n_steps; i++) {
        json_decref(f->steps[i].metrics);
    }
    free(f->steps);
    json_decref(f->wanted);
    free(f->dir);
    free(f);
    r->follow = NULL;
}
