/* SPDX-License-Identifier: Apache-2.0
 *
 * worker_run: puts the parts together, runs the loop, takes them apart; signals and draining.
 *
 * Threads: the loop (this one) owns everything; nng's threads hand replies over (link.c); one
 * background thread reads and writes storage (background.c).
 */
#include "worker/worker.h"

#include "base/alloc.h"
#include "base/log.h"
#include "worker/app.h"
#include "worker/logship.h"
#include "worker/scratch.h"

#include <event2/thread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define GRACE_MS 10000
#define START_MS 120000

/* ---- leaving ---- */

void app_exit(struct app *a, int status, const char *fmt, ...)
{
    if (fmt != NULL && fmt[0] != '\0') {
        char text[1024];
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        (void)fprintf(stderr, "magpie worker: %s\n", text);
    }
    a->exit_status = status;
    (void)event_base_loopbreak(a->base);
}

static bool all_told(const struct app *a)
{
    return list_is_empty(&a->runs) && session_is_quiet(a->session) &&
           background_pending(a->background) == 0;
}

static bool programs_live(const struct app *a)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        if (container_of(n, struct run, node)->state < RUN_PUBLISHING) {
            return true;
        }
    }
    return false;
}

void app_check_drained(struct app *a)
{
    if (a->drain == DRAIN_NONE) {
        return;
    }
    /* Told to hurry and no driver to tell: what is not told goes back when its lease ends. */
    bool alone = a->drain >= DRAIN_PAUSE && !session_is_up(a->session) && !programs_live(a);
    if (!all_told(a) && !alone) {
        return;
    }
    executors_retire_all(a);
    if (list_is_empty(&a->leaving)) {
        session_bye(a->session);
    }
}

static void give_back(struct app *a, int level)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        struct run *r = container_of(n, struct run, node);
        bool begun = r->state == RUN_STARTING || r->state == RUN_RUNNING;
        if (level >= DRAIN_PAUSE || !begun || run_awaits_verdict(r)) {
            run_give_back(r, level >= DRAIN_KILL);
        }
    }
}

void app_drain(struct app *a, int level)
{
    if (level <= a->drain) {
        return;
    }
    static const char *const what[] = {"", "running trials finish",
                                       "running trials stop at a checkpoint",
                                       "running trials are killed"};
    a->drain = level < DRAIN_KILL ? level : DRAIN_KILL;
    log_info("worker", "draining", "worker=%s %s", log_quote(a->id), what[a->drain]);
    give_back(a, a->drain);
    session_wake(a->session, true);
    const struct timeval every = {.tv_usec = 50000};
    (void)event_add(a->drain_check, &every);
    app_check_drained(a);
}

/* The kernel's signal at the death of a parent comes once, and the same death ends the driver:
 * nobody is left to hear results or to send a second signal, so a worker that let its trials finish
 * would wait for a driver for ever. */
static bool is_orphan(const struct app *a)
{
    return a->cfg.parent > 0 && getppid() != (pid_t)a->cfg.parent;
}

/* Batch systems take the machine away soon after SIGTERM, however long a trial still has. */
static bool term_means_checkpoint(const struct app *a)
{
    static const char *const jobs[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"};
    bool job = false;
    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        job = job || getenv(jobs[i]) != NULL;
    }
    return a->cfg.on_term == TERM_CHECKPOINT || (a->cfg.on_term == TERM_AUTO && job);
}

/* A notice (SIGUSR1) and the SIGTERM after it ask for the same: only a further one kills. */
static void on_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    struct app *a = arg;
    bool soon = sig == SIGUSR1 || is_orphan(a) || (sig == SIGTERM && term_means_checkpoint(a));
    int level = soon && a->drain < DRAIN_PAUSE ? DRAIN_PAUSE : a->drain + 1;
    bool repeats = a->drain >= DRAIN_PAUSE && (sig == SIGUSR1 || a->noticed);
    a->noticed = sig == SIGUSR1;
    app_drain(a, repeats ? a->drain : level);
}

static void on_gpu_check(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    gpu_check(arg);
}

static void on_memory_check(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    slots_fill(arg);
}

static void on_drain_check(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    app_check_drained(arg);
}

/* ---- who we are ---- */

