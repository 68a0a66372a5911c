/* SPDX-License-Identifier: Apache-2.0
 *
 * The study: creation, and the one way in. study_apply runs the handler of the event's kind, then
 * the consequences that every kind shares (target, failures in a row, nothing left to do), and
 * counts the event. What each file of the core does is in study_impl.h.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_MS_MAX (366LL * 24 * 3600 * 1000)

/* ---- creation ---- */

static void *must(void *made, const char *what, const struct mjson_issues *is)
{
    MAG_ASSERT(made != NULL, "%s of a checked spec: %s", what, is->n > 0 ? is->items[0].text : "?");
    return made;
}

static void create_parts(struct study *s)
{
    struct mjson_issues is = {0};
    const struct spec *spec = s->spec;
    char *why = NULL;
    struct opt_setup setup = spec_opt_setup(spec);
    s->opt =
        must(optimizer_create(spec->optimizer, "/optimizer", &setup, &is, &why), "optimizer", &is);
    free(why);
    if (spec->early_stopping != NULL) {
        struct early_setup early = spec_early_setup(spec);
        s->rule = must(early_stop_create(spec->early_stopping, "/early_stopping", &early, &is),
                       "rule", &is);
    }
    mjson_issues_fini(&is);
    s->maker = optimizer_maker(s->opt);
    if (s->rule != NULL) {
        char *rule = early_stop_maker(s->rule);
        char *both = xasprintf("%s, %s", s->maker, rule);
        free(rule);
        free(s->maker);
        s->maker = both;
    }
}

struct study *study_create(struct spec *spec_take)
{
    struct study *s = xcalloc(1, sizeof(*s));
    s->spec = spec_take;
    s->limits = spec_take->limits;
    s->since_ns = -1;
    s->tags = json_deep_copy(spec_take->tags);
    s->notes = xstrdup(spec_take->notes);
    list_init(&s->queue);
    list_init(&s->open);
    list_init(&s->by_age);
    s->answer = xcalloc(1, sizeof(*s->answer));
    event_init(s->answer, EV_ASK);
    s->peek = xcalloc(1, sizeof(*s->peek));
    s->peek->s.point = xcalloc((size_t)spec_take->space->n + 1, sizeof(double));
    s->best_partial = xcalloc(1, sizeof(*s->best_partial));
    create_parts(s);
    study_think_init(s);
    study_observe(s);
    study_enqueue_points(s);
    return s;
}

static void free_trials(struct study *s)
{
    for (int64_t id = 1; id <= s->n_trials; id++) {
        trial_fini(trial_at(s, id));
    }
    for (int64_t i = 0; i * TRIAL_CHUNK < s->n_trials; i++) {
        free(s->chunks[i]);
    }
    free(s->chunks);
}

void study_destroy(struct study *s)
{
    if (s == NULL) {
        return;
    }
    free_trials(s);
    heap_fini(&s->leases);
    requests_fini(s);
    study_texts_fini(s);
    event_fini(s->answer);
    free(s->answer);
    early_stop_destroy(s->rule);
    optimizer_destroy(s->opt);
    json_decref(s->tags);
    free(s->notes);
    free(s->why_code);
    free(s->why);
    free(s->maker);
    free(s->recorded_maker);
    free(s->peek->s.point);
    free(s->peek);
    free(s->best_partial);
    free(s->touched);
    free(s->front);
    free(s->points);
    free(s->refit_code);
    free(s->refit_why);
    free(s->fold_why);
    free(s->notices);
    spec_destroy(s->spec);
    free(s);
}

/* ---- helpers of the handlers ---- */

void study_touch(struct study *s, struct trial *t)
{
    if (t->touch == s->turn && s->turn > 0) {
        return;
    }
    t->touch = s->turn;
    if (s->n_touched == s->cap_touched) {
        s->cap_touched = s->cap_touched > 0 ? s->cap_touched * 2 : 64;
        s->touched = xreallocarray(s->touched, (size_t)s->cap_touched, sizeof(*s->touched));
    }
    s->touched[s->n_touched++] = t->id;
}

