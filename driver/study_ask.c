/* SPDX-License-Identifier: Apache-2.0
 *
 * Giving trials out and taking them back ungiven: ask, reserve, started, release, expire. Trials
 * that wait come first, in the order in which they became ready; then the optimizer is asked.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- deciding ---- */

/* Is there a place for one more? A reservation is for the place of a trial that is about to end, so
 * each running trial may have one successor reserved. */
static bool has_place(const struct study *s, bool reserve)
{
    int64_t places = s->limits.parallel;
    if (places <= 0) {
        return true;
    }
    return reserve ? s->n_reserved < places : s->counts[TRIAL_RUNNING] + s->n_reserved < places;
}

static void decide_checkpoint(struct event_grant *g, int64_t step, const char *uri)
{
    if (step >= 0) {
        g->resume_step = step;
        g->resume_uri = uri != NULL ? xstrdup(uri) : NULL;
    }
}

/* The point as recorded: zero has one sign, inactive parameters are NaN. */
static double *copy_point(const struct study *s, const double *point)
{
    int n = s->spec->space->n;
    double *copy = xcalloc((size_t)n + 1, sizeof(*copy));
    for (int i = 0; i < n; i++) {
        copy[i] = point[i] + 0.0;
    }
    return copy;
}

static void decide_known(struct event_grant *g, const struct trial *t, int64_t budget)
{
    g->trial = t->id;
    g->attempt = t->attempt + 1;
    g->budget = budget;
    g->bracket = t->bracket;
    g->rung = t->rung;
    decide_checkpoint(g, t->checkpoint_step, t->checkpoint_uri);
}

static void decide_created(const struct study *s, struct event_grant *g,
                           const struct opt_suggestion *o)
{
    g->trial = s->n_trials + 1;
    g->attempt = 1;
    g->budget = o->budget;
    g->created = true;
    g->point = copy_point(s, o->point);
    g->bracket = o->bracket;
    g->rung = o->rung;
    const struct trial *parent = point_at(s, o->parent);
    if (parent != NULL) {
        g->parent = parent->id;
        g->parent_step = o->parent_step;
        decide_checkpoint(g, parent->checkpoint_step, parent->checkpoint_uri);
    }
}

/* The next trial to give, or why there is none. */
static bool decide_grant(struct study *s, struct event *ev)
{
    if (!has_place(s, ev->kind == EV_RESERVE)) {
        event_why(ev, "parallel-limit", "the limit of %lld parallel trials is reached",
                  (long long)s->limits.parallel);
        return false;
    }
    struct list_node *first = list_first(&s->queue);
    if (first != NULL) {
        const struct trial *t = container_of(first, struct trial, link);
        decide_known(event_add_grant(ev), t, t->budget);
        return true;
    }
    if (study_is_refitting(s)) {
        event_why(ev, "refit", "the search is over; trial %lld refits its best point",
                  (long long)s->refit);
        return false;
    }
    const struct opt_suggestion *o = study_peek(s);
    if (o->answer == OPT_TRIAL) {
        decide_created(s, event_add_grant(ev), o);
        return true;
    }
    if (o->answer == OPT_RESUME) {
        const struct trial *t = point_at(s, o->trial);
        MAG_ASSERT(t != NULL && t->state == TRIAL_PAUSED, "%s resumes trial %lld",
                   optimizer_ops_of(s->opt)->name, (long long)o->trial);
        struct event_grant *g = event_add_grant(ev);
        decide_known(g, t, o->budget);
        g->bracket = o->bracket;
        g->rung = o->rung;
        return true;
    }
    if (!study_may_create(s)) {
        event_why(ev, "trials-limit", "all %lld %s are created, %lld still running",
                  (long long)s->n_points, study_folds(s) > 1 ? "points" : "trials",
                  (long long)s->counts[TRIAL_RUNNING]);
    } else {
        event_why(ev, o->why_code != NULL ? o->why_code : "optimizer-waits", "%s",
                  o->why[0] != '\0' ? o->why : "the optimizer waits for results of running trials");
    }
    return false;
}

