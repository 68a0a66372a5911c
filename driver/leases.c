/* SPDX-License-Identifier: Apache-2.0
 *
 * Leases: a heap of deadlines. Deadlines are never stored; after a restart every open lease gets a
 * full term. Deadlines are kept less `lease_shift_ns`, so that a late turn extends all of them at
 * once.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>

void lease_arm(struct study *s, struct trial *t, int64_t now_ns)
{
    if (t->lease_ms > 0) {
        heap_put(&s->leases, &t->lease, now_ns + t->lease_ms * MAG_NS_PER_MS - s->lease_shift_ns);
    }
}

void lease_end(struct study *s, struct trial *t)
{
    heap_remove(&s->leases, &t->lease);
}

static bool is_open(const struct trial *t)
{
    return t->state == TRIAL_RUNNING || t->reserved;
}

bool study_renew(struct study *s, int64_t trial, int64_t attempt, int64_t now_ns)
{
    struct trial *t = trial_at(s, trial);
    if (t == NULL || t->attempt != attempt || !is_open(t)) {
        return false;
    }
    lease_arm(s, t, now_ns);
    return true;
}

void study_delay(struct study *s, int64_t delay_ns)
{
    if (delay_ns > 0) {
        s->lease_shift_ns += delay_ns;
    }
}

void study_rearm(struct study *s, int64_t now_ns)
{
    struct list_node *pos, *tmp;
    list_foreach(pos, tmp, &s->open)
    {
        struct trial *t = container_of(pos, struct trial, link);
        lease_arm(s, t, now_ns);
    }
    if (s->state == STUDY_RUNNING) {
        s->since_ns = now_ns;
    }
}

/* When limits.time is used up, INT64_MAX when it is not going to be. */
static int64_t time_deadline(const struct study *s)
{
    if (s->limits.time_ms <= 0 || s->since_ns < 0 || s->state != STUDY_RUNNING) {
        return INT64_MAX;
    }
    return s->since_ns + s->limits.time_ms * MAG_NS_PER_MS - s->up_ns;
}

static int64_t lease_deadline(const struct study *s)
{
    const struct heap_node *first = heap_min(&s->leases);
    return first != NULL ? first->key + s->lease_shift_ns : INT64_MAX;
}

int64_t study_deadline(const struct study *s)
{
    int64_t lease = lease_deadline(s);
    int64_t time = time_deadline(s);
    return lease < time ? lease : time;
}

bool study_tick(struct study *s, int64_t now_ns, struct event *ev)
{
    if (lease_deadline(s) <= now_ns) {
        const struct trial *t = container_of(heap_min(&s->leases), struct trial, lease);
        event_init(ev, EV_EXPIRE);
        ev->trial = t->id;
        ev->attempt = t->attempt;
        ev->reason =
            xasprintf("no message from %s for %.3g s", t->holder != NULL ? t->holder : "its holder",
                      (double)t->lease_ms / 1000);
        return true;
    }
    if (time_deadline(s) <= now_ns) {
        event_init(ev, EV_TIME_UP);
        return true;
    }
    return false;
}
