/* SPDX-License-Identifier: Apache-2.0
 *
 * Points and their folds. A point is what the optimizer proposed: one trial, or with "validation" by
 * folds one trial for each fold, made together, with ids in a row. Every fold is a trial like any
 * other, with leases, attempts and checkpoints of its own; the optimizer knows points alone, by
 * their number, and hears of one what its folds say together.
 *
 * A point ends when all its folds have completed (their mean is its value), or with the first fold
 * that ends otherwise; the others then end in the same event. So whether a point has ended, and how,
 * is told by its folds' states: nothing is kept beside them.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- points ---- */

int study_folds(const struct study *s)
{
    return s->spec->validation.folds;
}

bool trial_is_refit(const struct trial *t)
{
    return t->ordinal == 0;
}

/* Only with "validation" do ids and numbers of points differ. */
static void note_point(struct study *s, int64_t id)
{
    int64_t n = s->n_points++;
    if (!s->spec->validation.present) {
        return;
    }
    if ((n & (n - 1)) == 0) {
        s->points = xreallocarray(s->points, n == 0 ? 1 : (size_t)n * 2, sizeof(*s->points));
    }
    s->points[n] = id;
}

struct trial *point_at(const struct study *s, int64_t ordinal)
{
    if (!s->spec->validation.present) {
        return trial_at(s, ordinal);
    }
    return ordinal >= 1 && ordinal <= s->n_points ? trial_at(s, s->points[ordinal - 1]) : NULL;
}

int64_t point_ordinal(const struct study *s, int64_t trial)
{
    const struct trial *t = trial_at(s, trial);
    return t != NULL ? t->ordinal : 0;
}

struct trial *point_create(struct study *s, const double *point)
{
    struct trial *first = NULL;
    note_point(s, s->n_trials + 1);
    for (int fold = 1; fold <= study_folds(s); fold++) {
        struct trial *t = trial_create(s, point);
        first = first != NULL ? first : t;
        t->point_of = first->id;
        t->ordinal = s->n_points;
        t->fold = s->spec->validation.present ? fold : 0;
    }
    return first;
}

struct trial *point_fold(const struct study *s, const struct trial *first, int i)
{
    return i < study_folds(s) ? trial_at(s, first->id + i) : NULL;
}

void point_share(struct study *s, const struct trial *first)
{
    struct trial *t;
    for (int i = 1; (t = point_fold(s, first, i)) != NULL; i++) {
        char why[80];
        (void)snprintf(why, sizeof(why), "fold %d of %d of its point; it is given before any new point",
                       (int)t->fold, study_folds(s));
        t->budget = first->budget;
        t->bracket = first->bracket;
        t->rung = first->rung;
        t->enqueued = first->enqueued;
        study_text_set(s, &t->why_code, "fold");
        study_text_set(s, &t->why, why);
    }
}

/* ---- what the folds say together ---- */

static struct trial *first_of(const struct study *s, const struct trial *t)
{
    return trial_at(s, t->point_of);
}

bool trial_stands_alone(const struct study *s, const struct trial *t)
{
    return study_folds(s) == 1 || trial_is_refit(t);
}

static int completed_folds(const struct study *s, const struct trial *first)
{
    const struct trial *t;
    int n = 0;
    for (int i = 0; (t = point_fold(s, first, i)) != NULL; i++) {
        n += t->state == TRIAL_COMPLETED;
    }
    return n;
}

/* In the order of the folds, so that the same folds give the same bits whatever order they ended
 * in. The deviation is that of a sample. */
struct point_stat study_point_stat(const struct study *s, const struct trial *t, int measure)
{
    const struct trial *first = first_of(s, t);
    const struct trial *f;
    struct point_stat r = {.mean = NAN, .deviation = NAN};
    double sum = 0;
    double squares = 0;
    for (int i = 0; (f = point_fold(s, first, i)) != NULL; i++) {
        if (f->state == TRIAL_COMPLETED) {
            sum += trial_measure(f, measure);
            r.n++;
        }
    }
    if (r.n == 0) {
        return r;
    }
    r.mean = sum / r.n;
    for (int i = 0; (f = point_fold(s, first, i)) != NULL; i++) {
        double d = f->state == TRIAL_COMPLETED ? trial_measure(f, measure) - r.mean : 0;
        squares += d * d;
    }
    r.deviation = r.n > 1 ? sqrt(squares / (r.n - 1)) : 0;
    return r;
}

double study_measure(const struct study *s, const struct trial *t, int i)
{
    return trial_stands_alone(s, t) ? trial_measure(t, i) : study_point_stat(s, t, i).mean;
}

enum trial_state study_point_state(const struct study *s, const struct trial *t)
{
    int n[TRIAL_STATES] = {0};
    const struct trial *f;
    if (trial_stands_alone(s, t)) {
        return t->state;
    }
    for (int i = 0; (f = point_fold(s, first_of(s, t), i)) != NULL; i++) {
        n[f->state]++;
    }
    static const enum trial_state first_met[] = {TRIAL_FAILED, TRIAL_CANCELLED, TRIAL_STOPPED,
                                                 TRIAL_RUNNING};
    for (size_t i = 0; i < sizeof(first_met) / sizeof(first_met[0]); i++) {
        if (n[first_met[i]] > 0) {
            return first_met[i];
        }
    }
    if (n[TRIAL_COMPLETED] == study_folds(s)) {
        return TRIAL_COMPLETED;
    }
    return n[TRIAL_COMPLETED] > 0 ? TRIAL_RUNNING : TRIAL_WAITING; /* between two folds */
}

/* ---- the end of a point ---- */

