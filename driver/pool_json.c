/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker endpoint as people see it: GET /workers, metrics, the last lines of a running trial.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "driver/pool_state.h"

#include <stdlib.h>
#include <string.h>

static const char *state_of(const struct worker *w)
{
    if (worker_is_silent(w)) {
        return w->draining ? "gone" : "silent";
    }
    return w->draining || w->drain_wanted ? "draining" : "connected";
}

static json_t *running_of(const struct worker *w, bool reserved)
{
    json_t *list = json_array();
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        const struct holding *h = container_of(n, struct holding, node);
        if (h->reserved == reserved) {
            json_t *one = json_pack("{s:I, s:I, s:I, s:b}", "experiment", (json_int_t)h->experiment,
                                    "trial", (json_int_t)h->trial, "attempt",
                                    (json_int_t)h->attempt, "stopping", h->revoked);
            if (h->group != NULL) {
                (void)json_object_set_new(one, "group", json_integer(h->group->id));
            }
            (void)json_array_append_new(list, one);
        }
    }
    return list;
}

static void set_time(json_t *o, const char *key, int64_t wall_ms)
{
    char text[32];
    clock_rfc3339(wall_ms, text);
    (void)json_object_set_new(o, key, json_string(text));
}

static json_t *worker_json(const struct worker *w)
{
    int busy = worker_busy(w);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:I, s:I, s:I, s:I}",
                          "worker", w->id, "name", w->name, "host", w->host, "version", w->version,
                          "state", state_of(w), "pid", (json_int_t)w->pid, "slots", w->slots,
                          "busy", busy, "free", busy < w->slots ? w->slots - busy : 0, "gpus",
                          (json_int_t)w->gpus, "gpu_memory_mb", (json_int_t)w->gpu_memory_mb,
                          "memory_mb", (json_int_t)w->memory_mb, "cores", (json_int_t)w->cores);
    (void)json_object_set_new(o, "labels",
                              w->labels != NULL ? json_deep_copy(w->labels) : json_array());
    (void)json_object_set_new(o, "where",
                              w->where != NULL ? json_deep_copy(w->where) : json_object());
    (void)json_object_set_new(o, "use", w->use != NULL ? json_deep_copy(w->use) : json_null());
    (void)json_object_set_new(o, "running", running_of(w, false));
    (void)json_object_set_new(o, "reserved", running_of(w, true));
    set_time(o, "since", w->since_ms);
    int64_t silent_ms = (driver_now_ns(w->pool->driver) - w->heard_ns) / MAG_NS_PER_MS;
    set_time(o, "heard", clock_wall_ms() - (silent_ms > 0 ? silent_ms : 0));
    return o;
}

static int by_id(const void *a, const void *b)
{
    const struct worker *const *wa = a;
    const struct worker *const *wb = b;
    return strcmp((*wa)->id, (*wb)->id);
}

static const struct worker **sorted(const struct pool *p, size_t *ret_n)
{
    const struct worker **list = xcalloc((size_t)p->stats.workers + 1, sizeof(struct worker *));
    size_t n = 0;
    struct list_node *node, *tmp;
    list_foreach(node, tmp, &p->workers)
    {
        const struct worker *w = container_of(node, struct worker, node);
        if (w->known) {
            list[n++] = w;
        }
    }
    qsort(list, n, sizeof(struct worker *), by_id);
    *ret_n = n;
    return list;
}

json_t *pool_workers(const struct pool *p, const char *cursor, int limit)
{
    size_t n = 0;
    const struct worker **list = sorted(p, &n);
    json_t *out = json_array();
    json_t *next = json_null();
    for (size_t i = 0; i < n; i++) {
        if (cursor != NULL && strcmp(list[i]->id, cursor) <= 0) {
            continue;
        }
        if ((int)json_array_size(out) == limit) {
            next = json_deep_copy(
                json_object_get(json_array_get(out, json_array_size(out) - 1), "worker"));
            break;
        }
        (void)json_array_append_new(out, worker_json(list[i]));
    }
    free(list);
    return json_pack("{s:o, s:o}", "workers", out, "next", next);
}

json_t *pool_worker(const struct pool *p, const char *id)
{
    const struct worker *w = pool_find(p, id);
    return w != NULL && w->known ? worker_json(w) : NULL;
}

/* Of the newest attempt of a trial that a worker has; NULL = it has none. */
static const struct holding *holding_of(const struct pool *p, int64_t experiment, int64_t trial)
{
    struct experiment *x = driver_experiment(p->driver, experiment);
    const struct trial *t = x != NULL ? study_trial(x->study, trial) : NULL;
    struct worker *w = t != NULL && t->holder != NULL ? pool_find(p, t->holder) : NULL;
    return w != NULL ? holding_find(w, experiment, trial, t->attempt) : NULL;
}

const char *pool_waits(const struct pool *p, int64_t experiment, int64_t trial)
{
    const struct holding *h = holding_of(p, experiment, trial);
    return h != NULL && h->waits != NULL && h->waits[0] != '\0' ? h->waits : NULL;
}

const char *pool_log_tail(const struct pool *p, int64_t experiment, int64_t trial, int64_t *ret_end)
{
    const struct holding *h = holding_of(p, experiment, trial);
    *ret_end = h != NULL ? h->tail_end : 0;
    return h != NULL ? h->tail : NULL;
}

void pool_stats(const struct pool *p, struct pool_stats *ret)
{
    *ret = p->stats;
    ret->workers = ret->connected = ret->slots = ret->busy = ret->polls = 0;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        const struct worker *w = container_of(n, struct worker, node);
        ret->workers += w->known;
        ret->connected += w->known && w->connected;
        ret->slots += w->known && w->connected ? w->slots : 0;
        ret->busy += w->known ? worker_busy(w) : 0;
        ret->polls += w->poll != NULL;
    }
}
