/* SPDX-License-Identifier: Apache-2.0
 *
 * The session with the driver: hello, one held poll for work, one message at a time with news, and
 * what to do when no answer comes. A message stays here until it is acknowledged and is repeated
 * with the same number in the same session, or with a new number in the next one: the driver knows
 * repeats by (trial, attempt, step), so nothing is lost and nothing counts twice.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "worker/salvage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define URLS_MAX 16
#define UNREACHABLE_SAY_MS 30000
#define STORAGE_CHECK_MS 10000
/* "fuse": "auto": trials of the built-in trainer at once. On a CPU one trial fills its core. */
#define FUSE_CPU 1
#define FUSE_GPU 32

enum session_state { S_DOWN, S_HELLO, S_UP };

struct session {
    struct app *app;
    struct link *link;
    char *urls[URLS_MAX];
    int n_urls;
    int at; /* the address in use */
    enum session_state state;
    char *id; /* NULL = none */
    int64_t seq;
    int64_t talk_seq, poll_seq; /* in flight, 0 = none */
    struct wire_msg talk;       /* unacknowledged news */
    bool talk_valid;
    bool bye_sent;
    bool want_hello; /* as soon as the channel is free */
    int64_t heartbeat_ms, lease_ms;
    int64_t heard_ns; /* when the driver last answered */
    int64_t sent_ns;  /* when news last left */
    int64_t said_ns;  /* when the log last said that no driver answers */
    int tries;
    char *storage;
    struct event *flush; /* sends news */
    struct event *beat;
    struct event *retry; /* hello again, perhaps elsewhere */
};

static void after_ms(struct event *ev, int64_t ms)
{
    const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    (void)event_add(ev, &tv);
}

/* ---- sending ---- */

static void send_msg(struct session *s, enum link_channel ch, struct wire_msg *m, int timeout_ms)
{
    struct buf b = {0};
    int64_t other = ch == LINK_TALK ? s->poll_seq : s->talk_seq;
    m->acked = m->type == WIRE_HELLO ? 0 : m->seq - 1;
    m->open = m->type != WIRE_HELLO && other < m->seq ? other : 0;
    m->session = m->type == WIRE_HELLO ? NULL : s->id;
    wire_encode(m, &b);
    m->session = NULL; /* borrowed */
    link_send(s->link, ch, b.data, b.len, timeout_ms);
    buf_fini(&b);
}

/* A beat's time, so that a lost reply does not cost the lease. */
static int talk_timeout(const struct session *s)
{
    int64_t ms = s->heartbeat_ms > TALK_TIMEOUT_MIN_MS ? s->heartbeat_ms : TALK_TIMEOUT_MIN_MS;
    int64_t max = s->talk.type == WIRE_BYE ? BYE_TIMEOUT_MS : TALK_TIMEOUT_MS;
    return (int)(ms < max ? ms : max);
}

static void send_talk(struct session *s)
{
    bool results = s->talk.type == WIRE_DONE && s->talk.talk.n_results > 0;
    if (results && fault_hit("worker.done")) {
        return;
    }
    if (s->talk.type != WIRE_BYE && s->talk.talk.n_reports > 0 && fault_hit("worker.report")) {
        return;
    }
    if (s->talk_seq == 0) {
        s->talk_seq = ++s->seq;
    }
    s->talk.seq = s->talk_seq;
    s->sent_ns = clock_mono_ns();
    send_msg(s, LINK_TALK, &s->talk, talk_timeout(s));
}

/* Sends what is unacknowledged, else what is new; `always`: even nothing, as a sign of life. */
static void talk(struct session *s, bool always)
{
    if (s->state != S_UP || link_is_busy(s->link, LINK_TALK)) {
        return;
    }
    if (!s->talk_valid) {
        if (s->bye_sent || !talk_collect(s->app, &s->talk, always)) {
            return;
        }
        s->talk_valid = true;
        s->talk_seq = 0;
    }
    send_talk(s);
}