static char *vformat(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
static char *vformat(const char *fmt, va_list ap)
{
    char text[1024];
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    return xstrdup(text);
}

void study_decide(struct event *ev, enum study_state to, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *why = vformat(fmt, ap);
    va_end(ap);
    free(ev->study_why_code);
    free(ev->study_why);
    ev->study = to;
    ev->study_why_code = xstrdup(code);
    ev->study_why = why;
    ev->changed = true;
}

void event_why(struct event *ev, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *why = vformat(fmt, ap);
    va_end(ap);
    free(ev->why_code);
    free(ev->why);
    ev->why_code = xstrdup(code);
    ev->why = why;
}

enum mag_status event_corrupt(const struct event *ev, struct mag_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *what = vformat(fmt, ap);
    va_end(ap);
    enum mag_status st =
        mag_fail(err, MAG_CORRUPT, "the recorded %s event of trial %lld cannot follow: %s",
                 event_kind_name(ev->kind), (long long)ev->trial, what);
    free(what);
    return st;
}

enum mag_status event_trial(struct study *s, const struct event *ev, struct trial **ret,
                            struct mag_err *err)
{
    struct trial *t = trial_at(s, ev->trial);
    if (t == NULL) {
        return mag_fail(err, ev->decided ? MAG_CORRUPT : MAG_NOTFOUND,
                        "there is no trial %lld; the experiment has %lld so far",
                        (long long)ev->trial, (long long)s->n_trials);
    }
    *ret = t;
    return MAG_OK;
}

enum mag_status event_attempt(struct study *s, const struct event *ev, struct trial **ret,
                              struct mag_err *err)
{
    enum mag_status st = event_trial(s, ev, ret, err);
    if (st == MAG_OK && (ev->attempt < 1 || ev->attempt > (*ret)->attempt)) {
        return mag_fail(
            err, ev->decided ? MAG_CORRUPT : MAG_INVALID,
            "trial %lld has no attempt %lld; \"attempt\" is the number that came with the trial, "
            "%lld at most now",
            (long long)ev->trial, (long long)ev->attempt, (long long)(*ret)->attempt);
    }
    return st;
}

void event_after(struct event *ev, const struct trial *t, bool changed)
{
    if (!ev->decided) {
        ev->state = t->state;
        ev->state_attempt = t->attempt;
        ev->changed = ev->changed || changed;
    }
}

bool study_may_create(const struct study *s)
{
    int64_t limit = s->limits.trials > 0 ? s->limits.trials : SPEC_TRIALS_MAX / study_folds(s);
    return s->n_points < limit && !study_is_refitting(s);
}

bool study_is_idle(const struct study *s)
{
    return s->counts[TRIAL_WAITING] == 0 && s->counts[TRIAL_RUNNING] == 0;
}

/* Subtracting from zero keeps zero positive, so that both signs of it are one value. */
double study_minimised(const struct study *s, double value)
{
    return s->spec->maximize ? 0.0 - value : value;
}

bool study_is_better(const struct study *s, double a, double b)
{
    return s->spec->maximize ? a > b : a < b;
}

bool study_meets_target(const struct study *s, double value)
{
    return s->limits.has_target && !study_is_better(s, s->limits.target, value);
}

/* ---- the clock of limits.time ---- */

int64_t study_active_ns(const struct study *s, int64_t now_ns)
{
    bool runs = s->since_ns >= 0 && s->state == STUDY_RUNNING && now_ns > s->since_ns;
    return s->up_ns + (runs ? now_ns - s->since_ns : 0);
}

static void clock_advance(struct study *s, int64_t now_ns)
{
    s->up_ns = study_active_ns(s, now_ns);
    s->since_ns = s->state == STUDY_RUNNING ? now_ns : -1;
}

/* ---- checks of what came in ---- */

static bool too_long(const char *text, size_t max)
{
    return text != NULL && strlen(text) > max;
}

static enum mag_status check_texts(const struct event *ev, struct mag_err *err)
{
    if (too_long(ev->holder, EVENT_CLIENT_MAX)) {
        return mag_fail(err, MAG_LIMIT, "the client's name has more than %d bytes",
                        EVENT_CLIENT_MAX);
    }
    if (too_long(ev->request, EVENT_REQUEST_BYTES)) {
        return mag_fail(err, MAG_LIMIT, "\"request\" has more than %d bytes", EVENT_REQUEST_MAX);
    }
    if (ev->request != NULL && ev->holder == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "\"request\" needs \"client\" beside it: a request is known by both");
    }
    if (too_long(ev->reason, EVENT_TEXT_MAX)) {
        return mag_fail(err, MAG_LIMIT, "\"reason\" has more than %d bytes", EVENT_TEXT_MAX);
    }
    if (too_long(ev->checkpoint_uri, EVENT_TEXT_MAX) ||
        too_long(ev->checkpoint_meta, EVENT_TEXT_MAX)) {
        return mag_fail(err, MAG_LIMIT, "the checkpoint's address has more than %d bytes",
                        EVENT_TEXT_MAX);
    }
    return MAG_OK;
}

