/* SPDX-License-Identifier: Apache-2.0
 *
 * Who gets what: matching of needs and offers, fair sharing between experiments, reservations, and
 * the answers of held polls. A worker's currency is the slot: one slot is 1/slots of its cores,
 * memory and GPUs, and a trial that needs more takes several.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "driver/pool_state.h"
#include "driver/quota.h"
#include "wire/fuse.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- needs against offers ---- */

static int64_t share_cost(int64_t want, int64_t have, int64_t slots)
{
    if (want <= 0) {
        return 1;
    }
    return want > have ? 0 : (want * slots + have - 1) / have;
}

static bool has_label(const struct worker *w, const char *label)
{
    for (size_t i = 0; i < json_array_size(w->labels); i++) {
        if (strcmp(json_string_value(json_array_get(w->labels, i)), label) == 0) {
            return true;
        }
    }
    return false;
}

static const char *missing_label(const struct worker *w, const struct spec_requires *want)
{
    for (int i = 0; i < want->n_labels; i++) {
        if (!has_label(w, want->labels[i])) {
            return want->labels[i];
        }
    }
    return NULL;
}

/* Where several slots share a GPU, a trial takes as many as its part of the GPU's memory. */
static int64_t gpu_memory_cost(const struct worker *w, const struct spec_requires *want)
{
    int64_t per_gpu = w->gpus > 0 ? w->slots / w->gpus : 0;
    return per_gpu > 1 ? share_cost(want->gpu_memory_mb, w->gpu_memory_mb, per_gpu) : 1;
}

int offer_cost(const struct worker *w, const struct spec_requires *want)
{
    int64_t slots = w->slots;
    int64_t gpus = share_cost(want->gpus, w->gpus, slots);
    int64_t memory = share_cost(want->memory_mb, w->memory_mb, slots);
    int64_t cores = share_cost(want->cores, w->cores, slots);
    bool enough = (want->gpu_memory_mb <= w->gpu_memory_mb || want->gpu_memory_mb <= 0) &&
                  (w->can_folds || !want->folds);
    if (gpus == 0 || memory == 0 || cores == 0 || !enough || missing_label(w, want) != NULL) {
        return 0;
    }
    int64_t most = gpus > memory ? gpus : memory;
    most = most > cores ? most : cores;
    int64_t part = gpu_memory_cost(w, want);
    most = most > part ? most : part;
    most = most > want->slots ? most : want->slots;
    return most <= slots ? (int)most : 0;
}

/* Workers speak up with every heartbeat: one that missed three gets nothing until it is heard
 * again. */
bool worker_is_silent(const struct worker *w)
{
    const struct driver_config *cfg = driver_config(w->pool->driver);
    int64_t beats_ms = 3 * cfg->heartbeat_ms + POOL_SLACK_MS;
    int64_t limit_ms = beats_ms < cfg->lease_ms ? beats_ms : cfg->lease_ms;
    return !w->connected ||
           driver_now_ns(w->pool->driver) - w->heard_ns >= limit_ms * MAG_NS_PER_MS;
}

static bool takes_work(const struct worker *w)
{
    return w->known && !worker_is_silent(w) && !w->draining && !w->drain_wanted;
}

/* The most of a resource that any connected worker has. */
static int64_t most_of(const struct pool *p, int64_t (*get)(const struct worker *w))
{
    int64_t most = 0;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        const struct worker *w = container_of(n, struct worker, node);
        int64_t v = takes_work(w) ? get(w) : 0;
        most = v > most ? v : most;
    }
    return most;
}

static int64_t get_gpus(const struct worker *w)
{
    return w->gpus;
}

static int64_t get_gpu_memory(const struct worker *w)
{
    return w->gpu_memory_mb;
}

static int64_t get_memory(const struct worker *w)
{
    return w->memory_mb;
}

static int64_t get_cores(const struct worker *w)
{
    return w->cores;
}

static int64_t get_slots(const struct worker *w)
{
    return w->slots;
}

