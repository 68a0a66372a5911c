/* SPDX-License-Identifier: Apache-2.0
 *
 * The refit of "validation": when the search is over, its best point runs once more, on all data, as
 * one last trial. It is judged by nobody: neither optimizer nor target nor best know it. The
 * experiment completes, for the reason for which the search ended, when the refit has ended.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <stdlib.h>

bool study_is_refitting(const struct study *s)
{
    return s->refit != 0;
}

static bool is_due(const struct study *s, const struct event *ev)
{
    const struct trial *best = study_best(s);
    bool ends = ev->study == STUDY_COMPLETED && !study_state_is_final(s->state);
    return s->spec->validation.refit && ends && ev->kind != EV_TIME_UP && s->refit == 0 &&
           best != NULL && s->refitted != best->point_of;
}

void refit_decide(const struct study *s, struct event *ev)
{
    if (!is_due(s, ev)) {
        return;
    }
    ev->refit = study_best(s)->point_of;
    ev->study = s->state;
    ev->changed = true;
    if (ev->kind == EV_ASK || ev->kind == EV_RESERVE) {
        ev->waiting = true;
        ev->done = false;
    }
}

bool refit_decide_end(const struct study *s, struct event *ev)
{
    const struct trial *t = trial_at(s, s->refit);
    if (t == NULL) {
        return false;
    }
    const char *why = s->refit_why != NULL ? s->refit_why : "the search is over";
    const char *code = s->refit_code != NULL ? s->refit_code : "search-done";
    if (t->state == TRIAL_COMPLETED) {
        study_decide(ev, STUDY_COMPLETED, code, "%s; point %lld was refitted as trial %lld", why,
                     (long long)t->point_of, (long long)t->id);
    } else {
        study_decide(ev, STUDY_COMPLETED, code, "%s; the refit of point %lld (trial %lld) %s: %s",
                     why, (long long)t->point_of, (long long)t->id, trial_state_name(t->state),
                     t->reason != NULL ? t->reason : "no reason given");
    }
    return true;
}

enum mag_status refit_decide_again(const struct study *s, struct event *ev, const struct trial *old,
                                   struct mag_err *err)
{
    if (s->state != STUDY_COMPLETED) {
        return mag_fail(err, MAG_CONFLICT,
                        "trial %lld is a refit; it can be run again when the experiment is "
                        "completed, and now it is %s",
                        (long long)old->id, study_state_name(s->state));
    }
    ev->refit = old->point_of;
    ev->created_trial = s->n_trials + 1;
    study_decide(ev, STUDY_RUNNING, "reopened", "the refit of point %lld runs again",
                 (long long)old->point_of);
    return MAG_OK;
}

static void set_text(char **slot, const char *text)
{
    char *copy = text != NULL ? xstrdup(text) : NULL;
    free(*slot);
    *slot = copy;
}

enum mag_status refit_enact(struct study *s, const struct event *ev, struct mag_err *err)
{
    if (ev->refit == 0) {
        return MAG_OK;
    }
    const struct trial *best = trial_at(s, ev->refit);
    if (!s->spec->validation.refit || best == NULL || trial_is_refit(best) || best->point_of != ev->refit || s->refit != 0) {
        return event_corrupt(ev, err, "it refits point %lld", (long long)ev->refit);
    }
    struct trial *t = trial_create(s, best->point);
    t->point_of = ev->refit;
    t->budget = s->spec->resource.present ? s->spec->resource.max : 0;
    s->refit = s->last_refit = t->id;
    if (ev->kind == EV_TRIAL_RETRY) {
        t->rerun_of = ev->trial;
    } else {
        set_text(&s->refit_code, ev->study_why_code);
        set_text(&s->refit_why, ev->study_why);
    }
    study_text_set(s, &t->why_code, "refit");
    study_text_set(s, &t->why, "the best point, to be trained on all data; waits to be taken");
    return MAG_OK;
}

void refit_ended(struct study *s, const struct trial *t)
{
    if (t->state == TRIAL_COMPLETED) {
        s->refitted = t->point_of;
    }
}

const struct trial *study_refit(const struct study *s)
{
    return trial_at(s, s->last_refit);
}

void refit_forget(struct study *s)
{
    s->refit = 0;
}
