/* SPDX-License-Identifier: Apache-2.0
 *
 * Trials that people make: enqueued points, retries under a new id, the spec's own points. Each
 * gets the next id at once, becomes part of the optimizer's history, and waits to be given.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* ---- enacting ---- */

static struct trial *add_trial(struct study *s, const double *point, int64_t budget)
{
    struct trial *t = point_create(s, point);
    t->enqueued = true;
    t->budget = budget;
    point_share(s, t);
    struct opt_suggestion o = {
        .answer = OPT_TRIAL, .trial = t->ordinal, .point = t->point, .budget = budget};
    optimizer_adopt(s->opt, &o);
    study_unpeek(s);
    return t;
}

static void waits_because(struct study *s, const struct trial *first, const char *why)
{
    struct trial *t;
    for (int i = 0; (t = point_fold(s, first, i)) != NULL; i++) {
        study_text_set(s, &t->why_code, "enqueued");
        study_text_set(s, &t->why, why);
    }
}

void study_enqueue_points(struct study *s)
{
    const struct space *space = s->spec->space;
    double *point = xcalloc((size_t)space->n + 1, sizeof(*point));
    struct mjson_issues is = {0};
    size_t i;
    json_t *params;
    json_array_foreach(s->spec->points, i, params)
    {
        if (study_may_create(s) && space_point_from_json(space, params, "/points", &is, point)) {
            struct trial *t = add_trial(s, point, optimizer_first_budget(s->opt));
            waits_because(s, t, "one of the experiment's own points; it is given before any other");
        }
    }
    mjson_issues_fini(&is);
    free(point);
}

/* The new trial of a decided or recorded event: its one grant, of attempt 0. */
static enum mag_status enact_added(struct study *s, struct event *ev, struct trial **ret,
                                   struct mag_err *err)
{
    const struct opt_resource *r = &s->spec->resource;
    struct event_grant *g = ev->n_grants == 1 ? &ev->grants[0] : NULL;
    bool sound = g != NULL && g->created && g->trial == s->n_trials + 1 &&
                 ev->created_trial == g->trial &&
                 (r->present ? g->budget >= 1 && g->budget <= r->max : g->budget == 0) &&
                 space_normalize(s->spec->space, g->point);
    if (!sound) {
        (void)event_corrupt(ev, err, "it adds a trial wrongly");
        return MAG_CORRUPT;
    }
    *ret = add_trial(s, g->point, g->budget);
    return MAG_OK;
}

/* ---- deciding ---- */

static enum mag_status check_may_add(const struct study *s, struct mag_err *err)
{
    const char *code = s->why_code != NULL ? s->why_code : "";
    bool reopens = s->state == STUDY_COMPLETED && strcmp(code, "target-reached") != 0 &&
                   strcmp(code, "time-up") != 0;
    if (study_state_is_final(s->state) && !reopens) {
        return mag_fail(err, MAG_CONFLICT, "the experiment is %s (%s); it takes no more trials%s",
                        study_state_name(s->state), s->why != NULL ? s->why : code,
                        s->state == STUDY_COMPLETED ? " unless it is extended" : "");
    }
    if (study_is_refitting(s)) {
        return mag_fail(err, MAG_CONFLICT,
                        "the search is over and trial %lld refits its best point; extend the "
                        "experiment to add more",
                        (long long)s->refit);
    }
    if (!study_may_create(s)) {
        return mag_fail(err, MAG_LIMIT,
                        "the limit of %lld trials is reached; extend the experiment first",
                        (long long)s->n_points);
    }
    return MAG_OK;
}

static void decide_added(struct study *s, struct event *ev, const double *point)
{
    struct event_grant *g = event_add_grant(ev);
    int n = s->spec->space->n;
    g->trial = ev->created_trial = s->n_trials + 1;
    g->budget = optimizer_first_budget(s->opt);
    g->created = true;
    g->point = xcalloc((size_t)n + 1, sizeof(double));
    for (int i = 0; i < n; i++) {
        g->point[i] = point[i] + 0.0; /* zero has one sign */
    }
    ev->changed = true;
    if (s->state == STUDY_COMPLETED) {
        study_decide(ev, STUDY_RUNNING, "reopened", "trial %lld was added", (long long)g->trial);
    }
}

