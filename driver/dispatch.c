/* SPDX-License-Identifier: Apache-2.0
 *
 * One request in, one reply out, of the worker endpoint. Every request but hello belongs to a
 * session and has a sequence number: the same number gets the same reply, so a worker may repeat
 * whatever it likes. A reply that follows from events leaves after their commit.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "driver/dispatch_park.h"
#include "driver/pool_state.h"

#include <inttypes.h>
#include <math.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#ifndef MAGPIE_VERSION
#define MAGPIE_VERSION "0.1.0"
#endif

/* ---- replies ---- */

static void refuse(struct pool *p, const struct bridge_addr *to, int64_t seq, const char *code,
                   const char *error)
{
    struct wire_msg m = {.type = WIRE_REFUSED, .seq = seq};
    struct buf b = {0};
    m.refused.code = xstrdup(code);
    m.refused.error = xstrdup(error);
    wire_encode(&m, &b);
    bridge_reply(p->bridge, to, b.data, b.len);
    p->stats.refused++;
    wire_fini(&m);
    buf_fini(&b);
}

static struct answer *answer_new(struct worker *w, const struct bridge_addr *to, int64_t seq)
{
    struct answer *a = xcalloc(1, sizeof(*a));
    a->worker = w;
    a->seq = seq;
    a->to = *to;
    list_append(&w->answers, &a->node);
    w->n_answers++;
    return a;
}

static struct answer *answer_find(struct worker *w, int64_t seq)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->answers)
    {
        struct answer *a = container_of(n, struct answer, node);
        if (a->seq == seq) {
            return a;
        }
    }
    return NULL;
}

static void forget_acked(struct worker *w, int64_t acked, int64_t open)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->answers)
    {
        struct answer *a = container_of(n, struct answer, node);
        if (a->seq <= acked && a->seq != open && a->ready) {
            answer_free(a);
        }
    }
    if (acked > w->acked) {
        w->acked = acked;
        w->open = open;
    }
}

/* ---- hello ---- */

static bool may_enter(struct pool *p, const struct bridge_addr *from, const struct wire_hello *h,
                      struct bridge_peer *peer)
{
    if (!bridge_peer(p->bridge, from->pipe, peer)) {
        return false;
    }
    const char *token = driver_token(p->driver);
    bool given = token != NULL && h->token != NULL && strlen(token) == strlen(h->token) &&
                 CRYPTO_memcmp(token, h->token, strlen(token)) == 0;
    return given || (peer->own_user && !driver_config(p->driver)->require_token);
}

static void replace(char **field, const char *value)
{
    free(*field);
    *field = xstrdup(value);
}

static void take_json(json_t **field, json_t **from)
{
    json_decref(*field);
    *field = *from;
    *from = NULL;
}

/* Only strings that could be a name count as labels. */
static bool labels_are_sound(const json_t *labels)
{
    for (size_t i = 0; i < json_array_size(labels); i++) {
        const json_t *l = json_array_get(labels, i);
        if (!json_is_string(l) || json_string_length(l) > WIRE_NAME_MAX) {
            return false;
        }
    }
    return json_array_size(labels) <= 64;
}

/* What is stored with every trial that runs there. */
static json_t *where_of(const struct worker *w, const struct wire_hello *h)
{
    json_t *where = h->where != NULL ? json_deep_copy(h->where) : json_object();
    (void)json_object_set_new(where, "host", json_string(w->host));
    (void)json_object_set_new(where, "worker", json_string(w->name));
    return where;
}

static bool can(const struct wire_hello *h, const char *what)
{
    for (size_t i = 0; i < json_array_size(h->can); i++) {
        const char *word = json_string_value(json_array_get(h->can, i));
        if (word != NULL && strcmp(word, what) == 0) {
            return true;
        }
    }
    return false;
}

static void take_hello(struct worker *w, struct wire_hello *h)
{
    replace(&w->name, h->name);
    replace(&w->host, h->host);
    replace(&w->version, h->version);
    w->pid = h->pid;
    w->slots = (int)h->slots;
    w->gpus = h->gpus;
    w->gpu_memory_mb = h->gpu_memory_mb;
    w->memory_mb = h->memory_mb;
    w->cores = h->cores;
    w->fuse = (int)h->fuse;
    w->can_folds = can(h, WIRE_CAN_FOLDS);
    w->draining = h->drain;
    take_json(&w->labels, &h->labels);
    json_decref(w->where);
    w->where = where_of(w, h);
    if (!w->known) {
        w->since_ms = clock_wall_ms();
    }
    w->known = true;
}