static enum mag_status check_event(const struct event *ev, struct mag_err *err)
{
    if (ev->lease_ms < 0 || ev->lease_ms > LEASE_MS_MAX) {
        return mag_fail(err, MAG_INVALID, "\"lease\" is out of its range: 0 (none) to 366 days");
    }
    if (ev->n_points > EVENT_POINTS_MAX) {
        return mag_fail(err, MAG_LIMIT, "more than %d steps in one report; send several",
                        EVENT_POINTS_MAX);
    }
    if (ev->checkpoint_step < -1 || (ev->checkpoint_step < 0 && ev->checkpoint_uri != NULL)) {
        return mag_fail(err, MAG_INVALID, "\"checkpoint\" needs a \"step\" of 0 or more");
    }
    return check_texts(ev, err);
}

/* ---- consequences ---- */

static void decide_stop(const struct study *s, struct event *ev, const struct trial *t)
{
    bool ran = t->step >= 0 || t->state == TRIAL_RUNNING ||
               study_point_state(s, t) == TRIAL_RUNNING; /* another fold of its point did */
    event_add_move(ev, t->id, ran ? TRIAL_STOPPED : TRIAL_CANCELLED);
}

void study_decide_stop_all(struct study *s, struct event *ev)
{
    struct list_node *pos, *tmp;
    list_foreach(pos, tmp, &s->open)
    {
        decide_stop(s, ev, container_of(pos, struct trial, link));
    }
    list_foreach(pos, tmp, &s->queue)
    {
        decide_stop(s, ev, container_of(pos, struct trial, link));
    }
}

static void decide_target(struct study *s, struct event *ev)
{
    const struct trial *t = trial_at(s, s->target_trial);
    if (t == NULL || study_state_is_final(s->state)) {
        return;
    }
    study_decide(ev, STUDY_COMPLETED, "target-reached",
                 "trial %lld reached the target %.10g with %.10g", (long long)t->id,
                 s->limits.target, study_measure(s, t, 0));
    study_decide_stop_all(s, ev);
}

static void decide_failures(const struct study *s, struct event *ev)
{
    const struct trial *t = trial_at(s, s->last_failed);
    bool too_many = s->limits.failures > 0 && s->failures_in_row >= s->limits.failures;
    if (ev->study != STUDY_RUNNING || s->state != STUDY_RUNNING || !too_many || t == NULL) {
        return;
    }
    study_decide(ev, STUDY_PAUSED, "failures",
                 "%lld failures in a row; the last was trial %lld: %s",
                 (long long)s->failures_in_row, (long long)t->id,
                 t->reason != NULL ? t->reason : "no reason given");
}

/* Nothing waits or runs, and the optimizer has nothing to give: only an extension can change that.
 * A slow one is asked in full by an ask alone, and never because a suggestion happens to be known:
 * the decision is a function of the record. */
