/* SPDX-License-Identifier: Apache-2.0
 *
 * What people (and the clock) do to an experiment or a trial: pause, resume, cancel, extend, note.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TAGS_MAX 64

static enum mag_status ended(const struct study *s, struct mag_err *err, const char *verb)
{
    return mag_fail(err, MAG_CONFLICT, "the experiment is %s already and cannot be %s",
                    study_state_name(s->state), verb);
}

/* ---- pause, resume, cancel, time ---- */

enum mag_status handle_pause(struct study *s, struct event *ev, struct mag_err *err)
{
    bool stop = json_is_true(json_object_get(ev->detail, "stop"));
    if (!ev->decided) {
        if (study_state_is_final(s->state)) {
            return ended(s, err, "paused");
        }
        if (s->state == STUDY_PAUSED && stop == s->stop_at_checkpoint) {
            s->answered = true;
            return MAG_OK;
        }
        study_decide(ev, STUDY_PAUSED, "experiment-paused", "%s",
                     ev->reason != NULL ? ev->reason : "paused by a user; resume it to go on");
    }
    s->stop_at_checkpoint = stop;
    return MAG_OK;
}

enum mag_status handle_resume(struct study *s, struct event *ev, struct mag_err *err)
{
    if (!ev->decided && study_state_is_final(s->state)) {
        return ended(s, err, "resumed; extend it to go on");
    }
    if (s->state == STUDY_RUNNING) {
        s->answered = true;
        return MAG_OK;
    }
    if (!ev->decided) {
        ev->study = STUDY_RUNNING;
        ev->changed = true;
    }
    s->failures_in_row = 0;
    return MAG_OK;
}

enum mag_status handle_cancel(struct study *s, struct event *ev, struct mag_err *err)
{
    if (ev->decided) {
        return MAG_OK;
    }
    if (s->state == STUDY_CANCELLED) {
        s->answered = true;
        return MAG_OK;
    }
    if (study_state_is_final(s->state)) {
        return ended(s, err, "cancelled");
    }
    study_decide(ev, STUDY_CANCELLED, "cancelled", "%s",
                 ev->reason != NULL ? ev->reason : "cancelled by a user");
    for (int64_t id = 1; id <= s->n_trials; id++) {
        const struct trial *t = trial_at(s, id);
        if (!trial_state_is_final(t->state)) {
            event_add_move(ev, id, TRIAL_CANCELLED);
        }
    }
    return MAG_OK;
}

enum mag_status handle_time_up(struct study *s, struct event *ev, struct mag_err *err)
{
    if (ev->decided) {
        return MAG_OK;
    }
    if (study_state_is_final(s->state)) {
        s->answered = true;
        return MAG_OK;
    }
    study_decide(ev, STUDY_COMPLETED, "time-up", "the time limit of %.10g s is used up",
                 (double)s->limits.time_ms / 1000);
    study_decide_stop_all(s, ev);
    return MAG_OK;
}

/* ---- extend ---- */

static bool number_of(const json_t *v, double *ret)
{
    *ret = json_number_value(v);
    return json_is_number(v) && isfinite(*ret);
}

static void read_time(const json_t *v, struct mjson_issues *is, int64_t *ret)
{
    double seconds = 0;
    bool ok;
    if (json_is_string(v)) {
        ok = duration_parse(json_string_value(v), ret) == MAG_OK;
    } else {
        ok = number_of(v, &seconds) && seconds >= 0 && seconds <= 315360000.0;
        *ret = ok ? (int64_t)llround(seconds * 1000) : *ret;
    }
    if (!ok) {
        mjson_issue(is, "/time",
                    "must be a duration such as \"2h\" or a number of seconds, 0 for no limit");
    }
}

static void read_whole(const json_t *object, const char *name, int64_t max, struct mjson_issues *is,
                       int64_t *ret)
{
    const json_t *v = json_object_get(object, name);
    if (v == NULL) {
        return;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max) {
        mjson_issue_at(is, "", name, "must be a whole number, 0 (no limit) to %lld",
                       (long long)max);
        return;
    }
    *ret = json_integer_value(v);
}

