/* SPDX-License-Identifier: Apache-2.0
 *
 * What the runs have to tell, gathered into one message, and what the driver says to that.
 * Ownership moves: news in a message is no longer in its run, and stays in the message until
 * acknowledged.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void talk_held(struct app *a, struct wire_hello *h)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        const struct run *r = container_of(n, struct run, node);
        struct wire_ref *ref = wire_ref_add(&h->held, &h->n_held);
        *ref = (struct wire_ref){.experiment = r->grant.experiment,
                                 .trial = r->grant.trial,
                                 .attempt = r->grant.attempt,
                                 .reserved = r->reserved && r->state <= RUN_WAITING,
                                 .group = r->group != NULL ? r->grant.group : 0};
    }
}

static void tell_started(struct run *r, struct wire_talk *t)
{
    struct wire_ref *ref = wire_ref_add(&t->started, &t->n_started);
    *ref = (struct wire_ref){
        .experiment = r->grant.experiment, .trial = r->grant.trial, .attempt = r->grant.attempt};
    r->started_untold = false;
}

static void give_points(struct run *r, struct wire_report *rep)
{
    size_t n = r->n_points < WIRE_POINTS_MAX ? r->n_points : WIRE_POINTS_MAX;
    if (n == r->n_points) {
        rep->points = r->points;
        r->points = NULL;
    } else {
        rep->points = xcalloc(n, sizeof(*rep->points));
        memcpy(rep->points, r->points, n * sizeof(*rep->points));
        memmove(r->points, r->points + n, (r->n_points - n) * sizeof(*r->points));
    }
    rep->n_points = n;
    r->n_points -= n;
    run_points_sent(r);
}

/* `tail`: bytes of last lines that it may tell. */
static void tell_report(struct run *r, struct wire_talk *t, size_t tail)
{
    struct wire_report *rep = wire_report_add(&t->reports, &t->n_reports);
    *rep = (struct wire_report){
        .experiment = r->grant.experiment, .trial = r->grant.trial, .attempt = r->grant.attempt};
    if (r->n_points > 0) {
        give_points(r, rep);
    }
    /* With more points waiting, the checkpoint goes with the last of them: steps rise. */
    if (r->checkpoint_uri != NULL && r->n_points == 0) {
        rep->checkpoint_step = r->checkpoint_step;
        rep->checkpoint_uri = r->checkpoint_uri;
        rep->checkpoint_meta = r->checkpoint_meta;
        r->checkpoint_uri = NULL;
        r->checkpoint_meta = NULL;
    }
    if (r->waits_untold) {
        rep->waits = xstrdup(r->waits);
        r->waits_untold = false;
    }
    rep->where = r->where;
    r->where = NULL;
    if (tail > 0 && r->tail_untold) {
        rep->tail = outlog_shown(&r->log, tail, &rep->tail_end);
        r->tail_untold = false;
    }
}

static bool has_report(const struct run *r, bool tail)
{
    return r->n_points > 0 || r->waits_untold || r->checkpoint_uri != NULL || r->where != NULL ||
           (tail && r->tail_untold);
}

static void tell_result(struct run *r, struct wire_talk *t)
{
    struct wire_result *res = wire_result_add(&t->results, &t->n_results);
    *res = r->result;
    r->result = (struct wire_result){0};
    r->result_sent = true;
}

/* Last lines are told with a heartbeat, and of so many runs at once only a little. */
static size_t tail_share(const struct app *a)
{
    size_t runs = 0;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        runs += container_of(n, struct run, node)->tail_untold;
    }
    return TALK_TAILS_MAX / (runs > 0 ? runs : 1);
}

bool talk_collect(struct app *a, struct wire_msg *m, bool always)
{
    size_t tail = always ? tail_share(a) : 0;
    size_t points = 0;
    bool any = always;
    *m = (struct wire_msg){.type = WIRE_BEAT};
    struct wire_talk *t = &m->talk;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        struct run *r = container_of(n, struct run, node);
        if (r->started_untold) {
            tell_started(r, t);
        }
        if (points < TALK_POINTS_MAX && has_report(r, always)) {
            points += r->n_points;
            tell_report(r, t, tail);
        }
        if (r->state == RUN_ENDED && !r->result_sent && !has_report(r, false)) {
            tell_result(r, t);
        }
    }
    any = any || t->n_started > 0 || t->n_reports > 0 || t->n_results > 0;
    if (always) {
        t->use = machine_use();
    }
    t->drain = a->drain != DRAIN_NONE;
    m->type = t->n_results > 0 ? WIRE_DONE : t->n_started > 0 ? WIRE_STARTED : WIRE_BEAT;
    if (!any) {
        wire_fini(m);
    }
    return any;
}

void talk_settle(struct app *a, const struct wire_msg *m, const struct wire_answer *answer)
{
    const struct wire_talk *t = &m->talk;
    for (size_t i = 0; i < t->n_reports; i++) {
        const struct wire_report *rep = &t->reports[i];
        const struct run *r = run_find(a, rep->experiment, rep->trial, rep->attempt);
        if (answer != NULL && rep->checkpoint_uri != NULL && r != NULL && !r->late) {
            collect_checkpoints(r, rep->checkpoint_uri, answer->pins, answer->n_pins);
        }
    }
    for (size_t i = 0; i < t->n_results; i++) {
        const struct wire_result *res = &t->results[i];
        struct run *r = run_find(a, res->experiment, res->trial, res->attempt);
        if (r != NULL) {
            run_free(r);
        }
    }
}

void talk_obey(struct app *a, const struct wire_order *orders, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct wire_order *o = &orders[i];
        struct run *r = run_find(a, o->experiment, o->trial, o->attempt);
        bool pause = strcmp(o->action, "pause") == 0;
        if (r == NULL || (!pause && strcmp(o->action, "stop") != 0)) {
            continue;
        }
        run_obey(r, pause ? ORDER_PAUSE : ORDER_STOP, o->late);
    }
}