static int64_t get_folds(const struct worker *w)
{
    return w->can_folds;
}

/* One sentence on what is missing; the buffer lives until the next call. */
static const char *say_why(const struct pool *p, const struct spec_requires *want)
{
    static char text[256];
    if (want->folds && most_of(p, get_folds) == 0) {
        (void)snprintf(text, sizeof(text),
                       "no worker knows \"validation\": they are older than this driver");
    } else if (want->gpus > most_of(p, get_gpus)) {
        (void)snprintf(text, sizeof(text),
                       want->gpus == 1 ? "no worker offers a GPU"
                                       : "no worker offers %" PRId64 " GPUs",
                       want->gpus);
    } else if (want->gpu_memory_mb > most_of(p, get_gpu_memory)) {
        (void)snprintf(text, sizeof(text), "no worker offers a GPU with %" PRId64 " MB",
                       want->gpu_memory_mb);
    } else if (want->memory_mb > most_of(p, get_memory)) {
        (void)snprintf(text, sizeof(text), "no worker offers %" PRId64 " MB of memory",
                       want->memory_mb);
    } else if (want->cores > most_of(p, get_cores)) {
        (void)snprintf(text, sizeof(text), "no worker offers %" PRId64 " cores", want->cores);
    } else if (want->slots > most_of(p, get_slots)) {
        (void)snprintf(text, sizeof(text),
                       "no worker offers %" PRId64 " slots, one for each rank of a trial (the most "
                       "is %" PRId64 "): start one with --slots %" PRId64,
                       want->slots, most_of(p, get_slots), want->slots);
    } else {
        const char *label = want->n_labels > 0 ? want->labels[0] : "";
        (void)snprintf(text, sizeof(text), "no worker offers all that is required together%s%s%s",
                       want->n_labels > 0 ? " (labels: " : "", label,
                       want->n_labels > 1   ? ", …)"
                       : want->n_labels > 0 ? ")"
                                            : "");
    }
    return text;
}

bool offer_possible(void *arg, const struct spec_requires *want, const char **ret_why)
{
    const struct pool *p = arg;
    bool any = false;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        const struct worker *w = container_of(n, struct worker, node);
        any = any || takes_work(w);
        if (takes_work(w) && offer_cost(w, want) > 0) {
            return true;
        }
    }
    *ret_why = any ? say_why(p, want) : "no worker is connected";
    return false;
}

int worker_busy(const struct worker *w)
{
    unsigned round = ++w->pool->counted;
    int busy = 0;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        const struct holding *h = container_of(n, struct holding, node);
        bool again = h->group != NULL && h->group->counted == round;
        if (h->group != NULL && !h->reserved) {
            h->group->counted = round;
        }
        busy += h->reserved || again ? 0 : h->cost;
    }
    return busy;
}

/* ---- what a grant says ---- */

/* The checkpoint to start from when the grant is given again after a restart of the driver. */
static void find_resume(const struct study *s, const struct trial *t, struct holding *h)
{
    if (t->checkpoint_step >= 0 && t->checkpoint_uri != NULL) {
        h->resume_step = t->checkpoint_step;
        h->resume_uri = xstrdup(t->checkpoint_uri);
    } else if (t->parent > 0) {
        const struct trial *from = study_trial(s, t->parent);
        if (from != NULL && from->checkpoint_uri != NULL &&
            from->checkpoint_step == t->parent_step) {
            h->resume_step = from->checkpoint_step;
            h->resume_uri = xstrdup(from->checkpoint_uri);
        }
    }
}

/* What the worker keeps a trial's program within. */
static json_t *grant_limits(const struct experiment *x, const struct trial *t)
{
    const struct spec_limits *l = study_limits(x->study);
    const struct {
        const char *key;
        int64_t v;
    } all[] = {{"memory_mb", l->memory_mb},
               {"output_mb", l->output_mb},
               {"files", l->files},
               {"processes", l->processes},
               {"grace_ms", study_spec(x->study)->grace_ms},
               {"retries", l->retries - t->failures}};
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i].v > 0) {
            (void)json_object_set_new(o, all[i].key, json_integer(all[i].v));
        }
    }
    return o;
}