/* A trial that the worker says it has and that no holding stands for: its lease expired while the
 * worker was away. While it still waits, the worker takes it back with an empty report. */
static void take_back(struct worker *w, const struct wire_ref *r)
{
    struct holding *h = holding_add(w, r->experiment, r->trial, r->attempt);
    h->sent = true;
    h->seen = true;
    holding_join(w, h, r->group);
    struct experiment *x = driver_experiment(w->pool->driver, r->experiment);
    if (x != NULL) {
        int cost = offer_cost(w, &study_spec(x->study)->requires_);
        h->cost = cost > 0 ? cost : 1;
    }
    if (holding_check(w, h) == HELD_EXPIRED) {
        (void)holding_take_back(w, h);
    }
}

static void match_held(struct worker *w, const struct wire_hello *h)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        container_of(n, struct holding, node)->seen = false;
    }
    for (size_t i = 0; i < h->n_held; i++) {
        const struct wire_ref *r = &h->held[i];
        struct holding *mine = holding_find(w, r->experiment, r->trial, r->attempt);
        if (mine == NULL) {
            take_back(w, r);
            continue;
        }
        mine->seen = true;
        mine->sent = true;
        holding_join(w, mine, r->group);
        mine->told_stop = false;
    }
    list_foreach(n, tmp, &w->holdings)
    {
        struct holding *mine = container_of(n, struct holding, node);
        mine->sent = mine->seen;
        struct experiment *x = driver_experiment(w->pool->driver, mine->experiment);
        int cost = x != NULL ? offer_cost(w, &study_spec(x->study)->requires_) : 0;
        mine->cost = cost > 0 ? cost : mine->cost;
        if (!mine->seen && holding_check(w, mine) != HELD_OPEN) {
            holding_free(mine);
        }
    }
    if (w->draining) {
        worker_release_unstarted(w);
    }
}

static void handle_hello(struct pool *p, const struct bridge_addr *from, struct wire_msg *m)
{
    struct bridge_peer peer;
    if (!may_enter(p, from, &m->hello, &peer)) {
        log_warn("driver", "worker-refused", "worker=%s peer=%s reason=token",
                 log_quote(m->hello.worker), log_quote(peer.text));
        refuse(p, from, m->seq, "token",
               "this driver asks workers for its token: set MAGPIE_TOKEN to the content of the "
               "file `token` in "
               "its data folder");
        return;
    }
    if (!labels_are_sound(m->hello.labels)) {
        refuse(p, from, m->seq, "invalid",
               "labels: at most 64 strings of at most 64 bytes are allowed");
        return;
    }
    struct worker *w = pool_find(p, m->hello.worker);
    if (w == NULL && p->stats.workers >= POOL_WORKERS_MAX) {
        refuse(p, from, m->seq, "limit", "too many workers are connected to this driver");
        return;
    }
    bool back = w != NULL;
    if (w == NULL) {
        w = pool_add(p, m->hello.worker);
    }
    worker_new_session(w);
    take_hello(w, &m->hello);
    w->pipe = from->pipe;
    w->connected = true;
    match_held(w, &m->hello);
    worker_renew(w);
    log_info("driver", back ? "worker-back" : "worker-joined",
             "worker=%s host=%s slots=%d held=%zu peer=%s", log_quote(w->id), log_quote(w->host),
             w->slots, m->hello.n_held, log_quote(peer.text));

    struct answer *a = answer_new(w, from, m->seq);
    const struct driver_config *cfg = driver_config(p->driver);
    struct wire_msg reply = {.type = WIRE_WELCOME, .seq = m->seq, .session = xstrdup(w->session)};
    reply.welcome = (struct wire_welcome){
        .protocol = WIRE_PROTOCOL,
        .version = xstrdup(MAGPIE_VERSION),
        .heartbeat_ms = cfg->heartbeat_ms,
        .lease_ms = cfg->lease_ms,
        .storage = xstrdup(storage_url(p->storage)),
    };
    offer_orders(w, true, &reply.welcome.orders, &reply.welcome.n_orders);
    wire_encode(&reply, &a->text);
    wire_fini(&reply);
    answer_release(a);
}