/* ---- enacting ---- */

static void adopt_created(struct study *s, const struct trial *t, const struct event_grant *g)
{
    struct opt_suggestion o = {.answer = OPT_TRIAL,
                               .trial = t->ordinal,
                               .point = t->point,
                               .budget = g->budget,
                               .parent = point_ordinal(s, g->parent),
                               .parent_step = g->parent_step,
                               .bracket = g->bracket,
                               .rung = g->rung};
    optimizer_adopt(s->opt, &o);
    study_unpeek(s);
}

static void adopt_resumed(struct study *s, const struct event_grant *g)
{
    struct opt_suggestion o = {.answer = OPT_RESUME,
                               .trial = point_ordinal(s, g->trial),
                               .budget = g->budget,
                               .bracket = g->bracket,
                               .rung = g->rung};
    optimizer_adopt(s->opt, &o);
    study_unpeek(s);
}

/* A recorded grant may be damaged: what an optimizer or an index would stumble over is refused. */
static enum mag_status check_grant(const struct study *s, const struct event *ev,
                                   const struct event_grant *g, struct mag_err *err)
{
    const struct trial *t = trial_at(s, g->trial);
    const struct opt_resource *r = &s->spec->resource;
    if (r->present ? g->budget < 1 || g->budget > r->max : g->budget != 0) {
        return event_corrupt(ev, err, "trial %lld has the budget %lld", (long long)g->trial,
                             (long long)g->budget);
    }
    if (g->created) {
        if (g->trial != s->n_trials + 1 || g->attempt != 1 ||
            !space_normalize(s->spec->space, g->point)) {
            return event_corrupt(ev, err, "it creates trial %lld wrongly", (long long)g->trial);
        }
        return MAG_OK;
    }
    bool free_to_give =
        t != NULL && !t->reserved && (t->state == TRIAL_WAITING || t->state == TRIAL_PAUSED);
    if (!free_to_give || g->attempt != t->attempt + 1) {
        return event_corrupt(ev, err, "it gives trial %lld as attempt %lld", (long long)g->trial,
                             (long long)g->attempt);
    }
    return MAG_OK;
}

static struct trial *enact_created(struct study *s, const struct event_grant *g)
{
    struct trial *t = point_create(s, g->point);
    t->parent = g->parent;
    t->parent_step = g->parent_step;
    s->has_copies = s->has_copies || g->parent > 0;
    if (g->parent > 0 && g->resume_step >= 0) {
        t->checkpoint_step = g->resume_step; /* it goes on from there until it has one of its own */
        t->checkpoint_uri = g->resume_uri != NULL ? xstrdup(g->resume_uri) : NULL;
    }
    t->budget = g->budget;
    t->bracket = g->bracket;
    t->rung = g->rung;
    point_share(s, t);
    adopt_created(s, t, g);
    return t;
}

static enum mag_status enact_grant(struct study *s, const struct event *ev,
                                   const struct event_grant *g, struct mag_err *err)
{
    enum mag_status st = ev->decided ? check_grant(s, ev, g, err) : MAG_OK;
    if (st != MAG_OK) {
        return st;
    }
    struct trial *t = g->created ? enact_created(s, g) : trial_at(s, g->trial);
    if (t->state == TRIAL_PAUSED) {
        adopt_resumed(s, g);
    }
    t->budget = g->budget;
    t->bracket = g->bracket;
    t->rung = g->rung;
    trial_give(s, t, ev, ev->kind == EV_RESERVE);
    return MAG_OK;
}

/* ---- ask and reserve ---- */

static enum mag_status replay_grants(struct study *s, const struct event *ev, struct mag_err *err)
{
    for (int i = 0; i < ev->n_grants; i++) {
        enum mag_status st = enact_grant(s, ev, &ev->grants[i], err);
        if (st != MAG_OK) {
            return st;
        }
    }
    return MAG_OK;
}