/* After a failure for lack of memory: what it took then, or may take. */
static int64_t grant_wait_mb(const struct experiment *x, const struct trial *t)
{
    const struct spec *spec = study_spec(x->study);
    if (t->cause != FAIL_MEMORY) {
        return 0;
    }
    int64_t most = t->peak_mb > spec->requires_.memory_mb ? t->peak_mb : spec->requires_.memory_mb;
    most = t->need_mb > most ? t->need_mb : most;
    return most > 0 ? most : 1;
}

/* What TensorBoard is told of the experiment; NULL = no event files are wanted. */
static json_t *grant_board(const struct spec *spec)
{
    if (!spec->tensorboard) {
        return NULL;
    }
    json_t *metrics = json_array();
    for (int i = 0; i < spec->n_measures; i++) {
        (void)json_array_append_new(metrics, json_string(spec->measures[i].name));
    }
    return json_pack("{s:s, s:O, s:o}", "name", spec->name, "space",
                     json_object_get(spec->resolved, "searchspace"), "metrics", metrics);
}

static void fill_grant(const struct experiment *x, const struct trial *t, const struct holding *h,
                       struct wire_grant *g)
{
    const struct spec *spec = study_spec(x->study);
    *g = (struct wire_grant){
        .experiment = x->id,
        .trial = t->id,
        .attempt = h->attempt,
        .reserved = h->reserved,
        .group = h->group != NULL ? h->group->id : 0,
        .slots = h->cost,
        .budget = t->budget,
        .params = space_point_to_json(spec->space, t->point),
        .seed = (int64_t)spec->seed,
        .metric = xstrdup(spec->metric),
        .direction = xstrdup(spec->maximize ? "max" : "min"),
        .program = json_incref(spec->trial),
        .patterns = spec->metrics != NULL ? json_incref(spec->metrics) : NULL,
        .checkpoint_every = spec->checkpoint_every,
        .checkpoint_keep = spec->checkpoint_keep,
        .checkpoint_best = spec->checkpoint_best,
        .trial_time_ms = study_limits(x->study)->trial_time_ms,
        .gpus = spec->requires_.gpus,
        .limits = grant_limits(x, t),
        .wait_mb = grant_wait_mb(x, t),
        .folds = spec->validation.present ? spec->validation.folds : 0,
        .fold = t->fold,
        .split = spec_split_json(spec),
        .distribution = spec->distribution != NULL ? json_incref(spec->distribution) : NULL,
        .logs = json_incref(spec->logs),
        .board = grant_board(spec),
    };
    if (h->resume_uri != NULL) {
        g->resume_uri = xstrdup(h->resume_uri);
        g->resume_step = h->resume_step;
    }
}

void offer_holding(struct worker *w, const struct experiment *x, struct holding *h)
{
    const struct trial *t = study_trial(x->study, h->trial);
    fill_grant(x, t, h, wire_grant_add(&w->offer.grants, &w->offer.n_grants));
    h->sent = true;
}

/* Grants that were committed and never arrived go out again, with the same attempt. */
static void offer_undelivered(struct worker *w)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        struct holding *h = container_of(n, struct holding, node);
        if (h->sent || holding_check(w, h) != HELD_OPEN) {
            continue;
        }
        const struct experiment *x = driver_experiment(w->pool->driver, h->experiment);
        if (h->resume_uri == NULL) {
            find_resume(x->study, study_trial(x->study, h->trial), h);
        }
        offer_holding(w, x, h);
        log_info("driver", "grant-again",
                 "worker=%s experiment=%" PRId64 " trial=%" PRId64 " attempt=%" PRId64,
                 log_quote(w->id), h->experiment, h->trial, h->attempt);
    }
}

/* ---- fair sharing ---- */

struct candidate {
    struct experiment *x;
    int64_t running;
    int64_t idle; /* slots anywhere that could run one of its trials; only for who asks for groups */
    bool empty; /* had nothing to give this time */
};

