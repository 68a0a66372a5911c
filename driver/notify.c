/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/notify.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "driver/driver_internal.h"
#include "driver/rest.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct message {
    struct list_node node;
    struct deferred df;
    struct notify *owner;
    int64_t experiment, seq;
    enum study_notice_kind kind;
    char *url, *body;
    char *key; /* a header: the notice's id, the same however often it comes */
    int64_t due_ns, give_up_ms;
    int tries;
};

struct notify {
    struct driver *d;
    pthread_t thread;
    struct event *settled;    /* loop: some notices need no further try */
    struct list_node unsaved; /* loop thread: wait for their commit */
    int n_waiting;            /* loop thread: not settled yet */
    bool skipped;             /* loop thread: some were left in the record, there were too many */

    /* under `lock`, which is not held while sending */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list_node queue, done;
    bool closing;
};

static void message_free(struct message *m)
{
    list_remove(&m->node);
    free(m->url);
    free(m->body);
    free(m->key);
    free(m);
}

/* ---- sending (its own thread) ---- */

static size_t ignore(char *data, size_t size, size_t n, void *arg)
{
    return size * n;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t e)
{
    struct notify *n = arg;
    (void)pthread_mutex_lock(&n->lock);
    bool closing = n->closing;
    (void)pthread_mutex_unlock(&n->lock);
    return closing ? 1 : 0;
}

