/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/executor_impl.h"

#include "base/alloc.h"
#include "base/log.h"
#include "trainer/fused.h"
#include "wire/fuse.h"

#include <stdlib.h>
#include <string.h>

struct group;

/* One trial of the group. */
struct member {
    struct group *group;
    struct start start;
    struct recipe recipe;
    struct trial_result result;
    enum trial_order order; /* as last heard */
    bool ready, runs;
    bool left; /* told to end before it began */
};

struct group {
    struct executor *executor;
    struct member *members;
    int n;
};

/* ---- to the worker ---- */

static enum mag_status on_report(void *ctx, int64_t step, const struct metrics *m,
                                 struct mag_err *err)
{
    const struct member *k = ctx;
    executor_measure(k->group->executor, k->start.job.trial, true);
    return executor_report(k->group->executor, k->start.job.trial, step, m, err);
}

static enum mag_status on_checkpoint(void *ctx, int64_t step, const char *path, struct mag_err *err)
{
    const struct member *k = ctx;
    return executor_checkpoint(k->group->executor, k->start.job.trial, step, path, err);
}

static void on_decline(void *ctx, int lanes)
{
    struct member *k = ctx;
    struct executor *e = k->group->executor;
    struct buf b = {0};
    k->runs = false;
    buf_addf(&b, "{\"type\":\"declined\",\"trial\":%lld,\"lanes\":%d}",
             (long long)k->start.job.trial, lanes);
    e->exit = executor_send(e, &b) != MAG_OK || e->exit;
}

static void on_end(void *ctx, const struct trial_lane *lane)
{
    struct member *k = ctx;
    struct executor *e = k->group->executor;
    int64_t trial = k->start.job.trial;
    k->runs = false;
    if (lane->status != MAG_OK) {
        executor_error(e, trial, executor_cause(lane->status), lane->err.text);
    } else if (lane->result->end != TRIAL_EXITED) {
        executor_result(e, trial, lane->result);
    }
}

/* ---- from the worker ---- */

/* Orders for trials that do not run came too late. */
static void take_order(struct group *g, int64_t trial, const char *type)
{
    for (int i = 0; i < g->n; i++) {
        struct member *k = &g->members[i];
        if (!k->runs || k->start.job.trial != trial) {
            continue;
        }
        if (strcmp(type, "stop") == 0) {
            k->order = ORDER_STOP;
        } else if (strcmp(type, "pause") == 0 && k->order == ORDER_NONE) {
            k->order = ORDER_PAUSE;
        }
    }
}

/* Between batches, for each trial: what came from the worker meanwhile. */
static enum trial_order on_poll(void *ctx)
{
    const struct member *k = ctx;
    struct group *g = k->group;
    struct executor *e = g->executor;
    size_t len = 0;
    executor_measure(e, k->start.job.trial, false);
    for (char *line = NULL; (line = channel_next(&e->channel, false, &len)) != NULL;) {
        const char *type = NULL;
        json_t *m = executor_parse_line(line, len, &type);
        if (m == NULL) {
            continue;
        }
        int64_t trial = json_integer_value(json_object_get(m, "trial"));
        if (strcmp(type, "exit") == 0) {
            e->exit = true;
        } else if (strcmp(type, "start") == 0) {
            executor_error(e, trial, "program", "this program runs other trials");
        } else {
            take_order(g, trial, type);
        }
        json_decref(m);
    }
    return e->exit || e->channel.ended ? ORDER_EXIT : k->order;
}

/* ---- the group ---- */

/* What may be beside the first one: the driver gives no others. */
static bool goes_with(const struct member *first, const struct member *k)
{
    const struct start *a = &first->start;
    const struct start *b = &k->start;
    char *key_a = fuse_key(a->spec, a->params);
    char *key_b = fuse_key(b->spec, b->params);
    bool same = strcmp(key_a, key_b) == 0 && a->job.seed == b->job.seed &&
                a->part.fold == b->part.fold && a->part.folds == b->part.folds &&
                a->plan.ranks <= 1 && b->plan.ranks <= 1;
    free(key_b);
    free(key_a);
    return same;
}

