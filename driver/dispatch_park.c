/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages of workers about an experiment whose next suggestion is being computed wait here, as
 * they came, and are looked at when it is there. The leases that they keep alive are renewed at
 * once, and a worker that repeats one in the meantime gets the same answer, as ever.
 */
#include "driver/dispatch_park.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct waiting {
    struct parked parked;
    struct pool *pool;
    struct bridge_addr from;
    size_t len;
    char text[];
};

static struct experiment *busy(const struct pool *p, int64_t experiment)
{
    struct experiment *x = driver_experiment(p->driver, experiment);
    return x != NULL && driver_is_thinking(x) ? x : NULL;
}

static struct experiment *busy_holding(const struct worker *w)
{
    struct experiment *x = NULL;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        x = x != NULL ? x : busy(w->pool, container_of(n, struct holding, node)->experiment);
    }
    return x;
}

static struct experiment *busy_hello(const struct pool *p, const struct wire_hello *h)
{
    const struct worker *w = pool_find(p, h->worker);
    struct experiment *x = w != NULL ? busy_holding(w) : NULL;
    for (size_t i = 0; i < h->n_held && x == NULL; i++) {
        x = busy(p, h->held[i].experiment);
    }
    return x;
}

static struct experiment *busy_talk(const struct worker *w, const struct wire_talk *t)
{
    struct experiment *x = t->drain && !w->draining ? busy_holding(w) : NULL;
    for (size_t i = 0; i < t->n_started && x == NULL; i++) {
        x = busy(w->pool, t->started[i].experiment);
    }
    for (size_t i = 0; i < t->n_reports && x == NULL; i++) {
        const struct wire_report *r = &t->reports[i];
        bool tail_only = r->n_points == 0 && r->checkpoint_uri == NULL && r->where == NULL;
        x = tail_only ? NULL : busy(w->pool, r->experiment);
    }
    for (size_t i = 0; i < t->n_results && x == NULL; i++) {
        x = busy(w->pool, t->results[i].experiment);
    }
    return x;
}

/* An experiment that the message would change and that stands still, NULL = none. */
static struct experiment *find_busy(const struct pool *p, struct worker *w,
                                    const struct wire_msg *m)
{
    switch (m->type) {
    case WIRE_HELLO:
        return busy_hello(p, &m->hello);
    case WIRE_STARTED:
    case WIRE_BEAT:
    case WIRE_DONE:
        return w != NULL ? busy_talk(w, &m->talk) : NULL;
    case WIRE_BYE:
        return w != NULL ? busy_holding(w) : NULL;
    case WIRE_NEXT:
    case WIRE_WELCOME:
    case WIRE_WORK:
    case WIRE_ANSWER:
    case WIRE_REFUSED:
    case WIRE_TYPES:
    default:
        return NULL;
    }
}

static void on_unparked(struct parked *parked, bool ok)
{
    struct waiting *wt = container_of(parked, struct waiting, parked);
    struct bridge_peer peer;
    /* A worker whose connection has gone meanwhile says it again on the next one. */
    if (ok && bridge_peer(wt->pool->bridge, wt->from.pipe, &peer)) {
        dispatch_message(wt->pool, &wt->from, wt->text, wt->len);
    }
    free(wt);
}

bool dispatch_park(struct pool *p, const struct bridge_addr *from, const struct wire_msg *m,
                   const char *text, size_t len)
{
    struct worker *w = m->session != NULL ? strmap_get(&p->by_session, m->session) : NULL;
    struct experiment *x = find_busy(p, w, m);
    if (x == NULL) {
        return false;
    }
    if (w != NULL) {
        worker_renew(w);
    }
    struct waiting *wt = xmalloc(sizeof(*wt) + len + 1);
    *wt = (struct waiting){.parked.fn = on_unparked, .pool = p, .from = *from, .len = len};
    memcpy(wt->text, text, len);
    wt->text[len] = '\0';
    driver_park(p->driver, x, &wt->parked);
    return true;
}
