/* SPDX-License-Identifier: Apache-2.0
 *
 * GPUs that several slots share: who may begin there. A program that admits (PROTOCOL.md, section
 * 3) tells what its trial needs and how much of the GPU's memory is free, and waits for our word.
 * One begins at a time: only when it has been measured is the next one looked at, so that what is
 * free is what was found, not what was promised. Those that wait go in their order; a trial that
 * has the GPU to itself begins whatever was estimated.
 */
#include "worker/executor.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "worker/said.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN_MB 256           /* that stays free */
#define STRANGERS_MAX_MS 300000 /* for memory that no trial of ours holds; then it is tried */
#define ASK_MS 1000             /* between questions for what is free, while anybody waits */
#define MEMORY_LINE "{\"type\":\"memory\"}\n"

/* The GPU that the slot shares with others, -1 = none. */
static int gpu_of_slot(const struct app *a, int slot)
{
    int gpus = a->machine.n_gpus;
    bool shares = gpus > 0 && a->n_slots > gpus && a->n_slots % gpus == 0;
    return shares ? slot / (a->n_slots / gpus) : -1;
}

static int gpu_of(const struct executor *x)
{
    return x != NULL && x->slot != NULL ? gpu_of_slot(x->app, x->slot->index) : -1;
}

bool gpu_shared(const struct executor *x)
{
    return gpu_of(x) >= 0;
}

/* ---- why one waits ---- */

static void say(struct executor *x, const char *fmt, ...) MAG_PRINTF(2, 3);
static void say(struct executor *x, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (int i = 0; i < x->n_runs; i++) {
        struct run *r = x->runs[i];
        if (strcmp(r->waits != NULL ? r->waits : "", text) == 0) {
            continue;
        }
        if (r->waits == NULL) {
            outlog_note(&r->log, "%s", text);
            log_info("worker", "trial-waits",
                     "experiment=%" PRId64 " trial=%" PRId64 " for=gpu-memory %s",
                     r->grant.experiment, r->grant.trial, log_quote(text));
        }
        free(r->waits);
        r->waits = xstrdup(text);
        r->waits_untold = true;
    }
    session_wake(x->app->session, false);
}

/* ---- beginning ---- */

static void go(struct executor *x)
{
    struct run *first = x->runs[0];
    char *line = xasprintf("{\"type\":\"go\",\"trial\":%" PRId64 "}\n", first->grant.trial);
    x->admission = ADMIT_SETTLES;
    child_send(x->child, line, strlen(line));
    free(line);
    say(x, "%s", "");
    for (int i = 0; i < x->n_runs; i++) {
        run_limit_time(x->runs[i]);
    }
    log_debug("worker", "gpu-admits", "trial=%" PRId64 " need_mb=%" PRId64 " free_mb=%" PRId64,
              first->grant.trial, x->need_mb, x->free_mb);
}

/* Who is on a GPU. */
struct crowd {
    struct executor *first; /* of those that wait, NULL = none */
    struct executor *settles;
    int others; /* trials that have begun there */
};

static struct crowd look(const struct app *a, int gpu)
{
    struct crowd c = {0};
    for (int i = 0; i < a->n_slots; i++) {
        const struct slot *s = &a->slots[i];
        struct executor *x = s->run != NULL && s->run->slot == s ? s->executor : NULL;
        if (gpu_of_slot(a, i) != gpu || s->run == NULL || s->run->slot != s) {
            continue;
        }
        if (x == NULL || !x->begun || x->admission == ADMIT_NONE) {
            c.others += x == NULL || x->begun;
        } else if (x->admission == ADMIT_WAITS) {
            c.first = c.first == NULL || x->asked < c.first->asked ? x : c.first;
        } else if (x->admission != ADMIT_ASKED) {
            c.others++;
            c.settles = x->admission == ADMIT_SETTLES ? x : c.settles;
        }
    }
    return c;
}

/* Programs between trials hold the GPU's memory, too: they end when it is wanted. */
static bool retire_idle(struct app *a, int gpu)
{
    bool any = false;
    for (int i = 0; i < a->n_slots; i++) {
        struct executor *x = a->slots[i].executor;
        if (gpu_of_slot(a, i) == gpu && x != NULL && x->n_runs == 0 && x->trials > 0) {
            executor_retire(x);
            any = true;
        }
    }
    return any;
}

static bool fits(const struct app *a, const struct executor *x, int gpu)
{
    return x->free_mb - MARGIN_MB >= x->need_mb + x->data_mb + a->gpus[gpu].extra_mb;
}

/* For memory that others than our trials hold, not for ever. */
static bool waits_for_strangers(struct executor *x)
{
    int64_t now = clock_mono_ns();
    x->alone_ns = x->alone_ns != 0 ? x->alone_ns : now;
    return now - x->alone_ns < STRANGERS_MAX_MS * MAG_NS_PER_MS;
}