static void poll_work(struct session *s)
{
    if (s->state != S_UP || link_is_busy(s->link, LINK_POLL) || s->app->drain != DRAIN_NONE) {
        return;
    }
    if (s->poll_seq == 0) {
        s->poll_seq = ++s->seq;
    }
    struct wire_msg m = {
        .type = WIRE_NEXT, .seq = s->poll_seq, .next = {.wait_ms = WIRE_POLL_MAX_MS}};
    /* Repeated long before it is due: a reply that was lost on the way is asked for again. */
    room_tell(s->app, &m.next);
    send_msg(s, LINK_POLL, &m, TALK_TIMEOUT_MS);
    wire_fini(&m);
}

static void hello(struct session *s)
{
    if (link_is_busy(s->link, LINK_TALK)) {
        s->want_hello = true;
        return;
    }
    struct app *a = s->app;
    struct wire_msg m = {.type = WIRE_HELLO, .seq = 1};
    s->want_hello = false;
    s->state = S_HELLO;
    m.hello = (struct wire_hello){
        .protocol = WIRE_PROTOCOL,
        .version = xstrdup(MAGPIE_VERSION),
        .worker = xstrdup(a->id),
        .name = xstrdup(a->name),
        .token = a->cfg.token != NULL ? xstrdup(a->cfg.token) : NULL,
        .host = xstrdup(a->machine.host),
        .pid = getpid(),
        .slots = a->n_slots,
        .gpus = a->machine.n_gpus,
        .gpu_memory_mb = a->machine.gpu_memory_mb,
        .memory_mb = a->machine.memory_mb,
        .cores = a->machine.cores,
        .labels = a->labels != NULL ? json_incref(a->labels) : NULL,
        .can = json_pack("[s]", WIRE_CAN_FOLDS),
        .where = json_deep_copy(a->machine.where),
        .drain = a->drain != DRAIN_NONE,
        .fuse = a->machine.n_gpus > 0 ? FUSE_GPU : FUSE_CPU,
    };
    (void)json_object_set_new(m.hello.where, "magpie", json_string(MAGPIE_VERSION));
    talk_held(a, &m.hello);
    send_msg(s, LINK_TALK, &m, HELLO_TIMEOUT_MS);
    wire_fini(&m);
}

/* ---- losing and finding the driver ---- */

static void say_unreachable(struct session *s)
{
    int64_t now = clock_mono_ns();
    if (s->said_ns == 0 || now - s->said_ns > UNREACHABLE_SAY_MS * MAG_NS_PER_MS) {
        s->said_ns = now;
        const char *distrust = link_distrust(s->link);
        log_warn("worker", "driver-unreachable", "url=%s%s%s running trials go on", s->urls[s->at],
                 distrust != NULL ? " reason=" : "", distrust != NULL ? log_quote(distrust) : "");
    }
}

/* Tries the next address (or the same, when there is one only) after a while. */
static void retry_later(struct session *s)
{
    s->state = S_DOWN;
    s->tries++;
    int64_t wait = 50LL << (s->tries < 6 ? s->tries : 6);
    after_ms(s->retry, wait < 2000 ? wait : 2000);
}

static enum mag_status connect_here(struct session *s, struct mag_err *err);

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct session *s = arg;
    struct mag_err err = {0};
    if (s->n_urls > 1) {
        link_close(s->link);
        s->link = NULL;
        s->poll_seq = 0; /* never answered there; what it was granted comes again after hello */
        s->at = (s->at + 1) % s->n_urls;
        if (connect_here(s, &err) != MAG_OK) {
            app_exit(s->app, 2, "%s", err.text);
            return;
        }
    }
    hello(s);
}

