/* SPDX-License-Identifier: Apache-2.0
 *
 * Tell: the end of an attempt from its holder's side - completed, failed or given back. Repeated,
 * it gets the same answer.
 */
#include "driver/study_report.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the value ---- */

/* What the trial ends with: told, else the attempt's last report, else an earlier one's. */
static double final_value(const struct event *ev, const struct trial *t)
{
    if (ev->has_value) {
        return ev->value;
    }
    return isnan(t->attempt_value) ? t->value : t->attempt_value;
}

/* The message brings this measure, at some step or told. */
static bool brings(const struct event *ev, const char *name)
{
    for (int i = 0; i < ev->n_points; i++) {
        for (int k = 0; k < ev->points[i].n_values; k++) {
            const char *n = ev->points[i].values[k].name;
            if (n != NULL && strcmp(n, name) == 0) {
                return true;
            }
        }
    }
    for (int k = 0; k < ev->n_values; k++) {
        if (strcmp(ev->values[k].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static enum mag_status check_measures(const struct study *s, const struct event *ev,
                                      const struct trial *t, struct mag_err *err)
{
    for (int i = 1; i < s->spec->n_measures; i++) {
        const char *name = s->spec->measures[i].name;
        if (isnan(t->extras[i - 1]) && !brings(ev, name)) {
            return mag_fail(err, MAG_INVALID,
                            "trial %lld reported no \"%s\": tell it with \"values\": "
                            "{\"%s\": number}, or as \"failed\" with a \"reason\"",
                            (long long)t->id, name, name);
        }
    }
    return MAG_OK;
}

static enum mag_status check_value(const struct study *s, const struct event *ev,
                                   const struct trial *t, struct mag_err *err)
{
    double ignored;
    if (trial_is_refit(t)) {
        return MAG_OK; /* on all data there is nothing left to measure by */
    }
    enum mag_status st = check_measures(s, ev, t, err);
    if (st != MAG_OK) {
        return st;
    }
    for (int i = 0; i < ev->n_points; i++) {
        if (point_objective(&ev->points[i], &ignored)) {
            return MAG_OK;
        }
    }
    if (!ev->has_value && isnan(final_value(ev, t))) {
        return mag_fail(err, MAG_INVALID,
                        "trial %lld reported no value: tell it with \"value\", or as \"failed\" "
                        "with a \"reason\"",
                        (long long)t->id);
    }
    return MAG_OK;
}

/* ---- completed ---- */

/* At its budget a trial's end is the report of that step, unless the optimizer has seen it. A value
 * told without any step is the budget's. */
static bool is_report(const struct event *ev, const struct trial *t)
{
    bool there = t->attempt_step >= t->budget || (t->attempt_step < 0 && ev->has_value);
    return t->budget > 0 && there && t->seen_step < t->budget;
}

static void decide_told(struct study *s, struct event *ev, struct trial *t, double value, int bad,
                        enum report_action action, const char *rule_why)
{
    if (isnan(value) && !trial_is_refit(t)) {
        ev->state = TRIAL_FAILED;
        event_why(ev, "objective", "%s \"%s\" was told as a number that is not finite",
                  bad < s->spec->n_objectives ? "the objective" : "the constrained metric",
                  s->spec->measures[bad].name);
    } else if (trial_meets_target(s, t, value)) {
        ev->state = TRIAL_COMPLETED;
        event_why(ev, "target-reached", "reached the target %.10g with %.10g", s->limits.target,
                  value);
    } else if (action != ACT_CONTINUE) {
        decide_action(s, ev, t, action, t->budget, rule_why);
    } else {
        ev->state = TRIAL_COMPLETED;
    }
}

static enum mag_status take_completed(struct study *s, struct event *ev, struct trial *t,
                                      struct mag_err *err)
{
    int bad = 0;
    bool sound = measures_note(s, t, ev->values, ev->n_values, &bad);
    double value = sound ? final_value(ev, t) : NAN;
    enum report_action action = ACT_CONTINUE;
    char *rule_why = NULL;
    if (is_report(ev, t) && !isnan(value)) {
        attempt_note(trial_attempt_at(t, ev->attempt), t->budget);
        t->step = t->budget > t->step ? t->budget : t->step;
        action = show_value(s, t, t->budget, value, &rule_why);
    }
    if (!isnan(value)) {
        t->value = value;
        t->value_step = t->step;
        t->attempt_value = value;
    }
    if (!ev->decided) {
        decide_told(s, ev, t, value, bad, action, rule_why);
    }
    free(rule_why);
    if (ev->state == TRIAL_COMPLETED && trial_meets_target(s, t, value)) {
        s->target_trial = t->id;
    }
    if (ev->state == TRIAL_PAUSED || ev->state == TRIAL_STOPPED) {
        best_reported(s, t);
    }
    return end_attempt(s, ev, t, ev->state, err);
}

/* ---- failed, lost ---- */

static enum mag_status take_failed(struct study *s, struct event *ev, struct trial *t,
                                   struct mag_err *err)
{
    enum fail_cause cause = ev->cause != FAIL_NONE ? ev->cause : FAIL_CLIENT;
    if (!ev->decided) {
        ev->state = decide_failure(s, t, cause, ev);
    }
    if (ev->state != TRIAL_WAITING && ev->state != TRIAL_FAILED) {
        return event_corrupt(ev, err, "a failed trial becomes %s", trial_state_name(ev->state));
    }
    enact_failure(s, t, ev->state, cause, ev->reason);
    return MAG_OK;
}

static enum mag_status take_lost(struct study *s, struct event *ev, struct trial *t,
                                 struct mag_err *err)
{
    if (!ev->decided) {
        ev->state = decide_loss(s, t, ev->uncounted);
    }
    if (ev->state != TRIAL_WAITING && ev->state != TRIAL_FAILED) {
        return event_corrupt(ev, err, "a lost trial becomes %s", trial_state_name(ev->state));
    }
    enact_loss(s, t, ev->state, ev->uncounted, ev->reason);
    return MAG_OK;
}

/* ---- the handler ---- */

static void note_duration(struct study *s, const struct trial *t)
{
    if (s->now_ns > 0 && t->attempt_ns > 0 && s->now_ns > t->attempt_ns) {
        double ms = (double)(s->now_ns - t->attempt_ns) / 1e6;
        s->attempt_ms = s->attempt_ms > 0 ? 0.9 * s->attempt_ms + 0.1 * ms : ms;
    }
}

/* Of the newest attempt; the worker tells what it saw. */
static void note_memory(const struct event *ev, struct trial *t)
{
    int64_t mb = json_integer_value(json_object_get(ev->detail, "peak_mb"));
    t->peak_mb = mb > 0 ? mb : t->peak_mb;
    t->need_mb = json_integer_value(json_object_get(ev->detail, "need_mb"));
}

static enum mag_status take_tell(struct study *s, struct event *ev, struct trial *t,
                                 struct mag_err *err)
{
    struct trial_attempt *a = trial_attempt_at(t, ev->attempt);
    enum mag_status st;
    if (t->state == TRIAL_WAITING) {
        trial_start(s, t);
    }
    if (ev->where != NULL) {
        json_decref(t->where);
        t->where = study_where(s, ev->where);
    }
    (void)checkpoint_take(s, ev, t);
    note_memory(ev, t);
    usage_attempt(s, ev);
    if (points_take(s, ev, t)) {
        st = end_attempt(s, ev, t, ev->state, err);
    } else if (ev->told == TRIAL_COMPLETED) {
        note_duration(s, t);
        st = take_completed(s, ev, t, err);
    } else if (ev->told == TRIAL_FAILED) {
        st = take_failed(s, ev, t, err);
    } else {
        st = take_lost(s, ev, t, err);
    }
    if (st == MAG_OK) {
        a->told = true;
        a->told_state = t->state;
        event_after(ev, t, true);
    }
    return st;
}

/* The attempt is over by other means. A tell after the pause that its own report brought is no
 * news. */
static enum mag_status over_tell(struct study *s, struct event *ev, struct trial *t,
                                 enum standing standing)
{
    struct trial_attempt *a = trial_attempt_at(t, ev->attempt);
    bool paused = a->action == ACT_PAUSE && ev->told == TRIAL_COMPLETED;
    bool saves = standing == STANDS_HELD && checkpoint_take(s, ev, t);
    if (!ev->decided) {
        ev->late = !paused && !saves;
        s->answered = paused && !saves;
    }
    if (!s->answered) {
        usage_attempt(s, ev);
    }
    if (ev->late) {
        t->late++;
        a->told = a->told_late = true;
        a->told_state = t->state;
        study_touch(s, t);
    }
    event_after(ev, t, saves);
    if (!ev->decided && paused) {
        ev->state = a->told_state;
    }
    return MAG_OK;
}

static enum mag_status check_told(const struct event *ev, struct mag_err *err)
{
    if (ev->told != TRIAL_COMPLETED && ev->told != TRIAL_FAILED && ev->told != TRIAL_WAITING) {
        return mag_fail(err, ev->decided ? MAG_CORRUPT : MAG_INVALID,
                        "\"state\" must be \"completed\", \"failed\" or \"lost\"");
    }
    return MAG_OK;
}

enum mag_status handle_tell(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = event_attempt(s, ev, &t, err);
    if (st == MAG_OK) {
        st = check_told(ev, err);
    }
    if (st == MAG_OK) {
        st = points_normalise(s, ev, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    ev->value = isfinite(ev->value) ? ev->value + 0.0 : NAN;
    for (int k = 0; k < ev->n_values; k++) {
        double *v = &ev->values[k].value;
        *v = isfinite(*v) ? *v + 0.0 : NAN;
    }
    const struct trial_attempt *a = trial_attempt_at(t, ev->attempt);
    if (!ev->decided && a->told) {
        event_after(ev, t, false);
        ev->state = a->told_state;
        ev->late = a->told_late;
        s->answered = true;
        return MAG_OK;
    }
    enum standing standing = standing_of(t, ev->attempt);
    if (standing == STANDS_HELD || standing == STANDS_LATE) {
        return over_tell(s, ev, t, standing);
    }
    if (ev->decided && ev->late) {
        return event_corrupt(ev, err, "it is not late");
    }
    if (!ev->decided && ev->told == TRIAL_COMPLETED) {
        st = check_value(s, ev, t, err);
        if (st != MAG_OK) {
            return st;
        }
    }
    return take_tell(s, ev, t, err);
}
