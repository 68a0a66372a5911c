/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/gc_sweep.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 24
#define MANIFEST_MAX (64 << 20)

/* ---- sizes ---- */

struct names {
    char **list;
    size_t n;
};

static bool on_name(void *arg, const char *name)
{
    struct names *l = arg;
    l->list = xreallocarray(l->list, l->n + 1, sizeof(*l->list));
    l->list[l->n++] = xstrdup(name);
    return true;
}

/* Objects below `key` and their bytes, as far as they can be read. */
static void measure(struct storage *s, const char *key, int depth, struct gc_count *count)
{
    struct names l = {0};
    struct mag_err err = {0};
    if (storage_list(s, key, on_name, &l, &err) != MAG_OK) {
        l.n = 0;
    }
    for (size_t i = 0; i < l.n; i++) {
        size_t n = strlen(l.list[i]);
        bool folder = n > 0 && l.list[i][n - 1] == '/';
        char *child = xasprintf("%s/%.*s", key, (int)(folder ? n - 1 : n), l.list[i]);
        struct storage_part part = {0};
        if (folder && depth < DEPTH_MAX) {
            measure(s, child, depth + 1, count);
        } else if (!folder && storage_read(s, child, 0, 1, &part, &err) == MAG_OK) {
            count->objects++;
            count->bytes += part.size;
            free(part.bytes);
        }
        free(child);
        free(l.list[i]);
    }
    free(l.list);
}

/* The manifest goes first (storage_remove), so that what a crash leaves of a folder is none. */
static enum mag_status remove_key(struct storage *s, const char *key, struct gc_count *count,
                                  struct mag_err *err)
{
    measure(s, key, 0, count);
    if (json_array_size(count->removed) < GC_REMOVED_MAX) {
        (void)json_array_append_new(count->removed, json_string(key));
    }
    if (count->dry) {
        return MAG_OK;
    }
    if (fault_hit("driver.gc")) {
        return mag_fail(err, MAG_IO, "fault point driver.gc");
    }
    enum mag_status st = storage_remove(s, key, err);
    (void)fault_hit("driver.gc-removed");
    return st;
}

enum mag_status gc_sweep_experiment(struct storage *s, int64_t experiment, struct gc_count *count,
                                    struct mag_err *err)
{
    char *key = xasprintf("experiments/%" PRId64, experiment);
    enum mag_status st = remove_key(s, key, count, err);
    count->experiments += st == MAG_OK;
    free(key);
    return st;
}

/* ---- one trial ---- */

struct found {
    int64_t step, attempt;
    bool whole; /* has a manifest */
    bool scored;
    double value;
    bool stays;
};

struct sweep {
    const struct gc_trial *t;
    struct found *list;
    int n;
};

static bool on_checkpoint(void *arg, const char *name)
{
    struct sweep *w = arg;
    struct found f = {0};
    int end = 0;
    if (sscanf(name, "%" SCNd64 "-%" SCNd64 "/%n", &f.step, &f.attempt, &end) == 2 && end > 0 &&
        name[end] == '\0') {
        w->list = xreallocarray(w->list, (size_t)w->n + 1, sizeof(*w->list));
        w->list[w->n++] = f;
    }
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct found *x = a;
    const struct found *y = b;
    if (x->step != y->step) {
        return x->step < y->step ? 1 : -1;
    }
    return (x->attempt < y->attempt) - (x->attempt > y->attempt);
}

static enum mag_status read_manifest(struct storage *s, const char *dir, struct found *f,
                                     struct mag_err *err)
{
    char *key = xasprintf("%s/%" PRId64 "-%" PRId64 "/manifest.json", dir, f->step, f->attempt);
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    enum mag_status st = storage_get(s, key, MANIFEST_MAX, &text, &len, err);
    f->whole = st == MAG_OK;
    if (st == MAG_OK && mjson_parse(text, len, &doc, NULL) == MAG_OK) {
        const json_t *v = json_object_get(doc, "value");
        f->scored = json_is_number(v);
        f->value = json_number_value(v);
        json_decref(doc);
    }
    free(text);
    free(key);
    return st == MAG_NOTFOUND ? MAG_OK : st; /* what cannot be asked must not be judged */
}

static bool is_pinned(const struct gc_trial *t, const struct gc_rules *r, const struct found *f)
{
    bool pinned = t->committed && t->last.step == f->step && t->last.attempt == f->attempt;
    for (int i = 0; i < r->n_claims && !pinned; i++) {
        const struct study_pin *p = &r->claims[i];
        pinned = p->trial == t->id && p->step == f->step && p->attempt == f->attempt;
    }
    return pinned;
}

static void choose(struct sweep *w, const struct gc_rules *r)
{
    const struct gc_trial *t = w->t;
    struct found *top = NULL;
    int64_t kept = 1;
    for (int i = 0; i < w->n; i++) {
        struct found *f = &w->list[i];
        bool older = f->whole && t->committed && f->step <= t->last.step;
        bool committed = older && f->step == t->last.step && f->attempt == t->last.attempt;
        /* Of an attempt checkpoints are committed in their order: behind a committed one none is on
         * its way. */
        bool coming = t->open && f->attempt >= t->attempt && !(r->tight && older && !committed);
        f->stays = is_pinned(t, r, f) || coming || (r->best && older && !f->scored);
        if (older && !committed && f->step < t->last.step && kept < r->keep) {
            f->stays = true;
            kept++;
        }
        if (r->best && older && f->scored &&
            (top == NULL || (r->maximize ? f->value >= top->value : f->value <= top->value))) {
            top = f;
        }
    }
    if (top != NULL) {
        top->stays = true;
    }
}

/* What is known and still lies there. */
static void note_there(struct gc_trial *t, const struct found *f)
{
    for (int i = 0; i < t->n_known; i++) {
        if (t->known[i].step == f->step && t->known[i].attempt == f->attempt) {
            t->known[i].there = true;
        }
    }
}

enum mag_status gc_sweep_trial(struct storage *s, int64_t experiment, struct gc_trial *t,
                               const struct gc_rules *rules, struct gc_count *count,
                               struct mag_err *err)
{
    if (t->foreign) {
        return MAG_OK;
    }
    struct sweep w = {.t = t};
    char *dir =
        xasprintf("experiments/%" PRId64 "/trials/%" PRId64 "/checkpoints", experiment, t->id);
    enum mag_status st = storage_list(s, dir, on_checkpoint, &w, err);
    for (int i = 0; st == MAG_OK && i < w.n; i++) {
        st = read_manifest(s, dir, &w.list[i], err);
    }
    if (st == MAG_OK && w.n > 0) {
        qsort(w.list, (size_t)w.n, sizeof(w.list[0]), newest_first);
        choose(&w, rules);
    }
    for (int i = 0; st == MAG_OK && i < w.n; i++) {
        if (w.list[i].stays) {
            note_there(t, &w.list[i]);
        } else {
            char *key =
                xasprintf("%s/%" PRId64 "-%" PRId64, dir, w.list[i].step, w.list[i].attempt);
            st = remove_key(s, key, count, err);
            count->checkpoints += st == MAG_OK;
            free(key);
        }
    }
    t->swept = st == MAG_OK;
    free(w.list);
    free(dir);
    return st;
}
