/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/notify.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "driver/driver_internal.h"
#include "driver/rest.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct message {
    struct list_node node;
    struct deferred df;
    struct notify *owner;
    char *url;
    char *body;
};

struct notify {
    pthread_t thread;
    struct list_node unsaved; /* loop thread: wait for their commit */

    /* under `lock`, which is not held while sending */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list_node queue;
    int n_queue;
    bool closing;
};

static void message_free(struct message *m)
{
    list_remove(&m->node);
    free(m->url);
    free(m->body);
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

/* Waits between two tries; false when the driver ends. */
static bool pause_before(struct notify *n, int attempt)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)1 << attempt;
    (void)pthread_mutex_lock(&n->lock);
    while (!n->closing && pthread_cond_timedwait(&n->wake, &n->lock, &until) == 0) {
    }
    bool go_on = !n->closing;
    (void)pthread_mutex_unlock(&n->lock);
    return go_on;
}

static void deliver(struct notify *n, const struct message *m)
{
    char fault[256] = "";
    for (int i = 0; i < NOTIFY_TRIES; i++) {
        if (post(n, m, fault, sizeof(fault))) {
            log_debug("notify", "sent", "url=%s", log_quote(m->url));
            return;
        }
        if (i + 1 < NOTIFY_TRIES && !pause_before(n, i)) {
            break;
        }
    }
    log_warn("notify", "not-delivered", "url=%s reason=%s", log_quote(m->url), log_quote(fault));
}

static void *notify_main(void *arg)
{
    struct notify *n = arg;
    (void)pthread_setname_np(pthread_self(), "notify");
    for (;;) {
        (void)pthread_mutex_lock(&n->lock);
        while (list_is_empty(&n->queue) && !n->closing) {
            (void)pthread_cond_wait(&n->wake, &n->lock);
        }
        struct message *m = NULL;
        if (!n->closing) {
            m = container_of(list_first(&n->queue), struct message, node);
            list_remove(&m->node);
            n->n_queue--;
        }
        (void)pthread_mutex_unlock(&n->lock);
        if (m == NULL) {
            return NULL;
        }
        deliver(n, m);
        message_free(m);
    }
}

/* ---- on the loop ---- */

static void on_durable(struct deferred *df, bool ok)
{
    struct message *m = container_of(df, struct message, df);
    struct notify *n = m->owner;
    list_remove(&m->node);
    (void)pthread_mutex_lock(&n->lock);
    ok = ok && n->n_queue < NOTIFY_WAITING_MAX;
    if (ok) {
        list_append(&n->queue, &m->node);
        n->n_queue++;
        (void)pthread_cond_signal(&n->wake);
    }
    (void)pthread_mutex_unlock(&n->lock);
    if (!ok) {
        message_free(m);
    }
}

static bool wants(const json_t *spec, const char *event)
{
    const json_t *on = json_object_get(spec, "on");
    for (size_t i = 0; i < json_array_size(on); i++) {
        if (strcmp(json_string_value(json_array_get(on, i)), event) == 0) {
            return true;
        }
    }
    return false;
}

static void send_event(struct driver *d, struct experiment *x, const char *event)
{
    const json_t *spec = study_spec(x->study)->notify;
    if (spec == NULL || d->notify == NULL || !wants(spec, event)) {
        return;
    }
    struct message *m = xcalloc(1, sizeof(*m));
    struct buf body = {0};
    buf_addf(&body, "{\"event\":\"%s\",\"experiment\":", event);
    rest_add_experiment(&body, d, x, false);
    buf_addc(&body, '}');
    m->owner = d->notify;
    m->url = xstrdup(json_string_value(json_object_get(spec, "url")));
    m->body = buf_take(&body);
    m->df.fn = on_durable;
    list_append(&d->notify->unsaved, &m->node);
    driver_after_commit(d, &m->df);
}

void notify_look(struct driver *d, struct experiment *x)
{
    enum study_state now = study_state(x->study);
    if (now == x->notified) {
        return;
    }
    char why[512];
    const char *code = study_why(x->study, why, sizeof(why));
    x->notified = now;
    if (code != NULL && strcmp(code, "target-reached") == 0) {
        send_event(d, x, "target");
    }
    if (now == STUDY_FAILED ||
        (now == STUDY_PAUSED && code != NULL && strcmp(code, "experiment-paused") != 0)) {
        send_event(d, x, "failure");
    }
    if (study_state_is_final(now)) {
        send_event(d, x, "end");
    }
}

/* ---- start and end ---- */

enum mag_status notify_start(struct notify **ret, struct driver *d, struct mag_err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        return mag_fail(err, MAG_NOMEM, "libcurl cannot be started");
    }
    struct notify *n = xcalloc(1, sizeof(*n));
    list_init(&n->queue);
    list_init(&n->unsaved);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&n->lock, NULL);
    (void)pthread_cond_init(&n->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    int rc = pthread_create(&n->thread, NULL, notify_main, n);
    if (rc != 0) {
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
    struct list_node *lists[] = {&n->queue, &n->unsaved};
    for (size_t i = 0; i < 2; i++) {
        for (struct list_node *node; (node = list_first(lists[i])) != NULL;) {
            message_free(container_of(node, struct message, node));
        }
    }
    (void)pthread_mutex_destroy(&n->lock);
    (void)pthread_cond_destroy(&n->wake);
    curl_global_cleanup();
    free(n);
}