static void on_no_answer(struct session *s, enum link_channel ch)
{
    int64_t silent_ms = (clock_mono_ns() - s->heard_ns) / MAG_NS_PER_MS;
    if (s->state == S_HELLO && ch == LINK_TALK) {
        say_unreachable(s);
        retry_later(s);
    } else if (s->talk_valid && s->talk.type == WIRE_BYE && ch == LINK_TALK) {
        app_exit(s->app, s->app->exit_status, NULL); /* we said it; the lease ends by itself */
    } else if (s->state == S_UP && silent_ms > TALK_TIMEOUT_MS + s->heartbeat_ms) {
        say_unreachable(s);
        retry_later(s);
    } else if (ch == LINK_TALK) {
        talk(s, false);
    } else {
        poll_work(s);
    }
}

/* ---- answers ---- */

static enum mag_status open_storage(struct session *s, const char *url, struct mag_err *err)
{
    if (s->storage != NULL && strcmp(s->storage, url) == 0) {
        return MAG_OK;
    }
    if (s->storage != NULL) {
        return mag_fail(err, MAG_CONFLICT,
                        "the driver's storage changed from %s to %s; start this worker again",
                        s->storage, url);
    }
    const char *uuid = strrchr(url, '/');
    struct storage *storage = NULL;
    enum mag_status st = storage_open(url, &storage, err);
    if (st == MAG_OK) {
        storage_set_patience(storage, STORAGE_CHECK_MS); /* this thread has more to do */
        st = storage_check(storage, uuid != NULL ? uuid + 1 : "", err);
        storage_set_patience(storage, 0);
    }
    if (st == MAG_OK) {
        s->app->storage = storage;
        s->storage = xstrdup(url);
        salvage_start(s->app, url);
    } else {
        storage_close(storage);
    }
    return st;
}

static void on_welcome(struct session *s, struct wire_msg *m)
{
    struct mag_err err = {0};
    enum mag_status st = m->session != NULL
                             ? open_storage(s, m->welcome.storage, &err)
                             : mag_fail(&err, MAG_INVALID, "the driver gave no session");
    if (st == MAG_TIMEOUT) { /* it may come back */
        log_warn("worker", "storage-unreachable", "storage=%s error=%s; trying again",
                 log_quote(m->welcome.storage), log_quote(err.text));
        retry_later(s);
        return;
    }
    if (st != MAG_OK) {
        app_exit(s->app, 2, "%s", err.text);
        return;
    }
    free(s->id);
    s->id = xstrdup(m->session);
    s->seq = 1;
    s->talk_seq = 0;
    s->poll_seq = 0;
    s->heartbeat_ms = m->welcome.heartbeat_ms;
    s->lease_ms = m->welcome.lease_ms;
    s->state = S_UP;
    s->tries = 0;
    s->said_ns = 0;
    log_info("worker", "connected", "driver=%s version=%s worker=%s slots=%d storage=%s",
             s->urls[s->at], m->welcome.version, log_quote(s->app->id), s->app->n_slots,
             log_quote(s->storage));
    talk_obey(s->app, m->welcome.orders, m->welcome.n_orders);
    const struct timeval tv = {.tv_sec = s->heartbeat_ms / 1000,
                               .tv_usec = s->heartbeat_ms % 1000 * 1000};
    (void)event_add(s->beat, &tv);
    talk(s, false);
    poll_work(s);
    slots_fill(s->app);
}

