/* SPDX-License-Identifier: Apache-2.0
 *
 * Slots: who gets which, and what part of the machine goes with it.
 */
#include "worker/app.h"
#include "worker/argv.h"
#include "worker/executor.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_WAIT_MAX_MS 300000 /* then it is tried, whatever is free */
#define MEMORY_CHECK_MS 500

/* Slots [lo, hi). */
struct range {
    int lo, hi;
};

static int count_free(const struct app *a, struct range of)
{
    int n = 0;
    for (int i = of.lo; i < of.hi; i++) {
        n += a->slots[i].run == NULL;
    }
    return n;
}

/* The slots that share GPU `g`, where several do. */
static bool gpu_slots(const struct app *a, int g, struct range *ret)
{
    int gpus = a->machine.n_gpus;
    if (gpus == 0 || a->n_slots % gpus != 0 || a->n_slots == gpus || g >= gpus) {
        return false;
    }
    int per = a->n_slots / gpus;
    *ret = (struct range){g * per, (g + 1) * per};
    return true;
}

/* The free slot that suits best: its executor can go on with this program; else it has none; else
 * any. Of equal ones that on the GPU with the most room. */
static struct slot *choose(struct app *a, const struct run *r, struct range of)
{
    struct slot *best = NULL;
    int best_score = -1;
    int per = a->machine.n_gpus > 0 ? a->n_slots / a->machine.n_gpus : 1;
    for (int i = of.lo; i < of.hi; i++) {
        struct slot *s = &a->slots[i];
        struct range gpu;
        if (s->run != NULL) {
            continue;
        }
        int room = gpu_slots(a, i / (per > 0 ? per : 1), &gpu) ? count_free(a, gpu) : 0;
        int score = s->executor == NULL ? 1 : executor_suits(s->executor, r) ? 2 : 0;
        score = score * (WIRE_SLOTS_MAX + 1) + room;
        if (score > best_score) {
            best = s;
            best_score = score;
        }
    }
    return best;
}

/* Where `need` slots are taken from. Several slots of one GPU are a part of that GPU: they must all
 * be its. */
static bool find_range(const struct app *a, int need, struct range *ret)
{
    struct range gpu;
    int most = 0;
    *ret = (struct range){0, a->n_slots};
    bool parts = gpu_slots(a, 0, &gpu) && need > 1 && need <= gpu.hi - gpu.lo;
    for (int g = 0; parts && gpu_slots(a, g, &gpu); g++) {
        int room = count_free(a, gpu);
        if (room > most) {
            most = room;
            *ret = gpu;
        }
    }
    return (parts ? most : count_free(a, *ret)) >= need;
}

static bool take_slots(struct run *r)
{
    struct app *a = r->app;
    struct range of;
    int need = (int)r->grant.slots < a->n_slots ? (int)r->grant.slots : a->n_slots;
    if (a->cfg.gpu_auto && need < a->n_slots / a->machine.n_gpus &&
        json_object_get(r->grant.program, "program") == NULL) {
        need = a->n_slots / a->machine.n_gpus; /* it tells no memory: it has a GPU to itself */
    }
    if (!find_range(a, need, &of)) {
        return false;
    }
    struct run *all[WIRE_LANES_MAX];
    int n = group_members(r, all);
    struct slot *first = choose(a, r, of);
    for (int i = 0; i < n; i++) {
        all[i]->slot = first;
    }
    first->run = r;
    for (int i = of.lo, left = need - 1; i < of.hi && left > 0; i++) {
        if (a->slots[i].run == NULL) {
            a->slots[i].run = r;
            left--;
        }
    }
    return true;
}

/* ---- memory for a trial that ran out of it ---- */

static bool runs_alone(const struct run *r)
{
    const struct app *a = r->app;
    for (int i = 0; i < a->n_slots; i++) {
        if (a->slots[i].run != NULL) {
            return false;
        }
    }
    return true;
}

/* The attempt before failed for lack of memory: it begins when there is as much as that one used, when
 * nothing else runs here, or when it has waited long. */