/* An ask outside of a running experiment. */
static void answer_closed(struct study *s, struct event *ev)
{
    char why[512];
    const char *code = study_why(s, why, sizeof(why));
    ev->done = study_state_is_final(s->state);
    ev->waiting = !ev->done;
    event_why(ev, code, "%s", why);
    s->answered = true;
}

enum mag_status handle_ask(struct study *s, struct event *ev, struct mag_err *err)
{
    if (ev->decided) {
        return replay_grants(s, ev, err);
    }
    int count = ev->kind == EV_RESERVE ? 1 : ev->count;
    if (count < 1 || count > EVENT_GRANTS_MAX) {
        return mag_fail(err, MAG_INVALID, "\"count\" is %d; it must be 1 to %d", count,
                        EVENT_GRANTS_MAX);
    }
    if (s->state != STUDY_RUNNING) {
        answer_closed(s, ev);
        return MAG_OK;
    }
    while (ev->n_grants < count && decide_grant(s, ev)) {
        enum mag_status st = enact_grant(s, ev, &ev->grants[ev->n_grants - 1], err);
        MAG_ASSERT(st == MAG_OK, "grant of trial %lld",
                   (long long)ev->grants[ev->n_grants - 1].trial);
    }
    ev->waiting = ev->n_grants < count;
    if (ev->n_grants > 0) {
        ev->changed = true;
    } else if (!study_is_idle(s)) {
        s->answered = true; /* nothing given, nothing to record */
    } else {
        ev->waiting = false; /* nor will there ever be: the experiment completes here */
        ev->done = true;
    }
    return MAG_OK;
}

/* ---- started, release, expire ---- */

enum mag_status handle_started(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = event_attempt(s, ev, &t, err);
    if (st != MAG_OK) {
        return st;
    }
    bool current = ev->attempt == t->attempt;
    bool starts = current && t->state == TRIAL_WAITING && (t->reserved || t->lost);
    bool runs = current && t->state == TRIAL_RUNNING;
    if (starts) {
        trial_start(s, t);
    } else if (!runs) {
        ev->late = true;
        ev->action = ACT_STOP;
        s->answered = true;
    } else if (ev->where == NULL || json_equal(ev->where, t->where)) {
        lease_arm(s, t, s->now_ns);
        s->answered = true;
    }
    if (!s->answered && ev->where != NULL) {
        json_decref(t->where);
        t->where = study_where(s, ev->where);
        study_touch(s, t);
    }
    event_after(ev, t, starts);
    return MAG_OK;
}

enum mag_status handle_release(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = event_attempt(s, ev, &t, err);
    if (st != MAG_OK) {
        return st;
    }
    bool open = ev->attempt == t->attempt && (t->state == TRIAL_RUNNING || t->reserved);
    if (open) {
        trial_return(s, t);
        t->lost = true; /* should its holder have it after all, its first message takes it back */
    } else {
        s->answered = true;
    }
    event_after(ev, t, open);
    return MAG_OK;
}

enum mag_status handle_expire(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = event_attempt(s, ev, &t, err);
    if (st != MAG_OK) {
        return st;
    }
    bool current = ev->attempt == t->attempt;
    if (current && t->reserved) {
        trial_return(s, t); /* it had not begun: no loss */
        t->lost = true;
    } else if (current && t->state == TRIAL_RUNNING) {
        enum trial_state to = ev->decided ? ev->state : decide_loss(s, t, ev->uncounted);
        if (to != TRIAL_WAITING && to != TRIAL_FAILED) {
            return event_corrupt(ev, err, "an expired trial becomes %s", trial_state_name(to));
        }
        enact_loss(s, t, to, ev->uncounted, ev->reason);
        t->lost = t->state == TRIAL_WAITING;
    } else {
        s->answered = true;
        event_after(ev, t, false);
        return MAG_OK;
    }
    event_after(ev, t, true);
    return MAG_OK;
}