static void on_refused(struct session *s, enum link_channel ch, const struct wire_refused *r)
{
    bool in_hello = s->state == S_HELLO && ch == LINK_TALK;
    bool ours = in_hello && (strcmp(r->code, "token") == 0 || strcmp(r->code, "invalid") == 0);
    if (ch == LINK_POLL) {
        s->poll_seq = 0;
    }
    if (strcmp(r->code, "version") == 0 || ours) {
        app_exit(s->app, 2, "%s", r->error);
    } else if (strcmp(r->code, "session") == 0) {
        if (s->state == S_UP) {
            log_info("worker", "session-lost", "driver=%s held trials go on", s->urls[s->at]);
            hello(s);
        }
    } else if (in_hello) {
        log_warn("worker", "hello-refused", "code=%s error=%s", r->code, log_quote(r->error));
        retry_later(s);
    } else if (strcmp(r->code, "invalid") == 0 && ch == LINK_TALK && s->talk_valid) {
        /* It would be refused again: a fault of ours must not stop everything behind it. */
        log_error("worker", "message-refused", "error=%s", log_quote(r->error));
        talk_settle(s->app, &s->talk, NULL);
        wire_fini(&s->talk);
        s->talk_valid = false;
    } else {
        log_warn("worker", "driver-refused", "code=%s error=%s", r->code, log_quote(r->error));
        after_ms(s->flush, 500);
    }
}

static void on_answer(struct session *s, const struct wire_answer *answer)
{
    if (!s->talk_valid) {
        return;
    }
    struct wire_msg done = s->talk;
    s->talk = (struct wire_msg){0};
    s->talk_valid = false;
    s->talk_seq = 0;
    if (done.type == WIRE_BYE) {
        app_exit(s->app, s->app->exit_status, NULL);
    } else {
        talk_obey(s->app, answer->orders, answer->n_orders);
        talk_settle(s->app, &done, answer);
    }
    wire_fini(&done);
    if (answer->drain) {
        app_drain(s->app, DRAIN_FINISH);
    }
    app_check_drained(s->app);
}

static void on_work(struct session *s, struct wire_work *work)
{
    s->poll_seq = 0;
    talk_obey(s->app, work->orders, work->n_orders);
    (void)fault_hit("worker.grant");
    s->app->accepting = true;
    for (size_t i = 0; i < work->n_grants; i++) {
        run_accept(s->app, &work->grants[i]);
    }
    s->app->accepting = false;
    if (work->drain) {
        app_drain(s->app, DRAIN_FINISH);
    }
    poll_work(s);
    slots_fill(s->app);
}

static void use_reply(struct session *s, enum link_channel ch, struct wire_msg *m)
{
    switch (m->type) {
    case WIRE_WELCOME:
        on_welcome(s, m);
        break;
    case WIRE_REFUSED:
        on_refused(s, ch, &m->refused);
        break;
    case WIRE_ANSWER:
        on_answer(s, &m->answer);
        break;
    case WIRE_WORK:
        on_work(s, &m->work);
        break;
    case WIRE_HELLO:
    case WIRE_NEXT:
    case WIRE_STARTED:
    case WIRE_BEAT:
    case WIRE_DONE:
    case WIRE_BYE:
    case WIRE_TYPES:
    default:
        log_error("worker", "reply-invalid", "type=%s", wire_type_name(m->type));
        break;
    }
}

static void on_reply(void *arg, enum link_channel ch, const char *text, size_t len)
{
    struct session *s = arg;
    struct wire_msg m = {0};
    struct mag_err err = {0};
    if (text == NULL) {
        on_no_answer(s, ch);
    } else {
        s->heard_ns = clock_mono_ns();
        enum mag_status st = wire_decode(text, len, &m, &err);
        if (st == MAG_OK) {
            use_reply(s, ch, &m);
            wire_fini(&m);
        } else if (st == MAG_UNSUPPORTED) {
            app_exit(s->app, 2, "%s", err.text);
        } else {
            log_error("worker", "reply-invalid", "error=%s", log_quote(err.text));
            on_no_answer(s, ch);
        }
    }
    if (s->want_hello && ch == LINK_TALK && !link_is_busy(s->link, LINK_TALK)) {
        hello(s);
    } else {
        session_wake(s, false);
    }
}

/* ---- timers ---- */

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    talk(arg, false);
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct session *s = arg;
    talk(s, true);
    poll_work(s);
}

