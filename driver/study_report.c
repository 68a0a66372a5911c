/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports: metric points and checkpoints of a trial. The optimizer sees the first value of each
 * rising step up to the budget, and what it (or the early-stopping rule, or the target) answers may
 * end the attempt.
 */
#include "driver/study_report.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- making the points uniform ---- */

static bool is_sorted(const struct event *ev)
{
    for (int i = 1; i < ev->n_points; i++) {
        if (ev->points[i - 1].step > ev->points[i].step) {
            return false;
        }
    }
    return true;
}

/* Stable: of equal steps the one that came first stays first. */
static void sort_points(struct event *ev)
{
    if (is_sorted(ev)) {
        return;
    }
    for (int i = 1; i < ev->n_points; i++) {
        struct event_point p = ev->points[i];
        int k = i;
        while (k > 0 && ev->points[k - 1].step > p.step) {
            ev->points[k] = ev->points[k - 1];
            k--;
        }
        ev->points[k] = p;
    }
}

static void normalise_value(const struct study *s, struct event_value *v)
{
    if (v->name != NULL && strcmp(v->name, s->spec->metric) == 0) {
        free(v->name);
        v->name = NULL;
    }
    v->value = isfinite(v->value) ? v->value + 0.0 : NAN;
}

enum mag_status points_normalise(const struct study *s, struct event *ev, struct mag_err *err)
{
    for (int i = 0; i < ev->n_points; i++) {
        struct event_point *p = &ev->points[i];
        if (p->step < 0) {
            return mag_fail(err, MAG_INVALID,
                            "step %lld is negative; steps are counted up from 0 or 1",
                            (long long)p->step);
        }
        if (p->n_values > EVENT_VALUES_MAX) {
            return mag_fail(err, MAG_LIMIT, "more than %d values at step %lld", EVENT_VALUES_MAX,
                            (long long)p->step);
        }
        for (int k = 0; k < p->n_values; k++) {
            normalise_value(s, &p->values[k]);
        }
    }
    sort_points(ev);
    return MAG_OK;
}

bool point_objective(const struct event_point *p, double *ret)
{
    for (int k = 0; k < p->n_values; k++) {
        if (p->values[k].name == NULL) {
            *ret = p->values[k].value;
            return true;
        }
    }
    return false;
}

/* ---- repeated messages ---- */

/* Only where the attempt's steps came in order, without gaps, can a repeat be told from news; and
 * only the objective is remembered. Anything else is recorded again, which does no harm. */
static bool is_repeat(const struct trial_attempt *a, const struct event *ev, bool *ret_end)
{
    for (int i = 0; i < ev->n_points; i++) {
        const struct event_point *p = &ev->points[i];
        bool known =
            !a->gaps && a->last_step >= 0 && p->step >= a->first_step && p->step <= a->last_step;
        if (!known || p->n_values != 1 || p->values[0].name != NULL) {
            return false;
        }
        *ret_end = *ret_end || p->step == a->end_step;
    }
    return true;
}

static bool has_checkpoint(const struct trial *t, const struct event *ev)
{
    const char *a = ev->checkpoint_uri, *b = t->checkpoint_uri;
    bool same_uri = a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
    return ev->checkpoint_step >= 0 && ev->checkpoint_step == t->checkpoint_step && same_uri;
}

static bool brings_checkpoint(const struct trial *t, const struct event *ev)
{
    return ev->checkpoint_step >= 0 && ev->checkpoint_step >= t->checkpoint_step &&
           !has_checkpoint(t, ev);
}

/* ---- where a message stands ---- */

enum standing standing_of(const struct trial *t, int64_t attempt)
{
    if (attempt != t->attempt) {
        return STANDS_LATE;
    }
    if (t->state == TRIAL_RUNNING) {
        return STANDS_CURRENT;
    }
    if (t->state == TRIAL_WAITING && (t->reserved || t->lost)) {
        return STANDS_RETURNING;
    }
    bool held = t->state == TRIAL_WAITING || t->state == TRIAL_PAUSED;
    return held && t->attempts[attempt - 1].action == ACT_PAUSE ? STANDS_HELD : STANDS_LATE;
}

/* ---- showing values ---- */

