/* SPDX-License-Identifier: Apache-2.0
 *
 * Experiments and trials as JSON. Written by hand into a buffer: these are what lists, events and
 * every answer are made of.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "driver/driver_internal.h"
#include "driver/quota.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rest_add_time(struct buf *out, int64_t wall_ms)
{
    if (wall_ms <= 0) {
        buf_adds(out, "null");
        return;
    }
    char text[32];
    clock_rfc3339(wall_ms, text);
    buf_addc(out, '"');
    buf_adds(out, text);
    buf_addc(out, '"');
}

void rest_add_json(struct buf *out, const json_t *value)
{
    if (value == NULL) {
        buf_adds(out, "null");
        return;
    }
    size_t n = json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    out->len += json_dumpb(value, buf_room(out, n), n, JSON_COMPACT | JSON_ENCODE_ANY);
    out->data[out->len] = '\0';
}

void rest_add_why(struct buf *out, const char *code, const char *text)
{
    if (code == NULL) {
        buf_adds(out, "null");
        return;
    }
    buf_adds(out, "{\"code\":");
    buf_add_json_string(out, code);
    buf_adds(out, ",\"text\":");
    buf_add_json_string(out, text != NULL ? text : "");
    buf_addc(out, '}');
}

static void add_value(struct buf *out, const struct param *p, double v)
{
    if (p->type == PARAM_CATEGORICAL) {
        buf_add_json_string(out, p->labels[(uint32_t)v]);
    } else {
        buf_add_json_number(out, p->type == PARAM_DISCRETE ? p->values[(uint32_t)v] : v);
    }
}

void rest_add_params(struct buf *out, const struct space *s, const double *point)
{
    char sep = '{';
    for (int i = 0; i < s->n; i++) {
        if (isnan(point[i])) {
            continue;
        }
        buf_addc(out, sep);
        buf_add_json_string(out, s->params[i].name);
        buf_addc(out, ':');
        add_value(out, &s->params[i], point[i]);
        sep = ',';
    }
    buf_adds(out, sep == '{' ? "{}" : "}");
}

/* ---- fields ---- */

static void key(struct buf *out, const char *name)
{
    buf_adds(out, ",\"");
    buf_adds(out, name);
    buf_adds(out, "\":");
}

static void add_int(struct buf *out, const char *name, int64_t v)
{
    key(out, name);
    buf_add_int(out, v);
}

/* null when v is below `lowest`. */
static void add_int_from(struct buf *out, const char *name, int64_t v, int64_t lowest)
{
    key(out, name);
    if (v < lowest) {
        buf_adds(out, "null");
    } else {
        buf_add_int(out, v);
    }
}

static void add_text(struct buf *out, const char *name, const char *text)
{
    key(out, name);
    if (text == NULL) {
        buf_adds(out, "null");
    } else {
        buf_add_json_string(out, text);
    }
}

static void add_time(struct buf *out, const char *name, int64_t wall_ms)
{
    key(out, name);
    rest_add_time(out, wall_ms);
}

/* ---- a trial ---- */

static void add_checkpoint(struct buf *out, const struct trial *t)
{
    key(out, "checkpoint");
    if (t->checkpoint_step < 0) {
        buf_adds(out, "null");
        return;
    }
    buf_adds(out, "{\"step\":");
    buf_add_int(out, t->checkpoint_step);
    add_text(out, "uri", t->checkpoint_uri);
    buf_addc(out, '}');
}

/* Work that waits to be taken waits for room in storage and for a worker that can: when one is not
 * there, that is the reason. */
static const char *name_obstacle(struct driver *d, const struct experiment *x, char *why,
                                 size_t size, const char *code)
{
    const struct spec *spec = study_spec(x->study);
    const char *missing = NULL;
    bool takeable = code != NULL && study_state(x->study) == STUDY_RUNNING &&
                    strcmp(code, "parallel-limit") != 0 && strcmp(code, "reserved") != 0;
    const char *full = takeable ? quota_why(d, x, why, size) : NULL;
    if (full != NULL) {
        return full;
    }
    if (!takeable || d->offer == NULL || spec->program == SPEC_ASKED ||
        d->offer(d->offer_arg, &spec->requires_, &missing)) {
        return code;
    }
    (void)snprintf(why, size, "%s", missing);
    return "no-worker";
}