/* Reads and prepares one trial; true when it can run. */
static bool take_member(struct member *k, const json_t *m, const struct member *first)
{
    struct executor *e = k->group->executor;
    struct mag_err err = {0};
    struct refusal why = {0};
    if (executor_parse_start(m, &k->start, &err) != MAG_OK) {
        log_warn("trainer", "bad-start", "reason=%s", log_quote(err.text));
        executor_error(e, k->start.job.trial, "program", err.text);
        return false;
    }
    if (first != NULL && !goes_with(first, k)) {
        executor_error(e, k->start.job.trial, "program",
                       "it cannot be trained beside the trial that it was started with: they "
                       "differ in more than numbers of their own");
        return false;
    }
    if (!executor_make_ready(e, &k->start, &k->recipe, &why)) {
        executor_refuse(e, k->start.job.trial, &why);
        return false;
    }
    return true;
}

/* A member is told to end before they have begun. */
static bool on_early_order(void *ctx, int64_t trial, enum trial_order order)
{
    struct group *g = ctx;
    bool any = false;
    for (int i = 0; i < g->n; i++) {
        struct member *k = &g->members[i];
        if (k->ready && !k->left && k->start.job.trial == trial) {
            const struct trial_result none = {.end = order == ORDER_STOP ? TRIAL_STOPPED
                                                                         : TRIAL_PAUSED};
            k->left = true;
            executor_result(g->executor, trial, &none);
        }
        any = any || (k->ready && !k->left);
    }
    return any;
}

/* Waits until those that are ready may begin on their GPU. */
static bool are_let_in(struct group *g)
{
    const struct member *first = NULL;
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        first = first == NULL && g->members[i].ready ? &g->members[i] : first;
        n += g->members[i].ready;
    }
    const struct gpu_ask ask = {.trial = first != NULL ? first->start.job.trial : 0,
                                .recipe = first != NULL ? &first->recipe : NULL,
                                .lanes = n,
                                .ctx = g,
                                .order = on_early_order};
    return first != NULL && executor_may_begin(g->executor, &ask);
}

/* Those that are ready, side by side. */
static void run_ready(struct group *g, const json_t *trials)
{
    struct trial_lane lanes[BACKEND_LANES_MAX];
    struct trial_hooks hooks[BACKEND_LANES_MAX];
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        struct member *k = &g->members[i];
        const json_t *from = json_object_get(json_array_get(trials, (size_t)i), "resume_from");
        if (!k->ready || k->left) {
            continue;
        }
        k->runs = true;
        hooks[n] = (struct trial_hooks){
            .ctx = k, .poll = on_poll, .report = on_report, .checkpoint = on_checkpoint};
        lanes[n] =
            (struct trial_lane){.job = &k->start.job,
                                .resume_step = json_integer_value(json_object_get(from, "step")),
                                .recipe = &k->recipe,
                                .hooks = &hooks[n],
                                .end = on_end,
                                .decline = on_decline,
                                .result = &k->result};
        n++;
    }
    if (n > 0) {
        const struct session *s = &g->executor->session;
        fused_run(lanes, n, s->dataset, s->backend);
    }
}

void executor_run_group(struct executor *e, const json_t *trials)
{
    size_t n = json_array_size(trials);
    if (n == 0 || n > BACKEND_LANES_MAX) {
        log_warn("trainer", "bad-start", "trials=%zu", n);
        return;
    }
    struct group g = {.executor = e, .members = xcalloc(n, sizeof(struct member)), .n = (int)n};
    const struct member *first = NULL;
    for (int i = 0; i < g.n; i++) {
        struct member *k = &g.members[i];
        k->group = &g;
        k->ready = take_member(k, json_array_get(trials, (size_t)i), first);
        first = first == NULL && k->ready ? k : first;
    }
    if (are_let_in(&g)) {
        run_ready(&g, trials);
    }
    for (int i = 0; i < g.n; i++) {
        if (g.members[i].ready) {
            recipe_fini(&g.members[i].recipe);
        }
    }
    free(g.members);
}