void attempt_note(struct trial_attempt *a, int64_t step)
{
    if (a->last_step < 0) {
        a->first_step = a->last_step = step;
    } else if (step == a->last_step + 1) {
        a->last_step = step;
    } else if (step > a->last_step) {
        a->last_step = step;
        a->gaps = true;
    } else if (step < a->first_step) {
        a->gaps = true;
    }
}

static void note_value(struct study *s, struct trial *t, int64_t step, double value)
{
    t->attempt_value = value;
    if (step > t->value_step) {
        t->value_step = step;
        t->value = value;
        best_reported(s, t);
    }
}

enum report_action show_value(struct study *s, struct trial *t, int64_t step, double value,
                              char **ret_why)
{
    struct study_result result;
    if (!trial_stands_alone(s, t) || trial_is_refit(t)) {
        t->seen_step = step; /* a fold is judged when it has ended, a refit never */
        return ACT_CONTINUE;
    }
    if (!study_result(s, t, value, &result)) {
        return ACT_CONTINUE; /* an objective is missing still: the step cannot be judged */
    }
    t->seen_step = step;
    study_unpeek(s);
    enum opt_action action = optimizer_report(s->opt, t->ordinal, step, &result.r);
    bool stop = s->rule != NULL && early_stop_report(s->rule, t->id, step, result.r.value, ret_why);
    if (stop || action == OPT_STOP) {
        return ACT_STOP;
    }
    return action == OPT_PAUSE ? ACT_PAUSE : ACT_CONTINUE;
}

static void decide(struct event *ev, enum report_action action, int64_t step,
                   enum trial_state state)
{
    ev->action = action;
    ev->action_step = step;
    ev->state = state;
}

void decide_action(const struct study *s, struct event *ev, const struct trial *t,
                   enum report_action action, int64_t step, const char *rule_why)
{
    const char *name = optimizer_ops_of(s->opt)->name;
    if (action == ACT_STOP) {
        decide(ev, action, step, TRIAL_STOPPED);
        if (rule_why != NULL) {
            event_why(ev, "early-stopping", "%s", rule_why);
        } else {
            event_why(ev, "stopped-by-optimizer", "stopped by %s at step %lld", name,
                      (long long)step);
        }
    } else if (action == ACT_PAUSE) {
        decide(ev, action, step, TRIAL_PAUSED);
        event_why(ev, "rung-not-full",
                  "paused at step %lld, rung %d: it goes on when %s promotes it", (long long)step,
                  (int)t->rung, name);
    }
}

static void decide_point(struct study *s, struct event *ev, struct trial *t, int64_t step,
                         double value, int bad, enum report_action action, const char *rule_why)
{
    if (isnan(value)) {
        decide(ev, ACT_STOP, step, TRIAL_FAILED);
        event_why(ev, "objective", "%s \"%s\" is not a finite number at step %lld",
                  bad < s->spec->n_objectives ? "the objective" : "the constrained metric",
                  s->spec->measures[bad].name, (long long)step);
    } else if (trial_meets_target(s, t, value)) {
        decide(ev, ACT_STOP, step, TRIAL_COMPLETED);
        event_why(ev, "target-reached", "reached the target %.10g with %.10g at step %lld",
                  s->limits.target, value, (long long)step);
    } else {
        decide_action(s, ev, t, action, step, rule_why);
    }
}

/* The value that an attempt's end rests on stays, whatever stands after it in the same message. */
static bool end_here(struct study *s, const struct event *ev, struct trial *t, int64_t step,
                     double value)
{
    if (ev->action_step != step ||
        ev->state == TRIAL_WAITING) { /* held at a checkpoint, by no point */
        return false;
    }
    if (ev->state == TRIAL_COMPLETED) {
        t->value = value;
        t->value_step = step;
        s->target_trial = t->id;
    }
    return true;
}