static void add_trial_state(struct buf *out, struct driver *d, const struct experiment *x,
                            const struct trial *t)
{
    char why[512];
    const char *code = NULL;
    if (t->state == TRIAL_WAITING || t->state == TRIAL_PAUSED) {
        code = study_trial_why(x->study, t, why, sizeof(why));
    }
    if (t->state == TRIAL_WAITING) {
        code = name_obstacle(d, x, why, sizeof(why), code);
    }
    const char *waits =
        t->state == TRIAL_RUNNING && d->pool != NULL ? pool_waits(d->pool, x->id, t->id) : NULL;
    if (waits != NULL) {
        code = "gpu-memory";
        (void)snprintf(why, sizeof(why), "%s", waits);
    }
    add_text(out, "state", trial_state_name(t->state));
    key(out, "why");
    rest_add_why(out, code, why);
    add_text(out, "reason", t->reason);
    add_text(out, "cause", t->cause != FAIL_NONE ? fail_cause_name(t->cause) : NULL);
    add_text(out, "worker", t->holder);
    if (t->reserved) {
        add_text(out, "reserved_by", t->holder);
    }
    if (t->state == TRIAL_RUNNING && !t->from_worker) {
        /* null: it was asked without a lease and runs until it is told or reclaimed. */
        add_int_from(out, "lease_ms", t->lease_ms, 1);
    }
}

static void add_trial_origin(struct buf *out, const struct trial *t)
{
    if (t->rung > 0 || t->bracket > 0 || t->budget > 0) {
        add_int(out, "bracket", t->bracket);
        add_int(out, "rung", t->rung);
    }
    if (t->parent > 0) {
        add_int(out, "parent", t->parent);
        add_int(out, "parent_step", t->parent_step);
    }
    if (t->rerun_of > 0) {
        add_int(out, "rerun_of", t->rerun_of);
    }
    if (t->enqueued) {
        buf_adds(out, ",\"enqueued\":true");
    }
    if (t->notes != NULL) {
        add_text(out, "notes", t->notes);
    }
}

/* Every measure by name, and whether they keep the outcome constraints. */
static void add_measures(struct buf *out, const struct experiment *x, const struct trial *t,
                         bool of_point)
{
    const struct spec *spec = study_spec(x->study);
    if (spec->n_measures < 2 && spec->n_bounds == 0) {
        return;
    }
    key(out, "values");
    for (int i = 0; i < spec->n_measures; i++) {
        buf_addc(out, i == 0 ? '{' : ',');
        buf_add_json_string(out, spec->measures[i].name);
        buf_addc(out, ':');
        buf_add_json_number(out,
                            of_point ? study_measure(x->study, t, i) : trial_measure(t, i));
    }
    buf_addc(out, '}');
    if (spec->n_bounds > 0) {
        key(out, "violation");
        buf_add_json_number(out, isnan(t->value) ? NAN : trial_violation(x->study, t));
    }
}

/* What the folds of its point say together; each fold's own value stands in the first one. */
static void add_point(struct buf *out, const struct experiment *x, const struct trial *t)
{
    const struct study *s = x->study;
    if (!study_spec(s)->validation.present) {
        return;
    }
    add_int(out, "point", t->point_of);
    add_int(out, "fold", t->fold);
    add_int(out, "folds", study_folds(s));
    if (trial_is_refit(t)) {
        buf_adds(out, ",\"refit\":true");
    }
    if (trial_stands_alone(s, t)) {
        return;
    }
    struct point_stat stat = study_point_stat(s, t, 0);
    add_text(out, "point_state", trial_state_name(study_point_state(s, t)));
    key(out, "mean");
    buf_add_json_number(out, stat.mean);
    key(out, "deviation");
    buf_add_json_number(out, stat.deviation);
    add_int(out, "folds_done", stat.n);
    const struct trial *f;
    for (int i = 0; t->fold == 1 && (f = study_point_fold(s, t, i)) != NULL; i++) {
        buf_adds(out, i == 0 ? ",\"fold_values\":[" : ",");
        buf_add_json_number(out, f->value);
    }
    buf_adds(out, t->fold == 1 ? "]" : "");
}

