/* SPDX-License-Identifier: Apache-2.0
 *
 * What an experiment holds in shared storage, as its record tells: each checkpoint that a worker
 * committed with its size, less those that its worker removes by rule (as worker/collect.c does)
 * and those that a collection found gone; and what ended attempts wrote. Nobody lists a storage for
 * that.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GONE_MAX 1000 /* checkpoints in one event */

void study_usage(const struct study *s, struct study_usage *ret)
{
    *ret = s->usage;
}

/* ---- coming ---- */

static int64_t bytes_of(const char *meta)
{
    json_t *doc = NULL;
    int64_t bytes = 0;
    if (meta != NULL && mjson_parse(meta, strlen(meta), &doc, NULL) == MAG_OK) {
        bytes = json_integer_value(json_object_get(doc, "bytes"));
        json_decref(doc);
    }
    return bytes > 0 && bytes < INT64_C(1) << 53 ? bytes : 0;
}

/* What the step was worth, as far as the record has it at hand. */
static double score_of(const struct trial *t, const struct event *ev)
{
    for (int i = ev->n_points - 1; i >= 0; i--) {
        const struct event_point *p = &ev->points[i];
        for (int k = 0; k < p->n_values && p->step == ev->checkpoint_step; k++) {
            if (p->values[k].name == NULL) {
                return p->values[k].value;
            }
        }
    }
    return t->value_step == ev->checkpoint_step ? t->value : (double)NAN;
}

static void drop(struct study *s, struct trial *t, int i)
{
    s->usage.checkpoints--;
    s->usage.checkpoint_bytes -= t->kept[i].bytes;
    t->n_kept--;
    memmove(&t->kept[i], &t->kept[i + 1], (size_t)(t->n_kept - i) * sizeof(*t->kept));
}

/* By step, then attempt; equal ones are one and the same. */
static int place_of(const struct trial *t, const struct trial_kept *k)
{
    int i = t->n_kept;
    while (i > 0 && (t->kept[i - 1].step > k->step ||
                     (t->kept[i - 1].step == k->step && t->kept[i - 1].attempt > k->attempt))) {
        i--;
    }
    return i;
}

static void insert(struct study *s, struct trial *t, const struct trial_kept *k)
{
    int i = place_of(t, k);
    if (i > 0 && t->kept[i - 1].step == k->step && t->kept[i - 1].attempt == k->attempt) {
        drop(s, t, --i);
    }
    t->kept = xreallocarray(t->kept, (size_t)t->n_kept + 1, sizeof(*t->kept));
    memmove(&t->kept[i + 1], &t->kept[i], (size_t)(t->n_kept - i) * sizeof(*t->kept));
    t->kept[i] = *k;
    t->n_kept++;
    s->usage.checkpoints++;
    s->usage.checkpoint_bytes += k->bytes;
}

static bool is_pin(const struct study_pin *pins, int n, const struct trial_kept *k)
{
    for (int i = 0; i < n; i++) {
        if (pins[i].step == k->step && pins[i].attempt == k->attempt) {
            return true;
        }
    }
    return false;
}

/* Of equal values the earliest step's, -1 = none. */
static int best_of(const struct study *s, const struct trial *t)
{
    int best = -1;
    for (int i = 0; i < t->n_kept; i++) {
        double v = t->kept[i].score;
        if (!isnan(v) && (best < 0 || study_is_better(s, v, t->kept[best].score))) {
            best = i;
        }
    }
    return best;
}

/* Those that the worker removes with this commit. */
static void trim(struct study *s, struct trial *t)
{
    struct study_pin *pins = NULL;
    int n_pins = study_pins(s, t->id, &pins);
    int best = s->spec->checkpoint_best ? best_of(s, t) : -1;
    int64_t newer = 0;
    for (int i = t->n_kept - 1; i >= 0; i--) {
        const struct trial_kept *k = &t->kept[i];
        bool unknown = s->spec->checkpoint_best && isnan(k->score);
        if (newer >= s->spec->checkpoint_keep && i != best && !unknown &&
            !is_pin(pins, n_pins, k)) {
            drop(s, t, i);
            best -= i < best;
        } else {
            newer++;
        }
    }
    free(pins);
}

void usage_checkpoint(struct study *s, struct trial *t, const struct event *ev)
{
    struct study_pin name;
    bool ours = study_checkpoint_name(ev->checkpoint_uri, &name) && name.trial == t->id &&
                ev->checkpoint_meta != NULL;
    if (ours) {
        struct trial_kept k = {.step = name.step,
                               .attempt = name.attempt,
                               .bytes = bytes_of(ev->checkpoint_meta),
                               .score = score_of(t, ev)};
        insert(s, t, &k);
        trim(s, t);
    }
}

void usage_attempt(struct study *s, const struct event *ev)
{
    int64_t bytes = json_integer_value(json_object_get(ev->detail, "stored"));
    if (bytes > 0 && bytes < INT64_C(1) << 53) {
        s->usage.log_bytes += bytes;
    }
}

/* ---- going ---- */

static bool is_row(const json_t *row, struct study_pin *ret)
{
    int64_t *const to[] = {&ret->trial, &ret->step, &ret->attempt};
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(row, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0) {
            return false;
        }
        *to[i] = json_integer_value(v);
    }
    return json_array_size(row) == 3;
}

static bool take_gone(struct study *s, const struct study_pin *p)
{
    struct trial *t = trial_at(s, p->trial);
    for (int i = 0; t != NULL && i < t->n_kept; i++) {
        if (t->kept[i].step == p->step && t->kept[i].attempt == p->attempt) {
            drop(s, t, i);
            return true;
        }
    }
    return false;
}

enum mag_status handle_collected(struct study *s, struct event *ev, struct mag_err *err)
{
    const json_t *gone = json_object_get(ev->detail, "gone");
    bool any = false;
    size_t i = 0;
    const json_t *row = NULL;
    bool sound = json_is_array(gone) && json_array_size(gone) <= GONE_MAX &&
                 json_object_size(ev->detail) == 1;
    struct study_pin p;
    json_array_foreach(gone, i, row)
    {
        sound = sound && is_row(row, &p);
    }
    if (!sound) {
        return mag_fail(err, ev->decided ? MAG_CORRUPT : MAG_INVALID,
                        "/gone: must be a list of at most %d [trial, step, attempt]", GONE_MAX);
    }
    json_array_foreach(gone, i, row)
    {
        any = (is_row(row, &p) && take_gone(s, &p)) || any;
    }
    s->answered = !any;
    return MAG_OK;
}