static bool name_is_sound(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(name);
    return n > 0 && n <= WIRE_NAME_MAX && strspn(name, allowed) == n;
}

static enum mag_status take_name(struct app *a, struct mag_err *err)
{
    unsigned char raw[8];
    if (a->cfg.name != NULL && !name_is_sound(a->cfg.name)) {
        return mag_fail(err, MAG_INVALID, "--name \"%s\": 1 to %d letters, digits, '.', '_' or '-'",
                        a->cfg.name, WIRE_NAME_MAX);
    }
    (void)snprintf(a->name, sizeof(a->name), "%.60s",
                   a->cfg.name != NULL ? a->cfg.name : a->machine.host);
    for (char *p = a->name; *p != '\0'; p++) {
        char one[2] = {*p, '\0'};
        *p = name_is_sound(one) ? *p : '-';
    }
    ssize_t got = getrandom(raw, sizeof(raw), 0);
    MAG_ASSERT(got == (ssize_t)sizeof(raw), "getrandom");
    int n = snprintf(a->id, sizeof(a->id), "%s-", a->name);
    for (size_t i = 0; i < sizeof(raw); i++) {
        n += snprintf(a->id + n, sizeof(a->id) - (size_t)n, "%02x", raw[i]);
    }
    return MAG_OK;
}

static enum mag_status take_labels(struct app *a, struct mag_err *err)
{
    if (a->cfg.labels == NULL) {
        return MAG_OK;
    }
    char *copy = xstrdup(a->cfg.labels);
    char *save = NULL;
    enum mag_status st = MAG_OK;
    a->labels = json_array();
    for (char *l = strtok_r(copy, ", ", &save); l != NULL && st == MAG_OK;
         l = strtok_r(NULL, ", ", &save)) {
        if (!name_is_sound(l) || json_array_size(a->labels) >= 64) {
            st = mag_fail(
                err, MAG_INVALID,
                "--labels: \"%s\": at most 64 labels of 1 to %d letters, digits, '.', '_' or '-'",
                l, WIRE_NAME_MAX);
        } else {
            (void)json_array_append_new(a->labels, json_string(l));
        }
    }
    free(copy);
    return st;
}

static enum mag_status take_slots(struct app *a, struct mag_err *err)
{
    int per_gpu = a->cfg.slots_per_gpu > 0 ? a->cfg.slots_per_gpu : 1;
    int n = a->cfg.slots > 0        ? a->cfg.slots
            : a->machine.n_gpus > 0 ? a->machine.n_gpus * per_gpu
                                    : a->machine.cores;
    if (a->cfg.slots_per_gpu > 0 && (a->cfg.slots > 0 || a->machine.n_gpus == 0)) {
        return mag_fail(err, MAG_INVALID, "--slots-per-gpu %d: %s", a->cfg.slots_per_gpu,
                        a->cfg.slots > 0 ? "--slots says already how many there are"
                                         : "this worker has no GPU; say --slots");
    }
    if (a->cfg.slots < 0 || n > WIRE_SLOTS_MAX) {
        return mag_fail(err, MAG_INVALID, "--slots %d: expected 1 to %d", a->cfg.slots,
                        WIRE_SLOTS_MAX);
    }
    a->n_slots = n;
    a->slots = xcalloc((size_t)n, sizeof(*a->slots));
    for (int i = 0; i < n; i++) {
        a->slots[i] = (struct slot){.app = a, .index = i};
    }
    return MAG_OK;
}

/* ---- the parts ---- */

static void on_ship(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    logship_tick(arg);
}

