/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /metrics: figures for Prometheus (text format 0.0.4), and the health endpoints.
 */
#include "driver/rest.h"

#include "base/clock.h"
#include "driver/driver_internal.h"
#include "driver/sse.h"
#include "driver/think.h"

#include <string.h>

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_addf(out, "# HELP magpie_%s %s\n# TYPE magpie_%s %s\n", name, help, name, type);
}

static void single(struct buf *out, const char *name, const char *type, const char *help,
                   double value)
{
    family(out, name, type, help);
    buf_addf(out, "magpie_%s ", name);
    buf_add_json_number(out, value);
    buf_addc(out, '\n');
}

static void add_experiments(struct buf *out, struct driver *d)
{
    int64_t states[STUDY_FAILED + 1] = {0};
    int64_t trials[TRIAL_STATES] = {0};
    for (const struct experiment *x = record_next(d, NULL); x != NULL; x = record_next(d, x)) {
        states[record_state(x)]++;
        int64_t counts[TRIAL_STATES] = {0};
        if (x->broken == NULL) {
            study_counts(x->study, counts);
        }
        for (int i = 0; i < TRIAL_STATES; i++) {
            trials[i] += counts[i];
        }
    }
    family(out, "experiments", "gauge", "Experiments by state.");
    for (int i = 0; i <= STUDY_FAILED; i++) {
        buf_addf(out, "magpie_experiments{state=\"%s\"} %lld\n",
                 study_state_name((enum study_state)i), (long long)states[i]);
    }
    family(out, "trials", "gauge", "Trials by state, over all experiments.");
    for (int i = 0; i < TRIAL_STATES; i++) {
        buf_addf(out, "magpie_trials{state=\"%s\"} %lld\n", trial_state_name((enum trial_state)i),
                 (long long)trials[i]);
    }
}

static void add_store(struct buf *out, const struct driver *d)
{
    const struct driver_stats *s = &d->stats;
    single(out, "commits_total", "counter", "Commits of the store.", (double)s->commits);
    single(out, "commit_failures_total", "counter", "Commits that failed.",
           (double)s->commit_failures);
    single(out, "commit_seconds_total", "counter", "Time spent in commits.",
           (double)s->commit_ns / 1e9);
    single(out, "events_total", "counter", "Events recorded since the start.", (double)s->events);
    single(out, "commit_sequence", "gauge", "Newest durable commit sequence.",
           (double)d->durable_seq);
    single(out, "read_only", "gauge", "1 while the store cannot be written.", d->read_only ? 1 : 0);
    single(out, "storage_bytes", "gauge", "Bytes that experiments hold in shared storage.",
           (double)d->used_bytes);
    single(out, "storage_quota_bytes", "gauge", "The quota of shared storage; 0 = none.",
           (double)d->cfg.quota_bytes);
    single(out, "late_turns_total", "counter", "Turns that came so late that leases were extended.",
           (double)s->turns_late);
    single(out, "replay_events", "gauge", "Events replayed at the start.",
           (double)s->replay_events);
    single(out, "replay_seconds", "gauge", "Time that the replay took.",
           (double)s->replay_ms / 1e3);
}

static void add_think(struct buf *out, const struct driver *d)
{
    const struct think_stats *s = think_stats(d->think);
    single(out, "slow_suggestions_total", "counter",
           "Suggestions computed on the optimizer thread.", (double)s->thoughts);
    single(out, "slow_suggestions_seconds_total", "counter", "Time that these took.",
           (double)s->think_ns / 1e9);
    single(out, "parked_total", "counter", "Requests that waited behind such a suggestion.",
           (double)s->parked);
    single(out, "loop_waits_total", "counter", "Times that the loop had to wait for one.",
           (double)s->waits);
}

static void add_http(struct buf *out, const struct driver *d)
{
    const struct http_stats *h = http_stats(d->http);
    single(out, "http_requests_total", "counter", "HTTP requests.", (double)h->requests);
    family(out, "http_replies_total", "counter", "HTTP replies by class of status.");
    for (int i = 2; i < 6; i++) {
        buf_addf(out, "magpie_http_replies_total{class=\"%dxx\"} %llu\n", i,
                 (unsigned long long)h->by_class[i]);
    }
    single(out, "http_connections", "gauge", "Open HTTP connections.", (double)h->open);
    single(out, "event_viewers", "gauge", "Connections to the event stream.", sse_viewers(d->sse));
}

static void add_workers(struct buf *out, const struct driver *d)
{
    struct pool_stats p = {0};
    if (d->pool != NULL) {
        pool_stats(d->pool, &p);
    }
    single(out, "workers", "gauge", "Connected workers.", (double)p.connected);
    single(out, "slots", "gauge", "Slots of connected workers.", (double)p.slots);
    single(out, "slots_busy", "gauge", "Slots that run a trial.", (double)p.busy);
    single(out, "worker_messages_total", "counter", "Messages of workers.", (double)p.messages);
}

void rest_prometheus(struct http_call *c)
{
    add_experiments(&c->out, c->d);
    add_store(&c->out, c->d);
    add_think(&c->out, c->d);
    add_http(&c->out, c->d);
    add_workers(&c->out, c->d);
    c->content_type = "text/plain; version=0.0.4; charset=utf-8";
    http_reply(c);
}

void rest_healthz(struct http_call *c)
{
    buf_adds(&c->out, "{\"status\":\"ok\"}");
    http_reply(c);
}

void rest_readyz(struct http_call *c)
{
    if (c->d->read_only) {
        http_problem(c, 503, "the driver serves reads only, its store cannot be written: %s",
                     c->d->read_only_why);
    } else if (c->d->stopping) {
        http_problem(c, 503, "the driver is stopping");
    } else {
        buf_adds(&c->out, "{\"status\":\"ready\"}");
        http_reply(c);
    }
}

void rest_debug_digest(struct http_call *c)
{
    think_wait_any(c->d->think); /* the digest looks into optimizers */
    buf_adds(&c->out, "{\"experiments\":{");
    bool first = true;
    for (struct experiment *x = driver_next(c->d, NULL); x != NULL; x = driver_next(c->d, x)) {
        buf_addf(&c->out, "%s\"%lld\":\"%016llx\"", first ? "" : ",", (long long)x->id,
                 (unsigned long long)study_digest(x->study));
        first = false;
    }
    buf_adds(&c->out, "}}");
    http_reply(c);
}

/* ---- workers ---- */

void rest_workers_list(struct http_call *c)
{
    struct mjson_issues is = {0};
    int limit = (int)http_query_int(c, "limit", 1, REST_LIMIT_MAX, REST_LIMIT_DEFAULT, &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the query is not valid", &is);
    } else if (c->d->pool == NULL) {
        buf_adds(&c->out, "{\"workers\":[],\"next\":null}");
        http_reply(c);
    } else {
        http_reply_json_take(c, 200, pool_workers(c->d->pool, http_query(c, "cursor"), limit));
    }
}

void rest_worker_drain(struct http_call *c)
{
    static const char *const keys[] = {NULL};
    struct mjson_issues is = {0};
    mjson_check_keys(c->body, keys, "", &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the request is not valid", &is);
    } else if (c->d->pool == NULL || pool_drain_worker(c->d->pool, c->args[0]) != MAG_OK) {
        http_problem(c, 404, "no worker is called %s", c->args[0]);
    } else {
        json_t *w = pool_worker(c->d->pool, c->args[0]);
        http_reply_json_take(c, 200, w != NULL ? w : json_object());
    }
}