static void decide_completed(const struct study *s, struct event *ev)
{
    if (study_state_is_final(ev->study) || !study_is_idle(s) || ev->refit != 0) {
        return;
    }
    if (refit_decide_end(s, ev)) {
        return;
    }
    bool asked = ev->kind == EV_ASK || ev->kind == EV_RESERVE;
    const struct opt_suggestion *next = asked ? study_peek(s) : study_outline(s);
    if (next->answer == OPT_TRIAL || next->answer == OPT_RESUME) {
        return;
    }
    if (!study_may_create(s)) {
        int64_t resting = s->counts[TRIAL_PAUSED];
        char tail[80] = "";
        if (resting > 0) {
            (void)snprintf(tail, sizeof(tail), "; %lld rest, no rung promotes them any more",
                           (long long)resting);
        }
        study_decide(ev, STUDY_COMPLETED, "trials-done", "all %lld %s have run%s",
                     (long long)s->n_points, study_folds(s) > 1 ? "points" : "trials", tail);
    } else {
        study_decide(ev, STUDY_COMPLETED, next->why_code != NULL ? next->why_code : "search-done",
                     "%s", next->why[0] != '\0' ? next->why : "the search is exhausted");
    }
}

/* What ev->moves says; the reason is the experiment's, or the event's own. */
static enum mag_status enact_moves(struct study *s, const struct event *ev, struct mag_err *err)
{
    for (int i = 0; i < ev->n_moves; i++) {
        struct trial *t = trial_at(s, ev->moves[i].trial);
        enum trial_state to = ev->moves[i].to;
        if (t == NULL || !trial_state_is_final(to) || !trial_may_move(t->state, to)) {
            return event_corrupt(ev, err, "it moves trial %lld to %s",
                                 (long long)ev->moves[i].trial, trial_state_name(to));
        }
        char buf[1024];
        const char *kin = fold_move_reason(s, ev, t, buf, sizeof(buf));
        trial_set_reason(t, kin != NULL ? kin : ev->study_why != NULL ? ev->study_why : ev->why);
        trial_end(s, t, to);
    }
    return MAG_OK;
}

static void enter_state(struct study *s, const struct event *ev)
{
    bool was_final = study_state_is_final(s->state);
    bool moved = s->state != ev->study;
    s->state = ev->study;
    if (moved || (ev->study_why_code != NULL && ev->refit == 0)) {
        free(s->why_code);
        free(s->why);
        s->why_code = ev->study_why_code != NULL ? xstrdup(ev->study_why_code) : NULL;
        s->why = ev->study_why != NULL ? xstrdup(ev->study_why) : NULL;
    }
    if (study_state_is_final(s->state)) {
        refit_forget(s);
    }
    if (!study_state_is_final(s->state)) {
        s->ended_ms = 0;
    } else if (!was_final || ev->kind == EV_EXTEND) {
        s->ended_ms = ev->wall_ms;
    }
    if (s->state != STUDY_PAUSED) {
        s->stop_at_checkpoint = false;
    }
    if (moved && s->state == STUDY_RUNNING) {
        s->failures_in_row = 0;
    }
    if (moved) {
        notice_note(s, ev);
    }
}

static enum mag_status settle(struct study *s, struct event *ev, struct mag_err *err)
{
    if (!ev->decided) {
        folds_decide(s, ev);
        decide_target(s, ev);
        decide_failures(s, ev);
    }
    enum mag_status st = enact_moves(s, ev, err);
    if (st != MAG_OK) {
        return st;
    }
    if (!ev->decided) {
        decide_completed(s, ev);
        refit_decide(s, ev);
    }
    enter_state(s, ev);
    return refit_enact(s, ev, err);
}

/* ---- the way in ---- */