static void open_loop(struct app *a)
{
    (void)evthread_use_pthreads();
    a->base = event_base_new();
    MAG_ASSERT(a->base != NULL, "event_base_new");
    (void)event_base_priority_init(a->base, 3);
    static const int numbers[3] = {SIGTERM, SIGINT, SIGUSR1};
    for (int i = 0; i < 3; i++) {
        a->signals[i] = evsignal_new(a->base, numbers[i], on_signal, a);
        MAG_ASSERT(a->signals[i] != NULL, "evsignal_new");
        (void)event_priority_set(a->signals[i], 0);
        (void)event_add(a->signals[i], NULL);
    }
    a->drain_check = event_new(a->base, -1, EV_PERSIST, on_drain_check, a);
    a->memory_check = evtimer_new(a->base, on_memory_check, a);
    a->gpu_check = evtimer_new(a->base, on_gpu_check, a);
    MAG_ASSERT(a->drain_check != NULL && a->memory_check != NULL && a->gpu_check != NULL,
               "event_new");
    a->ship = event_new(a->base, -1, EV_PERSIST, on_ship, a);
    MAG_ASSERT(a->ship != NULL, "event_new");
    const struct timeval every = {.tv_sec = LOGSHIP_EVERY_MS / 1000,
                                  .tv_usec = LOGSHIP_EVERY_MS % 1000 * 1000};
    (void)event_add(a->ship, &every);
    (void)signal(SIGPIPE, SIG_IGN);
}

static enum mag_status open_parts(struct app *a, struct mag_err *err)
{
    enum mag_status st = machine_look(&a->machine, a->cfg.gpus, err);
    if (st == MAG_OK) {
        st = take_name(a, err);
    }
    if (st == MAG_OK) {
        st = take_labels(a, err);
    }
    if (st == MAG_OK) {
        st = take_slots(a, err);
    }
    if (st == MAG_OK) {
        st = masks_create(&a->masks, NULL, a->cfg.mask, a->cfg.n_mask, environ, err);
        st = st == MAG_OK ? st : mag_wrap(err, st, "--mask");
    }
    if (st == MAG_OK) {
        st = scratch_open(a->cfg.scratch, a->id, &a->scratch, &a->scratch_lock, &a->dead,
                          &a->n_dead, err);
    }
    if (st == MAG_OK) {
        st = cgroups_open(&a->cgroups, a->cfg.cgroup, err);
    }
    if (st == MAG_OK) {
        open_loop(a);
        a->children = children_create(a->base, &a->cgroups);
        a->background = background_start(a->base);
        st = session_start(&a->session, a, err);
    }
    return st;
}

static void close_parts(struct app *a)
{
    executors_close(a);
    storage_cancel(a->storage); /* whoever leaves without having told all does not wait for it */
    background_stop(a->background);
    while (!list_is_empty(&a->runs)) {
        run_free(container_of(list_first(&a->runs), struct run, node));
    }
    slots_close(a);
    session_stop(a->session);
    children_destroy(a->children);
    cgroups_close(&a->cgroups);
    storage_close(a->storage);
    folders_fini(&a->folders);
    for (int i = 0; i < a->n_dead; i++) {
        scratch_dead_fini(&a->dead[i]);
    }
    free(a->dead);
    scratch_close(a->scratch, a->scratch_lock);
    for (int i = 0; i < 3; i++) {
        if (a->signals[i] != NULL) {
            event_free(a->signals[i]);
        }
    }
    if (a->drain_check != NULL) {
        event_free(a->drain_check);
        event_free(a->memory_check);
        event_free(a->gpu_check);
    }
    if (a->ship != NULL) {
        event_free(a->ship);
    }
    if (a->base != NULL) {
        event_base_free(a->base);
    }
    json_decref(a->labels);
    masks_destroy(a->masks);
    machine_fini(&a->machine);
}

int worker_run(const struct worker_config *cfg)
{
    struct app *a = xcalloc(1, sizeof(*a));
    struct mag_err err = {0};
    a->cfg = *cfg;
    a->cfg.grace_ms = cfg->grace_ms > 0 ? cfg->grace_ms : GRACE_MS;
    a->cfg.start_ms = cfg->start_ms > 0 ? cfg->start_ms : START_MS;
    a->cfg.token = cfg->token != NULL ? cfg->token : getenv("MAGPIE_TOKEN");
    list_init(&a->runs);
    list_init(&a->leaving);
    enum mag_status st = open_parts(a, &err);
    if (st != MAG_OK) {
        (void)fprintf(stderr, "magpie worker: %s\n", err.text);
        a->exit_status = st == MAG_INVALID || st == MAG_LIMIT ? 2 : 1;
    } else {
        (void)event_base_dispatch(a->base);
    }
    int status = a->exit_status;
    close_parts(a);
    free(a);
    return status;
}
