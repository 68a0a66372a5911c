/* SPDX-License-Identifier: Apache-2.0
 *
 * What others may know of a study: plain reads, why something waits, estimates.
 */
#include "driver/study_impl.h"

#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- plain reads ---- */

const struct spec *study_spec(const struct study *s)
{
    return s->spec;
}

enum study_state study_state(const struct study *s)
{
    return s->state;
}

int64_t study_seq(const struct study *s)
{
    return s->seq;
}

int64_t study_up_ms(const struct study *s, int64_t now_ns)
{
    return study_active_ns(s, now_ns) / MAG_NS_PER_MS;
}

const struct trial *study_trial(const struct study *s, int64_t id)
{
    return trial_at(s, id);
}

struct trial *study_trial_mut(struct study *s, int64_t id)
{
    return trial_at(s, id);
}

int64_t study_trials(const struct study *s)
{
    return s->n_trials;
}

void study_counts(const struct study *s, int64_t counts[TRIAL_STATES])
{
    memcpy(counts, s->counts, sizeof(s->counts));
}

const struct spec_limits *study_limits(const struct study *s)
{
    return &s->limits;
}

int64_t study_points(const struct study *s)
{
    return s->n_points;
}

int64_t study_points_ended(const struct study *s)
{
    return s->n_points_ended;
}

const struct trial *study_point_fold(const struct study *s, const struct trial *first, int i)
{
    return point_fold(s, first, i);
}

const int64_t *study_touched(const struct study *s, int *ret_n)
{
    *ret_n = s->n_touched;
    return s->touched;
}

const json_t *study_tags(const struct study *s)
{
    return s->tags;
}

const char *study_notes(const struct study *s)
{
    return s->notes;
}

int64_t study_created_ms(const struct study *s)
{
    return s->created_ms;
}

int64_t study_started_ms(const struct study *s)
{
    return s->started_ms;
}

int64_t study_ended_ms(const struct study *s)
{
    return s->ended_ms;
}

/* ---- work and why ---- */

static bool is_full(const struct study *s)
{
    return s->limits.parallel > 0 && s->counts[TRIAL_RUNNING] + s->n_reserved >= s->limits.parallel;
}

bool study_has_work(const struct study *s)
{
    if (s->state != STUDY_RUNNING || is_full(s)) {
        return false;
    }
    if (!list_is_empty(&s->queue)) {
        return true;
    }
    if (study_is_refitting(s)) {
        return false;
    }
    const struct opt_suggestion *o = study_outlook(s);
    if (o->answer == OPT_TRIAL || o->answer == OPT_RESUME) {
        return true;
    }
    return s->slow && study_is_idle(s); /* nothing to give ever again: the ask records that */
}

bool study_next_is_new(const struct study *s)
{
    return s->state == STUDY_RUNNING && !is_full(s) && list_is_empty(&s->queue) &&
           !study_is_refitting(s) && study_outline(s)->answer == OPT_TRIAL;
}

static const char *say(char *buf, size_t size, const char *code, const char *text)
{
    (void)snprintf(buf, size, "%s", text);
    return code;
}

const char *study_why(const struct study *s, char *buf, size_t size)
{
    if (s->state != STUDY_RUNNING) {
        return say(buf, size, s->why_code != NULL ? s->why_code : study_state_name(s->state),
                   s->why != NULL ? s->why : study_state_name(s->state));
    }
    if (is_full(s)) {
        (void)snprintf(buf, size, "the limit of %lld parallel trials is reached",
                       (long long)s->limits.parallel);
        return "parallel-limit";
    }
    if (!list_is_empty(&s->queue)) {
        int64_t n = s->counts[TRIAL_WAITING] - s->n_reserved;
        (void)snprintf(buf, size,
                       n == 1 ? "%lld trial waits to be taken" : "%lld trials wait to be taken",
                       (long long)n);
        return "no-taker";
    }
    if (study_is_refitting(s)) {
        (void)snprintf(buf, size, "the search is over; trial %lld refits its best point",
                       (long long)s->refit);
        return "refit";
    }
    const struct opt_suggestion *o = study_outlook(s);
    if (o->answer == OPT_TRIAL || o->answer == OPT_RESUME) {
        return say(buf, size, "no-taker", "the next trial waits to be taken");
    }
    if (!study_may_create(s)) {
        (void)snprintf(buf, size, "all %lld %s are created, %lld still running",
                       (long long)s->n_points, study_folds(s) > 1 ? "points" : "trials",
                       (long long)s->counts[TRIAL_RUNNING]);
        return "trials-limit";
    }
    return say(buf, size, o->why_code != NULL ? o->why_code : "optimizer-waits",
               o->why[0] != '\0' ? o->why : "the optimizer waits for results of running trials");
}