/* Slots of all workers in which a trial with these needs could run now. */
static int64_t count_idle(const struct pool *p, const struct spec_requires *want)
{
    int64_t idle = 0;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        const struct worker *w = container_of(n, struct worker, node);
        int cost = takes_work(w) ? offer_cost(w, want) : 0;
        int free_slots = cost > 0 ? w->slots - worker_busy(w) : 0;
        idle += cost > 0 && free_slots > 0 ? free_slots / cost : 0;
    }
    return idle;
}

/* Experiments whose trials workers run and that may have work, by id. */
static int find_candidates(struct pool *p, struct candidate **ret)
{
    struct candidate *list = NULL;
    int n = 0;
    for (struct experiment *x = driver_next(p->driver, NULL); x != NULL;
         x = driver_next(p->driver, x)) {
        if (x->deleted || study_spec(x->study)->program == SPEC_ASKED || driver_is_thinking(x) ||
            quota_is_over(p->driver, x) || !study_has_work(x->study)) {
            continue;
        }
        int64_t counts[TRIAL_STATES];
        study_counts(x->study, counts);
        list = xreallocarray(list, (size_t)n + 1, sizeof(*list));
        const struct spec *spec = study_spec(x->study);
        list[n++] = (struct candidate){.x = x,
                                       .running = counts[TRIAL_RUNNING],
                                       .idle = spec->fuse > 1 || spec->fuse == FUSE_AUTO
                                                   ? count_idle(p, &spec->requires_)
                                                   : 0};
    }
    *ret = list;
    return n;
}

/* The one with the fewest running trials that fits into `free` slots of the worker; ties by id. */
static struct candidate *choose(const struct worker *w, struct candidate *list, int n,
                                int free_slots)
{
    struct candidate *best = NULL;
    for (int i = 0; i < n; i++) {
        struct candidate *c = &list[i];
        if (c->empty || (best != NULL && best->running <= c->running) ||
            (w->saving_for != 0 && w->saving_for != c->x->id)) {
            continue;
        }
        int cost = offer_cost(w, &study_spec(c->x->study)->requires_);
        if (cost > 0 && cost <= free_slots) {
            best = c;
        }
    }
    return best;
}

/* The worker whose free slots come nearest to what a trial of `c` takes, where that is several; NULL
 * where none ever can. */
static struct worker *nearest(const struct pool *p, const struct candidate *c)
{
    const struct spec_requires *want = &study_spec(c->x->study)->requires_;
    struct worker *best = NULL;
    int best_lack = 0;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        struct worker *w = container_of(n, struct worker, node);
        int cost = takes_work(w) ? offer_cost(w, want) : 0;
        int lack = cost - (w->slots - worker_busy(w));
        if (cost > 1 && w->saving_for == 0 && (best == NULL || lack < best_lack)) {
            best = w;
            best_lack = lack;
        }
    }
    return best;
}

/* An experiment that runs nothing and whose trials take several slots would wait for ever beside one
 * whose trials take each slot as it comes free: one worker saves its slots for it. */
static void save_up(struct pool *p, const struct candidate *list, int n)
{
    struct list_node *node, *tmp;
    list_foreach(node, tmp, &p->workers)
    {
        container_of(node, struct worker, node)->saving_for = 0;
    }
    for (int i = 0; i < n; i++) {
        struct worker *w = list[i].running == 0 && !list[i].empty ? nearest(p, &list[i]) : NULL;
        if (w != NULL) {
            w->saving_for = list[i].x->id;
        }
    }
}

