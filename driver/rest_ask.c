/* SPDX-License-Identifier: Apache-2.0
 *
 * Ask: giving trials to clients. An ask that finds nothing may wait; held asks stand in a queue of
 * their experiment and are served in order, in the turn in which something changed. Where each
 * suggestion takes long they wait for it in the same queue; an ask for several trials then gets
 * them one by one, an event each, with other events in between, and is answered with all of them.
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
    struct event got; /* grants so far, of an experiment with a slow optimizer */
    int parts;        /* events that they came by */
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
    event_fini(&a->got);
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

/* Which part of the data it is for. */
static void add_fold(struct buf *out, const struct experiment *x, const struct trial *t)
{
    json_t *split = spec_split_json(study_spec(x->study));
    if (split != NULL) {
        buf_addf(out, ",\"fold\":%d,\"folds\":%d,\"split\":", (int)t->fold,
                 study_folds(x->study));
        rest_add_json(out, split);
        json_decref(split);
    }
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
    add_fold(out, x, t);
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

enum served {
    ANSWERED,
    NOTHING, /* now; the ask may wait */
    THINKING /* the suggestion for it is on its way */
};

static void fill_event(struct event *ev, const struct ask *a, int count, const char *request)
{
    event_init(ev, EV_ASK);
    ev->count = count;
    ev->lease_ms = a->lease_ms;
    ev->holder = a->client != NULL ? xstrdup(a->client) : NULL;
    ev->request = request != NULL ? xstrdup(request) : NULL;
    ev->body_hash = request != NULL ? xstrdup(a->hash) : NULL;
    ev->where = json_incref(a->where);
}

static void add_grants(struct event *to, const struct event *from)
{
    for (int i = 0; i < from->n_grants; i++) {
        const struct event_grant *g = &from->grants[i];
        struct event_grant *copy = event_add_grant(to);
        copy->trial = g->trial;
        copy->attempt = g->attempt;
        copy->budget = g->budget;
        copy->resume_step = g->resume_step;
        copy->resume_uri = g->resume_uri != NULL ? xstrdup(g->resume_uri) : NULL;
    }
}

/* The key under which the study remembers part `n` of an answer: a client cannot have sent it. */
static const char *part_key(const struct ask *a, int n, char buf[EVENT_REQUEST_BYTES + 1])
{
    if (a->request == NULL || n == 0) {
        return a->request;
    }
    (void)snprintf(buf, EVENT_REQUEST_BYTES + 1, "%s\n%d", a->request, n);
    return buf;
}

/* The same request came before: answers it with what was given then. */
static bool answer_again(struct http_call *c, struct experiment *x, struct ask *a)
{
    const struct event *before =
        a->request != NULL ? study_request(x->study, a->client, a->request) : NULL;
    if (before == NULL) {
        return false;
    }
    if (before->body_hash != NULL && strcmp(before->body_hash, a->hash) != 0) {
        http_problem(c, 409, "request '%s' was sent before with another body", a->request);
        return true;
    }
    if (!study_is_slow(x->study)) {
        answer_event(c, x, before);
        return true;
    }
    if (before->n_grants == 0) {
        answer_event(c, x, before);
        return true;
    }
    char key[EVENT_REQUEST_BYTES + 1];
    for (int n = 1; before != NULL; n++) {
        add_grants(&a->got, before);
        before = study_request(x->study, a->client, part_key(a, n, key));
    }
    answer_event(c, x, &a->got);
    return true;
}

/* Answers the call with what the study said, or says that there is nothing now and the ask may
 * wait. */
static enum served conclude(struct http_call *c, struct experiment *x, const struct event *ev,
                            enum mag_status st, const struct mag_err *err, bool may_wait)
{
    if (st != MAG_OK) {
        http_problem_status(c, st, err);
    } else if (ev->n_grants == 0 && !ev->done && may_wait) {
        return NOTHING;
    } else {
        answer_event(c, x, ev);
    }
    return ANSWERED;
}

static enum served serve_quick(struct http_call *c, struct experiment *x, struct ask *a,
                               bool may_wait)
{
    struct event ev;
    struct mag_err err = {0};
    fill_event(&ev, a, a->count, a->request);
    enum mag_status st = driver_apply(c->d, x, &ev, &err);
    enum served served = conclude(c, x, &ev, st, &err, may_wait);
    event_fini(&ev);
    return served;
}

/* The same request is being answered, part by part. */
static bool has_twin(const struct experiment *x, const struct ask *a)
{
    struct list_node *n = list_first(&x->waiters);
    const struct ask *first = n != NULL ? container_of(n, struct ask, node) : NULL;
    return first != NULL && first != a && first->parts > 0 && first->request != NULL &&
           a->request != NULL && strcmp(first->request, a->request) == 0 &&
           strcmp(first->client, a->client) == 0;
}

/* The next suggestion has to be computed first. */
static bool must_think(const struct http_call *c, const struct experiment *x)
{
    return !c->d->read_only && (driver_is_thinking(x) || study_must_think(x->study));
}

/* One event a trial, until there are enough or there is nothing more now. */
static enum served serve_slow(struct http_call *c, struct experiment *x, struct ask *a,
                              bool may_wait)
{
    while (a->got.n_grants < a->count && !must_think(c, x)) {
        struct event ev;
        struct mag_err err = {0};
        char key[EVENT_REQUEST_BYTES + 1];
        fill_event(&ev, a, 1, part_key(a, a->parts, key));
        enum mag_status st = driver_apply(c->d, x, &ev, &err);
        bool given = st == MAG_OK && ev.n_grants > 0;
        enum served served = ANSWERED;
        if (given) {
            add_grants(&a->got, &ev);
            a->parts++;
        } else if (a->parts == 0) {
            served = conclude(c, x, &ev, st, &err, may_wait);
        } else {
            answer_event(c, x, &a->got);
        }
        event_fini(&ev);
        if (!given) {
            return served;
        }
    }
    if (a->got.n_grants < a->count && !c->d->stopping) {
        driver_think(c->d, x);
        return THINKING;
    }
    if (a->parts > 0) {
        answer_event(c, x, &a->got);
    } else {
        answer_nothing(c, x);
    }
    return ANSWERED;
}

static enum served serve(struct http_call *c, struct experiment *x, struct ask *a, bool may_wait)
{
    if (a->parts == 0 && has_twin(x, a)) {
        return THINKING;
    }
    if (a->parts == 0 && answer_again(c, x, a)) {
        return ANSWERED;
    }
    return study_is_slow(x->study) ? serve_slow(c, x, a, may_wait) : serve_quick(c, x, a, may_wait);
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
    struct experiment *x = driver_experiment(c->d, a->experiment);
    if (x != NULL && what == EV_TIMEOUT && driver_awaits_thought(x)) {
        return; /* what it waits for is on its way: then it is served, or armed again */
    }
    end_hold(a);
    if (x != NULL && a->got.n_grants > 0) {
        answer_event(c, x, &a->got);
    } else if (x != NULL) {
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

/* Those whose time ran out while a suggestion was on its way. */
static void arm_again(struct experiment *x)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &x->waiters)
    {
        struct ask *a = container_of(n, struct ask, node);
        if (!evtimer_pending(a->call->timer, NULL)) {
            arm_wait(a);
        }
    }
}

void rest_serve_waiters(struct driver *d, struct experiment *x)
{
    struct list_node *n;
    bool over = study_state_is_final(study_state(x->study));
    while (!driver_is_thinking(x) && (n = list_first(&x->waiters)) != NULL) {
        struct ask *a = container_of(n, struct ask, node);
        if (!over && a->parts == 0 && !study_has_work(x->study)) {
            break;
        }
        /* Out of the queue first: an answer may free it. */
        end_hold(a);
        if (serve(a->call, x, a, true) != ANSWERED) {
            hold_again(x, a);
            break; /* those behind it would get nothing either */
        }
    }
    if (study_is_slow(x->study) && !driver_awaits_thought(x)) {
        arm_again(x);
    }
}

void rest_fail_begun(struct driver *d, struct experiment *x)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &x->waiters)
    {
        struct ask *a = container_of(n, struct ask, node);
        if (a->parts == 0) {
            continue;
        }
        end_hold(a);
        if (a->call->req == NULL) {
            http_call_free(a->call);
        } else {
            http_problem(a->call, 503, "part of the answer could not be stored; send it again");
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
    event_init(&a->got, EV_ASK);
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
    } else if (serve(c, x, a, a->wait_ms > 0 && !c->d->stopping) != ANSWERED) {
        hold(c, x, a);
    }
}