static void admit(struct app *a, int gpu)
{
    const struct crowd c = look(a, gpu);
    struct executor *x = c.first;
    if (x == NULL) {
        return;
    }
    const bool never =
        x->total_mb > 0 && x->need_mb > x->total_mb; /* it will say so, with the sizes */
    if (never || (c.settles == NULL && fits(a, x, gpu))) {
        go(x);
        return;
    }
    if (c.settles != NULL) {
        say(x, "waits until trial %" PRId64 ", which has just begun on GPU %s, is measured",
            c.settles->runs[0]->grant.trial, a->machine.gpus[gpu]);
    } else if (retire_idle(a, gpu)) {
        say(x, "waits until idle programs on GPU %s have ended", a->machine.gpus[gpu]);
    } else if (c.others == 0 && (x->need_mb <= x->free_mb || !waits_for_strangers(x))) {
        go(x);
    } else {
        say(x,
            "waits for memory of GPU %s: it needs %" PRId64 " MB%s, of %" PRId64 " MB %" PRId64
            " MB are free; %s there",
            a->machine.gpus[gpu], x->need_mb + x->data_mb + a->gpus[gpu].extra_mb + MARGIN_MB,
            a->gpus[gpu].measured ? ", as others there took" : "", x->total_mb, x->free_mb,
            c.others > 0 ? "other trials run" : "another program takes the rest");
    }
}

/* Those behind the first. */
static void say_behind(struct app *a, int gpu)
{
    const struct executor *first = look(a, gpu).first;
    for (int i = 0; i < a->n_slots && first != NULL; i++) {
        struct executor *x = a->slots[i].executor;
        if (gpu_of_slot(a, i) == gpu && x != NULL && x != first && x->n_runs > 0 &&
            x->admission == ADMIT_WAITS) {
            say(x, "waits behind trial %" PRId64 " for memory of GPU %s",
                first->runs[0]->grant.trial, a->machine.gpus[gpu]);
        }
    }
}

static void ask(struct app *a, int gpu)
{
    const struct crowd c = look(a, gpu);
    if (c.first != NULL) {
        child_send(c.first->child, MEMORY_LINE, strlen(MEMORY_LINE));
    }
}

static void ask_later(struct app *a)
{
    const struct timeval soon = {.tv_sec = ASK_MS / 1000, .tv_usec = ASK_MS % 1000 * 1000};
    bool any = false;
    for (int gpu = 0; gpu < a->machine.n_gpus; gpu++) {
        any = any || look(a, gpu).first != NULL;
    }
    if (any && !evtimer_pending(a->gpu_check, NULL)) {
        (void)event_add(a->gpu_check, &soon);
    }
}

void gpu_check(struct app *a)
{
    for (int gpu = 0; gpu < a->machine.n_gpus; gpu++) {
        ask(a, gpu);
    }
    ask_later(a);
}

/* ---- what they say ---- */

void gpu_needs(struct run *r, const struct said *s)
{
    struct executor *x = r->executor;
    int gpu = gpu_of(x);
    if (gpu < 0 || (x->admission != ADMIT_ASKED && x->admission != ADMIT_WAITS)) {
        return;
    }
    if (x->admission == ADMIT_ASKED) {
        x->asked = ++x->app->gpu_asked;
        x->alone_ns = 0;
        for (int i = 0; i < x->n_runs; i++) {
            (void)event_del(x->runs[i]->time_limit); /* waiting is no running */
        }
    }
    x->admission = ADMIT_WAITS;
    x->need_mb = s->need_mb;
    x->data_mb = s->data_mb;
    x->free_mb = s->free_mb;
    x->total_mb = s->total_mb;
    const struct crowd c = look(x->app, gpu);
    if (c.first == x) {
        admit(x->app, gpu);
    } else {
        ask(x->app, gpu); /* the first one's turn, by fresh numbers */
    }
    say_behind(x->app, gpu);
    ask_later(x->app);
}

void gpu_measured(struct run *r, const struct said *s)
{
    struct executor *x = r->executor;
    int gpu = gpu_of(x);
    if (gpu < 0 || x->admission != ADMIT_SETTLES) {
        return;
    }
    struct gpu *g = &x->app->gpus[gpu];
    int64_t beyond = x->free_mb - s->free_mb - x->need_mb - x->data_mb;
    x->admission = ADMIT_DONE;
    /* The most so far, but what once was taken by chance is forgotten by and by. */
    int64_t before = g->measured ? g->extra_mb - g->extra_mb / 16 : 0;
    g->extra_mb = beyond > before ? beyond : before;
    g->measured = true;
    ask(x->app, gpu);
}

bool gpu_crowded(struct run *r)
{
    struct executor *x = r->executor;
    int gpu = gpu_of(x);
    if (gpu < 0 || (x->admission != ADMIT_SETTLES && x->admission != ADMIT_DONE)) {
        return false;
    }
    struct gpu *g = &x->app->gpus[gpu];
    const struct crowd c = look(x->app, gpu);
    /* Its own is among the others. What the driver, the programs that wait and ours took is not
     * strangers' unless it is much. */
    bool strangers = x->alone_ns == 0 && x->free_mb < x->total_mb - x->total_mb / 8;
    /* So much was not enough, or others were quicker. */
    int64_t had = x->free_mb - x->need_mb - x->data_mb + 1;
    int64_t more = 2 * g->extra_mb > x->need_mb ? 2 * g->extra_mb : x->need_mb;
    if (had > g->extra_mb) {
        g->extra_mb = more < had ? more : had;
        g->measured = true;
    }
    return c.others > 1 || strangers;
}

void gpu_left(struct app *a)
{
    for (int gpu = 0; gpu < a->machine.n_gpus; gpu++) {
        ask(a, gpu);
    }
}