struct holding *offer_grant(struct worker *w, struct experiment *x, bool reserve, bool *ret_thinks)
{
    struct pool *p = w->pool;
    struct event ev;
    struct mag_err err = {0};
    struct holding *h = NULL;
    if (study_must_think(x->study)) {
        driver_think(p->driver, x); /* pool_serve comes when it has */
        if (ret_thinks != NULL) {
            *ret_thinks = true;
        }
        return NULL;
    }
    event_init(&ev, reserve ? EV_RESERVE : EV_ASK);
    ev.holder = xstrdup(w->id);
    ev.count = 1;
    ev.lease_ms = driver_config(p->driver)->lease_ms;
    ev.from_worker = true;
    ev.where = w->where != NULL ? json_incref(w->where) : NULL;
    enum mag_status st = driver_apply(p->driver, x, &ev, &err);
    if (st != MAG_OK && st != MAG_CONFLICT) {
        log_warn("driver", "grant-refused", "experiment=%" PRId64 " error=%s", x->id,
                 log_quote(err.text));
    }
    if (st == MAG_OK && ev.n_grants > 0) {
        const struct event_grant *g = &ev.grants[0];
        h = holding_add(w, x->id, g->trial, g->attempt);
        h->reserved = reserve;
        h->cost = offer_cost(w, &study_spec(x->study)->requires_);
        h->resume_uri = g->resume_uri != NULL ? xstrdup(g->resume_uri) : NULL;
        h->resume_step = g->resume_uri != NULL ? g->resume_step : 0;
        w->saving_for = 0;
    }
    event_fini(&ev);
    return h;
}

/* Gives one trial, or a group of them; false when there is none for now. `idle`: slots anywhere
 * that could run one. */
static bool give(struct worker *w, struct candidate *c, bool reserve, int64_t idle)
{
    struct holding *h = offer_grant(w, c->x, reserve, NULL);
    if (h == NULL) {
        c->empty = true;
        return false;
    }
    int64_t before[TRIAL_STATES];
    offer_group(w, c->x, h, reserve, idle);
    study_counts(c->x->study, before);
    c->running = before[TRIAL_RUNNING];
    return true;
}

/* One trial, or group, for each polling worker in turn, until nobody gets any more. */
static void share_out(struct pool *p, struct candidate *list, int n)
{
    bool given = true;
    while (given) {
        given = false;
        struct list_node *node, *tmp;
        list_foreach(node, tmp, &p->polls)
        {
            struct worker *w = container_of(node, struct worker, poll_node);
            struct candidate *c = NULL;
            bool got = false;
            while (takes_work(w) && !got &&
                   (c = choose(w, list, n, w->slots - worker_busy(w))) != NULL) {
                got = give(w, c, false, c->idle);
                c->idle--;
            }
            given = given || got;
        }
    }
}

/* ---- prefetch ---- */

static bool ends_soon(const struct worker *w, const struct holding *h, int64_t now)
{
    struct experiment *x = driver_experiment(w->pool->driver, h->experiment);
    int64_t left = x == NULL || h->revoked ? 0 : study_remaining_ms(x->study, h->trial, now);
    return left >= 0 && left <= POOL_RESERVE_MS;
}

/* Trials of the worker that end soon, and reservations it has. Those of a group are one, which
 * ends with the last of them. */
static void count_ending(struct worker *w, int *ret_ending, int *ret_reserved)
{
    int64_t now = driver_now_ns(w->pool->driver);
    unsigned round = ++w->pool->counted;
    *ret_ending = 0;
    *ret_reserved = 0;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        const struct holding *h = container_of(n, struct holding, node);
        bool first = h->group == NULL || h->group->counted != round;
        bool soon = !h->reserved && ends_soon(w, h, now);
        if (h->group != NULL && first) {
            h->group->counted = round;
            h->group->all_soon = true;
        }
        if (h->reserved) {
            *ret_reserved += first;
        } else if (h->group == NULL) {
            *ret_ending += soon;
        } else {
            *ret_ending += (first && soon) - (!soon && !first && h->group->all_soon);
            h->group->all_soon = h->group->all_soon && soon;
        }
    }
}

/* An idle slot somewhere would run the trial at once: then nothing is put aside. */
static bool anybody_idle(const struct pool *p, const struct spec_requires *want)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->workers)
    {
        const struct worker *w = container_of(n, struct worker, node);
        int cost = takes_work(w) ? offer_cost(w, want) : 0;
        if (cost > 0 && w->slots - worker_busy(w) >= cost) {
            return true;
        }
    }
    return false;
}