static enum opt_outcome outcome_of(enum trial_state to)
{
    switch (to) {
    case TRIAL_COMPLETED:
        return OPT_COMPLETED;
    case TRIAL_STOPPED:
        return OPT_STOPPED;
    case TRIAL_FAILED:
        return OPT_FAILED;
    case TRIAL_CANCELLED:
    case TRIAL_WAITING:
    case TRIAL_RUNNING:
    case TRIAL_PAUSED:
    case TRIAL_STATES:
        break;
    }
    return OPT_CANCELLED;
}

/* Optimizer and rule hear of it, once. */
static void point_end(struct study *s, struct trial *first, enum trial_state to)
{
    enum opt_outcome outcome = outcome_of(to);
    struct study_result result;
    double value = study_measure(s, first, 0);
    bool has_value = (to == TRIAL_COMPLETED || to == TRIAL_STOPPED) && !isnan(value) &&
                     study_result(s, first, value, &result);
    optimizer_finish(s->opt, first->ordinal, outcome, has_value ? &result.r : NULL);
    if (s->rule != NULL) {
        early_stop_finish(s->rule, first->id, outcome, has_value ? &result.r : NULL);
    }
    study_unpeek(s);
    s->n_points_ended++;
    if (to == TRIAL_COMPLETED) {
        best_completed(s, first);
        front_completed(s, first);
    } else if (to != TRIAL_STOPPED) {
        best_gone(s, first);
    }
}

/* One more fold has a value. The last one is told too: rules remember whole points. */
static void show_fold(struct study *s, struct trial *t, struct trial *first, int done)
{
    struct study_result result;
    double mean = study_measure(s, first, 0);
    if (!study_result(s, first, mean, &result)) {
        return;
    }
    study_unpeek(s);
    enum opt_action action = optimizer_report(s->opt, first->ordinal, done, &result.r);
    bool stops = action == OPT_STOP;
    char *why = NULL;
    if (s->rule != NULL) {
        bool paired = early_stop_is_paired(s->rule);
        stops = early_stop_report(s->rule, first->id, paired ? t->fold : done,
                                  paired ? study_minimised(s, t->value) : result.r.value, &why) ||
                stops;
    }
    free(s->fold_why);
    s->fold_why = stops ? why : NULL;
    s->fold_stops = stops && done < study_folds(s);
    if (!stops) {
        free(why);
    }
}

/* Has another fold ended the point before this one ended? */
static bool had_ended(const struct study *s, const struct trial *t, const struct trial *first)
{
    const struct trial *f;
    for (int i = 0; (f = point_fold(s, first, i)) != NULL; i++) {
        if (f != t && trial_state_is_final(f->state) && f->state != TRIAL_COMPLETED) {
            return true;
        }
    }
    return false;
}

static void fold_ended(struct study *s, struct trial *t, enum trial_state to)
{
    struct trial *first = first_of(s, t);
    if (had_ended(s, t, first)) {
        return;
    }
    if (s->ended_fold == 0) {
        s->ended_fold = t->id; /* those that the event moves because of it come later */
    }
    if (to != TRIAL_COMPLETED) {
        point_end(s, first, to);
        return;
    }
    int done = completed_folds(s, first);
    show_fold(s, t, first, done);
    if (done == study_folds(s)) {
        point_end(s, first, to);
        if (point_meets_target(s, first)) {
            s->target_trial = first->id;
        }
    }
}

void trial_judge_end(struct study *s, struct trial *t, enum trial_state to)
{
    if (trial_is_refit(t)) {
        refit_ended(s, t);
    } else if (study_folds(s) == 1) {
        point_end(s, t, to);
    } else {
        fold_ended(s, t, to);
    }
}

/* ---- the other folds ---- */

/* How the end of fold `t` ends the others of its point; false when they go on. */
static bool ends_others(const struct study *s, const struct trial *t, enum trial_state *ret)
{
    *ret = t->state == TRIAL_CANCELLED ? TRIAL_CANCELLED : TRIAL_STOPPED;
    return t->state != TRIAL_COMPLETED || s->fold_stops;
}

void folds_decide(const struct study *s, struct event *ev)
{
    const struct trial *t = trial_at(s, s->ended_fold);
    const struct trial *f;
    enum trial_state to;
    if (t == NULL || !ends_others(s, t, &to)) {
        return;
    }
    if (t->state == TRIAL_COMPLETED && s->fold_why != NULL) {
        event_why(ev, "early-stopping", "the point ends after fold %d of %d: %s", (int)t->fold,
                  study_folds(s), s->fold_why);
    } else if (t->state == TRIAL_COMPLETED) {
        event_why(ev, "stopped-by-optimizer", "the point ends after fold %d of %d: stopped by %s",
                  (int)t->fold, study_folds(s), optimizer_ops_of(s->opt)->name);
    }
    for (int i = 0; (f = point_fold(s, first_of(s, t), i)) != NULL; i++) {
        if (!trial_state_is_final(f->state)) {
            event_add_move(ev, f->id, to);
        }
    }
}

const char *fold_move_reason(const struct study *s, const struct event *ev, const struct trial *t,
                             char *buf, size_t size)
{
    const struct trial *cause = trial_at(s, ev->trial);
    bool kin = cause != NULL && cause != t && !trial_stands_alone(s, t) &&
               cause->point_of == t->point_of && !trial_is_refit(cause);
    if (!kin) {
        return NULL;
    }
    const char *why = cause->reason != NULL ? cause->reason : "no reason given";
    if (cause->state == TRIAL_COMPLETED) {
        return ev->why;
    }
    (void)snprintf(buf, size, "fold %d of %d of its point (trial %lld) %s: %.900s", (int)cause->fold,
                   study_folds(s), (long long)cause->id,
                   cause->state == TRIAL_FAILED      ? "failed"
                   : cause->state == TRIAL_CANCELLED ? "was cancelled"
                                                     : "was stopped",
                   why);
    return buf;
}
