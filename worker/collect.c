/* SPDX-License-Identifier: Apache-2.0
 *
 * Old checkpoints of a trial that this worker runs, on the background thread. What stays: the
 * committed one, the newest older ones up to `keep` in all, with "best" that of the best step, what
 * the driver pinned, and what is newer (it will be committed, or garbage collection takes it).
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOUND_MAX 1200 /* checkpoints of a trial looked at: more than may be kept */
#define MANIFEST_MAX (64 << 20)

struct old {
    int64_t step, attempt;
    bool stays;
};

struct collect_task {
    struct task task;
    struct storage *storage;
    char *dir;
    int64_t step, attempt; /* the committed one */
    int64_t keep;
    bool best, maximize;
    struct run_score scores[RUN_SCORES]; /* of this attempt */
    int n_scores;
    struct wire_pin *pins;
    size_t n_pins;
    struct old *found;
    int n;
};

/* ---- values of steps ---- */

void collect_note_score(struct run *r, int64_t step, double value)
{
    r->scores[r->n_scores++ % RUN_SCORES] = (struct run_score){.step = step, .value = value};
}

bool collect_score(const struct run *r, int64_t step, double *ret)
{
    for (int64_t i = r->n_scores - 1; i >= 0 && i >= r->n_scores - RUN_SCORES; i--) {
        if (r->scores[i % RUN_SCORES].step == step) {
            *ret = r->scores[i % RUN_SCORES].value;
            return true;
        }
    }
    return false;
}

/* ---- choosing ---- */

static bool visit(void *arg, const char *name)
{
    struct collect_task *c = arg;
    struct old o = {0};
    if (sscanf(name, "%" SCNd64 "-%" SCNd64 "/", &o.step, &o.attempt) == 2 && c->n < FOUND_MAX) {
        c->found = xreallocarray(c->found, (size_t)c->n + 1, sizeof(*c->found));
        c->found[c->n++] = o;
    }
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct old *x = a;
    const struct old *y = b;
    if (x->step != y->step) {
        return x->step < y->step ? 1 : -1;
    }
    return (x->attempt < y->attempt) - (x->attempt > y->attempt);
}

static char *key_of(const struct collect_task *c, const struct old *o)
{
    return xasprintf("%s/%" PRId64 "-%" PRId64, c->dir, o->step, o->attempt);
}

/* Its manifest, new reference; NULL when it has none and so is no checkpoint. */
static json_t *manifest(const struct collect_task *c, const struct old *o)
{
    char *key = xasprintf("%s/%" PRId64 "-%" PRId64 "/manifest.json", c->dir, o->step, o->attempt);
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    struct mag_err err = {0};
    if (storage_get(c->storage, key, MANIFEST_MAX, &text, &len, &err) == MAG_OK &&
        mjson_parse(text, len, &doc, &err) != MAG_OK) {
        doc = NULL;
    }
    free(text);
    free(key);
    return doc;
}

/* What its step was worth: reported to this attempt, or written down with it. */
static bool value_of(const struct collect_task *c, const struct old *o, double *ret)
{
    for (int i = 0; i < c->n_scores && o->attempt == c->attempt; i++) {
        if (c->scores[i].step == o->step) {
            *ret = c->scores[i].value;
            return true;
        }
    }
    json_t *doc = manifest(c, o);
    const json_t *v = json_object_get(doc, "value");
    bool known = json_is_number(v);
    *ret = json_number_value(v);
    json_decref(doc);
    return known;
}

/* Of equal values the earliest step's. */
static void choose_best(struct collect_task *c)
{
    struct old *best = NULL;
    double top = 0;
    for (int i = 0; i < c->n; i++) {
        struct old *o = &c->found[i];
        double v = 0;
        bool settled = o->step < c->step || (o->step == c->step && o->attempt == c->attempt);
        if (settled && value_of(c, o, &v) &&
            (best == NULL || (c->maximize ? v >= top : v <= top))) {
            best = o;
            top = v;
        }
    }
    if (best != NULL) {
        best->stays = true;
    }
}

static bool is_pinned(const struct collect_task *c, const struct old *o)
{
    for (size_t i = 0; i < c->n_pins; i++) {
        if (c->pins[i].step == o->step && c->pins[i].attempt == o->attempt) {
            return true;
        }
    }
    return false;
}

static void choose(struct collect_task *c)
{
    int64_t kept = 1;
    for (int i = 0; i < c->n; i++) {
        struct old *o = &c->found[i];
        bool committed = o->step == c->step && o->attempt == c->attempt;
        bool coming = o->step > c->step && o->attempt >= c->attempt;
        json_t *doc = o->step < c->step && kept < c->keep ? manifest(c, o) : NULL;
        o->stays = committed || coming || doc != NULL || is_pinned(c, o);
        kept += doc != NULL;
        json_decref(doc);
    }
    if (c->best) {
        choose_best(c);
    }
}

static void collect_work(struct task *t)
{
    struct collect_task *c = container_of(t, struct collect_task, task);
    if (storage_list(c->storage, c->dir, visit, c, NULL) != MAG_OK || c->n == 0) {
        return;
    }
    qsort(c->found, (size_t)c->n, sizeof(c->found[0]), newest_first);
    choose(c);
    for (int i = 0; i < c->n; i++) {
        if (c->found[i].stays || fault_hit("worker.collect")) {
            continue;
        }
        char *key = key_of(c, &c->found[i]);
        if (storage_remove(c->storage, key, NULL) != MAG_OK) {
            log_warn("worker", "checkpoint-kept", "key=%s cannot be removed", key);
        }
        free(key);
    }
}

static void collect_done(struct task *t)
{
    struct collect_task *c = container_of(t, struct collect_task, task);
    free(c->dir);
    free(c->pins);
    free(c->found);
    free(c);
}

/* ---- the way in ---- */

static void take_pins(struct collect_task *c, const struct run *r, const struct wire_pin *pins,
                      size_t n)
{
    c->pins = xcalloc(n + 1, sizeof(*c->pins));
    for (size_t i = 0; i < n; i++) {
        if (pins[i].experiment == r->grant.experiment && pins[i].trial == r->grant.trial) {
            c->pins[c->n_pins++] = pins[i];
        }
    }
}

void collect_checkpoints(const struct run *r, const char *uri, const struct wire_pin *pins,
                         size_t n_pins)
{
    const char *name = strrchr(uri, '/');
    int64_t step = 0;
    int64_t by = 0;
    if (name == NULL || sscanf(name, "/%" SCNd64 "-%" SCNd64, &step, &by) != 2) {
        return;
    }
    const struct wire_grant *g = &r->grant;
    struct collect_task *c = xcalloc(1, sizeof(*c));
    c->task = (struct task){.work = collect_work, .done = collect_done};
    c->storage = r->app->storage;
    c->dir = xasprintf("experiments/%" PRId64 "/trials/%" PRId64 "/checkpoints", g->experiment,
                       g->trial);
    c->step = step;
    c->attempt = by;
    c->keep = g->checkpoint_keep > 0 ? g->checkpoint_keep : 1;
    c->best = g->checkpoint_best;
    c->maximize = strcmp(g->direction, "max") == 0;
    c->n_scores = (int)(r->n_scores < RUN_SCORES ? r->n_scores : RUN_SCORES);
    memcpy(c->scores, r->scores, (size_t)c->n_scores * sizeof(c->scores[0]));
    take_pins(c, r, pins, n_pins);
    background_submit(r->app->background, &c->task);
}