static enum mag_status params_of(const struct study *s, const struct event *ev, double *point,
                                 struct mag_err *err)
{
    static const char *const known[] = {"params", "notes", NULL};
    const struct space *space = s->spec->space;
    const json_t *params = json_object_get(ev->detail, "params");
    const json_t *notes = json_object_get(ev->detail, "notes");
    struct mjson_issues is = {0};
    mjson_check_keys(ev->detail, known, "", &is);
    if (!json_is_object(params)) {
        mjson_issue(&is, "/params",
                    "is missing: give the point as {\"params\": {\"name\": value, …}}");
    } else {
        /* What is missing is drawn; the event records the whole point. */
        (void)space_point_from_part(space, params, "/params", s->spec->seed, "enqueued",
                                    (uint64_t)s->n_trials + 1, &is, point);
    }
    if (notes != NULL && (!json_is_string(notes) || json_string_length(notes) > EVENT_TEXT_MAX)) {
        mjson_issue(&is, "/notes", "must be a string of at most %d bytes", EVENT_TEXT_MAX);
    }
    enum mag_status st = MAG_OK;
    if (is.total > 0) {
        st = mag_fail(err, MAG_INVALID, "%s: %s", is.items[0].pointer, is.items[0].text);
    } else if (!space_normalize(space, point)) {
        st = mag_fail(err, MAG_INVALID, "/params: the point is not inside the search space");
    }
    mjson_issues_fini(&is);
    return st;
}

static enum mag_status decide_enqueue(struct study *s, struct event *ev, struct mag_err *err)
{
    enum mag_status st = check_may_add(s, err);
    if (st != MAG_OK) {
        return st;
    }
    double *point = xcalloc((size_t)s->spec->space->n + 1, sizeof(*point));
    st = params_of(s, ev, point, err);
    if (st == MAG_OK) {
        decide_added(s, ev, point);
    }
    free(point);
    return st;
}

enum mag_status handle_enqueue(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *t = NULL;
    enum mag_status st = ev->decided ? MAG_OK : decide_enqueue(s, ev, err);
    if (st == MAG_OK) {
        st = enact_added(s, ev, &t, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    const char *notes = json_string_value(json_object_get(ev->detail, "notes"));
    t->notes = notes != NULL ? xstrdup(notes) : NULL;
    waits_because(s, t, "enqueued by a user; it is given before any new suggestion");
    return MAG_OK;
}

static enum mag_status decide_retry(struct study *s, struct event *ev, const struct trial *old,
                                    struct mag_err *err)
{
    if (!trial_state_is_final(study_point_state(s, old))) {
        return mag_fail(err, MAG_CONFLICT,
                        "trial %lld is %s; only a trial that has ended can be run again%s",
                        (long long)old->id, trial_state_name(old->state),
                        trial_stands_alone(s, old) ? "" : ", with all folds of its point");
    }
    if (trial_is_refit(old)) {
        return refit_decide_again(s, ev, old, err);
    }
    enum mag_status st = check_may_add(s, err);
    if (st == MAG_OK) {
        decide_added(s, ev, old->point);
    }
    return st;
}

/* All folds of the new point, each of its counterpart. */
static void note_rerun(const struct study *s, const struct trial *first, const struct trial *old)
{
    struct trial *t;
    for (int i = 0; (t = point_fold(s, first, i)) != NULL; i++) {
        t->rerun_of = old->point_of + i;
    }
}

enum mag_status handle_trial_retry(struct study *s, struct event *ev, struct mag_err *err)
{
    struct trial *old = NULL, *t = NULL;
    enum mag_status st = event_trial(s, ev, &old, err);
    if (st == MAG_OK && !ev->decided) {
        st = decide_retry(s, ev, old, err);
    }
    if (st == MAG_OK && trial_is_refit(old)) {
        event_after(ev, old, true);
        return MAG_OK; /* refit_enact makes it */
    }
    if (st == MAG_OK) {
        st = enact_added(s, ev, &t, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    note_rerun(s, t, old);
    waits_because(s, t, "asked to be run again; it is given before any new suggestion");
    event_after(ev, t, true);
    return MAG_OK;
}