/* One try; true when the other side took it (2xx). */
static bool post(struct notify *n, const struct message *m, char *fault, size_t size)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, m->key);
    long status = 0;
    CURLcode rc = curl == NULL ? CURLE_OUT_OF_MEMORY : CURLE_OK;
    if (rc == CURLE_OK) {
        (void)curl_easy_setopt(curl, CURLOPT_URL, m->url);
        (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, m->body);
        (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "magpie");
        (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)NOTIFY_TIMEOUT_S);
        (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
        (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, n);
        rc = curl_easy_perform(curl);
        (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    }
    if (rc != CURLE_OK) {
        (void)snprintf(fault, size, "%s", curl_easy_strerror(rc));
    } else {
        (void)snprintf(fault, size, "it answered %ld", status);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return rc == CURLE_OK && status >= 200 && status < 300;
}

/* 1, 2, 4, … s, NOTIFY_WAIT_MAX_S at most. */
static int64_t wait_ns(int tries)
{
    int64_t s = tries < 10 ? INT64_C(1) << tries : NOTIFY_WAIT_MAX_S;
    return (s < NOTIFY_WAIT_MAX_S ? s : NOTIFY_WAIT_MAX_S) * MAG_NS_PER_S;
}

/* True when it needs no further try. */
static bool deliver(struct notify *n, struct message *m)
{
    char fault[256] = "";
    if (post(n, m, fault, sizeof(fault))) {
        log_debug("notify", "sent", "url=%s", log_quote(m->url));
        return true;
    }
    bool over = clock_wall_ms() >= m->give_up_ms;
    if (m->tries == 0 || over) {
        log_warn("notify", over ? "not-delivered" : "not-delivered-yet", "url=%s reason=%s",
                 log_quote(m->url), log_quote(fault));
    }
    m->due_ns = clock_mono_ns() + wait_ns(m->tries++);
    return over;
}

static struct message *next_due(struct notify *n)
{
    struct message *first = NULL;
    struct list_node *pos, *tmp;
    list_foreach(pos, tmp, &n->queue)
    {
        struct message *m = container_of(pos, struct message, node);
        first = first == NULL || m->due_ns < first->due_ns ? m : first;
    }
    return first;
}

/* Waits for a notice that is due, and takes it; NULL when the driver ends. Under the lock. */
static struct message *take_due(struct notify *n)
{
    while (!n->closing) {
        struct message *m = next_due(n);
        if (m == NULL) {
            (void)pthread_cond_wait(&n->wake, &n->lock);
        } else if (m->due_ns <= clock_mono_ns()) {
            list_remove(&m->node);
            return m;
        } else {
            const struct timespec until = {.tv_sec = (time_t)(m->due_ns / MAG_NS_PER_S),
                                           .tv_nsec = (long)(m->due_ns % MAG_NS_PER_S)};
            (void)pthread_cond_timedwait(&n->wake, &n->lock, &until);
        }
    }
    return NULL;
}

static void *notify_main(void *arg)
{
    struct notify *n = arg;
    (void)pthread_setname_np(pthread_self(), "notify");
    (void)pthread_mutex_lock(&n->lock);
    for (struct message *m; (m = take_due(n)) != NULL;) {
        (void)pthread_mutex_unlock(&n->lock);
        bool over = deliver(n, m);
        (void)pthread_mutex_lock(&n->lock);
        list_append(over ? &n->done : &n->queue, &m->node);
        if (over) {
            event_active(n->settled, EV_TIMEOUT, 0);
        }
    }
    (void)pthread_mutex_unlock(&n->lock);
    return NULL;
}

/* ---- on the loop ---- */

static void on_durable(struct deferred *df, bool ok)
{
    struct message *m = container_of(df, struct message, df);
    struct notify *n = m->owner;
    list_remove(&m->node);
    if (!ok) {
        n->n_waiting--;
        message_free(m); /* the experiment goes back to what is stored, and is looked at again */
        return;
    }
    (void)pthread_mutex_lock(&n->lock);
    list_append(&n->queue, &m->node);
    (void)pthread_cond_signal(&n->wake);
    (void)pthread_mutex_unlock(&n->lock);
}

static void send_notice(struct driver *d, struct experiment *x, const struct study_notice *o)
{
    const struct spec *spec = study_spec(x->study);
    const char *event = study_notice_name(o->kind);
    struct message *m = xcalloc(1, sizeof(*m));
    struct buf body = {0};
    char *id =
        xasprintf("%s/%" PRId64 "/%" PRId64 "/%s", store_uuid(d->store), x->id, o->seq, event);
    buf_addf(&body, "{\"id\":\"%s\",\"event\":\"%s\",\"experiment\":", id, event);
    rest_add_experiment(&body, d, x, false);
    buf_addc(&body, '}');
    *m = (struct message){.owner = d->notify,
                          .experiment = x->id,
                          .seq = o->seq,
                          .kind = o->kind,
                          .url = xstrdup(json_string_value(json_object_get(spec->notify, "url"))),
                          .body = buf_take(&body),
                          .key = xasprintf("Idempotency-Key: \"%s\"", id),
                          .give_up_ms = o->wall_ms + spec->notify_retry_ms,
                          .df = {.fn = on_durable}};
    free(id);
    d->notify->n_waiting++;
    list_append(&d->notify->unsaved, &m->node);
    driver_after_commit(d, &m->df);
}

void notify_look(struct driver *d, struct experiment *x)
{
    int n = 0;
    const struct study_notice *owed = study_notices(x->study, &n);
    if (d->notify == NULL || n == 0) {
        return;
    }
    if (d->notify->n_waiting + n > NOTIFY_WAITING_MAX) {
        d->notify->skipped = true;
        return;
    }
    int64_t known = x->notified;
    for (int i = 0; i < n; i++) {
        if (owed[i].seq <= known) {
            continue;
        }
        send_notice(d, x, &owed[i]);
        x->notified = owed[i].seq;
    }
}

static void record_settled(struct driver *d, const struct message *m)
{
    struct experiment *x = driver_experiment(d, m->experiment);
    struct event ev;
    struct mag_err err = {0};
    if (x == NULL) {
        return; /* it was deleted */
    }
    event_init(&ev, EV_NOTIFIED);
    ev.detail =
        json_pack("{s:I, s:s}", "seq", (json_int_t)m->seq, "event", study_notice_name(m->kind));
    if (driver_apply(d, x, &ev, &err) != MAG_OK) {
        log_warn("notify", "not-recorded", "experiment=%" PRId64 " reason=%s", m->experiment,
                 log_quote(err.text));
    }
    event_fini(&ev);
}

static void on_settled(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct notify *n = arg;
    (void)pthread_mutex_lock(&n->lock);
    for (struct list_node *node; (node = list_first(&n->done)) != NULL;) {
        struct message *m = container_of(node, struct message, node);
        list_remove(node);
        (void)pthread_mutex_unlock(&n->lock);
        record_settled(n->d, m);
        message_free(m);
        n->n_waiting--;
        (void)pthread_mutex_lock(&n->lock);
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (n->skipped && n->n_waiting < NOTIFY_WAITING_MAX / 2) {
        n->skipped = false;
        for (struct experiment *x = driver_next(n->d, NULL); x != NULL; x = driver_next(n->d, x)) {
            notify_look(n->d, x);
        }
    }
}

/* ---- start and end ---- */

enum mag_status notify_start(struct notify **ret, struct driver *d, struct mag_err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        return mag_fail(err, MAG_NOMEM, "libcurl cannot be started");
    }
    struct notify *n = xcalloc(1, sizeof(*n));
    n->d = d;
    list_init(&n->queue);
    list_init(&n->done);
    list_init(&n->unsaved);
    n->settled = event_new(d->base, -1, 0, on_settled, n);
    MAG_ASSERT(n->settled != NULL, "no event");
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&n->lock, NULL);
    (void)pthread_cond_init(&n->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    int rc = pthread_create(&n->thread, NULL, notify_main, n);
    if (rc != 0) {
        event_free(n->settled);
        free(n);
        return mag_fail(err, MAG_NOMEM, "no thread for webhooks: %s", strerror(rc));
    }
    *ret = n;
    return MAG_OK;
}

void notify_stop(struct notify *n)
{
    if (n == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&n->lock);
    n->closing = true;
    (void)pthread_cond_signal(&n->wake);
    (void)pthread_mutex_unlock(&n->lock);
    (void)pthread_join(n->thread, NULL);
    event_free(n->settled);
    struct list_node *lists[] = {&n->queue, &n->done, &n->unsaved};
    for (size_t i = 0; i < 3; i++) {
        for (struct list_node *node; (node = list_first(lists[i])) != NULL;) {
            message_free(container_of(node, struct message, node));
        }
    }
    (void)pthread_mutex_destroy(&n->lock);
    (void)pthread_cond_destroy(&n->wake);
    curl_global_cleanup();
    free(n);
}
