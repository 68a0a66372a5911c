/* SPDX-License-Identifier: Apache-2.0
 *
 * The connected workers: their sessions, what they hold, their answers; start, tick and stop of the
 * worker endpoint. Invariant: after pool_start and after each resync, every open lease of a worker
 * in any study has a holding here, known worker or not, so that nothing is granted twice.
 */
#include "driver/pool.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "driver/pool_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CLAIM_MS 20000 /* for the storage to answer when the driver starts */

/* ---- holdings ---- */

struct holding *holding_find(struct worker *w, int64_t experiment, int64_t trial, int64_t attempt)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        struct holding *h = container_of(n, struct holding, node);
        if (h->trial == trial && h->experiment == experiment && h->attempt == attempt) {
            return h;
        }
    }
    return NULL;
}

struct holding *holding_add(struct worker *w, int64_t experiment, int64_t trial, int64_t attempt)
{
    struct holding *h = xcalloc(1, sizeof(*h));
    h->experiment = experiment;
    h->trial = trial;
    h->attempt = attempt;
    h->cost = 1;
    list_append(&w->holdings, &h->node);
    return h;
}

void holding_free(struct holding *h)
{
    list_remove(&h->node);
    holding_leave(h);
    free(h->tail);
    free(h->waits);
    free(h->resume_uri);
    free(h);
}

enum standing holding_check(struct worker *w, struct holding *h)
{
    struct experiment *x = driver_experiment(w->pool->driver, h->experiment);
    const struct trial *t = x != NULL && !x->deleted ? study_trial(x->study, h->trial) : NULL;
    bool mine =
        t != NULL && t->attempt == h->attempt && t->holder != NULL && strcmp(t->holder, w->id) == 0;
    enum standing st = HELD_REVOKED;
    if (mine && (t->state == TRIAL_RUNNING || (t->state == TRIAL_WAITING && t->reserved))) {
        h->reserved = t->reserved;
        st = HELD_OPEN;
    } else if (mine && t->state == TRIAL_WAITING && t->lost) {
        st = HELD_EXPIRED;
    }
    h->revoked = st == HELD_REVOKED;
    return st;
}

bool holding_take_back(struct worker *w, struct holding *h)
{
    struct experiment *x = driver_experiment(w->pool->driver, h->experiment);
    struct event ev;
    struct mag_err err = {0};
    event_init(&ev, EV_REPORT);
    ev.trial = h->trial;
    ev.attempt = h->attempt;
    ev.holder = xstrdup(w->id);
    ev.from_worker = true;
    ev.checkpoint_step = -1;
    bool taken = driver_apply(w->pool->driver, x, &ev, &err) == MAG_OK && !ev.late;
    event_fini(&ev);
    h->revoked = !taken;
    log_info("driver", "trial-taken-back",
             "worker=%s experiment=%" PRId64 " trial=%" PRId64 " attempt=%" PRId64 " taken=%d",
             log_quote(w->id), h->experiment, h->trial, h->attempt, taken);
    return taken;
}

void worker_renew(struct worker *w)
{
    int64_t now = driver_now_ns(w->pool->driver);
    w->heard_ns = now;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        struct holding *h = container_of(n, struct holding, node);
        struct experiment *x =
            h->revoked ? NULL : driver_experiment(w->pool->driver, h->experiment);
        bool renewed = x == NULL || study_renew(x->study, h->trial, h->attempt, now);
        if (!renewed && holding_check(w, h) == HELD_EXPIRED && !driver_is_thinking(x) &&
            !driver_is_read_only(w->pool->driver)) {
            (void)holding_take_back(w, h);
        }
    }
}

static void release_one(struct worker *w, struct holding *h)
{
    struct experiment *x = driver_experiment(w->pool->driver, h->experiment);
    struct event ev;
    struct mag_err err = {0};
    if (x == NULL) {
        return;
    }
    event_init(&ev, EV_RELEASE);
    ev.trial = h->trial;
    ev.attempt = h->attempt;
    ev.holder = xstrdup(w->id);
    ev.from_worker = true;
    if (driver_apply(w->pool->driver, x, &ev, &err) != MAG_OK) {
        log_warn("driver", "release-failed", "trial=%" PRId64 " error=%s", h->trial,
                 log_quote(err.text));
    }
    event_fini(&ev);
}

void worker_release_unstarted(struct worker *w)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        struct holding *h = container_of(n, struct holding, node);
        if (!h->sent && holding_check(w, h) == HELD_OPEN) {
            release_one(w, h);
            holding_free(h);
        }
    }
}

/* ---- answers ---- */

void answer_free(struct answer *a)
{
    if (a->waiting) {
        driver_forget(a->worker->pool->driver, &a->df);
    }
    list_remove(&a->node);
    a->worker->n_answers--;
    buf_fini(&a->text);
    free(a);
}