/* ---- next ---- */

static void handle_next(struct worker *w, struct answer *a, struct wire_next *next)
{
    struct pool *p = w->pool;
    offer_answer(w); /* an older poll gives way */
    free(w->room);
    w->room = next->room;
    w->n_room = next->n_room;
    next->room = NULL;
    next->n_room = 0;
    w->poll = a;
    w->poll_deadline_ns = driver_now_ns(p->driver) + next->wait_ms * MAG_NS_PER_MS;
    list_append(&p->polls, &w->poll_node);
    if (w->drain_wanted) {
        offer_answer(w);
        return;
    }
    event_active(p->soon, EV_READ, 0);
}

/* ---- started, beat, done ---- */

struct talk {
    struct worker *worker;
    struct wire_answer *reply;
};

static void order(struct talk *tk, int64_t experiment, int64_t trial, int64_t attempt,
                  const char *action, bool late)
{
    struct wire_order *o = wire_order_add(&tk->reply->orders, &tk->reply->n_orders);
    *o = (struct wire_order){.experiment = experiment,
                             .trial = trial,
                             .attempt = attempt,
                             .action = xstrdup(action),
                             .late = late};
}

/* An event of this worker about one trial. */
static void event_of(struct event *ev, enum event_kind kind, const struct worker *w, int64_t trial,
                     int64_t attempt)
{
    event_init(ev, kind);
    ev->trial = trial;
    ev->attempt = attempt;
    ev->holder = xstrdup(w->id);
    ev->from_worker = true;
    ev->checkpoint_step = -1;
}

static enum mag_status apply(struct worker *w, int64_t experiment, struct event *ev)
{
    struct experiment *x = driver_experiment(w->pool->driver, experiment);
    struct mag_err err = {0};
    if (x == NULL || x->deleted) {
        return MAG_NOTFOUND;
    }
    enum mag_status st = driver_apply(w->pool->driver, x, ev, &err);
    if (st != MAG_OK && st != MAG_UNSUPPORTED) {
        log_warn("driver", "message-refused",
                 "worker=%s kind=%s experiment=%" PRId64 " trial=%" PRId64 " error=%s",
                 log_quote(w->id), event_kind_name(ev->kind), experiment, ev->trial,
                 log_quote(err.text));
    }
    return st;
}

static void handle_started(struct talk *tk, const struct wire_ref *r)
{
    struct worker *w = tk->worker;
    struct holding *h = holding_find(w, r->experiment, r->trial, r->attempt);
    if (h == NULL || (!h->reserved && !h->revoked)) {
        return; /* a grant, not a reservation: it runs since it was given */
    }
    struct event ev;
    event_of(&ev, EV_STARTED, w, r->trial, r->attempt);
    ev.where = w->where != NULL ? json_incref(w->where) : NULL;
    enum mag_status st = apply(w, r->experiment, &ev);
    if (st != MAG_OK || ev.late) {
        order(tk, r->experiment, r->trial, r->attempt, "stop", true);
        h->revoked = true;
    }
    h->reserved = false;
    event_fini(&ev);
}

