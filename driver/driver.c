/* SPDX-License-Identifier: Apache-2.0
 *
 * Start and end of the driver: what is opened in which order, and what is closed before what.
 */
#include "driver/driver_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "driver/archive.h"
#include "driver/bridge.h"
#include "driver/gc.h"
#include "driver/http_internal.h"
#include "driver/notify.h"
#include "driver/quota.h"
#include "driver/reader.h"
#include "driver/rest.h"
#include "driver/sse.h"
#include "driver/think.h"

#include <errno.h>
#include <event2/thread.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- accessors ---- */

const char *driver_http_url(const struct driver *d)
{
    return http_url(d->http);
}

const char *driver_nng_url(const struct driver *d)
{
    return d->pool != NULL ? pool_urls(d->pool) : "";
}

const char *driver_token(const struct driver *d)
{
    return d->http->token;
}

struct event_base *driver_base(struct driver *d)
{
    return d->base;
}

const struct driver_config *driver_config(const struct driver *d)
{
    return &d->cfg;
}

int64_t driver_now_ns(const struct driver *d)
{
    return clock_mono_ns();
}

bool driver_is_read_only(const struct driver *d)
{
    return d->read_only;
}

struct store *driver_store(struct driver *d)
{
    return d->store;
}

void driver_set_offer(struct driver *d, driver_offer_fn fn, void *arg)
{
    d->offer = fn;
    d->offer_arg = arg;
}

/* ---- start ---- */

/* mkdir -p; folders that it makes are for this user alone. */
static enum mag_status make_folders(const char *path, struct mag_err *err)
{
    char *copy = xstrdup(path);
    enum mag_status st = MAG_OK;
    for (char *p = copy + 1; st == MAG_OK; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char had = *p;
        *p = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST) {
            st = mag_fail(err, MAG_IO, "data folder %s: %s", copy, strerror(errno));
        }
        *p = had;
        if (had == '\0') {
            break;
        }
    }
    free(copy);
    return st;
}

static enum mag_status set_paths(struct driver *d, struct mag_err *err)
{
    const char *dir = d->cfg.data_dir;
    if (dir == NULL || dir[0] == '\0') {
        return mag_fail(err, MAG_INVALID, "no data folder is named");
    }
    enum mag_status st = make_folders(dir, err);
    if (st != MAG_OK) {
        return st;
    }
    char *real = realpath(dir, NULL);
    if (real == NULL) {
        return mag_fail(err, MAG_IO, "data folder %s: %s", dir, strerror(errno));
    }
    d->data_dir = real;
    d->store_url = d->cfg.store_url != NULL ? xstrdup(d->cfg.store_url)
                                            : xasprintf("sqlite:%s/magpie.db", real);
    d->storage_url = d->cfg.storage_url != NULL ? xstrdup(d->cfg.storage_url)
                                                : xasprintf("file:%s/storage", real);
    d->cfg.data_dir = d->data_dir;
    d->cfg.store_url = d->store_url;
    d->cfg.storage_url = d->storage_url;
    return MAG_OK;
}

/* Every connection is a descriptor: take as many as we may have. */
static void raise_limits(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max < 65536 ? files.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)signal(SIGPIPE, SIG_IGN);
}

static enum mag_status make_base(struct driver *d, struct mag_err *err)
{
    if (evthread_use_pthreads() != 0) {
        return mag_fail(err, MAG_UNSUPPORTED, "libevent has no threads");
    }
    /* A request turns reading off, writing on, off, and reading on again: one system call a turn.
     */
    struct event_config *cfg = event_config_new();
    if (cfg != NULL && event_config_set_flag(cfg, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST) == 0) {
        d->base = event_base_new_with_config(cfg);
    }
    if (cfg != NULL) {
        event_config_free(cfg);
    }
    if (d->base == NULL || event_base_priority_init(d->base, PRIORITIES) != 0) {
        return mag_fail(err, MAG_NOMEM, "no event loop");
    }
    return MAG_OK;
}