/* One point of a running trial. True when it ends the attempt. */
static bool take_point(struct study *s, struct event *ev, struct trial *t,
                       const struct event_point *p)
{
    double value = 0;
    int bad = 0;
    t->step = p->step > t->step ? p->step : t->step;
    t->attempt_step = p->step > t->attempt_step ? p->step : t->attempt_step;
    bool sound = measures_note(s, t, p->values, p->n_values, &bad);
    if (!point_objective(p, &value) && sound) {
        return false;
    }
    value = sound ? value : NAN;
    attempt_note(trial_attempt_at(t, ev->attempt), p->step);
    char *rule_why = NULL;
    enum report_action action = ACT_CONTINUE;
    if (!isnan(value)) {
        note_value(s, t, p->step, value);
        if (p->step <= t->seen_step || (t->budget > 0 && p->step > t->budget)) {
            return false;
        }
        action = show_value(s, t, p->step, value, &rule_why);
    }
    if (!ev->decided && !(isnan(value) && trial_is_refit(t))) {
        decide_point(s, ev, t, p->step, value, bad, action, rule_why);
    }
    free(rule_why);
    return end_here(s, ev, t, p->step, value);
}

static void note_duration(struct study *s, struct trial *t, int64_t before)
{
    int64_t since = t->report_ns > 0 ? t->report_ns : t->attempt_ns;
    if (s->now_ns <= 0 || t->step <= before) {
        return;
    }
    if (since > 0) {
        int64_t from = before >= 0 ? before : 0;
        double ms =
            (double)(s->now_ns - since) / 1e6 / (double)(t->step > from ? t->step - from : 1);
        s->step_ms = s->step_ms > 0 ? 0.9 * s->step_ms + 0.1 * ms : ms;
    }
    t->report_ns = s->now_ns;
}

bool points_take(struct study *s, struct event *ev, struct trial *t)
{
    bool ended = false;
    int64_t before = t->step;
    for (int i = 0; i < ev->n_points && !ended; i++) {
        ended = take_point(s, ev, t, &ev->points[i]);
    }
    note_duration(s, t, before);
    if (ev->n_points > 0) {
        study_touch(s, t);
    }
    return ended;
}

/* ---- enacting ---- */

bool checkpoint_take(struct study *s, struct event *ev, struct trial *t)
{
    if (!brings_checkpoint(t, ev)) {
        return false;
    }
    if (ev->checkpoint_step > t->checkpoint_step) {
        t->losses_in_row = 0;
    }
    t->checkpoint_step = ev->checkpoint_step;
    char *uri = ev->checkpoint_uri != NULL ? xstrdup(ev->checkpoint_uri) : NULL;
    free(t->checkpoint_uri);
    t->checkpoint_uri = uri;
    usage_checkpoint(s, t, ev);
    study_touch(s, t);
    return true;
}

static void complete(struct study *s, struct trial *t)
{
    trial_set_reason(t, NULL);
    t->cause = FAIL_NONE;
    trial_end(s, t, TRIAL_COMPLETED);
}

enum mag_status end_attempt(struct study *s, const struct event *ev, struct trial *t,
                            enum trial_state to, struct mag_err *err)
{
    struct trial_attempt *a = trial_attempt_at(t, ev->attempt);
    a->end_step = ev->action_step;
    a->action = ev->action;
    a->told_state = to;
    switch (to) {
    case TRIAL_WAITING:
    case TRIAL_PAUSED:
        s->failures_in_row = 0;
        trial_hold(s, t, to, ev->why_code, ev->why);
        return MAG_OK;
    case TRIAL_STOPPED:
        s->failures_in_row = 0;
        trial_set_reason(t, ev->why);
        trial_end(s, t, to);
        return MAG_OK;
    case TRIAL_COMPLETED:
        complete(s, t);
        if (study_point_state(s, t) == TRIAL_COMPLETED) {
            s->failures_in_row = 0; /* one fold that always fails is a failure each time */
        }
        return MAG_OK;
    case TRIAL_FAILED:
        enact_failure(s, t, to, FAIL_OBJECTIVE, ev->why);
        return MAG_OK;
    case TRIAL_RUNNING:
    case TRIAL_CANCELLED:
    case TRIAL_STATES:
        break;
    }
    return event_corrupt(ev, err, "it leaves the trial %s", trial_state_name(to));
}

/* The experiment pauses and was asked to stop its trials: at a checkpoint nothing is lost by that.
 */