static double number_of(const json_t *v)
{
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

/* {"name": number or null} to the values of one step; the objective's name becomes NULL. */
static void fill_values(struct event_point *pt, const json_t *metrics, const char *objective)
{
    const char *name = NULL;
    json_t *v = NULL;
    size_t n = json_object_size(metrics);
    pt->values = xcalloc(n > 0 ? n : 1, sizeof(*pt->values));
    json_object_foreach((json_t *)(uintptr_t)metrics, name, v)
    {
        if (pt->n_values < EVENT_VALUES_MAX) {
            struct event_value *to = &pt->values[pt->n_values++];
            to->name = strcmp(name, objective) == 0 ? NULL : xstrdup(name);
            to->value = number_of(v);
        }
    }
}

static void fill_points(struct event *ev, const struct wire_point *points, size_t n,
                        const char *objective)
{
    ev->points = xcalloc(n > 0 ? n : 1, sizeof(*ev->points));
    ev->n_points = (int)n;
    for (size_t i = 0; i < n; i++) {
        ev->points[i].step = points[i].step;
        fill_values(&ev->points[i], points[i].metrics, objective);
    }
}

static const char *objective_of(struct worker *w, int64_t experiment)
{
    const struct experiment *x = driver_experiment(w->pool->driver, experiment);
    return x != NULL && x->study != NULL ? study_spec(x->study)->metric : "";
}

/* What a completed trial measured beside the objective. A measure that it never reported fails it.
 */
static void fill_measures(struct event *ev, struct worker *w, const struct wire_result *r)
{
    const struct experiment *x = driver_experiment(w->pool->driver, r->experiment);
    const struct trial *t = x != NULL && x->study != NULL ? study_trial(x->study, r->trial) : NULL;
    const struct spec *spec = t != NULL ? study_spec(x->study) : NULL;
    for (int i = 1; spec != NULL && !trial_is_refit(t) && i < spec->n_measures; i++) {
        const char *name = spec->measures[i].name;
        const json_t *v = json_object_get(r->metrics, name);
        if (v != NULL) {
            event_add_value(ev, name, number_of(v));
        } else if (isnan(trial_measure(t, i))) {
            ev->told = TRIAL_FAILED;
            ev->cause = FAIL_NO_METRIC;
            free(ev->reason);
            ev->reason = xasprintf("it ended well, but never reported \"%s\"", name);
        }
    }
}

static void keep_tail(struct holding *h, const struct wire_report *r)
{
    if (h != NULL && r->waits != NULL) {
        replace(&h->waits, r->waits);
    }
    if (h != NULL && r->tail != NULL) {
        replace(&h->tail, r->tail);
        h->tail_end = r->tail_end;
    }
}

/* With the checkpoint committed the worker removes older ones, but not those that copies of the
 * trial go on from. A copy made later goes on from this one, or a newer one. */
static void pin(struct talk *tk, int64_t experiment, int64_t trial)
{
    const struct experiment *x = driver_experiment(tk->worker->pool->driver, experiment);
    struct study_pin *pins = NULL;
    int n = x != NULL ? study_pins(x->study, trial, &pins) : 0;
    for (int i = 0; i < n && tk->reply->n_pins < WIRE_REFS_MAX; i++) {
        *wire_pin_add(&tk->reply->pins, &tk->reply->n_pins) =
            (struct wire_pin){.experiment = experiment,
                              .trial = pins[i].trial,
                              .step = pins[i].step,
                              .attempt = pins[i].attempt};
    }
    free(pins);
}

static void handle_report(struct talk *tk, struct wire_report *r)
{
    struct worker *w = tk->worker;
    struct holding *h = holding_find(w, r->experiment, r->trial, r->attempt);
    keep_tail(h, r);
    if (r->n_points == 0 && r->checkpoint_uri == NULL && r->where == NULL) {
        return; /* last lines, or that it waits: shown, not recorded */
    }
    struct event ev;
    event_of(&ev, EV_REPORT, w, r->trial, r->attempt);
    fill_points(&ev, r->points, r->n_points, objective_of(w, r->experiment));
    if (r->checkpoint_uri != NULL) {
        ev.checkpoint_step = r->checkpoint_step;
        ev.checkpoint_uri = xstrdup(r->checkpoint_uri);
        ev.checkpoint_meta = r->checkpoint_meta != NULL ? mjson_dump(r->checkpoint_meta) : NULL;
    }
    ev.where = r->where != NULL ? json_incref(r->where) : NULL;
    enum mag_status st = apply(w, r->experiment, &ev);
    if (st == MAG_NOTFOUND || (st == MAG_OK && ev.late)) {
        order(tk, r->experiment, r->trial, r->attempt, "stop", true);
    } else if (st == MAG_OK && ev.action != ACT_CONTINUE) {
        order(tk, r->experiment, r->trial, r->attempt, report_action_name(ev.action), false);
    }
    if (st == MAG_OK && ev.action != ACT_CONTINUE && h != NULL) {
        h->told_stop = true;
    }
    if (st == MAG_OK && !ev.late && r->checkpoint_uri != NULL) {
        pin(tk, r->experiment, r->trial);
    }
    event_fini(&ev);
}

static enum fail_cause cause_of(const char *name)
{
    for (int c = FAIL_PROGRAM; name != NULL && c <= FAIL_CLIENT; c++) {
        if (strcmp(name, fail_cause_name((enum fail_cause)c)) == 0) {
            return (enum fail_cause)c;
        }
    }
    return FAIL_PROGRAM;
}

/* What a result means as an event: a TELL, or for what was only reserved a RELEASE. */
static void fill_tell(struct event *ev, struct worker *w, const struct wire_result *r)
{
    ev->uncounted = r->uncounted;
    ev->reason = r->reason != NULL ? xstrdup(r->reason) : NULL;
    ev->detail = r->detail != NULL ? json_incref(r->detail) : NULL;
    if (strcmp(r->status, "completed") == 0) {
        ev->told = TRIAL_COMPLETED;
        const json_t *v = json_object_get(r->metrics, objective_of(w, r->experiment));
        ev->has_value = v != NULL;
        ev->value = number_of(v);
        fill_measures(ev, w, r);
    } else if (strcmp(r->status, "failed") == 0) {
        ev->told = TRIAL_FAILED;
        ev->cause = cause_of(r->cause);
        ev->retry = r->retry;
        ev->final = r->final;
    } else {
        /* Given back; or the program ended as ordered, and then the study has moved on already. */
        ev->told = TRIAL_WAITING;
        ev->uncounted = true;
    }
}

static void handle_result(struct talk *tk, const struct wire_result *r)
{
    struct worker *w = tk->worker;
    struct holding *h = holding_find(w, r->experiment, r->trial, r->attempt);
    bool held = h != NULL && holding_check(w, h) != HELD_REVOKED;
    bool quiet_end = strcmp(r->status, "stopped") == 0 || strcmp(r->status, "paused") == 0;
    if (held || !quiet_end) {
        struct event ev;
        bool unstarted = held && h->reserved;
        event_of(&ev, unstarted ? EV_RELEASE : EV_TELL, w, r->trial, r->attempt);
        if (!unstarted) {
            fill_tell(&ev, w, r);
        }
        (void)apply(w, r->experiment, &ev);
        event_fini(&ev);
    }
    if (h != NULL) {
        holding_free(h);
    }
}

static void handle_talk(struct worker *w, struct answer *a, struct wire_msg *m)
{
    struct wire_msg reply = {.type = WIRE_ANSWER, .seq = a->seq};
    struct talk tk = {.worker = w, .reply = &reply.answer};
    if (m->talk.use != NULL) {
        take_json(&w->use, &m->talk.use);
    }
    if (m->talk.drain && !w->draining) {
        w->draining = true;
        worker_release_unstarted(w);
        offer_answer(w);
        log_info("driver", "worker-draining", "worker=%s", log_quote(w->id));
    }
    for (size_t i = 0; i < m->talk.n_started; i++) {
        handle_started(&tk, &m->talk.started[i]);
    }
    for (size_t i = 0; i < m->talk.n_reports; i++) {
        handle_report(&tk, &m->talk.reports[i]);
    }
    for (size_t i = 0; i < m->talk.n_results; i++) {
        handle_result(&tk, &m->talk.results[i]);
    }
    offer_orders(w, false, &reply.answer.orders, &reply.answer.n_orders);
    reply.answer.drain = w->drain_wanted;
    wire_encode(&reply, &a->text);
    wire_fini(&reply);
    answer_release(a);
    if (!list_is_empty(&w->pool->polls)) {
        event_active(w->pool->soon, EV_READ, 0); /* slots came free */
    }
}

/* ---- bye ---- */

static void handle_bye(struct worker *w, struct answer *a, const struct wire_bye *bye)
{
    struct pool *p = w->pool;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        struct holding *h = container_of(n, struct holding, node);
        if (holding_check(w, h) == HELD_OPEN) {
            struct event ev;
            event_of(&ev, h->reserved ? EV_RELEASE : EV_TELL, w, h->trial, h->attempt);
            if (!h->reserved) {
                ev.told = TRIAL_WAITING;
                ev.uncounted = true;
                ev.reason = xstrdup("its worker was drained");
            }
            (void)apply(w, h->experiment, &ev);
            event_fini(&ev);
        }
        holding_free(h);
    }
    offer_answer(w);
    w->draining = true;
    w->connected = false;
    log_info("driver", "worker-bye", "worker=%s reason=%s", log_quote(w->id),
             log_quote(bye->reason != NULL ? bye->reason : ""));
    struct wire_msg reply = {.type = WIRE_ANSWER, .seq = a->seq};
    wire_encode(&reply, &a->text);
    answer_release(a);
    (void)p;
}

