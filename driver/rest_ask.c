/* SPDX-License-Identifier: Apache-2.0
 *
 * Ask: giving trials to clients. An ask that finds nothing may wait; held asks stand in a queue of
 * their experiment and are served in order, in the turn in which something changed.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "driver/driver_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_MAX_MS (INT64_C(30) * 86400 * 1000)

struct ask {
    int count;
    int64_t wait_ms, lease_ms;
    bool reclaim;
    char *client, *request, *hash;
    json_t *where;
    int64_t experiment;
    /* while it is held */
    struct http_call *call;
    int64_t until_ns;
    struct list_node node; /* in experiment->waiters */
};

static void ask_free(void *arg)
{
    struct ask *a = arg;
    list_remove(&a->node);
    free(a->client);
    free(a->request);
    free(a->hash);
    json_decref(a->where);
    free(a);
}

/* ---- the answer ---- */

static void add_resume(struct buf *out, int64_t step, const char *uri)
{
    if (step < 0) {
        buf_adds(out, "null");
        return;
    }
    buf_adds(out, "{\"step\":");
    buf_add_int(out, step);
    buf_adds(out, ",\"checkpoint\":");
    if (uri != NULL) {
        buf_add_json_string(out, uri);
    } else {
        buf_adds(out, "null");
    }
    buf_addc(out, '}');
}

static void add_given(struct buf *out, const struct experiment *x, const struct trial *t,
                      int64_t attempt, int64_t budget, int64_t resume_step, const char *resume_uri)
{
    buf_adds(out, "{\"trial\":");
    buf_add_int(out, t->id);
    buf_adds(out, ",\"attempt\":");
    buf_add_int(out, attempt);
    buf_adds(out, ",\"params\":");
    rest_add_params(out, study_spec(x->study)->space, t->point);
    buf_adds(out, ",\"budget\":");
    if (budget > 0) {
        buf_add_int(out, budget);
    } else {
        buf_adds(out, "null");
    }
    buf_adds(out, ",\"resume_from\":");
    add_resume(out, resume_step, resume_uri);
    buf_addc(out, '}');
}

static void open_answer(struct buf *out, const char *state, const char *code, const char *text)
{
    buf_adds(out, "{\"state\":\"");
    buf_adds(out, state);
    buf_adds(out, "\",\"why\":");
    rest_add_why(out, code, text);
    buf_adds(out, ",\"trials\":[");
}

/* From the event as decided, now or when the same request came first. */
static void answer_event(struct http_call *c, const struct experiment *x, const struct event *ev)
{
    const char *state = ev->n_grants > 0 ? "running" : ev->done ? "done" : "waiting";
    open_answer(&c->out, state, ev->n_grants > 0 ? NULL : ev->why_code, ev->why);
    for (int i = 0; i < ev->n_grants; i++) {
        const struct event_grant *g = &ev->grants[i];
        if (i > 0) {
            buf_addc(&c->out, ',');
        }
        add_given(&c->out, x, study_trial(x->study, g->trial), g->attempt, g->budget,
                  g->resume_step, g->resume_uri);
    }
    buf_adds(&c->out, "]}");
    http_reply(c);
}

static void answer_nothing(struct http_call *c, const struct experiment *x)
{
    char why[512] = "";
    const char *code = study_why(x->study, why, sizeof(why));
    bool done = study_state_is_final(study_state(x->study));
    open_answer(&c->out, done ? "done" : "waiting", code, why);
    buf_adds(&c->out, "]}");
    http_reply(c);
}

/* The client's open trials, each with a fresh lease. */
static void answer_reclaim(struct http_call *c, const struct experiment *x, const struct ask *a)
{
    open_answer(&c->out, study_state_is_final(study_state(x->study)) ? "done" : "running", NULL,
                NULL);
    int64_t n = study_trials(x->study);
    int64_t now = clock_mono_ns();
    bool first = true;
    for (int64_t id = 1; id <= n; id++) {
        const struct trial *t = study_trial(x->study, id);
        if (t->state != TRIAL_RUNNING || t->from_worker || t->holder == NULL ||
            strcmp(t->holder, a->client) != 0) {
            continue;
        }
        (void)study_renew(x->study, id, t->attempt, now);
        if (!first) {
            buf_addc(&c->out, ',');
        }
        first = false;
        add_given(&c->out, x, t, t->attempt, t->budget, t->checkpoint_step, t->checkpoint_uri);
    }
    buf_adds(&c->out, "]}");
    http_reply(c);
}

/* ---- asking the study ---- */

/* Answers the call and returns true, or returns false: nothing now, and the ask may wait. */
static bool serve(struct http_call *c, struct experiment *x, struct ask *a, bool may_wait)
{
    if (a->request != NULL) {
        const struct event *before = study_request(x->study, a->client, a->request);
        if (before != NULL && before->body_hash != NULL &&
            strcmp(before->body_hash, a->hash) != 0) {
            http_problem(c, 409, "request '%s' was sent before with another body", a->request);
            return true;
        }
        if (before != NULL) {
            answer_event(c, x, before);
            return true;
        }
    }
    struct event ev;
    struct mag_err err = {0};
    event_init(&ev, EV_ASK);
    ev.count = a->count;
    ev.lease_ms = a->lease_ms;
    ev.holder = a->client != NULL ? xstrdup(a->client) : NULL;
    ev.request = a->request != NULL ? xstrdup(a->request) : NULL;
    ev.body_hash = a->request != NULL ? xstrdup(a->hash) : NULL;
    ev.where = json_incref(a->where);
    enum mag_status st = driver_apply(c->d, x, &ev, &err);
    bool answered = true;
    if (st != MAG_OK) {
        http_problem_status(c, st, &err);
    } else if (ev.n_grants == 0 && !ev.done && may_wait) {
        answered = false;
    } else {
        answer_event(c, x, &ev);
    }
    event_fini(&ev);
    return answered;
}