static bool lacks_memory(struct run *r)
{
    int64_t now = clock_mono_ns();
    if (r->grant.wait_mb <= 0 || runs_alone(r)) {
        return false;
    }
    int64_t free_mb = fault_hit("worker.memory") ? 0 : machine_free_mb();
    if (free_mb >= r->grant.wait_mb) {
        return false;
    }
    if (r->memory_wait_ns == 0) {
        r->memory_wait_ns = now;
        outlog_note(&r->log,
                    "the attempt before ran out of memory: waiting for %" PRId64
                    " MB, %" PRId64 " MB are free",
                    r->grant.wait_mb, free_mb);
        r->tail_untold = true;
        log_info("worker", "trial-waits",
                 "experiment=%" PRId64 " trial=%" PRId64 " for=memory want_mb=%" PRId64
                 " free_mb=%" PRId64,
                 r->grant.experiment, r->grant.trial, r->grant.wait_mb, free_mb);
    }
    return now - r->memory_wait_ns < MEMORY_WAIT_MAX_MS * MAG_NS_PER_MS;
}

/* True when one of those that were granted waits for memory: it is asked again soon. */
static bool memory_is_awaited(struct app *a)
{
    bool any = false;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        const struct run *r = container_of(n, struct run, node);
        any = any || (r->state == RUN_WAITING && r->memory_wait_ns > 0);
    }
    if (any && !evtimer_pending(a->memory_check, NULL)) {
        const struct timeval soon = {.tv_usec = MEMORY_CHECK_MS * 1000};
        (void)event_add(a->memory_check, &soon);
    }
    return any;
}

static void fill(struct app *a, bool reserved)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        struct run *r = container_of(n, struct run, node);
        if (r->state == RUN_WAITING && r->reserved == reserved && group_is_ready(r) &&
            !lacks_memory(r) && take_slots(r)) {
            (void)fault_hit("worker.start");
            run_start(r);
        }
    }
}

void slots_fill(struct app *a)
{
    if (a->drain != DRAIN_NONE || a->accepting) {
        return;
    }
    fill(a, false);
    if (memory_is_awaited(a)) {
        return; /* the places that come free are for those */
    }
    /* Out of touch for long, a reservation may be another's by now: it waits for the driver's word.
     */
    if (session_is_fresh(a->session)) {
        fill(a, true);
    }
}

void slots_release(struct run *r)
{
    struct app *a = r->app;
    struct run *heir = group_heir(r);
    for (int i = 0; i < a->n_slots; i++) {
        if (a->slots[i].run == r) {
            a->slots[i].run = heir;
        }
    }
    r->slot = NULL;
    gpu_left(a);
}

/* The GPUs of the slots, in order and each once. Slot i of S has the GPUs from i*G/S up. */
static void add_gpus(const struct run *r, struct buf *out)
{
    const struct app *a = r->app;
    int g = a->machine.n_gpus;
    bool used[MACHINE_GPUS_MAX] = {false};
    for (int i = 0; i < a->n_slots; i++) {
        if (a->slots[i].run != r) {
            continue;
        }
        int from = i * g / a->n_slots;
        int to = (i + 1) * g / a->n_slots;
        for (int k = from; k < (to > from ? to : from + 1) && k < g; k++) {
            used[k] = true;
        }
    }
    for (int k = 0; k < g; k++) {
        if (used[k]) {
            buf_addf(out, "%s%s", out->len > 0 ? "," : "", a->machine.gpus[k]);
        }
    }
}

/* What the program needs to know of its part of the machine, beneath what it is told otherwise. */
static void add_own(const struct run *r, char **own, size_t *n)
{
    const struct app *a = r->app;
    int threads = (int)(a->machine.cores * r->grant.slots / a->n_slots);
    own[(*n)++] = xasprintf("MAGPIE_THREADS=%d", threads > 1 ? threads : 1);
    if (getenv("OMP_NUM_THREADS") == NULL) {
        own[(*n)++] = xasprintf("OMP_NUM_THREADS=%d", threads > 1 ? threads : 1);
    }
    if (a->machine.n_gpus > 0 || a->machine.hides_gpus) {
        struct buf gpus = {0};
        add_gpus(r, &gpus);
        own[(*n)++] = xasprintf("CUDA_VISIBLE_DEVICES=%s", gpus.data != NULL ? gpus.data : "");
        buf_fini(&gpus);
    }
    own[(*n)++] = xstrdup("MAGPIE_TOKEN"); /* the worker's secret is not the programs' */
}

char **slots_env(const struct run *r, char *const *own, char *const *more)
{
    char *part[5] = {NULL};
    size_t n = 0;
    add_own(r, part, &n);
    char **base = argv_merge(environ, part, own);
    char **env = argv_merge(base, more, NULL);
    argv_free(base);
    for (size_t i = 0; i < n; i++) {
        free(part[i]);
    }
    return env;
}

void slots_close(struct app *a)
{
    free(a->slots);
    a->slots = NULL;
    a->n_slots = 0;
}
