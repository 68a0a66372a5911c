/* SPDX-License-Identifier: Apache-2.0
 *
 * Slots: who gets which, and what part of the machine goes with it.
 */
#include "worker/app.h"
#include "worker/argv.h"
#include "worker/executor.h"

#include "base/alloc.h"
#include "base/fault.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int count_free(const struct app *a)
{
    int n = 0;
    for (int i = 0; i < a->n_slots; i++) {
        n += a->slots[i].run == NULL;
    }
    return n;
}

/* The free slot that suits best: its executor can go on with this program; else it has none; else
 * any. */
static struct slot *choose(struct app *a, const struct run *r)
{
    struct slot *best = NULL;
    int best_score = -1;
    for (int i = 0; i < a->n_slots; i++) {
        struct slot *s = &a->slots[i];
        if (s->run != NULL) {
            continue;
        }
        int score = s->executor == NULL ? 1 : executor_suits(s->executor, r) ? 2 : 0;
        if (score > best_score) {
            best = s;
            best_score = score;
        }
    }
    return best;
}

static bool take_slots(struct run *r)
{
    struct app *a = r->app;
    int need = (int)r->grant.slots < a->n_slots ? (int)r->grant.slots : a->n_slots;
    if (count_free(a) < need) {
        return false;
    }
    r->slot = choose(a, r);
    r->slot->run = r;
    for (int i = 0, left = need - 1; i < a->n_slots && left > 0; i++) {
        if (a->slots[i].run == NULL) {
            a->slots[i].run = r;
            left--;
        }
    }
    return true;
}

static void fill(struct app *a, bool reserved)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        struct run *r = container_of(n, struct run, node);
        if (r->state == RUN_WAITING && r->reserved == reserved && take_slots(r)) {
            (void)fault_hit("worker.start");
            run_start(r);
        }
    }
}

void slots_fill(struct app *a)
{
    if (a->drain != DRAIN_NONE) {
        return;
    }
    fill(a, false);
    /* Out of touch for long, a reservation may be another's by now: it waits for the driver's word.
     */
    if (session_is_fresh(a->session)) {
        fill(a, true);
    }
}

void slots_release(struct run *r)
{
    struct app *a = r->app;
    for (int i = 0; i < a->n_slots; i++) {
        if (a->slots[i].run == r) {
            a->slots[i].run = NULL;
        }
    }
    r->slot = NULL;
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

static bool overrides(char *const *more, const char *entry)
{
    size_t n = strcspn(entry, "=") + 1;
    for (size_t i = 0; more[i] != NULL; i++) {
        if (strncmp(more[i], entry, n) == 0) {
            return true;
        }
    }
    return false;
}

static void add_own(const struct run *r, char **own, size_t *n)
{
    const struct app *a = r->app;
    int threads = (int)(a->machine.cores * r->grant.slots / a->n_slots);
    own[(*n)++] = xasprintf("MAGPIE_THREADS=%d", threads > 1 ? threads : 1);
    if (getenv("OMP_NUM_THREADS") == NULL) {
        own[(*n)++] = xasprintf("OMP_NUM_THREADS=%d", threads > 1 ? threads : 1);
    }
    if (a->machine.n_gpus > 0) {
        struct buf gpus = {0};
        add_gpus(r, &gpus);
        own[(*n)++] = xasprintf("CUDA_VISIBLE_DEVICES=%s", gpus.data != NULL ? gpus.data : "");
        buf_fini(&gpus);
    }
}

char **slots_env(const struct run *r, char *const *more)
{
    char *own[4] = {NULL};
    size_t n_own = 0;
    size_t n_env = 0;
    size_t n_more = 0;
    add_own(r, own, &n_own);
    while (environ[n_env] != NULL) {
        n_env++;
    }
    while (more[n_more] != NULL) {
        n_more++;
    }
    char **env = xcalloc(n_env + n_own + n_more + 1, sizeof(char *));
    size_t n = 0;
    for (size_t i = 0; i < n_env; i++) {
        /* The worker's secret is not the programs'. */
        bool secret = strncmp(environ[i], "MAGPIE_TOKEN=", 13) == 0;
        if (!secret && !overrides(more, environ[i]) && !overrides(own, environ[i])) {
            env[n++] = xstrdup(environ[i]);
        }
    }
    for (size_t i = 0; i < n_own; i++) {
        env[n++] = own[i];
    }
    for (size_t i = 0; i < n_more; i++) {
        env[n++] = xstrdup(more[i]);
    }
    return env;
}

void slots_close(struct app *a)
{
    free(a->slots);
    a->slots = NULL;
    a->n_slots = 0;
}