void session_wake(struct session *s, bool urgent)
{
    if (s->state != S_UP || link_is_busy(s->link, LINK_TALK)) {
        return; /* the answer to what is in flight wakes us again */
    }
    int64_t since_ms = (clock_mono_ns() - s->sent_ns) / MAG_NS_PER_MS;
    if (urgent || since_ms >= TALK_FLUSH_MS) {
        event_active(s->flush, EV_TIMEOUT, 0);
    } else if (!evtimer_pending(s->flush, NULL)) {
        after_ms(s->flush, TALK_FLUSH_MS - since_ms);
    }
}

bool session_is_fresh(const struct session *s)
{
    int64_t silent_ms = (clock_mono_ns() - s->heard_ns) / MAG_NS_PER_MS;
    return s->state == S_UP && silent_ms < s->lease_ms / 2;
}

bool session_is_up(const struct session *s)
{
    return s->state == S_UP;
}

int64_t session_lease_ms(const struct session *s)
{
    return s->lease_ms;
}

bool session_is_quiet(const struct session *s)
{
    return !s->talk_valid;
}

void session_bye(struct session *s)
{
    if (s->bye_sent) {
        return;
    }
    if (s->state != S_UP) {
        app_exit(s->app, s->app->exit_status, NULL);
        return;
    }
    s->bye_sent = true;
    s->talk = (struct wire_msg){.type = WIRE_BYE, .bye = {.reason = xstrdup("drained")}};
    s->talk_valid = true;
    s->talk_seq = 0;
    talk(s, false);
}

/* ---- life ---- */

static enum mag_status connect_here(struct session *s, struct mag_err *err)
{
    const struct link_handler handler = {.arg = s, .reply = on_reply};
    return link_open(&s->link, s->app->base, s->urls[s->at], s->app->cfg.ca, &handler, err);
}

static enum mag_status split_urls(struct session *s, const char *urls, struct mag_err *err)
{
    char *copy = xstrdup(urls);
    char *save = NULL;
    enum mag_status st = MAG_OK;
    for (char *u = strtok_r(copy, ", ", &save); u != NULL && st == MAG_OK;
         u = strtok_r(NULL, ", ", &save)) {
        if (s->n_urls == URLS_MAX) {
            st = mag_fail(err, MAG_LIMIT, "more than %d driver addresses", URLS_MAX);
        } else {
            s->urls[s->n_urls++] = xstrdup(u);
        }
    }
    free(copy);
    if (st == MAG_OK && s->n_urls == 0) {
        st = mag_fail(
            err, MAG_INVALID,
            "no driver address: give --driver tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH");
    }
    return st;
}

enum mag_status session_start(struct session **ret, struct app *a, struct mag_err *err)
{
    struct session *s = xcalloc(1, sizeof(*s));
    s->app = a;
    s->heartbeat_ms = 2000;
    s->lease_ms = 15000;
    s->heard_ns = clock_mono_ns();
    s->flush = event_new(a->base, -1, 0, on_flush, s);
    s->beat = event_new(a->base, -1, EV_PERSIST, on_beat, s);
    s->retry = event_new(a->base, -1, 0, on_retry, s);
    MAG_ASSERT(s->flush != NULL && s->beat != NULL && s->retry != NULL, "event_new");
    (void)event_priority_set(s->flush, 2); /* after all that a round of the loop brings */
    enum mag_status st = split_urls(s, a->cfg.driver_urls, err);
    if (st == MAG_OK) {
        st = connect_here(s, err);
    }
    if (st != MAG_OK) {
        session_stop(s);
        return st;
    }
    *ret = s;
    hello(s);
    return MAG_OK;
}

void session_stop(struct session *s)
{
    if (s == NULL) {
        return;
    }
    link_close(s->link);
    event_free(s->flush);
    event_free(s->beat);
    event_free(s->retry);
    wire_fini(&s->talk);
    for (int i = 0; i < s->n_urls; i++) {
        free(s->urls[i]);
    }
    free(s->id);
    free(s->storage);
    free(s);
}