static bool decide_hold(const struct study *s, struct event *ev, const struct trial *t)
{
    bool saved = t->checkpoint_step >= 0 && t->checkpoint_step >= t->step;
    if (ev->decided || !s->stop_at_checkpoint || !(saved || ev->checkpoint_step >= 0)) {
        return false;
    }
    decide(ev, ACT_PAUSE, ev->n_points > 0 ? ev->points[ev->n_points - 1].step : t->step,
           TRIAL_WAITING);
    event_why(ev, "experiment-paused",
              "stopped at its checkpoint of step %lld because the experiment is paused",
              (long long)t->checkpoint_step);
    return true;
}

static enum mag_status take_report(struct study *s, struct event *ev, struct trial *t,
                                   struct mag_err *err)
{
    bool returns = t->state == TRIAL_WAITING;
    if (returns) {
        trial_start(s, t);
    }
    if (ev->where != NULL) {
        json_decref(t->where);
        t->where = study_where(s, ev->where);
    }
    lease_arm(s, t, s->now_ns);
    bool fresh = checkpoint_take(s, ev, t);
    bool ended = points_take(s, ev, t);
    if (!ended && ev->decided) {
        ended = ev->action != ACT_CONTINUE; /* held at a checkpoint */
    } else if (!ended) {
        ended = decide_hold(s, ev, t);
    }
    enum mag_status st = ended ? end_attempt(s, ev, t, ev->state, err) : MAG_OK;
    if (st == MAG_OK) {
        event_after(ev, t, returns || ended || fresh);
    }
    return st;
}

/* ---- the handler ---- */

static bool has_news(const struct trial *t, const struct event *ev)
{
    bool end = false;
    bool moved = ev->where != NULL && !json_equal(ev->where, t->where);
    return moved || brings_checkpoint(t, ev) || !is_repeat(&t->attempts[ev->attempt - 1], ev, &end);
}

/* The attempt is over: the same question gets the same answer, the rest is late. True when the
 * event is to be recorded as late. */
static bool answer_over(const struct trial *t, struct event *ev)
{
    const struct trial_attempt *a = &t->attempts[ev->attempt - 1];
    bool end = false;
    bool repeat = is_repeat(a, ev, &end);
    if (repeat && ev->n_points > 0) {
        ev->action = end ? a->action : ACT_CONTINUE;
        return false;
    }
    bool asks = repeat && ev->checkpoint_step < 0; /* only how it stands */
    bool saved = ev->attempt == t->attempt && has_checkpoint(t, ev);
    if (a->action == ACT_PAUSE && (asks || saved)) {
        ev->action = ACT_PAUSE;
        return false;
    }
    ev->late = true;
    ev->action = ACT_STOP;
    return ev->n_points > 0 || ev->checkpoint_step >= 0;
}

static enum mag_status over_report(struct study *s, struct event *ev, struct trial *t,
                                   enum standing standing)
{
    if (!ev->decided && standing == STANDS_HELD && brings_checkpoint(t, ev)) {
        ev->action = t->attempts[ev->attempt - 1].action;
        ev->changed = true;
    } else if (!ev->decided && !answer_over(t, ev)) {
        s->answered = true;
    }
    if (!s->answered && ev->late) {
        t->late++;
        study_touch(s, t);
    } else if (!s->answered) {
        (void)checkpoint_take(s, ev, t);
    }
    event_after(ev, t, false);
    return MAG_OK;
}

enum mag_status handle_report(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = event_attempt(s, ev, &t, err);
    if (st == MAG_OK) {
        st = points_normalise(s, ev, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    enum standing standing = standing_of(t, ev->attempt);
    if (ev->decided && (standing == STANDS_LATE) != ev->late && standing != STANDS_HELD) {
        return event_corrupt(ev, err, "it is%s late", ev->late ? "" : " not");
    }
    if (standing == STANDS_HELD || standing == STANDS_LATE) {
        return over_report(s, ev, t, standing);
    }
    if (!ev->decided && standing == STANDS_CURRENT && !has_news(t, ev)) {
        lease_arm(s, t, s->now_ns);
        s->answered = true;
        event_after(ev, t, false);
        return MAG_OK;
    }
    return take_report(s, ev, t, err);
}