/* ---- held asks ---- */

static void end_hold(struct ask *a)
{
    list_remove(&a->node);
    struct http_call *c = a->call;
    if (c->timer != NULL) {
        (void)event_del(c->timer);
    }
}

static void on_wait_over(evutil_socket_t fd, short what, void *arg)
{
    struct http_call *c = arg;
    struct ask *a = c->state;
    end_hold(a);
    struct experiment *x = driver_experiment(c->d, a->experiment);
    if (x != NULL) {
        answer_nothing(c, x);
    } else {
        http_problem(c, 404, "the experiment has gone");
    }
}

static void on_gone(struct http_call *c)
{
    if (c->req == NULL) {
        http_call_free(c);
    } else {
        /* Half closed perhaps: the peer may still read. */
        on_wait_over(-1, 0, c);
    }
}

static void arm_wait(struct ask *a)
{
    int64_t left_ms = (a->until_ns - clock_mono_ns()) / MAG_NS_PER_MS;
    left_ms = left_ms > 0 ? left_ms : 0;
    struct timeval tv = {.tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000};
    (void)event_add(a->call->timer, &tv);
}

/* Back to its place at the head of the queue. */
static void hold_again(struct experiment *x, struct ask *a)
{
    list_append(x->waiters.next, &a->node);
    arm_wait(a);
}

static void hold(struct http_call *c, struct experiment *x, struct ask *a)
{
    a->call = c;
    list_append(&x->waiters, &a->node);
    http_keep(c, on_gone);
    a->until_ns = clock_mono_ns() + a->wait_ms * MAG_NS_PER_MS;
    c->timer = event_new(c->d->base, -1, 0, on_wait_over, c);
    arm_wait(a);
}

void rest_serve_waiters(struct driver *d, struct experiment *x)
{
    struct list_node *n;
    bool over = study_state_is_final(study_state(x->study));
    while ((n = list_first(&x->waiters)) != NULL && (over || study_has_work(x->study))) {
        struct ask *a = container_of(n, struct ask, node);
        /* Out of the queue first: an answer may free it. */
        end_hold(a);
        if (!serve(a->call, x, a, true)) {
            hold_again(x, a);
            return; /* those behind it would get nothing either */
        }
    }
}

void rest_drop_waiters(struct driver *d, struct experiment *x)
{
    for (struct list_node *n; (n = list_first(&x->waiters)) != NULL;) {
        struct ask *a = container_of(n, struct ask, node);
        end_hold(a);
        if (a->call->req == NULL) {
            http_call_free(a->call);
        } else {
            http_problem(a->call, 503,
                         "the experiment was taken back: its creation could not be stored");
        }
    }
}

/* ---- the handler ---- */

static const char *const ask_keys[] = {"count", "client",  "request", "wait",
                                       "lease", "reclaim", "where",   NULL};

static struct ask *parse(struct http_call *c, struct mjson_issues *is)
{
    struct event id;
    event_init(&id, EV_ASK);
    struct ask *a = xcalloc(1, sizeof(*a));
    mjson_check_keys(c->body, ask_keys, "", is);
    body_request(c, c->body, &id, is);
    a->count = (int)body_int(c->body, "count", 1, EVENT_GRANTS_MAX, 1, is);
    a->wait_ms = body_duration(c->body, "wait", HTTP_WAIT_MAX_MS, 0, is);
    a->lease_ms = body_duration(c->body, "lease", LEASE_MAX_MS, STUDY_LEASE_CLIENT_MS, is);
    a->reclaim = body_bool(c->body, "reclaim", false, is);
    a->where = json_incref(json_object_get(c->body, "where"));
    if (a->where != NULL && !json_is_object(a->where)) {
        mjson_issue(is, "/where", "is %s, expected an object", mjson_kind(a->where));
    }
    if (id.holder == NULL && (a->reclaim || a->lease_ms == 0)) {
        mjson_issue(is, "/client", "is needed %s",
                    a->reclaim ? "to reclaim its trials" : "for trials without a lease");
    }
    /* Taken over from the event, whose other fields are empty. */
    a->client = id.holder;
    a->request = id.request;
    a->hash = id.body_hash;
    return a;
}

void rest_ask(struct http_call *c)
{
    struct mjson_issues is = {0};
    struct experiment *x = c->x;
    struct ask *a = parse(c, &is);
    c->state = a;
    c->free_state = ask_free;
    a->experiment = x->id;
    if (is.total > 0) {
        http_problem_issues(c, 422, "the ask is not valid", &is);
    } else if (x->broken != NULL) {
        http_problem(c, 409, "the experiment's record cannot be replayed: %s", x->broken);
    } else if (a->reclaim) {
        answer_reclaim(c, x, a);
    } else if (!serve(c, x, a, a->wait_ms > 0 && !c->d->stopping)) {
        hold(c, x, a);
    }
}