static const study_handler handlers[] = {
    [EV_ASK] = handle_ask,
    [EV_RESERVE] = handle_ask,
    [EV_STARTED] = handle_started,
    [EV_REPORT] = handle_report,
    [EV_TELL] = handle_tell,
    [EV_EXPIRE] = handle_expire,
    [EV_RELEASE] = handle_release,
    [EV_PAUSE] = handle_pause,
    [EV_RESUME] = handle_resume,
    [EV_CANCEL] = handle_cancel,
    [EV_EXTEND] = handle_extend,
    [EV_ENQUEUE] = handle_enqueue,
    [EV_TRIAL_CANCEL] = handle_trial_cancel,
    [EV_TRIAL_RETRY] = handle_trial_retry,
    [EV_TIME_UP] = handle_time_up,
    [EV_NOTE] = handle_note,
    [EV_COLLECTED] = handle_collected,
    [EV_NOTIFIED] = handle_notified,
};

/* What a recorded event must be to be the next one. */
static enum mag_status check_recorded(const struct study *s, const struct event *ev,
                                      struct mag_err *err)
{
    if (ev->seq != s->seq + 1) {
        return mag_fail(err, MAG_CORRUPT, "event %lld is missing in the record (%lld follows %lld)",
                        (long long)(s->seq + 1), (long long)ev->seq, (long long)s->seq);
    }
    if (study_state_is_final(ev->study) && ev->study == STUDY_FAILED) {
        return event_corrupt(ev, err, "no event leaves an experiment failed");
    }
    return check_event(ev, err);
}

static void begin(struct study *s, struct event *ev, int64_t now_ns)
{
    s->n_touched = 0;
    s->turn++;
    s->answered = false;
    s->target_trial = 0;
    s->ended_fold = 0;
    s->fold_stops = false;
    s->wall_ms = ev->wall_ms;
    s->now_ns = ev->decided ? 0 : now_ns;
    if (!ev->decided) {
        ev->study = s->state;
        clock_advance(s, now_ns);
    }
}

/* The first event dates the experiment and the points it was created with. */
static void date_creation(struct study *s, int64_t wall_ms)
{
    s->created_ms = wall_ms;
    for (int64_t id = 1; id <= s->n_trials; id++) {
        struct trial *t = trial_at(s, id);
        t->created_ms = t->created_ms == 0 ? wall_ms : t->created_ms;
    }
}

/* The record names who decides wherever that changes, so that a later version of an algorithm is
 * not taken for a forger. */
static void record_maker(struct study *s, struct event *ev)
{
    const char *before = s->recorded_maker;
    if (!ev->decided && (before == NULL || strcmp(before, s->maker) != 0)) {
        ev->maker = xstrdup(s->maker);
    }
    if (ev->maker != NULL) {
        free(s->recorded_maker);
        s->recorded_maker = xstrdup(ev->maker);
    }
}

static void record(struct study *s, struct event *ev, int64_t now_ns)
{
    s->seq++;
    record_maker(s, ev);
    if (ev->decided) {
        s->up_ns = ev->up_ms * MAG_NS_PER_MS;
        s->since_ns = -1;
    } else {
        ev->seq = s->seq;
        ev->up_ms = s->up_ns / MAG_NS_PER_MS;
        s->since_ns = s->state == STUDY_RUNNING ? now_ns : -1;
    }
    if (s->created_ms == 0) {
        date_creation(s, ev->wall_ms);
    }
    request_remember(s, ev);
}

enum mag_status study_apply(struct study *s, struct event *ev, int64_t now_ns, struct mag_err *err)
{
    if (ev->kind < EV_ASK || ev->kind > EV_LAST) {
        return mag_fail(err, MAG_BUG, "an event of the unknown kind %d", (int)ev->kind);
    }
    if (!ev->decided) {
        ev->seq = 0;
    }
    enum mag_status st = ev->decided ? check_recorded(s, ev, err) : check_event(ev, err);
    if (st != MAG_OK) {
        return st;
    }
    begin(s, ev, now_ns);
    if (!ev->decided && request_repeats(s, ev, &st, err)) {
        return st;
    }
    st = handlers[ev->kind](s, ev, err);
    if (st != MAG_OK) {
        return st;
    }
    if (s->answered) {
        return ev->decided ? event_corrupt(ev, err, "it changes nothing here") : MAG_OK;
    }
    st = settle(s, ev, err);
    if (st == MAG_OK) {
        record(s, ev, now_ns);
    }
    return st;
}
