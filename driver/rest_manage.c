/* SPDX-License-Identifier: Apache-2.0
 *
 * What people do to experiments and trials: one event each, answered with the thing as it then is.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- shared ---- */

/* Applies and frees the event; true when it went well, else the problem was sent. */
static bool apply(struct http_call *c, struct event *ev, int64_t *ret_created)
{
    struct mag_err err = {0};
    enum mag_status st = driver_apply(c->d, c->x, ev, &err);
    if (ret_created != NULL) {
        *ret_created = ev->created_trial;
    }
    event_fini(ev);
    if (st != MAG_OK) {
        http_problem_status(c, st, &err);
    }
    return st == MAG_OK;
}

static void answer_experiment(struct http_call *c)
{
    rest_add_experiment(&c->out, c->d, c->x, true);
    http_reply(c);
}

static void answer_trial(struct http_call *c, int status, int64_t trial)
{
    c->status = status;
    rest_add_trial(&c->out, c->d, c->x, study_trial(c->x->study, trial));
    http_reply(c);
}

static int64_t trial_of(struct http_call *c)
{
    char *end = NULL;
    long long n = strtoll(c->args[1], &end, 10);
    if (*end != '\0' || study_trial(c->x->study, n) == NULL) {
        http_problem(c, 404, "experiment %lld has no trial %s", (long long)c->x->id, c->args[1]);
        return 0;
    }
    return n;
}

/* True (and answered) when the same (client, request) came before. */
static bool answered_before(struct http_call *c, const struct event *ev, int64_t *ret_created)
{
    if (ev->request == NULL) {
        return false;
    }
    const struct event *before = study_request(c->x->study, ev->holder, ev->request);
    if (before == NULL) {
        return false;
    }
    if (before->kind != ev->kind || strcmp(before->body_hash, ev->body_hash) != 0) {
        http_problem(c, 409, "request '%s' was sent before with another body", ev->request);
        *ret_created = -1;
    } else {
        *ret_created = before->created_trial;
    }
    return true;
}

/* ---- experiments ---- */

static void simple(struct http_call *c, enum event_kind kind, const char *const keys[])
{
    struct mjson_issues is = {0};
    if (rest_refuse_broken(c)) {
        return;
    }
    mjson_check_keys(c->body, keys, "", &is);
    const char *reason = body_text(c->body, "reason", EVENT_TEXT_MAX, &is);
    bool stop = body_bool(c->body, "stop", false, &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the request is not valid", &is);
        return;
    }
    struct event ev;
    event_init(&ev, kind);
    ev.reason = reason != NULL ? xstrdup(reason) : NULL;
    if (kind == EV_PAUSE) {
        ev.detail = json_pack("{s:b}", "stop", stop);
    }
    if (apply(c, &ev, NULL)) {
        answer_experiment(c);
    }
}

void rest_experiment_pause(struct http_call *c)
{
    static const char *const keys[] = {"stop", "reason", NULL};
    simple(c, EV_PAUSE, keys);
}

void rest_experiment_resume(struct http_call *c)
{
    static const char *const keys[] = {NULL};
    simple(c, EV_RESUME, keys);
}

void rest_experiment_cancel(struct http_call *c)
{
    static const char *const keys[] = {"reason", NULL};
    simple(c, EV_CANCEL, keys);
}

/* An event whose detail is the body without the idempotency key. */
static bool with_detail(struct http_call *c, enum event_kind kind, struct event *ev)
{
    struct mjson_issues is = {0};
    event_init(ev, kind);
    body_request(c, c->body, ev, &is);
    ev->detail = json_copy(c->body);
    (void)json_object_del(ev->detail, "client");
    (void)json_object_del(ev->detail, "request");
    if (is.total > 0) {
        event_fini(ev);
        http_problem_issues(c, 422, "the request is not valid", &is);
        return false;
    }
    return true;
}

void rest_experiment_extend(struct http_call *c)
{
    struct event ev;
    int64_t created = 0;
    if (rest_refuse_broken(c) || !with_detail(c, EV_EXTEND, &ev)) {
        return;
    }
    if (answered_before(c, &ev, &created)) {
        event_fini(&ev);
        if (created >= 0) {
            answer_experiment(c);
        }
    } else if (apply(c, &ev, NULL)) {
        answer_experiment(c);
    }
}

void rest_experiment_note(struct http_call *c)
{
    struct event ev;
    if (!rest_refuse_broken(c) && with_detail(c, EV_NOTE, &ev) && apply(c, &ev, NULL)) {
        answer_experiment(c);
    }
}

/* ---- trials ---- */

void rest_trials_enqueue(struct http_call *c)
{
    struct event ev;
    int64_t created = 0;
    if (rest_refuse_broken(c) || !with_detail(c, EV_ENQUEUE, &ev)) {
        return;
    }
    if (answered_before(c, &ev, &created)) {
        event_fini(&ev);
        if (created > 0) {
            answer_trial(c, 201, created);
        }
    } else if (apply(c, &ev, &created)) {
        answer_trial(c, 201, created);
    }
}

void rest_trial_cancel(struct http_call *c)
{
    static const char *const keys[] = {"reason", NULL};
    struct mjson_issues is = {0};
    int64_t trial = rest_refuse_broken(c) ? 0 : trial_of(c);
    if (trial == 0) {
        return;
    }
    mjson_check_keys(c->body, keys, "", &is);
    const char *reason = body_text(c->body, "reason", EVENT_TEXT_MAX, &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the request is not valid", &is);
        return;
    }
    struct event ev;
    event_init(&ev, EV_TRIAL_CANCEL);
    ev.trial = trial;
    ev.reason = reason != NULL ? xstrdup(reason) : NULL;
    if (apply(c, &ev, NULL)) {
        answer_trial(c, 200, trial);
    }
}

void rest_trial_retry(struct http_call *c)
{
    struct event ev;
    int64_t created = 0;
    int64_t trial = rest_refuse_broken(c) ? 0 : trial_of(c);
    if (trial == 0 || !with_detail(c, EV_TRIAL_RETRY, &ev)) {
        return;
    }
    ev.trial = trial;
    if (json_object_size(ev.detail) > 0) {
        event_fini(&ev);
        http_problem(c, 422, "a retry takes no fields but \"client\" and \"request\"");
    } else if (answered_before(c, &ev, &created)) {
        event_fini(&ev);
        if (created > 0) {
            answer_trial(c, 201, created);
        }
    } else if (apply(c, &ev, &created)) {
        answer_trial(c, 201, created);
    }
}

void rest_trial_note(struct http_call *c)
{
    struct event ev;
    int64_t trial = rest_refuse_broken(c) ? 0 : trial_of(c);
    if (trial != 0 && with_detail(c, EV_NOTE, &ev)) {
        ev.trial = trial;
        if (apply(c, &ev, NULL)) {
            answer_trial(c, 200, trial);
        }
    }
}