/* The last trial, on all data: what is to be used of the search. */
static void add_refit(struct buf *out, const struct experiment *x, const struct trial *best)
{
    const struct trial *t = study_refit(x->study);
    if (t != NULL && t->point_of == best->point_of) {
        key(out, "refit");
        buf_adds(out, "{\"trial\":");
        buf_add_int(out, t->id);
        add_text(out, "state", trial_state_name(t->state));
        add_checkpoint(out, t);
        buf_addc(out, '}');
    }
}

static void add_whole_trial(struct buf *out, struct driver *d, const struct experiment *x,
                            const struct trial *t, bool best)
{
    buf_adds(out, "{\"trial\":");
    buf_add_int(out, t->id);
    add_int(out, "experiment", x->id);
    add_int(out, "attempt", t->attempt);
    add_trial_state(out, d, x, t);
    key(out, "params");
    rest_add_params(out, study_spec(x->study)->space, t->point);
    add_int_from(out, "budget", t->budget, 1);
    add_int_from(out, "step", t->step, 0);
    key(out, "value");
    buf_add_json_number(out, best ? study_measure(x->study, t, 0) : t->value);
    add_measures(out, x, t, best);
    add_int(out, "failures", t->failures);
    add_int(out, "losses", t->losses);
    add_int(out, "late", t->late);
    if (t->peak_mb > 0) {
        add_int(out, "memory_mb", t->peak_mb);
    }
    add_trial_origin(out, t);
    add_point(out, x, t);
    add_checkpoint(out, t);
    add_time(out, "created", t->created_ms);
    add_time(out, "started", t->started_ms);
    add_time(out, "ended", t->ended_ms);
    key(out, "where");
    rest_add_json(out, t->where);
    if (best) {
        add_refit(out, x, t);
    }
    buf_addc(out, '}');
}

void rest_add_trial(struct buf *out, struct driver *d, const struct experiment *x,
                    const struct trial *t)
{
    add_whole_trial(out, d, x, t, false);
}

void rest_add_best(struct buf *out, struct driver *d, const struct experiment *x,
                   const struct trial *t)
{
    add_whole_trial(out, d, x, t, true);
}

/* ---- an experiment ---- */

static void add_counts(struct buf *out, const struct experiment *x)
{
    int64_t counts[TRIAL_STATES];
    study_counts(x->study, counts);
    key(out, "counts");
    for (int i = 0; i < TRIAL_STATES; i++) {
        buf_addf(out, "%c\"%s\":%lld", i == 0 ? '{' : ',', trial_state_name((enum trial_state)i),
                 (long long)counts[i]);
    }
    buf_addc(out, '}');
    if (study_spec(x->study)->validation.present) {
        add_int(out, "folds", study_folds(x->study));
        add_int(out, "points", study_points(x->study));
        add_int(out, "points_ended", study_points_ended(x->study));
    }
}

static void add_limits(struct buf *out, const struct experiment *x)
{
    const struct spec_limits *l = study_limits(x->study);
    key(out, "limits");
    buf_adds(out, "{\"time\":");
    buf_add_json_number(out, l->time_ms > 0 ? (double)l->time_ms / 1000 : NAN);
    add_int_from(out, "trials", l->trials, 1);
    add_int_from(out, "parallel", l->parallel, 1);
    add_int_from(out, "storage", l->storage_bytes, 1);
    key(out, "target");
    buf_add_json_number(out, l->has_target ? l->target : NAN);
    buf_addc(out, '}');
}

/* How often programs failed, and the newest reason: of a trial that is tried again, too. */
static void add_failures(struct buf *out, const struct experiment *x)
{
    const struct trial *last = NULL;
    int64_t n = study_failures(x->study, &last);
    key(out, "failures");
    buf_adds(out, "{\"count\":");
    buf_add_int(out, n);
    if (last != NULL) {
        add_int(out, "trial", last->id);
        add_int(out, "retries", last->failures - (last->state == TRIAL_FAILED ? 1 : 0));
        add_text(out, "cause", last->cause != FAIL_NONE ? fail_cause_name(last->cause) : NULL);
        add_text(out, "reason", last->reason);
    }
    buf_addc(out, '}');
}