static enum mag_status start_fronts(struct driver *d, struct mag_err *err)
{
    enum mag_status st = reader_start(&d->reader, d, err);
    if (st == MAG_OK) {
        st = reader_start(&d->archive, d, err);
    }
    if (st == MAG_OK) {
        st = think_start(&d->think, d, err);
    }
    if (st == MAG_OK) {
        st = gc_start(&d->gc, d, d->cfg.gc_ms, err);
    }
    if (st == MAG_OK) {
        quota_start(d);
        st = notify_start(&d->notify, d, err);
    }
    if (st == MAG_OK) {
        st = sse_start(&d->sse, d, err);
    }
    if (st == MAG_OK) {
        st = http_start(&d->http, d, err);
    }
    if (st == MAG_OK && d->cfg.listen_urls != NULL && d->cfg.listen_urls[0] != '\0') {
        const struct bridge_endpoint at = {
            .urls = d->cfg.listen_urls, .tls_cert = d->cfg.tls_cert, .tls_key = d->cfg.tls_key};
        st = pool_start(&d->pool, d, &at, d->storage_url, err);
    }
    return st;
}

enum mag_status driver_start(struct driver **ret, const struct driver_config *cfg,
                             struct mag_err *err)
{
    struct driver *d = xcalloc(1, sizeof(*d));
    d->cfg = *cfg;
    d->loop_thread = pthread_self();
    d->done_fd = -1;
    list_init(&d->experiments);
    list_init(&d->dirty);
    list_init(&d->flying_replies);
    list_init(&d->next_replies);
    raise_limits();
    enum mag_status st = set_paths(d, err);
    if (st == MAG_OK) {
        st = make_base(d, err);
    }
    if (st == MAG_OK) {
        st = store_open(d->store_url, d->cfg.durability, &d->store, err);
    }
    if (st == MAG_OK) {
        d->commit_seq = d->durable_seq = store_last_commit_seq(d->store);
        st = loop_start(d, err);
    }
    if (st == MAG_OK) {
        st = record_load(d, err);
    }
    if (st == MAG_OK) {
        st = start_fronts(d, err);
    }
    if (st != MAG_OK) {
        driver_destroy(d);
        return st;
    }
    log_info("driver", "started", "data=%s http=%s experiments=%lld events=%llu replay_ms=%lld",
             log_quote(d->data_dir), http_url(d->http), (long long)d->n_experiments,
             (unsigned long long)d->stats.replay_events, (long long)d->stats.replay_ms);
    *ret = d;
    return MAG_OK;
}

/* ---- run and end ---- */

int driver_run(struct driver *d)
{
    d->loop_thread = pthread_self();
    while (!d->stopping) {
        if (event_base_loop(d->base, EVLOOP_ONCE) < 0) {
            log_error("driver", "loop-failed", "reason=%s", log_quote(strerror(errno)));
            return 1;
        }
    }
    loop_drain(d);
    /* The last replies stand in buffers: let them out. */
    for (int i = 0; i < 10; i++) {
        (void)event_base_loop(d->base, EVLOOP_NONBLOCK);
    }
    return d->exit_status;
}

void driver_stop(struct driver *d)
{
    MAG_ON_LOOP(d);
    if (d->stopping) {
        return;
    }
    d->stopping = true;
    log_info("driver", "stopping", "experiments=%lld", (long long)d->n_experiments);
    think_drain(d->think);
    http_drain(d->http);
    if (d->pool != NULL) {
        pool_drain(d->pool);
    }
    http_end_waits(d->http);
}

void driver_destroy(struct driver *d)
{
    if (d == NULL) {
        return;
    }
    think_stop(d->think);
    d->think = NULL;
    pool_stop(d->pool);
    reader_stop(d->reader);
    gc_stop(d->gc);
    d->gc = NULL;
    archive_cancel(d);
    reader_stop(d->archive);
    storage_close(d->archive_storage);
    sse_stop(d->sse);
    d->sse = NULL;
    http_stop(d->http);
    notify_stop(d->notify);
    d->notify = NULL;
    record_free_all(d);
    store_close(d->store);
    if (d->base != NULL) {
        loop_stop(d);
        event_base_free(d->base);
    }
    free(d->deleted);
    free(d->data_dir);
    free(d->store_url);
    free(d->storage_url);
    free(d);
}