/* Bytes, or a text such as "20GB"; 0 for no limit. */
static void read_storage(const json_t *v, struct mjson_issues *is, int64_t *ret)
{
    int64_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    if (v == NULL) {
        return;
    }
    if (json_is_string(v) && size_parse(json_string_value(v), &n) != MAG_OK) {
        n = -1;
    }
    if ((n != 0 && n < SPEC_STORAGE_MIN) || n > SPEC_STORAGE_MAX) {
        mjson_issue(is, "/storage",
                    "must be a size such as \"20GB\" or a number of bytes, 0 for no limit");
        return;
    }
    *ret = n;
}

/* {"trials": new total, "parallel": n, "time": new total of active time, "target": number or null,
 * "storage": bytes}. */
static void read_limits(const json_t *detail, struct mjson_issues *is, struct spec_limits *limits)
{
    static const char *const known[] = {"trials", "parallel", "time", "target", "storage", NULL};
    mjson_check_keys(detail, known, "", is);
    read_whole(detail, "trials", SPEC_TRIALS_MAX, is, &limits->trials);
    read_whole(detail, "parallel", SPEC_TRIALS_MAX, is, &limits->parallel);
    const json_t *v = json_object_get(detail, "time");
    if (v != NULL) {
        read_time(v, is, &limits->time_ms);
    }
    read_storage(json_object_get(detail, "storage"), is, &limits->storage_bytes);
    v = json_object_get(detail, "target");
    if (v != NULL && json_is_null(v)) {
        limits->has_target = false;
        limits->target = 0;
    } else if (v != NULL) {
        limits->has_target = number_of(v, &limits->target);
        if (!limits->has_target) {
            mjson_issue(is, "/target", "must be a number, or null for no target");
        }
    }
}

static enum mag_status check_limits(const struct study *s, const struct spec_limits *limits,
                                    struct mag_err *err)
{
    const struct trial *best = study_best(s);
    int64_t up_ms = s->up_ns / MAG_NS_PER_MS;
    if (limits->trials > 0 && limits->trials < s->n_points) {
        return mag_fail(err, MAG_INVALID,
                        "/trials: is the new total; the experiment has created %lld %s already",
                        (long long)s->n_points, study_folds(s) > 1 ? "points" : "trials");
    }
    if (limits->trials > SPEC_TRIALS_MAX / study_folds(s)) {
        return mag_fail(err, MAG_INVALID, "/trials: %lld points of %d folds are more than %d trials",
                        (long long)limits->trials, study_folds(s), SPEC_TRIALS_MAX);
    }
    if (limits->time_ms > 0 && limits->time_ms <= up_ms) {
        return mag_fail(err, MAG_INVALID,
                        "/time: is the new total; the experiment has run for %.10g s already, give "
                        "more than that",
                        (double)up_ms / 1000);
    }
    bool met = limits->has_target && best != NULL && best->state == TRIAL_COMPLETED &&
               !study_is_better(s, limits->target, study_measure(s, best, 0));
    if (met) {
        return mag_fail(
            err, MAG_INVALID,
            "/target: trial %lld has reached %.10g already; give a target beyond that, or null",
            (long long)best->id, study_measure(s, best, 0));
    }
    return MAG_OK;
}

static enum mag_status read_extension(const struct study *s, const struct event *ev,
                                      struct spec_limits *limits, struct mag_err *err)
{
    struct mjson_issues is = {0};
    enum mag_status bad = ev->decided ? MAG_CORRUPT : MAG_INVALID;
    enum mag_status st = MAG_OK;
    *limits = s->limits;
    if (!json_is_object(ev->detail) || json_object_size(ev->detail) == 0) {
        return mag_fail(err, bad,
                        "say what to extend: \"trials\", \"time\", \"target\", \"parallel\" or "
                        "\"storage\"");
    }
    read_limits(ev->detail, &is, limits);
    if (is.total > 0) {
        st = mag_fail(err, bad, "%s: %s", is.items[0].pointer, is.items[0].text);
    } else if (!ev->decided) {
        st = check_limits(s, limits, err);
    }
    mjson_issues_fini(&is);
    return st;
}