/* ---- the way in ---- */

static void handle_new(struct worker *w, const struct bridge_addr *from, struct wire_msg *m)
{
    struct answer *a = answer_new(w, from, m->seq);
    switch (m->type) {
    case WIRE_NEXT:
        handle_next(w, a, &m->next);
        break;
    case WIRE_STARTED:
    case WIRE_BEAT:
    case WIRE_DONE:
        handle_talk(w, a, m);
        break;
    case WIRE_BYE:
        handle_bye(w, a, &m->bye);
        break;
    case WIRE_HELLO:
    case WIRE_WELCOME:
    case WIRE_WORK:
    case WIRE_ANSWER:
    case WIRE_REFUSED:
    case WIRE_TYPES:
    default:
        answer_free(a);
        refuse(w->pool, from, m->seq, "invalid", "this message is a reply, not a request");
        break;
    }
}

static void handle_in_session(struct pool *p, const struct bridge_addr *from, struct wire_msg *m)
{
    struct worker *w = m->session != NULL ? strmap_get(&p->by_session, m->session) : NULL;
    if (w == NULL) {
        refuse(p, from, m->seq, "session", "this session is not known here; say hello");
        return;
    }
    w->pipe = from->pipe;
    w->connected = true;
    worker_renew(w);
    forget_acked(w, m->acked < m->seq ? m->acked : m->seq - 1, m->open);
    struct answer *a = answer_find(w, m->seq);
    if (a != NULL) {
        p->stats.repeated++;
        a->to = *from;
        if (a->ready) {
            bridge_reply(p->bridge, from, a->text.data, a->text.len);
        }
        return;
    }
    if (m->seq <= w->acked && m->seq != w->open) {
        refuse(p, from, m->seq, "stale", "this request was answered and acknowledged before");
    } else if (w->n_answers >= WIRE_ANSWERS_MAX) {
        refuse(p, from, m->seq, "limit", "too many unacknowledged requests in this session");
    } else if (driver_is_read_only(p->driver) && m->type != WIRE_NEXT) {
        refuse(p, from, m->seq, "read-only",
               "the driver cannot write its store now; try again later");
    } else {
        handle_new(w, from, m);
    }
}