static void add_progress(struct buf *out, struct driver *d, const struct experiment *x)
{
    char why[512] = "";
    enum study_state state = study_state(x->study);
    const char *code = study_why(x->study, why, sizeof(why));
    if (code != NULL && strcmp(code, "no-taker") == 0) {
        code = name_obstacle(d, x, why, sizeof(why), code);
    }
    add_text(out, "state", study_state_name(state));
    key(out, "why");
    rest_add_why(out, code, why);
    add_counts(out, x);
    add_failures(out, x);
    const struct trial *best = study_best(x->study);
    key(out, "best");
    if (best != NULL) {
        rest_add_best(out, d, x, best);
    } else {
        buf_adds(out, "null");
    }
    double eta = study_state_is_final(state) ? -1 : study_eta_s(x->study, clock_mono_ns());
    key(out, "eta");
    buf_add_json_number(out, eta >= 0 ? round(eta * 10) / 10 : NAN);
    key(out, "active");
    buf_add_json_number(out, (double)study_up_ms(x->study, clock_mono_ns()) / 1000);
    add_time(out, "created", x->created_ms);
    add_time(out, "started", study_started_ms(x->study));
    add_time(out, "ended", study_ended_ms(x->study));
}

static void add_broken(struct buf *out, const struct experiment *x)
{
    buf_adds(out, ",\"name\":\"\",\"project\":\"default\",\"state\":\"failed\",\"why\":");
    rest_add_why(out, "not-replayed", x->broken);
    buf_adds(out, ",\"counts\":{},\"best\":null,\"eta\":null,\"started\":null,\"ended\":null");
    add_time(out, "created", x->created_ms);
    buf_addc(out, '}');
}

/* As resolved, without what was read from earlier experiments: that may be long, and is counted. */
static void add_spec(struct buf *out, const struct spec *spec)
{
    key(out, "spec");
    if (json_object_get(spec->warm_start, "recorded") == NULL) {
        rest_add_json(out, spec->resolved);
        return;
    }
    json_t *copy = json_copy(spec->resolved);
    json_t *warm = json_copy(spec->warm_start);
    (void)json_object_del(warm, "recorded");
    (void)json_object_set_new(copy, "warm_start", warm);
    rest_add_json(out, copy);
    json_decref(copy);
}

/* Where its trials' files are, as workers and `magpie tensorboard` find them. */
static void add_place(struct buf *out, const struct driver *d, const struct experiment *x)
{
    char *place = xasprintf("%s/%s/experiments/%lld", d->storage_url, store_uuid(d->store),
                            (long long)x->id);
    add_text(out, "storage", place);
    free(place);
}

static void add_warm_start(struct buf *out, const struct spec *spec)
{
    json_t *summary = spec_warm_summary(spec);
    key(out, "warm_start");
    rest_add_json(out, summary);
    json_decref(summary);
}

void rest_add_experiment(struct buf *out, struct driver *d, const struct experiment *x, bool full)
{
    buf_adds(out, "{\"id\":");
    buf_add_int(out, x->id);
    if (x->broken != NULL) {
        add_broken(out, x);
        return;
    }
    const struct spec *spec = study_spec(x->study);
    add_text(out, "name", spec->name != NULL ? spec->name : "");
    add_text(out, "project", spec->project);
    add_progress(out, d, x);
    key(out, "objective");
    buf_adds(out, "{\"metric\":");
    buf_add_json_string(out, spec->metric);
    buf_addf(out, ",\"direction\":\"%s\"}", spec->maximize ? "max" : "min");
    if (spec->n_objectives > 1) {
        int n = 0;
        json_t *objectives = spec_objectives_json(spec);
        (void)study_front(x->study, &n);
        key(out, "objectives");
        rest_add_json(out, objectives);
        add_int(out, "pareto", n);
        json_decref(objectives);
    }
    add_text(out, "algorithm",
             json_string_value(
                 json_object_get(json_object_get(spec->resolved, "optimizer"), "algorithm")));
    key(out, "tags");
    rest_add_json(out, study_tags(x->study));
    add_text(out, "notes", study_notes(x->study));
    add_limits(out, x);
    add_int(out, "stored", x->used_bytes);
    if (d->read_only) {
        buf_adds(out, ",\"read_only\":true");
    }
    if (full) {
        add_spec(out, spec);
        add_place(out, d, x);
        add_warm_start(out, spec);
        add_text(out, "auto", spec->auto_why);
        add_int(out, "events", study_seq(x->study));
    }
    buf_addc(out, '}');
}