enum mag_status handle_extend(struct study *s, struct event *ev, struct mag_err *err)
{
    struct spec_limits limits;
    if (!ev->decided && s->state == STUDY_CANCELLED) {
        return ended(s, err, "extended");
    }
    enum mag_status st = read_extension(s, ev, &limits, err);
    if (st != MAG_OK) {
        return st;
    }
    s->limits = limits;
    refit_forget(s);
    study_unpeek(s);
    if (!ev->decided) {
        ev->changed = true;
        ev->study = s->state == STUDY_COMPLETED ? STUDY_RUNNING : s->state;
    }
    return MAG_OK;
}

/* ---- one trial; notes ---- */

enum mag_status handle_trial_cancel(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = event_trial(s, ev, &t, err);
    if (st != MAG_OK) {
        return st;
    }
    if (t->state == TRIAL_CANCELLED) {
        s->answered = true;
        event_after(ev, t, false);
        return MAG_OK;
    }
    if (trial_state_is_final(t->state)) {
        return mag_fail(err, ev->decided ? MAG_CORRUPT : MAG_CONFLICT,
                        "trial %lld has ended already: it is %s", (long long)t->id,
                        trial_state_name(t->state));
    }
    trial_set_reason(t, ev->reason != NULL ? ev->reason : "cancelled by a user");
    trial_end(s, t, TRIAL_CANCELLED);
    event_after(ev, t, true);
    return MAG_OK;
}

static enum mag_status check_note(const struct event *ev, struct mag_err *err)
{
    static const char *const known[] = {"tags", "notes", NULL};
    const json_t *tags = json_object_get(ev->detail, "tags");
    const json_t *notes = json_object_get(ev->detail, "notes");
    struct mjson_issues is = {0};
    mjson_check_keys(ev->detail, known, "", &is);
    if (tags == NULL && notes == NULL) {
        mjson_issue(&is, "", "give \"notes\", \"tags\" or both");
    }
    if (notes != NULL && (!json_is_string(notes) || json_string_length(notes) > EVENT_TEXT_MAX)) {
        mjson_issue(&is, "/notes", "must be a string of at most %d bytes", EVENT_TEXT_MAX);
    }
    if (tags != NULL &&
        (ev->trial != 0 || !json_is_array(tags) || json_array_size(tags) > TAGS_MAX)) {
        mjson_issue(&is, "/tags",
                    ev->trial != 0 ? "belong to experiments; a trial has notes"
                                   : "must be an array of at most 64 strings");
    }
    size_t i;
    json_t *tag;
    json_array_foreach(tags, i, tag)
    {
        if (!json_is_string(tag) || json_string_length(tag) > EVENT_CLIENT_MAX) {
            mjson_issue(&is, "/tags", "must be strings of at most %d bytes", EVENT_CLIENT_MAX);
            break;
        }
    }
    enum mag_status st = MAG_OK;
    if (is.total > 0) {
        st = mag_fail(err, ev->decided ? MAG_CORRUPT : MAG_INVALID, "%s: %s", is.items[0].pointer,
                      is.items[0].text);
    }
    mjson_issues_fini(&is);
    return st;
}

static void set_notes(char **slot, const json_t *notes)
{
    if (notes != NULL) {
        free(*slot);
        *slot = xstrdup(json_string_value(notes));
    }
}

enum mag_status handle_note(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = ev->trial != 0 ? event_trial(s, ev, &t, err) : MAG_OK;
    if (st == MAG_OK) {
        st = check_note(ev, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    set_notes(t != NULL ? &t->notes : &s->notes, json_object_get(ev->detail, "notes"));
    json_t *tags = json_object_get(ev->detail, "tags");
    if (tags != NULL) {
        json_decref(s->tags);
        s->tags = json_deep_copy(tags);
    }
    if (t != NULL) {
        study_touch(s, t);
        event_after(ev, t, false);
    }
    if (!ev->decided) {
        ev->changed = true;
    }
    return MAG_OK;
}