static void on_commit(struct deferred *df, bool ok)
{
    struct answer *a = container_of(df, struct answer, df);
    struct pool *p = a->worker->pool;
    a->waiting = false;
    if (ok) {
        a->ready = true;
        bridge_reply(p->bridge, &a->to, a->text.data, a->text.len);
        return;
    }
    /* Nothing that this answer says became durable: the worker asks again, of the rebuilt studies.
     */
    p->resync = true;
    answer_free(a);
}

void answer_release(struct answer *a)
{
    a->df = (struct deferred){.fn = on_commit};
    a->waiting = true;
    driver_after_commit(a->worker->pool->driver, &a->df);
}

/* ---- workers ---- */

struct worker *pool_find(const struct pool *p, const char *id)
{
    return strmap_get(&p->by_id, id);
}

struct worker *pool_add(struct pool *p, const char *id)
{
    struct worker *w = xcalloc(1, sizeof(*w));
    w->pool = p;
    w->id = xstrdup(id);
    w->slots = 1;
    w->heard_ns = driver_now_ns(p->driver);
    list_init(&w->answers);
    list_init(&w->holdings);
    list_append(&p->workers, &w->node);
    (void)strmap_set(&p->by_id, id, w);
    p->stats.workers++;
    return w;
}

void worker_drop_session(struct worker *w)
{
    if (w->session[0] != '\0') {
        (void)strmap_remove(&w->pool->by_session, w->session);
    }
    w->session[0] = '\0';
    if (w->poll != NULL) {
        w->poll = NULL;
        list_remove(&w->poll_node);
    }
    while (!list_is_empty(&w->answers)) {
        answer_free(container_of(list_first(&w->answers), struct answer, node));
    }
    for (size_t i = 0; i < w->offer.n_grants; i++) {
        wire_grant_fini(&w->offer.grants[i]);
    }
    for (size_t i = 0; i < w->offer.n_orders; i++) {
        wire_order_fini(&w->offer.orders[i]);
    }
    free(w->offer.grants);
    free(w->offer.orders);
    w->offer = (struct wire_work){0};
    w->gather.on = false;
    w->acked = 0;
    w->open = 0;
}

void worker_new_session(struct worker *w)
{
    unsigned char raw[POOL_SESSION_HEX / 2];
    worker_drop_session(w);
    ssize_t n = getrandom(raw, sizeof(raw), 0);
    MAG_ASSERT(n == (ssize_t)sizeof(raw), "getrandom");
    for (size_t i = 0; i < sizeof(raw); i++) {
        (void)snprintf(w->session + 2 * i, 3, "%02x", raw[i]);
    }
    (void)strmap_set(&w->pool->by_session, w->session, w);
}

void pool_forget_worker(struct pool *p, struct worker *w)
{
    worker_drop_session(w);
    while (!list_is_empty(&w->holdings)) {
        holding_free(container_of(list_first(&w->holdings), struct holding, node));
    }
    (void)strmap_remove(&p->by_id, w->id);
    list_remove(&w->node);
    p->stats.workers--;
    json_decref(w->labels);
    json_decref(w->where);
    json_decref(w->use);
    free(w->room);
    free(w->id);
    free(w->name);
    free(w->host);
    free(w->version);
    free(w);
}

enum mag_status pool_drain_worker(struct pool *p, const char *id)
{
    struct worker *w = pool_find(p, id);
    if (w == NULL || !w->known) {
        return MAG_NOTFOUND;
    }
    w->drain_wanted = true;
    log_info("driver", "worker-drain", "worker=%s", log_quote(w->id));
    offer_answer(w);
    return MAG_OK;
}

/* ---- leases found in the studies ---- */

static void adopt_trial(struct pool *p, const struct experiment *x, const struct trial *t)
{
    bool leased = t->state == TRIAL_RUNNING || (t->state == TRIAL_WAITING && t->reserved);
    if (!leased || !t->from_worker || t->holder == NULL) {
        return;
    }
    struct worker *w = pool_find(p, t->holder);
    if (w == NULL) {
        w = pool_add(p, t->holder);
    }
    if (holding_find(w, x->id, t->id, t->attempt) != NULL) {
        return;
    }
    struct holding *h = holding_add(w, x->id, t->id, t->attempt);
    h->reserved = t->reserved;
    if (w->known) {
        int cost = offer_cost(w, &study_spec(x->study)->requires_);
        h->cost = cost > 0 ? cost : 1;
    }
}