void dispatch_message(void *arg, const struct bridge_addr *from, const char *text, size_t len)
{
    struct pool *p = arg;
    struct wire_msg m = {0};
    struct mag_err err = {0};
    p->stats.messages++;
    enum mag_status st = wire_decode(text, len, &m, &err);
    if (st != MAG_OK) {
        log_warn("driver", "message-invalid", "error=%s", log_quote(err.text));
        refuse(p, from, 0, st == MAG_UNSUPPORTED ? "version" : "invalid", err.text);
        return;
    }
    if (dispatch_park(p, from, &m, text, len)) {
        wire_fini(&m);
        return;
    }
    if (m.type == WIRE_HELLO) {
        handle_hello(p, from, &m);
    } else if (m.seq < 1) {
        refuse(p, from, 0, "invalid", "seq: missing");
    } else {
        handle_in_session(p, from, &m);
    }
    wire_fini(&m);
}

void dispatch_gone(void *arg, uint32_t pipe)
{
    struct pool *p = arg;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        struct worker *w = container_of(n, struct worker, node);
        if (w->pipe != pipe || !w->connected) {
            continue;
        }
        w->connected = false;
        if (w->poll != NULL) {
            /* The poll goes before any work is granted to it; asked again, it is a new one. */
            struct answer *a = w->poll;
            w->poll = NULL;
            list_remove(&w->poll_node);
            answer_free(a);
        }
    }
}