static void reserve_for(struct worker *w, struct candidate *list, int n)
{
    int ending = 0;
    int reserved = 0;
    count_ending(w, &ending, &reserved);
    while (reserved < ending) {
        struct candidate *c = choose(w, list, n, w->slots);
        if (c == NULL) {
            return;
        }
        if (!offer_may_reserve(w, c->x) ||
            anybody_idle(w->pool, &study_spec(c->x->study)->requires_)) {
            c->empty = true;
            continue;
        }
        reserved += give(w, c, true, 1) ? 1 : 0;
    }
}

static void reserve(struct pool *p, struct candidate *list, int n)
{
    for (int i = 0; i < n; i++) {
        list[i].empty = !study_has_work(list[i].x->study);
    }
    struct list_node *node, *tmp;
    list_foreach(node, tmp, &p->polls)
    {
        struct worker *w = container_of(node, struct worker, poll_node);
        if (takes_work(w) && w->saving_for == 0) {
            reserve_for(w, list, n);
        }
    }
}

/* ---- orders and answers ---- */

void offer_orders(struct worker *w, bool again, struct wire_order **list, size_t *n)
{
    struct list_node *node, *tmp;
    list_foreach(node, tmp, &w->holdings)
    {
        struct holding *h = container_of(node, struct holding, node);
        if ((!h->revoked && holding_check(w, h) != HELD_REVOKED) || (h->told_stop && !again)) {
            continue;
        }
        struct experiment *x = driver_experiment(w->pool->driver, h->experiment);
        const struct trial *t = x != NULL ? study_trial(x->study, h->trial) : NULL;
        struct wire_order *o = wire_order_add(list, n);
        bool own = t != NULL && t->attempt == h->attempt && t->holder != NULL &&
                   strcmp(t->holder, w->id) == 0;
        *o = (struct wire_order){
            .experiment = h->experiment,
            .trial = h->trial,
            .attempt = h->attempt,
            .action = xstrdup(own && t->state == TRIAL_PAUSED ? "pause" : "stop"),
            .late = !own,
            .state = t != NULL ? xstrdup(trial_state_name(t->state)) : NULL,
        };
        h->told_stop = true;
    }
}

void offer_answer(struct worker *w)
{
    struct answer *a = w->poll;
    if (a == NULL) {
        return;
    }
    w->poll = NULL;
    w->gather.on = false;
    list_remove(&w->poll_node);
    struct wire_msg m = {.type = WIRE_WORK, .seq = a->seq, .work = w->offer};
    m.work.drain = w->drain_wanted;
    w->offer = (struct wire_work){0};
    wire_encode(&m, &a->text);
    wire_fini(&m);
    answer_release(a);
}

static bool has_offer(const struct worker *w)
{
    return w->offer.n_grants > 0 || w->offer.n_orders > 0;
}

void offer_serve(struct pool *p)
{
    if (list_is_empty(&p->polls) || p->serving) {
        return;
    }
    p->serving = true;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &p->polls)
    {
        struct worker *w = container_of(n, struct worker, poll_node);
        offer_undelivered(w);
        if (p->dirty) {
            offer_orders(w, false, &w->offer.orders, &w->offer.n_orders);
        }
    }
    p->dirty = false;
    list_foreach(n, tmp, &p->polls)
    {
        offer_go_on(container_of(n, struct worker, poll_node));
    }
    if (!p->draining && !driver_is_read_only(p->driver)) {
        struct candidate *list = NULL;
        int k = find_candidates(p, &list);
        if (k > 0) {
            save_up(p, list, k);
            share_out(p, list, k);
            reserve(p, list, k);
        }
        free(list);
    }
    list_foreach(n, tmp, &p->polls)
    {
        struct worker *w = container_of(n, struct worker, poll_node);
        if (has_offer(w) && !offer_is_gathering(w)) {
            offer_answer(w);
        }
    }
    p->serving = false;
}
