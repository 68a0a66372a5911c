/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests: an event that carries (client, request) is remembered with its answer, so that the same
 * question, asked again after a lost reply or a restart, gets the same trials. Kept small: what the
 * trials themselves still know is not stored twice.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define REQUEST_KEPT_MS (24LL * 3600 * 1000)

struct given {
    int64_t trial, attempt, budget, resume_step;
    const char *resume_uri; /* shared text */
};

struct request {
    struct list_node node; /* in study->by_age */
    int64_t wall_ms;
    int64_t due_ms; /* when it is looked at again: a day after it was put in or found alive */
    enum event_kind kind;
    enum study_state study;
    bool waiting, done;
    int64_t created_trial;
    const char *why_code, *why; /* shared texts */
    const char *key;            /* "client\nrequest", the map's own */
    char *body_hash;            /* after given[], NULL = none */
    int n;
    struct given given[];
};

static bool carries_request(const struct event *ev)
{
    bool kind = ev->kind == EV_ASK || ev->kind == EV_ENQUEUE || ev->kind == EV_EXTEND ||
                ev->kind == EV_TRIAL_RETRY;
    return kind && ev->request != NULL && ev->holder != NULL;
}

static char *request_key(const char *client, const char *request)
{
    size_t n = strlen(client);
    size_t m = strlen(request);
    char *key = xmalloc(n + m + 2);
    memcpy(key, client, n);
    key[n] = '\n';
    memcpy(key + n + 1, request, m + 1);
    return key;
}

static void request_destroy(struct study *s, struct request *r)
{
    list_remove(&r->node);
    for (int i = 0; i < r->n; i++) {
        study_text_set(s, &r->given[i].resume_uri, NULL);
    }
    study_text_set(s, &r->why_code, NULL);
    study_text_set(s, &r->why, NULL);
    free(r);
}

/* Puts `r` under its key. The map owns the key; a request that had it before goes. */
static void request_put(struct study *s, struct request *r, const struct event *ev)
{
    char *key = request_key(ev->holder, ev->request);
    struct request *old = strmap_set(&s->requests, key, r);
    free(key);
    r->key = old != NULL ? old->key : s->requests.entries[s->requests.used - 1].key;
    if (old != NULL) {
        request_destroy(s, old);
    }
    r->due_ms = r->wall_ms + REQUEST_KEPT_MS;
    list_append(&s->by_age, &r->node);
}

void request_remember(struct study *s, const struct event *ev)
{
    if (!carries_request(ev)) {
        return;
    }
    study_forget_requests(s, ev->wall_ms);
    int n = ev->kind == EV_ASK ? ev->n_grants : 0;
    size_t hash_size = ev->body_hash != NULL ? strlen(ev->body_hash) + 1 : 0;
    struct request *r = xcalloc(1, sizeof(*r) + (size_t)n * sizeof(r->given[0]) + hash_size);
    r->wall_ms = ev->wall_ms;
    r->kind = ev->kind;
    r->study = ev->study;
    r->waiting = ev->waiting;
    r->done = ev->done;
    r->created_trial = ev->created_trial;
    r->n = n;
    if (hash_size > 0) {
        r->body_hash = (char *)&r->given[n];
        memcpy(r->body_hash, ev->body_hash, hash_size);
    }
    study_text_set(s, &r->why_code, ev->why_code);
    study_text_set(s, &r->why, ev->why);
    for (int i = 0; i < n; i++) {
        const struct event_grant *g = &ev->grants[i];
        r->given[i] = (struct given){g->trial, g->attempt, g->budget, g->resume_step, NULL};
        study_text_set(s, &r->given[i].resume_uri, g->resume_uri);
    }
    request_put(s, r, ev);
}

static struct request *request_find(const struct study *s, const char *client, const char *request)
{
    if (s->requests.live == 0) {
        return NULL;
    }
    char *key = request_key(client, request);
    struct request *r = strmap_get(&s->requests, key);
    free(key);
    return r;
}