static void scan_studies(struct pool *p)
{
    for (struct experiment *x = driver_next(p->driver, NULL); x != NULL;
         x = driver_next(p->driver, x)) {
        int64_t counts[TRIAL_STATES];
        study_counts(x->study, counts);
        int64_t n = counts[TRIAL_RUNNING] + counts[TRIAL_WAITING] > 0 ? study_trials(x->study) : 0;
        for (int64_t id = 1; id <= n; id++) {
            adopt_trial(p, x, study_trial(x->study, id));
        }
    }
}

/* ---- tick ---- */

static void expire_polls(struct pool *p, bool all)
{
    int64_t now = driver_now_ns(p->driver);
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->polls)
    {
        struct worker *w = container_of(n, struct worker, poll_node);
        if (all || w->poll_deadline_ns <= now) {
            offer_answer(w);
        }
    }
}

static void forget_silent(struct pool *p)
{
    int64_t now = driver_now_ns(p->driver);
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        struct worker *w = container_of(n, struct worker, node);
        struct list_node *hn, *htmp;
        bool holds = false;
        list_foreach(hn, htmp, &w->holdings)
        {
            holds = holding_check(w, container_of(hn, struct holding, node)) == HELD_OPEN || holds;
        }
        int64_t limit_ms = w->known ? POOL_FORGET_MS : driver_config(p->driver)->lease_ms;
        if (!holds && !w->connected && now - w->heard_ns > limit_ms * MAG_NS_PER_MS) {
            pool_forget_worker(p, w);
        }
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct pool *p = arg;
    if (p->resync) {
        p->resync = false;
        scan_studies(p);
    }
    expire_polls(p, false);
    offer_serve(p);
    if (++p->ticks % 100 == 0) {
        forget_silent(p);
    }
}

/* Runs once after whatever made it active, so that all messages of one round share their turn. */
static void on_soon(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    offer_serve(arg);
}

static void on_turn_end(void *arg)
{
    struct pool *p = arg;
    p->dirty = true;
    if (!p->serving && !list_is_empty(&p->polls)) {
        event_active(p->soon, EV_READ, 0);
    }
}

/* ---- start and stop ---- */

static enum mag_status open_storage(struct pool *p, const char *url, struct mag_err *err)
{
    const char *uuid = store_uuid(driver_store(p->driver));
    char *base =
        url != NULL ? xstrdup(url) : xasprintf("%s/storage", driver_config(p->driver)->data_dir);
    char *root = xasprintf("%s/%s", base, uuid);
    enum mag_status st = storage_open(root, &p->storage, err);
    if (st == MAG_OK) {
        storage_set_patience(p->storage, CLAIM_MS);
        st = storage_claim(p->storage, uuid, err);
    }
    free(root);
    free(base);
    return st;
}

enum mag_status pool_start(struct pool **ret, struct driver *d, const struct bridge_endpoint *at,
                           const char *storage_url, struct mag_err *err)
{
    struct pool *p = xcalloc(1, sizeof(*p));
    p->driver = d;
    p->groups = clock_wall_ms(); /* a driver before this one may have given groups, too */
    list_init(&p->workers);
    list_init(&p->polls);
    p->tick = event_new(driver_base(d), -1, EV_PERSIST, on_tick, p);
    p->soon = event_new(driver_base(d), -1, 0, on_soon, p);
    MAG_ASSERT(p->tick != NULL && p->soon != NULL, "event_new");
    enum mag_status st = open_storage(p, storage_url, err);
    if (st == MAG_OK) {
        scan_studies(p);
        const struct bridge_handler handler = {
            .arg = p, .message = dispatch_message, .gone = dispatch_gone};
        st = bridge_start(&p->bridge, driver_base(d), at, &handler, err);
    }
    if (st != MAG_OK) {
        pool_stop(p);
        return st;
    }
    driver_on_turn_end(d, on_turn_end, p);
    driver_set_offer(d, offer_possible, p);
    const struct timeval every = {.tv_usec = POOL_TICK_MS * 1000};
    (void)event_add(p->tick, &every);
    *ret = p;
    return MAG_OK;
}

void pool_drain(struct pool *p)
{
    p->draining = true;
    expire_polls(p, true); /* asked again, they are held until the sockets close */
}

void pool_stop(struct pool *p)
{
    if (p == NULL) {
        return;
    }
    bridge_stop(p->bridge);
    while (!list_is_empty(&p->workers)) {
        pool_forget_worker(p, container_of(list_first(&p->workers), struct worker, node));
    }
    strmap_fini(&p->by_id);
    strmap_fini(&p->by_session);
    event_free(p->tick);
    event_free(p->soon);
    storage_close(p->storage);
    free(p);
}

void pool_serve(struct pool *p)
{
    offer_serve(p);
}

const char *pool_urls(const struct pool *p)
{
    return bridge_urls(p->bridge);
}