const char *study_trial_why(const struct study *s, const struct trial *t, char *buf, size_t size)
{
    if (t->state != TRIAL_WAITING && t->state != TRIAL_PAUSED) {
        return NULL;
    }
    if (s->state != STUDY_RUNNING) {
        return study_why(s, buf, size);
    }
    if (t->reserved) {
        (void)snprintf(buf, size, "reserved for %s, which starts it when its current trial ends",
                       t->holder != NULL ? t->holder : "its worker");
        return "reserved";
    }
    if (t->state == TRIAL_WAITING && is_full(s)) {
        return study_why(s, buf, size);
    }
    return say(buf, size, t->why_code != NULL ? t->why_code : "no-taker",
               t->why != NULL ? t->why : "waits to be taken");
}

/* ---- estimates ---- */

int64_t study_failures(const struct study *s, const struct trial **ret_last)
{
    *ret_last = trial_at(s, s->last_failed);
    return s->failures_all;
}

/* From the pace so far: ended (or resting) trials for each second of active time. */
double study_eta_s(const struct study *s, int64_t now_ns)
{
    double up_s = (double)study_active_ns(s, now_ns) / 1e9;
    double eta = -1;
    if (study_state_is_final(s->state)) {
        return 0;
    }
    int64_t done = s->n_trials - s->counts[TRIAL_WAITING] - s->counts[TRIAL_RUNNING];
    double size = space_size(s->spec->space) * study_folds(s);
    double total = s->limits.trials > 0 ? (double)s->limits.trials * study_folds(s) : -1;
    bool finite = (optimizer_ops_of(s->opt)->caps & OPT_CAP_FINITE) != 0;
    if (finite && isfinite(size) && (total < 0 || size < total)) {
        total = size;
    }
    if (total >= 0 && done > 0 && up_s > 0) {
        eta = (total - (double)done) * up_s / (double)done;
        eta = eta > 0 ? eta : 0;
    }
    if (s->limits.time_ms > 0) {
        double left = (double)s->limits.time_ms / 1000 - up_s;
        left = left > 0 ? left : 0;
        eta = eta < 0 || left < eta ? left : eta;
    }
    return eta;
}

static int64_t left_of(double expected_ms, int64_t since_ns, int64_t now_ns)
{
    double left = expected_ms - (double)(now_ns - since_ns) / 1e6;
    return left > 0 ? (int64_t)left : 0;
}

int64_t study_remaining_ms(const struct study *s, int64_t trial, int64_t now_ns)
{
    const struct trial *t = trial_at(s, trial);
    if (t == NULL || t->state != TRIAL_RUNNING || t->attempt_ns <= 0) {
        return -1;
    }
    if (t->budget > 0 && s->step_ms > 0) {
        int64_t since = t->report_ns > 0 ? t->report_ns : t->attempt_ns;
        int64_t from =
            t->report_ns > 0 ? t->step : (t->checkpoint_step > 0 ? t->checkpoint_step : 0);
        int64_t steps = t->budget > from ? t->budget - from : 0;
        return left_of((double)steps * s->step_ms, since, now_ns);
    }
    return t->budget == 0 && s->attempt_ms > 0 ? left_of(s->attempt_ms, t->attempt_ns, now_ns) : -1;
}