static char *dup_or_null(const char *text)
{
    return text != NULL ? xstrdup(text) : NULL;
}

/* The "out" fields as they were recorded; points come from the trials, which keep theirs for good.
 */
static void request_answer(const struct study *s, const struct request *r, struct event *ev)
{
    event_clear_decision(ev);
    ev->study = r->study;
    ev->waiting = r->waiting;
    ev->done = r->done;
    ev->created_trial = r->created_trial;
    ev->why_code = dup_or_null(r->why_code);
    ev->why = dup_or_null(r->why);
    size_t dims = (size_t)s->spec->space->n;
    for (int i = 0; i < r->n; i++) {
        const struct trial *t = trial_at(s, r->given[i].trial);
        struct event_grant *g = event_add_grant(ev);
        g->trial = t->id;
        g->attempt = r->given[i].attempt;
        g->budget = r->given[i].budget;
        g->created = g->attempt == 1;
        g->bracket = t->bracket;
        g->rung = t->rung;
        g->parent = t->parent;
        g->parent_step = t->parent_step;
        g->resume_step = r->given[i].resume_step;
        g->resume_uri = dup_or_null(r->given[i].resume_uri);
        g->point = xcalloc(dims + 1, sizeof(double));
        memcpy(g->point, t->point, dims * sizeof(double));
    }
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool request_repeats(struct study *s, struct event *ev, enum mag_status *ret, struct mag_err *err)
{
    const struct request *r = carries_request(ev) ? request_find(s, ev->holder, ev->request) : NULL;
    if (r == NULL) {
        return false;
    }
    if (r->kind != ev->kind || !same_text(r->body_hash, ev->body_hash)) {
        *ret = mag_fail(err, MAG_CONFLICT,
                        "request \"%s\" of client \"%s\" was used with another body; use a new key "
                        "for a new question",
                        ev->request, ev->holder);
        return true;
    }
    request_answer(s, r, ev);
    *ret = MAG_OK;
    return true;
}

const struct event *study_request(const struct study *s, const char *client, const char *request)
{
    const struct request *r = request_find(s, client, request);
    if (r == NULL) {
        return NULL;
    }
    struct event *ev = s->answer;
    event_fini(ev);
    event_init(ev, r->kind);
    ev->wall_ms = r->wall_ms;
    ev->holder = xstrdup(client);
    ev->request = xstrdup(request);
    ev->body_hash = dup_or_null(r->body_hash);
    request_answer(s, r, ev);
    return ev;
}

static bool lives(const struct study *s, const struct request *r)
{
    for (int i = 0; i < r->n; i++) {
        if (!trial_state_is_final(trial_at(s, r->given[i].trial)->state)) {
            return true;
        }
    }
    return false;
}

/* The map frees the key with the entry: nothing may use r->key afterwards. */
static void request_drop(struct study *s, struct request *r)
{
    (void)strmap_remove(&s->requests, r->key);
    request_destroy(s, r);
}

void study_forget_requests(struct study *s, int64_t wall_ms)
{
    struct list_node *first;
    while ((first = list_first(&s->by_age)) != NULL) {
        struct request *r = container_of(first, struct request, node);
        if (wall_ms < r->due_ms) {
            return;
        }
        if (!lives(s, r)) {
            request_drop(s, r);
            continue;
        }
        r->due_ms = wall_ms + REQUEST_KEPT_MS;
        list_remove(first);
        list_append(&s->by_age, first);
    }
}

void request_forget(struct study *s, const struct event *ev)
{
    struct request *r = carries_request(ev) ? request_find(s, ev->holder, ev->request) : NULL;
    if (r != NULL) {
        request_drop(s, r);
    }
}

void requests_fini(struct study *s)
{
    struct list_node *pos, *tmp;
    list_foreach(pos, tmp, &s->by_age)
    {
        request_destroy(s, container_of(pos, struct request, node));
    }
    strmap_fini(&s->requests);
}
